"""What a real budget allowed, an auditor finds within its caps; what it refused, he does not."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from support.ledgers import DATASET, UNIT, Nodes, bundle_of, ledger_of

from privacy.budget_record import BudgetTerms
from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.entry import parse_leaf
from privacy.ledger.store import append
from privacy.receipt import Receipt
from privacy.verify import Verdict, verify_bundle

# A busy machine is no failure.
UNHURRIED = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
DAY_MS = 86_400_000
NOTHING = ledger_of()
PLAIN = Receipt(
    kind="update",
    unit=UNIT,
    cohort="training",
    mechanism="gaussian",
    share=6.0,
    clip=1.0,
    sampling="none",
    rate=1.0,
    steps=1,
    shares=3,
    values=10,
    grid=0.0,
    purpose="run r, update",
)


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    """Cheap ones and dear ones, of either cohort, sampled or not, continuous or discrete."""
    sampled = draw(st.booleans())
    discrete = draw(st.integers(0, 3)) == 0
    return replace(
        PLAIN,
        cohort=draw(st.sampled_from(["training", "test", "all"])),
        share=draw(st.sampled_from([1.5, 3.0, 6.0, 6.5, 20.0])),
        shares=draw(st.integers(1, 6)),
        steps=draw(st.integers(1, 3)),
        sampling="poisson" if sampled else "none",
        rate=draw(st.sampled_from([0.01, 0.2])) if sampled else 1.0,
        mechanism="discrete_gaussian" if discrete else "gaussian",
        grid=2.0**-10 if discrete else 0.0,
    )


class Day:
    """What a node does over time, whatever its budget says to it."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = draw = data.draw
        self.number = 0
        self.refused: Receipt | None = None
        self.keys: list[int] = []
        self.nodes = Nodes(
            ["bank"],
            epsilon=draw(st.sampled_from([1.0, 2.0, 4.0])),
            period_days=draw(st.sampled_from([None, 10.0])),
            solo_epsilon=draw(st.sampled_from([None, 3.0])),
            order=draw(st.sampled_from([16, 24, 40])),
            colluders=draw(st.integers(0, 2)),
        )

    @property
    def terms(self) -> BudgetTerms:
        return self.nodes.budgets["bank"].statement(tightest=False).terms

    def reserve(self, receipt: Receipt) -> bool:
        try:
            self.nodes.reserve("bank", "r", "update", self.number, receipt)
        except RefusedError:
            self.refused = receipt
            return False
        self.keys.append(self.number)
        self.number += 1
        return True

    @property
    def capped(self) -> bool:
        return self.terms.epsilon is not None or self.terms.solo_epsilon is not None

    def fill(self) -> None:
        """Up to the cap, with what is dear and then with what is cheap."""
        if self.capped:
            for share in (5.0, 12.0):
                while self.reserve(replace(PLAIN, share=share)):
                    pass

    def settle(self) -> None:
        """What was reserved last was accepted, or taken back."""
        if self.keys:
            settle = self.nodes.commit if self.draw(st.booleans()) else self.nodes.abort
            settle("bank", "r", "update", self.keys.pop())

    def change_terms(self) -> None:
        changed = replace(
            self.terms,
            epsilon=self.draw(st.sampled_from([None, 1.5, 3.0, 6.0])),
            solo_epsilon=self.draw(st.sampled_from([None, 2.0, 5.0])),
            period_days=self.draw(st.sampled_from([None, 5.0, 20.0])),
            colluders=self.draw(st.integers(0, 3)),
        )
        try:
            self.nodes.set_terms(changed)
        except RefusedError:  # the order of the first cap cannot hold this one
            self.nodes.set_terms(self.terms)

    def pass_time(self) -> None:
        """Also back: no clock is sure."""
        days = self.draw(st.sampled_from([-3, 0, 1, 5, 10, 10, 30]))
        self.nodes.now_ms = max(0, self.nodes.now_ms + days * DAY_MS)

    def catch_up(self) -> None:
        """The clock is no earlier than what was written."""
        *_, last = self.nodes.leaves("bank")
        self.nodes.now_ms = max(self.nodes.now_ms, parse_leaf(last).time_ms)

    def act(self) -> None:
        match self.draw(st.integers(0, 9)):
            case 0:
                self.fill()
            case 1 | 2:
                self.settle()
            case 3:
                self.change_terms()
            case 4 | 5:
                self.pass_time()
            case _:
                self.reserve(self.draw(receipts()))

    def verify(self) -> Verdict:
        return verify_bundle(replace(bundle_of(NOTHING), logs=tuple(self.nodes.logs())))

    def force(self, receipt: Receipt) -> None:
        """Reserve past the budget."""
        body = {
            "run": "r",
            "step": "update",
            "round": self.number,
            "dataset": DATASET,
            "receipt": receipt.to_json(),
        }
        append(self.nodes.stores["bank"], "budget.reserved", body, time_ms=self.nodes.now_ms)


@UNHURRIED
@given(st.data())
def test_what_a_budget_allowed_is_within_its_caps(data: st.DataObject) -> None:
    day = Day(data)
    for _ in range(data.draw(st.integers(0, 25))):
        day.act()
    if data.draw(st.booleans()):
        day.fill()
    (node,) = day.verify().nodes
    event(f"{min(node.releases, 100) // 20 * 20} releases and more")


@UNHURRIED
@given(st.data())
def test_one_more_than_a_budget_allowed_is_found(data: st.DataObject) -> None:
    day = Day(data)
    for _ in range(data.draw(st.integers(0, 25))):
        day.act()
    assume(day.capped)
    # An entry's time never goes back: of a period, an auditor counts by it, and a node whose clock
    # was set back counts more.
    day.catch_up()
    day.fill()
    day.verify()
    assert day.refused is not None
    day.force(day.refused)
    with pytest.raises(NotVerifiedError, match=r"^step 8 .* reserves more than the cap"):
        day.verify()
