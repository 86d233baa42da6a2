"""What the sum of one step tells of single rows: everything without noise, nothing with it.

"Robbing the Fed" (Fowl et al. 2022, ICLR): a first layer whose units all measure one brightness of
a row, each against a higher threshold. A unit's gradient is the sum over all rows above its
threshold; so the difference of two neighbours is over the rows between them, often a single one,
and the ratio of its weights' to its bias's gradient is that row. Scaling a row's gradient down
leaves the ratio as it is, so clipping alone is no help.

No member would take such weights from a coordinator (each computes the common model by itself),
but a model may come to look like this, or be proposed like this.
"""

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from clients.examples import Examples, InputShape
from clients.model import Network, build
from clients.private_training import clipped_gradients, private_rows
from clients.spec import ModelSpec
from clients.train import Target
from federation.noise_spec import NoiseSpec, make_plan
from privacy.fixed_point import packed
from privacy.ledger.entry import UPDATE
from privacy.mechanism import noised, update_precision, update_range
from privacy.plan import PrivacyPlan
from privacy.randomness import Entropy

Floats = NDArray[np.float64]
MEMBERS = 12
SAMPLES = 64  # readings of a window
BINS = 2048
NEAR = 0.01  # relative error of a row that counts as recovered
TARGET = Target(kind="binary")
UNCLIPPED = 1e6


def keys(seed: str) -> Entropy:
    return random.Random(seed).randbytes


def plan_of(rate: float, *, clip: float) -> PrivacyPlan:
    """The plan that a launcher gets for epsilon 8 over 400 rounds."""
    plan = make_plan(
        NoiseSpec(epsilon=8, rate=rate, clip=clip),
        unit="device",
        parts="apart",
        stages=1,
        rounds=400,
        watches=0,
        protection="masked",
        fewest=MEMBERS,
        statistics_sensitivity=1.0,
        evaluation_sensitivity=1.0,
    )
    assert plan is not None
    return plan


def windows(count: int, seed: int) -> Examples:
    """Readings of `count` devices, one window each: waves, a drift, measuring noise."""
    draw = np.random.default_rng(seed)
    time = np.linspace(0.0, 1.0, SAMPLES)
    phase, pitch, drift = draw.uniform(size=(3, count, 1))
    waves = np.sin(2 * np.pi * (phase + (2 + 6 * pitch) * time)) + 2 * (drift - 0.5) * time
    numeric = (waves + 0.3 * draw.normal(size=(count, SAMPLES))).astype(np.float32)
    label = (draw.uniform(size=count) < 0.3).astype(np.float64)
    return Examples(
        numeric=numeric,
        codes=np.zeros((count, 0), np.int64),
        series=np.zeros((count, 0, 0), np.float32),
        target=label,
        target_raw=label,
        exposure=np.ones(count),
        group=np.full(count, -1),
        unit=np.arange(count),
    )


def imprint(network: Network) -> None:
    """Set the weights; thresholds are quantiles of what the attacker thinks rows are like."""
    guess = windows(20_000, seed=999).numeric.astype(np.float64)
    direction = np.random.default_rng(7).normal(size=SAMPLES) / math.sqrt(SAMPLES)
    brightness = np.quantile(guess @ direction, (np.arange(BINS) + 0.5) / BINS)
    first = network.body[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(np.tile(direction, (BINS, 1))))
        first.bias.copy_(torch.from_numpy(-brightness))
        network.head.weight.fill_(1.0 / BINS)
        network.head.bias.zero_()


@dataclass(frozen=True)
class Step:
    """One step of a federation.

    Attributes:
        rows: Of all members.
        clear: Sum of what the members had before the noise.
        noised: Sum of what they had after it, before rounding.
        opened: What is opened.
    """

    rows: Floats
    clear: Floats
    noised: Floats
    opened: Floats


def step_of(rows_each: int, plan: PrivacyPlan, *, seed: str) -> Step:
    """Every member samples, clips, adds its share and writes its vector; the sum is opened."""
    torch.set_num_threads(1)
    entropy = keys(seed)
    shape = InputShape(numeric=SAMPLES, levels=())
    network = build(ModelSpec(hidden=(BINS,), activation="relu"), shape, seed=1)
    imprint(network)
    layout = packed(MEMBERS, update_range(plan), update_precision(plan))
    examples = [windows(rows_each, seed=member) for member in range(MEMBERS)]
    length = sum(weight.numel() for weight in network.parameters())
    clear, covered = np.zeros((2, length))
    words = np.zeros(layout.words(length), np.uint64)
    for own in examples:
        rows = private_rows(network, own, TARGET, plan)
        vector = clipped_gradients(network, rows, TARGET, plan, entropy)
        shared = noised(vector, plan=plan, step=UPDATE, limit=layout.clip, entropy=entropy)
        words += layout.encode(shared, entropy)
        clear += vector
        covered += shared
    return Step(
        rows=np.concatenate([own.numeric for own in examples]),
        clear=clear,
        noised=covered,
        opened=layout.decode_sum(words, length, MEMBERS),
    )


def recovered(total: Floats, rows: Floats) -> float:
    """Share of the rows that a sum of gradients shows to within `NEAR`."""
    weights = total[: BINS * SAMPLES].reshape(BINS, SAMPLES)
    biases = total[BINS * SAMPLES : BINS * (SAMPLES + 1)]
    # the highest threshold has no neighbour above; nothing is above it
    between = np.diff(weights, axis=0, append=0.0)
    amount = np.diff(biases, append=0.0)
    seen = np.abs(amount) > 1e-12 * np.abs(amount).max()
    guesses = between[seen] / amount[seen, None]
    far = np.linalg.norm(guesses[None] - rows[:, None], axis=2).min(axis=1)
    return float((far < NEAR * np.linalg.norm(rows, axis=1)).mean())


@pytest.mark.parametrize("rows_each", [4, 12])
def test_without_noise_the_sum_of_twelve_members_shows_most_rows(rows_each: int) -> None:
    """So the probe works: else that it finds nothing would mean nothing."""
    step = step_of(rows_each, plan_of(1.0, clip=UNCLIPPED), seed="plain")
    assert recovered(step.clear, step.rows) > 0.8


def test_clipping_alone_hides_nothing() -> None:
    step = step_of(4, plan_of(1.0, clip=1e-4), seed="clip")
    assert np.linalg.norm(step.clear) < MEMBERS * 4 * 1.1e-4
    assert recovered(step.clear, step.rows) > 0.8


@pytest.mark.parametrize(
    ("rows_each", "rate", "clip"), [(1, 1.0, 1.0), (4, 1.0, 1.0), (4, 1.0, 1e-4), (12, 0.5, 1.0)]
)
def test_with_the_noise_of_epsilon_8_the_sum_shows_no_row(
    rows_each: int, rate: float, clip: float
) -> None:
    step = step_of(rows_each, plan_of(rate, clip=clip), seed=f"noise {rows_each}")
    assert recovered(step.opened, step.rows) == 0
    assert recovered(step.noised, step.rows) == 0  # it is the noise and not the rounding


def test_the_share_of_one_member_is_enough_to_show_no_row() -> None:
    """What is left where everybody else works with the coordinator."""
    plan = plan_of(1.0, clip=1.0)
    step = step_of(4, plan, seed="solo")
    limit = update_range(plan)
    alone = noised(step.clear, plan=plan, step=UPDATE, limit=limit, entropy=keys("share"))
    assert recovered(alone, step.rows) == 0
    tiny = step.clear + 1e-9 * (alone - step.clear)
    assert recovered(tiny, step.rows) > 0.5  # so it is the amount of noise that matters
