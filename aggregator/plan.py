"""What a coordinator is asked to do: its part of a run manifest, parsed strictly."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privacy.canonical import canonical_json
from privacy.errors import ProtocolError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CoordinatorPlan(_Frozen):
    """The coordinator's part of a manifest.

    Attributes:
        rounds: Rounds of training.
        statistics_stages: Sums of feature statistics before the first round.
        watch_every: Rounds between two evaluations on the members' validation parts; 0: none.
        personal: Whether members also evaluate a fine-tuned copy at the end.
        deadline_s: Seconds that a step waits for the members who answered the step before.
        grace_s: Seconds that it waits for the others.
        min_members: Fewest members who have to agree; None: all whom the manifest names.
        consent_s: Seconds that members who are away, or whose people decide, are waited for.
        countersigned: Whether a second member signs the manifest before it is shown to all.
    """

    rounds: Annotated[int, Field(ge=1, le=10_000)]
    statistics_stages: Annotated[int, Field(ge=1, le=2)]
    watch_every: Annotated[int, Field(ge=0, le=10_000)] = 1
    personal: bool = False
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0
    grace_s: Annotated[float, Field(ge=0, le=86_400)] = 1.0
    min_members: Annotated[int, Field(ge=2, le=100_000)] | None = None
    consent_s: Annotated[float, Field(ge=0, le=30 * 86_400)] = 0.0
    countersigned: bool = False


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
