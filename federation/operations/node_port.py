"""A node's own operations port; nobody is told anything unless the member asks for it."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from federation.operations.endpoint import Operations, operations
from federation.operations.health import (
    certificate_look,
    connection_look,
    examined,
    ledger_look,
)
from federation.operations.ledger_counts import LedgerCounts
from federation.operations.node_metrics import BudgetFigures, NodeFigures
from federation.operations.refusals import Refusals
from privacy.ledger.store import LedgerStore

AWAY_S = 120.0
"""A node that has not reached its coordinator for so long is not healthy."""


@contextmanager
def node_port(
    listen: str,
    *,
    ledger: LedgerStore,
    seen_s: Callable[[], float | None],
    certificate_s: Callable[[], float],
    version: str,
    since_ms: int,
) -> Iterator[Operations | None]:
    """Answer at `listen` until the block is left.

    Args:
        listen: `host:port`; `none` or nothing: nowhere.
        ledger: The node's own.
        seen_s: Seconds since the coordinator answered; None before it ever did.
        certificate_s: Seconds that the node's certificate is valid still.
        version: Of the program.
        since_ms: When the process started, milliseconds since 1970 UTC.

    Raises:
        InputError: the address is none, or is taken.
    """
    if listen in {"", "none"}:
        yield None
        return

    def away_s() -> float:
        seen = seen_s()
        return _now_ms() / 1000 - since_ms / 1000 if seen is None else seen

    looks = {
        "ledger": ledger_look(ledger),
        "certificate": certificate_look(certificate_s),
        "coordinator": connection_look(away_s, most_s=AWAY_S),
    }
    with ExitStack() as stack:
        refusals = Refusals()
        log = logging.getLogger("tacit.node")
        log.addHandler(refusals)
        stack.callback(log.removeHandler, refusals)
        figures = NodeFigures(
            ledger=LedgerCounts(ledger),
            budgets=BudgetFigures(ledger),
            seen_s=seen_s,
            certificate_s=certificate_s,
            refusals=refusals,
            version=version,
            since_ms=since_ms,
        )
        yield stack.enter_context(
            operations(
                listen,
                health=lambda: examined(since_ms, looks),
                metrics=lambda: figures.metrics(now_ms=_now_ms()),
            )
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
