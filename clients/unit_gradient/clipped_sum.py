"""What a step of private training may learn: a sum in which no unit weighs more than a bound."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Above what float64 usually errs in a norm, far below the 1e-6 that a unit may exceed the clip.
MARGIN: Final = 2.0**-36
# A longer gradient is a fault of the row or of the model, and nothing to learn from.
LONGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedSum:
    """The sum over units of their gradients, each scaled down to L2 norm `clip` where longer.

    Nothing here is private by itself: noise is added to `total` before it leaves the node, and
    `norms` never leave it.

    Attributes:
        total: float64 (d,). In the order of `network.parameters()`, frozen ones left out.
        norms: float64 (units,). L2 norms before clipping; nan, or above `LONGEST`, for a unit
            that counted as zero.
    """

    total: Tensor
    norms: Tensor


def scales(norms: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    """What each unit's gradient is multiplied with, so that its L2 norm is at most `clip`.

    A norm above `clip` is divided by a little more than itself (`MARGIN`): rounding goes towards
    more privacy. A norm that is nan, infinite or above `LONGEST` gives exactly 0.

    Args:
        norms: Shape (units,), >= 0, computed in float64 from the very numbers that are summed.
        clip: Positive and finite.

    Returns:
        Shape (units,), in [0, 1].
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        limits = np.minimum((clip / (1.0 + MARGIN)) / norms, 1.0)
        return np.where(norms <= LONGEST, limits, 0.0)
