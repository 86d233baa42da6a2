"""What the noise of a run really hides, measured: an attack on canaries that nobody's rows are in.

A proof says what noise should hide; this finds out whether the code that runs adds that noise. To
the vector of a run, unused coordinates are appended. Each is the place of one canary, a unit whose
clipped gradient is the clip in that coordinate and zero elsewhere: no unit can show more. A coin
decides whether the canary is among the data. Then it is sampled, summed, given noise, rounded and
opened by the code of a run, and the adversary of the plan says from the opened sums which canaries
took part, as well as anybody can. Coordinates do not touch each other, so one run of this is as
many independent attacks as it has canaries. (The white-box audit of Nasr et al. 2023, arXiv
2302.07956, with Dirac canaries, many in one run.)

It audits noise, sampling, rounding and accounting. It does not see how real rows are clipped, or
what leaves a run elsewhere.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.accounting.event import Event, event_of
from privacy.accounting.pld import has_loss, loss, reported
from privacy.errors import RefusedError
from privacy.fixed_point import FixedPoint
from privacy.ledger.entry import UPDATE
from privacy.mechanism import gradient_layout, noised
from privacy.noise import gaussian
from privacy.plan import PrivacyPlan, is_distributed, receipt_of
from privacy.randomness import Entropy
from privacy.sampling import poisson
from privacy.secure_sum.schemes import scheme_of

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SURE: Final = 1 - 1e-6
"""Confidence with which a claim is refuted: what is right is refused once in a million audits."""

CANARIES_MIN: Final = 100
CANARIES_MAX: Final = 10_000
# The part of absent canaries that is taken for present, at most: few for the bound without an
# assumption, more for the others, and as many as leave out hardly any present one.
_FALSE_POSITIVES: Final = (0.001, 0.005, 0.02, 0.1, 0.3, 0.6)
# Of one value of one member in one step, on a busy core; an estimate is enough.
_SECONDS: Final = {"gaussian": 1.2e-7, "discrete_gaussian": 8e-6}
_HALVINGS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an audit found, beside what was claimed. Epsilons are at the plan's delta.

    Attributes:
        epsilon_claimed: Proven for exactly the steps that were audited, by PLD or RDP; against the
            adversary of the plan, who knows all noise but that of the honest members.
        delta: The plan's.
        epsilon_lower: The mechanism that ran has at least this epsilon, at `confidence`. From exact
            (Clopper-Pearson) bounds on the attack's errors alone, so it rests on no assumption.
        epsilon_lower_gaussian: The same, if errors trade off as those of one Gaussian release do
            (GDP; Nasr et al. 2023). Sharper, as many sampled steps come close to that.
        confidence: Of these two, each by itself.
        epsilon_refuted: The same as the greater of the two, at the confidence `SURE`.
        rate_beyond: By how much the attack's true-positive rate surely (`SURE`) exceeds what is
            proven at its false-positive rate; above 0 it refutes the claim without an assumption.
            None where the claim has no loss distribution.
        multiplier_claimed: Noise of the honest members together, in units of the clip.
        multiplier: The same, measured where no canary was.
        multiplier_interval: Around it, at `SURE`.
        rate_claimed: Chance of a unit to be in a step.
        rate: Measured.
        rate_interval: Around it, at `SURE`.
        canaries: How many.
        steps: How many.
    """

    epsilon_claimed: float
    delta: float
    epsilon_lower: float
    epsilon_lower_gaussian: float
    confidence: float
    epsilon_refuted: float
    rate_beyond: float | None
    multiplier_claimed: float
    multiplier: float
    multiplier_interval: tuple[float, float]
    rate_claimed: float
    rate: float
    rate_interval: tuple[float, float]
    canaries: int
    steps: int

    def to_json(self) -> dict[str, object]:
        """As it stands in a report."""
        body = asdict(self)
        for name in ("multiplier_interval", "rate_interval"):
            body[name] = list(body[name])
        return body

    def require(self) -> None:
        """Return if nothing that was measured contradicts the claim.

        A mechanism that is as claimed is refused in fewer than 4 of a million audits: noise, rate
        and the attack's errors have a chance of 1 - `SURE` each. The Gaussian assumption adds none:
        on the curve of sampled Gaussian steps it gives no more than the claim (see the tests).

        Raises:
            RefusedError: Something does; the sentence says what, with the numbers.
        """
        faults = []
        if self.multiplier_interval[1] < self.multiplier_claimed:
            faults.append(
                f"the noise is {self.multiplier:.4g} clips where {self.multiplier_claimed:.4g} "
                "are claimed"
            )
        if self.rate_interval[0] > self.rate_claimed:
            faults.append(
                f"units are in a step with chance {self.rate:.4g} where {self.rate_claimed:.4g} "
                "is claimed"
            )
        if self.epsilon_refuted > self.epsilon_claimed:
            faults.append(
                f"epsilon is at least {self.epsilon_refuted:.3g} where {self.epsilon_claimed:.3g} "
                "is claimed"
            )
        if self.rate_beyond is not None and self.rate_beyond > 0:
            faults.append("an attack finds more canaries than is possible with the claimed noise")
        if faults:
            raise RefusedError(
                f"The audit of the noise contradicts the privacy plan: {'; '.join(faults)}. "
                "Release nothing of this run, and count it as if it had no noise."
            )


def audit(
    plan: PrivacyPlan,
    *,
    steps: int,
    fewest: int,
    entropy: Entropy,
    canaries: int = CANARIES_MAX,
    confidence: float = 0.95,
    layout: FixedPoint | None = None,
) -> Finding:
    """Attack `steps` steps of a run's updates, in as many independent places as there are canaries.

    Args:
        plan: Of the run.
        steps: Steps of a member in the whole run: rounds times the plan's steps.
        fewest: Members whose noise an opened sum surely has (`privacy.plan.shares_of`); `local`
            noise does not depend on it.
        entropy: Of coins, sampling, noise and rounding.
        canaries: See `canaries_within` for how many fit a time.
        confidence: Of the lower bounds.
        layout: How the run writes updates; None for the shortest that is fine enough. `local`
            noise is in a member's own steps, before anything is written.

    Returns:
        Call its `require`.

    Raises:
        ValueError: A count is too small, or `confidence` is not in (0, 1).
        InputError: dp-accounting is not installed.
    """
    if canaries < CANARIES_MIN or steps < 1 or fewest < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"need {canaries=} >= {CANARIES_MIN}, {steps=}, {fewest=} >= 1, {confidence=} in (0, 1)"
        )
    event = _event(plan, steps=steps, fewest=fewest, values=canaries)
    honest = _honest(plan, fewest)
    present = np.zeros(canaries, dtype=np.bool_)
    present[poisson(canaries, 0.5, entropy)] = True
    score = np.zeros(canaries)
    tally = _Tally()
    variance = honest * plan.update_share**2
    for taken, opened in _steps(
        plan, present, steps=steps, fewest=fewest, entropy=entropy, layout=layout
    ):
        score += _log_likelihood(opened, plan.rate, variance)
        tally.add(opened, taken, present)
    claimed = reported([event], plan.delta)
    errors = _errors(score[present], score[~present], confidence)
    surely = _errors(score[present], score[~present], SURE)
    return Finding(
        epsilon_claimed=claimed.epsilon,
        delta=plan.delta,
        epsilon_lower=_epsilon(errors, plan.delta),
        epsilon_lower_gaussian=_epsilon_gaussian(errors, plan.delta),
        confidence=confidence,
        epsilon_refuted=max(_epsilon(surely, plan.delta), _epsilon_gaussian(surely, plan.delta)),
        rate_beyond=_beyond(surely, event),
        multiplier_claimed=math.sqrt(variance),
        multiplier=tally.multiplier,
        multiplier_interval=tally.multiplier_interval(SURE),
        rate_claimed=plan.rate,
        rate=tally.rate,
        rate_interval=tally.rate_interval(SURE),
        canaries=canaries,
        steps=steps,
    )


def canaries_within(seconds: float, plan: PrivacyPlan, *, steps: int, fewest: int) -> int:
    """Return how many canaries an audit can have to end in about `seconds`, on one core.

    At least `CANARIES_MIN`, which may take longer, and at most `CANARIES_MAX`.
    """
    values = seconds / _SECONDS[plan.mechanism] / (steps * _honest(plan, fewest))
    return max(CANARIES_MIN, min(CANARIES_MAX, int(values)))


def _honest(plan: PrivacyPlan, fewest: int) -> int:
    """Members whose noise the plan's adversary does not know; as `event_of` counts them."""
    return max(1, fewest - plan.colluders) if is_distributed(plan) else 1


def _event(plan: PrivacyPlan, *, steps: int, fewest: int, values: int) -> Event:
    receipt = receipt_of(
        plan,
        run="audit",
        unit=plan.unit,
        protection="masked",  # what else it is, is in `fewest`
        step=UPDATE,
        round_index=1,
        fewest=fewest,
        values=values,
    )
    return replace(event_of(receipt, colluders=plan.colluders), steps=steps)


def _steps(
    plan: PrivacyPlan,
    present: Flags,
    *,
    steps: int,
    fewest: int,
    entropy: Entropy,
    layout: FixedPoint | None,
) -> Iterator[tuple[Flags, Floats]]:
    """Run the steps: which canaries were drawn, and what is opened, in units of the clip.

    The noise of those who collude is known to the adversary; it is left out, as if subtracted.
    """
    written = layout
    if written is None and is_distributed(plan):
        written = gradient_layout(plan, fewest, scheme_of("masked"))
    for _ in range(steps):
        drawn = np.zeros(present.size, dtype=np.bool_)
        drawn[poisson(present.size, plan.rate, entropy)] = True
        own = np.where(drawn & present, plan.clip, 0.0)
        if is_distributed(plan) and written is not None:
            opened = _opened(plan, own, _honest(plan, fewest), entropy=entropy, layout=written)
        else:
            # as clients.private_training adds it to a step of its own
            opened = own + gaussian(own.size, plan.update_share * plan.clip, entropy)
        yield drawn, opened / plan.clip


def _opened(
    plan: PrivacyPlan, own: Floats, honest: int, *, entropy: Entropy, layout: FixedPoint
) -> Floats:
    """Sum the honest members' vectors as a run does; the canaries are one member's units."""
    total = np.zeros(layout.words(own.size), dtype=np.uint64)
    for member in range(honest):
        values = own if member == 0 else np.zeros_like(own)
        shared = noised(values, plan=plan, step=UPDATE, limit=layout.clip, entropy=entropy)
        total += layout.encode(shared, entropy)
    return layout.decode_sum(total, own.size, honest)


def _log_likelihood(opened: Floats, rate: float, variance: float) -> Floats:
    """How much likelier a value is with the canary among the data than without; exact.

    Of N(0, variance) against the mixture of it and N(1, variance) with weights 1 - rate and rate.
    """
    shifted = (2 * opened - 1) / (2 * variance)
    if rate == 1:
        return shifted
    return np.logaddexp(math.log1p(-rate), math.log(rate) + shifted)


class _Tally:
    """Sums for the measured noise and rate."""

    def __init__(self) -> None:
        self._values = self._places = self._drawn = 0
        self._squares = 0.0

    def add(self, opened: Floats, drawn: Flags, present: Flags) -> None:
        free = opened[~(drawn & present)]
        self._values += free.size
        self._squares += float(free @ free)
        self._places += drawn.size
        self._drawn += int(drawn.sum())

    @property
    def multiplier(self) -> float:
        return math.sqrt(self._squares / self._values) if self._values else math.nan

    @property
    def rate(self) -> float:
        return self._drawn / self._places

    def multiplier_interval(self, confidence: float) -> tuple[float, float]:
        """The usual interval of a variance, from chi-squared; the mean is known to be 0."""
        from scipy.stats import chi2

        tail = (1 - confidence) / 2
        if not self._values:
            return 0.0, math.inf
        low, high = (chi2.ppf(part, self._values) for part in (1 - tail, tail))
        return math.sqrt(self._squares / low), math.sqrt(self._squares / high)

    def rate_interval(self, confidence: float) -> tuple[float, float]:
        tail = (1 - confidence) / 2
        missed = self._places - self._drawn
        return 1 - _at_most(missed, self._places, tail), _at_most(self._drawn, self._places, tail)


def _at_most(count: int, of: int, tail: float) -> float:
    """Upper bound on the chance of what came `count` times (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    return 1.0 if count == of else float(beta.ppf(1 - tail, count + 1, of - count))


def _errors(present: Floats, absent: Floats, confidence: float) -> list[tuple[float, float]]:
    """Bound the attack's two errors, at several thresholds and together at `confidence`.

    A threshold is a fixed rank among the absent canaries' scores. The chance that another absent
    one is above the r-th largest is Beta(r, n - r + 1), whose upper quantile is that of Clopper and
    Pearson for r - 1 of n; and with the threshold given, the present ones fall below it
    independently.

    Returns:
        Upper bounds (false-positive rate, false-negative rate).
    """
    tail = (1 - confidence) / (2 * len(_FALSE_POSITIVES))
    if not present.size or not absent.size:
        return [(1.0, 1.0)]
    ordered = np.sort(absent)[::-1]
    bounds = []
    for part in _FALSE_POSITIVES:
        rank = min(absent.size - 1, int(part * absent.size))
        missed = int((present <= ordered[rank]).sum())
        bounds.append((_at_most(rank, absent.size, tail), _at_most(missed, present.size, tail)))
    return bounds


def _epsilon(errors: Sequence[tuple[float, float]], delta: float) -> float:
    """Least epsilon with which such errors are possible (Kairouz, Oh, Viswanath 2015, th. 2.1)."""
    found = [0.0]
    for one, other in (*errors, *((b, a) for a, b in errors)):
        if 1 - delta - other > one:
            found.append(math.log((1 - delta - other) / one))
    return max(found)


def _epsilon_gaussian(errors: Sequence[tuple[float, float]], delta: float) -> float:
    """Epsilon at `delta` of the Gaussian release whose errors are on the same curve.

    Dong, Roth, Su 2022 (arXiv 1905.02383), definition 2.6 and corollary 2.13. Rounded downward.
    """
    from scipy.special import log_ndtr, ndtri

    mu = max(float(ndtri(1 - one) - ndtri(other)) for one, other in errors)
    if not mu > 0:
        return 0.0

    def delta_at(epsilon: float) -> float:
        lost = log_ndtr(-epsilon / mu - mu / 2) + epsilon
        kept = log_ndtr(-epsilon / mu + mu / 2)
        return math.exp(kept) - math.exp(lost)

    return _root(delta_at, delta, high=mu * mu / 2 + 40 * mu)


def _root(falling: Callable[[float], float], level: float, *, high: float) -> float:
    """Greatest argument found, from 0, at which `falling` is still above `level`."""
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > level else (low, middle)
    return low


def _beyond(errors: Sequence[tuple[float, float]], event: Event) -> float | None:
    if not has_loss([event]):
        return None
    proven = loss([event])
    gaps = [1 - other - proven.true_positive_rate(one) for one, other in errors if one < 1]
    return max(gaps, default=-1.0)
