"""States of the coordinator's ledger that this machine cosigned, as its witness remembers them."""

from collections.abc import Sequence
from typing import Final

from federation.participant import Place
from federation.registry.witness import MEMORY_FILE
from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint, open_checkpoint
from privacy.ledger.head import LedgerHead
from privacy.ledger.note import VerifierKey, parse_note
from privacy.ledger.witness import remembered_keys

MEMORY: Final = "witness"
"""Folder of a home; see `federation.registry.witness`."""


def cosigned_heads(place: Place) -> list[LedgerHead]:
    """Return them; whatever is handed over as that ledger must have each.

    Raises:
        RefusedError: the memory cannot be used.
    """
    folder = place.home.root / MEMORY
    keys = (place.log_key, *remembered_keys(folder / MEMORY_FILE, place.ledger_origin))
    heads: list[LedgerHead] = []
    for path in sorted(folder.glob("*.note")):
        try:
            state = _opened(path.read_bytes(), keys)
        except (OSError, NotVerifiedError):
            continue  # of another ledger, or kept and never verified
        heads.append(LedgerHead(state.size, state.root.hex()))
    return heads


def _opened(note: bytes, keys: Sequence[VerifierKey]) -> Checkpoint:
    parsed = parse_note(note)
    signer = next((key for key in keys if parsed.by(key)), keys[0])
    return open_checkpoint(note, signer)
