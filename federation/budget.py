"""What the nodes of a home have spent of their budgets, and when; nothing is written."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.budget_history import (
    PACE_DAYS,
    Against,
    BudgetHistory,
    RunRow,
    Taken,
    budget_history,
    outlook,
)
from federation.home import Home
from privacy.budget import (
    BudgetStatement,
    CohortStatement,
    Spending,
    read_ledger,
    read_statements,
)
from privacy.budget_record import BudgetTerms
from privacy.errors import InputError, TacitError
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore
from privacy.receipt import Part

READINGS: tuple[Against, Against] = ("coordinator", "solo")
_Row: TypeAlias = tuple[BudgetStatement, CohortStatement]
_MEANING = (
    "Epsilon against the coordinator with as many nodes as a member's policy says (eps_coord) and "
    "against all others together (eps_solo), as it is enforced: spent, and reserved of it (sent, "
    "not known to be accepted, spent all the same). Where there is a cap, one order of Renyi "
    "accounting enforces it: spent may then lie far above tight, the bound if all had been planned "
    "in advance, and what is left lacks the part of the cap that delta takes with the first "
    "release. attack finds: of 100 units, at most, at 1 % false alarms; inf: without noise."
)
_HISTORY_MEANING = (
    "Epsilon as it is enforced, before the run's first release and after its last one; "
    "reserved: sent, not known to be accepted, spent all the same; back: surely not sent, and "
    "given back; inf: without noise."
)
_NAMES: Mapping[Against, str] = {"coordinator": "eps_coord", "solo": "eps_solo"}
_FAR_DAYS = 36_525
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class NodeBudget:
    """One node's ledger.

    Attributes:
        path: The file.
        statements: One for each data set and unit; none where the file is broken.
        fault: Why it cannot be trusted, in one sentence; empty where it can.
    """

    path: Path
    statements: tuple[BudgetStatement, ...]
    fault: str


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """One node's ledger, as it came about.

    Attributes:
        path: The file.
        histories: One for each data set, unit and cohort with releases; none where it is broken.
        fault: Why it cannot be trusted, in one sentence; empty where it can.
    """

    path: Path
    histories: tuple[BudgetHistory, ...]
    fault: str


def read_budgets(home: Home, *, now_ms: int) -> tuple[NodeBudget, ...]:
    """Return all budgets below a home, in the order of their folders; each ledger is verified.

    Args:
        home: The home.
        now_ms: Milliseconds since 1970 UTC.
    """

    def read(store: LedgerStore) -> tuple[BudgetStatement, ...]:
        return read_statements(store, now_ms=now_ms)

    return tuple(NodeBudget(path, found, fault) for path, found, fault in _each(home, read))


def read_histories(home: Home, *, now_ms: int) -> tuple[NodeHistory, ...]:
    """Return how all budgets below a home were spent; as `read_budgets`."""

    def read(store: LedgerStore) -> tuple[BudgetHistory, ...]:
        return budget_history(read_ledger(store)[1], now_ms=now_ms)

    return tuple(NodeHistory(path, found, fault) for path, found, fault in _each(home, read))


def chosen(
    found: Sequence[NodeHistory], *, member: str | None, dataset: str | None
) -> tuple[BudgetHistory, ...]:
    """Return the histories of one member and one data set; None stands for all.

    Raises:
        InputError: there are histories, and none of this member or data set, and every ledger
            could be read.
    """
    every = [history for one in found for history in one.histories]
    kept = tuple(
        history
        for history in every
        if member in {None, history.terms.member} and dataset in {None, history.terms.dataset}
    )
    if every and not kept and not any(one.fault for one in found):
        known = sorted({f"{one.terms.member} ({one.terms.dataset})" for one in every})
        asked = " and ".join(
            f"{what} {name}" for what, name in (("member", member), ("data set", dataset)) if name
        )
        raise InputError(
            f"no node here has released anything for {asked}; there are {_list(known)}"
        )
    return kept


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


def history_facts(
    histories: Sequence[BudgetHistory], found: Sequence[NodeHistory], *, now_ms: int
) -> dict[str, Any]:
    """For programs; figures as in `budget_facts`."""
    return {
        "histories": [
            {
                "terms": asdict(one.terms),
                "cohort": one.cohort,
                "releases": len(one.releases),
                **{
                    against: {
                        "spent": _finite(one.spent(against)),
                        "cap": one.cap(against),
                        **_finite(asdict(outlook(one, against, now_ms=now_ms))),
                    }
                    for against in READINGS
                },
                "runs": [_finite(asdict(run)) for run in one.runs],
            }
            for one in histories
        ],
        "broken": [{"path": str(one.path), "reason": one.fault} for one in found if one.fault],
    }


def budget_table(budgets: Sequence[NodeBudget]) -> RenderableType:
    """For people: a table for each cohort of units with releases, and what the figures mean."""
    groups: dict[str, list[_Row]] = {}
    for statement in (statement for one in budgets for statement in one.statements):
        used = [one for one in statement.cohorts if one.releases] or statement.cohorts[:1]
        for cohort in used:
            title = group_title(statement.terms, cohort.cohort)
            groups.setdefault(title, []).append((statement, cohort))
    return Group(*(_table(title, rows) for title, rows in groups.items()), Text(_MEANING))


def history_table(histories: Sequence[BudgetHistory], *, now_ms: int) -> RenderableType:
    """For people: what each run took of each budget, and when the caps will be reached.

    Members of whom the same is to be said share a table.
    """
    parts: list[RenderableType] = []
    for title, group in by_title(histories).items():
        parts.append(Text(f"{title}\n", style="bold"))
        for same in _alike(group, now_ms):
            names = [one.terms.member for one in same]
            parts += [
                Text(f"{_list(names)}:"),
                _runs_table(same[0].runs),
                Text("".join(f"{one}\n" for one in trend(same[0], now_ms=now_ms))),
            ]
    return Group(*parts, Text(_HISTORY_MEANING))


def trend(history: BudgetHistory, *, now_ms: int) -> tuple[str, ...]:
    """Return for each reading a sentence: what is spent, and when the cap will be reached."""
    return tuple(_trend(history, against, now_ms) for against in READINGS)


def by_title(histories: Iterable[BudgetHistory]) -> dict[str, list[BudgetHistory]]:
    """Return the histories of each data set, unit and cohort under its title."""
    groups: dict[str, list[BudgetHistory]] = {}
    for one in histories:
        groups.setdefault(group_title(one.terms, one.cohort), []).append(one)
    return groups


def group_title(terms: BudgetTerms, cohort: Part) -> str:
    """Return what a group of budgets is about."""
    title = f"{terms.dataset}: {terms.unit}, {cohort}"
    if terms.period_days is not None:
        title += f", the last {terms.period_days:g} days"
    return title


def _each(
    home: Home, read: Callable[[LedgerStore], tuple[Any, ...]]
) -> Iterable[tuple[Path, tuple[Any, ...], str]]:
    own = home.own_node / "ledger.db"
    embedded = sorted(home.root.glob("nodes/*/*/ledger.db"))
    for path in (*embedded, *([own] if own.exists() else [])):
        try:
            with closing(SqliteLedger(path)) as store:
                found = read(store)
        except TacitError as failure:
            yield path, (), str(failure)
        else:
            yield path, found, ""


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


def _alike(group: Sequence[BudgetHistory], now_ms: int) -> list[list[BudgetHistory]]:
    found: dict[object, list[BudgetHistory]] = {}
    for one in group:
        rows = tuple(_run(row) for row in one.runs)
        found.setdefault((rows, trend(one, now_ms=now_ms)), []).append(one)
    return list(found.values())


def _runs_table(runs: Sequence[RunRow]) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("from (UTC)", no_wrap=True)
    for name in ("re-\nleases", "re-\nserved", "back", "eps_coord", "eps_solo"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(*_run(run))
    return table


def _run(run: RunRow) -> tuple[str, ...]:
    return (
        run.run,
        _time(run.first_ms, "%Y-%m-%d %H:%M"),
        str(run.releases),
        str(run.pending or ""),
        str(run.aborted or ""),
        _step(run.coordinator),
        _step(run.solo),
    )


def _step(taken: Taken) -> str:
    return f"{_number(taken.before)} -> {_number(taken.after)}"


def _trend(history: BudgetHistory, against: Against, now_ms: int) -> str:
    cap, spent = history.cap(against), history.spent(against)
    name = _NAMES[against]
    if cap is None:
        return f"{name} {_number(spent)}, without a cap"
    found = outlook(history, against, now_ms=now_ms)
    told = f"{name} {_number(spent)} of {_number(cap)}"
    if found.reached_ms is not None and found.reached_ms <= now_ms:
        return f"{told}: the cap is reached"
    if not found.pace:
        return f"{told}; nothing was spent in the last {PACE_DAYS} days"
    pace = f"at the pace of the last {PACE_DAYS} days ({found.pace:.2g} a day)"
    if found.reached_ms is None:
        return f"{told}; {pace} the cap is never reached"
    if found.reached_ms > now_ms + _FAR_DAYS * _DAY_MS:
        return f"{told}; {pace} the cap is not reached within a hundred years"
    return f"{told}; {pace} the cap is reached on {_time(found.reached_ms, '%Y-%m-%d')}"


def _time(time_ms: int, form: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime(form)


def _list(names: Sequence[str]) -> str:
    shown = 12
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


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
