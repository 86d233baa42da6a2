"""What the runs of a ledger cost the units that they were about, from their receipts alone.

Standard library alone. Renyi accounting at integer orders: an upper bound, a little above what a
numerical accountant finds; see `privacy.accounting.pld`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from privacy.accounting.event import Event, event_of, merged, solo_event_of
from privacy.accounting.rdp import epsilon
from privacy.ledger.grammar import Run
from privacy.receipt import Receipt

_DELTA = 1e-5
_Member: TypeAlias = tuple[str, bytes]  # name and key: one name may be two members of two contracts


@dataclass(frozen=True)
class Spent:
    """One cohort of units of one data set, at the member whose units it cost most.

    Attributes:
        dataset: The data contract's name, as runs declared it.
        unit: Whom the figures are about.
        cohort: "training" or "test".
        member: Whose units were told of most.
        releases: Of this member's rows, over all runs.
        epsilon: Against the coordinator with `colluders` other members; None: without bound, as
            something was released without noise.
        solo_epsilon: With all other members together.
        colluders: The most that any of the runs' plans names.
        delta: The smallest of the runs' plans.
    """

    dataset: str
    unit: str
    cohort: str
    member: str
    releases: int
    epsilon: float | None
    solo_epsilon: float | None
    colluders: int
    delta: float


def spent(
    runs: Iterable[Run], first_keys: Mapping[bytes, bytes] | None = None
) -> tuple[Spent, ...]:
    """Compose all receipts, by data set, unit, cohort and member.

    A contract that was edited is about the same rows, and what was told of them adds up.

    Args:
        runs: Of the coordinator's ledger.
        first_keys: A member's key -> the first one of its ledger: whoever changes its key has the
            same rows. A key that is not there stands for itself.
    """
    same = {} if first_keys is None else first_keys
    found: dict[tuple[str, str, str], dict[_Member, list[Receipt]]] = {}
    plans = []
    for run in runs:
        if run.agreed.privacy is not None:
            plans.append(run.agreed.privacy)
        for members, receipt in run.spent:
            for cohort in receipt.cohorts:
                by_member = found.setdefault((run.dataset, receipt.unit, cohort), {})
                for member in members:
                    key = run.keys[member]
                    by_member.setdefault((member, same.get(key, key)), []).append(receipt)
    colluders = max((plan.colluders for plan in plans), default=0)
    delta = min((plan.delta for plan in plans), default=_DELTA)
    return tuple(
        _worst(key, by_member, colluders=colluders, delta=delta)
        for key, by_member in sorted(found.items())
    )


def _worst(
    key: tuple[str, str, str],
    by_member: dict[_Member, list[Receipt]],
    *,
    colluders: int,
    delta: float,
) -> Spent:
    dataset, unit, cohort = key
    figures = {
        name: (
            _epsilon(merged(event_of(one, colluders=colluders) for one in receipts), delta),
            _epsilon(merged(solo_event_of(one) for one in receipts), delta),
        )
        for name, receipts in by_member.items()
    }
    member = max(sorted(figures), key=lambda name: figures[name])
    both = [None if math.isinf(value) else value for value in figures[member]]
    return Spent(
        dataset=dataset,
        unit=unit,
        cohort=cohort,
        member=member[0],
        releases=len(by_member[member]),
        epsilon=both[0],
        solo_epsilon=both[1],
        colluders=colluders,
        delta=delta,
    )


@lru_cache(maxsize=256)
def _epsilon(events: tuple[Event, ...], delta: float) -> float:
    # most members have released the same
    return epsilon(events, delta)[0]
