"""The network in numpy says what torch says, and moves as torch's gradient does."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.examples import Examples, InputShape
from clients.learner import design_of
from clients.model import Network, build, from_vector, tensors, to_vector
from clients.scoring.network import ScoringNetwork, read_network
from clients.spec import ModelSpec

Floats = NDArray[np.float64]
CLOSE = 1e-5


@st.composite
def _specs(draw: st.DrawFn) -> tuple[ModelSpec, InputShape]:
    cnn = draw(st.booleans())
    small = st.integers(1, 6)
    hidden = draw(st.lists(small, min_size=1 if cnn else 0, max_size=3))
    spec = ModelSpec(
        kind="cnn" if cnn else "mlp",
        hidden=tuple(hidden),
        activation=draw(st.sampled_from(["relu", "silu", "gelu", "tanh"])),
        dropout=draw(st.sampled_from([0.0, 0.4])),
        embedding=draw(st.integers(1, 3)),
        one_hot_up_to=draw(st.integers(0, 5)),
        linear=draw(st.booleans()),
    )
    if cnn:
        steps, sensors = draw(st.integers(2, 19)), draw(small)
        return spec, InputShape(
            numeric=draw(st.integers(0, 2)), levels=(), steps=steps, sensors=sensors
        )
    levels = draw(st.lists(st.integers(1, 7), max_size=3))
    return spec, InputShape(numeric=draw(st.integers(1, 5)), levels=tuple(levels))


def _made(
    spec: ModelSpec, shape: InputShape, seed: int
) -> tuple[Network, ScoringNetwork, Examples]:
    rng = np.random.default_rng(seed)
    network = build(spec, shape, seed=seed)
    from_vector(network, rng.normal(0, 0.5, to_vector(network).size).astype(np.float32))
    rows = 4
    codes = [rng.integers(0, count, rows) for count in shape.levels]
    examples = Examples(
        numeric=rng.normal(size=(rows, shape.numeric)).astype(np.float32),
        codes=np.stack(codes, axis=1) if codes else np.zeros((rows, 0), np.int64),
        series=rng.normal(size=(rows, shape.steps, shape.sensors)).astype(np.float32),
        target=np.zeros(rows),
        target_raw=np.zeros(rows),
        exposure=np.ones(rows),
        group=np.zeros(rows, np.int64),
        unit=np.arange(rows),
    )
    return network, read_network(to_vector(network), design_of(spec), shape), examples


@settings(max_examples=60, deadline=None)
@given(made=_specs(), seed=st.integers(0, 2**31 - 1))
def test_outputs_and_gradients_are_those_of_torch(
    made: tuple[ModelSpec, InputShape], seed: int
) -> None:
    network, scoring, examples = _made(*made, seed)
    network.eval()
    dense, codes, series = tensors(network, examples, torch.device("cpu"))
    dense.requires_grad_()
    series.requires_grad_()
    told = network(dense, codes, series)
    flat = scoring.lay_out(examples.numeric, examples.codes)
    output, by_flat, by_series = scoring.gradient(flat, examples.series.astype(np.float64))
    size = max(1.0, float(told.detach().abs().max()))
    np.testing.assert_allclose(output, told.detach().numpy(), atol=CLOSE * size, rtol=0)
    np.testing.assert_array_equal(output, scoring.output(flat, examples.series.astype(np.float64)))
    dense_slope, series_slope = torch.autograd.grad(told.sum(), [dense, series], allow_unused=True)
    for own, theirs in ((by_flat[:, : dense.shape[1]], dense_slope), (by_series, series_slope)):
        slope: Floats = np.zeros(own.shape)
        if theirs is not None:
            slope = theirs.numpy().astype(np.float64)
        np.testing.assert_allclose(own, slope, atol=1e-4 * size, rtol=1e-4)


@pytest.mark.parametrize("activation", ["silu", "gelu", "tanh"])
def test_embedded_levels_move_outputs_too(activation: str) -> None:
    """Torch's graph ends at an embedding's table; here a level's vector is an input."""
    spec = ModelSpec.model_validate({"hidden": (4,), "activation": activation, "one_hot_up_to": 2})
    shape = InputShape(numeric=1, levels=(5, 2))
    _, scoring, examples = _made(spec, shape, 3)
    flat = scoring.lay_out(examples.numeric, examples.codes)
    none = np.zeros((len(flat), 0, 0))
    slope = scoring.gradient(flat, none)[1]
    for column in range(flat.shape[1]):
        step = np.zeros(flat.shape[1])
        step[column] = 1e-5
        told = (scoring.output(flat + step, none) - scoring.output(flat - step, none)) / 2e-5
        np.testing.assert_allclose(slope[:, column], told, atol=1e-7)


def test_a_wrong_weight_is_found() -> None:
    spec, shape = ModelSpec(hidden=(4,)), InputShape(numeric=2, levels=())
    network, scoring, examples = _made(spec, shape, 5)
    vector = to_vector(network)
    vector[0] += 0.5
    other = read_network(vector, design_of(spec), shape)
    flat, none = examples.numeric.astype(np.float64), np.zeros((4, 0, 0))
    assert np.abs(other.output(flat, none) - scoring.output(flat, none)).max() > CLOSE


@pytest.mark.parametrize("extra", [-1, 1])
def test_weights_of_another_network_are_refused(extra: int) -> None:
    spec, shape = ModelSpec(hidden=(4,)), InputShape(numeric=2, levels=())
    network = build(spec, shape, seed=0)
    vector = np.zeros(to_vector(network).size + extra)
    with pytest.raises(ValueError, match="weights"):
        read_network(vector, design_of(spec), shape)


def test_it_needs_neither_torch_nor_pydantic() -> None:
    code = (
        "import sys, clients.scoring.network, clients.scoring.attribution;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'pydantic', 'pandas')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
