"""One side lies, loses something or is interrupted; the other side, and an auditor, hold."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support import tables
from support.deviations import replaced
from support.direct import Notes, assemble, recorder
from support.records import body_of, copied_hand, heads_of, own_hand, seen_by
from support.sums import Exchange, WatchedTransport, federation, frame_of, watched

from clients.node import Node
from clients.policy import NodePolicy
from federation.ledger_recorder import LedgerRecorder
from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.ledger.trust import TrustPolicy
from privacy.messages import (
    Parcel,
    Request,
    Revealed,
    RevealRequest,
    Sealed,
    StateNotice,
    SumNotice,
    SurvivorsNotice,
    Voted,
    pack,
    unpack_reply,
)
from privacy.secure_sum import SealedVector
from privacy.verify import verify_bundle

FOUR = ("bank", "east", "mill", "north")
TWELVE = tuple(f"m{i:02}" for i in range(12))


class EnoughError(Exception):
    """The attack is over."""


def test_a_sum_that_members_opened_cannot_be_cut_off_the_coordinators_ledger(
    tmp_path: Path,
) -> None:
    run = federation(tmp_path, FOUR)
    run.run()
    run.witness()
    before = run.bundle()
    second = run.again("second-run")
    transport = WatchedTransport(second.nodes)

    def strike(at: Exchange) -> None:
        # the coordinator holds the opened sum, and shows it to nobody
        if isinstance(at.request, SumNotice):
            raise EnoughError

    transport.hostile = strike
    second = replace(second, transport=transport)
    with pytest.raises(EnoughError):
        second.run()
    revealed = [p for _, _, p in transport.seen if isinstance(unpack_reply(p)[0], Revealed)]
    assert len(revealed) == len(FOUR)
    policy = TrustPolicy(logs=(run.notes.recorder.key,))
    forged = replace(before, logs=(before.logs[0], *second.bundle().logs[1:]))
    with pytest.raises(NotVerifiedError, match=r"step 9 .*that was cut off"):
        verify_bundle(forged, policy=policy)
    # with the coordinator's whole ledger, the same nodes' ledgers hold
    assert second.verdict().unfinished == ("second-run",)


@pytest.mark.parametrize("silent", [("bank", "east"), FOUR])
def test_members_who_are_gone_at_the_end_take_no_quorum_with_them(
    tmp_path: Path, silent: tuple[str, ...]
) -> None:
    run = federation(tmp_path, FOUR)
    run.run()
    run.transport.away = lambda member, request, _: (
        isinstance(request, StateNotice) and member in silent
    )
    assert run.witness() == len(FOUR) - len(silent)
    assert "what they cosigned with the last sum stays" in run.notes.sentences[-1]
    run.verdict()


def test_a_member_that_lost_its_ledger_is_left_out_and_harms_nobody(tmp_path: Path) -> None:
    run = federation(tmp_path, FOUR)
    run.run()
    run.witness()
    for file in (tmp_path / "nodes" / "bank").glob("ledger.db*"):
        file.unlink()
    second = run.again("second-run", restarted=True)
    second.run()
    second.witness()
    assert any("bank is left out of this step: bank had" in one for one in second.notes.sentences)
    bundle = second.bundle()
    policy = TrustPolicy(logs=(second.notes.recorder.key,))
    with pytest.raises(NotVerifiedError, match=r"step 9 .*ledger of bank"):
        verify_bundle(bundle, policy=policy)
    others = tuple(log for log in bundle.logs if log.owner != "bank")
    found = verify_bundle(replace(bundle, logs=others), policy=policy)
    assert found.missing == ("bank",)
    assert {node.owner: node.compared for node in found.nodes} == dict.fromkeys(FOUR[1:], 12)


def test_an_interrupt_while_the_end_is_written_writes_no_second_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteLedger(tmp_path / "coordinator.db")
    run = federation(tmp_path, FOUR)
    hand = recorder(store, run.notes.recorder.identity)
    manifest = replace(run.manifest, ledger={**run.manifest.ledger, "origin": hand.origin})
    run = replace(run, notes=Notes(hand), manifest=manifest)
    real = LedgerRecorder.record

    def record(self: LedgerRecorder, kind: str, body: dict[str, object]) -> None:
        if kind == "run.finished":
            connection = self.store._connection  # type: ignore[attr-defined]
            monkeypatch.setattr(self.store, "_connection", Interrupting(connection))
        real(self, kind, body)

    monkeypatch.setattr(LedgerRecorder, "record", record)
    # whoever starts the tests in the background has Ctrl-C ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert hand.unfinished == ["test-run"]
    monkeypatch.undo()
    hand.stop("test-run", "stopped by hand (Ctrl-C)")
    kinds = [entry.kind for entry in entries_of(store.leaves())]
    assert kinds[-1] == "run.finished"
    assert "run.stopped" not in kinds
    run.verdict()


def test_a_run_that_did_not_end_is_stopped_on_record_once() -> None:
    hand = recorder()
    hand.unfinished += ["a", "a"]
    hand.stop("a", "no more")
    hand.stop("a", "again")
    kinds = [entry.kind for entry in entries_of(hand.store.leaves())]
    assert kinds == ["ledger.begun", "run.stopped"]


class Interrupting:
    """A connection whose COMMIT takes effect while Ctrl-C is pressed."""

    def __init__(self, connection: object) -> None:
        self._connection = connection

    def execute(self, query: str, *values: object) -> object:
        found = self._connection.execute(query, *values)  # type: ignore[attr-defined]
        if query == "COMMIT":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def test_nodes_that_moved_to_another_coordinator_hold_against_both(tmp_path: Path) -> None:
    run = federation(tmp_path, FOUR)
    run.run()
    run.witness()
    other = recorder()
    policy = NodePolicy(ledgers=(other.origin,))
    nodes = {
        place: Node(replace(node._settings, policy=policy)) for place, node in run.nodes.items()
    }
    second = replace(run, nodes=nodes).again("second-run")
    ledger = {"origin": other.origin, "key": other.identity.public.hex()}
    manifest = replace(second.manifest, ledger=ledger)
    second = replace(second, manifest=manifest, notes=Notes(other))
    second.run()
    second.witness()
    for found in (second.verdict(), replace(run, nodes=nodes).verdict()):
        assert {(node.compared, node.elsewhere) for node in found.nodes} == {(6, 6)}


def test_a_head_that_its_node_did_not_sign_is_never_put_on_record(tmp_path: Path) -> None:
    run = federation(tmp_path, FOUR)

    def tamper(member: str, _: Request, parcel: Parcel) -> Parcel:
        reply, payload = unpack_reply(parcel)
        if member == "mill" and isinstance(reply, Sealed) and reply.leaves > 10:
            return pack(msgspec.structs.replace(reply, root=b"\xab" * 32), payload)
        return parcel

    run.transport.tamper_reply = tamper
    run.run()
    run.witness()
    assert any("mill is left out of this step" in one for one in run.notes.sentences)
    found = run.verdict()
    compared = {node.owner: node.compared for node in found.nodes}
    assert compared["mill"] < compared["bank"]


def test_a_run_of_made_up_members_under_real_names_is_found(tmp_path: Path) -> None:
    run = federation(tmp_path / "real", FOUR)
    run.run()
    run.witness()
    run.verdict()
    where = tables.write(
        tmp_path / "made-up",
        rows=frame_of(FOUR, rows=60),
        config_changes={
            "training": {"rounds": 2, "batch_rows": 32, "learning_rate": 0.02},
            "model": {"hidden": [], "linear": True},
        },
    )
    forged = assemble(where.config, where.root, notes=Notes(run.notes.recorder))
    forged = replace(forged, manifest=replace(forged.manifest, run="made-up"))
    forged.run()
    forged.witness()
    with pytest.raises(NotVerifiedError, match=r"step 9 .*with a key that is not its own"):
        run.verdict()


def test_groups_that_are_shown_a_ledger_each_reveal_nothing(tmp_path: Path) -> None:
    run = federation(tmp_path, TWELVE, rows=30, protection={"robust": "groups", "group_size": 3})
    refusals: list[str] = []

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, SurvivorsNotice) or at.step != "update 1":
            return
        digest = at.request.run
        nodes = {node.member: node for node in run.nodes.values()}
        base = list(own_hand(run).store.leaves())
        while b'"kind":"sum.reserved"' in base[-1]:
            base.pop()  # as it was before this step
        vectors = {}
        for _, _, parcel in run.transport.seen[-len(TWELVE) :]:
            reply, payload = unpack_reply(parcel)
            if isinstance(reply, Sealed):
                vectors[reply.member] = SealedVector.from_wire(reply.header, payload)
        heads = heads_of(nodes, digest)
        step = nodes[TWELVE[0]]._sessions[digest].step
        assert step is not None
        for cohort, context in zip(step.cohorts, step.contexts, strict=True):
            group = cohort.members
            fork = copied_hand(run, base)
            body = body_of(nodes[group[0]], digest, {member: heads[member] for member in group})
            index = fork.recorded(body, old=0).index
            votes, cosignatures = {}, {}
            for member in group:
                node = nodes[member]
                notice = SurvivorsNotice(
                    run=digest,
                    context=context.digest(),
                    survivors=group,
                    record=fork.shown(index, old=seen_by(run, node)),
                )
                vote, _ = node.handle(notice)
                assert isinstance(vote, Voted)
                votes[member], cosignatures[member] = vote.signature, vote.cosignature
            for member in group:
                request = RevealRequest(
                    run=digest,
                    context=context.digest(),
                    survivors=group,
                    votes=votes,
                    cosignatures=cosignatures,
                    boxes={p: vectors[p].boxes[member] for p in group if p != member},
                )
                with pytest.raises(RefusedError, match="cosigned the ledger that has this sum"):
                    nodes[member].handle(replaced(request))
                refusals.append(member)
        raise EnoughError

    watched(run).hostile = strike
    with pytest.raises(EnoughError):
        run.run()
    assert sorted(refusals) == list(TWELVE)


def test_groups_that_see_one_ledger_go_on(tmp_path: Path) -> None:
    run = federation(tmp_path, TWELVE, rows=30, protection={"robust": "groups", "group_size": 3})
    run.run()
    run.witness()
    assert run.verdict().unfinished == ()
