"""What an evaluation sums in a run with noise: few numbers, each unit's part in them bounded.

A unit adds the mean over its own rows of one vector a row. Every row's vector has an L2 norm of at
most 1, hence so has the mean: one unit, added or removed, moves the tally by at most 1, whatever
its rows hold and however many there are (`private_sensitivity`). Noise is added to each number
alike, so a number that matters more is given a larger part of the norm.

`privacy.tally` has the metrics of runs without noise; what has the same name here means the same,
but that a unit counts as one row, that errors are clipped, and that scores are binned more
coarsely. Metrics that noise would falsify (calibration errors, sums of exponentials) are left out.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.tally import HEADLINE, TallyKind

Floats = NDArray[np.float64]

LOGIT_LOW: Final = -9.0  # a chance of 1 in 8,000; rarer scores share the lowest bin
LOGIT_WIDTH: Final = 0.6  # finer bins cost more noise than they save in error
LOGIT_BINS: Final = 24
DEVIANCE_LIMIT: Final = 24.0  # of one row; three claims where one in 50 was expected
VALUE_LIMIT: Final = 4.0  # error of a plain regression, in spreads of the label
LIFE_LIMIT: Final = 0.5  # error of a remaining life, in caps
SLICES: Final = 16  # of a bin, for average precision
TRIMMED: Final = 2.0  # noise deviations that the lowest and highest scores must stand out by

_FLOAT_SHARE: Final = 1.0 - 2.0**-32
# kind -> (part of each side number, how many there are)
_SIDES: Final[Mapping[TallyKind, tuple[float, int]]] = {
    "life": (0.25, 2),
    "value": (0.25, 2),
    "count": (0.2, 4),
}


def private_sensitivity(kind: TallyKind) -> float:
    """L2 norm by which one unit, added or removed, can move a tally: 1 for every kind."""
    private_length(kind)
    return 1.0


def private_length(kind: TallyKind) -> int:
    """Entries of a tally."""
    return 2 * LOGIT_BINS if kind == "binary" else 1 + _SIDES[kind][1]


def private_tally(
    kind: TallyKind,
    *,
    score: Floats,
    target: Floats,
    target_raw: Floats,
    exposure: Floats,
    unit: NDArray[np.int64],
    cap: float,
    whole: bool = False,
) -> Floats:
    """Tally a model's scores on rows, before any noise.

    The guarantee, for rows of any values, also infinite ones and NaN: leaving out all rows of one
    unit moves the result by at most `private_sensitivity(kind)` in L2. Why: each row's vector is
    one number 1 among zeros (`binary`), or numbers in [-1, 1] times fixed parts whose squares add
    up to 1; a unit's mean is a convex combination of such vectors.

    Args:
        kind: Which metric family.
        score: Shape (n,). `life` and `value`: predictions; `binary`: logits; `count`: expected
            counts for the row's own exposure.
        target: Shape (n,). Labels, in the unit of the scores; counts at most `cap`.
        target_raw: Shape (n,). Not used; here so that both tallies are called alike.
        exposure: Shape (n,). For `count`; above 1 it counts as 1.
        unit: Shape (n,). Index of each row's unit.
        cap: `life`: the label's cap. `value`: the label's spread, as all members know it.
            `count`: the label's cap. Not used for `binary`.
        whole: All rows are one unit: the member itself.

    Returns:
        Shape (`private_length(kind)`,).

    Raises:
        ValueError: `cap` is not above 0, or shapes differ.
    """
    del target_raw
    if not (score.shape == target.shape == exposure.shape == unit.shape == (unit.size,)):
        raise ValueError("score, target, exposure and unit are one number a row")
    _require_cap(cap)
    weight = unit_shares(unit, whole=whole)
    if kind == "binary":
        place = _bin(score) + LOGIT_BINS * (target > 0.5)  # noqa: PLR2004 - labels are 0 or 1
        return np.bincount(place, weights=weight, minlength=2 * LOGIT_BINS).astype(np.float64)
    if kind == "count":
        rows = _count(score, target, exposure, cap)
    else:
        rows = _errors(score, target, _limit(kind, cap))
    return np.asarray(_parts(kind) * (weight @ rows), dtype=np.float64)


def unit_shares(unit: NDArray[np.int64], *, whole: bool = False) -> Floats:
    """Weights of rows, shape (n,): those of one unit add up to 1, less a hair.

    The hair, 2^-32, is more than float64's rounding adds up to, so that a unit's mean of vectors
    of norm 1 never has a larger norm.

    Args:
        unit: Shape (n,), at least 0. Index of each row's unit.
        whole: All rows are one unit: the member itself.
    """
    if whole or unit.size == 0:
        return np.full(unit.size, _FLOAT_SHARE / max(unit.size, 1))
    return np.asarray(_FLOAT_SHARE / np.bincount(unit)[unit])


def private_metrics(
    kind: TallyKind,
    total: Floats,
    deviation: float,
    *,
    cap: float,
    target_unit: float = 1.0,
) -> dict[str, float]:
    """Metrics of a summed tally with noise.

    Args:
        kind: Which metric family.
        total: The sum of tallies, shape (`private_length(kind)`,).
        deviation: Standard deviation of the noise in each entry; 0 for none.
        cap: As given to `private_tally`.
        target_unit: For `value`, what labels and scores were divided by.

    Returns:
        Names to finite numbers. `<headline>_noise` is one standard deviation of the headline
        metric from the noise alone, to first order; clipping and binning are not in it. `rows`
        counts units. What the noise drowns (no rows, a class that does not stand out) is left out.

    Raises:
        ValueError: `cap` is not above 0, or the shape is another.
    """
    if total.shape != (private_length(kind),):
        raise ValueError(f"expected {private_length(kind)} entries, not {total.shape}")
    _require_cap(cap)
    if kind == "binary":
        found = _read_binary(total, deviation)
    elif kind == "count":
        found = _read_count(total, deviation, cap)
    elif kind == "life":
        found = _read_life(total, deviation, cap)
    else:
        found = _read_value(total, deviation, cap, target_unit)
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _require_cap(cap: float) -> None:
    if not 0.0 < cap < np.inf:
        raise ValueError(f"need {cap=} > 0")


def _held(values: Floats, low: float, high: float) -> Floats:
    """Clip; what is not a number counts as the worst, `high`."""
    return np.clip(np.nan_to_num(values, nan=high, posinf=high, neginf=low), low, high)


def _parts(kind: TallyKind) -> Floats:
    """What each entry is multiplied by: the headline's first; their squares add up to 1."""
    side, count = _SIDES[kind]
    return np.array([np.sqrt(1.0 - count * side**2)] + count * [side])


def _limit(kind: TallyKind, cap: float) -> float:
    return cap * (LIFE_LIMIT if kind == "life" else VALUE_LIMIT)


def _errors(score: Floats, target: Floats, limit: float) -> Floats:
    """Shape (n, 3), in [0, 1]: squared and absolute error in limits, one."""
    with np.errstate(invalid="ignore", over="ignore"):  # endless, or too large for a difference
        error = _held(np.abs(score - target) / limit, 0.0, 1.0)
    return np.stack([np.square(error), error, np.ones(error.size)], axis=1)


def _count(expected: Floats, target: Floats, exposure: Floats, cap: float) -> Floats:
    """Shape (n, 5), in [0, 1]: deviance, count, prediction and exposure in their bounds, one."""
    count = _held(target, 0.0, cap)
    mu = _held(expected, 1e-9, 1e6)
    some = count > 0
    own = np.zeros_like(mu)
    # two logarithms: the quotient of a very small count is zero
    own[some] = count[some] * (np.log(count[some]) - np.log(mu[some]))
    deviance = 2 * (own - count + mu)
    return np.stack(
        [
            _held(deviance / DEVIANCE_LIMIT, 0.0, 1.0),
            count / cap,
            _held(mu / cap, 0.0, 1.0),
            _held(exposure, 0.0, 1.0),
            np.ones(mu.size),
        ],
        axis=1,
    )


def _bin(logit: Floats) -> NDArray[np.int64]:
    high = LOGIT_LOW + LOGIT_WIDTH * LOGIT_BINS
    place = (_held(logit, LOGIT_LOW, high) - LOGIT_LOW) / LOGIT_WIDTH
    return np.minimum(place.astype(np.int64), LOGIT_BINS - 1)


def _mean(kind: TallyKind, total: Floats, deviation: float) -> tuple[float, float, Floats]:
    """The headline's mean a unit, its noise, and all entries with their parts taken out.

    The last entry counts units; the caller has made sure that it is at least 1. The noise is
    that of a ratio, to first order.
    """
    part = _parts(kind)
    sums = total / part
    rows = float(sums[-1])
    mean = max(float(sums[0]), 0.0) / rows
    noise = deviation / rows * float(np.hypot(1.0 / part[0], mean / part[-1]))
    return mean, noise, sums


def _rows(kind: TallyKind, total: Floats) -> float:
    return max(float(total[-1] / _parts(kind)[-1]), 0.0)


def _read_errors(
    kind: TallyKind, total: Floats, deviation: float, limit: float
) -> tuple[float, float, float]:
    """Root mean squared error, its noise, mean absolute error; in the label's unit."""
    mean, noise, sums = _mean(kind, total, deviation)
    root = float(np.sqrt(mean))
    # the slope of a root grows without bound towards 0; the root of the noise is the most it is
    spread = min(noise / (2 * root), np.sqrt(noise)) if root > 0 else np.sqrt(noise)
    absolute = max(float(sums[1]), 0.0) / float(sums[-1])
    return root * limit, float(spread) * limit, absolute * limit


def _read_life(total: Floats, deviation: float, cap: float) -> dict[str, float]:
    rows = _rows("life", total)
    if rows < 1:
        return {"rows": rows}
    root, noise, absolute = _read_errors("life", total, deviation, _limit("life", cap))
    return {"rmse_cap": root, _noise("life"): noise, "mae_cap": absolute, "rows": rows}


def _read_value(total: Floats, deviation: float, cap: float, unit: float) -> dict[str, float]:
    rows = _rows("value", total)
    if rows < 1:
        return {"rows": rows}
    root, noise, absolute = _read_errors("value", total, deviation, _limit("value", cap))
    return {
        "rmse": root * unit,
        _noise("value"): noise * unit,
        "mae": absolute * unit,
        # against the spread that all members know, not the test rows' own
        "r2": 1 - (root / cap) ** 2,
        "rows": rows,
    }


def _read_count(total: Floats, deviation: float, cap: float) -> dict[str, float]:
    rows = _rows("count", total)
    if rows < 1:
        return {"rows": rows}
    mean, noise, sums = _mean("count", total, deviation)
    count, predicted, exposure = (max(float(value), 0.0) for value in sums[1:4])
    result = {
        "deviance_x100": 100 * DEVIANCE_LIMIT * mean,
        _noise("count"): 100 * DEVIANCE_LIMIT * noise,
        "rows": rows,
    }
    if exposure > 0:
        result["frequency"] = cap * count / exposure
    if count > 0:
        result["predicted_to_observed"] = predicted / count
    return result


def _read_binary(total: Floats, deviation: float) -> dict[str, float]:
    shown = _shown(total, deviation)
    # inside, counts stay as they are: holding them at 0 would add up to rows that are not there
    negative, positive = (np.where(shown, part, 0.0) for part in np.split(total, 2))
    negatives, positives = float(negative.sum()), float(positive.sum())
    rows = negatives + positives
    if rows < 1:
        return {"rows": max(rows, 0.0)}
    centre = LOGIT_LOW + LOGIT_WIDTH * (np.arange(LOGIT_BINS) + 0.5)
    loss = negative @ np.logaddexp(0, centre) + positive @ np.logaddexp(0, -centre)
    result = {
        "log_loss": float(loss) / rows,
        "positive_share": min(max(positives / rows, 0.0), 1.0),
        "rows": rows,
    }
    drowned = TRIMMED * deviation * float(np.sqrt(shown.sum()))
    if min(negatives, positives) > max(drowned, 0.5):
        result |= _ranking(negative, positive, shown, deviation)
    return result


def _shown(total: Floats, deviation: float) -> NDArray[np.bool_]:
    """Bins between the lowest and the highest score that stand out from the noise.

    Beyond them is noise alone, at the very places where a row would weigh most in the AUC.
    """
    both = total[:LOGIT_BINS] + total[LOGIT_BINS:]
    noise = TRIMMED * deviation * np.sqrt(2.0 * np.arange(1, LOGIT_BINS + 1))
    from_low = np.logical_or.accumulate(np.cumsum(both) > noise)
    from_high = np.logical_or.accumulate(np.cumsum(both[::-1]) > noise)[::-1]
    return np.asarray(from_low & from_high)


def _ranking(
    negative: Floats, positive: Floats, shown: NDArray[np.bool_], deviation: float
) -> dict[str, float]:
    """AUC with its noise, and average precision.

    Rows that share a bin are no mere ties: within a bin each class is taken to have a density that
    rises as straight as between the neighbouring bins, which makes the AUC a bilinear form of the
    counts: `below` holds the chance that a positive of bin i outranks a negative of bin j. Of
    densities 1 + s (x - 1/2) on a bin that chance is 1/2 + (s+ - s-) / 12. The error is a few
    times 1e-4 to 1e-3 for scores that spread over a few units of logit.
    """
    near = np.eye(LOGIT_BINS, k=-1) - np.eye(LOGIT_BINS, k=1)
    below = np.tril(np.ones((LOGIT_BINS, LOGIT_BINS)), -1) + np.eye(LOGIT_BINS) / 2 + near / 12
    down, up = below @ negative / negative.sum(), below.T @ positive / positive.sum()
    auc = float(positive @ down / positive.sum())
    slopes = np.concatenate([(up - auc) / negative.sum(), (down - auc) / positive.sum()])
    noise = deviation * float(np.linalg.norm(slopes[np.tile(shown, 2)]))
    return {
        "auc": min(max(auc, 0.0), 1.0),
        _noise("binary"): noise,
        "average_precision": _average_precision(negative, positive),
    }


def _average_precision(negative: Floats, positive: Floats) -> float:
    """Mean precision over recall steps, one threshold a slice, from the highest score down."""
    found = _sliced(positive)[::-1]
    true = np.cumsum(found)
    flagged = true + np.cumsum(_sliced(negative)[::-1])
    precision = np.divide(true, flagged, out=np.zeros_like(true), where=flagged > 0)
    return float(found @ precision / true[-1]) if true[-1] > 0 else np.nan


def _sliced(counts: Floats) -> Floats:
    """Each bin's count in finer slices, by the density that the AUC takes; never below 0."""
    around = np.pad(counts, 1)
    slope = (around[2:] - around[:-2]) / 2
    middle = (np.arange(SLICES) + 0.5) / SLICES - 0.5
    return np.asarray(np.maximum(counts[:, None] + slope[:, None] * middle, 0.0).ravel() / SLICES)


def _noise(kind: TallyKind) -> str:
    return f"{HEADLINE[kind][0]}_noise"
