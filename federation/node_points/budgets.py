"""Whether the budgets that a node has begun can go on under its policy."""

from collections.abc import Iterator
from pathlib import Path

from clients.policy import NodePolicy
from federation.node_data import NodeData
from federation.node_points.point import Point, sentence_of
from federation.node_policy import over_budget
from privacy.errors import TacitError


def budget_points(folder: Path, member: str, policy: NodePolicy) -> Iterator[Point]:
    """One for each contract whose budget refuses whatever is asked; none where all can go on."""
    try:
        contracts = NodeData.read(folder).contracts()
    except TacitError:
        return  # the look at the rows says so
    for name, contract in contracts.items():
        for fault in over_budget(policy, folder, (), member=member, contract=contract, plan=None):
            yield Point(
                f"budget {name}",
                "failed",
                sentence_of(TacitError(fault)),
                "Until then this node takes part in no run about it; see docs/node-policy.md.",
            )
