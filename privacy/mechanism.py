"""One member's noise on what it contributes to a sum.

The sum of a member's units is held to a box, coordinate by coordinate, which moves no two vectors
further apart (so the sensitivity stays); then noise is added. The box leaves so much room below the
number format's own limit that noise does not reach it but with a probability that
docs/noise-and-rounding.md counts in.
"""

import math
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InputError
from privacy.fixed_point import FixedPoint, packed
from privacy.noise import TAIL, discrete_gaussian, gaussian
from privacy.plan import SMALLEST_VECTOR, PrivacyPlan, deviation, sensitivity
from privacy.randomness import Entropy
from privacy.secure_sum.schemes import Scheme

Floats = NDArray[np.float64]
_UNITS_MAX: Final = 2.0**22  # of one member; more count as so many
_SHARE_STEPS: Final = 1000.0  # of the grid in one deviation, at least: docs, section 6
_ROOM_CLIPS: Final = 1024.0  # what a member's gradients may add up to in one coordinate


def update_range(plan: PrivacyPlan) -> float:
    """Limit of the number format for sums of gradients: a power of two times the clip."""
    room = _ROOM_CLIPS + TAIL * plan.update_share
    return plan.clip * 2.0 ** math.ceil(math.log2(room))


def update_precision(plan: PrivacyPlan) -> float:
    """Largest step of rounding for sums of gradients, in units of `update_range`."""
    return _grid(plan, plan.update_share) * plan.clip / update_range(plan)


def gradient_layout(plan: PrivacyPlan, parties: int, scheme: Scheme) -> FixedPoint:
    """How a member's sum of gradients is written, in a run with distributed noise.

    Raises:
        InputError: The scheme has no packing on whose grid so small a share of noise is still
            far above the rounding.
    """
    limit, precision = update_range(plan), update_precision(plan)
    try:
        return packed(parties, limit, precision, scheme.packings(parties))
    except InputError:
        if scheme.encrypted:
            raise InputError(
                f"{scheme.name} sums of {parties} members cannot be rounded as finely as so small "
                "a share of noise needs; use protection.sum: masked, or a smaller epsilon."
            ) from None
    return _one_field(parties, limit, 1 / precision)


def sum_layout(plan: PrivacyPlan, step: str, parties: int) -> FixedPoint:
    """How a member's statistics or evaluation are written, in a run with noise.

    Room for so many units as a member may have, and a grid far below the noise, but no finer than
    need be: what float64 leaves of the difference to real numbers grows with the ratio of both.
    """
    unit = sensitivity(plan, step)
    steps = _UNITS_MAX / _grid(plan, deviation(plan, step) / unit)
    return _one_field(parties, _UNITS_MAX * unit, steps)


def _grid(plan: PrivacyPlan, share: float) -> float:
    """The coarsest step of rounding, in units of the sensitivity: below a share by a thousand."""
    finest = 2.0 ** math.floor(math.log2(min(share, 1.0) / _SHARE_STEPS))
    return min(finest, plan.grid) if plan.mechanism == "discrete_gaussian" else finest


def _one_field(parties: int, limit: float, steps: float) -> FixedPoint:
    bits = math.ceil(math.log2(2 * steps)) + parties.bit_length()
    try:
        return FixedPoint(parties=parties, fields=1, field_bits=bits, clip=limit)
    except ValueError:
        raise InputError(
            f"no number format holds {parties} members' sums and so small a share of noise; use a "
            "smaller epsilon."
        ) from None


def noised(
    values: Floats, *, plan: PrivacyPlan, step: str, limit: float, entropy: Entropy
) -> Floats:
    """Return a member's vector with its noise, filled up to `SMALLEST_VECTOR` numbers.

    Guarantee: for two inputs that differ by one unit, and the plan's sensitivity for this step, the
    outputs are as far apart as the Gaussian mechanism with the plan's share allows; no coordinate's
    value before the noise can be told from its being held to the box.

    Args:
        values: Shape (d,), finite.
        plan: Mechanism and shares.
        step: As in the ledger.
        limit: Of the number format, in the values' own unit.
        entropy: Of the noise.

    Returns:
        Shape (max(d, SMALLEST_VECTOR),); what was filled up is noise around 0.

    Raises:
        ValueError: A value is not finite, or the format has no room for the noise.
    """
    spread = deviation(plan, step)
    room = limit - TAIL * spread
    if not np.isfinite(values).all() or room <= 0:
        raise ValueError("the values are not finite, or the format has no room for the noise")
    held = np.zeros(max(values.size, SMALLEST_VECTOR))
    held[: values.size] = np.clip(values, -room, room)
    if plan.mechanism == "gaussian":
        return held + gaussian(held.size, spread, entropy)
    grid = plan.grid * sensitivity(plan, step)
    drawn = discrete_gaussian(held.size, Fraction(spread) / Fraction(grid), entropy)
    # integers of at most 53 bits times a power of two: exact, also after the format's own rounding
    return np.asarray((np.rint(held / grid) + drawn) * grid, dtype=np.float64)
