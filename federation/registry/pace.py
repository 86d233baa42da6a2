"""How close one caller's calls may follow each other: what comes sooner waits, and is answered."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from federation.registry.rate import CALLERS_MAX


@dataclass(slots=True)
class Pace:
    """The generic cell rate algorithm of ITU-T I.371, for each caller; safe for any thread.

    Nobody's calls take more of the coordinator's time than `per_second` of them, however many
    threads make them, so that others' calls come between.

    Attributes:
        per_second: Calls.
        burst: So many may come at once.
        now_s: A clock that never goes back, in seconds.
    """

    per_second: float
    burst: float
    now_s: Callable[[], float]
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _next_s: dict[str, float] = field(default_factory=dict)

    def wait_s(self, caller: str) -> float:
        """Take the next place of `caller`; returns how long it is until then, in seconds."""
        with self._mutex:
            now_s = self.now_s()
            free_s = max(now_s, self._next_s.pop(caller, now_s))
            if len(self._next_s) >= CALLERS_MAX:
                del self._next_s[next(iter(self._next_s))]
            self._next_s[caller] = free_s + 1 / self.per_second
            return max(0.0, free_s - now_s - (self.burst - 1) / self.per_second)
