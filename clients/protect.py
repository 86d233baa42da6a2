"""What happens to a change of the model before it leaves: clip, weigh, encode, seal."""

import math

import numpy as np
from numpy.typing import NDArray

from clients.spec import UpdateSpec
from clients.statistics import Overview


def weight_of(rows: int, units: int, overview: Overview, update: UpdateSpec) -> float:
    """A member's weight in (0, 1], by `weigh_by`.

    Its rows (or units) in units of `weight_cap` times the members' mean; or the square root of its
    rows so counted; or 1. It travels only inside the sum. A member above the cap counts as if it
    were at it, so no member's size can be read off as the largest weight. Two rounds of which one
    is without a member show its weight as the difference of their sums; with `members` it is 1.

    Args:
        rows: The member's training examples, at least one.
        units: Its devices, policyholders or borrowers among them, at least one.
        overview: Totals over the federation.
        update: Which weight.
    """
    count, total = (units, overview.units) if update.weigh_by == "units" else (rows, overview.rows)
    share = min(count / (update.weight_cap * total / overview.members), 1.0)
    weights = {"rows": share, "units": share, "root_rows": math.sqrt(share), "members": 1.0}
    return weights[update.weigh_by]


def weighted_change(
    before: NDArray[np.float32], after: NDArray[np.float32], weight: float, update: UpdateSpec
) -> NDArray[np.float64]:
    """Clip a change and multiply it by its weight, with the weight as one more coordinate.

    Guarantees, for every input: each coordinate lies in [-clip, clip]; with `clip_l2` the change's
    L2 norm is at most it (before the weight, which is at most 1). A change that is not finite
    becomes all zeros, so that it neither passes unclipped nor spoils the others' sum.

    Args:
        before: Shape (d,), the round's global model.
        after: Shape (d,), the model after local training.
        weight: In (0, 1].
        update: The clip.

    Returns:
        Shape (d + 1,): weight * change, then weight * clip.
    """
    change = after.astype(np.float64) - before.astype(np.float64)
    if not np.isfinite(change).all():
        change = np.zeros_like(change)
    if update.clip_l2 is not None:
        norm = float(np.linalg.norm(change))
        if norm > update.clip_l2:
            change *= update.clip_l2 / norm
    change = np.clip(change, -update.clip, update.clip)
    return np.append(change * weight, weight * update.clip)
