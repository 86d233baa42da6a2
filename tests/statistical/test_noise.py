"""Noise has the claimed law, and rounding it costs no privacy; and each check can fail.

All draws come from fixed keys, so a result does not change from run to run. ALPHA is the chance
that a correct implementation would have failed on these keys. Beside each check stands a twin: the
same check of noise that is a little wrong, which it must find.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from privacy.noise import discrete_gaussian, gaussian
from privacy.randomness import Entropy

Reals: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
ALPHA = 1e-6
DRAWS = 4_000_000
NORMAL = NormalDist()


def entropy(seed: str) -> Entropy:
    return random.Random(seed).randbytes


def upper_p_value(statistic: float, freedom: int) -> float:
    """Chi-square's upper tail; Wilson and Hilferty's approximation."""
    spread = 2 / (9 * freedom)
    normal = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(normal / math.sqrt(2))


def two_sided(normal: float) -> float:
    return math.erfc(abs(normal) / math.sqrt(2))


@pytest.fixture(scope="module")
def drawn() -> Reals:
    return gaussian(DRAWS, 1.0, entropy("noise"))


def deviation_p_value(values: Reals) -> float:
    return two_sided((float((values**2).mean()) - 1) / math.sqrt(2 / len(values)))


def mean_p_value(values: Reals) -> float:
    return two_sided(float(values.mean()) * math.sqrt(len(values)))


def kurtosis_p_value(values: Reals) -> float:
    """Of the fourth moment, 3, which varies by 96."""
    return two_sided((float((values**4).mean()) - 3) / math.sqrt(96 / len(values)))


EDGES = np.array([NORMAL.inv_cdf(place / 1024) for place in range(1, 1024)])


def cells(values: Reals) -> Integers:
    """How many fall in each of 1,024 cells of equal chance."""
    return np.bincount(np.searchsorted(EDGES, values), minlength=1024)


def shape_p_value(values: Reals) -> float:
    expected = len(values) / 1024
    return upper_p_value(float(((cells(values) - expected) ** 2).sum() / expected), 1023)


def kolmogorov_p_value(values: Reals) -> float:
    """Kolmogorov and Smirnov's distance at the edges of the cells; Smirnov's series."""
    below = np.cumsum(cells(values))[:-1] / len(values)
    distance = float(np.abs(below - np.arange(1, 1024) / 1024).max()) * math.sqrt(len(values))
    return 2 * sum(-((-1.0) ** j) * math.exp(-2 * (j * distance) ** 2) for j in range(1, 50))


def tail_p_value(values: Reals) -> float:
    """Beyond four deviations, where a poor radius shows."""
    chance = math.erfc(4 / math.sqrt(2))
    expected = chance * len(values)
    return two_sided((float((np.abs(values) > 4).sum()) - expected) / math.sqrt(expected))


Check: TypeAlias = Callable[[Reals], float]
CHECKS: list[Check] = [
    deviation_p_value,
    mean_p_value,
    kurtosis_p_value,
    shape_p_value,
    kolmogorov_p_value,
    tail_p_value,
]


@pytest.mark.parametrize("check", CHECKS)
def test_noise_is_gaussian(drawn: Reals, check: Check) -> None:
    assert check(drawn) > ALPHA


def test_the_deviation_is_right_to_a_thousandth(drawn: Reals) -> None:
    assert abs(float(drawn.std()) - 1) < 1e-3


@pytest.mark.parametrize("check", [check for check in CHECKS if check is not mean_p_value])
@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_every_check_finds_noise_that_is_three_hundredths_off(
    drawn: Reals, check: Check, factor: float
) -> None:
    assert check(factor * drawn) < ALPHA


@pytest.mark.parametrize("factor", [0.997, 1.003])
def test_the_deviation_check_finds_three_thousandths(drawn: Reals, factor: float) -> None:
    assert deviation_p_value(factor * drawn) < ALPHA
    assert abs(float(factor * drawn.std()) - 1) > 1e-3


def test_the_checks_find_a_shift_a_cut_tail_and_a_coarse_one(drawn: Reals) -> None:
    assert mean_p_value(drawn + 0.01) < ALPHA
    assert tail_p_value(np.clip(drawn, -4, 4)) < ALPHA
    assert kurtosis_p_value(np.clip(drawn, -3.5, 3.5)) < ALPHA
    assert shape_p_value(np.round(drawn, 2)) < ALPHA


def correlation_p_value(one: Reals, other: Reals) -> float:
    return two_sided(float((one * other).mean()) * math.sqrt(len(one)))


def joint_p_value(one: Reals, other: Reals) -> float:
    """Chi-square of 16 x 16 cells of equal chance: any dependence, not only a linear one."""
    places = [np.searchsorted(EDGES[63::64], values) for values in (one, other)]
    counts = np.bincount(16 * places[0] + places[1], minlength=256)
    expected = len(one) / 256
    return upper_p_value(float(((counts - expected) ** 2).sum() / expected), 255)


def test_the_two_of_a_pair_two_pairs_and_two_calls_are_unrelated() -> None:
    source = entropy("calls")
    count = 8192  # one block: the second half holds the partners of the first
    first, second = (
        np.concatenate([gaussian(count, 1.0, source) for _ in range(50)]).reshape(50, count)
        for _ in range(2)
    )
    half = count // 2
    for one, other in (
        (first[:, :half], first[:, half:]),
        (first[:, :-1], first[:, 1:]),
        (first, second),
        (first[:, half:], second[:, :half]),
    ):
        assert correlation_p_value(one.ravel(), other.ravel()) > ALPHA
        assert joint_p_value(one.ravel(), other.ravel()) > ALPHA
    tied = np.where(np.arange(count) % 50, second, first)  # 2 % are the same draw
    assert correlation_p_value(first.ravel(), tied.ravel()) < ALPHA
    alike = np.abs(first) * np.sign(second)  # uncorrelated, and far from independent
    assert correlation_p_value(first.ravel(), alike.ravel()) > ALPHA
    assert joint_p_value(first.ravel(), alike.ravel()) < ALPHA


# The discrete sampler


def discrete_law(deviation: float, edge: int) -> Reals:
    """The chances of -edge, ..., edge; what is beyond is added to the ends."""
    reach = 20 * math.ceil(deviation) + 20
    support = np.arange(-reach, reach + 1)
    weights = np.exp(-(support**2) / (2 * deviation**2))
    pooled = np.clip(support, -edge, edge) + edge
    law = np.zeros(2 * edge + 1)
    np.add.at(law, pooled, weights / weights.sum())
    return law


def discrete_p_value(values: Integers, deviation: float) -> float:
    edge = max(1, int(3 * deviation))
    expected = discrete_law(deviation, edge) * len(values)
    observed = np.bincount(np.clip(values, -edge, edge) + edge, minlength=2 * edge + 1)
    return upper_p_value(float(((observed - expected) ** 2 / expected).sum()), 2 * edge)


DISCRETE = [Fraction(3, 5), 1.0, Fraction(9, 2), 20.3, 100]


@pytest.mark.parametrize("deviation", DISCRETE)
def test_discrete_noise_has_the_exact_law(deviation: Fraction | float) -> None:
    values = discrete_gaussian(200_000, deviation, entropy(f"discrete {deviation}"))
    law = discrete_law(float(deviation), 2000)
    support = np.arange(-2000, 2001)
    variance = float((law * support**2).sum())
    fourth = float((law * support**4.0).sum())
    assert discrete_p_value(values, float(deviation)) > ALPHA
    mean = float(values.mean()) / math.sqrt(variance / len(values))
    assert two_sided(mean) > ALPHA
    error = float((values**2).mean()) - variance
    assert two_sided(error / math.sqrt((fourth - variance**2) / len(values))) > ALPHA


@pytest.mark.parametrize("factor", [0.97, 1.03])
@pytest.mark.parametrize("deviation", DISCRETE)
def test_the_discrete_check_finds_three_hundredths(
    deviation: Fraction | float, factor: float
) -> None:
    wrong = Fraction(deviation) * Fraction(factor)
    values = discrete_gaussian(200_000, wrong, entropy(f"wrong {deviation}"))
    assert discrete_p_value(values, float(deviation)) < ALPHA


def test_the_discrete_check_finds_a_zero_that_comes_twice() -> None:
    """What a sampler gives that keeps both signs of zero, at a small part of the draws."""
    values = discrete_gaussian(200_000, 4.5, entropy("zeros"))
    values[:10_000] *= np.arange(10_000) % 2
    assert discrete_p_value(values, 4.5) < ALPHA


def test_wide_discrete_noise_looks_continuous() -> None:
    values = discrete_gaussian(200_000, 4096.3, entropy("wide")).astype(np.float64) / 4096.3
    assert min(check(values) for check in CHECKS) > ALPHA
    assert shape_p_value(0.97 * values) < ALPHA


# Rounding, and opening only the sum (`docs/noise-and-rounding.md`)


def rounded_law(mean: float, deviation: float, support: Integers) -> Reals:
    """The chances of integers, after unbiased stochastic rounding of N(mean, deviation^2).

    E max(0, 1 - |x - k|) is a second difference of E max(0, z - x), which is known.
    """

    def below(place: float) -> float:
        normal = (place - mean) / deviation
        return (place - mean) * NORMAL.cdf(normal) + deviation * NORMAL.pdf(normal)

    return np.diff([below(place) for place in range(support[0] - 1, support[-1] + 2)], 2)


def opened_law(shares: Sequence[float], deviations: Sequence[float]) -> Reals:
    """The chances of the opened sum, in steps of the grid."""
    support = np.arange(-40, 41)
    law = np.ones(1)
    for share, deviation in zip(shares, deviations, strict=True):
        law = np.convolve(law, rounded_law(share, deviation, support))
    return law


def bound(deviations: Sequence[float]) -> float:
    """Equation (3) of the document, deviations in steps of the grid."""
    total = 0.0
    for place in range(len(deviations) - 1):
        own = deviations[place] ** 2
        others = sum(deviation**2 for deviation in deviations[place + 1 :])
        conditional = own * others / (own + others)
        total += sum(math.exp(-2 * (math.pi * j) ** 2 * conditional) for j in range(1, 50))
    return total


def closed_bound(members: int, smallest: float) -> float:
    """Equation (4): of the smallest share alone."""
    power = (math.pi * smallest) ** 2
    return (members - 1) * math.exp(-power) / (1 - math.exp(-3 * power))


def apart(shares: Sequence[float], others: Sequence[float], deviations: Sequence[float]) -> float:
    """Total variation between the opened sums of two ways to divide the same total."""
    laws = [opened_law(each, deviations) for each in (shares, others)]
    return 0.5 * float(np.abs(laws[0] - laws[1]).sum())


# The same totals, divided so that rounding differs most: on the grid, and half way between.
SPLITS = [
    ((0.0, 0.0), (0.5, -0.5)),
    ((0.3, 0.0), (0.0, 0.3)),
    ((0.0, 0.0, 0.0), (0.5, 0.5, -1.0)),
    ((0.0, 0.0, 0.0), (0.25, 0.5, -0.75)),
    ((0.0,) * 7, (0.5,) * 6 + (-3.0,)),
]


@pytest.mark.parametrize("steps", [0.2, 0.3, 0.5, 0.8, 1.0, 1.5])
@pytest.mark.parametrize(("one", "other"), SPLITS)
def test_how_a_total_is_divided_moves_the_opened_sum_less_than_the_bound(
    one: Sequence[float], other: Sequence[float], steps: float
) -> None:
    deviations = [steps] * len(one)
    assert apart(one, other, deviations) <= 2 * bound(deviations) + 1e-12
    uneven = [steps * (1 + 0.3 * place) for place in range(len(one))]
    assert apart(one, other, uneven) <= 2 * bound(uneven) + 1e-12
    assert bound(uneven) <= bound(deviations) <= closed_bound(len(one), steps)


@pytest.mark.parametrize(("one", "other"), SPLITS[:1] + SPLITS[2:])
def test_on_a_grid_as_coarse_as_the_noise_the_division_shows(
    one: Sequence[float], other: Sequence[float]
) -> None:
    """The twin: what the bound bounds is there, and grows with the grid."""
    sizes = [apart(one, other, [steps] * len(one)) for steps in (0.1, 0.3, 0.5, 0.7)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0.1
    assert sizes[-1] > 1e-12


def test_the_bound_is_tight_in_its_exponent_for_two() -> None:
    """Equation (4) of the document: exp(-pi^2 s^2) is what one sees, to a small factor."""
    for steps in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        seen = apart((0.0, 0.0), (0.5, -0.5), [steps] * 2)
        assert 0.02 < seen / bound([steps] * 2) <= 2


@pytest.mark.parametrize("members", range(2, 7))
def test_the_smallest_exponent_is_where_the_document_says(members: int) -> None:
    """Lemma 1, by trying every integer vector of a box, for even and uneven shares."""
    generator = random.Random(members)
    for variances in ([1.0] * members, [generator.uniform(0.1, 3) for _ in range(members)]):
        own = np.array(variances[:-1])
        form = np.diag(own) - np.outer(own, own) / sum(variances)
        box = [range(-2, 3)] * (members - 1)
        vectors = np.array([k for k in itertools.product(*box) if any(k)], dtype=np.float64)
        smallest = float(np.einsum("ki,ij,kj->k", vectors, form, vectors).min())
        least = min(variances)
        assert smallest == pytest.approx(least * (1 - least / sum(variances)))
        assert smallest >= least / 2 - 1e-12


GRID = FixedPoint(parties=3, fields=1, field_bits=24, clip=2.0**10)
SUMS = 400_000


def opened(shares: Sequence[float], steps: float, seed: str) -> tuple[Reals, Reals]:
    """The sum of noisy shares, and what is opened of it, both in steps of the grid."""
    source = entropy(seed)
    words = np.zeros(GRID.words(SUMS), dtype=np.uint64)
    exact = np.zeros(SUMS)
    for share in shares:
        noisy = share * GRID.step + gaussian(SUMS, steps * GRID.step, source)
        words += GRID.encode(noisy, source)
        exact += noisy / GRID.step
    return exact, GRID.decode_sum(words, SUMS, len(shares)) / GRID.step


def same_p_value(one: Integers, other: Integers) -> float:
    """Chi-square: are these counts of one law? Cells that hold few are pooled."""
    size = max(int(one.max()), int(other.max())) + 1
    counts = np.stack([np.bincount(each, minlength=size) for each in (one, other)])
    many = counts.sum(axis=0) >= 50
    pooled = np.column_stack([counts[:, many], counts[:, ~many].sum(axis=1)])
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    expected = pooled.sum(axis=0) / 2
    return upper_p_value(float(((pooled - expected) ** 2 / expected).sum()), pooled.shape[1] - 1)


def places(exact: Reals, seen: Reals) -> Integers:
    """Where the sum lies within its step (8 cells), and how it was rounded (8 ways)."""
    whole = np.floor(exact)
    cell = np.floor(8 * (exact - whole)).astype(np.int64)
    return 8 * cell + np.clip(seen - whole + 3, 0, 7).astype(np.int64)


WHOLE, DIVIDED = (0.0, 0.0, 0.0), (0.5, 0.5, -1.0)


@pytest.mark.parametrize("steps", [1.5, 200.0])
def test_given_the_sum_its_rounding_says_nothing_of_how_it_was_divided(steps: float) -> None:
    one, other = (opened(shares, steps, str(shares)) for shares in (WHOLE, DIVIDED))
    assert same_p_value(places(*one), places(*other)) > ALPHA


def test_on_a_coarse_grid_the_rounding_tells_how_the_sum_was_divided() -> None:
    one, other = (opened(shares, 0.4, str(shares)) for shares in (WHOLE, DIVIDED))
    assert same_p_value(places(*one), places(*other)) < ALPHA


@pytest.mark.parametrize(("steps", "told"), [(2.0, False), (0.1, True)])
def test_the_opened_sum_alone_tells_it_on_a_coarse_grid_only(steps: float, *, told: bool) -> None:
    one, other = (opened(shares, steps, str(shares))[1] for shares in (WHOLE, DIVIDED))
    p_value = same_p_value(*((each + 64).astype(np.int64) for each in (one, other)))
    assert (p_value < ALPHA) == told


@pytest.mark.parametrize("steps", [1.5, 200.0])
def test_given_the_sum_its_rounding_is_that_of_uniform_remainders(steps: float) -> None:
    """The function K of the document: remainders uniform, but for adding up to the sum's."""
    exact, seen = opened(DIVIDED, steps, "ideal")
    generator = np.random.default_rng(7)
    free = generator.random((2, SUMS))
    remainders = np.vstack([free, (exact - free.sum(axis=0)) % 1])
    up = (generator.random((3, SUMS)) < remainders).sum(axis=0)
    ideal = np.round(exact - remainders.sum(axis=0)) + up
    assert same_p_value(places(exact, seen), places(exact, ideal)) > ALPHA
    coarse = opened(DIVIDED, 0.3, "coarse")
    assert same_p_value(places(*coarse), places(exact, ideal)) < ALPHA


@pytest.mark.parametrize("mean", [0.0, 0.37, -5.5])
@pytest.mark.parametrize("steps", [0.5, 3.0])
def test_one_members_integers_have_the_law_of_a_rounded_gaussian(mean: float, steps: float) -> None:
    _, seen = opened((mean,), steps, f"{mean} {steps}")
    support = np.arange(-40, 41)
    assert law_p_value(seen, rounded_law(mean, steps, support)) > ALPHA
    assert law_p_value(seen, rounded_law(mean, 1.03 * steps, support)) < ALPHA


def test_the_law_check_finds_rounding_to_the_nearest() -> None:
    nearest = np.round(0.37 + gaussian(SUMS, 0.5, entropy("nearest")))
    assert law_p_value(nearest, rounded_law(0.37, 0.5, np.arange(-40, 41))) < ALPHA


def law_p_value(seen: Reals, law: Reals) -> float:
    edge = len(law) // 2
    observed = np.bincount(seen.astype(np.int64) + edge, minlength=len(law))
    expected = law * len(seen)
    likely = expected >= 10
    statistic = ((observed - expected)[likely] ** 2 / expected[likely]).sum()
    return upper_p_value(float(statistic), int(likely.sum()) - 1)
