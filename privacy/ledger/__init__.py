"""The ledger: what was released, in which order, in a tree from which nothing can be taken out.

`entry` says what an entry is, `head` how one follows another, `merkle` how all of them hang
together, `store` what keeps them (`sqlite`: a file), `note`, `checkpoint`, `proof`, `trust` how a
state is signed and shown (C2SP), `witness` how others hold it to that, `grammar` what may follow on
what, and `privacy.verify` checks a whole bundle with the standard library and `cryptography` alone.
"""

from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.head import EMPTY_HEAD, LedgerHead, in_order, next_entry

# Stores are not imported here: a verifier needs none.
__all__ = ["EMPTY_HEAD", "Entry", "LedgerHead", "in_order", "next_entry", "parse_leaf"]
