"""Local training and scoring of one member's examples."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.examples import Examples
from clients.model import Network, tensors
from clients.scoring.link import linked
from clients.spec import PersonalSpec, TrainingSpec
from clients.statistics import Overview
from privacy.errors import RefusedError
from privacy.tally import TallyKind

SCORE_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How a label relates to the network's output.

    Attributes:
        kind: `life` and `value` are trained as (label - centre) / scale with squared error,
            `binary` as a logit with cross-entropy, `count` as a log rate with Poisson deviance.
        centre: See `kind`.
        scale: See `kind`.
        positive_weight: Weight of a positive row for `binary`.
    """

    kind: TallyKind
    centre: float = 0.0
    scale: float = 1.0
    positive_weight: float = 1.0

    @property
    def own_scale(self) -> tuple[float, float]:
        """Factor and shift from the network's output to log-odds, a log rate, or label units.

        Where positive rows counted `positive_weight` times, odds came out so many times too high.
        """
        if self.kind == "binary":
            return 1.0, -math.log(self.positive_weight)
        if self.kind == "count":
            return 1.0, 0.0
        return self.scale, self.centre

    def value(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs in their own scale as people read them.

        A chance, a rate for one unit of exposure, or a value in the label's unit.
        """
        return linked(self.kind, output, scale=self.scale)


def choose_device(wanted: str) -> torch.device:
    """`auto` takes a GPU where there is one.

    Raises:
        RefusedError: `cuda` was asked for and there is none.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RefusedError("This node has no CUDA device; launch with --device auto.")
    return torch.device(wanted)


def target_of(kind: TallyKind, cap: float, overview: Overview, training: TrainingSpec) -> Target:
    """The label's scale, from the contract and from sums over the whole federation."""
    if kind == "life":
        return Target(kind=kind, centre=0.0, scale=cap)
    if kind == "value":
        return Target(kind=kind, centre=overview.mean, scale=overview.spread)
    weight = 1.0
    if kind == "binary":
        positives = max(overview.target, 1.0)
        balanced = (overview.rows - positives) / positives
        weight = balanced if training.positive_weight == "balanced" else training.positive_weight
    return Target(kind=kind, positive_weight=weight)


def learning_rate(training: TrainingSpec, round_index: int) -> float:
    """The rate of round 1, 2, ... `rounds`."""
    if training.schedule == "constant" or training.rounds == 1:
        return training.learning_rate
    phase = min(max((round_index - 1) / (training.rounds - 1), 0.0), 1.0)
    low = training.final_share
    return training.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * phase)) / 2)


def train(
    network: Network,
    examples: Examples,
    target: Target,
    training: TrainingSpec,
    *,
    round_index: int,
    seed: int,
) -> float:
    """Train in place for one round.

    Args:
        network: Starts at the round's global model, which is also what `proximal` pulls towards.
        examples: The member's own training examples, at least one.
        target: How labels are scaled.
        training: The run's settings.
        round_index: From 1; sets the learning rate.
        seed: Of shuffling and dropout. Nothing secret depends on it.

    Returns:
        Mean training loss of the last pass.
    """
    rate = learning_rate(training, round_index)
    optimiser = optimiser_of(list(network.parameters()), training, rate)
    anchor = [p.detach().clone() for p in network.parameters()] if training.proximal else []
    return _passes(
        network,
        examples,
        target,
        optimiser,
        _Passes(
            epochs=training.local_epochs,
            batch_rows=training.batch_rows,
            step_limit=training.steps,
            share=training.epoch_share,
            noise=training.input_noise,
            proximal=training.proximal,
        ),
        seed=seed,
        anchor=anchor,
    )


def fine_tune(
    network: Network,
    examples: Examples,
    target: Target,
    personal: PersonalSpec,
    *,
    batch_rows: int,
    seed: int,
) -> None:
    """Adapt a final model to one member, in place."""
    chosen = network.head if personal.layers == "head" else network
    weights = list(chosen.parameters())
    optimiser = torch.optim.Adam(weights, lr=personal.learning_rate)
    _passes(
        network,
        examples,
        target,
        optimiser,
        _Passes(epochs=personal.epochs, batch_rows=batch_rows),
        seed=seed,
        anchor=[],
    )


def score(network: Network, examples: Examples, target: Target) -> NDArray[np.float64]:
    """Shape (n,): predictions in label units, logits, or expected counts for the row's exposure."""
    device = next(network.parameters()).device
    network.eval()
    parts: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for start in range(0, len(examples), SCORE_BATCH_ROWS):
            rows = np.arange(start, min(start + SCORE_BATCH_ROWS, len(examples)))
            out = network(*tensors(network, examples.take(rows), device))
            parts.append(out.cpu().numpy().astype(np.float64))
    raw = np.concatenate(parts) if parts else np.zeros(0)
    if target.kind == "life":
        return np.clip(raw * target.scale, 0.0, target.scale)
    if target.kind == "value":
        return raw * target.scale + target.centre
    if target.kind == "count":
        return np.exp(np.clip(raw, -30.0, 10.0)) * examples.exposure
    return raw + target.own_scale[1]  # where positive rows counted more, log-odds are put right


def local_seed(seed: int, member: str, round_index: int) -> int:
    """A seed for shuffling that differs by member and round."""
    text = f"{seed}|{member}|{round_index}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    epochs: int
    batch_rows: int
    step_limit: int | None = None
    share: float = 1.0
    noise: float = 0.0
    proximal: float = 0.0


def _passes(
    network: Network,
    examples: Examples,
    target: Target,
    optimiser: torch.optim.Optimizer,
    plan: _Passes,
    *,
    seed: int,
    anchor: list[Tensor],
) -> float:
    device = next(network.parameters()).device
    inputs = tensors(network, examples, device)
    label, exposure = labels(examples, target, device)
    trust = trust_weights(examples, device)
    count = len(examples)
    wanted = max(1, round(count * plan.share))
    shuffle = torch.Generator().manual_seed(seed)
    network.train()
    total, seen, steps = 0.0, 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout and input noise
        for _ in range(plan.epochs):
            total, seen = 0.0, 0
            order = torch.randperm(count, generator=shuffle)[:wanted].to(device)
            for rows in torch.split(order, plan.batch_rows):
                if plan.step_limit is not None and steps >= plan.step_limit:
                    break
                dense, codes, series = (x.index_select(0, rows) for x in inputs)
                if plan.noise:
                    numbers = dense[:, : network.numeric]
                    numbers += plan.noise * torch.randn_like(numbers)
                    series = series + plan.noise * torch.randn_like(series)
                out = network(dense, codes, series)
                losses = row_losses(out, label[rows], exposure[rows], target)
                loss = losses.mean()
                if trust is not None:
                    loss = (losses * trust[rows]).sum() / trust[rows].sum()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call] # torch has no types here
                if plan.proximal:
                    _pull(network, anchor, plan.proximal)
                optimiser.step()
                total += float(loss.detach()) * len(rows)
                seen += len(rows)
                steps += 1
    return total / max(seen, 1)


def labels(examples: Examples, target: Target, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scaled labels and exposures, each of shape (n,)."""
    scaled = (examples.target - target.centre) / target.scale
    label = torch.from_numpy(scaled.astype(np.float32)).to(device)
    exposure = torch.from_numpy(examples.exposure.astype(np.float32)).to(device)
    return label, exposure


def trust_weights(examples: Examples, device: torch.device) -> Tensor | None:
    """How much each example counts, shape (n,); None: all alike."""
    if examples.trust is None:
        return None
    return torch.from_numpy(examples.trust.astype(np.float32)).to(device)


def row_losses(out: Tensor, label: Tensor, exposure: Tensor, target: Target) -> Tensor:
    """Training loss of each row, shape (n,)."""
    if target.kind == "binary":
        weight = torch.full((), target.positive_weight, device=out.device)
        return nn.functional.binary_cross_entropy_with_logits(
            out, label, pos_weight=weight, reduction="none"
        )
    if target.kind == "count":
        # Poisson deviance up to what does not depend on the model; held against overflow
        return exposure * torch.exp(out.clamp(max=10.0)) - label * out
    return nn.functional.mse_loss(out, label, reduction="none")


def _pull(network: Network, anchor: list[Tensor], proximal: float) -> None:
    for weight, start in zip(network.parameters(), anchor, strict=True):
        if weight.grad is not None:
            weight.grad.add_(weight.detach() - start, alpha=proximal)


def optimiser_of(
    weights: list[nn.Parameter], training: TrainingSpec, rate: float
) -> torch.optim.Optimizer:
    """A fresh optimiser of the run's kind."""
    if training.optimiser == "sgd":
        return torch.optim.SGD(
            weights, lr=rate, momentum=training.momentum, weight_decay=training.weight_decay
        )
    kind = torch.optim.AdamW if training.optimiser == "adamw" else torch.optim.Adam
    fused = weights[0].device.type in {"cpu", "cuda"}
    return kind(weights, lr=rate, weight_decay=training.weight_decay, fused=fused)
