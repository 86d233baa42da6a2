"""The words that coordinator and node exchange; their order is told in `aggregator.coordinator`.

A message is small and typed; numbers travel beside it as one flat vector, so that a courier may
cut it into chunks. Decoding re-encodes and compares, so one meaning has one encoding.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from privacy.errors import ProtocolError

VECTOR_TYPES: Final = ("<f4", "<f8", "<u8")
MAX_MESSAGE_BYTES: Final = 4 * 2**20


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="invite"):
    """Coordinator to node: the manifest, as the launcher signed it. Answer: `Joined`."""

    manifest: bytes
    signature: bytes


class RosterNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="roster"):
    """Coordinator to node: every member's signed key offer. Answer: `Ready`."""

    run: bytes
    offers: tuple[bytes, ...]


class StatisticsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="statistics"):
    """Seal stage `stage` of the feature statistics; the vector is the sum opened before it."""

    run: bytes
    stage: int


class InitialModelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="initial"):
    """The vector is the last opened statistics. Answer: `InitialModel`, the vector if asked for."""

    run: bytes
    send: bool


class TrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="train"):
    """Train from the model in the vector and seal the weighted change."""

    run: bytes
    round: int


class EvaluateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="evaluate"):
    """Seal the tally of the model in the vector on `part`: `watch`, `test`, `personal`."""

    run: bytes
    round: int
    part: str


class FinishNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="finish"):
    """The vector is the final model. Answer: `Ready`."""

    run: bytes


class Joined(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="joined"):
    """Node to coordinator: agreed; the signed key for this run's masks."""

    member: str
    offer: bytes


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ready"):
    """Node to coordinator: done, nothing to say."""

    member: str


class InitialModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="model"):
    """Node to coordinator: what model all start from."""

    member: str
    architecture: bytes
    digest: bytes
    length: int


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="sealed"):
    """Node to coordinator: a `SealedVector`'s header; its payload is the vector."""

    member: str
    header: bytes
    length: Annotated[int, msgspec.Meta(ge=1)]


class Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="refused"):
    """Node to coordinator: no, with one sentence why. The sentence holds no value of any row."""

    member: str
    reason: str


Request = (
    Invite
    | RosterNotice
    | StatisticsRequest
    | InitialModelRequest
    | TrainRequest
    | EvaluateRequest
    | FinishNotice
)
Reply = Joined | Ready | InitialModel | Sealed | Refused
Vector = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.uint64]
AnyMessage = TypeVar("AnyMessage")
_REQUESTS: "msgspec.msgpack.Decoder[Request]" = msgspec.msgpack.Decoder(Request)
_REPLIES: "msgspec.msgpack.Decoder[Reply]" = msgspec.msgpack.Decoder(Reply)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message and its vector as a courier carries them.

    Attributes:
        message: The encoded message.
        dtype: Of the vector, one of `VECTOR_TYPES`; empty where there is none.
        data: The vector's little-endian bytes; empty where there is none.
    """

    message: bytes
    dtype: str = ""
    data: bytes = field(default=b"", repr=False)


def pack(message: Request | Reply, vector: Vector | None) -> Parcel:
    """One message and what travels beside it."""
    encoded = msgspec.msgpack.encode(message)
    if vector is None:
        return Parcel(encoded)
    little = np.ascontiguousarray(vector, dtype=vector.dtype.newbyteorder("<"))
    return Parcel(encoded, little.dtype.str, little.tobytes())


def unpack_request(parcel: Parcel) -> tuple[Request, Vector | None]:
    """Read a coordinator's message.

    Raises:
        ProtocolError: Not the canonical encoding of a known request, or no usable vector.
    """
    return _decode(parcel.message, _REQUESTS), _vector(parcel)


def unpack_reply(parcel: Parcel) -> tuple[Reply, Vector | None]:
    """Read a node's message.

    Raises:
        ProtocolError: Not the canonical encoding of a known reply, or no usable vector.
    """
    return _decode(parcel.message, _REPLIES), _vector(parcel)


def _vector(parcel: Parcel) -> Vector | None:
    if not parcel.dtype and not parcel.data:
        return None
    if parcel.dtype not in VECTOR_TYPES or len(parcel.data) % int(parcel.dtype[-1]):
        raise ProtocolError("A vector is of no type that our messages carry.")
    return np.frombuffer(parcel.data, dtype=parcel.dtype)


def _decode(data: bytes, decoder: "msgspec.msgpack.Decoder[AnyMessage]") -> AnyMessage:
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("A message is larger than any of ours may be.")
    try:
        message = decoder.decode(data)
    # bad UTF-8 surfaces as ValueError, outside msgspec's own errors
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProtocolError("A message cannot be read; update tacit on both sides.") from None
    if msgspec.msgpack.encode(message) != data:
        raise ProtocolError("A message is not in its one canonical encoding.")
    return message


def vector_digest(vector: Vector) -> bytes:
    """SHA-256 over a vector's type and little-endian bytes, domain-separated."""
    little = np.ascontiguousarray(vector, dtype=vector.dtype.newbyteorder("<"))
    head = b"tacit/vector/v1\0" + little.dtype.str.encode("ascii") + b"\0"
    return hashlib.sha256(head + little.tobytes()).digest()
