"""Whoever calls too often waits for its refusal, so that calling on at once is of no use."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

PAUSE_S: Final = 1.0


@dataclass(slots=True)
class Pauses:
    """Refusals that are waited for now; safe for any number of threads.

    Attributes:
        each: At once, of one caller; what is more is refused at once.
        all: At once, of everybody: each takes a thread of the server.
        pause: Waits so many seconds.
    """

    each: int
    all: int
    pause: Callable[[float], None] = time.sleep
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _waiting: Counter[str] = field(default_factory=Counter)

    def wait(self, caller: str) -> None:
        """Let a call of `caller` wait for `PAUSE_S`, where there is room for one more."""
        with self._mutex:
            if self._waiting[caller] >= self.each or self._waiting.total() >= self.all:
                return
            self._waiting[caller] += 1
        try:
            self.pause(PAUSE_S)
        finally:
            with self._mutex:
                self._waiting[caller] -= 1
                if not self._waiting[caller]:
                    del self._waiting[caller]
