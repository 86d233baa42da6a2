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
cosigned, and invent none. Nor can one participant make everybody's fold long: how often keys are
renewed and how many are invited is bounded. No function here reads a clock: an act happens at its
entry's `time_ms`.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError, ProtocolError, RefusedError
from privacy.grown import Grown
from privacy.identity import Identity, verify_signature
from privacy.ledger.entry import KINDS, Body, Entry
from privacy.ledger.merkle import leaf_hash
from privacy.suites import SuiteId

MEMBERSHIP_DOMAIN: Final = "membership"
"""In it each act is signed; see `statement`."""
OPERATOR: Final = "operator"
MEMBERS: Final = frozenset({"manufacturer", "insurer", "bank"})
"""Roles with rows of their own. They take part in runs, and approve who else may."""
LAUNCHERS: Final = frozenset({"insurer", "bank"})
"""Roles that ask for models."""
APPROVERS: Final = MEMBERS | {OPERATOR}
BEGUN: Final = "federation.begun"
NAME_CHARACTERS_MAX: Final = 64
"""Of a participant. Sums and masks name members, and have room for no more."""
RENEWALS_MAX: Final = 8
"""Of one name, within `PERIOD_MS`."""
INVITATIONS_MAX: Final = 256
"""Of one operator that nobody used, and that are good still or younger than `PERIOD_MS`."""
PERIOD_MS: Final = 30 * 86_400_000
_UNSIGNED = ("signature", "proof")
_NO_ACTS: Final = hashlib.sha256(b"tacit/acts/v1\0").digest()
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
        approved_by: Who had approved it by then, in order of their names; nobody for a founder.
    """

    name: str
    role: str
    key: bytes
    tls: bytes = b""
    certificates: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    since_ms: int = 0
    revoked: bool = False
    approved_by: tuple[str, ...] = ()


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
        invited_ms: When.
    """

    token: str
    role: str
    name: str
    attributes: Mapping[str, str]
    expires_ms: int
    by: str
    invited_ms: int = 0


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
        suite: Id of the algorithms that its runs use (`privacy.suites`), as the founder signed it.
        participants: By name, revoked ones too; of one name the newest.
        candidates: By name.
        invitations: By token; those that nobody used.
        keys: Every Ed25519 key that was ever named, hexadecimal. None is taken twice.
        tls: Every TLS key that was ever named, hexadecimal. None is taken twice.
        acts: What names each act. None happens twice.
        digests: After each act, the digest over it and all before; see `acts_digest`.
        renewals: Name -> when it renewed its keys, the newest `RENEWALS_MAX` times.
        replaced: Signing key that was renewed -> the one in its place, both hexadecimal.
    """

    federation: str
    root: str
    approvals: int
    founder: str
    founder_key: bytes
    participants: Mapping[str, Participant]
    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    invitations: Mapping[str, Invitation] = field(default_factory=dict)
    keys: Grown[str] = field(default_factory=Grown)
    tls: Grown[str] = field(default_factory=Grown)
    acts: Grown[_Act] = field(default_factory=Grown)
    digests: Grown[bytes] = field(default_factory=Grown)
    renewals: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    suite: SuiteId = "intl"

    @property
    def told(self) -> Mapping[str, str]:
        """How many acts these are, and their digest, as a run's manifest says them."""
        count = len(self.digests)
        return MappingProxyType({"acts": str(count), "membership": self.digest_at(count)})

    def digest_at(self, count: int) -> str:
        """Return the digest (hexadecimal) over the first `count` acts; empty if there are fewer."""
        if not 0 < count <= len(self.digests):
            return ""
        return self.digests[count - 1].hex()

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

    def left(self, keys: Iterable[bytes]) -> frozenset[bytes]:
        """Return which of these signing keys are of nobody who takes part now.

        Whoever renewed a key takes part under the new one; whoever was revoked does so under none,
        also where its name was given anew.
        """
        active = {one.key.hex() for one in self.participants.values() if not one.revoked}
        return frozenset(key for key in keys if self._newest(key.hex()) not in active)

    def _newest(self, key: str) -> str:
        # no key is taken twice, so this comes to an end
        while key in self.replaced:
            key = self.replaced[key]
        return key

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


def statement(kind: str, federation: str, root: str, body: Body) -> bytes:
    """Return what is signed of an act: all that it says, what it is, and of which federation.

    A federation is its name and its root: what is signed in one holds in no other of that name.
    """
    said = {name: value for name, value in body.items() if name not in _UNSIGNED}
    return canonical_json({**said, "act": kind, "federation": federation, "root": root})


def sign_act(
    identity: Identity,
    kind: str,
    federation: str,
    root: str,
    body: Body,
    *,
    field: str = "signature",
) -> dict[str, Any]:
    """Return `body` with the signature of `identity` in `field`.

    For `member.renewed`, the old key signs `signature` and the new key `proof`.
    """
    signed = identity.sign(MEMBERSHIP_DOMAIN, statement(kind, federation, root, body))
    return {**body, field: signed.hex()}


def acts_digest(leaves: Iterable[bytes]) -> str:
    """Return the digest (hexadecimal) over the leaves of acts, in order, from the first one on."""
    digest = _NO_ACTS
    for leaf in leaves:
        digest = _extended(digest, leaf)
    return digest.hex()


def _extended(digest: bytes, leaf: bytes) -> bytes:
    return hashlib.sha256(digest + leaf_hash(leaf)).digest()


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
    roll = Roll()
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
                roll.take(entry)
            except NotVerifiedError as error:
                raise NotVerifiedError(f"entry {entry.index}: {error}") from None
    membership = roll.membership
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
    roll = Roll(membership)
    roll.take(entry)
    return roll.known()


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
    wrong = row.wrong(body)
    if wrong:
        raise RefusedError(
            f"{kind} has a missing, unknown or wrong field ({', '.join(wrong)}); update tacit on "
            "both sides"
        )
    Roll(membership).apply(kind, body, time_ms)


class Roll:
    """Who takes part, while acts are read one after another; each costs the same, however many.

    A refused act changes nothing. For one thread at a time.
    """

    def __init__(self, before: Membership | None = None) -> None:
        """Go on from `before`; None: before the federation was begun."""
        self._at = before  # name, root and rules do not change after the first act
        self._participants = {} if before is None else dict(before.participants)
        self._candidates = {} if before is None else dict(before.candidates)
        self._invitations = {} if before is None else dict(before.invitations)
        self._renewals = {} if before is None else dict(before.renewals)
        self._replaced = {} if before is None else dict(before.replaced)
        self._keys: Grown[str] = Grown() if before is None else before.keys
        self._tls: Grown[str] = Grown() if before is None else before.tls
        self._acts: Grown[_Act] = Grown() if before is None else before.acts
        self._digests: Grown[bytes] = Grown() if before is None else before.digests
        self._able = sum(_is_able(one) for one in self._participants.values())
        self._is_current = True

    @property
    def membership(self) -> Membership | None:
        """After all acts so far; None before the federation was begun."""
        if self._at is not None and not self._is_current:
            needed = self._needed
            self._at = replace(
                self._at,
                participants=MappingProxyType(dict(self._participants)),
                candidates=MappingProxyType(
                    {n: replace(one, needed=needed) for n, one in self._candidates.items()}
                ),
                invitations=MappingProxyType(dict(self._invitations)),
                keys=self._keys,
                tls=self._tls,
                acts=self._acts,
                digests=self._digests,
                renewals=MappingProxyType(dict(self._renewals)),
                replaced=MappingProxyType(dict(self._replaced)),
            )
            self._is_current = True
        return self._at

    def known(self) -> Membership:
        """After all acts so far.

        Raises:
            NotVerifiedError: the federation was not begun.
        """
        found = self.membership
        if found is None:
            raise NotVerifiedError(_NOT_BEGUN)
        return found

    def take(self, entry: Entry) -> None:
        """Take one more act of the ledger, of a kind that `is_act`.

        Raises:
            NotVerifiedError: it may not come here, or a signature in it does not hold.
        """
        try:
            self.apply(entry.kind, entry.body, entry.time_ms)
        except RefusedError as error:
            raise NotVerifiedError(str(error)) from None
        last = self._digests[len(self._digests) - 1] if self._digests else _NO_ACTS
        self._digests = self._digests.plus(_extended(last, entry.leaf()))

    def apply(self, kind: str, body: Body, time_ms: int) -> None:
        """Take one more act that is not in the ledger yet.

        Raises:
            RefusedError: it may not come now; the sentence says what to do.
        """
        said: Mapping[str, Any] = body
        if kind == BEGUN:
            _require(
                self._at is None, "the federation was begun before; join it with an invitation"
            )
            self._begin(said, time_ms)
        elif self._at is None:
            raise RefusedError(_NOT_BEGUN)
        else:
            act = (kind, *(said[name] for name in KINDS[kind].key))
            _require(
                act not in self._acts,
                f"this {kind} is in the ledger already; there is nothing left to do",
            )
            _ACTS[kind](self, said, time_ms)
            self._acts = self._acts.plus(act)
        self._is_current = False

    @property
    def _needed(self) -> int:
        """How many must approve a candidate, with who takes part now."""
        # Where nobody is left who could approve, nobody is let in.
        return max(1, min(self._rules.approvals, self._able))

    @property
    def _rules(self) -> Membership:
        if self._at is None:
            raise RefusedError(_NOT_BEGUN)
        return self._at

    # -- each act: all is checked before anything changes --

    def _begin(self, said: Mapping[str, Any], time_ms: int) -> None:
        key = bytes.fromhex(said["key"])
        _require_short(said["founder"])
        told = statement(BEGUN, said["federation"], said["root"], said)
        _require_signed(key, told, said["signature"], f"{said['founder']} under {BEGUN}")
        founder = Participant(said["founder"], OPERATOR, key, since_ms=time_ms)
        self._at = Membership(
            federation=said["federation"],
            root=said["root"],
            approvals=said["approvals"],
            founder=said["founder"],
            founder_key=key,
            participants=MappingProxyType({}),
            suite=said.get("suite", "intl"),
        )
        self._participants[founder.name] = founder
        self._keys = self._keys.plus(said["key"])
        self._able = 1

    def _invite(self, said: Mapping[str, Any], time_ms: int) -> None:
        _require_short(said["name"])
        self._require_by("member.invited", said, {OPERATOR}, "an operator")
        self._require_free(said["name"])
        waiting = sum(
            one.by == said["by"]
            and (time_ms <= one.expires_ms or time_ms - one.invited_ms < PERIOD_MS)
            for one in self._invitations.values()
        )
        _require(
            waiting < INVITATIONS_MAX,
            f"{said['by']} has {INVITATIONS_MAX} invitations that nobody used; let them be used, "
            "or wait until they are older",
        )
        self._invitations[said["token"]] = Invitation(
            token=said["token"],
            role=said["role"],
            name=said["name"],
            attributes=MappingProxyType(dict(said["attributes"])),
            expires_ms=said["expires_ms"],
            by=said["by"],
            invited_ms=time_ms,
        )

    def _request(self, said: Mapping[str, Any], time_ms: int) -> None:
        invitation = self._invitations.get(said["token"])
        if invitation is None:
            raise RefusedError("no open invitation has this token; ask an operator for a new one")
        _require(
            time_ms <= invitation.expires_ms,
            f"the invitation of {invitation.name} has expired; ask an operator for a new one",
        )
        for what, invited in (("name", invitation.name), ("role", invitation.role)):
            _require(
                said[what] == invited,
                f"the invitation is for the {what} {invited}, not {said[what]}; ask with what it "
                "says",
            )
        name = invitation.name
        self._require_free(name)
        _require(
            name not in self._candidates,
            f"{name} has asked before and is being decided on; wait, or let an operator revoke "
            "that",
        )
        _require_new(self._keys, said["key"], "signing key")
        _require_new(self._tls, said["tls"], "TLS key")
        key = bytes.fromhex(said["key"])
        self._require_signed(key, "member.requested", said, name)
        self._candidates[name] = Candidate(
            name=name,
            role=invitation.role,
            key=key,
            tls=bytes.fromhex(said["tls"]),
            token=invitation.token,
            requested_ms=time_ms,
            attributes=invitation.attributes,
        )
        del self._invitations[invitation.token]
        self._keys = self._keys.plus(said["key"])
        self._tls = self._tls.plus(said["tls"])

    def _approve(self, said: Mapping[str, Any], _: int) -> None:
        candidate = self._candidate(said)
        self._require_by(
            "member.approved", said, APPROVERS, "an operator, manufacturer, insurer or bank"
        )
        approvals = candidate.approvals | {said["by"]}
        self._candidates[candidate.name] = replace(candidate, approvals=approvals)

    def _certify(self, said: Mapping[str, Any], time_ms: int) -> None:
        name, certificate = said["name"], said["certificate"]
        tls = bytes.fromhex(said["tls"])
        if name in self._candidates:
            candidate = self._candidate(said)
            _require_tls(candidate.tls, tls, name)
            approvals, needed = candidate.approvals, self._needed
            _require(
                len(approvals) >= needed,
                f"{len(approvals)} of {needed} participants approved {name}; ask the others to "
                "approve it",
            )
            admitted = Participant(
                name=name,
                role=candidate.role,
                key=candidate.key,
                tls=tls,
                certificates=(certificate,),
                attributes=candidate.attributes,
                since_ms=time_ms,
                approved_by=tuple(sorted(approvals)),
            )
            self._participants[name] = admitted
            self._able += _is_able(admitted)
            del self._candidates[name]
            return
        holder = self._participant(name, said["key"])
        if holder.tls:
            _require_tls(holder.tls, tls, name)
        else:
            # A founder begins before there is anything that certifies it; its first certificate
            # says which TLS key it has, and every later one is signed for by it.
            _require_new(self._tls, said["tls"], "TLS key")
        again = replace(holder, tls=tls, certificates=(*holder.certificates, certificate))
        self._participants[name] = again
        self._tls = self._tls.plus(said["tls"])

    def _renew(self, said: Mapping[str, Any], time_ms: int) -> None:
        name, kind = said["name"], "member.renewed"
        holder = self._participant(name, said["key"])
        times = self._renewals.get(name, ())
        _require(
            len(times) < RENEWALS_MAX or time_ms - times[-RENEWALS_MAX] >= PERIOD_MS,
            f"{name} renewed its keys {RENEWALS_MAX} times within 30 days; wait until that is "
            "longer ago",
        )
        if said["new"] != said["key"]:
            _require_new(self._keys, said["new"], "signing key")
        if said["tls"] != holder.tls.hex():
            _require_new(self._tls, said["tls"], "TLS key")
        self._require_signed(holder.key, kind, said, name)
        new = bytes.fromhex(said["new"])
        self._require_signed(new, kind, said, f"{name} with its new key", field="proof")
        self._participants[name] = replace(holder, key=new, tls=bytes.fromhex(said["tls"]))
        self._keys = self._keys.plus(said["new"])
        self._tls = self._tls.plus(said["tls"])
        self._renewals[name] = (*times, time_ms)[-RENEWALS_MAX:]
        if said["new"] != said["key"]:
            self._replaced[said["key"]] = said["new"]

    def _revoke(self, said: Mapping[str, Any], _: int) -> None:
        name, kind = said["name"], "member.revoked"
        candidate = self._candidates.get(name)
        if candidate is None:
            key = self._participant(name, said["key"]).key
        else:
            key = self._candidate(said).key
        if said["by"] == name:
            self._require_signed(key, kind, said, name)
        else:
            self._require_by(kind, said, {OPERATOR}, "an operator or the participant itself")
        if candidate is not None:
            del self._candidates[name]
            return
        holder = self._participants[name]
        self._able -= _is_able(holder)
        self._participants[name] = replace(holder, revoked=True)
        # What it began for others ends with it: nobody knows in whose hands its key was.
        for other, one in self._candidates.items():
            if name in one.approvals:
                self._candidates[other] = replace(one, approvals=one.approvals - {name})
        void = [token for token, one in self._invitations.items() if one.by == name]
        for token in void:
            del self._invitations[token]

    # -- what they ask --

    def _candidate(self, said: Mapping[str, Any]) -> Candidate:
        name = said["name"]
        candidate = self._candidates.get(name)
        if candidate is None:
            raise RefusedError(
                f"{name} has not asked to take part; it joins with an invitation first"
            )
        _require_key(candidate.key, said["key"], name)
        return candidate

    def _participant(self, name: str, key: str) -> Participant:
        holder = self._participants.get(name)
        if holder is None:
            raise RefusedError(f"{name} is no participant; it joins with an invitation first")
        _require(not holder.revoked, f"{name} was revoked; invite it anew if it should take part")
        _require_key(holder.key, key, name)
        return holder

    def _require_by(
        self, kind: str, said: Mapping[str, Any], roles: Iterable[str], who: str
    ) -> None:
        """Require that `by` takes part, in one of these roles, and signed."""
        by = self._participants.get(said["by"])
        if by is None:
            raise RefusedError(f"{said['by']} is no participant; let {who} sign this")
        _require(not by.revoked, f"{by.name} was revoked; let {who} sign this")
        _require(by.role in roles, f"{by.name} has the role {by.role}; let {who} sign this")
        self._require_signed(by.key, kind, said, by.name)

    def _require_signed(
        self,
        key: bytes,
        kind: str,
        said: Mapping[str, Any],
        who: str,
        *,
        field: str = "signature",
    ) -> None:
        told = statement(kind, self._rules.federation, self._rules.root, said)
        _require_signed(key, told, said[field], f"{who} under {kind}")

    def _require_free(self, name: str) -> None:
        holder = self._participants.get(name)
        _require(
            holder is None or holder.revoked,
            f"{name} takes part already; choose another name, or revoke it first",
        )


_NOT_BEGUN: Final = "no federation was begun in this ledger yet; its founder begins it"
_ACTS: Final[Mapping[str, Callable[[Roll, Mapping[str, Any], int], None]]] = {
    BEGUN: Roll._begin,  # noqa: SLF001 - the table of its own acts
    "member.invited": Roll._invite,  # noqa: SLF001
    "member.requested": Roll._request,  # noqa: SLF001
    "member.approved": Roll._approve,  # noqa: SLF001
    "member.certified": Roll._certify,  # noqa: SLF001
    "member.renewed": Roll._renew,  # noqa: SLF001
    "member.revoked": Roll._revoke,  # noqa: SLF001
}


def _is_able(one: Participant) -> bool:
    """Whether it can approve others."""
    return one.role in APPROVERS and not one.revoked


def _require_signed(key: bytes, told: bytes, signature: str, whose: str) -> None:
    try:
        verify_signature(key, MEMBERSHIP_DOMAIN, told, bytes.fromhex(signature))
    except ProtocolError:
        raise RefusedError(
            f"the signature of {whose} does not hold; sign it again with that key"
        ) from None


def _require_short(name: str) -> None:
    _require(
        len(name) <= NAME_CHARACTERS_MAX,
        f"a participant's name has at most {NAME_CHARACTERS_MAX} characters; choose another",
    )


def _require_new(known: Grown[str], key: str, what: str) -> None:
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
