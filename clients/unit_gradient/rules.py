"""Rules of layers: how a layer's inputs and the gradient of its outputs make its weights' gradient.

A layer's outputs carry all that the loss says about its weights. Each rule brings one kind of layer
into one of three forms; `clients.unit_gradient.parts` knows what is done with them. There are rules
for linear layers, convolutions in time, embeddings, layer and group normalisation, and none for
recurrent layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from torch import nn

from clients.unit_gradient.workspace import Scratch

Array: TypeAlias = NDArray[Any]

Call: TypeAlias = tuple[Array, Array]
"""A layer's input and the gradient of its output, rows first."""


@dataclass(frozen=True, slots=True)
class Outer:
    """The weight's gradient is the sum over positions of g a^T, the bias's that of g.

    Attributes:
        calls: (a, g), for each call of the layer: a (rows, ...) with `inputs` numbers for each
            position, g (rows, ...) with `outputs`.
        inputs: As many as a row of the weight has.
        outputs: Rows of the weight.
        order: (outputs, kernel, channels), where a has the kernel's places before the channels
            and the weight has the channels before the places.
    """

    calls: Sequence[Call]
    inputs: int
    outputs: int
    order: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Diagonal:
    """The weight's gradient is the sum over positions of g * a, number by number; the bias's of g.

    Attributes:
        calls: (a, g), both with `width` numbers for each position, row by row.
        width: Numbers in the weight.
    """

    calls: Sequence[Call]
    width: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """The gradient of a table's row is the sum of g over the positions that looked it up.

    Attributes:
        calls: (codes, g): int64 (rows, ...) and (rows, ..., width).
        levels: Rows of the table.
        fixed: A row that is never trained.
    """

    calls: Sequence[Call]
    levels: int
    fixed: int | None


Form: TypeAlias = Outer | Diagonal | Lookup

Rule: TypeAlias = Callable[..., Form]
"""`rule(layer, calls, scratch)` for the one kind of layer that the rule is for."""


def rule_of(layer: nn.Module) -> Rule | None:
    """The rule of one layer, or None if there is none for it or for how it is set up."""
    if isinstance(layer, nn.Conv1d) and (layer.groups != 1 or layer.padding_mode != "zeros"):
        return None
    return _RULES.get(type(layer))  # a subclass may compute something else


def _linear(layer: nn.Linear, calls: Sequence[Call], _: Scratch) -> Outer:
    """Any leading dimensions: all but the first are positions of a row."""
    return Outer(calls, layer.in_features, layer.out_features)


def _convolution(layer: nn.Conv1d, calls: Sequence[Call], scratch: Scratch) -> Outer:
    """A linear layer over patches."""
    (kernel,) = layer.kernel_size
    order = (layer.out_channels, kernel, layer.in_channels)
    pairs = [(_patches(layer, a, scratch), g.transpose(0, 2, 1)) for a, g in calls]
    return Outer(pairs, kernel * layer.in_channels, layer.out_channels, order)


def _patches(layer: nn.Conv1d, rows: Array, scratch: Scratch) -> Array:
    """(rows, channels, steps) to a view (rows, outputs in time, kernel, channels).

    Time comes before channels, so that a patch is one run of memory.
    """
    (kernel,), (stride,), (dilation,) = layer.kernel_size, layer.stride, layer.dilation
    count, channels, steps = rows.shape
    reach = dilation * (kernel - 1)
    if layer.padding == "same":
        before, after = reach // 2, reach - reach // 2
    else:
        before = after = 0 if isinstance(layer.padding, str) else layer.padding[0]
    length = before + steps + after
    padded = scratch.take(rows.dtype, count, length, channels)
    padded[:, :before] = 0.0
    padded[:, before + steps :] = 0.0
    padded[:, before : before + steps] = rows.transpose(0, 2, 1)
    by_row, by_step, by_channel = padded.strides
    return as_strided(
        padded,
        (count, (length - reach - 1) // stride + 1, kernel, channels),
        (by_row, stride * by_step, dilation * by_step, by_channel),
        writeable=False,
    )


def _embedding(layer: nn.Embedding, calls: Sequence[Call], _: Scratch) -> Lookup:
    return Lookup(calls, layer.num_embeddings, layer.padding_idx)


def _layer_norm(layer: nn.LayerNorm, calls: Sequence[Call], _: Scratch) -> Diagonal:
    """Weight and bias act on each normalised number alone."""
    width = int(np.prod(layer.normalized_shape))
    pairs = [(_normal(a.reshape(-1, width), layer.eps), g) for a, g in calls]
    return Diagonal(pairs, width)


def _group_norm(layer: nn.GroupNorm, calls: Sequence[Call], _: Scratch) -> Diagonal:
    """Weight and bias act on a channel's normalised numbers."""
    pairs = []
    for a, g in calls:
        rows, channels = a.shape[:2]
        normal = _normal(a.reshape(rows, layer.num_groups, -1), layer.eps)
        by_channel = (x.reshape(rows, channels, -1).transpose(0, 2, 1) for x in (normal, g))
        pairs.append((next(by_channel), next(by_channel)))
    return Diagonal(pairs, layer.num_channels)


def _normal(values: Array, eps: float) -> NDArray[np.float64]:
    """Numbers along the last axis less their mean, over their deviation."""
    exact = values.astype(np.float64)
    exact -= exact.mean(-1, keepdims=True)
    exact /= np.sqrt(np.square(exact).mean(-1, keepdims=True) + eps)
    return exact


_RULES: Final[dict[type[nn.Module], Rule]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
}
