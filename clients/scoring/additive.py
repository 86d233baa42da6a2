"""A sum of curves in plain numbers: knots and values in [0, 1], tables of levels, a base, a link.

`clients.scoring.compile` makes it of a trained model. Between two knots a curve is straight, and a
curve of ranks has besides a level part for each of even bins, so nothing is lost: outputs are those
of the model to rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from clients.scoring.column import InputColumn
from clients.scoring.form import Form
from clients.scoring.link import LINKS, LinkKind, linked
from clients.scoring.scorer import Scored
from clients.scoring.words import Reference
from clients.statistics import to_unit_interval

Floats = NDArray[np.float64]
KIND: Final = "additive"
MOST_KNOTS: Final = 10_000
MOST_STEPS: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCurve:
    """What a number adds.

    Attributes:
        knots: Rising, from 0 to 1, in the column's scaled range.
        values: At the knots.
        steps: Of even bins of [0, 1], added to that; none for most curves.
        missing: Where there is no number.
    """

    knots: Floats
    values: Floats
    steps: Floats
    missing: float

    def amounts(self, column: InputColumn, values: Floats) -> Floats:
        """Shape (n,)."""
        low, high = column.bounds
        unit = to_unit_interval(values, low, high, column.transform)
        gone = np.isnan(unit)
        unit = np.where(gone, 0.0, unit)
        found = np.interp(unit, self.knots, self.values)
        if self.steps.size:
            place = np.minimum((unit * self.steps.size).astype(np.int64), self.steps.size - 1)
            found = found + self.steps[place]
        return np.where(gone, self.missing, found)

    def plain(self) -> dict[str, object]:
        """For canonical JSON."""
        return {
            "knots": self.knots.tolist(),
            "values": self.values.tolist(),
            "steps": self.steps.tolist(),
            "missing": self.missing,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTable:
    """What each level of a category adds; the last one is `other`."""

    values: Floats

    def amounts(self, column: InputColumn, values: Floats) -> Floats:
        """Shape (n,); `values` are codes."""
        del column  # codes need no scale
        return self.values[values.astype(np.int64)]

    def plain(self) -> dict[str, object]:
        """For canonical JSON."""
        return {"values": self.values.tolist()}


Curve: TypeAlias = NumberCurve | LevelTable


@dataclass(frozen=True, slots=True, kw_only=True)
class AdditiveScorer:
    """See the module; a `clients.scoring.scorer.Scorer`.

    Attributes:
        inputs: What it reads.
        curves: One for each of them.
        base: The output where every column is at its reference.
        link: How outputs are read.
        scale: Of the link.
        reference: What amounts are measured against.
    """

    inputs: tuple[InputColumn, ...]
    curves: tuple[Curve, ...]
    base: float
    link: LinkKind
    scale: float
    reference: Reference

    @property
    def kind(self) -> str:
        """`additive`."""
        return KIND

    @property
    def rows(self) -> int:
        """One: the last."""
        return 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return tuple(one.name for one in self.inputs)

    def amounts(self, rows: Mapping[str, Floats]) -> Floats:
        """What each input adds to each row's output; shape (n, inputs)."""
        pairs = zip(self.inputs, self.curves, strict=True)
        return np.stack([curve.amounts(one, rows[one.name]) for one, curve in pairs], axis=1)

    def score(self, rows: Mapping[str, Floats]) -> Scored:
        """Score the last of one unit's rows."""
        amounts = self.amounts({name: rows[name][-1:] for name in self.columns})[0]
        output = self.base + float(amounts.sum())
        value = linked(self.link, np.array([output]), scale=self.scale)
        return Scored(output=output, value=float(value[0]), amounts=tuple(amounts.tolist()))

    def plain(self) -> dict[str, object]:
        """For canonical JSON; the inputs stand beside the model, in a bundle's own list."""
        return {
            "kind": KIND,
            "base": self.base,
            "link": self.link,
            "scale": self.scale,
            "reference": self.reference,
            "curves": [curve.plain() for curve in self.curves],
        }


def read_additive(form: Form, inputs: Sequence[InputColumn]) -> AdditiveScorer:
    """Read what `AdditiveScorer.plain` gave; `kind` was read before.

    Raises:
        NotVerifiedError: It is not as it must be.
    """
    count = len(inputs)
    forms = form.forms("curves", least=count, most=count)
    scorer = AdditiveScorer(
        inputs=tuple(inputs),
        curves=tuple(_curve(one, own) for one, own in zip(forms, inputs, strict=True)),
        base=form.number("base", low=-1e12, high=1e12),
        link=cast("LinkKind", form.choice("link", *LINKS)),
        scale=form.number("scale", low=1e-12, high=1e12),
        reference=cast("Reference", form.choice("reference", "average", "range")),
    )
    form.done()
    return scorer


def _curve(form: Form, column: InputColumn) -> Curve:
    if column.kind == "category":
        table = form.numbers("values", least=column.codes, most=column.codes)
        form.done()
        return LevelTable(values=table)
    knots = form.numbers("knots", least=2, most=MOST_KNOTS)
    if knots[0] != 0.0 or knots[-1] != 1.0 or (np.diff(knots) <= 0).any():
        raise form.fault("knots", "does not rise from 0 to 1")
    curve = NumberCurve(
        knots=knots,
        values=form.numbers("values", least=knots.size, most=knots.size),
        steps=form.numbers("steps", least=0, most=MOST_STEPS),
        missing=form.number("missing"),
    )
    form.done()
    return curve
