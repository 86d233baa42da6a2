"""From a device's readings to windows, with statistics that only ever leave as sums.

Stage 0 tallies, for each operating condition and sensor, the moments of the readings; they
standardise a reading by its own condition. Stage 1, where a window is summarised, tallies the
moments of each summary, so that the model's inputs are of one scale.

With `baseline: own` neither is needed: a device's readings are measured against its own first ones,
and summaries are brought to scale by constants and the contract alone. A device's inputs then
follow from its own readings and from nothing else, so preparing them tells nobody anything, and
costs no privacy. What is summed is the overview.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from clients.contract import Column, DataContract, RemainingLife
from clients.examples import Examples, InputShape
from clients.spec import NodeSpec, WindowSpec
from clients.statistics import (
    NOISY_OVERVIEW,
    OVERVIEW,
    Floats,
    Overview,
    read_moments,
    read_noisy_overview,
    read_overview,
    tally_moments,
    tally_noisy_overview,
    tally_overview,
    to_unit_interval,
)
from clients.table_features import group_codes, trust_of, units
from clients.window_summary import (
    AGE_SCALE,
    SUMMARY_LIMIT,
    Scale,
    Squashed,
    Standardised,
    Summary,
    squashed_readings,
)
from privacy.errors import InputError, ProtocolError
from privacy.private_tally import unit_shares

SMALLEST_NOISE = 1e-4  # of the contract's range; a sensor is not taken to be steadier


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of standardised readings with what belongs to their last row."""

    series: NDArray[np.float32]  # (n, t, s)
    origin: NDArray[np.float32]  # (n, s) mean of the device's first window
    age: Floats  # (n,) steps since the device's record began, over AGE_SCALE
    last: NDArray[np.int64]  # (n,) row of each window's end


@dataclass(frozen=True, slots=True)
class WindowFeatures:
    """The preparation of telemetry for one contract and one run.

    Attributes:
        contract: What the rows mean.
        spec: The node's part of the manifest.
        window: Its windows.
        private: Whose part in a tally is bounded, so that noise can cover it: that of a `unit`, or
            of the whole member (`organisation`); `none` in runs without noise. Other values need
            `baseline: own`.
    """

    contract: DataContract
    spec: NodeSpec
    window: WindowSpec
    private: Literal["none", "unit", "organisation"] = "none"

    @property
    def stages(self) -> int:
        """Two where windows are summarised by the federation's statistics, else one."""
        return self.spec.features.stages

    @property
    def sensitivity(self) -> float:
        """L2 norm by which one unit, added or removed, can move a private `tally`: 2.

        The tally is 4 numbers, and a unit adds to each the mean over its rows of something in
        [-1, 1] (`clients.statistics.tally_noisy_overview`). A window's inputs are no part of it.

        Raises:
            InputError: The run's baseline is not `own`.
        """
        self._require_own_baseline()
        return float(np.sqrt(NOISY_OVERVIEW))

    @property
    def sensors(self) -> tuple[Column, ...]:
        """Sensor columns in contract order, without those that the run leaves aside."""
        without = set(self.spec.features.without)
        return tuple(c for c in self.contract.by_role("sensor") if c.name not in without)

    @property
    def _conditions(self) -> int:
        return len(self.contract.regime.levels) if self.contract.regime else 1

    def tally(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Floats:
        """This member's tally for the stage after those that were released.

        With `private` one unit, added or removed, moves it by at most `sensitivity` in L2, for
        rows of any values; there is no noise in it yet.

        Raises:
            InputError: With `private`: the run's baseline is not `own`.
        """
        if not released:
            known = (
                rows["__known"].to_numpy(dtype=bool)
                if "__known" in rows
                else np.ones(len(rows), dtype=bool)
            )
            label = rows["__y"].to_numpy(dtype=np.float64)[known]
            exposure, unit = np.ones(label.size), units(rows)[known]
            if self.private != "none":
                self._require_own_baseline()
                weight = unit_shares(unit, whole=self.private == "organisation")
                return tally_noisy_overview(label / self._label_bound, exposure, weight)
            parts = [tally_overview(label, exposure, unit)]
            if self.window.baseline == "own":
                return parts[0]
            condition = self._condition(rows)
            for column in self.sensors:
                values = _scaled(rows, column)
                parts += [tally_moments(values[condition == c]) for c in range(self._conditions)]
            return np.concatenate(parts)
        windows = self._windows(rows, released, self.window.stride, last_only=False)
        windows = self._usable(rows, windows, training=True)
        summary = self._summaries(windows)
        scaled = (np.clip(summary, -SUMMARY_LIMIT, SUMMARY_LIMIT) / SUMMARY_LIMIT + 1) / 2
        head = tally_overview(
            rows["__y"].to_numpy(dtype=np.float64)[windows.last],
            np.ones(windows.last.size),
            units(rows)[windows.last],
        )
        return np.concatenate(
            [head, *(tally_moments(scaled[:, i]) for i in range(scaled.shape[1]))]
        )

    def overview(self, released: Sequence[Floats]) -> Overview:
        """Totals over the federation's training windows, or rows where there is one stage.

        In a run with noise each unit counts as if it had one row.
        """
        if self.private != "none":
            return read_noisy_overview(
                released[0], target_bound=self._label_bound, exposure_bound=1.0, signed=False
            )
        return read_overview(released[-1])

    def shape(self, released: Sequence[Floats]) -> InputShape:
        """What the network has to take in; the same at every member."""
        del released
        if self.window.statistics:
            return InputShape(numeric=len(self.names(())), levels=())
        return InputShape(numeric=0, levels=(), steps=self.window.length, sensors=len(self.sensors))

    def names(self, released: Sequence[Floats]) -> tuple[str, ...]:
        """Names of the inputs, in the order of `Examples.numeric`."""
        del released
        window = self.window
        names: list[str] = []
        for kind in window.statistics:
            if kind == "age":
                names.append("age")
            else:
                names += [f"{c.name} {kind}" for c in self.sensors]
        if window.statistics and window.pieces > 1:
            names += [f"{c.name} mean {i + 1}" for i in range(window.pieces) for c in self.sensors]
        return tuple(names)

    def training_examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """Every window of the member's training devices, `stride` apart."""
        windows = self._windows(rows, released, self.window.stride, last_only=False)
        return self._examples(rows, released, self._usable(rows, windows, training=True))

    def watch_examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """Windows a third of their length apart, over the whole of each device's record."""
        stride = max(self.window.stride, self.window.length // 3)
        windows = self._windows(rows, released, stride, last_only=False)
        return self._examples(rows, released, self._usable(rows, windows, training=True))

    def test_examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """One window a device, its last, for remaining life; else windows `test_stride` apart."""
        return self._examples(rows, released, self.test_windows(rows, released))

    def test_windows(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Windows:
        """The windows of `test_examples`, in their order."""
        last_only = self.contract.label.kind == "remaining_life"
        windows = self._windows(rows, released, self.window.test_stride, last_only=last_only)
        return self._usable(rows, windows, training=False)

    def scoring_windows(
        self, rows: pd.DataFrame, released: Sequence[Floats], *, every: int | None
    ) -> Windows:
        """Windows to score, whatever is known of how they end.

        A device younger than a window has one, as `_windows` fills it up, where only last windows
        are wanted.

        Args:
            rows: Unit by unit (`__unit`), each in order of time; no label is read.
            released: The opened statistics.
            every: Steps between a device's windows, counted from its last; None: its last alone.
        """
        return self._windows(rows, released, every or 1, last_only=every is None)

    def first_windows(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Windows:
        """Each device's first window, in the order of devices; `rows` as `scoring_windows`."""
        unit = units(rows)
        bounds = np.array(_bounds(unit))
        place = np.arange(unit.size) - np.repeat(bounds[:-1], np.diff(bounds))
        return self._windows(rows[place < self.window.length], released, 1, last_only=True)

    def _examples(
        self, rows: pd.DataFrame, released: Sequence[Floats], windows: Windows
    ) -> Examples:
        ends = rows.iloc[windows.last]
        count = windows.last.size
        numeric = np.zeros((count, 0), dtype=np.float32)
        series = windows.series
        if self.window.statistics:
            numeric = self.scale(released).of(self._summaries(windows))
            series = np.zeros((count, 0, 0), dtype=np.float32)
        elif self.window.baseline == "own":
            series = squashed_readings(series)
        target = ends["__y"].to_numpy(dtype=np.float64)
        raw = ends["__y_raw"].to_numpy(dtype=np.float64) if "__y_raw" in ends else target
        return Examples(
            numeric=numeric,
            codes=np.zeros((count, 0), dtype=np.int64),
            series=series,
            target=target,
            target_raw=raw,
            exposure=np.ones(count),
            group=group_codes(ends, self.contract),
            unit=units(rows)[windows.last],
            trust=trust_of(ends),
        )

    @property
    def _label_bound(self) -> float:
        label = self.contract.label
        return label.cap if isinstance(label, RemainingLife) else 1.0

    def _require_own_baseline(self) -> None:
        if self.window.baseline != "own":
            raise InputError(
                "In a run with noise the federation's means and spreads of readings would be "
                "little but noise; set features.window.baseline to own."
            )

    def _condition(self, rows: pd.DataFrame) -> NDArray[np.int64]:
        regime = self.contract.regime
        if regime is None:
            return np.zeros(len(rows), dtype=np.int64)
        return regime.index(rows[regime.column].to_numpy(dtype=np.float64))

    def _usable(self, rows: pd.DataFrame, windows: Windows, *, training: bool) -> Windows:
        """Windows whose label is known and, for training, within the run's limit."""
        keep = np.ones(windows.last.size, dtype=bool)
        if "__known" in rows:
            keep &= rows["__known"].to_numpy(dtype=bool)[windows.last]
        limit = self.window.life_limit
        if training and limit is not None and "__y_raw" in rows:
            keep &= rows["__y_raw"].to_numpy(dtype=np.float64)[windows.last] <= limit
        if keep.all():
            return windows
        return Windows(
            windows.series[keep], windows.origin[keep], windows.age[keep], windows.last[keep]
        )

    def _windows(
        self, rows: pd.DataFrame, released: Sequence[Floats], stride: int, *, last_only: bool
    ) -> Windows:
        length = self.window.length
        unit = units(rows)
        own_baseline = self.window.baseline == "own"
        if own_baseline:
            readings = self._unit_readings(rows, unit)
        else:
            readings = self._readings(rows, released[0])
        series: list[NDArray[np.float32]] = []
        origin: list[NDArray[np.float32]] = []
        age: list[Floats] = []
        last: list[NDArray[np.int64]] = []
        for start, stop in pairwise(_bounds(unit)):
            own = readings[start:stop]
            if stop - start < length:
                if not last_only:
                    continue
                # a device younger than a window: its first reading stands for what came before,
                # or its baseline where that is its own
                before = np.zeros_like(own[:1]) if own_baseline else own[:1]
                own = np.concatenate([np.repeat(before, length - len(own), axis=0), own])
            views = sliding_window_view(own, length, axis=0).transpose(0, 2, 1)
            ends = np.arange(stop - len(views), stop)
            keep = slice(-1, None) if last_only else slice((len(views) - 1) % stride, None, stride)
            series.append(np.ascontiguousarray(views[keep]))
            last.append(ends[keep])
            age.append((ends[keep] - start + 1) / AGE_SCALE)
            origin.append(np.repeat(own[:length].mean(axis=0)[None], len(ends[keep]), axis=0))
        if not last:
            return Windows(
                np.zeros((0, length, readings.shape[1]), np.float32),
                np.zeros((0, readings.shape[1]), np.float32),
                np.zeros(0),
                np.zeros(0, np.int64),
            )
        return Windows(
            np.concatenate(series),
            np.concatenate(origin),
            np.concatenate(age),
            np.concatenate(last),
        )

    def _readings(self, rows: pd.DataFrame, total: Floats) -> NDArray[np.float32]:
        condition = self._condition(rows)
        out = np.empty((len(rows), len(self.sensors)), dtype=np.float32)
        at = OVERVIEW
        for index, column in enumerate(self.sensors):
            values = _scaled(rows, column)
            entries = total[at : at + 3 * self._conditions].reshape(-1, 3)
            moments = [read_moments(entry) for entry in entries]
            mean = np.array([m.mean for m in moments])[condition]
            spread = np.array([m.spread for m in moments])[condition]
            out[:, index] = np.nan_to_num((values - mean) / spread)
            at += 3 * self._conditions
        return out

    def _unit_readings(self, rows: pd.DataFrame, unit: NDArray[np.int64]) -> NDArray[np.float32]:
        """Shape (n, s): each device's readings against its own first ones; see `deviations`."""
        condition = self._condition(rows)
        values = np.stack([_scaled(rows, column) for column in self.sensors], axis=1)
        out = np.empty(values.shape, dtype=np.float32)
        for start, stop in pairwise(_bounds(unit)):
            part = slice(start, stop)
            out[part] = deviations(values[part], condition[part], self.window.length)
        return out

    @property
    def summary(self) -> Summary:
        """What is said of a window, where the model does not see the readings themselves."""
        window = self.window
        return Summary(kinds=window.statistics, recent=window.recent, pieces=window.pieces)

    def scale(self, released: Sequence[Floats]) -> Scale:
        """How summaries are brought to scale.

        Raises:
            ProtocolError: The sums that it needs were not opened.
        """
        if self.window.baseline == "own":
            label = self.contract.label
            return Squashed(
                kinds=self.summary.expanded(),
                sensors=len(self.sensors),
                age_scale=label.cap if isinstance(label, RemainingLife) else AGE_SCALE,
            )
        if len(released) < self.stages:
            raise ProtocolError("The window statistics were not released before the model.")
        moments = [read_moments(entry) for entry in released[1][OVERVIEW:].reshape(-1, 3)]
        return Standardised(
            mean=np.array([(m.mean * 2 - 1) * SUMMARY_LIMIT for m in moments], dtype=np.float32),
            spread=np.array(
                [m.spread * 2 * SUMMARY_LIMIT if m.spread < 1 else 1.0 for m in moments],
                dtype=np.float32,
            ),
        )

    def _summaries(self, windows: Windows) -> NDArray[np.float32]:
        return self.summary.of(windows.series, windows.origin, windows.age)


def deviations(values: Floats, condition: NDArray[np.int64], early: int) -> NDArray[np.float32]:
    """Measure one device's readings against its own first ones.

    A reading's deviation is its difference to the mean of the first readings in the same operating
    condition, in units of the scatter of the first readings around these means (root mean square
    over all conditions, one degree of freedom lost for each). A reading that is missing, or in a
    condition that the first ones did not show, says nothing new: the sensor's last deviation
    stands, 0 before there is one.

    The result for a row depends on rows of the same device up to it, and on the first `early` rows:
    on nothing later, and on no other device.

    Args:
        values: Shape (n, s), one device in order of time, each in [0, 1] of the contract's range;
            NaN where missing.
        condition: Shape (n,), >= 0. Index of each reading's condition.
        early: How many first readings are the baseline, at least 1; all where there are fewer.

    Returns:
        Shape (n, s), finite.
    """
    first, seen = values[:early], condition[:early]
    present = ~np.isnan(first)
    member = np.equal.outer(np.arange(int(condition.max(initial=0)) + 1), seen).astype(np.float64)
    count = member @ present
    with np.errstate(invalid="ignore"):  # 0 / 0: the mean of no readings is missing
        mean = (member @ np.nan_to_num(first)) / count
    off = values - mean[condition]
    freedom = np.maximum(present.sum(axis=0) - (count > 0).sum(axis=0), 1)
    scatter = np.sqrt(np.square(np.nan_to_num(off[:early])).sum(axis=0) / freedom)
    place = np.where(np.isnan(off), -1, np.arange(len(off))[:, None])
    last = np.maximum.accumulate(place, axis=0)
    carried = np.where(last >= 0, np.take_along_axis(off, np.maximum(last, 0), axis=0), 0.0)
    return np.asarray(carried / np.maximum(scatter, SMALLEST_NOISE), dtype=np.float32)


def _bounds(unit: NDArray[np.int64]) -> list[int]:
    """Where each device's rows begin, and the end of the last."""
    if unit.size == 0:
        return []
    return [0, *(np.flatnonzero(np.diff(unit)) + 1).tolist(), unit.size]


def _scaled(rows: pd.DataFrame, column: Column) -> Floats:
    low, high = column.bounds
    values = rows[column.name].to_numpy(dtype=np.float64)
    return to_unit_interval(values, low, high, column.transform)
