"""Who takes part in a federation: a fold over the acts that its ledger holds, each signed.

Nobody is a participant because the coordinator says so. The founder's key, which comes with an
invitation, signs the beginning; whoever takes part by then signs what follows:

federation.begun   the founder, an operator: the rules, and the root of the certificates
member.invited     an operator: one token, for one role and one name, until some time
member.requested   whoever holds the token, with its own new keys
member.approved    an operator or member, the keys of one candidate; a person compared them
member.certified   the coordinator, unsigned: admits whom enough others approved, or gives whoever
                   takes part one more certificate for the keys that it has
member.renewed     a participant: other keys, signed by the old one and by the new one
member.revoked     an operator, or the participant itself; a candidate is turned away likewise

The coordinator can therefore leave acts out, which shows against any copy of its ledger that was
cosigned, and invent none. No function here reads a clock: an act happens at its entry's `time_ms`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity, verify_signature
from privacy.ledger.entry import KINDS, Body, Entry

MEMBERSHIP_DOMAIN: Final = "membership"
"""In it each act is signed; see `statement`."""
OPERATOR: Final = "operator"
MEMBERS: Final = frozenset({"manufacturer", "insurer", "bank"})
"""Roles with rows of their own. They take part in runs, and approve who else may."""
LAUNCHERS: Final = frozenset({"insurer", "bank"})
"""Roles that ask for models."""
APPROVERS: Final = MEMBERS | {OPERATOR}
BEGUN: Final = "federation.begun"
_UNSIGNED = ("signature", "proof")
_Item = TypeVar("_Item")
_Act = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Participant:
    """One participant, as the newest act about it left it.

    Attributes:
        name: In the federation; at most one active participant has it.
        role: Operator, manufacturer, insurer, bank or regulator.
        key: Its Ed25519 public key, 32 bytes.
        tls: SHA-256 of its TLS public key (SPKI, DER), 32 bytes; empty for a founder that has no
            certificate yet.
        certificates: SHA-256 of every certificate that it was given, hexadecimal, oldest first.
        attributes: Of its invitation: region, devices, whatever runs select by.
        since_ms: When it was admitted.
        revoked: Whether it was; whatever it signed before stays signed.
    """

    name: str
    role: str
    key: bytes
    tls: bytes = b""
    certificates: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    since_ms: int = 0
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation that nobody used; past `expires_ms` nobody can.

    Attributes:
        token: SHA-256 of its secret, hexadecimal.
        role: What its holder may become.
        name: How its holder will be called.
        attributes: What its holder will have.
        expires_ms: The last millisecond that it is good for.
        by: The operator who signed it.
    """

    token: str
    role: str
    name: str
    attributes: Mapping[str, str]
    expires_ms: int
    by: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who asked with an invitation and is not admitted yet.

    Attributes:
        name: Of the invitation.
        role: Of the invitation.
        key: Its Ed25519 public key, 32 bytes, to be compared by whoever approves.
        tls: SHA-256 of its TLS public key, 32 bytes.
        token: Of the invitation.
        requested_ms: When it asked.
        approvals: Names of active participants who approved this key.
        needed: How many are needed now.
        attributes: Of the invitation.
    """

    name: str
    role: str
    key: bytes
    tls: bytes
    token: str
    requested_ms: int
    approvals: frozenset[str] = frozenset()
    needed: int = 1
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def admissible(self) -> bool:
        """Whether enough have approved."""
        return len(self.approvals) >= self.needed


@dataclass(frozen=True, slots=True)
class Membership:
    """Who takes part, after some entries of a ledger.

    Attributes:
        federation: Its name.
        root: SHA-256 of the root certificate (DER), hexadecimal.
        approvals: How many must approve a candidate, where so many can.
        founder: Name of who began it.
        founder_key: Its key at the beginning, 32 bytes, as invitations name it.
        participants: By name, revoked ones too; of one name the newest.
        candidates: By name.
        invitations: By token; those that nobody used.
        keys: Every Ed25519 key that was ever named, hexadecimal. None is taken twice.
        tls: Every TLS key that was ever named, hexadecimal. None is taken twice.
        acts: What names each act. None happens twice.
    """

    federation: str
    root: str
    approvals: int
    founder: str
    founder_key: bytes
    participants: Mapping[str, Participant]
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    invitations: Mapping[str, Invitation] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    tls: frozenset[str] = frozenset()
    acts: frozenset[_Act] = frozenset()

    def active(self, role: str | None = None) -> Mapping[str, Participant]:
        """Participants who were not revoked, by name; of one role, or of all."""
        return MappingProxyType(
            {
                name: one
                for name, one in sorted(self.participants.items())
                if not one.revoked and role in {None, one.role}
            }
        )

    def members(self) -> Mapping[str, bytes]:
        """Name -> key of the active manufacturers, insurers and banks."""
        return self._keys_of(MEMBERS)

    def launchers(self) -> Mapping[str, bytes]:
        """Name -> key of the active banks and insurers."""
        return self._keys_of(LAUNCHERS)

    def approvers(self) -> Mapping[str, bytes]:
        """Name -> key of the active operators and members."""
        return self._keys_of(APPROVERS)

    def may_launch(self, key: bytes) -> str:
        """Return the active bank, insurer or operator with this key; nothing if there is none."""
        for name, one in self.active().items():
            if one.key == key and one.role in LAUNCHERS | {OPERATOR}:
                return name
        return ""

    def _keys_of(self, roles: frozenset[str]) -> Mapping[str, bytes]:
        return MappingProxyType(
            {name: one.key for name, one in self.active().items() if one.role in roles}
        )


def statement(kind: str, federation: str, body: Body) -> bytes:
    """Return what is signed of an act: all that it says, what it is, and of which federation."""
    said = {name: value for name, value in body.items() if name not in _UNSIGNED}
    return canonical_json({**said, "act": kind, "federation": federation})


def sign_act(
    identity: Identity, kind: str, federation: str, body: Body, *, field: str = "signature"
) -> dict[str, Any]:
    """Return `body` with the signature of `identity` in `field`.

    For `member.renewed`, the old key signs `signature` and the new key `proof`.
    """
    signed = identity.sign(MEMBERSHIP_DOMAIN, statement(kind, federation, body))
    return {**body, field: signed.hex()}


def fold(
    entries: Iterable[Entry], *, founder: bytes | None = None, root: str | None = None
) -> Membership:
    """Return who takes part after all `entries` of a ledger; other kinds are passed over.

    Args:
        entries: From the ledger's beginning, in its order.
        founder: The founder's key, as an invitation or a person told it; None: whichever it is.
        root: SHA-256 of the root certificate, hexadecimal; None: whichever it is.

    Raises:
        NotVerifiedError: an act is not what its place allows, or another founder or root signed.
    """
    membership: Membership | None = None
    time_ms = 0
    for entry in entries:
        if entry.time_ms < time_ms:
            raise NotVerifiedError(
                f"entry {entry.index}: its time is before that of the entry before; ask who keeps "
                "the ledger"
            )
        time_ms = entry.time_ms
        if entry.kind in _ACTS:
            try:
                membership = after(membership, entry)
            except NotVerifiedError as error:
                raise NotVerifiedError(f"entry {entry.index}: {error}") from None
    if membership is None:
        raise NotVerifiedError("no federation was begun in this ledger; ask its operator for it")
    if founder is not None and membership.founder_key != founder:
        raise NotVerifiedError(
            "another key began the federation than the invitation names; ask who invited you"
        )
    if root is not None and membership.root != root:
        raise NotVerifiedError(
            "the federation has another root certificate than the invitation names; ask who "
            "invited you"
        )
    return membership


def is_act(kind: str) -> bool:
    """Whether entries of this kind change who takes part."""
    return kind in _ACTS


def after(membership: Membership | None, entry: Entry) -> Membership:
    """Return who takes part after one more act of the ledger.

    Args:
        membership: Before it; None before the federation was begun.
        entry: Of a kind that `is_act`.

    Raises:
        NotVerifiedError: the act may not come here, or a signature in it does not hold.
    """
    try:
        return _next(membership, entry.kind, entry.body, entry.time_ms)
    except RefusedError as error:
        raise NotVerifiedError(str(error)) from None


def check_next(membership: Membership | None, kind: str, body: Body, time_ms: int) -> None:
    """Return if an act may be appended now; the very rules that `fold` reads it by.

    Args:
        membership: After all acts so far; None before the federation was begun.
        kind: Of the act.
        body: Whole, with its signatures, of the fields that `KINDS` has for it.
        time_ms: Of its entry, milliseconds since 1970 UTC.

    Raises:
        RefusedError: it may not come now; the sentence says what to do.
    """
    row = KINDS.get(kind)
    if row is None or kind not in _ACTS:
        raise RefusedError(f"{kind:.80} is no act of membership; update tacit on both sides")
    wrong = [n for n, check in row.fields.items() if n not in body or not check(body[n])]
    if wrong or body.keys() != row.fields.keys():
        raise RefusedError(
            f"{kind} has a missing, unknown or wrong field ({', '.join(wrong)}); update tacit on "
            "both sides"
        )
    _next(membership, kind, body, time_ms)


def _next(membership: Membership | None, kind: str, body: Body, time_ms: int) -> Membership:
    said: Mapping[str, Any] = body
    if kind == BEGUN:
        _require(membership is None, "the federation was begun before; join it with an invitation")
        return _begin(said, time_ms)
    if membership is None:
        raise RefusedError("no federation was begun in this ledger yet; its founder begins it")
    act = (kind, *(said[name] for name in KINDS[kind].key))
    _require(
        act not in membership.acts,
        f"this {kind} is in the ledger already; there is nothing left to do",
    )
    changed = _ACTS[kind](membership, said, time_ms)
    return _counted(replace(changed, acts=changed.acts | {act}))


def _begin(said: Mapping[str, Any], time_ms: int) -> Membership:
    key = bytes.fromhex(said["key"])
    _require_signed(key, BEGUN, said["federation"], said, said["founder"])
    founder = Participant(said["founder"], OPERATOR, key, since_ms=time_ms)
    return Membership(
        federation=said["federation"],
        root=said["root"],
        approvals=said["approvals"],
        founder=said["founder"],
        founder_key=key,
        participants=MappingProxyType({founder.name: founder}),
        keys=frozenset({said["key"]}),
    )


def _invite(before: Membership, said: Mapping[str, Any], _: int) -> Membership:
    _require_by(before, "member.invited", said, {OPERATOR}, "an operator")
    _require_free(before, said["name"])
    invitation = Invitation(
        token=said["token"],
        role=said["role"],
        name=said["name"],
        attributes=MappingProxyType(dict(said["attributes"])),
        expires_ms=said["expires_ms"],
        by=said["by"],
    )
    return replace(before, invitations=_with(before.invitations, said["token"], invitation))


def _request(before: Membership, said: Mapping[str, Any], time_ms: int) -> Membership:
    invitation = before.invitations.get(said["token"])
    if invitation is None:
        raise RefusedError("no open invitation has this token; ask an operator for a new one")
    _require(
        time_ms <= invitation.expires_ms,
        f"the invitation of {invitation.name} has expired; ask an operator for a new one",
    )
    for what, invited in (("name", invitation.name), ("role", invitation.role)):
        _require(
            said[what] == invited,
            f"the invitation is for the {what} {invited}, not {said[what]}; ask with what it says",
        )
    name = invitation.name
    _require_free(before, name)
    _require(
        name not in before.candidates,
        f"{name} has asked before and is being decided on; wait, or let an operator revoke that",
    )
    _require_new(before.keys, said["key"], "signing key")
    _require_new(before.tls, said["tls"], "TLS key")
    key = bytes.fromhex(said["key"])
    _require_signed(key, "member.requested", before.federation, said, name)
    candidate = Candidate(
        name=name,
        role=invitation.role,
        key=key,
        tls=bytes.fromhex(said["tls"]),
        token=invitation.token,
        requested_ms=time_ms,
        attributes=invitation.attributes,
    )
    return replace(
        before,
        candidates=_with(before.candidates, name, candidate),
        invitations=_without(before.invitations, invitation.token),
        keys=before.keys | {said["key"]},
        tls=before.tls | {said["tls"]},
    )


def _approve(before: Membership, said: Mapping[str, Any], _: int) -> Membership:
    candidate = _candidate(before, said)
    _require_by(
        before, "member.approved", said, APPROVERS, "an operator, manufacturer, insurer or bank"
    )
    approvals = candidate.approvals | {said["by"]}
    approved = replace(candidate, approvals=approvals)
    return replace(before, candidates=_with(before.candidates, candidate.name, approved))


def _certify(before: Membership, said: Mapping[str, Any], time_ms: int) -> Membership:
    name, certificate = said["name"], said["certificate"]
    tls = bytes.fromhex(said["tls"])
    if name in before.candidates:
        candidate = _candidate(before, said)
        _require_tls(candidate.tls, tls, name)
        _require(
            candidate.admissible,
            f"{len(candidate.approvals)} of {candidate.needed} participants approved {name}; ask "
            "the others to approve it",
        )
        admitted = Participant(
            name=name,
            role=candidate.role,
            key=candidate.key,
            tls=tls,
            certificates=(certificate,),
            attributes=candidate.attributes,
            since_ms=time_ms,
        )
        return replace(
            before,
            participants=_with(before.participants, name, admitted),
            candidates=_without(before.candidates, name),
        )
    holder = _participant(before, name, said["key"])
    if holder.tls:
        _require_tls(holder.tls, tls, name)
    else:
        # A founder begins before there is anything that certifies it; its first certificate says
        # which TLS key it has, and every later one is signed for by it.
        _require_new(before.tls, said["tls"], "TLS key")
    again = replace(holder, tls=tls, certificates=(*holder.certificates, certificate))
    return replace(
        before,
        participants=_with(before.participants, name, again),
        tls=before.tls | {said["tls"]},
    )


def _renew(before: Membership, said: Mapping[str, Any], _: int) -> Membership:
    holder = _participant(before, said["name"], said["key"])
    if said["new"] != said["key"]:
        _require_new(before.keys, said["new"], "signing key")
    if said["tls"] != holder.tls.hex():
        _require_new(before.tls, said["tls"], "TLS key")
    kind, federation = "member.renewed", before.federation
    _require_signed(holder.key, kind, federation, said, holder.name)
    new = bytes.fromhex(said["new"])
    _require_signed(new, kind, federation, said, f"{holder.name} with its new key", field="proof")
    renewed = replace(holder, key=new, tls=bytes.fromhex(said["tls"]))
    return replace(
        before,
        participants=_with(before.participants, holder.name, renewed),
        keys=before.keys | {said["new"]},
        tls=before.tls | {said["tls"]},
    )


def _revoke(before: Membership, said: Mapping[str, Any], _: int) -> Membership:
    name, kind = said["name"], "member.revoked"
    candidate = before.candidates.get(name)
    if candidate is None:
        key = _participant(before, name, said["key"]).key
    else:
        key = _candidate(before, said).key
    if said["by"] == name:
        _require_signed(key, kind, before.federation, said, name)
    else:
        _require_by(before, kind, said, {OPERATOR}, "an operator or the participant itself")
    if candidate is not None:
        return replace(before, candidates=_without(before.candidates, name))
    gone = replace(before.participants[name], revoked=True)
    return replace(
        before,
        participants=_with(before.participants, name, gone),
        # What it began for others ends with it: nobody knows in whose hands its key was.
        candidates=MappingProxyType(
            {
                other: replace(one, approvals=one.approvals - {name})
                for other, one in before.candidates.items()
            }
        ),
        invitations=MappingProxyType(
            {token: one for token, one in before.invitations.items() if one.by != name}
        ),
    )


_ACTS: Final[Mapping[str, Callable[[Membership, Mapping[str, Any], int], Membership]]] = {
    BEGUN: lambda _, said, time_ms: _begin(said, time_ms),
    "member.invited": _invite,
    "member.requested": _request,
    "member.approved": _approve,
    "member.certified": _certify,
    "member.renewed": _renew,
    "member.revoked": _revoke,
}


def _counted(membership: Membership) -> Membership:
    """Say of each candidate how many must approve it, with who takes part now."""
    if not membership.candidates:
        return membership
    able = sum(
        one.role in APPROVERS and not one.revoked for one in membership.participants.values()
    )
    # Where nobody is left who could approve, nobody is let in.
    needed = max(1, min(membership.approvals, able))
    if all(one.needed == needed for one in membership.candidates.values()):
        return membership
    return replace(
        membership,
        candidates=MappingProxyType(
            {name: replace(one, needed=needed) for name, one in membership.candidates.items()}
        ),
    )


def _candidate(before: Membership, said: Mapping[str, Any]) -> Candidate:
    name = said["name"]
    candidate = before.candidates.get(name)
    if candidate is None:
        raise RefusedError(f"{name} has not asked to take part; it joins with an invitation first")
    _require_key(candidate.key, said["key"], name)
    return candidate


def _participant(before: Membership, name: str, key: str) -> Participant:
    holder = before.participants.get(name)
    if holder is None:
        raise RefusedError(f"{name} is no participant; it joins with an invitation first")
    _require(not holder.revoked, f"{name} was revoked; invite it anew if it should take part")
    _require_key(holder.key, key, name)
    return holder


def _require_by(
    before: Membership, kind: str, said: Mapping[str, Any], roles: Iterable[str], who: str
) -> None:
    """Require that `by` takes part, in one of these roles, and signed."""
    by = before.participants.get(said["by"])
    if by is None:
        raise RefusedError(f"{said['by']} is no participant; let {who} sign this")
    _require(not by.revoked, f"{by.name} was revoked; let {who} sign this")
    _require(by.role in roles, f"{by.name} has the role {by.role}; let {who} sign this")
    _require_signed(by.key, kind, before.federation, said, by.name)


def _require_signed(
    key: bytes,
    kind: str,
    federation: str,
    said: Mapping[str, Any],
    who: str,
    *,
    field: str = "signature",
) -> None:
    try:
        signature = bytes.fromhex(said[field])
        verify_signature(key, MEMBERSHIP_DOMAIN, statement(kind, federation, said), signature)
    except ProtocolError:
        raise RefusedError(
            f"the signature of {who} under {kind} does not hold; sign it again with that key"
        ) from None


def _require_free(before: Membership, name: str) -> None:
    holder = before.participants.get(name)
    _require(
        holder is None or holder.revoked,
        f"{name} takes part already; choose another name, or revoke it first",
    )


def _require_new(known: frozenset[str], key: str, what: str) -> None:
    _require(key not in known, f"this {what} was named before; make a new one")


def _require_key(held: bytes, said: str, name: str) -> None:
    _require(
        held.hex() == said, f"{name} has another signing key than this act says; compare the keys"
    )


def _require_tls(held: bytes, said: bytes, name: str) -> None:
    _require(held == said, f"{name} has another TLS key than its certificate; compare the keys")


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not holds:
        raise RefusedError(otherwise)


def _with(table: Mapping[str, _Item], name: str, item: _Item) -> Mapping[str, _Item]:
    return MappingProxyType({**table, name: item})


def _without(table: Mapping[str, _Item], name: str) -> Mapping[str, _Item]:
    return MappingProxyType({key: item for key, item in table.items() if key != name})
