"""Indicators of devices from what they just said: what `clients.indicators.compute` would give.

Without a window a device keeps a few figures, and the readings that are not in them yet. With one
it keeps the readings that a window can still hold, and their figures are made anew at each score.
There is a bound on all of it.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.indicators.figures import Figures, quantity_values
from clients.indicators.readings import Codes
from clients.scoring.readings_plan import ReadingsPlan
from privacy.errors import DataError, RefusedError

Floats = NDArray[np.float64]
MOST_DEVICES: Final = 100_000
MOST_INDICATORS: Final = 1_000_000  # of all devices; the figures of one take about a kilobyte
MOST_READINGS: Final = 1_000_000
PENDING: Final = 256  # of a device without a window; together they are counted much faster
_NEVER: Final = np.array([np.inf])


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicated:
    """A device's indicators, and of how much they were made.

    Attributes:
        indicators: Indicator's key -> value, NaN where it is absent.
        readings: How many.
        first: Time of the first of them, as readings say it.
        last: Of the last.
        hours: From the first to the end of what the last one stands for.
        short: Whether there is a window, and these hours do not fill it.
    """

    indicators: Mapping[str, float]
    readings: int
    first: float
    last: float
    hours: float
    short: bool

    @property
    def absent(self) -> tuple[str, ...]:
        """Indicators that these readings do not give; the model takes them as missing."""
        return tuple(key for key, value in self.indicators.items() if np.isnan(value))


@dataclass(slots=True)
class _Device:
    figures: Figures | None
    held: "deque[tuple[float, tuple[float, ...]]]" = field(default_factory=deque)
    readings: int = 0
    first_h: float = np.nan
    last_h: float = np.nan


class Histories:
    """Devices by name."""

    def __init__(
        self, plan: ReadingsPlan, *, devices: int = MOST_DEVICES, readings: int = MOST_READINGS
    ) -> None:
        """Begin with nobody.

        Args:
            plan: What to compute.
            devices: How many there may be, and no more than have `MOST_INDICATORS` together.
            readings: How many may be held, of all devices together.
        """
        self._plan = plan
        self._most_devices = min(devices, MOST_INDICATORS // max(len(plan.indicators), 1))
        self._most_readings = readings
        self._devices: dict[str, _Device] = {}
        self._held = 0
        self._none = Figures(
            [one.quantity for one in plan.quantities],
            plan.indicators,
            hold_h=plan.hold_h,
            window_h=plan.window_h,
        )
        self._none.grow(1)

    def add(self, device: str, time: float, values: Mapping[str, float], *, at: str) -> None:
        """Take one reading.

        Args:
            device: Whose.
            time: As the time column has it.
            values: Quantity -> value in its column's unit, NaN where missing.
            at: Where it stands, for sentences.

        Raises:
            DataError: It is older than the device's last one.
            RefusedError: There are more devices or readings than may be held.
        """
        plan = self._plan
        one = self._devices.get(device)
        if one is None:
            one = self._begin(device)
        time_h = time * plan.step_h + plan.zone_h
        if not np.isfinite(time_h):
            raise DataError(f"{at}, {plan.time}: the time is too large; correct the cell.")
        if time_h < one.last_h:
            raise DataError(
                f"{at}: is older than the reading before of the same device; sort them by "
                f"{plan.time}."
            )
        row = tuple(values[each.quantity] for each in plan.quantities)
        if one.figures is None:
            self._forget(one, time_h)
        elif len(one.held) >= PENDING:
            self._count(one, one.figures)
        if self._held >= self._most_readings:
            self._count_all()
        if self._held >= self._most_readings:
            raise RefusedError(
                f"{at}: more than {self._most_readings} readings have to be held; score fewer "
                f"devices at once."
            )
        one.held.append((time_h, row))
        self._held += 1
        one.readings += 1
        one.first_h = time_h if np.isnan(one.first_h) else one.first_h
        one.last_h = time_h

    def now(self, device: str) -> Indicated:
        """A device's indicators as they stand at its last reading.

        Raises:
            KeyError: It said nothing yet.
            DataError: Its readings are so large that an indicator is without end.
        """
        plan, one = self._plan, self._devices[device]
        if one.figures is not None:
            found = one.figures.copied().of_all(*self._readings(one), end_h=_NEVER)
            readings, first_h = one.readings, one.first_h
        else:
            end_h = np.array([one.last_h + plan.hold_h])
            found = self._none.copied().of_all(*self._readings(one), end_h=end_h)
            readings, first_h = len(one.held), one.held[0][0]
        for key, value in found.items():
            if np.isinf(value[0]):
                raise DataError(f"{device:.80}: {key} is not finite; check its readings.")
        hours = one.last_h + plan.hold_h - first_h
        return Indicated(
            indicators={key: float(value[0]) for key, value in found.items()},
            readings=readings,
            first=(first_h - plan.zone_h) / plan.step_h,
            last=(one.last_h - plan.zone_h) / plan.step_h,
            hours=hours,
            short=plan.window_h is not None and hours < plan.window_h * (1 - 1e-9),
        )

    def _begin(self, device: str) -> _Device:
        if len(self._devices) >= self._most_devices:
            raise RefusedError(
                f"More than {self._most_devices} devices are in these readings; score them in "
                f"parts."
            )
        one = _Device(None if self._plan.window_h is not None else self._none.copied())
        self._devices[device] = one
        return one

    def _forget(self, one: _Device, time_h: float) -> None:
        """Leave out what no window that ends from now on can hold."""
        start_h = time_h + self._plan.hold_h - (self._plan.window_h or 0.0)
        while one.held and one.held[0][0] < start_h:
            one.held.popleft()
            self._held -= 1

    def _count(self, one: _Device, figures: Figures) -> None:
        """Put what is held into a device's figures."""
        if one.held:
            figures.add(*self._readings(one), end_h=_NEVER)
            self._held -= len(one.held)
            one.held.clear()

    def _count_all(self) -> None:
        for one in self._devices.values():
            if one.figures is not None:
                self._count(one, one.figures)

    def _readings(self, one: _Device) -> tuple[Codes, Floats, Floats]:
        """What is held, as `Figures.add` takes it."""
        times = np.array([time_h for time_h, _ in one.held])
        cells = np.array([row for _, row in one.held], dtype=np.float64)
        cells = cells.reshape(times.size, len(self._plan.quantities)).T
        values = np.array(
            [
                quantity_values(
                    each.quantity,
                    own,
                    unit=each.unit,
                    bounds=each.bounds,
                    where=f"Column {each.header}",
                )
                for each, own in zip(self._plan.quantities, cells, strict=True)
            ]
        )
        return np.zeros(times.size, np.int64), times, values.reshape(len(cells), times.size)
