"""What is said of a window of readings, how it is brought to scale, and how both move with it.

Models of windows see these numbers. They are computed here alone, for training and for reasons
alike, so that what explains a score cannot drift from what made it. Needs numpy and nothing else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic: TypeAlias = Literal[
    "last", "recent", "mean", "std", "slope", "min", "max", "first", "drift", "age"
]
Real = TypeVar("Real", np.float32, np.float64)

SUMMARY_LIMIT: Final = 8.0  # standard deviations; beyond it a summary is held
AGE_SCALE: Final = 200.0  # steps; an age input is of the order of one
AGE_LIMIT: Final = 4.0  # of a squashed age; beyond it an age is held
# noise deviations at which a squashed summary is a half; a worn device shows some tens
HALF_WAY: Final[float] = 5.0
HALF_WAYS: Final[Mapping[Statistic, float]] = {"slope": 2.5, "std": 2.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is said of a window, in order.

    Attributes:
        kinds: Statistics, each of every sensor, but for the `age`.
        recent: Readings that `recent` and `drift` average, at the window's end.
        pieces: Above 1, the means of that many equal pieces come last.
    """

    kinds: tuple[Statistic, ...]
    recent: int
    pieces: int

    def of(self, series: NDArray[Real], origin: NDArray[Real], age: Floats) -> NDArray[Real]:
        """Shape (n, summaries).

        Args:
            series: Shape (n, t, s).
            origin: Shape (n, s). Mean of the device's first window.
            age: Shape (n,). Steps since the device's record began, over `AGE_SCALE`.
        """
        ramp = _ramp(series.shape[1]).astype(series.dtype)
        make: Mapping[Statistic, Callable[[], NDArray[Real]]] = {
            "last": lambda: series[:, -1],
            "recent": lambda: series[:, -self.recent :].mean(axis=1),
            "first": lambda: series[:, 0],
            "drift": lambda: series[:, -self.recent :].mean(axis=1) - origin,
            "mean": lambda: series.mean(axis=1),
            "std": lambda: series.std(axis=1),
            "min": lambda: series.min(axis=1),
            "max": lambda: series.max(axis=1),
            "slope": lambda: np.einsum("nts,t->ns", series, ramp),
            "age": lambda: age[:, None].astype(series.dtype),
        }
        columns = [make[kind]() for kind in self.kinds]
        if self.pieces > 1:
            pieces = np.array_split(series, self.pieces, axis=1)
            columns += [piece.mean(axis=1) for piece in pieces]
        return np.concatenate(columns, axis=1)

    def back(self, series: Floats, moving: Floats) -> tuple[Floats, Floats, Floats]:
        """How series, origin and age move something that `moving` (n, summaries) says it of.

        Of readings that share the least or the most the first one moves it; a window without
        scatter does not move by it.

        Returns:
            Shapes (n, t, s), (n, s) and (n,).
        """
        rows, steps, sensors = series.shape
        along = np.zeros(series.shape)
        origin, age = np.zeros((rows, sensors)), np.zeros(rows)
        at = 0
        for kind in self.kinds:
            width = 1 if kind == "age" else sensors
            own = moving[:, at : at + width]
            at += width
            if kind == "age":
                age += own[:, 0]
            elif kind in {"recent", "drift"}:
                last = series[:, -self.recent :].shape[1]
                along[:, -last:] += own[:, None] / last
                if kind == "drift":
                    origin -= own
            elif kind in {"min", "max"}:
                place = series.argmin(axis=1) if kind == "min" else series.argmax(axis=1)
                here = place[:, None]
                np.put_along_axis(
                    along, here, np.take_along_axis(along, here, axis=1) + own[:, None], axis=1
                )
            else:
                along += own[:, None] * _linear(kind, series, steps)
        if self.pieces > 1:
            for piece in np.array_split(np.arange(steps), self.pieces):
                own = moving[:, at : at + sensors]
                at += sensors
                if piece.size:
                    along[:, piece] += own[:, None] / piece.size
        return along, origin, age

    def deal(self, series: Floats, origin: Floats, reference: Floats, rate: Floats) -> Floats:
        """Deal what each statistic adds out to the readings that it was made of.

        A statistic that is `rate` for each unit above its `reference` adds `rate` times its
        distance to it. Where it is a weighted sum of readings, each reading gets its own part of
        that sum: its weight times its distance to the readings that would give the reference (all
        at the reference; for a slope, on the line that rises by it; for a drift, that far above
        the first window). Scatter goes to readings by their squared distance to the window's
        mean, an extreme to the (first) reading that is it.

        Args:
            series: Shape (n, t, s).
            origin: Shape (n, s).
            reference: Shape (summaries,).
            rate: Shape (n, summaries).

        Returns:
            Shape (n, t, s). It adds up to the sum over statistics of `rate` times distance, but
            for the age, which no reading made.
        """
        _, steps, sensors = series.shape
        dealt = np.zeros(series.shape)
        line = np.linspace(-1.0, 1.0, steps)[:, None]
        at = 0
        for kind in self.kinds:
            width = 1 if kind == "age" else sensors
            against, own = reference[at : at + width], rate[:, None, at : at + width]
            at += width
            if kind == "age":
                continue
            if kind in {"recent", "drift"}:
                last = series[:, -self.recent :]
                level = against + (origin[:, None] if kind == "drift" else 0.0)
                dealt[:, -last.shape[1] :] += own * (last - level) / last.shape[1]
            elif kind in {"std", "min", "max"}:
                said = self._one(kind, series)
                dealt += own * (said[:, None] - against) * _shares(kind, series)
            else:
                profile = against * line if kind == "slope" else against
                dealt += own * _linear(kind, series, steps) * (series - profile)
        if self.pieces > 1:
            for piece in np.array_split(np.arange(steps), self.pieces):
                against, own = reference[at : at + sensors], rate[:, None, at : at + sensors]
                at += sensors
                if piece.size:
                    dealt[:, piece] += own * (series[:, piece] - against) / piece.size
        return dealt

    def _one(self, kind: Statistic, series: Floats) -> Floats:
        """One statistic but a drift or an age, shape (n, s)."""
        alone = Summary(kinds=(kind,), recent=self.recent, pieces=1)
        return alone.of(series, series[:, 0], np.zeros(len(series)))

    def expanded(self) -> tuple[Statistic, ...]:
        """Kinds in order, the pieces' means among them."""
        mean: Statistic = "mean"
        return (*self.kinds, *(mean for _ in range(self.pieces if self.pieces > 1 else 0)))


def _linear(kind: Statistic, series: Floats, steps: int) -> Floats:
    """How much each reading moves a statistic of its sensor; broadcasts to (n, t, s)."""
    weights = np.zeros((1, steps, 1))
    if kind == "last":
        weights[:, -1] = 1.0
    elif kind == "first":
        weights[:, 0] = 1.0
    elif kind == "mean":
        weights[:] = 1.0 / steps
    elif kind == "slope":
        weights[0, :, 0] = _ramp(steps)
    else:  # std
        off = series - series.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.square(off).mean(axis=1, keepdims=True))
        return np.asarray(np.divide(off, steps * spread, out=np.zeros(off.shape), where=spread > 0))
    return weights


def _shares(kind: Statistic, series: Floats) -> Floats:
    """Which reading has how much of a sensor's scatter or extreme; they add up to 1 over time."""
    if kind == "std":
        squared = np.square(series - series.mean(axis=1, keepdims=True))
        total = squared.sum(axis=1, keepdims=True)
        even = np.full(series.shape, 1.0 / series.shape[1])
        return np.asarray(np.divide(squared, total, out=even, where=total > 0))
    place = series.argmin(axis=1) if kind == "min" else series.argmax(axis=1)
    found = np.zeros(series.shape)
    np.put_along_axis(found, place[:, None], 1.0, axis=1)
    return found


def _ramp(steps: int) -> NDArray[np.float32]:
    ramp = np.linspace(-1, 1, steps, dtype=np.float32)
    ramp /= np.square(ramp).sum()
    return ramp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standardised:
    """Summaries against the federation's means, in its spreads; beyond `SUMMARY_LIMIT` held.

    Attributes:
        mean: Shape (summaries,).
        spread: Shape (summaries,), above 0.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    @property
    def reference(self) -> Floats:
        """Summaries whose inputs are all 0: the federation's means; shape (summaries,)."""
        return self.mean.astype(np.float64)

    def of(self, summaries: NDArray[Real]) -> NDArray[Real]:
        """What the network sees; shape (n, summaries)."""
        held = np.clip(summaries, -SUMMARY_LIMIT, SUMMARY_LIMIT)
        return np.asarray((held - self.mean) / self.spread, dtype=summaries.dtype)

    def slope(self, summaries: Floats) -> Floats:
        """How that moves with each summary."""
        return np.asarray((np.abs(summaries) < SUMMARY_LIMIT) / self.spread)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Squashed:
    """Summaries by fixed scales, each within [-1, 1]; an age within `AGE_LIMIT`.

    Softsign keeps apart what is worn and what is badly worn, and holds what no sensor should
    show. The scale of an age is the label's cap: beyond it nothing is asked of a model.

    Attributes:
        kinds: Of the summaries, in order (`Summary.expanded`).
        sensors: How many.
        age_scale: Steps.
    """

    kinds: Sequence[Statistic]
    sensors: int
    age_scale: float

    @property
    def reference(self) -> Floats:
        """Summaries whose inputs are all 0: a steady device's, as old as `age_scale`."""
        steady: dict[Statistic, float] = {"std": 1.0, "age": self.age_scale / AGE_SCALE}
        parts = [
            np.full(1 if kind == "age" else self.sensors, steady.get(kind, 0.0))
            for kind in self.kinds
        ]
        return np.concatenate(parts)

    def _parts(self, summaries: NDArray[Real]) -> Iterator[tuple[Statistic, NDArray[Real]]]:
        """Each statistic's columns."""
        at = 0
        for kind in self.kinds:
            step = 1 if kind == "age" else self.sensors
            yield kind, summaries[:, at : at + step]
            at += step

    def of(self, summaries: NDArray[Real]) -> NDArray[Real]:
        """What the network sees; shape (n, summaries)."""
        columns: list[NDArray[np.floating]] = []
        for kind, values in self._parts(summaries):
            if kind == "age":
                age = 2 * (values * AGE_SCALE / self.age_scale - 1)
                columns.append(np.clip(age, -AGE_LIMIT, AGE_LIMIT))
                continue
            off = values - 1 if kind == "std" else values  # that of a steady device is 1
            columns.append(off / (HALF_WAYS.get(kind, HALF_WAY) + np.abs(off)))
        return np.concatenate(columns, axis=1).astype(summaries.dtype)

    def slope(self, summaries: Floats) -> Floats:
        """How that moves with each summary."""
        columns: list[NDArray[np.floating]] = []
        for kind, values in self._parts(summaries):
            if kind == "age":
                scale = 2 * AGE_SCALE / self.age_scale
                columns.append(scale * (np.abs(scale * values - 2) < AGE_LIMIT))
                continue
            half = HALF_WAYS.get(kind, HALF_WAY)
            off = values - 1 if kind == "std" else values
            columns.append(half / np.square(half + np.abs(off)))
        return np.concatenate(columns, axis=1).astype(np.float64)


Scale: TypeAlias = Standardised | Squashed


def squashed_readings(series: NDArray[Real]) -> NDArray[Real]:
    """Deviations as a network that looks at readings sees them, each within (-1, 1)."""
    return (series / (1 + np.abs(series) / HALF_WAY)).astype(series.dtype)


def squashed_readings_slope(series: Floats) -> Floats:
    """How that moves with each reading."""
    return np.asarray(1.0 / np.square(1 + np.abs(series) / HALF_WAY))
