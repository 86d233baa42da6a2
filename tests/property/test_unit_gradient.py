"""Whatever a unit's rows hold, the clipped sum moves by at most the clip when it comes or goes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor, nn

from clients.unit_gradient import UnitGradient
from clients.unit_gradient.book_kept import BookKept
from clients.unit_gradient.clipped_sum import LONGEST, scales
from clients.unit_gradient.hooked import Hooked

Floats = NDArray[np.float32]
Step = Callable[[Tensor, Tensor, Tensor, float], Tensor]

UNITS, ROWS, WIDTH = 4, 3, 4
LEVELS = 3
MOST = 1 + 1e-6

numbers = st.one_of(
    st.floats(-3, 3, width=32),
    st.floats(width=32),
    st.sampled_from([0.0, 1e30, -1e30, 3e38, 1e-40, float("inf"), float("-inf"), float("nan")]),
)
rows = arrays.arrays(np.float32, (UNITS * ROWS, WIDTH), elements=numbers)
calm_rows = arrays.arrays(np.float64, (UNITS * ROWS, WIDTH), elements=st.floats(-1e3, 1e3))
codes = arrays.arrays(np.int64, (UNITS * ROWS,), elements=st.integers(0, LEVELS - 1))
clips = st.floats(1e-3, 1e3)


class _Mixed(nn.Module):
    """One of each kind of layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(LEVELS, 2)
        self.wide = nn.Linear(WIDTH + 2, 12)
        self.cut = nn.Conv1d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        hidden = torch.tanh(self.wide(torch.cat([x, self.table(code)], dim=1)))
        cut = torch.relu(self.norm(self.cut(hidden.view(-1, 3, 4))))
        out: Tensor = self.head(cut.flatten(1)).squeeze(1)
        return out + hidden.sum(1) + x[:, 0]


def _network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(11)
    return _Mixed().to(dtype)


def _row_loss(out: Tensor) -> Tensor:
    return (out - 1.0) ** 2


def _step(gradient: UnitGradient) -> Step:
    def step(x: Tensor, code: Tensor, weights: Tensor, clip: float) -> Tensor:
        return gradient.clipped_sum((x, code), _row_loss, weights, clip=clip).total

    return step


def _by_row(x: Tensor, code: Tensor, weights: Tensor, clip: float) -> Tensor:
    """Wrong: clips each row."""
    flat = weights.reshape(-1, 1)
    return _step(BookKept(_network(x.dtype)))(x, code, flat, clip)


def _a_little_more(x: Tensor, code: Tensor, weights: Tensor, clip: float) -> Tensor:
    """Wrong: ten times more than rounding may."""
    return _step(BookKept(_network(x.dtype)))(x, code, weights, clip * (1 + 1e-5))


def _moved(step: Step, x: Floats, code: NDArray[np.int64], clip: float) -> list[float]:
    """How far each unit moves the sum, in parts of the clip, when its rows lose their weight."""
    tensors = torch.from_numpy(x), torch.from_numpy(code)
    weights = torch.full((UNITS, ROWS), 1.0)
    whole = step(*tensors, weights, clip)
    assert whole.isfinite().all()
    far = []
    for unit in range(UNITS):
        without = weights.clone()
        without[unit] = 0.0
        rest = step(*tensors, without, clip)
        far.append(float((whole - rest).norm()) / clip)
    return far


BOOK_KEPT = _step(BookKept(_network(torch.float32)))
HOOKED = _step(Hooked(_network(torch.float32)))


@settings(max_examples=60)
@given(rows, codes, clips)
def test_no_unit_moves_the_sum_by_more_than_the_clip(
    x: Floats, code: NDArray[np.int64], clip: float
) -> None:
    assert max(_moved(BOOK_KEPT, x, code, clip)) <= MOST


@settings(max_examples=15)
@given(rows, codes, clips)
def test_no_unit_moves_the_sum_of_hooks_by_more(
    x: Floats, code: NDArray[np.int64], clip: float
) -> None:
    assert max(_moved(HOOKED, x, code, clip)) <= MOST


@pytest.mark.parametrize("wrong", [_by_row, _a_little_more])
def test_a_wrong_clip_would_be_seen(wrong: Step) -> None:
    x = np.full((UNITS * ROWS, WIDTH), 2.0, dtype=np.float32)
    code = np.zeros(UNITS * ROWS, dtype=np.int64)
    assert max(_moved(BOOK_KEPT, x, code, 1.0)) <= MOST
    assert max(_moved(wrong, x, code, 1.0)) > MOST


@settings(max_examples=40)
@given(calm_rows, codes, clips, st.integers(0, UNITS - 1))
def test_nor_when_its_rows_are_taken_away(
    x: NDArray[np.float64], code: NDArray[np.int64], clip: float, unit: int
) -> None:
    step = _step(BookKept(_network(torch.float64)))
    weights = torch.ones(UNITS, ROWS, dtype=torch.float64)
    others = np.arange(UNITS * ROWS) // ROWS != unit
    whole = step(torch.from_numpy(x), torch.from_numpy(code), weights, clip)
    rest = step(torch.from_numpy(x[others]), torch.from_numpy(code[others]), weights[1:], clip)
    assert float((whole - rest).norm()) <= clip * MOST


norms_of_units = arrays.arrays(
    np.float64, 30, elements=st.one_of(st.floats(min_value=0), st.just(float("nan")))
)


@given(norms_of_units, st.floats(1e-30, 1e30))
def test_no_scaled_norm_exceeds_the_clip(norms: NDArray[np.float64], clip: float) -> None:
    found = scales(norms, clip)
    assert ((found >= 0) & (found <= 1)).all()
    usable = norms <= LONGEST
    assert (found[~usable] == 0).all()
    assert (found[usable] * norms[usable] <= clip).all()
    assert (found[norms <= clip * (1 - 1e-9)] == 1).all()
