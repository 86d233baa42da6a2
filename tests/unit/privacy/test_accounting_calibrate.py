import math
from collections.abc import Callable, Sequence
from time import process_time

import pytest

from privacy.accounting.calibrate import MULTIPLIER_MIN, smallest_multiplier
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
    start = process_time()
    smallest_multiplier(_training, epsilon=1.0, delta=1e-6)
    assert process_time() - start < 2


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
    found = smallest_multiplier(lambda _: [Event(50.0)], epsilon=1.0, delta=DELTA)
    assert found == MULTIPLIER_MIN


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_the_wish_is_a_finite_number_above_zero(wrong: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        smallest_multiplier(_training, epsilon=wrong, delta=DELTA)
