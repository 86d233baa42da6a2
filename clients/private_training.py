"""Steps of training in which no unit shows: sample, clip, add noise.

DP-SGD with whole units (McMahan et al. 2018, ICLR; Abadi et al. 2016, CCS): each unit takes part in
a step with the plan's rate, in secret and independently of all others; its gradient is the mean
over a bounded number of its own rows, held to the clip; the sum gets Gaussian noise. A unit that is
added or removed moves the sum by at most the clip, whatever its rows hold.
"""

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.examples import Examples
from clients.model import Network, tensors
from clients.spec import TrainingSpec
from clients.train import (
    Target,
    labels,
    learning_rate,
    optimiser_of,
    row_losses,
    trust_weights,
)
from clients.unit_gradient import UnitGradient, unit_gradient
from privacy.noise import gaussian
from privacy.plan import ORGANISATION, PrivacyPlan
from privacy.randomness import Entropy
from privacy.sampling import bounded_rows, poisson

Floats = NDArray[np.float64]
LARGEST_WEIGHT: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRows:
    """A member's training rows, laid out unit by unit.

    Attributes:
        exact: A float64 copy of the network that they train.
        gradient: Of that copy.
        inputs: What the network takes, on its device.
        label: Scaled labels, shape (n,).
        exposure: Shape (n,).
        trust: How much each row counts, at most 1, shape (n,); None: all alike.
        order: Shape (n,). Rows sorted by unit.
        starts: Shape (units,). Where each unit's rows begin in `order`.
        counts: Shape (units,). How many it has, at least one.
    """

    exact: Network
    gradient: UnitGradient
    inputs: tuple[Tensor, Tensor, Tensor]
    label: Tensor
    exposure: Tensor
    trust: Tensor | None = None
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


def private_rows(
    network: Network, examples: Examples, target: Target, plan: PrivacyPlan
) -> PrivateRows:
    """Lay out a member's examples; for the unit `organisation` all of them are one unit's."""
    device = next(network.parameters()).device
    unit = np.zeros_like(examples.unit) if plan.unit == ORGANISATION else examples.unit
    order = np.argsort(unit, kind="stable")
    _, starts, counts = np.unique(unit[order], return_index=True, return_counts=True)
    label, exposure = labels(examples, target, device)
    exact = copy.deepcopy(network).double()
    return PrivateRows(
        exact=exact,
        gradient=unit_gradient(exact),
        inputs=tensors(network, examples, device),
        label=label,
        exposure=exposure,
        trust=trust_weights(examples, device),
        order=order.astype(np.int64),
        starts=starts.astype(np.int64),
        counts=counts.astype(np.int64),
    )


def clipped_gradients(
    network: Network, rows: PrivateRows, target: Target, plan: PrivacyPlan, entropy: Entropy
) -> Floats:
    """Sum the sampled units' clipped gradients. No noise is in it: it must not leave as it is.

    Both passes are in float64: in float32 a model that somebody steered to where large numbers
    cancel would let the size of a batch, and so one unit, change the others' gradients. For the
    same reason weights beyond `LARGEST_WEIGHT` give zeros; they are the common model's, so this
    tells nothing of the rows.

    Returns:
        Shape (d,), in the order of `parameters()`. Zeros where no unit was sampled.
    """
    with torch.no_grad():
        for exact, weight in zip(rows.exact.parameters(), network.parameters(), strict=True):
            exact.copy_(weight)
        largest = max(float(weight.abs().max()) for weight in rows.exact.parameters())
    if not largest <= LARGEST_WEIGHT:
        return np.zeros(sum(weight.numel() for weight in rows.exact.parameters()))
    chosen = poisson(rows.starts.size, plan.rate, entropy)
    places, weights = bounded_rows(
        rows.starts[chosen], rows.counts[chosen], plan.rows_per_unit, entropy
    )
    device = rows.label.device
    index = torch.from_numpy(rows.order[places].reshape(-1)).to(device)
    label, exposure = rows.label[index].double(), rows.exposure[index].double()
    dense, codes, series = (part.index_select(0, index) for part in rows.inputs)
    trust = 1.0 if rows.trust is None else rows.trust[index].double()
    rows.exact.train()
    found = rows.gradient.clipped_sum(
        (dense.double(), codes, series.double()),
        # less trust, a smaller gradient, before it is clipped: no unit's part is ever more
        lambda out: row_losses(out, label, exposure, target) * trust,
        torch.from_numpy(weights).to(device),
        clip=plan.clip,
    )
    return np.asarray(found.total.cpu().numpy(), dtype=np.float64)


def train_privately(
    network: Network,
    rows: PrivateRows,
    target: Target,
    plan: PrivacyPlan,
    training: TrainingSpec,
    *,
    round_index: int,
    expected_units: float,
    entropy: Entropy,
) -> None:
    """Take the plan's local steps, in place; all that follows from them is private.

    Args:
        network: Starts at the round's common model.
        rows: The member's.
        target: How labels are scaled.
        plan: Of `local` noise.
        training: Optimiser and rate.
        round_index: From 1.
        expected_units: What a step's noisy sum is divided by: the same for every member, from the
            federation's noisy count, as a member's own count would be one more thing told.
        entropy: Of sampling and noise.
    """
    rate = learning_rate(training, round_index)
    optimiser = optimiser_of(list(network.parameters()), training, rate)
    for _ in range(plan.steps):
        total = clipped_gradients(network, rows, target, plan, entropy)
        total += gaussian(total.size, plan.update_share * plan.clip, entropy)
        _set_gradient(network, total / expected_units)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _set_gradient(network: nn.Module, gradient: Floats) -> None:
    at = 0
    for weight in network.parameters():
        piece = gradient[at : at + weight.numel()].astype(np.float32)
        weight.grad = torch.from_numpy(piece).view_as(weight).to(weight.device)
        at += weight.numel()
