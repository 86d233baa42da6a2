"""The networks, and each as one flat vector: that is what is summed, hashed and stored."""

import hashlib
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.examples import Examples, InputShape
from clients.spec import ModelSpec
from clients.statistics import Overview
from privacy.canonical import canonical_json
from privacy.tally import TallyKind

ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}


class Network(nn.Module):
    """Inputs to one number a row: a standardised value, a logit or a log rate.

    `forward` takes what `tensors` makes of `Examples`: dense (n, p + one-hot levels), codes of the
    embedded categories (n, e), series (n, t, s); it returns (n,).
    """

    def __init__(self, spec: ModelSpec, shape: InputShape) -> None:
        super().__init__()
        self.numeric = shape.numeric
        self.levels = shape.levels
        self.one_hot_up_to = spec.one_hot_up_to
        self.embeddings = nn.ModuleList(
            nn.Embedding(count, spec.embedding)
            for count in shape.levels
            if count > spec.one_hot_up_to
        )
        self.convolutions = _convolutions(spec, shape) if spec.kind == "cnn" else None
        if self.convolutions is None:
            width = shape.numeric + sum(
                count if count <= spec.one_hot_up_to else spec.embedding for count in shape.levels
            )
            hidden = spec.hidden
        else:
            width = spec.hidden[-1] + shape.numeric
            hidden = (spec.hidden[-1],)
        layers: list[nn.Module] = []
        last = width
        for size in hidden:
            layers += [nn.Linear(last, size), ACTIVATIONS[spec.activation]()]
            if spec.dropout:
                layers.append(nn.Dropout(spec.dropout))
            last = size
        self.body = nn.Sequential(*layers)
        self.linear = nn.Linear(width, 1, bias=False) if spec.linear else None
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
        self.head = nn.Linear(last, 1)

    def forward(self, dense: Tensor, codes: Tensor, series: Tensor) -> Tensor:
        """One number a row; see the class."""
        embedded = [table(codes[:, i]) for i, table in enumerate(self.embeddings)]
        inputs = torch.cat([dense, *embedded], dim=1) if embedded else dense
        if self.convolutions is not None:
            inputs = torch.cat([self.convolutions(series.transpose(1, 2)), inputs], dim=1)
        out = self.head(self.body(inputs))
        if self.linear is not None:
            out = out + self.linear(inputs)
        return torch.squeeze(out, 1)


def _convolutions(spec: ModelSpec, shape: InputShape) -> nn.Sequential:
    layers: list[nn.Module] = []
    last = shape.sensors
    for channels in spec.hidden:
        layers += [
            nn.Conv1d(last, channels, kernel_size=5, padding=2, stride=2),
            ACTIVATIONS[spec.activation](),
        ]
        last = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten())


def build(spec: ModelSpec, shape: InputShape, *, seed: int) -> Network:
    """A network whose weights follow from `seed` alone, without touching torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(spec, shape)


def start_at_the_base_rate(network: Network, kind: TallyKind, overview: Overview) -> None:
    """Set the output's bias to what a model that knows nothing would say."""
    if kind == "binary":
        rate = min(max(overview.mean, 1e-4), 1 - 1e-4)
        bias = float(np.log(rate / (1 - rate)))
    elif kind == "count":
        bias = float(np.log(max(overview.rate, 1e-6)))
    else:
        bias = 0.0
    with torch.no_grad():
        network.head.bias.fill_(bias)
        if kind in {"binary", "count"}:
            network.head.weight.mul_(0.1)


def to_vector(network: nn.Module) -> NDArray[np.float32]:
    """All weights in the order of `parameters()`, shape (d,)."""
    flat = nn.utils.parameters_to_vector(network.parameters())
    return np.asarray(flat.detach().cpu().numpy(), dtype=np.float32).copy()


def from_vector(network: nn.Module, vector: NDArray[np.float32]) -> None:
    """Set all weights from shape (d,).

    Raises:
        ValueError: The length is not the network's.
    """
    count = sum(p.numel() for p in network.parameters())
    if vector.shape != (count,):
        raise ValueError(f"expected {count} weights, not {vector.shape}")
    device = next(network.parameters()).device
    source = torch.from_numpy(np.array(vector, dtype=np.float32)).to(device)
    nn.utils.vector_to_parameters(source, network.parameters())


def architecture_digest(network: nn.Module) -> bytes:
    """SHA-256 over names and shapes of all weights: two models that may be averaged agree on it."""
    layout = [[name, list(p.shape)] for name, p in network.named_parameters()]
    return hashlib.sha256(b"tacit/architecture/v1\0" + canonical_json(layout)).digest()


def tensors(
    network: Network, examples: Examples, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs of a network; one-hot levels are laid out once here, not in every step."""
    dense = [examples.numeric]
    embedded: list[NDArray[np.int64]] = []
    for index, count in enumerate(network.levels):
        code = examples.codes[:, index]
        if count <= network.one_hot_up_to:
            dense.append(np.eye(count, dtype=np.float32)[code])
        else:
            embedded.append(code)
    codes = np.stack(embedded, axis=1) if embedded else np.zeros((len(examples), 0), np.int64)
    return (
        torch.from_numpy(np.concatenate(dense, axis=1)).to(device),
        torch.from_numpy(codes).to(device),
        torch.from_numpy(np.ascontiguousarray(examples.series)).to(device),
    )
