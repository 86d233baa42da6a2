"""A batch laid out unit by unit, and where its gradient's numbers go."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor, nn

RowLoss: TypeAlias = Callable[[Tensor], Tensor]
"""The network's output to one loss a row, shape (rows,)."""


def units_of(inputs: Sequence[Tensor], weights: Tensor, clip: float) -> int:
    """How many units a batch has.

    Args:
        inputs: The network's, each with rows first; row u * K + k is row k of unit u.
        weights: Shape (units, K).
        clip: What each unit's gradient is held to.

    Raises:
        ValueError: The shapes do not fit together, or `clip` is not positive and finite.
    """
    units, of_each = weights.shape  # a ValueError unless there are two dimensions
    if not 0.0 < clip < math.inf:
        raise ValueError(f"need {clip=} in (0, inf)")
    rows = units * of_each
    if any(x.shape[0] != rows for x in inputs):
        raise ValueError(f"need {rows} rows in every input, not {[x.shape[0] for x in inputs]}")
    return units


def places_of(network: nn.Module) -> dict[nn.Parameter, slice]:
    """Where each trained parameter is in the flat sum, in the order of `parameters()`."""
    places: dict[nn.Parameter, slice] = {}
    start = 0
    for p in network.parameters():
        if p.requires_grad:
            places[p] = slice(start, start + p.numel())
            start += p.numel()
    if not places:
        raise ValueError("the network has no trained parameters")
    return places
