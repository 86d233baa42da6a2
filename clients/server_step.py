"""Server steps, which every member takes alike: state and mean change in, next state out."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clients.spec import ServerStep

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ServerState:
    """Where a run stands.

    Attributes:
        model: Shape (d,), the common model.
        first: Shape (d,), running mean of changes; zeros where unused.
        second: Shape (d,), running mean of squared changes; zeros where unused.
        round: Rounds taken.
    """

    model: Floats
    first: Floats
    second: Floats
    round: int = 0


def initial_state(model: NDArray[np.float32]) -> ServerState:
    """Before the first round."""
    zeros = np.zeros(model.shape)
    return ServerState(model.astype(np.float64), zeros, zeros)


def step(state: ServerState, mean_change: Floats, settings: ServerStep) -> ServerState:
    """Take one server step.

    Args:
        state: Before the step.
        mean_change: Shape (d,), finite: the weighted mean of the members' changes.
        settings: Which optimiser.

    Raises:
        ValueError: The shapes differ, or the change is not finite.
    """
    if mean_change.shape != state.model.shape or not np.isfinite(mean_change).all():
        raise ValueError("the mean change must be finite and of the model's shape")
    rate, beta = settings.learning_rate, settings.momentum
    after = replace(state, round=state.round + 1)
    if settings.kind == "fedavg":
        return replace(after, model=state.model + rate * mean_change)
    if settings.kind == "fedavgm":
        first = beta * state.first + mean_change
        return replace(after, model=state.model + rate * first, first=first)
    first = beta * state.first + (1 - beta) * mean_change
    second = settings.second_momentum * state.second + (1 - settings.second_momentum) * np.square(
        mean_change
    )
    move = rate * first / (np.sqrt(second) + settings.adaptivity)
    return replace(after, model=state.model + move, first=first, second=second)


def mean_of_last(models: Iterable[NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    """Mean of the last `count` models: less noise than any single one of them."""
    last = deque(models, maxlen=count)
    mean = np.mean(np.stack(last).astype(np.float64), axis=0)
    return np.asarray(mean, dtype=np.float32)
