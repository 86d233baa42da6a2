"""Whether a node's ledger ever reserved more than its own caps: for an auditor.

The rule is `privacy.accounting.filter`'s, applied to each reservation as it was made. Standard
library alone.
"""

from dataclasses import replace

from privacy.accounting.rdp import added, capacity, renyi
from privacy.budget_record import RESERVED, Record
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import Entry
from privacy.receipt import Receipt

# A node adds its charges up in another order, and both sides round upward.
_ROUNDING = 1e-9


def require_within_caps(record: Record, entry: Entry) -> None:
    """Return if `entry`, which `record` took last, did not exceed a cap of its time.

    Raises:
        NotVerifiedError: it did; nothing of it should have left.
    """
    if entry.kind != RESERVED:
        return
    receipt = Receipt.from_json(entry.body["receipt"])
    account = record.accounts[str(entry.body["dataset"]), receipt.unit]
    since_ms = account.since_ms(entry.time_ms)
    for reading in account.readings():
        if reading.cap is None:
            continue
        most = capacity(reading.cap, account.terms.delta, reading.order)
        for cohort in receipt.cohorts:
            counts = account.counts(reading, cohort, since_ms)
            loss = added(
                renyi(replace(event, steps=event.steps * count), reading.order)
                for event, count in counts.items()
            )
            if not loss <= most * (1 + _ROUNDING):
                raise NotVerifiedError(
                    f"entry {entry.index} reserves more than the cap of epsilon {reading.cap:g} "
                    f"against {reading.against} holds"
                )
