"""Which runs of a node are at work, by when they were last heard of."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

IDLE_S: Final = 600.0
"""A run of which nothing was heard for so long was given up, or waits for somebody else."""


class RunActivity:
    """See the module; for any number of threads. Runs go by their digest (hex)."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Nothing was heard of any run.

        Args:
            now_s: Seconds, of a clock that only goes forward.
        """
        self._now_s = now_s
        self._mutex = threading.Lock()
        self._heard_s: dict[str, float] = {}
        self._in_hand: Counter[str] = Counter()

    @contextmanager
    def handling(self, run: str) -> Iterator[None]:
        """Something of a run is being done until the block is left."""
        with self._mutex:
            self._in_hand[run] += 1
        try:
            yield
        finally:
            with self._mutex:
                self._in_hand[run] -= 1
                self._heard_s[run] = self._now_s()

    def at_work(self, runs: Collection[str]) -> frozenset[str]:
        """Those of `runs` that are; one that is met for the first time is for now."""
        now_s = self._now_s()
        with self._mutex:
            heard_s = {run: self._heard_s.get(run, now_s) for run in runs}
            # what is over is forgotten with this
            self._heard_s = dict(heard_s)
            self._in_hand = +self._in_hand
            return frozenset(
                run for run, at_s in heard_s.items() if self._in_hand[run] or now_s - at_s < IDLE_S
            )
