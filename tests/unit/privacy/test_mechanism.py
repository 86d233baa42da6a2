"""One member's noise: how much, on what, on which grid, and how far from the format's limit."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from privacy.errors import InputError
from privacy.keystream import KEY_BYTES
from privacy.ledger.entry import EVALUATIONS, STATISTICS, UPDATE
from privacy.mechanism import (
    gradient_layout,
    noised,
    sum_layout,
    update_precision,
    update_range,
)
from privacy.noise import TAIL, discrete_gaussian, gaussian
from privacy.plan import SMALLEST_VECTOR, PrivacyPlan, deviation, sensitivity
from privacy.secure_sum.schemes import SCHEMES

PLAN = PrivacyPlan(
    noise="distributed",
    mechanism="gaussian",
    unit="borrower",
    parts="apart",
    rate=0.05,
    rows_per_unit=4,
    clip=2.0,
    steps=1,
    watches=2,
    update_share=1.5,
    statistics_share=20.0,
    statistics_clip=0.5,
    watch_share=30.0,
    test_share=40.0,
    evaluation_clip=0.25,
    colluders=1,
    delta=1e-5,
    grid=2.0**-13,
)
DISCRETE = replace(PLAN, mechanism="discrete_gaussian")
STEPS = (UPDATE, STATISTICS, EVALUATIONS[0], EVALUATIONS[1])
MASKED, CKKS = SCHEMES["masked"], SCHEMES["ckks"]


def fixed(count: int) -> bytes:
    assert count == KEY_BYTES
    return bytes(range(count))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("length", [1, SMALLEST_VECTOR, SMALLEST_VECTOR + 1])
def test_a_vector_has_the_noise_of_its_step_and_is_filled_up_with_it(
    step: str, length: int
) -> None:
    values = np.linspace(-1, 1, length)
    sent = noised(values, plan=PLAN, step=step, limit=1e6, entropy=fixed)
    filled = np.zeros(max(length, SMALLEST_VECTOR))
    filled[:length] = values
    np.testing.assert_array_equal(
        sent, filled + gaussian(filled.size, deviation(PLAN, step), fixed)
    )


@pytest.mark.parametrize("step", STEPS)
def test_discrete_noise_is_whole_steps_of_the_grid_around_the_nearest_one(step: str) -> None:
    values = np.linspace(-1, 1, SMALLEST_VECTOR)
    sent = noised(values, plan=DISCRETE, step=step, limit=1e6, entropy=fixed)
    grid = DISCRETE.grid * sensitivity(DISCRETE, step)
    share = Fraction(deviation(DISCRETE, step)) / Fraction(grid)
    steps = np.rint(values / grid) + discrete_gaussian(values.size, share, fixed)
    np.testing.assert_array_equal(sent, steps * grid)


@pytest.mark.parametrize("plan", [PLAN, DISCRETE])
def test_values_are_held_so_far_below_the_limit_that_noise_does_not_reach_it(
    plan: PrivacyPlan,
) -> None:
    room = 8.0
    limit = room + TAIL * deviation(plan, UPDATE)
    far = np.full(SMALLEST_VECTOR, 1e9)
    for sign in (1, -1):
        held = noised(sign * far, plan=plan, step=UPDATE, limit=limit, entropy=fixed)
        at_the_box = np.full(SMALLEST_VECTOR, sign * room)
        inside = noised(at_the_box, plan=plan, step=UPDATE, limit=limit, entropy=fixed)
        np.testing.assert_array_equal(held, inside)
        assert np.abs(held).max() < limit
    less = noised(far / 1e9 * 7.5, plan=plan, step=UPDATE, limit=limit, entropy=fixed)
    assert (less != noised(far, plan=plan, step=UPDATE, limit=limit, entropy=fixed)).all()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_gets_no_noise(wrong: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        noised(np.array([0.0, wrong]), plan=PLAN, step=UPDATE, limit=1e6, entropy=fixed)


def test_a_format_without_room_for_the_noise_is_refused() -> None:
    limit = TAIL * deviation(PLAN, UPDATE)
    for short in (limit, limit / 2):
        with pytest.raises(ValueError, match="no room"):
            noised(np.zeros(3), plan=PLAN, step=UPDATE, limit=short, entropy=fixed)
    noised(np.zeros(3), plan=PLAN, step=UPDATE, limit=limit * 1.01, entropy=fixed)


@pytest.mark.parametrize("share", [1e-3, 0.4, 1.0, 1.5, 100.0, 5000.0])
def test_the_range_of_an_update_is_the_least_power_of_two_that_holds_gradients_and_noise(
    share: float,
) -> None:
    plan = replace(PLAN, update_share=share)
    needed = plan.clip * (1024 + TAIL * share)
    assert math.frexp(update_range(plan) / plan.clip)[0] == 0.5
    assert needed <= update_range(plan) < 2 * needed


@pytest.mark.parametrize("share", [1e-3, 0.4, 1.0, 1.5, 100.0])
def test_rounding_is_a_thousand_times_finer_than_a_share_and_than_the_clip(share: float) -> None:
    plan = replace(PLAN, update_share=share)
    step = update_precision(plan) * update_range(plan)  # in the update's own unit
    coarsest = min(share, 1.0) * plan.clip / 1000
    assert coarsest / 2 < step <= coarsest
    discrete = replace(DISCRETE, update_share=share)
    assert update_precision(discrete) * update_range(discrete) == min(step, PLAN.grid * PLAN.clip)
    finer = replace(discrete, grid=2.0**-26)
    assert update_precision(finer) * update_range(finer) == 2.0**-26 * PLAN.clip


@pytest.mark.parametrize("parties", [1, 2, 7, 8, 1000])
def test_a_layout_reaches_the_range_and_rounds_as_finely_as_is_due(parties: int) -> None:
    limit, precision = update_range(PLAN), update_precision(PLAN)
    layout = gradient_layout(PLAN, parties, MASKED)
    assert layout.parties == parties
    assert layout.clip == limit
    assert layout.step <= precision * limit


SMALL = replace(
    PLAN,
    statistics_share=0.5,
    watch_share=0.25,
    test_share=2.0**-9,
    statistics_clip=1 / 64,
    evaluation_clip=1 / 128,
)


@pytest.mark.parametrize("plan", [PLAN, SMALL])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("parties", [1, 2, 7, 8, 1000])
def test_a_sum_of_statistics_has_room_for_four_million_units(
    plan: PrivacyPlan, step: str, parties: int
) -> None:
    layout = sum_layout(plan, step, parties)
    assert layout.parties == parties
    assert layout.fields == 1
    assert layout.clip == 2.0**22 * sensitivity(plan, step)
    finest = layout.step / min(deviation(plan, step), sensitivity(plan, step))
    assert 1 / 8192 < finest <= 1 / 1000  # and no finer than need be


def test_a_share_so_small_that_no_format_holds_it_is_refused_in_a_sentence() -> None:
    tiny = replace(PLAN, update_share=1e-6, statistics_share=1e-6)
    for parties in (2, 2**40):
        with pytest.raises(InputError, match="masked, or a smaller epsilon"):
            gradient_layout(tiny, parties, CKKS)
    with pytest.raises(InputError, match=f"holds {2**40} members' sums"):
        sum_layout(tiny, STATISTICS, 2**40)
    with pytest.raises(InputError, match="smaller epsilon"):
        gradient_layout(tiny, 2**40, MASKED)
    layout = gradient_layout(tiny, 2, MASKED)
    assert layout.fields == 1
    # As fine as is due, and no bit more.
    assert layout.step == update_precision(tiny) * update_range(tiny)


def test_updates_are_packed_as_their_scheme_can_carry_them() -> None:
    sealed = SCHEMES["sealed"]
    assert gradient_layout(PLAN, 3, MASKED).fields == 2
    layout = gradient_layout(PLAN, 3, sealed)
    assert (layout.fields, layout.field_bits) in sealed.packings(3)
    assert layout.fields == 1
