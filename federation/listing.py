"""Who takes part, waits or is invited, as a table for people and as facts for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from federation.certificates import at
from federation.fingerprint import fingerprint
from privacy.ledger.entry import Entry
from privacy.membership import Membership

if TYPE_CHECKING:
    from rich.console import RenderableType

State: TypeAlias = Literal["active", "revoked", "waiting", "invited", "expired"]
_KEY: Final = 9
_NAME_MOST: Final = 22
_WIDTHS: Final = (len("manufacturer"), len("revoked"), _KEY, len("2026-11-27"), len("2026-11-27"))
"""Of role, state, key, since and until; with the longest name and the gaps, 80 at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One participant, candidate or invitation.

    Attributes:
        name: Its.
        role: Its.
        state: `active`, `revoked`; `waiting` for approval; `invited`, and not joined yet;
            `expired`: invited, and too late now.
        key: Its public key; empty where it has none yet.
        since_ms: Admitted, or asked, then; None before.
        expires_ms: When its newest certificate, or its invitation, ends; None where it has none.
        approved: Who approved it; of participants, before they were admitted.
        needed: How many must; None but for who waits.
        attributes: Of its invitation.
    """

    name: str
    role: str
    state: State
    key: bytes = b""
    since_ms: int | None = None
    expires_ms: int | None = None
    approved: tuple[str, ...] = ()
    needed: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def listing(membership: Membership, acts: Sequence[Entry], *, now_ms: int) -> list[Line]:
    """Return everybody: those who take part, by name; who waits; who is invited; who is gone."""
    ends: dict[str, int] = {}
    approved: dict[str, set[str]] = {}
    for entry in acts:
        if entry.kind == "member.certified":
            ends[str(entry.body["certificate"])] = int(str(entry.body["expires_ms"]))
        elif entry.kind == "member.approved":
            approved.setdefault(str(entry.body["key"]), set()).add(str(entry.body["by"]))
        elif entry.kind == "member.renewed":
            # whoever approved the key before it, approved whose it is
            known = approved.get(str(entry.body["key"]), set())
            approved.setdefault(str(entry.body["new"]), set()).update(known)
    people = [
        Line(
            name=one.name,
            role=one.role,
            state="revoked" if one.revoked else "active",
            key=one.key,
            since_ms=one.since_ms,
            expires_ms=ends.get(one.certificates[-1]) if one.certificates else None,
            approved=tuple(sorted(approved.get(one.key.hex(), ()))),
            attributes=one.attributes,
        )
        for one in membership.participants.values()
    ]
    waiting = [
        Line(
            name=one.name,
            role=one.role,
            state="waiting",
            key=one.key,
            since_ms=one.requested_ms,
            approved=tuple(sorted(one.approvals)),
            needed=one.needed,
            attributes=one.attributes,
        )
        for one in membership.candidates.values()
    ]
    invited = [
        Line(
            name=one.name,
            role=one.role,
            state="invited" if now_ms <= one.expires_ms else "expired",
            expires_ms=one.expires_ms,
            attributes=one.attributes,
        )
        for one in membership.invitations.values()
    ]
    order = {"active": 0, "waiting": 1, "invited": 2, "expired": 3, "revoked": 4}
    return sorted([*people, *waiting, *invited], key=lambda one: (order[one.state], one.name))


def listing_facts(membership: Membership, lines: Sequence[Line]) -> dict[str, Any]:
    """Return it for programs."""
    return {
        "federation": membership.federation,
        "root": membership.root,
        "approvals": membership.approvals,
        "founder": membership.founder,
        "acts": len(membership.digests),
        "digest": membership.told["membership"],
        "members": [
            {
                "name": one.name,
                "role": one.role,
                "state": one.state,
                "key": one.key.hex(),
                "fingerprint": fingerprint(one.key) if one.key else "",
                "since_ms": one.since_ms,
                "expires_ms": one.expires_ms,
                "approved": list(one.approved),
                "needed": one.needed,
                "attributes": dict(one.attributes),
            }
            for one in lines
        ],
    }


def listing_table(membership: Membership, lines: Sequence[Line]) -> "RenderableType":
    """Return it for people: columns that fit in 80, and below each name what has no fixed width.

    Of a key its first digits are shown, enough to tell keys apart; to compare one with its owner,
    `tacit federation approve` shows all.
    """
    from rich.cells import cell_len
    from rich.console import Group
    from rich.text import Text

    width = min(_NAME_MOST, max((cell_len(one.name) for one in lines), default=0))
    width = max(width, len("name"))

    def row(name: str, *cells: str) -> str:
        padded = name + " " * (width - cell_len(name))
        columns = zip(cells, _WIDTHS, strict=True)
        return "  ".join((padded, *(cell.ljust(size) for cell, size in columns))).rstrip()

    title = f"{membership.federation}: {membership.approvals} must approve whoever asks"
    head = row("name", "role", "state", "key", "since", "until")
    parts = [Text(title, style="bold"), Text(), Text(head, style="dim", no_wrap=True)]
    for one in lines:
        name = one.name
        if cell_len(name) > width:
            parts.append(Text(name))
            name = ""
        key = fingerprint(one.key)[:_KEY] if one.key else "-"
        cells = (one.role, one.state, key, _day(one.since_ms), _day(one.expires_ms))
        parts.append(Text(row(name, *cells), no_wrap=True))
        said = "; ".join(_more(one))
        if said:
            parts.append(Text(f"  {said}", style="dim"))
    told = membership.told
    if told["membership"]:
        # whoever was shown the same federation has the same line
        parts += [Text(), Text(f"{told['acts']} acts of membership, {told['membership'][:32]}")]
    return Group(*parts)


def _more(one: Line) -> list[str]:
    found: list[str] = []
    if one.needed is not None:
        by = f" ({', '.join(one.approved)})" if one.approved else ""
        found.append(f"approved by {len(one.approved)} of {one.needed}{by}")
    elif one.approved:
        found.append(f"approved by {', '.join(one.approved)}")
    if one.attributes:
        found.append(", ".join(f"{key}={value}" for key, value in one.attributes.items()))
    return found


def _day(time_ms: int | None) -> str:
    return "-" if time_ms is None else f"{at(time_ms):%Y-%m-%d}"
