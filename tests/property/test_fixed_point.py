"""For any layout and any vectors: no carries, bounded error, exact multiples of the step."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.fixed_point import FixedPoint, narrow, wide
from privacy.keystream import Words
from privacy.randomness import Entropy

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
PARTIES = st.integers(1, 64)
CLIPS = st.floats(2.0**-40, 2.0**40)
KEYS = st.binary(min_size=32, max_size=32)


def _entropy(key: bytes) -> Entropy:
    return lambda _: key


@st.composite
def layouts(draw: st.DrawFn) -> FixedPoint:
    parties = draw(PARTIES)
    bits = draw(st.integers(8, 63))
    fields = draw(st.integers(1, 64 // bits))
    return FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=draw(CLIPS))


def _fields(layout: FixedPoint, words: Words) -> list[list[int]]:
    mask = (1 << layout.field_bits) - 1
    return [
        [int(word) >> layout.field_bits * field & mask for field in range(layout.fields)]
        for word in words
    ]


@UNHURRIED
@given(layouts(), KEYS, st.data())
def test_any_number_of_extreme_vectors_carries_into_no_field(
    layout: FixedPoint, key: bytes, data: st.DataObject
) -> None:
    ends = st.sampled_from([-1.0, 1.0])
    length = data.draw(st.integers(1, 3 * layout.fields))
    total = np.zeros(layout.words(length), np.uint64)
    by_field = [[0] * layout.fields for _ in total]
    for _ in range(layout.parties):
        signs = data.draw(ends)
        words = layout.encode(np.full(length, signs * layout.clip * 2), _entropy(key))
        total += words
        for sums, levels in zip(by_field, _fields(layout, words), strict=True):
            for field, level in enumerate(levels):
                sums[field] += level
    assert _fields(layout, total) == by_field
    assert max(max(sums) for sums in by_field) < 2**layout.field_bits


@UNHURRIED
@given(PARTIES, CLIPS, KEYS)
def test_the_fullest_sum_still_decodes(parties: int, clip: float, key: bytes) -> None:
    for layout in (narrow(parties, clip), wide(parties, clip)):
        words = layout.encode(np.full(4, clip), _entropy(key))
        total = layout.decode_sum(words * np.uint64(parties), 4, parties)
        assert np.abs(total - parties * clip).max() <= layout.worst_error(parties)


def test_the_headroom_check_can_fail() -> None:
    layout = narrow(64, clip=1.0)
    words = layout.encode(np.full(3, 1.0), _entropy(bytes(32)))
    one_more = words * np.uint64(2 * layout.parties)
    assert _fields(layout, one_more) != [
        [level * 2 * layout.parties for level in levels] for levels in _fields(layout, words)
    ]


@UNHURRIED
@given(layouts(), st.data())
def test_the_decoded_sum_is_within_the_stated_error(
    layout: FixedPoint, data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, 7))
    count = data.draw(st.integers(1, min(layout.parties, 5)))
    numbers = st.floats(-1.5 * layout.clip, 1.5 * layout.clip)
    vectors = [data.draw(st.lists(numbers, min_size=length, max_size=length)) for _ in range(count)]
    total = np.zeros(layout.words(length), np.uint64)
    for vector in vectors:
        total += layout.encode(np.array(vector), _entropy(data.draw(KEYS)))
    decoded = layout.decode_sum(total, length, count)
    for index in range(length):
        clamped = (min(max(vector[index], -layout.clip), layout.clip) for vector in vectors)
        true = sum((Fraction(value) for value in clamped), Fraction(0))
        assert abs(Fraction(float(decoded[index])) - true) <= Fraction(layout.worst_error(count))


@UNHURRIED
@given(PARTIES, st.lists(st.integers(-(2**34), 2**34), min_size=1, max_size=9), KEYS)
def test_integers_are_exact_in_wide(parties: int, numbers: list[int], key: bytes) -> None:
    layout = wide(parties)
    words = layout.encode(np.array(numbers, np.float64), _entropy(key))
    total = layout.decode_sum(words * np.uint64(parties), len(numbers), parties)
    assert total.tolist() == [parties * number for number in numbers]


@UNHURRIED
@given(layouts(), st.data())
def test_multiples_of_the_step_are_exact_whatever_the_rounding_draws(
    layout: FixedPoint, data: st.DataObject
) -> None:
    most = min(int(Fraction(layout.clip) / Fraction(layout.step)), 2**53)
    steps = data.draw(st.lists(st.integers(-most, most), min_size=1, max_size=6))
    values = np.array(steps, np.float64) * layout.step
    words = layout.encode(values, _entropy(data.draw(KEYS)))
    assert layout.decode_sum(words, len(steps), 1).tolist() == values.tolist()
