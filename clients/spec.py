"""What a node is asked to do: the node's part of a run manifest, parsed strictly.

Every number has a range that keeps a node from being asked for something absurd: a request outside
it is refused before any row is read.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from clients.frozen import Frozen
from clients.window_summary import Statistic
from privacy.canonical import canonical_json
from privacy.errors import ProtocolError, RefusedError

EXPLAIN_REFUSED: Final = (
    "explain sums what no noise covers and no receipt counts; leave it out of a run with noise."
)
Task = Literal["failure", "claims", "credit"]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]


class WindowSpec(Frozen):
    """How a device's readings become examples.

    Attributes:
        length: Readings in a window.
        stride: Steps between two training windows.
        test_stride: Steps between two windows of the other parts, where more than the last count.
        statistics: Per-sensor summaries of the window; empty means the model sees the readings.
        recent: Readings that the statistic `recent` averages, at the window's end; `drift` is
            that mean less the mean of the device's first window, so that devices with different
            sensors are measured against themselves.
        pieces: The window is summarised whole and, above 1, in that many equal pieces (means).
        life_limit: Training windows with a longer remaining life (in time steps) are left out:
            above the label's cap they all look alike.
        baseline: What a reading is measured against. `federation`: means and spreads over all
            members' readings in the same condition, by a secure sum. `own`: the device's own first
            `length` readings; nothing is summed for it, and a run with noise needs it.
    """

    length: Annotated[int, Field(ge=2, le=4096)]
    stride: Annotated[int, Field(ge=1, le=4096)] = 1
    test_stride: Annotated[int, Field(ge=1, le=4096)] = 1
    statistics: tuple[Statistic, ...] = ()
    recent: Annotated[int, Field(ge=1, le=4096)] = 5
    pieces: Annotated[int, Field(ge=1, le=32)] = 1
    life_limit: Annotated[float, Field(gt=0)] | None = None
    baseline: Literal["federation", "own"] = "federation"


class FeatureSpec(Frozen):
    """Which inputs a model gets.

    Attributes:
        window: Given for telemetry; without it every row is one example.
        rare_below: A category level that fewer training rows of the whole federation show is
            treated as "other": it can neither be learnt nor should it stand out.
        bins: Above 1, each numeric column also enters as that many piecewise-linear ramps
            between its quantiles, so that a linear path can follow any shape.
        without: Columns of the contract that this run leaves aside.
    """

    window: WindowSpec | None = None
    rare_below: Annotated[int, Field(ge=0, le=100_000)] = 20
    bins: Annotated[int, Field(ge=0, le=64)] = 0
    without: tuple[str, ...] = ()

    @property
    def stages(self) -> int:
        """Sums of statistics before the model: two where sums bring summaries to scale."""
        window = self.window
        return 2 if window is not None and window.statistics and window.baseline != "own" else 1


class ModelSpec(Frozen):
    """The network.

    Attributes:
        kind: `mlp` on rows or window statistics; `cnn` along a window's time.
        hidden: Widths of the hidden layers (`cnn`: channels of the convolutions).
        activation: Between layers.
        dropout: Share of hidden units dropped while training.
        embedding: Width of the vector that a category with more than `one_hot_up_to` levels gets.
        one_hot_up_to: Categories of at most so many levels are one-hot.
        linear: Adds a direct linear path from the inputs to the output.
    """

    kind: Literal["mlp", "cnn"] = "mlp"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(max_length=8)]
    activation: Literal["relu", "silu", "gelu", "tanh"] = "relu"
    dropout: Share = 0.0
    embedding: Annotated[int, Field(ge=1, le=64)] = 4
    one_hot_up_to: Annotated[int, Field(ge=0, le=4096)] = 32
    linear: bool = False


class TrainingSpec(Frozen):
    """How a node trains in one round.

    Attributes:
        rounds: Rounds in the whole run; the learning rate's schedule needs it.
        local_epochs: Passes over the node's own training rows in a round.
        batch_rows: Rows in a step.
        steps: Cap on steps a round, so that a large member does not take all the time.
        optimiser: Started afresh each round, as its state would be one more thing to share.
        learning_rate: Of the first round.
        schedule: `cosine` falls to `final_share` of the rate in the last round.
        final_share: See `schedule`.
        weight_decay: Decoupled for `adamw`, L2 otherwise.
        momentum: For `sgd`.
        epoch_share: Share of the rows, drawn anew, that a pass goes over.
        input_noise: Standard deviation of Gaussian noise added to the (standardised) inputs while
            training; it steadies the model where windows of one device resemble each other.
        proximal: FedProx's mu: pulls the weights towards the round's global model
            (Li et al. 2020, "Federated Optimization in Heterogeneous Networks", eq. 2).
        positive_weight: Binary tasks: how much more a positive row counts; "balanced" takes it
            from the federation's own share of positives.
    """

    rounds: Annotated[int, Field(ge=1, le=10_000)]
    local_epochs: Annotated[int, Field(ge=1, le=1_000)] = 1
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    momentum: Share = 0.9
    epoch_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    input_noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    proximal: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    positive_weight: Positive | Literal["balanced"] = 1.0


class PersonalSpec(Frozen):
    """Fine-tuning of the final model at a member, kept only where its own validation gains.

    Attributes:
        epochs: Passes over the member's own training rows.
        learning_rate: Of those passes.
        layers: `head` trains the last layer only.
    """

    epochs: Annotated[int, Field(ge=1, le=1_000)] = 3
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 3e-4
    layers: Literal["head", "all"] = "head"


class UpdateSpec(Frozen):
    """How a change of the model leaves the node.

    Attributes:
        clip: Each coordinate of the change is held to [-clip, clip] (model units).
        clip_l2: The whole change is scaled down to this L2 norm, if given (model units).
        weigh_by: `rows`, their square root `root_rows`, protected `units`, or `members` (all
            alike).
        weight_cap: A member counts for at most this many times the members' mean of rows.
        precision: The largest step of rounding, in units of the clip; a coarser one sends fewer
            bytes (1.6, 2, 2.67 or 4 a value, by the number of members).
    """

    clip: Annotated[float, Field(gt=0, le=1e3)] = 1.0
    clip_l2: Positive | None = None
    weigh_by: Literal["rows", "root_rows", "units", "members"] = "rows"
    weight_cap: Annotated[float, Field(ge=1, le=1e3)] = 4.0
    precision: Annotated[float, Field(gt=0, le=0.5)] = 2.0**-14


class ServerStep(Frozen):
    """How the mean change moves the global model.

    Attributes:
        kind: `fedavg` (McMahan et al. 2017), `fedavgm` (Hsu et al. 2019), `fedadam` (Reddi et al.
            2021, "Adaptive Federated Optimization", algorithm 2).
        learning_rate: Of the server; 1 is plain averaging for `fedavg`.
        momentum: `fedavgm`'s and `fedadam`'s beta1.
        second_momentum: `fedadam`'s beta2.
        adaptivity: `fedadam`'s tau; smaller adapts more.
    """

    kind: Literal["fedavg", "fedavgm", "fedadam"] = "fedavg"
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    second_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    adaptivity: Annotated[float, Field(gt=0, le=1)] = 1e-3


class NodeSpec(Frozen):
    """The node's part of a manifest.

    Attributes:
        task: What the model is for.
        seed: Of the initial model and of local shuffling; no secret depends on it.
        fold: Which fold is the test part, for contracts that split in folds.
        validation_share: Share of the training units (by hash) kept aside to watch a run.
        features: Inputs.
        model: Network.
        training: Local training.
        update: How a change leaves the node.
        personal: Fine-tuning at the node after the last round.
        server: How the mean change moves the common model; every member takes the same step.
        average_last: The final model is the mean of the last so many common models.
        rollback: A round after which the validation metric is worse than the best so far by more
            than this share of it is undone, by every member alike; None never undoes one.
        explain: Whether the final test's sum also says what the model leans on: for each input
            the sizes of its amounts over the members' test rows. Not in runs with noise.
    """

    task: Task
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    fold: Annotated[int, Field(ge=0, lt=100)] | None = None
    validation_share: Share = 0.1
    features: FeatureSpec = FeatureSpec()
    model: ModelSpec
    training: TrainingSpec
    update: UpdateSpec = UpdateSpec()
    personal: PersonalSpec | None = None
    server: ServerStep = ServerStep()
    average_last: Annotated[int, Field(ge=1, le=10_000)] = 1
    rollback: Annotated[float, Field(gt=0, le=100)] | None = None
    explain: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "NodeSpec":
        window = self.features.window
        if self.model.kind == "cnn" and (window is None or window.statistics):
            raise ValueError("a cnn needs features.window without statistics")
        if self.personal is not None and self.validation_share == 0:
            raise ValueError("personal needs a validation_share above 0")
        if self.average_last > self.training.rounds:
            raise ValueError("average_last may not exceed the rounds")
        return self

    @property
    def is_additive(self) -> bool:
        """Whether the run's model is a sum of curves, one for each column."""
        return not self.model.hidden and self.model.kind == "mlp" and self.features.window is None


def parse_node_spec(settings: dict[str, Any]) -> NodeSpec:
    """Parse a manifest's node settings.

    Raises:
        ProtocolError: A key is unknown, missing or out of range; names the key.
    """
    try:
        return NodeSpec.model_validate_json(canonical_json(settings))
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ProtocolError(f"The manifest's node settings are refused at {where}.") from None


def require_trainable(spec: NodeSpec) -> None:
    """Return if a run with noise means what its settings say.

    Raises:
        RefusedError: A setting would be ignored, or would break the bound on a unit's part.
    """
    plain = TrainingSpec(rounds=1)
    for name in ("local_epochs", "batch_rows", "steps", "epoch_share", "proximal", "weight_decay"):
        if getattr(spec.training, name) != getattr(plain, name):
            raise RefusedError(
                f"training.{name} means nothing with noise: privacy.steps and privacy.rate say how "
                "a member trains; leave it out."
            )
    for name, value in (
        ("training.input_noise", spec.training.input_noise),
        ("model.dropout", spec.model.dropout),
    ):
        if value:
            # drawn row by row in the order of a batch, it would tie a unit's part to who else is in
            raise RefusedError(f"{name} is not for runs with noise; set it to 0.")
    if spec.explain:
        raise RefusedError(EXPLAIN_REFUSED)
    if spec.personal is not None:
        raise RefusedError(
            "personal fine-tunes on rows without noise, and its test would tell of them; leave it "
            "out of a run with noise."
        )
