"""What a run adds to its sums so that no unit shows in them, and the receipt of each release.

A plan is part of the manifest: the launcher proposes it, each node works out from it, with its own
numbers, what every release will cost, and an auditor works out the same. Standard library alone.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from privacy.errors import ProtocolError
from privacy.ledger.entry import EVALUATIONS, STATISTICS, UPDATE
from privacy.receipt import Cohort, Kind, Mechanism, Receipt

Noise = Literal["distributed", "local"]
Parts = Literal["apart", "together"]
ORGANISATION: Final = "organisation"
HIDING: Final = frozenset({"masked", "sealed"})
SMALLEST_VECTOR: Final = 64
"""Numbers of a vector with a share of noise, at least; shorter ones are filled up with noise.

What a sum's tag tells beside the sum (its parts carry into each other) is hidden by the noise in
the vector, if there are enough numbers: docs/noise-and-rounding.md, section 5.
"""
_WATCH, _TEST, _ = EVALUATIONS
_MANY_VALUES: Final = 26_000
_SHARE_MAX: Final = 1e6
_SMALLEST: Final = 1e-6
_CLIP_MAX: Final = 1e12
_COUNT_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPlan:
    """Noise and sampling of one run.

    All noise is Gaussian, its standard deviation a multiple of the sensitivity: of the L2 norm by
    which one unit, added or removed, can change what a member contributes.

    Attributes:
        noise: `distributed`: each member adds a share, and the opened sum has enough; `local`: each
            member's own noise is enough by itself.
        mechanism: `gaussian`: float64 shares, then rounded; `discrete_gaussian`: exact integer
            shares on the grid.
        unit: Whom it protects: the contract's unit, or `organisation`.
        parts: `apart`: a unit's rows are all training rows or all test rows, in every run;
            `together` where that changes between runs (folds).
        rate: Each unit takes part in a step with this probability, secretly and independently.
        rows_per_unit: Most rows of a unit in a step; its gradient is their mean.
        clip: L2 bound of a unit's gradient.
        steps: Steps of a member in one round; 1 for `distributed`.
        watches: Most validations of the run.
        update_share: Noise of one member in one step, in units of `clip`.
        statistics_share: Of one member in a sum of statistics, in units of `statistics_clip`.
        statistics_clip: Sensitivity of the statistics; a node refuses less than its own figure.
        watch_share: Of one member in a validation, in units of `evaluation_clip`.
        test_share: The same, of test rows.
        evaluation_clip: Sensitivity of an evaluation; a node refuses less than its own figure.
        colluders: Nodes that may work with the coordinator, for the figure that is reported.
        delta: Probability for which the reported epsilon need not hold.
        grid: For `discrete_gaussian`: the grid, in units of the sensitivity; a power of two.
    """

    noise: Noise
    mechanism: Mechanism
    unit: str
    parts: Parts
    rate: float
    rows_per_unit: int
    clip: float
    steps: int
    watches: int
    update_share: float
    statistics_share: float
    statistics_clip: float
    watch_share: float
    test_share: float
    evaluation_clip: float
    colluders: int
    delta: float
    grid: float

    def to_json(self) -> dict[str, object]:
        """As it stands in a manifest."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, value: object) -> "PrivacyPlan":
        """Parse, strictly.

        Raises:
            ProtocolError: A key is missing, unknown, of a wrong type or out of range.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(value, dict) or set(value) != set(names):
            raise ProtocolError("The manifest's privacy plan has missing or unknown keys.")
        for name, check in _CHECKS.items():
            if not check(value[name]):
                raise ProtocolError(f"The manifest's privacy plan is refused at {name}.")
        _require_fit(value)
        return cls(**value)


def _number(low: float, high: float) -> Callable[[object], bool]:
    """Whether a value is a finite number, low < value <= high."""
    return lambda value: (
        type(value) in {int, float} and math.isfinite(value) and low < value <= high  # type: ignore[arg-type,operator]
    )


def _count(low: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= _COUNT_MAX


_CHECKS: Final[Mapping[str, Callable[[object], bool]]] = {
    "noise": lambda value: value in get_args(Noise),
    "mechanism": lambda value: value in ("gaussian", "discrete_gaussian"),
    "unit": lambda value: isinstance(value, str) and bool(value),
    "parts": lambda value: value in get_args(Parts),
    "rate": _number(_SMALLEST, 1.0),
    "rows_per_unit": _count(1),
    "clip": _number(_SMALLEST, _CLIP_MAX),
    "steps": _count(1),
    "watches": _count(0),
    "update_share": _number(_SMALLEST, _SHARE_MAX),
    "statistics_share": _number(_SMALLEST, _SHARE_MAX),
    "statistics_clip": _number(_SMALLEST, _CLIP_MAX),
    "watch_share": _number(_SMALLEST, _SHARE_MAX),
    "test_share": _number(_SMALLEST, _SHARE_MAX),
    "evaluation_clip": _number(_SMALLEST, _CLIP_MAX),
    "colluders": _count(0),
    "delta": lambda value: type(value) is float and 0.0 < value < 1.0,
    "grid": _number(2.0**-26, 1.0),
}


def _require_fit(value: Mapping[str, Any]) -> None:
    if value["noise"] == "distributed" and value["steps"] != 1:
        raise ProtocolError("Distributed noise is added to one step a round; set steps to 1.")
    if value["unit"] == ORGANISATION and value["rate"] != 1.0:
        raise ProtocolError("An organisation is in every step; set the privacy plan's rate to 1.")
    powers = [value["grid"]]
    if value["mechanism"] == "discrete_gaussian":
        if value["noise"] == "local":
            raise ProtocolError("The discrete sampler is for distributed noise; set noise to it.")
        # the grid of a sum must be a grid of its fixed point
        powers += [value["clip"], value["statistics_clip"], value["evaluation_clip"]]
    if any(math.frexp(power)[0] != 0.5 for power in powers):  # noqa: PLR2004 - a power of two
        raise ProtocolError("On a discrete grid, clips and the grid must be powers of two.")


def deviation(plan: PrivacyPlan, step: str) -> float:
    """Standard deviation of one member's noise in a sum of that step, in the sum's own unit."""
    return _share(plan, step) * sensitivity(plan, step)


def sensitivity(plan: PrivacyPlan, step: str) -> float:
    """L2 norm by which one unit can change a member's vector of that step."""
    if step == UPDATE:
        return plan.clip
    return plan.statistics_clip if step == STATISTICS else plan.evaluation_clip


def _share(plan: PrivacyPlan, step: str) -> float:
    if step == UPDATE:
        return plan.update_share
    if step == STATISTICS:
        return plan.statistics_share
    return plan.watch_share if step == _WATCH else plan.test_share


def is_distributed(plan: PrivacyPlan | None) -> bool:
    """Whether updates are sums of gradients, to which each member adds a share of noise."""
    return plan is not None and plan.noise == "distributed"


def noise_at_sealing(plan: PrivacyPlan | None, step: str) -> bool:
    """Whether noise is added to a member's vector of that step just before it is sealed.

    The steps of local training have theirs already.
    """
    return plan is not None and (step != UPDATE or is_distributed(plan))


def update_values(plan: PrivacyPlan | None, weights: int) -> int:
    """Numbers of an update that mean something.

    The network's weights and, unless it is a sum of gradients, the member's own weight as the last.
    """
    return weights + (not is_distributed(plan))


def vector_length(plan: PrivacyPlan | None, step: str, values: int) -> int:
    """Numbers of a vector as it is sealed: filled up with noise where it would be short of it."""
    return max(values, SMALLEST_VECTOR) if noise_at_sealing(plan, step) else values


def shares_of(plan: PrivacyPlan, *, protection: str, fewest: int) -> int:
    """How many members' noise covers a unit in what is seen of a sum.

    Of all who are in it, where noise is distributed and single vectors stay hidden. Where the
    coordinator may read each member's vector (`clear`), alone or with one member (`ckks`), a
    unit has its own member's share and no other.
    """
    return fewest if is_distributed(plan) and protection in HIDING else 1


def receipt_of(
    plan: PrivacyPlan | None,
    *,
    run: str,
    unit: str,
    protection: str,
    step: str,
    round_index: int,
    fewest: int,
    values: int,
) -> Receipt:
    """The receipt of one release of a run; the same at the node, the coordinator and an auditor.

    Args:
        plan: None for a run without noise.
        run: Its name.
        unit: The contract's.
        protection: Of its sums.
        step: As in the ledger.
        round_index: As in the ledger.
        fewest: Fewest members in the opened sum.
        values: Numbers in it.
    """
    kind: Kind = "evaluation"
    if step in {STATISTICS, UPDATE}:
        kind = "update" if step == UPDATE else "statistics"
    # an organisation has both parts
    apart = plan is None or (plan.parts == "apart" and plan.unit != ORGANISATION)
    part: Cohort = "training" if step in {STATISTICS, UPDATE, _WATCH} else "test"
    cohort: Cohort = part if apart else "all"
    purpose = f"run {run}, {step} of round {round_index}"
    if plan is None:
        return Receipt(
            kind=kind,
            unit=unit,
            cohort=cohort,
            mechanism="none",
            share=0.0,
            clip=0.0,
            sampling="none",
            rate=1.0,
            steps=1,
            shares=1,
            values=values,
            grid=0.0,
            purpose=purpose,
        )
    sampled = step == UPDATE and plan.rate < 1.0
    return Receipt(
        kind=kind,
        unit=plan.unit,
        cohort=cohort,
        mechanism=plan.mechanism,
        share=float(_share(plan, step)),
        clip=float(sensitivity(plan, step)),
        sampling="poisson" if sampled else "none",
        rate=float(plan.rate) if sampled else 1.0,
        steps=plan.steps if step == UPDATE else 1,
        shares=shares_of(plan, protection=protection, fewest=fewest),
        values=values,
        grid=float(plan.grid) if plan.mechanism == "discrete_gaussian" else 0.0,
        purpose=purpose,
    )


def planned_receipts(
    plan: PrivacyPlan | None,
    *,
    run: str,
    unit: str,
    protection: str,
    fewest: int,
    stages: int,
    rounds: int,
) -> list[Receipt]:
    """The receipts of a whole run before it runs; validations as often as they may come.

    Lengths are not known yet; only the discrete sampler's cost depends on them, so they are taken
    as long.
    """
    watches = rounds if plan is None else plan.watches
    steps = [(STATISTICS, stage) for stage in range(stages)]
    steps += [(UPDATE, index) for index in range(1, rounds + 1)]
    steps += [(_WATCH, index) for index in range(1, watches + 1)]
    return [
        receipt_of(
            plan,
            run=run,
            unit=unit,
            protection=protection,
            step=step,
            round_index=index,
            fewest=fewest,
            values=_MANY_VALUES,
        )
        for step, index in (*steps, (_TEST, rounds))
    ]
