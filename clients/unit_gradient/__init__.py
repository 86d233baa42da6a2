"""Sums of gradients in which each privacy unit is clipped as a whole."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from clients.unit_gradient.batch import RowLoss
from clients.unit_gradient.book_kept import BookKept, has_rules
from clients.unit_gradient.clipped_sum import ClippedSum
from clients.unit_gradient.hooked import Hooked
from clients.unit_gradient.independence import refuse_layers


class UnitGradient(Protocol):
    """Clipped sums of one network's gradients; see `unit_gradient`."""

    def clipped_sum(
        self, inputs: Sequence[Tensor], row_loss: RowLoss, weights: Tensor, *, clip: float
    ) -> ClippedSum:
        """Sum the units' gradients at the network's present weights, each held to `clip`.

        The gradient of unit u is sum_k weights[u, k] * grad loss(row u * K + k), over all trained
        parameters together. Adding a unit to the batch, or taking one away, moves the sum by at
        most clip * (1 + 1e-6) in L2 norm, whatever its rows hold. (That is so for the other units'
        gradients as they are; torch may round those differently, in the seventh digit, where a
        batch has another size.)

        The first batches are also examined: see `clients.unit_gradient.independence`. `.grad` is
        not touched, and nothing stays at the network, also after an error.

        Args:
            inputs: What `network(*inputs)` takes; each with rows first, unit by unit.
            row_loss: Losses (rows,) of the network's output; one row's loss depends on that row.
            weights: Float (units, K). 0 for a row that only fills up its unit.
            clip: L2 norm that no unit exceeds; positive, finite.

        Returns:
            See `ClippedSum`. No unit at all gives zeros: a Poisson sample may be empty. A unit
            whose gradient is not finite, or too long for float32, adds exactly zero.

        Raises:
            RefusedError: The network mixes the rows of units, or hides part of its gradient.
            ValueError: The shapes do not fit together, or `clip` is not positive and finite.
        """
        ...


def unit_gradient(network: nn.Module) -> UnitGradient:
    """The quickest way to clipped sums that is right for `network`.

    One backward pass (`BookKept`) where each trained parameter is held by one layer that has a rule
    (see `clients.unit_gradient.rules`), else Opacus's hooks (`Hooked`). Which parameters are
    trained, and on which device, is settled here.

    Raises:
        RefusedError: A layer mixes units, or neither way has its gradients. One sentence says
            which and what to use instead.
        ValueError: Nothing is trained.
    """
    refuse_layers(network)
    return BookKept(network) if has_rules(network) else Hooked(network)
