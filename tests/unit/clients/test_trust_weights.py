"""Trust as a weight: what rows of a device count in training, with noise and without."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.direct import assemble
from support.machines import contract, readings, write

from clients.examples import Examples, InputShape
from clients.model import Network, build, to_vector
from clients.private_training import clipped_gradients, private_rows
from clients.spec import ModelSpec, TrainingSpec
from clients.train import Target, train
from federation.noise_spec import NoiseSpec, make_plan

Floats = NDArray[np.float64]
TARGET = Target(kind="value")
HALF = 40


def network() -> Network:
    torch.set_num_threads(1)
    return build(ModelSpec(hidden=(4,)), InputShape(numeric=2, levels=()), seed=3)


def examples(trust: Floats | None = None) -> Examples:
    """Two devices that say opposite things of the same inputs."""
    rng = np.random.default_rng(0)
    inputs = np.tile(rng.normal(size=(HALF, 2)), (2, 1)).astype(np.float32)
    target = np.concatenate([inputs[:HALF, 0], -inputs[:HALF, 0]]).astype(np.float64)
    count = len(target)
    return Examples(
        numeric=inputs,
        codes=np.zeros((count, 0), np.int64),
        series=np.zeros((count, 0, 0), np.float32),
        target=target,
        target_raw=target,
        exposure=np.ones(count),
        group=np.full(count, -1),
        unit=np.repeat([0, 1], HALF),
        trust=trust,
    )


def trained(rows: Examples) -> Network:
    made = network()
    spec = TrainingSpec(rounds=1, local_epochs=60, batch_rows=16, learning_rate=0.02)
    train(made, rows, TARGET, spec, round_index=1, seed=1)
    return made


def follows(made: Network, sign: float) -> float:
    """Mean squared distance of the model from one device's rule."""
    rows = examples()
    numeric = torch.from_numpy(rows.numeric[:HALF])
    with torch.no_grad():
        out = made(numeric, torch.zeros((HALF, 0), dtype=torch.int64), torch.zeros((HALF, 0, 0)))
    return float(((out.numpy().reshape(-1) - sign * rows.numeric[:HALF, 0]) ** 2).mean())


def test_a_model_follows_the_device_that_is_trusted() -> None:
    first = trained(examples(np.repeat([1.0, 0.01], HALF)))
    second = trained(examples(np.repeat([0.01, 1.0], HALF)))
    for made, sign in ((first, 1), (second, -1)):
        assert follows(made, sign) < 0.1
        assert follows(made, -sign) > 1


def test_the_same_trust_in_all_changes_nothing() -> None:
    plain, half = trained(examples()), trained(examples(np.full(2 * HALF, 0.5)))
    assert np.allclose(to_vector(plain), to_vector(half), atol=1e-4)


def gradient(rows: Examples, *, clip: float) -> Floats:
    plan = make_plan(
        NoiseSpec(epsilon=8, rate=1.0, clip=clip),
        unit="device",
        parts="apart",
        stages=1,
        rounds=4,
        watches=0,
        protection="masked",
        fewest=3,
        statistics_sensitivity=1.0,
        evaluation_sensitivity=1.0,
    )
    assert plan is not None
    made = network()
    held = private_rows(made, rows, TARGET, replace(plan, rows_per_unit=HALF))
    return clipped_gradients(made, held, TARGET, plan, random.Random(5).randbytes)


def test_with_noise_less_trust_is_a_smaller_gradient_and_never_more_than_the_clip() -> None:
    first = examples().take(np.arange(HALF))
    half = replace(first, trust=np.full(HALF, 0.5))
    whole, halved = gradient(first, clip=1e6), gradient(half, clip=1e6)
    # rows are drawn alike, so all of a device's gradient is half of it
    assert np.allclose(halved, whole / 2)
    for rows in (first, half):
        assert np.linalg.norm(gradient(rows, clip=1e-3)) == pytest.approx(1e-3, rel=1e-6)


def test_examples_that_are_chosen_keep_their_trust() -> None:
    chosen = examples(np.linspace(0.1, 1.0, 2 * HALF)).take(np.array([3, 1]))
    assert chosen.trust is not None
    assert chosen.trust.tolist() == np.linspace(0.1, 1.0, 2 * HALF)[[3, 1]].tolist()
    assert examples().take(np.array([0])).trust is None


def test_a_run_weighs_where_its_contract_says_so_and_nowhere_else(tmp_path: Path) -> None:
    frame = readings()
    frame = frame[(frame["machine"] != "n0") | (frame["hour"] % 4 == 0)]
    models = {}
    for name, rules in (
        ("plain", {"interval": 1}),
        ("weighed", {"interval": 1, "weigh_by_trust": True}),
    ):
        changes = {"gate": rules, "columns": contract()["columns"]}
        where = write(tmp_path / name, frame, contract_changes=changes)
        direct = assemble(where.config, where.root)
        found = direct.run()
        models[name] = found
    plain, weighed = models["plain"], models["weighed"]
    assert not np.allclose(plain.model, weighed.model, atol=1e-5)
    # statistics count all rows alike
    assert np.allclose(plain.statistics[0], weighed.statistics[0], rtol=1e-6)
