from collections.abc import Callable

import msgspec
import pytest

from privacy.errors import ProtocolError
from privacy.secure_sum import PAYLOAD_BYTES_MAX, SealedVector, SumContext, UnmaskAnswer

VECTOR = SealedVector("bank", b"c" * 32, b"p" * 16, b"s" * 64)
CONTEXT = SumContext(b"run", "update", 1, b"s" * 32, b"m" * 32, b"r" * 32)


def test_a_vector_survives_the_wire() -> None:
    assert SealedVector.from_wire(VECTOR.header(), VECTOR.payload) == VECTOR


def test_secrets_are_not_printed() -> None:
    assert "pppp" not in repr(VECTOR)
    assert "tttt" not in repr(UnmaskAnswer("bank", b"c" * 32, {"other": b"t" * 8}, b"s" * 64))


def _packed(*fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        VECTOR.header() + b"\0",
        VECTOR.header()[:-1],
        VECTOR.header().replace(b"bank", b"ban\xff"),
        VECTOR.header().replace(b"\xa4bank", b"\xd9\x04bank"),
        _packed(1, "bank", b"c" * 32, b"s" * 64, 0),
        _packed(1, "bank", b"c" * 32),
        _packed("1", "bank", b"c" * 32, b"s" * 64),
        _packed(2, "bank", b"c" * 32, b"s" * 64),
        _packed(1, "", b"c" * 32, b"s" * 64),
        _packed(1, "b" * 65, b"c" * 32, b"s" * 64),
        _packed(1, "a\nb", b"c" * 32, b"s" * 64),
        _packed(1, "bank", b"c" * 31, b"s" * 64),
        _packed(1, "bank", b"c" * 32, b"s" * 65),
        _packed(1, "bank", b"c" * 2000, b"s" * 64),
        msgspec.msgpack.encode({"form": 1}),
        b"\x91" * 1000,
    ],
)
def test_a_header_has_one_form(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        SealedVector.from_wire(header, VECTOR.payload)


def test_every_cut_and_every_flipped_bit_is_refused_or_says_something_else() -> None:
    header = VECTOR.header()
    for length in range(len(header)):
        with pytest.raises(ProtocolError):
            SealedVector.from_wire(header[:length], VECTOR.payload)
    for bit in range(8 * len(header)):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert SealedVector.from_wire(bytes(flipped), VECTOR.payload) != VECTOR
        except ProtocolError:
            continue


class _Long(bytes):
    def __len__(self) -> int:
        return PAYLOAD_BYTES_MAX + 8


@pytest.mark.parametrize("payload", [b"", b"1234567", b"123456789", _Long()])
def test_a_payload_is_words_of_an_acceptable_size(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        SealedVector.from_wire(VECTOR.header(), payload)


def _other(**changes: object) -> Callable[[], SumContext]:
    fields: dict[str, object] = {name: getattr(CONTEXT, name) for name in CONTEXT.__slots__}
    return lambda: SumContext(**{**fields, **changes})  # type: ignore[arg-type]


def test_every_part_of_a_context_counts() -> None:
    others = [
        _other(run=b"ru"),
        _other(run=b"runu", step="pdate"),
        _other(step="updatf"),
        _other(round=2),
        _other(schema=b"m" * 32),
        _other(model=b"s" * 32),
        _other(roster=b"s" * 32),
    ]
    digests = {CONTEXT.digest(), *(other().digest() for other in others)}
    assert len(digests) == 8
    assert _other()().digest() == CONTEXT.digest()


@pytest.mark.parametrize(
    "make",
    [
        _other(run=b""),
        _other(run=b"r" * 65),
        _other(step=""),
        _other(step="é"),
        _other(round=-1),
        _other(round=2**63),
        _other(schema=b""),
        _other(model=b"m" * 31),
        _other(roster=b"r" * 33),
    ],
)
def test_a_context_that_is_none_cannot_be_made(make: Callable[[], SumContext]) -> None:
    with pytest.raises(ValueError, match=r"has|need|hash"):
        make()
