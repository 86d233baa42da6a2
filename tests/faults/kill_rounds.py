"""Kill nodes and coordinators in mid-round, for real, and hold their ledgers against the wire.

    PYTHONPATH=.:tests python tests/faults/kill_rounds.py FOLDER --kills 1000 --seed 1

Every node and the coordinator are processes of their own; this one is the courier between them, so
it knows what left whom, whatever becomes of them. After each killed run:

    1. every vector that left a node is reserved in that node's own ledger;
    2. every sum that members were shown is reserved and opened in the coordinator's ledger;
    3. a node has reserved more than left it only by what it was asked for and had not answered, and
       the coordinator at most one step more than it showed.

At the end the whole home is verified, as a regulator would. With `--careless` nodes release before
they reserve, which must show: it is the twin that shows that this can fail.
"""

import argparse
import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

import msgspec
from support import tables
from typing_extensions import Buffer

from aggregator import coordinator
from aggregator.ports import Answer
from clients.ledger_files import LEDGER
from clients.members import MemberRows, read_members
from clients.node import Node
from clients.node_settings import NodeSettings
from clients.policy import BudgetPolicy, NodePolicy
from federation.audit import verify_home
from federation.config import Project, load_project
from federation.declaration import declaration
from federation.home import Home
from federation.ledger_recorder import LedgerRecorder
from privacy.budget import Budget
from privacy.errors import CohortError, TacitError
from privacy.identity import Identity
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.messages import (
    EvaluateRequest,
    Parcel,
    Refused,
    Request,
    Sealed,
    StatisticsRequest,
    SumNotice,
    TrainRequest,
    pack,
    unpack_reply,
    unpack_request,
)
from privacy.plan import PrivacyPlan
from privacy.randomness import system_bytes
from privacy.receipt import Receipt
from privacy.release import ReleaseToken

FIVE = ("ash", "birch", "cedar", "elm", "fir")
PRIVACY = {"epsilon": 8.0, "delta": 1e-3, "noise": "distributed", "colluders": 1}
Act = tuple[str, str, int]
Work = Callable[[Connection], None]
_LIMIT_S = 30.0
_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode


@dataclass
class Federation:
    """What every process of a run is told before it starts."""

    home: Home
    project: Project
    rows: Mapping[str, MemberRows]
    identities: Mapping[str, Identity]
    launcher: Identity
    coordinator: Identity
    plan: PrivacyPlan | None
    careless: bool

    def folder(self, member: str) -> Path:
        return self.home.node(self.project.contract.name, member)

    def manifest(self, run: str, ledger: LedgerRecorder) -> Manifest:
        config, contract = self.project.config, self.project.contract
        return Manifest(
            run=run,
            name=config.name,
            task=config.task,
            unit=contract.unit,
            contract=contract.digest,
            directory={name: key.public.hex() for name, key in self.identities.items()},
            minimum_cohort=config.minimum_cohort,
            protection=config.protection.sum,
            group_size=config.group_size,
            privacy=self.plan,
            ledger={"origin": ledger.origin, "key": self.coordinator.public.hex()},
            node_settings=config.node_settings(seed=0, fold=None),
            coordinator_settings=config.coordinator_settings(),
        )


@dataclass
class Wire:
    """What the courier saw of one run.

    Attributes:
        left: Node -> the vectors that left it.
        asked: Node -> vectors that it was asked for.
        shown: Sums that members were shown.
        kills: Processes that were killed while the run went on.
        failed: Processes that ended by themselves, with an error.
    """

    left: dict[str, set[Act]] = field(default_factory=lambda: {name: set() for name in FIVE})
    asked: dict[str, set[Act]] = field(default_factory=lambda: {name: set() for name in FIVE})
    shown: set[Act] = field(default_factory=set)
    kills: int = 0
    failed: list[str] = field(default_factory=list)


def prepare(folder: Path, *, careless: bool) -> Federation:
    """Write a small federation of five."""
    frame = tables.table("binary", rows=400)
    frame["member"] = [FIVE[i % 5] for i in range(len(frame))]
    where = tables.write(
        folder / "data",
        rows=frame,
        config_changes={
            "privacy": PRIVACY,
            "minimum_cohort": 4,
            "training": {"rounds": 4},
            "server": {"kind": "fedavgm", "learning_rate": 1.0},
            "validation_share": 0.0,
        },
    )
    project = load_project(where.config)
    home = Home(folder / "home")
    home.runs.mkdir(parents=True)
    for member in FIVE:
        home.node(project.contract.name, member).mkdir(parents=True)
    kept = {member: home.node(project.contract.name, member) / "identity.pem" for member in FIVE}
    for path in (*kept.values(), home.launcher, home.coordinator):
        Identity.create(system_bytes).save(path)
    return Federation(
        home=home,
        project=project,
        rows=read_members(project.contract, where.root),
        identities={member: Identity.load(path) for member, path in kept.items()},
        launcher=Identity.load(home.launcher),
        coordinator=Identity.load(home.coordinator),
        plan=project.privacy_plan(),
        careless=careless,
    )


# -- the processes ---------------------------------------------------------------------------


def _child(work: Work, wire: Connection, unused: Collection[Connection]) -> int:
    """Fork; the child does its work and is gone."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.disable(logging.CRITICAL)
        # a pipe ends with its last holder, and a dead process must be seen
        for one in unused:
            one.close()
        work(wire)
        code = 0
    except (EOFError, OSError, CohortError):
        code = 0  # the others were killed
    except BaseException:  # noqa: BLE001 - whatever it is
        # nobody killed it, so it is a fault of its own, and must be seen
        traceback.print_exc()
    finally:
        os._exit(code)


def _be_node(federation: Federation, member: str, wire: Connection) -> None:
    if federation.careless:
        _reserve_late(wire)
    node = Node(
        NodeSettings(
            member=member,
            identity=federation.identities[member],
            launcher=federation.launcher.public,
            known={name: key.public for name, key in federation.identities.items()},
            own_machine=True,
            contract=federation.project.contract,
            rows=lambda _: federation.rows[member],
            policy=NodePolicy(budgets=(BudgetPolicy(epsilon=1e5, delta=1e-4, order=2),)),
            home=federation.folder(member),
            device="cpu",
        )
    )
    while True:
        request, payload = _decode(wire.recv_bytes(), type=tuple[bytes, bytes])
        try:
            reply = pack(*node.handle(*unpack_request(Parcel(request, payload))))
        except TacitError as refusal:
            reply = pack(Refused(member=member, reason=str(refusal)))
        wire.send_bytes(_encode((reply.message, reply.payload)))


def _reserve_late(wire: Connection) -> None:
    """The mistake that the ledger forbids: the token is given before its entry is written."""
    real = Budget.reserve
    late: list[Callable[[], object]] = []

    def reserve(
        self: Budget, run: str, step: str, round_number: int, receipt: Receipt
    ) -> ReleaseToken:
        late.append(lambda: real(self, run, step, round_number, receipt))
        head = self._record.head()
        return ReleaseToken(run=run, step=step, round_number=round_number, head=head)

    Budget.reserve = reserve  # type: ignore[method-assign]
    sending = wire.send_bytes

    def send(buf: Buffer, offset: int = 0, size: int | None = None) -> None:
        sending(buf, offset, size)
        time.sleep(0.02)
        while late:
            late.pop()()

    wire.send_bytes = send  # type: ignore[method-assign]


@dataclass
class _Relay:
    """`aggregator.ports.Transport` and `Observer` over one pipe to the courier."""

    wire: Connection

    @property
    def names(self) -> Mapping[int, str]:
        return {}

    def nodes(self) -> tuple[int, ...]:
        return tuple(range(len(FIVE)))

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
        del kind, deadline_s, needed, grace_s, enough
        parcels = {node: pack(*asked) for node, asked in requests.items()}
        self.wire.send_bytes(
            _encode({node: (one.message, one.payload) for node, one in parcels.items()})
        )
        answers = _decode(self.wire.recv_bytes(), type=dict[int, tuple[bytes, bytes]])
        return {node: unpack_reply(Parcel(*one)) for node, one in answers.items()}

    def step(self, name: str) -> None:
        """Nothing."""

    def round(self, index: int, *, watched: bool, facts: Mapping[str, float]) -> None:
        """Nothing."""

    def answered(self, member: str, answer: str, reason: str) -> None:
        del member, answer, reason

    def note(self, sentence: str) -> None:
        """Nothing."""


def _be_coordinator(federation: Federation, run: str, wire: Connection) -> None:
    ledger = LedgerRecorder(SqliteLedger(federation.home.ledger), federation.coordinator)
    manifest = federation.manifest(run, ledger)
    relay = _Relay(wire)
    coordinator.run(
        manifest,
        federation.launcher.sign(SIGNING_DOMAIN, manifest.to_bytes()),
        launcher=federation.launcher.public,
        data=declaration(federation.project.contract),
        transport=relay,
        ledger=ledger,
        observer=relay,
    )
    coordinator.witness(manifest, transport=relay, ledger=ledger, observer=relay)


# -- the courier -----------------------------------------------------------------------------


@dataclass
class Courier:
    """Carries one run, and kills."""

    federation: Federation
    run: str
    chance: random.Random
    wire: Wire = field(default_factory=Wire)
    pids: dict[str, int] = field(default_factory=dict)
    pipes: dict[str, Connection] = field(default_factory=dict)

    def carry(self) -> Wire:
        """Start everybody, carry messages, kill somebody on the way, and then everybody."""
        self._start()
        # two processes are killed, and then, somewhere on the way, all
        due = sorted(self.chance.sample(range(3, 170), 2))
        after = due[1] + self.chance.choice((1, 10, 40))
        carried = 0
        deadline = time.monotonic() + _LIMIT_S
        try:
            while time.monotonic() < deadline:
                batch = self._from_coordinator()
                if batch is None:
                    break
                answers: dict[int, tuple[bytes, bytes]] = {}
                for node, parcel in batch.items():
                    self._give(FIVE[node], parcel)
                for node in batch:
                    carried += 1
                    if carried in due:
                        self._kill(self.chance.choice((*FIVE, "coordinator")))
                    if carried == after:
                        return self.wire
                    answer = self._take(FIVE[node], batch[node])
                    if answer is not None:
                        answers[node] = answer
                if not self._alive("coordinator"):
                    break
                self.pipes["coordinator"].send_bytes(_encode(answers))
        except (EOFError, OSError):
            pass  # whoever it was is dead
        finally:
            self._end()
        return self.wire

    def _start(self) -> None:
        works: dict[str, Work] = {
            "coordinator": partial(_be_coordinator, self.federation, self.run),
            **{name: partial(_be_node, self.federation, name) for name in FIVE},
        }
        for name, work in works.items():
            ours, theirs = Pipe()
            self.pids[name] = _child(work, theirs, [ours, *self.pipes.values()])
            theirs.close()
            self.pipes[name] = ours

    def _from_coordinator(self) -> dict[int, tuple[bytes, bytes]] | None:
        pipe = self.pipes["coordinator"]
        if not wait([pipe], timeout=_LIMIT_S):
            return None
        return _decode(pipe.recv_bytes(), type=dict[int, tuple[bytes, bytes]])

    def _give(self, member: str, parcel: tuple[bytes, bytes]) -> None:
        request, _ = unpack_request(Parcel(*parcel))
        act = _act(self.run, request)
        if isinstance(request, SumNotice):
            self.wire.shown.add((self.run, request.step, request.round))
        elif act is not None:
            self.wire.asked[member].add(act)
        with suppress(OSError):  # it was killed
            self.pipes[member].send_bytes(_encode(parcel))

    def _take(self, member: str, parcel: tuple[bytes, bytes]) -> tuple[bytes, bytes] | None:
        try:
            if not wait([self.pipes[member]], timeout=_LIMIT_S):
                return None
            answer = _decode(self.pipes[member].recv_bytes(), type=tuple[bytes, bytes])
        except (EOFError, OSError):
            return None
        reply, _ = unpack_reply(Parcel(*answer))
        if isinstance(reply, Sealed):
            act = _act(self.run, unpack_request(Parcel(*parcel))[0])
            if act is not None:
                self.wire.left[member].add(act)
        return answer

    def _alive(self, name: str) -> bool:
        return self.pids.get(name, 0) > 0

    def _kill(self, name: str) -> None:
        time.sleep(self.chance.choice((0.0, 0.0, 0.001, 0.005, 0.02)))
        self.wire.kills += bool(self.pids[name])
        self._stop(name)

    def _stop(self, name: str) -> None:
        pid = self.pids.get(name, 0)
        if not pid:
            return
        self.pids[name] = 0
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status):
                self.wire.failed.append(name)
            return
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def _end(self) -> None:
        for name in list(self.pids):
            self._stop(name)
        # what a node had sent before it died was on the wire all the same
        for member in FIVE:
            pipe = self.pipes[member]
            try:
                while pipe.poll():
                    self._late(member, pipe.recv_bytes())
            except (EOFError, OSError):
                pass
            pipe.close()
        self.pipes["coordinator"].close()

    def _late(self, member: str, data: bytes) -> None:
        reply, _ = unpack_reply(Parcel(*_decode(data, type=tuple[bytes, bytes])))
        if isinstance(reply, Sealed):
            # the one vector that it was asked for last
            waiting = self.wire.asked[member] - self.wire.left[member]
            self.wire.left[member] |= waiting


def _act(run: str, request: Request) -> Act | None:
    if isinstance(request, StatisticsRequest):
        return run, "statistics", request.stage
    if isinstance(request, TrainRequest):
        return run, "update", request.round
    if isinstance(request, EvaluateRequest):
        return run, f"evaluate {request.part}", request.round
    return None


# -- what must hold --------------------------------------------------------------------------


@dataclass
class Tally:
    """What was found over all runs."""

    kills: int = 0
    runs: int = 0
    released: int = 0
    shown: int = 0
    unrecorded: int = 0
    over: int = 0
    over_allowed: int = 0
    faults: list[str] = field(default_factory=list)
    read: dict[Path, int] = field(default_factory=dict)

    def news(self, path: Path, run: str) -> dict[str, set[Act]]:
        """Acts of a run by kind, among the entries that came since the last look."""
        found: dict[str, set[Act]] = {
            kind: set() for kind in ("budget.reserved", "sum.reserved", "sum.opened")
        }
        ledger = SqliteLedger(path)
        for entry in entries_of(ledger.leaves(self.read.get(path, 0))):
            if entry.kind in found and entry.body["run"] == run:
                act = run, str(entry.body["step"]), int(str(entry.body["round"]))
                found[entry.kind].add(act)
        self.read[path] = ledger.size()
        ledger.close()
        return found


def hold_against(federation: Federation, run: str, wire: Wire, tally: Tally) -> None:
    """Compare ledgers with the wire, as they are on disk now."""
    tally.runs += 1
    tally.kills += wire.kills
    if wire.failed:
        tally.faults.append(f"failed without being killed: {', '.join(wire.failed)}")
    for member in FIVE:
        reserved = tally.news(federation.folder(member) / LEDGER, run)["budget.reserved"]
        left, asked = wire.left[member], wire.asked[member]
        missing, more = left - reserved, reserved - left
        tally.released += len(left)
        tally.unrecorded += len(missing)
        tally.over += len(more)
        tally.over_allowed += len(asked - left)
        if missing:
            tally.faults.append(f"{member} released without a record: {sorted(missing)}")
        if not more <= asked - left:
            tally.faults.append(f"{member} reserved what it was not asked for: {sorted(more)}")
    kinds = tally.news(federation.home.ledger, run)
    opened, put = kinds["sum.opened"], kinds["sum.reserved"]
    tally.shown += len(wire.shown)
    unrecorded = wire.shown - (opened & put)
    tally.unrecorded += len(unrecorded)
    if unrecorded:
        tally.faults.append(f"a sum was shown without a record: {sorted(unrecorded)}")
    if len(put - wire.shown) > 1:
        tally.faults.append(f"the coordinator reserved ahead: {sorted(put - wire.shown)}")


def campaign(folder: Path, *, kills: int, seed: int, careless: bool) -> Tally:
    """Kill so often, and check after each run."""
    federation = prepare(folder, careless=careless)
    chance = random.Random(seed)
    tally = Tally()
    while tally.kills < kills and not tally.faults:
        run = f"run-{tally.runs}"
        wire = Courier(federation, run, chance).carry()
        hold_against(federation, run, wire, tally)
    if not tally.faults:
        verify_home(federation.home)
    return tally


def main() -> int:
    """Print what was found as JSON; exit 1 where something did not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--careless", action="store_true")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    started = time.monotonic()
    tally = campaign(given.folder, kills=given.kills, seed=given.seed, careless=given.careless)
    seconds = round(time.monotonic() - started, 1)
    del tally.read
    print(json.dumps({**tally.__dict__, "seconds": seconds}, indent=1))  # noqa: T201
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
