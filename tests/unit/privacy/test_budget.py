import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.budgets import RECEIPT, TERMS

from privacy.accounting.event import event_of, solo_event_of
from privacy.accounting.pld import reported
from privacy.accounting.rdp import best_order, capacity, epsilon, epsilon_at, renyi
from privacy.budget import Budget, BudgetStatement, BudgetTerms, Spending, read_statements
from privacy.errors import InputError, RefusedError
from privacy.ledger.chain import next_entry
from privacy.ledger.entry import Entry, make_entry, parse_line
from privacy.ledger.store import LedgerStore
from privacy.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget.jsonl"


def opened(path: Path, terms: BudgetTerms = TERMS, clock: Clock | None = None) -> Budget:
    return Budget(LedgerStore(path), terms, now_ms=clock or Clock())


def kinds(path: Path) -> list[str]:
    return [entry.kind.removeprefix("budget.") for entry in entries(path)]


def entries(path: Path) -> list[Entry]:
    return [parse_line(line) for line in path.read_bytes().splitlines(keepends=True)]


def spending(statement: BudgetStatement, cohort: str = "training") -> Spending:
    (found,) = (one for one in statement.cohorts if one.cohort == cohort)
    return found.coordinator


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
    assert [entry.body["epsilon"] for entry in entries(path)] == [8.0, 9.0, 8.0]


def test_a_reserve_is_on_disk_when_it_returns_and_before_it_is_counted(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    last = entries(path)[-1]
    assert last.kind == "budget.reserved"
    assert last.body["receipt"] == RECEIPT.to_json()
    assert {**last.body, "receipt": 0} == {
        "run": "r",
        "step": "update",
        "round": 1,
        "dataset": "loans",
        "receipt": 0,
    }


def test_a_reserve_is_synced_and_its_commit_is_only_a_note(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = opened(path)
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(path.stat().st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    budget.reserve("r", "update", 1, RECEIPT)
    assert synced == [path.stat().st_size]
    # without its note the release counts as spent all the same
    budget.commit("r", "update", 1)
    assert len(synced) == 1


def test_no_epsilon_is_ever_stored_but_the_caps(path: Path) -> None:
    budget = opened(path)
    fill(budget)
    for entry in entries(path)[1:]:
        assert "epsilon" not in str(dict(entry.body))


# -- the cap --


def test_exactly_what_the_cap_allows_fits_and_a_refusal_writes_nothing(path: Path) -> None:
    budget = opened(path)
    assert fill(budget) == FITTING >= 2
    assert FITTING * COST <= capacity(8.0, 1e-5, TERMS.order) < (FITTING + 1) * COST
    size_bytes = path.stat().st_size
    with pytest.raises(RefusedError, match=r"would still fit|none of it would fit"):
        budget.reserve("another", "update", 1, RECEIPT)
    assert path.stat().st_size == size_bytes
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
    asks: list[Callable[[], None]] = [
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
    asks: list[Callable[[], None]] = [
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
    budget = Budget(LedgerStore(path), terms, now_ms=lambda: times_ms.pop(0))
    budget.reserve("b", "update", 1, RECEIPT)
    assert entries(path)[-1].time_ms == 200 * DAY_MS


def test_without_a_period_nothing_is_ever_forgotten(path: Path) -> None:
    clock = Clock(0)
    budget = opened(path, clock=clock)
    assert fill(budget) == FITTING
    clock.time_ms = 2**52
    assert fill(budget, "s") == 0


# -- terms --


def test_the_order_of_a_budget_does_not_change(path: Path) -> None:
    opened(path)
    with pytest.raises(RefusedError, match="set order: 5"):
        opened(path, replace(TERMS, order=6))
    assert kinds(path) == ["terms"]


def test_the_order_of_the_solo_cap_is_the_first_one_whatever_the_cap_becomes(path: Path) -> None:
    opened(path, replace(TERMS, solo_epsilon=8.0))
    opened(path, replace(TERMS, solo_epsilon=20.0))
    assert {entry.body["solo_order"] for entry in entries(path)} == {best_order(8.0, 1e-5)}
    with pytest.raises(RefusedError, match="choose a larger one"):
        opened(path, replace(TERMS, solo_epsilon=0.5))


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


def test_a_file_belongs_to_one_member(path: Path) -> None:
    opened(path)
    with pytest.raises(RefusedError, match="budget of bank, not of broker"):
        opened(path, replace(TERMS, member="broker"))


def test_data_sets_in_one_file_are_counted_apart(path: Path) -> None:
    loans, cars = opened(path), opened(path, replace(TERMS, dataset="cars"))
    assert fill(loans, "a") == fill(cars, "b") == FITTING
    with pytest.raises(RefusedError, match="nothing was reserved"):
        cars.commit("a", "update", 0)
    with pytest.raises(RefusedError, match="reserved before"):
        cars.reserve("a", "update", 0, RECEIPT)
    found = read_statements(LedgerStore(path), now_ms=0, tightest=False)
    assert [one.terms.dataset for one in found] == ["loans", "cars"]
    assert [one.last_run for one in found] == ["a", "b"]


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


def test_two_objects_on_one_file_see_what_the_other_spent(path: Path) -> None:
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


def test_nothing_is_reserved_on_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = opened(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RefusedError, match="nothing may leave"):
            budget.reserve("r", "update", 1, RECEIPT)
    assert path.read_bytes() == before
    budget.reserve("r", "update", 1, RECEIPT)


def test_a_file_that_cannot_be_read_refuses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = opened(path)

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(Path, "open", unreadable)
    for ask in (
        lambda: budget.reserve("r", "update", 1, RECEIPT),
        lambda: budget.check([RECEIPT]),
        lambda: opened(path),
    ):
        with pytest.raises(RefusedError, match="nothing may leave"):
            ask()


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="there is no folder"):
        opened(tmp_path / "gone" / "budget.jsonl")
    assert not (tmp_path / "gone").exists()


def test_every_flipped_bit_and_every_missing_line_is_refused(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    budget.commit("r", "update", 1)
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(RefusedError, match=r"does not hold|is no ledger"):
            opened(path)
        with pytest.raises(RefusedError, match="does not hold"):
            read_statements(LedgerStore(path), now_ms=0)
    lines = data.splitlines(keepends=True)
    for left in (
        lines[1:],
        [lines[0], lines[2]],
        [lines[1], lines[0], lines[2]],
        [*lines, lines[1]],
    ):
        path.write_bytes(b"".join(left))
        with pytest.raises(RefusedError, match="does not hold"):
            opened(path)


def test_a_release_that_was_taken_out_is_missed(path: Path) -> None:
    budget = opened(path)
    for number in range(3):
        budget.reserve("r", "update", number, RECEIPT)
    lines = path.read_bytes().splitlines(keepends=True)
    for place in (1, 2):
        path.write_bytes(b"".join([*lines[:place], *lines[place + 1 :]]))
        with pytest.raises(RefusedError, match="does not follow"):
            opened(path)


def test_a_torn_last_line_is_cut_off_and_a_foreign_one_is_not(path: Path) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    data = path.read_bytes()
    path.write_bytes(data + data.splitlines(keepends=True)[-1][:50])
    budget.reserve("r", "update", 2, RECEIPT)
    assert kinds(path) == ["terms", "reserved", "reserved"]
    path.write_bytes(path.read_bytes() + b"notes")
    with pytest.raises(RefusedError, match="does not hold"):
        opened(path)
    with pytest.raises(RefusedError, match="nothing may leave"):
        budget.reserve("r", "update", 3, RECEIPT)


@pytest.mark.parametrize("change", ["cut", "removed", "replaced", "emptied"])
def test_a_file_that_changes_while_it_is_in_use_is_refused(path: Path, change: str) -> None:
    budget = opened(path)
    budget.reserve("r", "update", 1, RECEIPT)
    data = path.read_bytes()
    if change == "cut":
        path.write_bytes(data[: data.index(b"\n") + 1])
    elif change == "removed":
        path.unlink()
    elif change == "replaced":
        path.unlink()
        opened(path).reserve("s", "update", 1, RECEIPT)
    else:
        path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(RefusedError, match="cut or changed"):
            budget.reserve("r", "update", 2, RECEIPT)


def forged(path: Path, *lines: tuple[str, dict[str, object]], time_ms: int = 5) -> None:
    """Append entries that fit the chain, as a program that is no `Budget` might."""
    last = entries(path)[-1] if path.exists() else None
    with path.open("ab") as file:
        for kind, body in lines:
            last = next_entry(last, kind, body, time_ms=time_ms)
            file.write(last.line())


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
WRITTEN_TERMS: dict[str, object] = {
    "member": "bank",
    "dataset": "loans",
    "unit": "borrower",
    "epsilon": 8.0,
    "delta": 1e-5,
    "order": 5,
    "colluders": 2,
    "period_days": None,
    "solo_epsilon": None,
    "solo_order": 5,
}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([("run.stopped", {"run": "r", "reason": "x"})], "no entry of a budget"),
        ([("budget.reserved", {**RESERVED, "dataset": "cars"})], "before any terms"),
        ([("budget.reserved", RESERVED)] * 2, "reserved before"),
        ([("budget.committed", COMMITTED)], "never reserved"),
        (
            [("budget.reserved", RESERVED), ("budget.committed", {**COMMITTED, "dataset": "cars"})],
            "never reserved",
        ),
        (
            [("budget.reserved", RESERVED), *[("budget.committed", COMMITTED)] * 2],
            "committed before",
        ),
        ([("budget.terms", {**WRITTEN_TERMS, "order": 6})], "order"),
        ([("budget.terms", {**WRITTEN_TERMS, "solo_order": 6})], "order"),
        ([("budget.terms", {**WRITTEN_TERMS, "member": "broker"})], "another member"),
        ([("budget.terms", {**WRITTEN_TERMS, "epsilon": 0})], "no terms"),
        ([("budget.terms", {**WRITTEN_TERMS, "delta": 2})], "no terms"),
        ([("budget.terms", {**WRITTEN_TERMS, "dataset": "cars", "solo_order": 1})], "no terms"),
    ],
)
def test_an_entry_out_of_place_is_refused(
    path: Path, lines: list[tuple[str, dict[str, object]]], reason: str
) -> None:
    budget = opened(path, clock=Clock(1))
    forged(path, *lines)
    for ask in (lambda: budget.check([RECEIPT]), lambda: opened(path)):
        with pytest.raises(RefusedError, match=reason):
            ask()
    with pytest.raises(RefusedError, match=reason):
        read_statements(LedgerStore(path), now_ms=0)


def test_a_time_that_goes_back_in_the_file_is_refused(path: Path) -> None:
    opened(path, clock=Clock(10))
    (first,) = entries(path)
    back = make_entry(
        index=1, time_ms=9, kind="budget.reserved", body=RESERVED, previous=first.digest
    )
    path.write_bytes(first.line() + back.line())
    with pytest.raises(RefusedError, match="earlier"):
        opened(path)


def test_a_program_that_writes_without_its_turn_is_noticed(path: Path) -> None:
    class Crowded(LedgerStore):
        """Another program appends just before this one."""

        def append(self, kind: str, body: object, *, time_ms: int, durable: bool = True) -> Entry:
            del durable
            crowded = {**RESERVED, "round": 7}
            super().append("budget.reserved", crowded, time_ms=time_ms)
            return super().append(kind, body, time_ms=time_ms)  # type: ignore[arg-type]

    opened(path)
    budget = Budget(Crowded(path), TERMS, now_ms=Clock())
    with pytest.raises(RefusedError, match="another program"):
        budget.reserve("r", "update", 1, RECEIPT)
    with pytest.raises(RefusedError, match="reserved before"):
        budget.reserve("r", "update", 7, RECEIPT)


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
    ],
)
def test_an_entry_of_a_wrong_shape_is_none(kind: str, body: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"has a wrong value in|has the fields"):
        make_entry(index=0, time_ms=0, kind=kind, body=body, previous="00" * 32)


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
    (again,) = read_statements(LedgerStore(path), now_ms=Clock().time_ms)
    assert again == statement


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
    assert read_statements(LedgerStore(tmp_path / "none"), now_ms=0) == ()
    path = tmp_path / "budget.jsonl"
    opened(path).reserve("a", "update", 1, RECEIPT)
    torn = path.read_bytes() + b'{"body":{"da'
    for other in tmp_path.iterdir():
        other.unlink()
    path.write_bytes(torn)
    (found,) = read_statements(LedgerStore(path), now_ms=0)
    assert found.last_time_ms == Clock().time_ms
    assert [one.name for one in tmp_path.iterdir()] == ["budget.jsonl"]
    assert path.read_bytes() == torn


def test_a_lock_that_stays_taken_refuses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    budget = opened(path)
    monkeypatch.setattr("privacy.budget.LOCK_TIMEOUT_S", 0.05)
    with (
        FileLock(path.with_name("budget.jsonl.turn.lock")),
        pytest.raises(RefusedError, match="another process keeps"),
    ):
        budget.reserve("r", "update", 1, RECEIPT)


def test_a_broken_clock_spends_nothing(path: Path) -> None:
    def broken() -> int:
        raise OSError("no clock")

    opened(path)
    budget = Budget(LedgerStore(path), TERMS, now_ms=broken)
    asks: list[Callable[[], None]] = [
        lambda: budget.reserve("r", "update", 1, RECEIPT),
        lambda: budget.check([RECEIPT]),
    ]
    for ask in asks:
        with pytest.raises(OSError, match="no clock"):
            ask()
    assert kinds(path) == ["terms"]
