"""How far a device's readings can be trusted: 0 to 100, in four parts that say what they are of.

Each part has its points and loses some: for readings that are missing, for restarts, for the age of
the firmware, for reviews. A score never rises when one of these gets worse and the others stay
(tests/property/test_device_trust.py). What a contract has no column for is no part of the score,
and the other parts' points are counted up to 100 in proportion: for all devices alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np
import pandas as pd

from clients.contract import DataContract, GateRules
from clients.gate import Device
from clients.review import HELD, Standing

Part: TypeAlias = Literal["reporting", "restarts", "firmware", "reviews"]
POINTS: Final[Mapping[Part, float]] = MappingProxyType(
    {"reporting": 40.0, "restarts": 20.0, "firmware": 20.0, "reviews": 20.0}
)
MOST: Final = 100.0
HALF_RESTARTS: Final = 1.0
"""Restarts in 100 readings that cost half of the points."""
HALF_FIRMWARE_DAYS: Final = 730.0
"""Age of the firmware that costs half of the points."""
HALF_REVIEWS: Final = 2.0
"""Reviews that cost half of the points; a rejection counts for `REJECTION` more."""
REJECTION: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a score is made of.

    Attributes:
        reporting: Share of the readings that were to be expected and are there, in [0, 1]; None
            where nobody knows how many were.
        restarts: Restarts in 100 readings, at least 0; None where the contract has no such column.
        firmware_days: Age of the firmware at the last reading, at least 0, infinite where the
            device does not say it; None where the contract has no such column.
        reviews: Times that it was put under review.
        rejections: Times that it was rejected.
    """

    reporting: float | None
    restarts: float | None
    firmware_days: float | None
    reviews: int
    rejections: int


@dataclass(frozen=True, slots=True)
class Points:
    """One part of a score.

    Attributes:
        part: Which.
        points: What is left, at least 0.
        of: What it began with.
        why: One sentence.
    """

    part: Part
    points: float
    of: float
    why: str


@dataclass(frozen=True, slots=True)
class TrustScore:
    """A device's score; it is the sum of its parts, so the parts explain all of it."""

    parts: tuple[Points, ...]

    @property
    def score(self) -> float:
        """0 to 100."""
        return min(MOST, max(0.0, sum(one.points for one in self.parts)))


def trust_score(facts: DeviceFacts) -> TrustScore:
    """Score a device."""
    kept: dict[Part, tuple[float, str]] = {}
    if facts.reporting is not None:
        share = min(1.0, max(0.0, facts.reporting))
        kept["reporting"] = share, f"{share:.1%} of the expected readings are there"
    if facts.restarts is not None:
        kept["restarts"] = (
            _halved(facts.restarts, HALF_RESTARTS),
            f"{facts.restarts:.2f} restarts in 100 readings",
        )
    if facts.firmware_days is not None:
        days = facts.firmware_days
        said = f"its firmware is {days:.0f} days old" if days < np.inf else "says no firmware"
        kept["firmware"] = _halved(days, HALF_FIRMWARE_DAYS), said
    kept["reviews"] = (
        _halved(facts.reviews + REJECTION * facts.rejections, HALF_REVIEWS),
        f"{facts.reviews} reviews, {facts.rejections} rejections",
    )
    whole = sum(POINTS[part] for part in kept)
    return TrustScore(
        tuple(
            Points(part, share * POINTS[part] * MOST / whole, POINTS[part] * MOST / whole, why)
            for part, (share, why) in kept.items()
        )
    )


def device_facts(
    devices: Mapping[Device, pd.DataFrame],
    contract: DataContract,
    standings: Mapping[Device, Standing],
) -> dict[Device, DeviceFacts]:
    """Gather what scores are made of.

    Args:
        devices: Rows by device, as `clients.gate.devices` gives them.
        contract: What they mean.
        standings: Where devices stand, those with any act of review.
    """
    if contract.time_column is None:
        raise ValueError("a gated contract has a time column")
    rules, time = contract.gate or GateRules.model_construct(), contract.time_column.name
    times = {
        device: np.unique(frame[time].to_numpy(dtype=np.float64))
        for device, frame in devices.items()
    }
    usual = rules.interval or _usual_step(times)
    return {
        device: DeviceFacts(
            reporting=_reporting(times[device], usual),
            restarts=_restarts(frame, rules, time, times[device].size),
            firmware_days=_firmware(frame, rules, time),
            reviews=_reviews(standings.get(device)),
            rejections=standings[device].rejections if device in standings else 0,
        )
        for device, frame in devices.items()
    }


def _halved(amount: float, half: float) -> float:
    return float(2.0 ** -(max(0.0, amount) / half))


def _usual_step(times: Mapping[Device, "np.typing.NDArray[np.float64]"]) -> float | None:
    """The median device's median time between readings."""
    medians = [float(np.median(np.diff(own))) for own in times.values() if own.size > 1]
    return float(np.median(medians)) if medians else None


def _reporting(times: "np.typing.NDArray[np.float64]", usual: float | None) -> float | None:
    if usual is None:
        return None
    expected = round(float(times[-1] - times[0]) / usual) + 1
    return min(1.0, times.size / expected)


def _restarts(frame: pd.DataFrame, rules: GateRules, time: str, readings: int) -> float | None:
    """Restarts in 100 readings: of rows of one time, the one with the most counts."""
    if rules.restarts is None:
        return None
    most = frame[rules.restarts].clip(lower=0.0).groupby(frame[time]).max()
    return 100.0 * float(np.nansum(most.to_numpy(dtype=np.float64))) / readings


def _firmware(frame: pd.DataFrame, rules: GateRules, time: str) -> float | None:
    """Age at the last time that says one: of rows of that time, the oldest counts."""
    if rules.firmware_days is None:
        return None
    oldest = frame[rules.firmware_days].groupby(frame[time]).max()  # by time
    days = oldest.to_numpy(dtype=np.float64)
    known = days[np.isfinite(days)]
    return max(0.0, float(known[-1])) if known.size else float("inf")


def _reviews(standing: Standing | None) -> int:
    return 0 if standing is None else sum(act.kind == HELD for act in standing.acts)
