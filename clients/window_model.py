"""A model of a device's readings: what each sensor, at each time, did to a score.

Integrated gradients (`clients.scoring.attribution`) deal the difference between a score and that of
a baseline out to readings. There are two baselines.

`members`, the default: what the federation's sums call average, the same for all devices, so that
scores can be compared. Every input of the network is at its standardised zero: the mean over the
members' training windows; in a run with `baseline: own`, a device that is as it was at first. A
model that sees readings is integrated along readings. One that sees statistics is integrated along
statistics, since no readings have all of them at their mean (readings at their mean do not scatter,
and no member's device was ever so still); what a statistic adds is then dealt out to the readings
that it was made of, by a rule (`clients.window_summary.Summary.deal`).

`beginning`: the device's own first window, as it was; it says what changed since. Here the line
runs from readings to readings for every model, through statistics and network by the chain rule,
so an amount belongs to one reading without a rule. Of a device that was bad from its start it says
nothing, and devices cannot be compared by it.

Besides readings there may be one more input, the age of the record. The mean of the device's first
window, which a `drift` is measured from, is the same at both ends of a line and adds nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import DataContract
from clients.scoring.attribution import Attribution, integrated_gradients
from clients.scoring.network import ScoringNetwork
from clients.table_features import units
from clients.train import Target
from clients.window_features import WindowFeatures, Windows
from clients.window_summary import (
    AGE_SCALE,
    Squashed,
    squashed_readings,
    squashed_readings_slope,
)

Floats = NDArray[np.float64]
Against: TypeAlias = Literal["members", "beginning"]
AGAINST: Final[tuple[Against, ...]] = ("members", "beginning")
SMALLEST_DISTANCE: Final = 1e-9  # of a statistic to its reference; nearer it adds nothing
_BATCH: Final = 256  # windows attributed at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What n windows are to a model: standardised, as `Windows` has them.

    Attributes:
        series: Shape (n, t, s).
        origin: Shape (n, s). Mean of the device's first window.
        age: Shape (n,). Steps since the record began, over `AGE_SCALE`.
    """

    series: Floats
    origin: Floats
    age: Floats

    def take(self, which: slice | NDArray[np.int64]) -> "Reading":
        """The chosen windows."""
        return Reading(series=self.series[which], origin=self.origin[which], age=self.age[which])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadingAmounts:
    """What made n scores, in the model's own scale; all amounts and `base` add up to `output`.

    Attributes:
        base: Shape (n,). The baseline's output.
        series: Shape (n, t, s). What each reading adds.
        age: Shape (n,). What the age adds; 0 where the model does not see it.
        output: Shape (n,).
        left_over: Shape (n,). See `clients.scoring.attribution.Attribution`.
    """

    base: Floats
    series: Floats
    age: Floats
    output: Floats
    left_over: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowModel:
    """See the module.

    Attributes:
        contract: What rows mean.
        features: How readings are prepared.
        released: The opened statistics.
        network: The network.
        target: How the label relates to the output.
        against: The baseline.
    """

    contract: DataContract
    features: WindowFeatures
    released: tuple[Floats, ...]
    network: ScoringNetwork
    target: Target
    against: Against

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names, in the order of `Reading.series`."""
        return tuple(column.name for column in self.features.sensors)

    @property
    def sees_age(self) -> bool:
        """Whether the age of a device's record is an input."""
        return "age" in self.features.window.statistics

    @property
    def _age_place(self) -> int:
        return self.features.names(()).index("age")

    def windows(self, rows: pd.DataFrame, *, every: int | None) -> Windows:
        """See `WindowFeatures.scoring_windows`."""
        return self.features.scoring_windows(rows, self.released, every=every)

    def beginning(self, rows: pd.DataFrame, windows: Windows) -> Reading | None:
        """Each window's device's first one, where that is the baseline.

        Args:
            rows: As `WindowFeatures.scoring_windows` takes them.
            windows: Of these rows.
        """
        if self.against == "members":
            return None
        first = self.features.first_windows(rows, self.released)
        return reading(first).take(units(rows)[windows.last])

    def outputs(self, those: Reading) -> Floats:
        """In the model's own scale, shape (n,)."""
        scale, shift = self.target.own_scale
        return self._moved_by(those)[0] * scale + shift

    def amounts(self, those: Reading, beginning: Reading | None) -> ReadingAmounts:
        """What each reading and the age add, from the baseline to the windows as they are.

        Args:
            those: The windows.
            beginning: See `beginning`.

        Raises:
            RefusedError: The amounts do not add up.
        """
        parts: list[ReadingAmounts] = []
        for at in range(0, len(those.age), _BATCH):
            part = slice(at, at + _BATCH)
            own = those.take(part)
            if beginning is not None:
                parts.append(self._from(own, beginning.take(part)))
            elif self.features.window.statistics:
                parts.append(self._from_means(own))
            else:
                still = Reading(series=np.zeros(own.series.shape), origin=own.origin, age=own.age)
                parts.append(self._from(own, still))
        return _joined(parts, those)

    def _from(self, those: Reading, baseline: Reading) -> ReadingAmounts:
        """Along readings."""
        shape = those.series.shape
        told = integrated_gradients(
            lambda points: self._moved(points, shape[1:]), _flat(those), _flat(baseline)
        )
        return self._told(told, _unflat(told.amounts, shape[1:]))

    def _from_means(self, those: Reading) -> ReadingAmounts:
        """Along what the network sees, dealt out to readings."""
        summary, scale = self.features.summary, self.features.scale(self.released)
        said = summary.of(those.series, those.origin, those.age)
        reference = scale.reference
        if self.sees_age and isinstance(scale, Squashed):  # a device as it began is as old
            reference[self._age_place] = self.features.window.length / AGE_SCALE
        start = np.broadcast_to(scale.of(reference[None]), said.shape)
        told = integrated_gradients(self._moved_inputs, scale.of(said), start)
        away = said - reference
        rate = np.divide(
            told.amounts, away, out=np.zeros(away.shape), where=np.abs(away) > SMALLEST_DISTANCE
        )
        readings = summary.deal(those.series, those.origin, reference, rate)
        age = np.zeros(len(said))
        if self.sees_age:
            age = told.amounts[:, self._age_place]
        return self._told(
            told, Reading(series=readings, origin=np.zeros(those.origin.shape), age=age)
        )

    def _told(self, told: Attribution, amounts: Reading) -> ReadingAmounts:
        scale, shift = self.target.own_scale
        return ReadingAmounts(
            base=told.base * scale + shift,
            series=amounts.series * scale,
            age=amounts.age * scale,
            output=told.output * scale + shift,
            left_over=told.left_over * scale,
        )

    def _moved_inputs(self, points: Floats) -> tuple[Floats, Floats]:
        return self.network.gradient(points, np.zeros((len(points), 0, 0)))[:2]

    def _moved(self, points: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        output, *slopes = self._moved_by(_unflat(points, shape))
        return output, _flat(Reading(series=slopes[0], origin=slopes[1], age=slopes[2]))

    def _moved_by(self, those: Reading) -> tuple[Floats, Floats, Floats, Floats]:
        """The network's output, and how it moves with series, origin and age."""
        series = those.series
        rows = len(series)
        if not self.features.window.statistics:
            squash = self.features.window.baseline == "own"
            seen = squashed_readings(series) if squash else series
            output, _, along = self.network.gradient(np.zeros((rows, 0)), seen)
            if squash:
                along = along * squashed_readings_slope(series)
            return output, along, np.zeros(those.origin.shape), np.zeros(rows)
        summary, scale = self.features.summary, self.features.scale(self.released)
        said = summary.of(series, those.origin, those.age)
        output, moving, _ = self.network.gradient(scale.of(said), np.zeros((rows, 0, 0)))
        along, origin, age = summary.back(series, moving * scale.slope(said))
        return output, along, origin, age


def reading(windows: Windows) -> Reading:
    """Windows as a model's inputs."""
    return Reading(
        series=windows.series.astype(np.float64),
        origin=windows.origin.astype(np.float64),
        age=windows.age,
    )


def _flat(those: Reading) -> Floats:
    rows = len(those.age)
    return np.concatenate(
        [those.series.reshape(rows, -1), those.origin, those.age[:, None]], axis=1
    )


def _unflat(points: Floats, shape: tuple[int, ...]) -> Reading:
    steps, sensors = shape
    cells = steps * sensors
    return Reading(
        series=points[:, :cells].reshape(-1, steps, sensors),
        origin=points[:, cells : cells + sensors],
        age=points[:, -1],
    )


def _joined(parts: Sequence[ReadingAmounts], those: Reading) -> ReadingAmounts:
    if not parts:
        none = np.zeros(0)
        return ReadingAmounts(base=none, series=those.series, age=none, output=none, left_over=none)
    return ReadingAmounts(
        base=np.concatenate([one.base for one in parts]),
        series=np.concatenate([one.series for one in parts]),
        age=np.concatenate([one.age for one in parts]),
        output=np.concatenate([one.output for one in parts]),
        left_over=np.concatenate([one.left_over for one in parts]),
    )
