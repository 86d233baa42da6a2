"""Indicators of devices from their readings as they come: numpy alone, no table, no contract.

`compute` feeds it the rows of files, an edge bundle (`clients.scoring`) what a device just said:
every transform has this one way from readings to values.
"""

import copy
from collections.abc import Sequence
from typing import Final

import numpy as np

from clients.indicators.indicator import Floats, Indicator
from clients.indicators.quantity import QUANTITIES
from clients.indicators.readings import Codes, Readings, Sorter
from clients.indicators.stream import Frames, Stream
from clients.indicators.units import convert

_TAKES_LARGEST: Final = frozenset({"state", "event"})


class Figures:
    """What is kept of devices' readings: a few figures each, whatever the length of a record."""

    def __init__(
        self,
        inputs: Sequence[str],
        indicators: Sequence[Indicator],
        *,
        hold_h: float,
        window_h: float | None,
    ) -> None:
        """Take what to compute.

        Args:
            inputs: Quantities, in the order of the rows of `add`'s values.
            indicators: What to compute of them.
            hold_h: For how long a reading stands at most.
            window_h: Length of the window; None: the whole record.
        """
        self._inputs = tuple(inputs)
        self._indicators = tuple(indicators)
        self._window_h = np.nan if window_h is None else window_h
        self._sorter = Sorter([QUANTITIES[name].kind in _TAKES_LARGEST for name in inputs])
        groups: dict[tuple[str, ...], list[Indicator]] = {}
        for one in indicators:
            groups.setdefault(one.inputs, []).append(one)
        self._streams = [Stream(names, own, hold_h=hold_h) for names, own in groups.items()]
        self._places = [[self._inputs.index(name) for name in names] for names in groups]

    def grow(self, devices: int) -> None:
        """Make room for more devices."""
        for stream in self._streams:
            stream.grow(devices)

    def add(self, device: Codes, time_h: Floats, values: Floats, *, end_h: Floats) -> None:
        """Take readings, each device's in order of time.

        Args:
            device: Codes of devices that there is room for, shape (n,).
            time_h: Hours, shape (n,).
            values: In the quantities' units, shape (inputs, n).
            end_h: Of each device, the end of its window.

        Raises:
            TimeGoesBackError: A device's reading is older than the one before.
        """
        self._pass_on(self._sorter.add(device, time_h, values), end_h)

    def finish(self, *, end_h: Floats) -> dict[str, Floats]:
        """The values, indicator's key -> one a device, NaN where it is absent."""
        return self._finished(self._sorter.finish(), end_h)

    def of_all(
        self, device: Codes, time_h: Floats, values: Floats, *, end_h: Floats
    ) -> dict[str, Floats]:
        """As `add` of all readings that there are, and `finish`; in one go, which is quicker."""
        done = self._sorter.add(device, time_h, values)
        held = self._sorter.finish()
        whose = np.concatenate([done.device, held.device])
        order = np.argsort(whose, kind="stable")
        readings = Readings(
            whose[order],
            np.concatenate([done.time_h, held.time_h])[order],
            np.concatenate([done.values, held.values], axis=1)[:, order],
        )
        return self._finished(readings, end_h)

    def copied(self) -> "Figures":
        """Others that stand where these do, and go their own way."""
        other = copy.copy(self)
        other.part()
        return other

    def part(self) -> None:
        """Share no figure with a copy from now on."""
        self._sorter = copy.copy(self._sorter)  # what it holds is replaced, never changed
        self._streams = [one.copied() for one in self._streams]

    def _pass_on(self, readings: Readings, end_h: Floats) -> None:
        if not readings.device.size:
            return
        frames: Frames = {}
        for stream, places in zip(self._streams, self._places, strict=True):
            stream.add(readings, places, end_h=end_h, window_h=self._window_h, frames=frames)

    def _finished(self, readings: Readings, end_h: Floats) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        frames: Frames = {}
        for stream, places in zip(self._streams, self._places, strict=True):
            found |= stream.finish(
                readings, places, end_h=end_h, window_h=self._window_h, frames=frames
            )
        return {one.key: found[one.key] for one in self._indicators}


def quantity_values(
    name: str, values: Floats, *, unit: str | None, bounds: tuple[float, float] | None, where: str
) -> Floats:
    """A quantity's values in its own unit; what lies outside the column's range is missing.

    Args:
        name: Of the quantity.
        values: As the column has them.
        unit: The column's.
        bounds: The column's range; None: any value.
        where: What a sentence calls the column.

    Raises:
        InputError: The column's unit measures something else.
    """
    if bounds is not None:
        outside = (values < bounds[0]) | (values > bounds[1])
        if outside.any():
            values = np.where(outside, np.nan, values)
    wanted = QUANTITIES[name].unit
    return values if wanted is None else convert(values, unit, wanted, where)
