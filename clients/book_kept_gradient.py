"""Clipped sums from one forward and one backward pass, for layers that have a rule."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clients.clipped_sum import ClippedSum, scales
from clients.gradient_parts import Place, parts_of
from clients.gradient_rules import Call, Form, Rule, rule_of
from clients.scratch import Scratch
from clients.unit_batch import RowLoss, places_of, units_of
from clients.unit_independence import refuse_mixing


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
        self._scratch = Scratch(self._device)
        self._layers: list[tuple[nn.Module, Rule, Place]] = []
        for layer in network.modules():
            own = dict(layer.named_parameters(recurse=False))
            rule = rule_of(layer)
            weight, bias = (places.get(own[n]) if n in own else None for n in ("weight", "bias"))
            if rule is not None and not weight is bias is None:
                self._layers.append((layer, rule, Place(weight, bias)))
        self._examined = 0

    def clipped_sum(
        self, inputs: Sequence[Tensor], row_loss: RowLoss, weights: Tensor, *, clip: float
    ) -> ClippedSum:
        """See `clients.unit_gradient.UnitGradient`."""
        units = units_of(inputs, weights, clip)
        total = torch.zeros(self._length, dtype=torch.float64, device=self._device)
        if units == 0:
            return ClippedSum(total=total, norms=total.new_zeros(0))
        if self._examined < min(units, 2):
            layers = [layer for layer, _, _ in self._layers]
            refuse_mixing(self._network, layers, inputs, row_loss, units)
            self._examined = min(units, 2)
        calls = self._passes(inputs, row_loss, weights)
        self._scratch.reset()
        forms: list[tuple[Form, Place]] = []
        for layer, rule, place in self._layers:
            own = calls.get(layer)
            if own is not None:
                forms.append((rule(layer, own, self._scratch), place))
        parts = parts_of(forms, units, self._scratch)
        squares = total.new_zeros(units)
        for part in parts:
            squares += part.squares()
        norms = squares.sqrt_()
        factors = scales(norms.cpu().numpy(), clip)
        on_device = torch.from_numpy(factors).to(self._device)
        if not factors.all():
            # zero times what is not finite would not be zero
            parts = [part.keep(on_device > 0) for part in parts]
        for part in parts:
            part.write(on_device, total)
        return ClippedSum(total=total, norms=norms)

    def _passes(
        self, inputs: Sequence[Tensor], row_loss: RowLoss, weights: Tensor
    ) -> dict[nn.Module, list[Call]]:
        """Each layer's inputs, and the gradients of its outputs."""
        record: list[tuple[nn.Module, Tensor]] = []
        outs: list[Tensor] = []

        def note(layer: nn.Module, arguments: tuple[Tensor, ...], out: Tensor) -> None:
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
        calls: dict[nn.Module, list[Call]] = {}
        for (layer, a), g in zip(record, grads, strict=True):
            if g is not None:
                calls.setdefault(layer, []).append((a, g))
        return calls
