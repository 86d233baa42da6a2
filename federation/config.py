"""A run config: what a launcher writes, and how it becomes the two halves of a manifest."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from aggregator.plan import CoordinatorPlan
from clients.contract import DataContract, load_contract
from clients.frozen import Frozen, read_yaml
from clients.monotone import require_held
from clients.spec import (
    EXPLAIN_REFUSED,
    FeatureSpec,
    ModelSpec,
    NodeSpec,
    PersonalSpec,
    ServerStep,
    Share,
    Task,
    TrainingSpec,
    UpdateSpec,
    parse_node_spec,
    require_trainable,
)
from federation.noise_spec import NoiseSpec, make_plan
from privacy.errors import CohortError, InputError, RefusedError
from privacy.fixed_point import FixedPoint
from privacy.manifest import Protection
from privacy.mechanism import gradient_layout
from privacy.plan import PrivacyPlan, is_distributed
from privacy.secure_sum.cohort import SMALLEST_GROUPED
from privacy.secure_sum.graph import require_holding
from privacy.secure_sum.schemes import scheme_of
from privacy.suites import SuiteId

DATA_VARIABLE = "TACIT_DATA"
CONSENT_S = 60.0
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]

LABELS_OF_TASK: dict[str, tuple[str, ...]] = {
    "failure": ("remaining_life", "within_horizon", "binary"),
    "claims": ("count", "value"),
    "credit": ("binary", "value"),
}


class ProtectionSpec(Frozen):
    """What protects a run.

    Attributes:
        sum: `masked`; `sealed` hides the sum from the coordinator as well; `ckks` and `clear`
            only where every node's policy lets them.
        robust: `groups` sums updates in groups of members and takes the median of their means, so
            that some wrong updates do little harm; from 12 members on.
        group_size: Fewest members of such a group; default: minimum_cohort.
        rollback: A round after which the validation metric is worse than the best so far by more
            than this share of it is undone; default: never.
        suite: `intl`, `gm` or `hybrid`: the algorithms that protect keys and shares; default: the
            federation's, and `intl` where all nodes are on one machine.
    """

    sum: Protection = "masked"
    suite: SuiteId | None = None
    robust: Literal["none", "groups"] = "none"
    group_size: Annotated[int, Field(ge=2, le=100_000)] | None = None
    rollback: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _groups_where_asked(self) -> "ProtectionSpec":
        if self.group_size is not None and self.robust == "none":
            raise ValueError("group_size: needs robust: groups; set it, or leave group_size out")
        return self


class SelectSpec(Frozen):
    """Which members a run over the network asks; nothing here: all of them.

    Attributes:
        roles: Of these roles.
        names: With these names.
        attributes: Whose invitation said all of this of them.
    """

    roles: tuple[Literal["manufacturer", "insurer", "bank"], ...] = ()
    names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    attributes: dict[str, str] = Field(default_factory=dict)


class RunConfig(Frozen):
    """A run config file. Every key is in configs/README.md.

    Attributes:
        name: Of the run; part of its id.
        title: One line for people.
        task: `failure`, `claims` or `credit`.
        contract: The data contract, relative to this file.
        protection: How sums are protected, and against wrong updates.
        privacy: The noise that covers what sums show; default: none.
        minimum_cohort: Fewest members in an opened sum.
        validation_share: Share of training units that watch the run.
        features: Inputs.
        model: Network.
        training: Local training.
        server: Server step.
        update: How a change leaves a node.
        average_last: Final model = mean of the last so many global models.
        watch_every: Rounds between validations; 0: none, the default with noise.
        deadline_s: Seconds that a step waits for the slowest member.
        grace_s: Seconds that it waits longer for members who missed the step before.
        select: Which members a run over the network asks.
        min_members: Fewest members who have to agree for it to begin; default: all that are asked.
        consent_s: Seconds that it waits for members who are away or whose people decide; default: a
            minute over the network, and none where all nodes are on one machine.
        personal: Fine-tuning at each member after the last round.
        explain: Whether the final test also sums, input by input, what the model leans on.
        baseline_learning_rate: For `--baselines`: averaging steadies a federation, so a member
            alone often learns best at a lower rate; default: training.learning_rate.
    """

    name: Name
    title: str = ""
    task: Task
    contract: str
    protection: ProtectionSpec = ProtectionSpec()
    privacy: NoiseSpec = NoiseSpec(noise="none")
    minimum_cohort: Annotated[int, Field(ge=2, le=100_000)] = 3
    validation_share: Share = 0.1
    features: FeatureSpec = FeatureSpec()
    model: ModelSpec
    training: TrainingSpec
    server: ServerStep = ServerStep()
    update: UpdateSpec = UpdateSpec()
    average_last: Annotated[int, Field(ge=1, le=10_000)] = 1
    watch_every: Annotated[int, Field(ge=0, le=10_000)] = 1
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0
    grace_s: Annotated[float, Field(ge=0, le=86_400)] = 1.0
    select: SelectSpec = SelectSpec()
    min_members: Annotated[int, Field(ge=2, le=100_000)] | None = None
    consent_s: Annotated[float, Field(ge=0, le=30 * 86_400)] | None = None
    personal: PersonalSpec | None = None
    explain: bool = False
    baseline_learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_noise_ask_for_less(cls, value: object) -> object:
        """With noise every question costs: other defaults for what a config leaves open."""
        if not isinstance(value, dict) or not _has_noise(value.get("privacy")):
            return value
        value = {"watch_every": 0, **value}
        if value["watch_every"] == 0:
            value = {"validation_share": 0.0, **value}
        features, model = value.get("features"), value.get("model")
        window = features.get("window") if isinstance(features, dict) else None
        small = not isinstance(model, dict) or model.get("kind", "mlp") == "mlp"
        if isinstance(features, dict) and isinstance(window, dict) and small:
            # a small network on summaries, which need no statistics of other devices
            chosen = {"statistics": PRIVATE_STATISTICS, "baseline": "own", **window}
            value = {**value, "features": {**features, "window": chosen}}
        return value

    @model_validator(mode="after")
    def _noise_fits(self) -> "RunConfig":
        if self.privacy.noise == "none":
            if self.watch_every == 0:
                raise ValueError("watch_every: 0 is for runs with noise; set it to 1 or more")
            return self
        if self.explain:
            raise ValueError(EXPLAIN_REFUSED.replace("explain ", "explain: ", 1).removesuffix("."))
        if self.protection.robust != "none":
            raise ValueError("protection.robust: is not for runs with noise; set it to none")
        if self.protection.rollback is not None and self.watch_every == 0:
            raise ValueError("protection.rollback: needs validations; set watch_every")
        if self.privacy.noise == "distributed":
            for name in ("optimiser", "learning_rate", "momentum"):
                if name in self.training.model_fields_set:
                    raise ValueError(
                        f"training.{name}: members take no step of their own with distributed "
                        "noise; set server.kind and server.learning_rate instead"
                    )
        return self

    @model_validator(mode="after")
    def _network_fits_inputs(self) -> "RunConfig":
        window = self.features.window
        if self.model.kind == "cnn" and (window is None or window.statistics):
            raise ValueError("model.kind: cnn needs features.window without statistics; give it")
        return self

    @model_validator(mode="after")
    def _average_what_there_is(self) -> "RunConfig":
        if self.average_last > self.training.rounds:
            raise ValueError("average_last: there are fewer rounds; lower it")
        if self.personal is not None and self.validation_share == 0:
            raise ValueError("validation_share: personal needs one above 0 to decide by")
        if self.min_members is not None and self.min_members < self.minimum_cohort:
            raise ValueError("min_members: is below minimum_cohort; raise it")
        size = self.protection.group_size
        if size is not None and size < self.minimum_cohort:
            raise ValueError("protection.group_size: is below minimum_cohort; raise it")
        return self

    @property
    def group_size(self) -> int:
        """Fewest members of a group of updates; 0 where all are summed together."""
        if self.protection.robust == "none":
            return 0
        return self.protection.group_size or self.minimum_cohort

    def baseline_settings(self, *, seed: int, fold: int | None) -> dict[str, Any]:
        """The node's half of a manifest, as baselines are trained."""
        settings = self.node_settings(seed=seed, fold=fold)
        if self.privacy.noise != "none":
            # what stays with a member needs no noise; it takes as many steps as the federation
            steps = self.training.rounds * self.privacy.steps
            alone = {"rounds": 1, "local_epochs": 1_000, "steps": steps}
            settings["training"] |= alone
            settings["average_last"] = 1
        if self.baseline_learning_rate is not None:
            settings["training"]["learning_rate"] = self.baseline_learning_rate
        return settings

    def node_settings(self, *, seed: int, fold: int | None) -> dict[str, Any]:
        """The node's half of a manifest."""
        spec = NodeSpec(
            task=self.task,
            seed=seed,
            fold=fold,
            validation_share=self.validation_share,
            features=self.features,
            model=self.model,
            training=self.training,
            update=self.update,
            personal=self.personal,
            server=self.server,
            average_last=self.average_last,
            rollback=self.protection.rollback,
            explain=self.explain,
        )
        # a run that does not ask is asked for in the words of before, which every node knows
        return spec.model_dump(mode="json", exclude=set() if self.explain else {"explain"})

    def coordinator_settings(self, *, countersigned: bool = False) -> dict[str, Any]:
        """The coordinator's half of a manifest.

        Args:
            countersigned: Whether a second member has to sign it, as over a network.
        """
        plan = CoordinatorPlan(
            rounds=self.training.rounds,
            statistics_stages=self.features.stages,
            watch_every=self.watch_every,
            personal=self.personal is not None,
            deadline_s=self.deadline_s,
            grace_s=self.grace_s,
            min_members=self.min_members,
            consent_s=(CONSENT_S if countersigned else 0.0)
            if self.consent_s is None
            else self.consent_s,
            countersigned=countersigned,
        )
        return plan.model_dump(mode="json")


PRIVATE_STATISTICS = ("recent", "mean", "age")


def _has_noise(value: object) -> bool:
    return isinstance(value, dict) and value.get("noise", "distributed") != "none"


class Project(Frozen):
    """A run config with the contract that it names, held against each other."""

    config: RunConfig
    contract: DataContract
    config_path: Path
    contract_path: Path

    def layout(self, members: int, plan: PrivacyPlan | None) -> FixedPoint:
        """How the updates of so many members are written.

        Args:
            members: How many.
            plan: The run's noise; None without.

        Raises:
            CohortError: They are too few for what the config asks.
            InputError: No packing is as fine as the config asks.
        """
        config = self.config
        if members < config.minimum_cohort:
            raise CohortError(
                f"The contract {self.contract.name} has {members} members here; sums "
                f"are opened over at least {config.minimum_cohort}. "
                "Check its members, or the data folder."
            )
        if config.group_size and members < SMALLEST_GROUPED:
            raise CohortError(
                f"protection.robust: groups needs {SMALLEST_GROUPED} members and "
                f"{self.contract.name} has {members} here; set it to none."
            )
        # members come in groups of this size or a few more
        most = members if not config.group_size else -(-members // (members // config.group_size))
        scheme = scheme_of(config.protection.sum)
        if plan is not None and plan.colluders > 0:
            require_holding(members, config.minimum_cohort, plan.colluders)
        if plan is not None and is_distributed(plan):
            return gradient_layout(plan, most, scheme)
        return scheme.update_layout(most, config.update.clip, config.update.precision)

    def privacy_plan(self) -> PrivacyPlan | None:
        """The noise of this run; None without.

        Raises:
            InputError: No noise keeps what the config wishes.
        """
        config = self.config
        if config.privacy.noise == "none":
            return None
        from clients.sensitivity import sensitivities

        fold = self.folds[0]
        spec = parse_node_spec(config.node_settings(seed=0, fold=fold))
        statistics, evaluation = sensitivities(self.contract, spec)
        rounds, every = config.training.rounds, config.watch_every
        return make_plan(
            config.privacy,
            unit=self.contract.unit,
            parts="apart" if fold is None else "together",
            stages=config.features.stages,
            rounds=rounds,
            watches=-(-rounds // every) if every else 0,
            protection=config.protection.sum,
            fewest=config.minimum_cohort,
            statistics_sensitivity=statistics,
            evaluation_sensitivity=evaluation,
        )

    @property
    def folds(self) -> tuple[int | None, ...]:
        """The folds that are run one after the other; (None,) without folds."""
        split = self.contract.split
        return tuple(range(split.folds)) if split is not None and split.kind == "folds" else (None,)


def load_project(path: Path) -> Project:
    """Read a run config and its contract.

    Raises:
        InputError: One of them cannot be used, or they do not fit; says which key and why.
        RefusedError: The contract calls a column monotone, and the run's model would not keep it.
    """
    config = read_yaml(RunConfig, path)
    contract_path = (path.parent / config.contract).resolve()
    contract = load_contract(contract_path)
    kind = contract.label.kind
    if kind not in LABELS_OF_TASK[config.task]:
        raise InputError(
            f"{path}: task: {config.task} cannot learn the label kind {kind} of {contract.name}; "
            f"it learns {', '.join(LABELS_OF_TASK[config.task])}."
        )
    _require_readable(path, config.features, contract)
    if config.privacy.noise != "none":
        try:
            require_trainable(parse_node_spec(config.node_settings(seed=0, fold=None)))
        except RefusedError as refusal:
            raise InputError(f"{path}: {refusal}") from None
    if any(column.monotone for column in contract.inputs):
        try:
            require_held(contract, parse_node_spec(config.node_settings(seed=0, fold=None)))
        except RefusedError as refusal:
            raise RefusedError(f"{path}: {refusal}") from None
    return Project(
        config=config,
        contract=contract,
        config_path=path.resolve(),
        contract_path=contract_path,
    )


def _require_readable(path: Path, features: FeatureSpec, contract: DataContract) -> None:
    """Raise InputError unless a model of these features reads the inputs that the contract has."""
    if contract.is_telemetry and features.window is None:
        raise InputError(
            f"{path}: features.window: is missing; {contract.name} holds readings over time."
        )
    if features.window is not None and not contract.is_telemetry:
        raise InputError(f"{path}: features.window: remove it; {contract.name} is no telemetry.")
    known = {column.name for column in contract.columns}
    for name in features.without:
        if name not in known:
            raise InputError(f"{path}: features.without: {contract.name} has no column {name}.")
    used = [column for column in contract.inputs if column.name not in features.without]
    if not used:
        raise InputError(f"{path}: features.without: leaves no input; a model needs one.")
    unread = [column.name for column in used if column.role in {"sensor", "setting"}]
    if unread and not contract.is_telemetry:
        raise InputError(
            f"{path}: contract: {contract.name} calls {', '.join(unread)} sensors or settings, "
            f"which are read over time alone, and its label {contract.label.kind} is of single "
            f"rows; give them the role feature in the contract, or name them in features.without."
        )


def with_wish(project: Project, *, epsilon: float | None, multiplier: float | None) -> Project:
    """The same run with another wish for its noise; unchanged where neither is given.

    Raises:
        InputError: Both are given, the run has no noise, or the number is out of range.
    """
    if epsilon is None and multiplier is None:
        return project
    spec = project.config.privacy
    if spec.noise == "none":
        raise InputError(
            f"{project.config_path}: the run has no noise; give it a privacy section first."
        )
    wish = {"epsilon": epsilon, "multiplier": multiplier, "solo_epsilon": None}
    try:
        changed = NoiseSpec.model_validate(spec.model_dump(exclude_unset=True) | wish)
    except ValidationError as failure:
        reason = failure.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"The wish cannot be kept: {reason}.") from None
    config = project.config.model_copy(update={"privacy": changed})
    return project.model_copy(update={"config": config})


def data_root(given: Path | None) -> Path:
    """Where a contract's paths begin: what was given, else $TACIT_DATA, else ../shared/data.

    Raises:
        InputError: That folder does not exist.
    """
    root = given or Path(os.environ.get(DATA_VARIABLE) or Path("..") / "shared" / "data")
    if not root.is_dir():
        raise InputError(f"{root}: no such data folder; give --data FOLDER or set {DATA_VARIABLE}.")
    return root.resolve()
