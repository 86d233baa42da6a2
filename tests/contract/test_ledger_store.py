"""What every store of a ledger promises, run over each of them, and what each promises besides."""
# ruff: noqa: S608 - tests change the tables behind the store's back, with words of their own

import functools
import gc
import hashlib
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from support.ledger_writers import CHILD_S, KIND, act, everything, writes
from support.postgres import PASSWORD, Cut, Server, cutting_proxy, postgres_server
from support.stores import Place, PostgresPlace, SqlitePlace, Store, process, together

from federation import postgres_ledger
from federation.ledger_place import open_store
from federation.postgres_ledger import PostgresLedger
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger import sqlite
from privacy.ledger.checkpoint import Checkpoint, merged
from privacy.ledger.entry import Entry
from privacy.ledger.head import EMPTY_HEAD, in_order
from privacy.ledger.merkle import Frontier, leaf_hash, verify_consistency, verify_inclusion
from privacy.ledger.note import Note, NoteSignature
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import (
    LedgerStore,
    append,
    checked_frontier,
    entries_of,
    head_of,
    prove_consistency,
    prove_inclusion,
)

WRITERS = ("a", "b", "c", "d")
WORDS_MAX = 60


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server() as one:
        yield one


@pytest.fixture
def database(server: Server) -> PostgresPlace:
    return PostgresPlace(server, server.empty_database())


@pytest.fixture
def file(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path / "ledger.db")


@pytest.fixture(params=["file", "database"])
def place(request: pytest.FixtureRequest) -> Place:
    chosen: Place = request.getfixturevalue(request.param)
    return chosen


def written(place: Place, count: int) -> Store:
    """A ledger of so many entries."""
    store = place.open()
    with store.turn() as turn:
        for number in range(count):
            turn.append(KIND, act(f"r{number}"), time_ms=number)
    return store


def naive_root(leaves: list[bytes]) -> bytes:
    """The root as RFC 9162, section 2.1.1, defines it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    halves = naive_root(leaves[:split]) + naive_root(leaves[split:])
    return hashlib.sha256(b"\x01" + halves).digest()


def verified(store: LedgerStore) -> list[Entry]:
    """All entries, after everything that can be checked of them was."""
    size = store.size()
    checked_frontier(store, since=Frontier(), size=size)
    entries = list(in_order(entries_of(store.leaves())))
    assert len(entries) == size
    return entries


def signed_note(size: int, **times_s: int) -> bytes:
    """The state of `size` entries, as its log and these witnesses signed it; none of it holds."""
    text = Checkpoint("log", size, bytes(32)).text()
    lines = [NoteSignature("log", b"logs", bytes(64))]
    for name, time_s in times_s.items():
        lines.append(NoteSignature(name, b"wits", time_s.to_bytes(8, "big") + bytes(64)))
    return Note(text, tuple(lines)).to_bytes()


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text.split()) < WORDS_MAX
    return text


# -- one writer --


def test_where_nothing_was_written_nothing_is_made(place: Place) -> None:
    store = place.open()
    assert store.size() == 0
    assert list(store.leaves()) == []
    assert store.checkpoints() == []
    assert store.epoch == 1
    assert head_of(store) == EMPTY_HEAD
    with pytest.raises(NotVerifiedError):
        store.node(0, 0)
    if isinstance(place, SqlitePlace):
        assert list(place.path.parent.iterdir()) == []
    else:
        with pytest.raises(psycopg.errors.UndefinedTable):
            place.run("SELECT FROM {ledger}")


def test_a_turn_may_find_and_leave_nothing(place: Place) -> None:
    store = place.open()
    with store.turn() as turn:
        assert (turn.size, list(turn.leaves(0)), turn.find(b"k" * 32)) == (0, [], None)
    assert head_of(place.open()) == EMPTY_HEAD


def test_what_was_appended_is_found_by_every_store(place: Place) -> None:
    first = append(place.open(), KIND, act("r"), time_ms=10)
    store = place.open()
    second = append(store, "run.finished", {"run": "r", "rounds": 1, "model": "0" * 64}, time_ms=20)
    assert (first.index, first.time_ms, first.epoch) == (0, 10, 1)
    assert (second.index, second.time_ms, second.epoch) == (1, 20, 1)
    assert store.size() == 2
    assert list(place.open().leaves()) == [first.leaf(), second.leaf()]
    assert verified(store) == [first, second]
    with store.turn() as turn:
        assert first.key is not None
        assert turn.size == 2
        assert turn.find(first.key) == first
        assert turn.find(b"k" * 32) is None


def test_a_turn_shows_its_own_entries_before_it_is_over(place: Place) -> None:
    store = written(place, 3)
    with store.turn() as turn:
        entry = turn.append(KIND, act("own"), time_ms=9)
        assert turn.size == 4
        assert list(turn.leaves(2))[-1] == entry.leaf()
        assert entry.key is not None
        assert turn.find(entry.key) == entry
        assert place.open().size() == 3
    assert place.open().size() == 4


@pytest.mark.parametrize("durable", [True, False])
def test_leaves_are_read_in_any_range(place: Place, durable: bool) -> None:
    store = place.open()
    with store.turn(durable=durable) as turn:
        leaves = [turn.append(KIND, act(f"r{n}"), time_ms=n).leaf() for n in range(2_100)]
        assert list(turn.leaves(0)) == leaves
    for start, stop in ((0, None), (0, 0), (5, 5), (7, 3), (0, 1), (999, 1001), (1, 2_050)):
        assert list(store.leaves(start, stop)) == leaves[start:stop]
        with store.turn() as turn:
            assert list(turn.leaves(start, stop)) == leaves[start:stop]
    assert list(store.leaves(2_000, 9_999)) == leaves[2_000:]
    assert list(store.leaves(2_100)) == []


def test_time_never_goes_back(place: Place) -> None:
    store = place.open()
    times = [append(store, KIND, act(f"r{n}"), time_ms=t).time_ms for n, t in enumerate((5, 9, 2))]
    assert times == [5, 9, 9]
    assert append(place.open(), KIND, act("later"), time_ms=3).time_ms == 9


def test_the_same_act_is_written_once(place: Place) -> None:
    store = place.open()
    first = append(store, KIND, act("r"), time_ms=1)
    assert append(place.open(), KIND, act("r"), time_ms=2) == first
    with pytest.raises(RefusedError, match="other words") as refused:
        append(store, KIND, act("r", "another reason"), time_ms=3)
    one_sentence(refused.value)
    assert verified(store) == [first]


def test_what_has_no_name_may_be_written_again(place: Place) -> None:
    store = place.open()
    for _ in range(2):
        append(store, "writer.began", {"writer": "w"}, time_ms=0)
    assert len(verified(store)) == 2


def test_a_turn_goes_on_after_an_act_that_was_there(place: Place) -> None:
    store = written(place, 2)
    with store.turn() as turn:
        turn.append(KIND, act("before"), time_ms=2)
        with pytest.raises(RefusedError, match="already"):
            turn.append(KIND, act("r1"), time_ms=2)
        with pytest.raises(ValueError, match="unknown"):
            turn.append("run.paused", act("r9"), time_ms=2)
        turn.append(KIND, act("after"), time_ms=2)
    assert [entry.body["run"] for entry in verified(store)] == ["r0", "r1", "before", "after"]


def test_what_is_not_of_the_table_is_not_written(place: Place) -> None:
    store = place.open()
    for kind, body in (("run.paused", act("r")), (KIND, {"run": "r"}), (KIND, act("r", ""))):
        with pytest.raises(ValueError, match=r"unknown|fields|wrong value"):
            append(store, kind, body, time_ms=0)
    assert store.size() == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("before", [0, 3])
def test_a_turn_that_is_left_by_an_exception_leaves_nothing(
    place: Place, before: int, error: type[BaseException]
) -> None:
    store = written(place, before) if before else place.open()

    def leave_in_the_middle() -> None:
        with store.turn() as turn:
            turn.append(KIND, act("gone"), time_ms=7)
            assert store.size() == before + 1  # the store looks into its own turn
            raise error

    with pytest.raises(error):
        leave_in_the_middle()
    assert store.size() == place.open().size() == before
    entry = append(store, KIND, act("gone", "in other words"), time_ms=1)
    assert entry.index == before
    assert verified(place.open())[-1] == entry


def test_an_entry_that_failed_half_way_takes_its_turn_along(place: Place) -> None:
    store = written(place, 2)
    place.unguard()
    hash_ = place.blob(b"h" * 32)
    columns = "1, 0, 3" if isinstance(place, PostgresPlace) else "0, 3"
    place.run(f"INSERT INTO {{node}} VALUES ({columns}, {hash_})")  # in the way of entry 3

    def go_on() -> None:
        with store.turn() as turn:
            turn.append(KIND, act("whole"), time_ms=2)
            with suppress(Exception):
                turn.append(KIND, act("half"), time_ms=2)

    with pytest.raises(InputError, match="nothing of the turn"):
        go_on()
    assert store.size() == 2
    append(store, KIND, act("whole"), time_ms=2)
    with pytest.raises(NotVerifiedError):
        append(store, KIND, act("half"), time_ms=2)
    assert store.size() == 3


def test_turns_are_not_nested_and_end(place: Place) -> None:
    store = written(place, 1)
    with store.turn() as turn:
        turn.append(KIND, act("outer"), time_ms=1)
        with pytest.raises(RuntimeError, match="under way"), store.turn():
            pass
        with pytest.raises(RuntimeError, match="under way"):
            store.keep_checkpoint(1, b"note")
    with pytest.raises(RuntimeError, match="over"):
        turn.append(KIND, act("late"), time_ms=1)
    assert [entry.body["run"] for entry in verified(store)] == ["r0", "outer"]


def test_checkpoints_are_kept_by_size(place: Place) -> None:
    store = place.open()
    for size, note in ((7, b"seven"), (3, b"three"), (7, b"seven")):
        assert store.keep_checkpoint(size, note) == note
    assert place.open().checkpoints() == [(3, b"three"), (7, b"seven")]
    store.drop_checkpoint(3)
    store.drop_checkpoint(4)
    assert place.open().checkpoints() == [(7, b"seven")]
    store.drop_checkpoint(7)
    store.keep_checkpoint(7, b"seven, again")
    assert place.open().checkpoints() == [(7, b"seven, again")]
    assert store.size() == 0


def test_who_signed_a_state_stays_with_it(place: Place) -> None:
    one, two = place.open(), place.open()
    one.keep_checkpoint(7, signed_note(7))
    assert two.keep_checkpoint(7, signed_note(7, bank=1, mill=1)) == signed_note(7, bank=1, mill=1)
    assert one.keep_checkpoint(7, signed_note(7)) == signed_note(7, bank=1, mill=1)
    whole = signed_note(7, bank=1, mill=3, east=2)
    assert one.keep_checkpoint(7, signed_note(7, mill=3, east=2)) == whole
    assert two.keep_checkpoint(7, signed_note(7, mill=2)) == whole
    assert place.open().checkpoints() == [(7, whole)]


@pytest.mark.parametrize("other", [b"nonsense", signed_note(8)])
def test_no_state_takes_the_place_of_another(place: Place, other: bytes) -> None:
    store = place.open()
    store.keep_checkpoint(7, signed_note(7, bank=1))
    with pytest.raises(NotVerifiedError) as refused:
        store.keep_checkpoint(7, other)
    one_sentence(refused.value)
    assert place.open().checkpoints() == [(7, signed_note(7, bank=1))]
    append(store, KIND, act("more"), time_ms=1)
    assert store.keep_checkpoint(7, signed_note(7, mill=1)) == signed_note(7, bank=1, mill=1)


def test_nobody_comes_between_the_look_at_a_checkpoint_and_its_writing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.hurry(monkeypatch)
    one, two = place.open(), place.open()
    for store in (one, two):  # both are open
        store.keep_checkpoint(7, signed_note(7))
    refused: list[str] = []

    def between(kept: bytes | None, note: bytes) -> bytes:
        monkeypatch.setattr(module, "merged", merged)
        with pytest.raises(InputError, match=r"another (process|writer) keeps the ledger") as told:
            two.keep_checkpoint(7, signed_note(7, mill=1))
        refused.append(one_sentence(told.value))
        return merged(kept, note)

    module = sqlite if isinstance(one, SqliteLedger) else postgres_ledger
    monkeypatch.setattr(module, "merged", between)
    one.keep_checkpoint(7, signed_note(7, bank=1))
    assert len(refused) == 1
    two.keep_checkpoint(7, signed_note(7, mill=1))
    assert one.checkpoints() == [(7, signed_note(7, bank=1, mill=1))]


def test_a_closed_store_opens_again(place: Place) -> None:
    store = written(place, 1)
    store.close()
    assert store.size() == 1
    store.close()
    append(store, KIND, act("more"), time_ms=1)
    store.close()
    assert place.open().size() == 2


# -- the tree --


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux alone shows open files")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_store_that_nobody_holds_any_more_holds_no_file(place: Place) -> None:
    """Else a process that looks into a ledger again and again runs out of them."""
    with closing(place.open()) as store:
        append(store, KIND, act("a"), time_ms=1)
    gc.disable()
    try:
        more: list[int] = []
        # what other threads of the process open or close meanwhile, they do not each time
        while len(more) < 10 and 0 not in more:
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
            for _ in range(3):
                store = place.open()
                assert store.size() == 1
                del store
            more.append(len(os.listdir("/proc/self/fd")) - before)  # noqa: PTH208 - names alone
        assert 0 in more, more
    finally:
        gc.enable()


def test_kept_hashes_are_those_of_a_naive_tree(place: Place) -> None:
    count = 130
    store = place.open()
    for number in range(count):
        append(store, KIND, act(f"r{number}"), time_ms=0) if number < 20 else None
    with store.turn() as turn:
        for number in range(20, count):
            turn.append(KIND, act(f"r{number}"), time_ms=0)
    leaves = list(store.leaves())
    for size in range(count + 1):
        assert head_of(store, size).root == naive_root(leaves[:size]).hex()
    for level in range(8):
        for index in range(count >> level):
            below = leaves[index << level : (index + 1) << level]
            assert store.node(level, index) == naive_root(below)
        with pytest.raises(NotVerifiedError):
            store.node(level, count >> level)


def test_proofs_verify_at_every_size(place: Place) -> None:
    count = 40
    store = written(place, count)
    leaves = list(store.leaves())
    roots = [naive_root(leaves[:size]) for size in range(count + 1)]
    node = functools.cache(store.node)
    for size in (*range(1, 18), 31, 32, 33, count):
        for index in range(size):
            proof = prove_inclusion(store, index, size) if size == count else None
            if proof is not None:
                verify_inclusion(leaf_hash(leaves[index]), index, size, proof, roots[size])
                with pytest.raises(NotVerifiedError):
                    verify_inclusion(leaf_hash(b"other"), index, size, proof, roots[size])
        for old in (1, size // 2, size - 1, size):
            proof = prove_consistency(store, old, size)
            verify_consistency(old, roots[old], size, roots[size], proof)
            if 0 < old < size:
                with pytest.raises(NotVerifiedError):
                    verify_consistency(old, roots[old], size, roots[size - 1], proof)
    assert node(0, 0) == leaf_hash(leaves[0])


def changed_leaf(place: Place, leaves: list[bytes]) -> None:
    other = place.blob(leaves[4].replace(b"by hand", b"by foot"))
    place.run(f"UPDATE {{entry}} SET leaf = {other} WHERE place = 4")


def removed_leaf(place: Place, _: list[bytes]) -> None:
    place.run("DELETE FROM {entry} WHERE place = 4")


def removed_last_leaf(place: Place, _: list[bytes]) -> None:
    place.run("DELETE FROM {entry} WHERE place = 9")


def swapped_leaves(place: Place, leaves: list[bytes]) -> None:
    for at, other in ((2, 3), (3, 2)):
        place.run(f"UPDATE {{entry}} SET leaf = {place.blob(leaves[other])} WHERE place = {at}")


def swapped_bodies(place: Place, leaves: list[bytes]) -> None:
    for at, other in ((2, 3), (3, 2)):
        leaf = leaves[at].replace(b"r%d" % at, b"r%d" % other)
        place.run(f"UPDATE {{entry}} SET leaf = {place.blob(leaf)} WHERE place = {at}")


def inserted_leaf(place: Place, leaves: list[bytes]) -> None:
    leaf = place.blob(leaves[9].replace(b'"index":9', b'"index":10'))
    columns = "1, 10" if isinstance(place, PostgresPlace) else "10"
    place.run(f"INSERT INTO {{entry}} VALUES ({columns}, {leaf}, NULL)")


def changed_hash(place: Place, _: list[bytes]) -> None:
    other = place.blob(b"h" * 32)
    place.run(f"UPDATE {{node}} SET hash = {other} WHERE level = 3 AND place = 0")


def removed_hash(place: Place, _: list[bytes]) -> None:
    place.run("DELETE FROM {node} WHERE level = 1 AND place = 4")


@pytest.mark.parametrize(
    "change",
    [
        changed_leaf,
        removed_leaf,
        removed_last_leaf,
        swapped_leaves,
        swapped_bodies,
        inserted_leaf,
        changed_hash,
        removed_hash,
    ],
)
def test_a_change_behind_the_stores_back_shows(
    place: Place, change: Callable[[Place, list[bytes]], None]
) -> None:
    store = written(place, 10)
    trusted = checked_frontier(store, since=Frontier(), size=1)
    whole = checked_frontier(store, since=trusted, size=10)
    leaves = list(store.leaves())
    with pytest.raises((sqlite3.DatabaseError, psycopg.Error), match="appended to"):
        removed_leaf(place, leaves)
    place.unguard()
    change(place, leaves)
    for since in (Frontier(), trusted):
        with pytest.raises(NotVerifiedError) as broken:
            checked_frontier(store, since=since, size=max(10, store.size()))
        one_sentence(broken.value)
    if change is not inserted_leaf:
        assert naive_root(list(store.leaves())) != whole.root() or change in {
            changed_hash,
            removed_hash,
        }


def test_a_changed_hash_within_the_tree_proves_nothing(place: Place) -> None:
    store = written(place, 8)
    root = naive_root(list(store.leaves()))
    place.unguard()
    place.run(f"UPDATE {{node}} SET hash = {place.blob(b'h' * 32)} WHERE level = 1 AND place = 1")
    leaf = leaf_hash(next(store.leaves()))
    proof = prove_inclusion(store, 0, 8)
    with pytest.raises(NotVerifiedError):
        verify_inclusion(leaf, 0, 8, proof, root)


# -- several writers --


def test_four_processes_write_everything_exactly_once(place: Place) -> None:
    assert together(place.target, "write", WRITERS, 25) == ["done"] * 4
    entries = verified(place.open())
    assert len(entries) == 100
    assert {entry.body["run"] for entry in entries} == {
        f"{w}-{n}" for w in WRITERS for n in range(25)
    }


def test_looking_and_writing_in_one_turn_is_exact(place: Place) -> None:
    granted = together(place.target, "grant", WRITERS, 100)
    assert sum(map(int, granted)) == 100
    assert len(verified(place.open())) == 100


def test_looking_and_writing_in_two_turns_is_not(place: Place) -> None:
    total = cap = 0
    for attempt in range(9):
        cap = total + 20
        writers = [f"{who}{attempt}" for who in WRITERS]
        total += sum(map(int, together(place.target, "grant_loosely", writers, cap)))
        if total > cap:
            break
    assert total > cap
    assert len(verified(place.open())) == total


@pytest.mark.parametrize("before", [0, 3])
def test_a_writer_that_is_killed_in_its_turn_leaves_nothing_half(place: Place, before: int) -> None:
    store = written(place, before) if before else place.open()
    with process(place.target, "hang", "killed", 5) as writer:
        writer.go()
        assert writer.hear() == "in the turn"
        writer.kill()
    assert store.size() == before
    assert append(store, KIND, act("next"), time_ms=0).index == before
    assert len(verified(place.open())) == before + 1


def test_readers_see_the_state_before_a_turn_that_is_under_way(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = written(place, 3)
    with process(place.target, "hang", "slow", 5) as writer:
        writer.go()
        assert writer.hear() == "in the turn"
        assert len(verified(store)) == len(verified(place.open())) == 3
        place.hurry(monkeypatch)
        with pytest.raises(InputError, match=r"another (process|writer) keeps") as busy:
            append(place.open(), KIND, act("mine"), time_ms=0)
        one_sentence(busy.value)
        writer.go()
        assert writer.hear() == "done"
    assert append(store, KIND, act("mine"), time_ms=0).index == 8


def test_threads_share_a_store(place: Place) -> None:
    store = place.open()

    def write(who: str) -> None:
        for number in range(10):
            append(store, KIND, act(f"{who}-{number}"), time_ms=0)
            store.size()

    threads = [threading.Thread(target=write, args=(who,)) for who in WRITERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verified(store)) == 40


def test_many_may_begin_a_ledger_at_once(file: SqlitePlace) -> None:
    for number in range(25):
        all_begin(SqlitePlace(file.path.with_name(f"{number}.db")))


def test_many_may_begin_a_ledger_at_once_in_a_database(server: Server) -> None:
    for _ in range(5):
        all_begin(PostgresPlace(server, server.empty_database()))


def all_begin(place: Place) -> None:
    """Six writers meet an empty place at the same time."""
    failed: list[BaseException] = []
    gate = threading.Barrier(6)

    def begin(who: int) -> None:
        store = place.open()
        gate.wait()
        try:
            append(store, KIND, act(f"r{who}"), time_ms=0)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failed.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=begin, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(verified(place.open())) == 6


def test_a_forked_process_writes_for_itself(place: Place) -> None:
    with process(place.target, "fork", "f") as writer:
        writer.go()
        assert writer.hear() == "0 5"
    runs = {entry.body["run"] for entry in verified(place.open())}
    assert runs == {f"f-{part}" for part in ("before", "child", "parent", "child-alone", "after")}


def test_a_child_does_not_hold_the_turn_of_a_parent_that_was_killed(place: Place) -> None:
    with process(place.target, "fork_and_hang", "f") as writer:
        writer.go()
        assert writer.hear() == "in the turn"
        writer.kill()
        begun_s = time.monotonic()
        append(place.open(), KIND, act("next"), time_ms=0)
        assert time.monotonic() - begun_s < CHILD_S / 2
    assert [entry.body["run"] for entry in verified(place.open())] == ["f-before", "next"]


def test_a_process_forked_in_a_turn_cannot_commit_it(place: Place) -> None:
    with process(place.target, "fork_in_turn", "f") as writer:
        writer.go()
        assert writer.hear() == "42 3"
    runs = [entry.body["run"] for entry in verified(place.open())]
    assert runs == ["f-before", "f-turn", "f-after"]


# -- what is no ledger, or broken --


def test_a_ledger_of_another_format_is_refused(place: Place) -> None:
    written(place, 1)
    place.set_format(999)
    for use in everything(place.open()):
        with pytest.raises(NotVerifiedError, match="999") as refused:
            use()
        one_sentence(refused.value)


def test_what_another_application_keeps_is_refused_and_not_touched(place: Place) -> None:
    if isinstance(place, PostgresPlace):
        place.run("CREATE SCHEMA tacit", "CREATE TABLE {ledger} (id int, title text)")
    else:
        place.run("CREATE TABLE entry (id int, title text)")
    for use in everything(place.open()):
        with pytest.raises(NotVerifiedError) as refused:
            use()
        one_sentence(refused.value)
    if isinstance(place, SqlitePlace):
        with closing(sqlite3.connect(place.path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.mark.parametrize("leaf", [b"", b"{}", b"\xff", b'{"format":5}'])
def test_nothing_is_appended_to_a_broken_entry(place: Place, leaf: bytes) -> None:
    store = written(place, 2)
    place.unguard()
    place.run(f"UPDATE {{entry}} SET leaf = {place.blob(leaf)} WHERE place = 1")
    with pytest.raises(NotVerifiedError, match="last entry") as refused:
        append(store, KIND, act("more"), time_ms=0)
    one_sentence(refused.value)
    assert store.size() == 2


# -- SQLite --


def test_a_durable_turn_syncs_the_log(file: SqlitePlace) -> None:
    store = file.open()
    for durable, synchronous in ((True, 2), (False, 1), (True, 2)):
        with store.turn(durable=durable):
            assert store._connection is not None
            pragma = store._connection.execute
            assert pragma("PRAGMA synchronous").fetchone() == (synchronous,)
            assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_writer_without_the_log_is_waited_for(file: SqlitePlace) -> None:
    written(file, 1).close()
    with closing(sqlite3.connect(file.path, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN IMMEDIATE")
        later = threading.Timer(0.2, other.rollback)
        later.start()
        append(file.open(), KIND, act("more"), time_ms=1)
        later.join()
    assert len(verified(file.open())) == 2


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("harm", ["halved", "other begin", "noise", "text"])
def test_a_broken_file_is_refused(file: SqlitePlace, harm: str, log: bool) -> None:
    store = written(file, 300)
    leaves = list(store.leaves())
    if log:
        shutil.copy(f"{file.path}-wal", f"{file.path}-kept")
    store.close()
    data = bytearray(file.path.read_bytes())
    assert len(data) > 8 * 4096
    if harm == "halved":
        del data[len(data) // 2 - 100 :]
    elif harm == "other begin":
        data[:16] = b"SQLite format 4\0"
    elif harm == "noise":
        data[4096:] = random.Random(harm).randbytes(len(data) - 4096)
    else:
        data[:] = b"a text, and no database\n" * 1000
    file.path.write_bytes(data)
    if log:  # of the same ledger; it may mend the file, and must not hide what is wrong
        shutil.move(f"{file.path}-kept", f"{file.path}-wal")
    broken = file.open()
    try:
        checked_frontier(broken, since=Frontier(), size=300)
    except NotVerifiedError as error:
        one_sentence(error)
    else:
        assert log
        assert list(broken.leaves()) == leaves


def test_a_full_disk_refuses_and_works_again(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    path = disk / "ledger.db"
    store = SqliteLedger(path)
    try:
        append(store, KIND, act("first"), time_ms=0)
        if mounted:
            with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
                while True:
                    ballast.write(bytes(4096))
        else:
            assert store._connection is not None
            store._connection.execute("PRAGMA max_page_count = 20")
        count = refused_until(store)
        before = store.size()
        assert before == 1 + count
        with pytest.raises(InputError, match="full"):
            write_many(store)
        assert store.size() == before
        if mounted:
            (disk / "ballast").unlink()
        else:
            store.close()
        assert append(store, KIND, act("last"), time_ms=0).index == before
        assert len(verified(store)) == len(verified(SqliteLedger(path))) == before + 1
    finally:
        store.close()
        if mounted:
            subprocess.run(["umount", "-l", disk], check=True)


def write_many(store: LedgerStore) -> None:
    with store.turn() as turn:
        for number in range(2_000):
            turn.append(KIND, act(f"many-{number}"), time_ms=0)


def refused_until(store: LedgerStore) -> int:
    """Append until it is refused, and return how many were."""
    for number in range(5_000):
        try:
            append(store, KIND, act(f"r{number}"), time_ms=0)
        except InputError as error:
            if "full" not in one_sentence(error):
                raise
            return number
    raise AssertionError("the disk never got full")


@pytest.fixture
def public() -> Iterator[SqlitePlace]:
    """A place that every user may look into."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    before = os.umask(0o022)
    try:
        yield SqlitePlace(folder / "ledger.db")
    finally:
        os.umask(before)
        shutil.rmtree(folder)


def test_a_copy_that_cannot_be_written_is_read(public: SqlitePlace) -> None:
    written(public, 3).close()
    assert not public.path.with_name("ledger.db-wal").exists()
    with process(public.target, "read_as_nobody", "") as reader:
        reader.go()
        assert reader.hear() == "3 3"


def test_a_copy_with_a_log_never_shows_less_than_it_holds(public: SqlitePlace) -> None:
    store = written(public, 3)
    with process(public.target, "read_as_nobody", ",-wal") as reader:
        reader.go()
        assert reader.hear() in {"3 3", "InputError"}
    assert store.size() == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_who_cannot_write_sees_what_is_written_meanwhile(public: SqlitePlace) -> None:
    store = written(public, 3)
    store.close()
    with process(public.target, "read_as_nobody", "live") as reader:
        reader.go()
        assert reader.hear() == "3 3"
        append(store, KIND, act("more"), time_ms=3)
        reader.go()
        assert reader.hear() == "4 4"


def test_a_ledger_needs_a_folder(tmp_path: Path) -> None:
    store = SqliteLedger(tmp_path / "nowhere" / "ledger.db")
    assert store.size() == 0
    with pytest.raises(InputError, match="no folder"):
        append(store, KIND, act("r"), time_ms=0)
    with pytest.raises(InputError) as refused:
        append(SqliteLedger(tmp_path), KIND, act("r"), time_ms=0)
    one_sentence(refused.value)


# -- PostgreSQL --


def test_a_later_writer_fences_off_the_earlier_one(database: PostgresPlace) -> None:
    old = database.open(writer="old")
    append(old, KIND, act("r0"), time_ms=0)
    new = database.open(writer="new")
    began = new.take_over(time_ms=1)
    assert (began.kind, dict(began.body), began.epoch) == ("writer.began", {"writer": "new"}, 2)
    for use in writes(old):
        with pytest.raises(RefusedError, match="later writer took the ledger over") as refused:
            use()
        assert type(refused.value) is RefusedError
        one_sentence(refused.value)
    assert old.size() == 2  # reading is allowed
    assert append(new, KIND, act("r1"), time_ms=2).epoch == new.epoch == 2
    assert old.take_over(time_ms=3).epoch == old.epoch == 3
    with pytest.raises(RefusedError):
        append(new, KIND, act("r2"), time_ms=4)
    assert append(database.open(), KIND, act("r3"), time_ms=5).epoch == 3  # a newcomer
    assert [entry.epoch for entry in verified(old)] == [1, 2, 2, 3, 3]


def test_who_takes_over_waits_for_the_turn_under_way(database: PostgresPlace) -> None:
    old, new = database.open(writer="old"), database.open(writer="new")
    append(old, KIND, act("r0"), time_ms=0)
    taking = threading.Thread(target=new.take_over, kwargs={"time_ms": 0})
    with old.turn() as turn:
        taking.start()
        turn.append(KIND, act("r1"), time_ms=0)
        time.sleep(0.2)
        assert taking.is_alive()
        turn.append(KIND, act("r2"), time_ms=0)
    taking.join()
    with pytest.raises(RefusedError):
        append(old, KIND, act("r3"), time_ms=0)
    assert [entry.epoch for entry in verified(new)] == [1, 1, 1, 2]


def test_of_two_who_take_over_at_once_one_is_in_charge(database: PostgresPlace) -> None:
    for _ in range(5):
        rivals = [database.open(writer=writer) for writer in "ab"]
        threads = [threading.Thread(target=one.take_over, kwargs={"time_ms": 0}) for one in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winner, loser = sorted(rivals, key=lambda one: -one.epoch)
        assert winner.epoch == loser.epoch + 1
        append(winner, KIND, act(f"{winner.epoch}"), time_ms=0)
        with pytest.raises(RefusedError):
            append(loser, KIND, act("other"), time_ms=0)
    epochs = [entry.epoch for entry in verified(database.open())]
    assert max(epochs) == 11


def test_the_same_writer_may_begin_again(database: PostgresPlace) -> None:
    for epoch in (2, 3):
        assert database.open(writer="same").take_over(time_ms=0).epoch == epoch


def test_a_takeover_that_failed_changed_nothing(
    database: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = written(database, 1), database.open(writer="")
    with pytest.raises(ValueError, match="writer"):
        new.take_over(time_ms=0)
    database.hurry(monkeypatch)
    with old.turn(), pytest.raises(InputError, match="another writer keeps"):
        database.open().take_over(time_ms=0)
    assert database.open().epoch == 1
    append(old, KIND, act("more"), time_ms=0)


def test_a_ledger_that_was_set_back_is_refused(database: PostgresPlace) -> None:
    store = database.open()
    store.take_over(time_ms=0)
    with pytest.raises(psycopg.Error, match="rises"):
        database.run("UPDATE {ledger} SET epoch = 1")
    database.unguard()
    database.run("UPDATE {ledger} SET epoch = 1")
    for one in (store, database.open()):
        with pytest.raises(NotVerifiedError, match="set back"):
            append(one, KIND, act("more"), time_ms=0)


def test_several_ledgers_share_a_database(database: PostgresPlace) -> None:
    one, two = database.open(name="one"), database.open(name="zwei ü")
    append(one, KIND, act("r"), time_ms=0)
    assert two.size() == 0
    assert list(two.leaves()) == []
    assert two.checkpoints() == []
    two.take_over(time_ms=0)
    append(two, KIND, act("r"), time_ms=0)
    append(one, KIND, act("s"), time_ms=0)
    one.keep_checkpoint(2, b"one")
    two.keep_checkpoint(2, b"two")
    assert [entry.epoch for entry in verified(one)] == [1, 1]
    assert [entry.epoch for entry in verified(two)] == [2, 2]
    assert one.checkpoints() == [(2, b"one")]
    with two.turn(), one.turn() as turn:  # neither waits for the other
        turn.append(KIND, act("t"), time_ms=0)


def test_a_durable_turn_waits_for_the_disk(database: PostgresPlace) -> None:
    store = database.open()
    for durable, commit in ((True, "on"), (False, "off")):
        append(store, KIND, act(f"begun {durable}"), time_ms=0)
        with store.turn(durable=durable):
            assert store._held.connection is not None
            shown = store._held.connection.execute("SHOW synchronous_commit").fetchone()
            assert shown == (commit,)


def test_a_server_that_does_not_sync_is_refused(database: PostgresPlace) -> None:
    def set_fsync(value: str) -> None:
        with psycopg.connect(database.target, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET fsync = {value}".encode())
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SHOW fsync").fetchone() != (value,):
                time.sleep(0.01)

    set_fsync("off")
    try:
        with pytest.raises(InputError, match="fsync"):
            append(database.open(), KIND, act("r"), time_ms=0)
    finally:
        set_fsync("on")
    append(database.open(), KIND, act("r"), time_ms=0)


def test_a_lost_connection_is_made_again(database: PostgresPlace) -> None:
    store = written(database, 1)

    def lose() -> None:
        with psycopg.connect(database.target, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    lose()
    assert store.size() == 1
    lose()
    append(store, KIND, act("more"), time_ms=0)

    def lose_in_the_turn() -> None:
        with store.turn() as turn:
            turn.append(KIND, act("lost"), time_ms=0)
            lose()
            turn.append(KIND, act("lost too"), time_ms=0)

    with pytest.raises(InputError, match="try again") as lost:
        lose_in_the_turn()
    one_sentence(lost.value)
    append(store, KIND, act("after"), time_ms=0)
    assert [entry.body["run"] for entry in verified(store)] == ["r0", "more", "after"]


def test_a_server_that_crashed_holds_what_was_written(server: Server) -> None:
    place = PostgresPlace(server, server.empty_database())
    store = written(place, 5)
    server.stop("immediate")
    for use in everything(store):
        with pytest.raises(InputError, match="check its server") as down:
            use()
        one_sentence(down.value)
    server.start()
    append(store, KIND, act("more"), time_ms=9)
    assert len(verified(store)) == 6


@pytest.mark.parametrize("cut", ["before the server", "after the server"])
def test_nobody_knows_what_became_of_a_commit_that_was_cut(
    database: PostgresPlace, cut: Cut
) -> None:
    written(database, 1)
    with cutting_proxy(database.server, b"COMMIT\0", cut) as proxy:
        store = PostgresLedger(proxy.url(database.database), writer="w")
        proxy.armed = True
        with pytest.raises(InputError, match="nobody knows whether it was; append") as cut_off:
            append(store, KIND, act("r"), time_ms=1)
        one_sentence(cut_off.value)
        assert database.open().size() == (2 if cut == "after the server" else 1)
        assert append(store, KIND, act("r"), time_ms=2).index == 1
        assert append(store, KIND, act("s"), time_ms=2).index == 2
    assert len(verified(database.open())) == 3


def test_a_writer_that_stands_still_loses_its_turn(
    database: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual_s = postgres_ledger.IDLE_TIMEOUT_S
    store = written(database, 1)

    def stand_still() -> None:
        monkeypatch.setattr(postgres_ledger, "IDLE_TIMEOUT_S", 3)
        with store.turn() as turn:
            # other turns are not held up by what this machine does beside
            monkeypatch.setattr(postgres_ledger, "IDLE_TIMEOUT_S", usual_s)
            try:
                turn.append(KIND, act("lost"), time_ms=0)
            finally:  # also where this machine itself stood still until now
                assert append(database.open(), KIND, act("other"), time_ms=0).index == 1

    with pytest.raises(InputError) as lost:
        stand_still()
    one_sentence(lost.value)
    assert "nobody knows" not in str(lost.value)
    append(store, KIND, act("after"), time_ms=0)
    assert [entry.body["run"] for entry in verified(store)] == ["r0", "other", "after"]


def test_a_reader_needs_no_right_to_write(database: PostgresPlace) -> None:
    written(database, 3)
    database.run(
        "DROP ROLE IF EXISTS auditor",
        "CREATE ROLE auditor LOGIN",
        "GRANT USAGE ON SCHEMA tacit TO auditor",
        "GRANT SELECT ON ALL TABLES IN SCHEMA tacit TO auditor",
    )
    url = database.target.replace("user=tacit", "user=auditor")
    store = PostgresLedger(url, writer="a")
    assert len(verified(store)) == 3
    with pytest.raises(InputError, match="rights"):
        append(store, KIND, act("more"), time_ms=0)
    database.run("DROP OWNED BY auditor", "DROP ROLE auditor")


def test_no_password_is_in_any_sentence(server: Server, database: PostgresPlace) -> None:
    address = f"127.0.0.1:{server.port}/{database.database}"
    with socket_that_nobody_hears() as deaf:
        urls = [
            server.url_with_password(database.database, "wrong-word"),
            server.url_with_password("no_such_database", PASSWORD),
            f"postgresql://tacit:wrong-word@{deaf}/x?connect_timeout=2",
            "postgresql://tacit:wrong-word@no.such.host.invalid/x",
            f"postgresql://tacit:wr@ng-word@{address}",
            f"postgresql://tacit:wr/ng-word@{address}",
            f"postgresql://tacit:wrong-word%zz@{address}",
            f"postgresql://tacit:wrong-word[@{address}",
            f"postgresql://tacit@{address}?password=wrong-word&no_such=1",
            f"postgresql://tacit@{address}?password=wrong-word",
            f"postgresql:// tacit:wrong-word@{address}",
            f"postgres:/tacit:wrong-word@{address}",
            f"mysql://tacit:wrong-word@{address}",
        ]
        for url in urls:
            with pytest.raises(InputError) as refused:
                append(open_store(url), KIND, act("r"), time_ms=0)
            told = one_sentence(refused.value)
            told += "".join(traceback.format_exception(refused.value)).replace(url, "")
            for secret in ("wrong-word", "ng-word", PASSWORD):
                assert secret not in told, url
    store = PostgresLedger(server.url_with_password(database.database), writer="w")
    append(store, KIND, act("r"), time_ms=0)
    assert PASSWORD not in repr(store) + str(vars(store)) + store.place
    assert store.place == f"127.0.0.1/{database.database}/coordinator"


@contextmanager
def socket_that_nobody_hears() -> Iterator[str]:
    """An address of this machine at which nothing answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        yield f"{host}:{port}"


# -- where a ledger is --


def test_a_path_is_a_file_and_an_address_a_database(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for target in (path, str(path)):
        store = open_store(target)
        assert isinstance(store, SqliteLedger)
        assert store.place == str(path)
    remote = open_store("postgresql://u:p@h.example:5432/d", name="n")
    assert isinstance(remote, PostgresLedger)
    assert remote.place == "h.example/d/n"
    assert remote.writer.endswith(f":{os.getpid()}")


@pytest.mark.parametrize(
    "target",
    ["", "mysql://h/d", "postgresql:d", "postgresql://", "postgresql://h", "file:x", "a\0b"],
)
def test_other_places_are_refused(target: str) -> None:
    with pytest.raises(InputError) as refused:
        open_store(target)
    one_sentence(refused.value)


def test_a_ledgers_name_is_short_and_printable() -> None:
    for name in ("", "a\nb", "x" * 129):
        with pytest.raises(InputError):
            PostgresLedger("postgresql://h/d", name=name, writer="w")
