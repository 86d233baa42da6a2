import math
from collections.abc import Callable, Sequence

import pytest
from support.own_time import own_time_s

from privacy.accounting.calibrate import (
    MULTIPLIER_MAX,
    MULTIPLIER_MIN,
    _bracketed,
    _coarse,
    _crossing,
    smallest_multiplier,
)
from privacy.accounting.event import Event
from privacy.accounting.pld import proven
from privacy.errors import RefusedError

DELTA = 1e-5
Plan = Callable[[float], Sequence[Event]]


def _training(multiplier: float) -> list[Event]:
    return [Event(multiplier, 0.05, 400)]


def _strict(multiplier: float) -> list[Event]:
    return [Event(multiplier, 0.05, 400, discrete=True)]


def _whole_run(multiplier: float) -> list[Event]:
    # Statistics and evaluation with noise of their own beside the training.
    return [Event(12.0), *_training(multiplier), Event(5 * multiplier, steps=10)]


PLANS: dict[str, Plan] = {"training": _training, "strict": _strict, "whole run": _whole_run}


@pytest.mark.parametrize("wanted", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
def test_the_noise_is_enough_and_the_smallest(plan: Plan, wanted: float) -> None:
    found = smallest_multiplier(plan, epsilon=wanted, delta=DELTA)
    assert proven(plan(found), DELTA) <= wanted
    # The twin: 0.1 % less noise is not enough.
    assert proven(plan(found / 1.001), DELTA) > wanted


@pytest.mark.parametrize(
    ("wanted", "multiplier"),
    [(0.25, 13.46), (1, 3.88), (2, 2.19), (4, 1.34), (8, 0.916), (16, 0.68)],
)
def test_the_reference_multipliers_are_found(wanted: float, multiplier: float) -> None:
    found = smallest_multiplier(_training, epsilon=wanted, delta=DELTA)  # `privacy.md` 2.2
    assert found == pytest.approx(multiplier, rel=0.01)


def test_a_plan_takes_less_than_two_seconds() -> None:
    smallest_multiplier(_training, epsilon=3.0, delta=DELTA)
    assert own_time_s(lambda: smallest_multiplier(_training, epsilon=1.0, delta=1e-6)) < 2


@pytest.mark.parametrize("wanted", [0.005, 40.0, 2000.0])
def test_unusual_wishes_are_met(wanted: float) -> None:
    def plan(multiplier: float) -> list[Event]:
        return [Event(multiplier, 0.5, 4)]

    found = smallest_multiplier(plan, epsilon=wanted, delta=DELTA)
    assert proven(plan(found), DELTA) <= wanted < proven(plan(found / 1.001), DELTA)


def test_what_has_other_noise_may_be_too_much_alone() -> None:
    with pytest.raises(RefusedError, match="larger epsilon"):
        smallest_multiplier(lambda m: [Event(1.0), Event(m)], epsilon=1.0, delta=DELTA)
    with pytest.raises(RefusedError, match="larger epsilon"):
        smallest_multiplier(lambda m: [Event(0.0), Event(m)], epsilon=1.0, delta=DELTA)


def test_where_any_noise_does_the_least_is_given() -> None:
    for wanted in (1.0, proven([Event(50.0)], DELTA)):
        found = smallest_multiplier(lambda _: [Event(50.0)], epsilon=wanted, delta=DELTA)
        assert found == MULTIPLIER_MIN


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_the_wish_is_a_finite_number_above_zero(wrong: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        smallest_multiplier(_training, epsilon=wrong, delta=DELTA)


# --- where the search looks ---


class _Asked:
    """A cost that falls from `above` to `below` at 2, and what was asked of it."""

    def __init__(self, above: float, below: float, at: float = 2.0) -> None:
        self.points: list[float] = []
        self._above, self._below, self._at = above, below, at

    def __call__(self, multiplier: float) -> float:
        self.points.append(multiplier)
        return self._below if multiplier >= self._at else self._above


@pytest.mark.parametrize("at", [0.03, 0.9, 1.0, 2.0, 77.0, 9e5])
def test_the_first_look_is_within_a_hundredth(at: float) -> None:
    found = _coarse(_Asked(1.5, 1.0, at), 1.0)
    assert at <= found < 1.01 * at


def test_the_first_look_stays_within_the_bounds() -> None:
    assert MULTIPLIER_MIN < _coarse(lambda _: 1.0, 1.0) < 1.01 * MULTIPLIER_MIN
    assert _coarse(lambda _: 1.5, 1.0) == MULTIPLIER_MAX


def test_the_line_through_two_costs_meets_the_wish() -> None:
    def cost(multiplier: float) -> float:
        return 36 / multiplier**2

    for low, high in [(2.0, 6.0), (2.0, 12.0), (2.9, 3.5)]:
        found = _crossing((low, cost(low)), (high, cost(high)), 4.0)
        assert found == pytest.approx(3.0, rel=1e-12)
    for above, below in [(math.inf, 1.0), (9.0, 0.0), (4.0, 4.0), (3.0, 5.0), (9.0, math.nan)]:
        assert _crossing((2.0, above), (8.0, below), 4.0) == 4.0


# How often the strides grew: 1.05, its square, the square of that, ...
STRIDES = [1.05 ** (2**count - 1) for count in range(6)]


@pytest.mark.parametrize("below", [1.0, 0.999])
def test_a_cost_that_jumps_is_bracketed_by_four_guesses_and_then_by_halves(below: float) -> None:
    cost = _Asked(1e3, below)
    found = _bracketed(cost, 1.0, start=4.0)
    asked = cost.points
    assert asked[:5] == pytest.approx([4.0 / each for each in STRIDES[:5]], rel=1e-12)
    low, high = asked[4], asked[3]
    for place, point in enumerate(asked[5:]):
        # the line ends next to `high`, and is kept off it by nine tenths of the tolerance
        guess = high if place < 4 else math.sqrt(low * high)
        expected = min(max(guess, low * 1.0009), high / 1.0009)
        assert point == pytest.approx(expected, rel=1e-12)
        low, high = (low, point) if point >= 2 else (point, high)
        assert (high > 1.001 * low) is (place < len(asked) - 6)
    assert found == high


def test_a_guess_is_kept_off_the_lower_end_too() -> None:
    cost = _Asked(1.0001, 1e-3)
    found = _bracketed(cost, 1.0, start=1.9)
    asked = cost.points
    assert asked[:3] == pytest.approx([1.9, 1.9 * 1.05, 1.9 * 1.05**3], rel=1e-12)
    low = asked[1]
    assert asked[3:5] == pytest.approx([low * 1.0009, low * 1.0009**2], rel=1e-12)
    assert 2 <= found <= 2 * 1.001


def test_a_start_that_is_too_low_is_left_in_growing_strides() -> None:
    cost = _Asked(2.0, 1.0, at=30.0)
    found = _bracketed(cost, 1.0, start=10.0)
    assert cost.points[:6] == pytest.approx([10.0 * each for each in STRIDES], rel=1e-12)
    assert min(cost.points[5:]) > cost.points[4]
    assert max(cost.points) == cost.points[5]
    assert 30 <= found <= 30 * 1.001


def test_a_line_that_is_right_takes_four_costs() -> None:
    asked: list[float] = []

    def cost(multiplier: float) -> float:
        asked.append(multiplier)
        return 4 / multiplier**2

    found = _bracketed(cost, 1.0, start=2.05)
    assert len(asked) == 4
    assert cost(found) <= 1.0 < cost(found / 1.001)


def test_the_search_ends_at_the_most_noise_there_is() -> None:
    cost = _Asked(2.0, 1.0, at=MULTIPLIER_MAX)
    assert _bracketed(cost, 1.0, start=1e3) == MULTIPLIER_MAX
    assert max(cost.points) == MULTIPLIER_MAX
    # a bracket of exactly the tolerance is narrow enough
    start = 999000.9990009991
    assert start * 1.001 == MULTIPLIER_MAX
    cost.points.clear()
    assert _bracketed(cost, 1.0, start=start) == MULTIPLIER_MAX
    assert cost.points == [start, MULTIPLIER_MAX]
