"""Runs that a node leaves, is slow to end, or cannot go on with: no key stays, nothing is lost."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support.direct import Direct
from support.sums import Exchange, Loose, federation, watched

from clients.desk import Desk
from clients.kept_session import KeptSession
from clients.model_file import load_model
from clients.node import Node
from clients.node_books import NodeBooks
from clients.session import Session
from clients.session_file import SessionFile, read_pointer
from privacy.errors import NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.ledger.store import entries_of
from privacy.manifest import SIGNING_DOMAIN
from privacy.messages import (
    FinishNotice,
    Invite,
    Joined,
    RevealRequest,
    StopNotice,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    vector_digest,
)
from privacy.secure_sum import Vote
from privacy.secure_sum.sealer import Sealer
from privacy.sum_context import SURVIVORS_DOMAIN

FOUR = ("bank", "east", "mill", "north")
FAR_MS = 2**52


class EnoughError(Exception):
    """The run was seen far enough."""


def kept(folder: Path, **changes: Loose) -> Direct:
    """A run of four whose nodes keep their sessions."""
    run = federation(folder, FOUR, **changes)
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(replace(node._settings, sessions=True))
    run.transport.members = run.nodes
    return run


def reached(run: Direct, kind: type, step: str, look: Callable[[Exchange], None]) -> None:
    """Run until that request would reach the bank in that step, and look at it there."""

    def stop(at: Exchange) -> None:
        if isinstance(at.request, kind) and at.step == step and at.node.member == "bank":
            look(at)
            raise EnoughError

    watched(run).hostile = stop
    with pytest.raises(EnoughError):
        run.run()
    watched(run).hostile = None


def again(node: Node) -> Node:
    """The node after a restart: nothing but its folder."""
    return Node(node._settings)


def keys_in(node: Node) -> list[Path]:
    """The folders of the runs that a node has keys of."""
    return [path for path in (node.home / "sessions").iterdir() if path.name != ".lock"]


def invitation(direct: Direct, at: Exchange, **changes: Loose) -> Invite:
    """To another run of the same launcher."""
    manifest = replace(direct.manifest, **changes).to_bytes()
    first: Invite = at.earlier(Invite, "bank")[0][0]
    signature = direct.launcher.sign(SIGNING_DOMAIN, manifest)
    return msgspec.structs.replace(first, manifest=manifest, signature=signature)


def promised(node: Node) -> dict[str, object]:
    return {
        run: left for _, budget in node._books._budgets.values() for run, left in promises(budget)
    }


def promises(budget: Loose) -> list[tuple[str, object]]:
    return list(budget._promises.items())


def test_a_run_that_is_left_has_no_key_and_no_promise_and_says_why(tmp_path: Path) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        node, digest = at.node, at.request.run
        assert promised(node)
        assert node.leave(digest, "the contract ended") == "test-run"
        assert keys_in(node) == []
        assert not promised(node)
        assert node.runs == {}
        for one in (node, again(node), Desk([again(node)])):
            for kind in (Invite, TrainRequest, SurvivorsNotice):
                with pytest.raises(RefusedError):
                    one.handle(at.earlier(kind, "bank")[-1][0])
            with pytest.raises(ProtocolError, match="has left the run test-run: the contract end"):
                one.handle(at.request)
            with pytest.raises(ProtocolError, match="has left the run"):
                one.handle(FinishNotice(run=digest, accepted={}))
            one.handle(StopNotice(run=digest))
            assert one.restore() == ()
            assert one.leave(digest, "once more") == ""

    reached(run, RevealRequest, "update 1", look)


@pytest.mark.parametrize("desk", [False, True])
def test_a_run_is_left_after_a_restart_too(tmp_path: Path, desk: bool) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        node = again(at.node)
        one = Desk([node]) if desk else node
        assert one.leave(bytes(32), "none such") == ""
        assert one.leave(at.request.run, "the contract ended") == "test-run"
        assert keys_in(node) == []
        with pytest.raises(ProtocolError, match="has left the run"):
            one.handle(at.request)
        # who held it in memory says no more either
        with pytest.raises(NotVerifiedError, match="another process went on"):
            at.node.handle(at.request)

    reached(run, RevealRequest, "update 1", look)


def test_what_was_being_answered_when_a_run_is_left_is_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        real = Node._seal

        def seal(node: Node, *arguments: Loose) -> Loose:
            made = real(node, *arguments)
            # the vector is made, and a person says to leave
            teller = threading.Thread(target=node.leave, args=(at.request.run, "by hand"))
            teller.start()
            teller.join(60)
            assert not teller.is_alive()
            return made

        with monkeypatch.context() as patch:
            patch.setattr(Node, "_seal", seal)
            with pytest.raises(ProtocolError, match="has left the run test-run: by hand"):
                at.node.handle(at.request)
        assert keys_in(at.node) == []
        assert at.node.runs == {}

    reached(run, TrainRequest, "update 1", look)


def test_a_run_that_nothing_is_heard_of_is_left_and_another_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        node, digest = at.node, at.request.run
        pointer = read_pointer(node._ledger, digest)
        assert pointer is not None
        assert node.forget(pointer.heard_ms) == ()
        # a question that is answered with the words of before is heard too
        node._sessions[digest].heard_ms = 0
        node.handle(at.earlier(SurvivorsNotice, "bank")[-1][0])
        assert read_pointer(node._ledger, digest) == pointer
        assert node._sessions[digest].heard_ms >= pointer.heard_ms
        node._sessions[digest].heard_ms = FAR_MS
        assert node.forget(FAR_MS) == ()
        assert again(node).forget(pointer.heard_ms) == ()
        # while it is at work for the run it is not forgotten
        node._sessions[digest].heard_ms = 0
        with node._sessions[digest].lock:
            assert node.forget(FAR_MS) == ()
        assert Desk([node]).forget(FAR_MS) == ("test-run",)
        assert "run test-run is left: nothing was heard of it for a long time" in caplog.text
        assert keys_in(node) == []
        assert not promised(node)

    reached(run, RevealRequest, "update 1", look)


def test_the_end_of_a_run_may_come_late_and_after_restarts(tmp_path: Path) -> None:
    run = kept(tmp_path)
    run.transport.away = lambda member, request, _: (
        member == "north" and isinstance(request, FinishNotice)
    )
    run.run()
    north = next(node for node in run.nodes.values() if node.member == "north")
    model = north.home / "runs" / "test-run" / "model.safetensors"
    assert not model.exists()
    late = again(north)
    assert late.restore() == ("test-run",)
    notice = next(asked for _, asked, _ in watched(run).asked if isinstance(asked, FinishNotice))
    for node in (late, again(north)):
        node.handle(notice)
    assert keys_in(north) == []
    others = {vector_digest(load_model(path)) for path in tmp_path.rglob("model.safetensors")}
    assert len(others) == 1
    assert model.exists()


def test_a_model_is_on_disk_before_the_keys_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, synced = kept(tmp_path), list[str]()
    real_sync, real_finish = os.fsync, SessionFile.finish

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real_sync(descriptor)

    def finish(file: SessionFile) -> None:
        folder = file.home / "runs" / file.name
        (at,) = (i for i, one in enumerate(synced) if f"{folder}/.model.safetensors." in one)
        assert str(folder / "sums.jsonl") in synced
        assert str(folder) in synced[at:]
        assert {str(file.home), str(folder.parent)} <= set(synced)  # that the folders are there
        real_finish(file)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(SessionFile, "finish", finish)
    run.run()
    assert set(run.models()) == set(FOUR)


def test_what_is_said_of_a_finished_run_is_not_written_again_at_each_start(tmp_path: Path) -> None:
    run = kept(tmp_path)
    run.run()
    for node in run.nodes.values():
        before = read_pointer(node._ledger, run.manifest.digest())
        assert before is not None
        assert again(node).restore() == ()
        assert read_pointer(node._ledger, run.manifest.digest()) == before


def test_a_second_run_of_one_name_is_refused_before_anything_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        keys, size = keys_in(at.node), at.node._ledger.size()
        for node in (at.node, again(at.node)):
            with monkeypatch.context() as patch:
                patch.setattr(SessionFile, "save", lambda *_: pytest.fail("it was kept"))
                with pytest.raises(RefusedError, match="joined another run test-run before"):
                    node.handle(invitation(run, at, name="another"))
        kinds = [one.kind for one in entries_of(at.node._ledger.leaves(size))]
        assert set(kinds) <= {"run.refused"}
        assert keys_in(at.node) == keys
        # under another name it may begin, and the first run goes on
        told, _ = at.node.handle(invitation(run, at, run="other-run"))
        assert isinstance(told, Joined)
        node = again(at.node)
        assert set(node.restore()) == {"test-run", "other-run"}
        node.handle(at.request)

    reached(run, TrainRequest, "update 1", look)


def test_two_runs_of_one_name_that_are_joined_at_once_are_not_both_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        # as if another node of the same member, for another contract, had joined in between
        monkeypatch.setattr(NodeBooks, "require_free_name", lambda *_: None)
        with pytest.raises(RefusedError, match="joined another run test-run before"):
            at.node.handle(invitation(run, at, name="another"))
        assert len(keys_in(at.node)) == 1

    reached(run, TrainRequest, "update 1", look)


def test_one_run_that_cannot_be_gone_on_with_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        at.node.handle(invitation(run, at, run="other-run"))
        real = Node._taken_up

        def taken_up(node: Node, digest: bytes, file: SessionFile) -> Session | None:
            if file.name == "test-run":
                raise RuntimeError("no sentence")
            return real(node, digest, file)

        with monkeypatch.context() as patch:
            patch.setattr(Node, "_taken_up", taken_up)
            assert again(at.node).restore() == ("other-run",)
        assert "a run is not gone on with" in caplog.text
        # what there is of it stays, and the next start goes on with it
        assert set(again(at.node).restore()) == {"test-run", "other-run"}

    reached(run, TrainRequest, "update 1", look)


def test_who_reads_while_another_process_goes_on_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        other, real = again(at.node), Node._put_back

        def put_back(node: Node, session: Session, was: KeptSession, file: SessionFile) -> None:
            at.node.handle(at.request)
            real(node, session, was, file)
            raise NotVerifiedError("a part of what this node kept of the run is gone")

        with monkeypatch.context() as patch:
            patch.setattr(Node, "_put_back", put_back)
            with pytest.raises(RefusedError, match="yet: another process went on with it"):
                other.handle(at.request)
        assert keys_in(at.node)
        assert again(at.node).handle(at.request) == at.node.handle(at.request)

    reached(run, RevealRequest, "update 1", look)


def test_a_vote_is_cosigned_then_noted_then_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        node, asked = at.node, at.request
        session = node._sessions[asked.run]
        signed: list[str] = []
        real_sign, real_vote = Identity.sign, Sealer.vote

        def sign(identity: Identity, domain: str, message: bytes) -> bytes:
            signed.append(domain)
            return real_sign(identity, domain, message)

        def refuse(*_: object) -> bytes:
            raise ProtocolError("The coordinator's ledger does not follow.")

        def vote(sealer: Sealer, context: bytes, survivors: tuple[str, ...]) -> Vote:
            assert session.voted[context] == frozenset(survivors)
            assert context in session.records
            return real_vote(sealer, context, survivors)

        with monkeypatch.context() as patch:
            patch.setattr(Identity, "sign", sign)
            patch.setattr(NodeBooks, "cosign", refuse)
            with pytest.raises(ProtocolError, match="does not follow"):
                node.handle(asked)
        # it says nothing of these survivors, and is bound to none
        assert SURVIVORS_DOMAIN not in signed
        assert asked.context not in session.voted
        assert asked.context not in session.records
        monkeypatch.setattr(Sealer, "vote", vote)
        told, _ = node.handle(asked)
        assert isinstance(told, Voted)
        # nor is one noted that is not signed
        others = msgspec.structs.replace(asked, survivors=("bank", "east", "mill"))
        last = msgspec.structs.replace(asked, survivors=("bank", "east", "north"))
        node.handle(others)
        with pytest.raises(ProtocolError, match="can only become fewer"):
            node.handle(last)
        assert session.voted[asked.context] == frozenset({"bank", "east", "mill"})

    reached(run, SurvivorsNotice, "update 1", look)


class Guarded(set[tuple[str, int]]):
    """Steps that are only added to while the lock of what all runs share is held."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        self.added = 0

    def add(self, step: tuple[str, int]) -> None:
        free: list[bool] = []

        def look() -> None:
            free.append(self.node._lock.acquire(blocking=False))
            if free[0]:
                self.node._lock.release()

        other = threading.Thread(target=look)
        other.start()
        other.join()
        assert free == [False]
        self.added += 1
        super().add(step)


def test_what_another_run_sealed_does_not_change_while_its_budget_is_read(tmp_path: Path) -> None:
    run = kept(tmp_path)

    def look(at: Exchange) -> None:
        session = at.node._sessions[at.request.run]
        guarded = Guarded(at.node)
        guarded.update(session.sealed)
        session.sealed = guarded
        at.node.handle(at.request)
        assert guarded.added == 1

    reached(run, TrainRequest, "update 1", look)
