"""Checks that one unit's gradient is its own: no other unit's rows are in it, and nothing is lost.

A bound on each unit's gradient bounds what the unit does to the sum only if nobody else's gradient
depends on that unit.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from clients.unit_gradient.batch import RowLoss
from privacy.errors import RefusedError


def refuse_layers(network: nn.Module) -> None:
    """Refuse layers that cannot be had under unit-level privacy, before anything is computed.

    Raises:
        RefusedError: A layer takes statistics over rows, or keeps such, or hides what it did.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm) or (
            isinstance(layer, _InstanceNorm) and layer.track_running_stats
        ):
            raise RefusedError(
                f"Layer {name or 'network'} takes statistics over a batch, which mixes units and "
                "stays outside the noise; use group or layer normalisation."
            )
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and (
            layer.max_norm is not None or layer.scale_grad_by_freq
        ):
            raise RefusedError(
                f"Layer {name or 'network'} changes its table by what a batch looks up, which "
                "mixes units; build it without max_norm and scale_grad_by_freq."
            )
        if getattr(layer, "inplace", False):
            raise RefusedError(
                f"Layer {name or 'network'} overwrites its input, from which gradients are taken; "
                "build it with inplace=False."
            )


def refuse_mixing(
    network: nn.Module,
    layers: Sequence[nn.Module],
    inputs: Sequence[Tensor],
    row_loss: RowLoss,
    units: int,
) -> None:
    """Run the network and refuse it if its layers' inputs and outputs do not tell all.

    Found are: weights that are used outside of `layers`; layers that are not given rows first, or
    whose tensors are overwritten; buffers that change; outputs of one unit that act on the loss of
    another (a mixing without a gradient is not found). torch's generator is left as it was.

    Args:
        network: In the state in which it will be trained.
        layers: Those from which gradients are taken; each holds its weights.
        inputs: A batch of the network, unit by unit, each unit with as many rows.
        row_loss: The network's output to one loss a row.
        units: Units in the batch.

    Raises:
        RefusedError: See above; one sentence that says what to change.
    """
    before = _versions(network.buffers())
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        if _with_layers_frozen(network, layers, inputs).requires_grad:
            raise RefusedError(
                "The network uses a weight outside of the layer that holds it, where its gradient "
                "is not seen; call the layer instead."
            )
        outs, versions, losses = _with_outputs(network, layers, inputs, row_loss)
    if _versions(network.buffers()) != before:
        raise RefusedError(
            "Training changes a buffer of the network, which stays outside the noise; use layers "
            "without running statistics."
        )
    if _versions(outs) != versions:
        raise RefusedError(
            "The network overwrites a layer's input or output, from which gradients are taken; "
            "use operations that are not in place."
        )
    rows = losses.numel()
    if any(x.shape[0] != rows for x in outs):
        raise RefusedError(
            f"A layer is not given the batch's {rows} rows as first dimension, so gradients "
            "cannot be told apart by unit; keep rows first."
        )
    if units > 1:
        _refuse_acting_on_others(losses, [x for x in outs if x.requires_grad], units)


def _versions(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    return [(id(x), x._version) for x in tensors]  # noqa: SLF001 # torch has no other name for it


def _with_layers_frozen(
    network: nn.Module, layers: Sequence[nn.Module], inputs: Sequence[Tensor]
) -> Tensor:
    """The network's output with all weights constant while their own layers run."""
    trained = {id(p): p for layer in layers for p in layer.parameters() if p.requires_grad}

    def freeze(layer: nn.Module, _: object) -> None:
        for p in layer.parameters():
            p.requires_grad = False

    def release(layer: nn.Module, _: object, __: object) -> None:
        for p in layer.parameters():
            p.requires_grad = id(p) in trained

    hooks = [layer.register_forward_pre_hook(freeze) for layer in layers]
    hooks += [layer.register_forward_hook(release) for layer in layers]
    try:
        out = network(*(x.detach() for x in inputs))
    finally:
        for hook in hooks:
            hook.remove()
        for p in trained.values():
            p.requires_grad = True
    if not isinstance(out, Tensor):
        raise TypeError(f"the network returns {type(out)}, not one tensor")
    return out


def _with_outputs(
    network: nn.Module,
    layers: Sequence[nn.Module],
    inputs: Sequence[Tensor],
    row_loss: RowLoss,
) -> tuple[list[Tensor], list[tuple[int, int]], Tensor]:
    """The layers' inputs and outputs, how often each had been written, and the losses."""
    seen: list[Tensor] = []
    versions: list[tuple[int, int]] = []

    def note(_: nn.Module, arguments: tuple[object, ...], out: object) -> None:
        new = [x for x in (*arguments, out) if isinstance(x, Tensor)]
        seen.extend(new)
        versions.extend(_versions(new))

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        losses = row_loss(network(*inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return seen, versions, losses


def _refuse_acting_on_others(losses: Tensor, outs: Sequence[Tensor], units: int) -> None:
    """Every second unit's loss has no gradient at the other units' rows, if none mixes them."""
    by_unit = torch.zeros_like(losses).view(units, -1)
    by_unit[::2] = 1.0
    grads: Sequence[Tensor | None] = torch.autograd.grad(
        losses, list(outs), by_unit.view_as(losses), allow_unused=True
    )
    for g in grads:
        if g is not None and bool(_found(g.reshape(units, -1)[1::2])):
            raise RefusedError(
                "The network, or its loss, mixes rows of different units, so no unit's part can "
                "be bounded; let each row's loss depend on that row alone."
            )


def _found(values: Tensor) -> Tensor:
    """Whether there is a number other than zero; one row's overflow is no sign of mixing."""
    return ((values != 0) & values.isfinite()).any()
