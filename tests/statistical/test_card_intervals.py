"""The intervals of a model card hold what they should, about 95 times in 100; narrower ones not.

Each test has a twin: an interval that is wrong by a known fault, which the same measure refuses.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, norm

from federation.model_card import interval
from federation.model_card.evaluation import calibration
from federation.model_card.stability import psi
from privacy.tally import BINS, LOGIT_LIMIT

Floats = NDArray[np.float64]
TRIES = 400
# what is covered 93 to 97 times in 100 passes all but one time in ten thousand
LEAST = int(binom.ppf(1e-4, TRIES, 0.93))
MOST = int(binom.ppf(1 - 1e-4, TRIES, 0.985))


def covered(truth: float, draw: Callable[[np.random.Generator], tuple[float, float]]) -> int:
    rng = np.random.default_rng(7)
    found = [draw(rng) for _ in range(TRIES)]
    return sum(low <= truth <= high for low, high in found)


def narrowed(bounds: tuple[float, float], part: float = 0.6) -> tuple[float, float]:
    middle, half = sum(bounds) / 2, part * (bounds[1] - bounds[0]) / 2
    return middle - half, middle + half


def bins_of(logits: Floats) -> Floats:
    held = np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)
    place = ((held + LOGIT_LIMIT) * BINS / (2 * LOGIT_LIMIT)).astype(int)
    return np.bincount(np.minimum(place, BINS - 1), minlength=BINS).astype(np.float64)


@pytest.mark.parametrize(("positives", "apart"), [(40, 1.2), (150, 0.5)])
def test_an_auc_from_bins_is_covered(positives: int, apart: float) -> None:
    truth = float(norm.cdf(apart / np.sqrt(2)))

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        area, error = interval.delong(
            bins_of(rng.normal(-2, 1, 300)), bins_of(rng.normal(apart - 2, 1, positives))
        )
        return interval.on_logits(area, error) or (1.0, 1.0)

    assert LEAST <= covered(truth, draw) <= MOST
    assert covered(truth, lambda rng: narrowed(draw(rng))) < LEAST


def test_an_auc_with_noise_is_covered_only_with_the_noise() -> None:
    truth = float(norm.cdf(1 / np.sqrt(2)))
    noise = 0.05

    def draw(rng: np.random.Generator, told: float = noise) -> tuple[float, float]:
        area, _ = interval.delong(bins_of(rng.normal(-2, 1, 200)), bins_of(rng.normal(-1, 1, 100)))
        area += rng.normal(0, noise)
        own = interval.hanley_mcneil(min(area, 1.0), negatives=200, positives=100)
        half = interval.Z * float(np.hypot(own, told))
        return area - half, area + half

    assert LEAST <= covered(truth, draw) <= MOST
    assert covered(truth, lambda rng: draw(rng, told=0.0)) < LEAST


@pytest.mark.parametrize(("share", "rows"), [(0.02, 400), (0.3, 60)])
def test_a_share_is_covered_with_and_without_noise(share: float, rows: int) -> None:
    def draw(
        rng: np.random.Generator, noise: float = 0.0, told: float | None = None
    ) -> tuple[float, float]:
        events = rng.binomial(rows, share) + rng.normal(0, noise * rows)
        return interval.wilson(events, rows, noise=noise if told is None else told)

    assert LEAST <= covered(share, draw) <= TRIES
    assert covered(share, lambda rng: narrowed(draw(rng))) < LEAST
    assert LEAST <= covered(share, lambda rng: draw(rng, noise=0.08)) <= TRIES
    assert covered(share, lambda rng: draw(rng, noise=0.08, told=0.0)) < LEAST


@pytest.mark.parametrize("mean", [2.5, 80.0])
def test_a_count_is_covered(mean: float) -> None:
    def draw(rng: np.random.Generator) -> tuple[float, float]:
        return interval.garwood(float(rng.poisson(mean)))

    assert LEAST <= covered(mean, draw) <= TRIES
    assert covered(mean, lambda rng: narrowed(draw(rng))) < LEAST


@pytest.mark.parametrize("shape", ["normal", "laplace", "uniform"])
def test_a_root_mean_square_is_covered_whatever_the_tails(shape: str) -> None:
    rows = 300
    samplers: dict[str, Callable[[np.random.Generator], Floats]] = {
        "normal": lambda rng: rng.normal(0, 1, rows),
        "laplace": lambda rng: rng.laplace(0, 1, rows),
        "uniform": lambda rng: rng.uniform(-1, 1, rows),
    }
    truth = {"normal": 1.0, "laplace": np.sqrt(2.0), "uniform": np.sqrt(1 / 3)}[shape]

    def figures(rng: np.random.Generator) -> tuple[float, float]:
        errors = samplers[shape](rng)
        return float(np.sqrt(np.mean(errors**2))), float(np.mean(np.abs(errors)))

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        root, absolute = figures(rng)
        return interval.root_mean_square(root, absolute, rows)

    def as_normal(rng: np.random.Generator) -> tuple[float, float]:
        root, _ = figures(rng)
        return interval.root_mean_square(root, root * np.sqrt(2 / np.pi), rows)

    assert LEAST <= covered(truth, draw) <= TRIES
    if shape == "laplace":  # tails that are taken for normal ones
        assert covered(truth, as_normal) < LEAST


def test_bins_of_calibration_cover_a_calibrated_model() -> None:
    chance = 1 / (1 + np.exp(-((np.arange(BINS) + 0.5) * 2 * LOGIT_LIMIT / BINS - LOGIT_LIMIT)))
    rng = np.random.default_rng(3)
    inside = {0.0: 0, 0.8: 0}
    bins = 0
    for _ in range(40):
        logits = rng.normal(-1.5, 1, 3000)
        for shift in inside:
            # scores that are off by `shift` in log-odds
            happened = rng.uniform(size=logits.size) < 1 / (1 + np.exp(-(logits + shift)))
            found = calibration(
                bins_of(logits[~happened]), bins_of(logits[happened]), chance, noise=0.0
            )
            inside[shift] += sum(one.low <= one.predicted <= one.high for one in found)
            bins += len(found) if shift == 0 else 0
    assert bins >= 320
    assert 0.92 <= inside[0.0] / bins <= 0.98
    assert inside[0.8] / bins < 0.5


def test_an_index_of_equal_rows_stays_below_its_chance() -> None:
    rng = np.random.default_rng(5)
    shares = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    below = {True: 0, False: 0}
    for _ in range(TRIES):
        for equal in below:
            other = shares if equal else np.array([0.2, 0.25, 0.2, 0.15, 0.2])
            index, chance = psi(rng.multinomial(2000, shares), rng.multinomial(500, other))
            below[equal] += index <= chance
    assert LEAST <= below[True] <= MOST
    assert below[False] < TRIES // 2
