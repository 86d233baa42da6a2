"""What does a private step cost, next to a plain one and to Opacus? All side by side in one run.

    python experiments/private_step/run.py [--quick] [--json] [--out FOLDER]

CPU time of one process on one thread. A private step is the clipped sum, noise for every weight and
the step of torch's SGD; a plain one is forward, backward and the same step. Ratios carry over to
other machines, times do not.
"""

import argparse
import copy
import json
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from clients.examples import InputShape
from clients.model import Network, build
from clients.spec import ModelSpec
from clients.unit_gradient import UnitGradient, unit_gradient
from clients.unit_gradient.hooked import Hooked
from privacy.noise import gaussian
from privacy.randomness import system_bytes

Step = Callable[[], None]
Inputs = tuple[Tensor, Tensor, Tensor]

NETWORKS = {
    "MLP 30-64-32-1": (ModelSpec(hidden=(64, 32)), InputShape(numeric=30, levels=())),
    "MLP 30-256-128-1": (ModelSpec(hidden=(256, 128)), InputShape(numeric=30, levels=())),
    "CNN 18x30, 32-32": (
        ModelSpec(kind="cnn", hidden=(32, 32)),
        InputShape(numeric=0, levels=(), steps=30, sensors=18),
    ),
}
BATCHES = (64, 256)
ROWS_PER_DEVICE = 8
CLIP = 1.0
RATE = 1e-6  # the weights must not wander off while they are timed
STEPS = 20
SLOW_S = 0.02  # a slower step is timed in every tenth round
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read at the start of NumPy
GOALS = {("MLP", "record"): 1.6, ("MLP", "device"): 1.4, ("CNN", "record"): 1.8}

PLAIN = "plain SGD"
OURS = "ours"
NOISELESS = "ours, no noise"
OURS_SECURE = "ours, real noise"
HOOKS = "Opacus hooks"
GHOST = "Opacus ghost"
LOOP = "loop over units"


@dataclass(frozen=True)
class Batch:
    """Rows of a network, drawn once."""

    inputs: Inputs
    label: Tensor

    def rows(self) -> int:
        return len(self.label)


def drawn(shape: InputShape, rows: int) -> Batch:
    generator = torch.Generator().manual_seed(rows)
    return Batch(
        (
            torch.randn(rows, shape.numeric, generator=generator),
            torch.zeros(rows, 0, dtype=torch.int64),
            torch.randn(rows, shape.steps, shape.sensors, generator=generator),
        ),
        torch.randn(rows, generator=generator),
    )


def plain(network: Network, batch: Batch) -> Step:
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE)

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.mse_loss(network(*batch.inputs), batch.label).backward()
        optimiser.step()

    return step


def nothing(_: Tensor) -> None:
    """No noise, to show what it costs."""


def noise_of_torch(gradient: Tensor) -> None:
    """Not for use: torch's generator can be predicted. It is what Opacus takes."""
    gradient.add_(torch.randn(len(gradient)), alpha=CLIP)


def real_noise(gradient: Tensor) -> None:
    gradient.add_(torch.from_numpy(gaussian(len(gradient), CLIP, system_bytes)))


def clipped(
    gradient: UnitGradient,
    network: Network,
    batch: Batch,
    per_unit: int,
    add_noise: Callable[[Tensor], None],
) -> Step:
    """A private step by `UnitGradient`, with the optimiser of the plain one."""
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE)
    weights = torch.full((batch.rows() // per_unit, per_unit), 1 / per_unit)
    trained = list(network.parameters())
    flat = torch.zeros(sum(p.numel() for p in trained))
    for p, piece in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        p.grad = piece.view_as(p)

    def row_loss(out: Tensor) -> Tensor:
        return (out - batch.label).square()

    def step() -> None:
        flat.copy_(gradient.clipped_sum(batch.inputs, row_loss, weights, clip=CLIP).total)
        add_noise(flat)
        flat.div_(len(weights))
        optimiser.step()

    return step


def opacus_hooks(network: Network, batch: Batch) -> Step:
    watched = GradSampleModule(network)
    optimiser = DPOptimizer(
        torch.optim.SGD(network.parameters(), lr=RATE),
        noise_multiplier=1.0,
        max_grad_norm=CLIP,
        expected_batch_size=batch.rows(),
    )

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.mse_loss(watched(*batch.inputs), batch.label).backward()
        optimiser.step()

    return step


def opacus_ghost(network: Network, batch: Batch) -> Step:
    watched = GradSampleModuleFastGradientClipping(
        network, max_grad_norm=CLIP, use_ghost_clipping=True
    )
    optimiser = DPOptimizerFastGradientClipping(
        torch.optim.SGD(network.parameters(), lr=RATE),
        noise_multiplier=1.0,
        max_grad_norm=CLIP,
        expected_batch_size=batch.rows(),
    )
    criterion = DPLossFastGradientClipping(watched, optimiser, nn.MSELoss())

    def step() -> None:
        optimiser.zero_grad()
        criterion(watched(*batch.inputs), batch.label).backward()
        optimiser.step()

    return step


def loop(network: Network, batch: Batch, per_unit: int) -> Step:
    """One backward pass for each unit."""
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE)
    trained = list(network.parameters())
    units = batch.rows() // per_unit

    def step() -> None:
        total = [torch.zeros_like(p) for p in trained]
        for unit in range(units):
            own = slice(unit * per_unit, (unit + 1) * per_unit)
            out = network(*(x[own] for x in batch.inputs))
            grads = torch.autograd.grad(nn.functional.mse_loss(out, batch.label[own]), trained)
            norm = torch.stack([g.norm() for g in grads]).norm()
            torch._foreach_add_(total, grads, alpha=min(1.0, CLIP / float(norm)))
        for p, g in zip(trained, total, strict=True):
            p.grad = (g + torch.randn_like(g)) / units
        optimiser.step()

    return step


def ways(network: Network, batch: Batch, per_unit: int) -> dict[str, Step]:
    """Every way for units of as many rows, each with its own copy of the network."""

    def own() -> Network:
        return copy.deepcopy(network).train()

    first, second, third, fourth = own(), own(), own(), own()
    found = {
        PLAIN: plain(own(), batch),
        NOISELESS: clipped(unit_gradient(fourth), fourth, batch, per_unit, nothing),
        OURS: clipped(unit_gradient(first), first, batch, per_unit, noise_of_torch),
        OURS_SECURE: clipped(unit_gradient(second), second, batch, per_unit, real_noise),
    }
    if per_unit == 1:
        found[HOOKS] = opacus_hooks(own(), batch)
        found[GHOST] = opacus_ghost(own(), batch)
    else:  # Opacus has no units; our use of its hooks adds its rows up
        found[HOOKS] = clipped(Hooked(third), third, batch, per_unit, noise_of_torch)
    found[LOOP] = loop(own(), batch, per_unit)
    return found


def seconds(step: Step) -> float:
    before = time.process_time()
    step()
    return time.process_time() - before


def compare(steps: dict[str, Step], rounds: int) -> dict[str, dict[str, float]]:
    """Each way's median step in microseconds, and its ratio to a plain step.

    In turns: each round takes one step of every way, in a drawn order. In a row: each round takes
    `STEPS` steps of one way after the other, and a first one that does not count; then memory and
    caches hold nothing but what this way needs. A ratio is the median over rounds.
    """
    slow = {name for name, step in steps.items() if seconds(step) + seconds(step) > 2 * SLOW_S}
    order = random.Random(rounds)  # noqa: S311 # of no secret
    turns: list[dict[str, float]] = []
    rows: list[dict[str, float]] = []
    for turn in range(rounds):
        names = [name for name in steps if turn % 10 == 0 or name not in slow]
        drawn_order = order.sample(names, len(names))
        turns.append({name: seconds(steps[name]) for name in drawn_order})
        if turn % 5 == 0:
            rows.append(
                {name: in_a_row(steps[name], 1 if name in slow else STEPS) for name in names}
            )
    return {
        name: {
            "us": round(statistics.median(of[name] for of in turns if name in of) * 1e6, 1),
            "ratio": ratio(name, turns),
            "ratio_in_a_row": ratio(name, rows),
        }
        for name in steps
    }


def in_a_row(step: Step, count: int) -> float:
    if count > 1:
        step()
    return statistics.median(seconds(step) for _ in range(count))


def ratio(name: str, rounds: list[dict[str, float]]) -> float:
    return round(statistics.median(of[name] / of[PLAIN] for of in rounds if name in of), 3)


def measure(rounds: int) -> list[dict]:
    rows = []
    for title, (spec, shape) in NETWORKS.items():
        network = build(spec, shape, seed=0)
        for count in BATCHES:
            for level, per_unit in (("record", 1), ("device", ROWS_PER_DEVICE)):
                steps = ways(network, drawn(shape, count), per_unit)
                rows.append(
                    {
                        "network": title,
                        "weights": sum(p.numel() for p in network.parameters()),
                        "rows": count,
                        "units": level,
                        "goal": GOALS.get((title[:3], level)),
                        "ways": compare(steps, rounds),
                    }
                )
    return rows


def print_table(rows: list[dict]) -> None:
    names = [NOISELESS, OURS, OURS_SECURE, HOOKS, GHOST, LOOP]
    print("| network | rows | units | plain, us | goal | " + " | ".join(names) + " |")
    print("|" + "---|" * (5 + len(names)))
    for row in rows:
        found = row["ways"]
        cells = [
            f"{found[n]['ratio']:.2f} ({found[n]['ratio_in_a_row']:.2f})" if n in found else ""
            for n in names
        ]
        first = (row["network"], row["rows"], row["units"], round(found[PLAIN]["us"]))
        print("| " + " | ".join(map(str, (*first, row["goal"] or "", *cells))) + " |")


def main() -> None:
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        again = [sys.executable, *sys.argv]
        os.execve(sys.executable, again, {**os.environ, **ONE_THREAD})  # noqa: S606
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a few rounds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="also write result.json there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    kept = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "torch": torch.__version__.split("+")[0],
        "rows": measure(10 if asked.quick else 100),
    }
    if asked.json:
        print(json.dumps(kept, indent=1))
    else:
        print_table(kept["rows"])
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "result.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
