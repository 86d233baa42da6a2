"""What a model leans on, over all members' rows: how far each input moves a score, as one sum.

A member adds, for its test rows or windows, the sizes of the amounts that their scores are made of
(`clients.attributed`, `clients.window_model`), input by input, how many rows these are, and that it
has some. That tally is part of the vector of the final test and of nothing else: it is sealed,
summed and opened with it, or not at all. A member's own part exists in the moment in which its
vector is made, and is kept nowhere.

Against a sum that shows one member all the same, four rules hold: `ROWS_MAX` rows of a member
count, so that none of very many rows is all that is seen; each amount counts for at most
`AMOUNT_MAX`; and what fewer members than a sum needs have rows for, or fewer than `ROWS_MIN` rows,
is not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clients.attributed import AttributedModel
from clients.examples import Examples
from clients.window_features import Windows
from clients.window_model import WindowModel, reading

Floats = NDArray[np.float64]
ROWS_MAX: Final = 2000  # rows of a member that count
ROWS_MIN: Final = 10
"""Rows of all members below which nothing is said of them; as `federation.model_card.facts`."""
AMOUNT_MAX: Final = 1e3
"""Of one amount in the network's own scale: log-odds, a log rate, or spreads of the label."""
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much each input matters to a model's scores, over rows of all members.

    Attributes:
        members: Members that had any of them.
        rows: Rows, or windows, that were counted.
        inputs: Names of columns, or of sensors and perhaps `clients.window_reasons.AGE`.
        amounts: Of each: mean of the absolute amounts, in the model's own scale; at least 0.
    """

    members: int
    rows: int
    inputs: tuple[str, ...]
    amounts: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each input in all amounts together; they add up to 1, or all are 0."""
        whole = sum(self.amounts)
        return tuple(one / whole if whole > 0 else 0.0 for one in self.amounts)

    def to_json(self) -> dict[str, Any]:
        """Members, rows, and the inputs with those that matter most first."""
        found = sorted(
            zip(self.inputs, self.amounts, self.shares, strict=True), key=lambda one: -one[1]
        )
        return {
            "members": self.members,
            "rows": self.rows,
            "inputs": [
                {"input": name, "amount": amount, "share": share} for name, amount, share in found
            ],
        }


def counted(rows: int) -> NDArray[np.int64]:
    """Places of the rows that count, rising: all, or `ROWS_MAX` spread evenly over them.

    It depends on nothing but how many there are, so a node that starts again takes the same ones.
    They are in step with no order that a table may have: multiples of the golden ratio are as even
    as points on a line can be.
    """
    place = np.arange(rows, dtype=np.uint64)
    if rows <= ROWS_MAX:
        return place.astype(np.int64)
    return np.sort(np.argsort(place * _GOLDEN, kind="stable")[:ROWS_MAX]).astype(np.int64)


def tally_rows(model: AttributedModel, examples: Examples) -> Floats:
    """A member's rows: whether and how many, and the sum of absolute amounts of each column.

    Returns:
        Shape (2 + columns,), in the network's scale.

    Raises:
        RefusedError: The amounts of a row do not add up.
    """
    chosen = examples.take(counted(len(examples)))
    flat = model.network.lay_out(chosen.numeric, chosen.codes)
    amounts = model.attribution(flat).amounts
    by_column = [
        amounts[:, model.places[column.name]].sum(axis=1)[:, None] for column in model.columns
    ]
    return _tally(np.concatenate(by_column, axis=1))


def tally_windows(model: WindowModel, windows: Windows) -> Floats:
    """A member's windows, and the sum of absolute amounts of each sensor, and of the age.

    Returns:
        Shape (2 + sensors,), or one more where the model sees the age; in the network's scale.

    Raises:
        RefusedError: The amounts of a window do not add up.
    """
    those = reading(windows).take(counted(windows.last.size))
    told = model.amounts(those, None)
    amounts = told.series.sum(axis=1)
    if model.sees_age:
        amounts = np.concatenate([amounts, told.age[:, None]], axis=1)
    return _tally(amounts / model.target.own_scale[0])


def read_tally(
    inputs: Sequence[str], total: Floats, *, scale: float, fewest: int
) -> Importance | None:
    """Read an opened sum of tallies; None where it is of too few rows or members to be spoken of.

    Args:
        inputs: Names, in the order of the tallies.
        total: Shape (2 + inputs,). It may hold anything that a member claimed.
        scale: From the network's scale to the model's own.
        fewest: Members that must have had rows: as many as an opened sum needs.
    """
    members, rows = round(float(total[0])), round(float(total[1]))
    if members < fewest or rows < ROWS_MIN:
        return None
    # a rounded sum may fall a hair below zero
    means = np.maximum(total[2:], 0.0) / rows * abs(scale)
    return Importance(
        members=members, rows=rows, inputs=tuple(inputs), amounts=tuple(means.tolist())
    )


def together(many: Sequence[Importance]) -> Importance | None:
    """Several folds' as one, each by its rows; None where there is none."""
    if not many:
        return None
    weight = np.array([one.rows for one in many], dtype=np.float64)
    amounts = np.stack([np.asarray(one.amounts) for one in many])
    return Importance(
        members=min(one.members for one in many),
        rows=sum(one.rows for one in many),
        inputs=many[0].inputs,
        amounts=tuple((weight @ amounts / weight.sum()).tolist()),
    )


def _tally(amounts: Floats) -> Floats:
    """Of amounts, shape (n, inputs)."""
    rows = len(amounts)
    return np.concatenate(
        [[float(rows > 0), float(rows)], np.minimum(np.abs(amounts), AMOUNT_MAX).sum(axis=0)]
    )
