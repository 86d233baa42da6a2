"""Features by secure sums equal those of pooled rows, and say what they are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tables

from clients.contract import load_contract
from clients.learner import Learner, split_validation
from clients.members import read_members
from clients.spec import NodeSpec
from clients.statistics import (
    BINS,
    read_distribution,
    read_moments,
    tally_histogram,
    tally_moments,
    to_rank,
    to_unit_interval,
)
from clients.table_features import TableFeatures
from clients.window_features import WindowFeatures
from privacy.canonical import canonical_json


def _spec(**changes: object) -> NodeSpec:
    settings = {
        "task": "failure",
        "seed": 0,
        "model": {"hidden": [4]},
        "training": {"rounds": 1},
        **changes,
    }
    return NodeSpec.model_validate_json(canonical_json(settings))


def test_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(size=1000)
    values[:50] = np.nan
    parts = sum(tally_moments(part) for part in np.split(values, 10))
    assert isinstance(parts, np.ndarray)
    found = read_moments(parts)
    assert found.present == 950
    assert found.mean == pytest.approx(np.nanmean(values))
    assert found.spread == pytest.approx(np.nanstd(values))


def test_a_constant_column_has_no_wild_scale() -> None:
    assert read_moments(tally_moments(np.full(10, 0.3))).spread == 1.0


def test_ranks_follow_the_histogram_within_its_resolution() -> None:
    values = np.random.default_rng(1).beta(2, 5, size=20_000)
    rank = to_rank(values, read_distribution(tally_histogram(values)))
    exact = values.argsort().argsort() / values.size
    assert np.abs(rank - exact).max() < 5 / BINS + 1e-3


@pytest.mark.parametrize("transform", ["standard", "log1p", "signed_log", "quantile"])
def test_scaling_is_monotone_and_within_the_unit_interval(transform: str) -> None:
    values = np.array([-1e9, -50.0, -1.0, 0.0, 1.0, 50.0, 1e9, np.nan])
    scaled = to_unit_interval(values, -100.0, 100.0, transform)  # type: ignore[arg-type]
    assert np.isnan(scaled[-1])
    assert (np.diff(scaled[:-1]) >= 0).all()
    assert scaled[0] == 0.0
    assert scaled[-2] == 1.0


def test_a_level_that_is_rare_everywhere_is_folded_into_other(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    contract = load_contract(where.contract)
    rows = pd.concat(
        [one.train for one in read_members(contract, tmp_path).values()], ignore_index=True
    )
    spec = _spec(task="credit", features={"rare_below": 20})
    features = TableFeatures(contract, spec)
    released = [features.tally(rows, [])]
    codes = features.examples(rows, released).codes[:, 0]
    shown = rows["code"].astype(str)
    assert 0 < (shown == "rare").sum() < 20
    assert (codes[(shown == "rare").to_numpy()] == 4).all()
    assert (codes[(shown == "a").to_numpy()] == 0).all()


def test_a_gap_is_the_mean_beside_an_input_that_says_so(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    contract = load_contract(where.contract)
    rows = next(iter(read_members(contract, tmp_path).values())).train
    features = TableFeatures(contract, _spec(task="credit"))
    released = [features.tally(rows, [])]
    names = features.names(released)
    inputs = features.examples(rows, released).numeric
    gap = np.isnan(rows["load"].to_numpy())
    assert gap.any()
    assert (inputs[gap, names.index("load")] == 0).all()
    np.testing.assert_array_equal(inputs[:, names.index("load missing")], gap)
    assert "amount missing" not in names
    assert inputs.shape[1] == features.shape(released).numeric


def test_ramps_add_up_to_a_shape_of_their_column(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    contract = load_contract(where.contract)
    rows = next(iter(read_members(contract, tmp_path).values())).train
    features = TableFeatures(contract, _spec(task="credit", features={"bins": 6}))
    released = [features.tally(rows, [])]
    names = features.names(released)
    ramps = [i for i, name in enumerate(names) if name.startswith("amount ramp")]
    inputs = features.examples(rows, released).numeric[:, ramps]
    assert len(ramps) >= 2
    assert inputs.min() >= 0
    assert inputs.max() <= 1
    order = rows["amount"].to_numpy().argsort()
    assert (np.diff(inputs.sum(axis=1)[order]) >= -1e-6).all()


def _telemetry(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    rng = np.random.default_rng(3)
    rows = []
    for machine in range(9):
        length = 12 + 5 * machine
        wear = np.linspace(0, 1, length) ** 2
        rows += [
            {
                "machine": machine + 1,
                "step": step + 1,
                "setting": 10.0 * (step % 2),
                "heat": 20 + 30 * wear[step] + 50 * (step % 2) + rng.normal(),
            }
            for step in range(length)
        ]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "telemetry.csv", index=False)
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
        ],
        "regime": {"column": "setting", "levels": [0, 10]},
        "split": {"kind": "units", "seed": 0, "test_share": 0.3},
        "label": {"kind": "remaining_life", "cap": 20},
    }  # fmt: skip
    path = tmp_path / "telemetry.yaml"
    path.write_bytes(canonical_json(text))
    return path, frame


def test_windows_follow_the_protocol(tmp_path: Path) -> None:
    path, frame = _telemetry(tmp_path)
    contract = load_contract(path)
    rows = next(iter(read_members(contract, tmp_path, sole_member="one").values()))
    spec = _spec(features={"window": {"length": 15, "statistics": ["last", "mean", "age"]}})
    assert spec.features.window is not None
    features = WindowFeatures(contract, spec, spec.features.window)
    released: list[np.ndarray] = []
    for _ in range(features.stages):
        released.append(features.tally(rows.train, released))
    train = features.training_examples(rows.train, released)
    lengths = rows.train.groupby("__unit").size()
    assert len(train) == int((lengths - 14).clip(lower=0).sum())
    assert train.target.max() <= 20
    assert train.target.min() == 0
    np.testing.assert_allclose(train.numeric.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(train.numeric.std(axis=0), 1, atol=1e-2)
    test = features.test_examples(rows.test, released)
    # one window a device, its last, also for a device younger than a window
    assert len(test) == rows.test["__unit"].nunique()
    assert (test.target_raw == 0).all()
    assert len(frame) == len(rows.train) + len(rows.test)


def test_a_reading_is_standardised_by_its_own_condition(tmp_path: Path) -> None:
    path, _ = _telemetry(tmp_path)
    contract = load_contract(path)
    rows = next(iter(read_members(contract, tmp_path, sole_member="one").values()))
    spec = _spec(features={"window": {"length": 2}}, model={"kind": "cnn", "hidden": [4]})
    assert spec.features.window is not None
    features = WindowFeatures(contract, spec, spec.features.window)
    released = [features.tally(rows.train, [])]
    series = features.training_examples(rows.train, released).series
    # 50 degrees lie between the conditions; standardised, neighbouring readings are alike
    assert np.abs(series[:, 1] - series[:, 0]).mean() < 1.0


def test_a_cnn_learns_from_windows(tmp_path: Path) -> None:
    path, _ = _telemetry(tmp_path)
    contract = load_contract(path)
    rows = next(iter(read_members(contract, tmp_path, sole_member="one").values()))
    spec = _spec(
        features={"window": {"length": 8}},
        model={"kind": "cnn", "hidden": [8, 8]},
        training={"rounds": 1, "local_epochs": 30, "batch_rows": 16, "learning_rate": 0.01},
    )
    from clients.train import train

    work = Learner(contract, spec, "cpu")
    released = [work.tally_statistics(rows.train, [])]
    work.start(released)
    examples = work.training_examples(rows.train, released)
    before = work.loss(examples)
    train(work.network, examples, work.target, spec.training, round_index=1, seed=0)
    assert work.loss(examples) < 0.7 * before


def test_validation_units_are_whole_and_the_same_every_time(tmp_path: Path) -> None:
    path, _ = _telemetry(tmp_path)
    contract = load_contract(path)
    rows = next(iter(read_members(contract, tmp_path, sole_member="one").values())).train
    spec = _spec(validation_share=0.4)
    kept, aside = split_validation(rows, spec)
    assert not set(kept["__unit"]) & set(aside["__unit"])
    assert len(kept) + len(aside) == len(rows)
    pd.testing.assert_frame_equal(aside, split_validation(rows, spec)[1])
