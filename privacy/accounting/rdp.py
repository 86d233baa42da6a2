"""Renyi divergences of events, and epsilon from them; with the standard library alone.

Renyi divergences of one order add up under composition, also when later events are chosen after
seeing the results of earlier ones (Mironov 2017, arXiv 1702.07476; `filter` for the adaptive case).
Only integer orders are used: there the formulas below are finite sums, without numerical
integration. Every figure is rounded upward.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

from privacy.accounting.event import Event, merged
from privacy.errors import InputError

ORDER_MIN = 2
ORDER_MAX = 512
ORDERS: tuple[int, ...] = (*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 512)
"""Orders over which `epsilon` takes the best: dense where that matters."""

# Far above the rounding of the operations below, far below what anybody can see.
_SLACK = 1e-12
_ULPS = 2.0**-50  # of the largest term in a sum of logarithms: four units in the last place
_SMALLEST = math.ulp(0.0)
_EXPM1_IS_EXP = 40.0  # beyond, exp(x) - 1 and exp(x) are one float


def renyi(event: Event, order: int) -> float:
    """Return an upper bound on the Renyi divergence at `order` between any two neighbours.

    It holds in both directions (a unit added, a unit removed).

    Without sampling, one application costs at most e(a) = a / (2 m^2) + excess at order a, where m
    is the multiplier (Mironov 2017, Proposition 7; for discrete noise see `event`).

    With Poisson sampling at rate q, let P be the output's law without the unit and Q with it, each
    unit drawn by itself, so that the sampled mechanism has M = (1 - q) P + q Q. For integer a

        E_P[(M / P)^a] = sum_k C(a, k) (1 - q)^(a - k) q^k E_P[(Q / P)^k],
        E_P[(Q / P)^k] <= exp((k - 1) e(k)),

    and D_a(M | P) is its logarithm over a - 1 (Mironov, Talwar, Zhang 2019, arXiv 1908.10530,
    section 3.3; all terms are positive, so upper bounds may be put in). For the continuous
    Gaussian this is the exact value.

    The other direction D_a(P | M) is no larger wherever a map of the outputs onto themselves that
    is its own inverse swaps P and Q (same paper, section 3.1). Symmetric noise around two points
    has one, the reflection at their midpoint; it maps integers to integers, so sums of discrete
    Gaussians have it as well. So the discrete case needs no generic amplification bound with its
    factor 3 (Zhu and Wang 2019). For noise without a density the argument is: with r = Q / P,
    m = 1 - q + q r, n = 1 - q + q / r, pairing each output with its mirror image turns
    E_P[m^a] - E_P[m^(1 - a)] into half the mean under P of g(m) + r g(n), g(x) = x^a - x^(1 - a).
    Take r >= 1 (r < 1 is its mirror). g(x) = 2 sqrt(x) sinh((a - 1/2) ln x), and m n >= 1, so
    ln m >= |ln n|, so sinh(c ln m) / sinh(c |ln n|) grows with c; at c = 1/2 both terms are
    q (r - 1) up to the sign, so for a >= 1 the sum is never negative.

    Returns:
        The bound for all steps together, rounded upward; infinity for an exact release.

    Raises:
        ValueError: `order` is no integer from 2 to 512.
    """
    _check_order(order)
    if not event.bounded:
        return math.inf
    return _up(event.steps * _one_step(event.multiplier, event.rate, event.excess, order))


def epsilon_at(total: float, order: int, delta: float) -> float:
    """Return the epsilon that a Renyi divergence of `total` at `order` proves, with `delta`.

    Canonne, Kamath, Steinke 2020 (arXiv 2004.00010), Proposition 12; not below 0.

    Raises:
        ValueError: `total` is negative, `order` no integer from 2 to 512, or not 0 < delta < 1.
    """
    if not total >= 0:
        raise ValueError(f"need {total=} >= 0")
    extra = _conversion(order, delta)
    return max(0.0, total + extra + _SLACK * (total + abs(extra)))


def epsilon(events: Iterable[Event], delta: float) -> tuple[float, int]:
    """Return the smallest epsilon that any order of `ORDERS` proves for all `events`, and it.

    The parameters of all events must have been fixed before the first of them; where they were
    not, only a bound at one order that was fixed before holds (see `filter`). No events cost 0.

    Raises:
        ValueError: not 0 < delta < 1.
    """
    parts = merged(events)
    if not parts:
        _conversion(ORDERS[0], delta)
        return 0.0, ORDERS[0]
    return min(
        (epsilon_at(added(renyi(part, order) for part in parts), order, delta), order)
        for order in ORDERS
    )


def capacity(epsilon: float, delta: float, order: int) -> float:
    """Return how much Renyi divergence at `order` keeps within `epsilon` at `delta`.

    The inverse of `epsilon_at`, rounded downward: epsilon_at(capacity(..)) <= epsilon.

    Raises:
        InputError: that order cannot hold that cap, whatever is released.
        ValueError: `epsilon` is no finite number above 0, or as for `epsilon_at`.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"need a finite {epsilon=} > 0")
    room = _capacity(epsilon, delta, order)
    if room <= 0:
        raise InputError(
            f"order {order} cannot hold a cap of epsilon {epsilon:g} at delta {delta:g}: "
            f"choose order {best_order(epsilon, delta)}"
        )
    return room


@lru_cache(maxsize=256)
def best_order(epsilon: float, delta: float) -> int:
    """Return the order in 2..512 whose capacity buys the most Gaussian releases.

    A Gaussian release costs order / (2 m^2), so it is the order of the largest capacity / order.

    Raises:
        InputError: no order can hold that cap.
        ValueError: as for `capacity`.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"need a finite {epsilon=} > 0")
    best = max(
        range(ORDER_MIN, ORDER_MAX + 1),
        key=lambda order: _capacity(epsilon, delta, order) / order,
    )
    if _capacity(epsilon, delta, best) <= 0:
        raise InputError(
            f"no order up to {ORDER_MAX} can hold a cap of epsilon {epsilon:g} at "
            f"delta {delta:g}: choose a larger epsilon or delta"
        )
    return best


def added(charges: Iterable[float]) -> float:
    """Return the sum of non-negative charges, rounded upward; the same for any order of them."""
    try:
        total = math.fsum(charges)
    except OverflowError:  # finite charges whose sum no float holds
        return math.inf
    return math.nextafter(total, math.inf) if total else 0.0


@lru_cache(maxsize=1 << 16)
def _one_step(multiplier: float, rate: float, excess: float, order: int) -> float:
    variance = multiplier * multiplier
    if variance == 0:
        return math.inf
    if rate == 1:
        return _up(order / (2 * variance) + excess)
    # The weights C(a, k) (1 - q)^(a - k) q^k add up to 1, so A = 1 + sum w_k (exp(x_k) - 1): all
    # terms are positive, and a tiny A - 1 is not lost beside the 1.
    log_rate, log_rest = math.log(rate), math.log1p(-rate)
    terms = []
    for k, log_choices in enumerate(_log_binomials(order)):
        if k < ORDER_MIN:
            continue  # exp(0) - 1
        x = max((k - 1) * (k / (2 * variance) + excess), _SMALLEST)
        log_gain = x if x > _EXPM1_IS_EXP else math.log(math.expm1(x))
        hit, miss = k * log_rate, (order - k) * log_rest
        # What rounding can have taken away from the sum of these four, given back.
        slack = _ULPS * (log_choices - hit - miss + x)
        terms.append(log_choices + hit + miss + log_gain + slack)
    top = max(terms)
    if top == math.inf:
        return math.inf
    log_sum = top + math.log(math.fsum(math.exp(term - top) for term in terms))
    return _up((max(log_sum, 0.0) + math.log1p(math.exp(-abs(log_sum)))) / (order - 1))


@lru_cache(maxsize=ORDER_MAX)
def _log_binomials(order: int) -> tuple[float, ...]:
    return tuple(math.log(math.comb(order, k)) for k in range(order + 1))


def _conversion(order: int, delta: float) -> float:
    """Return what the conversion at `order` adds to the Renyi divergence."""
    _check_order(order)
    if not 0 < delta < 1:
        raise ValueError(f"need 0 < delta < 1, not {delta}")
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _capacity(epsilon: float, delta: float, order: int) -> float:
    extra = _conversion(order, delta)
    # Three times the slack of `epsilon_at`, which is what there and back can take.
    return epsilon - extra - 3 * _SLACK * (epsilon + abs(extra))


def _check_order(order: int) -> None:
    if type(order) is not int or not ORDER_MIN <= order <= ORDER_MAX:
        raise ValueError(f"need an integer order from {ORDER_MIN} to {ORDER_MAX}, not {order!r}")


def _up(value: float) -> float:
    return math.nextafter(value * (1 + _SLACK), math.inf)
