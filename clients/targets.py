"""What a contract's label means for metrics: its family, and the unit that it is counted in."""

from collections.abc import Mapping
from typing import Final

from clients.contract import DataContract
from privacy.tally import TallyKind

KINDS: Final[Mapping[str, TallyKind]] = {
    "remaining_life": "life",
    "within_horizon": "binary",
    "binary": "binary",
    "count": "count",
    "value": "value",
}


def tally_kind(contract: DataContract) -> TallyKind:
    """The metric family of the contract's label."""
    return KINDS[contract.label.kind]


def label_cap(contract: DataContract) -> float:
    """The most that the contract's label counts; 1 where it has no such bound."""
    return getattr(contract.label, "cap", None) or 1.0


def target_unit(contract: DataContract) -> float:
    """What labels of a plain regression are divided by: the largest of their range; else 1.

    In this unit every label lies in [-1, 1], so that sums of squares keep their precision.
    """
    if contract.label.kind != "value":
        return 1.0
    low, high = contract.column(contract.label.column).bounds
    return max(abs(low), abs(high))
