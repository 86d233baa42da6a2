"""How many calls of one caller are open at once."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from federation.registry.refusal import CallRefusedError


@dataclass(slots=True)
class OpenCalls:
    """Counts them; safe for any number of threads.

    Attributes:
        most: At once, of one caller.
    """

    most: int
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _open: Counter[str] = field(default_factory=Counter)

    def begin(self, caller: str) -> bool:
        """Whether `caller` may begin one more; then `end` follows."""
        with self._mutex:
            if self._open[caller] >= self.most:
                return False
            self._open[caller] += 1
            return True

    def end(self, caller: str) -> None:
        """One of `caller` is over."""
        with self._mutex:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """Count a call of `caller` until the block is left.

        Raises:
            CallRefusedError: So many are open that this one must not be.
        """
        if not self.begin(caller):
            raise self.refusal()
        try:
            yield
        finally:
            self.end(caller)

    def refusal(self) -> CallRefusedError:
        """What whoever may begin no more is told."""
        return CallRefusedError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"{self.most} calls of yours are open; wait a few seconds",
        )
