"""Whom a running node knows: asked of the coordinator anew before it matters, else as remembered.

A membership that does not hold is believed by nobody: the questions raise from then on, until what
the coordinator shows holds again. That it cannot be asked is no such case: what was read last
holds, for as long as the node's terms say. After that nothing new is agreed to.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from clients.policy import Recognises
from privacy.errors import NotVerifiedError, RefusedError, TacitError
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
        read_ms: Callable[[], int | None] = lambda: None,
        good_h: Callable[[], float] = lambda: float("inf"),
        now_s: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Ask nobody yet.

        Args:
            read: Asks the coordinator.
            cached: What was read last.
            read_ms: When that was, milliseconds since 1970 UTC; None: not known.
            good_h: For how many hours it will do for something new.
            now_s: Seconds, of a clock that only goes forward.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._read_ms = read_ms
        self._good_h = good_h
        self._now_ms = now_ms
        self._read = read
        self._cached = cached
        self._now_s = now_s
        self._mutex = threading.Lock()
        self._found: Membership | None = None
        self._asked_s: float | None = None
        self._seen_s: float | None = None
        self._fault = ""
        self._wrong = ""

    def membership(self, *, acts: int = 0) -> Membership:
        """Who takes part, at most `FRESH_S` old while the coordinator answers.

        Args:
            acts: It is asked anew where fewer acts are known.

        Raises:
            NotVerifiedError: What the coordinator shows, or what is remembered, does not hold, or
                what it showed last did not.
            TacitError: It cannot be asked, and nothing is remembered.
        """
        with self._mutex:
            now_s = self._now_s()
            recent = self._asked_s is not None and now_s - self._asked_s < FRESH_S
            if self._found is not None and acts > len(self._found.digests):
                recent = False
            if self._found is not None and recent:
                return self._found
            self._asked_s = now_s
            try:
                self._found = self._read()
            except NotVerifiedError as fault:
                self._found, self._wrong = None, str(fault)
                self._fault = self._wrong
                raise
            except TacitError as fault:
                if str(fault) != self._fault:
                    _LOG.warning("going on with the members known last: %s", fault)
                self._fault = str(fault)
                if self._wrong:
                    raise NotVerifiedError(self._wrong) from None
                self._found = self._found or self._cached()
                if self._found is None:
                    raise
            else:
                self._fault = self._wrong = ""
                self._seen_s = self._now_s()
            return self._found

    def current(self) -> Membership:
        """Who takes part, for something new.

        Raises:
            RefusedError: That was read too long ago.
            TacitError: As for `membership`.
        """
        found, hours = self.membership(), self._good_h()
        if not self._age_s() <= hours * 3600:
            raise RefusedError(
                f"This node could not read who is in the federation for more than {hours:g} hours, "
                "and begins nothing new until it can; see tacit node status there."
            )
        return found

    def known(self) -> Mapping[str, bytes]:
        """Member -> public key."""
        return self.current().members()

    def launchers(self) -> Mapping[str, bytes]:
        """Who may start runs -> public key."""
        return self.current().launchers()

    def role_of(self, launcher: str) -> str | None:
        """The role of who may start runs; None for anybody else."""
        found = self.current()
        return found.participants[launcher].role if launcher in found.launchers() else None

    def seen(self, acts: int) -> str:
        """The digest of the first `acts` acts of membership; empty: there are not so many here."""
        return self.membership(acts=acts).digest_at(acts)

    def suite(self) -> str:
        """The federation's suite of algorithms."""
        return self.membership().suite

    def recognised(self, terms: Recognises) -> frozenset[str] | None:
        """Members whom these terms recognise, as they were seen last; None: everybody."""
        if terms.everybody:
            return None
        with self._mutex:
            found = self._found
        if found is None:
            found = self.membership()
        people, members = found.active(), found.members()
        return terms.of({name: people[name].approved_by for name in members})

    def left(self, keys: Collection[bytes]) -> frozenset[bytes]:
        """Which of these keys are of nobody who takes part, as it was seen last.

        For runs under way: nobody is asked, unless nothing was read yet, and its age does not
        matter.

        Raises:
            NotVerifiedError: What the coordinator showed last, or what is remembered, does not
                hold.
            TacitError: It cannot be asked, and nothing is remembered.
        """
        found = self._found  # a reading that is under way may take long, and is not waited for
        if found is None or self._wrong:
            with self._mutex:
                if self._wrong:
                    raise NotVerifiedError(self._wrong)
                found = self._found = self._found or self._cached()
        return (found or self.membership()).left(keys)

    @property
    def fault(self) -> str:
        """Why the coordinator could not be asked last time; empty where it could."""
        return self._fault

    def _age_s(self) -> float:
        """Seconds since the membership was read well; endless where that is not known."""
        ages = [] if self._seen_s is None else [self._now_s() - self._seen_s]
        at_ms = self._read_ms()
        # a machine that slept, or was started anew, has only the other clock
        if at_ms is not None:
            ages.append((self._now_ms() - at_ms) / 1000)
        return max(ages, default=float("inf"))

    def seen_s(self) -> float | None:
        """Seconds since the coordinator answered; None before it ever did."""
        return None if self._seen_s is None else max(0.0, self._now_s() - self._seen_s)
