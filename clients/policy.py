"""What a node agrees to. Its numbers are the node's own; no coordinator can lower them.

Every key has a default, and the defaults are what a careful node would choose that shipped run
configs still fit: docs/node-policy.md tells each of them.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from clients.contract import DataClass, DataContract
from clients.frozen import Frozen
from clients.hours import Hours
from clients.spec import Task
from privacy.accounting.rdp import best_order, capacity
from privacy.budget_record import BudgetTerms
from privacy.errors import CohortError, RefusedError, TacitError
from privacy.manifest import Manifest, Protection
from privacy.plan import ORGANISATION
from privacy.secure_sum.graph import require_holding
from privacy.suites import SUITE_IDS, SuiteId

HIGHEST_FLOOR = 3
ANY = "*"
_UNCAPPED_ORDER = 8
STRENGTH: Final[tuple[Protection, ...]] = ("clear", "ckks", "masked", "sealed")
"""Ways to protect a sum, each hiding more than the one before."""
CLASSES: Final[tuple[DataClass, ...]] = ("L1", "L2", "L3", "L4")
Decision = Literal["automatic", "by_hand"]
Launching = Literal["bank", "insurer"]


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
            one that it was begun with, and of a new budget the one that buys most under the cap.
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


class Initiators(Frozen):
    """Who may start runs here, of those that the federation lets start any.

    Attributes:
        roles: Of these roles; empty: nobody.
        names: Only these; empty: everybody of those roles.
    """

    roles: tuple[Launching, ...] = ("bank", "insurer")
    names: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class Recognises(Frozen):
    """Whom this node counts on to be somebody else than the operator.

    An operator alone can let in members that it made up, and whoever knows all other vectors of a
    sum can subtract them.

    Attributes:
        names: These members.
        approved_by: Members whom one of these approved before they were let in.
    """

    names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    approved_by: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @property
    def everybody(self) -> bool:
        """Whether nothing is said, so that every member is recognised."""
        return not self.names and not self.approved_by

    def of(self, approved: Mapping[str, Collection[str]]) -> frozenset[str]:
        """Which members are recognised.

        Args:
            approved: Member -> who approved it.
        """
        if self.everybody:
            return frozenset(approved)
        return frozenset(
            name
            for name, by in approved.items()
            if name in self.names or not set(by).isdisjoint(self.approved_by)
        )


class MinimumProtection(Frozen):
    """The least that a sum must hide, by the highest class of the contract's columns.

    Attributes:
        L1: For contracts whose columns are all of class L1; left out: `clear` will do.
        L2: For contracts up to class L2; left out: what `sums` names will do.
        L3: The same up to L3.
        L4: The same up to L4.
        noise_from: Runs about data of this class or above must add noise; `none`: no run must;
            left out: as `clients.class_floor` says, from L3 on in a federation over the network.
            How much counts as noise stands there too, and no policy moves it.
    """

    L1: Protection | None = None
    L2: Protection | None = None
    L3: Protection | None = None
    L4: Protection | None = None
    noise_from: DataClass | Literal["none"] | None = None

    def of(self, data_class: DataClass) -> Protection | None:
        """The floor of a class: its own, or one that a lower class has, whichever hides more."""
        floors: list[Protection] = []
        for name in CLASSES[: CLASSES.index(data_class) + 1]:
            floor: Protection | None = getattr(self, name)
            if floor is not None:
                floors.append(floor)
        return max(floors, key=STRENGTH.index) if floors else None


class Resources(Frozen):
    """What runs may take of this machine; while there is less, a run waits before it begins.

    Attributes:
        threads: Threads of training; none: as many as torch takes by itself.
        memory_mib: MiB of memory that must be free when a run begins.
        disk_free_mib: MiB that must be free on the node's disk when a run begins.
        runs: Most runs at once; 0: none at all.
    """

    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    memory_mib: Annotated[int, Field(ge=0)] = 256
    disk_free_mib: Annotated[int, Field(ge=0)] = 256
    runs: Annotated[int, Field(ge=0, le=1000)] = 4


class Decide(Frozen):
    """Who says yes to a run that fits all terms: the node by itself, or a person.

    Attributes:
        otherwise: Where neither the run's task nor its initiator is named below.
        tasks: Task -> decision.
        initiators: Name -> decision. Where task and initiator are both named, and one of them says
            `by_hand`, a person decides.
    """

    otherwise: Decision = "automatic"
    tasks: Mapping[Task, Decision] = Field(default_factory=dict)
    initiators: Mapping[str, Decision] = Field(default_factory=dict)

    def of(self, *, task: str, initiator: str) -> Decision:
        """Who decides about a run."""
        named = [
            decision
            for table, name in ((self.tasks, task), (self.initiators, initiator))
            for key, decision in table.items()
            if key == name
        ]
        if not named:
            return self.otherwise
        return "by_hand" if "by_hand" in named else "automatic"


def _decide(value: object) -> object:
    return {"otherwise": value} if isinstance(value, str) else value


class NodePolicy(Frozen):
    """A node's terms.

    Attributes:
        minimum_cohort: Fewest members in a sum that this node's vector may be part of. With two,
            each could subtract its own and read the other's.
        tasks: Tasks that the node takes part in.
        sums: How sums may be protected. `ckks` lets the coordinator and any one member read
            every vector, `clear` the coordinator alone; data of class L1 may go in the clear.
        suites: Suites of algorithms that runs may use, by id; see docs/suites.md.
        budgets: What may be learned of which data, in all; the first that matches holds. Where
            none does, releases are counted and not capped.
        colluders: How many other nodes are assumed to work with the coordinator.
        ledgers: Origins of ledgers that a run may name besides the one that this node follows.
        initiators: Who may start runs here.
        recognises: Of whom there must be `minimum_cohort` in each sum, this node itself counted,
            and one must sign a run besides its launcher; left out: every member.
        membership_hours: For how long what is remembered of the membership will do for a new run,
            while the coordinator cannot be asked.
        minimum_protection: The least that sums must hide, by class of data; above what `sums` says.
        hours: When runs may start.
        resources: What runs may take of this machine.
        decide: Who says yes: the node, or a person (`tacit node approve`).
        countersigns: Whether this node signs, with the launcher, runs that fit its terms.
        explains: Whether runs may sum what their model leans on (`explain`), this node's rows
            among the members'.
        forget_days: Runs that nobody asked anything of for so long are left, and their keys
            deleted.
        place: Where this node is, ISO 3166-1 alpha-2; rows that lie elsewhere by their contract
            are not used here. Left out: nothing is said, and nothing checked.
    """

    minimum_cohort: Annotated[int, Field(ge=2)] = HIGHEST_FLOOR
    tasks: tuple[Task, ...] = ("failure", "claims", "credit")
    sums: tuple[Protection, ...] = ("masked", "sealed")
    suites: Annotated[tuple[SuiteId, ...], Field(min_length=1)] = SUITE_IDS
    budgets: tuple[BudgetPolicy, ...] = ()
    colluders: Annotated[int, Field(ge=0)] = 2
    ledgers: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    initiators: Initiators = Initiators()
    recognises: Recognises = Recognises()
    membership_hours: Annotated[float, Field(gt=0, le=8784)] = 24.0
    minimum_protection: MinimumProtection = MinimumProtection()
    hours: Hours = Hours()
    resources: Resources = Resources()
    decide: Annotated[Decide, BeforeValidator(_decide)] = Decide()
    countersigns: bool = True
    explains: bool = True
    forget_days: Annotated[float, Field(gt=0, le=3660)] = 7.0
    place: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None


def budget_terms(policy: NodePolicy, *, member: str, dataset: str, unit: str) -> BudgetTerms:
    """Return what the first budget that matches allows; without one, counted and not capped.

    Args:
        policy: The node's own.
        member: The node's name in the federation.
        dataset: The data contract's name.
        unit: The contract's unit.
    """
    budget = _first_match(policy, dataset, unit)
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


def names_order(policy: NodePolicy, *, dataset: str, unit: str) -> bool:
    """Whether the budget that matches names the order of its filter; else one fits as it is."""
    return _first_match(policy, dataset, unit).order is not None


def _first_match(policy: NodePolicy, dataset: str, unit: str) -> BudgetPolicy:
    matches = (
        one for one in policy.budgets if one.dataset in {ANY, dataset} and one.unit in {ANY, unit}
    )
    return next(matches, BudgetPolicy())


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
    reasons += _protection_refusals(manifest, policy, contract)
    if manifest.node_settings.get("explain", False) is not False and not policy.explains:
        reasons.append(
            "The run asks what its model leans on over the members' rows; this node's policy lets "
            "no run ask that: leave explain out."
        )
    if manifest.suite not in policy.suites:
        reasons.append(
            f"The run uses the suite {manifest.suite!r}; this node's policy allows "
            f"{', '.join(policy.suites)}: set protection.suite."
        )
    if manifest.group_size and manifest.group_size < policy.minimum_cohort:
        reasons.append(
            f"The run opens sums of groups of {manifest.group_size} members; this node insists on "
            f"at least {policy.minimum_cohort}: set protection.group_size."
        )
    return reasons


def highest_class(contract: DataContract) -> DataClass:
    """The highest class of a contract's columns, used by a run or not."""
    return max((column.data_class for column in contract.columns), key=CLASSES.index)


def _protection_refusals(
    manifest: Manifest, policy: NodePolicy, contract: DataContract
) -> list[str]:
    reasons: list[str] = []
    highest = highest_class(contract)
    public = highest == "L1"
    if manifest.protection not in policy.sums and not (manifest.protection == "clear" and public):
        reasons.append(
            f"The run asks for {manifest.protection!r} sums of data above class L1; this node's "
            f"policy allows {', '.join(policy.sums)}: set protection.sum."
        )
    floor = policy.minimum_protection.of(highest)
    if floor is not None and STRENGTH.index(manifest.protection) < STRENGTH.index(floor):
        reasons.append(
            f"The run asks for {manifest.protection!r} sums of data of class {highest}; this "
            f"node's policy wants at least {floor!r} for it: set protection.sum."
        )
    bound = policy.minimum_protection.noise_from
    said = bound is not None and bound != "none"
    if said and CLASSES.index(highest) >= CLASSES.index(bound) and manifest.privacy is None:
        reasons.append(
            f"The run adds no noise to sums of data of class {highest}; this node's policy wants "
            f"noise from class {bound} on: add a privacy section."
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
