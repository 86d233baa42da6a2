"""What a node shows on its own machine: its budgets, its runs, its connection.

What was spent is this member's own business: the port is of the loopback, and no other end is told.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from federation.operations.ledger_counts import LedgerCounts
from federation.operations.metric import Metric, Sample, gauge
from federation.operations.process import process_metrics
from federation.operations.refusals import Refusals
from privacy.budget import BudgetStatement, Spending, read_statements
from privacy.errors import TacitError
from privacy.ledger.store import LedgerStore

BUDGET_AGE_MS: Final = 60_000
"""Budgets are computed again when the ledger grew, or after so long, as periods end."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """Where they are had.

    Attributes:
        ledger: What the node's own ledger says of its runs.
        budgets: What it says of its budgets.
        seen_s: Seconds since the coordinator answered; None before it ever did.
        online_s: From how many seconds on it counts as away.
        certificate_s: Seconds that the node's certificate is valid still.
        refusals: What the node refused.
        version: Of the program.
        since_ms: When the process started, milliseconds since 1970 UTC.
    """

    ledger: LedgerCounts
    budgets: "BudgetFigures"
    seen_s: Callable[[], float | None]
    certificate_s: Callable[[], float]
    refusals: Refusals
    version: str
    since_ms: int
    online_s: float = 30.0

    def metrics(self, *, now_ms: int) -> Iterator[Metric]:
        """Yield all figures; where the ledger cannot be read, all but its own."""
        yield from process_metrics(role="node", version=self.version, since_ms=self.since_ms)
        try:
            found = [*self.ledger.metrics(now_ms=now_ms), *self.budgets.metrics(now_ms=now_ms)]
        except TacitError:
            yield gauge("tacit_ledger_readable", "Whether the ledger can be read.", 0)
        else:
            yield gauge("tacit_ledger_readable", "Whether the ledger can be read.", 1)
            yield from found
        seen_s = self.seen_s()
        connected = seen_s is not None and seen_s <= self.online_s
        yield gauge("tacit_connected", "Whether the coordinator answers.", float(connected))
        if seen_s is not None:
            yield gauge(
                "tacit_coordinator_seen_seconds", "Seconds since the coordinator answered.", seen_s
            )
        yield gauge(
            "tacit_certificate_seconds",
            "Seconds that the certificate is valid still.",
            self.certificate_s(),
        )
        yield self.refusals.metric()


class BudgetFigures:
    """The budgets of a node's ledger, computed as rarely as they change; for any thread.

    Args:
        store: The ledger. Nothing is written and nothing locked.
    """

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._mutex = threading.Lock()
        self._size = -1
        self._at_ms = 0
        self._metrics: tuple[Metric, ...] = ()

    def metrics(self, *, now_ms: int) -> tuple[Metric, ...]:
        """Return the figures.

        Raises:
            RefusedError: the ledger is broken or is no node's.
            InputError: it cannot be read.
        """
        with self._mutex:
            size = self._store.size()
            if size != self._size or now_ms - self._at_ms > BUDGET_AGE_MS:
                found = read_statements(self._store, now_ms=now_ms, tightest=False)
                self._metrics = tuple(budget_metrics(found))
                self._size, self._at_ms = size, now_ms
            return self._metrics


def budget_metrics(statements: tuple[BudgetStatement, ...]) -> Iterator[Metric]:
    """Yield what was spent, is left and is allowed, for each data set, unit, cohort and reading."""
    spent, left, caps, more = [], [], [], []
    for labels, one in _rows(statements):
        spent.append(Sample(one.spent, labels))
        if one.left is not None:
            left.append(Sample(one.left, labels))
        if one.cap is not None:
            caps.append(Sample(one.cap, labels))
        if one.more_runs is not None:
            more.append(Sample(one.more_runs, labels))
    named = (
        ("tacit_budget_spent_epsilon", "Epsilon of all that counts now, as enforced.", spent),
        ("tacit_budget_left_epsilon", "Epsilon that may still be spent; only with a cap.", left),
        ("tacit_budget_cap_epsilon", "The cap, where there is one.", caps),
        ("tacit_budget_more_runs", "How many runs like the last one would fit.", more),
    )
    for name, text, samples in named:
        yield Metric(name, text, "gauge", tuple(samples))


def _rows(statements: tuple[BudgetStatement, ...]) -> Iterator[tuple[dict[str, str], Spending]]:
    for statement in statements:
        for cohort in statement.cohorts:
            for against, one in (("coordinator", cohort.coordinator), ("solo", cohort.solo)):
                yield (
                    {
                        "dataset": statement.terms.dataset,
                        "unit": statement.terms.unit,
                        "cohort": cohort.cohort,
                        "against": against,
                    },
                    one,
                )
