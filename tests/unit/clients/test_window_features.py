"""A device measured against itself needs nobody else's readings, and its part in a tally is small.

Telemetry here is made in memory: two sensors under two operating conditions, worn towards the end.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.spec import NodeSpec
from clients.window_features import SMALLEST_NOISE, WindowFeatures, deviations
from clients.window_summary import AGE_LIMIT, HALF_WAY
from privacy.canonical import canonical_json
from privacy.errors import InputError

Floats = NDArray[np.float64]

LENGTH = 12
CAP = 40.0
ALL_STATISTICS = [
    "last", "recent", "mean", "std", "slope", "min", "max", "first", "drift", "age",
]  # fmt: skip


def _contract(kind: str = "remaining_life") -> DataContract:
    life = {"kind": "remaining_life", "cap": CAP}
    label = life if kind == "remaining_life" else {"kind": "within_horizon", "horizon": 10}
    text = {
        "contract": 1,
        "name": "small_telemetry",
        "unit": "device",
        "sources": [{"path": "telemetry.csv"}],
        "columns": [
            {"name": "machine", "type": "integer", "role": "id", "class": "L3"},
            {"name": "step", "type": "time", "role": "time", "class": "L2"},
            {"name": "setting", "type": "number", "role": "setting", "class": "L3",
             "range": [0, 10]},
            {"name": "heat", "type": "number", "role": "sensor", "class": "L3",
             "range": [0, 150]},
            {"name": "speed", "type": "number", "role": "sensor", "class": "L3",
             "range": [0, 10]},
        ],
        "regime": {"column": "setting", "levels": [0, 10]},
        "split": {"kind": "units", "seed": 0, "test_share": 0.3},
        "label": label,
    }  # fmt: skip
    return parse_settings(DataContract, text, "telemetry")


def _features(
    *,
    kind: str = "remaining_life",
    private: Literal["none", "unit", "organisation"] = "none",
    **window: object,
) -> WindowFeatures:
    chosen = {"length": LENGTH, "baseline": "own", "statistics": ["recent", "mean", "age"]}
    spec = NodeSpec.model_validate_json(
        canonical_json(
            {
                "task": "failure",
                "seed": 0,
                "features": {"window": chosen | window},
                "model": {"hidden": [4]},
                "training": {"rounds": 1},
            }
        )
    )
    assert spec.features.window is not None
    return WindowFeatures(_contract(kind), spec, spec.features.window, private=private)


def _device(name: str, length: int, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    wear = np.linspace(0, 1, length) ** 2
    setting = 10.0 * rng.integers(0, 2, length)
    left = np.arange(length)[::-1].astype(np.float64)
    return pd.DataFrame(
        {
            "setting": setting,
            "heat": 20 + 30 * wear + 5 * setting + rng.normal(size=length),
            "speed": 5 - wear + 0.2 * setting + 0.05 * rng.normal(size=length),
            "__unit": name,
            "__y": np.minimum(left, CAP),
            "__y_raw": left,
            "__exposure": 1.0,
        }
    )


def _fleet(*devices: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(devices, ignore_index=True)


def _inputs(features: WindowFeatures, rows: pd.DataFrame) -> dict[int, NDArray[np.float32]]:
    """Inputs of each unit's windows, by a tally of these very rows."""
    released: list[Floats] = []
    for _ in range(features.stages):
        released.append(features.tally(rows, released))
    examples = features.training_examples(rows, released)
    inputs = examples.numeric if features.window.statistics else examples.series
    return {int(unit): inputs[examples.unit == unit] for unit in np.unique(examples.unit)}


@pytest.mark.parametrize("statistics", [ALL_STATISTICS, []])
def test_no_other_device_changes_a_devices_inputs(statistics: Sequence[str]) -> None:
    features = _features(statistics=statistics, pieces=3 if statistics else 1)
    mine, other = _device("a", 50), _device("b", 40, seed=1)
    wild = other.assign(heat=other["heat"] * 7 - 300, speed=np.nan, setting=0.0)
    alone = _inputs(features, mine)[0]
    for beside in (other, wild):
        np.testing.assert_array_equal(_inputs(features, _fleet(mine, beside))[0], alone)
        np.testing.assert_array_equal(_inputs(features, _fleet(beside, mine))[1], alone)
    assert not np.array_equal(_inputs(features, wild)[0], _inputs(features, other)[0])


def test_the_federations_baseline_does_tell_of_other_devices() -> None:
    features = _features(baseline="federation")
    mine, other = _device("a", 50), _device("b", 40, seed=1)
    before = _inputs(features, _fleet(mine, other))
    after = _inputs(features, _fleet(mine, other.assign(heat=other["heat"] + 60)))
    assert np.abs(before[0] - after[0]).max() > 0.1


def test_no_later_reading_changes_a_window() -> None:
    features = _features(statistics=ALL_STATISTICS)
    whole = _device("a", 60)
    for kept in (LENGTH, LENGTH + 1, 35):
        cut = _inputs(features, whole.iloc[:kept])[0]
        np.testing.assert_array_equal(cut, _inputs(features, whole)[0][: len(cut)])
        assert len(cut) == kept - LENGTH + 1


def test_what_is_a_devices_own_from_the_start_does_not_show() -> None:
    features = _features(statistics=["recent", "mean", "slope", "std"])
    rows = _device("a", 60)
    heat = 0.6 * rows["heat"] + 15 - 1.2 * rows["setting"]
    np.testing.assert_allclose(
        _inputs(features, rows)[0], _inputs(features, rows.assign(heat=heat))[0], atol=1e-4
    )
    worn = _inputs(features, rows)[0]
    assert np.abs(worn[-1, :2]).min() > 0.4  # the last readings lie far from the first
    assert np.abs(worn[0, 2:4]).max() < 0.1  # the first window has a mean of 0 by definition
    assert np.abs(worn[0, 6:8]).max() < 0.1  # and a scatter of about 1


def test_a_deviation_is_counted_in_the_scatter_of_the_first_readings() -> None:
    values = np.array([[0.1], [0.3], [0.6], [0.8], [0.5], [0.9]])
    condition = np.array([0, 0, 1, 1, 0, 1])
    found = deviations(values, condition, 4)[:, 0]
    scatter = np.sqrt(4 * 0.1**2 / (4 - 2))
    np.testing.assert_allclose(found * scatter, [-0.1, 0.1, -0.1, 0.1, 0.3, 0.2], atol=1e-6)


def test_an_unknown_condition_and_a_gap_leave_the_last_deviation_standing() -> None:
    values = np.array([[0.1, np.nan], [0.3, 0.4], [0.5, 0.6], [0.9, 0.5], [0.3, np.nan]])
    condition = np.array([0, 0, 0, 1, 0])
    found = deviations(values, condition, 2)
    assert np.isfinite(found).all()
    assert found[0, 1] == 0  # nothing was read yet
    assert found[3, 0] == found[2, 0] != 0  # condition 1 was not among the first
    assert found[3, 1] == found[2, 1] == found[4, 1] != 0


def test_a_sensor_that_never_moved_is_not_taken_to_be_exact() -> None:
    steady = np.r_[np.full(20, 0.5), 0.5 + SMALLEST_NOISE][:, None]
    found = deviations(steady, np.zeros(21, dtype=np.int64), 20)
    np.testing.assert_allclose(found[:20], 0)
    assert found[20] == pytest.approx(1.0)


@pytest.mark.parametrize("statistics", [ALL_STATISTICS, ["recent", "age"]])
def test_no_reading_makes_an_input_wild(statistics: Sequence[str]) -> None:
    features = _features(statistics=statistics, pieces=2)
    rows = _device("a", 400)
    rows.loc[30:, "heat"] = [np.inf, -np.inf, 1e30, np.nan, 0.0] * 74
    inputs = _inputs(features, rows)[0]
    assert np.isfinite(inputs).all()
    age = features.names(()).index("age")
    assert inputs[-1, age] == AGE_LIMIT
    assert np.abs(np.delete(inputs, age, axis=1)).max() <= 1
    assert inputs.shape[1] == len(features.names(())) == features.shape(()).numeric


def test_an_age_is_measured_by_the_labels_cap() -> None:
    features = _features(statistics=["age"])
    age = _inputs(features, _device("a", 90))[0][:, 0]
    assert age[int(CAP) - LENGTH] == pytest.approx(0)
    assert age[int(2 * CAP) - LENGTH] == pytest.approx(2)


def test_a_device_younger_than_a_window_was_at_its_baseline_before() -> None:
    features = _features(statistics=["mean", "first"])
    rows = _device("a", 5)
    released = [features.tally(rows, [])]
    inputs = features.test_examples(rows, released).numeric
    assert inputs.shape == (1, 4)
    # deviations from a mean over all there is add up to 0, and so do those before
    np.testing.assert_allclose(inputs, 0, atol=1e-6)


def test_the_readings_themselves_can_be_measured_against_their_own_baseline() -> None:
    features = _features(statistics=[])
    rows = _fleet(_device("a", 30), _device("b", 40, seed=1))
    assert features.stages == 1
    rows.loc[20:25, "heat"] = 1e30
    series = features.training_examples(rows, [features.tally(rows, [])]).series
    assert series.shape == (19 + 29, LENGTH, 2)
    assert np.abs(series[0].mean(axis=0)).max() < 0.3
    assert 4 < np.abs(series).max() <= HALF_WAY


def test_an_own_baseline_needs_one_sum_and_that_an_overview() -> None:
    features = _features()
    rows = _fleet(_device("a", 30), _device("b", 40, seed=1))
    total = features.tally(rows, [])
    overview = features.overview([total])
    assert features.stages == features.spec.features.stages == 1
    assert (overview.rows, overview.units, total.size) == (70, 2, 6)
    assert _features(baseline="federation").stages == 2


def test_noise_needs_an_own_baseline() -> None:
    features = _features(baseline="federation", private="unit")
    rows = _device("a", 30)
    with pytest.raises(InputError, match=r"set features\.window\.baseline to own"):
        features.tally(rows, [])
    with pytest.raises(InputError, match=r"set features\.window\.baseline to own"):
        _ = features.sensitivity


labels = st.floats(allow_nan=True, allow_infinity=True)
fleets = st.lists(st.lists(labels, min_size=1, max_size=6), min_size=1, max_size=5)


def _labelled(fleet: Sequence[Sequence[float]]) -> pd.DataFrame:
    unit = np.repeat(np.arange(len(fleet)), [len(one) for one in fleet]).astype(str)
    rows = pd.DataFrame({"__unit": unit, "__y": np.concatenate(fleet)})
    return rows.assign(setting=0.0, heat=20.0, speed=5.0)


@settings(max_examples=60, deadline=None)
@given(fleets, st.booleans())
def test_no_unit_moves_a_private_tally_beyond_the_sensitivity(
    fleet: list[list[float]],
    life: bool,
) -> None:
    features = _features(kind="remaining_life" if life else "within_horizon", private="unit")
    rows = _labelled(fleet)
    whole = features.tally(rows, [])
    assert features.sensitivity == 2.0
    for unit in rows["__unit"].unique():
        without = features.tally(rows[rows["__unit"] != unit], [])
        assert np.linalg.norm(whole - without) <= features.sensitivity
    member = replace(features, private="organisation").tally(rows, [])
    assert np.linalg.norm(member) <= features.sensitivity


def test_a_tally_of_rows_is_moved_further_by_one_unit() -> None:
    features = _features()
    few, many = _labelled([[40.0]]), _labelled([[40.0], [40.0] * 6])
    assert np.linalg.norm(features.tally(many, []) - features.tally(few, [])) > 2.0


def test_a_private_overview_is_that_of_units() -> None:
    rows = _fleet(_device("a", 30), _device("b", 60, seed=1), _device("c", 45, seed=2))
    features = _features(private="unit")
    overview = features.overview([features.tally(rows, [])])
    means = rows.groupby("__unit")["__y"].mean()
    assert overview.units == overview.rows == pytest.approx(3)
    assert overview.mean == pytest.approx(means.mean())
    assert overview.exposure == pytest.approx(3)
    whole = replace(features, private="organisation")
    overview = whole.overview([whole.tally(rows, [])])
    assert overview.units == pytest.approx(1)
    assert overview.mean == pytest.approx(rows["__y"].mean())


def test_a_private_overview_can_be_read_from_noise_alone() -> None:
    overview = _features(private="unit").overview([np.full(4, -3.0)])
    assert overview.units == 1
    assert 0 < overview.mean <= CAP
    assert overview.exposure > 0


@pytest.mark.parametrize("private", ["none", "unit"])
def test_a_label_that_nobody_knows_is_not_counted(private: Literal["none", "unit"]) -> None:
    features = _features(kind="within_horizon", private=private)
    rows = _fleet(_device("a", 30), _device("b", 20, seed=1))
    rows["__y"] = (rows["__y_raw"] < 10).astype(np.float64)
    rows["__known"] = rows["__unit"] == "a"
    rows.loc[~rows["__known"], "__y"] = 1e9
    overview = features.overview([features.tally(rows, [])])
    assert overview.units == pytest.approx(1)
    assert overview.mean == pytest.approx(1 / 3)
