"""A node's own books: its ledger, what it remembers of the coordinator's, and what was spent."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from clients.ledger_files import EARLIER, LEDGER
from clients.ledger_watch import LedgerWatch, StaleError
from clients.node_settings import NodeSettings
from clients.policy import budget_terms, names_order
from clients.run_past import run_past
from clients.session import Session
from privacy.budget import Budget
from privacy.budget_record import BudgetTerms
from privacy.errors import (
    InputError,
    NotVerifiedError,
    OwnFileError,
    ProtocolError,
    RefusedError,
    said_to_others,
)
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.entry import key_of
from privacy.ledger.store import LedgerStore, Turn, append
from privacy.manifest import Manifest
from privacy.messages import Cosigned, SignedState, StateNotice

REASON_CHARACTERS_MAX = 400


class NodeBooks:
    """See the module."""

    def __init__(
        self,
        settings: NodeSettings,
        ledger: LedgerStore,
        *,
        lock: threading.RLock,
        sessions: Callable[[], Iterable[Session]],
        log: logging.Logger,
    ) -> None:
        """Begin nothing yet.

        Args:
            settings: The node's.
            ledger: The node's own.
            lock: Of what all runs share.
            sessions: The runs that are under way.
            log: Where what is not cosigned is told.
        """
        self._settings = settings
        self._member = settings.member
        self._ledger = ledger
        self._lock = lock
        self._sessions = sessions
        self._log = log
        self._watch: LedgerWatch | None = None
        self._budgets: dict[str, tuple[BudgetTerms, Budget]] = {}

    def require_new(self, manifest: Manifest, run: bytes) -> None:
        """Return if this node never joined that run.

        Raises:
            ProtocolError: It did.
            RefusedError: Its folder cannot be used.
        """
        try:
            with self._ledger.turn(durable=False) as turn:
                self._require_not_joined(turn, self._joining_act(manifest, run))
        except InputError:
            raise RefusedError(
                "This node cannot use its own folder, and so joins no run."
            ) from None

    def _joining_act(self, manifest: Manifest, run: bytes) -> dict[str, str]:
        return {
            "run": manifest.run,
            "manifest": run.hex(),
            "origin": manifest.ledger["origin"],
        }

    def _require_not_joined(self, turn: Turn, body: Mapping[str, object]) -> None:
        key = key_of("run.joined", body)
        if key is not None and turn.find(key) is not None:
            raise ProtocolError("This node has joined that run already; launch a new one.")

    def require_free_name(self, manifest: Manifest) -> None:
        """Return if no other run of that name was joined: its model would be written over.

        Raises:
            RefusedError: One was.
        """
        self._require_free_name(manifest.run, manifest.digest(), self._ledger.leaves())

    def _require_free_name(self, run: str, digest: bytes, leaves: Iterable[bytes]) -> None:
        if run_past(leaves, run).joined - {digest.hex()}:
            raise RefusedError(
                f"This node joined another run {run} before; launch this one under another name."
            )

    def open(self) -> None:
        """Begin this node's own ledger, and its memory of the coordinator's, where they are new.

        Raises:
            RefusedError: Its folder cannot be used.
        """
        settings = self._settings
        with self._lock:
            if self._watch is not None:
                return
            if (settings.home / EARLIER).exists() and not (settings.home / LEDGER).exists():
                raise RefusedError(
                    f"This node has a budget of an earlier version in {EARLIER}, which would not "
                    "count any more; where it need not, move it away."
                )
            try:
                settings.home.mkdir(parents=True, exist_ok=True)
                begin_ledger(
                    self._ledger,
                    settings.identity,
                    owner=self._member,
                    role="node",
                    time_ms=now_ms(),
                )
            except (OSError, InputError):
                raise RefusedError("This node cannot write its own folder.") from None
            self._watch = LedgerWatch(
                self._ledger, member=self._member, identity=settings.identity, now_ms=now_ms
            )

    def watch(self) -> LedgerWatch:
        """What this node remembers of the coordinator's ledger.

        Raises:
            ProtocolError: It has joined no run yet.
            RefusedError: Its folder cannot be used.
        """
        settings = self._settings
        if self._watch is None and settings.sessions and (settings.home / LEDGER).exists():
            self.open()  # a restart forgets nothing then
        if self._watch is None:
            raise ProtocolError("This node has joined no run yet.")
        return self._watch

    def note_refusal(self, manifest: Manifest, refusal: RefusedError) -> None:
        """Keep the first reason why a run was refused; a disk that is full hides no refusal."""
        # whoever audits the ledger is told no more of this machine than the coordinator is
        words = said_to_others(refusal).split()
        reason = " ".join(words)[:REASON_CHARACTERS_MAX]
        body = {"manifest": manifest.digest().hex(), "reason": reason}
        with suppress(InputError, RefusedError):
            append(self._ledger, "run.refused", body, time_ms=now_ms())

    def note_rows(self, manifest: Manifest, digest: bytes) -> None:
        """Bind the run to the rows that it is about, by a hash that tells nothing of them."""
        body = {
            "run": manifest.run,
            "contract": manifest.contract,
            "rows": digest.hex(),
        }
        append(self._ledger, "rows.read", body, time_ms=now_ms())

    def budget(self, manifest: Manifest) -> Budget:
        """What was spent of this data, for whom the run protects, under the terms as they are.

        Raises:
            RefusedError: The run protects whole organisations where this node's policy caps what
                is told of the contract's unit: how much of that it costs is not known.
        """
        settings, policy = self._settings, self._settings.terms()
        own = settings.contract.unit
        unit = own if manifest.privacy is None else manifest.privacy.unit

        def terms(name: str) -> BudgetTerms:
            return budget_terms(
                policy, member=self._member, dataset=settings.contract.name, unit=name
            )

        capped = terms(own).epsilon is not None or terms(own).solo_epsilon is not None
        if unit != own and capped:
            raise RefusedError(
                f"This node caps what is told of a {own}, and the run protects an {unit}; "
                "set privacy.unit: contract."
            )
        with self._lock:
            held = self._budgets.get(unit)
            if held is None or held[0] != terms(unit):
                made = Budget(
                    self._ledger,
                    terms(unit),
                    now_ms=now_ms,
                    order_is_meant=names_order(policy, dataset=settings.contract.name, unit=unit),
                )
                self._budgets[unit] = held = terms(unit), made
                # runs under way go on under the new terms
                for session in self._sessions():
                    plan = session.manifest.privacy
                    if (own if plan is None else plan.unit) == unit:
                        session.budget = made
                        made.promise(session.manifest.run, session.left_to_spend())
            return held[1]

    def units_budget(self, manifest: Manifest) -> Budget | None:
        """The budget of the contract's unit, where the run protects whole organisations."""
        plan = manifest.privacy
        if plan is None or plan.unit == self._settings.contract.unit:
            return None
        return self.budget(replace(manifest, privacy=None))

    def remember(self, manifest: Manifest, run: bytes) -> None:
        """Have it in the ledger that this node joins a run.

        Raises:
            ProtocolError: It did before.
            RefusedError: It joined another run of that name, or cannot write its folder.
        """
        body = self._joining_act(manifest, run)
        try:
            with self._ledger.turn() as turn:
                self._require_not_joined(turn, body)
                self._require_free_name(manifest.run, run, turn.leaves(0))
                turn.append("run.joined", body, time_ms=now_ms())
        except InputError:
            raise RefusedError(
                "This node cannot write its own folder, and so joins no run."
            ) from None

    def witness(self, request: StateNotice) -> Cosigned:
        """Cosign the ledger outside of runs: it is only ever the one that this node follows."""
        if request.rotations and not self._follows(request.origin):
            # whoever follows nothing need not be shown how that changed
            return Cosigned(member=self._member, witnessed=0, cosignature=None)
        watch = self.watch()
        try:
            cosignature: bytes | None = watch.cosign(
                request.state, time_s=int(time.time()), rotations=request.rotations
            )
        except StaleError:
            cosignature = None
        except NotVerifiedError as fault:
            self._log.warning("the coordinator's ledger was not cosigned: %s", fault)
            raise
        return Cosigned(
            member=self._member, witnessed=watch.seen(request.origin), cosignature=cosignature
        )

    def _follows(self, origin: str) -> bool:
        if self._watch is None and (self._settings.home / LEDGER).exists():
            self.open()
        return self._watch is not None and self._watch.follows(origin)

    def cosign(self, state: SignedState) -> bytes:
        """Cosign the ledger of a run.

        Raises:
            StaleError: The proof begins at another size than this node remembers.
            ProtocolError: It does not follow on what this node remembers.
        """
        try:
            return self.watch().cosign(state, time_s=int(time.time()), again=True)
        except (StaleError, OwnFileError):
            raise
        except NotVerifiedError as fault:
            self._log.warning("the coordinator's ledger was not cosigned: %s", fault)
            raise ProtocolError(
                f"The coordinator's ledger does not follow on what this node cosigned: {fault}."
            ) from None


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
