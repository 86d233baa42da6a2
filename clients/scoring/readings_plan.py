"""Which indicators a bundle needs, and of which columns of a device's readings: plain and closed.

The transforms themselves are this installation's own registry: a bundle names them by version and
digest, and one that is known here by another digest is refused, as its values would mean something
else than those that the model was trained on.
"""

import re
from dataclasses import dataclass
from typing import Final

from clients.indicators.indicator import Indicator
from clients.indicators.quantity import QUANTITIES
from clients.indicators.registry import INDICATORS
from clients.indicators.units import UNITS
from clients.scoring.form import Form

MOST_INDICATORS: Final = 200
HOURS: Final = 24 * 366 * 100.0
UNIT_TYPES: Final = ("text", "integer", "category", "number")
_INTEGER = re.compile(r"\+?(-?)0*(\d+?)(?:\.0+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityColumn:
    """The column of readings that holds a quantity.

    Attributes:
        quantity: A key of `clients.indicators.quantity.QUANTITIES`.
        header: How readings call it.
        unit: Of the column.
        bounds: Its range, outside of which a value is missing; None: any.
        threshold: Where the device normally works; None: not said.
    """

    quantity: str
    header: str
    unit: str | None
    bounds: tuple[float, float] | None
    threshold: tuple[float, float] | None

    def plain(self) -> dict[str, object]:
        """For canonical JSON."""
        return {
            "quantity": self.quantity,
            "header": self.header,
            "unit": self.unit,
            "bounds": None if self.bounds is None else list(self.bounds),
            "threshold": None if self.threshold is None else list(self.threshold),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitColumn:
    """A column that names the unit, alone or with others; a `number` is read as one before."""

    header: str
    type: str

    def plain(self) -> dict[str, object]:
        """For canonical JSON."""
        return {"header": self.header, "type": self.type}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingsPlan:
    """How readings become the model's indicators.

    Attributes:
        contract: Digest of the readings' contract.
        name: Its name.
        time: How readings call the time column.
        units: What names the device.
        quantities: Of the indicators, in the order of the plan that they were exported from.
        indicators: Of this installation's registry.
        missing: Texts that mean missing.
        step_h: Hours of one unit of the time column.
        hold_h: For how long a reading stands at most.
        window_h: Length of the window that ends with what the last reading stands for; None: the
            whole record.
        zone_h: What is added to times, so that 0 is a midnight.
    """

    contract: str
    name: str
    time: str
    units: tuple[UnitColumn, ...]
    quantities: tuple[QuantityColumn, ...]
    indicators: tuple[Indicator, ...]
    missing: tuple[str, ...]
    step_h: float
    hold_h: float
    window_h: float | None
    zone_h: float

    def plain(self) -> dict[str, object]:
        """For canonical JSON."""
        return {
            "contract": self.contract,
            "name": self.name,
            "time": self.time,
            "units": [one.plain() for one in self.units],
            "quantities": [one.plain() for one in self.quantities],
            "indicators": [{"key": one.key, "digest": one.digest} for one in self.indicators],
            "missing": list(self.missing),
            "step_h": self.step_h,
            "hold_h": self.hold_h,
            "window_h": self.window_h,
            "zone_h": self.zone_h,
        }


def read_plan(form: Form) -> ReadingsPlan:
    """Read what `ReadingsPlan.plain` gave.

    Raises:
        NotVerifiedError: It is not as it must be, or a transform is another here.
    """
    plan = ReadingsPlan(
        contract=form.hexadecimal("contract"),
        name=form.text("name"),
        time=form.text("time"),
        units=read_units(form, least=1),
        quantities=tuple(_quantity(one) for one in form.forms("quantities", most=len(QUANTITIES))),
        indicators=tuple(
            _indicator(one) for one in form.forms("indicators", least=1, most=MOST_INDICATORS)
        ),
        missing=form.texts("missing", most=100),
        step_h=form.number("step_h", low=1e-9, high=HOURS),
        hold_h=form.number("hold_h", low=1e-9, high=HOURS),
        window_h=form.number_or_none("window_h", low=1e-9, high=HOURS),
        zone_h=form.number("zone_h", low=-HOURS, high=HOURS),
    )
    if plan.window_h is not None and plan.window_h < plan.hold_h:
        raise form.fault("window_h", "is shorter than hold_h, so that no reading lies in it")
    there = [one.quantity for one in plan.quantities]
    wanted = {name for one in plan.indicators for name in one.inputs}
    if len(set(there)) != len(there) or not wanted <= set(there):
        raise form.fault("quantities", "are not those that the indicators need")
    form.done()
    return plan


def read_units(form: Form, *, least: int) -> tuple[UnitColumn, ...]:
    """The columns that name a unit.

    Raises:
        NotVerifiedError: They are not as they must be.
    """
    found: list[UnitColumn] = []
    for one in form.forms("units", least=least, most=20):
        found.append(UnitColumn(header=one.text("header"), type=one.choice("type", *UNIT_TYPES)))
        one.done()
    return tuple(found)


def integer_text(text: str) -> str | None:
    """One spelling for one whole number, as `clients.source` has it; None: it is none."""
    match = _INTEGER.fullmatch(text.strip())
    return None if match is None else match[1] + match[2]


def _quantity(form: Form) -> QuantityColumn:
    one = QuantityColumn(
        quantity=form.choice("quantity", *QUANTITIES),
        header=form.text("header"),
        unit=form.text_or_none("unit"),
        bounds=form.bounds_or_none("bounds"),
        threshold=form.bounds_or_none("threshold"),
    )
    wanted = QUANTITIES[one.quantity].unit
    if wanted is not None:
        given = UNITS.get(one.unit or "")
        if given is None or given.dimension != UNITS[wanted].dimension:
            raise form.fault("unit", f"does not measure {one.quantity}")
    form.done()
    return one


def _indicator(form: Form) -> Indicator:
    key, digest = form.text("key"), form.hexadecimal("digest")
    form.done()
    here = INDICATORS.get(key)
    if here is None:
        raise form.fault("key", f"names {key:.60}, an indicator that this version does not have")
    if here.digest != digest:
        raise form.fault("digest", f"says that {key} is computed otherwise than here")
    return here
