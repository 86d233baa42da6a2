"""A node at work, without a network: what it asks, when it waits, what it keeps of itself."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import Context, Metadata, RecordDict
from flwr.app.message.message import make_message
from flwr.clientapp import ClientApp
from support import tables
from support.federations import Federated

from aggregator.app import answer_in, record_of
from federation.config import load_project
from federation.home import read_json
from federation.node_data import NodeData
from federation.node_service import NodeService, Outside, alone, is_running, make_service
from federation.participant import Place
from federation.registry.credentials import Credentials
from federation.run_manifest import make_manifest
from privacy.errors import InputError, RefusedError
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN
from privacy.messages import (
    Invite,
    Ready,
    Reply,
    Request,
    RosterNotice,
    TrainRequest,
    pack,
)

NODE, LAUNCHER, OTHER = "north", "south", "west"
MONDAY = datetime(2026, 3, 2, 10, tzinfo=UTC)


@dataclass
class World:
    """What is outside of the node, as a test wants it."""

    federated: Federated
    now: datetime = MONDAY
    renewals: int = 0
    served: list[str] = field(default_factory=list)
    work: Callable[[ClientApp], None] = lambda _: None
    said: list[str] = field(default_factory=list)

    def engine(
        self,
        fleet: str,
        credentials: Credentials,
        app: ClientApp,
        *,
        stop: threading.Event,
        told: Callable[[str], None],
    ) -> None:
        assert credentials.peer.name == NODE
        self.served.append(fleet)
        told("connected")
        self.work(app)
        stop.wait(20)

    def renew(self, place: Place) -> bool:
        del place
        self.renewals -= 1
        return self.renewals >= 0

    def make(self) -> NodeService:
        outside = Outside(
            read=lambda _: self.federated.membership,
            cached=lambda _: None,
            renew=self.renew,
            engine=self.engine,
            now=lambda: self.now,
        )
        return make_service(self.federated.homes[NODE], outside, say=self.said.append)


@pytest.fixture
def federated(tmp_path: Path) -> Federated:
    made = Federated(tmp_path / "federation")
    for name, role in ((NODE, "manufacturer"), (LAUNCHER, "bank"), (OTHER, "insurer")):
        made.add(name, role)
    small = tables.write(tmp_path / "rows")
    NodeData(device="cpu").add(small.contract, small.root).keep(made.homes[NODE].own_node)
    return made


@pytest.fixture
def world(federated: Federated) -> World:
    # certificates are valid now, so the days of a test's clock are not asked of them
    made = World(federated)
    made.now = datetime.now(UTC)
    return made


def ask(app: ClientApp, request: Request) -> Reply:
    about = Metadata(
        run_id=1,
        message_id="m",
        src_node_id=1,
        dst_node_id=2,
        reply_to_message_id="",
        group_id="a-run",
        created_at=time.time(),
        ttl=60.0,
        message_type="query",
    )
    message = make_message(about, content=record_of(pack(request)))
    context = Context(1, 1, {}, RecordDict(), {}, 0)
    return answer_in(app(message, context).content)[0]


def invite(federated: Federated, config: Path, run: str) -> Invite:
    place = federated.place(NODE)
    manifest = make_manifest(
        load_project(config),
        run=run,
        directory=federated.membership.members(),
        ledger={
            "origin": place.ledger_origin,
            "key": place.ledger_key.hex(),
            **federated.membership.told,
        },
        seed=0,
        fold=None,
        plan=None,
    )
    launcher, other = (federated.identity(name) for name in (LAUNCHER, OTHER))
    return Invite(
        manifest=manifest.to_bytes(),
        signature=launcher.sign(SIGNING_DOMAIN, manifest.to_bytes()),
        launcher=launcher.public,
        countersigner=OTHER,
        countersignature=other.sign(COUNTERSIGN_DOMAIN, manifest.digest()),
    )


def test_a_node_joins_tells_and_keeps_how_it_is(world: World, tmp_path: Path) -> None:
    stop = threading.Event()
    answers: list[Reply] = []
    config = tmp_path / "rows" / "config.yaml"

    def work(app: ClientApp) -> None:
        answers.append(ask(app, invite(world.federated, config, "a-run")))
        stop.set()

    world.work = work
    service = world.make()
    service.run(stop)
    assert type(answers[0]).__name__ == "Joined"
    assert world.said[0] == "connected"
    assert world.said[-1] == "ended in order"
    state = read_json(service.folder / "service.json")
    assert state["running"] is False
    assert list(state["runs"].values()) == ["a-run"]
    assert state["policy"]["fault"] == ""


def test_a_node_without_a_second_signature_refuses(world: World, tmp_path: Path) -> None:
    stop = threading.Event()
    answers: list[Reply] = []

    def work(app: ClientApp) -> None:
        request = invite(world.federated, tmp_path / "rows" / "config.yaml", "a-run")
        bare = Invite(request.manifest, request.signature, request.launcher)
        answers.append(ask(app, bare))
        stop.set()

    world.work = work
    world.make().run(stop)
    assert "let a second member sign it too" in getattr(answers[0], "reason", "")


def test_a_renewed_certificate_is_used_by_a_new_connection(world: World) -> None:
    stop = threading.Event()
    world.renewals = 1

    def work(app: ClientApp) -> None:
        del app
        if len(world.served) == 2:
            stop.set()

    world.work = work
    world.make().run(stop)
    assert len(world.served) == 2
    assert "the certificate was renewed" in world.said


@dataclass
class QuietDesk:
    """Answers everything at once."""

    member: str = NODE
    tells_data_errors: bool = False
    contracts: tuple[str, ...] = ()
    runs: Mapping[str, str] = field(default_factory=dict)

    def handle(self, request: Request, payload: bytes = b"") -> tuple[Reply, bytes]:
        del request, payload
        return Ready(member=self.member), b""

    def restore(self) -> tuple[str, ...]:
        return ("an-old-run",)


@pytest.mark.parametrize("ends", [False, True])
def test_outside_of_hours_a_new_step_waits_and_what_was_begun_ends(
    world: World, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr("federation.node_service.HELD_S", 0.02)
    policy = "hours: {from: 08:00, until: 09:00, pause_outside: true}\n"
    (world.federated.homes[NODE].own_node / "policy.yaml").write_text(policy)
    service = replace(world.make(), desk=cast("Any", QuietDesk(runs={"ab" * 32: "a-run"})))
    clock = [MONDAY]
    service.consents.now = lambda: clock[0]
    stop, done = threading.Event(), threading.Event()
    answers: list[str] = []
    run = bytes.fromhex("ab" * 32)

    def train(app: ClientApp) -> None:
        try:
            reply = ask(app, TrainRequest(run=run, accepted={}, round=3))
            answers.append(type(reply).__name__)
        except RefusedError as refusal:
            answers.append(str(refusal))
        done.set()

    def work(app: ClientApp) -> None:
        held = threading.Thread(target=train, args=(app,), daemon=True)
        held.start()
        # a notice begins nothing, so it is answered at any hour
        assert type(ask(app, RosterNotice(run=run, offers=()))).__name__ == "Ready"
        time.sleep(0.1)
        assert answers == []
        if not ends:
            clock[0] = MONDAY.replace(hour=8)
            assert done.wait(5)
        stop.set()
        assert done.wait(5)

    world.work = work
    service.run(stop)
    assert "a-run waits: it is outside of this node's hours" in world.said
    assert "going on with an-old-run, which was under way" in world.said
    if ends:
        assert answers == ["This node ends; it goes on when it is started again."]
    else:
        assert answers == ["Ready"]
        assert "a-run: round 3" in world.said


def test_one_process_a_folder(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with alone(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(RefusedError, match="Another process is the node"), alone(tmp_path):
            pass
    assert not is_running(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), alone(tmp_path / "file"):
        pass


def test_who_has_no_node(federated: Federated, world: World) -> None:
    federated.add("Regulator", "regulator")
    federated.homes[NODE] = federated.homes["Regulator"]
    with pytest.raises(RefusedError, match="Regulator is a regulator, and only manufacturers"):
        world.make()


def test_a_broken_policy_is_told_before_anything_heavy(world: World) -> None:
    (world.federated.homes[NODE].own_node / "policy.yaml").write_text("tasks: all\n")
    with pytest.raises(InputError, match="tasks: expected a list"):
        world.make()


def test_without_data_there_is_nothing_to_start(world: World) -> None:
    (world.federated.homes[NODE].own_node / "node.json").unlink()
    with pytest.raises(InputError, match="no data contract yet"):
        world.make()


def test_health_is_told_where_it_is_asked_for(world: World) -> None:
    from urllib.request import urlopen

    service = world.make()
    with service.answering_operator("none") as address:
        assert address == ""
    service.roster.membership()
    with (
        service.answering_operator("127.0.0.1:0") as address,
        urlopen(f"http://{address}/health") as answer,
    ):
        assert answer.status == 200
