"""What a model leans on, over all members' rows: as it is read from an opened sum.

Two rules keep it from showing one member all the same: what fewer members than a sum needs had rows
for is not read, and neither are fewer than `ROWS_MIN` rows. `clients.importance_tally` has the
other two, which bound what a member adds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROWS_MAX: Final = 2000  # rows of a member that count
ROWS_MIN: Final = 10
"""Rows of all members below which nothing is said of them; as `federation.model_card.facts`."""


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

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Importance":
        """What `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: It is no such thing.
        """
        inputs = value["inputs"]
        return cls(
            members=int(value["members"]),
            rows=int(value["rows"]),
            inputs=tuple(str(one["input"]) for one in inputs),
            amounts=tuple(float(one["amount"]) for one in inputs),
        )


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
    inputs = many[0].inputs
    each = [dict(zip(one.inputs, one.amounts, strict=True)) for one in many]
    amounts = np.array([[one[name] for name in inputs] for one in each])
    return Importance(
        members=min(one.members for one in many),
        rows=sum(one.rows for one in many),
        inputs=inputs,
        amounts=tuple((weight @ amounts / weight.sum()).tolist()),
    )
