"""`tacit node start`: the node of one member, at work.

One process a node's folder. It connects outwards only, and what it runs is the installed app: of
the coordinator's messages it takes data, never code. Terms, decisions and members are looked at
anew whenever they matter, so that none of them needs a restart.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from filelock import FileLock, Timeout

from clients.consent import Consents
from clients.ledger_files import LEDGER
from clients.policy import highest_class
from clients.vault import KEY_FILE
from clients.vault_folder import ensure_vault, remove_old_keys, vault_lock
from federation.decisions import NodeDecisions, Waiting, forget_stale
from federation.home import Home, write_json
from federation.leaving import take_leaves
from federation.machine import free_mib, memory_mib, too_little
from federation.node_data import NodeData, reader
from federation.node_policy import FILE, WatchedPolicy, record_policy
from federation.node_roster import NodeRoster
from federation.participant import Place, load_participant
from federation.registry.access import MEMBERS
from federation.registry.credentials import Credentials
from federation.run_activity import RunActivity
from privacy.errors import InputError, RefusedError, TacitError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.entry import parse_leaf
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore
from privacy.membership import Membership
from privacy.randomness import system_bytes

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

    from clients.desk import Desk

STATE: Final = "service.json"
LOCK: Final = "lock"
TICK_S: Final = 2.0
KEPT_S: Final = 10.0
SEEN_S: Final = 20.0
RENEWED_S: Final = 6 * 3600.0
STALE_MS: Final = 7 * 86_400_000
FORGOTTEN_S: Final = 86_400.0
_DAY_MS: Final = 86_400_000
HELD_S: Final = 2.0
_LOG: Final = logging.getLogger("tacit.node.service")


class Engine(Protocol):
    """Carries messages; see `federation.engine.thin_node.serve`."""

    def __call__(
        self,
        fleet: str,
        credentials: Credentials,
        app: "ClientApp",
        *,
        stop: threading.Event,
        told: Callable[[str], None],
    ) -> None:
        """Serve until `stop` is set."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What a node reaches for outside of its machine; tests give other things.

    Attributes:
        engine: Carries messages; None: the thin Flower node.
        read: Reads the membership from the coordinator.
        cached: The membership as it was read last.
        read_ms: When that was, milliseconds since 1970 UTC; None: not known.
        renew: Renews the certificate where it is time, and says whether it did.
        now: The time, with a time zone.
    """

    read: Callable[[Place], Membership]
    cached: Callable[[Place], Membership | None]
    renew: Callable[[Place], bool]
    read_ms: Callable[[Place], int | None] = lambda _: None
    engine: Engine | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(kw_only=True)
class NodeService:
    """A node that was put together and does not run yet.

    Attributes:
        place: Its place in the federation.
        folder: Its own folder.
        policy: Its terms, as they are whenever they are asked for.
        roster: Whom it knows.
        consents: What it agrees to.
        desk: Answers requests.
        activity: Which of its runs are at work.
        ledger: Its own.
        outside: See `Outside`.
        say: Tells a person what happens, one sentence at a time.
    """

    place: Place
    folder: Path
    policy: WatchedPolicy
    roster: NodeRoster
    consents: Consents
    desk: "Desk"
    activity: RunActivity
    ledger: SqliteLedger
    outside: Outside
    say: Callable[[str], None]
    since_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    _said: str = ""
    _threads: int = 1
    _usual: int = 1
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _showing: threading.Lock = field(default_factory=threading.Lock)
    _again: threading.Event = field(default_factory=threading.Event)
    _runs: dict[str, str] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; an answer that is being made then is still sent.

        Raises:
            TacitError: The node cannot go on.
        """
        serve = self.outside.engine or _thin_node()
        app = self._app(stop)
        # what is to go is not gone on with first
        take_leaves(self.folder, self.desk.leave)
        self._forget()
        restored = self.desk.restore()
        for run in restored:
            self.say(f"going on with {run}, which was under way")
        self._runs = dict(self.desk.runs)
        self._threads = self._usual = _usual_threads()
        self._take_terms()
        watcher = threading.Thread(target=self._watch, args=(stop,), name="node-watch", daemon=True)
        watcher.start()
        try:
            while not stop.is_set():
                # a renewed certificate is used by a new connection, which has an end of its own;
                # one that is renewed before its files are read here is told of once too often
                if self._again.is_set():
                    self._again = threading.Event()
                serve(
                    self.place.fleet,
                    self.place.credentials(self.outside.now()),
                    app,
                    stop=_Either(stop, self._again),
                    told=self._told,
                )
        finally:
            stop.set()
            watcher.join(timeout=2 * TICK_S + HELD_S)
            self._keep_state(running=False)
            self.say("ended in order")

    @contextmanager
    def answering_operator(self, listen: str) -> Iterator[str]:
        """Answer health and figures at `listen` until the block is left; yields the address.

        Args:
            listen: host:port on the loopback; `none`: nowhere, and the address is empty.

        Raises:
            InputError: The address is none, or is taken.
        """
        from federation.operations.node_port import node_port
        from federation.renewal import time_left

        with node_port(
            listen,
            ledger=self.ledger,
            seen_s=self.roster.seen_s,
            certificate_s=lambda: time_left(self.place, self.outside.now()).total_seconds(),
            version=version("tacit-fl"),
            since_ms=self.since_ms,
        ) as port:
            yield "" if port is None else port.address

    # -- what a person sees --------------------------------------------------------------------

    def _told(self, sentence: str) -> None:
        self._said = sentence
        self.say(sentence)
        self._keep_state(running=True)

    def _watch(self, stop: threading.Event) -> None:
        """Look after what changes by itself, until the node ends."""
        seen, kept, fresh = (_Every(every_s) for every_s in (SEEN_S, KEPT_S, RENEWED_S))
        old = _Every(FORGOTTEN_S)
        while not stop.is_set():
            try:
                self._take_terms()
                self._show_runs()
                take_leaves(self.folder, self.desk.leave)
                if old.due():
                    self._forget()
                if seen.due():
                    self.roster.membership()
                if fresh.due() and self.outside.renew(self.place):
                    self.say("the certificate was renewed")
                    self._again.set()
                if kept.due():
                    self._keep_state(running=True)
            except TacitError as fault:
                _LOG.warning("%s", fault)
            except Exception:  # noqa: BLE001 - the node goes on, whatever became of a look
                _LOG.exception("a look around failed")
            stop.wait(TICK_S)

    def _take_terms(self) -> None:
        """Look at the policy also while nobody asks for anything."""
        threads = self.policy().resources.threads or self._usual
        if threads != self._threads:
            self._threads = threads
            _limit_threads(threads)

    def _forget(self) -> None:
        """Leave runs that nothing was heard of; their coordinator will not come back to them.

        What waits, and nobody asked for since a week, waits no more.
        """
        forget_stale(self.folder, before_ms=_now_ms() - STALE_MS)
        days = self.policy().forget_days
        for run in self.desk.forget(_now_ms() - round(days * _DAY_MS)):
            self.say(f"left {run}: nothing was heard of it for {days:g} days")

    def _show_runs(self) -> None:
        with self._showing:
            before, now = self._runs, dict(self.desk.runs)
            self._runs = now
            for run in now.keys() - before.keys():
                self.say(f"joined {now[run]}")
            for run in before.keys() - now.keys():
                self.say(f"{before[run]} is over here")
        if now != before:
            self._keep_state(running=True)

    def _keep_state(self, *, running: bool) -> None:
        seen_s = self.roster.seen_s()
        now_ms = time.time_ns() // 1_000_000
        terms = self.policy.terms()
        state: dict[str, Any] = {
            "running": running,
            "pid": os.getpid(),
            "since_ms": self.since_ms,
            "written_ms": now_ms,
            "seen_ms": None if seen_s is None else now_ms - round(seen_s * 1000),
            "said": self._said,
            "fault": self.roster.fault,
            "runs": dict(sorted(self.desk.runs.items())),
            "policy": {"sha256": terms.sha256, "fault": terms.fault},
        }
        try:
            with self._writing:
                write_json(self.folder / STATE, state)
        except InputError as fault:
            _LOG.warning("%s", fault)

    # -- hours ---------------------------------------------------------------------------------

    def _app(self, stop: threading.Event) -> "ClientApp":
        """The installed app; outside of hours, where the terms say so, a new step waits before it.

        What was begun is brought to its end: votes, openings and sums are answered.
        """
        from flwr.clientapp import ClientApp

        from clients.app import client_app

        inner, outer = client_app(self.desk), ClientApp()

        def answer(message: "Message", context: "Context") -> "Message":
            about = _about(message)
            if about is None:
                return inner(message, context)
            run, step = about
            with self.activity.handling(run):
                if step:
                    self._begin(run, step, stop)
                return inner(message, context)

        outer.query()(answer)
        outer.train()(answer)
        outer.evaluate()(answer)
        return outer

    def _begin(self, run: str, step: str, stop: threading.Event) -> None:
        self._show_runs()
        name = dict(self.desk.runs).get(run, "a run")
        if not self.consents.may_work():
            self.say(f"{name} waits: it is outside of this node's hours")
        while not self.consents.may_work():
            if stop.wait(HELD_S):
                raise RefusedError("This node ends; it goes on when it is started again.")
        self.say(f"{name}: {step}")


class _Every:
    """Something that is due every so many seconds, and at once."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._at_s = float("-inf")

    def due(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._at_s < self._every_s:
            return False
        self._at_s = now_s
        return True


class _Either(threading.Event):
    """Set as soon as one of two is."""

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        super().__init__()
        self._both = (first, second)

    def is_set(self) -> bool:
        """Whether one of them is."""
        return any(one.is_set() for one in self._both)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for either; looks several times a second."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = 0.25 if end is None else min(0.25, end - time.monotonic())
            if left <= 0:
                return False
            self._both[0].wait(left)
        return True


def make_service(home: Home, outside: Outside, *, say: Callable[[str], None]) -> NodeService:
    """Put a node together from what its folder remembers.

    Args:
        home: Whose node.
        outside: See `Outside`.
        say: Tells a person what happens.

    Raises:
        InputError: This machine is in no federation, has no data, or a file of it cannot be used.
        RefusedError: This participant is no member, or its ledger is another's.
    """
    place = load_participant(home)
    if place.role not in MEMBERS:
        raise RefusedError(
            f"{place.name} is a {place.role.value}, and only manufacturers, insurers and banks "
            "have nodes."
        )
    folder = home.own_node
    data = NodeData.read(folder)
    if not data.places:
        raise InputError(
            "this node has no data contract yet; run tacit node start --contract FILE --data DIR"
        )
    contracts = data.contracts()
    identity = place.identity()
    ledger = open_ledger(folder, identity, owner=place.name)
    policy = WatchedPolicy(
        folder / FILE,
        applied=lambda sha256: record_policy(ledger, sha256, now_ms=_now_ms()),
        told=say,
    )
    follow_own(ledger, place, identity, allowed=policy().ledgers)
    roster = NodeRoster(
        lambda: outside.read(place),
        lambda: outside.cached(place),
        read_ms=lambda: outside.read_ms(place),
        good_h=lambda: policy().membership_hours,
    )
    confidential = any(highest_class(one) in {"L3", "L4"} for one in contracts.values())
    if confidential:
        with vault_lock(folder):
            known, made = ensure_vault(folder, system_bytes)
            remove_old_keys(folder, known)
        if made:
            say(
                f"made {folder / KEY_FILE}: it seals what is kept of runs and reviews of L3 data "
                "here; keep a copy of it elsewhere"
            )

    def asked(one: Waiting) -> None:
        if one.on == "person":
            say(
                f"{one.run} of {one.launcher} waits for a person: tacit node approve {one.run}, "
                f"or tacit node refuse {one.run} --reason TEXT"
            )
        else:
            say(f"{one.run} of {one.launcher} waits: {one.why}")

    decisions = NodeDecisions(
        folder, ledger, policy=policy, role_of=roster.role_of, told=asked, now_ms=_now_ms
    )
    consents = Consents(
        policy=policy,
        role_of=roster.role_of,
        decisions=decisions,
        running=dict,
        busy=dict,
        room=lambda terms: too_little(terms, disk_mib=free_mib(folder), memory_mib=memory_mib()),
        now=outside.now,
    )
    # heavy, so only once everything else is known to be in order
    from clients.desk import Desk
    from clients.node import Node
    from clients.node_settings import NodeSettings

    desk = Desk(
        [
            Node(
                NodeSettings(
                    member=place.name,
                    identity=identity,
                    launchers=roster.launchers,
                    known=roster.known,
                    recognised=lambda: roster.recognised(policy().recognises),
                    left=roster.left,
                    seen=roster.seen,
                    suite=roster.suite,
                    contract=contract,
                    rows=reader(contract, data.places[name].data, place.name),
                    policy=policy,
                    home=folder,
                    device=data.device,
                    countersigned=True,
                    consent=consents,
                    sessions=True,
                )
            )
            for name, contract in contracts.items()
        ]
    )
    activity = RunActivity()
    consents.running = lambda: desk.runs  # the desk asks the consents, which ask the desk
    consents.busy = lambda: activity.at_work(desk.runs)
    return NodeService(
        place=place,
        folder=folder,
        policy=policy,
        roster=roster,
        consents=consents,
        desk=desk,
        activity=activity,
        ledger=ledger,
        outside=outside,
        say=say,
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a node's folder for one process.

    Raises:
        RefusedError: Another process holds it.
        InputError: It cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=1)
        lock.acquire()
    except Timeout:
        raise RefusedError(
            f"Another process is the node of {folder}; there is one a folder. "
            "See tacit node status."
        ) from None
    except OSError as failure:
        raise InputError(
            f"{folder}: cannot be written ({failure.strerror}); give it to this user."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_running(folder: Path) -> bool:
    """Whether a process is the node of a folder now."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def open_ledger(folder: Path, identity: Identity, *, owner: str) -> SqliteLedger:
    """Return the node's own ledger, begun where it is new.

    Raises:
        InputError: It cannot be read or written.
        RefusedError: It is another's.
        NotVerifiedError: What is there is no ledger.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise InputError(
            f"{folder}: cannot be written ({failure.strerror}); give it to this user."
        ) from None
    ledger = SqliteLedger(folder / LEDGER)
    begin_ledger(ledger, identity, owner=owner, role="node", time_ms=_now_ms())
    return ledger


def follow_own(
    ledger: LedgerStore, place: Place, identity: Identity, *, allowed: Collection[str]
) -> None:
    """Follow the ledger that the invitation named, before any run names one.

    Args:
        ledger: The node's own.
        place: Its place in the federation.
        identity: The node's.
        allowed: Origins of other ledgers that runs may name.

    Raises:
        RefusedError: It follows another one, or this under a key that is none of it.
        InputError: Its own ledger, or what it knows of the coordinator's, cannot be read.
    """
    from clients.ledger_watch import LedgerWatch
    from federation.ledger_pin import read_pin

    known = None
    for leaf in ledger.leaves():
        entry = parse_leaf(leaf)
        if entry.kind == "ledger.followed" and entry.body["origin"] == place.ledger_origin:
            known = bytes.fromhex(str(entry.body["key"]))
    if known is None:
        watch = LedgerWatch(ledger, member=place.name, identity=identity, now_ms=_now_ms)
        watch.trust(place.log_key, allowed=allowed)
    elif known not in {key for _, key in read_pin(place).keys}:
        raise RefusedError(
            f"This node follows the ledger {place.ledger_origin} under another key than the "
            "invitation named; ask the operator which is right, and move this node's ledger away "
            "if it is the invitation's."
        )


def real_outside() -> Outside:
    """The coordinator over the network."""
    from federation.members.client import MembersClient
    from federation.roster import SeenActs, cached_membership, read_ms

    seen: dict[Path, SeenActs] = {}

    def read(place: Place) -> Membership:
        # what was read is kept folded, so that new acts alone are checked
        acts = seen.setdefault(place.folder, SeenActs(place))
        with MembersClient(place.registry, place.credentials(), deadline_s=10.0) as client:
            return acts.read(client)

    return Outside(read=read, cached=cached_membership, read_ms=read_ms, renew=_renew)


def _renew(place: Place) -> bool:
    from federation.renewal import renew_if_due

    return renew_if_due(place, now_ms=_now_ms)


def _thin_node() -> Engine:
    from federation.engine.thin_node import serve

    return serve


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _usual_threads() -> int:
    import torch

    return int(torch.get_num_threads())


def _about(message: "Message") -> tuple[str, str] | None:
    """The run (hex digest) of a message, and a name for the step that it begins, if it does."""
    from privacy.messages import (
        EvaluateRequest,
        InitialModelRequest,
        Parcel,
        StatisticsRequest,
        TrainRequest,
        unpack_request,
    )

    try:
        raw = message.content.config_records["message"]["bytes"]
        request, _ = unpack_request(Parcel(raw if isinstance(raw, bytes) else b""))
    except (KeyError, TacitError):
        return None  # the app says what is wrong with it
    run = getattr(request, "run", None)
    if not isinstance(run, bytes):
        return None
    if isinstance(request, TrainRequest):
        return run.hex(), f"round {request.round}"
    steps = {
        StatisticsRequest: "statistics",
        EvaluateRequest: "evaluation",
        InitialModelRequest: "the initial model",
    }
    return run.hex(), steps.get(type(request), "")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
