"""Whatever arrives is the one encoding of a message, or it is refused by a `ProtocolError`."""

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy import messages
from privacy.errors import ProtocolError
from privacy.messages import (
    MAX_MESSAGE_BYTES,
    VECTOR_TYPES,
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    Invite,
    Joined,
    Parcel,
    Ready,
    Refused,
    Reply,
    Request,
    RosterNotice,
    Sealed,
    StatisticsRequest,
    TrainRequest,
    Vector,
    pack,
    unpack_reply,
    unpack_request,
    vector_digest,
)

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
TEXTS = st.text(max_size=20)
BYTES = st.binary(max_size=40)
NUMBERS = st.integers(0, 2**40)
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(Invite, manifest=BYTES, signature=BYTES),
    st.builds(RosterNotice, run=BYTES, offers=st.lists(BYTES, max_size=4).map(tuple)),
    st.builds(StatisticsRequest, run=BYTES, stage=NUMBERS),
    st.builds(InitialModelRequest, run=BYTES, send=st.booleans()),
    st.builds(TrainRequest, run=BYTES, round=NUMBERS),
    st.builds(EvaluateRequest, run=BYTES, round=NUMBERS, part=TEXTS),
    st.builds(FinishNotice, run=BYTES),
)
REPLIES: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Joined, member=TEXTS, offer=BYTES),
    st.builds(Ready, member=TEXTS),
    st.builds(InitialModel, member=TEXTS, architecture=BYTES, digest=BYTES, length=NUMBERS),
    st.builds(Sealed, member=TEXTS, header=BYTES, length=st.integers(1, 2**40)),
    st.builds(Refused, member=TEXTS, reason=TEXTS),
)
ONE_OF_EACH: tuple[Request | Reply, ...] = (
    Invite(manifest=b"m", signature=b"s"),
    RosterNotice(run=b"r", offers=(b"o", b"p")),
    StatisticsRequest(run=b"r", stage=1),
    InitialModelRequest(run=b"r", send=True),
    TrainRequest(run=b"r", round=3),
    EvaluateRequest(run=b"r", round=3, part="test"),
    FinishNotice(run=b"r"),
    Joined(member="bank", offer=b"o"),
    Ready(member="bank"),
    InitialModel(member="bank", architecture=b"a", digest=b"d", length=9),
    Sealed(member="bank", header=b"h", length=9),
    Refused(member="bank", reason="No."),
)
WRONG: tuple[object, ...] = (None, 7.5, [1], {}, {"a": 1}, "text", b"bytes", -1.5, True, 2**63)


def read(data: bytes) -> Request | Reply:
    """Read as whichever side would take it."""
    try:
        return unpack_request(Parcel(data))[0]
    except ProtocolError:
        return unpack_reply(Parcel(data))[0]


def assert_refused_or_canonical(data: bytes) -> None:
    try:
        message = read(data)
    except ProtocolError:
        return
    assert pack(message, None).message == data


@UNHURRIED
@given(REQUESTS)
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    parcel = pack(request, None)
    assert unpack_request(parcel) == (request, None)
    with pytest.raises(ProtocolError):
        unpack_reply(parcel)


@UNHURRIED
@given(REPLIES)
def test_a_reply_comes_back_as_it_was(reply: Reply) -> None:
    parcel = pack(reply, None)
    assert unpack_reply(parcel) == (reply, None)
    with pytest.raises(ProtocolError):
        unpack_request(parcel)


def test_there_is_one_of_each() -> None:
    known = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }
    assert {type(message) for message in ONE_OF_EACH} == known - {msgspec.Struct}


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_every_cut_and_every_addition_is_refused(message: Request | Reply) -> None:
    data = pack(message, None).message
    assert read(data) == message
    for length in range(len(data)):
        with pytest.raises(ProtocolError):
            read(data[:length])
    for more in (b"\0", b"\xc0", data):
        with pytest.raises(ProtocolError):
            read(data + more)


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_every_flipped_bit_is_refused_or_says_something_else(message: Request | Reply) -> None:
    data = pack(message, None).message
    refused = 0
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            other = read(bytes(changed))
        except ProtocolError:
            refused += 1
            continue
        assert other != message
        assert pack(other, None).message == changed
    assert refused > 4 * len(data)  # most bits are of keys, types and lengths


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_missing_unknown_and_wrong_fields_are_refused(message: Request | Reply) -> None:
    fields = {"type": message.__struct_config__.tag, **msgspec.structs.asdict(message)}
    assert msgspec.msgpack.encode(fields) == pack(message, None).message
    changed: list[dict[str, object]] = [{**fields, "more": 1}, {**fields, "type": "other"}]
    for name, value in fields.items():
        changed.append({key: item for key, item in fields.items() if key != name})
        changed += [{**fields, name: wrong} for wrong in WRONG if type(wrong) is not type(value)]
    for wrong_fields in changed:
        with pytest.raises(ProtocolError):
            read(msgspec.msgpack.encode(wrong_fields))
    backwards = dict(reversed(fields.items()))
    with pytest.raises(ProtocolError):
        read(msgspec.msgpack.encode(backwards))


@UNHURRIED
@given(st.binary(max_size=200))
@example(b"")
@example(b"\x91" * 5000)
@example(b"\x81\xa4type\xa5\xff\xfe\xfd\xfc\xfb")
def test_no_bytes_do_anything_but_mean_or_be_refused(data: bytes) -> None:
    assert_refused_or_canonical(data)


@UNHURRIED
@given(st.recursive(st.none() | st.booleans() | NUMBERS | TEXTS | BYTES, st.lists, max_leaves=8))
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ProtocolError):
        read(msgspec.msgpack.encode(value))


def test_a_message_of_unbounded_size_is_refused_before_it_is_read() -> None:
    largest = Joined(member="bank", offer=bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(ProtocolError, match="larger"):
        unpack_reply(pack(largest, None))


def vector_of(values: list[float], kind: str) -> Vector:
    vector: Vector = np.array(values).astype(kind)
    return vector


@UNHURRIED
@given(st.lists(st.integers(0, 1000), max_size=20), st.sampled_from(VECTOR_TYPES))
def test_a_vector_travels_beside_its_message(values: list[float], kind: str) -> None:
    vector = vector_of(values, kind)
    foreign = vector_of(values, kind.replace("<", ">"))
    strided = vector_of([value for value in values for _ in range(2)], kind)[::2]
    for same in (vector, foreign, strided):
        parcel = pack(Ready(member="bank"), same)
        message, back = unpack_reply(parcel)
        assert message == Ready(member="bank")
        assert back is not None
        assert back.dtype == np.dtype(kind)
        np.testing.assert_array_equal(back, vector)
        assert vector_digest(same) == vector_digest(vector)


def test_an_empty_vector_is_not_the_same_as_none() -> None:
    message = pack(Ready(member="bank"), None)
    assert unpack_reply(message)[1] is None
    empty = unpack_reply(pack(Ready(member="bank"), np.zeros(0)))[1]
    assert empty is not None
    assert empty.shape == (0,)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("<f4", b"12345"),
        ("<f8", b"1234"),
        ("<u8", b"123456789"),
        (">f8", bytes(8)),
        ("<f2", bytes(8)),
        ("<i8", bytes(8)),
        ("|O", bytes(8)),
        ("<U2", bytes(8)),
        ("f8", bytes(8)),
        ("V8", b""),
        ("", bytes(8)),
        ("<f8,<f8", bytes(16)),
        ("\u0660", bytes(8)),
    ],
)
def test_a_vector_of_another_type_is_refused(kind: str, data: bytes) -> None:
    ready = pack(Ready(member="bank"), None).message
    train = pack(TrainRequest(run=b"r", round=1), None).message
    with pytest.raises(ProtocolError, match="vector"):
        unpack_reply(Parcel(ready, kind, data))
    with pytest.raises(ProtocolError, match="vector"):
        unpack_request(Parcel(train, kind, data))


def test_a_digest_tells_values_and_types_apart() -> None:
    same = [0.0, 0.0]
    digests = {vector_digest(vector_of(same, kind)) for kind in VECTOR_TYPES}
    digests |= {vector_digest(np.zeros(4, np.float32)), vector_digest(np.array([0.0, -0.0]))}
    assert len(digests) == 5


def test_what_a_vector_holds_is_not_printed() -> None:
    parcel = pack(Ready(member="bank"), np.frombuffer(b"secret!!", "<u8"))
    assert "secret" not in repr(parcel)
