"""Which models a home keeps, as a table for people and objects for programs; it loads none of them.

Alone in its file, as listing needs nothing of what a model computes with.
"""

from typing import Any

from rich.console import RenderableType
from rich.table import Table

from federation.home import Home, read_json
from federation.kept_model import WEIGHTS, folds_of, read_kept_model
from privacy.errors import TacitError


def model_list(home: Home) -> list[dict[str, Any]]:
    """Every finished run of a home that left a model, or one of each fold, oldest first."""
    found: list[dict[str, Any]] = []
    for run in home.run_ids():
        folder = home.runs / run
        folds = folds_of(folder)
        left = folds > 0 or (folder / WEIGHTS).is_file()
        if not left or not (folder / "result.json").is_file():
            continue
        try:
            kept = read_kept_model(folder, fold=1 if folds else None)
            result = read_json(folder / "result.json")
        except TacitError as failure:
            found.append({"run": run, "refused": str(failure)})
            continue
        headline = str(result["headline"])
        found.append(
            {
                "run": run,
                "task": kept.manifest.task,
                "kind": "additive" if kept.spec.is_additive else kept.spec.model.kind,
                "headline": headline,
                "metric": result["metrics"].get(headline),
                **({"folds": folds} if folds else {"digest": kept.digest}),
            }
        )
    return found


def model_table(models: list[dict[str, Any]]) -> RenderableType:
    """For people."""
    table = Table(title="models")
    for name in ("run", "task", "kind", "result", "weights"):
        table.add_column(name, overflow="fold")
    for one in models:
        if "refused" in one:
            table.add_row(one["run"], "", "", one["refused"], "")
            continue
        metric = one["metric"]
        result = one["headline"] if metric is None else f"{one['headline']} {metric:.4g}"
        weights = f"of {one['folds']} folds" if "folds" in one else one["digest"][:16]
        table.add_row(one["run"], one["task"], one["kind"], result, weights)
    return table
