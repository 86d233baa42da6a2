"""Indicators of the same inputs, kept up to date reading by reading."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.indicators.indicator import Floats, Indicator, Steps, Tally
from clients.indicators.readings import Codes, Readings

NEARLY = 1 + 1e-9
"""A reading exactly one hold away is joined, whatever rounding says."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Readings that have all inputs of a stream, each with those beside it; without the values.

    Streams whose devices said the same moments have the same frame, which is then made once.

    Attributes:
        kept: Of the new readings, those that have all inputs; None: all.
        whose: Devices whose last reading stands before their new ones.
        order: Of both together, device by device; None: as they are.
        device: Codes, shape (n,).
        time_h: Hours.
        before_h: Of the same device's reading before; NaN where there is none.
        next_h: Of the one after; of a device's last one, without end.
        starts: Each device's first.
        ends: Each device's last.
    """

    kept: NDArray[np.bool_] | None
    whose: Codes
    order: NDArray[np.intp] | None
    device: Codes
    time_h: Floats
    before_h: Floats
    next_h: Floats
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]


Frames = dict[tuple[bytes, ...], Frame]


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
        # a figure that several indicators keep is kept once
        self._figures: dict[Tally, Floats] = {
            tally: np.zeros(0) for one in self.indicators for tally in one.tallies.values()
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
        self._figures = {tally: own.copy() for tally, own in self._figures.items()}
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
        for tally, figures in self._figures.items():
            self._figures[tally] = np.append(figures, np.full(more, tally.start))

    def add(
        self,
        readings: Readings,
        places: Sequence[int],
        *,
        end_h: Floats,
        window_h: float,
        frames: Frames,
    ) -> None:
        """Take readings that come after all those before.

        Args:
            readings: Sorted; `grow` was called for their devices.
            places: Rows of `readings.values` that hold the inputs.
            end_h: For each device, the end of its window.
            window_h: Its length; NaN without one.
            frames: Those of other streams, of the same readings and the same call.
        """
        kept = _complete(readings, places)
        device = readings.device if kept is None else readings.device[kept]
        if not device.size:
            return
        present = device[_starts(device)]
        whose = present[~np.isnan(self._last_h[present])]
        frame = self._frame(readings, kept, whose, frames)
        values, before = self._values(frame, readings, places)
        done = np.ones(frame.device.size, dtype=bool)
        done[frame.ends] = False  # how long the last one stands is not known yet
        self._count(
            frame.device[done],
            time_h=frame.time_h[done],
            next_h=frame.next_h[done],
            values=values[:, done],
            before_h=frame.before_h[done],
            before=before[:, done],
            end_h=end_h,
            window_h=window_h,
        )
        ends = frame.ends
        self._last_h[present], self._last[:, present] = frame.time_h[ends], values[:, ends]
        self._before_h[present], self._before[:, present] = frame.before_h[ends], before[:, ends]

    def finish(
        self,
        readings: Readings,
        places: Sequence[int],
        *,
        end_h: Floats,
        window_h: float,
        frames: Frames,
    ) -> dict[str, Floats]:
        """Take the last readings, and count each device's last one with them; give the values.

        Args:
            readings: As for `add`; there may be none.
            places: As for `add`.
            end_h: As for `add`.
            window_h: As for `add`.
            frames: As for `add`.

        Returns:
            Indicator's key -> one value a device, NaN where it is absent.
        """
        whose = np.flatnonzero(~np.isnan(self._last_h))
        frame = self._frame(readings, _complete(readings, places), whose, frames)
        if frame.device.size:
            values, before = self._values(frame, readings, places)
            self._count(
                frame.device,
                time_h=frame.time_h,
                next_h=frame.next_h,
                values=values,
                before_h=frame.before_h,
                before=before,
                end_h=end_h,
                window_h=window_h,
            )
            self._last_h[:] = np.nan
        found, unseen = {}, self._seen == 0
        for one in self.indicators:
            totals = {name: self._figures[tally] for name, tally in one.tallies.items()}
            found[one.key] = np.where(unseen, np.nan, one.value(totals))
        return found

    def _frame(
        self, readings: Readings, kept: NDArray[np.bool_] | None, whose: Codes, frames: Frames
    ) -> Frame:
        parts = (np.zeros(0, bool) if kept is None else kept, whose, self._last_h, self._before_h)
        key = tuple(part.tobytes() for part in parts)
        frame = frames.get(key)
        if frame is None:
            frame = frames[key] = self._new_frame(readings, kept, whose)
        return frame

    def _new_frame(self, readings: Readings, kept: NDArray[np.bool_] | None, whose: Codes) -> Frame:
        device, time_h, order = readings.device, readings.time_h, None
        if kept is not None:
            device, time_h = device[kept], time_h[kept]
        if whose.size:
            # each device's last reading goes before its new ones: only now is known how long it
            # stood
            device = np.concatenate([whose, device])
            order = np.argsort(device, kind="stable")
            device = device[order]
            time_h = np.concatenate([self._last_h[whose], time_h])[order]
        starts = _starts(device)
        ends = np.append(starts[1:], device.size) - 1 if device.size else starts
        before_h, next_h = np.empty_like(time_h), np.empty_like(time_h)
        before_h[1:], next_h[:-1] = time_h[:-1], time_h[1:]
        before_h[starts], next_h[ends] = self._before_h[device[starts]], np.inf
        return Frame(kept, whose, order, device, time_h, before_h, next_h, starts, ends)

    def _values(
        self, frame: Frame, readings: Readings, places: Sequence[int]
    ) -> tuple[Floats, Floats]:
        """Shape (inputs, n): a frame's values, and those of the same devices' readings before."""
        values = readings.values[list(places)]
        if frame.kept is not None:
            values = values[:, frame.kept]
        if frame.order is not None:
            values = np.concatenate([self._last[:, frame.whose], values], axis=1)[:, frame.order]
        before = np.empty_like(values)
        before[:, 1:] = values[:, :-1]
        before[:, frame.starts] = self._before[:, frame.device[frame.starts]]
        return values, before

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
        for tally, figures in self._figures.items():
            _add(tally, figures, device, tally.of(steps))


def _complete(readings: Readings, places: Sequence[int]) -> NDArray[np.bool_] | None:
    """Readings that have all inputs; None where all have."""
    gone = np.isnan(readings.values[list(places)])
    return np.logical_not(gone.any(axis=0)) if gone.any() else None


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
