"""A coordinator's ledger changes its key between runs: nodes follow, and both verifiers agree."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from support.direct import Direct
from support.rotations import next_run
from support.sums import federation

from clients.node import Node
from privacy import verify_alone
from privacy.errors import RefusedError
from privacy.identity import Identity
from privacy.ledger.bundle import write_bundle
from privacy.ledger.grammar import ROTATION_DOMAIN
from privacy.ledger.store import append, entries_of
from privacy.messages import Invite, Request, StateNotice
from privacy.randomness import system_bytes

MEMBERS = ("bank", "east", "mill")


def acts(node: Node, kind: str) -> list[dict[str, object]]:
    return [dict(one.body) for one in entries_of(node._ledger.leaves()) if one.kind == kind]


def verified(run: Direct) -> None:
    """Both verifiers find the same, in the ledgers of all."""
    file = io.BytesIO()
    write_bundle(run.bundle(), file)
    found, other = run.verdict(), verify_alone.verify(file.getvalue())
    assert other["leaves"] == found.leaves
    assert other["root"] == found.root
    assert [node["witnessed"] for node in other["nodes"]] == [one.witnessed for one in found.nodes]
    assert len(found.nodes) == len(MEMBERS)


@pytest.mark.parametrize("restarted", [False, True])
def test_nodes_follow_to_a_new_key_by_themselves(tmp_path: Path, restarted: bool) -> None:
    first = federation(tmp_path, MEMBERS)
    first.run()
    # nobody is shown anything where no key changed
    assert not [one for one in first.transport.seen if isinstance(one[1], StateNotice)]
    second = next_run(first, "second-run", restarted=restarted)
    second.run()
    assert not second.notes.sentences
    recorder = second.notes.recorder
    since = next(one for one in entries_of(recorder.store.leaves()) if one.kind == "key.rotated")
    told = {
        "origin": recorder.origin,
        "key": recorder.identity.public.hex(),
        "leaves": since.index + 1,
    }
    for node in second.nodes.values():
        assert acts(node, "ledger.rekeyed") == [told]
        assert len(acts(node, "ledger.followed")) == 1
    verified(second)
    # where all are known to have followed, they are shown nothing once more
    third = second.again("third-run")
    third.run()
    assert not [one for one in third.transport.seen if isinstance(one[1], StateNotice)]
    verified(third)


def test_a_node_that_was_away_follows_two_changes_at_once(tmp_path: Path) -> None:
    first = federation(tmp_path, MEMBERS)
    first.run()
    away = next(place for place, node in first.nodes.items() if node.member == "mill")
    second = next_run(first, "second-run")
    second.transport.away = lambda member, *_: member == "mill"
    with pytest.raises(RefusedError, match="mill did not answer"):
        second.run()
    third = next_run(second, "third-run")
    third.run()
    assert len(acts(third.nodes[away], "ledger.rekeyed")) == 2
    assert [len(acts(node, "ledger.rekeyed")) for node in third.nodes.values()] == [2, 2, 2]
    verified(third)


def test_a_node_that_follows_nothing_yet_takes_the_ledger_as_it_is(tmp_path: Path) -> None:
    first = federation(tmp_path, MEMBERS)
    started = next_run(first, "first-run", rotations=2)
    started.run()
    assert not started.notes.sentences
    for node in started.nodes.values():
        assert acts(node, "ledger.rekeyed") == []
        assert acts(node, "ledger.followed") == [dict(started.manifest.ledger)]
    again = next_run(started, "second-run")
    again.run()
    verified(again)


def test_the_coordinator_that_shows_no_rotation_is_refused(tmp_path: Path) -> None:
    """The key alone changed: whoever stole the place of the coordinator has not the old one."""
    first = federation(tmp_path, MEMBERS)
    first.run()
    second = next_run(first, "second-run")

    def hidden(member: str, request: Request, back: bool) -> bool:
        del member, back
        return isinstance(request, StateNotice)

    second.transport.away = hidden
    with pytest.raises(RefusedError, match="was not shown how the one led to the other"):
        second.run()
    asked = [one for one in second.transport.seen if isinstance(one[1], Invite)]
    assert len(asked) == len(MEMBERS)


def test_a_rotation_that_the_old_key_did_not_sign_moves_nobody(tmp_path: Path) -> None:
    first = federation(tmp_path, MEMBERS)
    first.run()
    thief, kept = Identity.create(system_bytes), first.notes.recorder
    second = first.again("second-run")
    # the coordinator's own software refuses such a ledger, so the hostile one is put in its place
    hostile = kept
    body = {
        "key": thief.public.hex(),
        "signature": thief.sign(ROTATION_DOMAIN, thief.public).hex(),
    }
    entry = append(kept.store, "key.rotated", body, time_ms=0)
    hostile.identity, hostile._rotations = thief, [(entry.index, entry.leaf())]
    ledger = {**second.manifest.ledger, "key": thief.public.hex()}
    second = replace(second, manifest=replace(second.manifest, ledger=ledger))
    with pytest.raises(RefusedError, match="was not shown how the one led to the other"):
        second.run()
    assert any("did not sign the new one" in one for one in second.notes.sentences)
    for node in second.nodes.values():
        assert acts(node, "ledger.rekeyed") == []
