"""Feature statistics as sums: what a member tallies, and how the opened sum is read.

Nobody pools rows for a scaler. A member tallies counts, sums, sums of squares and histograms of its
own training rows; only the sum over all members is ever opened, and every member reads means,
spreads, quantiles and level counts from it. Values are scaled into [0, 1] by the contract's range
first, so each entry of a tally is bounded by the number of rows.

In a run with noise the units count, not the rows: each adds the mean over its own rows, so that its
part is bounded however many rows it has. What is read then must cope with any sum: counts below
zero, histograms with holes.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Transform = Literal["standard", "log1p", "signed_log", "quantile"]

BINS: Final = 1024
OVERVIEW: Final = 6
SMALLEST_SPREAD: Final = 1e-6  # of the unit interval; below it a column is constant
NOISY_OVERVIEW: Final = 4
NOISY_BINS: Final = 64  # finer bins cost more noise than they save in error
SMALLEST_SHARE: Final = 1e-3  # of what it can be at most, that a total has where noise took it
SMALLEST_LABEL_SPREAD: Final = 1e-2  # of the label's bound


@dataclass(frozen=True, slots=True)
class Overview:
    """Totals over all members' training examples."""

    rows: float
    units: float
    target: float
    target_squared: float
    exposure: float
    members: float

    @property
    def mean(self) -> float:
        """Mean target; for counts and binary labels the rate per row."""
        return self.target / self.rows

    @property
    def spread(self) -> float:
        """Standard deviation of the target."""
        return float(np.sqrt(max(self.target_squared / self.rows - self.mean**2, 1e-12)))

    @property
    def rate(self) -> float:
        """Target per unit of exposure."""
        return self.target / self.exposure


def tally_overview(target: Floats, exposure: Floats, unit: NDArray[np.int64]) -> Floats:
    """Shape (`OVERVIEW`,)."""
    return np.array(
        [
            target.size,
            np.unique(unit).size,
            target.sum(),
            np.square(target).sum(),
            exposure.sum(),
            1.0,
        ],
        dtype=np.float64,
    )


def read_overview(total: Floats) -> Overview:
    """Read the first `OVERVIEW` entries of a summed tally."""
    return Overview(*(float(value) for value in total[:OVERVIEW]))


def to_unit_interval(values: Floats, low: float, high: float, transform: Transform) -> Floats:
    """Scale into [0, 1], NaN kept: clip to the contract's range, transform, scale linearly.

    Args:
        values: Shape (n,).
        low: Lower end of the contract's range.
        high: Upper end, above `low`.
        transform: `log1p` counts from the range's lower end; `signed_log` is
            sign(v) log(1 + |v|); `quantile` is laid out the same way, so that the histogram which
            gives it its curve resolves small amounts as well as large ones.
    """
    held = np.clip(values, low, high)
    if transform == "log1p":
        return np.asarray(np.log1p(held - low) / np.log1p(high - low))
    if transform in {"signed_log", "quantile"}:
        ends = np.sign([low, high]) * np.log1p(np.abs([low, high]))
        return np.asarray((np.sign(held) * np.log1p(np.abs(held)) - ends[0]) / (ends[1] - ends[0]))
    return np.asarray((held - low) / (high - low))


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one column of values in [0, 1], over all members' training rows."""

    present: float
    mean: float
    spread: float


def tally_moments(unit_values: Floats) -> Floats:
    """Shape (3,): how many are present, their sum, their sum of squares."""
    present = unit_values[~np.isnan(unit_values)]
    return np.array([present.size, present.sum(), np.square(present).sum()])


def read_moments(total: Floats) -> Moments:
    """Read three summed entries; a column that is constant or absent gets a spread of 1."""
    present, first, second = (float(value) for value in total)
    if present < 1:
        return Moments(0.0, 0.0, 1.0)
    mean = first / present
    spread = float(np.sqrt(max(second / present - mean**2, 0.0)))
    return Moments(present, mean, spread if spread > SMALLEST_SPREAD else 1.0)


def tally_histogram(unit_values: Floats) -> Floats:
    """Shape (`BINS`,): counts over equal bins of [0, 1]; missing values are left out."""
    present = unit_values[~np.isnan(unit_values)]
    place = np.minimum((present * BINS).astype(np.int64), BINS - 1)
    return np.bincount(place, minlength=BINS).astype(np.float64)


def read_distribution(histogram: Floats) -> Floats:
    """Shape (`BINS` + 1,): the share of values at or below each bin edge, from 0 to 1.

    A bin that holds a large share counts half below its own values, so that a spike (many zeros)
    maps to its middle rank. Resolution: one part in `BINS` of the (transformed) range.
    """
    total = histogram.sum()
    if total < 1:
        return np.linspace(0.0, 1.0, BINS + 1)
    return np.concatenate([[0.0], np.cumsum(histogram) / total])


def to_rank(unit_values: Floats, distribution: Floats) -> Floats:
    """Rank in [0, 1] of values in [0, 1]: the middle of the bin's share. NaN is kept."""
    place = np.minimum(np.nan_to_num(unit_values * BINS).astype(np.int64), BINS - 1)
    rank = (distribution[place] + distribution[place + 1]) / 2
    return np.where(np.isnan(unit_values), np.nan, rank)


# runs with noise


def tally_noisy_overview(target: Floats, exposure: Floats, weight: Floats) -> Floats:
    """Shape (`NOISY_OVERVIEW`,): units, and their mean target, its square and exposure, summed.

    A unit's part has an L2 norm of at most 2, for rows of any values: each entry's absolute value
    is at most 1.

    Args:
        target: Shape (n,). In units of its bound; held to [-1, 1].
        exposure: Shape (n,). In units of its bound; held to [0, 1].
        weight: Shape (n,), from `privacy.private_tally.unit_shares`.
    """
    label = np.clip(np.nan_to_num(target), -1.0, 1.0)
    held = np.clip(np.nan_to_num(exposure), 0.0, 1.0)
    return np.array([weight.sum(), weight @ label, weight @ np.square(label), weight @ held])


def read_noisy_overview(
    total: Floats, *, target_bound: float, exposure_bound: float, signed: bool
) -> Overview:
    """Totals that can be worked with, from any sum: as if every unit had one row, its mean.

    Counts are at least 1; a label's total keeps `SMALLEST_SHARE` from both ends of what it can be,
    as no class and no claim may seem absent because noise took it; a spread is at least
    `SMALLEST_LABEL_SPREAD` of the bound. `members` is 1: nobody is weighed by rows here.

    Args:
        total: Shape (`NOISY_OVERVIEW`,).
        target_bound: What labels were divided by.
        exposure_bound: What exposures were divided by.
        signed: Labels may be below 0.
    """
    count = max(float(total[0]), 1.0)
    mean, square, exposure = (float(value) / count for value in total[1:])
    low = -1.0 if signed else SMALLEST_SHARE
    mean = min(max(mean, low), 1.0 - (not signed) * SMALLEST_SHARE)
    square = min(max(square, mean**2 + SMALLEST_LABEL_SPREAD**2), 2.0)
    return Overview(
        rows=count,
        units=count,
        target=count * mean * target_bound,
        target_squared=count * square * target_bound**2,
        exposure=count * min(max(exposure, SMALLEST_SHARE), 1.0) * exposure_bound,
        members=1.0,
    )


def tally_noisy_histogram(unit_values: Floats, weight: Floats) -> Floats:
    """Shape (`NOISY_BINS`,): weights over equal bins of [0, 1]; missing values are left out.

    A unit's part has an L2 norm of at most 1: its entries are not negative and add up to 1 or less.
    """
    present = ~np.isnan(unit_values)
    place = np.clip(unit_values[present] * NOISY_BINS, 0, NOISY_BINS - 1).astype(np.int64)
    return np.bincount(place, weights=weight[present], minlength=NOISY_BINS).astype(np.float64)


def read_noisy_distribution(histogram: Floats) -> Floats:
    """Shape (`NOISY_BINS` + 1,): the share of values below each bin edge, rising from 0 to 1.

    Counts below zero are kept while they add up, as holding each at 0 would invent values in empty
    bins; then the curve is made to rise: it is the middle between the highest so far and the lowest
    to come. A sum without values gives the straight line.
    """
    total = float(histogram.sum())
    if total < 1:
        return np.linspace(0.0, 1.0, NOISY_BINS + 1)
    curve = np.clip(np.concatenate([[0.0], np.cumsum(histogram) / total]), 0.0, 1.0)
    highest = np.maximum.accumulate(curve)
    lowest = np.minimum.accumulate(curve[::-1])[::-1]
    middle = (highest + lowest) / 2
    middle[0], middle[-1] = 0.0, 1.0
    return np.asarray(middle)


def to_noisy_rank(unit_values: Floats, distribution: Floats) -> Floats:
    """Rank in [0, 1] of values in [0, 1], straight within a bin. NaN is kept."""
    edges = np.linspace(0.0, 1.0, NOISY_BINS + 1)
    return np.asarray(np.interp(unit_values, edges, distribution))


def tents(unit_values: Floats, pieces: int) -> Floats:
    """Shape (n, `pieces` + 1): how near a value is to each of evenly laid places in [0, 1].

    Input k is 1 at k / `pieces` and falls straight to 0 at its neighbours, so that a weighted sum
    of them is any curve of straight pieces. The inputs of a value add up to 1, and at most two are
    above 0: their L2 norm is at most 1. A missing value has none.
    """
    distance = np.abs(unit_values[:, None] * pieces - np.arange(pieces + 1))
    return np.nan_to_num(np.maximum(1.0 - distance, 0.0))
