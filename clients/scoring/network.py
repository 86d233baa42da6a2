"""A network's outputs and their gradient, from its weights and numpy alone.

What `clients.model.Network` computes, computed again: `tests/unit/clients/test_scoring_network.py`
holds it to 1e-5 against torch over random networks. Nothing here knows torch, and numbers are
float64, so that what is added up along a path does not drift.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from clients.examples import InputShape

Floats = NDArray[np.float64]
Activation = Literal["relu", "silu", "gelu", "tanh"]
KERNEL: Final = 5  # readings that a convolution looks at; it steps on by STRIDE
STRIDE: Final = 2
_PADDING: Final = KERNEL // 2
_erf: Final = np.frompyfunc(math.erf, 1, 1)  # numpy has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How a network is built: what a manifest's `model` says of it, in plain values.

    Attributes:
        kind: `mlp`, or `cnn` along time.
        hidden: Widths of the hidden layers, or channels of the convolutions.
        activation: Between layers.
        embedding: Width of an embedded category.
        one_hot_up_to: Categories of at most so many levels are one-hot.
        linear: Whether there is a direct linear path.
    """

    kind: Literal["mlp", "cnn"]
    hidden: tuple[int, ...]
    activation: Activation
    embedding: int
    one_hot_up_to: int
    linear: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One layer: `weight` (out, in), of a convolution (out, in, KERNEL), and `bias` (out,)."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoringNetwork:
    """A trained network; `read_network` makes one.

    Inputs are a flat table of shape (n, width), laid out by `lay_out`: numbers, one-hot levels,
    embedded levels; and a series of shape (n, t, s), with t and s of 0 where the kind is `mlp`.

    Attributes:
        shape: What it takes in.
        design: How it is built.
        tables: Of the embedded categories, shape (levels, embedding) each.
        convolutions: Of a `cnn`.
        body: Hidden layers.
        linear: Shape (width of the body's inputs,); None without a linear path.
        head: Shape (last,).
        bias: Of the output.
    """

    shape: InputShape
    design: Design
    tables: tuple[Floats, ...]
    convolutions: tuple[Layer, ...]
    body: tuple[Layer, ...]
    linear: Floats | None
    head: Floats
    bias: float

    @property
    def width(self) -> int:
        """Columns of the flat table."""
        return self.shape.numeric + sum(_width(self.design, count) for count in self.shape.levels)

    @property
    def places(self) -> tuple[slice, ...]:
        """Where each category lies in the flat table, in the order of `InputShape.levels`."""
        design, at = self.design, self.shape.numeric
        found: dict[int, slice] = {}
        for one_hot in (True, False):
            for index, count in enumerate(self.shape.levels):
                if (count <= design.one_hot_up_to) == one_hot:
                    found[index] = slice(at, at + _width(design, count))
                    at += _width(design, count)
        return tuple(found[index] for index in range(len(self.shape.levels)))

    def level_inputs(self, index: int) -> Floats:
        """What each level of a category looks like in the flat table; (levels, its columns)."""
        count = self.shape.levels[index]
        if count <= self.design.one_hot_up_to:
            return np.eye(count)
        embedded = [i for i, n in enumerate(self.shape.levels) if n > self.design.one_hot_up_to]
        return self.tables[embedded.index(index)]

    def lay_out(self, numeric: NDArray[np.floating], codes: NDArray[np.int64]) -> Floats:
        """The flat table of `Examples.numeric` (n, p) and `Examples.codes` (n, k)."""
        flat = np.empty((len(numeric), self.width))
        flat[:, : self.shape.numeric] = numeric
        for index, place in enumerate(self.places):
            flat[:, place] = self.level_inputs(index)[codes[:, index]]
        return flat

    def output(self, flat: Floats, series: Floats) -> Floats:
        """Shape (n,): a standardised value, a logit or a log rate."""
        return self._forward(flat, series).output

    def gradient(self, flat: Floats, series: Floats) -> tuple[Floats, Floats, Floats]:
        """Outputs (n,), and how they move with `flat` (n, width) and with `series` (n, t, s).

        Where a `relu` has its kink the gradient is that of its left side, 0, as torch has it.
        """
        made = self._forward(flat, series)
        moving = np.broadcast_to(self.head, (len(flat), self.head.size))
        for layer, before in zip(reversed(self.body), reversed(made.body), strict=True):
            moving = (moving * _SLOPES[self.design.activation](before)) @ layer.weight
        if self.linear is not None:
            moving = moving + self.linear
        channels = self.convolutions[-1].weight.shape[0] if self.convolutions else 0
        along = np.zeros_like(series)
        if self.convolutions:
            along = self._back_along(moving[:, :channels], made.convolutions, series.shape[1])
        return made.output, np.ascontiguousarray(moving[:, channels:]), along

    def _forward(self, flat: Floats, series: Floats) -> "_Made":
        act = _ACTIVATIONS[self.design.activation]
        before: list[Floats] = []
        inputs = flat
        if self.convolutions:
            along = series.transpose(0, 2, 1)
            for layer in self.convolutions:
                before.append(_convolve(along, layer))
                along = act(before[-1])
            inputs = np.concatenate([along.mean(axis=2), flat], axis=1)
        hidden, held = inputs, list[Floats]()
        for layer in self.body:
            held.append(hidden @ layer.weight.T + layer.bias)
            hidden = act(held[-1])
        output = hidden @ self.head + self.bias
        if self.linear is not None:
            output = output + inputs @ self.linear
        return _Made(output=output, convolutions=tuple(before), body=tuple(held))

    def _back_along(self, moving: Floats, before: Sequence[Floats], steps: int) -> Floats:
        """From the pooled channels (n, c) back to the series (n, t, s)."""
        length = before[-1].shape[2]
        along = np.repeat(moving[:, :, None] / length, length, axis=2)
        lengths = [steps, *(one.shape[2] for one in before[:-1])]
        for layer, held, reach in zip(
            reversed(self.convolutions), reversed(before), reversed(lengths), strict=True
        ):
            inner = along * _SLOPES[self.design.activation](held)
            along = _convolve_back(inner, layer, reach)
        return along.transpose(0, 2, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Made:
    """What one pass leaves: outputs, and what stood before each activation."""

    output: Floats
    convolutions: tuple[Floats, ...]
    body: tuple[Floats, ...]


def read_network(vector: NDArray[np.floating], design: Design, shape: InputShape) -> ScoringNetwork:
    """Lay a flat vector of weights out as the network that it is of.

    Args:
        vector: Shape (d,), in the order of `clients.model.to_vector`.
        design: How the network is built.
        shape: What it takes in.

    Raises:
        ValueError: The length is not the network's.
    """
    rest = _Weights(np.asarray(vector, dtype=np.float64))
    tables = tuple(
        rest.take(count, design.embedding) for count in shape.levels if count > design.one_hot_up_to
    )
    width = shape.numeric + sum(_width(design, count) for count in shape.levels)
    hidden = design.hidden
    convolutions: list[Layer] = []
    if design.kind == "cnn":
        last = shape.sensors
        for channels in design.hidden:
            convolutions.append(
                Layer(weight=rest.take(channels, last, KERNEL), bias=rest.take(channels))
            )
            last = channels
        width, hidden = last + shape.numeric, design.hidden[-1:]
    body: list[Layer] = []
    last = width
    for size in hidden:
        body.append(Layer(weight=rest.take(size, last), bias=rest.take(size)))
        last = size
    linear = rest.take(1, width)[0] if design.linear else None
    head, bias = rest.take(1, last)[0], float(rest.take(1)[0])
    rest.require_empty()
    return ScoringNetwork(
        shape=shape,
        design=design,
        tables=tables,
        convolutions=tuple(convolutions),
        body=tuple(body),
        linear=linear,
        head=head,
        bias=bias,
    )


@dataclass(slots=True)
class _Weights:
    """A vector that is taken from its start."""

    vector: Floats
    at: int = 0

    def take(self, *shape: int) -> Floats:
        count = math.prod(shape)
        part = self.vector[self.at : self.at + count]
        if part.size != count:
            raise ValueError(f"{self.vector.size} weights are too few for this network")
        self.at += count
        return part.reshape(shape).copy()

    def require_empty(self) -> None:
        if self.at != self.vector.size:
            raise ValueError(f"expected {self.at} weights, not {self.vector.size}")


def _width(design: Design, levels: int) -> int:
    return levels if levels <= design.one_hot_up_to else design.embedding


def _convolve(along: Floats, layer: Layer) -> Floats:
    """(n, channels in, t) -> (n, channels out, ceil(t / STRIDE))."""
    padded = np.pad(along, ((0, 0), (0, 0), (_PADDING, _PADDING)))
    views = sliding_window_view(padded, KERNEL, axis=2)[:, :, ::STRIDE]
    made = np.tensordot(views, layer.weight, axes=([1, 3], [1, 2]))
    return np.asarray(made.transpose(0, 2, 1) + layer.bias[:, None])


def _convolve_back(inner: Floats, layer: Layer, reach: int) -> Floats:
    """How what came before a convolution moves it: (n, channels out, u) -> (n, channels in, t)."""
    rows, _, length = inner.shape
    spread = np.tensordot(inner, layer.weight, axes=([1], [0]))  # (n, u, channels in, KERNEL)
    padded = np.zeros((rows, layer.weight.shape[1], reach + 2 * _PADDING))
    for offset in range(KERNEL):
        stop = offset + STRIDE * (length - 1) + 1
        padded[:, :, offset:stop:STRIDE] += spread[:, :, :, offset].transpose(0, 2, 1)
    return padded[:, :, _PADDING : _PADDING + reach]


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _normal(x: Floats) -> Floats:
    """The normal distribution function."""
    return 0.5 * (1.0 + np.asarray(_erf(x / math.sqrt(2.0)), dtype=np.float64))


def _silu_slope(x: Floats) -> Floats:
    share = _sigmoid(x)
    return np.asarray(share * (1.0 + x * (1.0 - share)))


def _gelu_slope(x: Floats) -> Floats:
    return np.asarray(_normal(x) + x * np.exp(-0.5 * np.square(x)) / math.sqrt(2.0 * math.pi))


_ACTIVATIONS: Final[Mapping[Activation, Callable[[Floats], Floats]]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x * _normal(x),
    "tanh": np.tanh,
}
_SLOPES: Final[Mapping[Activation, Callable[[Floats], Floats]]] = {
    "relu": lambda x: (x > 0.0).astype(np.float64),
    "silu": _silu_slope,
    "gelu": _gelu_slope,
    "tanh": lambda x: 1.0 - np.square(np.tanh(x)),
}
