"""Small federations on disk: a table, its contract, a run config. For tests only."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MEMBERS = ("north", "south", "west")


@dataclass(frozen=True)
class SmallFederation:
    """Where things lie."""

    root: Path
    config: Path
    contract: Path
    table: Path


def table(kind: str, *, rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """A user's table: numbers, skewed amounts, gaps, rare codes, and a label that follows them."""
    rng = np.random.default_rng(seed)
    load = rng.uniform(0, 1, rows)
    amount = np.exp(rng.normal(8, 1.5, rows))
    code = rng.choice(["a", "b", "c", "rare"], rows, p=[0.5, 0.3, 0.195, 0.005])
    score = 3 * (load - 0.5) + 0.6 * (np.log(amount) - 8) + (code == "b") - 0.4
    frame = pd.DataFrame(
        {
            "id": np.arange(rows) + 1,
            "member": rng.choice(MEMBERS, rows, p=[0.5, 0.3, 0.2]),
            "load": load.round(4),
            "amount": amount.round(2),
            "code": code,
        }
    )
    if kind == "binary":
        frame["label"] = (rng.uniform(size=rows) < 1 / (1 + np.exp(-2 * score))).astype(int)
    elif kind == "count":
        frame["exposure"] = rng.uniform(0.2, 1, rows).round(3)
        frame["label"] = rng.poisson(frame["exposure"] * np.exp(score - 0.5))
    else:
        frame["label"] = (1000 * score + rng.normal(0, 200, rows)).round(1)
    frame.loc[rng.uniform(size=rows) < 0.08, "load"] = np.nan
    return frame


def columns(kind: str) -> list[dict[str, Any]]:
    """The contract's columns for `table`."""
    out: list[dict[str, Any]] = [
        {"name": "id", "type": "integer", "role": "id", "class": "L3"},
        {"name": "member", "type": "text", "role": "member", "class": "L1"},
        {"name": "load", "type": "number", "class": "L3", "range": [0, 1]},
        {
            "name": "amount",
            "type": "number",
            "class": "L3",
            "range": [0, 1e7],
            "transform": "quantile",
        },
        {"name": "code", "type": "category", "class": "L2", "levels": ["a", "b", "c", "rare"]},
    ]
    label: dict[str, Any] = {"name": "label", "type": "number", "role": "label", "class": "L3"}
    if kind == "value":
        label["range"] = [-10000, 10000]
    if kind == "count":
        out.append({"name": "exposure", "type": "number", "role": "exposure", "class": "L2"})
    return [*out, label]


def contract(kind: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any key of a contract
    """A contract for `table`, with keys replaced."""
    label: dict[str, Any] = {"kind": kind, "column": "label"}
    if kind == "count":
        label["exposure"] = "exposure"
    return {
        "contract": 1,
        "name": f"small_{kind}",
        "unit": "customer",
        "sources": [{"path": "table.csv"}],
        "columns": columns(kind),
        "members": {"by": ["member"]},
        "split": {"kind": "units", "seed": 0, "test_share": 0.25},
        "label": label,
        **changes,
    }


def config(kind: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any key of a config
    """A run config for `contract`, with keys replaced."""
    tasks = {"binary": "credit", "count": "claims", "value": "claims"}
    return {
        "name": f"small_{kind}",
        "task": tasks[kind],
        "contract": "contract.yaml",
        "validation_share": 0.2,
        "features": {"bins": 4, "rare_below": 5},
        "model": {"hidden": [8], "linear": True},
        "training": {"rounds": 3, "local_epochs": 2, "batch_rows": 32, "learning_rate": 0.02},
        **changes,
    }


def write(
    folder: Path,
    kind: str = "binary",
    *,
    rows: pd.DataFrame | None = None,
    contract_changes: dict[str, Any] | None = None,
    config_changes: dict[str, Any] | None = None,
) -> SmallFederation:
    """Write a small federation; JSON is YAML, so no value can be misread."""
    folder.mkdir(parents=True, exist_ok=True)
    where = SmallFederation(
        folder, folder / "config.yaml", folder / "contract.yaml", folder / "table.csv"
    )
    (table(kind) if rows is None else rows).to_csv(where.table, index=False)
    where.contract.write_text(json.dumps(contract(kind, **(contract_changes or {}))))
    where.config.write_text(json.dumps(config(kind, **(config_changes or {}))))
    return where
