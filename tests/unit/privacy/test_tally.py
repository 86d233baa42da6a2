"""Metrics of summed tallies against scikit-learn's on the pooled rows."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    log_loss,
    mean_absolute_error,
    mean_poisson_deviance,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from privacy.fixed_point import wide
from privacy.randomness import system_bytes
from privacy.tally import BINS, LOGIT_LIMIT, TallyKind, metrics, tally, tally_length

Floats = NDArray[np.float64]
SEEDS = range(4)
KINDS: tuple[TallyKind, ...] = ("life", "value", "binary", "count")
CAP = 125.0


def tally_of(
    kind: TallyKind,
    score: Floats,
    target: Floats,
    *,
    target_raw: Floats | None = None,
    exposure: Floats | None = None,
    group: NDArray[np.int64] | None = None,
    groups: Sequence[str] = (),
) -> Floats:
    return tally(
        kind,
        score=score,
        target=target,
        target_raw=target if target_raw is None else target_raw,
        exposure=np.ones_like(score) if exposure is None else exposure,
        group=np.full(score.shape, -1) if group is None else group,
        groups=groups,
        cap=CAP,
    )


def federated(
    kind: TallyKind, generator: np.random.Generator, *columns: Floats, unit: float = 1.0
) -> dict[str, float]:
    """Metrics of rows that fall to 1 to 6 members at random, through the sum that a run opens."""
    member = generator.integers(0, generator.integers(1, 7), len(columns[0]))
    exposure = columns[2] if kind == "count" else None
    raw = columns[2] if kind == "life" else None
    layout = wide(6)
    words = np.zeros(layout.words(tally_length(kind, ())), np.uint64)
    for index in range(6):  # some members have no rows at all
        keep = member == index
        own = tally_of(
            kind,
            columns[0][keep],
            columns[1][keep],
            exposure=None if exposure is None else exposure[keep],
            target_raw=None if raw is None else raw[keep],
        )
        words += layout.encode(own, system_bytes)
    total = layout.decode_sum(words, tally_length(kind, ()), 6)
    return metrics(kind, total, (), target_unit=unit)


def binary_rows(generator: np.random.Generator, spread: float = 2.0) -> tuple[Floats, Floats]:
    logit = generator.normal(-1.0, spread, 3000)
    happened = generator.random(3000) < 1 / (1 + np.exp(-logit))
    return logit, happened.astype(np.float64)


def binned(logit: Floats) -> Floats:
    width = 2 * LOGIT_LIMIT / BINS
    held = np.clip(logit, -LOGIT_LIMIT, LOGIT_LIMIT)
    return np.minimum(np.floor((held + LOGIT_LIMIT) / width), BINS - 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spread", [0.01, 2.0, 40.0])
def test_ranking_is_that_of_the_pooled_rows(seed: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    logit, target = binary_rows(generator, spread)
    found = federated("binary", generator, logit, target)
    assert found["auc"] == pytest.approx(roc_auc_score(target, binned(logit)), abs=1e-9)
    assert abs(found["auc"] - roc_auc_score(target, logit)) <= found["auc_error"] + 1e-9
    exact = average_precision_score(target, binned(logit))
    assert found["average_precision"] == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_for_usual_scores_bins_cost_next_to_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logit, target = binary_rows(generator)
    found = federated("binary", generator, logit, target)
    assert found["auc_error"] < 1e-3
    exact = average_precision_score(target, logit)
    assert found["average_precision"] == pytest.approx(exact, abs=3e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_is_that_of_the_pooled_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logit, target = binary_rows(generator)
    chance = 1 / (1 + np.exp(-logit))
    found = federated("binary", generator, logit, target)
    assert found["log_loss"] == pytest.approx(log_loss(target, chance), abs=1e-7)
    assert found["positive_share"] == pytest.approx(target.mean(), abs=1e-12)
    band = np.minimum((chance * 10).astype(int), 9)
    gaps = [abs((chance - target)[band == index].sum()) for index in range(10)]
    assert found["calibration_error"] == pytest.approx(sum(gaps) / 3000, abs=1e-7)
    assert found["rows"] == 3000


def test_a_mean_of_members_metrics_would_not_pass() -> None:
    generator = np.random.default_rng(5)
    logit, target = binary_rows(generator)
    first = logit < np.median(logit)  # the members differ in what they see
    halves = [
        metrics("binary", tally_of("binary", logit[keep], target[keep]), ())
        for keep in (first, ~first)
    ]
    pooled = roc_auc_score(target, logit)
    whole = metrics("binary", tally_of("binary", logit, target), ())
    assert abs(whole["auc"] - pooled) <= whole["auc_error"]
    assert abs(sum(half["auc"] for half in halves) / 2 - pooled) > 0.05


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("unit", [1.0, 250.0])
def test_errors_of_values_are_those_of_the_pooled_rows(seed: int, unit: float) -> None:
    generator = np.random.default_rng(seed)
    target = generator.gamma(2.0, 3.0, 2000)
    score = target + generator.normal(0.3, 1.0, 2000)
    found = federated("value", generator, score, target, unit=unit)
    assert found["rmse"] == pytest.approx(unit * mean_squared_error(target, score) ** 0.5, rel=1e-8)
    assert found["mae"] == pytest.approx(unit * mean_absolute_error(target, score), rel=1e-8)
    assert found["r2"] == pytest.approx(r2_score(target, score), abs=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_deviance_is_that_of_the_pooled_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    exposure = generator.uniform(0.05, 1.0, 5000)
    rate = generator.lognormal(-2.0, 0.6, 5000)
    target = generator.poisson(rate * exposure).astype(np.float64)
    expected = exposure * rate * generator.lognormal(0.0, 0.3, 5000)
    found = federated("count", generator, expected, target, exposure)
    deviance = mean_poisson_deviance(target, expected)
    assert found["deviance_x100"] == pytest.approx(100 * deviance, rel=1e-7)
    frequency = target.sum() / exposure.sum()
    assert found["frequency"] == pytest.approx(frequency, rel=1e-8)
    null = mean_poisson_deviance(target, frequency * exposure)
    assert found["null_deviance_x100"] == pytest.approx(100 * null, rel=1e-7)
    assert found["predicted_to_observed"] == pytest.approx(expected.sum() / target.sum(), rel=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_of_remaining_life_are_those_of_the_pooled_rows(seed: int) -> None:
    generator = np.random.default_rng(seed)
    raw = generator.integers(1, 200, 400).astype(np.float64)
    score = np.minimum(raw, CAP) + generator.normal(0.0, 12.0, 400)
    held = np.minimum(raw, CAP)
    found = federated("life", generator, score, held, raw)
    assert found["rmse_cap"] == pytest.approx(mean_squared_error(held, score) ** 0.5, rel=1e-8)
    assert found["rmse"] == pytest.approx(mean_squared_error(raw, score) ** 0.5, rel=1e-8)
    assert found["mae_cap"] == pytest.approx(mean_absolute_error(held, score), rel=1e-8)
    uncapped = federated("life", generator, score, raw, raw)
    assert uncapped["rmse_cap"] == pytest.approx(found["rmse_cap"], rel=1e-9)
    # Saxena et al. 2008, equation 1: early is cheaper than late
    distance = score - raw
    penalty = np.where(distance < 0, np.exp(-distance / 13), np.exp(distance / 10)) - 1
    assert found["nasa_score"] == pytest.approx(penalty.sum(), rel=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_groups_metrics_are_those_of_its_rows(kind: TallyKind) -> None:
    generator = np.random.default_rng(3)
    logit, target = binary_rows(generator)
    score = np.exp(logit) if kind == "count" else logit
    group = generator.integers(-1, 2, score.size)
    groups = ("young", "old")
    total = tally_of(kind, score, target, group=group, groups=groups)
    assert total.shape == (tally_length(kind, groups),)
    found = metrics(kind, total, groups)
    for index, name in enumerate(groups):
        alone = metrics(kind, tally_of(kind, score[group == index], target[group == index]), ())
        assert {metric: found[f"{metric}.{name}"] for metric in alone} == pytest.approx(
            alone, rel=1e-12
        )
    whole = metrics(kind, tally_of(kind, score, target), ())
    assert {metric: found[metric] for metric in whole} == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_give_no_metric_but_their_number(kind: TallyKind) -> None:
    assert metrics(kind, tally_of(kind, np.zeros(0), np.zeros(0)), ()) == {"rows": 0.0}


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_has_no_ranking(label: float) -> None:
    score = np.linspace(-1, 1, 9)
    found = metrics("binary", tally_of("binary", score, np.full(9, label)), ())
    assert "auc" not in found
    assert "average_precision" not in found
    assert found["positive_share"] == label


def test_rows_without_an_event_have_no_null_deviance() -> None:
    found = metrics("count", tally_of("count", np.full(4, 0.1), np.zeros(4)), ())
    assert found["deviance_x100"] == pytest.approx(20.0)
    assert found["frequency"] == 0
    assert "null_deviance_x100" not in found
    assert "predicted_to_observed" not in found


@pytest.mark.parametrize("count", [5e-324, 1e-300, 1e300])
@pytest.mark.parametrize("exposure", [5e-324, 1.0, 1e300])
def test_counts_of_any_size_have_a_deviance(count: float, exposure: float) -> None:
    total = tally_of("count", np.ones(2), np.full(2, count), exposure=np.full(2, exposure))
    assert np.isfinite(total).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wild", [1e300, -1e300, np.inf, -np.inf])
def test_wild_predictions_stay_inside_the_sums_range(kind: TallyKind, wild: float) -> None:
    total = tally_of(kind, np.full(100, wild), np.ones(100))
    assert np.isfinite(total).all()
    assert np.abs(total).max() <= wide(2).clip
    assert all(np.isfinite(value) for value in metrics(kind, total, ()).values())
