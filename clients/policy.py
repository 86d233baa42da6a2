"""What a node agrees to. Its numbers are the node's own; no coordinator can lower them."""

from typing import Annotated

from pydantic import Field, model_validator

from clients.contract import DataContract
from clients.frozen import Frozen
from clients.spec import Task
from privacy.accounting.rdp import best_order, capacity
from privacy.budget_record import BudgetTerms
from privacy.errors import CohortError, RefusedError, TacitError
from privacy.manifest import Manifest, Protection
from privacy.plan import ORGANISATION
from privacy.secure_sum.graph import require_holding

HIGHEST_FLOOR = 3
ANY = "*"
_UNCAPPED_ORDER = 8


class BudgetPolicy(Frozen):
    """What a node allows to be learned about the units of one data set, over all runs.

    Attributes:
        dataset: The data contract's name; `*` for any.
        unit: Whom the contract protects, such as `borrower`; `*` for any.
        epsilon: Cap against the coordinator with `NodePolicy.colluders` nodes; none counts without
            a cap.
        delta: For which epsilon holds; far below one in the number of units.
        period_days: Only releases of the last so many days count; none: all, for ever.
        solo_epsilon: Cap where all other members work together; none counts without a cap.
        order: Renyi order at which the cap is enforced, fixed once a budget was begun; none: the
            one that buys most under the cap.
    """

    dataset: Annotated[str, Field(min_length=1)] = ANY
    unit: Annotated[str, Field(min_length=1)] = ANY
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1e-3)] = 1e-5
    period_days: Annotated[float, Field(gt=0)] | None = None
    solo_epsilon: Annotated[float, Field(gt=0)] | None = None
    order: Annotated[int, Field(ge=2, le=512)] | None = None

    @model_validator(mode="after")
    def _caps_can_be_held(self) -> "BudgetPolicy":
        try:
            if self.epsilon is not None:
                order = self.order or best_order(self.epsilon, self.delta)
                capacity(self.epsilon, self.delta, order)
            if self.solo_epsilon is not None:
                best_order(self.solo_epsilon, self.delta)
        except TacitError as error:
            raise ValueError(str(error)) from None
        return self


class NodePolicy(Frozen):
    """A node's terms.

    Attributes:
        minimum_cohort: Fewest members in a sum that this node's vector may be part of. With two,
            each could subtract its own and read the other's.
        tasks: Tasks that the node takes part in.
        sums: How sums may be protected. `ckks` lets the coordinator and any one member read
            every vector, `clear` the coordinator alone; data of class L1 may go in the clear.
        budgets: What may be learned of which data, in all; the first that matches holds. Where
            none does, releases are counted and not capped.
        colluders: How many other nodes are assumed to work with the coordinator.
        ledgers: Origins of ledgers that a run may name besides the one that this node follows.
    """

    minimum_cohort: Annotated[int, Field(ge=2)] = HIGHEST_FLOOR
    tasks: tuple[Task, ...] = ("failure", "claims", "credit")
    sums: tuple[Protection, ...] = ("masked", "sealed")
    budgets: tuple[BudgetPolicy, ...] = ()
    colluders: Annotated[int, Field(ge=0)] = 2
    ledgers: tuple[Annotated[str, Field(min_length=1)], ...] = ()


def budget_terms(policy: NodePolicy, *, member: str, dataset: str, unit: str) -> BudgetTerms:
    """Return what the first budget that matches allows; without one, counted and not capped.

    Args:
        policy: The node's own.
        member: The node's name in the federation.
        dataset: The data contract's name.
        unit: The contract's unit.
    """
    budget = next(
        (
            one
            for one in policy.budgets
            if one.dataset in {ANY, dataset} and one.unit in {ANY, unit}
        ),
        BudgetPolicy(),
    )
    order = budget.order
    if order is None and budget.epsilon is not None:
        order = best_order(budget.epsilon, budget.delta)
    return BudgetTerms(
        member=member,
        dataset=dataset,
        unit=unit,
        epsilon=budget.epsilon,
        delta=budget.delta,
        order=_UNCAPPED_ORDER if order is None else order,
        colluders=policy.colluders,
        period_days=budget.period_days,
        solo_epsilon=budget.solo_epsilon,
    )


def refusals(manifest: Manifest, policy: NodePolicy, contract: DataContract) -> list[str]:
    """Why this node would refuse a run, each reason one sentence; empty if it would not."""
    reasons: list[str] = []
    if manifest.task not in policy.tasks:
        reasons.append(f"The node's policy allows no task {manifest.task!r}.")
    if manifest.contract != contract.digest:
        reasons.append(
            f"The run was planned for another data contract than {contract.name!r} here; "
            "agree on one contract and plan again."
        )
    if manifest.minimum_cohort < policy.minimum_cohort:
        reasons.append(
            f"The run opens sums of {manifest.minimum_cohort} members; this node insists on at "
            f"least {policy.minimum_cohort}: set minimum_cohort."
        )
    if manifest.unit != contract.unit:
        reasons.append(
            f"The run protects {manifest.unit!r} where the contract names {contract.unit!r}; "
            "plan again."
        )
    reasons += _noise_refusals(manifest, policy, contract)
    if manifest.node_settings.get("task") != manifest.task:
        reasons.append("The run's manifest names two different tasks; plan again.")
    public = all(column.data_class == "L1" for column in contract.columns)
    if manifest.protection not in policy.sums and not (manifest.protection == "clear" and public):
        reasons.append(
            f"The run asks for {manifest.protection!r} sums of data above class L1; this node's "
            f"policy allows {', '.join(policy.sums)}: set protection.sum."
        )
    if manifest.group_size and manifest.group_size < policy.minimum_cohort:
        reasons.append(
            f"The run opens sums of groups of {manifest.group_size} members; this node insists on "
            f"at least {policy.minimum_cohort}: set protection.group_size."
        )
    return reasons


def _noise_refusals(manifest: Manifest, policy: NodePolicy, contract: DataContract) -> list[str]:
    reasons: list[str] = []
    plan = manifest.privacy
    if plan is None:
        return reasons
    try:
        most = max(plan.colluders, policy.colluders)
        require_holding(len(manifest.directory), manifest.minimum_cohort, most)
    except CohortError as refusal:
        reasons.append(str(refusal))
    if plan.unit not in {contract.unit, ORGANISATION}:
        reasons.append(
            f"The run's noise is for {plan.unit!r} where the contract names {contract.unit!r}; "
            "plan again."
        )
    if manifest.group_size:
        reasons.append("A run with noise sums all members together; set protection.robust: none.")
    folds = contract.split is not None and contract.split.kind == "folds"
    if folds and plan.parts == "apart":
        reasons.append(
            "The run counts training and test units apart, and the contract's folds exchange them; "
            "plan again."
        )
    return reasons


def check_manifest(manifest: Manifest, policy: NodePolicy, contract: DataContract) -> None:
    """Hold a run against the node's terms.

    Raises:
        RefusedError: The run asks for less than the node insists on; the first reason.
    """
    for reason in refusals(manifest, policy, contract):
        raise RefusedError(reason)
