"""What does somebody who sees gradients, or sums of them, get of single rows? See README.md.

    python experiments/gradient_inversion/run.py            # half a minute; writes result.json
    python experiments/gradient_inversion/run.py --quick    # ten seconds; writes nothing
    python experiments/gradient_inversion/run.py --table    # the table of result.json

Ends with exit code 1 where a threshold of `thresholds.py` does not hold.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - after the threads are set
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from thresholds import faults  # noqa: E402

from clients.examples import Examples, InputShape  # noqa: E402
from clients.model import Network, build  # noqa: E402
from clients.private_training import clipped_gradients, private_rows  # noqa: E402
from clients.spec import ModelSpec  # noqa: E402
from clients.train import Target  # noqa: E402
from federation.noise_spec import NoiseSpec, make_plan  # noqa: E402
from privacy.fixed_point import packed  # noqa: E402
from privacy.ledger.entry import UPDATE  # noqa: E402
from privacy.mechanism import noised, update_precision, update_range  # noqa: E402
from privacy.plan import PrivacyPlan  # noqa: E402
from privacy.randomness import Entropy  # noqa: E402

Floats = NDArray[np.float64]
SAMPLES = 32  # readings of a window
HIDDEN = 128
SMALLEST = 3  # members of a sum
POSITIVE = 0.3
NEAR = 0.1  # relative error of a row that counts as recovered
SILENT = 1e6  # a clip that clips nothing
EPSILON = 8.0
STEPS = 400  # of the optimiser
MOST_MATCHED = 12  # rows that it looks for together
TARGET = Target(kind="binary")


@dataclass(frozen=True)
class Case:
    """What an attacker is given.

    Attributes:
        members: In the sum; 1 is a member's own vector in the clear.
        rows_each: Of a member in the step.
        noise: Whether it has the noise of epsilon 8.
    """

    members: int
    rows_each: int
    noise: bool = False


CASES = tuple(
    Case(members, rows, noise)
    for noise in (False, True)
    for members in (1, 3, 6, 12)
    for rows in (1, 4, 16)
)
QUICK = (Case(1, 1), Case(3, 1), Case(12, 16), Case(1, 1, noise=True), Case(3, 1, noise=True))


def keys(*seed: object) -> Entropy:
    return random.Random(repr(seed)).randbytes  # noqa: S311 - so that figures repeat


def windows(count: int, seed: int) -> Examples:
    """Readings of `count` devices, one window each: waves, a drift, measuring noise."""
    draw = np.random.default_rng(seed)
    moment = np.linspace(0.0, 1.0, SAMPLES)
    phase, pitch, drift = draw.uniform(size=(3, count, 1))
    waves = np.sin(2 * np.pi * (phase + (2 + 4 * pitch) * moment)) + 2 * (drift - 0.5) * moment
    label = (draw.uniform(size=count) < POSITIVE).astype(np.float64)
    return Examples(
        numeric=(waves + 0.3 * draw.normal(size=(count, SAMPLES))).astype(np.float32),
        codes=np.zeros((count, 0), np.int64),
        series=np.zeros((count, 0, 0), np.float32),
        target=label,
        target_raw=label,
        exposure=np.ones(count),
        group=np.full(count, -1),
        unit=np.arange(count),
    )


def plan_of(members: int, clip: float) -> PrivacyPlan:
    """The plan that a launcher gets for epsilon 8 over 400 rounds."""
    plan = make_plan(
        NoiseSpec(epsilon=EPSILON, rate=1.0, clip=clip),
        unit="device",
        parts="apart",
        stages=1,
        rounds=400,
        watches=0,
        protection="masked",
        fewest=max(SMALLEST, members),
        statistics_sensitivity=1.0,
        evaluation_sensitivity=1.0,
    )
    if plan is None:
        raise RuntimeError("epsilon 8 always has a plan")
    return plan


def seen(case: Case, seed: int) -> tuple[Network, Examples, Floats]:
    """One step of the product: model, rows of all, and what leaves or is opened."""
    shape = InputShape(numeric=SAMPLES, levels=())
    network = build(ModelSpec(hidden=(HIDDEN,), activation="relu"), shape, seed=seed)
    plan = plan_of(case.members, 1.0 if case.noise else SILENT)
    entropy = keys("inversion", case, seed)
    layout = packed(max(SMALLEST, case.members), update_range(plan), update_precision(plan))
    total, words, rows = np.zeros(1), None, []
    for member in range(case.members):
        own = windows(case.rows_each, seed=1000 * seed + member)
        laid = private_rows(network, own, TARGET, plan)
        vector = clipped_gradients(network, laid, TARGET, plan, entropy)
        if case.noise:
            vector = noised(vector, plan=plan, step=UPDATE, limit=layout.clip, entropy=entropy)
            encoded = layout.encode(vector, entropy)
            words = encoded if words is None else words + encoded
        total = vector + total
        rows.append(own)
    if words is not None and case.members >= SMALLEST:
        total = layout.decode_sum(words, total.size, case.members)
    label = np.concatenate([own.target for own in rows])
    numeric = np.concatenate([own.numeric for own in rows])
    return network, replace(rows[0], numeric=numeric, target=label), total


def ratios(total: Floats) -> Floats:
    """Each unit's weights over its bias: the row, where one alone makes it active."""
    weights = total[: HIDDEN * SAMPLES].reshape(HIDDEN, SAMPLES)
    bias = total[HIDDEN * SAMPLES : HIDDEN * (SAMPLES + 1)]
    kept = np.abs(bias) > 1e-12 * max(np.abs(bias).max(), 1e-300)
    return np.asarray(weights[kept] / bias[kept, None])


def matched(network: Network, label: Floats, total: Floats, seed: int) -> Floats:
    """Rows whose gradients look like what was seen (Geiping et al. 2020), labels known."""
    torch.manual_seed(seed)
    first, head = network.body[0], network.head
    wanted = torch.from_numpy(total).double()
    wanted = wanted / wanted.norm()
    guess = torch.randn(label.size, SAMPLES, dtype=torch.float64, requires_grad=True)
    target = torch.from_numpy(label).double()
    parts = [one.detach().double() for one in (first.weight, first.bias, head.weight, head.bias)]
    fastest = torch.optim.Adam([guess], lr=0.05)
    for _ in range(STEPS):
        fastest.zero_grad()
        w, b, v, c = parts
        inside = guess @ w.T + b
        active = (inside > 0).double()
        out = (inside * active) @ v.reshape(-1) + c.reshape(())
        error = torch.sigmoid(out) - target
        back = error[:, None] * v.reshape(1, -1) * active
        hidden = (inside * active * error[:, None]).sum(0)
        found = torch.cat([(back.T @ guess).reshape(-1), back.sum(0), hidden, error.sum()[None]])
        loss = 1 - (found / (found.norm() + 1e-12)) @ wanted
        loss.backward()
        fastest.step()
    return guess.detach().numpy()


def recovered(found: Floats, rows: Floats) -> float:
    """Share of the rows that something found is near to."""
    if not len(found):
        return 0.0
    far = np.linalg.norm(found[None] - rows[:, None], axis=2).min(axis=1)
    return float((far < NEAR * np.linalg.norm(rows, axis=1)).mean())


def tried(case: Case, seed: int) -> dict[str, float]:
    """What both attacks get."""
    network, examples, total = seen(case, seed)
    rows = examples.numeric.astype(np.float64)
    got = {"by ratio": recovered(ratios(total), rows)}
    if len(rows) <= MOST_MATCHED:
        got["by matching"] = recovered(matched(network, examples.target, total, seed), rows)
    guess = windows(2000, seed=99).numeric.astype(np.float64).mean(axis=0)
    got["by guessing"] = recovered(guess[None], rows)
    return got


def run_all(cases: Sequence[Case], seeds: Sequence[int]) -> dict:
    begun = time.process_time()
    rows = []
    for case in cases:
        found = [tried(case, seed) for seed in seeds]
        ways = {way: [round(one[way], 4) for one in found] for way in found[0]}
        rows.append(vars(case) | {"rows": case.members * case.rows_each, "recovered": ways})
        print(rows[-1], flush=True)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seeds": list(seeds),
        "epsilon": EPSILON,
        "near": NEAR,
        "seconds": round(time.process_time() - begun, 1),
        "cases": rows,
    }


def table(result: dict) -> str:
    lines = [
        "| what is seen | members | rows each | by ratio | by matching |",
        "|---|---|---|---|---|",
    ]
    for one in result["cases"]:
        what = "a member's own" if one["members"] == 1 else "the sum"
        what += f", noise of epsilon {result['epsilon']:g}" if one["noise"] else ""
        cells = []
        for way in ("by ratio", "by matching"):
            found = one["recovered"].get(way)
            cells.append("" if found is None else f"{np.mean(found):.0%}")
        lines.append(f"| {what} | {one['members']} | {one['rows_each']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="a few cases; writes nothing")
    parser.add_argument("--table", action="store_true", help="runs nothing; reads result.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "result.json"
    if asked.table:
        result = json.loads(path.read_text())
    else:
        result = run_all(QUICK if asked.quick else CASES, asked.seeds[: 1 if asked.quick else None])
        if not asked.quick:
            path.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    broken = faults(result)
    print("\n".join(broken) or "all thresholds hold")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
