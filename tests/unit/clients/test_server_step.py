"""Server steps against their papers' equations, written out for one coordinate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.plan import parse_plan
from clients.server_step import initial_state, mean_of_last, step
from clients.spec import ServerStep, parse_node_spec
from privacy.errors import ProtocolError

CHANGES = [0.5, -0.25, 0.125]


def _run(settings: ServerStep) -> list[float]:
    state = initial_state(np.zeros(1, dtype=np.float32))
    out = []
    for change in CHANGES:
        state = step(state, np.array([change]), settings)
        out.append(float(state.model[0]))
    assert state.round == len(CHANGES)
    return out


def test_fedavg_adds_the_mean_change() -> None:
    assert _run(ServerStep(learning_rate=0.5)) == pytest.approx([0.25, 0.125, 0.1875])


def test_fedavgm_keeps_a_running_sum() -> None:
    moved, momentum, expected = 0.0, 0.0, []
    for change in CHANGES:
        momentum = 0.9 * momentum + change
        moved += 0.5 * momentum
        expected.append(moved)
    assert _run(ServerStep(kind="fedavgm", learning_rate=0.5)) == pytest.approx(expected)


def test_fedadam_follows_algorithm_2_of_reddi_2021() -> None:
    moved, first, second, expected = 0.0, 0.0, 0.0, []
    for change in CHANGES:
        first = 0.9 * first + 0.1 * change
        second = 0.99 * second + 0.01 * change**2
        moved += 0.1 * first / (math.sqrt(second) + 1e-3)
        expected.append(moved)
    assert _run(ServerStep(kind="fedadam", learning_rate=0.1)) == pytest.approx(expected)


@pytest.mark.parametrize("change", [[math.nan], [math.inf], [1.0, 2.0]])
def test_a_step_refuses_what_is_not_finite_or_of_another_shape(change: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        step(initial_state(np.zeros(1, dtype=np.float32)), np.array(change), ServerStep())


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(1, 30))
def test_the_final_model_is_the_mean_of_the_last(values: list[float], count: int) -> None:
    models = [np.array([value], dtype=np.float32) for value in values]
    expected = np.mean([float(m[0]) for m in models[-count:]])
    assert float(mean_of_last(models, count)[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"rounds": 0}, "rounds"),
        ({"rounds": "3"}, "rounds"),
        ({"extra": 1}, "extra"),
        ({"grace_s": -1.0}, "grace_s"),
    ],
)
def test_a_plan_is_parsed_strictly(change: dict[str, object], where: str) -> None:
    plan = {"rounds": 3, "statistics_stages": 1}
    assert parse_plan(plan).rounds == 3
    with pytest.raises(ProtocolError, match=where):
        parse_plan({**plan, **change})


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"server": {"kind": "median"}}, "server.kind"),
        ({"average_last": 4}, "settings"),
        ({"rollback": 0.0}, "rollback"),
        ({"update": {"precision": 0.0}}, "update.precision"),
    ],
)
def test_what_members_step_by_is_parsed_strictly(change: dict[str, object], where: str) -> None:
    spec = {"task": "credit", "seed": 0, "model": {"hidden": [4]}, "training": {"rounds": 3}}
    assert parse_node_spec(spec).training.rounds == 3
    with pytest.raises(ProtocolError, match=where):
        parse_node_spec({**spec, **change})
