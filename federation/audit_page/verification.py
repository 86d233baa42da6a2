"""Verifying what the page shows, beside the page: one at a time, the last result kept."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from privacy.errors import TacitError

Verify: TypeAlias = "Callable[[], Verification]"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, and what came of it.

    Attributes:
        holds: Whether all of it holds.
        steps: What was checked, and what was found, in order.
        failure: The first thing that does not hold, in one sentence.
        at_ms: When it ended, milliseconds since 1970 UTC.
        seconds: How long it took.
    """

    holds: bool
    steps: tuple[tuple[str, str], ...]
    failure: str | None
    at_ms: int
    seconds: float


class Verifier:
    """Verifies in a thread of its own; whoever asks meanwhile waits for the one that runs."""

    def __init__(self, verify: Verify, *, now_ms: Callable[[], int]) -> None:
        self._verify = verify
        self._now_ms = now_ms
        self._mutex = threading.Lock()
        self._running_since_ms: int | None = None
        self._result: Verification | None = None
        self._done = threading.Event()

    @property
    def running_since_ms(self) -> int | None:
        """When the one that runs was started; None where none runs."""
        return self._running_since_ms

    @property
    def result(self) -> Verification | None:
        """The last result; None before the first."""
        return self._result

    def start(self) -> bool:
        """Start one, unless one runs; return whether this call did."""
        with self._mutex:
            if self._running_since_ms is not None:
                return False
            self._running_since_ms = self._now_ms()
            self._done.clear()
        threading.Thread(target=self._run, name="audit-verify", daemon=True).start()
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for the one that was started last; return whether it ended."""
        return self._done.wait(seconds)

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            result = self._verify()
        except TacitError as error:
            result = self._failed(str(error), begun)
        except Exception as error:  # noqa: BLE001 - whatever it is, the page must say so
            _log.exception("the verifier failed")
            result = self._failed(f"the verifier itself failed ({type(error).__name__})", begun)
        with self._mutex:
            self._result = result
            self._running_since_ms = None
            self._done.set()

    def _failed(self, failure: str, begun: float) -> Verification:
        seconds = time.monotonic() - begun
        return Verification(
            holds=False, steps=(), failure=failure, at_ms=self._now_ms(), seconds=seconds
        )
