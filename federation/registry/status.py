"""What a registry shows at a glance: its ledgers, their newest signed states, and who cosigned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from federation.counted import counted
from federation.proto import registry_pb2 as wire
from federation.registry.client import RegistryClient, RegistrySource, told_key
from federation.registry.opened import open_followed
from federation.registry.plain import plain
from federation.registry.source import AbsentError
from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import cosigners
from privacy.ledger.note import VerifierKey, parse_note

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """One ledger as a registry shows it.

    Attributes:
        origin: Its name in checkpoints.
        owner: Whose it is.
        role: `coordinator` or `node`.
        size: Its entries now.
        signed: Entries of the newest checkpoint that its first key signed, or one that this led to;
            None without one.
        newer: How many keys after that one it led to; the last of them signed.
        pinned: Whether the first is one that the caller knew before, and not the registry's word.
        cosigned: Witness -> seconds since 1970 UTC, verified by keys that the caller knew before.
        unverified: Names under the checkpoint that nobody vouches for here.
        reason: Why there is no valid checkpoint; empty if there is one.
    """

    origin: str
    owner: str
    role: str
    size: int
    signed: int | None
    newer: int
    pinned: bool
    cosigned: Mapping[str, int]
    unverified: Sequence[str]
    reason: str


def read_status(
    client: RegistryClient,
    witnesses: Mapping[str, VerifierKey],
    *,
    pins: Sequence[VerifierKey] = (),
) -> tuple[LedgerStatus, ...]:
    """Ask for all ledgers and their newest checkpoints.

    Args:
        client: Whom to ask.
        witnesses: Name for people -> key (`COSIGNATURE_V1`): whose cosignatures to verify.
        pins: Keys of coordinators' ledgers that are known, each with its origin as its name. Where
            there are any, no other coordinator's ledger is taken for the federation's.

    Raises:
        TacitError: see `RegistryClient`.
    """
    names = {plain(key.name): name for name, key in witnesses.items()}
    known = {key.name: key for key in pins}
    source = RegistrySource(client)
    found: list[LedgerStatus] = []
    for told in client.ledgers().ledgers:
        pin = known.get(told.origin)
        signed: int | None = None
        newer = 0
        cosigned: dict[str, int] = {}
        unverified: list[str] = []
        reason = ""
        try:
            if known and pin is None and told.role == "coordinator":
                raise NotVerifiedError(  # noqa: TRY301 - each fault ends as a reason
                    "it is not the ledger that the invitation names; trust nothing of it, and ask "
                    "the operator"
                )
            note = client.checkpoint(told.origin)
            key = pin or _key(told)
            state, since = open_followed(source, note, key)
            signed, newer = state.size, len(since)
            times = cosigners(note, witnesses.values())
            cosigned = {names[plain(name)]: time_s for name, time_s in times.items()}
            vouched = {plain(key.name), *(plain(name) for name in times)}
            unverified = [plain(each.name) for each in parse_note(note).signatures]
            unverified = [name for name in unverified if name not in vouched]
        except (AbsentError, NotVerifiedError) as error:
            reason = str(error)
        found.append(
            LedgerStatus(
                origin=plain(told.origin),
                owner=plain(told.owner),
                role=plain(told.role),
                size=told.size,
                signed=signed,
                newer=newer,
                pinned=pin is not None,
                cosigned=cosigned,
                unverified=unverified,
                reason=reason,
            )
        )
    return tuple(found)


def _key(told: wire.Ledger) -> VerifierKey:
    key = told_key(told)
    if key is None:
        raise NotVerifiedError("it says no key of its own")
    return key


def status_facts(statuses: Sequence[LedgerStatus]) -> dict[str, Any]:
    """Return them for `--json`."""
    return {
        "ledgers": [
            {
                "origin": one.origin,
                "owner": one.owner,
                "role": one.role,
                "entries": one.size,
                "signed": one.signed,
                "newer_keys": one.newer,
                "pinned": one.pinned,
                "cosigned": dict(one.cosigned),
                "unverified": list(one.unverified),
                "reason": one.reason,
            }
            for one in statuses
        ]
    }


def status_table(statuses: Sequence[LedgerStatus]) -> "RenderableType":
    """Return them for people, so that a narrow terminal shows every ledger's whole name."""
    from rich.console import Group
    from rich.text import Text

    lines: list[Text] = []
    for one in statuses:
        who = [f"{name} ({_utc(time_s)})" for name, time_s in one.cosigned.items()]
        who += [f"{name} (not verified)" for name in one.unverified]
        whose = "the ledger of the coordinator" if one.role == "coordinator" else f"of {one.owner}"
        lines.append(Text(one.origin, style="bold"))
        lines.append(Text(f"  {whose}: {counted(one.size, 'entry')}"))
        if one.signed is not None:
            key = "the key that your invitation names" if one.pinned else "the key that it shows"
            if one.newer:
                key = f"a newer key, which {key} led to"
            lines.append(Text(f"  signed up to {one.signed} of them, by {key}"))
            lines.append(Text(f"  cosigned by {', '.join(who) or 'nobody'}"))
        if one.reason:
            lines.append(Text(f"  {one.reason}"))
    return Group(*lines or [Text("The registry shows no ledger.")])


def _utc(time_s: int) -> str:
    try:
        return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "at no possible time"
