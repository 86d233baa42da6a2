"""A member's loans, what its policy allows, and one release about them. For tests only."""

from privacy.budget import BudgetTerms
from privacy.receipt import Receipt

TERMS = BudgetTerms(
    member="bank",
    dataset="loans",
    unit="borrower",
    epsilon=8.0,
    delta=1e-5,
    order=5,
    colluders=2,
    period_days=None,
    solo_epsilon=None,
)
# The noise of six members, two of whom collude: a multiplier of 2 against the coordinator, 1 alone.
RECEIPT = Receipt(
    kind="update",
    unit="borrower",
    cohort="training",
    mechanism="gaussian",
    share=1.0,
    clip=1.0,
    sampling="none",
    rate=1.0,
    steps=1,
    shares=6,
    values=10,
    grid=0.0,
    purpose="run r, update",
)
