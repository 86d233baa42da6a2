"""What do attacks find of the units that noise should hide, beside what is proven? See README.md.

    python experiments/privacy_audit/run.py [--data FOLDER] [--seeds 0 1 2]
    python experiments/privacy_audit/run.py --quick    # generated data, a minute; writes nothing
    python experiments/privacy_audit/run.py --table    # tables and plot, from result.json

Training, clipping, sampling, noise and rounding are the product's own. Only the randomness is
seeded, so that a figure can be had again; in production there is no seed.
"""

import argparse
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - after the threads are set
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from scipy.special import ndtr, ndtri  # noqa: E402
from scipy.stats import binom  # noqa: E402
from thresholds import faults  # noqa: E402

from clients import common_model  # noqa: E402
from clients.contract import DataContract, load_contract  # noqa: E402
from clients.examples import Examples  # noqa: E402
from clients.learner import Learner  # noqa: E402
from clients.members import MemberRows, read_members  # noqa: E402
from clients.model import Network, from_vector  # noqa: E402
from clients.private_training import PrivateRows, clipped_gradients, private_rows, train_privately  # noqa: E402
from clients.spec import FeatureSpec, ModelSpec, NodeSpec, ServerStep, TrainingSpec  # noqa: E402
from clients.train import score, train  # noqa: E402
from federation.config import data_root  # noqa: E402
from federation.noise_spec import NoiseSpec, make_plan  # noqa: E402
from privacy.accounting.calibrate import smallest_multiplier  # noqa: E402
from privacy.accounting.event import Event  # noqa: E402
from privacy.accounting.pld import loss, reported  # noqa: E402
from privacy.empirical import CANARIES_MAX, audit  # noqa: E402
from privacy.fixed_point import FixedPoint  # noqa: E402
from privacy.ledger.entry import STATISTICS, UPDATE  # noqa: E402
from privacy.mechanism import gradient_layout, noised  # noqa: E402
from privacy.plan import PrivacyPlan  # noqa: E402
from privacy.randomness import Entropy  # noqa: E402
from privacy.sampling import poisson  # noqa: E402
from privacy.secure_sum.schemes import scheme_of  # noqa: E402
from privacy.tally import metrics  # noqa: E402

EPSILONS = (1.0, 2.0, 4.0, 8.0)
HALVED = (2.0, 8.0)  # also with half of the noise that is claimed
DELTA = 1e-5
RATE = 0.05
COLLUDERS = 1
CONFIDENCE = 0.95
SILENT = 1e-9  # clips: as good as no noise, and a plan all the same
GUESSES = (0.01, 0.03, 0.1, 0.2, 0.3)  # part of the canaries that is guessed on, for each side
PILOT_STEPS = 10
FALSE_POSITIVES = 0.01
NEAR = 0.01  # relative error of a row that counts as recovered


@dataclass(frozen=True)
class Size:
    """How much is run."""

    canaries: int
    rounds: int
    one_run_canaries: int
    shadows: int
    pool: int
    lira_rounds: int
    epochs: int
    batches: tuple[int, ...]
    bins: int


FULL = Size(CANARIES_MAX, 400, 1000, 48, 4000, 100, 120, (1, 4, 16, 64), 1024)
QUICK = Size(1000, 40, 200, 6, 400, 10, 20, (1, 4), 256)


def keys(*seed: object) -> Entropy:
    return random.Random(repr(seed)).randbytes  # noqa: S311 - so that a figure can be had again


# -- the federation ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Federation:
    """Members' rows, and how they learn together."""

    contract: DataContract
    rows: dict[str, MemberRows]

    @property
    def members(self) -> int:
        return len(self.rows)


def node_spec(seed: int, rounds: int, hidden: tuple[int, ...]) -> NodeSpec:
    return NodeSpec(
        task="credit",
        seed=seed,
        validation_share=0.0,
        features=FeatureSpec(),
        model=ModelSpec(hidden=hidden, activation="tanh"),
        training=TrainingSpec(rounds=rounds, learning_rate=0.005, schedule="cosine"),
        server=ServerStep(kind="fedadam", learning_rate=0.02),
        average_last=max(1, rounds // 4),
    )


def multiplier_for(epsilon: float, rate: float, steps: int) -> float:
    """Of the updates alone: the audit is of them."""
    return smallest_multiplier(lambda m: [Event(m, rate, steps)], epsilon=epsilon, delta=DELTA)


def plan_for(
    epsilon: float | None, *, members: int, rounds: int, local: bool = False, rate: float = RATE
) -> PrivacyPlan:
    """The plan of a launcher; without noise where there is no epsilon."""
    steps = {"noise": "local", "steps": rounds} if local else {"noise": "distributed"}
    multiplier = 1.0 if epsilon is None else multiplier_for(epsilon, rate, rounds)
    plan = make_plan(
        NoiseSpec(multiplier=multiplier, delta=DELTA, colluders=COLLUDERS, rate=rate, **steps),
        unit="borrower",
        parts="apart",
        stages=1,
        rounds=1 if local else rounds,
        watches=0,
        protection="masked",
        fewest=members,
        statistics_sensitivity=2.0,
        evaluation_sensitivity=1.0,
    )
    if plan is None:
        raise RuntimeError("a plan with noise was asked for")
    return plan if epsilon is not None else replace(plan, update_share=SILENT)


def learners(
    federation: Federation, spec: NodeSpec, plan: PrivacyPlan
) -> tuple[dict[str, Learner], np.ndarray]:
    """Every member's learner, started from the summed statistics; their noise is not audited."""
    work = {name: Learner(federation.contract, spec, "cpu", plan=plan) for name in federation.rows}
    limit = 2.0**60
    released = np.sum(
        [
            noised(
                work[name].tally_statistics(one.train, []),
                plan=plan,
                step=STATISTICS,
                limit=limit,
                entropy=keys(spec.seed, name),
            )
            for name, one in federation.rows.items()
        ],
        axis=0,
    )
    for one in work.values():
        one.start([released])
    return work, released


def layout_of(plan: PrivacyPlan, members: int) -> FixedPoint:
    # a run without noise is written as one with some
    some = replace(plan, update_share=max(plan.update_share, 0.1))
    return gradient_layout(some, members, scheme_of("masked"))


# -- dummy coordinates ------------------------------------------------------------------------


def dummy(federation: Federation, size: Size, seeds: Sequence[int]) -> list[dict]:
    cases: list[tuple[float | None, float]] = [(epsilon, 1.0) for epsilon in (*EPSILONS, None)]
    cases += [(epsilon, 0.5) for epsilon in HALVED]
    out = []
    for epsilon, factor in cases:
        plan = plan_for(epsilon, members=federation.members, rounds=size.rounds)
        runs = [
            audit(
                replace(plan, update_share=factor * plan.update_share),
                steps=size.rounds,
                fewest=federation.members,
                canaries=size.canaries,
                confidence=CONFIDENCE,
                entropy=keys("dummy", epsilon, factor, seed),
            )
            for seed in seeds
        ]
        out.append(
            {
                "epsilon": epsilon,
                "noise": 0.0 if epsilon is None else factor,
                "proven": None if epsilon is None else proven(plan, size.rounds, federation),
                "lower": [one.epsilon_lower for one in runs],
                "lower_gaussian": [one.epsilon_lower_gaussian for one in runs],
                "multiplier": [one.multiplier for one in runs],
                "multiplier_claimed": plan.update_share * math.sqrt(federation.members - COLLUDERS),
            }
        )
        print("dummy", out[-1], flush=True)
    return out


def proven(plan: PrivacyPlan, steps: int, federation: Federation) -> float:
    multiplier = plan.update_share * math.sqrt(federation.members - COLLUDERS)
    return reported([Event(multiplier, plan.rate, steps)], plan.delta).epsilon


# -- one run of the real model ----------------------------------------------------------------


@dataclass(frozen=True)
class Canaries:
    """Units that are one coordinate of the model each.

    Attributes:
        places: Shape (m,). Coordinates in which real units' gradients are smallest.
        present: Shape (m,). A coin each.
        member: Which member has them.
    """

    places: np.ndarray
    present: np.ndarray
    member: str


def one_run(federation: Federation, size: Size, seeds: Sequence[int]) -> list[dict]:
    cases: list[tuple[float | None, float]] = [(epsilon, 1.0) for epsilon in (*EPSILONS, None)]
    cases += [(epsilon, 0.5) for epsilon in HALVED]
    out = []
    for epsilon, factor in cases:
        plan = plan_for(epsilon, members=federation.members, rounds=size.rounds)
        done = [trained(federation, plan, size, seed, factor=factor) for seed in seeds]
        bounds = [lower_bounds(scores, present) for scores, present, _ in done]
        out.append(
            {
                "epsilon": epsilon,
                "noise": 0.0 if epsilon is None else factor,
                "proven": None if epsilon is None else proven(plan, size.rounds, federation),
                "lower": [one for one, _ in bounds],
                "lower_gaussian": [other for _, other in bounds],
                "auc": [auc for _, _, auc in done],
            }
        )
        print("one run", out[-1], flush=True)
    return out


def trained(
    federation: Federation, plan: PrivacyPlan, size: Size, seed: int, *, factor: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Train with canaries among the units; their scores, their coins, and the model's test AUC."""
    spec = node_spec(seed, size.rounds, (48, 16))
    entropy = keys("one run", plan.update_share, factor, seed)
    work, released = learners(federation, spec, plan)
    first = next(iter(work))
    laid = {}
    for name, one in federation.rows.items():
        examples = work[name].training_examples(one.train, [released])
        laid[name] = private_rows(work[name].network, examples, work[name].target, plan)
    count = size.one_run_canaries
    present = np.zeros(count, dtype=bool)
    present[poisson(count, 0.5, entropy)] = True
    places = quiet_places(work[first], laid[first], plan, count, entropy)
    canaries = Canaries(places, present, first)
    layout = layout_of(plan, federation.members)
    common = common_model.start(work[first].vector())
    units = sum(one.starts.size for one in laid.values())
    run_plan = replace(plan, update_share=factor * plan.update_share)
    variance = (federation.members - COLLUDERS) * run_plan.update_share**2
    scores = np.zeros(count)
    for _ in range(size.rounds):
        total = opened_sum(
            work,
            laid,
            plan=run_plan,
            layout=layout,
            model=common.current,
            canaries=canaries,
            entropy=entropy,
        )
        # a canary adds minus the clip, as a gradient goes downhill
        seen = -total[canaries.places] / plan.clip
        scores += np.logaddexp(
            math.log1p(-plan.rate), math.log(plan.rate) + (2 * seen - 1) / (2 * variance)
        )
        mean = total / (plan.rate * units)
        common = common_model.after_round(common, mean, spec, scheduled=True, hold=work[first].hold)
    tallies = []
    for name, one in federation.rows.items():
        from_vector(work[name].network, common.average)
        tallies.append(work[name].tally(work[name].test_examples(one.test, [released]), exact=True))
    found = metrics(work[first].kind, np.sum(tallies, axis=0), work[first].groups)
    return scores, present, found["auc"]


def quiet_places(
    work: Learner, rows: PrivateRows, plan: PrivacyPlan, count: int, entropy: Entropy
) -> np.ndarray:
    """Coordinates of the smallest gradients at the start: inputs that hardly any row has."""
    squares = np.zeros(work.length)
    for _ in range(PILOT_STEPS):
        squares += clipped_gradients(work.network, rows, work.target, plan, entropy) ** 2
    return np.argsort(squares, kind="stable")[:count]


def opened_sum(
    work: dict[str, Learner],
    laid: dict[str, PrivateRows],
    *,
    plan: PrivacyPlan,
    layout: FixedPoint,
    model: np.ndarray,
    canaries: Canaries,
    entropy: Entropy,
) -> np.ndarray:
    """One step of all members; the colluders' noise is left out, as if subtracted."""
    words = np.zeros(layout.words(model.size), np.uint64)
    for index, (name, one) in enumerate(work.items()):
        from_vector(one.network, model)
        own = -clipped_gradients(one.network, laid[name], one.target, plan, entropy)
        if name == canaries.member:
            drawn = np.zeros(canaries.present.size, dtype=bool)
            drawn[poisson(drawn.size, plan.rate, entropy)] = True
            own[canaries.places[drawn & canaries.present]] -= plan.clip
        if index < len(work) - COLLUDERS:
            own = noised(own, plan=plan, step=UPDATE, limit=layout.clip, entropy=entropy)
        words += layout.encode(own, entropy)
    return layout.decode_sum(words, model.size, len(work))


def lower_bounds(scores: np.ndarray, present: np.ndarray) -> tuple[float, float]:
    """Lower bounds on epsilon: without an assumption, and for a Gaussian trade-off.

    Guesses "present" for the highest scores and "absent" for the lowest, as many of each. The best
    number of guesses is taken, and the confidence shared out among those that were tried.
    """
    order = np.argsort(-scores, kind="stable")
    chance = (1 - CONFIDENCE) / len(GUESSES)
    best = [0.0, 0.0]
    for part in GUESSES:
        side = max(1, int(part * scores.size))
        right = int(present[order[:side]].sum() + (~present[order[-side:]]).sum())
        facts = {"right": right, "guesses": 2 * side, "canaries": scores.size, "chance": chance}
        best[0] = max(best[0], one_run_epsilon(**facts))
        best[1] = max(best[1], epsilon_of_mu(one_run_mu(**facts)))
    return best[0], best[1]


def one_run_epsilon(*, right: int, guesses: int, canaries: int, chance: float) -> float:
    """Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), theorem 5.2, for the given delta."""

    def refuted(epsilon: float) -> bool:
        each = 1 / (1 + math.exp(-epsilon))
        tail = binom.sf(right - 1, guesses, each)
        below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, each))
        slope = float((below / np.arange(1, right + 1)).max(initial=0.0))
        return bool(tail + 2 * canaries * DELTA * slope < chance)

    return largest(refuted, 20.0)


def one_run_mu(*, right: int, guesses: int, canaries: int, chance: float) -> float:
    """Mahloujifar, Melis, Chaudhuri 2024 (arXiv 2410.22235), algorithm 3, for Gaussian trade-off.

    If the mechanism's trade-off is that of N(0, 1) against N(mu, 1), so many right guesses have
    less than that chance wherever the recursion ends above what guesses there are.
    """

    def refuted(mu: float) -> bool:
        hit = chance * right / canaries
        miss = chance * (guesses - right) / canaries
        for index in range(right - 1, -1, -1):
            before, miss = miss, max(miss, float(ndtr(ndtri(hit) - mu)))
            hit += index / (guesses - index) * (miss - before)
            if hit + miss > guesses / canaries:
                return True
        return False

    return largest(refuted, 20.0)


def largest(refuted: Callable[[float], bool], high: float) -> float:
    """Greatest value that is refuted, as far as halving finds it."""
    if not refuted(0.0):
        return 0.0
    low = 0.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def epsilon_of_mu(mu: float) -> float:
    """Of a Gaussian release, at DELTA (Dong, Roth, Su 2022, corollary 2.13)."""
    if mu <= 0:
        return 0.0

    def more(epsilon: float) -> bool:
        kept = ndtr(-epsilon / mu + mu / 2)
        return kept - math.exp(epsilon) * ndtr(-epsilon / mu - mu / 2) > DELTA

    return largest(more, mu * mu / 2 + 10 * mu)


# -- LiRA -------------------------------------------------------------------------------------


def lira(federation: Federation, size: Size, seed: int) -> list[dict]:
    """The likelihood-ratio attack (Carlini et al. 2022, S&P), each shadow in turn as the target."""
    alone, released, pool, test = one_member(federation, size, seed)
    draw = np.random.default_rng(seed)
    # a coin for each row and shadow: what others drew tells nothing of a target's coins
    inside = draw.random((len(pool), size.shadows)) < 0.5  # noqa: PLR2004
    out = []
    for epsilon in (None, 8.0, 1.0):
        confidence = np.zeros((len(pool), size.shadows))
        aucs = []
        for shadow in range(size.shadows):
            alone.start([released])
            fit(alone, pool.take(inside[:, shadow]), epsilon, size, (seed, shadow))
            confidence[:, shadow] = confident(alone, pool)
            aucs.append(metrics(alone.kind, alone.tally(test, exact=True), alone.groups)["auc"])
        scores = likelihood_ratios(confidence, inside)
        found = [curve(scores[:, s], inside[:, s]) for s in range(size.shadows)]
        bounds = [lower_bounds(scores[:, s], inside[:, s]) for s in range(size.shadows)]
        steps = size.lira_rounds
        best, claim = 1.0, None
        if epsilon is not None:
            known = loss([Event(multiplier_for(epsilon, 2 * RATE, steps), 2 * RATE, steps)])
            best, claim = known.true_positive_rate(FALSE_POSITIVES), known.epsilon(DELTA)
        rates = [rate for _, rate in found]
        out.append(
            {
                "epsilon": epsilon,
                "proven": claim,
                "test_auc": statistics.mean(aucs),
                "auc": statistics.mean(auc for auc, _ in found),
                "rate": statistics.mean(rates),
                "rate_error": statistics.stdev(rates) / math.sqrt(len(rates)),
                "rate_proven": best,
                "lower_mean": statistics.mean(one for one, _ in bounds),
                "lower_gaussian_mean": statistics.mean(other for _, other in bounds),
            }
        )
        print("lira", out[-1], flush=True)
    return out


def one_member(
    federation: Federation, size: Size, seed: int
) -> tuple[Learner, np.ndarray, Examples, Examples]:
    """A pool of all members' training rows as one member's, and all test rows."""
    spec = node_spec(seed, 1, (128, 64))
    plan = plan_for(None, members=federation.members, rounds=1)
    train_rows = pd.concat([one.train for one in federation.rows.values()], ignore_index=True)
    test_rows = pd.concat([one.test for one in federation.rows.values()], ignore_index=True)
    pool = train_rows.sample(min(size.pool, len(train_rows)), random_state=seed)
    alone = Learner(federation.contract, spec, "cpu", plan=plan)
    released = alone.tally_statistics(pool, [])
    alone.start([released])
    examples = alone.training_examples(pool, [released])
    # a row is a unit of its own here
    examples = replace(examples, unit=np.arange(len(examples)))
    return alone, released, examples, alone.test_examples(test_rows, [released])


def fit(
    alone: Learner,
    examples: Examples,
    epsilon: float | None,
    size: Size,
    seed: tuple[int, int],
) -> None:
    """Train one shadow: without noise and for long, or by the product's local noise."""
    if epsilon is None:
        training = TrainingSpec(
            rounds=1, local_epochs=size.epochs, batch_rows=64, learning_rate=2e-3
        )
        local = int.from_bytes(keys(seed)(4))
        train(alone.network, examples, alone.target, training, round_index=1, seed=local)
        return
    rate, steps = 2 * RATE, size.lira_rounds
    plan = replace(plan_for(epsilon, members=1, rounds=steps, local=True, rate=rate), parts="apart")
    rows = private_rows(alone.network, examples, alone.target, plan)
    training = TrainingSpec(rounds=1, learning_rate=5e-3)
    train_privately(
        alone.network,
        rows,
        alone.target,
        plan,
        training,
        round_index=1,
        expected_units=rate * len(examples),
        entropy=keys("lira", epsilon, seed),
    )


def confident(alone: Learner, examples: Examples) -> np.ndarray:
    """Log-odds of each row's own label."""
    out = score(alone.network, examples, alone.target)
    return np.where(examples.target > 0, out, -out)


def likelihood_ratios(confidence: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """For each row and target, from the other shadows alone: row means, one spread for each side.

    So scores are independent of the target's coins, which the one-run bound asks for.
    """
    scores = np.zeros_like(confidence)
    for target in range(inside.shape[1]):
        others = np.arange(inside.shape[1]) != target
        seen, mine = confidence[:, others], confidence[:, target]
        for sign, side in ((1, inside[:, others]), (-1, ~inside[:, others])):
            count = np.maximum(side.sum(1), 1)
            mean = (seen * side).sum(1) / count
            squares = ((seen - mean[:, None]) ** 2 * side).sum()
            spread = math.sqrt(squares / max(1, side.sum() - side.shape[0]))
            scores[:, target] -= sign * (((mine - mean) / spread) ** 2 / 2 + math.log(spread))
    return scores


def curve(scores: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Area under the curve, and the true-positive rate at `FALSE_POSITIVES`."""
    ranks = pd.Series(scores).rank().to_numpy()
    hits, rest = int(inside.sum()), int((~inside).sum())
    area = (ranks[inside].sum() - hits * (hits + 1) / 2) / (hits * rest)
    limit = np.sort(scores[~inside])[::-1][int(FALSE_POSITIVES * rest)]
    return float(area), float((scores[inside] > limit).mean())


# -- imprint ----------------------------------------------------------------------------------


def imprint(federation: Federation, size: Size, seed: int) -> list[dict]:
    """Robbing the Fed (Fowl et al. 2022, ICLR) on one step, through the sum of all members."""
    out = []
    for batch in size.batches:
        row: dict[str, object] = {"batch": batch, "rows": batch * federation.members}
        for name, epsilon, clip in (
            ("plain", None, 1e6),
            ("clip", None, 1e-3),
            ("epsilon 8", 8.0, 1.0),
            ("epsilon 8, small clip", 8.0, 1e-3),
        ):
            plan = plan_for(epsilon, members=federation.members, rounds=FULL.rounds, rate=1.0)
            plan = replace(plan, clip=clip)
            row[name] = imprinted(federation, plan, batch, size.bins, seed, noise=bool(epsilon))
        out.append(row)
        print("imprint", row, flush=True)
    return out


def imprinted(
    federation: Federation, plan: PrivacyPlan, batch: int, bins: int, seed: int, *, noise: bool
) -> int:
    """Rows of one step that its sum shows to within `NEAR`, without regard to their order."""
    work, released = learners(federation, node_spec(seed, 1, (bins,)), plan)
    entropy = keys("imprint", batch, seed)
    first = next(iter(work.values()))
    width = first.network.body[0].in_features
    # what rows are like, the attacker takes from rows of its own
    guess = inputs_of(first, federation, released)
    direction = np.random.default_rng(seed).normal(size=width) / math.sqrt(width)
    levels = np.quantile(guess @ direction, (np.arange(bins) + 0.5) / bins)
    total, rows = np.zeros(first.length), []
    layout = layout_of(plan, federation.members)
    words = np.zeros(layout.words(first.length), np.uint64)
    for name, one in federation.rows.items():
        network = malicious(work[name].network, direction, levels)
        chosen = one.train.sample(batch, random_state=seed)
        examples = work[name].training_examples(chosen, [released])
        laid = private_rows(network, examples, work[name].target, replace(plan, rate=1.0))
        own = clipped_gradients(network, laid, work[name].target, plan, entropy)
        rows.append(laid.inputs[0].numpy().astype(np.float64))
        if noise:
            own = noised(own, plan=plan, step=UPDATE, limit=layout.clip, entropy=entropy)
            words += layout.encode(own, entropy)
        total += own
    if noise:
        total = layout.decode_sum(words, total.size, federation.members)
    weights = total[: bins * width].reshape(bins, width)
    between = np.diff(weights, axis=0, append=0.0)
    amount = np.diff(total[bins * width : bins * (width + 1)], append=0.0)
    kept = np.abs(amount) > 1e-12 * np.abs(amount).max()
    found = between[kept] / amount[kept, None]
    near = 0
    for row in np.concatenate(rows):
        near += bool(np.linalg.norm(found - row, axis=1).min() < NEAR * np.linalg.norm(row))
    return near


def inputs_of(work: Learner, federation: Federation, released: np.ndarray) -> np.ndarray:
    test = pd.concat([one.test for one in federation.rows.values()], ignore_index=True)
    examples = work.test_examples(test, [released])
    plan = plan_for(None, members=2, rounds=1)
    laid = private_rows(work.network, examples, work.target, plan)
    return laid.inputs[0].numpy().astype(np.float64)


def malicious(network: Network, direction: np.ndarray, levels: np.ndarray) -> Network:
    """Weights with which a hidden unit sums the rows above a level; a relu, as thresholds need."""
    network.body[1] = torch.nn.ReLU()
    with torch.no_grad():
        network.body[0].weight.copy_(torch.from_numpy(np.tile(direction, (levels.size, 1))))
        network.body[0].bias.copy_(torch.from_numpy(-levels))
        network.head.weight.fill_(1.0 / levels.size)
        network.head.bias.zero_()
    return network


# -- tables and plot --------------------------------------------------------------------------


def span(values: Sequence[float], digits: int = 2) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def named(epsilon: float | None, factor: float = 1.0) -> str:
    if epsilon is None:
        return "no noise"
    return f"{epsilon:g}" if factor == 1 else f"{epsilon:g}, half the noise"


def tables(result: dict) -> str:
    lines = [
        "| proven | dummy, no assumption | dummy, Gaussian | one run | one run, Gaussian | AUC |",
        "|---|---|---|---|---|---|",
    ]
    for one, other in zip(result["dummy"], result["one_run"], strict=True):
        parts = [span(one["lower"]), span(one["lower_gaussian"])]
        parts += [span(other["lower"]), span(other["lower_gaussian"]), span(other["auc"], 3)]
        lines.append(f"| {named(one['epsilon'], one['noise'] or 1)} | {' | '.join(parts)} |")
    lines += [
        "",
        "| proven | test AUC | LiRA AUC | TPR at 1 % FPR | proven best | one run | Gaussian |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in result["lira"]:
        lines.append(
            f"| {named(one['epsilon'])} | {one['test_auc']:.3f} | {one['auc']:.3f} | "
            f"{one['rate']:.4f} ± {one['rate_error']:.4f} | {one['rate_proven']:.3f} | "
            f"{one['lower_mean']:.2f} | {one['lower_gaussian_mean']:.2f} |"
        )
    names = [name for name in result["imprint"][0] if name not in {"batch", "rows"}]
    lines += ["", f"| rows in the step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for one in result["imprint"]:
        cells = " | ".join(str(one[name]) for name in names)
        lines.append(f"| {one['rows']} | {cells} |")
    return "\n".join(lines)


def draw_plot(result: dict, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    kinds = (
        ("dummy", "lower", "o", "dummy coordinates, no assumption"),
        ("dummy", "lower_gaussian", "s", "dummy coordinates, Gaussian"),
        ("one_run", "lower", "v", "one run, no assumption"),
        ("one_run", "lower_gaussian", "^", "one run, Gaussian"),
    )
    beyond = 2 * max(EPSILONS)
    for index, (part, key, mark, label) in enumerate(kinds):
        right_ones = [one for one in result[part] if one["noise"] in {0.0, 1.0}]
        places = [one["epsilon"] or beyond for one in right_ones]
        heights = [statistics.mean(one[key]) for one in right_ones]
        left.plot(places, heights, mark, color=f"C{index}", label=label)
    left.plot(EPSILONS, EPSILONS, "k-", label="proven")
    left.set_xscale("log", base=2)
    left.set_yscale("log", base=2)
    left.yaxis.set_major_formatter("{x:g}")
    left.set_xticks([*EPSILONS, beyond], [*(f"{e:g}" for e in EPSILONS), "no noise"])
    left.set(xlabel="proven epsilon", ylabel="lower bound at 95 %", title="UCI credit, delta 1e-5")
    left.grid(visible=True, alpha=0.3)
    left.legend(fontsize=8)
    ones = result["lira"]
    across = np.arange(len(ones))
    right.bar(
        across - 0.2, [one["rate"] for one in ones], 0.4, label=f"LiRA, {result['shadows']} shadows"
    )
    right.bar(across + 0.2, [one["rate_proven"] for one in ones], 0.4, label="proven best")
    right.axhline(FALSE_POSITIVES, color="k", linestyle=":", label="guessing")
    names = [named(one["epsilon"]) for one in ones]
    right.set_xticks(across, [n if n == "no noise" else f"epsilon {n}" for n in names])
    right.set(yscale="log", ylabel="true positives at 1 % false positives", title="Membership")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def federation_of(contract: Path, root: Path) -> Federation:
    found = load_contract(contract)
    return Federation(found, dict(read_members(found, root)))


def run_all(federation: Federation, size: Size, seeds: Sequence[int]) -> dict:
    result: dict = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "seeds": list(seeds), "seconds": {}}
    result |= {"members": federation.members, "rounds": size.rounds, "delta": DELTA, "rate": RATE}
    result |= {"canaries": size.canaries, "one_run_canaries": size.one_run_canaries}
    result |= {"shadows": size.shadows, "colluders": COLLUDERS, "confidence": CONFIDENCE}
    parts: dict[str, Callable[[], list[dict]]] = {
        "dummy": lambda: dummy(federation, size, seeds),
        "one_run": lambda: one_run(federation, size, seeds[:1]),
        "lira": lambda: lira(federation, size, seeds[0]),
        "imprint": lambda: imprint(federation, size, seeds[0]),
    }
    for name, part in parts.items():
        begun = time.process_time()
        result[name] = part()
        result["seconds"][name] = round(time.process_time() - begun, 1)
    return result


def judged(result: dict, *, full: bool) -> int:
    """Say which thresholds do not hold; 1 where any does not."""
    broken = faults(result, full=full)
    print("\n".join(broken) or "all thresholds hold")
    return 1 if broken else 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="default: TACIT_DATA, else ../shared/data")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="generated data; writes nothing")
    parser.add_argument("--table", action="store_true", help="runs nothing; reads result.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "result.json"
    if asked.quick:
        from federation.scenarios.generate import contract_path, generate

        with tempfile.TemporaryDirectory() as root:
            generate(Path(root), seed=0, scenario="credit", size=0.3)
            federation = federation_of(contract_path("credit"), Path(root))
            result = run_all(federation, QUICK, asked.seeds[:1])
        print(tables(result))
        return judged(result, full=False)
    if not asked.table:
        contract = ROOT / "configs" / "contracts" / "uci_credit.yaml"
        federation = federation_of(contract, data_root(asked.data))
        result = run_all(federation, FULL, asked.seeds)
        path.write_text(json.dumps(result, indent=1) + "\n")
    result = json.loads(path.read_text())
    print(tables(result), result["seconds"], sep="\n")
    draw_plot(result, HERE / "plot.png")
    return judged(result, full=True)


if __name__ == "__main__":
    sys.exit(main())
