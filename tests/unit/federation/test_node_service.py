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
from support.deployed import wait_for
from support.federations import Federated

from aggregator.app import answer_in, record_of
from clients.ledger_watch import LedgerWatch
from federation.config import load_project
from federation.home import read_json, write_json
from federation.leaving import UnderWay, ask_to_leave
from federation.node_data import NodeData
from federation.node_service import (
    NodeService,
    Outside,
    alone,
    follow_own,
    is_running,
    make_service,
    open_ledger,
)
from federation.participant import Place
from federation.registry.credentials import Credentials
from federation.run_manifest import make_manifest
from privacy.errors import InputError, RefusedError
from privacy.identity import Identity
from privacy.ledger.entry import parse_leaf
from privacy.ledger.keys import log_key, log_origin
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN, Manifest
from privacy.messages import (
    Invite,
    Ready,
    Reply,
    Request,
    RosterNotice,
    TrainRequest,
    pack,
)
from privacy.randomness import system_bytes

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
    begun: threading.Event = field(default_factory=threading.Event)

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
        self.begun.set()
        told("connected")
        self.work(app)
        stop.wait(120)

    def renew(self, place: Place) -> bool:
        del place
        if self.renewals > 0:
            # a certificate that is renewed before the first connection needs no second
            assert self.begun.wait(60)
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
    # these runs are without noise
    terms = "minimum_protection: {noise_from: none}\n"
    (made.homes[NODE].own_node / "policy.yaml").write_text(terms)
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
    return signed(federated, manifest)


def signed(federated: Federated, manifest: Manifest) -> Invite:
    """The run, as a bank launched it and an insurer countersigned it."""
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
    assert "vault.key: it seals what is kept" in world.said[0]
    assert (service.folder / "vault.key").stat().st_mode & 0o777 == 0o600
    assert world.said[1] == "connected"
    assert world.said[-1] == "ended in order"
    state = read_json(service.folder / "service.json")
    assert state["running"] is False
    assert list(state["runs"].values()) == ["a-run"]
    assert state["policy"]["fault"] == ""


def test_a_node_sees_that_somebody_left_while_its_runs_are_under_way(world: World) -> None:
    settings = world.make().desk._any._settings
    launcher, other = (world.federated.identity(name).public for name in (LAUNCHER, OTHER))
    directory = {"launcher": launcher, OTHER: other}
    assert settings.gone(directory) == frozenset()
    world.federated.desk().revoke(LAUNCHER, "left")
    settings = world.make().desk._any._settings
    assert settings.gone(directory) == {"launcher"}


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
    asked: list[str] = field(default_factory=list)
    before_ms: int = 0

    def handle(self, request: Request, payload: bytes = b"") -> tuple[Reply, bytes]:
        del request, payload
        return Ready(member=self.member), b""

    def restore(self) -> tuple[str, ...]:
        self.asked.append("restore")
        return ("an-old-run",)

    def leave(self, run: bytes, why: str) -> str:
        self.asked.append(f"leave {run.hex()[:4]}: {why}")
        return "a-run"

    def forget(self, before_ms: int) -> tuple[str, ...]:
        self.asked.append("forget")
        self.before_ms = before_ms
        return ("a-silent-run",)


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
        hours = "a-run waits: it is outside of this node's hours"
        wait_for(lambda: hours in world.said, hours, every_s=0.01)
        time.sleep(0.1)
        assert answers == []
        if not ends:
            clock[0] = MONDAY.replace(hour=8)
            assert done.wait(60)
        stop.set()
        assert done.wait(60)

    world.work = work
    service.run(stop)
    assert "going on with an-old-run, which was under way" in world.said
    if ends:
        assert answers == ["This node ends; it goes on when it is started again."]
    else:
        assert answers == ["Ready"]
        assert "a-run: round 3" in world.said


def test_runs_are_left_before_the_others_are_gone_on_with_and_while_the_node_works(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.node_service.TICK_S", 0.02)
    folder, desk, stop = world.federated.homes[NODE].own_node, QuietDesk(), threading.Event()
    (folder / "policy.yaml").write_text("forget_days: 3\n")
    service = replace(world.make(), desk=cast("Any", desk))
    ask_to_leave(folder, UnderWay(b"\xab" * 32, "a-run"), "the contract ended")
    stale = folder / "pending" / f"{'ef' * 32}.json"
    stale.parent.mkdir()
    stale.write_text("{}")

    def work(_: ClientApp) -> None:
        asked = ask_to_leave(folder, UnderWay(b"\xcd" * 32, "a-run"), "by hand")
        left = lambda: not asked.exists() and desk.asked.count("forget") > 1  # noqa: E731
        wait_for(left, "the run is not left", every_s=0.01)
        time.sleep(0.1)  # some looks more
        stop.set()

    world.work = work
    before_ms = time.time_ns() // 1_000_000 - 3 * 86_400_000
    service.run(stop)
    assert desk.asked[:3] == ["leave abab: the contract ended", "forget", "restore"]
    assert "leave cdcd: by hand" in desk.asked[3:]
    # once a day from then on, and what the watch did at once
    assert desk.asked.count("forget") == 2
    assert before_ms <= desk.before_ms < before_ms + 600_000
    assert not stale.exists()
    assert "left a-silent-run: nothing was heard of it for 3 days" in world.said


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
        urlopen(f"http://{address}/health", timeout=60) as answer,
    ):
        assert answer.status == 200


def test_a_node_follows_the_ledger_of_its_invitation_before_any_run_names_one(
    world: World, tmp_path: Path
) -> None:
    service = world.make()
    place = service.place
    told = {"origin": place.ledger_origin, "key": place.ledger_key.hex()}

    def followed() -> list[dict[str, object]]:
        entries = (parse_leaf(leaf) for leaf in service.ledger.leaves())
        return [dict(one.body) for one in entries if one.kind == "ledger.followed"]

    assert followed() == [told]
    # a launcher that keeps a ledger of its own is refused, and remembered nowhere
    stop, answers = threading.Event(), list[Reply]()
    false = Identity.create(system_bytes)

    def work(app: ClientApp) -> None:
        request = invite(world.federated, tmp_path / "rows" / "config.yaml", "a-run")
        manifest = Manifest.from_bytes(request.manifest)
        for changed in (
            {"origin": log_origin("coordinator", false.public), "key": false.public.hex()},
            {"key": false.public.hex()},
        ):
            other = replace(manifest, ledger={**manifest.ledger, **changed})
            answers.append(ask(app, signed(world.federated, other)))
        stop.set()

    world.work = work
    service.run(stop)
    reasons = [getattr(one, "reason", "") for one in answers]
    assert "This node follows the ledger" in reasons[0]
    assert "has another key than the one that this node follows" in reasons[1]
    assert followed() == [told]
    # starting again changes nothing, and so does a key that the first one led to
    world.make()
    assert followed() == [told]


def test_a_node_that_follows_another_ledger_than_its_invitation_named_does_not_start(
    federated: Federated, world: World
) -> None:
    place, false = federated.place(NODE), Identity.create(system_bytes)
    ledger = open_ledger(federated.homes[NODE].own_node, place.identity(), owner=NODE)
    watch = LedgerWatch(ledger, member=NODE, identity=place.identity(), now_ms=lambda: 1)
    watch.trust(log_key(place.ledger_origin, false.public), allowed=())
    with pytest.raises(RefusedError, match="under another key than the invitation named"):
        world.make()


def test_a_key_that_the_first_one_led_to_is_the_ledgers(
    federated: Federated, tmp_path: Path
) -> None:
    place, second = federated.place(NODE), Identity.create(system_bytes)
    ledger = open_ledger(tmp_path / "node", place.identity(), owner=NODE)
    watch = LedgerWatch(ledger, member=NODE, identity=place.identity(), now_ms=lambda: 1)
    watch.trust(log_key(place.ledger_origin, second.public), allowed=())
    with pytest.raises(RefusedError, match="under another key"):
        follow_own(ledger, place, place.identity(), allowed=())
    keys = [
        {"since": 0, "key": place.ledger_key.hex()},
        {"since": 9, "key": second.public.hex()},
    ]
    pinned = {"origin": place.ledger_origin, "keys": keys, "size": 9, "root": "00" * 32}
    write_json(place.folder / "ledger.json", pinned)
    follow_own(ledger, place, place.identity(), allowed=())


def test_a_node_joins_no_run_whose_launcher_saw_another_membership(
    world: World, tmp_path: Path
) -> None:
    stop, answers = threading.Event(), list[Reply]()

    def work(app: ClientApp) -> None:
        request = invite(world.federated, tmp_path / "rows" / "config.yaml", "a-run")
        manifest = Manifest.from_bytes(request.manifest)
        for changed in ({"membership": "00" * 32}, {"acts": str(manifest.acts + 1)}):
            other = replace(manifest, ledger={**manifest.ledger, **changed})
            answers.append(ask(app, signed(world.federated, other)))
        bare = replace(manifest, ledger=dict(manifest.log_facts))
        answers.append(ask(app, signed(world.federated, bare)))
        stop.set()

    world.work = work
    world.make().run(stop)
    reasons = [getattr(one, "reason", "") for one in answers]
    assert all("compare tacit federation members on both" in one for one in reasons[:2])
    assert "does not say which acts of membership" in reasons[2]


def test_members_that_the_operator_made_up_are_no_company(world: World, tmp_path: Path) -> None:
    """Approvals are counted over whoever is active, so the operator's own members approve more."""
    federated = world.federated
    for name in ("P1", "P2"):
        federated.add(name, "manufacturer")
    policy = federated.homes[NODE].own_node / "policy.yaml"
    noise = "minimum_protection: {noise_from: none}\n"
    policy.write_text(f"{noise}recognises: {{names: [{LAUNCHER}]}}\n")
    stop, answers = threading.Event(), list[Reply]()

    def work(app: ClientApp) -> None:
        request = invite(federated, tmp_path / "rows" / "config.yaml", "a-run")
        answers.append(ask(app, request))
        policy.write_text(f"{noise}recognises: {{names: [{LAUNCHER}, {OTHER}]}}\n")
        answers.append(ask(app, request))
        stop.set()

    world.work = work
    world.make().run(stop)
    assert f"countersigned by {OTHER}, whom this node's policy" in getattr(answers[0], "reason", "")
    assert type(answers[1]).__name__ == "Joined"
