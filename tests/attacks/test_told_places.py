"""A coordinator hears of no place on a node's machine, whatever is wrong with the files there.

What is wrong with a message of its own it hears in words.
"""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.direct import Direct
from support.sums import Exchange, federation, watched

from clients.app import _answer, _record
from clients.members import MemberRows
from clients.node import Node
from privacy.errors import InputError, NotVerifiedError, OwnFileError
from privacy.ledger.store import entries_of
from privacy.manifest import SIGNING_DOMAIN
from privacy.messages import (
    Invite,
    Refused,
    Request,
    SignedState,
    StateNotice,
    TrainRequest,
    pack,
    unpack_reply,
)

FOUR = ("bank", "east", "mill", "north")


class EnoughError(Exception):
    """The attack is over."""


def told(node: Node, request: Request, payload: bytes = b"") -> str:
    """Why a node refuses, as its coordinator hears it."""
    reply, _ = unpack_reply(_answer(node, _record(pack(request, payload))))
    assert isinstance(reply, Refused)
    return reply.reason


def invitation(run: Direct) -> Invite:
    data = run.manifest.to_bytes()
    return Invite(manifest=data, signature=run.launcher.sign(SIGNING_DOMAIN, data))


def changed(node: Node, statement: str) -> None:
    with sqlite3.connect(node._ledger.path) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
    connection.close()


def broken(node: Node) -> None:
    """Another last entry in the node's ledger."""
    changed(node, "UPDATE entry SET leaf = x'00' WHERE place = (SELECT max(place) FROM entry)")


def gone(node: Node) -> None:
    node._ledger.path.rename(node._ledger.path.with_name("elsewhere"))


def full(node: Node) -> None:
    """As on a disk that has no room: the budget cannot be written."""

    def turn(*, durable: bool = True) -> None:
        del durable
        raise InputError(f"cannot use the ledger {node._ledger.path}: disk full")

    node._ledger.turn = turn  # type: ignore[method-assign, assignment]


def no_ledger(node: Node) -> None:
    for path in node.home.glob("ledger.db*"):
        path.unlink()
    node._ledger.path.write_text("not a database, and of some length")


@pytest.mark.parametrize("harm", [broken, gone, full])
@pytest.mark.parametrize("own", [False, True])
def test_in_the_middle_of_a_run(
    tmp_path: Path, harm: Callable[[Node], None], own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = federation(tmp_path, FOUR)
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(replace(node._settings, tells_data_errors=own))
    run.transport.members = run.nodes

    def strike(at: Exchange) -> None:
        if isinstance(at.request, TrainRequest) and at.node.member == "bank":
            harm(at.node)
            reason = told(at.node, at.request, at.payload)
            assert (str(tmp_path) in reason) is own
            assert own or reason == OwnFileError.told
            # who looks after the machine reads it all
            assert str(tmp_path) in caplog.text
            raise EnoughError

    caplog.set_level(logging.INFO, "tacit.node.bank")
    watched(run).hostile = strike
    with pytest.raises(EnoughError):
        run.run()


@pytest.mark.parametrize("harm", [broken, no_ledger])
def test_at_an_invitation(tmp_path: Path, harm: Callable[[Node], None]) -> None:
    run = federation(tmp_path, FOUR)
    node = next(iter(run.nodes.values()))
    node._books.open()
    harm(node)
    reason = told(Node(node._settings), invitation(run))
    assert str(tmp_path) not in reason
    assert reason == OwnFileError.told


def test_in_a_ledger_that_others_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = federation(tmp_path, FOUR)
    node = next(iter(run.nodes.values()))

    def agree(*_: object) -> None:
        raise OwnFileError(f"{tmp_path}/review.json: is damaged; restore it from a copy.")

    monkeypatch.setattr(node, "_agree", agree)
    assert told(node, invitation(run)) == OwnFileError.told
    last = list(entries_of(node._ledger.leaves()))[-1]
    assert (last.kind, last.body["reason"]) == ("run.refused", OwnFileError.told)


@pytest.mark.parametrize("fault", [InputError, OwnFileError, NotVerifiedError])
def test_when_a_run_cannot_be_gone_on_with(
    tmp_path: Path, fault: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    run = federation(tmp_path, FOUR)
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(replace(node._settings, sessions=True))
    run.transport.members = run.nodes
    where = "" if fault is NotVerifiedError else f"{tmp_path}/rows.csv: "

    def unread(_: int | None) -> MemberRows:
        raise fault(f"{where}it is another file")

    def strike(at: Exchange) -> None:
        if isinstance(at.request, TrainRequest) and at.node.member == "bank":
            node = Node(replace(at.node._settings, rows=unread))
            reason = told(node, at.request, at.payload)
            assert str(tmp_path) not in reason
            assert where in caplog.text
            # without a place in it, it is said what is wrong
            assert ("it is another file" in reason) is (fault is NotVerifiedError)
            raise EnoughError

    caplog.set_level(logging.INFO, "tacit.node.bank")
    watched(run).hostile = strike
    with pytest.raises(EnoughError):
        run.run()


def test_what_is_wrong_with_what_it_sent_is_said_in_words(tmp_path: Path) -> None:
    run = federation(tmp_path, FOUR)
    run.run()
    node = run.nodes[100]
    state = run.notes.recorder.state()
    notice = StateNotice(
        origin=run.notes.recorder.origin,
        state=SignedState(checkpoint=state.note[:-9] + b"AAAAAAA=\n", old=0, growth=()),
    )
    with pytest.raises(NotVerifiedError) as refused:
        node.handle(notice)
    assert told(node, notice) == str(refused.value) != OwnFileError.told
    assert not isinstance(refused.value, OwnFileError)
