"""What is said of a window moves as its gradient says, and is dealt out whole."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.window_summary import (
    AGE_SCALE,
    Scale,
    Squashed,
    Standardised,
    Statistic,
    Summary,
    squashed_readings,
    squashed_readings_slope,
)

Floats = NDArray[np.float64]
ALL: tuple[Statistic, ...] = get_args(Statistic)
SENSORS = 2


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Summary, Floats, Floats, Floats]:
    kinds = draw(st.lists(st.sampled_from(ALL), min_size=1, max_size=4, unique=True))
    steps = draw(st.integers(3, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    summary = Summary(
        kinds=tuple(kinds), recent=draw(st.integers(1, 12)), pieces=draw(st.integers(1, 3))
    )
    series = rng.normal(size=(2, steps, SENSORS))
    return summary, series, rng.normal(size=(2, SENSORS)), rng.uniform(0, 2, 2)


@settings(max_examples=60, deadline=None)
@given(case=_cases(), seed=st.integers(0, 2**31 - 1))
def test_summaries_move_as_their_gradient_says(
    case: tuple[Summary, Floats, Floats, Floats], seed: int
) -> None:
    summary, series, origin, age = case
    rng = np.random.default_rng(seed)
    moving = rng.normal(size=summary.of(series, origin, age).shape)
    along, by_origin, by_age = summary.back(series, moving)
    d_series, d_origin, d_age = (rng.normal(size=x.shape) for x in (series, origin, age))
    step = 1e-6

    def said(by: float) -> Floats:
        return summary.of(series + by * d_series, origin + by * d_origin, age + by * d_age)

    told = ((said(step) - said(-step)) * moving).sum(axis=1) / (2 * step)
    slope = (along * d_series).sum(axis=(1, 2)) + (by_origin * d_origin).sum(axis=1)
    np.testing.assert_allclose(slope + by_age * d_age, told, atol=1e-6, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(case=_cases(), seed=st.integers(0, 2**31 - 1))
def test_what_statistics_add_is_dealt_out_to_readings_whole(
    case: tuple[Summary, Floats, Floats, Floats], seed: int
) -> None:
    summary, series, origin, age = case
    rng = np.random.default_rng(seed)
    said = summary.of(series, origin, age)
    reference, rate = rng.normal(size=(said.shape[1],)), rng.normal(size=said.shape)
    dealt = summary.deal(series, origin, reference, rate)
    of_sensors = [kind != "age" for kind in summary.expanded()]
    mask = np.concatenate([np.full(SENSORS if sensor else 1, sensor) for sensor in of_sensors])
    told = (rate * (said - reference))[:, mask].sum(axis=1)
    np.testing.assert_allclose(dealt.sum(axis=(1, 2)), told, atol=1e-5)


def test_each_statistic_goes_to_the_readings_that_made_it() -> None:
    series = np.array([[[0.0], [1.0], [5.0], [1.0], [-2.0], [1.0]]])
    zero: Floats = np.zeros(1)
    one: Floats = np.ones((1, 1))

    def dealt(kind: Statistic, reference: Floats = zero) -> Floats:
        summary = Summary(kinds=(kind,), recent=2, pieces=1)
        return summary.deal(series, np.array([[0.5]]), reference, one)[0, :, 0]

    np.testing.assert_allclose(dealt("last"), [0, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(dealt("max"), [0, 0, 5, 0, 0, 0])
    np.testing.assert_allclose(dealt("min"), [0, 0, 0, 0, -2, 0])
    np.testing.assert_allclose(dealt("recent"), [0, 0, 0, 0, -1, 0.5])
    np.testing.assert_allclose(dealt("drift"), [0, 0, 0, 0, -1.25, 0.25])
    np.testing.assert_allclose(dealt("mean", np.ones(1)), np.array([-1, 0, 4, 0, -3, 0]) / 6)
    scatter = dealt("std")
    assert scatter.argmax() == 2
    assert (scatter >= 0).all()
    assert scatter.sum() == pytest.approx(series.std())
    # a window that rises just as the reference does has nothing of its own
    rising = Summary(kinds=("slope",), recent=1, pieces=1)
    line: Floats = 0.7 * np.linspace(-1, 1, 6)[None, :, None]
    left = rising.deal(line, np.zeros((1, 1)), np.full(1, 0.7), one)
    np.testing.assert_allclose(left, 0, atol=1e-6)


def test_a_still_window_scatters_by_nobody() -> None:
    summary = Summary(kinds=("std",), recent=1, pieces=1)
    still = np.full((1, 4, 1), 3.0)
    np.testing.assert_array_equal(summary.back(still, np.ones((1, 1)))[0], 0)
    dealt = summary.deal(still, np.zeros((1, 1)), np.ones(1), np.ones((1, 1)))
    np.testing.assert_allclose(dealt, -0.25)  # what it lacks is dealt out evenly


@pytest.mark.parametrize("which", ["standardised", "squashed"])
def test_scales_move_as_their_slope_says_and_are_0_at_their_reference(which: str) -> None:
    rng = np.random.default_rng(0)
    width = 2 * SENSORS + 1
    kinds: tuple[Statistic, ...] = ("mean", "std", "age")
    scale: Scale = Squashed(kinds=kinds, sensors=SENSORS, age_scale=50.0)
    if which == "standardised":
        scale = Standardised(
            mean=rng.normal(size=width).astype(np.float32),
            spread=rng.uniform(0.5, 2, width).astype(np.float32),
        )
    said = 6 * rng.normal(size=(40, width))
    said[:, -1] = rng.uniform(0, 4, 40) * 50 / AGE_SCALE
    step = 1e-6
    told = (scale.of(said + step) - scale.of(said - step)) / (2 * step)
    np.testing.assert_allclose(scale.slope(said), told, atol=1e-4)
    np.testing.assert_allclose(scale.of(scale.reference[None]), 0, atol=1e-6)


def test_squashed_readings_move_as_their_slope_says() -> None:
    series = np.linspace(-30, 30, 61).reshape(1, 61, 1) + 0.01
    told = (squashed_readings(series + 1e-6) - squashed_readings(series - 1e-6)) / 2e-6
    np.testing.assert_allclose(squashed_readings_slope(series), told, atol=1e-6)
