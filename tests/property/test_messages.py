"""Whatever arrives is the one encoding of a message, or it is refused by a `ProtocolError`."""

import random
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy import messages
from privacy.errors import ProtocolError
from privacy.messages import (
    MAX_MESSAGE_BYTES,
    Accepted,
    Asked,
    Cosigned,
    Countersigned,
    CountersignRequest,
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    Invite,
    Joined,
    KeyHeld,
    KeyMade,
    KeyNotice,
    PairNotice,
    PairRequest,
    PairsMade,
    Parcel,
    Pending,
    Ready,
    RecordedSum,
    Refused,
    Released,
    ReleaseRequest,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    RosterNotice,
    Sealed,
    SealedKey,
    ShownRotation,
    SignedState,
    StateNotice,
    StatisticsRequest,
    StopNotice,
    SumNotice,
    SumPart,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    pack,
    unpack_reply,
    unpack_request,
    vector_digest,
)

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
TEXTS = st.text(max_size=20)
BYTES = st.binary(max_size=40)
NUMBERS = st.integers(0, 2**53 - 1)
DIGESTS = st.binary(min_size=32, max_size=32)
SIGNATURES = st.binary(min_size=64, max_size=64)
TABLES = st.dictionaries(TEXTS, BYTES, max_size=5)
COSIGNATURES = st.binary(min_size=72, max_size=72)
PATHS = st.lists(DIGESTS, max_size=4).map(tuple)
SIGNED = st.dictionaries(TEXTS, SIGNATURES, max_size=5)
SEEDS = st.dictionaries(TEXTS, DIGESTS, max_size=5)
NAMES = st.lists(TEXTS, max_size=5).map(tuple)
PARTS = st.builds(SumPart, survivors=NAMES, votes=SIGNED, length=NUMBERS)
STATES = st.builds(SignedState, checkpoint=BYTES, old=NUMBERS, growth=PATHS)
RECORDS = st.builds(RecordedSum, leaf=BYTES, index=NUMBERS, path=PATHS, state=STATES)
SEALED_KEYS = st.dictionaries(
    TEXTS, st.builds(SealedKey, secret=BYTES, signature=SIGNATURES), max_size=4
)
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(Invite, manifest=BYTES, signature=SIGNATURES),
    st.builds(RosterNotice, run=DIGESTS, offers=st.lists(BYTES, max_size=4).map(tuple)),
    st.builds(
        KeyNotice,
        run=DIGESTS,
        fingerprint=DIGESTS,
        public=BYTES,
        secret=BYTES,
        signature=SIGNATURES,
    ),
    st.builds(PairRequest, run=DIGESTS),
    st.builds(PairNotice, run=DIGESTS, keys=SEALED_KEYS),
    st.builds(StatisticsRequest, run=DIGESTS, accepted=SIGNED, stage=NUMBERS),
    st.builds(InitialModelRequest, run=DIGESTS, accepted=SIGNED),
    st.builds(TrainRequest, run=DIGESTS, accepted=SIGNED, round=NUMBERS),
    st.builds(EvaluateRequest, run=DIGESTS, accepted=SIGNED, round=NUMBERS, part=TEXTS),
    st.builds(SurvivorsNotice, run=DIGESTS, context=DIGESTS, survivors=NAMES, record=RECORDS),
    st.builds(ReleaseRequest, run=DIGESTS, context=DIGESTS, survivors=NAMES, votes=SIGNED),
    st.builds(
        RevealRequest,
        run=DIGESTS,
        context=DIGESTS,
        survivors=NAMES,
        votes=SIGNED,
        cosignatures=st.dictionaries(TEXTS, COSIGNATURES, max_size=5),
        boxes=TABLES,
    ),
    st.builds(
        SumNotice,
        run=DIGESTS,
        step=TEXTS,
        round=NUMBERS,
        parts=st.lists(PARTS, max_size=3).map(tuple),
    ),
    st.builds(FinishNotice, run=DIGESTS, accepted=SIGNED),
    st.builds(StateNotice, origin=TEXTS, state=STATES),
)
REPLIES: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Joined, member=TEXTS, offer=BYTES, consent=SIGNATURES),
    st.builds(
        KeyMade,
        member=TEXTS,
        fingerprint=DIGESTS,
        public=BYTES,
        keys=SEALED_KEYS,
    ),
    st.builds(KeyHeld, member=TEXTS, fingerprint=DIGESTS),
    st.builds(PairsMade, member=TEXTS, keys=SEALED_KEYS),
    st.builds(Ready, member=TEXTS),
    st.builds(Cosigned, member=TEXTS, witnessed=NUMBERS, cosignature=st.none() | COSIGNATURES),
    st.builds(InitialModel, member=TEXTS, architecture=DIGESTS, digest=DIGESTS, length=NUMBERS),
    st.builds(
        Sealed,
        member=TEXTS,
        header=BYTES,
        schema=DIGESTS,
        model=DIGESTS,
        length=st.integers(1, 2**53 - 1),
        leaves=st.integers(1, 2**53 - 1),
        root=DIGESTS,
        signature=SIGNATURES,
        witnessed=NUMBERS,
    ),
    st.builds(Voted, member=TEXTS, signature=SIGNATURES, cosignature=COSIGNATURES),
    st.builds(Released, member=TEXTS, seeds=SEEDS, signature=SIGNATURES),
    st.builds(Revealed, member=TEXTS, shares=TABLES, signature=SIGNATURES),
    st.builds(
        Accepted,
        member=TEXTS,
        history=DIGESTS,
        model=DIGESTS,
        kept=st.booleans(),
        signature=SIGNATURES,
    ),
    st.builds(Refused, member=TEXTS, reason=TEXTS),
)
RUN = b"r" * 32
SIGNATURE = b"s" * 64
ACCEPTED = {"bank": b"s" * 64, "mill": b"t" * 64}
COSIGNATURE = b"n" * 72
STATE = SignedState(checkpoint=b"k", old=5, growth=(b"g" * 32, b"h" * 32))
RECORD = RecordedSum(leaf=b"l", index=6, path=(b"i" * 32, b"j" * 32), state=STATE)
SEALED = Sealed(
    member="bank",
    header=b"h",
    schema=b"s" * 32,
    model=b"m" * 32,
    length=9,
    leaves=7,
    root=b"r" * 32,
    signature=SIGNATURE,
    witnessed=5,
)
ONE_OF_EACH: tuple[Request | Reply, ...] = (
    Invite(
        manifest=b"m",
        signature=SIGNATURE,
        launcher=b"l" * 32,
        countersigner="bank",
        countersignature=b"c" * 64,
    ),
    CountersignRequest(manifest=b"m", signature=SIGNATURE, launcher=b"l" * 32),
    RosterNotice(run=RUN, offers=(b"o", b"p")),
    KeyNotice(
        run=RUN, fingerprint=b"f" * 32, public=b"p", carrier=b"c", secret=b"x", signature=SIGNATURE
    ),
    PairRequest(run=RUN),
    PairNotice(
        run=RUN,
        keys={
            "insurer": SealedKey(secret=b"x", signature=b"s" * 128),
            "mill": SealedKey(secret=b"y", signature=b"t" * 128),
        },
    ),
    StatisticsRequest(run=RUN, accepted=ACCEPTED, stage=1),
    InitialModelRequest(run=RUN, accepted=ACCEPTED),
    TrainRequest(run=RUN, accepted=ACCEPTED, round=3),
    EvaluateRequest(run=RUN, accepted=ACCEPTED, round=3, part="test"),
    SurvivorsNotice(run=RUN, context=b"c" * 32, survivors=("bank", "mill"), record=RECORD),
    ReleaseRequest(
        run=RUN,
        context=b"c" * 32,
        survivors=("bank", "mill"),
        votes={"bank": b"v" * 64, "mill": b"w" * 64},
    ),
    RevealRequest(
        run=RUN,
        context=b"c" * 32,
        survivors=("bank", "mill"),
        votes={"bank": b"v" * 64, "mill": b"w" * 64},
        cosignatures={"bank": b"n" * 72, "mill": b"o" * 72},
        boxes={"bank": b"b", "mill": b"d"},
    ),
    SumNotice(
        run=RUN,
        step="update",
        round=3,
        parts=(
            SumPart(
                survivors=("bank", "mill"), votes={"bank": b"v" * 64, "mill": b"w" * 64}, length=9
            ),
            SumPart(survivors=(), votes={}, length=0),
        ),
    ),
    FinishNotice(run=RUN, accepted=ACCEPTED),
    StopNotice(run=RUN),
    StateNotice(
        origin="tacit/coordinator/0011",
        state=STATE,
        rotations=(ShownRotation(leaf=b"l", index=6, path=(b"i" * 32,)),),
    ),
    Joined(member="bank", offer=b"o", consent=SIGNATURE),
    Countersigned(member="bank", signature=SIGNATURE),
    Pending(member="bank", reason="Nobody has decided yet."),
    KeyMade(
        member="bank",
        fingerprint=b"f" * 32,
        public=b"p",
        carrier=b"c",
        keys={
            "insurer": SealedKey(secret=b"x", signature=SIGNATURE),
            "mill": SealedKey(secret=b"y", signature=b"t" * 64),
        },
    ),
    KeyHeld(member="bank", fingerprint=b"f" * 32),
    PairsMade(
        member="bank",
        keys={
            "insurer": SealedKey(secret=b"x", signature=SIGNATURE),
            "mill": SealedKey(secret=b"y", signature=b"t" * 2548),
        },
    ),
    Ready(member="bank"),
    Cosigned(member="bank", witnessed=6, cosignature=COSIGNATURE),
    InitialModel(member="bank", architecture=b"a" * 32, digest=b"d" * 32, length=9),
    SEALED,
    Voted(member="bank", signature=SIGNATURE, cosignature=COSIGNATURE),
    Released(member="bank", seeds={"insurer": b"x" * 32, "mill": b"y" * 32}, signature=SIGNATURE),
    Revealed(member="bank", shares={"insurer": b"x", "mill": b"y"}, signature=SIGNATURE),
    Accepted(member="bank", history=b"h" * 32, model=b"m" * 32, kept=True, signature=SIGNATURE),
    Refused(member="bank", reason="No."),
)
# parts of messages, and no messages by themselves
INNER = {Asked, RecordedSum, SealedKey, ShownRotation, SignedState, SumPart}
MAY = (("cosignature", None),)  # who remembers another size says so, and cosigns nothing
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
    assert pack(message).message == data


@UNHURRIED
@given(REQUESTS)
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    parcel = pack(request)
    assert unpack_request(parcel) == (request, b"")
    with pytest.raises(ProtocolError):
        unpack_reply(parcel)


@UNHURRIED
@given(REPLIES)
def test_a_reply_comes_back_as_it_was(reply: Reply) -> None:
    parcel = pack(reply)
    assert unpack_reply(parcel) == (reply, b"")
    with pytest.raises(ProtocolError):
        unpack_request(parcel)


def test_there_is_one_of_each() -> None:
    known = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }
    assert {type(message) for message in ONE_OF_EACH} == known - INNER - {msgspec.Struct}


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_every_cut_and_every_addition_is_refused(message: Request | Reply) -> None:
    data = pack(message).message
    assert read(data) == message
    for length in range(len(data)):
        with pytest.raises(ProtocolError):
            read(data[:length])
    for more in (b"\0", b"\xc0", data):
        with pytest.raises(ProtocolError):
            read(data + more)


def content_bytes(value: object) -> int:
    """How many bytes of a message are hashes, signatures and the like, that could be any."""
    if isinstance(value, dict):
        return sum(content_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(content_bytes(item) for item in value)
    # base64, as JSON has no bytes
    return 3 * len(value) // 4 if isinstance(value, str) and len(value) > 40 else 0


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_every_flipped_bit_is_refused_or_says_something_else(message: Request | Reply) -> None:
    data = pack(message).message
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
        assert pack(other).message == changed
    # Of the rest, which is keys, types and lengths, most bits cannot be otherwise.
    assert refused > 4 * (len(data) - content_bytes(msgspec.to_builtins(message)))


def plain_of(message: Request | Reply) -> dict[str, object]:
    """The message as a table of tables, which another program would write."""
    fields = msgspec.to_builtins(message, builtin_types=(bytes,))
    assert isinstance(fields, dict)
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()
    }


def turned(value: object) -> object:
    """The same value with every table's keys in the other order."""
    if isinstance(value, dict):
        return {key: turned(item) for key, item in reversed(value.items())}
    if isinstance(value, list | tuple):
        return [turned(item) for item in value]
    return value


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_missing_unknown_and_wrong_fields_are_refused(message: Request | Reply) -> None:
    fields = plain_of(message)
    data = pack(message).message
    assert msgspec.msgpack.encode(fields) == data
    changed: list[dict[str, object]] = [{**fields, "more": 1}, {**fields, "type": "other"}]
    for name, value in fields.items():
        changed.append({key: item for key, item in fields.items() if key != name})
        wrong_types = [wrong for wrong in WRONG if type(wrong) is not type(value)]
        changed += [{**fields, name: wrong} for wrong in wrong_types if (name, wrong) not in MAY]
        if name == "keys":  # a table of structures is not one of bytes
            changed.append({**fields, name: {"mill": b"x"}})
        if name == "parts":
            changed += [{**fields, name: [{}]}, {**fields, name: [b"x"]}]
        if name in {"record", "state"}:
            assert isinstance(value, dict)
            changed.append({**fields, name: {**value, "more": 1}})
            changed += [
                {**fields, name: {key: item for key, item in value.items() if key != one}}
                for one in value
            ]
    for wrong_fields in changed:
        with pytest.raises(ProtocolError):
            read(msgspec.msgpack.encode(wrong_fields))


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_keys_in_another_order_are_refused(message: Request | Reply) -> None:
    data = pack(message).message
    fields = plain_of(message)
    source = random.Random(0)
    assert msgspec.msgpack.encode(turned(fields)) != data
    for _ in range(20):
        keys = list(fields)
        source.shuffle(keys)
        shuffled = msgspec.msgpack.encode({key: fields[key] for key in keys})
        if shuffled != data:
            with pytest.raises(ProtocolError):
                read(shuffled)
    for name, value in fields.items():
        if isinstance(value, dict) and len(value) > 1:
            table = {**fields, name: dict(sorted(value.items(), reverse=True))}
            assert list(table) == list(fields)
            with pytest.raises(ProtocolError):
                read(msgspec.msgpack.encode(table))


@UNHURRIED
@given(st.one_of(REQUESTS, REPLIES))
def test_the_order_in_which_a_table_was_filled_does_not_matter(message: Request | Reply) -> None:
    names = [name for name in message.__struct_fields__ if isinstance(getattr(message, name), dict)]
    backwards = {name: dict(reversed(getattr(message, name).items())) for name in names}
    again = msgspec.structs.replace(message, **backwards)
    assert pack(again) == pack(message)


def test_a_key_that_is_there_twice_is_refused() -> None:
    once = pack(Released(member="bank", seeds={"mill": b"y" * 32}, signature=SIGNATURE)).message
    entry = b"\xa4mill\xc4\x20" + b"y" * 32
    twice = once.replace(b"\x81" + entry, b"\x82" + entry + entry)
    assert len(twice) > len(once)
    with pytest.raises(ProtocolError, match="canonical"):
        unpack_reply(Parcel(twice))


FREE_BYTES = {
    "manifest",
    "offers",
    "offer",
    "public",
    "carrier",
    "secret",
    "header",
    "boxes",
    "shares",
    "checkpoint",
    "leaf",
    # those may be missing, and shorter than they can hold for
    "launcher",
    "countersignature",
}
# their tables have fields, and no members
STRUCTURES = {"", "part", "key", "record", "state", "rotations"}


def with_other_lengths(value: object, name: str) -> Iterator[object]:
    """What differs in the length of one hash or one signature, however deep it is."""
    if isinstance(value, bytes) and name not in FREE_BYTES:
        assert len(value) in {32, 64, 72, 128, 2548}
        # twice 64 is the length of another suite's signature
        yield from (b"", value[:-1], value + b"x", value[:16], value * 3)
    if isinstance(value, dict) and name not in FREE_BYTES:
        for key, item in value.items():
            inner = key if name in STRUCTURES else {"keys": "key"}.get(name, name)
            for other in with_other_lengths(item, inner):
                yield {**value, key: other}
    if isinstance(value, list | tuple):
        for place, item in enumerate(value):
            for other in with_other_lengths(item, {"parts": "part"}.get(name, name)):
                yield [*value[:place], other, *value[place + 1 :]]


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_a_hash_or_a_signature_of_another_length_is_refused(message: Request | Reply) -> None:
    fields = plain_of(message)
    for wrong in with_other_lengths(fields, ""):
        with pytest.raises(ProtocolError):
            read(msgspec.msgpack.encode(wrong))


def test_every_place_for_a_hash_or_a_signature_was_tried() -> None:
    """Five lengths each, of those in fields and those in tables of two."""
    tried = {
        type(message): len(list(with_other_lengths(plain_of(message), ""))) // 5
        for message in ONE_OF_EACH
    }
    assert tried == {
        **dict.fromkeys((Ready, Refused, Pending), 0),
        **dict.fromkeys((Invite, CountersignRequest, RosterNotice, StopNotice, KeyHeld), 1),
        PairRequest: 1,
        PairsMade: 2,
        PairNotice: 3,
        **dict.fromkeys((Joined, Countersigned, Cosigned, Revealed), 1),
        **dict.fromkeys((InitialModel, Voted), 2),
        **dict.fromkeys((StateNotice, KeyNotice, SumNotice, KeyMade, Released, Accepted), 3),
        Sealed: 4,
        **dict.fromkeys((StatisticsRequest, InitialModelRequest, FinishNotice), 1 + 2),
        **dict.fromkeys((TrainRequest, EvaluateRequest), 1 + 2),
        ReleaseRequest: 2 + 2,
        RevealRequest: 2 + 2 + 2,
        SurvivorsNotice: 2 + 2 + 2,
    }


def test_a_proof_has_no_more_hashes_than_the_largest_ledger_needs() -> None:
    for hashes, fits in ((63, True), (64, False)):
        path = (b"i" * 32,) * hashes
        state = msgspec.structs.replace(STATE, growth=path)
        record = msgspec.structs.replace(RECORD, path=path)
        for message in (
            StateNotice(origin="o", state=state),
            StateNotice(
                origin="o",
                state=STATE,
                rotations=(ShownRotation(leaf=b"l", index=6, path=path),),
            ),
            SurvivorsNotice(run=RUN, context=RUN, survivors=(), record=record),
        ):
            data = pack(message).message
            if fits:
                assert read(data) == message
            else:
                with pytest.raises(ProtocolError):
                    read(data)


def test_a_vote_holds_no_seeds() -> None:
    fields = plain_of(Voted(member="bank", signature=SIGNATURE, cosignature=COSIGNATURE))
    for seeds in ({}, {"mill": b"y" * 32}):
        with pytest.raises(ProtocolError):
            read(msgspec.msgpack.encode({**fields, "seeds": seeds}))


@pytest.mark.parametrize("number", [-1, 2**53, 2**63, 2**64 - 1, True, 1.0])
def test_numbers_that_not_every_reader_keeps_are_refused(number: object) -> None:
    fields = plain_of(TrainRequest(run=RUN, accepted={}, round=3))
    with pytest.raises(ProtocolError):
        read(msgspec.msgpack.encode({**fields, "round": number}))
    sealed = plain_of(SEALED)
    for name in ("length", "leaves"):
        for count in (0, number):
            with pytest.raises(ProtocolError):
                read(msgspec.msgpack.encode({**sealed, name: count}))
    cosigned = plain_of(Cosigned(member="bank", witnessed=6, cosignature=None))
    for message in (sealed, cosigned):
        with pytest.raises(ProtocolError):
            read(msgspec.msgpack.encode({**message, "witnessed": number}))
    notice = plain_of(StateNotice(origin="o", state=STATE))
    state = notice["state"]
    assert isinstance(state, dict)
    with pytest.raises(ProtocolError):
        read(msgspec.msgpack.encode({**notice, "state": {**state, "old": number}}))


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
    largest = Joined(member="bank", offer=bytes(MAX_MESSAGE_BYTES), consent=SIGNATURE)
    with pytest.raises(ProtocolError, match="larger"):
        unpack_reply(pack(largest))


@UNHURRIED
@given(st.one_of(REQUESTS, REPLIES), st.binary(max_size=100))
def test_a_payload_travels_beside_its_message_and_as_it_is(
    message: Request | Reply, payload: bytes
) -> None:
    parcel = pack(message, payload)
    assert parcel.message == pack(message).message
    assert read_with_payload(parcel) == (message, payload)


def read_with_payload(parcel: Parcel) -> tuple[Request | Reply, bytes]:
    try:
        return unpack_request(parcel)
    except ProtocolError:
        return unpack_reply(parcel)


def test_what_a_payload_holds_is_not_printed() -> None:
    assert "secret" not in repr(pack(Ready(member="bank"), b"secret"))


def test_the_type_of_a_message_is_told_by_its_tag_alone() -> None:
    tags = [message.__struct_config__.tag for message in ONE_OF_EACH]
    assert len(set(tags)) == len(tags)
    empty: dict[str, object] = {"run": RUN, "accepted": {}}
    for tag, kind in (("initial", InitialModelRequest), ("finish", FinishNotice)):
        data = msgspec.msgpack.encode({"type": tag, **empty})
        assert type(read(data)) is kind
    with pytest.raises(ProtocolError):
        read(msgspec.msgpack.encode(empty))


@UNHURRIED
@given(st.lists(st.integers(0, 1000), max_size=20), st.sampled_from(["<f4", "<f8"]))
def test_a_digest_is_of_values_and_not_of_how_a_machine_keeps_them(
    values: list[int], kind: str
) -> None:
    vector = np.array(values, kind)
    foreign = np.array(values, kind.replace("<", ">"))
    strided = np.array([value for value in values for _ in range(2)], kind)[::2]
    for same in (foreign, strided):
        assert vector_digest(same) == vector_digest(vector)


def test_a_digest_tells_values_and_types_apart() -> None:
    digests = {
        vector_digest(np.zeros(2, np.float32)),
        vector_digest(np.zeros(2, np.float64)),
        vector_digest(np.zeros(4, np.float32)),  # the same bytes as the one before
        vector_digest(np.array([0.0, -0.0])),
        vector_digest(np.zeros(0)),
    }
    assert len(digests) == 5
