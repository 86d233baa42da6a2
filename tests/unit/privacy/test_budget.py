import copy
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from support.budgets import (
    IDENTITY,
    OTHER_IDENTITY,
    RECEIPT,
    TERMS,
    begin,
    entries_of,
    forged,
    put,
    raw,
    rewrite,
)

from privacy.accounting.event import Event, event_of, solo_event_of
from privacy.accounting.pld import Report, reported
from privacy.accounting.rdp import best_order, capacity, epsilon, epsilon_at, renyi
from privacy.budget import Budget, BudgetStatement, Spending, read_statements
from privacy.budget_record import BudgetTerms
from privacy.errors import InputError, RefusedError
from privacy.ledger.entry import Body, Entry, make_entry, parse_leaf
from privacy.ledger.head import next_entry
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger, SqliteTurn
from privacy.ledger.store import append, head_of
from privacy.receipt import Receipt
from privacy.release import ABORT_DOMAIN, ReleaseToken, abort_message

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
DAY_MS = 86_400_000
BARE = replace(RECEIPT, mechanism="none", share=0.0)
COST = renyi(event_of(RECEIPT, colluders=2), TERMS.order)
FITTING = int(capacity(8.0, 1e-5, TERMS.order) / COST)


class Clock:
    """A clock that a test sets."""

    def __init__(self, time_ms: int = 1_000_000) -> None:
        self.time_ms = time_ms

    def __call__(self) -> int:
        return self.time_ms


class Faulty:
    """A connection that fails on one statement, before or after it is done."""

    def __init__(self, connection: sqlite3.Connection, statement: str, code: int) -> None:
        self.connection = connection
        self.statement = statement
        self.code = code
        self.done_first = False

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        hit = statement.startswith(self.statement)
        if hit and not self.done_first:
            raise self.error()
        found = self.connection.execute(statement, *values)  # type: ignore[arg-type]
        if hit:
            raise self.error()
        return found

    def error(self) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = self.code
        return error

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def opened(path: Path, terms: BudgetTerms = TERMS, clock: Clock | None = None) -> Budget:
    return Budget(SqliteLedger(path), terms, now_ms=clock or Clock())


def connection_of(budget: Budget) -> sqlite3.Connection:
    connection = cast("SqliteLedger", budget._store)._connection
    assert connection is not None
    return connection


@contextmanager
def failing(
    budget: Budget, statement: str, code: int = sqlite3.SQLITE_IOERR, *, done_first: bool = False
) -> Iterator[None]:
    store = cast("SqliteLedger", budget._store)
    connection = connection_of(budget)
    faulty = Faulty(connection, statement, code)
    faulty.done_first = done_first
    store._connection = cast("sqlite3.Connection", faulty)
    try:
        yield
    finally:
        store._connection = connection


def kinds(path: Path) -> list[str]:
    return [entry.kind.removeprefix("budget.") for entry in entries_of(path)]


def leaves_of(path: Path) -> list[bytes]:
    return [entry.leaf() for entry in entries_of(path)]


def spending(statement: BudgetStatement, cohort: str = "training") -> Spending:
    (found,) = (one for one in statement.cohorts if one.cohort == cohort)
    return found.coordinator


def releases(budget: Budget) -> int:
    return budget.statement(tightest=False).cohorts[0].releases


def fill(budget: Budget, run: str = "r", receipt: Receipt = RECEIPT) -> int:
    """Reserve until it is refused; return how often it was not."""
    for number in range(1000):
        try:
            budget.reserve(run, "update", number, receipt)
        except RefusedError as refusal:
            if "the privacy budget does not hold this" not in str(refusal):
                raise
            return number
    raise AssertionError("nothing is ever refused")


# -- what is written, and when --


def test_terms_are_written_when_they_are_new_and_only_then(path: Path) -> None:
    opened(path)
    opened(path)
    assert kinds(path) == ["terms"]
    opened(path, replace(TERMS, epsilon=9.0))
    opened(path)
    assert [entry.body["epsilon"] for entry in entries_of(path)] == [8.0, 9.0, 8.0]


def test_a_reserve_is_on_disk_when_it_returns_and_before_it_is_counted(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    last = entries_of(path)[-1]
    assert last.kind == "budget.reserved"
    assert last.body["receipt"] == RECEIPT.to_json()
    assert {**last.body, "receipt": 0} == {
        "run": "r",
        "step": "update",
        "round": 1,
        "dataset": "loans",
        "receipt": 0,
    }


def test_a_reserve_is_synced_and_its_commit_is_only_a_note(path: Path) -> None:
    begin(path)
    budget = opened(path)
    said: list[str] = []
    connection_of(budget).set_trace_callback(said.append)

    def how() -> list[str]:
        told = [one for one in said if one.startswith(("PRAGMA synchronous =", "BEGIN", "COMMIT"))]
        said.clear()
        return told

    full = ["PRAGMA synchronous = FULL", "BEGIN IMMEDIATE", "COMMIT"]
    token = budget.reserve("r", "update", 1, RECEIPT)
    assert how() == full
    assert connection_of(budget).execute("PRAGMA synchronous").fetchone() == (2,)
    budget.abort(token, reason="nobody asked", sign=IDENTITY.sign)
    assert how() == full
    budget.reserve("r", "update", 2, RECEIPT)
    # without its note the release counts as spent all the same
    budget.commit("r", "update", 2)
    assert how() == [*full, "PRAGMA synchronous = NORMAL", "BEGIN IMMEDIATE", "COMMIT"]
    assert connection_of(budget).execute("PRAGMA synchronous").fetchone() == (1,)
    assert connection_of(budget).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    budget.reserve("r", "update", 3, RECEIPT)
    assert how() == full


def test_no_epsilon_is_ever_stored_but_the_caps(path: Path) -> None:
    budget = opened(path)
    fill(budget)
    for entry in entries_of(path)[1:]:
        assert "epsilon" not in str(dict(entry.body))


# -- the cap --


def test_exactly_what_the_cap_allows_fits_and_a_refusal_writes_nothing(path: Path) -> None:
    budget = opened(path)
    assert fill(budget) == FITTING >= 2
    assert FITTING * COST <= capacity(8.0, 1e-5, TERMS.order) < (FITTING + 1) * COST
    before = leaves_of(path)
    with pytest.raises(RefusedError, match=r"would still fit|none of it would fit"):
        budget.reserve("another", "update", 1, RECEIPT)
    assert leaves_of(path) == before
    assert spending(budget.statement(tightest=False)).spent <= 8.0


def test_a_smaller_release_still_fits_after_a_larger_one_was_refused(path: Path) -> None:
    budget = opened(path)
    fill(budget)
    budget.reserve("r", "evaluate test", 1, replace(RECEIPT, share=100.0))


def test_check_says_the_cap_what_is_spent_and_what_would_fit(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    budget.check([RECEIPT] * (FITTING - 1))
    with pytest.raises(RefusedError) as refusal:
        budget.check([RECEIPT] * FITTING)
    sentence = str(refusal.value)
    spent = epsilon_at(COST, TERMS.order, TERMS.delta)
    for part in (
        "loans",
        "borrower, training",
        "the coordinator with 2 other nodes",
        "cap is epsilon 8",
        f"{spent:.4g} is spent",
        f"{FITTING - 1} of {FITTING} would still fit",
        "times the noise",
    ):
        assert part in sentence
    assert kinds(path) == ["terms", "reserved"]


def test_what_was_promised_to_other_runs_is_kept_free_by_check(path: Path) -> None:
    budget = opened(path)
    budget.promise("first", [RECEIPT] * 3)
    budget.check([RECEIPT] * (FITTING - 3))
    with pytest.raises(RefusedError, match="would still fit"):
        budget.check([RECEIPT] * (FITTING - 2))
    budget.check([RECEIPT] * FITTING, run="first")
    budget.forget("first")
    budget.forget("first")
    budget.check([RECEIPT] * FITTING)


def test_promises_to_several_runs_are_kept_free_together(path: Path) -> None:
    budget = opened(path)
    budget.promise("first", [RECEIPT])
    budget.promise("second", [RECEIPT])
    budget.check([RECEIPT] * (FITTING - 2))
    with pytest.raises(RefusedError, match="would still fit"):
        budget.check([RECEIPT] * (FITTING - 1))
    budget.check([RECEIPT] * (FITTING - 1), run="second")


def test_a_reserve_takes_its_part_of_the_runs_promise(path: Path) -> None:
    budget = opened(path)
    budget.promise("first", [RECEIPT] * 3)
    for number in range(3):
        budget.reserve("first", "update", number, replace(RECEIPT, purpose=f"round {number}"))
        budget.check([RECEIPT] * (FITTING - 3))
        with pytest.raises(RefusedError):
            budget.check([RECEIPT] * (FITTING - 2))
    budget.promise("first", [])
    budget.check([RECEIPT] * (FITTING - 3))


def test_a_reserve_that_was_not_written_takes_nothing_of_the_runs_promise(path: Path) -> None:
    budget = opened(path)
    budget.promise("first", [RECEIPT] * 3)
    with failing(budget, "COMMIT"), pytest.raises(RefusedError):
        budget.reserve("first", "update", 1, RECEIPT)
    budget.check([RECEIPT] * (FITTING - 3))
    with pytest.raises(RefusedError):
        budget.check([RECEIPT] * (FITTING - 2))


def test_a_release_about_all_units_counts_against_each_cohort(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "statistics", 0, replace(RECEIPT, cohort="all"))
    budget.reserve("r", "update", 1, RECEIPT)
    statement = budget.statement(tightest=False)
    assert [one.releases for one in statement.cohorts] == [2, 1]
    assert spending(statement).spent == pytest.approx(epsilon_at(2 * COST, 5, 1e-5))
    assert spending(statement, "test").spent == pytest.approx(epsilon_at(COST, 5, 1e-5))
    fill(budget, "s")
    budget.reserve("r", "evaluate test", 1, replace(RECEIPT, cohort="test"))
    with pytest.raises(RefusedError, match="training"):
        budget.reserve("r", "evaluate watch", 1, replace(RECEIPT, cohort="all"))


def test_caps_hold_against_all_others_together_too(path: Path) -> None:
    terms = replace(TERMS, solo_epsilon=8.0)
    budget = opened(path, terms)
    order = best_order(8.0, 1e-5)
    alone = renyi(solo_event_of(RECEIPT), order)
    fits = int(capacity(8.0, 1e-5, order) / alone)
    assert fill(budget) == fits < FITTING
    with pytest.raises(RefusedError, match="all others together"):
        budget.reserve("r", "update", 999, RECEIPT)
    (training, _) = budget.statement(tightest=False).cohorts
    assert training.solo.spent == pytest.approx(epsilon_at(fits * alone, order, 1e-5))
    assert training.solo.order == order


def test_only_a_solo_cap_binds_as_well(path: Path) -> None:
    budget = opened(path, replace(TERMS, epsilon=None, solo_epsilon=8.0))
    assert 0 < fill(budget) < FITTING


def test_more_colluders_leave_less_noise(path: Path) -> None:
    budget = opened(path, replace(TERMS, colluders=4))
    assert fill(budget) == FITTING // 2


def test_without_a_cap_releases_are_counted(path: Path) -> None:
    budget = opened(path, replace(TERMS, epsilon=None))
    for number in range(3 * FITTING):
        budget.reserve("r", "update", number, RECEIPT)
    found = spending(budget.statement(tightest=False))
    # no order is enforced, so the best one is shown
    one = event_of(RECEIPT, colluders=TERMS.colluders)
    best, _ = epsilon([replace(one, steps=3 * FITTING * one.steps)], 1e-5)
    assert found.spent == pytest.approx(best)
    assert best < epsilon_at(3 * FITTING * COST, 5, 1e-5)
    assert (found.cap, found.left, found.more_runs) == (None, None, None)


@pytest.mark.parametrize("cap", [{}, {"epsilon": None, "solo_epsilon": 50.0}])
def test_a_release_without_noise_is_refused_under_a_cap(path: Path, cap: dict[str, float]) -> None:
    budget = opened(path, replace(TERMS, **cap))  # type: ignore[arg-type]
    asks: list[Callable[[], object]] = [
        lambda: budget.reserve("r", "update", 1, BARE),
        lambda: budget.check([RECEIPT, BARE]),
    ]
    for ask in asks:
        with pytest.raises(RefusedError, match="has no noise"):
            ask()
    assert kinds(path) == ["terms"]


def test_a_release_without_noise_is_on_record_where_nothing_is_capped(path: Path) -> None:
    free = opened(path, replace(TERMS, epsilon=None))
    free.reserve("r", "update", 1, BARE)
    found = spending(free.statement())
    assert found.spent == found.pending == found.epsilon == float("inf")
    capped = opened(path)
    with pytest.raises(RefusedError, match="inf is spent"):
        capped.reserve("r", "update", 2, replace(RECEIPT, share=1e6))
    capped.reserve("r", "evaluate test", 2, replace(RECEIPT, cohort="test"))
    found = spending(capped.statement())
    assert (found.spent, found.left) == (float("inf"), 0.0)


def test_a_release_about_another_unit_is_refused(path: Path) -> None:
    budget = opened(path)
    other = replace(RECEIPT, unit="row")
    asks: list[Callable[[], object]] = [
        lambda: budget.reserve("r", "update", 1, other),
        lambda: budget.check([other]),
        lambda: budget.promise("r", [other]),
    ]
    for ask in asks:
        with pytest.raises(RefusedError, match="about a row"):
            ask()
    assert kinds(path) == ["terms"]


# -- once, and for ever --


def test_what_was_reserved_is_never_reserved_again(path: Path) -> None:
    budget = opened(path, replace(TERMS, epsilon=None))
    budget.reserve("r", "update", 1, RECEIPT)
    budget.reserve("r", "update", 2, RECEIPT)
    budget.commit("r", "update", 2)
    for again in (budget, opened(path, replace(TERMS, epsilon=None))):
        for number in (1, 2):
            with pytest.raises(RefusedError, match="reserved before"):
                again.reserve("r", "update", number, replace(RECEIPT, share=3.0))
    budget.reserve("r", "evaluate watch", 1, RECEIPT)
    budget.reserve("s", "update", 1, RECEIPT)


def test_what_was_reserved_is_known_by_its_entry_and_not_by_the_stores_index(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    with raw(path) as connection:
        connection.execute("UPDATE entry SET key = NULL")
    for again in (budget, opened(path)):
        with pytest.raises(RefusedError, match="reserved before"):
            again.reserve("r", "update", 1, RECEIPT)


def test_a_crash_after_a_reserve_counts_as_spent(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    budget.reserve("r", "update", 2, RECEIPT)
    budget.commit("r", "update", 1)
    del budget
    again = opened(path)
    found = spending(again.statement(tightest=False))
    assert found.spent == pytest.approx(epsilon_at(2 * COST, 5, 1e-5))
    assert found.pending == pytest.approx(COST)
    assert fill(again, "s") == FITTING - 2


def test_a_commit_changes_nothing_but_what_is_pending(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    before = spending(budget.statement(tightest=False))
    budget.commit("r", "update", 1)
    budget.commit("r", "update", 1)
    opened(path).commit("r", "update", 1)
    assert spending(budget.statement(tightest=False)) == replace(before, pending=0.0)
    assert kinds(path) == ["terms", "reserved", "committed"]


def test_nothing_is_committed_that_was_not_reserved(path: Path) -> None:
    budget = opened(path)
    with pytest.raises(RefusedError, match="nothing was reserved"):
        budget.commit("r", "update", 1)
    assert kinds(path) == ["terms"]


def test_only_the_period_counts_and_a_clock_set_back_gives_nothing_back(path: Path) -> None:
    clock = Clock(100 * DAY_MS)
    terms = replace(TERMS, period_days=30.0)
    budget = opened(path, terms, clock)
    assert fill(budget, "a") == FITTING
    clock.time_ms += 30 * DAY_MS
    with pytest.raises(RefusedError):
        budget.reserve("b", "update", 1, RECEIPT)
    clock.time_ms += 1
    assert fill(budget, "c") == FITTING
    statement = budget.statement(tightest=False)
    assert [one.releases for one in statement.cohorts] == [FITTING, 0]
    assert statement.last_run == "c"
    clock.time_ms = 0
    for later in (budget, opened(path, terms, clock)):
        assert fill(later, "d") == 0
    with pytest.raises(RefusedError, match="reserved before"):
        budget.reserve("a", "update", 0, RECEIPT)


def test_what_is_as_old_as_the_period_counts_in_full(path: Path) -> None:
    clock = Clock(100 * DAY_MS)
    budget = opened(path, replace(TERMS, period_days=30.0), clock)
    budget.reserve("r", "update", 1, RECEIPT)
    clock.time_ms += 30 * DAY_MS
    statement = budget.statement(tightest=False)
    assert (statement.cohorts[0].releases, statement.cohorts[0].runs) == (1, 1)
    assert spending(statement).pending == pytest.approx(COST)
    assert statement.time_ms == 130 * DAY_MS
    assert (statement.last_run, statement.last_time_ms) == ("r", 100 * DAY_MS)


def test_nothing_was_reserved_last_of_a_new_budget(path: Path) -> None:
    statement = opened(path).statement(tightest=False)
    assert (statement.last_run, statement.last_time_ms) == ("", 0)
    assert [(one.releases, one.runs, one.coordinator.spent) for one in statement.cohorts] == [
        (0, 0, 0.0)
    ] * 2


def test_the_tightest_epsilon_is_looked_for_where_it_is_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    report = Report(epsilon=0.5, method="pld", true_positive_rate=0.25)
    monkeypatch.setattr("privacy.budget._report", lambda *_: report)
    for tightest, wanted in ((True, (0.5, "pld", 0.25)), (False, (None, None, None))):
        (read,) = read_statements(SqliteLedger(path), now_ms=Clock()(), tightest=tightest)
        assert read == budget.statement(tightest=tightest)
        found = spending(read)
        assert (found.epsilon, found.method, found.true_positive_rate) == wanted


def test_a_clock_that_was_ahead_for_a_moment_gives_nothing_back_for_good(path: Path) -> None:
    clock = Clock(100 * DAY_MS)
    budget = opened(path, replace(TERMS, period_days=30.0), clock)
    assert fill(budget, "a") == FITTING
    clock.time_ms += 1000 * DAY_MS
    budget.reserve("b", "update", 1, RECEIPT)
    clock.time_ms -= 1000 * DAY_MS
    assert fill(budget, "c") == 0


def test_what_is_decided_at_one_time_is_written_at_that_time(path: Path) -> None:
    terms = replace(TERMS, period_days=30.0)
    fill(opened(path, terms, Clock(100 * DAY_MS)), "a")
    times_ms = [200 * DAY_MS, 100 * DAY_MS]
    budget = Budget(SqliteLedger(path), terms, now_ms=lambda: times_ms.pop(0))
    budget.reserve("b", "update", 1, RECEIPT)
    assert entries_of(path)[-1].time_ms == 200 * DAY_MS


def test_without_a_period_nothing_is_ever_forgotten(path: Path) -> None:
    clock = Clock(0)
    budget = opened(path, clock=clock)
    assert fill(budget) == FITTING
    clock.time_ms = 2**52
    assert fill(budget, "s") == 0


# -- leave to release --


def test_a_token_tells_the_ledger_as_it_is_on_disk(path: Path) -> None:
    budget = opened(path)
    for number in range(3):
        token = budget.reserve("r", "update", number, RECEIPT)
        assert (token.run, token.step, token.round_number) == ("r", "update", number)
        assert token.head == head_of(SqliteLedger(path))
        assert token.head.leaves == number + 2
        assert token.use() == token.head


def test_a_token_is_good_for_one_use(path: Path) -> None:
    budget = opened(path)
    used = budget.reserve("r", "update", 1, RECEIPT)
    used.use()
    voided = budget.reserve("r", "update", 2, RECEIPT)
    voided.void()
    for token in (used, voided):
        with pytest.raises(RefusedError, match="lets nothing more leave"):
            token.use()
        with pytest.raises(RefusedError, match="cannot be taken back"):
            token.void()


def test_of_many_threads_one_may_use_a_token(path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    budget = opened(path, replace(TERMS, epsilon=None))

    def use(token: ReleaseToken) -> bool:
        try:
            token.use()
        except RefusedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            token = budget.reserve("r", "update", number, RECEIPT)
            assert sum(pool.map(use, [token] * 16)) == 1


def test_a_token_cannot_be_copied(path: Path) -> None:
    token = opened(path).reserve("r", "update", 1, RECEIPT)
    asks: list[Callable[[], object]] = [
        lambda: copy.copy(token),
        lambda: copy.deepcopy(token),
        lambda: copy.deepcopy({"in": [token]}),
        *(lambda level=level: pickle.dumps(token, level) for level in range(6)),
    ]
    for ask in asks:
        with pytest.raises(TypeError, match="is not copied"):
            ask()
    token.use()


@pytest.mark.parametrize("statement", ["PRAGMA synchronous", "BEGIN", "INSERT", "COMMIT"])
def test_there_is_no_token_where_nothing_could_be_written(path: Path, statement: str) -> None:
    budget = opened(path)
    before = leaves_of(path)
    tokens: list[ReleaseToken] = []
    with failing(budget, statement), pytest.raises(RefusedError, match="nothing may leave"):
        tokens.append(budget.reserve("r", "update", 1, RECEIPT))
    assert tokens == []
    assert leaves_of(path) == before
    # what is remembered is not ahead of the disk
    assert releases(budget) == 0
    assert budget.reserve("r", "update", 1, RECEIPT).head.leaves == 2


def test_what_was_written_although_the_disk_said_no_is_spent(path: Path) -> None:
    budget = opened(path)
    with failing(budget, "COMMIT", done_first=True), pytest.raises(RefusedError):
        budget.reserve("r", "update", 1, RECEIPT)
    assert kinds(path) == ["terms", "reserved"]
    assert releases(budget) == 1
    with pytest.raises(RefusedError, match="reserved before"):
        budget.reserve("r", "update", 1, RECEIPT)


def test_a_commit_note_that_could_not_be_written_is_not_remembered(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    before = spending(budget.statement(tightest=False))
    with failing(budget, "COMMIT"), pytest.raises(RefusedError):
        budget.commit("r", "update", 1)
    assert spending(budget.statement(tightest=False)) == before
    budget.commit("r", "update", 1)
    assert spending(budget.statement(tightest=False)) == replace(before, pending=0.0)


def test_an_exception_from_outside_leaves_the_memory_as_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody presses Ctrl-C between two lines."""
    budget = opened(path)
    begin_again = SqliteTurn.append

    def interrupted(turn: SqliteTurn, kind: str, body: Body, *, time_ms: int) -> Entry:
        begin_again(turn, kind, body, time_ms=time_ms)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SqliteTurn, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            budget.reserve("r", "update", 1, RECEIPT)
    with monkeypatch.context() as patch:
        patch.setattr("privacy.budget._asks", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            budget.reserve("r", "update", 1, RECEIPT)
    assert kinds(path) == ["terms"]
    assert releases(budget) == 0
    assert fill(budget) == FITTING


# -- taking back --


def signed(run: str = "r", step: str = "update", number: int = 1, dataset: str = "loans") -> str:
    return IDENTITY.sign(ABORT_DOMAIN, abort_message(run, step, number, dataset=dataset)).hex()


def test_what_surely_did_not_leave_is_given_back(path: Path) -> None:
    begin(path)
    budget = opened(path)
    kept = budget.reserve("r", "update", 1, RECEIPT)
    token = budget.reserve("r", "update", 2, RECEIPT)
    budget.abort(token, reason="too few members were left", sign=IDENTITY.sign)
    last = entries_of(path)[-1]
    assert (last.kind, last.body["reason"]) == ("budget.aborted", "too few members were left")
    assert last.body["signature"] == signed(number=2)
    for again in (budget, opened(path)):
        found = spending(again.statement(tightest=False))
        assert found.spent == pytest.approx(epsilon_at(COST, 5, 1e-5))
        assert found.pending == pytest.approx(COST)
    assert fill(budget, "s") == FITTING - 1
    kept.use()


def test_what_was_taken_back_is_given_back_in_both_cohorts_and_under_both_caps(path: Path) -> None:
    begin(path)
    budget = opened(path, replace(TERMS, solo_epsilon=30.0, period_days=30.0))
    before = budget.statement(tightest=False)
    all_units = replace(RECEIPT, cohort="all", share=2.0)
    other = budget.reserve("r", "update", 1, RECEIPT)
    token = budget.reserve("r", "update", 2, all_units)
    budget.check([])  # what is spent was added up
    budget.abort(other, reason="x", sign=IDENTITY.sign)
    budget.abort(token, reason="x", sign=IDENTITY.sign)
    assert replace(budget.statement(tightest=False), time_ms=0) == replace(before, time_ms=0)


def test_what_was_taken_back_is_not_reserved_or_committed_again(path: Path) -> None:
    begin(path)
    budget = opened(path)
    budget.abort(budget.reserve("r", "update", 1, RECEIPT), reason="x", sign=IDENTITY.sign)
    for again in (budget, opened(path)):
        with pytest.raises(RefusedError, match="reserved before"):
            again.reserve("r", "update", 1, RECEIPT)
        with pytest.raises(RefusedError, match="nothing was reserved"):
            again.commit("r", "update", 1)


def test_after_an_abort_nothing_leaves(path: Path) -> None:
    begin(path)
    budget = opened(path)
    token = budget.reserve("r", "update", 1, RECEIPT)
    budget.abort(token, reason="x", sign=IDENTITY.sign)
    with pytest.raises(RefusedError, match="lets nothing more leave"):
        token.use()
    with pytest.raises(RefusedError, match="cannot be taken back"):
        budget.abort(token, reason="x", sign=IDENTITY.sign)
    assert kinds(path).count("aborted") == 1


def test_what_left_is_not_taken_back(path: Path) -> None:
    begin(path)
    budget = opened(path)
    token = budget.reserve("r", "update", 1, RECEIPT)
    token.use()
    with pytest.raises(RefusedError, match="cannot be taken back"):
        budget.abort(token, reason="x", sign=IDENTITY.sign)
    assert "aborted" not in kinds(path)
    assert releases(budget) == 1


def test_after_a_restart_nothing_is_taken_back(path: Path) -> None:
    """The token is gone with the process, and what it let leave is not known."""
    begin(path)
    opened(path).reserve("r", "update", 1, RECEIPT)
    again = opened(path)
    with pytest.raises(RefusedError, match="reserved before"):
        again.reserve("r", "update", 1, RECEIPT)
    other = again.reserve("r", "update", 2, RECEIPT)
    again.abort(other, reason="x", sign=IDENTITY.sign)
    assert releases(again) == 1


def test_what_was_committed_is_not_taken_back(path: Path) -> None:
    begin(path)
    budget = opened(path)
    token = budget.reserve("r", "update", 1, RECEIPT)
    budget.commit("r", "update", 1)
    with pytest.raises(RefusedError, match="is not reserved here"):
        budget.abort(token, reason="x", sign=IDENTITY.sign)
    assert releases(budget) == 1
    with pytest.raises(RefusedError):
        token.use()


def test_a_token_of_another_data_set_takes_nothing_back_here(path: Path) -> None:
    begin(path)
    loans, cars = opened(path), opened(path, replace(TERMS, dataset="cars"))
    token = loans.reserve("r", "update", 1, RECEIPT)
    with pytest.raises(RefusedError, match="is not reserved here"):
        cars.abort(token, reason="x", sign=IDENTITY.sign)
    assert releases(loans) == 1
    with pytest.raises(RefusedError):
        token.use()


def test_nothing_is_taken_back_in_a_ledger_without_a_key(path: Path) -> None:
    budget = opened(path)
    token = budget.reserve("r", "update", 1, RECEIPT)
    with pytest.raises(RefusedError, match="holds no key of this node"):
        budget.abort(token, reason="x", sign=IDENTITY.sign)
    assert kinds(path) == ["terms", "reserved"]
    assert spending(budget.statement(tightest=False)).pending == pytest.approx(COST)
    with pytest.raises(RefusedError):
        token.use()


def test_nothing_is_taken_back_by_another_key(path: Path) -> None:
    begin(path)
    budget = opened(path)
    for number, sign in enumerate(
        (OTHER_IDENTITY.sign, lambda _, message: IDENTITY.sign("lunch", message), lambda *_: b"")
    ):
        token = budget.reserve("r", "update", number, RECEIPT)
        with pytest.raises(RefusedError, match="is not the one"):
            budget.abort(token, reason="x", sign=sign)
    assert "aborted" not in kinds(path)
    found = spending(budget.statement(tightest=False))
    assert found == spending(opened(path).statement(tightest=False))
    assert found.pending == pytest.approx(3 * COST)


def test_a_reason_that_no_ledger_takes_is_an_error_of_the_programmer(path: Path) -> None:
    begin(path)
    budget = opened(path)
    token = budget.reserve("r", "update", 1, RECEIPT)
    with pytest.raises(ValueError, match="wrong value in reason"):
        budget.abort(token, reason="", sign=IDENTITY.sign)
    assert releases(budget) == 1


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
def test_an_abort_that_could_not_be_written_gives_nothing_back(path: Path, statement: str) -> None:
    begin(path)
    budget = opened(path)
    token = budget.reserve("r", "update", 1, RECEIPT)
    with failing(budget, statement), pytest.raises(RefusedError):
        budget.abort(token, reason="x", sign=IDENTITY.sign)
    assert "aborted" not in kinds(path)
    found = spending(budget.statement(tightest=False))
    assert found.pending == pytest.approx(COST)
    assert fill(budget, "s") == FITTING - 1
    with pytest.raises(RefusedError):
        token.use()


def test_after_a_rotation_the_new_key_takes_back_and_the_old_one_does_not(path: Path) -> None:
    begin(path)
    budget = opened(path)
    token = budget.reserve("r", "update", 1, RECEIPT)
    other = budget.reserve("r", "update", 2, RECEIPT)
    new = OTHER_IDENTITY.public
    rotation = {"key": new.hex(), "signature": IDENTITY.sign("key-rotation", new).hex()}
    append(SqliteLedger(path), "key.rotated", rotation, time_ms=0)
    with pytest.raises(RefusedError, match="is not the one"):
        budget.abort(token, reason="x", sign=IDENTITY.sign)
    budget.abort(other, reason="x", sign=OTHER_IDENTITY.sign)
    assert releases(budget) == releases(opened(path)) == 1


# -- terms --


def test_the_order_of_a_budget_does_not_change(path: Path) -> None:
    opened(path)
    with pytest.raises(RefusedError, match="was begun at order 5, which cannot change to 6; leave"):
        opened(path, replace(TERMS, order=6))
    assert kinds(path) == ["terms"]


def test_an_order_that_nobody_named_gives_way_to_that_of_the_budget(path: Path) -> None:
    """A cap that is raised or lowered is usual; the filter's order stays what it was."""

    def reopened(terms: BudgetTerms) -> Budget:
        return Budget(SqliteLedger(path), terms, now_ms=Clock(), order_is_meant=False)

    opened(path).reserve("r", "update", 1, RECEIPT)
    for most in (8.0, 50.0, 4.0):
        budget = reopened(replace(TERMS, epsilon=most, order=best_order(most, 1e-5)))
        assert budget.statement().cohorts[0].coordinator.cap == most
        assert releases(budget) == 1
        budget.check([RECEIPT])
    assert {entry.body["order"] for entry in entries_of(path) if "order" in entry.body} == {5}
    assert [entry.body["epsilon"] for entry in entries_of(path) if "order" in entry.body] == [
        *(8.0, 50.0, 4.0),
    ]
    with pytest.raises(RefusedError, match="begun at order 5, which cannot hold epsilon 1; choose"):
        reopened(replace(TERMS, epsilon=1.0, order=best_order(1.0, 1e-5)))
    # of a budget that is not begun, it is the one that counts
    other = replace(TERMS, dataset="other", epsilon=1.0, order=best_order(1.0, 1e-5))
    assert reopened(other).statement().cohorts[0].coordinator.order == best_order(1.0, 1e-5) != 5


def test_the_order_of_the_solo_cap_is_the_first_one_whatever_the_cap_becomes(path: Path) -> None:
    opened(path, replace(TERMS, solo_epsilon=8.0))
    opened(path, replace(TERMS, solo_epsilon=20.0))
    assert {entry.body["solo_order"] for entry in entries_of(path)} == {best_order(8.0, 1e-5)}
    for other in (TERMS.epsilon, None):
        with pytest.raises(RefusedError, match=r"cannot hold solo_epsilon 0\.5; choose a larger"):
            opened(path, replace(TERMS, epsilon=other, solo_epsilon=0.5))


def test_an_order_that_cannot_hold_its_cap_is_refused_at_once(path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold"):
        opened(path, replace(TERMS, epsilon=0.1))
    assert not path.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"epsilon": float("inf")},
        {"solo_epsilon": float("nan")},
        {"delta": 0.0},
        {"delta": 1.0},
        {"order": 1},
        {"order": 513},
        {"colluders": -1},
        {"period_days": -1.0},
    ],
)
def test_terms_out_of_range_are_no_terms(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"need|finite"):
        replace(TERMS, **wrong)  # type: ignore[arg-type]


def test_a_ledger_belongs_to_one_member(path: Path) -> None:
    opened(path)
    with pytest.raises(RefusedError, match="budget of bank, not of broker"):
        opened(path, replace(TERMS, member="broker"))


def test_data_sets_in_one_ledger_are_counted_apart(path: Path) -> None:
    loans, cars = opened(path), opened(path, replace(TERMS, dataset="cars"))
    assert fill(loans, "a") == fill(cars, "b") == FITTING
    with pytest.raises(RefusedError, match="nothing was reserved"):
        cars.commit("a", "update", 0)
    with pytest.raises(RefusedError, match="reserved before"):
        cars.reserve("a", "update", 0, RECEIPT)
    found = read_statements(SqliteLedger(path), now_ms=0, tightest=False)
    assert [one.terms.dataset for one in found] == ["loans", "cars"]
    assert [one.last_run for one in found] == ["a", "b"]


def test_data_sets_may_share_a_store_between_threads(path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    store = SqliteLedger(path)
    budgets = [
        Budget(store, replace(TERMS, dataset=name), now_ms=Clock()) for name in ("loans", "cars")
    ]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(fill, budgets[n % 2], f"run {n}") for n in range(4)]
        found = [one.result() for one in futures]
    assert found[0] + found[2] == found[1] + found[3] == FITTING


def test_other_acts_of_the_node_stand_between_those_of_its_budget(path: Path) -> None:
    budget = opened(path)
    store = SqliteLedger(path)
    body = {"run": "r", "manifest": "a" * 64, "origin": "o"}
    append(store, "run.joined", body, time_ms=0)
    token = budget.reserve("r", "update", 1, RECEIPT)
    assert token.head.leaves == 3
    append(store, "rows.read", {"run": "r", "contract": "b" * 64, "rows": "c" * 64}, time_ms=0)
    budget.commit("r", "update", 1)
    assert releases(budget) == releases(opened(path)) == 1


def test_an_object_with_old_terms_refuses(path: Path) -> None:
    old = opened(path)
    new = opened(path, replace(TERMS, epsilon=4.0))
    with pytest.raises(RefusedError, match="restart this node"):
        old.reserve("r", "update", 1, RECEIPT)
    new.reserve("r", "update", 1, RECEIPT)


def test_terms_that_came_and_went_leave_no_trace_in_what_is_counted(path: Path) -> None:
    first = opened(path)
    first.reserve("r", "update", 1, RECEIPT)
    first.statement(tightest=False)
    opened(path, replace(TERMS, colluders=4)).reserve("r", "update", 2, RECEIPT)
    again = opened(path)
    assert first.statement(tightest=False) == again.statement(tightest=False)
    assert spending(first.statement(tightest=False)).spent == pytest.approx(
        epsilon_at(2 * COST, 5, 1e-5)
    )


def test_two_objects_on_one_ledger_see_what_the_other_spent(path: Path) -> None:
    first, second = opened(path), opened(path)
    for number in range(FITTING):
        (first, second)[number % 2].reserve("r", "update", number, RECEIPT)
    for budget in (first, second):
        with pytest.raises(RefusedError):
            budget.reserve("s", "update", 1, RECEIPT)
        assert spending(budget.statement(tightest=False)).left == pytest.approx(
            capacity(8.0, 1e-5, 5) - FITTING * COST
        )
    second.commit("r", "update", 0)


# -- faults --


def test_nothing_is_reserved_on_a_full_disk(path: Path) -> None:
    budget = opened(path, replace(TERMS, epsilon=None))
    pages = connection_of(budget).execute("PRAGMA page_count").fetchone()[0]
    connection_of(budget).execute(f"PRAGMA max_page_count = {pages}")
    reserved = 0
    while reserved < 1000:
        try:
            budget.reserve("r", "update", reserved, RECEIPT)
        except RefusedError as refusal:
            assert "full" in str(refusal)  # noqa: PT017
            assert "nothing may leave" in str(refusal)  # noqa: PT017
            break
        reserved += 1
    assert reserved < 1000
    for _ in range(2):
        assert kinds(path) == ["terms", *["reserved"] * reserved]
        assert releases(budget) == reserved
        with pytest.raises(RefusedError, match="full"):
            budget.reserve("r", "update", reserved, RECEIPT)
    connection_of(budget).execute(f"PRAGMA max_page_count = {1000 * pages}")
    budget.reserve("r", "update", reserved, RECEIPT)
    assert releases(opened(path, replace(TERMS, epsilon=None))) == reserved + 1


def test_a_ledger_that_cannot_be_read_refuses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = opened(path)
    with failing(budget, "SELECT"):
        for ask in (
            lambda: budget.reserve("r", "update", 1, RECEIPT),
            lambda: budget.check([RECEIPT]),
        ):
            with pytest.raises(RefusedError, match="nothing may leave"):
                ask()

    def unreadable(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    monkeypatch.setattr(sqlite3, "connect", unreadable)
    with pytest.raises(RefusedError, match="nothing may leave"):
        opened(path)


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="nothing may leave"):
        opened(tmp_path)


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="there is no folder"):
        opened(tmp_path / "gone" / "ledger.db")
    assert not (tmp_path / "gone").exists()


def refused_anew(path: Path, match: str = "does not hold|is broken|last entry") -> None:
    """Opening and looking both refuse what stands there."""
    with pytest.raises(RefusedError, match=match):
        opened(path)
    with pytest.raises(RefusedError, match=match):
        read_statements(SqliteLedger(path), now_ms=0)


def test_every_flipped_bit_is_refused(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    budget.commit("r", "update", 1)
    rows = leaves_of(path)
    with raw(path) as connection:
        for index, leaf in enumerate(rows):
            for place in range(0, len(leaf), 17):
                changed = bytearray(leaf)
                changed[place] ^= 1 << place % 8
                connection.execute(
                    "UPDATE entry SET leaf = ? WHERE place = ?", (bytes(changed), index)
                )
                refused_anew(path)
            connection.execute("UPDATE entry SET leaf = ? WHERE place = ?", (leaf, index))
    assert releases(opened(path)) == 1


def test_every_flipped_bit_of_the_trees_own_hashes_is_refused(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    with raw(path) as connection:
        # two leaves hang below one hash
        (digest,) = connection.execute("SELECT hash FROM node WHERE level = 1").fetchone()
        for place in range(0, 32, 5):
            changed = bytearray(digest)
            changed[place] ^= 1 << place % 8
            connection.execute("UPDATE node SET hash = ? WHERE level = 1", (bytes(changed),))
            refused_anew(path, "are not those that were written")
        connection.execute("DELETE FROM node WHERE level = 1")
        refused_anew(path, "has not the hash")


def test_rows_out_of_place_are_refused(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    budget.commit("r", "update", 1)
    leaves = leaves_of(path)
    with raw(path) as connection:
        for left in (
            leaves[1:],
            [leaves[0], leaves[2]],
            [leaves[1], leaves[0], leaves[2]],
            [*leaves, leaves[1]],
            [*leaves, b"notes"],
            [*leaves, b""],
        ):
            # every hash of the tree is the right one for these leaves
            rewrite(connection, left)
            refused_anew(path)
        rewrite(connection, leaves)
    assert releases(opened(path)) == 1


def test_a_release_that_was_taken_out_is_missed(path: Path) -> None:
    budget = opened(path)
    for number in range(3):
        budget.reserve("r", "update", number, RECEIPT)
    known = entries_of(path)
    for place in (1, 2):
        with raw(path) as connection:
            rewrite(connection, [one.leaf() for one in known])
            connection.execute("DELETE FROM entry WHERE place = ?", (place,))
        refused_anew(path, "missing or out of place")
        # those after it renumbered, but the tree left as it was
        with raw(path) as connection:
            later = [replace(one, index=one.index - 1) for one in known[place + 1 :]]
            for one in later:
                connection.execute("DELETE FROM entry WHERE place = ?", (one.index + 1,))
            for one in later:
                connection.execute("INSERT INTO entry VALUES (?, ?, NULL)", (one.index, one.leaf()))
        refused_anew(path, "are not those that were written")


def test_whoever_writes_everything_anew_has_another_head_than_was_told(path: Path) -> None:
    budget = opened(path)
    told = [budget.reserve("r", "update", number, RECEIPT).use() for number in range(3)][-1]
    kept = [entry for entry in entries_of(path) if entry.index != 2]
    with raw(path) as connection:
        rewrite(connection, [replace(one, index=place).leaf() for place, one in enumerate(kept)])
    # nothing on this disk shows it
    assert releases(opened(path)) == 2
    opened(path).reserve("s", "update", 1, RECEIPT)
    found = head_of(SqliteLedger(path), told.leaves)
    assert (found.leaves, found.root == told.root) == (4, False)


def test_a_log_that_was_torn_holds_a_beginning_of_what_was_written(path: Path) -> None:
    """As after a power cut, on a disk that lost what it had promised to keep."""
    budget = opened(path)
    for number in range(4):
        budget.reserve("r", "update", number, RECEIPT)
    log = path.with_name("ledger.db-wal").read_bytes()
    found: set[int] = set()
    for place, size in enumerate(range(len(log), 0, -997)):
        folder = path.parent / f"{place}"
        folder.mkdir()
        torn = folder / "ledger.db"
        shutil.copy(path, torn)
        torn.with_name("ledger.db-wal").write_bytes(log[:size])
        again = opened(torn)
        found.add(releases(again))
        assert kinds(torn) == ["terms", *["reserved"] * releases(again)]
        again.reserve("s", "update", 1, RECEIPT)
    assert found == set(range(5))


def test_a_foreign_file_is_refused_and_left_as_it_is(path: Path) -> None:
    for data in (b"notes", b"{}\n" * 3000, b"SQLite format 3\0" + b"\0" * 5000):
        path.write_bytes(data)
        with pytest.raises(RefusedError):
            opened(path)
        assert path.read_bytes() == data
        path.unlink()
    sqlite3.connect(path).execute(
        "CREATE TABLE entry (place INTEGER, leaf BLOB)"
    ).connection.close()
    refused_anew(path, "is no ledger")


def test_a_foreign_row_is_refused_by_whoever_has_it_open(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    with raw(path) as connection:
        put(connection, Entry(2, 0, 1, "", {}), b"notes")
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"last entry .* is broken"):
            budget.reserve("r", "update", 3, RECEIPT)
    refused_anew(path)


@pytest.mark.parametrize("change", ["cut", "emptied", "older", "rewritten", "rewritten and longer"])
def test_a_ledger_that_changes_while_it_is_in_use_is_refused(path: Path, change: str) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    older = leaves_of(path)
    budget.reserve("r", "update", 2, RECEIPT)
    terms = entries_of(path)[0]
    body = {**RESERVED, "run": "s"}
    other = [terms]
    for number in range(4):
        other.append(
            next_entry(other[-1], "budget.reserved", {**body, "round": number}, time_ms=0, epoch=1)
        )
    with raw(path) as connection:
        rewrite(
            connection,
            {
                "cut": older[:1],
                "emptied": [],
                "older": older,
                "rewritten": [one.leaf() for one in other[:3]],
                "rewritten and longer": [one.leaf() for one in other],
            }[change],
        )
    # also where it was looked at once already, and its memory was dropped
    for ask in (
        lambda: budget.reserve("r", "update", 3, RECEIPT),
        lambda: budget.reserve("r", "update", 3, RECEIPT),
        lambda: budget.check([]),
    ):
        with pytest.raises(RefusedError, match="cut or changed while it was in use"):
            ask()
    with failing(budget, "COMMIT"), pytest.raises(RefusedError):
        budget.check([])
    with pytest.raises(RefusedError, match="cut or changed while it was in use"):
        budget.reserve("r", "update", 3, RECEIPT)


@pytest.mark.parametrize("more", [0, 1, 3])
@pytest.mark.parametrize("fault", ["COMMIT", "SELECT"])
def test_a_ledger_that_changes_beside_a_fault_is_refused(path: Path, fault: str, more: int) -> None:
    """What a fault makes it forget of the entries, it still knows of their root."""
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    other = entries_of(path)[:1]
    for number in range(more):
        body = {**RESERVED, "run": "s", "round": number}
        other.append(next_entry(other[-1], "budget.reserved", body, time_ms=0, epoch=1))
    with failing(budget, fault), pytest.raises(RefusedError):
        budget.reserve("r", "update", 2, RECEIPT)
    with raw(path) as connection:
        rewrite(connection, [one.leaf() for one in other])
    # a second look must not go on from what the first one took in
    for _ in range(2):
        with pytest.raises(RefusedError, match="cut or changed while it was in use"):
            budget.reserve("r", "update", 2, RECEIPT)


def test_all_is_read_anew_only_where_memory_may_be_ahead_of_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other members of a home wait meanwhile, so a refusal or a busy file must not cost that."""
    budget = opened(path)
    known = 1 + fill(budget)
    starts: list[int] = []
    begin_again = SqliteTurn.leaves

    def told(turn: SqliteTurn, start: int, stop: int | None = None) -> Iterator[bytes]:
        starts.append(start)
        return begin_again(turn, start, stop)

    monkeypatch.setattr(SqliteTurn, "leaves", told)
    with pytest.raises(RefusedError, match="the privacy budget does not hold this"):
        budget.reserve("s", "update", 1, RECEIPT)
    for _ in range(2):
        with failing(budget, "BEGIN"), pytest.raises(RefusedError):
            budget.check([])
        budget.check([])
    budget.check([])
    assert starts == [known - 1] * 4
    with failing(budget, "COMMIT"), pytest.raises(RefusedError):
        budget.commit("r", "update", 1)
    budget.check([])
    assert starts[4:] == [known - 1, 0]


@pytest.mark.parametrize("change", ["removed", "replaced", "moved"])
def test_a_file_that_goes_away_while_it_is_in_use_is_refused(path: Path, change: str) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    copied = path.with_name("copy.db")
    connection_of(budget).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, copied)
    budget.reserve("r", "update", 2, RECEIPT)
    if change == "removed":
        path.unlink()
    elif change == "replaced":
        copied.replace(path)
    else:
        path.rename(path.with_name("elsewhere.db"))
    for number in (3, 4):
        with pytest.raises(RefusedError):
            budget.reserve("r", "update", number, RECEIPT)


RESERVED: dict[str, object] = {
    "run": "r",
    "step": "update",
    "round": 1,
    "dataset": "loans",
    "receipt": RECEIPT.to_json(),
}
COMMITTED: dict[str, object] = {
    name: value for name, value in RESERVED.items() if name != "receipt"
}
ABORTED: dict[str, object] = {**COMMITTED, "reason": "x", "signature": signed()}
WRITTEN_TERMS: dict[str, object] = {**asdict(TERMS), "solo_order": 5}
BEGUN: dict[str, object] = {
    "origin": "bank",
    "key": IDENTITY.public.hex(),
    "owner": "bank",
    "role": "node",
}


@pytest.mark.parametrize(
    ("acts", "reason"),
    [
        ([("run.stopped", {"run": "r", "reason": "x"})], "no entry of a node's ledger"),
        ([("budget.reserved", {**RESERVED, "dataset": "cars"})], "before any terms"),
        ([("budget.reserved", RESERVED)] * 2, "reserved before"),
        ([("budget.committed", COMMITTED)], "never reserved"),
        (
            [("budget.reserved", RESERVED), ("budget.committed", {**COMMITTED, "dataset": "cars"})],
            "never reserved",
        ),
        (
            [("budget.reserved", RESERVED), *[("budget.committed", COMMITTED)] * 2],
            "settled before",
        ),
        ([("budget.terms", {**WRITTEN_TERMS, "order": 6})], "order"),
        ([("budget.terms", {**WRITTEN_TERMS, "solo_order": 6})], "order"),
        ([("budget.terms", {**WRITTEN_TERMS, "member": "broker"})], "another member"),
        ([("budget.terms", {**WRITTEN_TERMS, "epsilon": 0})], "no terms"),
        ([("budget.terms", {**WRITTEN_TERMS, "delta": 2})], "no terms"),
        ([("budget.terms", {**WRITTEN_TERMS, "dataset": "cars", "solo_order": 1})], "no terms"),
        ([("budget.reserved", RESERVED), ("budget.aborted", ABORTED)], "without a key"),
        ([("ledger.begun", BEGUN), ("budget.aborted", ABORTED)], "never reserved"),
        *(
            (
                [
                    ("ledger.begun", BEGUN),
                    ("budget.reserved", RESERVED),
                    ("budget.aborted", {**ABORTED, **change}),
                ],
                reason,
            )
            for change, reason in (
                ({"signature": "0" * 128}, "without the node's own signature"),
                ({"signature": signed(number=2)}, "without the node's own signature"),
                ({"signature": signed(run="s")}, "without the node's own signature"),
                ({"signature": signed(step="statistics")}, "without the node's own signature"),
                ({"signature": signed(dataset="cars")}, "without the node's own signature"),
                (
                    {
                        "signature": OTHER_IDENTITY.sign(
                            ABORT_DOMAIN, abort_message("r", "update", 1, dataset="loans")
                        ).hex()
                    },
                    "without the node's own signature",
                ),
                ({"dataset": "cars", "signature": signed(dataset="cars")}, "never reserved"),
            )
        ),
        (
            [
                ("ledger.begun", BEGUN),
                ("budget.reserved", RESERVED),
                *[("budget.aborted", ABORTED)] * 2,
            ],
            "settled before",
        ),
        (
            [
                ("ledger.begun", BEGUN),
                ("budget.reserved", RESERVED),
                ("budget.committed", COMMITTED),
                ("budget.aborted", ABORTED),
            ],
            "settled before",
        ),
        (
            [("key.rotated", {"key": OTHER_IDENTITY.public.hex(), "signature": "0" * 128})],
            "without one",
        ),
        (
            [
                ("ledger.begun", BEGUN),
                (
                    "key.rotated",
                    {
                        "key": OTHER_IDENTITY.public.hex(),
                        "signature": OTHER_IDENTITY.sign(
                            "key-rotation", OTHER_IDENTITY.public
                        ).hex(),
                    },
                ),
            ],
            "did not sign the new one",
        ),
    ],
)
def test_an_entry_out_of_place_is_refused(
    path: Path, acts: list[tuple[str, dict[str, object]]], reason: str
) -> None:
    budget = opened(path, clock=Clock(1))
    forged(path, *acts)
    for ask in (
        lambda: budget.check([RECEIPT]),
        lambda: budget.check([RECEIPT]),
        lambda: opened(path),
    ):
        with pytest.raises(RefusedError, match=reason):
            ask()
    with pytest.raises(RefusedError, match=reason):
        read_statements(SqliteLedger(path), now_ms=0)


def test_what_an_honest_program_of_the_node_appends_is_taken(path: Path) -> None:
    """The twin of the test above: the same acts in their places."""
    budget = opened(path, clock=Clock(1))
    forged(path, ("ledger.begun", BEGUN), ("budget.reserved", RESERVED))
    assert releases(budget) == 1
    forged(path, ("budget.aborted", ABORTED))
    assert releases(budget) == releases(opened(path)) == 0
    forged(path, ("budget.reserved", {**RESERVED, "round": 2}))
    forged(path, ("budget.committed", {**COMMITTED, "round": 2}))
    assert releases(budget) == releases(opened(path)) == 1


def test_an_abort_without_a_signature_is_no_entry(path: Path) -> None:
    opened(path, clock=Clock(1))
    forged(path, ("ledger.begun", BEGUN), ("budget.reserved", RESERVED))
    last = entries_of(path)[-1]
    bare = {name: value for name, value in ABORTED.items() if name != "signature"}
    with raw(path) as connection:
        put(connection, Entry(last.index + 1, 5, 1, "budget.aborted", bare))
    refused_anew(path, "has the fields")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"time_ms": 9}, "earlier"), ({"epoch": 1, "index": 2}, "out of place|not in its place")],
)
def test_an_entry_that_does_not_follow_is_refused(
    path: Path, change: dict[str, int], reason: str
) -> None:
    opened(path, clock=Clock(10))
    wrong = make_entry(index=1, time_ms=10, epoch=1, kind="budget.reserved", body=RESERVED)
    with raw(path) as connection:
        put(connection, wrong, replace(wrong, **change).leaf())  # type: ignore[arg-type]
    refused_anew(path, reason)


def test_a_program_that_writes_without_its_turn_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would be in a store whose turns exclude nobody."""
    budget = opened(path)
    alone = SqliteTurn.append

    def crowded(turn: SqliteTurn, kind: str, body: Body, *, time_ms: int) -> Entry:
        alone(turn, "budget.reserved", {**RESERVED, "round": 7}, time_ms=time_ms)
        return alone(turn, kind, body, time_ms=time_ms)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteTurn, "append", crowded)
        with pytest.raises(RefusedError, match="missing or out of place"):
            budget.reserve("r", "update", 1, RECEIPT)
    assert kinds(path) == ["terms"]
    assert fill(budget) == FITTING


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("budget.terms", {**WRITTEN_TERMS, "epsilon": -1.0}),
        ("budget.terms", {**WRITTEN_TERMS, "epsilon": float("nan")}),
        ("budget.terms", {**WRITTEN_TERMS, "epsilon": float("inf")}),
        ("budget.terms", {**WRITTEN_TERMS, "epsilon": True}),
        ("budget.terms", {**WRITTEN_TERMS, "delta": None}),
        ("budget.terms", {**WRITTEN_TERMS, "delta": "1e-5"}),
        ("budget.terms", {**WRITTEN_TERMS, "order": 5.0}),
        ("budget.terms", {**WRITTEN_TERMS, "extra": 1}),
        ("budget.reserved", {**RESERVED, "receipt": {}}),
        ("budget.reserved", {**RESERVED, "receipt": {**RECEIPT.to_json(), "share": 0.0}}),
        ("budget.reserved", {**RESERVED, "step": "lunch"}),
        ("budget.reserved", {**RESERVED, "round": -1}),
        ("budget.committed", {**COMMITTED, "run": ""}),
        ("budget.committed", RESERVED),
        ("budget.aborted", COMMITTED),
        ("budget.aborted", {**ABORTED, "signature": ""}),
        ("budget.aborted", {**ABORTED, "reason": ""}),
    ],
)
def test_an_entry_of_a_wrong_shape_is_none(kind: str, body: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"has a wrong value in|has the fields"):
        make_entry(index=0, time_ms=0, epoch=1, kind=kind, body=body)


@pytest.mark.parametrize(("step", "number"), [("lunch", 1), ("update", -1)])
def test_a_step_that_no_ledger_knows_is_an_error_of_the_programmer(
    path: Path, step: str, number: int
) -> None:
    budget = opened(path)
    with pytest.raises(ValueError, match="wrong value"):
        budget.reserve("r", step, number, RECEIPT)
    assert kinds(path) == ["terms"]


# -- the statement --


def test_the_statement_is_computed_from_the_receipts_alone(path: Path) -> None:
    budget = opened(path, replace(TERMS, solo_epsilon=60.0))
    sampled = replace(RECEIPT, sampling="poisson", rate=0.1, steps=3)
    budget.reserve("a", "update", 1, RECEIPT)
    budget.reserve("b", "update", 1, sampled)
    budget.reserve("b", "update", 2, sampled)
    budget.commit("b", "update", 1)
    statement = budget.statement()
    (training, test) = statement.cohorts
    solo_order = best_order(60.0, 1e-5)
    assert (training.releases, training.runs, test.releases, test.runs) == (3, 2, 0, 0)
    for found, order, cap, view in (
        (training.coordinator, 5, 8.0, lambda receipt: event_of(receipt, colluders=2)),
        (training.solo, solo_order, 60.0, solo_event_of),
    ):
        events = [view(RECEIPT), view(sampled), view(sampled)]
        losses = [renyi(event, order) for event in events]
        room = capacity(cap, 1e-5, order) - sum(losses)
        assert found.spent == pytest.approx(epsilon_at(sum(losses), order, 1e-5), rel=1e-9)
        assert found.pending == pytest.approx(losses[0] + losses[2], rel=1e-9)
        assert found.left == pytest.approx(room, rel=1e-9)
        assert found.cap == cap
        assert found.left is not None
        assert found.spent + found.left == pytest.approx(cap)
        assert found.more_runs == int(room / (losses[1] + losses[2]))
        tight = reported(events, 1e-5)
        assert (found.epsilon, found.method) == (tight.epsilon, "pld")
        assert found.true_positive_rate == tight.true_positive_rate
        assert tight.epsilon < found.spent
    assert test.coordinator.spent == 0.0
    assert test.coordinator.more_runs is None
    assert statement.last_run == "b"
    (again,) = read_statements(SqliteLedger(path), now_ms=Clock().time_ms)
    assert again == statement


def test_a_statement_is_the_same_from_whatever_keeps_the_ledger(path: Path) -> None:
    budget = opened(path)
    fill(budget)
    stored = read_statements(SqliteLedger(path), now_ms=0, tightest=False)
    assert read_statements(MemoryLedger(leaves_of(path)), now_ms=0, tightest=False) == stored
    kept = Budget(MemoryLedger(), TERMS, now_ms=Clock())
    assert fill(kept) == FITTING


def test_as_many_more_runs_fit_as_the_statement_says(path: Path) -> None:
    budget = opened(path)
    for number in range(2):
        budget.reserve("a", "update", number, RECEIPT)
    more = spending(budget.statement(tightest=False)).more_runs or 0
    assert more == FITTING // 2 - 1
    budget.check([RECEIPT, RECEIPT] * more)
    with pytest.raises(RefusedError):
        budget.check([RECEIPT, RECEIPT] * (more + 1))


def test_the_tightest_figure_is_left_out_where_it_cannot_be_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise InputError("dp-accounting is not installed")

    monkeypatch.setattr("privacy.budget._report", missing)
    budget = opened(path)
    budget.reserve("a", "update", 1, RECEIPT)
    found = spending(budget.statement())
    assert (found.epsilon, found.method, found.true_positive_rate) == (None, None, None)
    assert found.spent > 0


def test_reading_a_statement_writes_nothing(tmp_path: Path) -> None:
    assert read_statements(SqliteLedger(tmp_path / "none"), now_ms=0) == ()
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "ledger.db"
    budget = opened(path)
    budget.reserve("a", "update", 1, RECEIPT)
    cast("SqliteLedger", budget._store).close()
    data = path.read_bytes()
    store = SqliteLedger(path)
    (found,) = read_statements(store, now_ms=0)
    assert found.last_time_ms == Clock().time_ms
    store.close()
    assert [one.name for one in tmp_path.iterdir()] == ["ledger.db"]
    assert path.read_bytes() == data


def test_a_statement_is_read_beside_a_writer_that_holds_the_ledger(path: Path) -> None:
    budget = opened(path)
    budget.reserve("a", "update", 1, RECEIPT)
    with raw(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        put(connection, Entry(2, 0, 1, "", {}), b"half")
        (found,) = read_statements(SqliteLedger(path), now_ms=0, tightest=False)
        connection.execute("ROLLBACK")
    assert found.cohorts[0].releases == 1


def test_a_ledger_that_stays_taken_refuses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.ledger.sqlite.BUSY_TIMEOUT_S", 0.05)
    budget = opened(path)
    with raw(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for ask in (
            lambda: budget.reserve("r", "update", 1, RECEIPT),
            lambda: budget.check([]),
            lambda: opened(path),
        ):
            with pytest.raises(RefusedError, match="another process keeps"):
                ask()
        connection.execute("ROLLBACK")
    assert fill(budget) == FITTING


def test_another_process_counts_what_this_one_spent(path: Path) -> None:
    budget = opened(path)
    for number in range(FITTING - 1):
        budget.reserve("r", "update", number, RECEIPT)
    program = """
import sys
from pathlib import Path
from support.budgets import RECEIPT, TERMS
from privacy.budget import Budget
from privacy.errors import RefusedError
from privacy.ledger.sqlite import SqliteLedger
budget = Budget(SqliteLedger(Path(sys.argv[1])), TERMS, now_ms=lambda: 0)
for number in range(3):
    try:
        budget.reserve("s", "update", number, RECEIPT)
        print("reserved")
    except RefusedError:
        print("refused")
"""
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["reserved", "refused", "refused"]
    with pytest.raises(RefusedError, match="does not hold this"):
        budget.reserve("t", "update", 1, RECEIPT)
    assert releases(budget) == FITTING


def test_a_broken_clock_spends_nothing(path: Path) -> None:
    def broken() -> int:
        raise OSError("no clock")

    opened(path)
    budget = Budget(SqliteLedger(path), TERMS, now_ms=broken)
    asks: list[Callable[[], object]] = [
        lambda: budget.reserve("r", "update", 1, RECEIPT),
        lambda: budget.check([RECEIPT]),
    ]
    for ask in asks:
        with pytest.raises(OSError, match="no clock"):
            ask()
    assert kinds(path) == ["terms"]


def test_the_cost_of_a_reserve_does_not_grow_with_the_releases(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what was reserved before, nothing is read, and no loss computed, again."""
    budget = opened(path, replace(TERMS, epsilon=1000.0, period_days=30.0))
    for number in range(60):
        budget.reserve("r", "update", number, replace(RECEIPT, share=10.0 + number % 20))
    read: list[bytes] = []
    computed: list[Event] = []

    def reading(leaf: bytes) -> Entry:
        read.append(leaf)
        return parse_leaf(leaf)

    def computing(event: Event, order: int) -> float:
        computed.append(event)
        return renyi(event, order)

    monkeypatch.setattr("privacy.budget_record.parse_leaf", reading)
    monkeypatch.setattr("privacy.budget_record.renyi", computing)
    for number in range(10):
        budget.reserve("s", "update", number, replace(RECEIPT, share=10.0))
    assert len(read) == 10
    assert len(computed) <= 11
