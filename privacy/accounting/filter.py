"""A cap that holds whatever is decided on the way: the Renyi filter at one fixed order.

Terms are fixed before the first release. From then on a release is admitted only where the sum of
all charges, its own included, stays within the capacity of that one order. Then all that was ever
admitted is (epsilon, delta)-private together, also when each release was chosen after seeing the
results of those before (Feldman and Zrnic 2021, arXiv 2008.11193), and when several run side by
side (Haney et al. 2023, arXiv 2309.05901). The order must not follow from what was released, which
is why it stands in the terms. Functions here are pure: who keeps the charges decides about time.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from privacy.accounting.event import Event, merged
from privacy.accounting.rdp import added, capacity, epsilon_at, renyi
from privacy.errors import RefusedError

_GROWTH_MAX = 1e6
_GROWTH_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Terms:
    """What a member promises its units.

    Attributes:
        epsilon: The cap, finite and above 0.
        delta: The probability with which the cap may fail, in (0, 1).
        order: The Renyi order at which all charges are made, from 2 to 512.

    Raises:
        InputError: that order cannot hold that cap; `rdp.best_order` finds one that does.
        ValueError: a value is out of its range.
    """

    epsilon: float
    delta: float
    order: int

    def __post_init__(self) -> None:
        capacity(self.epsilon, self.delta, self.order)

    @property
    def capacity(self) -> float:
        """Return the most that all charges may be together, above 0."""
        return capacity(self.epsilon, self.delta, self.order)


def charge(terms: Terms, event: Event) -> float:
    """Return what `event` costs under these terms, rounded upward; infinity without noise."""
    return renyi(event, terms.order)


def room(terms: Terms, charges: Iterable[float]) -> float:
    """Return how much may still be charged after `charges`, rounded downward; 0 if nothing.

    Raises:
        ValueError: a charge is negative or no number.
    """
    left = terms.capacity - added(_checked(charges))
    return max(0.0, math.nextafter(left, -math.inf))


def spent(terms: Terms, charges: Iterable[float]) -> float:
    """Return the epsilon that `charges` prove at the order of the terms; 0 if there are none.

    The conversion from Renyi divergence has a part that does not depend on what was spent, so the
    first release shows more than its share.

    Raises:
        ValueError: a charge is negative or no number.
    """
    total = added(_checked(charges))
    return epsilon_at(total, terms.order, terms.delta) if total else 0.0


def admit(terms: Terms, charges: Iterable[float], events: Sequence[Event]) -> None:
    """Return if all `events` may be released after `charges`; charge them before they are.

    Raises:
        RefusedError: they do not fit. The sentence has the cap, what is spent, what it would be,
            how many of them would still fit, and how much more noise would make all of them fit.
        ValueError: a charge is negative or no number.
    """
    before = _checked(charges)
    fits = fitting(terms, before, events)
    if fits == len(events):
        return
    after = spent(terms, [*before, *(charge(terms, event) for event in events)])
    raise RefusedError(
        f"the privacy budget does not hold this: the cap is epsilon {terms.epsilon:.4g} at delta "
        f"{terms.delta:g} (order {terms.order}), {spent(terms, before):.4g} is spent, and with "
        f"this it would be {after:.4g}; {_advice(fits, len(events), terms, before, events)}"
    )


def fitting(terms: Terms, charges: Iterable[float], events: Sequence[Event]) -> int:
    """Return how many of `events`, from the first on, may still be released after `charges`.

    Raises:
        ValueError: a charge is negative or no number.
    """
    before = _checked(charges)
    asked = [charge(terms, event) for event in events]
    fits, fails = 0, len(asked) + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if added([*before, *asked[:middle]]) <= terms.capacity:
            fits = middle
        else:
            fails = middle
    return fits


def growth(terms: Terms, charges: Iterable[float], events: Sequence[Event]) -> float:
    """Return the factor, >= 1, by which the noise of `events` must grow so that all of them fit.

    It is rounded upward (by at most 0.1 %); infinity where no factor up to a million helps, as for
    releases without noise. What a sum of discrete Gaussians costs in excess is taken as it is,
    though more noise makes it smaller.

    Raises:
        ValueError: a charge is negative or no number.
    """
    before = added(_checked(charges))
    parts = merged(events)

    def holds(factor: float) -> bool:
        scaled = (replace(part, multiplier=part.multiplier * factor) for part in parts)
        return added([before, *(charge(terms, part) for part in scaled)]) <= terms.capacity

    if holds(1.0):
        return 1.0
    low, high = 1.0, _GROWTH_MAX
    if not holds(high):
        return math.inf
    while high > low * (1 + _GROWTH_TOLERANCE):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _checked(charges: Iterable[float]) -> list[float]:
    listed = list(charges)
    if not all(one >= 0 for one in listed):
        raise ValueError("a charge is negative or no number")
    return listed


def _advice(
    fits: int, asked: int, terms: Terms, charges: Sequence[float], events: Sequence[Event]
) -> str:
    factor = growth(terms, charges, events)
    part = f"{fits} of {asked} would still fit" if fits else "none of it would fit"
    if factor == math.inf:
        return f"{part}, and no amount of noise makes room for all of it"
    return f"{part}, or all of it with {math.ceil(factor * 100) / 100:.2f} times the noise"
