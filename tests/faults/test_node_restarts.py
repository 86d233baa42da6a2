"""Nodes that are thrown away and made again from their folders, at every message of a run."""

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tables
from support.direct import Direct, DirectTransport, assemble
from support.suites import skip_without
from support.sums import frame_of

from aggregator.ports import Answer
from clients.learner import Learner
from clients.model_file import load_model
from clients.node import Node
from clients.node_settings import NodeSettings
from clients.policy import NodePolicy
from clients.session_file import SessionFile, kept_runs, read_pointer
from clients.spec import parse_node_spec
from privacy.errors import RefusedError, TacitError
from privacy.ledger.sqlite import SqliteLedger
from privacy.messages import (
    Parcel,
    Refused,
    Reply,
    Request,
    RosterNotice,
    StateNotice,
    SumNotice,
    SumRequest,
    SurvivorsNotice,
    TrainRequest,
    pack,
    unpack_reply,
    unpack_request,
    vector_digest,
)

FOUR = ("bank", "east", "mill", "north")
THREE = FOUR[:3]
NOISE: dict[str, object] = {
    "privacy": {"noise": "distributed", "epsilon": 8.0, "rate": 0.25},
    "training": {"rounds": 1},
    "server": {"kind": "fedavgm", "learning_rate": 1.0},
    "validation_share": 0.0,
}


class Restarted(Mapping[int, Node]):
    """Address -> a node that was made this moment, with nothing but its folder."""

    def __init__(self, settings: Mapping[int, NodeSettings]) -> None:
        self._settings = settings

    def __getitem__(self, address: int) -> Node:
        return Node(self._settings[address])

    def __iter__(self) -> Iterator[int]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)


@dataclass
class RestartingTransport(DirectTransport):
    """Asks each node, loses the reply, starts the node again, and asks it again.

    Attributes:
        said: Member, request -> the one reply that it ever had.
    """

    said: dict[tuple[str, bytes, bytes], Parcel] = field(default_factory=dict)

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
        answers: dict[int, Answer] = {}
        for address, (request, payload) in requests.items():
            member = self.members[address].member
            if self.away is not None and self.away(member, request, False):
                continue
            parcel = pack(request, payload)
            asked = (member, parcel.message, parcel.payload)
            lost = pack(*handled(self.members[address], parcel))
            reply = pack(*handled(self.members[address], parcel))
            # a cosignature outside of runs has its own time
            if not isinstance(request, StateNotice):
                assert lost == reply == self.said.setdefault(asked, reply), (member, request)
            if self.away is not None and self.away(member, request, True):
                continue
            self.seen.append((member, request, reply))
            answers[address] = unpack_reply(reply)
        return answers


def handled(node: Node, parcel: Parcel) -> tuple[Reply, bytes]:
    try:
        return node.handle(*unpack_request(parcel))
    except TacitError as refusal:
        return Refused(member=node.member, reason=str(refusal)), b""


def restarting(
    folder: Path, *, members: tuple[str, ...] = FOUR, held: bool = False, **changes: object
) -> Direct:
    settings = {
        "training": {"rounds": 1 + (members == FOUR), "batch_rows": 32, "learning_rate": 0.02},
        "model": {"hidden": [], "linear": True},
        **changes,
    }
    columns = tables.columns("binary")
    if held:
        columns = [one | {"monotone": "down"} if one["name"] == "load" else one for one in columns]
    where = tables.write(
        folder,
        rows=frame_of(members, rows=30),
        config_changes=settings,
        contract_changes={"columns": columns},
    )
    direct = assemble(where.config, folder)
    kept = {place: replace(node._settings, sessions=True) for place, node in direct.nodes.items()}
    nodes = Restarted(kept)
    return replace(
        direct,
        nodes=nodes,  # type: ignore[arg-type]
        transport=RestartingTransport(nodes),
    )


def leftovers(folder: Path) -> list[str]:
    """What is left in the nodes' folders of sessions, but for that they were finished."""
    found = [str(path) for path in folder.glob("nodes/*/sessions/[0-9a-f]*")]
    ledgers = [SqliteLedger(path) for path in folder.glob("nodes/*/ledger.db")]
    pointers = [
        (ledger.place, read_pointer(ledger, run)) for ledger in ledgers for run in kept_runs(ledger)
    ]
    assert pointers
    return found + [place for place, one in pointers if one is None or one.state]


@pytest.mark.parametrize(
    ("changes", "members"),
    [
        ({}, FOUR),
        ({"protection": {"sum": "sealed"}}, THREE),
        ({"personal": {"epochs": 1}}, THREE),
        (NOISE, THREE),
        ({"protection": {"sum": "masked", "suite": "gm"}}, THREE),
        ({"protection": {"sum": "masked", "suite": "hybrid"}}, THREE),
    ],
    ids=["masked", "sealed", "personal", "noise", "gm", "hybrid"],
)
def test_a_run_whose_nodes_restart_at_every_message_ends_as_if_none_had(
    tmp_path: Path, changes: dict[str, Any], members: tuple[str, ...]
) -> None:
    run = restarting(tmp_path, members=members, **changes)
    skip_without(run.manifest.suite)
    outcome = run.run()
    run.witness()
    assert run.notes.sentences == []
    assert set(outcome.result.absences.values()) == {0}
    assert set(run.models()) == set(members)
    assert len(set(run.models().values())) == 1
    assert leftovers(tmp_path) == []
    assert all(node.pending == 0 for node in run.verdict().nodes)


@pytest.mark.parametrize("changes", [{}, NOISE], ids=["masked", "noise"])
def test_curves_stay_held_where_nodes_restart(tmp_path: Path, changes: dict[str, Any]) -> None:
    """What projects is made anew, of contract, run and statistics; the rows say the opposite."""
    run = restarting(tmp_path, members=THREE, held=True, **changes)
    outcome = run.run()
    assert len(set(run.models().values())) == 1
    settings = dict(run.manifest.node_settings)
    plan = run.manifest.privacy
    learner = Learner(run.project.contract, parse_node_spec(settings), "cpu", plan=plan)
    learner.start(outcome.statistics)
    held = learner.hold(outcome.model.astype(np.float64)).astype(np.float32)
    assert learner.hold.curves
    assert held.tobytes() == outcome.model.tobytes()


def test_with_a_member_away_for_a_round_the_others_restart_and_it_comes_back(
    tmp_path: Path,
) -> None:
    run = restarting(tmp_path)
    run.transport.away = lambda member, request, after: (
        (
            # its vector arrives, and then it is gone until the round is over
            member == "north" and isinstance(request, SurvivorsNotice | SumNotice) and not after
        )
        and run.notes.rounds == []
    )
    outcome = run.run()
    assert outcome.result.absences == {"bank": 0, "east": 0, "mill": 0, "north": 3}
    assert set(run.models()) == set(FOUR)
    assert len(set(run.models().values())) == 1
    assert leftovers(tmp_path) == []


def test_restarts_change_nothing_of_what_is_learnt(tmp_path: Path) -> None:
    restarted = restarting(tmp_path / "restarted", members=THREE).run()
    plain = restarting(tmp_path / "plain", members=THREE)
    nodes = {
        place: Node(replace(node._settings, sessions=False)) for place, node in plain.nodes.items()
    }
    usual = replace(plain, nodes=nodes, transport=DirectTransport(nodes)).run()
    # roundings are drawn anew, so not bit for bit
    assert restarted.model == pytest.approx(usual.model, abs=1e-3)


class StoppedError(BaseException):
    """The node's process ends here."""


@dataclass
class Stops:
    """Ends a node's process at the writing of its state, once at each place of each request.

    Attributes:
        lost: Whether it also stops between the notice that a vector is sealed and the vector.
        places: Before or after which of the request's states it is to stop, from 1.
        request: What is being answered.
        count: States that were written for it.
    """

    lost: bool = False
    places: list[tuple[bool, int]] = field(default_factory=list)
    request: Request | None = None
    count: int = 0

    def begin(self, request: Request) -> None:
        if request != self.request:
            sums = isinstance(request, SumRequest)
            self.places = [(True, 1), (False, 2)] if sums else [(True, 1), (False, 1), (True, 2)]
            if sums and self.lost and isinstance(request, TrainRequest) and request.round == 1:
                self.places = [(False, 1)]
        self.request, self.count = request, 0

    def at(self, *, before: bool) -> None:
        self.count += before
        if self.places and self.places[0] == (before, self.count):
            self.places.pop(0)
            raise StoppedError


@pytest.mark.parametrize("lost", [False, True])
def test_a_node_that_stops_before_or_after_each_state_is_written_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    run, stops, real = restarting(tmp_path), Stops(lost=lost), SessionFile.save

    def save(file: SessionFile, body: bytes, parts: Mapping[bytes, bytes | memoryview]) -> None:
        if "bank" not in file.home.parts:
            return real(file, body, parts)
        stops.at(before=True)
        real(file, body, parts)
        return stops.at(before=False)

    monkeypatch.setattr(SessionFile, "save", save)
    run.transport = StoppingTransport(run.nodes, stops=stops)
    outcome = run.run()
    assert run.transport.stopped > 40
    assert outcome.result.absences["bank"] == int(lost)
    assert set(run.models()) == set(FOUR)
    assert len(set(run.models().values())) == 1
    assert leftovers(tmp_path) == []
    run.verdict()


@dataclass
class StoppingTransport(DirectTransport):
    """Sends a request again to a node that stopped, as the network does."""

    stops: Stops = field(default_factory=Stops)
    stopped: int = 0
    said: dict[tuple[str, bytes, bytes], Parcel] = field(default_factory=dict)

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
        answers: dict[int, Answer] = {}
        for address, (request, payload) in requests.items():
            self.stops.begin(request) if self.members[address].member == "bank" else None
            parcel = pack(request, payload)
            while address not in answers:
                try:
                    answers[address] = unpack_reply(pack(*handled(self.members[address], parcel)))
                except StoppedError:
                    self.stopped += 1
                    self.stops.count = 0
        return answers


def test_runs_side_by_side_are_answered_side_by_side(tmp_path: Path) -> None:
    first = restarting(tmp_path, members=THREE)
    nodes = {place: Node(node._settings) for place, node in first.nodes.items()}
    ends: dict[str, bytes | BaseException] = {}

    def run(name: str) -> None:
        manifest = replace(first.manifest, run=name)
        mine = replace(first, manifest=manifest, nodes=nodes, transport=DirectTransport(nodes))
        try:
            ends[name] = mine.run().result.model
        except BaseException as fault:  # noqa: BLE001 - told below
            ends[name] = fault

    names = [f"run-{place}" for place in range(3)]
    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(end, bytes) for end in ends.values()), ends
    for name in names:
        digests = {
            vector_digest(load_model(node.home / "runs" / name / "model.safetensors"))
            for node in nodes.values()
        }
        assert len(digests) == 1
    assert leftovers(tmp_path) == []


def test_a_run_begins_with_those_who_agreed_if_they_are_enough(tmp_path: Path) -> None:
    run = restarting(tmp_path, min_members=3)
    run.transport.away = lambda member, _, __: member == "north"
    run.run()
    assert set(run.models()) == set(THREE)
    assert len(set(run.models().values())) == 1


def test_those_who_agreed_have_to_be_enough_for_each_of_them(tmp_path: Path) -> None:
    run = restarting(tmp_path, min_members=3)
    node, terms = run.nodes[100], [NodePolicy(minimum_cohort=3)]
    node = Node(replace(node._settings, policy=lambda: terms[-1]))
    nodes = {**run.nodes, 100: node}
    run.transport = DirectTransport(nodes)

    def away(member: str, request: Request, after: bool) -> bool:
        del after
        if isinstance(request, RosterNotice):
            terms.append(NodePolicy(minimum_cohort=4))
        return member == "north"

    run.transport.away = away
    with pytest.raises(RefusedError, match="3 members offered keys and 4 are needed"):
        run.run()
