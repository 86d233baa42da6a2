"""Integrated gradients: their sum is the difference, whatever kinks there are on the way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.examples import InputShape
from clients.scoring.attribution import TOLERANCE, Moved, integrated_gradients
from clients.scoring.network import Activation, Design, ScoringNetwork, read_network
from privacy.errors import RefusedError

Floats = NDArray[np.float64]


def _network(
    hidden: tuple[int, ...], activation: Activation, *, width: int = 5, seed: int = 0
) -> ScoringNetwork:
    design = Design(
        kind="mlp", hidden=hidden, activation=activation, embedding=1, one_hot_up_to=9, linear=True
    )
    sizes = [width, *hidden]
    count = sum(a * b + b for a, b in zip(sizes, hidden, strict=False)) + width + sizes[-1] + 1
    weights = np.random.default_rng(seed).normal(0, 1.5, count)
    return read_network(weights, design, InputShape(numeric=width, levels=()))


def _moved(network: ScoringNetwork) -> Moved:
    return lambda points: network.gradient(points, np.zeros((len(points), 0, 0)))[:2]


@settings(max_examples=80, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 12), max_size=3),
    activation=st.sampled_from(["relu", "silu", "gelu", "tanh"]),
    seed=st.integers(0, 2**31 - 1),
    far=st.floats(0.0, 8.0),
)
def test_amounts_add_up_to_the_difference(
    hidden: list[int], activation: Activation, seed: int, far: float
) -> None:
    network = _network(tuple(hidden), activation, seed=seed)
    rng = np.random.default_rng(seed)
    inputs, baseline = far * rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    told = integrated_gradients(_moved(network), inputs, baseline)
    none = np.zeros((3, 0, 0))
    np.testing.assert_allclose(told.base, network.output(baseline, none))
    np.testing.assert_allclose(told.output, network.output(inputs, none))
    together = told.base + told.amounts.sum(axis=1)
    np.testing.assert_allclose(together, told.output, rtol=1e-9, atol=1e-9)
    allowed = TOLERANCE * np.maximum(1.0, np.abs(told.output - told.base))
    assert (np.abs(told.left_over) <= allowed).all()


def test_a_plane_is_taken_apart_exactly() -> None:
    network = _network((), "relu")
    assert network.linear is not None
    slope = network.head + network.linear
    rng = np.random.default_rng(1)
    inputs, baseline = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))
    told = integrated_gradients(_moved(network), inputs, baseline)
    np.testing.assert_allclose(told.amounts, (inputs - baseline) * slope, atol=1e-12)


def test_what_the_model_does_not_look_at_adds_nothing_and_twins_add_the_same() -> None:
    """Dummy and symmetry, sections 2 and 4 of the paper."""

    def moved(points: Floats) -> tuple[Floats, Floats]:
        hidden = np.tanh(points[:, 0] + points[:, 1])
        slope = np.zeros(points.shape)
        slope[:, 0] = slope[:, 1] = 2 * hidden * (1 - hidden**2)
        return hidden**2, slope

    inputs = np.array([[0.7, 0.7, 3.0]])
    amounts = integrated_gradients(moved, inputs, np.zeros((1, 3))).amounts[0]
    assert amounts[2] == 0
    assert amounts[0] == pytest.approx(amounts[1])


def test_a_kink_is_closed_in_upon() -> None:
    """A coarse sum over the line would be wrong here by far more than the tolerance."""

    def moved(points: Floats) -> tuple[Floats, Floats]:
        steep = points[:, :1] > 0.777_777
        return 100 * np.maximum(points[:, 0] - 0.777_777, 0), np.where(steep, 100.0, 0.0)

    told = integrated_gradients(moved, np.ones((1, 1)), np.zeros((1, 1)), tolerance=1e-5)
    assert told.amounts[0, 0] == pytest.approx(100 * (1 - 0.777_777))
    assert abs(told.left_over[0]) < 1e-5 * 23


@pytest.mark.parametrize("fault", ["scaled", "shifted", "endless"])
def test_a_wrong_gradient_is_refused(fault: str) -> None:
    network = _network((6,), "tanh")

    def moved(points: Floats) -> tuple[Floats, Floats]:
        output, slope = _moved(network)(points)
        wrong = {"scaled": slope * 1.01, "shifted": slope + 0.01, "endless": slope + np.inf}
        return output, wrong[fault]

    with pytest.raises(RefusedError, match="do not add up"):
        integrated_gradients(moved, np.full((2, 5), 2.0), np.zeros((2, 5)))


def test_a_row_does_not_depend_on_the_others() -> None:
    network = _network((8, 4), "relu", seed=4)
    rng = np.random.default_rng(4)
    inputs, baseline = 3 * rng.normal(size=(6, 5)), np.zeros((6, 5))
    together = integrated_gradients(_moved(network), inputs, baseline).amounts
    for row in range(6):
        alone = integrated_gradients(_moved(network), inputs[[row]], baseline[[row]]).amounts
        np.testing.assert_allclose(together[row], alone[0], atol=1e-9)
