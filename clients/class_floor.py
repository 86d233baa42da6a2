"""What the classes of a contract's own columns demand of a run, checked at the node itself.

A launcher's rules (`configs/rules`) say the same earlier and to more people; whoever turns them off
gets no further than here. What counts is what a run touches: the inputs that it does not leave out,
and what its labels are made of.

    L4              no input and no label, ever
    L3              sums are masked or sealed; noise, in a federation over the network, unless this
                    node's policy says otherwise (`minimum_protection.noise_from`). Noise is what
                    keeps a run's cost at `MOST_EPSILON` or below: less is as good as none
    governance      the run's task is a purpose; the last day of keeping is not past; the rows lie
                    where the contract says, where the node's policy says where that is
"""

import math
from datetime import date
from functools import lru_cache
from typing import Final

from clients.contract import Column, DataClass, DataContract
from clients.policy import CLASSES, NodePolicy
from clients.spec import NodeSpec
from privacy.accounting.event import event_of
from privacy.accounting.rdp import epsilon
from privacy.errors import RefusedError
from privacy.manifest import Manifest, Protection
from privacy.plan import PrivacyPlan, planned_receipts
from privacy.receipt import COHORTS

USUAL_NOISE_FROM: Final[DataClass] = "L3"
"""From which class on a node in a federation over the network wants noise, by itself."""
MOST_EPSILON: Final = 20.0
"""The most that all releases of one run may cost a unit, for its noise to count as noise.

By Renyi accounting, as budgets count, at `MOST_DELTA`, against the coordinator with as many nodes
as the plan or this node's policy names, whichever is more. Neither plan nor policy moves it.

It is a floor and no advice: from epsilon 10 on the usual reading is that little is promised
(Ponomareva et al. 2023, arXiv 2303.00654, their third tier). The floor is twice that, as a node
reads a run more strictly than its launcher plans it: what was planned for epsilon 8 against one
node is almost 16 here where three members are in a sum and the policy counts with two colluders.
Noise that hides nothing costs thousands and more. What several runs cost together is held by
`budgets`, not here.
"""
MOST_DELTA: Final = 1e-5
"""For which `MOST_EPSILON` holds, whatever the plan names: its launcher could name 0.99."""
_FEW: Final = 3
_SHOWN_BY: Final = frozenset({"clear", "ckks"})


def class_refusals(
    manifest: Manifest,
    spec: NodeSpec,
    policy: NodePolicy,
    contract: DataContract,
    *,
    own_machine: bool = False,
) -> list[str]:
    """Why a contract's classes and purposes forbid a run here, each reason one sentence.

    Args:
        manifest: The run.
        spec: The node's part of it.
        policy: The node's own terms.
        contract: The node's own.
        own_machine: Whether all nodes of the run are of this machine's own user, who sees all of
            their rows anyway: then noise is asked for by an explicit `noise_from` alone, and what
            the user let in with its own `sums` may be shown.
    """
    reasons: list[str] = []
    touched = touched_columns(contract, spec)
    secret = [column.name for column in touched if column.data_class == "L4"]
    if secret:
        reasons.append(
            f"The run would read columns of class L4: {_named(secret)}; name them in "
            "features.without, or give them the role ignore."
        )
    confidential = [column.name for column in touched if column.data_class in {"L3", "L4"}]
    if confidential and not own_machine and manifest.protection in _SHOWN_BY:
        reasons.append(
            f"The run asks for {manifest.protection!r} sums, which show single vectors, and reads "
            f"columns of class L3 or above: {_named(confidential)}; set protection.sum: masked."
        )
    reasons += _noise_refusals(manifest, spec, policy, contract, own_machine=own_machine)
    governance = contract.governance
    if governance is None:
        return reasons
    if governance.purposes is not None and manifest.task not in governance.purposes:
        reasons.append(
            f"The run is for {manifest.task}, and the rows of {contract.name} may serve "
            f"{', '.join(governance.purposes)} alone; run another task."
        )
    reasons += place_refusals(policy, contract)
    return reasons


def _noise_refusals(
    manifest: Manifest,
    spec: NodeSpec,
    policy: NodePolicy,
    contract: DataContract,
    *,
    own_machine: bool,
) -> list[str]:
    bound = noise_from(policy, own_machine=own_machine)
    if bound is None:
        return []
    # an explicit bound is about the whole contract
    explicit = policy.minimum_protection.noise_from is not None
    columns = contract.columns if explicit else touched_columns(contract, spec)
    noisy = [c.name for c in columns if CLASSES.index(c.data_class) >= CLASSES.index(bound)]
    if not noisy or has_noise(manifest, spec, policy):
        return []
    plan = manifest.privacy
    if plan is None:
        if explicit:
            return []  # `clients.policy` says it
        reason = (
            f"The run adds no noise and reads columns of class {bound} or above: "
            f"{_named(noisy)}; add a privacy section, or let this node's people set "
            "minimum_protection.noise_from: none in its policy."
        )
    else:
        reason = (
            f"The run adds too little noise for its columns of class {bound} or above: "
            f"{_named(noisy)}; one {plan.unit} may lose epsilon "
            f"{planned_epsilon(manifest, spec, policy):.4g}, and at most {MOST_EPSILON:g} counts "
            f"as noise (by Renyi accounting, delta {MOST_DELTA:g}): ask for a smaller "
            f"privacy.epsilon, against privacy.colluders: {_colluders(plan, policy)}."
        )
    return [reason]


def has_noise(manifest: Manifest, spec: NodeSpec, policy: NodePolicy) -> bool:
    """Whether a run's noise is enough to count as noise, for a sum or for what lies unsealed."""
    return planned_epsilon(manifest, spec, policy) <= MOST_EPSILON


def planned_epsilon(manifest: Manifest, spec: NodeSpec, policy: NodePolicy) -> float:
    """What all releases of a run may cost one unit, as `MOST_EPSILON` counts; inf without noise."""
    plan = manifest.privacy
    if plan is None:
        return math.inf
    return _epsilon(
        plan,
        protection=manifest.protection,
        fewest=manifest.minimum_cohort,
        stages=spec.features.stages,
        rounds=spec.training.rounds,
        colluders=_colluders(plan, policy),
    )


def _colluders(plan: PrivacyPlan, policy: NodePolicy) -> int:
    return max(plan.colluders, policy.colluders)


@lru_cache(maxsize=64)
def _epsilon(
    plan: PrivacyPlan,
    *,
    protection: Protection,
    fewest: int,
    stages: int,
    rounds: int,
    colluders: int,
) -> float:
    planned = planned_receipts(
        plan,
        run="planned",
        unit=plan.unit,
        protection=protection,
        fewest=fewest,
        stages=stages,
        rounds=rounds,
    )
    return max(
        epsilon(
            [event_of(one, colluders=colluders) for one in planned if cohort in one.cohorts],
            MOST_DELTA,
        )[0]
        for cohort in COHORTS
    )


def place_refusals(policy: NodePolicy, contract: DataContract) -> list[str]:
    """Why rows may not be used where this node is; empty if they may, or nothing is said of it."""
    said = None if contract.governance is None else contract.governance.place
    if said is None or policy.place is None or said == policy.place:
        return []
    why = f"The rows of {contract.name} lie in {said} by their contract, and this node is in "
    return [f"{why}{policy.place} by its policy; use them there, or agree on another contract."]


def keeping_refusals(contract: DataContract, today: date) -> list[str]:
    """Why rows may not be read any more on a day (UTC); empty if they may."""
    until = None if contract.governance is None else contract.governance.kept_until
    if until is None or today <= until:
        return []
    day = until.isoformat()
    why = f"The rows of {contract.name} might be kept until {day}, and that day is past; "
    return [why + "delete them, and go on with newer ones."]


def require_class_floor(
    manifest: Manifest,
    spec: NodeSpec,
    policy: NodePolicy,
    contract: DataContract,
    *,
    today: date,
    own_machine: bool = False,
) -> None:
    """Hold a run against the classes and purposes of this node's contract, before rows are read.

    Raises:
        RefusedError: They forbid it; the first reason.
    """
    found = class_refusals(manifest, spec, policy, contract, own_machine=own_machine)
    for reason in [*found, *keeping_refusals(contract, today)]:
        raise RefusedError(reason)


def noise_from(policy: NodePolicy, *, own_machine: bool) -> DataClass | None:
    """From which class on runs must add noise here; None: none must."""
    said = policy.minimum_protection.noise_from
    if said is None:
        return None if own_machine else USUAL_NOISE_FROM
    return None if said == "none" else said


def touched_columns(contract: DataContract, spec: NodeSpec) -> tuple[Column, ...]:
    """Columns on which what leaves a node depends: inputs, and what labels are made of."""
    roles = ("label", "exposure", "event", *(("time",) if contract.is_telemetry else ()))
    inputs = [one for one in contract.inputs if one.name not in spec.features.without]
    return (*inputs, *contract.by_role(*roles))


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
