"""Whether a node's ledger ever reserved more than its caps; see also tests/property/test_cap.py."""

from collections.abc import Iterable
from dataclasses import asdict, replace

import pytest
from support.ledgers import DATASET, UNIT, Line, begun, chained, key_of

from privacy.accounting.event import event_of
from privacy.accounting.rdp import best_order, capacity, renyi
from privacy.budget import Budget
from privacy.budget_record import BudgetTerms, Record
from privacy.cap import require_within_caps
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger import Entry
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.store import append, entries_of
from privacy.receipt import Receipt

DAY_MS = 86_400_000
TERMS = BudgetTerms(
    member="bank",
    dataset=DATASET,
    unit=UNIT,
    epsilon=4.0,
    delta=1e-5,
    order=16,
    colluders=1,
    period_days=None,
    solo_epsilon=None,
)
RECEIPT = Receipt(
    kind="update",
    unit=UNIT,
    cohort="training",
    mechanism="gaussian",
    share=10.0,
    clip=1.0,
    sampling="none",
    rate=1.0,
    steps=1,
    shares=3,
    values=10,
    grid=0.0,
    purpose="run r, update",
)


class Books:
    """A node's ledger under its budget, and a hand that writes past it."""

    def __init__(self, **terms: object) -> None:
        self.now_ms = 0
        self.count = 0
        self.store = MemoryLedger()
        begin_ledger(self.store, key_of("bank"), owner="bank", role="node", time_ms=0)
        self.terms = replace(TERMS, **terms)  # type: ignore[arg-type]
        self.open()

    def open(self, **terms: object) -> None:
        self.terms = replace(self.terms, **terms)  # type: ignore[arg-type]
        self.budget = Budget(self.store, self.terms, now_ms=lambda: self.now_ms)

    def fill(self, receipt: Receipt = RECEIPT) -> int:
        """Reserve until the budget refuses; return how often it did not."""
        for done in range(100_000):
            try:
                self.budget.reserve("r", "update", self.count, receipt)
            except RefusedError:
                return done
            self.count += 1
        raise AssertionError("the budget never ends")

    def force(self, receipt: Receipt = RECEIPT) -> None:
        """Reserve as a program that is no budget might."""
        body = {
            "run": "r",
            "step": "update",
            "round": self.count,
            "dataset": DATASET,
            "receipt": receipt.to_json(),
        }
        append(self.store, "budget.reserved", body, time_ms=self.now_ms)
        self.count += 1

    def verify(self) -> None:
        verify(entries_of(self.store.leaves()))

    def refused(self) -> None:
        with pytest.raises(
            NotVerifiedError, match=rf"^entry {self.store.size() - 1} reserves more than the cap"
        ):
            self.verify()


def verify(entries: Iterable[Entry]) -> None:
    record = Record()
    for entry in entries:
        assert record.take(entry) == ""
        require_within_caps(record, entry)


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"epsilon": 1.0, "order": 32},
        {"epsilon": None, "solo_epsilon": 4.0},
        {"solo_epsilon": 2.0},
        {"epsilon": 8.0, "solo_epsilon": 2.0, "colluders": 0},
        {"period_days": 30.0},
        {"colluders": 5},
    ],
)
def test_what_fills_a_budget_holds_and_one_more_does_not(terms: dict[str, object]) -> None:
    books = Books(**terms)
    assert books.fill() >= 5
    books.verify()
    books.force()
    books.refused()


def test_without_caps_everything_holds() -> None:
    books = Books(epsilon=None)
    exact = replace(RECEIPT, mechanism="none", share=0.0, clip=0.0)
    for _ in range(10):
        books.force(exact)
    books.verify()


def test_what_has_no_noise_is_over_every_cap() -> None:
    for terms in ({}, {"epsilon": None, "solo_epsilon": 1e9}):
        books = Books(**terms)
        books.force(replace(RECEIPT, mechanism="none", share=0.0, clip=0.0))
        books.refused()


def test_cohorts_are_counted_apart_and_together() -> None:
    books = Books()
    training = books.fill()
    test = replace(RECEIPT, kind="evaluation", cohort="test")
    assert books.fill(test) == training
    books.verify()
    books.force(replace(test, cohort="all"))
    books.refused()
    books = Books()
    assert books.fill(replace(RECEIPT, cohort="all")) == training
    books.verify()
    books.force(test)
    books.refused()


def test_of_a_period_only_what_is_in_it_counts() -> None:
    books = Books(period_days=30.0)
    first = books.fill()
    books.now_ms = 30 * DAY_MS
    books.force()  # what was reserved at the very beginning of the period is in it
    books.refused()
    books = Books(period_days=30.0)
    books.fill()
    books.now_ms = 30 * DAY_MS + 1
    assert books.fill() == first
    books.verify()
    books.force()
    books.refused()


def test_terms_hold_from_when_they_were_noted() -> None:
    books = Books(epsilon=8.0)
    books.fill()
    books.open(epsilon=4.0)  # what was spent under the old ones stays as it was
    books.verify()
    books.force()
    books.refused()
    books = Books(epsilon=4.0)
    small = books.fill()
    books.open(epsilon=8.0)
    assert 0 < books.fill() < small * 10
    books.verify()
    books.force()
    books.refused()
    # another number of colluders reads all that was released otherwise
    books = Books(epsilon=4.0, colluders=0)
    books.fill()
    books.open(colluders=2)
    books.verify()
    books.force()
    books.refused()


def test_what_was_taken_back_does_not_count() -> None:
    books = Books()
    tokens = [books.budget.reserve("r", "update", 10_000 + n, RECEIPT) for n in range(3)]
    left = books.fill()
    for token in tokens:
        books.budget.abort(token, reason="nothing left", sign=key_of("bank").sign)
    assert books.fill() == 3 <= left
    books.verify()
    books.force()
    books.refused()


def test_each_data_set_and_unit_has_its_own_cap() -> None:
    books = Books()
    most = books.fill()
    other = Budget(books.store, replace(TERMS, unit="window"), now_ms=lambda: 0)
    about = replace(RECEIPT, unit="window")
    for number in range(most):
        other.reserve("s", "update", number, about)
    books.verify()
    with pytest.raises(RefusedError):
        other.reserve("s", "update", most, about)
    books.force(about)
    books.refused()


def test_what_costs_least_is_at_the_cap_to_the_last_digit() -> None:
    """Of releases of very different costs, the sum is what is compared."""
    books = Books()
    one = renyi(event_of(RECEIPT, colluders=TERMS.colluders), TERMS.order)
    most = capacity(4.0, TERMS.delta, TERMS.order)
    count = int(most / one)
    for _ in range(count):
        books.force()
    books.verify()
    # a release that is as large as what is left, and one that is a little larger
    left = most - count * one
    share = (TERMS.order / (2 * 2 * left)) ** 0.5
    books.force(replace(RECEIPT, share=share * (1 + 1e-6)))
    books.verify()
    books = Books()
    for _ in range(count):
        books.force()
    books.force(replace(RECEIPT, share=share * (1 - 1e-6)))
    books.refused()


def test_what_rounding_adds_is_no_breach_and_a_little_more_is() -> None:
    """A node adds up in another order: less than 1e-9 of the cap is nobody's fault."""
    cost = 3 * renyi(event_of(RECEIPT, colluders=TERMS.colluders), TERMS.order)
    extra = 4.0 - capacity(4.0, TERMS.delta, TERMS.order)
    for over, refused in ((5e-10, False), (2e-9, True)):
        books = Books(epsilon=cost * (1 - over) + extra)
        for _ in range(3):
            books.force()
        if refused:
            books.refused()
        else:
            books.verify()


def test_a_cap_that_its_order_cannot_hold_holds_nothing() -> None:
    """No budget has such terms; they do not stop whoever reads."""
    with pytest.raises(InputError, match="cannot hold"):
        Books(epsilon=0.01, order=2)
    terms: Line = (
        "budget.terms",
        {**asdict(replace(TERMS, epsilon=0.01, order=2)), "solo_order": best_order(4.0, 1e-5)},
    )
    first = begun(role="node", owner="bank")
    reserve: Line = (
        "budget.reserved",
        {
            "run": "r",
            "step": "update",
            "round": 0,
            "dataset": DATASET,
            "receipt": RECEIPT.to_json(),
        },
    )
    verify(chained([first, terms]))
    with pytest.raises(NotVerifiedError, match=r"^entry 2 reserves where order 2 cannot hold"):
        verify(chained([first, terms, reserve]))
