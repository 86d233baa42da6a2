"""Clipped sums from one forward and one backward pass, for layers that have a rule."""

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.unit_gradient.batch import RowLoss, places_of, units_of
from clients.unit_gradient.clipped_sum import ClippedSum, scales
from clients.unit_gradient.independence import refuse_mixing
from clients.unit_gradient.parts import Place, numbers_held, part_of
from clients.unit_gradient.rules import Array, Call, Rule, rule_of
from clients.unit_gradient.workspace import Scratch
from privacy.errors import RefusedError

Calls: TypeAlias = dict[nn.Module, list[Call]]
Floats: TypeAlias = NDArray[np.float64]

# Numbers that parts may take at a time, so that they stay in a processor's caches.
NEAR: Final = 1 << 20


def has_rules(network: nn.Module) -> bool:
    """Whether each trained parameter is the weight or bias of exactly one layer with a rule."""
    left = set(places_of(network))
    for layer in network.modules():
        own = {p for p in layer.parameters(recurse=False) if p.requires_grad}
        if own and (rule_of(layer) is None or not own <= left):
            return False
        left -= own
    return not left


class BookKept:
    """One backward pass up to the layers' outputs; the rest follows from the layers' rules.

    Not for several threads at once: its memory is used again in every step.
    """

    def __init__(self, network: nn.Module) -> None:
        places = places_of(network)
        self._network = network
        self._length = max(place.stop for place in places.values())
        self._device = next(iter(places)).device
        self._scratch = Scratch()
        self._layers: list[tuple[nn.Module, Rule, Place]] = []
        for layer in network.modules():
            own = dict(layer.named_parameters(recurse=False))
            rule = rule_of(layer)
            weight, bias = (places.get(own[n]) if n in own else None for n in ("weight", "bias"))
            if rule is not None and not weight is bias is None:
                self._layers.append((layer, rule, Place(weight, bias)))
        self._sizes: dict[int, int] = {}  # units at a time, by rows of each
        self._examined = 0

    def clipped_sum(
        self, inputs: Sequence[Tensor], row_loss: RowLoss, weights: Tensor, *, clip: float
    ) -> ClippedSum:
        """See `clients.unit_gradient.UnitGradient`."""
        units = units_of(inputs, weights, clip)
        if weights.numel() == 0:
            return self._result(np.zeros(self._length), np.zeros(units))
        if self._examined < min(units, 2):
            layers = [layer for layer, _, _ in self._layers]
            refuse_mixing(self._network, layers, inputs, row_loss, units)
            self._examined = min(units, 2)
        calls = self._passes(inputs, row_loss, weights)
        size, rows = self._units_at_a_time(calls, weights), weights.shape[1]
        if size == units:
            return self._result(*self._clipped(calls, units, clip))
        total, norms = np.zeros(self._length), np.zeros(units)
        for start in range(0, units, size):
            stop = min(start + size, units)
            own = slice(start * rows, stop * rows)
            of_block = {layer: [(a[own], g[own]) for a, g in calls[layer]] for layer in calls}
            more, norms[start:stop] = self._clipped(of_block, stop - start, clip)
            total += more
        return self._result(total, norms)

    def _clipped(self, calls: Calls, units: int, clip: float) -> tuple[Floats, Floats]:
        """The sum of some units' clipped gradients, and their norms."""
        self._scratch.reset()
        total = np.zeros(self._length)
        with np.errstate(all="ignore"):  # what is not finite is found by its norm
            parts = [
                part_of(rule(layer, calls[layer], self._scratch), place, units, self._scratch)
                for layer, rule, place in self._layers
                if layer in calls
            ]
            norms: Floats = np.sqrt(sum((part.squares() for part in parts), np.zeros(units)))
            factors = scales(norms, clip)
            if not factors.all():
                # zero times what is not finite would not be zero
                parts = [part.keep(factors > 0) for part in parts]
            for part in parts:
                part.write(factors, total)
        return total, norms

    def _units_at_a_time(self, calls: Calls, weights: Tensor) -> int:
        """So many units that their parts are near the processor, in blocks of like size."""
        units, rows = weights.shape
        if rows not in self._sizes:
            held = 1
            self._scratch.reset()
            for layer, rule, _ in self._layers:
                first = [(a[:rows], g[:rows]) for a, g in calls.get(layer, [])]
                if first:
                    held += numbers_held(rule(layer, first, self._scratch), 1)
            self._sizes[rows] = max(1, NEAR // held)
        blocks = math.ceil(units / self._sizes[rows])
        return math.ceil(units / blocks)

    def _result(self, total: Floats, norms: Floats) -> ClippedSum:
        return ClippedSum(
            total=torch.from_numpy(total).to(self._device),
            norms=torch.from_numpy(norms).to(self._device),
        )

    def _passes(self, inputs: Sequence[Tensor], row_loss: RowLoss, weights: Tensor) -> Calls:
        """Each layer's inputs, and the gradients of its outputs."""
        record: list[tuple[nn.Module, Tensor]] = []
        outs: list[Tensor] = []

        def note(layer: nn.Module, arguments: tuple[Tensor, ...], out: Tensor) -> None:
            if not arguments:
                raise RefusedError("A layer is called by keyword; give its input without a name.")
            record.append((layer, arguments[0].detach()))
            outs.append(out)

        hooks = [layer.register_forward_hook(note) for layer, _, _ in self._layers]
        try:
            with torch.enable_grad():
                losses = row_loss(self._network(*inputs))
        finally:
            for hook in hooks:
                hook.remove()
        direction = weights.reshape(-1).to(losses.dtype)
        grads = torch.autograd.grad(losses, outs, direction, allow_unused=True)
        calls: Calls = {}
        for (layer, a), g in zip(record, grads, strict=True):
            if g is not None:
                calls.setdefault(layer, []).append((_on_host(a), _on_host(g)))
        return calls


def _on_host(tensor: Tensor) -> Array:
    if tensor.dtype in {torch.bfloat16, torch.float16}:
        tensor = tensor.float()
    return tensor.cpu().numpy()
