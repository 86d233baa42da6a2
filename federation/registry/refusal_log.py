"""Lines in the log for refused calls, as many as somebody can read."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from federation.registry.rate import Buckets, Rate

RATE: Final = Rate(per_second=1.0, burst=100.0)
"""Lines, of each caller. Whoever is not known is one caller together."""


@dataclass(slots=True)
class RefusalLog:
    """Writes them; safe for any number of threads.

    Attributes:
        log: Where.
        rate: Of each caller.
        now_s: A clock that never goes back, in seconds.
    """

    log: logging.Logger
    rate: Rate = RATE
    now_s: Callable[[], float] = time.monotonic
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _buckets: Buckets = field(init=False)
    _left_out: int = 0

    def __post_init__(self) -> None:
        self._buckets = Buckets(self.rate, self.now_s)

    def refused(self, what: str, whom: str, at: str, code: str) -> None:
        """Say that a call was refused, or count it where too many were."""
        if not self._buckets.take(whom, 1.0):
            with self._mutex:
                self._left_out += 1
            return
        with self._mutex:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            self.log.warning("%d more calls were refused, and are not told one by one", left_out)
        self.log.warning("refused %s to %s at %s: %s", what, whom, at, code)
