"""The history is told twice: here step by step by the budget itself, and by the module at once."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import IDENTITY, OTHER_IDENTITY, RECEIPT, TERMS

from federation.budget_history import (
    PACE_DAYS,
    Against,
    BudgetHistory,
    budget_history,
    outlook,
)
from privacy.accounting.event import event_of, solo_event_of
from privacy.accounting.rdp import capacity, renyi
from privacy.budget import statements_of
from privacy.budget_record import BudgetTerms, Record
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import Entry
from privacy.ledger.head import next_entry
from privacy.receipt import COHORTS, Receipt
from privacy.release import ABORT_DOMAIN, abort_message

DAY_MS = 86_400_000
SOLO_ORDER = 7
SMALL = replace(RECEIPT, share=8.0)
BARE = replace(RECEIPT, mechanism="none", share=0.0)
AGAINST: tuple[Against, ...] = get_args(Against)


@dataclass
class Ledger:
    """A node's entries, written by hand."""

    entries: list[Entry]

    def put(self, kind: str, body: Mapping[str, object], time_ms: int) -> None:
        last = self.entries[-1] if self.entries else None
        self.entries.append(next_entry(last, kind, body, time_ms=time_ms, epoch=1))

    def agree(self, terms: BudgetTerms, time_ms: int = 0) -> None:
        values = {name: getattr(terms, name) for name in BudgetTerms.__dataclass_fields__}
        self.put("budget.terms", {**values, "solo_order": SOLO_ORDER}, time_ms)

    def reserve(
        self,
        run: str,
        number: int,
        time_ms: int,
        receipt: Receipt = SMALL,
        *,
        dataset: str = "loans",
    ) -> None:
        body = {**_names(run, number, dataset), "receipt": receipt.to_json()}
        self.put("budget.reserved", body, time_ms)

    def commit(self, run: str, number: int, time_ms: int, *, dataset: str = "loans") -> None:
        self.put("budget.committed", _names(run, number, dataset), time_ms)

    def abort(self, run: str, number: int, time_ms: int, *, dataset: str = "loans") -> None:
        message = abort_message(run, "update", number, dataset=dataset)
        body = {
            **_names(run, number, dataset),
            "reason": "x",
            "signature": IDENTITY.sign(ABORT_DOMAIN, message).hex(),
        }
        self.put("budget.aborted", body, time_ms)


def _names(run: str, number: int, dataset: str) -> dict[str, object]:
    return {"run": run, "step": "update", "round": number, "dataset": dataset}


def ledger(terms: BudgetTerms = TERMS) -> Ledger:
    made = Ledger([])
    body = {"origin": "bank", "key": IDENTITY.public.hex(), "owner": "bank", "role": "node"}
    made.put("ledger.begun", body, 0)
    made.agree(terms)
    return made


def spent_after(entries: Sequence[Entry], now_ms: int) -> dict[tuple[str, str, str], float]:
    """By the budget itself: (data set, cohort, reading) -> epsilon."""
    record = Record()
    for entry in entries:
        assert record.follow(entry.leaf()) == entry
    return {
        (statement.terms.dataset, cohort.cohort, against): getattr(cohort, against).spent
        for statement in statements_of(record, now_ms=now_ms, tightest=False)
        for cohort in statement.cohorts
        for against in AGAINST
    }


def only(entries: Sequence[Entry], now_ms: int | None = None) -> BudgetHistory:
    (found,) = budget_history(entries, now_ms=now_ms)
    return found


# -- release by release --


def test_of_no_entries_and_of_no_releases_there_is_no_history() -> None:
    assert budget_history([]) == ()
    assert budget_history(ledger().entries, now_ms=10**12) == ()


CAPS = st.sampled_from([None, 8.0, 500.0])


@settings(deadline=None, max_examples=60)
@given(
    epsilon=CAPS,
    solo_epsilon=CAPS,
    period_days=st.sampled_from([None, 3.0, 0.5]),
    acts=st.lists(
        st.tuples(
            st.sampled_from("rst"),
            st.sampled_from(
                [
                    SMALL,
                    RECEIPT,
                    replace(SMALL, cohort="test"),
                    replace(SMALL, cohort="all", sampling="poisson", rate=0.1, steps=3),
                    replace(SMALL, share=300.0),
                    BARE,
                ]
            ),
            st.sampled_from(["keep", "commit", "abort", "abort later"]),
            st.integers(0, 2 * DAY_MS),
        ),
        max_size=25,
    ),
    quiet_ms=st.integers(0, 4 * DAY_MS),
)
def test_after_every_entry_it_says_what_the_budget_says(
    epsilon: float | None,
    solo_epsilon: float | None,
    period_days: float | None,
    acts: list[tuple[str, Receipt, str, int]],
    quiet_ms: int,
) -> None:
    made = ledger(
        replace(TERMS, epsilon=epsilon, solo_epsilon=solo_epsilon, period_days=period_days)
    )
    later: list[tuple[str, int]] = []
    at_ms = 0
    for number, (run, receipt, how, wait_ms) in enumerate(acts):
        at_ms += wait_ms
        made.reserve(run, number, at_ms, receipt)
        if how == "commit":
            made.commit(run, number, at_ms + 5)
        if how == "abort":
            made.abort(run, number, at_ms + 7)
        if how == "abort later":
            later.append((run, number))
    for run, number in later:
        made.abort(run, number, at_ms + 9)
    now_ms = at_ms + 10 + quiet_ms
    known = spent_after(made.entries, now_ms)
    histories = budget_history(made.entries, now_ms=now_ms)
    for history in histories:
        for against in AGAINST:
            expected = known["loans", history.cohort, against]
            assert history.spent(against) == pytest.approx(expected, rel=1e-9, abs=1e-9)
            # each release as the budget saw it just before and just after
            for row in history.releases[:: max(1, len(history.releases) // 4)]:
                taken = getattr(row, against)
                for upto, found in ((row.index, taken.before), (row.index + 1, taken.after)):
                    then = spent_after(made.entries[:upto], row.time_ms)
                    assert found == pytest.approx(
                        then["loans", history.cohort, against], rel=1e-9, abs=1e-9
                    )
    told = {history.cohort for history in histories}
    assert told == {cohort for cohort in COHORTS if any(cohort in one[1].cohorts for one in acts)}


def test_figures_are_rounded_upward_through_many_comings_and_goings() -> None:
    terms = replace(TERMS, epsilon=500.0, period_days=1.0)
    made = ledger(terms)
    for number in range(3000):
        share = 5.0 + 0.37 * (number % 13)
        made.reserve("r", number, number * 400_000, replace(RECEIPT, share=share))
    now_ms = 3000 * 400_000
    known = spent_after(made.entries, now_ms)["loans", "training", "coordinator"]
    found = only(made.entries, now_ms).spent("coordinator")
    assert 0 <= found - known < 1e-9


def test_each_release_is_told_with_its_state_and_its_own_loss() -> None:
    made = ledger()
    for number in range(3):
        made.reserve("r", number, 10 + number)
    made.commit("r", 0, 20)
    made.abort("r", 1, 21)
    history = only(made.entries)
    assert [row.state for row in history.releases] == ["committed", "aborted", "reserved"]
    assert [(row.run, row.step, row.round_number) for row in history.releases] == [
        ("r", "update", number) for number in range(3)
    ]
    assert [row.time_ms for row in history.releases] == [10, 11, 12]
    assert [made.entries[row.index].kind for row in history.releases] == ["budget.reserved"] * 3
    loss = renyi(event_of(SMALL, colluders=2), TERMS.order)
    alone = renyi(solo_event_of(SMALL), SOLO_ORDER)
    assert [row.coordinator.loss for row in history.releases] == [loss, 0.0, loss]
    assert [row.solo.loss for row in history.releases] == [alone, 0.0, alone]
    assert (history.order("coordinator"), history.order("solo")) == (TERMS.order, SOLO_ORDER)


def test_what_was_taken_back_goes_down_again_and_what_left_its_period_only_once() -> None:
    made = ledger(replace(TERMS, period_days=1.0))
    made.reserve("r", 0, 0)
    made.reserve("r", 1, 1)
    made.abort("r", 1, 2)
    made.reserve("r", 2, 3)
    made.reserve("s", 3, 5 * DAY_MS)
    made.abort("r", 2, 5 * DAY_MS)  # long after it left the period
    history = only(made.entries, 9 * DAY_MS)
    assert [(point.time_ms, point.change) for point in history.curve] == [
        (0, "reserved"),
        (1, "reserved"),
        (2, "aborted"),
        (3, "reserved"),
        (DAY_MS + 1, "expired"),
        (DAY_MS + 4, "expired"),
        (5 * DAY_MS, "reserved"),
        (6 * DAY_MS + 1, "expired"),
    ]
    values = [point.coordinator for point in history.curve]
    assert values[0] == values[2] == values[4]
    assert values[5] == values[7] == 0.0
    assert min(values) == 0.0
    assert history.spent("coordinator") == 0.0


def test_a_curve_is_in_order_and_not_below_nothing() -> None:
    made = ledger(replace(TERMS, period_days=2.0))
    for number in range(40):
        made.reserve("r", number, number * DAY_MS // 3, replace(SMALL, share=8.0 + number % 3))
        if number % 5 == 0:
            made.abort("r", number, number * DAY_MS // 3 + 1)
    history = only(made.entries, 30 * DAY_MS)
    times_ms = [point.time_ms for point in history.curve]
    assert times_ms == sorted(times_ms)
    assert times_ms[-1] <= 30 * DAY_MS
    for against in AGAINST:
        assert all(getattr(point, against) >= 0 for point in history.curve)
        assert getattr(history.curve[-1], against) == 0.0


def test_a_release_without_noise_is_unbounded_until_it_leaves() -> None:
    made = ledger(replace(TERMS, epsilon=None, period_days=1.0))
    made.reserve("r", 0, 0)
    made.reserve("r", 1, 10, BARE)
    made.reserve("r", 2, 20)
    history = only(made.entries, DAY_MS + 15)
    assert [math.isinf(point.coordinator) for point in history.curve] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert history.releases[1].coordinator.loss == math.inf
    assert history.runs[0].coordinator.loss == math.inf
    assert history.spent("coordinator") == pytest.approx(history.curve[0].coordinator)


def test_terms_are_those_that_were_agreed_last_from_the_first_release_on() -> None:
    made = ledger(replace(TERMS, epsilon=None, colluders=0))
    made.reserve("r", 0, 1)
    made.agree(replace(TERMS, epsilon=20.0, colluders=4), 2)
    made.reserve("r", 1, 3)
    history = only(made.entries)
    assert history.terms == replace(TERMS, epsilon=20.0, colluders=4)
    assert history.cap("coordinator") == 20.0
    loss = renyi(event_of(SMALL, colluders=4), TERMS.order)
    assert [row.coordinator.loss for row in history.releases] == [loss, loss]
    expected = spent_after(made.entries, 3)["loans", "training", "coordinator"]
    assert history.spent("coordinator") == pytest.approx(expected)


def test_data_sets_units_and_cohorts_are_told_apart() -> None:
    made = ledger()
    made.agree(replace(TERMS, dataset="cars"))
    made.agree(replace(TERMS, unit="row"))
    made.reserve("r", 0, 1, replace(SMALL, cohort="all"))
    made.reserve("r", 1, 2, dataset="cars")
    made.reserve("r", 2, 3, replace(SMALL, unit="row"))
    made.reserve("r", 3, 4)
    found = {
        (one.terms.dataset, one.terms.unit, one.cohort): len(one.releases)
        for one in budget_history(made.entries)
    }
    assert found == {
        ("loans", "borrower", "training"): 2,
        ("loans", "borrower", "test"): 1,
        ("cars", "borrower", "training"): 1,
        ("loans", "row", "training"): 1,
    }


def test_other_acts_of_a_node_change_nothing() -> None:
    made = ledger()
    made.reserve("r", 0, 1)
    plain = only(made.entries, 100)
    made.put("run.joined", {"run": "r", "manifest": "a" * 64, "origin": "o"}, 2)
    rotation = OTHER_IDENTITY.public
    made.put(
        "key.rotated",
        {"key": rotation.hex(), "signature": IDENTITY.sign("key-rotation", rotation).hex()},
        3,
    )
    assert only(made.entries, 100) == plain


@pytest.mark.parametrize("fault", ["no terms", "twice", "commit", "abort", "commit twice"])
def test_entries_that_make_no_sense_are_refused(fault: str) -> None:
    made = ledger()
    made.reserve("r", 0, 1)
    if fault == "no terms":
        made.reserve("r", 1, 2, dataset="cars")
    elif fault == "twice":
        made.reserve("r", 0, 2)
    elif fault == "commit":
        made.commit("r", 1, 2)
    elif fault == "abort":
        made.abort("s", 0, 2)
    else:
        made.commit("r", 0, 2)
        made.abort("r", 0, 3)
    with pytest.raises(NotVerifiedError, match=f"entry {len(made.entries) - 1} "):
        budget_history(made.entries)


# -- run by run --


def test_runs_are_told_in_the_order_of_their_first_release() -> None:
    made = ledger()
    made.reserve("second", 0, 10)
    made.reserve("first", 0, 20)
    made.reserve("second", 1, 30, RECEIPT)
    made.reserve("second", 2, 40)
    made.commit("second", 1, 41)
    made.abort("second", 2, 42)
    second, first = only(made.entries).runs
    assert (second.run, first.run) == ("second", "first")
    assert (second.releases, second.pending, second.aborted) == (3, 1, 1)
    assert (first.releases, first.pending, first.aborted) == (1, 1, 0)
    assert (second.first_ms, second.last_ms) == (10, 40)
    rows = only(made.entries).releases
    assert second.coordinator.before == rows[0].coordinator.before == 0.0
    assert second.coordinator.loss == pytest.approx(
        rows[0].coordinator.loss + rows[2].coordinator.loss
    )
    # what the other run took in between is in `after`, and not in `loss`
    assert second.coordinator.after == pytest.approx(
        rows[0].coordinator.after + rows[1].coordinator.loss + rows[2].coordinator.loss
    )
    assert first.coordinator.before == rows[0].coordinator.after
    assert first.coordinator.after == rows[1].coordinator.after


def test_a_run_that_took_everything_back_took_nothing() -> None:
    made = ledger()
    made.reserve("r", 0, 1)
    made.reserve("s", 0, 2)
    made.abort("s", 0, 3)
    run = only(made.entries).runs[1]
    assert run.coordinator.before == run.coordinator.after
    assert (run.coordinator.loss, run.aborted, run.pending) == (0.0, 1, 0)


# -- where it leads --


def steady(
    *, days: int, period_days: float | None = None, receipt: Receipt = SMALL, cap: float = 8.0
) -> BudgetHistory:
    """One release a day up to now, which is day 1000."""
    made = ledger(replace(TERMS, epsilon=cap, period_days=period_days))
    for number in range(days):
        made.reserve("r", number, (1000 - days + 1 + number) * DAY_MS, receipt)
    return only(made.entries, 1000 * DAY_MS)


NOW_MS = 1000 * DAY_MS
LOSS = renyi(event_of(SMALL, colluders=2), TERMS.order)
ROOM = capacity(8.0, TERMS.delta, TERMS.order)


def test_at_an_even_pace_the_cap_is_reached_when_the_room_is_used() -> None:
    history = steady(days=40)
    found = outlook(history, "coordinator", now_ms=NOW_MS)
    assert found.pace == pytest.approx(LOSS)
    assert found.reached_ms == pytest.approx(NOW_MS + (ROOM - 40 * LOSS) / LOSS * DAY_MS, abs=2)
    # by counting: so many more releases fit, one a day
    fits = int(ROOM / LOSS) - 40
    assert NOW_MS + fits * DAY_MS <= (found.reached_ms or 0) <= NOW_MS + (fits + 1) * DAY_MS


def test_fewer_days_than_the_window_are_a_slower_pace() -> None:
    assert outlook(steady(days=6), "coordinator", now_ms=NOW_MS).pace == pytest.approx(
        6 * LOSS / PACE_DAYS
    )


def test_without_a_cap_or_a_pace_nothing_is_ever_reached() -> None:
    history = steady(days=40)
    assert outlook(history, "solo", now_ms=NOW_MS).reached_ms is None
    assert outlook(history, "solo", now_ms=NOW_MS).pace > 0
    later = outlook(history, "coordinator", now_ms=NOW_MS + 100 * DAY_MS)
    assert (later.pace, later.reached_ms) == (0.0, None)


def test_what_was_taken_back_is_no_pace() -> None:
    made = ledger()
    made.reserve("r", 0, NOW_MS - 10)
    made.abort("r", 0, NOW_MS - 5)
    found = outlook(only(made.entries, NOW_MS), "coordinator", now_ms=NOW_MS)
    assert (found.pace, found.reached_ms) == (0.0, None)


def test_a_pace_that_its_period_makes_room_for_never_reaches_the_cap() -> None:
    fits = int(ROOM / LOSS)
    assert (
        outlook(steady(days=40, period_days=fits - 1.0), "coordinator", now_ms=NOW_MS).reached_ms
        is None
    )
    # and one that it does not
    found = outlook(steady(days=40, period_days=fits + 2.0), "coordinator", now_ms=NOW_MS)
    assert found.reached_ms is not None


@settings(deadline=None, max_examples=60)
@given(
    times=st.lists(st.integers(0, 119), min_size=1, max_size=60, unique=True),
    period_days=st.sampled_from([None, 20.0, 45.0, 90.0]),
    cap=st.sampled_from([3.0, 4.0, 5.0, 8.0]),
)
def test_the_day_is_the_first_on_which_what_is_spent_fills_the_cap(
    times: list[int], period_days: float | None, cap: float
) -> None:
    """By going through the days, a tenth of one at a time."""
    now = 120
    receipt = replace(RECEIPT, share=3.0)
    made = ledger(replace(TERMS, epsilon=cap, period_days=period_days))
    for number, day in enumerate(sorted(times)):
        made.reserve("r", number, day * DAY_MS, receipt)
    found = outlook(only(made.entries, now * DAY_MS), "coordinator", now_ms=now * DAY_MS)
    loss, room = renyi(event_of(receipt, colluders=2), 5), capacity(cap, TERMS.delta, 5)
    pace = loss * sum(day > now - PACE_DAYS for day in times) / PACE_DAYS
    assert found.pace == pytest.approx(pace)
    reached: float | None = None
    for tenth in range(10 * 400):
        at = now + tenth / 10
        old = sum(period_days is None or day >= at - period_days for day in times) * loss
        new = pace * min(at - now, math.inf if period_days is None else period_days)
        if old + new >= room:
            reached = at
            break
    if reached is None:
        assert found.reached_ms is None or found.reached_ms > (now + 399) * DAY_MS
    else:
        assert found.reached_ms is not None
        assert found.reached_ms / DAY_MS == pytest.approx(reached, abs=0.11)


def test_a_cap_that_is_full_is_reached_now() -> None:
    assert (
        outlook(steady(days=int(ROOM / LOSS) + 1), "coordinator", now_ms=NOW_MS).reached_ms
        == NOW_MS
    )
    made = ledger()
    made.reserve("r", 0, NOW_MS, BARE)
    found = outlook(only(made.entries, NOW_MS), "coordinator", now_ms=NOW_MS)
    assert (found.pace, found.reached_ms) == (math.inf, NOW_MS)


# -- many --


@pytest.mark.parametrize("caps", [{}, {"epsilon": None, "period_days": 20.0}])
def test_twenty_thousand_releases_are_told_in_about_a_second(caps: dict[str, Any]) -> None:
    made = ledger(replace(TERMS, **{"epsilon": 500.0, **caps}))
    for run in range(100):
        receipt = replace(SMALL, share=8.0 + run % 10, sampling="poisson", rate=0.05)
        for number in range(200):
            at_ms = (run * 200 + number) * 600_000
            named = replace(receipt, purpose=f"run {run}, update of round {number}")
            made.reserve(f"run {run}", number, at_ms, named)
    start_s = time.process_time()
    history = only(made.entries)
    took_s = time.process_time() - start_s
    assert len(history.releases) == 20_000
    assert len(history.runs) == 100
    expected = spent_after(made.entries, history.until_ms)["loans", "training", "coordinator"]
    assert history.spent("coordinator") == pytest.approx(expected, rel=1e-9)
    # generous, as other work shares the machine; from scratch for each release it would be minutes
    assert took_s < 60
