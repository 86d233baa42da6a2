"""What the coordinator answers about runs; `federation.registry.guard` asks who may before.

Beside the table of roles: who launched a run may end, resume and report it; whoever launched it or
is asked by it may watch it; an operator may all of that but launch; a regulator may watch.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import grpc

from federation.proto import runs_pb2 as wire
from federation.proto.runs_pb2_grpc import RunsServicer, add_RunsServicer_to_server
from federation.registry.access import Method, Scope, scope_of
from federation.registry.guard import auth_of
from federation.registry.peer import Peer, peer_of
from federation.registry.refusal import CallRefusedError, denied, invalid, missing
from federation.registry.source import AbsentError
from federation.runs.check import check_launch
from federation.runs.desk import RunDesk
from federation.runs.event_log import EventLog
from federation.runs.facts import RunFacts
from privacy.errors import NotVerifiedError, OwnFileError, RefusedError

if TYPE_CHECKING:
    from privacy.membership import Membership

RUNS_TOLD_MAX: Final = 1_000
WATCH_S: Final = 20.0
"""How long a stream is open at most: each holds a thread of the server."""
WATCHERS_MAX: Final = 12
_LOOK_S: Final = 1.0
_HASH_BYTES: Final = 32


class RunsService(RunsServicer):
    """The service; safe for any number of threads."""

    def __init__(
        self,
        desk: RunDesk,
        *,
        membership: "Callable[[], Membership]",
        ledger: Mapping[str, str],
        now_ms: Callable[[], int],
    ) -> None:
        """Answer over a desk.

        Args:
            desk: Holds the runs.
            membership: Says who is in the federation now.
            ledger: `origin` and `key` of the coordinator's ledger, as manifests name it.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._desk = desk
        self._membership = membership
        self._ledger = dict(ledger)
        self._now_ms = now_ms
        self._watchers = threading.BoundedSemaphore(WATCHERS_MAX)

    def add_to(self, server: grpc.Server) -> None:
        """Add this service to a server; for `listening(.., beside=)`."""
        add_RunsServicer_to_server(self, server)

    def Launch(  # noqa: N802 - the wire's name
        self, request: wire.LaunchRequest, context: grpc.ServicerContext
    ) -> wire.RunReply:
        """Check what is asked for, and begin it."""
        with _sentences():
            order = check_launch(
                request.manifest,
                request.signature,
                data=request.data,
                rules=request.rules,
                peer=self._caller(context, Method.LAUNCH).peer,
                membership=self._membership(),
                ledger=self._ledger,
                now_ms=self._now_ms(),
            )
            return _reply(self._desk.launch(order))

    def Runs(  # noqa: N802
        self, request: wire.RunsRequest, context: grpc.ServicerContext
    ) -> wire.RunsReply:
        """List the runs that the caller may see; the newest, where there are too many."""
        caller = self._caller(context, Method.RUNS)
        seen = [one for one in self._desk.runs() if request.like in one.run and caller.sees(one)]
        told = seen[-RUNS_TOLD_MAX:]
        return wire.RunsReply(runs=[_run(one) for one in told], more=len(told) < len(seen))

    def Watch(  # noqa: N802
        self, request: wire.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.WatchReply]:
        """Stream what happened from a number on, and what happens."""
        self._seen(request.run, self._caller(context, Method.WATCH))
        events = self._desk.events(request.run)
        # where too many watch, each is told what there is and asks again
        waits = self._watchers.acquire(blocking=False)
        try:
            yield from _told(events, request.start, context, WATCH_S if waits else 0.0)
        finally:
            if waits:
                self._watchers.release()

    def Stop(  # noqa: N802
        self, request: wire.StopRequest, context: grpc.ServicerContext
    ) -> wire.RunReply:
        """End a run for good."""
        caller = self._caller(context, Method.STOP)
        self._own(request.run, caller)
        with _sentences():
            return _reply(self._desk.stop(request.run, by=caller.peer.name))

    def Resume(  # noqa: N802
        self, request: wire.ResumeRequest, context: grpc.ServicerContext
    ) -> wire.RunReply:
        """Go on with a run that was interrupted."""
        caller = self._caller(context, Method.RESUME)
        self._own(request.run, caller)
        with _sentences():
            return _reply(self._desk.resume(request.run, by=caller.peer.name))

    def Report(  # noqa: N802
        self, request: wire.ReportRequest, context: grpc.ServicerContext
    ) -> wire.RunReply:
        """Put a finished run's model file and card on record."""
        self._own(request.run, self._caller(context, Method.REPORT))
        if len(request.file) != _HASH_BYTES or len(request.card) != _HASH_BYTES:
            raise invalid("a SHA-256 has 32 bytes")
        with _sentences():
            return _reply(self._desk.report(request.run, file=request.file, card=request.card))

    def _caller(self, context: grpc.ServicerContext, method: Method) -> "_Caller":
        return _Caller(context, method, self._membership)

    def _seen(self, run: str, caller: "_Caller") -> RunFacts:
        """The run, where the caller may see it; otherwise it is as if there were none."""
        with _sentences():
            facts = self._desk.facts(run)
            if not caller.sees(facts):
                raise AbsentError("there is no such run here; see tacit run list")
            return facts

    def _own(self, run: str, caller: "_Caller") -> None:
        facts = self._seen(run, caller)
        if caller.scope is Scope.ALL:
            return
        # a name that was given anew is another's, and so are the runs under it
        if facts.launcher != caller.peer.name or not caller.had_its_name(facts):
            raise denied(f"{facts.launcher} launched {run}, and may do that; you may not")


class _Caller:
    """Who calls, and about which runs it may."""

    def __init__(
        self,
        context: grpc.ServicerContext,
        method: Method,
        membership: "Callable[[], Membership]",
    ) -> None:
        self.peer: Peer = peer_of(auth_of(context))
        self.scope: Scope = scope_of(self.peer.role, method)
        own = membership().active().get(self.peer.name) if self.scope is Scope.OWN else None
        self._since_ms = None if own is None else own.since_ms

    def sees(self, run: RunFacts) -> bool:
        """Whether the caller may know of a run."""
        if self.scope is Scope.OWN:
            named = self.peer.name == run.launcher or self.peer.name in run.members
            return named and self.had_its_name(run)
        return self.scope is Scope.ALL

    def had_its_name(self, run: RunFacts) -> bool:
        """Whether an own run's name is the caller's: one that was given anew was another's then."""
        return self._since_ms is not None and self._since_ms <= run.launched_ms


def _told(
    events: EventLog, start: int, context: grpc.ServicerContext, wait_s: float
) -> Iterator[wire.WatchReply]:
    over_s = time.monotonic() + wait_s
    at = start
    while True:
        # whether it is over is asked first: what is told then is all there is
        is_over = events.is_over
        left_s = max(0.0, over_s - time.monotonic())
        told = events.since(at, wait_s=0.0 if is_over else min(_LOOK_S, left_s))
        for one in told:
            yield wire.WatchReply(event=one.to_bytes())
        at += len(told)
        if (is_over and not told) or left_s <= 0 or not context.is_active():
            return


@contextmanager
def _sentences() -> Iterator[None]:
    """Let the caller read why it is refused; what is wrong with this machine stays inside."""
    try:
        yield
    except AbsentError as error:
        raise missing(str(error)) from None
    except (NotVerifiedError, OwnFileError):
        raise
    except RefusedError as error:
        raise CallRefusedError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from None


def _reply(facts: RunFacts) -> wire.RunReply:
    return wire.RunReply(run=_run(facts))


def _run(facts: RunFacts) -> wire.Run:
    return wire.Run(
        run=facts.run,
        name=facts.name,
        task=facts.task,
        state=facts.state,
        launcher=facts.launcher,
        members=facts.members,
        rounds=facts.rounds,
        of=facts.of,
        launched_ms=facts.launched_ms,
        reason=facts.reason,
    )
