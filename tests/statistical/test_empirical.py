"""The audit of the noise passes what is right, and catches what is wrong; and other conformance.

All draws come from fixed keys, so a result does not change from run to run.
"""

import dataclasses
import json
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clients.examples import Examples, InputShape
from clients.model import Network, build
from clients.private_training import clipped_gradients, private_rows
from clients.spec import ModelSpec
from clients.train import Target
from privacy import empirical, mechanism
from privacy.accounting.calibrate import smallest_multiplier
from privacy.accounting.event import Event
from privacy.accounting.pld import loss
from privacy.empirical import CANARIES_MAX, CANARIES_MIN, SURE, Finding, audit, canaries_within
from privacy.errors import RefusedError
from privacy.fixed_point import packed
from privacy.ledger.entry import UPDATE
from privacy.mechanism import noised, update_precision, update_range
from privacy.noise import gaussian
from privacy.plan import Noise, PrivacyPlan
from privacy.randomness import Entropy, system_bytes
from privacy.receipt import Mechanism
from privacy.sampling import poisson

Floats = NDArray[np.float64]
Fault = Callable[[pytest.MonkeyPatch], None]
STEPS = 400
FEWEST = 3
DELTA = 1e-5
MULTIPLIERS = {1: 3.8766, 2: 2.1873, 4: 1.3406, 8: 0.9161}  # proven for q = .05, T = 400


def keys(seed: object) -> Entropy:
    return random.Random(str(seed)).randbytes


def plan_of(
    multiplier: float,
    *,
    noise: Noise = "distributed",
    kind: Mechanism = "gaussian",
    rate: float = 0.05,
    clip: float = 1.0,
) -> PrivacyPlan:
    """Two honest members beside one that colludes; together they have the multiplier."""
    honest = FEWEST - 1 if noise == "distributed" else 1
    return PrivacyPlan(
        noise=noise,
        mechanism=kind,
        unit="borrower",
        parts="apart",
        rate=rate,
        rows_per_unit=8,
        clip=clip,
        steps=1,
        watches=0,
        update_share=multiplier / math.sqrt(honest),
        statistics_share=1.0,
        statistics_clip=1.0,
        watch_share=1.0,
        test_share=1.0,
        evaluation_clip=1.0,
        colluders=1,
        delta=DELTA,
        grid=2.0**-13,
    )


def found(
    plan: PrivacyPlan, seed: object, *, steps: int = STEPS, canaries: int = 10_000
) -> Finding:
    return audit(plan, steps=steps, fewest=FEWEST, entropy=keys(seed), canaries=canaries)


# -- what is right passes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "lower", "gaussian_lower"),
    [
        (1, (0.1, 0.4), (0.45, 0.8)),
        (2, (0.4, 0.9), (1.2, 1.7)),
        (4, (1.0, 2.0), (2.9, 3.6)),
        (8, (2.2, 3.2), (5.6, 6.5)),
    ],
)
def test_a_right_mechanism_passes_and_its_lower_bounds_are_near_the_claim(
    epsilon: int, lower: tuple[float, float], gaussian_lower: tuple[float, float]
) -> None:
    finding = found(plan_of(MULTIPLIERS[epsilon]), f"right {epsilon}")
    finding.require()
    assert finding.epsilon_claimed == pytest.approx(epsilon, rel=2e-3)
    assert lower[0] < finding.epsilon_lower < lower[1]
    assert gaussian_lower[0] < finding.epsilon_lower_gaussian < gaussian_lower[1]
    assert finding.multiplier == pytest.approx(MULTIPLIERS[epsilon], rel=2e-3)
    assert finding.multiplier_claimed == pytest.approx(MULTIPLIERS[epsilon])
    assert finding.rate == pytest.approx(0.05, abs=5e-4)


@pytest.mark.parametrize(
    "plan",
    [
        plan_of(1.3406, noise="local"),
        plan_of(1.3406, clip=0.37),
        plan_of(1.3406, clip=2.0**12),
        plan_of(1.3406, kind="discrete_gaussian", clip=0.5),
        plan_of(24.0, rate=1.0),
        plan_of(0.9, rate=0.3, noise="local"),
        plan_of(50.0, rate=0.001),
    ],
    ids=["local", "small clip", "great clip", "discrete", "no sampling", "little noise", "much"],
)
def test_every_kind_of_plan_can_be_audited(plan: PrivacyPlan) -> None:
    discrete = plan.mechanism == "discrete_gaussian"
    finding = found(
        plan, plan.to_json(), steps=100 if discrete else 200, canaries=300 if discrete else 3000
    )
    finding.require()
    assert 0 <= finding.epsilon_lower < finding.epsilon_claimed
    assert finding.epsilon_lower_gaussian < finding.epsilon_claimed
    low, high = finding.multiplier_interval
    # rounding adds a little noise to the claimed
    assert low < finding.multiplier_claimed * 1.001
    assert finding.multiplier_claimed < high
    assert (finding.rate_beyond is None) == discrete


def test_noise_that_hides_nothing_is_seen_through() -> None:
    """The largest epsilon that so many canaries can show."""
    finding = found(plan_of(0.25, rate=1.0), "none", steps=2, canaries=4000)
    assert finding.epsilon_lower > 5
    assert finding.epsilon_lower_gaussian > 5


def test_the_layout_of_a_run_can_be_given() -> None:
    plan = plan_of(1.3406)
    layout = packed(60, update_range(plan), update_precision(plan), [(1, 42)])
    audit(
        plan, steps=20, fewest=FEWEST, canaries=500, entropy=keys("layout"), layout=layout
    ).require()


@pytest.mark.parametrize(
    ("rate", "steps"),
    [(0.05, 1), (0.3, 1), (0.9, 5), (0.01, 20), (0.05, 400), (0.5, 400), (1.0, 9)],
)
def test_the_gaussian_reading_gives_no_more_than_the_claim_on_the_exact_curve(
    rate: float, steps: int
) -> None:
    """Errors that are known exactly, of sampled Gaussian steps, do not refute what is proven."""
    event = Event(
        smallest_multiplier(lambda m: [Event(m, rate, steps)], epsilon=2.0, delta=DELTA),
        rate,
        steps,
    )
    exact = loss([event])
    for false_positives in (0.001, 0.02, 0.1, 0.6):
        missed = 1 - exact.true_positive_rate(false_positives)
        lower = empirical._epsilon_gaussian([(false_positives, missed)], DELTA)
        assert lower <= exact.epsilon(DELTA) * 1.001


# -- what is wrong is caught ------------------------------------------------------------------


def little_noise(factor: float) -> Fault:
    def draw(count: int, deviation: float, entropy: Entropy) -> Floats:
        return gaussian(count, deviation * factor, entropy)

    return lambda patch: patch.setattr(mechanism, "gaussian", draw)


def often(patch: pytest.MonkeyPatch) -> None:
    def draw(count: int, rate: float, entropy: Entropy) -> NDArray[np.int64]:
        return poisson(count, rate if rate == 0.5 else 2 * rate, entropy)  # 0.5: the coins

    patch.setattr(empirical, "poisson", draw)


def long(patch: pytest.MonkeyPatch) -> None:
    def cover(
        values: Floats, *, plan: PrivacyPlan, step: str, limit: float, entropy: Entropy
    ) -> Floats:
        return noised(2 * values, plan=plan, step=step, limit=limit, entropy=entropy)

    patch.setattr(empirical, "noised", cover)


def forgotten(patch: pytest.MonkeyPatch) -> None:
    """Of two members one forgets its noise: 0.71 of what is claimed."""
    turns = iter(range(10**9))

    def draw(count: int, deviation: float, entropy: Entropy) -> Floats:
        return gaussian(count, deviation if next(turns) % 2 else 0.0, entropy)

    patch.setattr(mechanism, "gaussian", draw)


@pytest.mark.parametrize("epsilon", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (little_noise(0.7), "the noise is"),
        (little_noise(0.5), "the noise is"),
        (often, "units are in a step with chance"),
        (long, "epsilon is at least"),
        (forgotten, "the noise is"),
    ],
    ids=["noise x 0.7", "noise x 0.5", "rate doubled", "clip doubled", "a share missing"],
)
def test_a_wrong_mechanism_is_caught(
    fault: Fault, sentence: str, epsilon: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    canaries = 10_000 if epsilon == 1 else 4000
    finding = found(plan_of(MULTIPLIERS[epsilon]), f"{sentence} {epsilon}", canaries=canaries)
    with pytest.raises(RefusedError, match=sentence):
        finding.require()
    # seen through the attack alone, at 95 %, as well, where there is less noise to see through
    least = finding.epsilon_claimed if epsilon > 1 else 0.8 * finding.epsilon_claimed
    assert finding.epsilon_lower_gaussian > least


@pytest.mark.parametrize("fault", [often, long], ids=["rate doubled", "clip doubled"])
def test_an_attack_that_is_too_good_needs_no_assumption_to_refute(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    finding = found(plan_of(MULTIPLIERS[4]), "beyond")
    assert finding.rate_beyond is not None
    assert finding.rate_beyond > 0.1


def test_noise_that_is_one_hundredth_too_small_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    little_noise(0.99)(monkeypatch)
    with pytest.raises(RefusedError, match="the noise is"):
        found(plan_of(MULTIPLIERS[8]), "one per cent").require()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"multiplier_interval": (0.8, 0.9)}, "the noise is 1 clips where 1 are claimed"),
        ({"rate_interval": (0.06, 0.07)}, "chance 0.05 where 0.05"),
        ({"epsilon_refuted": 4.1}, "epsilon is at least 4.1 where 4 is claimed"),
        ({"rate_beyond": 1e-6}, "an attack finds more canaries"),
    ],
)
def test_each_contradiction_refuses_by_itself(change: dict[str, object], sentence: str) -> None:
    finding = Finding(
        epsilon_claimed=4.0,
        delta=DELTA,
        epsilon_lower=1.0,
        epsilon_lower_gaussian=3.0,
        confidence=0.95,
        epsilon_refuted=2.0,
        rate_beyond=-0.01,
        multiplier_claimed=1.0,
        multiplier=1.0,
        multiplier_interval=(0.99, 1.01),
        rate_claimed=0.05,
        rate=0.05,
        rate_interval=(0.049, 0.051),
        canaries=1000,
        steps=10,
    )
    finding.require()
    assert json.loads(json.dumps(finding.to_json()))["multiplier_interval"] == [0.99, 1.01]
    with pytest.raises(RefusedError, match=sentence):
        dataclasses.replace(finding, **change).require()  # type: ignore[arg-type]


def test_a_senseless_audit_is_a_fault_of_the_caller() -> None:
    plan = plan_of(1.0)
    for wrong in ({"steps": 0}, {"fewest": 0}, {"canaries": 99}, {"confidence": 1.0}):
        settings = {"steps": 1, "fewest": 2, "canaries": 100, "confidence": 0.9} | wrong
        with pytest.raises(ValueError, match="need canaries"):
            audit(plan, entropy=system_bytes, **settings)


def test_the_number_of_canaries_follows_from_the_time_there_is() -> None:
    plan = plan_of(1.0)
    few = canaries_within(3.0, plan, steps=400, fewest=60)
    assert CANARIES_MIN < few < canaries_within(3.0, plan, steps=400, fewest=40) < CANARIES_MAX
    assert canaries_within(3.0, plan, steps=1, fewest=2) == CANARIES_MAX
    assert canaries_within(3.0, plan, steps=10**6, fewest=2) == CANARIES_MIN
    local = dataclasses.replace(plan, noise="local")
    assert canaries_within(3.0, local, steps=400, fewest=60) == CANARIES_MAX


# -- conformance ------------------------------------------------------------------------------


def spread(values: Floats) -> float:
    return math.sqrt(float(values @ values) / values.size)


@pytest.mark.parametrize("factor", [1.0, 0.997, 1.003])
def test_the_deviation_of_a_share_is_as_planned_to_one_in_a_thousand(factor: float) -> None:
    """Four million draws have a standard error of 0.035 %; a fault of 0.3 % is seen."""
    plan = plan_of(1.2, clip=0.25)
    drawn = dataclasses.replace(plan, update_share=plan.update_share * factor)
    zeros = np.zeros(4_000_000)
    limit = update_range(plan)
    noise = noised(zeros, plan=drawn, step=UPDATE, limit=limit, entropy=keys("sigma"))
    right = abs(spread(noise) / (plan.update_share * plan.clip) - 1) < 1e-3
    assert right == (factor == 1.0)


def test_the_discrete_share_has_the_planned_deviation() -> None:
    plan = plan_of(1.2, kind="discrete_gaussian", clip=0.25)
    zeros = np.zeros(100_000)
    noise = noised(
        zeros, plan=plan, step=UPDATE, limit=update_range(plan), entropy=keys("discrete")
    )
    assert spread(noise) / (plan.update_share * plan.clip) == pytest.approx(1, abs=0.01)
    grid = plan.grid * plan.clip
    assert np.array_equal(np.rint(noise / grid) * grid, noise)


@pytest.mark.parametrize(("rate", "right"), [(0.05, True), (0.0515, False), (0.0485, False)])
def test_units_are_sampled_at_the_planned_rate(rate: float, right: bool) -> None:
    taken = poisson(4_000_000, rate, keys("rate")).size
    deviation = math.sqrt(4_000_000 * 0.05 * 0.95)
    assert (abs(taken - 4_000_000 * 0.05) / deviation < 5) == right


def repeats(entropy: Entropy) -> int:
    """How often one of 50 samples, or of 50 noises, comes a second time."""
    plan = plan_of(1.0)
    samples = {poisson(2000, 0.5, entropy).tobytes() for _ in range(50)}
    zeros = np.zeros(1)
    limit = update_range(plan)
    noises = {
        noised(zeros, plan=plan, step=UPDATE, limit=limit, entropy=entropy).tobytes()
        for _ in range(50)
    }
    return 100 - len(samples) - len(noises)


def test_sampling_and_noise_never_repeat_themselves() -> None:
    assert repeats(system_bytes) == 0
    assert repeats(bytes) == 98  # a generator that is stuck is seen


def test_noises_of_two_steps_are_unrelated() -> None:
    """Of the system's own: that it is further off is so once in 2e10 times.

    By Chernoff, 2 exp(-7^2 / 2): E exp(t x y) is (1 - t^2)^(-1/2), at t = 7 / 1000.
    """
    first, second = (gaussian(1_000_000, 1.0, system_bytes) for _ in range(2))
    assert apart(first, second)
    assert not apart(first, second + 0.05 * first)  # the twin, fifty off by what is tied


def apart(first: Floats, second: Floats) -> bool:
    return abs(float(first @ second)) / math.sqrt(first.size) < 7


WILD = (0.0, -0.0, 1e-30, 1.0, 1e4, 1e30, -1e30, 3e38, math.inf, -math.inf, math.nan)


def wild_rows(labels: Floats) -> Examples:
    """One unit for each wild value in each way: everywhere, in one input, mixed with others."""
    inputs = [np.full(5, value) for value in WILD]
    inputs += [np.where(np.arange(5) == 2, value, 0.3) for value in WILD]
    inputs += [np.array([value, -value, 1.0, -1.0, value]) for value in WILD]
    count = len(inputs)
    target = np.resize(labels, count)
    with np.errstate(over="ignore"):
        numeric = np.array(inputs).astype(np.float32)
    return Examples(
        numeric=numeric,
        codes=np.arange(count)[:, None] % 3,
        series=np.zeros((count, 0, 0), np.float32),
        target=target,
        target_raw=target,
        exposure=np.ones(count),
        group=np.full(count, -1),
        unit=np.arange(count),
    )


def wild_network() -> Network:
    torch.set_num_threads(1)
    spec = ModelSpec(hidden=(16, 8), activation="relu", linear=True)
    return build(spec, InputShape(numeric=5, levels=(3,)), seed=3)


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (Target(kind="binary"), np.array([0.0, 1.0])),
        (Target(kind="value"), np.array([0.0, 1.0, 1e30, -1e18, math.nan])),
        (Target(kind="count"), np.array([0.0, 3.0, 1e30])),
    ],
    ids=["binary", "value", "count"],
)
@pytest.mark.parametrize("clip", [1.0, 1e-3, 37.5])
def test_no_row_however_wild_moves_a_sum_by_more_than_the_clip(
    target: Target, labels: Floats, clip: float
) -> None:
    network, rows = wild_network(), wild_rows(labels)
    plan = plan_of(1.0, rate=1.0, clip=clip)

    def sum_of(chosen: NDArray[np.bool_]) -> Floats:
        part = private_rows(network, rows.take(chosen), target, plan)
        return clipped_gradients(network, part, target, plan, system_bytes)

    everything = np.ones(len(rows), dtype=np.bool_)
    whole = sum_of(everything)
    longest = 0.0
    for unit in range(len(rows)):
        alone = rows.unit == unit
        moved = float(np.linalg.norm(whole - sum_of(~alone)))
        assert float(np.linalg.norm(sum_of(alone))) <= clip * (1 + 1e-6)
        assert moved <= clip * (1 + 1e-6)
        longest = max(longest, moved)
    assert longest > clip * (1 - 1e-6)  # so that it is the clip that holds them


def test_most_is_sure() -> None:
    assert 1 - 1.1e-6 < SURE < 1 - 0.9e-6
