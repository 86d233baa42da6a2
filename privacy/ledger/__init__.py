"""The ledger: what was released, in which order, chained so that nothing can be taken out.

`entry` says what an entry is, `chain` how one follows another, `store` keeps them in a file, and
`privacy.verify` checks a whole ledger with the standard library alone.
"""

from privacy.ledger.chain import EMPTY_ROOT, LedgerHead, next_entry, replay
from privacy.ledger.entry import Entry, parse_line

# `store` is not imported here: a verifier needs no lock files.
__all__ = ["EMPTY_ROOT", "Entry", "LedgerHead", "next_entry", "parse_line", "replay"]
