"""The file in a node's folder that remembers what it released, and what it saw on record."""

from typing import Final

LEDGER: Final = "ledger.db"
EARLIER: Final = "budget.jsonl"
"""Where versions before the first release kept a budget."""
