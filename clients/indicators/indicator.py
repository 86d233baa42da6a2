"""An indicator: a number about a device that a person can read and anybody can compute again."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from privacy.canonical import canonical_json

Floats = NDArray[np.float64]
Risk = Literal["up", "down", "open"]
Totals = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Steps:
    """n readings of any devices, each with the time for which it stands.

    All readings have all inputs of the indicator that sees them: those that lack one do not exist
    for it.

    Attributes:
        start_h: Time of the reading, hours; 0 is a midnight.
        hours: For how long it stands: until the device's next reading, at most `hold`.
        joined: Whether the device's reading before is no more than `hold` away.
        window_h: Length of the window; NaN where the whole record is one.
        now: Quantity -> the reading's values.
        before: Quantity -> the values of the device's reading before; NaN for its first.
    """

    start_h: Floats
    hours: Floats
    joined: NDArray[np.bool_]
    window_h: Floats
    now: Mapping[str, Floats]
    before: Mapping[str, Floats]

    def is_on(self, name: str) -> NDArray[np.bool_]:
        """Whether a state is on."""
        return self.now[name] > 0

    def hours_where(self, holds: NDArray[np.bool_]) -> Floats:
        """The hours of readings for which something holds, else 0."""
        return np.where(holds, self.hours, 0.0)

    def begins(self, now: NDArray[np.bool_], before: NDArray[np.bool_]) -> Floats:
        """1 where something holds that did not at the joined reading before, else 0."""
        return (now & ~(self.joined & before)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Tally:
    """One running figure of a device.

    Attributes:
        how: `sum`, `max`, `min`, or `last` of what is added.
        of: Steps -> what each reading adds; NaN adds nothing. It looks at one reading at a time,
            so what is added does not depend on how the rows are cut into chunks.
    """

    how: Literal["sum", "max", "min", "last"]
    of: Callable[[Steps], Floats]

    @property
    def start(self) -> float:
        """The figure of a device that was not seen."""
        return {"sum": 0.0, "max": -np.inf, "min": np.inf, "last": np.nan}[self.how]


@dataclass(frozen=True, kw_only=True)
class Indicator:
    """One version of an indicator. What a version means never changes.

    Attributes:
        name: What contracts call it, without the version.
        version: From 1.
        unit: Of its values.
        sentence: What it says, for a person.
        sentence_zh: The same in Chinese.
        formula: How it is computed, thresholds and all.
        inputs: Quantities that it needs; only readings with all of them count.
        low: No value is below it.
        high: No value is above it; None: there is no bound.
        risk: Whether a higher value means a higher risk (`up`), a lower one (`down`), or either.
        rises_with: Inputs that cannot make it fall when a reading of theirs grows.
        falls_with: Inputs that cannot make it rise when a reading of theirs grows.
        tallies: Figures that are kept of each device.
        value: Final figures of devices -> values; NaN: the indicator is absent.
    """

    name: str
    unit: str
    sentence: str
    sentence_zh: str
    formula: str
    inputs: tuple[str, ...]
    tallies: Mapping[str, Tally]
    value: Callable[[Totals], Floats]
    version: int = 1
    low: float = 0.0
    high: float | None = None
    risk: Risk = "open"
    rises_with: tuple[str, ...] = ()
    falls_with: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name and version, as contracts spell them."""
        return f"{self.name}@{self.version}"

    @cached_property
    def digest(self) -> str:
        """SHA-256, hex, over what it declares; it says which transform made a value."""
        said = {
            "name": self.name,
            "version": self.version,
            "unit": self.unit,
            "sentence": self.sentence,
            "sentence_zh": self.sentence_zh,
            "formula": self.formula,
            "inputs": list(self.inputs),
            "low": self.low,
            "high": self.high,
            "risk": self.risk,
        }
        return hashlib.sha256(b"tacit/indicator/v1\0" + canonical_json(said)).hexdigest()


def total(of: Callable[[Steps], Floats]) -> Tally:
    """A sum."""
    return Tally("sum", of)


def largest(of: Callable[[Steps], Floats]) -> Tally:
    """A maximum."""
    return Tally("max", of)


def smallest(of: Callable[[Steps], Floats]) -> Tally:
    """A minimum."""
    return Tally("min", of)


def latest(of: Callable[[Steps], Floats]) -> Tally:
    """What the last reading adds."""
    return Tally("last", of)


def share(part: Floats, whole: Floats) -> Floats:
    """A part of a whole that it lies in, held to [0, 1] against rounding; absent without one."""
    return np.clip(ratio(part, whole), 0.0, 1.0)


def ratio(above: Floats, below: Floats) -> Floats:
    """A quotient; absent where the divisor is not above 0."""
    result = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


observed: Final = total(lambda steps: steps.hours)
"""Hours for which there are readings."""
