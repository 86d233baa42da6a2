"""The seam of secure sums: what a node and a coordinator can do, whatever hides the vectors.

    node            Sealer.seal(words, context=...)          -> SealedVector
    coordinator     Opener.open_sum(sealed, context=...)     -> Words, the sum modulo 2^64

Both sides hold the same `Roster` (`privacy.secure_sum.keys`), and a sum is over exactly its
members. What crosses this seam raises two kinds of errors and no others:

    CohortError     too few members, or not the whole roster; the missing ones are named
    ProtocolError   a message is malformed, from an unknown member, repeated, forged, of another
                    context or of another length
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.identity import SIGNATURE_BYTES
from privacy.keystream import WORD_BYTES, Words

__all__ = [
    "DIGEST_BYTES",
    "MEMBER_CHARACTERS_MAX",
    "PAYLOAD_BYTES_MAX",
    "Opener",
    "SealedVector",
    "Sealer",
    "SumContext",
    "UnmaskAnswer",
    "Words",
    "require_member_name",
]

DIGEST_BYTES = 32
HEADER_BYTES_MAX = 1024
MEMBER_CHARACTERS_MAX = 64
PAYLOAD_BYTES_MAX = 1 << 30
_NAME_BYTES_MAX = 64
_ROUND_MAX = 2**63 - 1
_FORM = 1


def require_member_name(name: str) -> None:
    """Return if `name` can name a member: 1 to 64 printable characters.

    Raises:
        ProtocolError: it cannot.
    """
    if not 0 < len(name) <= MEMBER_CHARACTERS_MAX or not name.isprintable():
        raise ProtocolError(
            f"a member's name has 1 to {MEMBER_CHARACTERS_MAX} printable characters; rename it"
        )


@dataclass(frozen=True, slots=True)
class SumContext:
    """Which sum this is. Two sums that differ in anything here share no mask and no signature.

    Attributes:
        run: The run's id, 1 to 64 bytes.
        step: What is summed in this round ("update", "evaluate", ..), 1 to 64 ASCII characters.
        round: >= 0; 0 is what comes before the first round.
        schema: Hash of how vectors are written (`FixedPoint.schema`), 32 bytes.
        model: Hash of the model that this round starts from, 32 bytes; before there is one, the
            hash of what stands in its place.
        roster: `Roster.digest`, 32 bytes.
    """

    run: bytes
    step: str
    round: int
    schema: bytes
    model: bytes
    roster: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.run) <= _NAME_BYTES_MAX:
            raise ValueError(f"a run's id has 1 to {_NAME_BYTES_MAX} bytes, not {len(self.run)}")
        if not 0 < len(self.step) <= _NAME_BYTES_MAX or not self.step.isascii():
            raise ValueError(f"a step has 1 to {_NAME_BYTES_MAX} ASCII characters: {self.step!r}")
        if not 0 <= self.round <= _ROUND_MAX:
            raise ValueError(f"need 0 <= round < 2^63, not {self.round}")
        for name in ("schema", "model", "roster"):
            if len(getattr(self, name)) != DIGEST_BYTES:
                raise ValueError(f"{name} is a hash of {DIGEST_BYTES} bytes")

    def digest(self) -> bytes:
        """Return 32 bytes; different contexts have different ones (SHA-256, injective input)."""
        parts = (
            b"tacit/sum-context/v1",
            self.run,
            self.step.encode("ascii"),
            self.round.to_bytes(8, "big"),
            self.schema,
            self.model,
            self.roster,
        )
        return hashlib.sha256(framed(*parts)).digest()


class _Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    form: int
    sender: str
    context: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SealedVector:
    """One member's hidden vector, signed.

    Attributes:
        sender: The member.
        context: `SumContext.digest()` of the one sum it is for.
        payload: The words, little-endian; never printed, never logged.
        signature: By the sender's identity, over context, sender and the payload's hash.
    """

    sender: str
    context: bytes
    payload: bytes = field(repr=False)
    signature: bytes

    def header(self) -> bytes:
        """Return everything but the payload, in its only encoding (MessagePack)."""
        return msgspec.msgpack.encode(_Header(_FORM, self.sender, self.context, self.signature))

    @staticmethod
    def from_wire(header: bytes, payload: bytes) -> "SealedVector":
        """Read what `header()` and the payload became on the wire. The signature is not checked.

        Raises:
            ProtocolError: anything but the one encoding that `header()` writes, or a payload that
                is no vector of words of an acceptable size.
        """
        if len(header) > HEADER_BYTES_MAX:
            raise ProtocolError(f"a sealed vector's header exceeds {HEADER_BYTES_MAX} bytes")
        try:
            parsed = msgspec.msgpack.decode(header, type=_Header)
            again = msgspec.msgpack.encode(parsed)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise ProtocolError("a sealed vector's header is malformed; seal it again") from None
        if parsed.form != _FORM:
            raise ProtocolError(f"a sealed vector is of form {parsed.form}; update this program")
        if again != header:
            raise ProtocolError("a sealed vector's header is not in its one form; seal it again")
        require_member_name(parsed.sender)
        if len(parsed.context) != DIGEST_BYTES or len(parsed.signature) != SIGNATURE_BYTES:
            raise ProtocolError(f"a field of {parsed.sender}'s header has a wrong length")
        if not 0 < len(payload) <= PAYLOAD_BYTES_MAX or len(payload) % WORD_BYTES:
            raise ProtocolError(f"{parsed.sender}'s payload is no vector of words below the limit")
        return SealedVector(parsed.sender, parsed.context, payload, parsed.signature)


@dataclass(frozen=True, slots=True)
class UnmaskAnswer:
    """What a survivor reveals so that a sum with dropped members can be opened.

    Its form is fixed now so that messages need not change; recovery of dropouts comes later. The
    masked opener of this form accepts none: a sum needs its whole roster.

    Attributes:
        sender: The surviving member.
        context: `SumContext.digest()`.
        shares: Member -> one share about it.
        signature: By the sender's identity, over all of the above.
    """

    sender: str
    context: bytes
    shares: Mapping[str, bytes] = field(repr=False)
    signature: bytes


class Sealer(Protocol):
    """A node's half. It belongs to one member, one run and one roster."""

    def seal(self, words: Words, *, context: SumContext) -> SealedVector:
        """Hide `words` so that only the sum over the whole roster can be opened.

        The same words for the same context give the same sealed vector again, for a reply that
        was lost.

        Raises:
            ProtocolError: the context is of another run or roster, or was already sealed with
                other words.
        """
        ...


class Opener(Protocol):
    """The coordinator's half. It holds no key to any single vector."""

    def open_sum(
        self,
        sealed: Iterable[SealedVector],
        *,
        context: SumContext,
        answers: Iterable[UnmaskAnswer] = (),
    ) -> Words:
        """Return the sum of the sealed vectors modulo 2^64, and nothing about any one of them.

        Raises:
            CohortError: a member of the roster is missing.
            ProtocolError: a vector is malformed, from an unknown member, repeated, forged, of
                another context or of another length.
        """
        ...
