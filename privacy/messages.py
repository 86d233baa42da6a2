"""The words that coordinator and node exchange; their order is told in `aggregator.coordinator`.

A message is small and typed; a payload of many numbers travels beside it as bytes, so that a
courier may cut it into chunks. Decoding re-encodes and compares, so one meaning has one encoding.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from privacy.errors import ProtocolError
from privacy.suites import SUITES
from privacy.suites.voice import signature_bytes

MAX_MESSAGE_BYTES: Final = 4 * 2**20
SEALED_BEFORE: Final = "This sum was already sealed; it is not made again."
"""What a node says that lost its vector of a sum: no waiting brings it back."""
Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
RunSignature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=4096)]
"""`Voice.sign`: by the identity, and by the run's suite beside it; as long as the suite says."""
Cosignature = Annotated[bytes, msgspec.Meta(min_length=72, max_length=72)]
"""Eight bytes of time and an Ed25519 signature (C2SP cosignature/v1)."""
_LENGTHS: Final = frozenset(signature_bytes(suite) for suite in SUITES.values())
Path = Annotated[tuple[Digest, ...], msgspec.Meta(max_length=63)]


NoKey = Annotated[bytes, msgspec.Meta(max_length=32)]
NoSignature = Annotated[bytes, msgspec.Meta(max_length=64)]


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="invite"):
    """Coordinator to node: the manifest, as the launcher signed it. Answer: `Joined` or `Pending`.

    Attributes:
        manifest: Its canonical bytes.
        signature: The launcher's.
        launcher: The launcher's public key; empty for the one launcher that a node is pinned to.
        countersigner: Which member signed the manifest too; empty where nobody did.
        countersignature: That member's.
    """

    manifest: bytes
    signature: Signature
    launcher: NoKey = b""
    countersigner: str = ""
    countersignature: NoSignature = b""


class CountersignRequest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="countersign"
):
    """Coordinator to node, before anybody joins: sign this manifest too.

    Answer: `Countersigned` or `Pending`.
    """

    manifest: bytes
    signature: Signature
    launcher: NoKey = b""


class RosterNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="roster"):
    """Coordinator to node: every member's signed key offer.

    Answer: `KeyMade` of the one whose turn it is to make the group key, `Ready` of the others.
    """

    run: Digest
    offers: tuple[bytes, ...]


class KeyNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="key"):
    """Coordinator to node: the group key, sealed to this node. Answer: `KeyHeld`."""

    run: Digest
    fingerprint: Digest
    public: bytes
    carrier: bytes
    secret: bytes
    signature: RunSignature


class PairRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pair"):
    """Coordinator to node, where the suite needs it: seal a secret to each neighbour after you.

    Answer: `PairsMade`.
    """

    run: Digest


class SealedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that only one member can open; signed by its maker."""

    secret: bytes
    signature: RunSignature


class PairNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pairs"):
    """Coordinator to node: the secrets that neighbours sealed to it, by sender. Answer: `Ready`."""

    run: Digest
    keys: dict[str, SealedKey]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every request for something new carries.

    Attributes:
        run: Which run.
        accepted: Member -> its signature under the history that it holds. A node goes on only
            with those who accepted the same sums.
    """

    run: Digest
    accepted: dict[str, RunSignature]


class StatisticsRequest(Asked, frozen=True, forbid_unknown_fields=True, tag="statistics"):
    """Seal stage `stage` of the feature statistics. Answer: `Sealed`."""

    stage: Natural


class InitialModelRequest(Asked, frozen=True, forbid_unknown_fields=True, tag="initial"):
    """Make the initial model of the statistics and the run's seed. Answer: `InitialModel`."""


class TrainRequest(Asked, frozen=True, forbid_unknown_fields=True, tag="train"):
    """Train from the common model and seal the weighted change. Answer: `Sealed`."""

    round: Natural


class EvaluateRequest(Asked, frozen=True, forbid_unknown_fields=True, tag="evaluate"):
    """Seal the common model's tally on `part` (watch, test or personal). Answer: `Sealed`."""

    round: Natural
    part: str


class SignedState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The coordinator's ledger as it is now, and that it only grew since a node last cosigned it.

    Attributes:
        checkpoint: Signed by the ledger's key (C2SP tlog-checkpoint).
        old: Entries when this node cosigned it last.
        growth: The consistency proof from there (RFC 9162, section 2.1.4).
    """

    checkpoint: bytes
    old: Natural
    growth: Path


class ShownRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `key.rotated` of the coordinator's ledger.

    Attributes:
        leaf: The entry.
        index: Its place.
        path: The proof that it is in the state beside it (RFC 9162, section 2.1.3).
    """

    leaf: bytes
    index: Natural
    path: Path


class RecordedSum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """That a sum is in the coordinator's ledger, with what it costs, before anything of it is told.

    Attributes:
        leaf: The entry.
        index: Its place.
        path: The proof that it is in the ledger's state (RFC 9162, section 2.1.3).
        state: That state.
    """

    leaf: bytes
    index: Natural
    path: Path
    state: SignedState


class SurvivorsNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="survivors"):
    """Coordinator to node: whose vectors of a sum arrived, and its record. Answer: `Voted`."""

    run: Digest
    context: Digest
    survivors: tuple[str, ...]
    record: RecordedSum


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="release"):
    """Coordinator to node: who signed the survivors, some of whom are gone. Answer: `Released`."""

    run: Digest
    context: Digest
    survivors: tuple[str, ...]
    votes: dict[str, RunSignature]


class RevealRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="reveal"):
    """Coordinator to node: who signed the survivors and the ledger that has the sum on record.

    With it comes what the survivors sealed to this node. Answer: `Revealed`.
    """

    run: Digest
    context: Digest
    survivors: tuple[str, ...]
    votes: dict[str, RunSignature]
    cosignatures: dict[str, Cosignature]
    boxes: dict[str, bytes]


class SumPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of a step's sums: over all members, or over one group of them.

    Attributes:
        survivors: Whose vectors are in it; none where the group's sum was given up.
        votes: Survivor -> its signature under them.
        length: Bytes of its payload.
    """

    survivors: tuple[str, ...]
    votes: dict[str, RunSignature]
    length: Natural


class SumNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="sum"):
    """Coordinator to node: a step's sums; their payloads are beside it. Answer: `Accepted`."""

    run: Digest
    step: str
    round: Natural
    parts: tuple[SumPart, ...]


class FinishNotice(Asked, frozen=True, forbid_unknown_fields=True, tag="finish"):
    """The run is over. Answer: `Ready`."""


class StopNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="stop"):
    """Coordinator to node: the run was stopped for good; its keys may be forgotten.

    Answer: `Ready`.
    """

    run: Digest


class StateNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="state"):
    """Coordinator to node, in no run: the ledger as it is now. Answer: `Cosigned`.

    Attributes:
        origin: Which ledger.
        state: As it is now, signed by the key that it has now.
        rotations: All changes of its key, in order; a node that knows an earlier key follows on.
    """

    origin: str
    state: SignedState
    rotations: tuple[ShownRotation, ...] = ()


class Joined(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="joined"):
    """Node to coordinator: agreed; the signed key for this run's masks.

    Attributes:
        member: Who.
        offer: The key.
        consent: Signature under the run's digest, for the ledger.
    """

    member: str
    offer: bytes
    consent: Signature


class Countersigned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="countersigned"):
    """Node to coordinator: signed too, under `COUNTERSIGN_DOMAIN` and the run's digest."""

    member: str
    signature: Signature


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pending"):
    """Node to coordinator: neither yes nor no yet: a person decides, or the hour is wrong.

    The coordinator asks again with the very same request.
    """

    member: str
    reason: str


class KeyMade(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="key-made"):
    """Node to coordinator: the group key for each other member, and its public part."""

    member: str
    fingerprint: Digest
    public: bytes
    carrier: bytes
    keys: dict[str, SealedKey]


class KeyHeld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="key-held"):
    """Node to coordinator: this is the fingerprint of the group key that this node opened."""

    member: str
    fingerprint: Digest


class PairsMade(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pairs-made"):
    """Node to coordinator: a pair's secret for each neighbour after this one, by receiver."""

    member: str
    keys: dict[str, SealedKey]


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ready"):
    """Node to coordinator: done, nothing to say."""

    member: str


class Cosigned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="cosigned"):
    """Node to coordinator: what it remembers of the ledger.

    Attributes:
        member: Who.
        witnessed: Entries when it cosigned the ledger last, this time included.
        cosignature: Under the state that was shown; None where the proof was from another size, or
            where it was shown a new key of a ledger that it does not follow.
    """

    member: str
    witnessed: Natural
    cosignature: Cosignature | None


class InitialModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="model"):
    """Node to coordinator: the hash of the model that this node starts from; never the model."""

    member: str
    architecture: Digest
    digest: Digest
    length: Natural


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="sealed"):
    """Node to coordinator: a `SealedVector`'s header; its payload is beside it.

    Attributes:
        member: Who.
        header: As `SealedVector.header` wrote it.
        schema: Hash of how the vector is written.
        model: Hash of the model that it was made from.
        length: Values in it.
        leaves: Entries of the node's own ledger, which has this release.
        root: Their root.
        signature: `Voice.sign`, over both and the sum's context.
        witnessed: Entries of the coordinator's ledger when this node cosigned it last.
    """

    member: str
    header: bytes
    schema: Digest
    model: Digest
    length: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    leaves: Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
    root: Digest
    signature: RunSignature
    witnessed: Natural


class Voted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="voted"):
    """Node to coordinator: a `Vote`, and the cosignature under the ledger that has the sum."""

    member: str
    signature: RunSignature
    cosignature: Cosignature


class Released(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="released"):
    """Node to coordinator: a `Release`."""

    member: str
    seeds: dict[str, Digest]
    signature: RunSignature


class Revealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="revealed"):
    """Node to coordinator: an `Answer`."""

    member: str
    shares: dict[str, bytes]
    signature: RunSignature


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="accepted"):
    """Node to coordinator: the sums hold, and this is what follows from them.

    Attributes:
        member: Who.
        history: `extend_history` after this step.
        model: Hash of the common model that the node holds now; zeros before there is one.
        kept: False where the node went back to an earlier model.
        signature: `Voice.sign`, over the history.
    """

    member: str
    history: Digest
    model: Digest
    kept: bool
    signature: RunSignature


class Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="refused"):
    """Node to coordinator: no, with one sentence why. The sentence holds no value of any row."""

    member: str
    reason: str


SumRequest = StatisticsRequest | TrainRequest | EvaluateRequest
Request = (
    Invite
    | CountersignRequest
    | RosterNotice
    | KeyNotice
    | PairRequest
    | PairNotice
    | StatisticsRequest
    | InitialModelRequest
    | TrainRequest
    | EvaluateRequest
    | SurvivorsNotice
    | ReleaseRequest
    | RevealRequest
    | SumNotice
    | FinishNotice
    | StopNotice
    | StateNotice
)
Reply = (
    Joined
    | Countersigned
    | Pending
    | KeyMade
    | KeyHeld
    | PairsMade
    | Ready
    | Cosigned
    | InitialModel
    | Sealed
    | Voted
    | Released
    | Revealed
    | Accepted
    | Refused
)
AnyMessage = TypeVar("AnyMessage")
_REQUESTS: "msgspec.msgpack.Decoder[Request]" = msgspec.msgpack.Decoder(Request)
_REPLIES: "msgspec.msgpack.Decoder[Reply]" = msgspec.msgpack.Decoder(Reply)
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message and its payload as a courier carries them.

    Attributes:
        message: The encoded message.
        payload: Empty where there is none.
    """

    message: bytes
    payload: bytes = field(default=b"", repr=False)


def pack(message: Request | Reply, payload: bytes = b"") -> Parcel:
    """One message and what travels beside it."""
    return Parcel(_ENCODER.encode(message), payload)


def unpack_request(parcel: Parcel) -> tuple[Request, bytes]:
    """Read a coordinator's message.

    Raises:
        ProtocolError: Not the canonical encoding of a known request.
    """
    return _decode(parcel.message, _REQUESTS), parcel.payload


def unpack_reply(parcel: Parcel) -> tuple[Reply, bytes]:
    """Read a node's message.

    Raises:
        ProtocolError: Not the canonical encoding of a known reply.
    """
    return _decode(parcel.message, _REPLIES), parcel.payload


def _decode(data: bytes, decoder: "msgspec.msgpack.Decoder[AnyMessage]") -> AnyMessage:
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("A message is larger than any of ours may be.")
    try:
        message = decoder.decode(data)
    # bad UTF-8 surfaces as ValueError, outside msgspec's own errors
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProtocolError("A message cannot be read; update tacit on both sides.") from None
    if _ENCODER.encode(message) != data:
        raise ProtocolError("A message is not in its one canonical encoding.")
    if not _LENGTHS.issuperset(map(len, _signatures_in(message))):
        raise ProtocolError("A signature in a message has the length of no suite's.")
    return message


def _signatures_in(message: object) -> Iterator[bytes]:
    """Whatever a message holds of type `RunSignature`, and other signatures beside it."""
    yield from getattr(message, "accepted", {}).values() if isinstance(message, Asked) else ()
    for holder in (message, *getattr(message, "parts", ())):
        yield from getattr(holder, "votes", {}).values()
    for holder in (message, *getattr(message, "keys", {}).values()):
        if isinstance(signature := getattr(holder, "signature", None), bytes):
            yield signature


def vector_digest(vector: NDArray[np.float32] | NDArray[np.float64]) -> bytes:
    """SHA-256 over a vector's type and little-endian bytes, domain-separated."""
    little = np.ascontiguousarray(vector, dtype=vector.dtype.newbyteorder("<"))
    head = b"tacit/vector/v1\0" + little.dtype.str.encode("ascii") + b"\0"
    return hashlib.sha256(head + little.tobytes()).digest()
