"""The `privacy` part of a run config: one wish, from which every release's noise follows."""

import math
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, model_validator

from clients.frozen import Frozen
from privacy.accounting.calibrate import smallest_multiplier
from privacy.accounting.event import Event
from privacy.accounting.pld import reported
from privacy.errors import InputError
from privacy.plan import HIDING, ORGANISATION, Parts, PrivacyPlan

Part = Annotated[float, Field(gt=0, lt=1)]
_SMALL_FEDERATION = 300
_GRID = 2.0**-13
# rounding to the grid lengthens a vector of d numbers by sqrt(d) steps: enough for d = 26,000
_DISCRETE_MARGIN = 1.02
ORGANISATION_WARNING = (
    "Noise that hides a whole organisation does not work below hundreds of members: the model "
    "learns next to nothing, or the epsilon protects nobody. Protect the contract's unit instead."
)
CNN_WARNING = (
    "A convolutional network has many weights for few units, and noise grows with the weights: on "
    "telemetry of hundreds of devices it loses badly. Use features.window.statistics and a small "
    "mlp."
)


class NoiseSpec(Frozen):
    """How much noise a run adds, and where.

    Attributes:
        noise: `distributed`: each member adds a share, one step a round; `local`: each member's
            update is private by itself, several steps a round; `none`.
        epsilon: Wanted: against the coordinator with `colluders` nodes (`local`: against all).
        solo_epsilon: Wanted instead: against everybody else together.
        multiplier: Wanted instead: noise of a step that stays unknown to the coordinator with
            `colluders` nodes, in units of the clip.
        delta: Probability for which epsilon need not hold; below one over the number of units.
        colluders: Nodes that may work with the coordinator.
        unit: `contract`: the contract's unit; `organisation`: a whole member.
        rate: Each unit's chance to be in a step.
        rows_per_unit: Most rows of a unit in a step.
        clip: L2 bound of a unit's gradient.
        steps: `local`: steps of a member in a round.
        statistics_part: Part of the budget (in 1/noise^2) that feature statistics get.
        evaluation_part: The same for validations, and for the test where units change parts.
        sampler: `gaussian`, or `discrete`: exact on a grid, dearer, of varying running time.
    """

    noise: Literal["none", "distributed", "local"] = "distributed"
    epsilon: Annotated[float, Field(gt=0, le=1000)] | None = None
    solo_epsilon: Annotated[float, Field(gt=0, le=1000)] | None = None
    multiplier: Annotated[float, Field(gt=0, le=1e4)] | None = None
    delta: Annotated[float, Field(gt=0, lt=0.1)] = 1e-5
    colluders: Annotated[int, Field(ge=0, le=100_000)] = 1
    unit: Literal["contract", "organisation"] = "contract"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    rows_per_unit: Annotated[int, Field(ge=1, le=4096)] = 8
    clip: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    statistics_part: Part = 0.1
    evaluation_part: Part = 0.1
    sampler: Literal["gaussian", "discrete"] = "gaussian"

    @model_validator(mode="after")
    def _one_wish(self) -> "NoiseSpec":
        wishes = [self.epsilon, self.solo_epsilon, self.multiplier]
        if self.noise == "none":
            if self.model_fields_set - {"noise"}:
                raise ValueError("noise: none takes no other key; remove them")
            return self
        if sum(wish is not None for wish in wishes) != 1:
            raise ValueError("give one of epsilon, solo_epsilon and multiplier")
        if self.noise == "distributed" and self.steps != 1:
            raise ValueError("steps: distributed noise is for one step a round; remove it")
        if self.noise == "local" and self.solo_epsilon is not None:
            raise ValueError("solo_epsilon: with local noise it is epsilon; give that")
        if self.noise == "local" and self.sampler == "discrete":
            raise ValueError("sampler: discrete is for distributed noise; remove it")
        if self.unit == ORGANISATION and self.rate != 1:
            raise ValueError("rate: an organisation is in every step; set it to 1")
        return self


@lru_cache(maxsize=32)
def make_plan(
    spec: NoiseSpec,
    *,
    unit: str,
    parts: Parts,
    stages: int,
    rounds: int,
    watches: int,
    protection: str,
    fewest: int,
    statistics_sensitivity: float,
    evaluation_sensitivity: float,
) -> PrivacyPlan | None:
    """Find the smallest noise that keeps the wish, for all that a run releases.

    Statistics and evaluations get their fixed parts of what one Gaussian release of the wished
    epsilon would have in 1/noise^2; updates get what is left, exactly accounted for.

    Args:
        spec: The wish.
        unit: The contract's.
        parts: Whether a unit is always in the same part.
        stages: Sums of statistics.
        rounds: Rounds of training.
        watches: Validations.
        protection: Of its sums: where they hide no single vector, every share has to be enough.
        fewest: Fewest members of an opened sum.
        statistics_sensitivity: L2 norm by which one unit can change the statistics.
        evaluation_sensitivity: The same of an evaluation.

    Returns:
        None for `noise: none`.

    Raises:
        InputError: No noise can keep the wish, or too few members are left beside the colluders.
    """
    if spec.noise == "none":
        return None
    if spec.noise == "distributed" and fewest <= spec.colluders:
        raise InputError(
            f"privacy.colluders: with {spec.colluders} of at least {fewest} members nobody else is "
            "left; lower it, or raise minimum_cohort."
        )
    shared = spec.noise == "distributed" and protection in HIDING
    honest = fewest - spec.colluders if shared else 1
    wish = spec.epsilon if spec.solo_epsilon is None else spec.solo_epsilon
    discrete = spec.sampler == "discrete"
    taken = rounds * spec.steps
    if spec.unit == ORGANISATION:
        parts = "together"
    together = parts == "together"

    def updates(multiplier: float) -> Event:
        return Event(multiplier, spec.rate, taken, discrete)

    if wish is None:
        wish = reported([updates(float(spec.multiplier or 0.0))], spec.delta).epsilon
        if not math.isfinite(wish):
            raise InputError("privacy.multiplier: so little noise keeps no epsilon; raise it.")
    single = smallest_multiplier(
        lambda multiplier: [Event(multiplier, discrete=discrete)], epsilon=wish, delta=spec.delta
    )
    evaluations = watches + together
    statistics = single * math.sqrt(stages / spec.statistics_part)
    watch = single * math.sqrt(max(evaluations, 1) / spec.evaluation_part)
    test = watch if together else single
    others = [Event(statistics, 1.0, stages, discrete)]
    if evaluations:
        others.append(Event(watch, 1.0, evaluations, discrete))
    multiplier = spec.multiplier or smallest_multiplier(
        lambda multiplier: [*others, updates(multiplier)], epsilon=wish, delta=spec.delta
    )
    # with all others against it, a unit has its own member's share alone
    share = 1.0 if spec.solo_epsilon is not None else 1.0 / math.sqrt(honest)
    clips = [spec.clip, statistics_sensitivity, evaluation_sensitivity]
    if discrete:
        clips = [2.0 ** math.ceil(math.log2(clip)) for clip in clips]
        share *= _DISCRETE_MARGIN
    return PrivacyPlan(
        noise=spec.noise,
        mechanism="discrete_gaussian" if discrete else "gaussian",
        unit=ORGANISATION if spec.unit == ORGANISATION else unit,
        parts=parts,
        rate=float(spec.rate),
        rows_per_unit=spec.rows_per_unit,
        clip=float(clips[0]),
        steps=spec.steps,
        watches=watches,
        update_share=multiplier * share,
        statistics_share=statistics * share,
        statistics_clip=float(clips[1]),
        watch_share=watch * share,
        test_share=test * share,
        evaluation_clip=float(clips[2]),
        colluders=spec.colluders,
        delta=spec.delta,
        grid=_GRID,
    )


def warnings(spec: NoiseSpec, *, members: int) -> tuple[str, ...]:
    """Sentences that a launcher has to read before such a run."""
    if spec.noise != "none" and spec.unit == ORGANISATION and members < _SMALL_FEDERATION:
        return (ORGANISATION_WARNING,)
    return ()
