"""Indicators of the same inputs, kept up to date reading by reading."""

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clients.indicators.indicator import Floats, Indicator, Steps, Tally
from clients.indicators.readings import Codes, Readings

NEARLY = 1 + 1e-9
"""A reading exactly one hold away is joined, whatever rounding says."""


class Stream:
    """The figures of every device for indicators of the same inputs.

    A device keeps two readings and a few figures, whatever the length of its record. Contributions
    are added one after the other in order of time, so where chunks end changes no bit of a sum.
    """

    def __init__(
        self, inputs: Sequence[str], indicators: Sequence[Indicator], *, hold_h: float
    ) -> None:
        self.inputs = tuple(inputs)
        self.indicators = tuple(indicators)
        self._hold_h = hold_h
        self._tallies: dict[tuple[str, str], tuple[Tally, Floats]] = {
            (one.key, name): (tally, np.zeros(0))
            for one in self.indicators
            for name, tally in one.tallies.items()
        }
        self._seen = np.zeros(0)
        self._last_h = np.zeros(0)
        self._last = np.zeros((len(self.inputs), 0))
        self._before_h = np.zeros(0)
        self._before = np.zeros((len(self.inputs), 0))

    def copied(self) -> "Stream":
        """Another stream that stands where this one does, and goes its own way."""
        other = copy.copy(self)
        other.part()
        return other

    def part(self) -> None:
        """Share no figure with a copy from now on."""
        self._tallies = {key: (tally, own.copy()) for key, (tally, own) in self._tallies.items()}
        self._seen = self._seen.copy()
        self._last_h, self._last = self._last_h.copy(), self._last.copy()
        self._before_h, self._before = self._before_h.copy(), self._before.copy()

    def grow(self, devices: int) -> None:
        """Make room for more devices."""
        more = devices - self._seen.size
        if more <= 0:
            return
        more += self._seen.size // 2  # so that growing stays cheap
        self._seen = np.append(self._seen, np.zeros(more))
        self._last_h = np.append(self._last_h, np.full(more, np.nan))
        self._before_h = np.append(self._before_h, np.full(more, np.nan))
        unknown = np.full((len(self.inputs), more), np.nan)
        self._last = np.concatenate([self._last, unknown], axis=1)
        self._before = np.concatenate([self._before, unknown], axis=1)
        for key, (tally, figures) in self._tallies.items():
            self._tallies[key] = (tally, np.append(figures, np.full(more, tally.start)))

    def add(
        self, readings: Readings, places: Sequence[int], *, end_h: Floats, window_h: float
    ) -> None:
        """Take readings that come after all those before.

        Args:
            readings: Sorted; `grow` was called for their devices.
            places: Rows of `readings.values` that hold the inputs.
            end_h: For each device, the end of its window.
            window_h: Its length; NaN without one.
        """
        device, time_h = readings.device, readings.time_h
        values = readings.values[list(places)]
        keep = ~np.isnan(values).any(axis=0)
        if not keep.all():
            device, time_h, values = device[keep], time_h[keep], values[:, keep]
        if not device.size:
            return
        present = device[_starts(device)]
        whose = present[~np.isnan(self._last_h[present])]
        if whose.size:
            # each device's last reading goes before its new ones: only now is known how long it
            # stood
            device = np.concatenate([whose, device])
            order = np.argsort(device, kind="stable")
            device = device[order]
            time_h = np.concatenate([self._last_h[whose], time_h])[order]
            values = np.concatenate([self._last[:, whose], values], axis=1)[:, order]
        starts = _starts(device)
        ends = np.empty_like(starts)
        ends[:-1], ends[-1] = starts[1:] - 1, device.size - 1
        before_h, next_h, before = np.empty_like(time_h), time_h.copy(), np.empty_like(values)
        before_h[1:], next_h[:-1], before[:, 1:] = time_h[:-1], time_h[1:], values[:, :-1]
        before_h[starts], before[:, starts] = self._before_h[present], self._before[:, present]
        done = np.ones(device.size, dtype=bool)
        done[ends] = False
        self._count(
            device[done],
            time_h=time_h[done],
            next_h=next_h[done],
            values=values[:, done],
            before_h=before_h[done],
            before=before[:, done],
            end_h=end_h,
            window_h=window_h,
        )
        self._last_h[present], self._last[:, present] = time_h[ends], values[:, ends]
        self._before_h[present], self._before[:, present] = before_h[ends], before[:, ends]

    def finish(self, *, end_h: Floats, window_h: float) -> dict[str, Floats]:
        """Count each device's last reading; give the values, NaN where one is absent."""
        device = np.flatnonzero(~np.isnan(self._last_h))
        self._count(
            device,
            time_h=self._last_h[device],
            next_h=np.full(device.size, np.inf),
            values=self._last[:, device],
            before_h=self._before_h[device],
            before=self._before[:, device],
            end_h=end_h,
            window_h=window_h,
        )
        self._last_h[:] = np.nan
        found = {}
        for one in self.indicators:
            totals = {name: self._tallies[one.key, name][1] for name in one.tallies}
            values = one.value(totals)
            found[one.key] = np.where(self._seen > 0, values, np.nan)
        return found

    def _count(
        self,
        device: Codes,
        *,
        time_h: Floats,
        next_h: Floats,
        values: Floats,
        before_h: Floats,
        before: Floats,
        end_h: Floats,
        window_h: float,
    ) -> None:
        if not device.size:
            return
        hours = np.minimum(next_h - time_h, self._hold_h)
        hours = np.minimum(hours, end_h[device] - time_h)
        joined = time_h - before_h <= self._hold_h * NEARLY
        steps = Steps(
            start_h=time_h,
            hours=hours,
            joined=joined,
            window_h=np.full(device.size, window_h),
            now=dict(zip(self.inputs, values, strict=True)),
            before=dict(zip(self.inputs, before, strict=True)),
        )
        np.add.at(self._seen, device, 1.0)
        for tally, figures in self._tallies.values():
            _add(tally, figures, device, tally.of(steps))


def _add(tally: Tally, figures: Floats, device: Codes, added: Floats) -> None:
    some = ~np.isnan(added)
    if not some.all():
        device, added = device[some], added[some]
    if tally.how == "sum":
        np.add.at(figures, device, added)
    elif tally.how == "max":
        np.maximum.at(figures, device, added)
    elif tally.how == "min":
        np.minimum.at(figures, device, added)
    else:
        figures[device] = added  # of repeated places the last one stands


def _starts(device: Codes) -> NDArray[np.intp]:
    """Where each device's readings begin."""
    begins = np.ones(device.size, dtype=bool)
    np.not_equal(device[1:], device[:-1], out=begins[1:])
    return np.flatnonzero(begins)
