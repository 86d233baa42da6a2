"""Scores of windows: what torch says, taken apart into sensors and times, tested by removal."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import asked, worn

from clients.model import from_vector, to_vector
from clients.train import Target, row_losses, score
from clients.window_features import Windows
from clients.window_model import Against, Reading, ReadingAmounts, WindowModel, reading
from clients.window_reasons import AGE, WindowScore, window_scores, window_sentence
from privacy.errors import RefusedError
from privacy.plan import PrivacyPlan

Floats = NDArray[np.float64]
ALL = ["last", "recent", "mean", "std", "slope", "min", "max", "first", "drift", "age"]
STATISTICS = {"length": worn.LENGTH, "recent": 3, "test_stride": 4}
KINDS: dict[str, dict[str, Any]] = {
    "statistics": {
        "features": {"window": {**STATISTICS, "statistics": ALL, "pieces": 2}},
        "model": {"hidden": [7, 4], "activation": "relu", "linear": True},
    },
    "own statistics": {
        "features": {"window": {**STATISTICS, "statistics": ALL, "baseline": "own"}},
        "model": {"hidden": [7], "activation": "silu"},
    },
    "readings": {
        "features": {"window": STATISTICS},
        "model": {"kind": "cnn", "hidden": [6, 5], "activation": "relu"},
    },
    "own readings": {
        "features": {"window": {**STATISTICS, "baseline": "own"}},
        "model": {"kind": "cnn", "hidden": [6, 5], "activation": "tanh"},
    },
}


def _model(made: worn.Trained, against: Against = "members") -> WindowModel:
    model = made.learner.explained(made.released, against=against)
    assert isinstance(model, WindowModel)
    return model


def _wild(folder: Path, kind: str, label: worn.Label, plan: PrivacyPlan | None) -> worn.Trained:
    made = worn.trained(folder, label, rounds=0, plan=plan, **KINDS[kind])
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.4, to_vector(made.learner.network).size)
    from_vector(made.learner.network, weights.astype(np.float32))
    return made


def _amounts(
    model: WindowModel, made: worn.Trained, *, every: int | None = None
) -> tuple[Windows, Reading, Reading | None, ReadingAmounts]:
    windows = model.windows(made.rows, every=every)
    beginning = model.beginning(made.rows, windows)
    return windows, reading(windows), beginning, model.amounts(reading(windows), beginning)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label", ["within_horizon", "remaining_life"])
def test_scores_are_those_of_torch_and_amounts_add_up(
    tmp_path: Path, kind: str, label: worn.Label
) -> None:
    plan = replace(asked.PLAN, unit="device") if kind == "own statistics" else None
    made = _wild(tmp_path, kind, label, plan)
    last_only = label == "remaining_life"
    rows = made.rows if "__known" not in made.rows else made.rows.assign(__known=True)
    examples = made.learner.test_examples(rows, made.released)
    told = score(made.learner.network, examples, made.learner.target)
    for against in ("members", "beginning"):
        model = _model(made, against)
        _, _, _, amounts = _amounts(model, made, every=None if last_only else 4)
        output = amounts.output
        if label == "remaining_life":
            output = model.target.value(output)
        np.testing.assert_allclose(output, told, atol=1e-3 * model.target.scale)
        together = amounts.series.sum(axis=(1, 2)) + amounts.age
        np.testing.assert_allclose(amounts.base + together, amounts.output, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_does_not_differ_from_its_own_beginning(tmp_path: Path, kind: str) -> None:
    made = _wild(tmp_path, kind, "within_horizon", None)
    model = _model(made, "beginning")
    young = replace(made, rows=made.rows[made.rows["step"] <= worn.LENGTH].reset_index(drop=True))
    amounts = _amounts(model, young)[3]
    np.testing.assert_array_equal(amounts.series, 0)
    np.testing.assert_array_equal(amounts.base, amounts.output)
    older = _amounts(model, made)[3]
    np.testing.assert_allclose(older.base, amounts.base, atol=1e-6)
    assert np.abs(older.series).max() > 0


@pytest.mark.parametrize("against", ["members", "beginning"])
def test_a_plane_of_means_is_taken_apart_reading_by_reading(
    tmp_path: Path, against: Against
) -> None:
    """Without hidden layers every reading's part is known: both ways of attributing find it."""
    window = {**STATISTICS, "statistics": ["mean", "slope", "recent"]}
    made = worn.trained(
        tmp_path, rounds=0, features={"window": window}, model={"hidden": []},
    )  # fmt: skip
    rng = np.random.default_rng(2)
    from_vector(made.learner.network, rng.normal(size=10).astype(np.float32))
    model = _model(made, against)
    _, those, beginning, amounts = _amounts(model, made)
    scale = model.features.scale(made.released)
    rate = model.network.head * scale.slope(np.zeros((1, 9)))[0]
    steps = worn.LENGTH
    line = np.linspace(-1, 1, steps)
    recent = np.where(np.arange(steps) >= steps - 3, 1 / 3, 0.0)
    weights = (
        rate[:3] / steps
        + (line / np.square(line).sum())[:, None] * rate[3:6]
        + recent[:, None] * rate[6:]
    )
    told = those.series * weights
    if beginning is not None:
        np.testing.assert_allclose(amounts.series, told - beginning.series * weights, atol=1e-6)
        return
    # against the members' mean each reading loses its share of what the mean device would show
    assert np.ptp(told - amounts.series, axis=0).max() < 1e-5


def test_a_sensor_that_the_network_does_not_look_at_adds_nothing(tmp_path: Path) -> None:
    made = _wild(tmp_path, "readings", "within_horizon", None)
    weights = to_vector(made.learner.network)
    first = weights[: 6 * 3 * 5].reshape(6, 3, 5)
    first[:, worn.SENSORS.index("speed")] = 0.0
    from_vector(made.learner.network, weights)
    amounts = _amounts(_model(made), made)[3]
    by_sensor = np.abs(amounts.series).sum(axis=(0, 1))
    assert by_sensor[worn.SENSORS.index("speed")] == 0
    assert (np.delete(by_sensor, worn.SENSORS.index("speed")) > 0).all()


# faithfulness, by removal

SHARES = (0.1, 0.2, 0.3)


def _removed(
    model: WindowModel, those: Reading, baseline: Floats, order: NDArray[np.int64]
) -> Floats:
    """By how much outputs move where the first readings of an order are the baseline's; (n,).

    The mean over `SHARES` of all readings: what lies under a deletion curve.
    """
    rows = len(those.age)
    before = model.outputs(those)
    moved = np.zeros(rows)
    for share in SHARES:
        count = round(share * order.shape[1])
        cells = those.series.reshape(rows, -1).copy()
        gone = order[:, :count]
        put = np.take_along_axis(baseline.reshape(rows, -1), gone, axis=1)
        np.put_along_axis(cells, gone, put, axis=1)
        after = model.outputs(replace(those, series=cells.reshape(those.series.shape)))
        moved += (before - after) / len(SHARES)
    return moved


def _faithful(
    model: WindowModel, those: Reading, baseline: Floats, amounts: Floats, sign: Floats
) -> bool:
    """Whether removing by attribution moves outputs far more than at random or those of least."""
    rows = len(those.age)
    flat = amounts.reshape(rows, -1) * sign[:, None]
    rng = np.random.default_rng(5)
    orders = {
        "most": np.argsort(-flat, axis=1),
        "random": np.argsort(rng.uniform(size=flat.shape), axis=1),
        "least": np.argsort(np.abs(flat), axis=1),
    }
    moved = {
        name: float((_removed(model, those, baseline, order) * sign).mean())
        for name, order in orders.items()
    }
    return moved["most"] > 1.7 * moved["random"] and moved["most"] > 3 * moved["least"]


@pytest.mark.parametrize("against", ["members", "beginning"])
@pytest.mark.parametrize("kind", ["statistics", "own statistics", "readings"])
def test_readings_with_the_highest_amounts_matter_most(
    tmp_path: Path, kind: str, against: Against
) -> None:
    made = worn.trained(tmp_path, **KINDS[kind])
    model = _model(made, against)
    _, those, beginning, amounts = _amounts(model, made, every=3)
    baseline = np.zeros(those.series.shape) if beginning is None else beginning.series
    sign = np.sign(amounts.series.sum(axis=(1, 2)))
    assert _faithful(model, those, baseline, amounts.series, sign)
    # the twin: the same amounts, told of other readings
    rng = np.random.default_rng(6)
    flat = amounts.series.reshape(len(sign), -1)
    shuffled = rng.permuted(flat, axis=1).reshape(amounts.series.shape)
    assert not _faithful(model, those, baseline, shuffled, sign)


# scores, and in words


def _scores(made: worn.Trained, against: Against = "members") -> list[WindowScore]:
    return list(window_scores(_model(made, against), made.rows, every=None))


def test_a_score_has_a_factor_for_each_sensor_and_the_age(tmp_path: Path) -> None:
    made = worn.trained(tmp_path)
    found = _scores(made)
    assert len(found) == made.rows["__unit"].nunique()
    for one in found:
        names = [factor.column for factor in one.score.factors]
        assert names == [*worn.SENSORS, AGE]
        assert 0 <= one.score.value <= 1
        last = made.rows.iloc[one.row]
        assert (one.score.unit, one.time) == (last["__unit"], last["step"])
        part = made.rows.iloc[one.row - worn.LENGTH + 1 : one.row + 1]
        assert one.score.factors[0].value == pytest.approx(part["heat"].mean())
        assert all(amount >= 0 for amount in (factor.amount for factor in one.score.reasons))
    worst = max(found, key=lambda one: one.score.value)
    assert worst.score.reasons[0].column in {"heat", "speed"}


def test_less_life_is_worse(tmp_path: Path) -> None:
    made = worn.trained(tmp_path, "remaining_life")
    for one in _scores(made):
        assert one.score.worse == "down"
        assert all(factor.amount < 0 for factor in one.score.reasons)
        for factor in one.score.reasons:
            text = window_sentence(_model(made), one, factor, "en")
            assert "shorter" in text
            assert "缩短" in window_sentence(_model(made), one, factor, "zh")


def test_a_device_younger_than_a_window_is_scored_by_the_readings_there_are(
    tmp_path: Path,
) -> None:
    made = worn.trained(tmp_path)
    rows = made.rows[made.rows["step"] <= 3].reset_index(drop=True)
    found = list(window_scores(_model(made), rows, every=None))
    assert len(found) == made.rows["__unit"].nunique()
    for one in found:
        assert one.times.tolist() == [1, 2, 3]
        assert one.amounts.shape == (3, 3)
        own = one.amounts.sum(axis=0)
        told = [factor.amount for factor in one.score.factors if factor.column != AGE]
        np.testing.assert_allclose(own, told)
        assert one.score.factors[-1].value == 3
    assert not list(window_scores(_model(made), rows, every=1))


def test_sentences_say_how_far_off_and_when(tmp_path: Path) -> None:
    made = worn.trained(tmp_path)
    worst = max(_scores(made), key=lambda one: one.score.value)
    model = _model(made)
    heat = worst.score.factors[0]
    english = window_sentence(model, worst, heat, "en")
    assert english.startswith("heat (bearing) is on average ")
    assert "above the members' mean over 8 readings: the odds of a failure are" in english
    assert "mostly by step" in english
    chinese = window_sentence(model, worst, heat, "zh")
    assert chinese.startswith("heat(bearing)在最近 8 次读数中平均比成员平均水平高")
    age = worst.score.factors[-1]
    assert "readings long" in window_sentence(model, worst, age, "en")
    own = window_sentence(_model(made, "beginning"), worst, heat, "en")
    assert "its own first window" in own
    start, stop = worst.most("heat") or (0.0, 0.0)
    part = (worst.times >= start) & (worst.times <= stop)
    assert worst.amounts[part, 0].sum() >= 0.5 * heat.amount


@pytest.mark.parametrize("weight", [0.5, 1.0, 10.0])
def test_a_chance_is_one_whatever_positive_rows_counted_for(weight: float) -> None:
    """What training on weighted rows settles at, read as a chance, is the share of positives."""
    target = Target(kind="binary", positive_weight=weight)
    share = 0.2
    settled = torch.tensor([math.log(weight * share / (1 - share))], requires_grad=True)
    losses = [row_losses(settled, torch.tensor([y]), torch.ones(1), target) for y in (1.0, 0.0)]
    (share * losses[0] + (1 - share) * losses[1]).sum().backward()  # type: ignore[no-untyped-call] # torch has no types here
    assert settled.grad is not None
    assert abs(float(settled.grad)) < 1e-6
    scale, shift = target.own_scale
    output = np.array([float(settled.detach()) * scale + shift])
    assert target.value(output)[0] == pytest.approx(share, abs=1e-6)


def test_weights_that_are_none_give_no_score(tmp_path: Path) -> None:
    made = _wild(tmp_path, "statistics", "within_horizon", None)
    weights = to_vector(made.learner.network)
    weights[3] = np.nan
    from_vector(made.learner.network, weights)
    with pytest.raises(RefusedError, match="no reasons"):
        _scores(made)
