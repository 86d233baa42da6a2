"""From rows of a table to model inputs, with statistics that only ever leave as sums.

One stage: overview, then for each numeric column moments and a histogram, for each category the
count of its levels. Numeric inputs are standardised; a missing value becomes the mean, beside an
input that says so. A level that is rare in the whole federation is folded into "other".

In a run with noise (`private`) nearly all of this follows from the contract instead of from rows,
which costs no privacy: a column's place and scale are those of its (transformed) range, its curve
is made of tents at even places, a gap is no tent at all, and no level is folded, as noise covers
rare ones. Measured, that is better than noisy quantiles. What is summed is the overview and, for
columns whose transform is `quantile`, a coarse histogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import Column, Count, DataContract, RemainingLife
from clients.examples import Examples, InputShape
from clients.source import TRUST
from clients.spec import NodeSpec
from clients.statistics import (
    BINS,
    NOISY_BINS,
    NOISY_OVERVIEW,
    OVERVIEW,
    Floats,
    Overview,
    read_distribution,
    read_moments,
    read_noisy_distribution,
    read_noisy_overview,
    read_overview,
    tally_histogram,
    tally_moments,
    tally_noisy_histogram,
    tally_noisy_overview,
    tally_overview,
    tents,
    to_noisy_rank,
    to_rank,
    to_unit_interval,
)
from privacy.errors import InputError
from privacy.private_tally import unit_shares

RANK_SPREAD = float(np.sqrt(1 / 12))  # standard deviation of a uniform rank
LIMIT = 5.0  # standard deviations; beyond it a standardised value is held


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveForm:
    """How the inputs of a number make its curve.

    Attributes:
        kind: `slope`: one standardised input. `ramps`: that input, then one ramp between each two
            neighbours of `places`. `tents`: one tent at each of `places`.
        places: Rising, in [0, 1] as the inputs are made of it; none for a slope.
        gap: Whether the last input says that the value is missing.
    """

    kind: Literal["slope", "ramps", "tents"]
    places: Floats
    gap: bool


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """The preparation of rows for one contract and one run.

    Attributes:
        contract: What the rows mean.
        spec: The node's part of the manifest. With noise, `features.bins` above 1 gives each
            numeric column that many straight pieces, and `rare_below` means nothing.
        stages: Sums of statistics.
        private: Whose part in a tally is bounded, so that noise can cover it: that of a `unit`, or
            of the whole member (`organisation`); `none` in runs without noise.
    """

    contract: DataContract
    spec: NodeSpec
    stages: int = 1
    private: Literal["none", "unit", "organisation"] = "none"

    @property
    def sensitivity(self) -> float:
        """L2 norm by which one unit, added or removed, can move a private `tally`.

        It follows from the contract and the run's settings, not from rows. The overview is 4
        numbers of at most 1, each histogram a vector of norm at most 1; a unit adds the mean of
        its rows' vectors, whose norm is at most theirs.

        Raises:
            InputError: The contract does not bound the label or the exposure.
        """
        _bounds(self.contract)
        return float(np.sqrt(NOISY_OVERVIEW + len(self._ranked)))

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

    @property
    def _ranked(self) -> tuple[Column, ...]:
        """Columns that need a histogram in a run with noise."""
        return tuple(c for c in self.numbers if c.transform == "quantile")

    def tally(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Floats:
        """This member's tally of its training rows; see the module.

        With `private` one unit, added or removed, moves it by at most `sensitivity` in L2, for
        rows of any values; there is no noise in it yet.

        Args:
            rows: Labelled rows, the label in target units (`clients.targets.target_unit`).
            released: Sums of earlier stages: none.

        Raises:
            InputError: With `private`: the contract does not bound the label or the exposure.
        """
        del released  # there is one stage, so nothing was released before it
        if self.private != "none":
            return self._private_tally(rows)
        parts = [tally_overview(_floats(rows, "__y"), _floats(rows, "__exposure"), units(rows))]
        for column in self.numbers:
            values = _scaled(rows, column)
            parts += [tally_moments(values), tally_histogram(values)]
        for column in self.categories:
            counts = np.bincount(_codes(rows, column), minlength=len(column.categories))
            parts.append(counts.astype(np.float64))
        return np.concatenate(parts).astype(np.float64)

    def _private_tally(self, rows: pd.DataFrame) -> Floats:
        target_bound, exposure_bound = _bounds(self.contract)
        weight = unit_shares(units(rows), whole=self.private == "organisation")
        head = tally_noisy_overview(
            _floats(rows, "__y") / target_bound,
            _floats(rows, "__exposure") / exposure_bound,
            weight,
        )
        curves = [tally_noisy_histogram(_scaled(rows, column), weight) for column in self._ranked]
        return np.concatenate([head, *curves]).astype(np.float64)

    def overview(self, released: Sequence[Floats]) -> Overview:
        """Totals over the federation; in a run with noise of units, each as if it had one row."""
        if self.private != "none":
            target_bound, exposure_bound = _bounds(self.contract)
            return read_noisy_overview(
                released[0][:NOISY_OVERVIEW],
                target_bound=target_bound,
                exposure_bound=exposure_bound,
                signed=self.contract.label.kind == "value",
            )
        return read_overview(released[0])

    def shape(self, released: Sequence[Floats]) -> InputShape:
        """What the network has to take in; the same at every member."""
        levels = tuple(len(column.categories) for column in self.categories)
        if self.private != "none":
            return InputShape(numeric=len(self._private_names()), levels=levels)
        numeric = sum(
            1 + self._has_gaps(released, i) + self._ramps(released, i).size
            for i in range(len(self.numbers))
        )
        return InputShape(numeric=numeric, levels=levels)

    def examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """Model inputs of some rows of this member, by the federation's statistics."""
        if self.private != "none":
            inputs = self._private_inputs(rows, released)
        else:
            inputs = self._inputs(rows, released)
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
            trust=trust_of(rows),
        )

    def _private_inputs(self, rows: pd.DataFrame, released: Sequence[Floats]) -> list[Floats]:
        """Shape (n,) each, in the order of `_private_names`."""
        inputs: list[Floats] = []
        for column in self.numbers:
            inputs += self.number_inputs(column, _scaled(rows, column), released)
        return inputs

    def number_inputs(
        self, column: Column, values: Floats, released: Sequence[Floats]
    ) -> list[Floats]:
        """What a network sees of one numeric column; the inputs of a value follow from it alone.

        Args:
            column: One of `numbers`.
            values: Shape (n,), in [0, 1] as `clients.statistics.to_unit_interval` lays them out;
                NaN where missing.
            released: The opened statistics.

        Returns:
            Shape (n,) each, in the order of `names`.
        """
        index = self.numbers.index(column)
        if self.private == "none":
            return self._number_inputs(index, values, released)
        pieces = self.spec.features.bins
        if column in self._ranked:
            start = NOISY_OVERVIEW + self._ranked.index(column) * NOISY_BINS
            histogram = released[0][start : start + NOISY_BINS]
            values = to_noisy_rank(values, read_noisy_distribution(histogram))
        if pieces > 1:
            return list(tents(values, pieces).T)
        missing = np.isnan(values)
        return [np.nan_to_num((values - 0.5) / RANK_SPREAD), missing.astype(np.float64)]

    def form(self, column: Column, released: Sequence[Floats]) -> CurveForm:
        """How the inputs of one of `numbers` make its curve."""
        if self.private != "none":
            pieces = self.spec.features.bins
            if pieces > 1:
                return CurveForm(kind="tents", places=np.arange(pieces + 1) / pieces, gap=False)
            return CurveForm(kind="slope", places=np.zeros(0), gap=True)
        index = self.numbers.index(column)
        edges = self._edges(released, index)
        kind: Literal["slope", "ramps"] = "ramps" if edges.size else "slope"
        return CurveForm(kind=kind, places=edges, gap=self._has_gaps(released, index))

    def bends(self, column: Column, released: Sequence[Floats]) -> Floats:
        """Places in [0, 1] where what `number_inputs` gives of one column may bend.

        Between two of them every input is a straight line, but for the first of a `quantile` column
        in a run without noise, which is level within each of `BINS` even bins.

        Returns:
            Rising, from 0 to 1.
        """
        index = self.numbers.index(column)
        pieces = self.spec.features.bins
        if self.private == "none":
            start = OVERVIEW + index * (3 + BINS)
            moments = read_moments(released[0][start : start + 3])
            ends = moments.mean + moments.spread * np.array([-LIMIT, LIMIT])
            places = np.concatenate([ends, self._edges(released, index)])
        elif column in self._ranked:
            start = NOISY_OVERVIEW + self._ranked.index(column) * NOISY_BINS
            ranks = read_noisy_distribution(released[0][start : start + NOISY_BINS])
            edges = np.linspace(0.0, 1.0, NOISY_BINS + 1)
            places = np.concatenate([edges, *_crossings(edges, ranks, pieces)])
        else:
            places = np.arange(pieces + 1) / max(pieces, 1)
        inside = places[(places > 0) & (places < 1)]
        return np.unique(np.concatenate([[0.0], inside, [1.0]]))

    def level_codes(
        self, column: Column, codes: NDArray[np.int64], released: Sequence[Floats]
    ) -> NDArray[np.int64]:
        """The levels that a network sees of one category: rare ones are folded into `other`."""
        return self._folded(codes, column, released)

    def shares(self, column: Column, released: Sequence[Floats]) -> Floats | None:
        """How often each of a column's values occurs in the federation; None with noise.

        Returns:
            For a category, shape (levels,). For a number, shape (`BINS` + 1,): equal bins of
            [0, 1], and at the end what is missing. They add up to 1.
        """
        if self.private != "none":
            return None
        rows = self.overview(released).rows
        if column.type == "category":
            counts = self._level_counts(column, released)
        else:
            start = OVERVIEW + self.numbers.index(column) * (3 + BINS) + 3
            histogram = np.maximum(released[0][start : start + BINS], 0.0)
            counts = np.append(histogram, max(rows - float(histogram.sum()), 0.0))
        held = np.maximum(counts, 0.0)
        return np.asarray(held / max(float(held.sum()), 1.0))

    def _private_names(self) -> tuple[str, ...]:
        pieces = self.spec.features.bins
        names: list[str] = []
        for column in self.numbers:
            if pieces > 1:
                names += [f"{column.name} near {k} of {pieces}" for k in range(pieces + 1)]
            else:
                names += [column.name, f"{column.name} missing"]
        return tuple(names)

    def _inputs(self, rows: pd.DataFrame, released: Sequence[Floats]) -> list[Floats]:
        inputs: list[Floats] = []
        for column in self.numbers:
            inputs += self.number_inputs(column, _scaled(rows, column), released)
        return inputs

    def _number_inputs(
        self, index: int, values: Floats, released: Sequence[Floats]
    ) -> list[Floats]:
        total = released[0]
        start = OVERVIEW + index * (3 + BINS)
        moments = read_moments(total[start : start + 3])
        if self.numbers[index].transform == "quantile":
            rank = to_rank(values, read_distribution(total[start + 3 : start + 3 + BINS]))
            standard = (rank - 0.5) / RANK_SPREAD
        else:
            standard = np.clip((values - moments.mean) / moments.spread, -LIMIT, LIMIT)
        inputs = [np.nan_to_num(standard)]
        filled = np.where(np.isnan(values), moments.mean, values)
        edges = self._edges(released, index)
        inputs += [
            np.clip((filled - low) / (high - low), 0.0, 1.0) for low, high in pairwise(edges)
        ]
        if self._has_gaps(released, index):
            inputs.append(np.isnan(values).astype(np.float64))
        return inputs

    def names(self, released: Sequence[Floats]) -> tuple[str, ...]:
        """Names of the inputs, in the order of `Examples.numeric`, then of `Examples.codes`."""
        names: list[str] = []
        if self.private != "none":
            return (*self._private_names(), *(column.name for column in self.categories))
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
        if self.private != "none":
            return codes
        counts = self._level_counts(column, released)
        other_code = len(column.categories) - 1
        target = np.where(
            counts >= self.spec.features.rare_below, np.arange(len(column.categories)), other_code
        )
        return np.asarray(target[codes], dtype=np.int64)

    def _level_counts(self, column: Column, released: Sequence[Floats]) -> Floats:
        at = OVERVIEW + len(self.numbers) * (3 + BINS)
        for other in self.categories:
            if other.name == column.name:
                break
            at += len(other.categories)
        return released[0][at : at + len(column.categories)]


def units(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Index of each row's unit, local to these rows; each row its own where there is no id."""
    if "__unit" not in rows:
        return np.arange(len(rows), dtype=np.int64)
    # rows without an id are one unit together, not row -1
    return np.asarray(pd.factorize(rows["__unit"], use_na_sentinel=False)[0], dtype=np.int64)


def trust_of(rows: pd.DataFrame) -> Floats | None:
    """How much each row counts in training; None where the contract weighs nothing."""
    return _floats(rows, TRUST) if TRUST in rows else None


def group_codes(rows: pd.DataFrame, contract: DataContract) -> NDArray[np.int64]:
    """Index into the contract's reported groups, -1 for none."""
    if contract.group_column is None:
        return np.full(len(rows), -1, dtype=np.int64)
    place = {name: i for i, name in enumerate(contract.groups)}
    found = rows[contract.group_column.name].astype(str).map(place).fillna(-1)
    return np.asarray(found.to_numpy(dtype=np.int64))


def _bounds(contract: DataContract) -> tuple[float, float]:
    """The largest absolute label and exposure that a row can have, in target units.

    Raises:
        InputError: The contract gives no bound, and noise needs one.
    """
    label = contract.label
    if isinstance(label, RemainingLife):
        return label.cap, 1.0
    if not isinstance(label, Count):
        return 1.0, 1.0  # a class, or a value in units of the largest of its range
    for name, bound in (("cap", label.cap), ("exposure_cap", label.exposure_cap)):
        if bound is None and (name == "cap" or label.exposure is not None):
            raise InputError(
                f"The contract {contract.name} gives no label.{name}, and a run with noise needs "
                f"to know the most that one row can add; add it."
            )
    return float(label.cap or 1.0), float(label.exposure_cap or 1.0)


def _scaled(rows: pd.DataFrame, column: Column) -> Floats:
    low, high = column.bounds
    return to_unit_interval(_floats(rows, column.name), low, high, column.transform)


def _codes(rows: pd.DataFrame, column: Column) -> NDArray[np.int64]:
    return np.asarray(rows[column.name].cat.codes.to_numpy(), dtype=np.int64)


def _floats(rows: pd.DataFrame, name: str) -> Floats:
    return rows[name].to_numpy(dtype=np.float64)


def _crossings(edges: Floats, ranks: Floats, pieces: int) -> list[Floats]:
    """Where a rising curve of straight parts passes k / `pieces`, part by part."""
    tops = np.arange(1, pieces) / max(pieces, 1)
    found: list[Floats] = []
    for (low, high), (first, last) in zip(pairwise(edges), pairwise(ranks), strict=True):
        passed = tops[(tops > first) & (tops < last)]
        if passed.size:
            found.append(low + (passed - first) / (last - first) * (high - low))
    return found


def _stack(columns: Sequence[NDArray[Any]], rows: int) -> NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))
