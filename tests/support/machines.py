"""A small federation of machines on disk: telemetry, its contract, a run config. For tests only."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MEMBERS = ("north", "south", "west")
HOT = 95.0
"""Outside the threshold of `contract`, within its range."""


@dataclass(frozen=True)
class Machines:
    """Where things lie."""

    root: Path
    config: Path
    contract: Path
    rows: Path


def readings(*, devices: int = 4, steps: int = 40, seed: int = 0) -> pd.DataFrame:
    """Clean readings of each member's machines, hour by hour; age shows in heat and vibration."""
    rng = np.random.default_rng(seed)
    frames = []
    for member in MEMBERS:
        for number in range(devices):
            age = np.arange(steps) / steps
            frames.append(
                pd.DataFrame(
                    {
                        "member": member,
                        "machine": f"{member[0]}{number}",
                        "hour": np.arange(steps),
                        "heat": (50 + 20 * age + rng.normal(0, 1, steps)).round(2),
                        "shake": (1 + age + rng.normal(0, 0.1, steps)).round(3),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def overheat(frame: pd.DataFrame, machine: str, hours: range) -> pd.DataFrame:
    """The same readings, with one machine too hot in some hours."""
    hot = frame.copy()
    hot.loc[(hot["machine"] == machine) & hot["hour"].isin(hours), "heat"] = HOT
    return hot


def contract(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any key of a contract
    """A contract for `readings`, with keys replaced."""
    return {
        "contract": 1,
        "name": "machines",
        "unit": "device",
        "sources": [{"path": "rows"}],
        "columns": [
            {"name": "member", "type": "text", "role": "member", "class": "L1"},
            {"name": "machine", "type": "text", "role": "id", "class": "L3"},
            {"name": "hour", "type": "time", "role": "time", "class": "L2", "unit": "h"},
            {
                "name": "heat",
                "type": "number",
                "role": "sensor",
                "class": "L3",
                "unit": "C",
                "range": [0, 120],
                "threshold": [20, 90],
            },
            {
                "name": "shake",
                "type": "number",
                "role": "sensor",
                "class": "L3",
                "range": [0, 9],
            },
        ],
        "members": {"by": ["member"]},
        "split": {"kind": "units", "seed": 3, "test_share": 0.3},
        "label": {"kind": "remaining_life", "cap": 30},
        **changes,
    }


def column(name: str, **keys: Any) -> dict[str, Any]:  # noqa: ANN401 - any key of a column
    """A number that only the gate reads, with keys replaced."""
    return {"name": name, "type": "number", "role": "gate", "class": "L2", **keys}


def write(
    folder: Path,
    frame: pd.DataFrame | None = None,
    *,
    contract_changes: dict[str, Any] | None = None,
    config_changes: dict[str, Any] | None = None,
) -> Machines:
    """Write a small federation; JSON is YAML, so no value can be misread."""
    where = Machines(folder, folder / "config.yaml", folder / "contract.yaml", folder / "rows")
    where.rows.mkdir(parents=True, exist_ok=True)
    add(where, "a.csv", readings() if frame is None else frame)
    where.contract.write_text(json.dumps(contract(**(contract_changes or {}))))
    config = {
        "name": "machines",
        "task": "failure",
        "contract": "contract.yaml",
        "validation_share": 0.0,
        "features": {"window": {"length": 5, "statistics": ["mean", "slope"]}},
        "model": {"hidden": [8]},
        "training": {"rounds": 2, "batch_rows": 32, "learning_rate": 0.02},
        **(config_changes or {}),
    }
    where.config.write_text(json.dumps(config))
    return where


def add(where: Machines, name: str, frame: pd.DataFrame) -> None:
    """One more file in the folder of rows, which is whole for whoever looks meanwhile."""
    made = where.root.with_name(f"{where.root.name}-{name}")
    frame.to_csv(made, index=False)
    made.replace(where.rows / name)
