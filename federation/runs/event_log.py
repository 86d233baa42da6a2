"""The events of one run, in its folder; whoever waits for the next one is woken."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from clients.durable_file import append_whole
from federation.runs.event import ENDS, Event, Registered, Told, parse_event
from privacy.errors import InputError, NotVerifiedError

FILE: Final = "events.jsonl"


class EventLog:
    """Safe for any number of threads of the one process that writes it."""

    def __init__(self, folder: Path, *, now_ms: Callable[[], int]) -> None:
        """Read what there is; a line that a crash cut off is forgotten.

        Raises:
            InputError: The file cannot be read or mended.
        """
        self._path = folder / FILE
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._told, self._whole = _read(self._path)
        try:
            if self._path.exists() and self._path.stat().st_size > self._whole:
                os.truncate(self._path, self._whole)
        except OSError as failure:
            raise InputError(f"{self._path}: cannot be written ({failure.strerror}).") from None

    def tell(self, event: Event) -> None:
        """Keep one more event, and wake who waits.

        Raises:
            InputError: The disk refuses; then nobody was told.
        """
        with self._changed:
            told = Told(number=len(self._told), time_ms=self._now_ms(), event=event)
            line = told.to_bytes() + b"\n"
            try:
                # who was told a number is never told something else by it: it is on disk before,
                # right after what was told, whatever was refused in between
                append_whole(self._path, line, after=self._whole)
            except OSError as failure:
                raise InputError(
                    f"{self._path}: cannot be written ({failure.strerror}); free some space."
                ) from None
            self._told.append(told)
            self._whole += len(line)
            self._changed.notify_all()

    def since(self, start: int, *, wait_s: float) -> list[Told]:
        """Return the events from a number on; where there are none yet, wait for one."""
        over_s = time.monotonic() + wait_s
        with self._changed:
            while len(self._told) <= start:
                left_s = over_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            return self._told[start:]

    @property
    def last(self) -> Event | None:
        """The newest event but those that come after an end; None before the first."""
        with self._changed:
            events = (one.event for one in reversed(self._told))
            return next((one for one in events if not isinstance(one, Registered)), None)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens unless somebody resumes the run."""
        return isinstance(self.last, ENDS)


def read_events(folder: Path) -> list[Told]:
    """Return the events of a run's folder; none where it has none.

    Raises:
        InputError: They cannot be read.
    """
    return _read(folder / FILE)[0]


def _read(path: Path) -> tuple[list[Told], int]:
    """The events, and how many bytes they have; what follows was cut off."""
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None
    found: list[Told] = []
    whole = 0
    for line in data.split(b"\n")[:-1]:
        try:
            told = parse_event(line)
        except NotVerifiedError:
            break
        if told.number != len(found):
            break
        found.append(told)
        whole += len(line) + 1
    return found, whole
