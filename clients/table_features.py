"""From rows of a table to model inputs, with statistics that only ever leave as sums.

One stage: overview, then for each numeric column moments and a histogram, for each category the
count of its levels. Numeric inputs are standardised; a missing value becomes the mean, beside an
input that says so. A level that is rare in the whole federation is folded into "other".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import Column, DataContract
from clients.examples import Examples, InputShape
from clients.spec import NodeSpec
from clients.statistics import (
    BINS,
    OVERVIEW,
    Floats,
    Overview,
    read_distribution,
    read_moments,
    read_overview,
    tally_histogram,
    tally_moments,
    tally_overview,
    to_rank,
    to_unit_interval,
)

RANK_SPREAD = float(np.sqrt(1 / 12))  # standard deviation of a uniform rank
LIMIT = 5.0  # standard deviations; beyond it a standardised value is held


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """The preparation of rows for one contract and one run."""

    contract: DataContract
    spec: NodeSpec
    stages: int = 1

    @property
    def numbers(self) -> tuple[Column, ...]:
        """Numeric feature columns in contract order."""
        return tuple(c for c in self._features if c.type in {"number", "integer"})

    @property
    def categories(self) -> tuple[Column, ...]:
        """Category feature columns in contract order."""
        return tuple(c for c in self._features if c.type == "category")

    @property
    def _features(self) -> tuple[Column, ...]:
        without = set(self.spec.features.without)
        return tuple(c for c in self.contract.features if c.name not in without)

    def tally(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Floats:
        """This member's tally of its training rows; see the module."""
        del released  # there is one stage, so nothing was released before it
        parts = [tally_overview(_floats(rows, "__y"), _floats(rows, "__exposure"), units(rows))]
        for column in self.numbers:
            values = _scaled(rows, column)
            parts += [tally_moments(values), tally_histogram(values)]
        for column in self.categories:
            counts = np.bincount(_codes(rows, column), minlength=len(column.categories))
            parts.append(counts.astype(np.float64))
        return np.concatenate(parts).astype(np.float64)

    def overview(self, released: Sequence[Floats]) -> Overview:
        """Totals over the federation."""
        return read_overview(released[0])

    def shape(self, released: Sequence[Floats]) -> InputShape:
        """What the network has to take in; the same at every member."""
        levels = tuple(len(column.categories) for column in self.categories)
        numeric = sum(
            1 + self._has_gaps(released, i) + self._ramps(released, i).size
            for i in range(len(self.numbers))
        )
        return InputShape(numeric=numeric, levels=levels)

    def examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """Model inputs of some rows of this member, by the federation's statistics."""
        total = released[0]
        inputs: list[Floats] = []
        for index, column in enumerate(self.numbers):
            start = OVERVIEW + index * (3 + BINS)
            values = _scaled(rows, column)
            moments = read_moments(total[start : start + 3])
            if column.transform == "quantile":
                rank = to_rank(values, read_distribution(total[start + 3 : start + 3 + BINS]))
                standard = (rank - 0.5) / RANK_SPREAD
            else:
                standard = np.clip((values - moments.mean) / moments.spread, -LIMIT, LIMIT)
            inputs.append(np.nan_to_num(standard))
            filled = np.where(np.isnan(values), moments.mean, values)
            edges = self._edges(released, index)
            inputs += [
                np.clip((filled - low) / (high - low), 0.0, 1.0) for low, high in pairwise(edges)
            ]
            if self._has_gaps(released, index):
                inputs.append(np.isnan(values).astype(np.float64))
        codes = [self._folded(_codes(rows, column), column, released) for column in self.categories]
        count = len(rows)
        return Examples(
            numeric=_stack(inputs, count).astype(np.float32),
            codes=_stack(codes, count).astype(np.int64),
            series=np.zeros((count, 0, 0), dtype=np.float32),
            target=_floats(rows, "__y"),
            target_raw=_floats(rows, "__y_raw") if "__y_raw" in rows else _floats(rows, "__y"),
            exposure=_floats(rows, "__exposure"),
            group=group_codes(rows, self.contract),
            unit=units(rows),
        )

    def names(self, released: Sequence[Floats]) -> tuple[str, ...]:
        """Names of the inputs, in the order of `Examples.numeric`, then of `Examples.codes`."""
        names: list[str] = []
        for index, column in enumerate(self.numbers):
            names.append(column.name)
            ramps = self._ramps(released, index).size
            names += [f"{column.name} ramp {i + 1} of {ramps}" for i in range(ramps)]
            if self._has_gaps(released, index):
                names.append(f"{column.name} missing")
        return (*names, *(column.name for column in self.categories))

    def _ramps(self, released: Sequence[Floats], index: int) -> Floats:
        return self._edges(released, index)[1:]

    def _edges(self, released: Sequence[Floats], index: int) -> Floats:
        """Edges of the ramps in [0, 1]: quantiles from the summed histogram, none too close."""
        bins = self.spec.features.bins
        start = OVERVIEW + index * (3 + BINS)
        histogram = released[0][start + 3 : start + 3 + BINS]
        if bins < 2 or histogram.sum() < 1:  # noqa: PLR2004 - one ramp is the column itself
            return np.zeros(0)
        filled = np.flatnonzero(histogram > 0.5)  # noqa: PLR2004 - a quantised sum of counts
        quantiles = np.interp(
            np.arange(1, bins) / bins,
            read_distribution(histogram) + np.arange(BINS + 1) * 1e-12,
            np.linspace(0.0, 1.0, BINS + 1),
        )
        edges = [filled[0] / BINS]
        for edge in [*quantiles, (filled[-1] + 1) / BINS]:
            if edge - edges[-1] > 1.5 / BINS:
                edges.append(float(edge))
        # two edges make one ramp, which is the standardised column again
        return np.array(edges) if len(edges) > 2 else np.zeros(0)  # noqa: PLR2004

    def _has_gaps(self, released: Sequence[Floats], index: int) -> bool:
        present = released[0][OVERVIEW + index * (3 + BINS)]
        return bool(present < self.overview(released).rows - 0.5)

    def _folded(
        self, codes: NDArray[np.int64], column: Column, released: Sequence[Floats]
    ) -> NDArray[np.int64]:
        at = OVERVIEW + len(self.numbers) * (3 + BINS)
        for other in self.categories:
            if other.name == column.name:
                break
            at += len(other.categories)
        counts = released[0][at : at + len(column.categories)]
        other_code = len(column.categories) - 1
        target = np.where(
            counts >= self.spec.features.rare_below, np.arange(len(column.categories)), other_code
        )
        return np.asarray(target[codes], dtype=np.int64)


def units(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Index of each row's unit, local to these rows; each row its own where there is no id."""
    if "__unit" not in rows:
        return np.arange(len(rows), dtype=np.int64)
    return np.asarray(pd.factorize(rows["__unit"])[0], dtype=np.int64)


def group_codes(rows: pd.DataFrame, contract: DataContract) -> NDArray[np.int64]:
    """Index into the contract's reported groups, -1 for none."""
    if contract.group_column is None:
        return np.full(len(rows), -1, dtype=np.int64)
    place = {name: i for i, name in enumerate(contract.groups)}
    found = rows[contract.group_column.name].astype(str).map(place).fillna(-1)
    return np.asarray(found.to_numpy(dtype=np.int64))


def _scaled(rows: pd.DataFrame, column: Column) -> Floats:
    low, high = column.bounds
    return to_unit_interval(_floats(rows, column.name), low, high, column.transform)


def _codes(rows: pd.DataFrame, column: Column) -> NDArray[np.int64]:
    return np.asarray(rows[column.name].cat.codes.to_numpy(), dtype=np.int64)


def _floats(rows: pd.DataFrame, name: str) -> Floats:
    return rows[name].to_numpy(dtype=np.float64)


def _stack(columns: Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))
