"""Intervals around what an opened evaluation says, at 95 %.

Each takes rows as independent. Where a unit has several rows that is too hopeful; the card says so.
None means that there is no honest interval, never a narrow one.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]

CONFIDENCE: Final = 0.95
Z: Final = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
_SMALLEST: Final = 1e-12


def delong(negative: Floats, positive: Floats) -> tuple[float, float]:
    """AUC and its standard error, from how many rows of each class lie in each score bin.

    The variance of DeLong, DeLong & Clarke-Pearson (Biometrics 44, 1988), with the placement of
    each bin's rows in place of that of each row: rows that share a bin are ties.

    Args:
        negative: Shape (bins,), lowest score first.
        positive: The same of the other class.

    Raises:
        ValueError: A class has no row.
    """
    negatives, positives = float(negative.sum()), float(positive.sum())
    if min(negatives, positives) < 1:
        raise ValueError("an AUC needs rows of both classes")
    # share of negatives below a positive of each bin, and of positives above a negative
    beaten = (np.cumsum(negative) - negative / 2) / negatives
    beating = 1 - (np.cumsum(positive) - positive / 2) / positives
    auc = float(beaten @ positive) / positives
    spread = float(np.square(beaten - auc) @ positive) / max(positives - 1, 1)
    other = float(np.square(beating - auc) @ negative) / max(negatives - 1, 1)
    return auc, float(np.sqrt(spread / positives + other / negatives))


def hanley_mcneil(auc: float, *, negatives: float, positives: float) -> float:
    """Standard error of an AUC of which only the classes' sizes are known.

    Hanley & McNeil (Radiology 143, 1982), equation 1, with Q1 and Q2 of exponential scores.

    Raises:
        ValueError: A class has less than one row.
    """
    if min(negatives, positives) < 1:
        raise ValueError("an AUC needs rows of both classes")
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = (
        auc * (1 - auc) + (positives - 1) * (first - auc**2) + (negatives - 1) * (second - auc**2)
    ) / (negatives * positives)
    return float(np.sqrt(max(spread, 0.0)))


def on_logits(value: float, error: float) -> Interval | None:
    """Around a value in (0, 1) with a standard error, symmetric in its log-odds.

    So it stays inside (0, 1) (Pepe, The Statistical Evaluation of Medical Tests, 2003, section
    5.2.5). None at 0 and 1, and where nothing varied.
    """
    if not 0 < value < 1 or error <= 0:
        return None
    centre, half = np.log(value / (1 - value)), Z * error / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-np.clip(centre + side * half, -700, 700))) for side in (-1, 1))
    return float(low), float(high)


def precision_recall(area: float, *, positives: float) -> Interval | None:
    """Around an average precision: the logit interval of Boyd, Eng & Page (ECML PKDD 2013)."""
    if positives < 1 or not 0 < area < 1:
        return None
    return on_logits(area, float(np.sqrt(area * (1 - area) / positives)))


def wilson(events: float, rows: float, *, noise: float = 0.0) -> Interval:
    """Around a share: the score interval of Wilson (J. Am. Stat. Assoc. 22, 1927).

    Noise is put to each side's distance from the share as to a standard deviation (the recovered
    variances of Zou & Donner, Statistics in Medicine 27, 2008).

    Args:
        events: A sum with noise may say fewer than 0, or more than `rows`.
        rows: Above 0.
        noise: Standard deviation of the share from noise in its sums alone.

    Raises:
        ValueError: There are no rows.
    """
    if rows <= 0:
        raise ValueError(f"need {rows=} > 0")
    told = events / rows
    share = min(max(told, 0.0), 1.0)
    scale = 1 + Z**2 / rows
    centre = (share + Z**2 / (2 * rows)) / scale
    half = Z / scale * np.sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2))
    below, above = share - (centre - half), centre + half - share
    low, high = told - np.hypot(below, Z * noise), told + np.hypot(above, Z * noise)
    return min(max(float(low), 0.0), share), max(min(float(high), 1.0), share)


def garwood(count: float) -> Interval:
    """Around a Poisson count: the exact interval of Garwood (Biometrika 28, 1936)."""
    from scipy.stats import chi2

    tail = (1 - CONFIDENCE) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count > 0 else 0.0
    return low, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2


def mean(value: float, second: float, rows: float) -> Interval:
    """Around a mean, by the central limit theorem.

    Args:
        value: The mean.
        second: The mean of squares.
        rows: How many, at least 1.
    """
    half = Z * float(np.sqrt(max(second - value**2, 0.0) / rows))
    return value - half, value + half


def root_mean_square(root: float, absolute: float, rows: float, *, noise: float = 0.0) -> Interval:
    """Around a root mean squared error whose fourth moment no sum tells.

    How heavy the errors' tails are is read from the ratio of their mean to their root mean square
    (Geary, Biometrika 27, 1935), taken as that of a generalised normal distribution; its kurtosis k
    gives the variance (k - 1) / 4n of the root's logarithm. Of normal errors k is 3.

    Args:
        root: The root mean squared error, above 0.
        absolute: The mean absolute error, in the same unit.
        rows: How many, at least 1.
        noise: Standard deviation of the root from noise in its sums alone.
    """
    relative = np.hypot(np.sqrt((_kurtosis(absolute / root) - 1) / (4 * rows)), noise / root)
    return float(root * np.exp(-Z * relative)), float(root * np.exp(Z * relative))


def _kurtosis(ratio: float) -> float:
    """Of the generalised normal distribution with this ratio of mean to root mean square."""
    from scipy.optimize import brentq
    from scipy.special import gammaln

    def log_ratio(shape: float) -> float:
        return float(gammaln(2 / shape) - (gammaln(1 / shape) + gammaln(3 / shape)) / 2)

    wanted = float(np.log(min(max(ratio, _SMALLEST), 1.0)))
    least, most = 0.25, 50.0  # tails far heavier than Laplace's, and a flat distribution
    if wanted <= log_ratio(least):
        shape = least
    elif wanted >= log_ratio(most):
        shape = most
    else:
        shape = float(brentq(lambda x: log_ratio(x) - wanted, least, most))
    found = gammaln(5 / shape) + gammaln(1 / shape) - 2 * gammaln(3 / shape)
    return max(float(np.exp(found)), 1.0)
