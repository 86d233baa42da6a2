"""The model that all members hold alike: each computes it from the opened sums, by itself.

Nobody sends a model, so nobody can send a wrong one. The same sums in the same order give the same
bytes at every member: float64 arithmetic in a fixed order, with operations that IEEE 754 defines.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clients.server_step import ServerState, initial_state, mean_of_last, step
from clients.spec import NodeSpec
from clients.train import learning_rate
from privacy.errors import ProtocolError
from privacy.fixed_point import FixedPoint

Floats = NDArray[np.float64]
SMALLEST_WEIGHT = 1e-3  # of all members together; below it nothing was learnt
FEWEST_GROUPS = 3  # a median of two is their mean


@dataclass(frozen=True, slots=True)
class CommonModel:
    """Where the common model stands; a frozen value.

    Attributes:
        state: Of the server step; its model is what members train from.
        recent: The last models, the newest last.
        best: The lowest validation loss so far, None before the first.
        good: The state and recent models to which a bad round goes back.
        undone: Rounds that were undone.
    """

    state: ServerState
    recent: tuple[NDArray[np.float32], ...]
    best: float | None = None
    good: "tuple[ServerState, tuple[NDArray[np.float32], ...]] | None" = None
    undone: int = 0

    @property
    def current(self) -> NDArray[np.float32]:
        """What members train from."""
        return self.recent[-1]

    @property
    def average(self) -> NDArray[np.float32]:
        """What is evaluated, and in the end released: the mean of the recent models."""
        return mean_of_last(self.recent, len(self.recent))


def start(initial: NDArray[np.float32]) -> CommonModel:
    """Before the first round."""
    state = initial_state(initial)
    return CommonModel(state=state, recent=(initial,), good=(state, (initial,)))


def after_round(
    common: CommonModel,
    mean: Floats,
    spec: NodeSpec,
    *,
    scheduled: bool = False,
    hold: Callable[[Floats], Floats] | None = None,
) -> CommonModel:
    """Take the server step with the members' mean change.

    Args:
        common: Before the step.
        mean: Shape (d,), the mean change, or for sums of gradients the mean step downhill.
        spec: Its server step.
        scheduled: Whether the schedule of `training` applies to the server's rate, because no
            member takes a step of its own.
        hold: Brings a stepped model back to what its contract promises, by the same arithmetic at
            every member (`clients.monotone_hold`); None where the contract promises nothing.
    """
    server = spec.server
    if scheduled:
        rate = learning_rate(spec.training, common.state.round + 1) / spec.training.learning_rate
        server = server.model_copy(update={"learning_rate": server.learning_rate * rate})
    state = step(common.state, mean, server)
    model = _finite(state.model)
    if hold is not None:
        state = replace(state, model=hold(state.model))
        model = _finite(state.model)
    recent = (*common.recent, model)[-spec.average_last :]
    return CommonModel(state, recent, common.best, common.good, common.undone)


def _finite(model: Floats) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows is refused in the next line
        rounded = model.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ProtocolError("The common model is no longer finite; the round is not used.")
    return rounded


def after_watch(common: CommonModel, loss: float, spec: NodeSpec) -> tuple[CommonModel, bool]:
    """Keep what the last rounds made, or undo them where the validation loss says so.

    Args:
        common: The common model.
        loss: The headline metric of the members' validation rows, as something to lower; a loss
            that is not a number counts as worse than any.
        spec: Its `rollback`.

    Returns:
        The model to go on with, and whether it was kept.
    """
    if spec.rollback is None:
        return common, True
    limit = None if common.best is None else common.best + spec.rollback * abs(common.best)
    bad = not np.isfinite(loss) or (limit is not None and loss > limit)
    if bad and common.good is not None:
        state, recent = common.good
        return CommonModel(state, recent, common.best, common.good, common.undone + 1), False
    best = loss if common.best is None else min(loss, common.best)
    return CommonModel(common.state, common.recent, best, (common.state, common.recent)), True


def mean_change(
    sums: Sequence[tuple[Floats, int]], spec: NodeSpec, layout: FixedPoint, groups: int
) -> Floats:
    """The members' mean change: of one sum, or the median over the groups' means.

    The median is taken coordinate by coordinate (Yin et al. 2018, ICML), so fewer than half of
    the groups, whatever is in their sums, move no coordinate beyond the range of the others.

    Args:
        sums: Of each group that is there: its opened sum, shape (d + 1,), and its members.
        spec: Its clips.
        layout: How updates were written.
        groups: How many groups there are; 1 for one sum of all.

    Returns:
        Shape (d,), every coordinate within the clip.

    Raises:
        ProtocolError: A sum holds what no honest members' could (weight, range or norm), or too
            few groups are there for a median.
    """
    if groups == 1:
        return _group_mean(*sums[0], spec, layout)
    means: list[Floats] = []
    for total, members in sums:
        # what no honest members could have made counts as a group that is not there
        with suppress(ProtocolError):
            means.append(_group_mean(total, members, spec, layout))
    if len(means) < max(FEWEST_GROUPS, groups // 2 + 1):
        raise ProtocolError(f"Too few of {groups} groups could be summed; the round is not used.")
    return np.median(np.stack(means), axis=0)


def _group_mean(total: Floats, members: int, spec: NodeSpec, layout: FixedPoint) -> Floats:
    clip = spec.update.clip
    error = layout.worst_error(members)
    weight = float(total[-1]) / clip
    if not SMALLEST_WEIGHT < weight <= members + error / clip:
        raise ProtocolError("The members' weights are out of range; the round is not used.")
    mean: Floats = total[:-1] / weight
    slack = error / weight
    if np.abs(mean).max() > clip + slack:
        raise ProtocolError("The opened mean is beyond every member's clip; the round is not used.")
    longest = spec.update.clip_l2
    if longest is not None:
        # roundings are independent with mean zero; their worst case would allow sqrt(d) steps
        norm = float(np.linalg.norm(mean))
        if norm > longest + slack * np.sqrt(mean.size):
            raise ProtocolError(
                "The opened mean is longer than any member's change may be; the round is not used."
            )
    return np.clip(mean, -clip, clip)
