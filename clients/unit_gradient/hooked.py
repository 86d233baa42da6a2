"""Clipped sums for layers without a rule of ours: one gradient a row, by Opacus's hooks."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from clients.unit_gradient.batch import RowLoss, places_of, units_of
from clients.unit_gradient.clipped_sum import ClippedSum, scales
from clients.unit_gradient.independence import refuse_mixing
from privacy.errors import InputError, RefusedError

NOT_BY_ROW: Final = (
    "Opacus has no right gradients of single rows for one of the network's layers; use a linear "
    "layer, a convolution, an embedding or a normalisation in its place."
)
# Largest difference between rows' gradients and their sum by torch, in parts of their size.
NEAR: Final = 1e-3
# What Opacus keeps at layers and parameters for the time of a pass.
_AT_LAYERS = ("activations", "max_batch_len", "ft_compute_sample_grad")
_AT_PARAMETERS = ("grad_sample", "_forward_counter", "_current_grad_sample")
_HOOKS = "autograd_grad_sample_hooks"


class Hooked:
    """Gradients of single rows from Opacus, added up to units, clipped, summed.

    Takes memory for rows times weights. Nothing of Opacus but its hooks is used, for the time of
    one call: the network and its state keep their names, and there is no optimiser, no sampler and
    no accountant of Opacus. Its hooks see nothing of layers in evaluation mode, so those are
    refused.
    """

    def __init__(self, network: nn.Module) -> None:
        for name, layer in network.named_modules():
            if isinstance(layer, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention):
                raise RefusedError(
                    f"Layer {name or 'network'} gives no gradients of single rows; use the layer "
                    "of the same name with DP before it, from opacus.layers."
                )
        self._network = network
        self._places = places_of(network)
        self._examined = 0
        with _hooks(network) as layers:
            self._layers = layers

    def clipped_sum(
        self, inputs: Sequence[Tensor], row_loss: RowLoss, weights: Tensor, *, clip: float
    ) -> ClippedSum:
        """See `clients.unit_gradient.UnitGradient`."""
        units = units_of(inputs, weights, clip)
        length = max(place.stop for place in self._places.values())
        device = next(iter(self._places)).device
        total = torch.zeros(length, dtype=torch.float64, device=device)
        if weights.numel() == 0:
            return ClippedSum(total=total, norms=total.new_zeros(units))
        if not all(layer.training for layer in self._layers):
            raise ValueError("call network.train() first: layers in evaluation mode are not seen")
        examine = self._examined < min(units, 2)
        if examine:
            refuse_mixing(self._network, self._layers, inputs, row_loss, units)
        try:
            of_rows = self._of_rows(inputs, row_loss, weights, examine=examine)
        except (TypeError, ValueError, RuntimeError) as error:
            if examine:  # the same has just run without Opacus
                raise RefusedError(NOT_BY_ROW) from error
            raise
        self._examined = max(self._examined, min(units, 2))
        gradients = {
            p: g.reshape(units, weights.shape[1], -1).sum(1, dtype=torch.float64)
            for p, g in of_rows.items()
        }
        squares = total.new_zeros(units)
        for e in gradients.values():
            squares += torch.linalg.vector_norm(e, dim=1).square_()
        norms = squares.sqrt_()
        factors = torch.from_numpy(scales(norms.cpu().numpy(), clip)).to(device)
        kept = (factors > 0).unsqueeze(1)
        for p, e in gradients.items():
            # zero times what is not finite would not be zero
            total[self._places[p]] = factors @ torch.where(kept, e, 0.0)
        return ClippedSum(total=total, norms=norms)

    def _of_rows(
        self, inputs: Sequence[Tensor], row_loss: RowLoss, weights: Tensor, *, examine: bool
    ) -> dict[nn.Parameter, Tensor]:
        """Each parameter's gradients (rows, ...), for each row times its weight."""
        trained = list(self._places)
        with _hooks(self._network), torch.enable_grad(), warnings.catch_warnings():
            # the first layer's inputs need no gradient, as always
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            losses = row_loss(self._network(*inputs))
            direction = weights.reshape(-1).to(losses.dtype)
            sums: Sequence[Tensor | None] = torch.autograd.grad(
                losses, trained, direction, allow_unused=True
            )
            samples = {p: getattr(p, "grad_sample", None) for p in trained}
        for layer in self._layers:
            # the row that is never trained; Opacus 1.6 gives it a gradient
            if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
                of_table = samples.get(layer.get_parameter("weight"))
                if of_table is not None:
                    of_table[:, layer.padding_idx] = 0.0
        found: dict[nn.Parameter, Tensor] = {}
        for p, of_all in zip(trained, sums, strict=True):
            if of_all is not None:
                found[p] = _checked(samples[p], of_all, weights.numel(), examine=examine)
        return found


def _checked(of_rows: object, of_all: Tensor, rows: int, *, examine: bool) -> Tensor:
    """Rows' gradients as Opacus left them, if they are such; examined against torch's sum."""
    if isinstance(of_rows, Tensor) and of_rows.shape == (rows, *of_all.shape):
        of_rows = of_rows.detach()
        size = of_rows.abs().sum(0).norm()
        if not examine or not size.isfinite() or (of_rows.sum(0) - of_all).norm() <= NEAR * size:
            return of_rows
    raise RefusedError(NOT_BY_ROW)


@contextmanager
def _hooks(network: nn.Module) -> Iterator[tuple[nn.Module, ...]]:
    """Opacus's hooks on a network; yields the layers that it watches."""
    try:
        from opacus.grad_sample import GradSampleModule
        from opacus.layers.dp_rnn import DPGRU, DPLSTM, DPRNN
    except ImportError:
        raise InputError(
            "This network needs opacus; install it with: pip install 'tacit-fl[node]'."
        ) from None
    try:
        # buffers are judged by what they do, in clients.unit_gradient.independence
        hooked = GradSampleModule(network, batch_first=True, loss_reduction="sum", strict=False)
        watched = hooked.iterate_submodules(network)
        yield tuple(layer for layer in watched if type(layer) not in {DPGRU, DPLSTM, DPRNN})
    except NotImplementedError as error:
        raise RefusedError(NOT_BY_ROW) from error
    finally:
        _remove(network)


def _remove(network: nn.Module) -> None:
    for hook in network.__dict__.pop(_HOOKS, []):
        hook.remove()
    for layer in network.modules():
        for name in _AT_LAYERS:
            layer.__dict__.pop(name, None)
    for p in network.parameters():
        for name in _AT_PARAMETERS:
            p.__dict__.pop(name, None)
