"""Feature statistics as sums: what a member tallies, and how the opened sum is read.

Nobody pools rows for a scaler. A member tallies counts, sums, sums of squares and histograms of its
own training rows; only the sum over all members is ever opened, and every member reads means,
spreads, quantiles and level counts from it. Values are scaled into [0, 1] by the contract's range
first, so each entry of a tally is bounded by the number of rows.
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
