"""What does it cost that a model explains itself? See README.md.

    python experiments/explainable/run.py [SET ...] [--seeds 0 1 2] [--only MODEL ...]

Launches each additive config through the command that a user types, fits the pooled models on the
same training rows, and measures all on the same test rows. The challengers' figures are those of
experiments/real_data. Writes result.json beside this file, merged with what was there; table.py
prints the tables.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from clients.contract import Column, DataContract, load_contract  # noqa: E402
from clients.members import read_members  # noqa: E402
from clients.statistics import to_unit_interval  # noqa: E402
from federation.config import data_root  # noqa: E402
from federation.home import Home  # noqa: E402
from federation.kept_model import read_kept_model  # noqa: E402

Floats = NDArray[np.float64]
LEAVES = (7, 15, 31)
SET_ASIDE = 0.1  # of the training rows, to say when boosting stops
TURN = 1e-6  # log-odds


@dataclass(frozen=True)
class Set:
    """A data set: its contract, the configs, and what a federated model is called in the table."""

    contract: str
    metric: str
    configs: dict[str, str]
    promises: str = ""


SETS = {
    "uci_credit": Set(
        "uci_credit",
        "auc",
        {
            "additive": "credit_uci_additive",
            "additive, monotone": "credit_uci_monotone",
        },
        promises="uci_credit_monotone",
    ),
    "fremtpl2": Set(
        "fremtpl2",
        "deviance_x100",
        {"additive": "claims_fremtpl2_additive"},
    ),
}


@dataclass(frozen=True)
class Rows:
    """One part: inputs, labels and exposures (ones where there are none)."""

    inputs: Floats
    straight: Floats
    label: Floats
    exposure: Floats


def launch(config: str, seed: int, told: Set, homes: Path | None) -> dict:
    """One federated run, and which of the promised curves turn."""
    words = ["run", "launch", f"configs/{config}.yaml", "--local", "--seed", str(seed), "--json"]
    with tempfile.TemporaryDirectory() as passing:
        home = str(homes / f"{config}-{seed}") if homes else passing
        done = subprocess.run(
            [sys.executable, "-m", "federation.cli.main", *words],
            cwd=ROOT,
            env={**os.environ, "TACIT_HOME": home},
            stdout=subprocess.PIPE,
            check=True,
        )
        result = json.loads(done.stdout)
        found = {"seed": seed, "metrics": result["metrics"], "seconds": result["seconds"]["total"]}
        kept = read_kept_model(Home(Path(home)).run("last"))
        if told.promises and kept.spec.is_additive:
            promised = load_contract(ROOT / f"configs/contracts/{told.promises}.yaml")
            found["turned"] = turned(kept.additive(), promised)
    return found


def turned(model, promised: DataContract) -> list[str]:  # noqa: ANN001 - AdditiveModel
    """Columns whose curve goes against what a contract promises of them."""
    found = []
    for wanted in promised.columns:
        if wanted.monotone is None:
            continue
        curve = model.curve(wanted.name)
        if curve.column.type == "category":
            amounts = model.amount(curve, np.arange(len(curve.column.categories) - 1))
        else:
            amounts = model.amount(curve, np.linspace(*curve.column.bounds, 20_001))
        steps = np.diff(amounts) * (1 if wanted.monotone == "up" else -1)
        if steps.min() < -TURN:
            found.append(wanted.name)
    return found


def parts(contract: DataContract) -> tuple[Rows, Rows]:
    """All members' training rows in one place, which nobody may do, and all their test rows."""
    found = read_members(contract, data_root(None))
    training = pd.concat([one.train for one in found.values()], ignore_index=True)
    test = pd.concat([one.test for one in found.values()], ignore_index=True)
    means = {column.name: float(_unit(training, column).mean()) for column in numbers(contract)}
    return rows(training, contract, means), rows(test, contract, means)


def numbers(contract: DataContract) -> list[Column]:
    return [column for column in contract.inputs if column.type != "category"]


def rows(table: pd.DataFrame, contract: DataContract, means: dict[str, float]) -> Rows:
    inputs, straight = [], []
    for column in contract.inputs:
        if column.type == "category":
            codes = table[column.name].cat.codes.to_numpy()
            inputs.append(codes.astype(np.float64))
            straight += list(np.eye(len(column.categories))[codes].T)
        else:
            inputs.append(table[column.name].to_numpy(dtype=np.float64))
            straight.append(_unit(table, column).fillna(means[column.name]).to_numpy())
    return Rows(
        np.stack(inputs, axis=1),
        np.stack(straight, axis=1),
        table["__y"].to_numpy(dtype=np.float64),
        table["__exposure"].to_numpy(dtype=np.float64),
    )


def _unit(table: pd.DataFrame, column: Column) -> "pd.Series[float]":
    values = table[column.name].to_numpy(dtype=np.float64)
    return pd.Series(to_unit_interval(values, *column.bounds, column.transform))


def boosted(training: Rows, contract: DataContract, seed: int, leaves: tuple[int, ...]):  # noqa: ANN201
    """Gradient boosting; its size is the one that its own validation rows liked best."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    settings = {
        "learning_rate": 0.05,
        "max_iter": 1000,
        "early_stopping": True,
        "validation_fraction": SET_ASIDE,
        "n_iter_no_change": 30,
        "categorical_features": [c.type == "category" for c in contract.inputs],
        "random_state": seed,
    }
    models = []
    for count in leaves:
        if contract.label.kind == "binary":
            model = HistGradientBoostingClassifier(max_leaf_nodes=count, **settings)
            model.fit(training.inputs, training.label)
        else:
            model = HistGradientBoostingRegressor(loss="poisson", max_leaf_nodes=count, **settings)
            rate = training.label / training.exposure
            model.fit(training.inputs, rate, sample_weight=training.exposure)
        models.append(model)
    return max(models, key=lambda one: one.validation_score_[-1])


def straight(training: Rows, contract: DataContract):  # noqa: ANN201
    """Logistic regression, or the claims' generalised linear model, on what a clerk would use."""
    from sklearn.linear_model import LogisticRegression, PoissonRegressor

    if contract.label.kind == "binary":
        return LogisticRegression(max_iter=2000).fit(training.straight, training.label)
    model = PoissonRegressor(alpha=1e-5, max_iter=1000)
    rate = training.label / training.exposure
    return model.fit(training.straight, rate, sample_weight=training.exposure)


def measure(said: Floats, test: Rows, kind: str) -> dict:
    """AUC, or the mean Poisson deviance times 100, of chances or of rates."""
    if kind == "binary":
        from sklearn.metrics import roc_auc_score

        return {"auc": float(roc_auc_score(test.label, said))}
    return {"deviance_x100": deviance(said * test.exposure, test.label)}


def deviance(mean: Floats, label: Floats) -> float:
    """Mean of 2 (y ln(y / mu) - y + mu), times 100."""
    logs = label * np.log(np.where(label > 0, label, 1.0) / mean)
    return float(200 * np.mean(logs - label + mean))


def pooled(told: Set, seeds: list[int], keep: Callable[[str, dict], None], only: set[str]) -> None:
    contract = load_contract(ROOT / f"configs/contracts/{told.contract}.yaml")
    training, test = parts(contract)
    kind = contract.label.kind
    asked = {
        "gradient boosting": (LEAVES, seeds),
        "gradient boosting, one column a tree": ((2,), seeds),
        "linear": (None, seeds[:1]),
        "constant": ((), seeds[:1]),
    }
    for name, (leaves, of) in asked.items():
        if only and name not in only:
            continue
        for seed in of:
            started = time.perf_counter()
            facts: dict = {"seed": seed}
            if leaves == ():
                rate = training.label.sum() / training.exposure.sum()
                said = np.full(test.label.size, rate)
            else:
                if leaves is None:
                    model, inputs = straight(training, contract), test.straight
                else:
                    model, inputs = boosted(training, contract, seed, leaves), test.inputs
                    facts |= {"leaves": model.max_leaf_nodes, "trees": model.n_iter_}
                answer = getattr(model, "predict_proba", model.predict)(inputs)
                said = answer[:, 1] if answer.ndim > 1 else answer
            facts["metrics"] = measure(said, test, kind)
            keep(name, facts | {"seconds": round(time.perf_counter() - started, 1)})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--homes", type=Path, help="keep the runs' homes below this folder")
    asked = parser.parse_args()
    path = HERE / "result.json"
    for name in asked.sets or SETS:
        told = SETS[name]

        def keep(model: str, facts: dict, name: str = name, told: Set = told) -> None:
            kept = json.loads(path.read_text()) if path.exists() else {}
            found = kept.setdefault(name, {"metric": told.metric, "models": {}})["models"]
            facts["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
            others = [one for one in found.get(model, []) if one["seed"] != facts["seed"]]
            found[model] = sorted([*others, facts], key=lambda one: one["seed"])
            path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
            print(name, model, facts["seed"], facts["metrics"][told.metric], flush=True)

        for model, config in told.configs.items():
            if not asked.only or model in asked.only:
                for seed in asked.seeds:
                    keep(model, launch(config, seed, told, asked.homes))
        if not asked.only or set(asked.only) - set(told.configs):
            pooled(told, asked.seeds, keep, set(asked.only))


if __name__ == "__main__":
    main()
