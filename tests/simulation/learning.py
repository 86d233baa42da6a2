"""What stands in for rows and networks: each member's vector tells who made it, and for what.

Every member has two units. In a vector of any step each of them moves a coordinate of its own, by
an amount of its own for each step and round. So the opened sum says, coordinate by coordinate, who
is in it, how often, and with which of its vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.examples import Examples
from clients.members import MemberRows
from clients.monotone_hold import Hold
from clients.session import Session, Step
from clients.statistics import Overview
from privacy.ledger.entry import UPDATE
from privacy.plan import PrivacyPlan, is_distributed

Floats = NDArray[np.float64]
UNITS = 2
WEIGHTS = 28
"""Two for each of thirteen members, and two that nobody moves."""


def share_of(step: str, round_index: int) -> float:
    """By how much of the clip a unit moves its coordinate."""
    place = ("statistics", "update", "evaluate watch", "evaluate test").index(step)
    return (0.25, 0.5, 0.125, 0.375)[place] / (1 + round_index % 2)


def own_vector(
    member: int, step: Step, plan: PrivacyPlan | None, length: int | None = None
) -> Floats:
    """What a member adds to a step's sum."""
    values = np.zeros(step.length if length is None else length)
    at = member * UNITS
    values[at : at + UNITS] = share_of(step.name, step.round) * step.layout.clip
    if step.name == UPDATE and not is_distributed(plan):
        values[WEIGHTS] = step.layout.clip  # its weight
    return values


def units_in(total: Floats, step: Step, plan: PrivacyPlan | None, members: int) -> list[float]:
    """How often each unit is in an opened sum; whole numbers, but for roundings."""
    one = share_of(step.name, step.round) * step.layout.clip
    values = total[: WEIGHTS if step.name == UPDATE and not is_distributed(plan) else None]
    slack = step.layout.worst_error(members) / one
    assert slack < 0.25, "the grid is too coarse to tell units"
    return [round(float(v) / one) if abs(v / one - round(v / one)) <= slack else float(v / one)
            for v in values]  # fmt: skip


@dataclass
class StandIn:
    """`clients.learner.Learner`, without a framework."""

    contract: Any
    spec: Any
    device: str
    plan: PrivacyPlan | None = None
    network: Any = field(default_factory=SimpleNamespace)
    kind: str = "binary"
    groups: tuple[str, ...] = ()
    target_unit: float = 1.0
    stages: int = 1
    statistics_sensitivity: float = 0.0
    evaluation_sensitivity: float = 0.0
    evaluation_length: int = WEIGHTS
    importance_length: int = 0
    hold: Hold = field(default_factory=lambda: Hold(curves=()))

    def scaled(self, rows: Any) -> Any:  # noqa: ANN401 - as they come
        return rows

    def tally_statistics(self, rows: object, released: Sequence[Floats]) -> Floats:
        del rows, released
        return np.zeros(WEIGHTS)

    def overview(self, released: Sequence[Floats]) -> Overview:
        del released
        return Overview(100.0, 50.0, 10.0, 10.0, 100.0, 5.0)

    def read_evaluation(self, total: Floats, noise: float) -> dict[str, float]:
        del noise
        return {"sum": float(total[:WEIGHTS].sum())}

    def loss_of(self, values: object) -> float:
        del values
        return 0.5


def rows_of(member: str) -> MemberRows:
    """There are none; nothing of a simulation looks at rows."""
    nothing: Any = ()
    return MemberRows(member, nothing, nothing)


def no_examples(session: Session) -> None:
    """Two of them, of which nothing is used but their number."""
    empty = np.zeros((2, 0))
    session.training = session.watching = session.test = Examples(
        numeric=empty.astype(np.float32),
        codes=empty.astype(np.int64),
        series=np.zeros((2, 0, 0), dtype=np.float32),
        target=np.zeros(2),
        target_raw=np.zeros(2),
        exposure=np.ones(2),
        group=np.zeros(2, dtype=np.int64),
        unit=np.arange(2),
    )
    session.architecture = bytes(range(32))
