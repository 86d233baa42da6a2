"""Whether a node takes part in a run that fits its terms: now, later, or never.

`clients.policy.check_manifest` says whether a run fits. What is asked here changes with time: who
started it, whether a person said yes, whether the hour is right, whether there is room. A decision
of a person is bound to the manifest's digest, so it holds for these very words and no others.
"""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Literal, Protocol

from clients.policy import NodePolicy
from privacy.errors import RefusedError
from privacy.manifest import Manifest

GRANTED_S: Final = 120.0
"""How long a place is kept for a run that was agreed to and has not begun."""
REASONS_MAX: Final = 1_000
FULL: Final = "Too many runs wait at this node already; this one waits until there are fewer."
PERSON: Final = "A person at this node decides about this run."


class Consent(Enum):
    """A node's answer; a refusal is a RefusedError instead."""

    GIVEN = "given"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person decided about one manifest.

    Attributes:
        approved: Yes or no.
        reason: Why, for the launcher; may be empty.
    """

    approved: bool
    reason: str


class Decisions(Protocol):
    """Where people's decisions are kept, for whoever runs the node and whoever decides."""

    def decided(self, manifest: Manifest) -> Decided | None:
        """What was decided about exactly this manifest; None: nothing yet.

        Raises:
            TacitError: It cannot be known.
        """
        ...

    def wait(
        self, manifest: Manifest, launcher: str, *, on: Literal["person", "time"], why: str
    ) -> bool:
        """Keep a run that waits where a person sees it; may be called over and over.

        Returns:
            Whether it is kept; not where too many wait already.

        Raises:
            TacitError: It cannot be kept.
        """
        ...

    def settled(self, manifest: Manifest) -> None:
        """A run waits no more."""
        ...


@dataclass(kw_only=True)
class Consents:
    """Answers for one node; may be asked by several threads, and the same again.

    Attributes:
        policy: The terms as they are now.
        role_of: Who may start runs -> its role; None for anybody else.
        decisions: What people decided.
        running: Digests (hex) of runs that this node is in now.
        busy: Those of them that take a place: a run that was given up elsewhere, and might be gone
            on with, takes none after a while.
        room: Why there is too little of this machine for one more run; empty: there is enough.
        now: The time, with a time zone.
    """

    policy: Callable[[], NodePolicy]
    role_of: Callable[[str], str | None]
    decisions: Decisions
    running: Callable[[], Collection[str]]
    busy: Callable[[], Collection[str]]
    room: Callable[[NodePolicy], str]
    now: Callable[[], datetime]
    _granted: dict[str, datetime] = field(default_factory=dict)
    _reasons: dict[str, str] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, manifest: Manifest, launcher: str) -> Consent:
        """Whether this node takes part in a run, now.

        Args:
            manifest: Signed by the launcher, and fitting the terms.
            launcher: Its name in the federation.

        Raises:
            RefusedError: It will not, whatever time it is; one sentence.
        """
        run = manifest.digest().hex()
        policy = self.policy()
        try:
            decided = self._decided(policy, manifest, launcher)
        except RefusedError:
            self._settle(manifest)
            raise
        asked = policy.decide.of(task=manifest.task, initiator=launcher) == "by_hand"
        on: Literal["person", "time"] = "person" if asked and not decided else "time"
        why = ""
        if run not in self.running():
            why = PERSON if on == "person" else self._later(policy, run)
        if not why:
            self._settle(manifest)
            return Consent.GIVEN
        kept = self.decisions.wait(manifest, launcher, on=on, why=why)
        self._reasons[run] = why if kept else FULL
        while len(self._reasons) > REASONS_MAX:
            # those who ask again hear their own again
            self._reasons.pop(next(iter(self._reasons)), None)
        return Consent.WAITING

    def reason(self, manifest: Manifest) -> str:
        """Why a run waits, as one sentence for its launcher; empty where it does not."""
        return self._reasons.get(manifest.digest().hex(), "")

    def may_work(self) -> bool:
        """Whether runs under way go on now: not outside of hours, where the terms say so."""
        hours = self.policy().hours
        return not hours.pause_outside or hours.open_at(self.now())

    def _settle(self, manifest: Manifest) -> None:
        self._reasons.pop(manifest.digest().hex(), None)
        self.decisions.settled(manifest)

    def _decided(self, policy: NodePolicy, manifest: Manifest, launcher: str) -> bool:
        """Whether a person said yes; RefusedError where a person or the terms say no."""
        self._require_allowed(policy, launcher)
        decided = self.decisions.decided(manifest)
        if decided is not None and not decided.approved:
            why = f": {decided.reason}" if decided.reason else "."
            raise RefusedError(f"A person at this node refused this run{why}")
        return decided is not None

    def _require_allowed(self, policy: NodePolicy, launcher: str) -> None:
        role = self.role_of(launcher)
        if role is None:
            raise RefusedError(
                f"{launcher} may start no runs in this federation; a bank or an insurer of it may."
            )
        if role not in policy.initiators.roles:
            raise RefusedError(
                f"This node's policy lets no {role} start runs; agree on it with this node."
            )
        names = policy.initiators.names
        if names and launcher not in names:
            raise RefusedError(
                f"This node's policy does not name {launcher} among those who may start runs; "
                "agree on it with this node."
            )
        if not policy.hours.ever or policy.resources.runs == 0:
            raise RefusedError("This node's policy lets no run start at present; ask it when.")

    def _later(self, policy: NodePolicy, run: str) -> str:
        """Why a run begins later, if it does; else a place is kept for it."""
        now = self.now()
        if not policy.hours.open_at(now):
            opening = policy.hours.next_opening(now)
            when = "" if opening is None else f"; it may start from {opening:%a %Y-%m-%d %H:%M %Z}"
            return f"It is outside of this node's hours{when}."
        short = self.room(policy)
        if short:
            return short
        busy = frozenset(self.busy())  # asked before the mutex is held: who answers has its own
        with self._mutex:
            self._granted = {
                one: at
                for one, at in self._granted.items()
                if 0 <= (now - at).total_seconds() < GRANTED_S
            }
            if len({*busy, *self._granted} - {run}) >= policy.resources.runs:
                return (
                    f"This node takes part in {policy.resources.runs} runs at once at most; this "
                    "one waits for a place."
                )
            self._granted[run] = now
        return ""
