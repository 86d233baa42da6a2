"""Runs over real TLS on this machine's loopback: who may what, and what is told of refusals."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.certificates import Authority
from support.network_runs import (
    MEMBERS,
    NOW_MS,
    RESULT,
    Script,
    bodies,
    desk,
    manifest,
    membership,
    order,
    recorder,
    signed,
    until_stopped,
)
from support.ports import free_ports

from aggregator.ports import Observer
from federation.channel import UnreachedError
from federation.evidence import Evidence
from federation.registry.peer import Peer
from federation.registry.rate import Rate
from federation.registry.server import listening
from federation.registry.service import RegistryService
from federation.registry.source import AbsentError
from federation.runs.client import RunsClient
from federation.runs.desk import RunDesk
from federation.runs.event import Answer, Finished, Round, Step, Stopped
from federation.runs.follow import follow
from federation.runs.order import Order
from federation.runs.service import RunsService
from privacy.errors import InputError, RefusedError
from privacy.membership import Membership

ROLES = {name: role for name, (role, _) in MEMBERS.items()}
ROLES |= {"Operator": "operator", "Regulator": "regulator"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@dataclass
class World:
    """A coordinator's registry with runs, and those who call it."""

    authority: Authority
    engine: Script
    desk: RunDesk
    stack: ExitStack
    address: str = ""
    out: str = ""
    anew: dict[str, int] = field(default_factory=dict)

    def membership(self) -> Membership:
        """Everybody; those of `anew` got their names then."""
        found = membership()
        people = {
            name: replace(one, since_ms=self.anew.get(name, 0))
            for name, one in found.participants.items()
        }
        return replace(found, participants=people)

    def serve(self, address: str = "127.0.0.1:0", stack: ExitStack | None = None) -> None:
        service = RunsService(
            self.desk,
            membership=self.membership,
            ledger=dict(manifest().log_facts),
            now_ms=lambda: NOW_MS,
        )
        registry = RegistryService(
            lambda: Evidence(federation="test", coordinator=None, nodes=()),
            bundle=lambda: pytest.fail("nobody asks"),
            witnesses={},
            now_ms=lambda: NOW_MS,
        )

        def revoked(peer: Peer, certificate: str) -> bool:
            del certificate
            return peer.name == self.out

        self.address = (
            (stack or self.stack)
            .enter_context(
                listening(
                    registry,
                    address,
                    self.authority.server(),
                    rate=Rate(per_second=500.0),
                    beside=[service.add_to],
                    revoked=revoked,
                )
            )
            .address
        )

    def client(self, name: str) -> RunsClient:
        credentials = self.authority.client(ROLES[name], name)
        return self.stack.enter_context(RunsClient(self.address, credentials, deadline_s=30))

    def launch(self, run: str = "a-run", by: str = "Bank") -> str:
        document = manifest(run)
        launched = self.client(by).launch(document.to_bytes(), signed(document, by), **bodies())
        assert launched.launcher == by
        return launched.state


@pytest.fixture
def world(authority: Authority, tmp_path: Path) -> Iterator[World]:
    engine = Script(recorder())
    at = desk(tmp_path, engine)
    with ExitStack() as stack:
        made = World(authority, engine, at, stack)
        made.serve()
        yield made
        at.close()


def goes_well(asked: Order, observer: Observer, stop: object) -> None:
    del stop
    observer.answered("Mill", "agreed", "")
    for index in range(1, 4):
        observer.round(index, watched=False, facts={"bytes_up": 80, "bytes_down": 80})
    assert asked.data["dataset"] == "loans"


def test_a_run_is_launched_watched_and_reported(world: World) -> None:
    world.engine.then = goes_well
    world.launch()
    bank = world.client("Bank")
    told = list(follow(bank, "a-run", lost=pytest.fail))
    assert [one.number for one in told] == list(range(len(told)))
    assert told[0].event == Step(name="inviting the members")
    assert Answer(member="Mill", answer="agreed", reason="") in [one.event for one in told]
    assert [one.event.index for one in told if isinstance(one.event, Round)] == [1, 2, 3]
    assert isinstance(told[-1].event, Finished)
    assert [one.number for one in follow(bank, "a-run", start=3, lost=pytest.fail)] == list(
        range(3, len(told))
    )
    assert bank.report("a-run", file=b"\5" * 32, card=b"\6" * 32).state == "finished"
    body = world.engine.book.recorded("model.registered", {"run": "a-run", "file": "05" * 32})
    assert body is not None
    assert body["model"] == RESULT.model.hex()
    facts = bank.run("a-run")
    assert (facts.state, facts.rounds, facts.of) == ("finished", 3, 3)
    assert facts == world.desk.facts("a-run")


def test_what_was_launched_is_what_was_sent(world: World) -> None:
    world.engine.then = until_stopped
    world.launch()
    assert world.desk.order("a-run") == order()


def test_runs_are_found_by_a_part_of_their_name(world: World) -> None:
    for run in ("one-1", "one-2", "two-1"):
        world.launch(run)
    bank = world.client("Bank")
    assert [one.run for one in bank.runs("one")] == ["one-1", "one-2"]
    assert bank.run("two").run == "two-1"
    assert bank.run("last").run == bank.runs()[-1].run
    with pytest.raises(AbsentError, match="could be any of 2 runs"):
        bank.run("one")
    with pytest.raises(AbsentError, match="three is no run at the coordinator"):
        bank.run("three")


def test_who_is_not_in_a_run_does_not_know_of_it(world: World) -> None:
    world.engine.then = until_stopped
    world.launch()
    for name in ("Bank", "Insurer", "Mill", "Operator", "Regulator"):
        assert [one.run for one in world.client(name).runs()] == ["a-run"]
        assert next(iter(world.client(name).watch("a-run", 0))).number == 0
    forge = world.client("Forge")
    assert forge.runs() == ()
    with pytest.raises(AbsentError, match="no such run here"):
        list(forge.watch("a-run", 0))


def test_who_got_a_revoked_ones_name_sees_nothing_of_its_runs(world: World) -> None:
    world.engine.then = until_stopped
    world.launch()
    for name in ("Bank", "Mill"):
        world.anew[name] = NOW_MS + 1
        again = world.client(name)
        assert again.runs() == ()
        with pytest.raises(AbsentError, match="no such run here"):
            list(again.watch("a-run", 0))
    with pytest.raises(AbsentError, match="no such run here"):
        world.client("Bank").stop("a-run")
    # whoever had its name by then, and who sees all runs, is not concerned
    world.anew["Insurer"] = NOW_MS
    for name in ("Insurer", "Operator", "Regulator"):
        assert [one.run for one in world.client(name).runs()] == ["a-run"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Mill", "the role manufacturer may not call"),
        ("Regulator", "the role regulator may not call"),
        ("Insurer", "Bank launched a-run, and may do that; you may not"),
    ],
)
def test_only_the_launcher_and_an_operator_end_a_run(
    world: World, name: str, sentence: str
) -> None:
    world.engine.then = until_stopped
    world.launch()
    client = world.client(name)
    asks: list[Callable[[], object]] = [
        lambda: client.stop("a-run"),
        lambda: client.resume("a-run"),
        lambda: client.report("a-run", file=b"\5" * 32, card=b"\6" * 32),
    ]
    for ask in asks:
        with pytest.raises(RefusedError, match=sentence):
            ask()
    assert world.desk.facts("a-run").state == "running"
    stopped = world.client("Operator").stop("a-run")
    assert (stopped.state, stopped.reason) == ("stopped", "stopped by Operator")
    end = list(follow(world.client("Bank"), "a-run", lost=pytest.fail))[-1]
    assert end.event == Stopped(reason="stopped by Operator")


def test_a_launch_that_is_refused_says_why(world: World) -> None:
    document = manifest()
    bank = world.client("Bank")
    with pytest.raises(RefusedError, match="says: The manifest is not signed by the key that Bank"):
        bank.launch(document.to_bytes(), signed(document, "Insurer"), **bodies())
    with pytest.raises(RefusedError, match="says: This is no run manifest"):
        bank.launch(b'{"format":1}', bytes(64), **bodies())
    with pytest.raises(RefusedError, match="the role manufacturer may not call Launch"):
        world.client("Mill").launch(document.to_bytes(), signed(document, "Mill"), **bodies())
    with pytest.raises(InputError, match="too large"):
        bank.launch(bytes(1 << 20), bytes(64), **bodies())
    world.launch()
    other = manifest(minimum_cohort=2)
    with pytest.raises(RefusedError, match="There is a run a-run here already"):
        bank.launch(other.to_bytes(), signed(other), **bodies())
    assert world.engine.runs == ["a-run"]


def test_who_was_revoked_is_answered_nothing(world: World) -> None:
    bank = world.client("Bank")
    assert bank.runs() == ()
    world.out = "Bank"
    with pytest.raises(RefusedError, match="Bank is no member of this federation any more"):
        bank.runs()


def test_a_report_has_two_hashes(world: World) -> None:
    world.launch()
    with pytest.raises(InputError, match="32 bytes"):
        world.client("Bank").report("a-run", file=b"short", card=b"\6" * 32)


def test_a_coordinator_that_is_away_is_said_to_be(world: World) -> None:
    credentials = world.authority.client("bank", "Bank")
    with (
        RunsClient("127.0.0.1:1", credentials, deadline_s=30) as client,
        pytest.raises(UnreachedError, match=r"the coordinator 127\.0\.0\.1:1 does not answer"),
    ):
        client.runs()


def test_who_watches_finds_a_coordinator_that_comes_back(
    authority: Authority, tmp_path: Path
) -> None:
    engine = Script(recorder(), until_stopped)
    with ExitStack() as clients:
        at = desk(tmp_path, engine)
        world = World(authority, engine, at, clients)
        first = ExitStack()
        world.serve(f"127.0.0.1:{free_ports(1)[0]}", stack=first)
        world.launch()
        assert engine.begun.wait(60)
        lost: list[str] = []
        watch = follow(world.client("Bank"), "a-run", lost=lost.append)
        seen = [next(watch)]
        at.close()
        first.close()
        # another process: its desk knows nothing but the home
        engine.then = goes_well
        world.desk = desk(tmp_path, engine)
        clients.enter_context(second := ExitStack())
        world.serve(world.address, stack=second)
        assert world.desk.resume_all() == ("a-run",)
        started_s = time.monotonic()
        seen += watch
        assert time.monotonic() - started_s < 60
        assert [one.number for one in seen] == list(range(len(seen)))
        assert isinstance(seen[-1].event, Finished)
        assert len(lost) <= 1
        world.desk.close()
