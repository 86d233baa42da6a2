"""What was really released, counted tightly: privacy loss distributions (PLD).

This reports; `filter` enforces. A PLD figure is an upper bound for events whose parameters were all
fixed in advance; where later ones were chosen after seeing earlier results, only the filter's bound
is proven (Regehr et al. 2026, arXiv 2602.15815). Both are printed.

Google's dp-accounting does the numbers, with losses rounded up to a grid ("connect the dots",
Doroshenko et al. 2022, arXiv 2207.04380). It is imported where it is needed, so importing this
module costs nothing. No accountant by a central limit theorem is used: they can state less than the
truth.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, Self, TypeAlias

from privacy.accounting import rdp
from privacy.accounting.event import Event, merged
from privacy.errors import InputError

INTERVAL = 1e-3
"""Grid of losses in nats; within 0.013 epsilon of a grid ten times as fine (see the tests)."""
REPORTED_FALSE_POSITIVE_RATE = 0.01

# Distributions reach as far as the losses; beyond these they would fill the memory, and the
# figures have no meaning left. RDP serves there.
_EPSILON_MAX = 1000.0
_MULTIPLIER_MIN = 0.02
_DELTA_OF_SIZE = 1e-5
# Rounding of Fourier transforms, in total probability: for each step, and for the last one.
_NOISE_PER_STEP = 1e-15
_NOISE = 1e-12
_SEARCH_STEPS = 80
_LOWEST_EPSILON = -40.0

Method: TypeAlias = Literal["pld", "rdp"]


class _Distribution(Protocol):
    """What is used of dp-accounting's class."""

    def get_delta_for_epsilon(self, epsilon: float) -> float: ...
    def get_epsilon_for_delta(self, delta: float) -> float: ...
    def compose(self, privacy_loss_distribution: Self) -> Self: ...
    def self_compose(self, num_times: int) -> Self: ...


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The privacy loss of some events together, in both directions of add/remove.

    Attributes:
        distribution: dp-accounting's distribution; None where the loss is infinite.
        noise: Probability by which rounding in its computation may have changed it; every figure
            below is given that away.
    """

    distribution: _Distribution | None
    noise: float

    def epsilon(self, delta: float) -> float:
        """Return an upper bound on the smallest epsilon that holds with `delta`.

        Returns:
            Infinity where none is proven, also where `delta` is not above the rounding's noise.

        Raises:
            ValueError: not 0 < delta < 1.
        """
        if not 0 < delta < 1:
            raise ValueError(f"need 0 < delta < 1, not {delta}")
        if self.distribution is None or delta <= self.noise:
            return math.inf
        return float(self.distribution.get_epsilon_for_delta(delta - self.noise))

    def delta(self, epsilon: float) -> float:
        """Return an upper bound on the smallest delta that holds with `epsilon`, at most 1.

        A negative epsilon is allowed; it bounds how sure anybody can be of a unit's absence.

        Raises:
            ValueError: `epsilon` is no finite number.
        """
        if not math.isfinite(epsilon):
            raise ValueError(f"need a finite {epsilon=}")
        if self.distribution is None:
            return 1.0
        found = float(self.distribution.get_delta_for_epsilon(epsilon))
        return min(1.0, max(0.0, found) + self.noise)

    def true_positive_rate(self, false_positive_rate: float) -> float:
        """Return what no membership attack's true-positive rate can exceed, at most 1.

        An attack says of a unit whether it took part. With (epsilon, delta) proven in both
        directions, a true-positive rate is at most e^epsilon * false_positive_rate + delta
        (Kairouz, Oh, Viswanath 2015, arXiv 1311.0776, theorem 2.1). The whole curve of pairs is
        the trade-off function (Dong, Roth, Su 2022, arXiv 1905.02383, proposition 2.12), so the
        best attack on the claimed mechanism reaches the smallest of these bounds. Any epsilon
        gives a bound, so the search may only be too careful, never wrong.

        Raises:
            ValueError: not 0 < false_positive_rate < 1.
        """
        if not 0 < false_positive_rate < 1:
            raise ValueError(f"need 0 < false_positive_rate < 1, not {false_positive_rate}")

        def bound(epsilon: float) -> float:
            return math.exp(epsilon) * false_positive_rate + self.delta(epsilon)

        # Convex in e^epsilon; beyond `high` the first term alone exceeds 1.
        low, high = _LOWEST_EPSILON, -math.log(false_positive_rate)
        for _ in range(_SEARCH_STEPS):
            third = (high - low) / 3
            if bound(low + third) <= bound(high - third):
                high -= third
            else:
                low += third
        return min(1.0, bound(low), bound(high), bound(0.0))


@dataclass(frozen=True, slots=True)
class Report:
    """What is printed about some events together.

    Attributes:
        epsilon: Upper bound, rounded upward; infinity for an exact release.
        method: How it was found.
        true_positive_rate: What no membership attack can exceed at 1 % false positives; None
            where only RDP was possible.
    """

    epsilon: float
    method: Method
    true_positive_rate: float | None


def reported(events: Iterable[Event], delta: float) -> Report:
    """Return the figures of `events` together, by PLD or by RDP, whichever proves less.

    RDP is the smaller one only where there is no distribution (`has_loss`), or where the steps are
    so many and so small that the grid of losses is coarse for them. No events cost 0. An exact
    release costs infinity.

    Raises:
        InputError: dp-accounting is needed and not installed.
        ValueError: not 0 < delta < 1.
    """
    parts = merged(events)
    by_rdp, _ = rdp.epsilon(parts, delta)
    if not parts:
        return Report(0.0, "pld", REPORTED_FALSE_POSITIVE_RATE)
    if not all(part.bounded for part in parts):
        return Report(math.inf, "rdp", 1.0)
    if not has_loss(parts):
        return Report(by_rdp, "rdp", None)
    found = loss(parts)
    by_pld = found.epsilon(delta)
    rate = found.true_positive_rate(REPORTED_FALSE_POSITIVE_RATE)
    return Report(by_pld, "pld", rate) if by_pld <= by_rdp else Report(by_rdp, "rdp", rate)


def proven(events: Iterable[Event], delta: float) -> float:
    """Return the epsilon that `reported` gives, without the rest.

    Raises:
        InputError: dp-accounting is needed and not installed.
        ValueError: not 0 < delta < 1.
    """
    parts = merged(events)
    by_rdp, _ = rdp.epsilon(parts, delta)
    if not parts or not has_loss(parts):
        return by_rdp
    return min(by_rdp, loss(parts).epsilon(delta))


def has_loss(events: Iterable[Event]) -> bool:
    """Whether `loss` can count these events; where it cannot, RDP does.

    Not countable are discrete noise (no loss distribution is proven for sums of discrete Gaussians
    under sampling), and losses so large that their distributions do not fit into memory.
    """
    parts = merged(events)
    if any(part.discrete or part.multiplier < _MULTIPLIER_MIN for part in parts):
        return False
    return rdp.epsilon(parts, _DELTA_OF_SIZE)[0] <= _EPSILON_MAX


def loss(events: Iterable[Event]) -> Loss:
    """Return the loss of `events` together, the same for any order of them.

    Raises:
        InputError: dp-accounting is not installed.
        ValueError: `has_loss` is False for them, and none of them is an exact release.
    """
    parts = merged(events)
    if not all(part.bounded for part in parts):
        return Loss(None, 0.0)
    if not has_loss(parts):
        raise ValueError("these events have no loss distribution here; count them by RDP")
    return _composed(_joined(parts))


def _joined(parts: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return the same loss with all unsampled Gaussians as one.

    Gaussians with shifts of 1 / m_i each are, together, one Gaussian with the shift
    sqrt(sum 1 / m_i^2): exact, quicker than composing them, and without a grid's error for each.
    """
    plain = [part for part in parts if part.rate == 1]
    if not plain:
        return parts
    shift = math.sqrt(math.fsum(part.steps / part.multiplier**2 for part in plain))
    # Rounded downward: less noise than there is.
    one = Event(math.nextafter(1 / math.nextafter(shift, math.inf), 0.0))
    return (one, *(part for part in parts if part.rate < 1))


@lru_cache(maxsize=8)
def _composed(parts: tuple[Event, ...]) -> Loss:
    try:
        from dp_accounting.pld import privacy_loss_distribution as pld
    except ImportError:
        raise InputError(
            "counting privacy losses needs dp-accounting: pip install 'tacit-fl[node]'"
        ) from None
    whole: _Distribution = pld.identity(value_discretization_interval=INTERVAL)
    for part in parts:
        one: _Distribution = pld.from_gaussian_mechanism(
            part.multiplier,
            value_discretization_interval=INTERVAL,
            sampling_prob=part.rate,
        )
        whole = whole.compose(one.self_compose(part.steps))
    steps = sum(part.steps for part in parts)
    return Loss(whole, _NOISE + _NOISE_PER_STEP * steps)
