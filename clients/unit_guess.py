"""Whether numbers look as if they were in another unit than their contract says.

A sensor that was exchanged for one with another scale still keeps its schema. Where nearly all of a
device's readings lie outside their range, and nearly all would lie inside if they were in another
unit of the same quantity, that unit is named. It is a guess, for a person.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clients.indicators.units import UNITS, Unit

Floats: TypeAlias = NDArray[np.float64]
FEWEST: Final = 20
"""Readings from which on a guess is made."""
MOST_OF: Final = 0.9

# beside those that indicators are made from
_MORE: Final[Mapping[str, Unit]] = MappingProxyType(
    {
        "bar": Unit("pressure"),
        "mbar": Unit("pressure", 1e-3),
        "Pa": Unit("pressure", 1e-5),
        "kPa": Unit("pressure", 1e-2),
        "MPa": Unit("pressure", 10.0),
        "psi": Unit("pressure", 0.0689476),
        "A": Unit("current"),
        "mA": Unit("current", 1e-3),
        "kA": Unit("current", 1e3),
        "V": Unit("voltage"),
        "mV": Unit("voltage", 1e-3),
        "kV": Unit("voltage", 1e3),
        "rpm": Unit("rotation"),
        "Hz": Unit("rotation", 60.0),
        "rad/s": Unit("rotation", 9.549297),
    }
)
_TABLE: Final[Mapping[str, Unit]] = MappingProxyType({**_MORE, **UNITS})
_SPELLINGS: Final[Mapping[str, str]] = MappingProxyType(
    {"C": "degC", "°C": "degC", "F": "degF", "°F": "degF", "percent": "%", "share": "1"}
)


def looks_like(values: Floats, *, unit: str | None, bounds: tuple[float, float]) -> str:
    """Name the unit in which a device's values seem to be; empty where they are as they should be.

    Args:
        values: What one device read, NaN where nothing.
        unit: As the contract says it.
        bounds: What a reading can be at all, in that unit.
    """
    own = _TABLE.get(_SPELLINGS.get(unit or "", unit or ""))
    known = values[np.isfinite(values)]
    if own is None or known.size < FEWEST or _share_in(known, bounds) > 1 - MOST_OF:
        return ""
    found = {
        name: _share_in((known * one.factor + one.offset - own.offset) / own.factor, bounds)
        for name, one in _TABLE.items()
        if one.dimension == own.dimension and one != own
    }
    best = max(found, key=lambda name: found[name])
    return best if found[best] >= MOST_OF else ""


def _share_in(values: Floats, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return float(np.mean((values >= low) & (values <= high)))
