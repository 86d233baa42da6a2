"""What an adversary sees of one release: a receipt, read under an assumption about who colludes.

Two readings of the same receipt are printed side by side everywhere:

    event_of(receipt, colluders=t)   the coordinator, together with at most t other members
    solo_event_of(receipt)           everybody else: only the member's own noise is left

Whoever colludes subtracts its own noise from the opened sum, and keeps the others'.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from privacy.receipt import Receipt

# From here on the error of one convolution is at most 5 exp(-2 pi^2 g^2); see `_discrete_event`.
_STEPS_PER_DEVIATION_MIN = 0.5


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """`steps` applications of a mechanism that adds symmetric noise to a sum, add/remove.

    Attributes:
        multiplier: Standard deviation of the noise that the adversary does not know, divided by
            the L2 sensitivity; finite, >= 0. 0 is an exact release, whose loss is infinite.
        rate: Each unit takes part with this probability, by itself and in secret; in (0, 1].
        steps: Times that the mechanism is applied, >= 1.
        discrete: The noise is on integers. There is a Renyi bound, and no loss distribution.
        excess: What one application's Renyi divergence may exceed that of the continuous Gaussian
            by, at every order, before sampling; >= 0, 0 where `discrete` is False.

    Raises:
        ValueError: a value is out of its range.
    """

    multiplier: float
    rate: float = 1.0
    steps: int = 1
    discrete: bool = False
    excess: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.multiplier) and self.multiplier >= 0):
            raise ValueError(f"need a finite multiplier >= 0, not {self.multiplier}")
        if not 0 < self.rate <= 1:
            raise ValueError(f"need 0 < rate <= 1, not {self.rate}")
        if isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"need steps >= 1, not {self.steps}")
        if not self.excess >= 0 or (self.excess > 0 and not self.discrete):
            raise ValueError(f"need excess >= 0, and 0 for continuous noise, not {self.excess}")

    @property
    def bounded(self) -> bool:
        """Whether the loss is finite at all."""
        return self.multiplier > 0 and self.excess < math.inf


def event_of(receipt: Receipt, *, colluders: int) -> Event:
    """Return what the coordinator and `colluders` of the members see of a release.

    The opened sum has the noise of at least `receipt.shares` members. One of them is the member
    whose unit is protected, which does not collude; so max(1, shares - colluders) shares are
    unknown to the adversary. More survivors add noise, which is post-processing.

    An exact release (mechanism none) has the multiplier 0: every accountant here gives infinity
    for it, and none fails.

    Raises:
        ValueError: `colluders` is negative.
    """
    if colluders < 0:
        raise ValueError(f"need {colluders=} >= 0")
    honest = max(1, receipt.shares - colluders)
    if receipt.mechanism == "discrete_gaussian":
        return _discrete_event(receipt, honest)
    return Event(receipt.share * math.sqrt(honest), rate=receipt.rate, steps=receipt.steps)


def solo_event_of(receipt: Receipt) -> Event:
    """Return what an adversary sees who knows all noise but that of the unit's own member."""
    return event_of(receipt, colluders=receipt.shares)


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return events of the same cost, in one fixed order, with equal mechanisms added up.

    The result is the same for any order of `events`.
    """
    steps: dict[Event, int] = {}
    for event in events:
        one = replace(event, steps=1)
        steps[one] = steps.get(one, 0) + event.steps
    return tuple(sorted(replace(one, steps=count) for one, count in steps.items()))


def _discrete_event(receipt: Receipt, honest: int) -> Event:
    """Return the event of `honest` discrete Gaussians, each added to a vector on the grid.

    Sensitivity: a member rounds its clipped sum to the grid. With one unit more or less, each
    coordinate's rounding moves by less than one step more than the sum itself (to the nearest, or
    at random with the same coins), so the rounded sums differ by at most
    clip * (1 + sqrt(values) * grid) in L2.

    One share, any s > 0: D_a <= a D^2 / (2 s^2) in grid steps for integer vectors of norm D, that
    is no more than the continuous Gaussian (Canonne, Kamath, Steinke 2020, arXiv 2004.00010).

    Sum of n shares, s >= 1/2 steps: D_a <= a D^2 / (2 n s^2) + t * values for all a >= 1, with
    t = 10 sum_{k=1}^{n-1} exp(-2 pi^2 s^2 k / (k + 1)) (Kairouz, Liu, Steinke 2021,
    arXiv 2102.06387, the first bound of the proposition on sums of discrete Gaussians). In short:
    by Poisson summation the sum of discrete Gaussians of variances v and w is within
    5 exp(-2 pi^2 g^2), g^2 = v w / (v + w) >= 1/8, of one discrete Gaussian of variance v + w, in
    the logarithm of every probability; n - 1 such steps, in each coordinate, in numerator and
    denominator, give t * values; and the remaining ratio is an exponential of a linear function,
    whose mean under the sum is bounded as discrete Gaussians are sub-Gaussian with their own s^2.
    Each of the n - 1 terms is at most exp(-pi^2 s^2), which is what is charged.

    The sum is also the post-processing of one share alone. That reading is taken where it is
    cheaper at order 1; so the result is never worse than one share at any order.
    """
    rounding = 1 + math.sqrt(receipt.values) * receipt.grid
    one = receipt.share / rounding
    alone = Event(one, rate=receipt.rate, steps=receipt.steps, discrete=True)
    in_steps = receipt.share / receipt.grid
    if honest == 1 or in_steps < _STEPS_PER_DEVIATION_MIN:
        return alone
    term = math.exp(-((math.pi * in_steps) ** 2))
    excess = math.nextafter(10 * (honest - 1) * receipt.values * term, math.inf)
    if 1 / (2 * one * one * honest) + excess >= 1 / (2 * one * one):
        return alone
    return replace(alone, multiplier=one * math.sqrt(honest), excess=excess)
