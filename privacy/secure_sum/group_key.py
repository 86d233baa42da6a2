"""What the members of a run share and its coordinator has not: made by one, sealed to each.

The one that makes it follows from the roster's hash. Everybody seals to the others' exchange keys
(as the run's suite does), signs, and compares the fingerprint, which goes to the ledger. A new one
each run.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

import msgspec

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.identity import Identity
from privacy.keystream import KEY_BYTES
from privacy.randomness import Entropy
from privacy.secure_sum import read_form
from privacy.secure_sum.keys import ExchangeKey, Roster, wrap_for
from privacy.secure_sum.schemes import CarrierKey, Scheme
from privacy.suites.voice import Voice, voice_of

GROUP_KEY_BYTES_MAX = 1 << 20
_DOMAIN = "group-key"
_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class GroupKey:
    """See the module.

    Attributes:
        scheme: Whose sums it is for.
        tag_secret: Of the sums' linear tags, 32 bytes.
        carrier: The carrier's key.
        fingerprint: 32 bytes that bind scheme, roster, and both secrets, and show neither.
    """

    scheme: str
    tag_secret: bytes = field(repr=False)
    carrier: CarrierKey = field(repr=False)
    fingerprint: bytes

    def __reduce__(self) -> NoReturn:
        raise TypeError("a group key leaves no process but sealed to a member")


class _Secrets(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    tag: bytes
    opens: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A group key on its way to one member.

    Attributes:
        fingerprint: Of what is inside, 32 bytes.
        public: What the coordinator needs of the carrier's key.
        carrier: The carrier's key, encrypted; the same for all, as it may be large.
        secret: What opens it, and the tags' secret, sealed to the member.
        signature: By the maker, over roster, member and all of the above.
    """

    fingerprint: bytes
    public: bytes = field(repr=False)
    carrier: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    signature: bytes


def maker_of(roster: Roster) -> str:
    """Return who makes the group key: nobody chooses, all agree."""
    return roster.members[int.from_bytes(roster.digest, "big") % len(roster.members)]


def make_group_key(
    member: str, identity: Identity | Voice, roster: Roster, scheme: Scheme, entropy: Entropy
) -> tuple[GroupKey, Mapping[str, Envelope]]:
    """Make the run's group key, and an envelope for each other member.

    Raises:
        ProtocolError: it is not this member's turn, or it is no voice where the suite needs one.
    """
    if member != maker_of(roster):
        raise ProtocolError(f"{maker_of(roster)} makes this run's key, not {member}; ask it")
    voice = voice_of(identity, roster.suite)
    carrier = scheme.create(len(roster.members))
    secrets = _Secrets(entropy(KEY_BYTES), entropy(KEY_BYTES))
    key = _group_key(roster, scheme, secrets.tag, carrier)
    # The key is made for this one ciphertext, so its nonce may be fixed.
    hidden = roster.suite.seal(secrets.opens, _NONCE, carrier.secret, key.fingerprint)
    plain = msgspec.msgpack.encode(secrets)
    envelopes: dict[str, Envelope] = {}
    for peer in roster.members:
        if peer != member:
            sealed = wrap_for(
                roster.exchange_of(peer),
                plain,
                info=_info(roster, scheme, peer),
                suite=roster.suite,
            )
            unsigned = Envelope(key.fingerprint, carrier.public, hidden, sealed, b"")
            signature = voice.sign(_DOMAIN, _message(roster, peer, unsigned))
            envelopes[peer] = replace(unsigned, signature=signature)
    return key, envelopes


def open_group_key(
    member: str, key: ExchangeKey, roster: Roster, scheme: Scheme, envelope: Envelope
) -> GroupKey:
    """Return the group key that was sealed to `member`.

    Raises:
        ProtocolError: the envelope is not from the one whose turn it is, is for another member,
            run or scheme, was changed, or holds something else than its fingerprint says.
    """
    maker = maker_of(roster)
    message = _message(roster, member, envelope)
    try:
        roster.require_signed(maker, _DOMAIN, message, envelope.signature)
    except ProtocolError:
        raise ProtocolError(
            f"the run's key is not signed by {maker}, whose turn it is; start a new run"
        ) from None
    plain = key.unwrap(envelope.secret, info=_info(roster, scheme, member))
    secrets = read_form(plain, _Secrets, what="a run's key", most=GROUP_KEY_BYTES_MAX)
    if len(secrets.tag) != KEY_BYTES or len(secrets.opens) != KEY_BYTES:
        raise ProtocolError("the run's key has a secret of a wrong length; start a new run")
    try:
        secret = roster.suite.open(secrets.opens, _NONCE, envelope.carrier, envelope.fingerprint)
    except ProtocolError:
        raise ProtocolError("the run's key was changed on its way; start a new run") from None
    carrier = scheme.restore(secret, len(roster.members))
    opened = _group_key(roster, scheme, secrets.tag, carrier)
    if opened.fingerprint != envelope.fingerprint or carrier.public != envelope.public:
        raise ProtocolError(
            f"{maker} sealed another key to {member} than it told of; start a new run"
        )
    return opened


def resume_group_key(
    roster: Roster, scheme: Scheme, *, tag_secret: bytes, carrier: bytes, fingerprint: bytes
) -> GroupKey:
    """Return the group key that a member kept on its own disk.

    Args:
        roster: The run's.
        scheme: The run's.
        tag_secret: `GroupKey.tag_secret`.
        carrier: `CarrierKey.secret`.
        fingerprint: `GroupKey.fingerprint`.

    Raises:
        ProtocolError: they do not belong together.
    """
    key = _group_key(roster, scheme, tag_secret, scheme.restore(carrier, len(roster.members)))
    if key.fingerprint != fingerprint:
        raise ProtocolError("a kept group key is not the one of its run; leave this run")
    return key


def _group_key(roster: Roster, scheme: Scheme, tag: bytes, carrier: CarrierKey) -> GroupKey:
    parts = (
        b"tacit/group-key/v1",
        scheme.name.encode("ascii"),
        roster.digest,
        hashlib.sha256(b"tag" + tag).digest(),
        hashlib.sha256(b"carrier" + carrier.secret).digest(),
        carrier.public,
    )
    fingerprint = hashlib.sha256(framed(*parts)).digest()
    return GroupKey(scheme.name, tag, carrier, fingerprint)


def _info(roster: Roster, scheme: Scheme, member: str) -> bytes:
    parts = (roster.run, roster.digest, scheme.name.encode("ascii"), member.encode("utf-8"))
    return framed(b"tacit/group-key/v1", *parts)


def _message(roster: Roster, member: str, envelope: Envelope) -> bytes:
    return framed(
        roster.digest,
        member.encode("utf-8"),
        envelope.fingerprint,
        envelope.public,
        hashlib.sha256(envelope.carrier).digest(),
        hashlib.sha256(envelope.secret).digest(),
    )
