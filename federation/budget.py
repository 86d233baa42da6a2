"""What the nodes of a home have spent of their budgets; nothing is written."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.home import Home
from privacy.budget import BudgetStatement, CohortStatement, Spending, read_statements
from privacy.errors import TacitError
from privacy.ledger.store import LedgerStore

_Row: TypeAlias = tuple[BudgetStatement, CohortStatement]
_MEANING = (
    "Epsilon against the coordinator with some nodes (eps_coord) and against all others together "
    "(eps_solo), as it is enforced: spent, and reserved of it (sent, not known to be accepted, "
    "spent all the same); tight: the bound if all had been planned in advance; attack finds: of "
    "100 units, at most, at 1 % false alarms; inf: without noise."
)


@dataclass(frozen=True, slots=True)
class NodeBudget:
    """One budget file.

    Attributes:
        path: The file.
        statements: One for each data set and unit; none where the file is broken.
        fault: Why it cannot be trusted, in one sentence; empty where it can.
    """

    path: Path
    statements: tuple[BudgetStatement, ...]
    fault: str


def read_budgets(home: Home, *, now_ms: int) -> tuple[NodeBudget, ...]:
    """Return all budgets below a home, in the order of their folders; each file is verified.

    Args:
        home: The home.
        now_ms: Milliseconds since 1970 UTC.
    """
    found: list[NodeBudget] = []
    for path in sorted(home.root.glob("nodes/*/*/budget.jsonl")):
        try:
            found.append(NodeBudget(path, read_statements(LedgerStore(path), now_ms=now_ms), ""))
        except TacitError as failure:
            found.append(NodeBudget(path, (), str(failure)))
    return tuple(found)


def budget_facts(budgets: Sequence[NodeBudget]) -> dict[str, Any]:
    """For programs. What nothing bounds is the text "infinite"; what is not known is null."""
    return {
        "budgets": [
            {"path": str(one.path), **_finite(asdict(statement))}
            for one in budgets
            for statement in one.statements
        ],
        "broken": [{"path": str(one.path), "reason": one.fault} for one in budgets if one.fault],
    }


def budget_table(budgets: Sequence[NodeBudget]) -> RenderableType:
    """For people: a table for each cohort of units with releases, and what the figures mean."""
    groups: dict[str, list[_Row]] = {}
    for statement in (statement for one in budgets for statement in one.statements):
        terms = statement.terms
        used = [one for one in statement.cohorts if one.releases] or statement.cohorts[:1]
        for cohort in used:
            title = f"{terms.dataset}: {terms.unit}, {cohort.cohort}"
            if terms.period_days is not None:
                title += f", the last {terms.period_days:g} days"
            groups.setdefault(title, []).append((statement, cohort))
    return Group(*(_table(title, rows) for title, rows in groups.items()), Text(_MEANING))


def _table(title: str, rows: Sequence[_Row]) -> Table:
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("member", overflow="fold", min_width=6)
    table.add_column("against", no_wrap=True)
    # A figure that is cut short would be another figure.
    for name in ("spent", "re-\nserved", "cap", "left", "runs\nleft", "tight", "attack\nfinds"):
        table.add_column(name, justify="right", no_wrap=True)
    for statement, cohort in rows:
        table.add_row(statement.terms.member, *_figures("eps_coord", cohort.coordinator))
        table.add_row("", *_figures("eps_solo", cohort.solo))
    last = max((statement for statement, _ in rows), key=lambda one: one.last_time_ms)
    if last.last_run:
        table.caption = f"last run: {last.last_run}"
    return table


def _figures(name: str, found: Spending) -> tuple[str, ...]:
    rate = found.true_positive_rate
    return (
        name,
        _number(found.spent),
        _number(found.pending),
        _number(found.cap),
        _number(found.left),
        "" if found.more_runs is None else str(found.more_runs),
        _number(found.epsilon),
        "" if rate is None else f"{100 * rate:.1f}",
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if math.isfinite(value) else "inf"


def _finite(value: object) -> Any:  # noqa: ANN401  # as JSON is
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return "infinite" if isinstance(value, float) and math.isinf(value) else value
