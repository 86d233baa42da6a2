"""Names of the files in a node's folder that remember: its own ledger, and the coordinator's."""

from typing import Final

LEDGER: Final = "ledger.db"
WITNESS: Final = "witness.db"
