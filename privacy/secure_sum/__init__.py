"""Sums that nobody reads apart: what travels between a member and whoever adds up.

    member         Sealer.seal      -> SealedVector   one upload
                   Sealer.vote      -> Vote           who the sum is over, signed
                   Sealer.release   -> Release        the masks with those it is not over
                   Sealer.reveal    -> Answer         what takes the survivors' own masks away
    coordinator    Gathering        collects them, and gives the sum's payload
    member         Sealer.open      -> Words          the sum, modulo 2^64

What crosses this seam raises two kinds of errors and no others:

    CohortError     too few members, or too late; the missing ones are named
    ProtocolError   a message is malformed, from an unknown member, repeated, forged, of another
                    sum, or asks for more than a member tells
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import msgspec

from privacy.errors import ProtocolError
from privacy.suites import SUITES
from privacy.suites.voice import signature_bytes
from privacy.sum_context import DIGEST_BYTES

__all__ = [
    "DIGEST_BYTES",
    "MEMBER_CHARACTERS_MAX",
    "PAYLOAD_BYTES_MAX",
    "Answer",
    "Release",
    "SealedVector",
    "Vote",
    "require_member_name",
]

MEMBER_CHARACTERS_MAX = 64
PAYLOAD_BYTES_MAX = 1 << 30
# A thousand neighbours with a box and a commitment each.
HEADER_BYTES_MAX = 1 << 18
BOX_BYTES_MAX = 64
_SIGNATURES = {signature_bytes(suite) for suite in SUITES.values()}
_FORM = 2
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def require_member_name(name: str) -> None:
    """Return if `name` can name a member: 1 to 64 printable characters.

    Raises:
        ProtocolError: it cannot.
    """
    if not 0 < len(name) <= MEMBER_CHARACTERS_MAX or not name.isprintable():
        raise ProtocolError(
            f"a member's name has 1 to {MEMBER_CHARACTERS_MAX} printable characters; rename it"
        )


class _Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    form: int
    sender: str
    context: bytes
    boxes: dict[str, bytes]
    commitments: tuple[bytes, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class SealedVector:
    """One member's hidden vector, signed.

    Attributes:
        sender: The member.
        context: `SumContext.digest()` of the one sum it is for.
        payload: What the carrier made of the vector; never printed, never logged.
        boxes: Neighbour -> its share of the sender's own mask, readable by that neighbour alone.
        commitments: Hash of the own mask's seed, then of each holder's share in their order; none
            where the scheme has no masks.
        signature: By the sender's identity, over all of the above.
    """

    sender: str
    context: bytes
    payload: bytes = field(repr=False)
    boxes: Mapping[str, bytes] = field(repr=False)
    commitments: tuple[bytes, ...] = field(repr=False)
    signature: bytes

    def header(self) -> bytes:
        """Return everything but the payload, in its only encoding (MessagePack)."""
        return msgspec.msgpack.encode(
            _Header(
                _FORM,
                self.sender,
                self.context,
                dict(sorted(self.boxes.items())),
                self.commitments,
                self.signature,
            )
        )

    @staticmethod
    def from_wire(header: bytes, payload: bytes) -> "SealedVector":
        """Read what `header()` and the payload became on the wire. The signature is not checked.

        Raises:
            ProtocolError: anything but the one encoding that `header()` writes, or a payload of
                no acceptable size.
        """
        parsed = read_form(header, _Header, what="a sealed vector's header", most=HEADER_BYTES_MAX)
        if parsed.form != _FORM:
            raise ProtocolError(f"a sealed vector is of form {parsed.form}; update this program")
        require_member_name(parsed.sender)
        if (
            len(parsed.context) != DIGEST_BYTES
            or len(parsed.signature) not in _SIGNATURES
            or any(len(digest) != DIGEST_BYTES for digest in parsed.commitments)
            or any(not 0 < len(box) <= BOX_BYTES_MAX for box in parsed.boxes.values())
        ):
            raise ProtocolError(f"a field of {parsed.sender}'s header has a wrong length")
        if list(parsed.boxes) != sorted(parsed.boxes):
            raise ProtocolError("a sealed vector's header is not in its one form; seal it again")
        if not 0 < len(payload) <= PAYLOAD_BYTES_MAX:
            raise ProtocolError(f"{parsed.sender}'s payload is empty or too long; seal it again")
        return SealedVector(
            parsed.sender,
            parsed.context,
            payload,
            MappingProxyType(parsed.boxes),
            parsed.commitments,
            parsed.signature,
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """A member's word on whom one sum is over.

    Attributes:
        member: Who votes.
        signature: By its identity, over `survivors_message(context, survivors)`.
    """

    member: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Release:
    """The masks of one sum that a survivor has with those who are none.

    Attributes:
        member: Who releases.
        seeds: Neighbour outside the survivors -> the key of this one sum's mask with it.
        signature: By its identity, over context, survivors and seeds.
    """

    member: str
    seeds: Mapping[str, bytes] = field(repr=False)
    signature: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A survivor's shares of the survivors' own masks of one sum.

    Attributes:
        member: Who answers.
        shares: Survivor -> this member's share of its own mask's seed.
        signature: By its identity, over context, survivors and shares.
    """

    member: str
    shares: Mapping[str, bytes] = field(repr=False)
    signature: bytes


def read_form(data: bytes, form: type[_Struct], *, what: str, most: int) -> _Struct:
    """Read the only encoding of a struct.

    Raises:
        ProtocolError: `data` is longer than `most` bytes, or anything but that encoding.
    """
    if len(data) > most:
        raise ProtocolError(f"{what} exceeds {most} bytes; ask its sender again")
    try:
        parsed = msgspec.msgpack.decode(data, type=form)
        again = msgspec.msgpack.encode(parsed)
    # bad UTF-8 surfaces as ValueError, outside msgspec's own errors
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProtocolError(f"{what} is malformed; ask its sender again") from None
    if again != data:
        raise ProtocolError(f"{what} is not in its one form; ask its sender again")
    return parsed
