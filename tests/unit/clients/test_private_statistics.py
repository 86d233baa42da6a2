"""Statistics of tables in a run with noise: what one unit can move, and what is read from it."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import tables

from clients.contract import DataContract
from clients.frozen import parse_yaml
from clients.members import read_members
from clients.model import build
from clients.spec import NodeSpec
from clients.statistics import (
    NOISY_BINS,
    NOISY_OVERVIEW,
    read_noisy_distribution,
    read_noisy_overview,
    tents,
    to_noisy_rank,
)
from clients.table_features import TableFeatures
from privacy.canonical import canonical_json
from privacy.errors import InputError

Floats = NDArray[np.float64]
Protected = Literal["none", "unit", "organisation"]
KINDS = ("binary", "count", "value")
ANY = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1.0, 1e30, float("inf"), float("-inf"), float("nan")]),
)


def _contract(kind: str, **label: Any) -> DataContract:  # noqa: ANN401 - any key of a label
    text = tables.contract(kind)
    if kind == "count":
        text["label"] |= {"cap": 4, "exposure_cap": 1}
    text["label"] |= label
    return parse_yaml(DataContract, json.dumps(text), "contract")  # JSON is YAML


@cache
def _features(kind: str, private: Protected = "unit", bins: int = 4) -> TableFeatures:
    settings = {
        "task": "credit",
        "seed": 0,
        "features": {"bins": bins},
        "model": {"hidden": []},
        "training": {"rounds": 1},
    }
    spec = NodeSpec.model_validate_json(canonical_json(settings))
    return TableFeatures(_contract(kind), spec, private=private)


def _train(tmp_path: Path, kind: str = "binary") -> pd.DataFrame:
    where = tables.write(tmp_path, kind, contract_changes={"label": _label(kind)})
    members = read_members(_contract(kind), where.root)
    return pd.concat([one.train for one in members.values()], ignore_index=True)


def _label(kind: str) -> dict[str, Any]:
    return _contract(kind).label.model_dump(mode="json")


@st.composite
def _any_rows(draw: st.DrawFn) -> pd.DataFrame:
    """Rows of any values, several to a unit."""
    count = draw(st.integers(1, 12))
    frame = pd.DataFrame(
        {
            name: draw(st.lists(ANY, min_size=count, max_size=count))
            for name in ("load", "amount", "__y", "__exposure")
        }
    )
    levels = ["a", "b", "c", "rare", "other"]
    codes = draw(st.lists(st.sampled_from(levels), min_size=count, max_size=count))
    frame["code"] = pd.Categorical(codes, categories=levels)
    unit = draw(st.lists(st.sampled_from(["x", "y", "z"]), min_size=count, max_size=count))
    frame["__unit"] = pd.Series(unit, dtype="str")
    return frame


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(rows=_any_rows())
def test_a_unit_moves_the_statistics_by_at_most_their_sensitivity(
    kind: str, rows: pd.DataFrame
) -> None:
    features = _features(kind)
    whole = features.tally(rows, [])
    assert np.isfinite(whole).all()
    for unit in rows["__unit"].unique():
        less = features.tally(rows[rows["__unit"] != unit], [])
        assert np.linalg.norm(whole - less) <= features.sensitivity


@settings(max_examples=50, deadline=None)
@given(rows=_any_rows())
def test_a_whole_member_moves_them_by_no_more(rows: pd.DataFrame) -> None:
    features = _features("count", "organisation")
    assert np.linalg.norm(features.tally(rows, [])) <= features.sensitivity
    np.testing.assert_array_equal(features.tally(rows.iloc[:0], []), 0)


def test_the_bound_is_nearly_reached() -> None:
    rows = pd.DataFrame(
        {"load": [0.5], "amount": [1.0], "__y": [4.0], "__exposure": [1.0], "__unit": ["x"]}
    )
    features = _features("count")
    assert np.linalg.norm(features.tally(rows, [])) == pytest.approx(features.sensitivity)


def test_rows_as_units_of_their_own_move_them_further() -> None:
    # the twin: without the mean over a unit's rows the bound does not hold
    row = {"load": 0.5, "amount": 1.0, "__y": 1.0, "__exposure": 1.0}
    rows = pd.DataFrame([{**row, "__unit": "x"}] * 5)
    features = _features("binary")
    assert np.linalg.norm(features.tally(rows, [])) <= features.sensitivity
    apart = rows.assign(__unit=[f"x{i}" for i in range(5)])
    assert np.linalg.norm(features.tally(apart, [])) > features.sensitivity


def test_rows_without_an_id_are_one_unit_together() -> None:
    row = {"load": 0.5, "amount": 1.0, "__y": 1.0, "__exposure": 1.0}
    rows = pd.DataFrame([row] * 5).assign(__unit=pd.Series([None] * 5, dtype="str"))
    assert _features("binary").tally(rows, [])[0] == pytest.approx(1)


def test_a_label_without_a_bound_is_refused() -> None:
    spec = _features("count").spec
    for missing in ("cap", "exposure_cap"):
        contract = _contract("count", **{missing: None})
        with pytest.raises(InputError, match=rf"label\.{missing}"):
            _ = TableFeatures(contract, spec, private="unit").sensitivity
        with pytest.raises(InputError, match=rf"label\.{missing}"):
            TableFeatures(contract, spec, private="unit").tally(pd.DataFrame(), [])


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_the_totals_are_those_of_the_rows(tmp_path: Path, kind: str) -> None:
    rows = _train(tmp_path, kind)
    if kind == "value":
        rows["__y"] /= 10_000
    private, plain = _features(kind), _features(kind, "none")
    found = private.overview([private.tally(rows, [])])
    exact = plain.overview([plain.tally(rows, [])])
    for name in ("rows", "units", "target", "target_squared", "exposure", "mean", "rate"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name)), name
    assert found.spread == pytest.approx(exact.spread)


@settings(max_examples=200, deadline=None)
@given(
    total=st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4),
    bounds=st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)),
    signed=st.booleans(),
)
def test_totals_of_any_sum_can_be_worked_with(
    total: list[float], bounds: tuple[float, float], signed: bool
) -> None:
    found = read_noisy_overview(
        np.array(total), target_bound=bounds[0], exposure_bound=bounds[1], signed=signed
    )
    assert found.rows == found.units >= 1
    assert found.spread > 0
    assert np.isfinite([found.mean, found.spread, found.rate]).all()
    assert found.exposure > 0
    assert abs(found.mean) <= bounds[0] * (1 + 1e-12)
    if not signed:
        assert 0 < found.target < found.rows * bounds[0]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), size=st.sampled_from([1e-3, 1.0, 1e6]))
def test_the_distribution_of_any_sum_rises(data: st.DataObject, size: float) -> None:
    values = data.draw(st.lists(st.floats(-1, 1), min_size=NOISY_BINS, max_size=NOISY_BINS))
    curve = read_noisy_distribution(size * np.array(values))
    assert curve.shape == (NOISY_BINS + 1,)
    assert curve[0] == 0
    assert curve[-1] == 1
    assert (np.diff(curve) >= 0).all()


def test_ranks_survive_noise() -> None:
    rng = np.random.default_rng(3)
    values = rng.beta(2, 5, 20_000)
    histogram = np.histogram(values, bins=NOISY_BINS, range=(0, 1))[0]
    exact = values.argsort().argsort() / values.size
    noisy = np.zeros(NOISY_BINS)
    for deviation, within in ((0.0, 0.01), (50.0, 0.05)):
        noisy = histogram + rng.normal(0, deviation, NOISY_BINS)
        rank = to_noisy_rank(values, read_noisy_distribution(noisy))
        assert np.abs(rank - exact).max() < within
    assert np.isnan(to_noisy_rank(np.array([np.nan]), read_noisy_distribution(noisy)))[0]


def test_tents_are_a_curve_of_straight_pieces() -> None:
    values = np.array([0.0, 0.125, 0.25, 0.9, 1.0, np.nan])
    inputs = tents(values, 4)
    assert inputs.shape == (6, 5)
    np.testing.assert_allclose(inputs[1], [0.5, 0.5, 0, 0, 0])
    np.testing.assert_allclose(inputs[:5].sum(axis=1), 1)
    np.testing.assert_array_equal(inputs[5], 0)
    assert (np.linalg.norm(inputs, axis=1) <= 1).all()
    places = np.linspace(0, 1, 5)
    np.testing.assert_allclose(inputs[:5] @ places, values[:5])  # the straight line is one of them


@pytest.mark.parametrize("bins", [0, 6])
def test_inputs_do_not_depend_on_other_rows(tmp_path: Path, bins: int) -> None:
    # whatever the sum holds; only ranks of a `quantile` column follow its histogram
    rows = _train(tmp_path)
    features = _features("binary", bins=bins)
    released = [features.tally(rows, [])]
    other = [np.random.default_rng(0).normal(0, 1e3, released[0].size)]
    names = features.names(released)
    own = [i for i, name in enumerate(names) if name.startswith("load")]
    one, two = features.examples(rows, released), features.examples(rows, other)
    np.testing.assert_array_equal(one.numeric[:, own], two.numeric[:, own])
    np.testing.assert_array_equal(one.codes, two.codes)
    assert np.isfinite(two.numeric).all()
    assert features.names(other) == names
    assert features.shape(other) == features.shape(released)
    assert one.numeric.shape == (len(rows), features.shape(released).numeric)
    assert len(names) == one.numeric.shape[1] + one.codes.shape[1]
    np.testing.assert_array_equal(one.codes[:, 0], rows["code"].cat.codes)  # rare ones stay


def test_a_gap_is_told_apart(tmp_path: Path) -> None:
    rows = _train(tmp_path)
    gap = rows["load"].isna().to_numpy()
    assert gap.any()
    for bins, missing in ((0, 1.0), (6, 0.0)):
        features = _features("binary", bins=bins)
        released = [features.tally(rows, [])]
        names = features.names(released)
        inputs = features.examples(rows, released).numeric
        own = [i for i, name in enumerate(names) if name.startswith("load")]
        assert (inputs[gap][:, own].sum(axis=1) == missing).all()
        if bins == 0:
            np.testing.assert_array_equal(inputs[:, names.index("load missing")], gap)
        else:
            np.testing.assert_allclose(inputs[~gap][:, own].sum(axis=1), 1, rtol=1e-6)


def test_ranks_of_a_quantile_column_follow_the_noisy_histogram(tmp_path: Path) -> None:
    rows = _train(tmp_path)
    features = _features("binary", bins=0)
    total = features.tally(rows, [])
    assert total.size == NOISY_OVERVIEW + NOISY_BINS
    noisy = total + np.random.default_rng(1).normal(0, 2, total.size)
    at = features.names([noisy]).index("amount")
    found = features.examples(rows, [noisy]).numeric[:, at]
    exact = rows["amount"].rank(pct=True).to_numpy()
    assert np.corrcoef(found, exact)[0, 1] > 0.98


def test_a_run_without_noise_has_what_it_had(tmp_path: Path) -> None:
    rows = _train(tmp_path)
    plain = _features("binary", "none")
    default = TableFeatures(plain.contract, plain.spec)
    assert default == plain
    released = [default.tally(rows, [])]
    assert released[0].size == 6 + 2 * (3 + 1024) + 5
    names = default.names(released)
    assert "load missing" in names
    assert "load ramp 1 of 4" in names


def test_a_network_can_be_built_on_noise_alone() -> None:
    features = _features("count")
    rng = np.random.default_rng(2)
    total = rng.normal(0, 100, NOISY_OVERVIEW + NOISY_BINS)
    network = build(features.spec.model, features.shape([total]), seed=0)
    assert sum(p.numel() for p in network.parameters()) == 2 * 5 + 5 + 1
