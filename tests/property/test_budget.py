"""Whatever happens in whatever order, a budget is never overspent and nothing is forgotten."""

import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import support.budgets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.budgets import RECEIPT

from privacy.accounting.event import event_of, solo_event_of
from privacy.accounting.rdp import best_order, capacity, renyi
from privacy.budget import Budget, read_statements
from privacy.errors import RefusedError
from privacy.ledger.entry import Entry, parse_line
from privacy.ledger.store import LedgerStore
from privacy.receipt import COHORTS, Receipt

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


def entries_of(path: Path) -> list[Entry]:
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    return [parse_line(line) for line in whole.splitlines(keepends=True)]


def reserved_in(path: Path) -> list[Entry]:
    return [entry for entry in entries_of(path) if entry.kind == "budget.reserved"]


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
    """Two processes of a node on one file: they reserve, commit, crash, and their clock errs."""

    period_days: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "budget.jsonl"
        self.terms = replace(TERMS, period_days=self.period_days)
        self.time_ms = 1_000 * DAY_MS
        self.budgets: dict[str, Budget | None] = {"a": None, "b": None}
        self.done: list[tuple[str, str, int]] = []
        self.before: dict[tuple[str, str], float] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    def budget(self, process: str) -> Budget:
        found = self.budgets[process]
        if found is None:
            found = Budget(LedgerStore(self.path), self.terms, now_ms=lambda: self.time_ms)
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
            self.budget(process).reserve(*key, receipt)
        except RefusedError:
            assert len(reserved_in(self.path)) == count
        else:
            assert key not in self.done
            assert receipt.mechanism != "none"
            assert reserved_in(self.path)[-1].body["receipt"] == receipt.to_json()
            self.done.append(key)

    @precondition(lambda self: self.done)
    @rule(process=st.sampled_from("ab"), data=st.data())
    def commit(self, process: str, data: st.DataObject) -> None:
        self.budget(process).commit(*data.draw(st.sampled_from(self.done)))

    @rule(process=st.sampled_from("ab"))
    def crash(self, process: str) -> None:
        self.budgets[process] = None

    @rule(cut=st.integers(1, 400))
    def crash_while_writing(self, cut: int) -> None:
        """A line was begun, and never said to be written."""
        self.budgets = dict.fromkeys(self.budgets)
        whole = b"".join(entry.line() for entry in entries_of(self.path))
        self.path.write_bytes(whole + entries_of(self.path)[0].line()[:-1][:cut])

    @rule(days=st.integers(-40, 40))
    def set_clock(self, days: int) -> None:
        self.time_ms = max(0, self.time_ms + days * DAY_MS)

    @invariant()
    def everything_is_on_record_and_once(self) -> None:
        reserves = reserved_in(self.path) if self.path.exists() else []
        keys = [tuple(one.body[name] for name in ("run", "step", "round")) for one in reserves]
        assert keys == self.done

    @invariant()
    def no_cap_is_exceeded(self) -> None:
        if not self.path.exists():
            return
        reserves = reserved_in(self.path)
        days = self.terms.period_days
        # At the time of each reserve, over what counted then.
        for end, entry in enumerate(reserves, 1):
            since_ms = 0.0 if days is None else entry.time_ms - days * DAY_MS
            counted = [one for one in reserves[:end] if one.time_ms >= since_ms]
            for (reading, _), loss in losses(counted).items():
                assert loss <= ROOM[reading] * (1 + 1e-9)

    @invariant()
    def what_is_spent_is_what_was_reserved_and_never_less_than_before(self) -> None:
        if not self.path.exists() or self.period_days is not None:
            return
        (statement,) = read_statements(LedgerStore(self.path), now_ms=0, tightest=False)
        spent = losses(reserved_in(self.path))
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
        budget = Budget(LedgerStore(Path(folder) / "b"), TERMS, now_ms=lambda: 0)
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
from privacy.budget import Budget, BudgetTerms
from privacy.errors import RefusedError
from privacy.ledger.store import LedgerStore
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
budget = Budget(LedgerStore(path), terms, now_ms=lambda: time.time_ns() // 1_000_000)
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
    path = tmp_path / "budget.jsonl"
    said: list[tuple[str, int]] = []
    for turn in range(4):
        worker = reserving(path, f"run {turn}", share=50.0, epsilon=8.0)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(0.02 + 0.07 * turn)
        worker.send_signal(signal.SIGKILL)
        lines = worker.stdout.read().splitlines(keepends=True)
        worker.stdout.close()
        worker.wait(timeout=60)
        said += [(f"run {turn}", int(line)) for line in lines if line.endswith("\n")]
    recorded = [(entry.body["run"], entry.body["round"]) for entry in reserved_in(path)]
    assert set(said) <= set(recorded)
    assert len(recorded) <= len(said) + 4
    assert said
    terms = replace(TERMS, solo_epsilon=None)
    budget = Budget(LedgerStore(path), terms, now_ms=lambda: 0)
    (training, _) = budget.statement(tightest=False).cohorts
    assert training.releases == len(recorded)
    for run, number in said:
        with pytest.raises(RefusedError, match="reserved before"):
            budget.reserve(run, "update", number, RECEIPT)


def test_processes_that_share_a_file_cannot_overspend_together(tmp_path: Path) -> None:
    path = tmp_path / "budget.jsonl"
    workers = [reserving(path, run, share=2.0, epsilon=8.0) for run in "abc"]
    said = 0
    for worker in workers:
        output, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        said += len(output.splitlines()) - 1
    cost = renyi(event_of(replace(RECEIPT, share=2.0), colluders=2), ORDER)
    assert said == len(reserved_in(path)) == int(ROOM["coordinator"] / cost)
