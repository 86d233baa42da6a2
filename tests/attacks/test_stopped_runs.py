"""A run that was stopped for good: no key of it stays, and nothing more is told of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.direct import Direct
from support.sums import Exchange, federation, watched

from aggregator import coordinator
from clients.desk import Desk
from clients.node import Node
from privacy.errors import ProtocolError
from privacy.ledger.store import entries_of
from privacy.messages import Ready, RevealRequest, StopNotice, TrainRequest

FOUR = ("bank", "east", "mill", "north")


class EndedError(Exception):
    """The coordinator stops the run here."""


def stopped_before(folder: Path, kind: type, step: str = "update 2") -> Direct:
    """A run of nodes that keep their sessions, up to where the bank would be asked."""
    run = federation(folder, FOUR)
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(replace(node._settings, sessions=True))
    run.transport.members = run.nodes

    def end(at: Exchange) -> None:
        if isinstance(at.request, kind) and at.step == step and at.node.member == "bank":
            raise EndedError

    watched(run).hostile = end
    with pytest.raises(EndedError):
        run.run()
    watched(run).hostile = None
    return run


def kinds(node: Node) -> list[str]:
    return [entry.kind for entry in entries_of(node._ledger.leaves())]


def keys_of(run: Direct) -> list[Path]:
    return [
        path
        for node in run.nodes.values()
        for path in (node.home / "sessions" / run.manifest.digest().hex()).rglob("*")
    ]


@pytest.mark.parametrize("kind", [TrainRequest, RevealRequest])
def test_members_that_are_told_keep_no_key_of_the_run_and_say_no_more(
    tmp_path: Path, kind: type
) -> None:
    run = stopped_before(tmp_path, kind)
    asked = [words for words in watched(run).asked if words[0] == "bank"]
    assert keys_of(run)
    coordinator.dismiss(run.manifest, transport=run.transport)
    assert keys_of(run) == []
    assert all(node.runs == {} for node in run.nodes.values())
    bank = next(node for node in run.nodes.values() if node.member == "bank")
    for node in (bank, Node(bank._settings)):
        for _, request, payload in asked:
            if not isinstance(request, StopNotice) and hasattr(request, "run"):
                with pytest.raises(ProtocolError, match="has not joined that run"):
                    node.handle(request, payload)
        invitation = asked[0][1]
        with pytest.raises(ProtocolError, match="has joined that run already"):
            node.handle(invitation)


def test_a_node_that_was_restarted_meanwhile_forgets_it_too(tmp_path: Path) -> None:
    run = stopped_before(tmp_path, TrainRequest)
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(node._settings)
    run.transport.members = run.nodes
    coordinator.dismiss(run.manifest, transport=run.transport)
    assert keys_of(run) == []


def test_the_end_of_a_run_that_a_node_never_joined_changes_nothing(tmp_path: Path) -> None:
    run = stopped_before(tmp_path, TrainRequest)
    notice = StopNotice(run=b"r" * 32)
    for node in run.nodes.values():
        assert node.handle(notice) == (Ready(member=node.member), b"")
        assert Desk([node]).handle(notice) == (Ready(member=node.member), b"")
        assert list(node.runs.values()) == [run.manifest.run]
    with pytest.raises(ProtocolError, match="A payload came"):
        node.handle(notice, b"model")


def test_what_was_left_of_the_budget_is_free_again_and_what_was_spent_is_not(
    tmp_path: Path,
) -> None:
    run = stopped_before(tmp_path, TrainRequest)
    bank = next(node for node in run.nodes.values() if node.member == "bank")
    session = next(iter(bank._sessions.values()))
    spent = [kind for kind in kinds(bank) if kind.startswith("budget.")]
    assert run.manifest.run in session.budget._promises
    coordinator.dismiss(run.manifest, transport=run.transport)
    assert run.manifest.run not in session.budget._promises
    assert [kind for kind in kinds(bank) if kind.startswith("budget.")] == spent
