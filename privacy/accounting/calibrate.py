"""The smallest noise for a wanted epsilon."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from privacy.accounting import rdp
from privacy.accounting.event import Event
from privacy.accounting.pld import proven
from privacy.errors import RefusedError

MULTIPLIER_MIN = 0.02
MULTIPLIER_MAX = 1e6
TOLERANCE = 1e-3
_COARSE = 1e-2
_STRIDE = 0.05
_GUESSES = 4

_Cost: TypeAlias = Callable[[float], float]


def smallest_multiplier(
    make_events: Callable[[float], Sequence[Event]], *, epsilon: float, delta: float
) -> float:
    """Return the smallest multiplier with which all events together stay within `epsilon`.

    The epsilon of the result, as `pld.reported` gives it, is at most the wanted one, always; a
    multiplier smaller by 0.1 % would exceed it (but the result is never below `MULTIPLIER_MIN`).

    Args:
        make_events: Gives everything that will be released, for one multiplier. More noise must
            never cost more.
        epsilon: The wanted bound, finite and above 0.
        delta: Its failure probability, in (0, 1).

    Raises:
        RefusedError: no noise is enough, as something else that is released costs too much.
        InputError: dp-accounting is needed and not installed.
        ValueError: `epsilon` or `delta` is out of its range.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"need a finite {epsilon=} > 0")

    def by_rdp(multiplier: float) -> float:
        return rdp.epsilon(make_events(multiplier), delta)[0]

    def tight(multiplier: float) -> float:
        return proven(make_events(multiplier), delta)

    if tight(MULTIPLIER_MAX) > epsilon:
        raise RefusedError(
            f"no amount of noise is proven to keep this within epsilon {epsilon:g} at delta "
            f"{delta:g}: ask for a larger epsilon, or release less of what has other noise"
        )
    # RDP is quick and a little above the truth, so it says where to look.
    return _bracketed(tight, epsilon, start=_coarse(by_rdp, epsilon))


def _coarse(cost: _Cost, epsilon: float) -> float:
    """Return about the smallest multiplier by `cost`; `MULTIPLIER_MAX` where none is enough."""
    low, high = MULTIPLIER_MIN, MULTIPLIER_MAX
    while high > low * (1 + _COARSE):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    return high


def _bracketed(cost: _Cost, epsilon: float, *, start: float) -> float:
    """Return a multiplier that holds, while one smaller by the tolerance does not."""
    known: dict[float, float] = {}

    def holds(multiplier: float) -> bool:
        known[multiplier] = cost(multiplier)
        return known[multiplier] <= epsilon

    low = high = start
    stride = 1 + _STRIDE
    if holds(start):
        while holds(low := max(MULTIPLIER_MIN, low / stride)):
            high = low
            if low == MULTIPLIER_MIN:
                return MULTIPLIER_MIN
            stride *= stride
    else:
        while not holds(high := min(MULTIPLIER_MAX, high * stride)):
            low = high
            stride *= stride
    nearly = 1 + 0.9 * TOLERANCE
    guesses = 0
    while high > low * (1 + TOLERANCE):
        guesses += 1
        guess = math.sqrt(low * high)
        # Where the cost jumps (PLD gives way to RDP) guesses creep, and halving does not.
        if guesses <= _GUESSES:
            guess = _crossing((low, known[low]), (high, known[high]), epsilon)
        # Next to an end the guess steps over the crossing, so that the bracket closes.
        middle = min(max(guess, low * nearly), high / nearly)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _crossing(left: tuple[float, float], right: tuple[float, float], epsilon: float) -> float:
    """Return where the line through two points in logarithms meets `epsilon`; else the middle."""
    (low, above), (high, below) = left, right
    middle = math.sqrt(low * high)
    if not (math.isfinite(above) and 0 < below < above):
        return middle
    part = math.log(above / epsilon) / math.log(above / below)
    return low * math.pow(high / low, part)
