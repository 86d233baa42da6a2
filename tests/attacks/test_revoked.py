"""Who was revoked while a run was under way: no run of it goes on, and no sum has it in it.

A node looks by itself, at what it read last of the membership; a coordinator that keeps to its own
ledger asks nobody who was revoked, and ends a revoked launcher's run.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from support.direct import Direct
from support.network_runs import NOW_MS, RULES
from support.sums import Exchange, WatchedTransport, federation, watched

from aggregator.ports import Observer, Transport
from clients.node import Node
from federation.declaration import declaration
from federation.home import Home
from federation.runs.desk import RunDesk
from federation.runs.engine import LinkedEngine
from federation.runs.event import Stopped
from federation.runs.order import Order
from privacy.errors import CohortError, NotVerifiedError, ProtocolError, RefusedError
from privacy.ledger.store import entries_of
from privacy.manifest import SIGNING_DOMAIN
from privacy.messages import (
    FinishNotice,
    Request,
    RevealRequest,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
)

FOUR = ("bank", "east", "mill", "north")
FIVE = (*FOUR, "south")


class EnoughError(Exception):
    """The attack is over."""


@dataclass
class Revoked:
    """Keys that were revoked, as nodes and the coordinator see it."""

    keys: set[bytes] = field(default_factory=set)

    def left(self, keys: Collection[bytes]) -> frozenset[bytes]:
        return frozenset(self.keys.intersection(keys))


class NamedTransport(WatchedTransport):
    """One that knows by itself whose node is where, as the fleet does."""

    @property
    def names(self) -> dict[int, str]:
        return {place: node.member for place, node in self.members.items()}


@dataclass
class OneLink:
    """`federation.runs.engine.Links` over a transport that is there."""

    carrier: Transport

    @contextmanager
    def transport(
        self, run: str, members: Sequence[str], *, stop: threading.Event
    ) -> Iterator[Transport]:
        del run, members, stop
        yield self.carrier


def under(
    folder: Path,
    revoked: Revoked,
    members: Sequence[str] = FOUR,
) -> Direct:
    """A run of nodes that keep their sessions and see who was revoked."""
    run = federation(folder, members, minimum_cohort=3)
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(replace(node._settings, sessions=True, left=revoked.left))
    run.transport = NamedTransport(run.nodes)
    return run


def key_of(run: Direct, member: str) -> bytes:
    return run.manifest.directory_keys()[member]


def order_of(run: Direct) -> Order:
    return Order(
        manifest=run.manifest,
        signature=run.launcher.sign(SIGNING_DOMAIN, run.manifest.to_bytes()),
        launcher="Bank A",
        key=run.launcher.public,
        data=declaration(run.project.contract),
        rules=RULES,
        launched_ms=NOW_MS,
    )


def engine_of(run: Direct, revoked: Revoked) -> LinkedEngine:
    return LinkedEngine(OneLink(run.transport), run.notes.recorder, left=revoked.left)


def carried_out(run: Direct, revoked: Revoked, folder: Path) -> None:
    """By a coordinator that keeps to its ledger."""
    observer: Observer = run.notes
    (folder / "run").mkdir()
    engine_of(run, revoked).carry_out(
        order_of(run), folder / "run", stop=threading.Event(), observer=observer
    )


def at(
    run: Direct, kind: type[Request], step: str, member: str, then: Callable[[Exchange], None]
) -> None:
    """Do something once, when such a request is about to reach a member."""
    done: list[bool] = []

    def hostile(one: Exchange) -> None:
        there = (one.step, one.node.member) == (step, member)
        if isinstance(one.request, kind) and there and not done:
            done.append(True)
            then(one)

    watched(run).hostile = hostile


def spent(node: Node) -> list[tuple[object, object]]:
    return [
        (entry.body["step"], entry.body["round"])
        for entry in entries_of(node._ledger.leaves())
        if entry.kind == "budget.reserved"
    ]


def opened(run: Direct) -> dict[str, list[str]]:
    """Step and round -> whom its sum is over."""
    return {
        f"{body['step']} {body['round']}": list(body["members"])
        for kind, body in run.notes.entries
        if kind == "sum.opened"
    }


# -- the launcher --


@pytest.mark.parametrize("kind", [TrainRequest, SurvivorsNotice, RevealRequest])
@pytest.mark.parametrize("restarted", [False, True])
def test_the_run_of_a_revoked_launcher_is_over_at_every_node(
    tmp_path: Path, kind: type[Request], restarted: bool
) -> None:
    revoked = Revoked()
    run = under(tmp_path, revoked)

    def strike(one: Exchange) -> None:
        before = spent(one.node)
        revoked.keys.add(run.launcher.public)
        node = Node(one.node._settings) if restarted else one.node
        for _ in range(2):
            with pytest.raises(ProtocolError, match="has left the run test-run: whoever launched"):
                node.handle(one.request, one.payload)
        # it costs nothing, no key stays, and no restart takes it up again
        assert spent(node) == before
        sessions = node.home / "sessions" / run.manifest.digest().hex()
        assert not [path for path in sessions.rglob("*") if path.is_file()]
        assert node.runs == {}
        assert Node(node._settings).restore() == ()
        raise EnoughError

    at(run, kind, "update 2", "bank", strike)
    with pytest.raises(EnoughError):
        run.run()


def test_a_coordinator_that_goes_on_with_it_opens_no_further_sum(tmp_path: Path) -> None:
    revoked = Revoked()
    run = under(tmp_path, revoked)
    at(run, TrainRequest, "update 2", "bank", lambda _: revoked.keys.add(run.launcher.public))
    with pytest.raises(CohortError, match="whoever launched it takes part in the federation no"):
        run.run()
    assert list(opened(run))[-1] in {"update 1", "evaluate watch 1"}
    assert all(("update", 2) not in spent(node) for node in run.nodes.values())


def test_what_was_opened_before_is_still_every_members(tmp_path: Path) -> None:
    """It tells nothing of rows to take it, and was paid for."""
    revoked = Revoked()
    run = under(tmp_path, revoked)
    ends = (SumNotice, FinishNotice)

    def hostile(one: Exchange) -> None:
        if one.step == "evaluate test 2" and isinstance(one.request, ends):
            revoked.keys.add(run.launcher.public)

    watched(run).hostile = hostile
    run.run()
    assert revoked.keys
    assert set(run.models()) == set(FOUR)


@pytest.mark.parametrize(("kind", "step"), [(SumNotice, "update 1"), (TrainRequest, "update 2")])
def test_a_coordinator_that_keeps_to_its_ledger_ends_it_before_the_next_round(
    tmp_path: Path, kind: type[Request], step: str
) -> None:
    """Also where the members were being asked, and refuse: it is no drop-out, to be resumed."""
    revoked = Revoked()
    run = under(tmp_path, revoked)
    at(run, kind, step, "bank", lambda _: revoked.keys.add(run.launcher.public))
    desk = RunDesk(
        Home(tmp_path / "home"),
        run.notes.recorder,
        engine_of(run, revoked),
        now_ms=lambda: NOW_MS,
    )
    desk.launch(order_of(run))
    thread = desk._runs["test-run"].thread
    assert thread is not None
    thread.join()
    facts = desk.facts("test-run")
    assert facts.state == "stopped"
    assert "Bank A, who launched this run, takes part in the federation no more" in facts.reason
    body = run.notes.recorder.recorded("run.stopped", {"run": "test-run"})
    assert body is not None
    assert body["reason"] == facts.reason
    assert desk.events("test-run").last == Stopped(reason=facts.reason)
    assert all(("update", 2) not in spent(node) for node in run.nodes.values())
    if kind is SumNotice:
        rounds = [r.round for _, r, _ in watched(run).asked if isinstance(r, TrainRequest)]
        assert set(rounds) == {1}
    assert desk.resume_all() == ()
    with pytest.raises(RefusedError, match="stopped for good"):
        desk.resume("test-run", by="Operator")


def test_who_missed_the_end_is_brought_to_it_though_the_launcher_left_since(
    tmp_path: Path,
) -> None:
    revoked = Revoked()
    run = under(tmp_path, revoked)

    def away(member: str, request: Request, after: bool) -> bool:
        del after
        return member == "mill" and isinstance(request, FinishNotice)

    run.transport.away = away
    carried_out(run, revoked, tmp_path)
    assert "mill" not in run.models()
    revoked.keys.add(run.launcher.public)
    run.transport.away = None
    engine_of(run, revoked).carry_out(
        order_of(run), tmp_path / "run", stop=threading.Event(), observer=run.notes
    )
    assert "mill" in run.models()


# -- a member --


def test_a_revoked_member_is_away_for_the_others(tmp_path: Path) -> None:
    revoked = Revoked()
    run = under(tmp_path, revoked)
    at(run, TrainRequest, "update 2", "bank", lambda _: revoked.keys.add(key_of(run, "east")))
    carried_out(run, revoked, tmp_path)
    assert opened(run)["update 1"] == list(FOUR)
    assert opened(run)["update 2"] == ["bank", "mill", "north"]
    assert opened(run)["evaluate test 2"] == ["bank", "mill", "north"]
    last = max(i for i, (name, *_) in enumerate(watched(run).asked) if name == "east")
    assert isinstance(watched(run).asked[last][1], TrainRequest)


@pytest.mark.parametrize("before", ["bank", "north", "south"])
def test_who_is_revoked_while_members_sign_is_left_out_of_that_very_sum(
    tmp_path: Path, before: str
) -> None:
    """Some signed a sum with it, some refuse that: all sign one without it."""
    revoked = Revoked()
    run = under(tmp_path, revoked, FIVE)
    at(run, SurvivorsNotice, "update 1", before, lambda _: revoked.keys.add(key_of(run, "east")))
    carried_out(run, revoked, tmp_path)
    others = [name for name in FIVE if name != "east"]
    assert opened(run)["update 1"] == others
    assert opened(run)["update 2"] == others


def test_a_coordinator_that_lets_it_go_on_opens_no_sum_with_it(tmp_path: Path) -> None:
    revoked = Revoked()
    run = under(tmp_path, revoked)
    at(run, TrainRequest, "update 2", "bank", lambda _: revoked.keys.add(key_of(run, "east")))
    with pytest.raises(CohortError, match="east takes part in the federation no more; leave it"):
        run.run()
    assert "update 2" not in opened(run)


def test_nothing_is_spent_where_too_few_are_left(tmp_path: Path) -> None:
    revoked = Revoked()
    run = under(tmp_path, revoked)

    def strike(one: Exchange) -> None:
        revoked.keys |= {key_of(run, "east"), key_of(run, "mill")}
        with pytest.raises(CohortError, match="2 members are left"):
            one.node.handle(one.request, one.payload)
        assert ("update", 2) not in spent(one.node)
        raise EnoughError

    at(run, TrainRequest, "update 2", "bank", strike)
    with pytest.raises(EnoughError):
        run.run()


def test_a_membership_that_does_not_hold_costs_nothing_and_ends_nothing(tmp_path: Path) -> None:
    revoked = Revoked()
    run = under(tmp_path, revoked)

    def strike(one: Exchange) -> None:
        def wrong(_: Collection[bytes]) -> frozenset[bytes]:
            raise NotVerifiedError("the coordinator shows another history")

        node = Node(replace(one.node._settings, left=wrong))
        with pytest.raises(NotVerifiedError, match="another history"):
            node.handle(one.request, one.payload)
        assert ("update", 2) not in spent(node)
        # once it holds again, the run goes on
        assert one.node.handle(one.request, one.payload)
        raise EnoughError

    at(run, TrainRequest, "update 2", "bank", strike)
    with pytest.raises(EnoughError):
        run.run()
