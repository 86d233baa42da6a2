"""Whether a node's ledger ever reserved more than its own caps: for an auditor.

The rule is `privacy.accounting.filter`'s, applied to each reservation as it was made. Standard
library alone.
"""

from privacy.accounting.rdp import capacity
from privacy.budget_record import RESERVED, Record, release_key
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.entry import Entry

# A node adds its charges up in another order, and both sides round upward.
_ROUNDING = 1e-9


def require_within_caps(record: Record, entry: Entry) -> None:
    """Return if `entry`, which `record` took last, did not exceed a cap of its time.

    Raises:
        NotVerifiedError: it did; nothing of it should have left.
    """
    if entry.kind != RESERVED:
        return
    key = release_key(entry.body)
    account = record.owners[key]
    since_ms = account.since_ms(entry.time_ms)
    for reading in account.readings():
        if reading.cap is None:
            continue
        try:
            most = capacity(reading.cap, account.terms.delta, reading.order)
        except InputError as error:
            raise NotVerifiedError(f"entry {entry.index} reserves where {error}") from None
        for cohort in account.releases[key].receipt.cohorts:
            if not account.loss(reading, cohort, since_ms) <= most * (1 + _ROUNDING):
                raise NotVerifiedError(
                    f"entry {entry.index} reserves more than the cap of epsilon {reading.cap:g} "
                    f"against {reading.against} holds"
                )
