import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.errors import ProtocolError
from privacy.fixed_point import PACKINGS, FixedPoint, narrow, packed, wide
from privacy.keystream import BLOCK_WORDS
from privacy.randomness import system_bytes


def test_the_ends_of_the_range_are_the_ends_of_the_field() -> None:
    layout = narrow(12, clip=0.25)
    words = layout.encode(np.array([-0.25, 0.25, 0.0]), system_bytes)
    assert words.tolist() == [(2 * layout.levels) << 21 | layout.levels << 42]


@pytest.mark.parametrize(("parties", "clip"), [(1, 1.0), (12, 0.25), (64, 0.1), (7, 3e5)])
def test_the_step_is_the_least_power_of_two_with_headroom(parties: int, clip: float) -> None:
    for layout in (narrow(parties, clip), wide(parties, clip)):
        most = 2**layout.field_bits - 1
        assert math.frexp(layout.step)[0] == 0.5
        assert parties * 2 * math.ceil(clip / layout.step) <= most
        assert parties * 2 * math.ceil(clip / (layout.step / 2)) > most


def test_fields_hold_consecutive_coordinates() -> None:
    layout = narrow(2, clip=1.0)
    values = np.array([-1.0, 1.0, 1.0, -1.0])  # two words: fields 0-1, 2-3, and padding
    high = 2 * layout.levels
    assert layout.encode(values, system_bytes).tolist() == [high << 21, high]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, BLOCK_WORDS, 3 * BLOCK_WORDS + 1, 100_000])
@pytest.mark.parametrize("make", [narrow, wide])
def test_any_length_comes_back(length: int, make: Callable[[int, float], FixedPoint]) -> None:
    layout = make(3, 8.0)
    values = np.linspace(-8, 8, length)
    words = layout.encode(values, system_bytes)
    assert words.shape == (layout.words(length),)
    decoded = layout.decode_sum(words, length, 1)
    assert np.abs(decoded - values).max() <= layout.worst_error(1)


def test_values_beyond_the_clip_are_clamped() -> None:
    layout = wide(2, clip=2.0)
    words = layout.encode(np.array([-1e300, 5.0]), system_bytes)
    assert layout.decode_sum(words, 2, 1).tolist() == [-2.0, 2.0]


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.0, np.nan]),
        np.array([np.inf]),
        np.array([-np.inf, 1.0]),
        np.zeros((2, 2)),
        np.zeros(0),
        np.zeros(2, np.float32),
    ],
)
def test_what_is_no_finite_vector_is_refused(values: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"finite|float64"):
        narrow(2, clip=1.0).encode(values, system_bytes)


@pytest.mark.parametrize(
    ("parties", "fields", "bits", "clip"),
    [
        (0, 3, 21, 1.0),
        (2, 0, 21, 1.0),
        (2, 3, 22, 1.0),
        (2, 1, 64, 1.0),
        (2, 3, 0, 1.0),
        (2, 3, 21, 0.0),
        (2, 3, 21, -1.0),
        (2, 3, 21, math.nan),
        (2, 3, 21, math.inf),
        (2**20, 3, 21, 1.0),
    ],
)
def test_a_layout_without_headroom_cannot_be_made(
    parties: int, fields: int, bits: int, clip: float
) -> None:
    with pytest.raises(ValueError, match=r"need|fit|few"):
        FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=clip)


def test_words_that_no_members_can_have_sent_are_refused() -> None:
    layout = narrow(4, clip=1.0)
    most = 2 * layout.levels
    for word, length in [
        (2 * most + 1, 3),  # above what two can reach
        ((2 * most + 1) << 42, 3),
        (1 << 63, 3),  # a bit above all fields
        (1 << 42, 2),  # padding that is not zero
    ]:
        with pytest.raises(ProtocolError, match="range"):
            layout.decode_sum(np.array([word], np.uint64), length, 2)
    layout.decode_sum(np.array([2 * most], np.uint64), 3, 2)
    with pytest.raises(ProtocolError, match="words"):
        layout.decode_sum(np.zeros(2, np.uint64), 3, 2)
    with pytest.raises(ValueError, match="parties_summed"):
        layout.decode_sum(np.zeros(1, np.uint64), 3, 5)
    with pytest.raises(ValueError, match="length"):
        layout.words(0)


def test_decoding_leaves_the_words_as_they_were() -> None:
    layout = wide(2, clip=1.0)
    words = layout.encode(np.array([0.5]), system_bytes)
    before = words.copy()
    layout.decode_sum(words, 1, 1)
    assert (words == before).all()


def test_the_schema_tells_layouts_and_lengths_apart() -> None:
    layouts = [narrow(2, 1.0), narrow(3, 1.0), narrow(2, 1.5), wide(2, 1.0), wide(2)]
    schemas = {layout.schema(length) for layout in layouts for length in (1, 2)}
    assert len(schemas) == 10
    assert len({layout.digest() for layout in layouts}) == 5
    assert narrow(2, 1.0).schema(7) == narrow(2, 1.0).schema(7)
    assert len(narrow(2, 1.0).schema(7)) == 32


def test_the_packings_are_sorted_by_their_bytes_and_fit_a_word() -> None:
    assert PACKINGS == ((5, 12), (4, 16), (3, 21), (2, 30))
    assert [fields for fields, _ in PACKINGS] == sorted((f for f, _ in PACKINGS), reverse=True)
    assert all(fields * bits <= 64 for fields, bits in PACKINGS)


@pytest.mark.parametrize("packing", [*PACKINGS, (1, 63), (1, 1), (64, 1)])
def test_no_word_has_more_bits_than_it_says(packing: tuple[int, int]) -> None:
    fields, bits = packing
    if bits == 1:
        with pytest.raises(ValueError, match="too few"):
            FixedPoint(parties=1, fields=fields, field_bits=bits, clip=1.0)
        return
    layout = FixedPoint(parties=9, fields=fields, field_bits=bits, clip=1.0)
    assert layout.word_bits == fields * bits
    words = layout.encode(np.ones(2 * fields), system_bytes)
    assert all(9 * int(word) < 1 << layout.word_bits for word in words)
    assert 9 * int(words.max()) >= 1 << layout.word_bits - 2  # and not many fewer are used


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("length", [1, 4, 5, 6, 1001])
def test_any_length_comes_back_from_any_packing(packing: tuple[int, int], length: int) -> None:
    layout = packed(6, 2.0, 1.0, [packing])
    values = [np.linspace(-2, 2, length) * factor for factor in (1.0, -0.5, 0.25)]
    words = np.zeros(layout.words(length), np.uint64)
    for vector in values:
        words += layout.encode(vector, system_bytes)
    decoded = layout.decode_sum(words, length, 3)
    assert np.abs(decoded - sum(values)).max() <= layout.worst_error(3)
    assert layout.words(length) == math.ceil(length / packing[0])


@pytest.mark.parametrize("clip", [2.0**-500, 2.0**500])
def test_the_smallest_and_the_largest_clip_are_served_and_none_beyond(clip: float) -> None:
    layout = wide(3, clip)
    values = np.array([-clip, 0.0, clip])
    words = layout.encode(values, system_bytes)
    assert np.abs(layout.decode_sum(words, 3, 1) - values).max() <= layout.worst_error(1)
    beyond = clip / 2 if clip < 1 else 2 * clip
    with pytest.raises(ValueError, match="finite clip"):
        wide(3, beyond)


@pytest.mark.parametrize(("fields", "bits"), [(3, 21), (1, 63), (4, 16), (32, 2)])
def test_a_field_has_room_for_as_many_parties_as_it_has_pairs_of_levels(
    fields: int, bits: int
) -> None:
    most = ((1 << bits) - 1) // 2
    assert FixedPoint(parties=most, fields=fields, field_bits=bits, clip=1.0).levels == 1
    with pytest.raises(ValueError, match="too few"):
        FixedPoint(parties=most + 1, fields=fields, field_bits=bits, clip=1.0)


@pytest.mark.parametrize("parties", [-1, 0, 5])
def test_a_sum_is_of_one_vector_at_least_and_of_no_more_than_all(parties: int) -> None:
    layout = narrow(4, clip=1.0)
    words = layout.encode(np.zeros(3), system_bytes)
    with pytest.raises(ValueError, match="parties_summed"):
        layout.decode_sum(words, 3, parties)


def test_the_stated_error_grows_where_a_float_no_longer_holds_the_sum() -> None:
    small, large = narrow(4, clip=1.0), wide(4, clip=1.0)
    assert small.worst_error(3) == 3 * small.step
    assert large.worst_error(3) == 3 * large.step * (1 + large.levels / 2**53) > 3 * large.step


def test_a_float_holds_a_sum_of_two_to_the_53_steps_and_no_more() -> None:
    whole = FixedPoint(parties=1, fields=1, field_bits=55, clip=1.0)
    assert whole.levels == 2**53
    assert whole.worst_error(1) == whole.step
    more = FixedPoint(parties=3, fields=1, field_bits=55, clip=1.0)
    assert 2**53 < 3 * more.levels < 2**54
    assert more.worst_error(3) == 3 * more.step * 1.5


def test_what_lies_on_a_level_stays_there_even_where_the_least_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("privacy.fixed_point.uniforms", lambda count, _: np.zeros(count))
    layout = narrow(4, clip=1.0)
    values = np.array([-1.0, 0.0, layout.step, 0.5, layout.step / 2])
    decoded = layout.decode_sum(layout.encode(values, system_bytes), 5, 1)
    assert decoded.tolist() == [-1.0, 0.0, layout.step, 0.5, layout.step]


def test_the_digest_and_the_schema_of_a_layout_never_change() -> None:
    # Two versions of this program that differ here would refuse each other.
    layout = FixedPoint(parties=12, fields=3, field_bits=21, clip=0.25)
    assert layout.digest().hex()[:16] == "dd110199230bb496"
    assert layout.schema(7).hex()[:16] == "9545109606084d6c"
