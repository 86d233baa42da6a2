"""Whom a running node knows: asked of the coordinator anew before it matters, else as remembered.

A membership that does not hold is believed by nobody: the questions raise then, so nothing is
agreed to. That the coordinator cannot be asked is no such case: what was read last holds.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from privacy.errors import NotVerifiedError, TacitError
from privacy.membership import Membership

FRESH_S: Final = 5.0
_LOG: Final = logging.getLogger("tacit.node.membership")


class NodeRoster:
    """See the module; may be asked by several threads."""

    def __init__(
        self,
        read: Callable[[], Membership],
        cached: Callable[[], Membership | None],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nobody yet.

        Args:
            read: Asks the coordinator.
            cached: What was read last.
            now_s: Seconds, of a clock that only goes forward.
        """
        self._read = read
        self._cached = cached
        self._now_s = now_s
        self._mutex = threading.Lock()
        self._found: Membership | None = None
        self._asked_s: float | None = None
        self._seen_s: float | None = None
        self._fault = ""

    def membership(self) -> Membership:
        """Who takes part, at most `FRESH_S` old while the coordinator answers.

        Raises:
            NotVerifiedError: What the coordinator shows, or what is remembered, does not hold.
            TacitError: It cannot be asked, and nothing is remembered.
        """
        with self._mutex:
            now_s = self._now_s()
            recent = self._asked_s is not None and now_s - self._asked_s < FRESH_S
            if self._found is not None and recent:
                return self._found
            self._asked_s = now_s
            try:
                self._found = self._read()
            except NotVerifiedError:
                self._found = None
                raise
            except TacitError as fault:
                if str(fault) != self._fault:
                    _LOG.warning("going on with the members known last: %s", fault)
                self._fault = str(fault)
                self._found = self._found or self._cached()
                if self._found is None:
                    raise
            else:
                self._fault = ""
                self._seen_s = self._now_s()
            return self._found

    def known(self) -> Mapping[str, bytes]:
        """Member -> public key."""
        return self.membership().members()

    def launchers(self) -> Mapping[str, bytes]:
        """Who may start runs -> public key."""
        return self.membership().launchers()

    def role_of(self, launcher: str) -> str | None:
        """The role of who may start runs; None for anybody else."""
        found = self.membership()
        return found.participants[launcher].role if launcher in found.launchers() else None

    @property
    def fault(self) -> str:
        """Why the coordinator could not be asked last time; empty where it could."""
        return self._fault

    def seen_s(self) -> float | None:
        """Seconds since the coordinator answered; None before it ever did."""
        return None if self._seen_s is None else max(0.0, self._now_s() - self._seen_s)
