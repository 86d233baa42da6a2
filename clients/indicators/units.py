"""The field's units, and how one becomes another.

A closed table: what it does not know is refused, so no value is ever read in a unit that was only
guessed. `1` is a count or a share, and `%` a hundredth of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.spelling import nearest
from privacy.errors import InputError


@dataclass(frozen=True, slots=True)
class Unit:
    """value in the dimension's own unit = value * factor + offset.

    Attributes:
        dimension: What is measured; units of one dimension can be converted.
        factor: Size against the dimension's own unit.
        offset: Zero point, for temperatures.
    """

    dimension: str
    factor: float = 1.0
    offset: float = 0.0


UNITS: Final[Mapping[str, Unit]] = MappingProxyType(
    {
        "1": Unit("number"),
        "%": Unit("number", 0.01),
        "s": Unit("time", 1 / 3600),
        "ms": Unit("time", 1 / 3_600_000),
        "min": Unit("time", 1 / 60),
        "h": Unit("time"),
        "d": Unit("time", 24),
        "day": Unit("time", 24),
        "week": Unit("time", 168),
        "W": Unit("power", 0.001),
        "kW": Unit("power"),
        "MW": Unit("power", 1000),
        "kWh/h": Unit("power"),
        "Wh": Unit("energy", 0.001),
        "kWh": Unit("energy"),
        "MWh": Unit("energy", 1000),
        "kJ": Unit("energy", 1 / 3600),
        "MJ": Unit("energy", 1 / 3.6),
        "m": Unit("length", 0.001),
        "km": Unit("length"),
        "mile": Unit("length", 1.609344),
        "km/h": Unit("speed"),
        "m/s": Unit("speed", 3.6),
        "mm/s": Unit("speed", 0.0036),
        "in/s": Unit("speed", 0.09144),
        "mph": Unit("speed", 1.609344),
        "m/s2": Unit("acceleration"),
        "g": Unit("acceleration", 9.80665),
        "degC": Unit("temperature"),
        "K": Unit("temperature", 1.0, -273.15),
        "degF": Unit("temperature", 5 / 9, -160 / 9),
        "degR": Unit("temperature", 5 / 9, -273.15),
        "Ah": Unit("charge"),
        "mAh": Unit("charge", 0.001),
        "ohm": Unit("resistance", 1000),
        "mohm": Unit("resistance"),
    }
)


def known_unit(name: str | None, where: str) -> Unit:
    """The unit of that name.

    Args:
        name: As a contract spells it; None where it says nothing.
        where: What the sentence begins with.

    Raises:
        InputError: There is none.
    """
    if name is None:
        raise InputError(f"{where}: has no unit; say it in the contract.")
    unit = UNITS.get(name)
    if unit is None:
        guess = nearest(name, UNITS)
        advice = f"did you mean {guess}?" if guess else f"known are {', '.join(UNITS)}."
        raise InputError(f"{where}: there is no unit {name} here; {advice}")
    return unit


def convert(
    values: NDArray[np.float64], given: str | None, wanted: str, where: str
) -> NDArray[np.float64]:
    """Values in another unit; NaN stays NaN, and nothing is touched where both are the same.

    Raises:
        InputError: A unit is unknown, or they measure different things.
    """
    old, new = known_unit(given, where), known_unit(wanted, where)
    if old.dimension != new.dimension:
        raise InputError(
            f"{where}: is in {given}, a unit of {old.dimension}; {new.dimension} is needed "
            f"(in {wanted}); choose another column."
        )
    if old == new:
        return values
    result: NDArray[np.float64] = (values * old.factor + (old.offset - new.offset)) / new.factor
    return result
