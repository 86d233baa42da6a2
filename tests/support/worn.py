"""A fleet of machines that wear out, on disk and as trained models. For tests only."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.learner import Learner
from clients.members import read_members
from clients.spec import NodeSpec
from clients.statistics import Floats
from clients.train import train
from privacy.canonical import canonical_json
from privacy.plan import PrivacyPlan

Label = Literal["within_horizon", "remaining_life"]
LENGTH = 8
MEMBERS = ("east", "north", "west")
SENSORS = ("heat", "speed", "hum")


@dataclass(frozen=True)
class Fleet:
    """Where it lies."""

    root: Path
    contract: Path
    config: Path


def rows(*, devices: int = 24, seed: int = 0) -> pd.DataFrame:
    """Heat rises and speed falls before the end of a record; hum says nothing."""
    rng = np.random.default_rng(seed)
    frames = []
    for device in range(devices):
        length = int(rng.integers(20, 44))
        wear = np.linspace(0, 1, length) ** 3
        setting = 10.0 * rng.integers(0, 2, length)
        frames.append(
            pd.DataFrame(
                {
                    "machine": f"m{device:02d}",
                    "member": MEMBERS[device % len(MEMBERS)],
                    "step": np.arange(length) + 1,
                    "setting": setting,
                    "heat": (20 + 30 * wear + 5 * setting + rng.normal(size=length)).round(3),
                    "speed": (5 - 2 * wear + 0.2 * setting + 0.2 * rng.normal(size=length)).round(
                        4
                    ),
                    "hum": rng.normal(50, 3, length).round(3),
                }
            )
        )
    found = pd.concat(frames, ignore_index=True)
    found.loc[rng.uniform(size=len(found)) < 0.03, "hum"] = np.nan
    return found


def contract(label: Label = "within_horizon") -> dict[str, Any]:
    """The fleet's contract."""
    what: dict[str, Any] = {"kind": "remaining_life", "cap": 25}
    if label == "within_horizon":
        what = {"kind": "within_horizon", "horizon": 6}
    return {
        "contract": 1,
        "name": "worn",
        "unit": "device",
        "sources": [{"path": "worn.csv"}],
        "columns": [
            {"name": "machine", "type": "text", "role": "id", "class": "L3"},
            {"name": "member", "type": "text", "role": "member", "class": "L1"},
            {"name": "step", "type": "time", "role": "time", "class": "L2", "unit": "h"},
            {"name": "setting", "type": "number", "role": "setting", "class": "L3",
             "range": [0, 10]},
            {"name": "heat", "type": "number", "role": "sensor", "class": "L3", "unit": "degC",
             "range": [0, 150], "note": "bearing"},
            {"name": "speed", "type": "number", "role": "sensor", "class": "L3", "range": [0, 10]},
            {"name": "hum", "type": "number", "role": "sensor", "class": "L3", "range": [0, 100]},
        ],
        "regime": {"column": "setting", "levels": [0, 10]},
        "members": {"by": ["member"]},
        "split": {"kind": "units", "seed": 1, "test_share": 0.3},
        "label": what,
    }  # fmt: skip


def spec(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any key of a manifest's settings
    """Settings of a small model of windows."""
    return {
        "task": "failure",
        "features": {
            "window": {
                "length": LENGTH, "test_stride": 4, "recent": 3,
                "statistics": ["recent", "mean", "std", "slope", "age"],
            }
        },
        "model": {"hidden": [12]},
        "training": {"rounds": 6, "local_epochs": 4, "batch_rows": 32, "learning_rate": 0.01},
        **changes,
    }  # fmt: skip


def write(folder: Path, label: Label = "within_horizon", **changes: Any) -> Fleet:  # noqa: ANN401 - as `spec`
    """Write it with a run config; JSON is YAML, so no value can be misread."""
    folder.mkdir(parents=True, exist_ok=True)
    where = Fleet(folder, folder / "contract.yaml", folder / "config.yaml")
    rows().to_csv(folder / "worn.csv", index=False)
    where.contract.write_text(json.dumps(contract(label)))
    config = {"name": "worn", "contract": "contract.yaml", "validation_share": 0.2}
    where.config.write_text(json.dumps(config | spec(**changes)))
    return where


@dataclass(frozen=True)
class Trained:
    """A learner after some rounds, what it was told, and rows to score."""

    learner: Learner
    released: list[Floats]
    rows: pd.DataFrame


def trained(
    folder: Path,
    label: Label = "within_horizon",
    *,
    rounds: int = 6,
    plan: PrivacyPlan | None = None,
    **changes: Any,  # noqa: ANN401 - as `spec`
) -> Trained:
    """Train on all members' rows together; `rounds` of 0 leaves random weights."""
    where = write(folder, label, **changes)
    told = parse_settings(DataContract, contract(label), "worn")
    settings = NodeSpec.model_validate_json(canonical_json({"seed": 2, **spec(**changes)}))
    learner = Learner(told, settings, "cpu", plan=plan)
    parts = read_members(told, where.root).values()
    known = pd.concat([one.train for one in parts], ignore_index=True)
    released: list[Floats] = []
    for _ in range(learner.stages):
        released.append(learner.tally_statistics(known, released))
    learner.start(released)
    examples = learner.training_examples(known, released)
    for index in range(rounds):
        train(
            learner.network, examples, learner.target, settings.training, round_index=index + 1,
            seed=index,
        )  # fmt: skip
    return Trained(learner, released, pd.concat([one.test for one in parts], ignore_index=True))
