"""Whatever happens in whatever order, a budget is never overspent and nothing is forgotten."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import support.budgets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.budgets import IDENTITY, RECEIPT, begin, entries_of

from privacy.accounting.event import event_of, solo_event_of
from privacy.accounting.rdp import best_order, capacity, renyi
from privacy.budget import Budget, read_statements
from privacy.errors import RefusedError
from privacy.ledger.entry import Body, Entry
from privacy.ledger.sqlite import SqliteLedger, SqliteTurn
from privacy.receipt import COHORTS, Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.release import ReleaseToken

ROOT = Path(__file__).parents[2]
DAY_MS = 86_400_000
CAP, SOLO_CAP, DELTA, ORDER = 8.0, 24.0, 1e-5, 5
SOLO_ORDER = best_order(SOLO_CAP, DELTA)
TERMS = replace(support.budgets.TERMS, solo_epsilon=SOLO_CAP)
RECEIPTS = (
    RECEIPT,
    replace(RECEIPT, cohort="test", kind="evaluation"),
    replace(RECEIPT, cohort="all", kind="statistics", share=2.0),
    replace(RECEIPT, sampling="poisson", rate=0.1, steps=5),
    replace(RECEIPT, mechanism="none", share=0.0),
    replace(RECEIPT, share=0.5),
)
STEPS = ("statistics", "update", "evaluate test")


def reserved_in(path: Path) -> list[Entry]:
    return [entry for entry in entries_of(path) if entry.kind == "budget.reserved"]


def key_of(entry: Entry) -> tuple[str, str, int]:
    body: Mapping[str, Any] = entry.body
    return body["run"], body["step"], body["round"]


def kept_in(path: Path) -> list[Entry]:
    """What was reserved and not taken back."""
    gone = {key_of(entry) for entry in entries_of(path) if entry.kind == "budget.aborted"}
    return [entry for entry in reserved_in(path) if key_of(entry) not in gone]


def losses(reserves: list[Entry]) -> dict[tuple[str, str], float]:
    """Renyi loss of each reading and cohort, one by one, by no code of the budget."""
    found: dict[tuple[str, str], float] = {}
    for entry in reserves:
        receipt = Receipt.from_json(entry.body["receipt"])
        for cohort in COHORTS if receipt.cohort == "all" else (receipt.cohort,):
            for name, event, order in (
                ("coordinator", event_of(receipt, colluders=2), ORDER),
                ("solo", solo_event_of(receipt), SOLO_ORDER),
            ):
                found[name, cohort] = found.get((name, cohort), 0.0) + renyi(event, order)
    return found


ROOM = {"coordinator": capacity(CAP, DELTA, ORDER), "solo": capacity(SOLO_CAP, DELTA, SOLO_ORDER)}


class OneNode(RuleBasedStateMachine):
    """Two processes of a node on one ledger: they reserve, commit, take back, crash, and err."""

    period_days: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.place = 0
        self.path = self.new_place()
        begin(self.path)
        self.terms = replace(TERMS, period_days=self.period_days)
        self.time_ms = 1_000 * DAY_MS
        self.budgets: dict[str, Budget | None] = {"a": None, "b": None}
        self.done: list[tuple[str, str, int]] = []
        self.tokens: dict[tuple[str, str, int], tuple[str, ReleaseToken]] = {}
        self.left: set[tuple[str, str, int]] = set()
        self.before: dict[tuple[str, str], float] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    def new_place(self) -> Path:
        self.place += 1
        folder = Path(self.folder.name) / f"{self.place}"
        folder.mkdir()
        return folder / "ledger.db"

    def budget(self, process: str) -> Budget:
        found = self.budgets[process]
        if found is None:
            found = Budget(SqliteLedger(self.path), self.terms, now_ms=lambda: self.time_ms)
            self.budgets[process] = found
        return found

    @initialize(process=st.sampled_from("ab"))
    def begin(self, process: str) -> None:
        self.budget(process)

    @rule(
        process=st.sampled_from("ab"),
        run=st.sampled_from("rs"),
        step=st.sampled_from(STEPS),
        number=st.integers(0, 4),
        receipt=st.sampled_from(RECEIPTS),
    )
    def reserve(self, process: str, run: str, step: str, number: int, receipt: Receipt) -> None:
        key = (run, step, number)
        count = len(reserved_in(self.path))
        try:
            token = self.budget(process).reserve(*key, receipt)
        except RefusedError:
            assert len(reserved_in(self.path)) == count
        else:
            assert key not in self.done
            assert receipt.mechanism != "none"
            assert reserved_in(self.path)[-1].body["receipt"] == receipt.to_json()
            assert token.head.leaves == len(entries_of(self.path))
            self.done.append(key)
            self.tokens[key] = process, token

    @precondition(lambda self: self.done)
    @rule(process=st.sampled_from("ab"), data=st.data())
    def commit(self, process: str, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.done))
        try:
            self.budget(process).commit(*key)
        except RefusedError:
            assert key not in {key_of(one) for one in kept_in(self.path)}

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def let_leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.tokens)))
        try:
            self.tokens[key][1].use()
        except RefusedError:
            assert key in self.left or key not in {key_of(one) for one in kept_in(self.path)}
        else:
            assert key not in self.left
            self.left.add(key)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.tokens)))
        process, token = self.tokens[key]
        before = entries_of(self.path)
        try:
            self.budget(process).abort(token, reason="nobody asked", sign=IDENTITY.sign)
        except RefusedError:
            assert entries_of(self.path) == before
            if key not in self.left:
                del self.tokens[key]
        else:
            assert key not in self.left
            self.before.clear()

    @rule(process=st.sampled_from("ab"))
    def crash(self, process: str) -> None:
        self.budgets[process] = None
        self.forget_tokens(process)

    def forget_tokens(self, process: str) -> None:
        self.tokens = {key: one for key, one in self.tokens.items() if one[0] != process}

    @rule(process=st.sampled_from("ab"))
    def fail_while_writing(self, process: str) -> None:
        """All was written but for the last word."""
        real = SqliteTurn.append

        def failing(turn: SqliteTurn, kind: str, body: Body, *, time_ms: int) -> Entry:
            real(turn, kind, body, time_ms=time_ms)
            raise OSError("pulled out")

        budget = self.budget(process)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SqliteTurn, "append", failing)
            with pytest.raises(OSError, match="pulled out"):
                budget.reserve("never", "update", 0, replace(RECEIPT, share=1e9))

    @rule(cut=st.integers(1, 4000))
    def power_cut(self, cut: int) -> None:
        """The files as they stood, and a part of what was never said to be written."""
        old, self.path = self.path, self.new_place()
        log = old.with_name("ledger.db-wal")
        shutil.copy(old, self.path)
        if log.exists():
            begun = log.read_bytes()
            self.path.with_name("ledger.db-wal").write_bytes(begun + begun[32 : 32 + cut])
        for process in self.budgets:
            self.crash(process)

    @rule(days=st.integers(-40, 40))
    def set_clock(self, days: int) -> None:
        self.time_ms = max(0, self.time_ms + days * DAY_MS)

    @invariant()
    def everything_is_on_record_and_once(self) -> None:
        assert [key_of(one) for one in reserved_in(self.path)] == self.done

    @invariant()
    def what_left_is_spent(self) -> None:
        assert self.left <= {key_of(one) for one in kept_in(self.path)}

    @invariant()
    def no_cap_is_exceeded(self) -> None:
        days = self.terms.period_days
        counts: dict[tuple[str, str, int], Entry] = {}
        # At the time of each reserve, over what counted then.
        for entry in entries_of(self.path):
            if entry.kind == "budget.aborted":
                del counts[key_of(entry)]
            if entry.kind != "budget.reserved":
                continue
            counts[key_of(entry)] = entry
            since_ms = 0.0 if days is None else entry.time_ms - days * DAY_MS
            counted = [one for one in counts.values() if one.time_ms >= since_ms]
            for (reading, _), loss in losses(counted).items():
                assert loss <= ROOM[reading] * (1 + 1e-9)

    @invariant()
    def what_is_spent_is_what_was_reserved_and_never_less_than_before(self) -> None:
        if self.period_days is not None:
            return
        (statement,) = read_statements(SqliteLedger(self.path), now_ms=0, tightest=False)
        spent = losses(kept_in(self.path))
        for one in statement.cohorts:
            for name, found in (("coordinator", one.coordinator), ("solo", one.solo)):
                assert found.left == pytest.approx(
                    max(0.0, ROOM[name] - spent.get((name, one.cohort), 0.0)), abs=1e-9
                )
                assert found.spent >= self.before.get((name, one.cohort), 0.0)
                self.before[name, one.cohort] = found.spent


class OneNodeWithPeriod(OneNode):
    """The same, where only the last month counts."""

    period_days = 30.0


CALM = settings(
    deadline=None,
    max_examples=25,
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOneNode = OneNode.TestCase
TestOneNode.settings = CALM
TestOneNodeWithPeriod = OneNodeWithPeriod.TestCase
TestOneNodeWithPeriod.settings = CALM


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(RECEIPTS[:4]), max_size=40), st.data())
def test_what_check_lets_through_can_all_be_reserved_and_nothing_more(
    receipts: list[Receipt], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        budget = Budget(SqliteLedger(Path(folder) / "b"), TERMS, now_ms=lambda: 0)
        reserved = data.draw(st.integers(0, 3))
        for number in range(reserved):
            budget.reserve("before", "update", number, RECEIPT)
        try:
            budget.check(receipts)
        except RefusedError:
            allowed = False
        else:
            allowed = True
        refused = 0
        for number, receipt in enumerate(receipts):
            try:
                budget.reserve("r", "update", number, receipt)
            except RefusedError:
                refused += 1
        assert (refused == 0) is allowed


_RESERVING = """
import sys, time
from pathlib import Path
from dataclasses import replace
from privacy.budget import Budget
from privacy.budget_record import BudgetTerms
from privacy.errors import RefusedError
from privacy.ledger.sqlite import SqliteLedger
from privacy.receipt import Receipt
path, run, share, epsilon = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
receipt = Receipt(
    kind="update", unit="borrower", cohort="training", mechanism="gaussian", share=share, clip=1.0,
    sampling="none", rate=1.0, steps=1, shares=6, values=10, grid=0.0, purpose="x",
)
terms = BudgetTerms(
    member="bank", dataset="loans", unit="borrower", epsilon=epsilon, delta=1e-5, order=5,
    colluders=2, period_days=None, solo_epsilon=None,
)
budget = Budget(SqliteLedger(path), terms, now_ms=lambda: time.time_ns() // 1_000_000)
print("ready", flush=True)
for number in range(10_000):
    try:
        budget.reserve(run, "update", number, receipt)
    except RefusedError:
        break
    print(number, flush=True)
    budget.commit(run, "update", number)
"""


def reserving(path: Path, run: str, *, share: float, epsilon: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RESERVING, str(path), run, str(share), str(epsilon)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_a_killed_process_said_is_on_record_and_what_is_on_record_is_spent(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.db"
    said: list[tuple[str, int]] = []
    for turn in range(4):
        worker = reserving(path, f"run {turn}", share=50.0, epsilon=8.0)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        # the later ones have begun for certain, however slow they are
        begun = [worker.stdout.readline()] if turn > 1 else []
        time.sleep(0.02 + 0.07 * turn)
        worker.send_signal(signal.SIGKILL)
        lines = begun + worker.stdout.read().splitlines(keepends=True)
        worker.stdout.close()
        worker.wait(timeout=240)
        said += [(f"run {turn}", int(line)) for line in lines if line.endswith("\n")]
    recorded = [(entry.body["run"], entry.body["round"]) for entry in reserved_in(path)]
    assert set(said) <= set(recorded)
    assert len(recorded) <= len(said) + 4
    assert said
    terms = replace(TERMS, solo_epsilon=None)
    budget = Budget(SqliteLedger(path), terms, now_ms=lambda: 0)
    (training, _) = budget.statement(tightest=False).cohorts
    assert training.releases == len(recorded)
    for run, number in said:
        with pytest.raises(RefusedError, match="reserved before"):
            budget.reserve(run, "update", number, RECEIPT)


def test_processes_that_share_a_file_cannot_overspend_together(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    workers = [reserving(path, run, share=2.0, epsilon=8.0) for run in "abc"]
    said = 0
    for worker in workers:
        output, _ = worker.communicate(timeout=400)
        assert worker.returncode == 0
        said += len(output.splitlines()) - 1
    cost = renyi(event_of(replace(RECEIPT, share=2.0), colluders=2), ORDER)
    assert said == len(reserved_in(path)) == int(ROOM["coordinator"] / cost)
