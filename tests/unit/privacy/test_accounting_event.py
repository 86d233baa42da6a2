import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.accounting.event import Event, event_of, merged, solo_event_of
from privacy.accounting.rdp import epsilon, renyi
from privacy.receipt import Receipt

Floats = NDArray[np.float64]
GAUSSIAN = Receipt(
    kind="update",
    unit="borrower",
    cohort="training",
    mechanism="gaussian",
    share=0.5,
    clip=3.0,
    sampling="poisson",
    rate=0.05,
    steps=7,
    shares=11,
    values=100,
    grid=0.0,
    purpose="test",
)
DISCRETE = replace(GAUSSIAN, mechanism="discrete_gaussian", grid=2.0**-10)
EXACT = replace(GAUSSIAN, mechanism="none", share=0.0, sampling="none", rate=1.0)
GRID = 0.5  # coarse, so that every effect of rounding is seen
RATES = (1.0, 0.3, 0.05)


def test_colluders_subtract_their_shares() -> None:
    assert event_of(GAUSSIAN, colluders=2) == Event(0.5 * 3, rate=0.05, steps=7)
    assert event_of(GAUSSIAN, colluders=0).multiplier == pytest.approx(0.5 * math.sqrt(11))


@pytest.mark.parametrize("receipt", [GAUSSIAN, DISCRETE])
def test_the_members_own_share_is_always_left(receipt: Receipt) -> None:
    solo = solo_event_of(receipt)
    assert solo == event_of(receipt, colluders=10) == event_of(receipt, colluders=10**6)
    assert solo.multiplier == pytest.approx(0.5, rel=0.01)


def test_a_clip_of_another_size_costs_the_same_as_noise_follows_it() -> None:
    assert event_of(replace(GAUSSIAN, clip=1e-3), colluders=1) == event_of(GAUSSIAN, colluders=1)


@pytest.mark.parametrize("colluders", [0, 2, 100])
def test_an_exact_release_costs_infinity_and_fails_nowhere(colluders: int) -> None:
    event = event_of(EXACT, colluders=colluders)
    assert not event.bounded
    assert renyi(event, 2) == math.inf
    assert epsilon([event, Event(5.0)], 1e-5)[0] == math.inf


def test_colluders_are_counted_from_none() -> None:
    with pytest.raises(ValueError, match="colluders"):
        event_of(GAUSSIAN, colluders=-1)


@pytest.mark.parametrize(
    "change",
    [
        {"multiplier": -1.0},
        {"multiplier": math.nan},
        {"multiplier": math.inf},
        {"rate": 0.0},
        {"rate": 1.1},
        {"rate": math.nan},
        {"steps": 0},
        {"steps": True},
        {"excess": -1.0},
        {"excess": math.nan},
        {"excess": 1.0},  # continuous noise has none
    ],
)
def test_an_event_out_of_range_cannot_be_made(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need"):
        replace(Event(1.0), **change)  # type: ignore[arg-type]


def test_a_loss_has_a_bound_where_there_is_noise_that_is_not_too_coarse() -> None:
    assert Event(1e-300).bounded
    assert not Event(0.0).bounded
    assert Event(1.0, discrete=True, excess=1e300).bounded
    assert not Event(1.0, discrete=True, excess=math.inf).bounded


def test_equal_mechanisms_are_added_up_in_any_order() -> None:
    events = [Event(2.0, 0.1, 3), Event(1.0), Event(2.0, 0.1, 4), Event(2.0, 0.1, 4, discrete=True)]
    expected = (Event(1.0), Event(2.0, 0.1, 4, discrete=True), Event(2.0, 0.1, 7))
    assert merged(events) == merged(events[::-1]) == expected
    assert merged([]) == ()


def test_discrete_noise_pays_for_its_rounding() -> None:
    # sqrt(100) coordinates, each rounded by up to one step more.
    expected = 0.5 * 3 / (1 + 10 * 2.0**-10)
    event = event_of(DISCRETE, colluders=2)
    assert event.multiplier == pytest.approx(expected, rel=1e-12)
    assert event.discrete
    assert 0 < event.excess < 1e-300


def test_a_coarse_grid_counts_one_share_alone() -> None:
    # The bound on sums needs half a step of deviation.
    coarse = replace(DISCRETE, share=0.49, grid=1.0, values=1, shares=2)
    assert event_of(coarse, colluders=0) == solo_event_of(coarse)
    finer = replace(coarse, share=0.51)
    assert event_of(finer, colluders=0) != solo_event_of(finer)


def test_half_a_step_of_deviation_is_enough_for_the_bound_on_sums() -> None:
    least = replace(DISCRETE, share=0.5, grid=1.0, values=1, shares=2)
    assert event_of(least, colluders=0) != solo_event_of(least)


def test_of_two_readings_the_cheaper_one_is_charged() -> None:
    taken = set()
    for shares in (2, 3, 8):
        for values in range(1, 120):
            receipt = replace(DISCRETE, share=0.5, grid=1.0, values=values, shares=shares)
            alone = solo_event_of(receipt)
            cost = 1 / (2 * alone.multiplier**2)  # at order 1
            excess = 10 * (shares - 1) * values * math.exp(-((math.pi / 2) ** 2))
            together = cost / shares + excess < cost
            assert (event_of(receipt, colluders=0) != alone) == together
            taken.add(together)
    assert taken == {True, False}


def test_a_sum_of_discrete_gaussians_is_charged_for_each_coordinate() -> None:
    receipt = replace(DISCRETE, share=1.0, grid=0.5, values=100)  # two steps of deviation
    excess = event_of(receipt, colluders=2).excess
    # Kairouz, Liu, Steinke 2021: 10 times a sum over k = 1..8, for nine honest shares.
    terms = (math.exp(-2 * math.pi**2 * 4 * k / (k + 1)) for k in range(1, 9))
    assert 100 * 10 * sum(terms) <= excess <= 100 * 10 * 8 * math.exp(-4 * math.pi**2) * (1 + 1e-9)


@pytest.mark.parametrize("grid", [0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 2.0])
@pytest.mark.parametrize("order", [2, 3, 9, 64])
def test_more_honest_shares_never_cost_more(grid: float, order: int) -> None:
    receipt = replace(DISCRETE, grid=grid)
    costs = [renyi(event_of(receipt, colluders=count), order) for count in range(12)]
    solo = renyi(solo_event_of(receipt), order)
    assert all(cost <= solo * (1 + 1e-11) for cost in costs)


def _discrete_gaussian(deviation: float) -> Floats:
    edge = int(14 * deviation) + 8
    weights = np.exp(-(np.arange(-edge, edge + 1) ** 2) / (2 * deviation**2))
    return np.asarray(weights / weights.sum(), np.float64)


def _true_divergences(noise: Floats, shift: int, rate: float, order: int) -> tuple[float, float]:
    """Both directions, one coordinate that one unit moves by `shift` steps."""
    without = np.concatenate([noise, np.zeros(shift)])
    with_unit = np.concatenate([np.zeros(shift), noise])
    seen = (without > 1e-290) & (with_unit > 1e-290)
    without, with_unit = without[seen], with_unit[seen]
    sampled = (1 - rate) * without + rate * with_unit

    def divergence(upper: Floats, lower: Floats) -> float:
        logs = order * np.log(upper) + (1 - order) * np.log(lower)
        return float(np.logaddexp.reduce(logs)) / (order - 1)

    return divergence(sampled, without), divergence(without, sampled)


def _sum_of(shares: int, deviation: float) -> Floats:
    one = _discrete_gaussian(deviation)
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return total


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("deviation", [0.4, 0.6, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("shares", [1, 2, 5])
def test_sums_of_discrete_gaussians_lose_no_more_than_charged(
    shares: int, deviation: float, rate: float
) -> None:
    receipt = replace(
        DISCRETE, share=deviation * GRID, grid=GRID, rate=rate, shares=shares, values=1, steps=1
    )
    event = event_of(receipt, colluders=0)
    shift = math.floor((1 + GRID) / GRID)  # the furthest that integers can be apart
    noise = _sum_of(shares, deviation)
    for order in (2, 3, 8):
        bound = renyi(event, order)
        truths = [_true_divergences(noise, steps, rate, order) for steps in range(1, shift + 1)]
        assert max(max(pair) for pair in truths) <= bound * (1 + 1e-9)
        assert all(removed >= added * (1 - 1e-9) for removed, added in truths)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    "change", [{"shares": 3}, {"grid": GRID / 8, "share": 2.0 * GRID}, {"share": 2.1 * GRID}]
)
def test_the_check_of_discrete_noise_can_fail(rate: float, change: dict[str, float]) -> None:
    # A share more than there is, no rounding, and 5 % more noise than was added.
    claimed = replace(DISCRETE, share=2.0 * GRID, grid=GRID, rate=rate, shares=2, values=1, steps=1)
    event = event_of(replace(claimed, **change), colluders=0)  # type: ignore[arg-type]
    shift = math.floor((1 + GRID) / GRID)
    truth, _ = _true_divergences(_sum_of(2, 2.0), shift, rate, 8)
    assert truth > renyi(event, 8)


def test_rounding_moves_a_vector_by_no_more_than_the_grid_allows() -> None:
    generator = np.random.default_rng(5)
    unallowed = 0.0
    for values in (1, 4, 25):
        for _ in range(2000):
            base = generator.uniform(-3, 3, values)
            unit = generator.normal(size=values)
            unit /= np.linalg.norm(unit)  # clip 1
            moved = np.round((base + unit) / GRID) - np.round(base / GRID)
            length = float(np.linalg.norm(moved)) * GRID
            assert length <= 1 + math.sqrt(values) * GRID
            unallowed = max(unallowed, length)
    assert unallowed > 1.4  # the allowance is needed
