"""Rows in the order of a file -> readings of each device in order of time, one a moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Readings:
    """n readings, device by device, each device's in order of time.

    Attributes:
        device: Codes, ascending.
        time_h: Hours; rising within a device.
        values: (inputs, n).
    """

    device: Codes
    time_h: Floats
    values: Floats


class TimeGoesBackError(Exception):
    """A device's rows are not in order of time."""


class Sorter:
    """Orders rows as they come, and makes one reading of those of one device and moment.

    Rows of the last moment of each device are held back, as the next chunk may have more of them;
    so what comes out does not depend on where chunks end.

    The rule for several rows of one moment, for each input by itself: of events and states the
    largest, else the mean of the different values, each once. A row that is there twice changes
    nothing, and neither does their order.
    """

    def __init__(self, takes_largest: Sequence[bool]) -> None:
        self._largest = tuple(takes_largest)
        self._held = Readings(np.zeros(0, np.int64), np.zeros(0), np.zeros((len(self._largest), 0)))

    def add(self, device: Codes, time_h: Floats, values: Floats) -> Readings:
        """Take rows in file order; give the readings that are complete.

        Raises:
            TimeGoesBackError: A device's row is older than the one before.
        """
        device = np.concatenate([self._held.device, device])
        time_h = np.concatenate([self._held.time_h, time_h])
        values = np.concatenate([self._held.values, values], axis=1)
        order = np.argsort(device, kind="stable")
        device, time_h, values = device[order], time_h[order], values[:, order]
        other = np.diff(device) != 0
        if (np.diff(time_h)[~other] < 0).any():
            raise TimeGoesBackError
        begins = np.ones(device.size, dtype=bool)
        begins[1:] = other | (np.diff(time_h) > 0)
        group = np.cumsum(begins) - 1
        # a device's last moment: the group of its last row
        ends = np.ones(device.size, dtype=bool)
        ends[:-1] = other
        open_groups = np.zeros(int(begins.sum()), dtype=bool)
        open_groups[group[ends]] = True
        waits = open_groups[group]
        self._held = _distinct(Readings(device[waits], time_h[waits], values[:, waits]))
        done = ~waits
        return self._collapsed(Readings(device[done], time_h[done], values[:, done]))

    def finish(self) -> Readings:
        """Give what was held back."""
        held, self._held = (
            self._held,
            Readings(np.zeros(0, np.int64), np.zeros(0), np.zeros((len(self._largest), 0))),
        )
        return self._collapsed(held)

    def _collapsed(self, rows: Readings) -> Readings:
        begins = _begins(rows)
        count = int(begins.sum())
        if count == rows.device.size:
            return rows
        group = np.cumsum(begins) - 1
        values = np.empty((len(self._largest), count))
        for place, largest in enumerate(self._largest):
            own = rows.values[place]
            values[place] = _largest(own, group, count) if largest else _mean(own, group, count)
        return Readings(rows.device[begins], rows.time_h[begins], values)


def _begins(rows: Readings) -> NDArray[np.bool_]:
    begins = np.ones(rows.device.size, dtype=bool)
    begins[1:] = (np.diff(rows.device) != 0) | (np.diff(rows.time_h) > 0)
    return begins


def _distinct(rows: Readings) -> Readings:
    """Without rows that are there twice: a device that stutters fills no memory."""
    if rows.device.size == np.unique(rows.device).size:
        return rows
    cells = np.concatenate([rows.device[None].astype(np.float64), rows.time_h[None], rows.values])
    cells[np.isnan(cells)] = np.nan  # one spelling for what is missing
    # compared as bytes: of two holes none would equal the other
    table = np.ascontiguousarray(cells.T)
    _, first = np.unique(table.view(f"V{table.itemsize * table.shape[1]}"), return_index=True)
    first.sort()
    return Readings(rows.device[first], rows.time_h[first], rows.values[:, first])


def _largest(values: Floats, group: Codes, count: int) -> Floats:
    out = np.full(count, np.nan)
    np.fmax.at(out, group, values)
    return out


def _mean(values: Floats, group: Codes, count: int) -> Floats:
    order = np.lexsort((values, group))
    values, group = values[order], group[order]
    keep = ~np.isnan(values)
    keep[1:] &= (np.diff(group) != 0) | (values[1:] != values[:-1])
    total, number = np.zeros(count), np.zeros(count)
    np.add.at(total, group[keep], values[keep])
    np.add.at(number, group[keep], 1.0)
    out = np.full(count, np.nan)
    np.divide(total, number, out=out, where=number > 0)
    return out
