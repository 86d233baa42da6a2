"""What a model leans on, over all members' rows: kept in a result, and shown to people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clients.frozen import Frozen, parse_settings
from clients.importance import ROWS_MAX, Importance, together
from federation.home import read_json
from privacy.manifest import Protection
from privacy.plan import HIDING

FIRST: Final = 3  # inputs that a run's summary names


class Leaned(Frozen):
    """One input.

    Attributes:
        input: A column, a sensor, or the age of the record.
        amount: Mean of its absolute amounts, in the model's own scale.
        share: Of it in all inputs' amounts.
    """

    input: str
    amount: float
    share: float


class ImportanceFacts(Frozen):
    """What an opened sum said.

    Attributes:
        members: Members that had rows.
        rows: Rows, or windows, that were counted.
        inputs: Those that matter most first.
    """

    members: int
    rows: int
    inputs: tuple[Leaned, ...]


class _Result(Frozen):
    model_config = ConfigDict(extra="ignore")

    importance: ImportanceFacts | None = None
    importance_folds: tuple[ImportanceFacts | None, ...] = ()


def outcome_of(found: Sequence[Importance | None]) -> dict[str, Any]:
    """What a run's result says: of all folds together, and of each where there are several.

    Args:
        found: Of each of the launch's runs, in their order; None where none was opened.
    """
    whole = together([one for one in found if one is not None])
    if whole is None:
        return {}
    outcome: dict[str, Any] = {"importance": whole.to_json()}
    if len(found) > 1:
        outcome["importance_folds"] = [None if one is None else one.to_json() for one in found]
    return outcome


def kept_importance(folder: Path, fold: int | None = None) -> ImportanceFacts | None:
    """What a run's folder has of it; None where the run did not ask, or too few answered.

    Args:
        folder: The run's.
        fold: Of which fold, from 1; None: of the only model, or of all folds together.

    Raises:
        InputError: The result is damaged.
    """
    path = folder / "result.json"
    if not path.is_file():
        return None
    result = parse_settings(_Result, read_json(path), str(path))
    if fold is None:
        return result.importance
    return result.importance_folds[fold - 1] if fold <= len(result.importance_folds) else None


def importance_sentence(found: Mapping[str, Any]) -> str:
    """A line for a run's summary."""
    first = ", ".join(f"{one['input']} {one['share']:.0%}" for one in found["inputs"][:FIRST])
    return f"{first}, over {found['rows']:,} test rows of {found['members']} members together"


def importance_table(
    facts: ImportanceFacts, *, run: str, scale: str, protection: Protection, folds: int = 0
) -> RenderableType:
    """For people.

    Args:
        facts: What was opened.
        run: The run's id.
        scale: Of the amounts.
        protection: Of the run's sums.
        folds: How many runs the figures are means over, where it is not one.
    """
    table = Table(title=f"{run}: what the model leans on, in {scale}")
    table.add_column("input", overflow="fold")
    table.add_column("mean size", justify="right")
    table.add_column("share", justify="right")
    for one in facts.inputs:
        table.add_row(one.input, f"{one.amount:.3f}", f"{one.share:.1%}")
    a_fold = " a fold" if folds else ""
    note = (
        f"Mean absolute amounts over {facts.rows:,} test rows of {facts.members} members, at most "
        f"{ROWS_MAX:,} of each{a_fold}, opened as one sum{a_fold}"
    )
    if protection in HIDING:
        note += "; no member's own is known to anybody else"
    return Group(table, Text(f"{note}."))
