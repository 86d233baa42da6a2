"""Key agreement, once per run: every member offers an exchange key, signed by its identity.

Identity keys are pinned (`Directory`), so whoever carries the offers can withhold one but cannot
replace one. Where the run's suite signs beside identities, the offer also states the key that its
member does it by, and all that members sign is checked by both (`Roster.require_signed`). Each
member admits the roster itself, with its own minimum; no member takes the coordinator's word for
who takes part.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NoReturn, TypeAlias

import msgspec

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import PUBLIC_BYTES, Identity
from privacy.randomness import Entropy
from privacy.secure_sum import read_form, require_member_name
from privacy.suites import SUITES, Suite
from privacy.suites.intl import INTL
from privacy.suites.suite import Exchange
from privacy.suites.voice import Voice, beside_bytes, require_signed, signature_bytes, voice_of

Directory: TypeAlias = Mapping[str, bytes]
"""Member -> Ed25519 public key (32 bytes), pinned at enrolment."""

OFFER_BYTES_MAX = 8192
# With one member the sum is that member's vector.
SMALLEST_ROSTER = 2
_OFFER_DOMAIN = "key-offer"
# an array of four, in MessagePack
_LONG = b"\x94"
_SIZES = {
    (suite.exchange_bytes, signature_bytes(suite), beside_bytes(suite)) for suite in SUITES.values()
}


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


def wrap_for(public: bytes, secret: bytes, *, info: bytes, suite: Suite = INTL) -> bytes:
    """Seal `secret` to the holder of the exchange key `public`, as the suite does.

    It says nothing of who sealed it: sign it.
    """
    return suite.wrap(public, secret, info)


class KeptKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exchange key on its member's own disk, with what it was used for: neither without both.

    Attributes:
        private: The secret half, as its suite writes it.
        roster: Digest of the roster that it serves; empty before there is one.
        sealed: Contexts of the sums that were sealed, in order.
    """

    private: bytes
    roster: bytes
    sealed: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"KeptKey(sealed={len(self.sealed)})"


class ExchangeKey:
    """A member's private exchange key for one run and one roster. It leaves no member.

    It remembers which sums were sealed, because a mask must never hide two different vectors:
    their difference would be in the clear. A node that restarts has lost this memory together with
    the key, or has kept both (`kept`), so it can neither seal a sum again nor answer for it twice.
    """

    __slots__ = ("_private", "_roster", "_sealed")

    def __init__(self, private: Exchange) -> None:
        self._private = private
        self._roster: list[bytes] = []
        self._sealed: dict[bytes, object] = {}

    @classmethod
    def resumed(cls, kept: KeptKey, suite: Suite = INTL) -> "ExchangeKey":
        """Go on with a key that was kept.

        Raises:
            ProtocolError: it is none.
        """
        key = cls(suite.restore_exchange(kept.private))
        if kept.roster:
            key.bind(kept.roster)
        for context in kept.sealed:
            key.use_for(context)
        return key

    def kept(self) -> KeptKey:
        """Return what its member's own disk keeps of it, and nobody else is given."""
        return KeptKey(
            private=self._private.secret_bytes(),
            roster=self._roster[0] if self._roster else b"",
            sealed=tuple(self._sealed),
        )

    @property
    def public(self) -> bytes:
        """The bytes that are offered."""
        return self._private.public

    def agree(self, other: bytes) -> bytes:
        """Return the secret shared with the holder of `other`; derive keys from it.

        Raises:
            ProtocolError: `other` is no key of the suite, or would share the secret with all.
        """
        return self._private.agree(other)

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
        """Return what somebody sealed to `public` with `wrap_for`.

        Raises:
            ProtocolError: it was sealed to another key, for another `info`, or was changed.
        """
        return self._private.unwrap(envelope, info)

    def __repr__(self) -> str:
        return f"ExchangeKey(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange key is kept by its member alone; offer a new one")


class _Offer(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    member: str
    exchange: bytes
    signature: bytes


class _LongOffer(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    member: str
    exchange: bytes
    signature: bytes
    beside: bytes


@dataclass(frozen=True, slots=True)
class KeyOffer:
    """A member's public keys for one run, signed over run, directory, member and keys.

    Attributes:
        member: Who.
        exchange: Its exchange key.
        signature: `Voice.sign`, by what the run's suite asks for.
        beside: `Voice.beside`; empty where the suite signs nothing beside identities.
    """

    member: str
    exchange: bytes
    signature: bytes
    beside: bytes = b""

    def to_bytes(self) -> bytes:
        """Return its only encoding (MessagePack)."""
        said = (self.member, self.exchange, self.signature)
        return msgspec.msgpack.encode(
            _LongOffer(*said, self.beside) if self.beside else _Offer(*said)
        )

    @staticmethod
    def from_bytes(data: bytes) -> "KeyOffer":
        """Read what `to_bytes` wrote. The signature is checked by `admit`.

        Raises:
            ProtocolError: anything but the one encoding that `to_bytes` writes.
        """
        parsed: _Offer | _LongOffer
        if data[:1] == _LONG:
            parsed = read_form(data, _LongOffer, what="a key offer", most=OFFER_BYTES_MAX)
        else:
            parsed = read_form(data, _Offer, what="a key offer", most=OFFER_BYTES_MAX)
        require_member_name(parsed.member)
        beside = parsed.beside if isinstance(parsed, _LongOffer) else b""
        sizes = (len(parsed.exchange), len(parsed.signature), len(beside))
        if sizes not in _SIZES or (isinstance(parsed, _LongOffer) and not beside):
            raise ProtocolError(f"a field of {parsed.member}'s key offer has a wrong length")
        return KeyOffer(parsed.member, parsed.exchange, parsed.signature, beside)


def offer_key(
    identity: Identity | Voice,
    member: str,
    *,
    run: bytes,
    directory: Directory,
    entropy: Entropy,
    suite: Suite = INTL,
) -> tuple[ExchangeKey, KeyOffer]:
    """Make `member`'s exchange key for `run`, and the signed offer of its public half.

    Raises:
        ProtocolError: the directory does not hold this identity for `member`, or it is no voice
            where the suite needs one.
    """
    voice = voice_of(identity, suite)
    if directory.get(member) != identity.public:
        raise ProtocolError(f"the directory has another key for {member}; get the current one")
    key = ExchangeKey(suite.create_exchange(entropy))
    message = _offer_message(
        run=run,
        directory=directory_digest(directory),
        member=member,
        exchange=key.public,
        beside=voice.beside,
        suite=suite,
    )
    return key, KeyOffer(member, key.public, voice.sign(_OFFER_DOMAIN, message), voice.beside)


@dataclass(frozen=True)
class Roster:
    """The members of one run's sums, each with its admitted exchange key. Made by `admit`.

    Attributes:
        run: The run's id.
        directory: The pinned identity keys, of these members and perhaps of others.
        offers: In the order of the members' names.
        suite: The algorithms of the run.
    """

    run: bytes
    directory: Directory
    offers: tuple[KeyOffer, ...]
    suite: Suite = INTL

    @property
    def members(self) -> tuple[str, ...]:
        """The members' names, sorted."""
        return tuple(offer.member for offer in self.offers)

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that differ for other runs, suites, directories, members or keys of theirs."""
        parts = [
            part
            for offer in self.offers
            for part in (_utf8(offer.member), offer.exchange, *_stated(offer.beside))
        ]
        head = (b"tacit/roster/v1", self.run, directory_digest(self.directory), *_named(self.suite))
        return hashlib.sha256(framed(*head, *parts)).digest()

    def exchange_of(self, member: str) -> bytes:
        """Return the exchange key of `member`.

        Raises:
            ProtocolError: it is not in this roster.
        """
        return self._offer_of(member).exchange

    def beside_of(self, member: str) -> bytes:
        """Return the key that `member` signs by beside its identity; empty where there is none.

        Raises:
            ProtocolError: it is not in this roster.
        """
        return self._offer_of(member).beside

    def require_signed(self, member: str, domain: str, message: bytes, signature: bytes) -> None:
        """Return if `member` signed `message` by all that the run's suite asks for.

        Raises:
            ProtocolError: it did not, or it is not in this roster.
        """
        beside = self.beside_of(member)
        public = self.directory[member]
        require_signed(self.suite, domain, message, signature, public=public, beside=beside)

    def _offer_of(self, member: str) -> KeyOffer:
        try:
            return self._offers[member]
        except KeyError:
            raise ProtocolError(
                f"{member} is not in this run's roster; join the next run"
            ) from None

    @cached_property
    def _offers(self) -> Mapping[str, KeyOffer]:
        return {offer.member: offer for offer in self.offers}


def admit(
    offers: Iterable[KeyOffer],
    *,
    run: bytes,
    directory: Directory,
    minimum: int,
    suite: Suite = INTL,
) -> Roster:
    """Return the roster of those who offered, if each offer holds and they are enough.

    Every member calls this itself. A member may be missing, and the sums are then over the rest;
    nobody can be added or replaced, as each offer is signed by a pinned identity for this run.

    Args:
        offers: One of each member; their order does not matter.
        run: The run's id.
        directory: Pinned identity keys.
        minimum: The fewest members that the caller wants to hide among; at least 2 hold.
        suite: The algorithms of the run, as its manifest says them.

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
        if offer.beside and offer.beside in holders:
            raise ProtocolError(
                f"{holders[offer.beside]} and {offer.member} sign by the same key; enrol each anew"
            )
        _require_usable(offer, suite)
        message = _offer_message(
            run=run,
            directory=digest,
            member=offer.member,
            exchange=offer.exchange,
            beside=offer.beside,
            suite=suite,
        )
        try:
            require_signed(
                suite,
                _OFFER_DOMAIN,
                message,
                offer.signature,
                public=pinned[offer.member],
                beside=offer.beside,
            )
        except ProtocolError:
            raise ProtocolError(
                f"the key offer of {offer.member} is not signed by it for this run and directory"
            ) from None
        admitted[offer.member] = offer
        holders[offer.exchange] = offer.member
        if offer.beside:
            holders[offer.beside] = offer.member
    needed = max(minimum, SMALLEST_ROSTER)
    if len(admitted) < needed:
        raise CohortError(
            f"{len(admitted)} members offered keys and {needed} are needed; "
            f"missing: {', '.join(sorted(set(pinned) - set(admitted))) or 'more members'}"
        )
    return Roster(run, pinned, tuple(admitted[member] for member in sorted(admitted)), suite)


def _require_usable(offer: KeyOffer, suite: Suite) -> None:
    try:
        suite.require_exchange(offer.exchange)
    except ProtocolError:
        raise ProtocolError(
            f"the exchange key of {offer.member} would share its secrets with all, or is none of "
            f"the suite {suite.id}; refuse it"
        ) from None
    if len(offer.beside) != beside_bytes(suite):
        raise ProtocolError(
            f"{offer.member} states no signing key of the suite {suite.id}; update tacit there"
        )


def _offer_message(
    *, run: bytes, directory: bytes, member: str, exchange: bytes, beside: bytes, suite: Suite
) -> bytes:
    return framed(run, directory, _utf8(member), exchange, *_stated(beside), *_named(suite))


def _stated(beside: bytes) -> tuple[bytes, ...]:
    # No field is there where the suite has none, as before there were any.
    return (beside,) if beside else ()


def _named(suite: Suite) -> tuple[bytes, ...]:
    # What was signed before there were suites is of `intl`, and stays as it was.
    return () if suite is INTL else (suite.id.encode("ascii"),)


def _utf8(name: str) -> bytes:
    return name.encode("utf-8")
