"""Sums under pairwise masks: the coordinator learns the sum over the roster, and nothing else.

Each pair of members shares a secret (X25519, RFC 7748; HKDF-SHA256, RFC 5869). For each sum it
gives a stream of words that the one adds and the other subtracts, so all masks cancel in the sum
over the whole roster, and in no other. Source: Bonawitz et al. 2017 (CCS), section 4.1; without
their self-masks and shares, hence without recovery of dropouts: a sum needs its whole roster.

Formal guarantee, for one sum: whoever sees all sealed vectors, and holds the keys of a set C of
members, learns of the others' vectors their sum and nothing more, as long as X25519, HKDF, HMAC
and AES-256 are what they are taken for. It says nothing when all but one collude: then the sum
minus their own is that one's vector.
"""

from collections.abc import Iterable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import Identity
from privacy.keystream import KEY_BYTES, Words, shift_by_keystream
from privacy.secure_sum import SealedVector, SumContext, UnmaskAnswer
from privacy.secure_sum.keys import SMALLEST_ROSTER, ExchangeKey, Roster
from privacy.secure_sum.signed import require_own, sign_payload, sum_signed, words_digest

_PURPOSE = "sealed-vector/masked"


class MaskedSealer:
    """A member's half of the masked sums of one run.

    Sealers that are made again from the same exchange key share its memory of what was sealed.
    """

    __slots__ = ("_identity", "_key", "_pairs", "_roster", "member")

    def __init__(self, member: str, identity: Identity, key: ExchangeKey, roster: Roster) -> None:
        """Agree on a secret with each other member of the roster.

        Raises:
            CohortError: there is no other member, so nothing would hide this one's vectors.
            ProtocolError: the roster does not hold this member with this identity and this key,
                or the key serves another roster.
        """
        if len(roster.offers) < SMALLEST_ROSTER:
            raise CohortError("a sum over one member hides nothing; wait for others to join")
        if roster.exchange_of(member) != key.public:
            raise ProtocolError(f"the roster holds another exchange key for {member}; offer anew")
        if roster.directory[member] != identity.public:
            raise ProtocolError(f"the directory has another key for {member}; get the current one")
        key.bind(roster.digest)
        self.member = member
        self._identity = identity
        self._key = key
        self._roster = roster
        self._pairs = {
            offer.member: _pair_secret(key, offer.exchange, member, offer.member, roster)
            for offer in roster.offers
            if offer.member != member
        }

    def __repr__(self) -> str:
        return f"MaskedSealer(member={self.member!r})"

    def seal(self, words: Words, *, context: SumContext) -> SealedVector:
        """Mask and sign `words` for the sum `context`; see `Sealer.seal`.

        Raises:
            ProtocolError: the context is of another run or roster, or was already sealed with
                other words.
            ValueError: these are no words (uint64, shape (w,), w >= 1).
        """
        require_own(context, self._roster)
        digest = context.digest()
        masked = words.copy()
        # What is remembered is what is masked, even if the caller's array changes meanwhile.
        self._key.remember(digest, words_digest(masked))
        for peer, secret in self._pairs.items():
            # The one whose name comes first adds, the other subtracts.
            shift_by_keystream(masked, _mask_key(secret, digest), subtract=peer < self.member)
        return sign_payload(
            masked.tobytes(),
            member=self.member,
            identity=self._identity,
            context=digest,
            purpose=_PURPOSE,
        )


class MaskedOpener:
    """The coordinator's half: it adds; the masks cancel. It holds no secret at all."""

    __slots__ = ("_roster",)

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def open_sum(
        self,
        sealed: Iterable[SealedVector],
        *,
        context: SumContext,
        answers: Iterable[UnmaskAnswer] = (),
    ) -> Words:
        """Return the sum over exactly the roster; see `Opener.open_sum`.

        Raises:
            CohortError: a member is missing.
            ProtocolError: a vector does not belong, or there are answers: this form has no
                recovery of dropouts.
        """
        if tuple(answers):
            raise ProtocolError("this form of sum takes no unmasking answers; send none")
        return sum_signed(sealed, roster=self._roster, context=context, purpose=_PURPOSE)


def _pair_secret(key: ExchangeKey, other: bytes, member: str, peer: str, roster: Roster) -> bytes:
    first, second = sorted((member, peer))
    names = (first.encode("utf-8"), second.encode("utf-8"))
    info = framed(b"tacit/pair-secret/v1", roster.digest, *names)
    kdf = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=roster.run, info=info)
    return kdf.derive(key.agree(other))


def _mask_key(secret: bytes, context: bytes) -> bytes:
    """Derive the key of one sum's mask: other context, other mask."""
    mac = HMAC(secret, hashes.SHA256())
    mac.update(framed(b"mask", context))
    return mac.finalize()
