"""Kill nodes and coordinators in mid-round, for real, and hold their ledgers against the wire.

    PYTHONPATH=.:tests python tests/faults/kill_rounds.py FOLDER --kills 1000 --seed 1

Every node and the coordinator are processes of their own; this one is the courier between them, so
it knows what left whom, whatever becomes of them. A process is killed (SIGKILL) at a random moment
of the time that such an answer takes, or all are at once; another takes its place in the same
folder, and the run goes on with what is on disk. All are forks of this process, which has loaded
what they need: so a kill costs a fork, and no start. After each run:

    1. every vector that left a node is reserved in that node's own ledger, once;
    2. every sum that members were shown is reserved and opened in the coordinator's ledger;
    3. a node has reserved more than left it only by what it was asked for and had not answered, and
       the coordinator at most one step more than it showed;
    4. no node sent two vectors for a step, signed survivors whom it had left out before, or told
       both secrets of a member; no step was shown with two sums;
    5. no ledger is shorter than it was; members that finished the run have one model.

Every `RUNS` runs the whole home is verified, as a regulator would, and a new one begun. With
`--careless` nodes release before they reserve, which must show: it is the twin that shows that this
can fail.
"""

import argparse
import gc
import importlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

import msgspec
from faults.kill_wire import FIVE, Tally, Wire
from support import tables
from typing_extensions import Buffer

from aggregator import coordinator
from aggregator.ports import Answer
from clients.members import MemberRows, read_members
from clients.node import Node
from clients.node_settings import NodeSettings
from clients.policy import BudgetPolicy, NodePolicy
from federation.audit import verify_home
from federation.config import Project, load_project
from federation.declaration import declaration
from federation.home import Home
from federation.ledger_recorder import LedgerRecorder
from federation.notebook import FolderNotebook
from privacy.budget import Budget
from privacy.errors import CohortError, RefusedError, TacitError
from privacy.identity import Identity
from privacy.ledger.sqlite import SqliteLedger
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.messages import (
    Parcel,
    Refused,
    Request,
    pack,
    unpack_reply,
    unpack_request,
)
from privacy.plan import PrivacyPlan
from privacy.randomness import system_bytes
from privacy.receipt import Receipt
from privacy.release import ReleaseToken

COORDINATOR = "coordinator"
PRIVACY = {"epsilon": 8.0, "delta": 1e-3, "noise": "distributed", "colluders": 1}
RATES = (0.15, 0.1, 0.015)
LOST = 0.1
"""How likely it is that an answer that a killed node owed is asked for with the next request."""
RUNS = 40
"""Runs of one home; its ledgers are read in each."""
MANY = 500
PATIENCE_S = 0.5
MOST = 100
"""A run in which so many were killed is left where it is, as one is whose launcher gives it up."""
LATE_S = 0.1
"""How late a careless node reserves: so long that it is killed in between now and then."""
LIMIT_S = 1800.0
ABORTED = 3
Work = Callable[[Connection], None]
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

    @property
    def loaded(self) -> Path:
        """Where processes say what they have loaded when they end by themselves."""
        return self.home.root.with_name("loaded")

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
            # so long a coordinator that goes on waits for a member that does not come back, as one
            # does not whose ledger lacks what it released
            "deadline_s": PATIENCE_S,
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


def _child(work: Work, wire: Connection, unused: Collection[Connection], loaded: Path) -> int:
    """Fork; the child does its work and is gone, and says what it had loaded if that is asked."""
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
        code = ABORTED  # the others were killed
    except BaseException:  # noqa: BLE001 - whatever it is
        # nobody killed it, so it is a fault of its own, and must be seen
        traceback.print_exc()
    finally:
        if loaded.is_dir():
            (loaded / str(os.getpid())).write_text("\n".join(sys.modules), encoding="utf-8")
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
            sessions=True,
        )
    )
    node.restore()
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
        if late:
            time.sleep(LATE_S)
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
    try:
        coordinator.run(
            manifest,
            federation.launcher.sign(SIGNING_DOMAIN, manifest.to_bytes()),
            launcher=federation.launcher.public,
            data=declaration(federation.project.contract),
            transport=relay,
            ledger=ledger,
            observer=relay,
            notebook=FolderNotebook(federation.home.root.with_name("notebooks") / run),
        )
    except RefusedError as refusal:
        # before the first round a run ends where a member refuses, as one does that had a vector on
        # record when it was killed, and not yet the rest
        raise CohortError(str(refusal)) from None
    coordinator.witness(manifest, transport=relay, ledger=ledger, observer=relay)


# -- the courier -----------------------------------------------------------------------------


@dataclass
class Pace:
    """How long answers take here and now: a kill is to fall in the middle of one."""

    usual_s: dict[str, float] = field(default_factory=dict)

    def heard(self, kind: str, took_s: float) -> None:
        """An answer of a kind came after so long."""
        self.usual_s[kind] = 0.8 * self.usual_s.get(kind, took_s) + 0.2 * took_s

    def moment(self, kind: str, chance: random.Random) -> float:
        """When to kill, seconds after the question."""
        return chance.uniform(0.0, 1.2) * min(self.usual_s.get(kind, 0.01), 0.2)


@dataclass
class Courier:
    """Carries one run, and kills.

    Attributes:
        federation: Whose.
        run: The run's name.
        chance: Says who is killed, and when.
        pace: How long answers take.
        rates: How likely it is, with each answer that is waited for, that a node is killed; that
            the coordinator is; and, with each of the coordinator's, that all are.
    """

    federation: Federation
    run: str
    chance: random.Random
    pace: Pace
    rates: tuple[float, float, float] = RATES
    wire: Wire = field(init=False)
    pids: dict[str, int] = field(default_factory=dict)
    pipes: dict[str, Connection] = field(default_factory=dict)
    _given: dict[str, tuple[Parcel, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wire = Wire(self.run)

    def carry(self) -> Wire:
        """Start everybody, carry messages, and kill, until the run is over."""
        for name in (*FIVE, COORDINATOR):
            self._start(name)
        deadline = time.monotonic() + LIMIT_S
        try:
            while time.monotonic() < deadline:
                if self.wire.kills >= MOST:
                    break
                batch, alive = self._from_coordinator()
                if batch is None and alive:
                    break
                for place, parcel in (batch or {}).items():
                    self._give(FIVE[place], parcel)
                answers = self._answers([FIVE[place] for place in batch or {}])
                if alive and self.chance.random() < self.rates[1] / 2:
                    # it asks again for what it was told, or would have been
                    self._kill(COORDINATOR)
                    self._start(COORDINATOR)
                elif alive:
                    by_place = {FIVE.index(member): one for member, one in answers.items()}
                    self.pipes[COORDINATOR].send_bytes(_encode(by_place))
            else:
                self.wire.wrong.append(f"{self.run} was not over after {LIMIT_S:.0f} s")
        finally:
            self._end()
        return self.wire

    def _start(self, name: str) -> None:
        if name in self.pipes:
            self.pipes[name].close()
        work: Work = (
            partial(_be_coordinator, self.federation, self.run)
            if name == COORDINATOR
            else partial(_be_node, self.federation, name)
        )
        ours, theirs = Pipe()
        others = [pipe for one, pipe in self.pipes.items() if one != name]
        self.pids[name] = _child(work, theirs, [ours, *others], self.federation.loaded)
        theirs.close()
        self.pipes[name] = ours

    def _from_coordinator(self) -> tuple[dict[int, Parcel] | None, bool]:
        """What it asks, and whether it still waits for the answers; None, True: the run is over."""
        pipe, begun = self.pipes[COORDINATOR], time.monotonic()
        dies, all_die = (self.chance.random() < rate for rate in self.rates[1:])
        patience_s = self.pace.moment(COORDINATOR, self.chance) if dies or all_die else LIMIT_S
        said = bool(wait([pipe], timeout=patience_s))
        if not dies and not all_die:
            batch = _batch(pipe) if said else None
            if batch is None:
                # by itself: the run is over, or cannot be gone on with
                self.wire.over = self._stop(COORDINATOR) == 0
                if not said:
                    self.wire.wrong.append("the coordinator says nothing")
            else:
                self.pace.heard(COORDINATOR, time.monotonic() - begun)
            return batch, True
        code = self._kill(COORDINATOR)
        if code != -signal.SIGKILL:
            self.wire.over = code == 0
            return None, True
        batch = _batch(pipe)
        self.wire.at_work += batch is None
        if all_die:
            for name in FIVE:
                self._kill(name)
                self._start(name)
        self._start(COORDINATOR)
        # what it had asked is on the wire, and answered to nobody
        return batch, False

    def _give(self, member: str, parcel: Parcel) -> None:
        self.wire.gave(member, *unpack_request(parcel))
        self._given[member] = parcel, time.monotonic()
        with suppress(OSError):  # it failed, which is seen when it is heard
            self.pipes[member].send_bytes(_encode((parcel.message, parcel.payload)))

    def _strike(self, asked: Sequence[str]) -> dict[str, tuple[bytes, bytes] | None]:
        """Kill some of those that work now; what they had said, or None where that is lost."""
        due = [
            (given + self.pace.moment(_kind(parcel), self.chance), member)
            for member in asked
            if self.chance.random() < self.rates[0]
            for parcel, given in (self._given[member],)
        ]
        heard: dict[str, tuple[bytes, bytes] | None] = {}
        for moment, member in sorted(due):
            time.sleep(max(0.0, moment - time.monotonic()))
            os.kill(self.pids[member], signal.SIGKILL)
        for _, member in due:
            self._kill(member)  # it is dead, or will be when this is over
            # what it had sent before it died was on the wire all the same
            heard[member] = self._heard(member)
            self.wire.at_work += heard[member] is None
        again: list[str] = []
        for member in list(heard):
            self._start(member)
            if heard[member] is None and self.chance.random() >= LOST:
                del heard[member]
                self._give(member, self._given[member][0])
                again.append(member)
        return heard | self._strike(again) if again else heard

    def _answers(self, asked: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
        """What nodes say; of one that was killed it may be that nothing is heard."""
        found = self._strike(asked)
        quiet = not found  # else it was heard late
        for member in asked:
            if member in found:
                continue
            parcel, given = self._given[member]
            if not wait([self.pipes[member]], timeout=LIMIT_S):
                self.wire.wrong.append(f"{member} did not answer a {_kind(parcel)}")
                continue
            found[member] = self._heard(member)
            if quiet:
                self.pace.heard(_kind(parcel), time.monotonic() - given)
            if found[member] is None:  # it ended by itself
                self._stop(member)
                self._start(member)
        return {member: answer for member, answer in found.items() if answer is not None}

    def _heard(self, member: str) -> tuple[bytes, bytes] | None:
        try:
            if not self.pipes[member].poll():
                return None
            answer = _decode(self.pipes[member].recv_bytes(), type=tuple[bytes, bytes])
        except (EOFError, OSError):
            return None
        request, _ = unpack_request(self._given[member][0])
        self.wire.took(member, request, *unpack_reply(Parcel(*answer)))
        return answer

    def _kill(self, name: str) -> int:
        code = self._stop(name)
        self.wire.kills += code == -signal.SIGKILL
        return code

    def _stop(self, name: str) -> int:
        """End a process that may have ended; its exit code."""
        pid = self.pids.pop(name, 0)
        if not pid:
            return 0
        os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code not in {0, ABORTED, -signal.SIGKILL}:
            self.wire.failed.append(name)
        return code

    def _end(self) -> None:
        gently = not any(self.rates)
        for pipe in self.pipes.values():
            pipe.close()
        for name, pid in list(self.pids.items()):
            if gently:
                os.waitpid(pid, 0)
            else:
                self._stop(name)


def _kind(parcel: Parcel) -> str:
    return type(unpack_request(parcel)[0]).__name__


def _batch(pipe: Connection) -> dict[int, Parcel] | None:
    try:
        if not pipe.poll():
            return None
        asked = _decode(pipe.recv_bytes(), type=dict[int, tuple[bytes, bytes]])
    except (EOFError, OSError):
        return None
    return {node: Parcel(*parcel) for node, parcel in asked.items()}


# -- the campaign ----------------------------------------------------------------------------


def warm(federation: Federation) -> None:
    """Load what nodes and coordinators load in a run, by a run in which nobody is killed."""
    federation.loaded.mkdir()
    wire = Courier(federation, "warm", random.Random(0), Pace(), rates=(0.0, 0.0, 0.0)).carry()
    if not wire.over or wire.wrong or wire.failed:
        raise RuntimeError(f"a run in which nobody is killed does not come to its end: {wire}")
    for path in federation.loaded.glob("*"):
        for name in path.read_text(encoding="utf-8").split():
            with suppress(ImportError, AttributeError):
                importlib.import_module(name)
    shutil.rmtree(federation.loaded)
    gc.collect()
    gc.freeze()  # pages that no child writes to are shared with all of them


def models_of(federation: Federation, run: str) -> set[bytes]:
    """The final models that members wrote down."""
    return {
        path.read_bytes()
        for member in FIVE
        if (path := federation.folder(member) / "runs" / run / "model.safetensors").exists()
    }


def campaign(folder: Path, *, kills: int, seed: int, careless: bool) -> Tally:
    """Kill so often, and check after each run."""
    chance, pace, tally = random.Random(seed), Pace(), Tally()
    homes = 0
    while tally.kills < kills and not tally.faults:
        federation = prepare(folder / f"home-{homes}", careless=careless)
        if not homes:
            warm(federation)
        homes += 1
        for number in range(RUNS):
            wire = Courier(federation, f"run-{number}", chance, pace).carry()
            tally.hold_against(federation.home, federation.project.contract.name, wire)
            if len(models_of(federation, wire.run)) > 1:
                tally.faults.append(f"members have several models of {wire.run}")
            if kills > MANY:
                sys.stderr.write(
                    f"{tally.kills} kills, {tally.at_work} at work, run {tally.runs}\n"
                )
                sys.stderr.flush()
            if tally.kills >= kills or tally.faults:
                break
        if not tally.faults:
            verify_home(federation.home)
            tally.verified += 1
            shutil.rmtree(folder / f"home-{homes - 1}")
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
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    core_s = round(sum(one.ru_utime + one.ru_stime for one in used), 1)
    del tally.read
    found = {**tally.__dict__, "seconds": seconds, "core_s": core_s}
    print(json.dumps(found, indent=1))  # noqa: T201
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
