"""Key agreement, once per run: every member offers an exchange key, signed by its identity.

Identity keys are pinned (`Directory`), so whoever carries the offers can withhold one but cannot
replace one. Each member admits the roster itself, with its own minimum; no member takes the
coordinator's word for who takes part.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NoReturn, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import PUBLIC_BYTES, SIGNATURE_BYTES, Identity, verify_signature
from privacy.randomness import Entropy
from privacy.secure_sum import read_form, require_member_name

Directory: TypeAlias = Mapping[str, bytes]
"""Member -> Ed25519 public key (32 bytes), pinned at enrolment."""

EXCHANGE_BYTES = 32
OFFER_BYTES_MAX = 1024
# With one member the sum is that member's vector.
SMALLEST_ROSTER = 2
_OFFER_DOMAIN = "key-offer"
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
# Any scalar finds a point of small order: X25519 makes every scalar a multiple of the cofactor.
_PROBE = X25519PrivateKey.from_private_bytes(bytes(range(32)))


def directory_digest(directory: Directory) -> bytes:
    """Return 32 bytes that differ for directories with other members or other keys.

    Raises:
        ProtocolError: a name or key is malformed, or two members have the same key.
    """
    holders: dict[bytes, str] = {}
    for member, public in sorted(directory.items()):
        require_member_name(member)
        if len(public) != PUBLIC_BYTES:
            raise ProtocolError(f"the directory's key of {member} has not {PUBLIC_BYTES} bytes")
        if public in holders:
            raise ProtocolError(f"{holders[public]} and {member} share a key; enrol each anew")
        holders[public] = member
    parts = [part for public, member in holders.items() for part in (_utf8(member), public)]
    return hashlib.sha256(framed(b"tacit/directory/v1", *parts)).digest()


def wrap_for(public: bytes, secret: bytes, *, info: bytes) -> bytes:
    """Seal `secret` to the holder of the exchange key `public` (HPKE, RFC 9180, base mode).

    It says nothing of who sealed it: sign it.
    """
    return _SUITE.encrypt(secret, X25519PublicKey.from_public_bytes(public), info)


class KeptKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exchange key on its member's own disk, with what it was used for: neither without both.

    Attributes:
        private: The secret half, 32 bytes.
        roster: Digest of the roster that it serves; empty before there is one.
        sealed: Contexts of the sums that were sealed, in order.
    """

    private: bytes
    roster: bytes
    sealed: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"KeptKey(sealed={len(self.sealed)})"


class ExchangeKey:
    """A member's X25519 private key for one run and one roster. It leaves no member.

    It remembers which sums were sealed, because a mask must never hide two different vectors:
    their difference would be in the clear. A node that restarts has lost this memory together with
    the key, or has kept both (`kept`), so it can neither seal a sum again nor answer for it twice.
    """

    __slots__ = ("_private", "_roster", "_sealed")

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self._roster: list[bytes] = []
        self._sealed: dict[bytes, object] = {}

    @classmethod
    def resumed(cls, kept: KeptKey) -> "ExchangeKey":
        """Go on with a key that was kept.

        Raises:
            ProtocolError: it is none.
        """
        try:
            key = cls(X25519PrivateKey.from_private_bytes(kept.private))
        except ValueError:
            raise ProtocolError("a kept exchange key is none; leave this run") from None
        if kept.roster:
            key.bind(kept.roster)
        for context in kept.sealed:
            key.use_for(context)
        return key

    def kept(self) -> KeptKey:
        """Return what its member's own disk keeps of it, and nobody else is given."""
        return KeptKey(
            private=self._private.private_bytes_raw(),
            roster=self._roster[0] if self._roster else b"",
            sealed=tuple(self._sealed),
        )

    @property
    def public(self) -> bytes:
        """The 32 bytes that are offered."""
        return self._private.public_key().public_bytes_raw()

    def agree(self, other: bytes) -> bytes:
        """Return the secret shared with the holder of `other` (RFC 7748); derive keys from it.

        Raises:
            ProtocolError: `other` is a point of small order, so the secret would be known to all.
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise ProtocolError(
                "an exchange key is not usable; its member must offer anew"
            ) from None

    def bind(self, roster: bytes) -> None:
        """Tie this key to the first roster that it is used with.

        Two rosters that differ by one member would show that member as the difference of two sums.

        Raises:
            ProtocolError: it already serves another roster.
        """
        self._roster.append(roster)
        if self._roster[0] != roster:
            raise ProtocolError("an exchange key serves one roster; offer a new key for this one")

    def use_for(self, context: bytes) -> None:
        """Note that the sum `context` is sealed now.

        Raises:
            ProtocolError: it was sealed before.
        """
        # One dictionary operation, so that two threads cannot both be the first.
        first = object()
        if self._sealed.setdefault(context, first) is not first:
            raise ProtocolError("this sum was already sealed; no mask hides two vectors")

    def unwrap(self, envelope: bytes, *, info: bytes) -> bytes:
        """Return what somebody sealed to `public` with `wrap_for` (RFC 9180, base mode).

        Raises:
            ProtocolError: it was sealed to another key, for another `info`, or was changed.
        """
        try:
            return _SUITE.decrypt(envelope, self._private, info)
        except (InvalidTag, ValueError):
            raise ProtocolError(
                "a sealed key does not open; its sender must seal it to this run's key"
            ) from None

    def __repr__(self) -> str:
        return f"ExchangeKey(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange key is kept by its member alone; offer a new one")


class _Offer(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    member: str
    exchange: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class KeyOffer:
    """A member's public exchange key for one run, signed over run, directory, member and key."""

    member: str
    exchange: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return its only encoding (MessagePack)."""
        return msgspec.msgpack.encode(_Offer(self.member, self.exchange, self.signature))

    @staticmethod
    def from_bytes(data: bytes) -> "KeyOffer":
        """Read what `to_bytes` wrote. The signature is checked by `admit`.

        Raises:
            ProtocolError: anything but the one encoding that `to_bytes` writes.
        """
        parsed = read_form(data, _Offer, what="a key offer", most=OFFER_BYTES_MAX)
        require_member_name(parsed.member)
        if len(parsed.exchange) != EXCHANGE_BYTES or len(parsed.signature) != SIGNATURE_BYTES:
            raise ProtocolError(f"a field of {parsed.member}'s key offer has a wrong length")
        return KeyOffer(parsed.member, parsed.exchange, parsed.signature)


def offer_key(
    identity: Identity, member: str, *, run: bytes, directory: Directory, entropy: Entropy
) -> tuple[ExchangeKey, KeyOffer]:
    """Make `member`'s exchange key for `run`, and the signed offer of its public half.

    Raises:
        ProtocolError: the directory does not hold this identity for `member`.
    """
    if directory.get(member) != identity.public:
        raise ProtocolError(f"the directory has another key for {member}; get the current one")
    key = ExchangeKey(X25519PrivateKey.from_private_bytes(entropy(EXCHANGE_BYTES)))
    message = _offer_message(
        run=run, directory=directory_digest(directory), member=member, exchange=key.public
    )
    return key, KeyOffer(member, key.public, identity.sign(_OFFER_DOMAIN, message))


@dataclass(frozen=True)
class Roster:
    """The members of one run's sums, each with its admitted exchange key. Made by `admit`.

    Attributes:
        run: The run's id.
        directory: The pinned identity keys, of these members and perhaps of others.
        offers: In the order of the members' names.
    """

    run: bytes
    directory: Directory
    offers: tuple[KeyOffer, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """The members' names, sorted."""
        return tuple(offer.member for offer in self.offers)

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that differ for other runs, directories, members or exchange keys."""
        parts = [part for offer in self.offers for part in (_utf8(offer.member), offer.exchange)]
        head = (b"tacit/roster/v1", self.run, directory_digest(self.directory))
        return hashlib.sha256(framed(*head, *parts)).digest()

    def exchange_of(self, member: str) -> bytes:
        """Return the exchange key of `member`.

        Raises:
            ProtocolError: it is not in this roster.
        """
        try:
            return self._exchanges[member]
        except KeyError:
            raise ProtocolError(
                f"{member} is not in this run's roster; join the next run"
            ) from None

    @cached_property
    def _exchanges(self) -> Mapping[str, bytes]:
        return {offer.member: offer.exchange for offer in self.offers}


def admit(offers: Iterable[KeyOffer], *, run: bytes, directory: Directory, minimum: int) -> Roster:
    """Return the roster of those who offered, if each offer holds and they are enough.

    Every member calls this itself. A member may be missing, and the sums are then over the rest;
    nobody can be added or replaced, as each offer is signed by a pinned identity for this run.

    Args:
        offers: One of each member; their order does not matter.
        run: The run's id.
        directory: Pinned identity keys.
        minimum: The fewest members that the caller wants to hide among; at least 2 hold.

    Raises:
        CohortError: too few offers.
        ProtocolError: an unknown member, a member or a key twice, an unusable key, a signature
            that does not verify.
    """
    pinned = MappingProxyType(dict(directory))
    digest = directory_digest(pinned)
    admitted: dict[str, KeyOffer] = {}
    holders: dict[bytes, str] = {}
    for offer in offers:
        if offer.member not in pinned:
            raise ProtocolError(f"{offer.member} is not in the directory; enrol it first")
        if offer.member in admitted:
            raise ProtocolError(f"{offer.member} offered two keys for this run; start a new run")
        if offer.exchange in holders:
            raise ProtocolError(
                f"{holders[offer.exchange]} and {offer.member} offered the same key; "
                "start a new run"
            )
        _require_usable(offer)
        message = _offer_message(
            run=run, directory=digest, member=offer.member, exchange=offer.exchange
        )
        try:
            verify_signature(pinned[offer.member], _OFFER_DOMAIN, message, offer.signature)
        except ProtocolError:
            raise ProtocolError(
                f"the key offer of {offer.member} is not signed by it for this run and directory"
            ) from None
        admitted[offer.member] = offer
        holders[offer.exchange] = offer.member
    needed = max(minimum, SMALLEST_ROSTER)
    if len(admitted) < needed:
        raise CohortError(
            f"{len(admitted)} members offered keys and {needed} are needed; "
            f"missing: {', '.join(sorted(set(pinned) - set(admitted))) or 'more members'}"
        )
    return Roster(run, pinned, tuple(admitted[member] for member in sorted(admitted)))


def _require_usable(offer: KeyOffer) -> None:
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(offer.exchange))
    except ValueError:
        raise ProtocolError(
            f"the exchange key of {offer.member} would share its secrets with all; refuse it"
        ) from None


def _offer_message(*, run: bytes, directory: bytes, member: str, exchange: bytes) -> bytes:
    return framed(run, directory, _utf8(member), exchange)


def _utf8(name: str) -> bytes:
    return name.encode("utf-8")
