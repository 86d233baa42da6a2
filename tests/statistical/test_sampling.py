"""Units are taken independently and at the stated rate; rows without preference.

All draws come from fixed keys, so a result does not change from run to run. ALPHA is the chance
that a correct implementation would have failed on these keys. Each check has a twin that must fail.
"""

import itertools
import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.randomness import Entropy, system_bytes
from privacy.sampling import bounded_rows, poisson

Integers = NDArray[np.int64]
ALPHA = 1e-6
UNITS = 1000
CALLS = 4000


def entropy(seed: str) -> Entropy:
    return random.Random(seed).randbytes


def two_sided(normal: float) -> float:
    return math.erfc(abs(normal) / math.sqrt(2))


def chi_square_p_value(observed: Integers, expected: float) -> float:
    """Equal cells that need not add up; Wilson and Hilferty's approximation."""
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(observed)
    spread = 2 / (9 * freedom)
    normal = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(normal / math.sqrt(2))


def rate_p_value(taken: int, count: int, rate: float) -> float:
    """Binomial, by its normal approximation."""
    return two_sided((taken - count * rate) / math.sqrt(count * rate * (1 - rate)))


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.2, 0.7, 0.999])
def test_the_rate_is_the_stated_one(rate: float) -> None:
    count = 4_000_000
    taken = len(poisson(count, rate, entropy(f"rate {rate}")))
    assert rate_p_value(taken, count, rate) > ALPHA


@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.7])
def test_the_rate_check_finds_five_hundredths(rate: float, factor: float) -> None:
    count = 1_000_000
    taken = len(poisson(count, factor * rate, entropy(f"wrong rate {rate}")))
    assert rate_p_value(taken, count, rate) < ALPHA


def table(rate: float, seed: str) -> NDArray[np.bool_]:
    """Who is taken in many calls: shape (CALLS, UNITS)."""
    source = entropy(seed)
    taken = np.zeros((CALLS, UNITS), dtype=np.bool_)
    for row in taken:
        row[poisson(UNITS, rate, source)] = True
    return taken


def size_p_value(taken: NDArray[np.bool_], rate: float) -> float:
    """Whether batch sizes vary as binomial ones do: by N q (1 - q)."""
    variance = UNITS * rate * (1 - rate)
    ratio = float(((taken.sum(axis=1) - UNITS * rate) ** 2).mean()) / variance
    return two_sided((ratio - 1) / math.sqrt(2 / len(taken)))


def unit_p_value(taken: NDArray[np.bool_], rate: float) -> float:
    """Whether every unit is taken as often as every other."""
    normal = (taken.sum(axis=0) - len(taken) * rate) / math.sqrt(len(taken) * rate * (1 - rate))
    spread = float((normal**2).sum())
    return two_sided((spread - UNITS) / math.sqrt(2 * UNITS))


def together_p_value(one: NDArray[np.bool_], other: NDArray[np.bool_], rate: float) -> float:
    """Whether two are taken together as often as unrelated ones are."""
    both = int((one & other).sum())
    return rate_p_value(both, one.size, rate**2)


RATE = 0.05


@pytest.fixture(scope="module")
def taken() -> NDArray[np.bool_]:
    return table(RATE, "calls")


@pytest.fixture(scope="module")
def shuffled() -> NDArray[np.bool_]:
    """What is often accounted as if it were Poisson sampling: batches of a shuffled order."""
    generator = np.random.default_rng(3)
    size = int(RATE * UNITS)
    batches = np.zeros((CALLS, UNITS), dtype=np.bool_)
    for start in range(0, CALLS, UNITS // size):
        order = generator.permutation(UNITS).reshape(-1, size)
        for row, batch in zip(batches[start : start + len(order)], order, strict=True):
            row[batch] = True
    return batches


def test_sizes_and_units_vary_as_independent_draws_do(taken: NDArray[np.bool_]) -> None:
    assert size_p_value(taken, RATE) > ALPHA
    assert unit_p_value(taken, RATE) > ALPHA


def test_shuffled_batches_are_found_out(shuffled: NDArray[np.bool_]) -> None:
    assert size_p_value(shuffled, RATE) < ALPHA
    assert unit_p_value(shuffled, RATE) < ALPHA  # each exactly as often as the others
    assert together_p_value(shuffled[:-1], shuffled[1:], RATE) < ALPHA


def test_neighbours_and_calls_are_unrelated(taken: NDArray[np.bool_]) -> None:
    pairs = {
        "neighbours": (taken[:, :-1], taken[:, 1:]),
        "far ones": (taken[:, : UNITS // 2], taken[:, UNITS // 2 :]),
        "calls": (taken[:-1], taken[1:]),
    }
    for one, other in pairs.values():
        assert together_p_value(one, other, RATE) > ALPHA
    repeated = np.where(np.arange(CALLS)[:, None] % 20, taken, np.roll(taken, 1, axis=0))
    assert together_p_value(repeated[:-1], repeated[1:], RATE) < ALPHA  # one call of 20 is a retry


def test_no_call_repeats_another() -> None:
    calls = [tuple(poisson(UNITS, 0.5, system_bytes).tolist()) for _ in range(200)]
    assert len(set(calls)) == len(calls)


def drawn(size: int, most: int, units: int, seed: str) -> Integers:
    """The rows of many units alike, as numbers below `size`."""
    starts = np.arange(units) * size
    places, _ = bounded_rows(starts, np.full(units, size), most, entropy(seed))
    rows: Integers = places - starts[:, None]
    return rows


def subset_p_value(rows: Integers, size: int) -> float:
    """Whether every subset is as likely as every other."""
    most = rows.shape[1]
    masks = (1 << rows).sum(axis=1)
    cells = [
        sum(1 << row for row in subset) for subset in itertools.combinations(range(size), most)
    ]
    counts = np.bincount(masks, minlength=1 << size)
    assert counts[cells].sum() == len(rows)
    return chi_square_p_value(counts[cells], len(rows) / len(cells))


@pytest.mark.parametrize(("size", "most"), [(2, 1), (5, 2), (6, 3), (7, 6), (9, 4)])
def test_every_choice_of_rows_is_as_likely_as_every_other(size: int, most: int) -> None:
    rows = drawn(size, most, 200_000, f"{size} {most}")
    assert subset_p_value(rows, size) > ALPHA


def test_the_check_finds_a_choice_that_leans() -> None:
    rows = drawn(6, 3, 200_000, "6 3")
    first = np.sort(rows, axis=1)
    first[:4000] = [0, 1, 2]  # 2 % are the unit's first rows
    assert subset_p_value(first, 6) < ALPHA
    # Floyd's algorithm without its last row: draw below n where it must be below n + 1.
    generator = np.random.default_rng(1)
    short = generator.integers(0, 5, 200_000)
    pairs = np.stack([generator.integers(0, 4, 200_000), short], axis=1)
    pairs[pairs[:, 0] == short, 1] = 5
    assert subset_p_value(pairs, 6) < ALPHA


def test_every_row_of_a_large_unit_is_drawn_as_often() -> None:
    rows = drawn(178, 16, 50_000, "large")
    expected = 50_000 * 16 / 178
    assert chi_square_p_value(np.bincount(rows.ravel(), minlength=178), expected) > ALPHA
    assert chi_square_p_value(np.bincount(rows.ravel() // 2 * 2, minlength=178), expected) < ALPHA


def test_units_draw_apart_from_each_other() -> None:
    rows = drawn(40, 1, 400_000, "apart").ravel()
    same = int((rows[:-1] == rows[1:]).sum())
    assert rate_p_value(same, len(rows) - 1, 1 / 40) > ALPHA
    tied = np.where(np.arange(len(rows)) % 100, rows, np.roll(rows, 1))
    assert rate_p_value(int((tied[:-1] == tied[1:]).sum()), len(rows) - 1, 1 / 40) < ALPHA
