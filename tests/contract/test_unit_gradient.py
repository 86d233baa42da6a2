"""One suite over both ways to clipped sums: each is what a plain loop over units gives."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from clients.examples import InputShape
from clients.model import build
from clients.spec import ModelSpec
from clients.unit_gradient import UnitGradient
from clients.unit_gradient.book_kept import BookKept, has_rules
from clients.unit_gradient.hooked import Hooked

Inputs = tuple[Tensor, ...]
Build = Callable[[nn.Module], UnitGradient]

# torch says that an even kernel costs a copy
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")

BOTH = [pytest.param(BookKept, id="book-kept"), pytest.param(Hooked, id="hooked")]
UNITS = 5


@dataclass(frozen=True)
class Case:
    """A network, how to draw its inputs, and whether our rules cover it."""

    network: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    ruled: bool = True


class _Shared(nn.Module):
    """Every layer is called twice, at different numbers of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4, padding_idx=2)
        self.cut = nn.Conv1d(4, 4, 3, padding="same")
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Linear(4, 4)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.norm(self.mix(self.table(codes)) + self.table(codes.flip(1) // 2))
        y = self.cut(self.cut(x.mT)[:, :, ::2]).mT
        return torch.tanh(self.mix(self.norm(y))).sum((1, 2))


class _Frozen(nn.Module):
    """Half of every layer is not trained, in all combinations."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, 8, 3, stride=2),
            nn.GroupNorm(2, 8),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(32, 5),
            nn.LayerNorm(5),
            nn.Tanh(),
            nn.Linear(5, 3),
            nn.Linear(3, 1, bias=False),
            nn.Flatten(0),
        )
        for index, name in ((0, "weight"), (1, "bias"), (4, "weight"), (5, "weight"), (7, "bias")):
            self.layers[index].get_parameter(name).requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(x)))).sum(1)


def _ours(spec: ModelSpec, shape: InputShape) -> Case:
    embedded = [c for c in shape.levels if c > spec.one_hot_up_to]
    wide = shape.numeric + sum(c for c in shape.levels if c <= spec.one_hot_up_to)

    def network() -> nn.Module:
        made = build(spec, shape, seed=7)
        if made.linear is not None:
            nn.init.normal_(made.linear.weight)  # starts at zero, which would hide its layer
        return made

    def inputs(rows: int) -> Inputs:
        codes = [torch.randint(0, min(count, 3), (rows,)) for count in embedded]
        return (
            torch.randn(rows, wide),
            torch.stack(codes, dim=1) if codes else torch.zeros(rows, 0, dtype=torch.int64),
            torch.randn(rows, shape.steps, shape.sensors),
        )

    return Case(network, inputs)


def _sequence(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: copy.deepcopy(nn.Sequential(*layers, nn.Flatten(0)))


CASES = {
    "mlp with a linear path": _ours(
        ModelSpec(hidden=(16, 8), linear=True), InputShape(numeric=5, levels=(3,))
    ),
    "mlp with embeddings": _ours(
        ModelSpec(hidden=(12,), one_hot_up_to=4, embedding=3), InputShape(numeric=2, levels=(9, 40))
    ),
    "additive": _ours(ModelSpec(hidden=(), linear=True), InputShape(numeric=6, levels=(3,))),
    "cnn": _ours(
        ModelSpec(kind="cnn", hidden=(9, 6)), InputShape(numeric=2, levels=(), steps=30, sensors=4)
    ),
    "wide": Case(
        _sequence(nn.Linear(70, 90), nn.Tanh(), nn.Linear(90, 1)),
        lambda rows: (torch.randn(rows, 70),),
    ),
    "layer normalisation": Case(
        _sequence(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 1)),
        lambda rows: (torch.randn(rows, 4),),
    ),
    "layer normalisation over two dimensions": Case(
        _sequence(nn.Conv1d(2, 4, 1), nn.LayerNorm((4, 7)), nn.Flatten(), nn.Linear(28, 1)),
        lambda rows: (torch.randn(rows, 2, 7),),
    ),
    "group normalisation": Case(
        _sequence(
            nn.Conv1d(3, 8, 4, padding="same", dilation=2),
            nn.GroupNorm(4, 8),
            nn.SiLU(),
            nn.Conv1d(8, 4, 3, stride=3, padding=2, dilation=2, bias=False),
            nn.Flatten(),
            nn.GroupNorm(2, 16),
            nn.Linear(16, 1),
        ),
        lambda rows: (torch.randn(rows, 3, 11),),
    ),
    "an even kernel": Case(
        _sequence(nn.Conv1d(2, 3, 4, padding="same"), nn.Flatten(), nn.Linear(21, 1)),
        lambda rows: (torch.randn(rows, 2, 7),),
    ),
    "linear along time": Case(
        _sequence(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.Flatten(), nn.Linear(12, 1)),
        lambda rows: (torch.randn(rows, 6, 3),),
    ),
    "layers called twice": Case(_Shared, lambda rows: (torch.randint(0, 6, (rows, 6)),)),
    "partly frozen": Case(_Frozen, lambda rows: (torch.randn(rows, 2, 9),)),
    "grouped convolution": Case(
        _sequence(nn.Conv1d(4, 4, 3, groups=2), nn.Flatten(), nn.PReLU(), nn.Linear(12, 1)),
        lambda rows: (torch.randn(rows, 4, 5),),
        ruled=False,
    ),
    "tied weights": Case(_Tied, lambda rows: (torch.randn(rows, 3),), ruled=False),
}
RULED = [pytest.param(case, id=name) for name, case in CASES.items() if case.ruled]
ALL = [pytest.param(case, id=name) for name, case in CASES.items()]


def _cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)


def _drawn(case: Case, rows_per_unit: int, dtype: torch.dtype) -> tuple[nn.Module, Inputs, Tensor]:
    torch.manual_seed(3)
    network = case.network().to(dtype)
    inputs = _cast(case.inputs(UNITS * rows_per_unit), dtype)
    weights = torch.rand(UNITS, rows_per_unit, dtype=dtype)
    if rows_per_unit > 1:
        weights[0, 1:] = 0.0  # a unit with one row of its own
        weights[1, -1] = 0.0
    return network, inputs, weights


def _row_loss(out: Tensor) -> Tensor:
    return (out - 0.3) ** 2 + torch.sin(out)


def _clipped(vector: Tensor, clip: float) -> Tensor:
    norm = vector.norm()
    return vector * (clip / norm) if norm > clip else vector


def _gradient(network: nn.Module, inputs: Inputs, weights: Tensor) -> Tensor:
    trained = [p for p in network.parameters() if p.requires_grad]
    loss = (_row_loss(network(*inputs)) * weights).sum()
    grads: Sequence[Tensor | None] = torch.autograd.grad(loss, trained, allow_unused=True)
    flat = [
        (torch.zeros_like(p) if g is None else g).flatten()
        for p, g in zip(trained, grads, strict=True)
    ]
    return torch.cat(flat).double()


def _loop(
    network: nn.Module, inputs: Inputs, weights: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """The sum and the norms, one unit after the other."""
    size = weights.shape[1]
    vectors = [
        _gradient(network, tuple(x[u * size : (u + 1) * size] for x in inputs), weights[u])
        for u in range(len(weights))
    ]
    norms = torch.stack([v.norm() for v in vectors])
    return torch.stack([_clipped(v, clip) for v in vectors]).sum(0), norms


def _far(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _agrees(case: Case, make: Build, dtype: torch.dtype, rows_per_unit: int) -> None:
    network, inputs, weights = _drawn(case, rows_per_unit, dtype)
    within = 1e-10 if dtype == torch.float64 else 1e-5
    gradient = make(network)
    _, norms = _loop(network, inputs, weights, 1.0)
    for clip in (0.2 * float(norms.min()), float(norms.median()), 1e6 * float(norms.max())):
        wanted, _ = _loop(network, inputs, weights, clip)
        found = gradient.clipped_sum(inputs, _row_loss, weights, clip=clip)
        assert found.total.dtype == torch.float64
        assert _far(found.total, wanted) < within
        assert _far(found.norms, norms) < within


@pytest.mark.parametrize("rows_per_unit", [1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", RULED)
def test_one_pass_gives_what_a_loop_gives(
    case: Case, dtype: torch.dtype, rows_per_unit: int
) -> None:
    assert has_rules(case.network())
    _agrees(case, BookKept, dtype, rows_per_unit)


@pytest.mark.parametrize("rows_per_unit", [1, 3])
@pytest.mark.parametrize("case", ALL)
def test_hooks_give_what_a_loop_gives(case: Case, rows_per_unit: int) -> None:
    assert has_rules(case.network()) == case.ruled
    _agrees(case, Hooked, torch.float32, rows_per_unit)
    _agrees(case, Hooked, torch.float64, rows_per_unit)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("name", ["mlp with a linear path", "mlp with embeddings", "cnn"])
def test_units_of_one_row_are_opacus_records(name: str, make: Build) -> None:
    network, inputs, _ = _drawn(CASES[name], 1, torch.float32)
    found = make(network).clipped_sum(inputs, _row_loss, torch.ones(UNITS, 1), clip=0.5)
    watched = GradSampleModule(copy.deepcopy(network), loss_reduction="sum")
    torch.autograd.backward(_row_loss(watched(*inputs)).sum())
    records = torch.cat([p.grad_sample.flatten(1) for p in watched.parameters()], dim=1).double()
    wanted = torch.stack([_clipped(record, 0.5) for record in records]).sum(0)
    assert _far(found.total, wanted) < 1e-5
    assert _far(found.norms, records.norm(dim=1)) < 1e-5


@pytest.mark.parametrize("make", BOTH)
def test_clipping_rows_instead_of_units_would_be_seen(make: Build) -> None:
    network, inputs, weights = _drawn(CASES["mlp with a linear path"], 3, torch.float32)
    found = make(network).clipped_sum(inputs, _row_loss, weights, clip=0.1)
    rows, _ = _loop(network, inputs, weights.reshape(-1, 1), 0.1)
    assert _far(found.total, rows) > 0.1


@pytest.mark.parametrize("make", BOTH)
def test_adding_up_codes_after_the_norm_would_be_seen(make: Build) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 1), nn.Flatten(0))
    codes = torch.tensor([1, 1, 1, 2, 3, 0])
    found = make(network).clipped_sum((codes,), _row_loss, torch.ones(2, 3), clip=1.0)
    _, norms = _loop(network, (codes,), torch.ones(2, 3), 1.0)
    _, apart = _loop(network, (codes,), torch.ones(6, 1), 1.0)
    assert _far(found.norms, norms) < 1e-5
    assert _far(found.norms, apart.view(2, 3).square().sum(1).sqrt()) > 0.1


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("shape", [(0, 0), (0, 1), (0, 4), (3, 0)])
def test_an_empty_sample_gives_zeros(make: Build, shape: tuple[int, int]) -> None:
    network, inputs, _ = _drawn(CASES["cnn"], 1, torch.float32)
    none = tuple(x[:0] for x in inputs)
    found = make(network).clipped_sum(none, _row_loss, torch.ones(shape), clip=1.0)
    assert found.norms.tolist() == [0.0] * shape[0]
    assert found.total.shape == (sum(p.numel() for p in network.parameters()),)
    assert not found.total.any()


def _traces(network: nn.Module) -> list[object]:
    """What hooks and attributes there are, at layers and weights."""
    found: list[object] = [sorted(network.state_dict())]
    for layer in network.modules():
        sizes = {k: len(v) if hasattr(v, "__len__") else 0 for k, v in vars(layer).items()}
        found.append(sorted(sizes.items()))
    found += [
        (p.grad, p.requires_grad, sorted(vars(p)), p._backward_hooks) for p in network.parameters()
    ]
    return found


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("name", ["partly frozen", "mlp with embeddings"])
def test_nothing_stays_at_the_network(make: Build, name: str) -> None:
    network, inputs, weights = _drawn(CASES[name], 2, torch.float32)
    before = _traces(network)
    gradient = make(network)
    assert _traces(network) == before
    gradient.clipped_sum(inputs, _row_loss, weights, clip=1.0)
    assert _traces(network) == before

    def broken(out: Tensor) -> Tensor:
        raise ArithmeticError(str(out.shape))

    for tried in (gradient, make(network)):
        with pytest.raises(ArithmeticError):
            tried.clipped_sum(inputs, broken, weights, clip=1.0)
        assert _traces(network) == before


@pytest.mark.parametrize("make", BOTH)
def test_results_do_not_change_with_the_next_step(make: Build) -> None:
    network, inputs, weights = _drawn(CASES["cnn"], 2, torch.float32)
    gradient = make(network)
    first = gradient.clipped_sum(inputs, _row_loss, weights, clip=1.0)
    kept = first.total.clone(), first.norms.clone()
    fewer = tuple(x[:4] * 2 for x in inputs)
    gradient.clipped_sum(fewer, _row_loss, weights[:2], clip=1.0)
    again = gradient.clipped_sum(inputs, _row_loss, weights, clip=1.0)
    for found in (first, again):
        assert torch.equal(found.total, kept[0])
        assert torch.equal(found.norms, kept[1])


@pytest.mark.parametrize("make", BOTH)
def test_dropout_falls_as_in_an_ordinary_step(make: Build) -> None:
    spec = ModelSpec(hidden=(16, 8), dropout=0.4)
    network = build(spec, InputShape(numeric=5, levels=()), seed=1)
    torch.manual_seed(2)
    inputs = (torch.randn(8, 5), torch.zeros(8, 0, dtype=torch.int64), torch.zeros(8, 0, 0))
    gradient = make(network)
    for seed in (5, 6):
        torch.manual_seed(seed)
        found = gradient.clipped_sum(inputs, _row_loss, torch.ones(4, 2), clip=1e9)
        torch.manual_seed(seed)
        assert _far(found.total, _gradient(network, inputs, torch.ones(8))) < 1e-5
