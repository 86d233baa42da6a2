"""What does a stated epsilon cost in quality, and where should the noise be? See README.md.

    python experiments/privacy_utility/run.py [CONFIG ...] [--seeds 0 1 2] [--jobs 2]

Every figure is made by the product's own code: contract, features, private statistics, sampling,
clipping, noise shares, the members' common step. What is left out is what changes no number: masks,
encryption, and rounding to a grid that is a thousandth of the noise.

Writes result.json beside this file: one entry a config, merged with what was there.
"""

import argparse
import json
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clients import common_model
from clients.learner import Learner
from clients.members import MemberRows, read_members
from clients.model import from_vector, to_vector
from clients.private_training import (
    PrivateRows,
    clipped_gradients,
    private_rows,
    train_privately,
)
from clients.protect import weighted_change
from clients.spec import NodeSpec, parse_node_spec
from clients.targets import tally_kind
from federation.config import Project, data_root, load_project
from federation.noise_spec import NoiseSpec
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.mechanism import noised, update_range
from privacy.plan import ORGANISATION, PrivacyPlan, is_distributed
from privacy.randomness import system_bytes
from privacy.tally import HEADLINE, metrics

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONFIGS = ("credit_uci_private", "claims_fremtpl2_private", "failure_cmapss_private")
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
MODES = ("distributed", "centre", "local")
NO_LIMIT = 2.0**60
# as its config says: fewer steps, with less noise each, up to this epsilon
LOCAL_RATE = {"claims_fremtpl2_private": {"epsilon": 1.0, "learning_rate": 1.0}}
SHORT = {"failure_cmapss_private": {"epsilon": 1.0, "rounds": 100, "average_last": 25}}


@dataclass(frozen=True)
class Cell:
    """One run of the grid; epsilon None adds no noise at all."""

    config: str
    mode: str
    epsilon: float | None
    seed: int


@lru_cache(maxsize=1)
def rows_of(config: str, fold: int | None) -> dict[str, MemberRows]:
    project = load_project(ROOT / "configs" / f"{config}.yaml")
    return read_members(project.contract, data_root(None), fold=fold)


def project_of(cell: Cell) -> Project:
    """The config with the cell's place of noise and epsilon."""
    where = HERE / f"{cell.config}_local.yaml"
    if cell.mode != "local":
        where = ROOT / "configs" / f"{cell.config}.yaml"
    project = load_project(where)
    spec = project.config.privacy.model_dump(exclude_unset=True)
    spec |= {"epsilon": cell.epsilon or 8.0}
    updates: dict = {"privacy": NoiseSpec.model_validate(spec)}
    if cell.mode == "centre":
        # a trusted centre: its noise is all of it, and nobody colludes with it
        updates["privacy"] = updates["privacy"].model_copy(update={"colluders": 0})
        updates["minimum_cohort"] = 1
    short = SHORT.get(cell.config)
    if short is not None and cell.epsilon is not None and cell.epsilon <= short["epsilon"]:
        training = project.config.training.model_copy(update={"rounds": short["rounds"]})
        if cell.mode != "local":
            updates |= {"training": training, "average_last": short["average_last"]}
    slow = LOCAL_RATE.get(cell.config)
    if cell.mode == "local" and slow and cell.epsilon and cell.epsilon <= slow["epsilon"]:
        rate = {"learning_rate": slow["learning_rate"]}
        updates["training"] = project.config.training.model_copy(update=rate)
    config = project.config.model_copy(update=updates)
    return project.model_copy(update={"config": config})


def pooled(rows: dict[str, MemberRows]) -> dict[str, MemberRows]:
    """All members' rows as one member's; a unit's name may be used by several."""

    def joined(parts: list[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
        marked = [
            one.assign(__unit=name + "|" + one["__unit"].astype(str)) if "__unit" in one else one
            for name, one in parts
        ]
        return pd.concat(marked, ignore_index=True)

    train = joined([(name, one.train) for name, one in rows.items()])
    test = joined([(name, one.test) for name, one in rows.items()])
    return {"centre": MemberRows("centre", train, test)}


def run(cell: Cell) -> dict[str, float]:
    """Train one model, and test it exactly on all members' test rows."""
    torch.set_num_threads(1)
    project = project_of(cell)
    found = [run_fold(project, cell, fold) for fold in project.folds]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@dataclass(frozen=True)
class Federation:
    """All members of one run, with what their common step needs."""

    work: dict[str, Learner]
    laid: dict[str, PrivateRows]
    plan: PrivacyPlan
    spec: NodeSpec
    units: float
    noisy: bool

    def covered(self, values: np.ndarray, step: str, limit: float = NO_LIMIT) -> np.ndarray:
        if not self.noisy:
            return values
        found = noised(values, plan=self.plan, step=step, limit=limit, entropy=system_bytes)
        return found[: values.size]

    def together(self, model: np.ndarray) -> np.ndarray:
        """One step of all: the mean step downhill, of their shares' sum."""
        total = np.zeros(model.size)
        for name, learner in self.work.items():
            from_vector(learner.network, model)
            own = clipped_gradients(
                learner.network, self.laid[name], learner.target, self.plan, system_bytes
            )
            total += self.covered(-own, UPDATE, update_range(self.plan))
        return total / (self.plan.rate * self.units)

    def apart(self, model: np.ndarray, index: int) -> np.ndarray:
        """One round of steps of their own: the members' mean change."""
        changes = []
        for name, learner in self.work.items():
            from_vector(learner.network, model)
            train_privately(
                learner.network,
                self.laid[name],
                learner.target,
                self.plan if self.noisy else replace(self.plan, update_share=1e-12),
                self.spec.training,
                round_index=index,
                expected_units=self.plan.rate * self.units / len(self.work),
                entropy=system_bytes,
            )
            after = to_vector(learner.network)
            changes.append(weighted_change(model, after, 1.0, self.spec.update)[:-1])
        return np.mean(changes, axis=0)


def run_fold(project: Project, cell: Cell, fold: int | None) -> dict[str, float]:
    rows = rows_of(cell.config, fold)
    rows = pooled(rows) if cell.mode == "centre" else rows
    plan = project.privacy_plan()
    if plan is None:
        raise ValueError("the config has no noise")
    spec = parse_node_spec(project.config.node_settings(seed=cell.seed, fold=fold))
    work = {name: Learner(project.contract, spec, "cpu", plan=plan) for name in rows}
    first = next(iter(work.values()))
    noisy = cell.epsilon is not None
    members = Federation(work, {}, plan, spec, len(rows), noisy)
    released: list[np.ndarray] = []
    for _ in range(first.stages):
        tallies = [
            members.covered(
                work[name].tally_statistics(work[name].scaled(one.train), released), STATISTICS
            )
            for name, one in rows.items()
        ]
        released.append(np.sum(tallies, axis=0))
    for name, one in rows.items():
        work[name].start(released)
        examples = work[name].training_examples(work[name].scaled(one.train), released)
        members.laid[name] = private_rows(work[name].network, examples, work[name].target, plan)
    if plan.unit != ORGANISATION:
        members = replace(members, units=first.overview(released).units)
    common = common_model.start(first.vector())
    for index in range(1, spec.training.rounds + 1):
        if is_distributed(plan):
            mean = members.together(common.current)
            common = common_model.after_round(common, mean, spec, scheduled=True, hold=first.hold)
        else:
            mean = members.apart(common.current, index)
            common = common_model.after_round(common, mean, spec, hold=first.hold)
    tallies = []
    for name, one in rows.items():
        from_vector(work[name].network, common.average)
        test = work[name].test_examples(work[name].scaled(one.test), released)
        tallies.append(work[name].tally(test, exact=True))
    total = np.sum(tallies, axis=0)
    found = metrics(first.kind, total, first.groups, target_unit=first.target_unit)
    return {"headline": found[HEADLINE[first.kind][0]], **found}


def cells(config: str, modes: list[str], seeds: list[int]) -> list[Cell]:
    asked: list[Cell] = []
    for seed in seeds:
        for mode in modes:
            asked += [Cell(config, mode, epsilon, seed) for epsilon in EPSILONS]
            asked += [Cell(config, mode, None, seed)] * (mode != "centre")
    return asked


def plot(kept: dict) -> None:
    """Quality against epsilon, one panel a data set; the line is the same without noise."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(kept), figsize=(4.2 * len(kept), 3.6))
    for panel, (config, entry) in zip(np.atleast_1d(panels), sorted(kept.items()), strict=True):
        for colour, mode in enumerate(MODES):
            row = entry["table"].get(mode, {})
            points = [(float(epsilon), one) for epsilon, one in row.items() if epsilon != "none"]
            panel.errorbar(
                [epsilon for epsilon, _ in points],
                [one["mean"] for _, one in points],
                [one["spread"] for _, one in points],
                marker="o",
                capsize=3,
                label=mode,
                color=f"C{colour}",
            )
        panel.axhline(entry["table"]["distributed"]["none"]["mean"], color="grey", linestyle=":")
        panel.set_xscale("log", base=2)
        panel.set_xlabel(f"epsilon of a {entry['unit']}, delta {entry['delta']:g}")
        panel.set_title(f"{config.removesuffix('_private')}\n{entry['headline']}")
        panel.grid(alpha=0.3)
    panels.flat[0].legend()
    figure.tight_layout()
    figure.savefig(HERE / "plot.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES)
    parser.add_argument("--plot", action="store_true", help="Only draw what is in result.json.")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    path = HERE / "result.json"
    if asked.plot:
        plot(json.loads(path.read_text()))
        return
    for config in asked.configs or CONFIGS:
        grid = cells(config, asked.modes, asked.seeds)
        with ProcessPoolExecutor(asked.jobs) as pool:
            values = list(pool.map(run, grid))
        kept = json.loads(path.read_text()) if path.exists() else {}
        table: dict[str, dict[str, dict]] = kept.get(config, {}).get("table", {})
        for mode in asked.modes:
            for epsilon in (*EPSILONS, None):
                mine = [
                    value["headline"]
                    for cell, value in zip(grid, values, strict=True)
                    if (cell.mode, cell.epsilon) == (mode, epsilon)
                ]
                if mine:
                    spread = statistics.stdev(mine) if len(mine) > 1 else 0.0
                    entry = {"mean": statistics.mean(mine), "spread": spread, "values": mine}
                    table.setdefault(mode, {})[str(epsilon or "none")] = entry
        project = project_of(grid[0])
        kept[config] = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "unit": project.contract.unit,
            "headline": HEADLINE[tally_kind(project.contract)][0],
            "delta": project.config.privacy.delta,
            "colluders": project.config.privacy.colluders,
            "fewest": project.config.minimum_cohort,
            "table": table,
        }
        path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        plot(kept)
        for mode, row in table.items():
            shown = ", ".join(f"{epsilon}: {one['mean']:.4f}" for epsilon, one in row.items())
            print(f"{config} {mode}: {shown}", flush=True)


if __name__ == "__main__":
    main()
