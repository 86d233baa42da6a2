"""What a clipped sum refuses, what it does with rows that are no numbers, and that sizes agree."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.nn import functional

from clients.unit_gradient import UnitGradient, book_kept, parts, unit_gradient
from clients.unit_gradient.book_kept import BookKept, has_rules
from clients.unit_gradient.clipped_sum import LONGEST
from clients.unit_gradient.hooked import Hooked
from clients.unit_gradient.workspace import Scratch
from privacy.errors import RefusedError

ODD = [0.0, 1e30, -3e38, float("inf"), float("-inf"), float("nan")]


class _Of(nn.Module):
    """A network around a function of one linear layer and the rows."""

    def __init__(self, forward: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.then = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.layer, x)


class _Scaled(nn.Module):
    """A weight and a buffer in one layer, for which Opacus prepares nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight * self.scale


class _TwoInputs(nn.Module):
    """Opacus calls a layer that it does not know with its first input alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x * self.weight + y).sum(1)


class _Counting(nn.Module):
    """Keeps how often it was called, in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.layer(x).flatten()
        return out


def _squared(out: Tensor) -> Tensor:
    return (out - 1.0) ** 2


def _mlp() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))


def _sum(
    gradient: UnitGradient, x: Tensor, units: int, *, clip: float = 1.0
) -> tuple[Tensor, Tensor]:
    weights = torch.full((units, len(x) // units), units / len(x))
    found = gradient.clipped_sum((x,), _squared, weights, clip=clip)
    return found.total, found.norms


def test_rules_are_chosen_where_they_reach() -> None:
    assert isinstance(unit_gradient(_mlp()), BookKept)
    assert isinstance(unit_gradient(nn.Sequential(_mlp(), nn.PReLU())), Hooked)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert not has_rules(tied)
    frozen = nn.Sequential(nn.PReLU(), nn.Linear(3, 1)).requires_grad_(requires_grad=False)
    frozen[1].requires_grad_(requires_grad=True)
    assert has_rules(frozen)


class _Odd(nn.Linear):
    """Computes something else, so the rule of its kind is not its own."""


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 4, 3, groups=2),
        nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        nn.LSTM(3, 3),
        _Odd(3, 3),
    ],
)
def test_a_layer_without_a_rule_takes_the_whole_network_to_the_other_way(layer: nn.Module) -> None:
    assert not has_rules(nn.Sequential(nn.Linear(3, 3), layer))


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.BatchNorm1d(3), "group or layer normalisation"),
        (nn.BatchNorm2d(3, affine=False), "group or layer normalisation"),
        (nn.SyncBatchNorm(3), "group or layer normalisation"),
        (nn.BatchNorm1d(3, track_running_stats=False), "group or layer normalisation"),
        (nn.InstanceNorm1d(3, track_running_stats=True), "group or layer normalisation"),
        (nn.Embedding(3, 3, max_norm=1.0), "max_norm"),
        (nn.Embedding(3, 3, scale_grad_by_freq=True), "scale_grad_by_freq"),
        (nn.ReLU(inplace=True), "inplace=False"),
        (nn.LSTM(3, 3), "opacus.layers"),
        (nn.GRUCell(3, 3), "opacus.layers"),
        (nn.MultiheadAttention(3, 1), "opacus.layers"),
        (_Scaled(), "Opacus has no"),
    ],
)
def test_what_cannot_be_bounded_is_refused_before_training(layer: nn.Module, word: str) -> None:
    network = nn.Sequential(nn.Linear(3, 3), layer)
    keys = [set(vars(m)) for m in network.modules()]
    with pytest.raises(RefusedError, match=word) as caught:
        unit_gradient(network)
    assert str(caught.value).count(".") - str(caught.value).count("opacus.") == 1  # one sentence
    assert [set(vars(m)) for m in network.modules()] == keys


def test_instance_normalisation_without_statistics_is_no_mixing() -> None:
    network = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4), nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0)
    )
    gradient = unit_gradient(network)
    assert isinstance(gradient, BookKept)
    total, _ = _sum(gradient, torch.randn(6, 2, 5), 3)
    assert total.any()


MIXING = {
    "a mean over the batch": (
        _Of(lambda layer, x: (layer(x) - layer(x).mean(0)).sum(1)),
        "mixes rows",
    ),
    "batch statistics without a layer": (
        _Of(lambda layer, x: functional.batch_norm(layer(x), None, None, training=True).sum(1)),
        "mixes rows",
    ),
    "time first, as many steps as rows": (
        _Of(lambda layer, x: layer(x.unsqueeze(0).expand(4, 4, 3).transpose(0, 1)).sum((0, 2))),
        "mixes rows",
    ),
    "time first": (
        _Of(lambda layer, x: layer(x.unsqueeze(0).expand(5, 4, 3)).sum((0, 2))),
        "keep rows first",
    ),
    "a weight used outside": (
        _Of(lambda layer, x: layer(x) @ layer.weight[0]),
        "call the layer instead",
    ),
    "an output overwritten": (
        _Of(lambda layer, x: layer(x).tanh_().sum(1)),
        "not in place",
    ),
    "an input overwritten": (
        _Of(lambda layer, x: (y := x * 2, layer(y).sum(1) + y.mul_(2).sum(1))[1]),
        "not in place",
    ),
    "a buffer": (_Counting(), "running statistics"),
}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("make", [BookKept, Hooked])
@pytest.mark.parametrize("name", MIXING)
def test_a_network_that_mixes_units_or_hides_gradients_is_refused(
    name: str, make: Callable[[nn.Module], UnitGradient]
) -> None:
    network, word = MIXING[name]
    trained = [p.requires_grad for p in network.parameters()]
    torch.manual_seed(1)
    with pytest.raises(RefusedError, match=word):
        _sum(make(network), torch.randn(4, 3), 4)
    assert [p.requires_grad for p in network.parameters()] == trained


def test_a_loss_that_mixes_units_is_refused() -> None:
    gradient = unit_gradient(_mlp())
    with pytest.raises(RefusedError, match="its loss"):
        gradient.clipped_sum(
            (torch.randn(4, 3),), lambda out: (out - out.mean()) ** 2, torch.ones(4, 1), clip=1.0
        )


def test_a_layer_called_by_keyword_is_refused() -> None:
    network = _Of(lambda layer, x: layer(input=x).sum(1))
    with pytest.raises(RefusedError, match="by keyword"):
        _sum(BookKept(network), torch.randn(4, 3), 4)
    assert not network.layer._forward_hooks


def test_mixing_is_found_at_the_first_batch_of_two_units() -> None:
    network, _ = MIXING["a mean over the batch"]
    gradient = unit_gradient(network)
    _sum(gradient, torch.randn(4, 3), 1)  # mixing within a unit harms nobody
    with pytest.raises(RefusedError, match="mixes rows"):
        _sum(gradient, torch.randn(4, 3), 2)


@pytest.mark.parametrize("make", [BookKept, Hooked])
def test_rows_that_are_no_numbers_are_no_sign_of_mixing(
    make: Callable[[nn.Module], UnitGradient],
) -> None:
    network = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    nn.init.constant_(network[0].get_parameter("weight"), 2.0)
    x = torch.randn(4, 3)
    x[0], x[3] = float("nan"), 3e38
    total, norms = _sum(make(network), x, 4)
    assert total.isfinite().all()
    assert not norms[0] <= LONGEST
    assert not norms[3] <= LONGEST


@pytest.mark.parametrize("make", [BookKept, Hooked])
def test_a_layer_that_does_nothing_for_the_loss_has_no_gradient(
    make: Callable[[nn.Module], UnitGradient],
) -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dropped, self.absent, self.used = (nn.Linear(3, 1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            self.dropped(x)
            out: Tensor = self.used(x).flatten()
            return out

    total, _ = _sum(make(Unused()), torch.randn(4, 3), 2)
    assert not total[:8].any()
    assert total[8:].all()


def test_opacus_is_not_believed_where_its_gradients_are_not_torchs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = GradSampleModule.GRAD_SAMPLERS
    linear = known[nn.Linear]

    def halved(*arguments: object) -> dict[nn.Parameter, Tensor]:
        return {p: g / 2 for p, g in linear(*arguments).items()}

    _sum(Hooked(_mlp()), torch.randn(4, 3), 4)
    monkeypatch.setitem(known, nn.Linear, halved)
    with pytest.raises(RefusedError, match="Opacus has no"):
        _sum(Hooked(_mlp()), torch.randn(4, 3), 4)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (_TwoInputs(), (torch.ones(4, 3), torch.ones(4, 3))),
        (
            nn.Sequential(nn.EmbeddingBag(3, 3), nn.Linear(3, 1), nn.Flatten(0)),
            (torch.ones(4, 2, dtype=torch.int64),),
        ),
    ],
)
def test_what_opacus_cannot_do_is_refused_in_a_sentence(
    network: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    with pytest.raises(RefusedError, match="Opacus has no"):
        unit_gradient(network).clipped_sum(inputs, _squared, torch.ones(4, 1), clip=1.0)
    assert not any(vars(p) for p in network.parameters())


def test_hooks_do_not_see_layers_in_evaluation_mode() -> None:
    network = _mlp().eval()
    assert _sum(BookKept(network), torch.randn(4, 3), 4)[0].any()
    with pytest.raises(ValueError, match=r"network\.train"):
        _sum(Hooked(network), torch.randn(4, 3), 4)


@pytest.mark.parametrize("make", [BookKept, Hooked])
@pytest.mark.parametrize("per_unit", [1, 3])
@pytest.mark.parametrize("odd", ODD)
def test_odd_rows_harm_their_own_unit_alone(
    make: Callable[[nn.Module], UnitGradient], per_unit: int, odd: float
) -> None:
    torch.manual_seed(2)
    x = torch.randn(5 * per_unit, 3)
    gradient = make(_mlp())
    x[2 * per_unit, 1] = odd
    total, norms = _sum(gradient, x, 5)
    assert total.isfinite().all()
    weights = torch.full((5, per_unit), 1 / per_unit)
    weights[2] = 0.0
    calm = torch.where(x.isfinite() & (x.abs() < 1e6), x, 0.0)
    without = gradient.clipped_sum((calm,), _squared, weights, clip=1.0).total
    assert (total - without).norm() <= 1 + 1e-6
    if not norms[2] <= LONGEST:
        assert torch.equal(total, without)


@pytest.mark.parametrize("make", [BookKept, Hooked])
def test_a_gradient_too_long_for_float32_adds_exactly_zero(
    make: Callable[[nn.Module], UnitGradient],
) -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))
    total, norms = _sum(make(network), torch.tensor([[1e30], [0.0]]), 2)
    assert not norms[0] <= LONGEST
    alone, _ = _sum(make(network), torch.tensor([[0.0], [0.0]]), 2)
    assert torch.allclose(total, alone / 2)


def test_a_unit_whose_rows_cancel_is_not_taken_for_longer_or_shorter() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(64, 64), nn.Flatten(1), nn.Linear(64, 1), nn.Flatten(0))
    row = torch.randn(64)
    x = torch.stack([row, row * (1 + 1e-6)] * 2)
    weights = torch.tensor([[1e4, -1e4], [1.0, 1.0]])
    found = unit_gradient(network).clipped_sum((x,), _squared, weights, clip=1e9)
    flat: list[Tensor] = []
    for unit in range(2):
        loss = (_squared(network(x[2 * unit : 2 * unit + 2])) * weights[unit]).sum()
        parts = torch.autograd.grad(loss, list(network.parameters()))
        flat.append(torch.cat([g.flatten() for g in parts]).double())
    wanted = torch.stack(flat).norm(dim=1)
    assert abs(found.norms[1] / wanted[1] - 1) < 1e-5
    assert found.norms[0] < 1e-4 * wanted[1] * 1e4
    clipped = unit_gradient(network).clipped_sum((x,), _squared, weights, clip=1e-3).total
    assert clipped.norm() <= 2e-3 * (1 + 1e-6)


@pytest.mark.parametrize("positions", [2, 5, 40])
def test_both_forms_of_a_layer_agree(monkeypatch: pytest.MonkeyPatch, positions: int) -> None:
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Conv1d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv1d(6, 2, 2), nn.Flatten(), nn.LazyLinear(1)
    ).double()
    x = torch.randn(12, 3, positions, dtype=torch.float64)
    network(x)
    network.append(nn.Flatten(0))
    found = {}
    for choice in (True, False):
        monkeypatch.setattr(parts, "_worth_writing", lambda *_, choice=choice: choice)
        found[choice] = _sum(BookKept(network), x, 4, clip=0.01)
    for one, other in zip(found[True], found[False], strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("near", [1, 300, 700])
def test_units_are_the_same_some_at_a_time(monkeypatch: pytest.MonkeyPatch, near: int) -> None:
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Embedding(4, 3), nn.Conv1d(6, 4, 2), nn.Flatten(), nn.Linear(8, 1), nn.Flatten(0)
    )
    x = torch.randint(0, 4, (14, 6))
    at_once = _sum(BookKept(network), x, 7, clip=0.5)
    monkeypatch.setattr(book_kept, "NEAR", near)
    for one, other in zip(at_once, _sum(BookKept(network), x, 7, clip=0.5), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_memory_does_not_grow_with_the_steps() -> None:
    scratch = Scratch()
    single = np.dtype(np.float32)
    first = scratch.take(single, 3, 4)
    assert scratch.take(single, 3, 4) is not first
    scratch.reset()
    assert scratch.take(single, 3, 4) is first
    scratch.reset()
    assert np.shares_memory(scratch.take(single, 5), first)
    scratch.reset()
    assert scratch.take(np.dtype(np.float64), 20).shape == (20,)
    gradient = BookKept(_mlp())
    held = set()
    for units in (4, 2, 6, 4):
        _sum(gradient, torch.randn(12, 3), units)
        held.add(len(gradient._scratch._memory))
    assert len(held) == 1


def test_what_does_not_fit_together_is_an_error() -> None:
    gradient = unit_gradient(_mlp())
    x = torch.randn(6, 3)
    for weights in (torch.ones(6), torch.ones(2, 2), torch.ones(6, 2), torch.ones(1, 2, 3)):
        with pytest.raises(ValueError, match=r"rows|unpack"):
            gradient.clipped_sum((x,), _squared, weights, clip=1.0)
    for clip in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="clip"):
            gradient.clipped_sum((x,), _squared, torch.ones(3, 2), clip=clip)
    with pytest.raises(ValueError, match="no trained"):
        unit_gradient(nn.Sequential(nn.Tanh()))
