"""A whole federation in one process, on one thread, in time that only passes when nobody works.

The coordinator, the nodes, their budgets and ledgers are the real ones. Simulated are what they
stand on: the clock, the lines between them, their disks, their processes, and learning itself
(`simulation.learning`). Every choice comes from one seed, so a world happens again as it happened,
byte for byte.
"""

import hashlib
import heapq
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from simulation import learning
from simulation.clock import SimClock
from simulation.disk import Removals, SimLedger, SimNotebook
from simulation.invariants import Watch, read_leaf
from simulation.options import Options, options_of
from simulation.sealing import SeededSealing
from support import tables
from support.direct import Notes

import aggregator.coordinator
import aggregator.inviting
import aggregator.opening
import aggregator.returning
import clients.admission
import clients.learning
import clients.node
import clients.node_books
import clients.session_file
import federation.ledger_recorder
import privacy.budget_record
import privacy.ledger.memory
import privacy.signature
import privacy.suites.intl
import privacy.verify
from aggregator.ports import Answer
from clients.model_file import load_model
from clients.node import Node
from clients.node_settings import NodeSettings
from clients.policy import BudgetPolicy, NodePolicy
from clients.session_file import kept_runs, read_pointer
from federation.config import Project, load_project
from federation.declaration import declaration
from federation.evidence import Evidence, LedgerView, to_bundle
from federation.ledger_recorder import LedgerRecorder
from privacy.errors import CohortError, InputError, ProtocolError, TacitError
from privacy.identity import Identity
from privacy.ledger.keys import log_origin
from privacy.ledger.trust import TrustPolicy
from privacy.manifest import SIGNING_DOMAIN, Manifest, Protection
from privacy.messages import (
    Parcel,
    Refused,
    Reply,
    Request,
    pack,
    unpack_reply,
    unpack_request,
    vector_digest,
)
from privacy.plan import PrivacyPlan
from privacy.verify import verify_bundle

NAMES = (
    "ash", "birch", "cedar", "elm", "fir", "gum", "hazel", "iris", "juniper", "larch", "maple",
    "nut", "oak",
)  # fmt: skip
FIRST_ADDRESS = 100
DEADLINE_S, GRACE_S = 5.0, 0.5
REMOVALS = 10
"""A process ends so many times as often where it removes a run: there are few such moments."""
unlink = Path.unlink
STARTS_MOST = 40
NOISE = {"multiplier": 1.0, "delta": 1e-4, "noise": "distributed", "colluders": 1}
CAP = 2.1
"""Holds one run, and not two."""


class Gone(BaseException):
    """A process is no more; nothing of it catches this."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a world.

    Attributes:
        trace: Every event, one a line.
        runs: Run -> `finished`, or why it was aborted.
        opened: Sums that nodes opened, each of them checked.
        stops: Processes that ended in the middle of something.
        refused: Writes that the coordinator's disk refused.
        coordinator_cuts: Power cuts at the coordinator.
        undone: Removed files that were there again after a power cut.
    """

    trace: tuple[str, ...]
    runs: Mapping[str, str]
    opened: int
    stops: int
    refused: int
    coordinator_cuts: int
    undone: int


@cache
def _project(
    *,
    rounds: int,
    watch_every: int,
    least: int,
    noise: bool,
    protection: Protection,
    groups: bool,
) -> tuple[Project, PrivacyPlan | None]:
    with tempfile.TemporaryDirectory() as folder:
        changes: dict[str, Any] = {
            "training": {"rounds": rounds},
            "watch_every": watch_every,
            "min_members": least,
            "deadline_s": DEADLINE_S,
            "grace_s": GRACE_S,
            "update": {"weigh_by": "members"},
            "consent_s": 20.0,
            "protection": {"sum": protection, "robust": "groups" if groups else "none"},
        }
        if noise:
            changes |= {"privacy": NOISE, "update": {}, "server": {"learning_rate": 0.1}}
        where = tables.write(
            Path(folder), rows=tables.table("binary", rows=40), config_changes=changes
        )
        project = load_project(where.config)
        return project, project.privacy_plan()


_verifies = lru_cache(maxsize=8192)(privacy.signature._verifies)


@dataclass
class Machine:
    """One institution's: its disk stays, its process may not."""

    name: str
    address: int
    settings: NodeSettings
    ledger: SimLedger
    off_s: int
    node: Node | None = None
    back_s: float = 0.0
    cut_until_s: float = 0.0


@dataclass
class World:
    """See the module. `live` makes it happen, once.

    Attributes:
        seed: Of everything.
        options: As the seed says, unless a test asks for others.
        plant: Changes the product while the world lives, for twins that plant a fault.
    """

    seed: int
    options: Options | None = None
    plant: Callable[[ExitStack], None] | None = None
    stop_at: int = 0
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.has = self.options or options_of(self.seed)
        self.random = Random(self.seed)
        self._secret = Random(f"entropy {self.seed}")
        self.clock = SimClock()
        self.clock.pass_to = self._pass_to
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._exchange = 0
        self._answers: dict[int, Answer] = {}
        self._at_work: Machine | None = None
        self.machines: dict[int, Machine] = {}
        self.stops = 0
        self.refused = 0
        self.coordinator_cuts = 0
        self.removals = Removals()
        self.moments = 0
        self._seen: dict[str, str] = {}

    # -- what goes wrong ---------------------------------------------------------------------

    def entropy(self, size: int) -> bytes:
        return self._secret.randbytes(size)

    def say(self, what: str) -> None:
        self.trace.append(f"{self.clock.now_s:9.3f} {what}")

    def _wrong(self, rate: float) -> bool:
        return self.clock.now_s < self.has.calm_s and self.random.random() < rate

    def _node_moment(self, what: str, times: int = 1) -> None:
        machine = self._at_work
        if machine is not None and self._wrong(self.has.node_stops * times):
            self.say(f"{machine.name} stops {what}")
            raise Gone

    def _node_refuses(self, what: str) -> bool:
        machine = self._at_work
        refuses = machine is not None and self._wrong(self.has.unwritten)
        if refuses and machine is not None:
            self.say(f"{machine.name} cannot write its {what}")
        return refuses

    def coordinator_moment(self, what: str) -> None:
        self.moments += 1
        if self.moments == self.stop_at or self._wrong(self.has.coordinator_stops):
            self.say(f"coordinator stops {what}")
            raise Gone

    def _coordinator_refuses(self, what: str) -> bool:
        refuses = self._wrong(self.has.coordinator_unwritten)
        if refuses:
            self.refused += 1
            self.say(f"coordinator cannot write its {what}")
        return refuses

    # -- time --------------------------------------------------------------------------------

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when_s, next(self._order), act))

    def _pass_to(self, when_s: float) -> None:
        while self._due and self._due[0][0] <= when_s:
            self._next()
        self.clock.now_s = max(self.clock.now_s, when_s)

    def _next(self) -> None:
        when_s, _, act = heapq.heappop(self._due)
        self.clock.now_s = max(self.clock.now_s, when_s)
        act()

    def _travel_s(self) -> float:
        usual = self.random.expovariate(1 / 0.02)
        return usual + (self.random.uniform(1, 8) if self._wrong(self.has.slow) else 0.0)

    # -- lines -------------------------------------------------------------------------------

    @property
    def names(self) -> Mapping[int, str]:
        return {}

    def nodes(self) -> tuple[int, ...]:
        now_s = self.clock.now_s
        return tuple(
            one.address
            for one in self.machines.values()
            if max(one.back_s, one.cut_until_s) <= now_s
        )

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, bytes]],
        *,
        kind: str,
        deadline_s: float,
        needed: Collection[int],
        grace_s: float,
        enough: int = 0,
    ) -> Mapping[int, Answer]:
        """`aggregator.ports.Transport`, over lines that do all that lines do."""
        del kind
        self._exchange += 1
        mine, answers = self._exchange, self._answers
        answers.clear()
        for machine in self.machines.values():
            if self._wrong(self.has.cut):
                machine.cut_until_s = self.clock.now_s + self.random.uniform(0, 15)
                self.say(f"{machine.name} is cut off")
        self.coordinator_moment("before it asks")
        for address, (request, payload) in sorted(requests.items()):
            self._send(mine, self.machines[address], pack(request, payload), request)
        self.coordinator_moment("once it asked")
        missing, end = set(needed), self.clock.now_s + deadline_s
        while len(answers) < len(requests) and self._due and self._due[0][0] < end:
            self._next()
            missing -= answers.keys()
            if not missing and len(answers) >= enough:
                end = min(end, self.clock.now_s + grace_s)
        if len(answers) < len(requests):
            self._pass_to(end)
        heard = {address: answers[address] for address in sorted(answers)}
        self._exchange += 1  # what comes now comes too late
        self.coordinator_moment("once it heard")
        return heard

    def _send(self, mine: int, machine: Machine, parcel: Parcel, request: Request) -> None:
        copies = 1 + self._wrong(self.has.twice)
        for copy in range(copies):
            if self._wrong(self.has.loss):
                self.say(f"-> {machine.name} {type(request).__name__} is lost")
                continue
            later_s = self.random.uniform(0, 20) if copy else 0.0
            self.at(
                self.clock.now_s + self._travel_s() + later_s,
                lambda: self._arrives(mine, machine, parcel),
            )

    def _arrives(self, mine: int, machine: Machine, parcel: Parcel) -> None:
        if machine.cut_until_s > self.clock.now_s:
            self.say(f"-> {machine.name} is cut off")
            return
        reply = self._handled(machine, parcel)
        if reply is None:
            return
        for copy in range(1 + self._wrong(self.has.twice)):
            if self._wrong(self.has.loss) or machine.cut_until_s > self.clock.now_s:
                self.say(f"<- {machine.name} is lost")
                continue
            later_s = self.random.uniform(0, 20) if copy else 0.0
            self.at(
                self.clock.now_s + self._travel_s() + later_s,
                lambda: self._heard(mine, machine, reply),
            )

    def _heard(self, mine: int, machine: Machine, reply: Parcel) -> None:
        if mine != self._exchange or machine.address in self._answers:
            return
        try:
            self._answers[machine.address] = unpack_reply(reply)
        except ProtocolError as fault:
            self._answers[machine.address] = Refused(member="a node", reason=str(fault)), b""

    # -- machines ----------------------------------------------------------------------------

    def _handled(self, machine: Machine, parcel: Parcel) -> Parcel | None:
        """Let a node answer; None where its process is not there, or ends meanwhile."""
        if machine.back_s > self.clock.now_s:
            self.say(f"-> {machine.name} is down")
            return None
        self._at_work, self.clock.off_s = machine, machine.off_s
        try:
            if machine.node is None:
                machine.node = Node(machine.settings, entropy=self.entropy)
                names = machine.node.restore()
                self.say(f"{machine.name} is back {' '.join(names)}".rstrip())
            request, payload = unpack_request(parcel)
            try:
                reply, answer = machine.node.handle(request, payload)
            except TacitError as refusal:
                reply, answer = Refused(member=machine.name, reason=str(refusal)), b""
            self.watch.left(machine.name, request, reply, answer)
            told = pack(reply, answer)
            self._tell(machine, request, reply, told)
        except Gone:
            self._stopped(machine)
            return None
        else:
            return told
        finally:
            self._at_work, self.clock.off_s = None, 0

    def _tell(self, machine: Machine, request: Request, reply: Reply, told: Parcel) -> None:
        digest = hashlib.sha256(told.message + (told.payload or b"")).hexdigest()[:12]
        why = f" ({reply.reason})" if isinstance(reply, Refused) else ""
        asked, answered = type(request).__name__, type(reply).__name__
        told_in_hex = f" {digest}" if self.has.seeded else ""
        self.say(f"{machine.name} {asked} -> {answered}{told_in_hex}{why}")

    def _stopped(self, machine: Machine) -> None:
        self.stops += 1
        machine.node = None
        machine.back_s = self.clock.now_s + self.random.uniform(0, 12)
        if self.random.random() < self.has.power:
            lost = machine.ledger.power_cut()
            home = machine.settings.home
            back = self.removals.power_cut(home, lambda: self.random.random() < self.has.undone)
            self.say(f"{machine.name} lost {lost} entries with its power; {back} files are back")

    def _write(self, path: Path, data: bytes | memoryview, *, mode: int = 0o666) -> None:
        del mode
        self._node_moment("before a file")
        if self._node_refuses("file"):
            raise OSError(28, "No space left on device")
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(data)
        part.replace(path)
        self._node_moment("after a file")

    def _append(self, path: Path, data: bytes) -> None:
        self._node_moment("before a line")
        if self._node_refuses("line"):
            raise OSError(28, "No space left on device")
        with path.open("ab") as file:
            file.write(data)
        self._node_moment("after a line")

    def _unlink(self, path: Path, missing_ok: bool = False) -> None:
        noted = self._at_work is not None and path.exists()
        if noted:
            self.removals.note(path)
        unlink(path, missing_ok)
        if noted:
            self._node_moment("after it removed a file")

    def _remove_tree(self, folder: Path, *, ignore_errors: bool) -> None:
        assert ignore_errors
        # what says which state it is goes first: a stop leaves any of the rest
        for path in sorted(folder.glob("*"), key=lambda one: (one.name != "state", one.name)):
            self.removals.note(path)
            unlink(path)
            self._node_moment("while it removes a run", REMOVALS)
        if folder.exists():
            folder.rmdir()
        self._node_moment("after it removed a run", REMOVALS)

    def _sync_folder(self, folder: Path) -> None:
        self.removals.synced(folder)

    def _node_ledger(self, path: Path) -> SimLedger:
        path.touch()
        return next(m.ledger for m in self.machines.values() if m.settings.home == path.parent)

    # -- learning ----------------------------------------------------------------------------

    @contextmanager
    def _stood_in(self) -> Iterator[None]:
        at = {name: i for i, name in enumerate(NAMES)}

        def covered(node: Node, session: Any, step: Any, values: Any) -> Any:  # noqa: ANN401
            del values
            return learning.own_vector(at[node.member], step, session.manifest.privacy)

        opened = Node._opened

        def open_and_tell(node: Node, session: Any, step: Any, shown: Any) -> Any:  # noqa: ANN401
            sums = opened(node, session, step, shown)
            for (part, _, context, _), (total, members) in zip(shown, sums, strict=True):
                counts = learning.units_in(total, step, session.manifest.privacy, members)
                edge = len(self.machines) * learning.UNITS
                self.watch.opened_sum(
                    node.member,
                    (session.manifest.run, step.name, step.round),
                    context,
                    part.survivors,
                    total.tobytes(),
                    {
                        one.name: counts[at[one.name] * 2 : at[one.name] * 2 + 2]
                        for one in self.machines.values()
                    },
                    counts[edge:],
                )
            return sums

        def none_trained(node: Node, session: Any, _: object) -> Any:  # noqa: ANN401
            del node
            return np.zeros(session.model.current.size + 1)

        with ExitStack() as stack:

            def change(of: object, name: str, to: object) -> None:
                stack.enter_context(mock.patch.object(of, name, to))

            for module in (
                aggregator.inviting,
                aggregator.opening,
                aggregator.returning,
                clients.node_books,
                clients.session_file,
                federation.ledger_recorder,
            ):
                change(module, "time", self.clock)
            change(privacy.suites.intl, "_HPKE", SeededSealing(self.entropy))
            # all members verify the same signatures and read the same leaves; each once
            change(privacy.signature, "_verifies", _verifies)
            for reads in (privacy.ledger.memory, privacy.budget_record, privacy.verify):
                change(reads, "parse_leaf", read_leaf)
            change(clients.node, "SqliteLedger", self._node_ledger)
            for module in (clients.node, clients.admission):
                change(module, "Learner", learning.StandIn)
            change(clients.node, "read_usable", lambda s, *_: learning.rows_of(s.member))
            change(clients.node, "rows_digest", lambda rows, **_: rows.member.encode().ljust(32))
            change(clients.learning, "to_vector", lambda _: np.zeros(learning.WEIGHTS, np.float32))
            change(clients.node, "write_whole", self._write)
            change(clients.node, "append_whole", self._append)
            change(clients.session_file, "write_whole", self._write)
            change(clients.session_file, "sync_folder", self._sync_folder)
            change(clients.session_file, "shutil", SimpleNamespace(rmtree=self._remove_tree))
            change(Path, "unlink", lambda path, missing_ok=False: self._unlink(path, missing_ok))
            change(Node, "_covered", covered)
            change(Node, "_opened", open_and_tell)
            change(Node, "_trained", none_trained)
            change(Node, "_evaluated", lambda *_: np.zeros(learning.WEIGHTS))
            change(clients.learning, "make_examples", learning.no_examples)
            if self.plant is not None:
                self.plant(stack)
            yield

    # -- a life ------------------------------------------------------------------------------

    def live(self) -> Ending:
        """Let it happen.

        Raises:
            Broken: A promise did not hold.
        """
        self.trace += [f"seed {self.seed}", *self.has.lines()]
        root = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
        try:
            with self._stood_in():
                return self._lived(root)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _lived(self, root: Path) -> Ending:
        has = self.has
        project, plan = _project(
            rounds=has.rounds,
            watch_every=has.watch_every,
            least=has.least,
            noise=has.noise,
            protection=has.protection,
            groups=has.groups,
        )
        self.launcher = Identity.create(self.entropy)
        self.identity = Identity.create(self.entropy)
        self.store = SimLedger("the ledger", lambda _: None, lambda _: False)
        self.recorder = LedgerRecorder(self.store, self.identity)
        members = NAMES[: has.members]
        keys = {name: Identity.create(self.entropy) for name in members}
        policy = NodePolicy(
            sums=(has.protection,),
            colluders=1,
            budgets=(BudgetPolicy(epsilon=CAP, delta=1e-4),) if has.noise else (),
        )
        for index, name in enumerate(members):
            settings = NodeSettings(
                member=name,
                identity=keys[name],
                launcher=self.launcher.public,
                known={other: key.public for other, key in keys.items()},
                own_machine=True,
                contract=project.contract,
                rows=lambda _: learning.rows_of(""),
                policy=policy,
                home=root / name,
                device="cpu",
                sessions=has.kept,
            )
            settings.home.mkdir()
            self.machines[FIRST_ADDRESS + index] = Machine(
                name=name,
                address=FIRST_ADDRESS + index,
                settings=settings,
                ledger=SimLedger(name, self._node_moment, self._node_refuses),
                off_s=self.random.randint(-has.skew_s, has.skew_s),
            )
        self.watch = Watch(self.store, {m.name: m.ledger for m in self.machines.values()})
        self.store._moment = self.coordinator_moment
        self.store._refuses = self._coordinator_refuses
        first = Manifest(
            run="run-0",
            name=project.config.name,
            task=project.config.task,
            unit=project.contract.unit,
            contract=project.contract.digest,
            directory={name: key.public.hex() for name, key in keys.items()},
            minimum_cohort=project.config.minimum_cohort,
            protection=has.protection,
            group_size=project.config.group_size,
            privacy=plan,
            ledger={"origin": self.recorder.origin, "key": self.identity.public.hex()},
            node_settings=project.config.node_settings(seed=0, fold=None),
            coordinator_settings=project.config.coordinator_settings(),
            suite=has.suite,
        )
        runs: dict[str, str] = {}
        for index in range(has.runs):
            manifest = replace(first, run=f"run-{index}")
            self.watch.names[manifest.digest()] = manifest.run
            runs[manifest.run] = self._carried_out(manifest, project)
            self.say(f"{manifest.run}: {runs[manifest.run]}")
        self._pass_to(self.clock.now_s + 60)
        self._come_back()
        self.watch.end(
            models={run: self._models(root, run) for run in runs},
            verify=lambda: self._audit(project),
        )
        return Ending(
            trace=tuple(self.trace),
            runs=runs,
            opened=self.watch.opened,
            stops=self.stops,
            refused=self.refused,
            coordinator_cuts=self.coordinator_cuts,
            undone=self.removals.undone,
        )

    def _come_back(self) -> None:
        """Start every node that is down; of runs that are over nothing is on its disk then."""
        for machine in self.machines.values():
            if machine.node is None:
                machine.node = Node(machine.settings, entropy=self.entropy)
                machine.node.restore()
            books: Any = machine.ledger
            pointers = ((run, read_pointer(books, run)) for run in kept_runs(books))
            under_way = [run.hex() for run, pointer in pointers if pointer and pointer.state]
            self.watch.gone(machine.name, machine.settings.home, under_way)

    def _carried_out(self, manifest: Manifest, project: Project) -> str:
        """Start coordinators until one comes to the run's end, or gives it up."""
        book = SimNotebook(self.coordinator_moment, self._coordinator_refuses)
        gave_up, result = "", "the coordinator stopped too often"
        for _ in range(STARTS_MOST):
            try:
                self.recorder = LedgerRecorder(self.store, self.identity)
                aggregator.coordinator.run(
                    manifest,
                    self.launcher.sign(SIGNING_DOMAIN, manifest.to_bytes()),
                    launcher=self.launcher.public,
                    data=declaration(project.contract),
                    transport=self,
                    ledger=self.recorder,
                    observer=Notes(self.recorder),
                    notebook=book,
                )
            except Gone:
                self._coordinator_stopped(book)
                self._pass_to(self.clock.now_s + self.random.uniform(0, 10))
                continue
            except TacitError as fault:
                self.say(f"{manifest.run} is not gone on with: {fault}")
                # somebody makes room and goes on
                if isinstance(fault, InputError) and "the disk is full" in str(fault):
                    self._pass_to(self.clock.now_s + self.random.uniform(0, 10))
                    continue
                # as a desk does: too few members may be more tomorrow
                if isinstance(fault, CohortError) and str(fault) != gave_up:
                    gave_up = str(fault)
                    self._pass_to(self.clock.now_s + self.has.calm_s)
                    continue
                result = f"aborted: {fault}"
                break
            else:
                return "finished"
        self._give_up(manifest, result)
        return result

    def _coordinator_stopped(self, book: SimNotebook) -> None:
        self.stops += 1
        self._exchange += 1
        if self.random.random() < self.has.coordinator_power:
            self.coordinator_cuts += 1
            lost, changed = self.store.power_cut(), book.power_cut()
            self.say(f"coordinator lost {lost} entries with its power; {changed} payloads changed")

    def _give_up(self, manifest: Manifest, why: str) -> None:
        while True:
            try:
                self.recorder = LedgerRecorder(self.store, self.identity)
                self.recorder.stop(manifest.run, why)
                aggregator.coordinator.dismiss(manifest, transport=self)
            except Gone:
                self._pass_to(self.clock.now_s + 5)
            except TacitError as fault:
                self.say(f"it is not stopped: {fault}")
                if not isinstance(fault, InputError):
                    return
                self._pass_to(self.clock.now_s + 5)
            else:
                return

    def _models(self, root: Path, run: str) -> set[bytes]:
        paths = [root / m.name / "runs" / run / "model.safetensors" for m in self.machines.values()]
        return {vector_digest(load_model(path)) for path in paths if path.exists()}

    def _audit(self, project: Project) -> None:
        """What an auditor does who has all ledgers and knows the coordinator's key."""
        recorder, views, keys = self.recorder, [], {self.recorder.origin: self.identity}
        for machine in self.machines.values():
            if machine.ledger.size():
                identity = machine.settings.identity
                origin = log_origin(machine.name, identity.public)
                keys[origin] = identity
                views.append(
                    LedgerView(
                        origin=origin,
                        owner=machine.name,
                        role="node",
                        dataset=project.contract.name,
                        store=machine.ledger,
                    )
                )
        own = LedgerView(
            origin=recorder.origin,
            owner="coordinator",
            role="coordinator",
            dataset="",
            store=recorder.store,
        )
        evidence = Evidence(federation="simulated", coordinator=own, nodes=tuple(views))
        verify_bundle(to_bundle(evidence, keys), policy=TrustPolicy(logs=(recorder.key,)))
