import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.keystream import BLOCK_WORDS, KEY_BYTES, keystream_words
from privacy.randomness import system_bytes
from privacy.sampling import bounded_rows, poisson

KEY = bytes(range(KEY_BYTES))


def fixed(count: int) -> bytes:
    assert count == KEY_BYTES
    return KEY


def never(count: int) -> bytes:
    raise AssertionError(count)


@pytest.mark.parametrize("count", [0, 1, 2, BLOCK_WORDS, BLOCK_WORDS + 1, 3 * BLOCK_WORDS - 5])
@pytest.mark.parametrize("rate", [2.0**-53, 1e-9, 0.05, 0.5, 1 / 3, 1 - 2.0**-53, 1.0])
def test_a_unit_is_taken_where_its_53_bits_are_below_the_rate(count: int, rate: float) -> None:
    bits = [word >> 11 for word in keystream_words(KEY, count).tolist()]
    expected = [unit for unit in range(count) if Fraction(bits[unit] + 1, 2**53) <= Fraction(rate)]
    taken = poisson(count, rate, fixed)
    assert taken.dtype == np.int64
    assert taken.tolist() == expected


def test_rate_one_takes_all() -> None:
    np.testing.assert_array_equal(poisson(100_000, 1.0, system_bytes), np.arange(100_000))


def test_the_rate_is_rounded_down() -> None:
    """Of 2^53 values as many are below it as are counted, and never one more."""
    bits = [word >> 11 for word in keystream_words(KEY, 100).tolist()]
    unit = min(range(100), key=lambda place: bits[place])
    level = bits[unit] * 2.0**-53
    above = float(np.nextafter(level, 1))  # no multiple of 2^-53, as it is small
    assert level < above < level + 2.0**-53
    assert poisson(100, level, fixed).tolist() == []
    assert poisson(100, above, fixed).tolist() == []
    assert poisson(100, level + 2.0**-53, fixed).tolist() == [unit]


@pytest.mark.parametrize("rate", [1e-300, 2.0**-54, float(np.nextafter(2.0**-53, 0))])
def test_a_rate_too_small_to_be_met_takes_nobody(rate: float) -> None:
    assert not len(poisson(100_000, rate, fixed))


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0000001, math.nan, math.inf])
def test_a_rate_that_is_no_chance_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        poisson(10, rate, system_bytes)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="count"):
        poisson(-1, 0.5, system_bytes)


def blocks(counts: list[int], gap: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    sizes = np.array(counts, dtype=np.int64)
    return np.cumsum(sizes + gap) - sizes, sizes


@pytest.mark.parametrize("most", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("counts", [[1], [2, 1, 5, 16, 17, 300], [64] * 5, [10_000], []])
def test_each_unit_gives_its_own_rows_once_and_weights_that_average(
    counts: list[int], most: int
) -> None:
    starts, sizes = blocks(counts, gap=3)
    places, weights = bounded_rows(starts, sizes, most, system_bytes)
    assert places.shape == weights.shape == (len(counts), most)
    assert places.dtype == np.int64
    assert weights.dtype == np.float64
    assert (weights >= 0).all()
    for unit, size in enumerate(counts):
        used = places[unit][weights[unit] > 0]
        own = np.arange(starts[unit], starts[unit] + size)
        assert len(set(used.tolist())) == len(used) == min(size, most)
        assert set(used.tolist()) <= set(own.tolist())
        assert set(weights[unit][weights[unit] > 0].tolist()) == {1 / min(size, most)}
        assert (places[unit][weights[unit] == 0] == starts[unit]).all()
        # Exactly, not as floats add up.
        total = sum((Fraction(weight) for weight in weights[unit].tolist()), Fraction(0))
        assert abs(total - 1) <= Fraction(1, 2**53)


def test_units_that_fit_take_no_key() -> None:
    starts, sizes = blocks([1, 4, 3])
    places, weights = bounded_rows(starts, sizes, 4, never)
    assert places.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 5]]
    assert weights.tolist() == [[1, 0, 0, 0], [0.25] * 4, [1 / 3] * 3 + [0]]


def test_another_key_draws_other_rows() -> None:
    starts, sizes = blocks([1000] * 20)
    first, second = (bounded_rows(starts, sizes, 8, system_bytes)[0] for _ in range(2))
    assert (first != second).mean() > 0.9
    third, fourth = (bounded_rows(starts, sizes, 8, fixed)[0] for _ in range(2))
    np.testing.assert_array_equal(third, fourth)


def test_rows_are_drawn_by_floyds_algorithm_from_each_units_own_words() -> None:
    """Written down once more, unit by unit, in plain integers."""
    most, sizes = 4, [5, 6, 9, 1000, 2**32 - 1]
    words = [int(word) for word in keystream_words(KEY, most * len(sizes))]
    places, _ = bounded_rows(np.zeros(5, np.int64), np.array(sizes), most, fixed)
    repeated = 0
    for unit, size in enumerate(sizes):
        chosen: list[int] = []
        for slot in range(most):
            last = size - most + slot
            drawn = words[slot * len(sizes) + unit] % (last + 1)
            repeated += drawn in chosen
            chosen.append(last if drawn in chosen else drawn)
        assert places[unit].tolist() == chosen
    assert repeated  # the branch was taken, and not by all


def test_a_unit_with_very_many_rows_is_served() -> None:
    starts, sizes = np.array([7]), np.array([2**32 - 1])
    places, _ = bounded_rows(starts, sizes, 1000, fixed)
    assert len(np.unique(places)) == 1000
    assert 2**31 < places.max() < 7 + 2**32 - 1


@pytest.mark.parametrize(
    ("starts", "counts", "most"),
    [
        ([0, 3], [3, 0], 2),
        ([0], [-1], 2),
        ([0], [2**32], 2),
        ([-1], [3], 2),
        ([0], [3], 0),
        ([0, 1], [1], 2),
    ],
)
def test_what_cannot_be_meant_is_refused(starts: list[int], counts: list[int], most: int) -> None:
    with pytest.raises(ValueError, match="need"):
        bounded_rows(np.array(starts), np.array(counts), most, never)


def test_arrays_of_two_dimensions_are_refused() -> None:
    square = np.ones((2, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="need two arrays"):
        bounded_rows(square, square, 2, never)
