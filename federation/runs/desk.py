"""The coordinator's desk: the runs that are under way, each a thread, and those that were.

A run ends for good when it finished, when a member's no or a failed check stopped it, or when
somebody stopped it; then the ledger says so. What may pass, such as too few members in the middle
of a run or a full disk, interrupts it, and so does the end of the service: it can be resumed, and
is when the service starts again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from aggregator.coordinator import RunResult
from aggregator.plan import parse_plan
from federation.home import Home, write_json
from federation.record import RunFolder
from federation.registry.source import AbsentError
from federation.runs.engine import Engine
from federation.runs.event import (
    Event,
    Finished,
    Interrupted,
    Registered,
    Step,
    Stopped,
)
from federation.runs.event_log import EventLog
from federation.runs.facts import (
    FINISHED,
    INTERRUPTED,
    RUNNING,
    STOPPED,
    RunFacts,
    facts_of,
    ordered_runs,
)
from federation.runs.observer import RunObserver, printable
from federation.runs.order import Order, keep_order, read_order
from federation.runs.untold import keep_untold, read_untold
from privacy.errors import CohortError, InputError, OwnFileError, RefusedError, TacitError

RUNS_MAX: Final = 16
"""At once."""
RUNS_OF_ONE_MAX: Final = 6
"""At once, of one launcher: nobody takes all places."""
LATER_S: Final = 15.0
"""How often those are looked for who have not heard of a run's end."""
STOPPING_S: Final = 10.0
_REASON_CHARACTERS_MAX: Final = 500
_LOG = logging.getLogger(__name__)


class Book(Protocol):
    """What the desk needs of a ledger; `LedgerRecorder` is one."""

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        """Append one act, durably; the same one again changes nothing."""

    def recorded(self, kind: str, about: Mapping[str, object]) -> Mapping[str, object] | None:
        """Return the body of an act that is on record."""

    def stop(self, run: str, reason: str) -> None:
        """Record that a run ended early, unless its end is on record."""


@dataclass(slots=True)
class _Desked:
    """A run that this process looked at.

    Attributes:
        order: What was asked for.
        folder: Its own.
        now_ms: Milliseconds since 1970 UTC.
        log: Its events, once somebody asked for them.
        stop: Ends what is under way.
        stopped_by: Who asked for its end; empty where nobody did.
        thread: Carries it out; None where nothing is under way.
        witnessing: Held while its members cosign the ledger.
    """

    order: Order
    folder: Path
    now_ms: Callable[[], int]
    log: EventLog | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    stopped_by: str = ""
    thread: threading.Thread | None = None
    witnessing: threading.Lock = field(default_factory=threading.Lock)

    @property
    def events(self) -> EventLog:
        """Its events; they are read when they are asked for."""
        if self.log is None:
            self.log = EventLog(self.folder, now_ms=self.now_ms)
        return self.log

    @property
    def is_under_way(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class RunDesk:
    """See the module. Safe for any number of threads."""

    def __init__(
        self, home: Home, book: Book, engine: Engine, *, now_ms: Callable[[], int]
    ) -> None:
        """Sit down; nothing is begun yet.

        Args:
            home: The coordinator's, which the caller holds.
            book: Its ledger.
            engine: Carries runs out.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._home = home
        self._book = book
        self._engine = engine
        self._now_ms = now_ms
        self._mutex = threading.RLock()
        self._runs: dict[str, _Desked] = {}
        self._untold: set[str] = set()
        self._closing = False

    # -- what may be asked -------------------------------------------------------------------

    def launch(self, order: Order) -> RunFacts:
        """Take a run on. The same order again begins nothing.

        Raises:
            RefusedError: Another run has the name, too many are under way, or the service ends.
        """
        with self._mutex:
            self._require_open()
            folder = self._home.runs / order.run
            if folder.exists():
                known = self._find(order.run)
                if known is not None and known.order.is_same(order):
                    return self._facts(known)
                raise _taken(order.run)
            if self._book.recorded("run.started", {"run": order.run}) is not None:
                raise _taken(order.run)
            self._require_room(order.launcher)
            keep_order(order, folder)
            desked = self._open(order, folder)
            _LOG.info("launched %s by %s", order.run, order.launcher)
            self._begin(desked)
            return self._facts(desked)

    def resume_all(self) -> tuple[str, ...]:
        """Go on with all that was cut off when the service ended; return which."""
        found: list[str] = []
        for run in ordered_runs(self._home):
            try:
                with self._mutex:
                    desked = self._find(run)
                    if desked is None or not self._is_open(desked):
                        continue
                    desked.events.tell(Step(name="going on after the coordinator's restart"))
                    self._begin(desked)
            except TacitError as failure:
                _LOG.error("%s cannot be resumed: %s", run, failure)
            else:
                found.append(run)
        return tuple(found)

    def resume(self, run: str, *, by: str) -> RunFacts:
        """Go on with a run that was interrupted.

        Raises:
            AbsentError: There is no such run.
            RefusedError: It is under way, or ended for good.
        """
        with self._mutex:
            desked = self._need(run)
            thread, events = desked.thread, desked.events
        if thread is not None and events.is_over:
            # who asks has heard of its end, and its thread is about to come to its own
            thread.join(STOPPING_S)
        with self._mutex:
            self._require_open()
            desked = self._need(run)
            state = self._facts(desked).state
            if desked.is_under_way:
                raise RefusedError(f"{run} is under way; watch it with tacit run watch {run}.")
            if not self._is_open(desked):
                raise RefusedError(f"{run} is {state} for good; launch a new run.")
            self._require_room(desked.order.launcher)
            desked.stop, desked.stopped_by = threading.Event(), ""
            desked.events.tell(Step(name=f"going on, as {printable(by)} asked"))
            _LOG.info("resumed %s by %s", run, by)
            self._begin(desked)
            return self._facts(desked)

    def stop(self, run: str, *, by: str) -> RunFacts:
        """End a run for good.

        Raises:
            AbsentError: There is no such run.
            RefusedError: It ended before.
        """
        with self._mutex:
            desked = self._need(run)
            thread = desked.thread if desked.is_under_way else None
            if thread is None and not self._is_open(desked):
                raise RefusedError(f"{run} is {self._facts(desked).state} already.")
            _LOG.info("%s asks for the end of %s", by, run)
            desked.stopped_by = by
            desked.stop.set()
            if thread is None:
                self._end_for_good(desked, _stopped_by(by))
        if thread is not None:
            thread.join(STOPPING_S)
            with self._mutex:
                # it may have been about to wait for somebody when it was asked to end
                if self._is_open(desked):
                    self._end_for_good(desked, _stopped_by(by))
        return self.facts(run)

    def report(self, run: str, *, file: bytes, card: bytes) -> RunFacts:
        """Put a finished run's model file and card on record, and let members cosign that.

        Raises:
            AbsentError: There is no such run.
            RefusedError: It is not finished, or other files are on record.
        """
        with self._mutex:
            self._require_open()
            desked = self._need(run)
            finished = self._book.recorded("run.finished", {"run": run})
            if finished is None:
                raise RefusedError(f"{run} is not finished, so it has no model yet.")
            body = {"run": run, "model": finished["model"], "file": file.hex(), "card": card.hex()}
            before = self._book.recorded("model.registered", body)
            if before is not None and dict(before) != body:
                raise RefusedError(f"Another model file or card of {run} is on record already.")
            self._book.record("model.registered", body)
            if before is None:
                desked.events.tell(Registered(file=file.hex(), card=card.hex()))
                self._witness_beside(desked)
            return self._facts(desked)

    def order(self, run: str) -> Order:
        """What was asked for.

        Raises:
            AbsentError: There is no such run.
        """
        with self._mutex:
            return self._need(run).order

    def facts(self, run: str) -> RunFacts:
        """Where a run stands.

        Raises:
            AbsentError: There is no such run.
        """
        with self._mutex:
            return self._facts(self._need(run))

    def runs(self) -> tuple[RunFacts, ...]:
        """Where all stand, oldest first; those that cannot be read are left out."""
        found: list[RunFacts] = []
        for run in ordered_runs(self._home):
            with suppress(TacitError):
                found.append(self.facts(run))
        return tuple(sorted(found, key=lambda one: (one.launched_ms, one.run)))

    def events(self, run: str) -> EventLog:
        """What happened in a run.

        Raises:
            AbsentError: There is no such run.
        """
        with self._mutex:
            return self._need(run).events

    @property
    def under_way(self) -> int:
        """How many runs are under way."""
        with self._mutex:
            return sum(one.is_under_way for one in self._runs.values())

    def close(self) -> None:
        """Let go of all runs; each stays as it is, to be resumed, and none is stopped for good."""
        with self._mutex:
            self._closing = True
            threads = [one.thread for one in self._runs.values() if one.thread is not None]
            for one in self._runs.values():
                one.stop.set()
        over_s = time.monotonic() + STOPPING_S
        for thread in threads:
            thread.join(max(0.0, over_s - time.monotonic()))

    # -- one run -----------------------------------------------------------------------------

    def _begin(self, desked: _Desked) -> None:
        self._state(desked, RUNNING)
        desked.thread = threading.Thread(
            target=self._carry_out, args=(desked,), name=f"run {desked.order.run}", daemon=True
        )
        desked.thread.start()

    def _carry_out(self, desked: _Desked) -> None:
        started_s = time.perf_counter()
        try:
            result = self._engine.carry_out(
                desked.order, desked.folder, stop=desked.stop, observer=self._observer(desked)
            )
            self._finish(desked, result, time.perf_counter() - started_s)
        except TacitError as failure:
            self._end(desked, failure)
        except Exception:  # noqa: BLE001 - whatever it is, the run can be gone on with
            _LOG.exception("%s failed inside", desked.order.run)
            if desked.stopped_by:
                self._end_for_good(desked, _stopped_by(desked.stopped_by))
                return
            self._interrupt(desked, "failed inside; the operator sees why in the server's log")

    def _finish(self, desked: _Desked, result: RunResult, seconds: float) -> None:
        manifest = desked.order.manifest
        write_json(
            desked.folder / "result.json",
            {
                "run": manifest.run,
                "name": manifest.name,
                "task": manifest.task,
                "launcher": desked.order.launcher,
                "members": sorted(result.absences),
                "rounds": parse_plan(dict(manifest.coordinator_settings)).rounds,
                "protection": manifest.protection,
                "suite": manifest.suite,
                # the members know what the model reaches, and the coordinator does not
                "headline": "",
                "metrics": {},
                "model": result.model.hex(),
                "model_values": result.values,
                "bytes_sent_per_member": result.bytes_total,
                "rounds_undone": result.undone,
                "absences": {name: count for name, count in result.absences.items() if count},
                "seconds": round(seconds, 2),
            },
        )
        self._state(desked, FINISHED)
        desked.events.tell(
            Finished(
                model=result.model.hex(),
                architecture=result.architecture.hex(),
                values=result.values,
                bytes_up=result.bytes_up,
                bytes_down=result.bytes_down,
                bytes_total=result.bytes_total,
                undone=result.undone,
                absences=dict(result.absences),
                seconds=seconds,
            )
        )
        _LOG.info("finished %s", manifest.run)
        # who did not take part may hold a key all the same: it agreed, and others were enough
        beside = set(manifest.members) - set(result.absences)
        self._keep_untold(desked, {*result.untold, *result.behind, *beside})
        self._witness_beside(desked)

    def _end(self, desked: _Desked, failure: TacitError) -> None:
        """What a failure makes of a run."""
        run = desked.order.run
        if desked.stopped_by:
            self._end_for_good(desked, _stopped_by(desked.stopped_by))
        elif self._closing:
            _LOG.info("left %s, to be resumed", run)
        elif isinstance(failure, InputError | OwnFileError):
            # a sentence about this machine is for its operator
            _LOG.error("%s is interrupted: %s", run, failure)
            self._interrupt(desked, "the coordinator's machine has a fault; ask its operator")
        elif isinstance(failure, CohortError) and self._has(run, "keys.agreed"):
            self._interrupt(desked, str(failure))
        else:
            self._end_for_good(desked, str(failure))

    def _interrupt(self, desked: _Desked, reason: str) -> None:
        said = printable(reason)[:_REASON_CHARACTERS_MAX]
        _LOG.warning("interrupted %s: %s", desked.order.run, said)
        with suppress(TacitError):
            self._state(desked, INTERRUPTED, reason=said)
        self._tell(desked, Interrupted(reason=said))

    def _end_for_good(self, desked: _Desked, reason: str) -> None:
        run, said = desked.order.run, printable(reason)[:_REASON_CHARACTERS_MAX] or "-"
        _LOG.warning("stopped %s: %s", run, said)
        try:
            if self._has(run, "run.started"):
                self._book.stop(run, said)
        except TacitError as failure:
            _LOG.error("the end of %s is not on record: %s", run, failure)
        with suppress(TacitError):
            self._state(desked, STOPPED, reason=said)
        self._tell(desked, Stopped(reason=said))
        name = f"dismiss {run}"
        threading.Thread(target=self._dismiss, args=(desked,), name=name, daemon=True).start()

    def _dismiss(self, desked: _Desked) -> None:
        """Let the members forget the run's keys; who is away is told when it is back."""
        self._keep_untold(desked, desked.order.manifest.members)
        self._tell_end(desked)

    def tell_ends(self, stop: threading.Event) -> None:
        """Tell members of the ends of their runs that they missed, until `stop`."""
        with self._mutex:
            self._untold |= {
                run for run in ordered_runs(self._home) if read_untold(self._home.runs / run)
            }
        while not stop.wait(LATER_S):
            for run in sorted(self._untold):
                try:
                    with self._mutex:
                        desked = self._find(run)
                    if desked is not None and not desked.is_under_way:
                        self._tell_end(desked)
                except TacitError as failure:
                    _LOG.warning("not all can be told the end of %s: %s", run, failure)

    def _tell_end(self, desked: _Desked) -> None:
        """Tell who is there and has not heard of it; nothing depends on it."""
        order, folder = desked.order, desked.folder
        with desked.witnessing:
            missing = read_untold(folder)
            if self._closing or not missing:
                return
            try:
                if missing.isdisjoint(self._engine.online(order.manifest)):
                    return
                if self._has(order.run, "run.finished"):
                    # they are shown the sums that they missed, and can write their model then
                    again = self._engine.carry_out(
                        order, folder, stop=threading.Event(), observer=_Quiet(folder)
                    )
                    beside = missing - set(again.absences) | missing & set(again.behind)
                    told = self._engine.dismiss(order.manifest, beside) if beside else ()
                    left = missing & {*again.untold, *told}
                else:
                    left = missing & set(self._engine.dismiss(order.manifest, missing))
                self._keep_untold(desked, left)
            except TacitError as failure:
                _LOG.warning("not all were told the end of %s: %s", order.run, failure)
            except Exception:  # noqa: BLE001 - whatever it is, the run is over
                _LOG.exception("telling the end of %s failed inside", order.run)

    def _keep_untold(self, desked: _Desked, members: Iterable[str]) -> None:
        names = frozenset(members)
        try:
            keep_untold(desked.folder, names)
        except TacitError as failure:
            _LOG.warning("%s", failure)
        with self._mutex:
            (self._untold.add if names else self._untold.discard)(desked.order.run)

    def _require_room(self, launcher: str) -> None:
        under_way = [one for one in self._runs.values() if one.is_under_way]
        own = sum(one.order.launcher == launcher for one in under_way)
        if len(under_way) >= RUNS_MAX or own >= RUNS_OF_ONE_MAX:
            many = (
                f"{own} runs of {launcher}" if own >= RUNS_OF_ONE_MAX else f"{len(under_way)} runs"
            )
            raise RefusedError(
                f"{many} are under way, as many as there may be at once; wait for one to end."
            )

    def _witness_beside(self, desked: _Desked) -> None:
        name = f"witness {desked.order.run}"
        threading.Thread(target=self._witness, args=(desked,), name=name, daemon=True).start()

    def _witness(self, desked: _Desked) -> None:
        """Let the members cosign what was recorded last; nothing depends on it."""
        with desked.witnessing:
            if self._closing:
                return
            try:
                many = self._engine.witness(
                    desked.order.manifest, stop=desked.stop, observer=_Quiet(desked.folder)
                )
            except TacitError as failure:
                _LOG.warning("nobody cosigned after %s: %s", desked.order.run, failure)
            except Exception:  # noqa: BLE001 - whatever it is, the run is over
                _LOG.exception("cosigning after %s failed inside", desked.order.run)
            else:
                _LOG.info("%d members cosigned the ledger after %s", many, desked.order.run)

    def _observer(self, desked: _Desked) -> RunObserver:
        return RunObserver(
            folder=RunFolder(path=desked.folder),
            events=desked.events,
            rounds=parse_plan(dict(desked.order.manifest.coordinator_settings)).rounds,
        )

    # -- what is kept ------------------------------------------------------------------------

    def _open(self, order: Order, folder: Path) -> _Desked:
        desked = _Desked(order, folder, self._now_ms)
        self._runs[order.run] = desked
        return desked

    def _find(self, run: str) -> _Desked | None:
        if run in self._runs:
            return self._runs[run]
        if run not in ordered_runs(self._home):
            return None
        folder = self._home.runs / run
        return self._open(read_order(folder), folder)

    def _need(self, run: str) -> _Desked:
        desked = self._find(run)
        if desked is None:
            raise AbsentError("there is no such run here; see tacit run list")
        return desked

    def _is_open(self, desked: _Desked) -> bool:
        """Whether a run can go on; a folder that does not know of the run's end is told."""
        if desked.is_under_way:
            return False
        run = desked.order.run
        state = self._facts(desked).state
        if state == FINISHED:
            # a crash just then, and who follows it waits for an end that nobody told
            return not isinstance(desked.events.last, Finished)
        if state == STOPPED:
            return False
        stopped = self._book.recorded("run.stopped", {"run": run})
        if stopped is not None:
            reason = str(stopped["reason"])
            self._state(desked, STOPPED, reason=reason)
            self._tell(desked, Stopped(reason=reason))
        return stopped is None

    def _facts(self, desked: _Desked) -> RunFacts:
        return facts_of(desked.order, desked.folder, is_carried_out=desked.is_under_way)

    def _state(self, desked: _Desked, state: str, **facts: str) -> None:
        manifest = desked.order.manifest
        RunFolder(path=desked.folder).state(
            state,
            name=manifest.name,
            task=manifest.task,
            launcher=desked.order.launcher,
            **facts,
        )

    def _tell(self, desked: _Desked, event: Event) -> None:
        try:
            desked.events.tell(event)
        except TacitError as failure:
            _LOG.error("%s", failure)

    def _has(self, run: str, kind: str) -> bool:
        return self._book.recorded(kind, {"run": run}) is not None

    def _require_open(self) -> None:
        if self._closing:
            raise RefusedError("The coordinator is ending; try again when it is back.")


@dataclass(frozen=True, slots=True)
class _Quiet:
    """An observer that writes to a run's log alone."""

    folder: Path

    def step(self, name: str) -> None:
        del name

    def answered(self, member: str, answer: str, reason: str) -> None:
        del member, answer, reason

    def round(self, index: int, *, watched: bool, facts: Mapping[str, float]) -> None:
        del index, watched, facts

    def note(self, sentence: str) -> None:
        RunFolder(path=self.folder).log(printable(sentence))


def _stopped_by(name: str) -> str:
    return f"stopped by {printable(name)}"


def _taken(run: str) -> RefusedError:
    return RefusedError(f"There is a run {run} here already; choose another name.")
