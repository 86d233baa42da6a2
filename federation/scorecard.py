"""A scorecard: an additive model as whole points, to be added up with a pencil.

More points mean less risk. A score of `anchor` stands for odds of `odds` to one against the event,
and every `double` points more double these odds. Rounding to points moves a score by at most what
the card says of itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clients.additive import AdditiveModel, Curve, grid_values
from clients.contract import Column
from clients.statistics import BINS
from privacy.errors import RefusedError

Floats = NDArray[np.float64]
APART: Final = 4.0  # points; finer bands make a longer card and a closer one


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Values of one column that get the same points.

    Attributes:
        column: Its name.
        said: A level, `missing`, or `LOW to HIGH`: low <= value < high, of whole numbers both
            inside.
        points: What they get.
        share: How many of the federation's rows have such a value; None in a run with noise.
    """

    column: str
    said: str
    points: int
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """See the module.

    Attributes:
        start: Points that everybody gets.
        bands: Of all columns, column by column.
        off_by: The most by which points differ from the model's own score, in points.
        anchor: Points that stand for `odds`.
        odds: To one, against the event.
        double: Points that double the odds.
    """

    start: int
    bands: tuple[Band, ...]
    off_by: float
    anchor: float
    odds: float
    double: float


def make_scorecard(
    model: AdditiveModel, *, anchor: float = 600.0, odds: float = 20.0, double: float = 40.0
) -> Scorecard:
    """Turn a model of chances into points.

    Raises:
        RefusedError: The model's label is no event.
    """
    if model.target.kind != "binary":
        raise RefusedError("A scorecard is for models of an event's chance; this one has another.")
    factor = double / np.log(2.0)
    start = anchor - factor * (np.log(odds) + model.base)
    bands: list[Band] = []
    off_by = abs(start - round(start))
    for curve in model.curves:
        own, worst = _bands(model, curve, factor)
        bands += own
        off_by += worst
    return Scorecard(
        start=round(start),
        bands=tuple(bands),
        off_by=float(off_by),
        anchor=anchor,
        odds=odds,
        double=double,
    )


def scorecard_facts(card: Scorecard) -> dict[str, Any]:
    """For programs."""
    return {
        "start": card.start,
        "off_by_at_most": round(card.off_by, 2),
        "anchor": card.anchor,
        "odds": card.odds,
        "double": card.double,
        "bands": [
            {"column": one.column, "values": one.said, "points": one.points, "share": one.share}
            for one in card.bands
        ],
    }


def _bands(model: AdditiveModel, curve: Curve, factor: float) -> tuple[list[Band], float]:
    shares = model.features.shares(curve.column, model.released)
    if curve.column.type == "category":
        points = -factor * model.amount(curve, np.arange(len(curve.column.categories)))
        found = [
            Band(
                column=curve.column.name,
                said=level,
                points=round(float(points[code])),
                share=None if shares is None else float(shares[code]),
            )
            for code, level in enumerate(curve.column.categories)
        ]
        return found, float(np.abs(points - np.round(points)).max())
    places, near = _places(curve.column)
    points = -factor * model.amount(curve, places)
    missing = float(-factor * model.amount(curve, np.array([np.nan]))[0])
    held = None if shares is None else np.bincount(near, shares[:BINS], minlength=places.size)
    bands: list[Band] = []
    worst = abs(missing - round(missing))
    for first, last in pairwise(_edges(points)):
        part = points[first:last]
        middle = round(float(part.max() + part.min()) / 2)
        worst = max(worst, float(np.abs(part - middle).max()))
        bands.append(
            Band(
                column=curve.column.name,
                said=_said(curve.column, places, first, last),
                points=middle,
                share=None if held is None else float(held[first:last].sum()),
            )
        )
    share = None if shares is None else float(shares[BINS])
    bands.append(Band(column=curve.column.name, said="missing", points=round(missing), share=share))
    return bands, worst


def _is_counted(column: Column) -> bool:
    """Whether a column's values are so few whole numbers that each has bins of its own."""
    low, high = column.bounds
    few = 0 < math.floor(high) - math.ceil(low) <= BINS // 2
    return column.type == "integer" and column.transform == "standard" and few


def _places(column: Column) -> tuple[Floats, NDArray[np.int64]]:
    """Values to read a curve at, and to which of them each bin of the shares belongs."""
    grid = grid_values(column)
    if not _is_counted(column):
        return grid, np.arange(BINS, dtype=np.int64)
    low, high = math.ceil(column.bounds[0]), math.floor(column.bounds[1])
    near = np.clip(np.rint(grid), low, high) - low
    return np.arange(low, high + 1, dtype=np.float64), near.astype(np.int64)


def _said(column: Column, places: Floats, first: int, last: int) -> str:
    if _is_counted(column):
        least, most = int(places[first]), int(places[last - 1])
        return f"{least}" if least == most else f"{least} to {most}"
    low, high = column.bounds
    begins = low if first == 0 else float(places[first - 1] + places[first]) / 2
    ends = high if last == places.size else float(places[last - 1] + places[last]) / 2
    return f"{begins:.6g} to {ends:.6g}"


def _edges(points: Floats) -> Sequence[int]:
    """First bins of bands, as wide as they may be with points no more than `APART` apart."""
    edges = [0]
    lowest = highest = float(points[0])
    for place, value in enumerate(points.tolist()):
        lowest, highest = min(lowest, value), max(highest, value)
        if highest - lowest > APART:
            edges.append(place)
            lowest = highest = value
    return [*edges, points.size]
