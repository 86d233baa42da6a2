"""What runs cost, worked out from their receipts: for reports, plans and people."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from privacy.accounting.event import Event, event_of, solo_event_of
from privacy.accounting.pld import reported
from privacy.accounting.rdp import epsilon
from privacy.ledger.store import LedgerStore, entries_of
from privacy.plan import PrivacyPlan
from privacy.receipt import COHORTS, Part, Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What releases cost one cohort of units, add/remove.

    Attributes:
        cohort: Which units.
        releases: How many.
        epsilon: Against the coordinator with the stated colluders, as tight as is proved; `inf`
            where something was released without noise.
        solo_epsilon: The same with everybody else together.
        rdp_epsilon: As `epsilon`, by Renyi accounting: what budgets are enforced by.
        solo_rdp_epsilon: The same with everybody else together.
        method: Of the first two: `pld` or `rdp`.
        true_positive_rate: Best of any membership attack at one false positive in a hundred, for
            `epsilon`'s adversary; None where it is not known.
    """

    cohort: Part
    releases: int
    epsilon: float
    solo_epsilon: float
    rdp_epsilon: float
    solo_rdp_epsilon: float
    method: str
    true_positive_rate: float | None

    def to_json(self) -> dict[str, Any]:
        """For programs; a loss without bound is null."""
        return {
            "releases": self.releases,
            "epsilon": _finite(self.epsilon),
            "solo_epsilon": _finite(self.solo_epsilon),
            "rdp_epsilon": _finite(self.rdp_epsilon),
            "solo_rdp_epsilon": _finite(self.solo_rdp_epsilon),
            "method": self.method,
            "true_positive_rate": self.true_positive_rate,
        }


def costs(receipts: Sequence[Receipt], *, colluders: int, delta: float) -> tuple[Cost, ...]:
    """Compose receipts, cohort by cohort; the dearest first."""
    found = [_cost(cohort, receipts, colluders, delta) for cohort in COHORTS]
    return tuple(sorted(found, key=lambda cost: -cost.epsilon))


def _cost(cohort: Part, receipts: Sequence[Receipt], colluders: int, delta: float) -> Cost:
    mine = [one for one in receipts if cohort in one.cohorts]
    views: list[list[Event]] = [
        [event_of(one, colluders=colluders) for one in mine],
        [solo_event_of(one) for one in mine],
    ]
    coordinator, solo = (reported(view, delta) for view in views)
    return Cost(
        cohort=cohort,
        releases=len(mine),
        epsilon=coordinator.epsilon,
        solo_epsilon=solo.epsilon,
        rdp_epsilon=epsilon(views[0], delta)[0],
        solo_rdp_epsilon=epsilon(views[1], delta)[0],
        method=coordinator.method,
        true_positive_rate=coordinator.true_positive_rate,
    )


def _worst(found: Sequence[Cost]) -> Cost:
    """The greatest of each figure by itself: it may be another cohort's, or another member's."""
    rates = [one.true_positive_rate for one in found]
    dearest = max(found, key=lambda one: one.epsilon)
    return replace(
        dearest,
        solo_epsilon=max(one.solo_epsilon for one in found),
        rdp_epsilon=max(one.rdp_epsilon for one in found),
        solo_rdp_epsilon=max(one.solo_rdp_epsilon for one in found),
        true_positive_rate=None
        if None in rates
        else max(rate for rate in rates if rate is not None),
    )


def account(
    plan: PrivacyPlan | None, paid: Mapping[str, Sequence[Receipt]], *, unit: str, note: str
) -> dict[str, Any]:
    """What a run cost or would cost: for the member whose units it costs most, and for each.

    Args:
        plan: Of the run; None without noise.
        paid: Member -> receipts.
        unit: The contract's.
        note: How sums are protected.

    Returns:
        The `privacy` part of a result or a plan, for programs.
    """
    if plan is None:
        return {
            "unit": unit,
            "noise": "none",
            "epsilon": None,
            "solo_epsilon": None,
            "delta": None,
            "per_node": dict.fromkeys(paid),
            "note": f"{note} No noise is added, so the model itself has no differential privacy.",
        }
    found: dict[tuple[Receipt, ...], tuple[Cost, ...]] = {}
    by_member: dict[str, tuple[Cost, ...]] = {}
    for member, receipts in paid.items():
        key = tuple(replace(one, purpose="any") for one in receipts)
        if key not in found:
            found[key] = costs(receipts, colluders=plan.colluders, delta=plan.delta)
        by_member[member] = found[key]
    worst = _worst([cost for each in found.values() for cost in each])
    cohorts = {
        cohort: _worst([cost for each in found.values() for cost in each if cost.cohort == cohort])
        for cohort in COHORTS
    }
    updates = {one for key in found for one in key if one.kind == "update"}
    views = [event_of(one, colluders=plan.colluders) for one in updates]
    return {
        "unit": plan.unit,
        "noise": plan.noise,
        "sampler": plan.mechanism,
        "delta": plan.delta,
        "colluders": plan.colluders,
        **worst.to_json(),
        "neighbours": "add or remove one unit",
        "multiplier": max(event.multiplier for event in views),
        "rate": plan.rate,
        "clip": plan.clip,
        "rows_per_unit": plan.rows_per_unit,
        "cohorts": {cohort: cost.to_json() for cohort, cost in cohorts.items()},
        "per_node": {
            member: {
                "epsilon": _finite(_worst(mine).epsilon),
                "solo_epsilon": _finite(_worst(mine).solo_epsilon),
            }
            for member, mine in by_member.items()
        },
        "note": note,
    }


def receipts_of(ledger: LedgerStore, runs: Iterable[str]) -> dict[str, dict[str, list[Receipt]]]:
    """Run -> member -> the receipts of the run's sums that it sent a vector for."""
    found: dict[str, dict[str, list[Receipt]]] = {run: {} for run in runs}
    for entry in entries_of(ledger.leaves()):
        body: dict[str, Any] = dict(entry.body)
        if entry.kind == "sum.reserved" and body["run"] in found:
            receipt = Receipt.from_json(body["receipt"])
            for member in body["nodes"]:
                found[body["run"]].setdefault(member, []).append(receipt)
    return found


def sentences(privacy: Mapping[str, Any]) -> list[str]:
    """A run's or a plan's privacy, for people."""
    if privacy["noise"] == "none":
        return [str(privacy["note"])]
    unit, delta = privacy["unit"], privacy["delta"]
    others = privacy["colluders"]
    who = "the coordinator"
    if others and privacy["noise"] == "distributed":
        who += f" together with {others} other member{'s' * (others > 1)}"
    if privacy["noise"] == "local":
        who = "everybody else together"
    first = (
        f"one {unit} more or less: epsilon {epsilon_text(privacy['epsilon'])} against {who}, "
        f"{epsilon_text(privacy['solo_epsilon'])} if all other members collude (delta {delta:g}, "
        f"{privacy['method'].upper()}; by Renyi accounting "
        f"{epsilon_text(privacy['rdp_epsilon'])} and {epsilon_text(privacy['solo_rdp_epsilon'])})"
    )
    lines = [first]
    rate = privacy["true_positive_rate"]
    if rate is not None:
        lines.append(
            f"in plain words: whoever guesses which {unit}s took part, and may be wrong about one "
            f"in a hundred of the others, finds at most {100 * rate:.1f} in a hundred"
        )
    return [*lines, str(privacy["note"])]


def epsilon_text(value: float | None) -> str:
    """An epsilon for people; None is a loss without bound."""
    return "without bound" if value is None else f"{value:.2f}"


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
