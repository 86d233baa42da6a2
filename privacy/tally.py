"""What an evaluation sums: a node makes a tally, the coordinator reads the sum of all tallies.

A tally is a float64 vector whose entries only ever add up: counts, sums of errors, histograms of
scores for each class. Nobody needs a single node's tally to compute a federation's metric.

Binning. AUC and average precision come from `BINS` score bins of equal width in the score's
logistic scale, clipped to [-12, 12]. Rows of both classes that share a bin are counted as ties, so
AUC is off by at most half the share of such pairs; `auc_error` states that bound for the very
histogram it was computed from.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TallyKind = Literal["life", "value", "binary", "count"]

BINS: Final = 2048
LOGIT_LIMIT: Final = 12.0
CALIBRATION_BINS: Final = 10
TALLY_CLIP: Final = 2.0**40  # what any entry of a tally may reach; its sum's number format
SCORE_CEILING: Final = 1e6  # keeps one wild prediction inside the sum's range
_LIFE: Final = ("rows", "squared_raw", "squared_cap", "absolute_cap", "nasa")
_VALUE: Final = (
    "rows", "squared", "absolute", "target", "target_squared", "tallies", "exponent",
)  # fmt: skip
_COUNT: Final = ("rows", "exposure", "count", "predicted", "deviance", "null_log")


def tally_length(kind: TallyKind, groups: Sequence[str]) -> int:
    """Entries of a tally; groups repeat the whole tally once for each group reported singly."""
    one = {
        "life": len(_LIFE),
        "value": len(_VALUE),
        "binary": 2 * BINS + 1 + 3 * CALIBRATION_BINS,
        "count": len(_COUNT),
    }[kind]
    return one * (1 + len(groups))


def tally(
    kind: TallyKind,
    *,
    score: Floats,
    target: Floats,
    target_raw: Floats,
    exposure: Floats,
    group: NDArray[np.int64],
    groups: Sequence[str],
    cap: float,
    exponent: int = 0,
) -> Floats:
    """Tally a model's scores on rows.

    Args:
        kind: Which metric family.
        score: Shape (n,). `life` and `value`: predictions (`value` in target units); `binary`:
            logits; `count`: expected counts for the row's own exposure.
        target: Shape (n,). Labels; for `life` the remaining life capped at `cap`.
        target_raw: Shape (n,). For `life` the uncapped label.
        exposure: Shape (n,). For `count`, years or the like.
        group: Shape (n,). Index into `groups`, -1 for none.
        groups: Names that are reported singly.
        cap: For `life`, the cap of the label.
        exponent: For `value`, errors are counted in units of 2^exponent, so that their squares
            are neither lost below the sum's step nor beyond its range. All tallies that are
            summed must use the same one; the sum carries it.

    Returns:
        Shape (`tally_length(kind, groups)`,).
    """
    make: Callable[[NDArray[np.bool_]], Floats]
    if kind == "life":
        make = lambda keep: _life(score[keep], target[keep], target_raw[keep], cap)  # noqa: E731
    elif kind == "value":
        make = lambda keep: _value(score[keep], target[keep], exponent)  # noqa: E731
    elif kind == "binary":
        make = lambda keep: _binary(score[keep], target[keep])  # noqa: E731
    else:
        make = lambda keep: _count(score[keep], target[keep], exposure[keep])  # noqa: E731
    everything = np.ones(score.shape, dtype=bool)
    return np.concatenate([make(everything), *(make(group == i) for i in range(len(groups)))])


def metrics(
    kind: TallyKind, total: Floats, groups: Sequence[str], *, target_unit: float = 1.0
) -> dict[str, float]:
    """Metrics of a summed tally; a group's metric is named `<metric>.<group>`.

    Args:
        kind: Which metric family.
        total: The sum of tallies, shape (`tally_length(kind, groups)`,).
        groups: As given to `tally`.
        target_unit: For `value`, what labels and scores were divided by.

    Returns:
        Names to finite numbers. A metric that the rows cannot give (no rows, one class only) is
        left out rather than invented.
    """
    read: dict[TallyKind, Callable[[Floats], dict[str, float]]] = {
        "life": _read_life,
        "value": lambda part: _read_value(part, target_unit),
        "binary": _read_binary,
        "count": _read_count,
    }
    parts = np.split(total, 1 + len(groups))
    result = read[kind](parts[0])
    for name, part in zip(groups, parts[1:], strict=True):
        result |= {f"{metric}.{name}": value for metric, value in read[kind](part).items()}
    return {name: float(value) for name, value in result.items() if np.isfinite(value)}


HEADLINE: Final[Mapping[str, tuple[str, bool]]] = {
    "life": ("rmse_cap", False),
    "value": ("rmse", False),
    "binary": ("auc", True),
    "count": ("deviance_x100", False),
}
"""Kind -> (the metric to quote, whether higher is better)."""


def _life(score: Floats, target: Floats, raw: Floats, cap: float) -> Floats:
    score = np.clip(score, -SCORE_CEILING, SCORE_CEILING)
    error = score - np.minimum(target, cap)
    distance = np.clip(score - raw, -300, 300)  # exp stays finite; beyond it the model is useless
    nasa = np.where(distance < 0, np.exp(-distance / 13) - 1, np.exp(distance / 10) - 1)
    nasa = np.minimum(nasa, SCORE_CEILING)
    squared = np.square(np.clip(score - raw, -1e4, 1e4))
    capped = np.clip(error, -1e4, 1e4)
    return np.array(
        [
            score.size,
            squared.sum(),
            np.square(capped).sum(),
            np.abs(capped).sum(),
            nasa.sum(),
        ],
        dtype=np.float64,
    )


def _read_life(total: Floats) -> dict[str, float]:
    rows, raw, cap, absolute, nasa = total
    if rows < 1:
        return {"rows": rows}
    return {
        "rmse_cap": _root(cap / rows),
        "rmse": _root(raw / rows),
        "mae_cap": absolute / rows,
        "nasa_score": nasa,
        "rows": rows,
    }


def _value(score: Floats, target: Floats, exponent: int) -> Floats:
    # a diverged model shows as bad, and stays in range
    error = np.clip((score - target) / 2.0**exponent, -1e3, 1e3)
    held = np.clip(target / 2.0**exponent, -1e6, 1e6)
    return np.array(
        [
            error.size,
            np.square(error).sum(),
            np.abs(error).sum(),
            held.sum(),
            np.square(held).sum(),
            1.0,
            exponent,
        ],
        dtype=np.float64,
    )


def _read_value(total: Floats, unit: float) -> dict[str, float]:
    rows, squared, absolute, target, target_squared, tallies, exponent = total
    if rows < 1:
        return {"rows": rows}
    # held to what an exponent can be: the sum may hold anything that a member claimed
    unit *= 2.0 ** round(min(max(float(exponent) / max(float(tallies), 1.0), -500.0), 500.0))
    spread = target_squared / rows - (target / rows) ** 2
    explained = 1 - (squared / rows) / spread if spread > 0 else np.nan
    return {
        "rmse": _root(squared / rows) * unit,
        "mae": absolute / rows * unit,
        "r2": explained,
        "rows": rows,
    }


def _binary(logit: Floats, target: Floats) -> Floats:
    held = np.clip(logit, -LOGIT_LIMIT, LOGIT_LIMIT)
    place = np.minimum(((held + LOGIT_LIMIT) * (BINS / (2 * LOGIT_LIMIT))).astype(int), BINS - 1)
    positive = target > 0.5  # noqa: PLR2004 - labels are 0 or 1
    loss = np.logaddexp(0, held) - target * held
    chance = 1 / (1 + np.exp(-held))
    band = np.minimum((chance * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return np.concatenate(
        [
            np.bincount(place[~positive], minlength=BINS),
            np.bincount(place[positive], minlength=BINS),
            [loss.sum()],
            np.bincount(band, minlength=CALIBRATION_BINS),
            np.bincount(band, weights=chance, minlength=CALIBRATION_BINS),
            np.bincount(band, weights=target, minlength=CALIBRATION_BINS),
        ]
    ).astype(np.float64)


def _read_binary(total: Floats) -> dict[str, float]:
    negative, positive = total[:BINS], total[BINS : 2 * BINS]
    loss = total[2 * BINS]
    _, chance, happened = np.split(total[2 * BINS + 1 :], 3)
    rows = float(negative.sum() + positive.sum())
    if rows < 1:
        return {"rows": rows}
    result = {
        "log_loss": float(loss) / rows,
        "calibration_error": float(np.abs(chance - happened).sum()) / rows,
        "positive_share": float(positive.sum()) / rows,
        "rows": rows,
    }
    pairs = float(positive.sum()) * float(negative.sum())
    if pairs > 0:
        below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
        tied = float((positive * negative).sum())
        result["auc"] = (float((positive * below).sum()) + tied / 2) / pairs
        result["auc_error"] = tied / 2 / pairs
        result["average_precision"] = _average_precision(negative, positive)
    return result


def _average_precision(negative: Floats, positive: Floats) -> float:
    """Mean precision over recall steps, one threshold a bin, from the highest score down."""
    true = np.cumsum(positive[::-1])
    flagged = true + np.cumsum(negative[::-1])
    step = positive[::-1] / positive.sum()
    precision = np.divide(true, flagged, out=np.zeros_like(true), where=flagged > 0)
    return float((step * precision).sum())


def _count(expected: Floats, target: Floats, exposure: Floats) -> Floats:
    mu = np.clip(expected, 1e-9, SCORE_CEILING)
    some = target > 0
    own = np.zeros_like(mu)
    # of each by itself: a quotient may be too small or too large for a number
    log = np.log(target[some])
    own[some] = target[some] * (log - np.log(mu[some]))
    deviance = 2 * (own - target + mu)
    # with the total frequency f, sum y ln(y / (f e)) = null_log - total ln f
    null_log = (target[some] * (log - np.log(exposure[some]))).sum()
    return np.array(
        [
            target.size,
            exposure.sum(),
            target.sum(),
            mu.sum(),
            np.minimum(deviance, SCORE_CEILING).sum(),
            null_log,
        ],
        dtype=np.float64,
    )


def _read_count(total: Floats) -> dict[str, float]:
    rows, exposure, count, predicted, deviance, null_log = total
    if rows < 1:
        return {"rows": rows}
    result = {
        "deviance_x100": 100 * deviance / rows,
        "frequency": count / exposure,
        "predicted_to_observed": predicted / count if count > 0 else np.nan,
        "rows": rows,
    }
    if count > 0:
        null = 2 * (null_log - count * np.log(count / exposure))
        result["null_deviance_x100"] = 100 * null / rows
    return result


def _root(square: float) -> float:
    return float(np.sqrt(max(square, 0.0)))  # a quantised sum may fall a hair below zero
