"""From a score back to all that made it: factors, model, run, transforms, contract, rows."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.tree import Tree

from clients.contract import load_contract
from clients.frozen import nearest
from clients.indicators.registry import INDICATORS
from clients.left_out import Sieve, left_out_again
from clients.window_model import WindowModel
from federation.home import Home
from federation.kept_model import KeptModel, read_kept_model
from federation.model_pages import NOT_EXACT
from federation.scoring import one_unit, read_score_lineage, score_rows
from federation.window_scoring import score_windows
from privacy.errors import InputError, NotVerifiedError

SAME: Final = 1e-9  # of a value: two scores that are no farther apart are one


def score_steps(home: Home, table: Path, unit: str) -> dict[str, Any]:
    """Walk back from one score; the run is held against this home where it is at hand.

    Raises:
        InputError: There is no such unit or file.
        NotVerifiedError: The table, or the run's model, is not what the lineage speaks of.
    """
    lineage = read_score_lineage(table)
    scored = lineage.units.get(unit)
    if scored is None:
        guess = nearest(unit, lineage.units)
        advice = f"did you mean {guess}?" if guess else f"it has {len(lineage.units)} others."
        raise InputError(f"{table}: has no score of {unit}; {advice}")
    here = lineage.run in home.run_ids()
    if here:
        kept = read_kept_model(home.run(lineage.run))
        if (kept.digest, kept.manifest.digest().hex()) != (lineage.model, lineage.manifest):
            raise NotVerifiedError(
                f"{lineage.run}: its model here is another than the one that scored {unit}."
            )
    return {
        "unit": unit,
        "value": scored.value,
        "output": scored.output,
        "base": scored.base,
        "factors": {
            name: {
                "amount": amount,
                **lineage.indicators.get(name, {}),
                "known": _known(lineage.indicators.get(name, {})),
            }
            for name, amount in sorted(scored.factors.items(), key=lambda one: -abs(one[1]))
        },
        "model": lineage.model,
        "run": lineage.run,
        "run_at_hand": here,
        "manifest": lineage.manifest,
        "task": lineage.task,
        "contract": {"name": lineage.contract_name, "digest": lineage.contract},
        "row": scored.row,
        "table": lineage.table,
        "method": lineage.method,
        "against": lineage.against,
        "every": lineage.every,
        "computed_again": False,
    }


def require_same_score(
    home: Home,
    table: Path,
    steps: Mapping[str, Any],
    contract: Path,
    data_root: Path,
    *,
    key: bytes,
) -> None:
    """Return if the unit's row, scored again by the run's model, gives this score.

    Left out are the devices that the table's lineage names, whatever was decided of one since.

    Raises:
        InputError: The run is not in this home, or the unit has no row.
        NotVerifiedError: Contract, row or score are others.
    """
    if load_contract(contract).digest != steps["contract"]["digest"]:
        raise NotVerifiedError(
            f"{contract}: is not the contract that the lineage names; give that one."
        )
    kept = read_kept_model(home.run(steps["run"]))
    out = left_out_again(read_score_lineage(table).left_out, kept.contract, key)
    row, value = _again(kept, steps, data_root, key, None if out is None else Sieve(out))
    if row != steps["row"]:
        raise NotVerifiedError(
            f"{steps['unit']}: its row is another than the one that was scored, or this home "
            f"({home.root}) is not where it was scored; score again."
        )
    # sums of products may be added up otherwise, beside other rows or on another machine
    near = SAME if steps["method"] == "attribution" else 0.0
    if not math.isclose(value, steps["value"], rel_tol=near):
        raise NotVerifiedError(f"{steps['unit']}: the same row scores otherwise; score again.")


def _again(
    kept: KeptModel,
    steps: Mapping[str, Any],
    data_root: Path,
    key: bytes,
    sieve: Sieve | None,
) -> tuple[str, float]:
    """Digest and value of a unit's row, or of a device's window, as it is now."""
    model = kept.explained(steps["against"] or "members")
    if not isinstance(model, WindowModel):
        scored = score_rows(kept, model, data_root, key=key, sieve=sieve)
        found = one_unit(scored, steps["unit"], kept.contract.name)
        return found.row, found.score.value
    device = steps["unit"] if steps["every"] is None else steps["unit"].rpartition("@")[0]
    windows = score_windows(
        model, data_root, key=key, every=steps["every"], only=device, sieve=sieve
    )
    for one in windows:
        if one.key == steps["unit"]:
            return one.row, one.window.score.value
    raise InputError(f"{kept.contract.name}: has no such window of {device}; give its data.")


def score_tree(steps: Mapping[str, Any]) -> Tree:
    """For people."""
    tree = Tree(f"{steps['unit']}: {steps['value']:.6g}")
    factors = tree.add(f"is the sum of base {steps['base']:+.4f} and these, {steps['output']:+.4f}")
    if steps["method"] == "attribution":
        factors.add(NOT_EXACT)
    for name, one in steps["factors"].items():
        made = f"  by {one['indicator']}" if "indicator" in one else ""
        unknown = "" if one["known"] else " (another transform than the one known here)"
        factors.add(f"{name} {one['amount']:+.4f}{made}{unknown}")
    run = f"run {steps['run']}, manifest {steps['manifest'][:16]}..."
    place = "held against this home" if steps["run_at_hand"] else "not in this home"
    model = tree.add(f"model {steps['model'][:16]}..., task {steps['task']}")
    model.add(f"{run} ({place})")
    contract = steps["contract"]
    tree.add(f"contract {contract['name']}, {contract['digest'][:16]}...")
    read = "read and scored again: the same" if steps["computed_again"] else "not read again"
    tree.add(f"row {steps['row'][:16]}... under this node's key ({read})")
    return tree


def _known(transform: Mapping[str, str]) -> bool:
    if not transform:
        return True
    here = INDICATORS.get(transform["indicator"])
    return here is not None and here.digest == transform["digest"]
