"""A coordinator, or who has the node's disk, uses a restart: the node says nothing it did not."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from support.deviations import replaced
from support.direct import Direct
from support.records import own_hand, seen_by
from support.sums import Exchange, federation, watched

from clients.desk import Desk
from clients.node import Node
from clients.session import Session, Step
from privacy.errors import NotVerifiedError, ProtocolError, RefusedError, TacitError
from privacy.ledger.store import append, entries_of
from privacy.messages import (
    FinishNotice,
    Ready,
    Request,
    RevealRequest,
    StopNotice,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
    Voted,
)
from privacy.release import ReleaseToken

FOUR = ("bank", "east", "mill", "north")


class EnoughError(Exception):
    """The attack is over."""


def kept(folder: Path) -> Direct:
    """A run of four whose nodes keep their sessions."""
    run = federation(folder, FOUR)
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(replace(node._settings, sessions=True))
    run.transport.members = run.nodes
    return run


def again(node: Node) -> Node:
    """The node after a restart: nothing but its folder."""
    return Node(node._settings)


def struck(
    folder: Path, kind: type[Request], step: str, strike: Callable[[Exchange], None]
) -> None:
    """Run until that request would reach the bank in that step; then attack, and end."""
    run = kept(folder)

    def hostile(at: Exchange) -> None:
        if isinstance(at.request, kind) and at.step == step and at.node.member == "bank":
            strike(at)
            raise EnoughError

    watched(run).hostile = hostile
    with pytest.raises(EnoughError):
        run.run()


def notice(at: Exchange, survivors: tuple[str, ...]) -> SurvivorsNotice:
    """The sum under way over others, freshly on record."""
    before: SurvivorsNotice = at.earlier(SurvivorsNotice, "bank")[-1][0]
    return msgspec.structs.replace(before, survivors=survivors)


def test_no_second_set_of_survivors_is_signed_after_a_restart(tmp_path: Path) -> None:
    def strike(at: Exchange) -> None:
        first = at.earlier(SurvivorsNotice, "bank")[-1][0]
        told = at.node.handle(first)
        assert again(at.node).handle(first) == told
        # fewer is a step down, and the last one
        again(at.node).handle(notice(at, ("bank", "east", "mill")))
        for other in (("bank", "east", "north"), ("bank", "mill", "north")):
            with pytest.raises(ProtocolError, match="can only become fewer"):
                again(at.node).handle(notice(at, other))
        with pytest.raises(ProtocolError, match="survivors that were signed; no others"):
            again(at.node).handle(at.request)

    struck(tmp_path, RevealRequest, "update 1", strike)


def test_no_second_vector_is_sealed_after_a_restart(tmp_path: Path) -> None:
    def strike(at: Exchange) -> None:
        asked = at.earlier(TrainRequest, "bank")[-1][0]
        told = at.node.handle(asked)
        fewer = dict(list(asked.accepted.items())[1:])
        for _ in range(2):
            node = again(at.node)
            assert node.handle(asked) == told
            with pytest.raises(ProtocolError, match="already sealed"):
                node.handle(replaced(asked, accepted=fewer))

    struck(tmp_path, SurvivorsNotice, "update 1", strike)


def test_who_revealed_votes_and_tells_masks_for_nobody_else_after_a_restart(
    tmp_path: Path,
) -> None:
    def strike(at: Exchange) -> None:
        told = at.node.handle(at.request)
        node = again(at.node)
        assert node.handle(at.request) == told
        with pytest.raises(ProtocolError, match="settled"):
            again(node).handle(notice(at, ("bank", "east", "mill")))
        boxes = dict(list(at.request.boxes.items())[:-1])
        with pytest.raises(ProtocolError, match="of each surviving neighbour"):
            again(node).handle(replaced(at.request, boxes=boxes))

    struck(tmp_path, RevealRequest, "update 1", strike)


def test_a_second_payload_is_not_tried_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(at: Exchange) -> None:
        wrong = bytes([at.payload[0] ^ 1]) + at.payload[1:]
        with monkeypatch.context() as patch:
            patch.setattr(Node, "_opened", stopping)
            with pytest.raises(KeyboardInterrupt):
                at.node.handle(at.request, wrong)
        with pytest.raises(ProtocolError, match="Other sums were shown"):
            again(at.node).handle(at.request, at.payload)
        with pytest.raises(ProtocolError):
            again(at.node).handle(at.request, wrong)
        with pytest.raises(ProtocolError, match="has not joined"):
            again(at.node).handle(at.request, at.payload)

    struck(tmp_path, SumNotice, "update 1", strike)


def stopping(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_was_reserved_and_lost_is_counted_and_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(at: Exchange) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Node, "_seal", stopping)
            with pytest.raises(KeyboardInterrupt):
                at.node.handle(at.request)
        for node in (at.node, again(at.node)):
            with pytest.raises(ProtocolError, match="already sealed"):
                node.handle(at.request)
        entries = list(entries_of(at.node._ledger.leaves()))
        last = [entry for entry in entries if entry.kind == "budget.reserved"][-1]
        assert (last.body["step"], last.body["round"]) == ("update", 1)

    struck(tmp_path, TrainRequest, "update 1", strike)


def test_two_processes_over_one_folder_do_not_both_answer(tmp_path: Path) -> None:
    def strike(at: Exchange) -> None:
        other = again(at.node)
        other.restore()
        at.node.handle(at.request)
        with pytest.raises(NotVerifiedError, match="another process went on with this run"):
            other.handle(notice_of(at, ("bank", "east", "north")))
        # it goes on from what the first one said, and then the first one from what it said
        other.handle(notice_of(at, ("bank", "east", "mill")))
        swapped = notice_of(at, ("bank", "east", "north"))
        with pytest.raises(NotVerifiedError, match="another process went on with this run"):
            at.node.handle(swapped)
        with pytest.raises(ProtocolError, match="can only become fewer"):
            at.node.handle(swapped)

    struck(tmp_path, SurvivorsNotice, "update 1", strike)


def notice_of(at: Exchange, survivors: tuple[str, ...]) -> SurvivorsNotice:
    asked: SurvivorsNotice = at.request
    return msgspec.structs.replace(asked, survivors=survivors)


@dataclass
class Copies:
    """What somebody keeps of a node's folder."""

    folder: Path

    def keep(self, node: Node, name: str) -> None:
        """Copy what is kept of runs, and the node's ledger."""
        shutil.copytree(node.home / "sessions", self.folder / name / "sessions")
        node._ledger.close()
        for path in node.home.glob("ledger.db*"):
            shutil.copy(path, self.folder / name / path.name)

    def sessions_back(self, node: Node, name: str) -> Node:
        """Put what was kept of runs back, and start the node."""
        shutil.rmtree(node.home / "sessions")
        shutil.copytree(self.folder / name / "sessions", node.home / "sessions")
        return again(node)

    def ledger_back(self, node: Node, name: str) -> Node:
        """Put the ledger back, and start the node."""
        node._ledger.close()
        for path in node.home.glob("ledger.db*"):
            path.unlink()
        for path in (self.folder / name).glob("ledger.db*"):
            shutil.copy(path, node.home / path.name)
        return again(node)


def put_back_before_revealing(folder: Path, strike: Callable[[Exchange, Copies], None]) -> None:
    """Keep a copy of the bank's folder at each message, and attack where it is to reveal."""
    run, copies = kept(folder), Copies(folder / "copies")

    def hostile(at: Exchange) -> None:
        if at.node.member != "bank":
            return
        if isinstance(at.request, RevealRequest) and at.step == "update 1":
            copies.keep(at.node, "now")
            strike(at, copies)
            raise EnoughError
        if isinstance(at.request, SumNotice | TrainRequest | SurvivorsNotice):
            copies.keep(at.node, f"{type(at.request).__name__} {at.step}")

    watched(run).hostile = hostile
    with pytest.raises(EnoughError):
        run.run()


def require_left(node: Node, at: Exchange) -> None:
    """No key is there any more, and nothing is said of the run: no vector, vote or share."""
    assert keys_in(node) == []
    for kind in (TrainRequest, SurvivorsNotice):
        asked = at.earlier(kind, "bank")[-1][0]
        with pytest.raises(ProtocolError, match="has not joined that run"):
            node.handle(asked)
    with pytest.raises(ProtocolError, match="has not joined that run"):
        again(node).handle(at.request)


def keys_in(node: Node) -> list[Path]:
    """The folders of the runs that a node has keys of."""
    return [path for path in (node.home / "sessions").iterdir() if path.name != ".lock"]


@pytest.mark.parametrize(
    "name", ["SumNotice statistics 0", "TrainRequest update 1", "SurvivorsNotice update 1"]
)
def test_a_session_that_was_put_back_from_a_copy_is_left(tmp_path: Path, name: str) -> None:
    def strike(at: Exchange, copies: Copies) -> None:
        # back and forth again: nothing happened
        copies.sessions_back(at.node, name)
        told = copies.sessions_back(at.node, "now").handle(at.request)
        assert again(at.node).handle(at.request) == told
        node = copies.sessions_back(at.node, name)
        with pytest.raises(ProtocolError, match="is not the newest; the run is left"):
            node.handle(notice(at, ("bank", "east", "north")))
        require_left(node, at)

    put_back_before_revealing(tmp_path, strike)


@pytest.mark.parametrize("name", ["SumNotice statistics 0", "TrainRequest update 1"])
def test_a_ledger_that_was_put_back_alone_ends_the_run(tmp_path: Path, name: str) -> None:
    def strike(at: Exchange, copies: Copies) -> None:
        node = copies.ledger_back(at.node, name)
        assert node.restore() == ()
        require_left(node, at)

    put_back_before_revealing(tmp_path, strike)


def test_no_vector_leaves_whose_cost_was_taken_out_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies, real = Copies(tmp_path / "copies"), Node._reserve

    def reserve(node: Node, session: Session, step: Step) -> ReleaseToken:
        if node.member == "bank" and step.name == "update":
            # the pointer is at the state before the vector's, as after a stop between the two
            copies.keep(node, "before the cost")
        return real(node, session, step)

    monkeypatch.setattr(Node, "_reserve", reserve)

    def strike(at: Exchange) -> None:
        asked = at.earlier(TrainRequest, "bank")[-1][0]
        node = copies.ledger_back(at.node, "before the cost")
        with pytest.raises(ProtocolError, match="own ledger is older than what it kept"):
            node.handle(asked)
        require_left(node, at)

    struck(tmp_path, SurvivorsNotice, "update 1", strike)


@pytest.mark.parametrize("harm", ["state", "cut", "part", "pointer", "rows"])
def test_what_is_damaged_or_changed_is_left_with_its_keys(tmp_path: Path, harm: str) -> None:
    def strike(at: Exchange) -> None:
        node, folder = again(at.node), keys_in(at.node)[0]
        state = folder / "state"
        if harm == "state":
            data = bytearray(state.read_bytes())
            data[len(data) // 2] ^= 1
            state.write_bytes(data)
        elif harm == "cut":
            state.write_bytes(state.read_bytes()[:-1])
        elif harm == "part":
            part = next(path for path in folder.iterdir() if path.name != "state")
            part.unlink()
        elif harm == "pointer":
            node._ledger.keep_note(f"session/{folder.name}", b"{}")
        else:
            rows = node._settings.rows(None)
            fewer = replace(rows, train=rows.train.iloc[1:])
            node = Node(replace(node._settings, rows=lambda _: fewer))
        with pytest.raises(RefusedError):
            node.handle(at.request)
        assert node.restore() == ()
        if harm != "pointer":
            assert not folder.exists()
            with pytest.raises(ProtocolError, match="has not joined that run"):
                again(at.node).handle(at.request)
        with pytest.raises(TacitError):
            again(at.node).handle(at.earlier(type(at.request), "bank")[-1][0])
        # whatever is damaged: who is told to stop has no key any more
        for stopped in (again(at.node), Desk([again(at.node)])):
            assert stopped.handle(StopNotice(run=at.request.run)) == (Ready(member="bank"), b"")
        assert not folder.exists()

    struck(tmp_path, RevealRequest, "evaluate watch 1", strike)


def test_nothing_of_a_finished_run_is_left_and_its_end_is_said_again(tmp_path: Path) -> None:
    run = kept(tmp_path)
    run.run()
    asked = watched(run).asked
    for node in run.nodes.values():
        assert keys_in(node) == []
    for member, request, payload in asked:
        node = again(next(one for one in run.nodes.values() if one.member == member))
        if isinstance(request, FinishNotice):
            node.handle(request, payload)
        else:
            with pytest.raises(ProtocolError, match="joined that run"):
                node.handle(request, payload)


def test_a_fresh_state_of_the_ledger_gets_the_same_vote_and_a_fresh_cosignature(
    tmp_path: Path,
) -> None:
    run = kept(tmp_path)

    def hostile(at: Exchange) -> None:
        if not isinstance(at.request, RevealRequest) or at.node.member != "bank":
            return
        first = at.earlier(SurvivorsNotice, "bank")[-1][0]
        told, _ = at.node.handle(first)
        hand = own_hand(run)
        # the ledger grows, and shows the same entry in its new state
        append(hand.store, "writer.began", {"writer": "host"}, time_ms=0)
        record = hand.shown(first.record.index, old=seen_by(run, at.node))
        for node in (at.node, again(at.node)):
            fresh, _ = node.handle(replaced(first, record=record))
            assert isinstance(told, Voted)
            assert isinstance(fresh, Voted)
            assert fresh.signature == told.signature
            assert fresh.cosignature != told.cosignature
            assert seen_by(run, node) == hand.store.size()
        raise EnoughError

    watched(run).hostile = hostile
    with pytest.raises(EnoughError):
        run.run()
