"""An evaluation in a run with noise: what one unit can move, and how near the metrics come."""

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.private_tally import (
    LOGIT_BINS,
    private_length,
    private_metrics,
    private_sensitivity,
    private_tally,
    unit_shares,
)
from privacy.tally import HEADLINE, TallyKind, metrics, tally

KINDS: tuple[TallyKind, ...] = get_args(TallyKind)
CAP: dict[TallyKind, float] = {"life": 100.0, "value": 2.0, "binary": 1.0, "count": 4.0}
ANY = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1.0, 1e30, -1e300, float("inf"), float("-inf"), float("nan")]),
)
Rows = dict[str, Any]


def _sum(kind: TallyKind, rows: Rows, **changes: Any) -> NDArray[np.float64]:  # noqa: ANN401
    return private_tally(kind, cap=CAP[kind], **{**rows, **changes})


def _rows(kind: TallyKind, count: int, seed: int = 0) -> Rows:
    """Scores of a useful, calibrated model; each unit one row."""
    rng = np.random.default_rng(seed)
    exposure = np.ones(count)
    if kind == "binary":
        score = rng.normal(-1.5, 1.2, count)
        target = (rng.uniform(size=count) < 1 / (1 + np.exp(-score))).astype(np.float64)
    elif kind == "count":
        exposure = rng.uniform(0.1, 1, count)
        score = exposure * np.exp(rng.normal(-2.5, 0.5, count))
        target = np.minimum(rng.poisson(score), CAP[kind]).astype(np.float64)
    elif kind == "life":
        target = rng.uniform(0, 100, count)
        score = np.clip(target + rng.normal(0, 12, count), 0, 100)
    else:
        target = rng.normal(0, 2, count)
        score = target + rng.normal(0, 1, count)
    return {
        "score": score,
        "target": target,
        "target_raw": target,
        "exposure": exposure,
        "unit": np.arange(count),
    }


@st.composite
def _any_rows(draw: st.DrawFn) -> Rows:
    count = draw(st.integers(1, 12))
    columns = {
        name: np.array(draw(st.lists(ANY, min_size=count, max_size=count)))
        for name in ("score", "target", "target_raw", "exposure")
    }
    unit = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return {**columns, "unit": np.array(unit, dtype=np.int64)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(rows=_any_rows())
def test_a_unit_moves_the_tally_by_at_most_its_sensitivity(kind: TallyKind, rows: Rows) -> None:
    whole = _sum(kind, rows)
    assert np.isfinite(whole).all()
    for unit in np.unique(rows["unit"]):
        keep = rows["unit"] != unit
        less = _sum(kind, {name: values[keep] for name, values in rows.items()})
        # exactly at most: float64's rounding is in the bound
        assert np.linalg.norm(whole - less) <= private_sensitivity(kind)


def test_the_smallest_count_there_is_does_not_end_a_sum() -> None:
    rows = {**_rows("count", 1), "score": np.array([2.0]), "target": np.array([5e-324])}
    assert np.isfinite(_sum("count", rows)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_reached(kind: TallyKind) -> None:
    # the row that moves the tally most; else the noise would be larger than it has to be
    worst: Rows = {
        "score": np.array([1e12]),
        "target": np.array([CAP["count"] if kind == "count" else -1e12]),
        "target_raw": np.zeros(1),
        "exposure": np.ones(1),
        "unit": np.zeros(1, dtype=np.int64),
    }
    assert np.linalg.norm(_sum(kind, worst)) == pytest.approx(private_sensitivity(kind), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_with_many_rows_counts_as_one(kind: TallyKind) -> None:
    rows = _rows(kind, 50)
    often = {name: np.repeat(values, 7) for name, values in rows.items()}
    np.testing.assert_allclose(_sum(kind, often), _sum(kind, rows), rtol=1e-9)
    # the twin: rows as units of their own move it seven times as far
    apart = _sum(kind, {**often, "unit": np.arange(350)})
    np.testing.assert_allclose(apart, 7 * _sum(kind, rows), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_member_is_one_unit(kind: TallyKind) -> None:
    rows = _rows(kind, 50)
    one = _sum(kind, rows, whole=True)
    np.testing.assert_allclose(one, _sum(kind, rows) / 50, rtol=1e-9)
    assert np.linalg.norm(one) <= private_sensitivity(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_are_nothing(kind: TallyKind) -> None:
    empty = {name: values[:0] for name, values in _rows(kind, 1).items()}
    nothing = np.zeros(private_length(kind))
    for whole in (False, True):
        np.testing.assert_array_equal(_sum(kind, empty, whole=whole), nothing)
    assert private_metrics(kind, nothing, 1.0, cap=CAP[kind]) == {"rows": 0.0}


def test_weights_of_a_unit_add_up_to_one() -> None:
    unit = np.array([2, 0, 2, 2, 0])
    np.testing.assert_allclose(np.bincount(unit, weights=unit_shares(unit)), [1, 0, 1])
    assert unit_shares(unit, whole=True).sum() == pytest.approx(1)


def _exact(kind: TallyKind, rows: Rows) -> dict[str, float]:
    count = rows["unit"].size
    given = {name: values for name, values in rows.items() if name != "unit"}
    group = np.full(count, -1)
    return metrics(kind, tally(kind, group=group, groups=(), cap=CAP[kind], **given), ())


@pytest.mark.parametrize(
    ("kind", "within"),
    [("life", 0.01), ("value", 0.01), ("binary", 0.002), ("count", 0.3)],
)
def test_without_noise_the_headline_is_that_of_the_other_tally(
    kind: TallyKind, within: float
) -> None:
    rows = _rows(kind, 40_000)
    found = private_metrics(kind, _sum(kind, rows), 0.0, cap=CAP[kind])
    exact = _exact(kind, rows)
    name = HEADLINE[kind][0]
    assert found[name] == pytest.approx(exact[name], abs=within)
    assert found[f"{name}_noise"] == 0
    assert found["rows"] == pytest.approx(40_000)
    shared = (set(found) & set(exact)) - {name, "r2"}
    assert shared - {"rows"}
    for other in shared:
        assert found[other] == pytest.approx(exact[other], rel=0.02), other


def test_a_bin_is_no_mere_tie() -> None:
    # halves of ties would be off by several thousandths at this bin width
    for seed in range(3):
        rows = _rows("binary", 40_000, seed)
        found = private_metrics("binary", _sum("binary", rows), 0.0, cap=1.0)
        assert found["auc"] == pytest.approx(_exact("binary", rows)["auc"], abs=1.2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deviation", [1.0, 5.0])
def test_the_error_bar_covers_the_noise(kind: TallyKind, deviation: float) -> None:
    total = _sum(kind, _rows(kind, 20_000))
    name = HEADLINE[kind][0]
    true = private_metrics(kind, total, 0.0, cap=CAP[kind])[name]
    rng = np.random.default_rng(5)
    covered, bars, errors = 0, [], []
    for _ in range(400):
        noisy = total + rng.normal(0, deviation, total.size)
        found = private_metrics(kind, noisy, deviation, cap=CAP[kind])
        errors.append(found[name] - true)
        bars.append(found[f"{name}_noise"])
        covered += abs(errors[-1]) <= 3 * bars[-1]
    assert covered >= 0.95 * 400
    # the bar is no wider than it has to be
    assert np.mean(bars) < 1.5 * np.std(errors)


def test_the_check_of_the_error_bar_can_fail() -> None:
    total = _sum("count", _rows("count", 20_000))
    true = private_metrics("count", total, 0.0, cap=4.0)["deviance_x100"]
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(200):
        noisy = total + rng.normal(0, 10.0, total.size)
        found = private_metrics("count", noisy, 1.0, cap=4.0)  # a tenth of the noise is admitted
        covered += abs(found["deviance_x100"] - true) <= 3 * found["deviance_x100_noise"]
    assert covered < 0.95 * 200


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(data=st.data(), deviation=st.floats(0, 1e6), size=st.sampled_from([1e-3, 1.0, 1e3, 1e9]))
def test_any_sum_is_read_as_finite_numbers(
    kind: TallyKind, data: st.DataObject, deviation: float, size: float
) -> None:
    length = private_length(kind)
    values = data.draw(st.lists(st.floats(-1, 1), min_size=length, max_size=length))
    found = private_metrics(kind, size * np.array(values), deviation, cap=CAP[kind])
    assert all(np.isfinite(value) for value in found.values())
    assert found["rows"] >= 0
    assert 0 <= found.get("auc", 0.5) <= 1
    assert 0 <= found.get("average_precision", 0.5) <= 1


def test_a_class_that_does_not_stand_out_gives_no_auc() -> None:
    rows = _rows("binary", 2_000)
    rows["target"] = np.zeros(2_000)
    rows["target"][:5] = 1.0
    rng = np.random.default_rng(0)
    noisy = _sum("binary", rows) + rng.normal(0, 10, 2 * LOGIT_BINS)
    found = private_metrics("binary", noisy, 10.0, cap=1.0)
    assert "auc" not in found
    assert "rows" in found


def test_a_plain_regression_is_told_in_the_labels_unit() -> None:
    total = _sum("value", _rows("value", 20_000))
    one = private_metrics("value", total, 2.0, cap=2.0)
    thousand = private_metrics("value", total, 2.0, cap=2.0, target_unit=1000.0)
    for name in ("rmse", "rmse_noise", "mae"):
        assert thousand[name] == pytest.approx(1000 * one[name])
    assert one["rmse"] == pytest.approx(1.0, abs=0.02)
    assert thousand["r2"] == one["r2"] == pytest.approx(0.75, abs=0.02)


def test_what_does_not_fit_is_an_error() -> None:
    rows = _rows("binary", 3)
    with pytest.raises(ValueError, match="one number a row"):
        _sum("binary", rows, score=np.zeros(2))
    with pytest.raises(ValueError, match="cap"):
        private_tally("life", cap=0.0, **rows)
    with pytest.raises(ValueError, match="entries"):
        private_metrics("life", np.zeros(4), 1.0, cap=1.0)
    with pytest.raises(ValueError, match="cap"):
        private_metrics("life", np.zeros(3), 1.0, cap=float("inf"))
