"""The newest signed state of a ledger, not read anew with every question.

A ledger has a state for each run and no short way to the last one alone.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from privacy.ledger.store import LedgerStore

KEPT_S: Final = 2.0


@dataclass(slots=True)
class NewestNote:
    """Remembers it for a moment; safe for any number of threads.

    Attributes:
        store: Of the ledger.
        now_s: A clock that never goes back, in seconds.
    """

    store: LedgerStore
    now_s: Callable[[], float] = time.monotonic
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _note: bytes = b""
    _read_s: float | None = None
    _size: int = 0

    def note(self) -> bytes:
        """Return the note; empty where nothing was signed yet.

        It is read where the ledger grew, and otherwise every `KEPT_S`.
        """
        size = self.store.size()
        with self._mutex:
            late = self._read_s is None or self.now_s() - self._read_s >= KEPT_S
            if late or size != self._size or not self._note:
                kept = self.store.checkpoints()
                self._note = kept[-1][1] if kept else b""
                self._read_s, self._size = self.now_s(), size
            return self._note
