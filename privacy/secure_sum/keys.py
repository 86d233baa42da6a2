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

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import PUBLIC_BYTES, SIGNATURE_BYTES, Identity, verify_signature
from privacy.randomness import Entropy
from privacy.secure_sum import read_form, require_member_name
from privacy.suites import SUITES, Suite
from privacy.suites.intl import INTL
from privacy.suites.suite import Exchange

Directory: TypeAlias = Mapping[str, bytes]
"""Member -> Ed25519 public key (32 bytes), pinned at enrolment."""

OFFER_BYTES_MAX = 2048
# With one member the sum is that member's vector.
SMALLEST_ROSTER = 2
_OFFER_DOMAIN = "key-offer"


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
        sizes = {suite.exchange_bytes for suite in SUITES.values()}
        if len(parsed.exchange) not in sizes or len(parsed.signature) != SIGNATURE_BYTES:
            raise ProtocolError(f"a field of {parsed.member}'s key offer has a wrong length")
        return KeyOffer(parsed.member, parsed.exchange, parsed.signature)


def offer_key(
    identity: Identity,
    member: str,
    *,
    run: bytes,
    directory: Directory,
    entropy: Entropy,
    suite: Suite = INTL,
) -> tuple[ExchangeKey, KeyOffer]:
    """Make `member`'s exchange key for `run`, and the signed offer of its public half.

    Raises:
        ProtocolError: the directory does not hold this identity for `member`.
    """
    if directory.get(member) != identity.public:
        raise ProtocolError(f"the directory has another key for {member}; get the current one")
    key = ExchangeKey(suite.create_exchange(entropy))
    message = _offer_message(
        run=run,
        directory=directory_digest(directory),
        member=member,
        exchange=key.public,
        suite=suite,
    )
    return key, KeyOffer(member, key.public, identity.sign(_OFFER_DOMAIN, message))


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
        """32 bytes that differ for other runs, suites, directories, members or exchange keys."""
        parts = [part for offer in self.offers for part in (_utf8(offer.member), offer.exchange)]
        head = (b"tacit/roster/v1", self.run, directory_digest(self.directory), *_named(self.suite))
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
        _require_usable(offer, suite)
        message = _offer_message(
            run=run,
            directory=digest,
            member=offer.member,
            exchange=offer.exchange,
            suite=suite,
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
    return Roster(run, pinned, tuple(admitted[member] for member in sorted(admitted)), suite)


def _require_usable(offer: KeyOffer, suite: Suite) -> None:
    try:
        suite.require_exchange(offer.exchange)
    except ProtocolError:
        raise ProtocolError(
            f"the exchange key of {offer.member} would share its secrets with all, or is none of "
            f"the suite {suite.id}; refuse it"
        ) from None


def _offer_message(
    *, run: bytes, directory: bytes, member: str, exchange: bytes, suite: Suite
) -> bytes:
    return framed(run, directory, _utf8(member), exchange, *_named(suite))


def _named(suite: Suite) -> tuple[bytes, ...]:
    # What was signed before there were suites is of `intl`, and stays as it was.
    return () if suite is INTL else (suite.id.encode("ascii"),)


def _utf8(name: str) -> bytes:
    return name.encode("utf-8")
