"""What a coordinator is asked to do: its part of a run manifest, parsed strictly."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from privacy.canonical import canonical_json
from privacy.errors import ProtocolError
from privacy.tally import TallyKind


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ServerStep(_Frozen):
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


class CoordinatorPlan(_Frozen):
    """The coordinator's part of a manifest.

    Attributes:
        rounds: Rounds of training.
        statistics_stages: Sums of feature statistics before the first round.
        server: The server step.
        clip: The members' per-coordinate clip; fixes the number format of updates.
        average_last: The final model is the mean of the last so many global models.
        watch_every: Rounds between two evaluations on the members' validation parts.
        personal: Whether members also evaluate a fine-tuned copy at the end.
        tally: Metric family.
        groups: Groups that are reported singly.
        target_unit: What labels of a plain regression are divided by.
        deadline_s: Seconds that a step waits for its last reply.
    """

    rounds: Annotated[int, Field(ge=1, le=10_000)]
    statistics_stages: Annotated[int, Field(ge=1, le=2)]
    server: ServerStep = ServerStep()
    clip: Annotated[float, Field(gt=0, le=1e3)]
    average_last: Annotated[int, Field(ge=1, le=10_000)] = 1
    watch_every: Annotated[int, Field(ge=1, le=10_000)] = 1
    personal: bool = False
    tally: TallyKind
    groups: tuple[str, ...] = ()
    target_unit: Annotated[float, Field(gt=0)] = 1.0
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0

    @model_validator(mode="after")
    def _average_what_there_is(self) -> "CoordinatorPlan":
        if self.average_last > self.rounds:
            raise ValueError("average_last may not exceed the rounds")
        return self


def parse_plan(settings: dict[str, Any]) -> CoordinatorPlan:
    """Parse a manifest's coordinator settings.

    Raises:
        ProtocolError: A key is unknown, missing or out of range; names the key.
    """
    try:
        return CoordinatorPlan.model_validate_json(canonical_json(settings))
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ProtocolError(
            f"The manifest's coordinator settings are refused at {where}."
        ) from None
