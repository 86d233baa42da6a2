"""A ledger with its key: what it signs, what it never signs, and whose cosignatures it keeps."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.direct import recorder
from support.membership import Acts, public

from aggregator.ports import State
from federation.ledger_recorder import LedgerRecorder
from privacy.errors import NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigners,
    open_checkpoint,
    parse_checkpoint_text,
    sign_checkpoint,
)
from privacy.ledger.entry import make_entry, parse_leaf
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import (
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from privacy.ledger.note import parse_note
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, entries_of
from privacy.plan import receipt_of
from privacy.randomness import system_bytes

MEMBERS = ("bank", "east", "mill")
NOTE_BYTES = 65_536
HEAD = {"leaves": 3, "root": "cd" * 32, "signature": "ef" * 64}


def body(place: int, **changes: object) -> dict[str, Any]:
    """A sum of round `place`, as a coordinator reserves it."""
    receipt = receipt_of(
        None,
        run="run-1",
        unit="device",
        protection="masked",
        step="update",
        round_index=place,
        fewest=3,
        values=9,
    )
    return {
        "run": "run-1",
        "step": "update",
        "round": place,
        "asked": list(MEMBERS),
        "schema": "01" * 32,
        "model": "02" * 32,
        "context": f"{place:064x}",
        "protection": "masked",
        "receipt": receipt.to_json(),
        "nodes": dict.fromkeys(MEMBERS, HEAD),
        **changes,
    }


def began(made: LedgerRecorder, count: int) -> None:
    """So many entries that mean nothing."""
    for place in range(count):
        made.record("writer.began", {"writer": f"w{place}"})


def state_of(made: LedgerRecorder, state: State) -> Checkpoint:
    checkpoint = open_checkpoint(state.note, made.key)
    assert (checkpoint.origin, checkpoint.size) == (made.origin, state.size)
    return checkpoint


@pytest.fixture(name="kept")
def _kept(tmp_path: Path) -> LedgerRecorder:
    """A ledger in a file."""
    return recorder(SqliteLedger(tmp_path / "ledger.db"))


def reopened(made: LedgerRecorder) -> LedgerRecorder:
    assert isinstance(made.store, SqliteLedger)
    made.store.close()
    return recorder(SqliteLedger(made.store.path), made.identity)


# -- what it begins, and what it signs ----------------------------------------------------------


def test_a_new_ledger_begins_with_its_name_and_key_and_is_opened_by_no_other(
    kept: LedgerRecorder, tmp_path: Path
) -> None:
    (first,) = entries_of(kept.store.leaves())
    assert first.kind == "ledger.begun"
    assert dict(first.body) == {
        "origin": kept.origin,
        "key": kept.identity.public.hex(),
        "owner": "coordinator",
        "role": "coordinator",
    }
    assert kept.key == log_key(kept.origin, kept.identity.public)
    again = reopened(kept)
    assert again.origin == kept.origin
    assert again.store.size() == 1
    with pytest.raises(RefusedError, match="begun with another key than this identity"):
        recorder(SqliteLedger(tmp_path / "ledger.db"))
    store = MemoryLedger()
    store.append(
        "ledger.begun",
        {"origin": "o", "key": "0f" * 32, "owner": "bank", "role": "node"},
        time_ms=0,
    )
    with pytest.raises(RefusedError, match="is the ledger of another"):
        recorder(store)


def test_what_is_reserved_is_proved_to_be_in_one_signed_state(kept: LedgerRecorder) -> None:
    began(kept, 4)
    bodies = [body(place) for place in (1, 2, 3)]
    found = kept.reserve(bodies)
    (state,) = {one.state for one in found}
    checkpoint = state_of(kept, state)
    assert state.size == kept.store.size() == 8
    leaves = list(kept.store.leaves())
    assert checkpoint.root == root_of([leaf_hash(leaf) for leaf in leaves])
    for one, asked in zip(found, bodies, strict=True):
        assert one.leaf == leaves[one.index]
        assert dict(parse_leaf(one.leaf).body) == asked
        verify_inclusion(leaf_hash(one.leaf), one.index, state.size, one.path, checkpoint.root)
    # nothing is written twice, and what is there is not said in other words
    assert [one.index for one in kept.reserve(bodies)] == [one.index for one in found]
    assert kept.store.size() == 8
    with pytest.raises(RefusedError, match="in other words; nothing was written"):
        kept.reserve([body(4), body(1, model="ff" * 32)])
    assert kept.store.size() == 8  # not even what would have been new
    assert kept.reserve([]) == []


def test_every_state_begins_with_every_one_before(kept: LedgerRecorder) -> None:
    states = []
    for _ in range(9):
        states.append(kept.state())
        began(kept, 1)
    for old in states:
        for new in states:
            proof = kept.growth(old.size, new)
            if old.size > new.size:
                assert proof == ()
            else:
                roots = state_of(kept, old).root, state_of(kept, new).root
                verify_consistency(old.size, roots[0], new.size, roots[1], proof)
    assert kept.growth(0, states[-1]) == ()
    assert kept.growth(2**53 - 1, states[-1]) == ()


def started(made: LedgerRecorder, run: str, members: Mapping[str, str] | None = None) -> None:
    body = {
        "run": run,
        "name": "demo",
        "task": "credit",
        "members": members or {"bank": "0f" * 32},
        "minimum": 3,
        "group_size": 0,
        "manifest": "0f" * 32,
        "document": "{}",
        "signature": "0f" * 64,
        "launcher": "0f" * 32,
        "protection": "masked",
    }
    made.record("run.started", body)


def test_runs_that_have_not_ended_are_known(kept: LedgerRecorder) -> None:
    assert kept.unfinished == []
    for run in ("one", "two", "three"):
        started(kept, run)
    kept.record("run.finished", {"run": "one", "rounds": 0, "model": "0f" * 32})
    kept.record("run.stopped", {"run": "three", "reason": "by hand"})
    assert kept.unfinished == ["two"]
    assert reopened(kept).unfinished == []  # they are another process's to end


def test_a_run_ends_once_on_record(kept: LedgerRecorder) -> None:
    """Whoever is interrupted while the end is written does not know whether it was."""
    ends: dict[str, dict[str, object]] = {
        "finished": {"rounds": 0, "model": "0f" * 32},
        "stopped": {"reason": "inside"},
    }
    for name, end in ends.items():
        started(kept, name)
        append(kept.store, f"run.{name}", {"run": name, **end}, time_ms=0)
        kept.stop(name, "by hand")
    started(kept, "open")
    kept.stop("open", "by hand")
    assert kept.unfinished == []
    found = [(one.kind, one.body["run"]) for one in entries_of(kept.store.leaves(1))]
    assert found == [
        ("run.started", "finished"),
        ("run.finished", "finished"),
        ("run.started", "stopped"),
        ("run.stopped", "stopped"),
        ("run.started", "open"),
        ("run.stopped", "open"),
    ]


def test_how_far_each_members_own_ledger_had_come_is_known_by_its_key(
    kept: LedgerRecorder,
) -> None:
    assert kept.heads() == {}
    keys = {name: f"{place:02x}" * 32 for place, name in enumerate(MEMBERS)}
    started(kept, "run-1", keys)
    kept.reserve([body(1), body(2, nodes={"bank": {**HEAD, "leaves": 9}})])
    kept.reserve([body(3, nodes={"bank": {**HEAD, "leaves": 5}, "mill": HEAD})])
    # another run, in which that name is another key
    started(kept, "run-2", {**keys, "bank": "0a" * 32})
    other = body(1, run="run-2", nodes={"bank": {**HEAD, "leaves": 2}, "east": HEAD})
    kept.reserve([other])
    expected = {
        bytes.fromhex(keys["bank"]): 9,
        bytes.fromhex(keys["east"]): 3,
        bytes.fromhex(keys["mill"]): 3,
        b"\x0a" * 32: 2,
    }
    assert kept.heads() == expected
    assert reopened(kept).heads() == expected


# -- what it never signs -----------------------------------------------------------------------


def rewrite(made: LedgerRecorder, place: int, *, nodes: bool) -> None:
    """Change an entry on disk, as whoever owns the file can; with the tree over it, if asked."""
    assert isinstance(made.store, SqliteLedger)
    leaves = list(made.store.leaves())
    entry = parse_leaf(leaves[place])
    leaves[place] = make_entry(
        index=place,
        time_ms=entry.time_ms,
        epoch=entry.epoch,
        kind="writer.began",
        body={"writer": "nobody"},
    ).leaf()
    other = MemoryLedger(leaves)
    with closing(sqlite3.connect(made.store.path)) as connection, connection:
        for trigger in ("entry_stays", "node_stays"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        connection.execute("UPDATE entry SET leaf = ? WHERE place = ?", (leaves[place], place))
        rows = connection.execute("SELECT level, place FROM node").fetchall()
        for level, index in rows if nodes else ():
            connection.execute(
                "UPDATE node SET hash = ? WHERE level = ? AND place = ?",
                (other.node(level, index), level, index),
            )


def test_an_entry_that_was_changed_on_disk_since_the_last_state_is_not_signed(
    kept: LedgerRecorder,
) -> None:
    began(kept, 4)
    kept.state()
    began(kept, 4)
    rewrite(kept, 6, nodes=False)
    with pytest.raises(NotVerifiedError, match="its entries have other hashes than it kept"):
        kept.state()
    with pytest.raises(NotVerifiedError):
        kept.reserve([body(1)])
    assert kept.store.checkpoints() == []


def test_an_entry_that_was_changed_under_a_state_does_not_come_into_the_next(
    kept: LedgerRecorder,
) -> None:
    """What is signed is what was written; the changed entry has no place in it."""
    began(kept, 4)
    before = state_of(kept, kept.state())
    began(kept, 4)
    whole = [leaf_hash(leaf) for leaf in kept.store.leaves()]
    rewrite(kept, 2, nodes=False)
    after = state_of(kept, kept.state())
    assert after.root == root_of(whole)
    changed = [leaf_hash(leaf) for leaf in kept.store.leaves()]
    assert after.root != root_of(changed)
    assert before.root == root_of(whole[:5])


def test_a_tree_that_was_changed_with_its_entry_is_not_signed(kept: LedgerRecorder) -> None:
    began(kept, 4)
    kept.state()
    began(kept, 4)
    rewrite(kept, 2, nodes=True)
    with pytest.raises(NotVerifiedError, match="its entries have other hashes than it kept"):
        kept.state()


def test_a_ledger_that_was_cut_off_is_not_signed(kept: LedgerRecorder) -> None:
    began(kept, 8)
    kept.state()
    assert isinstance(kept.store, SqliteLedger)
    with closing(sqlite3.connect(kept.store.path)) as connection, connection:
        connection.execute("DROP TRIGGER entry_is_kept")
        connection.execute("DELETE FROM entry WHERE place >= 6")
    with pytest.raises(NotVerifiedError):
        kept.state()


def test_a_reopened_ledger_goes_on_from_the_state_that_it_signed(kept: LedgerRecorder) -> None:
    began(kept, 4)
    state = kept.state()
    kept.cosigned("run-1", state, {})
    again = reopened(kept)
    began(again, 2)
    after = again.state()
    proof = again.growth(state.size, after)
    roots = state_of(again, state).root, state_of(again, after).root
    verify_consistency(state.size, roots[0], after.size, roots[1], proof)


@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_reopened_ledger_that_was_changed_under_its_signed_state_is_not_used(
    kept: LedgerRecorder, place: int
) -> None:
    """A second state of the same size would be a second history, with the same signature."""
    began(kept, 4)
    kept.cosigned("run-1", kept.state(), {})
    rewrite(kept, place, nodes=True)
    with pytest.raises(NotVerifiedError, match="is not what was signed at 5 entries"):
        reopened(kept)


def test_a_reopened_ledger_without_a_signed_state_is_read_as_a_whole(kept: LedgerRecorder) -> None:
    began(kept, 4)
    rewrite(kept, 2, nodes=False)
    again = reopened(kept)
    with pytest.raises(NotVerifiedError, match="its entries have other hashes than it kept"):
        again.state()


def test_a_reopened_ledger_trusts_no_state_but_its_own(kept: LedgerRecorder) -> None:
    began(kept, 4)
    state = state_of(kept, kept.state())
    stranger = Identity.create(system_bytes)
    key = log_key(kept.origin, stranger.public)
    forged = sign_checkpoint(state, key=key, sign=stranger.sign_note)
    for note in (forged, b"nonsense"):
        kept.store.keep_checkpoint(5, note)
        with pytest.raises(NotVerifiedError):
            reopened(kept)
        kept.store.drop_checkpoint(5)
    other = replace(state, origin="tacit/coordinator/another")
    elsewhere = sign_checkpoint(
        other, key=log_key(other.origin, kept.identity.public), sign=kept.identity.sign_note
    )
    kept.store.keep_checkpoint(5, elsewhere)
    with pytest.raises(NotVerifiedError):
        reopened(kept)
    # a state that is larger than what is there: an older copy was put in its place
    larger = sign_checkpoint(replace(state, size=50), key=kept.key, sign=kept.identity.sign_note)
    kept.store.drop_checkpoint(5)
    kept.store.keep_checkpoint(50, larger)
    with pytest.raises(NotVerifiedError):
        reopened(kept)
    kept.store.drop_checkpoint(50)
    assert state_of(kept, reopened(kept).state()) == state


# -- who cosigned ------------------------------------------------------------------------------


def signs(state: State, names: Mapping[str, Identity], time_s: int = 7) -> dict[str, Any]:
    """What these members send with their votes."""
    checkpoint = parse_checkpoint_text(parse_note(state.note).text)
    return {
        name: (
            one.public,
            cosign(
                checkpoint,
                key=cosigner_key(name, one.public),
                sign=one.sign_note,
                time_s=time_s,
            ).signature,
        )
        for name, one in names.items()
    }


@pytest.fixture(name="people")
def _people() -> dict[str, Identity]:
    return {name: Identity.create(system_bytes) for name in MEMBERS}


def kept_by(made: LedgerRecorder, people: Mapping[str, Identity]) -> dict[int, dict[str, int]]:
    """Size -> who cosigned that state, and when."""
    names = {cosigner_key(name, one.public).name: name for name, one in people.items()}
    keys = [cosigner_key(name, one.public) for name, one in people.items()]
    return {
        size: {names[key]: time_s for key, time_s in cosigners(note, keys).items()}
        for size, note in made.store.checkpoints()
    }


def test_cosignatures_under_one_state_are_kept_together(
    kept: LedgerRecorder, people: dict[str, Identity]
) -> None:
    state = kept.state()
    bank = {"bank": people["bank"]}
    kept.cosigned("run-1", state, signs(state, bank))
    kept.cosigned("run-1", state, signs(state, {n: people[n] for n in ("east", "mill")}))
    assert kept_by(kept, people) == {1: dict.fromkeys(MEMBERS, 7)}
    # of one member the latest stands, whatever comes after
    kept.cosigned("run-2", state, signs(state, bank, time_s=9))
    kept.cosigned("run-1", state, signs(state, bank, time_s=8))
    assert kept_by(kept, people) == {1: {"bank": 9, "east": 7, "mill": 7}}
    assert open_checkpoint(dict(kept.store.checkpoints())[1], kept.key).size == 1


def test_of_each_run_the_newest_state_is_kept(
    kept: LedgerRecorder, people: dict[str, Identity]
) -> None:
    sizes = []
    for run in ("one", "one", "two", "one", "two", "two", "three"):
        began(kept, 1)
        state = kept.state()
        kept.cosigned(run, state, signs(state, people))
        sizes.append(state.size)
    assert list(kept_by(kept, people)) == [sizes[3], sizes[5], sizes[6]]
    # one that is another run's newest too stays for that one
    state = kept.state()
    kept.cosigned("one", state, signs(state, people))
    began(kept, 1)
    later = kept.state()
    kept.cosigned("three", later, signs(later, people))
    assert list(kept_by(kept, people)) == [sizes[5], state.size, later.size]


def test_a_state_with_more_cosignatures_stays_beside_a_newer_one_with_fewer(
    kept: LedgerRecorder, people: dict[str, Identity]
) -> None:
    """It says of the sums before it what the newer one cannot say."""
    few = {"bank": people["bank"]}
    sizes = []
    for who in (people, few, few, people):
        began(kept, 1)
        state = kept.state()
        kept.cosigned("one", state, signs(state, who))
        sizes.append(state.size)
        if who is few:
            assert sizes[0] in kept_by(kept, people)
    assert sizes[3] in kept_by(kept, people)


def test_a_cosignature_that_does_not_hold_keeps_nothing(
    kept: LedgerRecorder, people: dict[str, Identity]
) -> None:
    first = kept.state()
    began(kept, 1)
    state = kept.state()
    good = signs(state, people)
    for wrong in (
        {"bank": (people["bank"].public, bytes(72))},
        {"bank": (people["east"].public, good["bank"][1])},
        {"bank": (people["bank"].public, good["east"][1])},
        {"bank": signs(first, people)["bank"]},
        {"bank": (people["bank"].public, good["bank"][1][:-1])},
    ):
        with pytest.raises(NotVerifiedError):
            kept.cosigned("run-1", state, {**good, **wrong})
        assert kept.store.checkpoints() == []
    kept.cosigned("run-1", state, good)
    assert kept_by(kept, people) == {2: dict.fromkeys(MEMBERS, 7)}


@pytest.mark.parametrize("name", ["m{}", "Versicherungsgesellschaft für {}", "银行{}" * 6])
def test_of_more_members_than_a_note_can_hold_as_many_are_kept_as_it_holds(
    kept: LedgerRecorder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as large as a note may be, hundreds of thousands of bytes, the same takes minutes
    monkeypatch.setattr("privacy.ledger.checkpoint.NOTE_BYTES_MAX", NOTE_BYTES)
    monkeypatch.setattr("privacy.ledger.checkpoint.SIGNATURES_MAX", 256)
    people = {name.replace("{}", str(i)): Identity.create(system_bytes) for i in range(300)}
    state = kept.state()
    kept.cosigned("run-1", state, signs(state, people))
    (note,) = (note for _, note in kept.store.checkpoints())
    assert len(note) <= NOTE_BYTES
    count = len(parse_note(note).signatures)
    assert count == 256 or len(note) > NOTE_BYTES - 700
    # who is there already may still sign anew, and nobody is pushed out
    kept.cosigned("run-1", state, signs(state, people, time_s=9))
    (again,) = (note for _, note in kept.store.checkpoints())
    assert len(parse_note(again).signatures) == count
    assert set(next(iter(kept_by(kept, people).values())).values()) == {9}


def run_of(members: Mapping[str, str], launcher: str) -> dict[str, Any]:
    return {
        "run": "run-1",
        "name": "small",
        "task": "credit",
        "members": dict(members),
        "minimum": 2,
        "group_size": 0,
        "manifest": "01" * 32,
        "document": "{}",
        "signature": "02" * 64,
        "launcher": launcher,
        "protection": "masked",
    }


def test_a_run_goes_on_record_only_with_people_who_take_part_at_that_moment() -> None:
    acts = Acts().begin().admit("amber", "bank", by=["olive"])
    acts.admit("birch", "manufacturer", by=["olive", "amber"])
    identity, store = Identity.create(system_bytes), MemoryLedger()
    begin_ledger(store, identity, owner="coordinator", role="coordinator", time_ms=0)
    for entry in acts.entries:
        append(store, entry.kind, entry.body, time_ms=entry.time_ms)
    kept = recorder(store, identity)
    good = {"amber": public("amber"), "birch": public("birch")}
    for members, launcher, sentence in (
        ({**good, "cedar": public("cedar")}, "amber", "cedar takes no part"),
        ({**good, "birch": public("cedar")}, "amber", "birch takes no part"),
        (good, "birch", "may launch none"),
        (good, "cedar", "may launch none"),
    ):
        size = kept.store.size()
        with pytest.raises(RefusedError, match=sentence):
            kept.record("run.started", run_of(members, public(launcher)))
        assert kept.store.size() == size
    kept.record("run.started", run_of(good, public("amber")))
    # what is on record already may be written again, whatever became of its people
    size = kept.store.size()
    kept.record("run.started", run_of(good, public("amber")))
    assert kept.store.size() == size


def test_a_ledger_without_a_federation_takes_any_run(kept: LedgerRecorder) -> None:
    kept.record("run.started", run_of({"amber": public("amber")}, public("cedar")))
    assert kept.unfinished == ["run-1"]


def test_the_hashes_that_tests_change_are_those_of_the_tree() -> None:
    """Else the tests above would change nothing."""
    leaves = [
        make_entry(
            index=i, time_ms=0, epoch=1, kind="writer.began", body={"writer": f"w{i}"}
        ).leaf()
        for i in range(2)
    ]
    made = MemoryLedger(leaves)
    assert made.node(1, 0) == node_hash(*(leaf_hash(leaf) for leaf in leaves))
