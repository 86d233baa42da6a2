"""Which key a ledger was begun with."""

from federation.evidence import LedgerView
from privacy.ledger.entry import parse_leaf
from privacy.ledger.keys import log_key
from privacy.ledger.note import VerifierKey


def first_key(view: LedgerView) -> VerifierKey | None:
    """Return the key that a ledger says it was begun with; None where it says none.

    Raises:
        NotVerifiedError: its first entry is none.
    """
    leaf = next(view.store.leaves(0, 1), None)
    entry = None if leaf is None else parse_leaf(leaf)
    if entry is None or entry.kind != "ledger.begun":
        return None
    try:
        return log_key(view.origin, bytes.fromhex(str(entry.body["key"])))
    except ValueError:
        return None  # an origin with spaces names no key
