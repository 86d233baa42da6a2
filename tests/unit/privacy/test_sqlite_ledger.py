"""What a ledger in a file keeps beside its entries, and what it says when the file is not its own.

What every store promises is in tests/contract/test_ledger_store.py.
"""

import errno
import functools
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.ledger_writers import KIND, act, reads, writes

from privacy.errors import DamagedFileError, InputError, NotVerifiedError
from privacy.ledger import sqlite
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, head_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> SqliteLedger:
    one = SqliteLedger(path)
    append(one, KIND, act("r"), time_ms=0)
    return one


def held(path: Path) -> list[str]:
    """The files of this ledger that this process has open; of others' it says nothing."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own is gone
            found.append(str(one.readlink()))
    return sorted(name for name in found if name.startswith(str(path)))


# -- notes --


def test_where_nothing_was_written_there_are_no_notes(path: Path) -> None:
    store = SqliteLedger(path)
    assert (store.note("state"), store.notes()) == (None, [])
    assert not path.exists()


def test_a_note_is_kept_replaced_and_taken_away(path: Path, ledger: SqliteLedger) -> None:
    assert (ledger.note("state"), ledger.notes()) == (None, [])
    for value in (b"one", b"two", b""):
        ledger.keep_note("state", value)
        assert ledger.note("state") == SqliteLedger(path).note("state") == value
    for name in ("zone", "key", "a key"):
        ledger.keep_note(name, name.encode())
    assert ledger.notes() == SqliteLedger(path).notes() == ["a key", "key", "state", "zone"]
    ledger.keep_note("key", None)
    ledger.keep_note("nothing", None)
    assert ledger.notes() == ["a key", "state", "zone"]
    assert (ledger.note("key"), ledger.note("a key")) == (None, b"a key")


def test_a_note_is_no_part_of_the_ledger(ledger: SqliteLedger) -> None:
    before = head_of(ledger)
    ledger.keep_note("state", b"one")
    assert head_of(ledger) == before
    assert ledger.checkpoints() == []


def test_a_note_may_come_before_the_first_entry(path: Path) -> None:
    store = SqliteLedger(path)
    store.keep_note("state", b"one")
    assert (store.size(), store.note("state")) == (0, b"one")
    assert append(store, KIND, act("r"), time_ms=0).index == 0


def test_no_note_is_kept_within_a_turn(ledger: SqliteLedger) -> None:
    with ledger.turn() as turn:
        turn.append(KIND, act("s"), time_ms=1)
        with pytest.raises(RuntimeError, match="under way"):
            ledger.keep_note("state", b"one")
    assert (ledger.size(), ledger.notes()) == (2, [])


def test_a_note_that_cannot_be_kept_leaves_the_one_before(ledger: SqliteLedger) -> None:
    ledger.keep_note("state", b"one")
    assert ledger._connection is not None
    ledger._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(InputError, match=r"ledger\.db: .*full") as refused:
        ledger.keep_note("state", bytes(1 << 20))
    assert "\n" not in str(refused.value)
    assert ledger.note("state") == b"one"
    ledger.keep_note("state", b"two")
    assert append(ledger, KIND, act("s"), time_ms=1).index == 1


@pytest.mark.parametrize("write", ["note", "no note", "checkpoint"])
def test_what_is_kept_beside_entries_is_on_disk_at_once(ledger: SqliteLedger, write: str) -> None:
    with ledger.turn(durable=False):
        pass
    if write == "checkpoint":
        ledger.keep_checkpoint(1, b"note")
    else:
        ledger.keep_note("state", b"one" if write == "note" else None)
    assert ledger._connection is not None
    # FULL: SQLite syncs its log with each commit
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)


# -- what was not durable --


def synced(patch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are synced from here on."""
    found: list[Path] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    patch.setattr(os, "fsync", watch)
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux alone shows open files")
def test_what_was_not_durable_is_synced_by_its_log(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = synced(monkeypatch)
    with ledger.turn(durable=False) as turn:
        turn.append(KIND, act("s"), time_ms=1)
    before = held(path)
    ledger.sync()
    assert found == [path.with_name("ledger.db-wal")]
    assert held(path) == before
    ledger.close()  # all of it is in the file itself
    ledger.sync()
    assert len(found) == 1


@pytest.mark.parametrize("fails", ["open", "fsync"])
def test_a_log_that_cannot_be_synced_is_said(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, broken)
        with pytest.raises(InputError, match=r"ledger\.db: Input/output error$"):
            ledger.sync()
    ledger.sync()


# -- the file itself --


@pytest.mark.parametrize("name", ["a b.db", "a?mode=ro.db", "a#b%20c.db", "ü.db", "a&b=c.db"])
def test_a_file_has_the_name_that_was_given(tmp_path: Path, name: str) -> None:
    with closing(SqliteLedger(tmp_path / name)) as store:
        append(store, KIND, act("r"), time_ms=0)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert SqliteLedger(tmp_path / name).size() == 1


def test_a_file_says_what_it_is(path: Path, ledger: SqliteLedger) -> None:
    """Whoever holds an old file must be able to tell, and `file` does."""
    ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        for pragma, value in (
            ("application_id", int.from_bytes(b"tac1", "big")),
            ("user_version", 4),
            ("journal_mode", "wal"),
        ):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
        names = connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
        assert sorted(name for (name,) in names) == [
            *("checkpoint", "entry", "entry_is_kept", "entry_stays"),
            *("node", "node_is_kept", "node_stays"),
        ]


def changes(store: SqliteLedger) -> list[Callable[[], object]]:
    return [*writes(store), lambda: store.keep_note("state", b"one")]


def uses(store: SqliteLedger) -> list[Callable[[], object]]:
    return [*reads(store), lambda: store.note("state"), store.notes, *changes(store)]


@pytest.mark.parametrize("how", ["moved", "replaced", "removed"])
def test_a_file_that_goes_while_it_is_in_use_is_not_written_to(
    path: Path, ledger: SqliteLedger, how: str
) -> None:
    """SQLite would go on in a file that nobody else sees."""
    other = path.with_name("other.db")
    if how == "replaced":
        with closing(SqliteLedger(other)) as store:
            append(store, KIND, act("other"), time_ms=0)
        other.replace(path)
    elif how == "moved":
        path.rename(other)
    else:
        path.unlink()
    for use in uses(ledger):
        with pytest.raises(NotVerifiedError, match="moved, removed or replaced"):
            use()


def test_a_turn_or_note_whose_file_goes_meanwhile_is_not_kept(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = path.with_name("other.db")

    def go_on() -> None:
        with ledger.turn() as turn:
            turn.append(KIND, act("s"), time_ms=1)
            path.rename(other)

    with pytest.raises(NotVerifiedError, match="moved, removed or replaced"):
        go_on()
    other.rename(path)
    assert ledger.size() == 1
    assert append(ledger, KIND, act("s"), time_ms=1).index == 1

    found = ledger._file
    seen = iter([found, None])
    monkeypatch.setattr(sqlite, "_file_at", lambda _: next(seen))
    with pytest.raises(NotVerifiedError, match="moved, removed or replaced"):
        ledger.keep_note("state", b"one")
    monkeypatch.undo()
    assert ledger.notes() == []
    ledger.keep_note("state", b"two")
    assert ledger.note("state") == b"two"


def test_a_ledger_that_others_keep_is_told_from_one_that_is_broken(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.close()
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for use in changes(ledger):
            with pytest.raises(InputError, match="another process keeps") as busy:
                use()
            assert type(busy.value) is InputError
        other.execute("ROLLBACK")
        other.execute("DROP TABLE checkpoint")
    with pytest.raises(NotVerifiedError, match=r"is broken .*no such table"):
        ledger.checkpoints()
    assert ledger.size() == 1


def test_others_are_waited_for_a_minute(ledger: SqliteLedger) -> None:
    assert ledger._connection is not None
    assert ledger._connection.execute("PRAGMA busy_timeout").fetchone() == (60_000,)


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (sqlite3.SQLITE_BUSY, InputError, "another process keeps"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, InputError, "another process keeps"),
        (sqlite3.SQLITE_LOCKED, InputError, "another process keeps"),
        (sqlite3.SQLITE_CORRUPT, DamagedFileError, "is broken"),
        (sqlite3.SQLITE_CORRUPT_INDEX, DamagedFileError, "is broken"),
        (sqlite3.SQLITE_NOTADB, DamagedFileError, "is broken"),
        (sqlite3.SQLITE_ERROR, DamagedFileError, "is broken"),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, DamagedFileError, "is broken"),
        (sqlite3.SQLITE_FULL, InputError, "cannot use"),
        (sqlite3.SQLITE_IOERR_FSYNC, InputError, "cannot use"),
        (None, InputError, "cannot use"),
    ],
)
def test_what_sqlite_says_is_one_sentence(
    ledger: SqliteLedger, code: int | None, error: type[Exception], said: str
) -> None:
    """Whether to try again, to look for a copy, or to look after the disk."""
    failure = sqlite3.DatabaseError("so it is")
    if code is not None:
        failure.sqlite_errorcode = code
    with pytest.raises(error, match=said) as refused, ledger._sentences():
        raise failure
    assert type(refused.value) is error
    assert (refused.value.__suppress_context__, "\n" in str(refused.value)) == (True, False)


def test_an_entry_that_is_not_in_its_place_is_not_followed(
    path: Path, ledger: SqliteLedger
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("INSERT INTO entry SELECT 1, leaf, NULL FROM entry WHERE place = 0")
    with pytest.raises(NotVerifiedError, match=r"last entry of .*ledger\.db is not in its place"):
        append(ledger, KIND, act("s"), time_ms=1)


def test_a_hash_that_is_missing_is_said_with_its_ledger(path: Path, ledger: SqliteLedger) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DROP TRIGGER node_is_kept")
        other.execute("DELETE FROM node")
    for use in (lambda: ledger.node(0, 0), lambda: append(ledger, KIND, act("s"), time_ms=1)):
        with pytest.raises(NotVerifiedError, match=r"ledger\.db has not the hash of a part"):
            use()


def test_a_file_that_goes_before_it_is_read_is_not_begun_anew(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.close()

    def gone(_: Path) -> bool:
        path.unlink(missing_ok=True)
        return True

    monkeypatch.setattr(sqlite, "_may_write", gone)
    with pytest.raises(InputError, match="cannot use the ledger"):
        ledger.size()
    assert not path.exists()


@pytest.mark.parametrize("held", [False, True])
def test_what_went_wrong_is_told_though_nothing_can_be_rolled_back(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    def fail() -> None:
        if not held:
            ledger.close()
        raise LookupError

    def leave() -> None:
        with ledger.turn() as turn:
            turn.append(KIND, act("s"), time_ms=1)
            fail()

    with pytest.raises(LookupError):
        leave()
    ledger.size()
    # the second time it asks whether the file is still its own, just before it commits
    own, asked = ledger._require_own, iter((False, True))
    monkeypatch.setattr(ledger, "_require_own", lambda: fail() if next(asked) else own())
    with pytest.raises(LookupError):
        ledger.keep_note("state", b"one")
    monkeypatch.undo()
    assert (ledger.size(), ledger.notes()) == (1, [])
    assert append(ledger, KIND, act("s"), time_ms=1).index == 1


def test_a_checkpoint_that_is_dropped_need_not_be_synced(ledger: SqliteLedger) -> None:
    ledger.keep_checkpoint(1, b"note")
    ledger.drop_checkpoint(1)
    assert ledger._connection is not None
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (1,)


# -- who may not write --


@pytest.mark.parametrize("missing", ["file", "folder", None])
def test_who_may_write_may_write_to_the_folder_too(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    """A log beside the file has to be made there."""
    ledger.close()
    refused = {"file": path, "folder": path.parent, None: None}[missing]
    monkeypatch.setattr(os, "access", lambda what, how: how == os.W_OK and what != refused)
    assert sqlite._may_write(path) == (missing is None)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux alone shows open files")
def test_who_may_not_write_reads_and_holds_nothing(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.keep_note("state", b"one")
    ledger.close()
    asked: list[str] = []
    connected = sqlite._connected

    def watch(path: Path, options: str) -> sqlite3.Connection:
        asked.append(options)
        return connected(path, options)

    monkeypatch.setattr(sqlite, "_connected", watch)
    monkeypatch.setattr(sqlite, "_may_write", lambda _: False)
    reader = SqliteLedger(path)
    assert (reader.size(), reader.note("state"), reader.notes()) == (1, b"one", ["state"])
    path.with_name("ledger.db-wal").touch()  # an empty log says nothing
    assert reader.size() == 1
    assert asked == ["mode=ro&immutable=1"] * 4
    assert held(path) == []
    with closing(SqliteLedger(path)) as writer:
        append(writer, KIND, act("s"), time_ms=1)
        asked.clear()
        assert reader.size() == 2
        assert asked == ["mode=ro"]
    path.write_bytes(b"")
    path.with_name("ledger.db-wal").unlink(missing_ok=True)
    assert (reader.size(), reader.notes()) == (0, [])


@pytest.mark.parametrize("how", ["log", "file", "gone", "broken"])
def test_who_may_not_write_is_not_given_two_states(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nothing is locked there, and another process may begin to write at any time."""
    ledger.close()
    monkeypatch.setattr(sqlite, "_may_write", lambda _: False)
    begun = sqlite._begun

    def meanwhile(connection: sqlite3.Connection, where: Path) -> sqlite3.Connection | None:
        writer = SqliteLedger(path)
        writer._connection = sqlite._connect_or_begin(path)
        writer._file = sqlite._file_at(path)
        append(writer, KIND, act("s"), time_ms=1)
        if how != "log":
            writer.close()
        if how == "gone":
            path.rename(path.with_name("other.db"))
        found = begun(connection, where)
        if how == "broken":
            raise NotVerifiedError("a page of before")
        return found

    monkeypatch.setattr(sqlite, "_begun", meanwhile)
    with pytest.raises(InputError, match=r"ledger\.db was written to meanwhile; try again"):
        SqliteLedger(path).size()
    monkeypatch.setattr(sqlite, "_begun", begun)
    if how == "gone":
        path.with_name("other.db").rename(path)
    assert SqliteLedger(path).size() == 2


def test_a_file_that_goes_before_who_may_not_write_reads_it_is_said(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.close()

    def gone(_: Path) -> bool:
        path.unlink(missing_ok=True)
        return False

    monkeypatch.setattr(sqlite, "_may_write", gone)
    with monkeypatch.context() as patch:
        looks = iter([True, True])
        patch.setattr(Path, "exists", lambda _: next(looks))
        with pytest.raises(InputError, match="cannot use the ledger"):
            SqliteLedger(path).size()
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux alone shows open files")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("writable", [True, False])
def test_what_is_refused_is_not_held_open(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    ledger.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 5")
    monkeypatch.setattr(sqlite, "_may_write", lambda _: writable)
    failures = []
    for use in uses(SqliteLedger(path)):
        with pytest.raises(
            NotVerifiedError, match=r"ledger\.db is a ledger of format 5 "
        ) as refused:
            use()
        assert "this version reads 4" in str(refused.value)
        failures.append(refused)  # they hold what each call held
    assert held(path) == []


# -- forks --


def elsewhere(do: Callable[[], object]) -> bool:
    """Whether another thread can do that at once."""
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


@pytest.mark.parametrize("child", [False, True])
def test_a_ledger_is_closed_for_a_fork_and_usable_after_it(
    ledger: SqliteLedger, child: bool
) -> None:
    """SQLite cannot tell that it was forked: both open the file anew."""
    ledger.before_fork()
    assert ledger._connection is None
    ledger.after_fork(child=child)
    assert elsewhere(lambda: append(ledger, KIND, act("s"), time_ms=1))
    assert ledger.size() == 2


def test_a_fork_within_a_turn_leaves_it_to_the_parent(ledger: SqliteLedger) -> None:
    with ledger.turn() as turn:
        turn.append(KIND, act("s"), time_ms=1)
        ledger.before_fork()
        ledger.after_fork(child=False)
        turn.append(KIND, act("t"), time_ms=2)
    assert ledger.size() == 3
    assert elsewhere(ledger.size)


def test_a_fork_within_a_turn_leaves_the_child_nothing(path: Path, ledger: SqliteLedger) -> None:
    def fork() -> None:
        with ledger.turn() as turn:
            turn.append(KIND, act("s"), time_ms=1)
            ledger.before_fork()
            ledger.after_fork(child=True)

    with pytest.raises(InputError, match="forked in a turn"):
        fork()
    connection = ledger._connection
    assert connection is not None
    assert connection.in_transaction  # it is the parent's, and for the parent to end
    for use in uses(ledger):
        with pytest.raises(InputError, match="forked in a turn"):
            use()
    ledger.__del__()
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    connection.close()
    assert SqliteLedger(path).size() == 1


@pytest.mark.parametrize("child", [False, True])
def test_all_ledgers_of_a_process_are_looked_after_and_new_ones(
    path: Path, ledger: SqliteLedger, child: bool
) -> None:
    """What a fork calls; tests/contract/test_ledger_store.py forks."""
    others = [SqliteLedger(path.with_name(f"{number}.db")) for number in range(2)]
    for one in others:
        append(one, KIND, act("r"), time_ms=0)
    everyone = [ledger, *others]
    sqlite._before_fork()
    assert [one._connection for one in everyone] == [None] * 3
    sqlite._after_fork(child=child)
    everyone.append(SqliteLedger(path.with_name("new.db")))
    for one in everyone:
        assert elsewhere(functools.partial(append, one, KIND, act("s"), time_ms=1))
    assert [one.size() for one in everyone] == [2, 2, 2, 1]


@pytest.mark.parametrize("child", [False, True])
def test_a_fork_does_not_wait_for_ever_for_another_threads_turn(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch, child: bool
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with suppress(InputError), ledger.turn():
            held.set()
            done.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(120)
    ledger.before_fork()
    assert ledger._connection is not None
    ledger.after_fork(child=child)
    if child:
        with pytest.raises(InputError, match="forked in a turn"):
            ledger.size()  # and no wait for a thread that is not there
    done.set()
    thread.join()
    if not child:
        assert ledger.size() == 1


def test_what_was_never_opened_is_let_go_of(path: Path) -> None:
    SqliteLedger(path).__del__()
    SqliteLedger.__new__(SqliteLedger).__del__()


# -- the log --


class Said:
    """A connection that answers as it is told: a mode, or an error by its code."""

    def __init__(self, *answers: str | int) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def execute(self, statement: str) -> "Said":
        self.asked.append(statement)
        if not statement.startswith("PRAGMA"):
            return self
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, int):
            error = sqlite3.OperationalError("as told")
            error.sqlite_errorcode = answer
            raise error
        self.mode = answer
        return self

    def fetchone(self) -> tuple[str]:
        return (self.mode,)


def use_log(said: Said, path: Path) -> None:
    sqlite._use_log(said, path)  # type: ignore[arg-type]


def write_ahead(said: Said) -> None:
    sqlite.write_ahead(said)  # type: ignore[arg-type]


def test_who_begins_with_others_waits_for_the_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(sqlite, "time", clock)
    said = Said(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, "wal")
    use_log(said, path)
    assert said.asked == ["PRAGMA journal_mode = WAL"] * 3
    assert slept == [0.01, 0.01]
    with pytest.raises(InputError, match=r"kept on the disk of .*ledger\.db; give a local folder"):
        use_log(Said("delete"), path)
    with pytest.raises(sqlite3.OperationalError, match="as told"):
        use_log(Said(sqlite3.SQLITE_IOERR, "wal"), path)


def test_a_ledger_is_not_kept_in_memory() -> None:
    """SQLite takes this name for no file, and there is no log beside that."""
    with pytest.raises(InputError, match=r"kept on the disk of :memory:; give a local folder"):
        append(SqliteLedger(Path(":memory:")), KIND, act("r"), time_ms=0)


def test_who_begins_with_others_does_not_wait_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(sqlite, "time", clock)
    said = Said(sqlite3.SQLITE_BUSY)
    with pytest.raises(sqlite3.OperationalError, match="as told"):
        use_log(said, path)
    assert len(said.asked) > 1
    assert sum(slept) == pytest.approx(sqlite.BUSY_TIMEOUT_S, abs=0.1)


def test_a_log_is_asked_for_again_after_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, turn = "PRAGMA journal_mode = WAL", ["BEGIN IMMEDIATE", "COMMIT"]
    said = Said(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY, "wal")
    write_ahead(said)
    assert said.asked == [ask, *turn, ask, *turn, ask]
    with pytest.raises(sqlite3.OperationalError, match="as told"):
        write_ahead(Said(sqlite3.SQLITE_IOERR, "wal"))
    monkeypatch.setattr(sqlite, "_ATTEMPTS", 3)
    said = Said(sqlite3.SQLITE_BUSY)
    with pytest.raises(sqlite3.OperationalError, match="other processes keep opening it"):
        write_ahead(said)
    assert said.asked == [ask, *turn] * 3


# -- how it begins --


def test_who_begins_second_begins_nothing(path: Path) -> None:
    with closing(sqlite._connected(path, "mode=rwc")) as connection:
        sqlite._begin(connection)
        sqlite._begin(connection)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert not connection.in_transaction


def test_a_ledger_that_cannot_be_begun_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_statements", lambda: ["CREATE TABLE entry (place)", "no statement"])
        with pytest.raises(NotVerifiedError, match="syntax error"):
            append(SqliteLedger(path), KIND, act("r"), time_ms=0)
        with closing(sqlite._connected(path, "mode=rwc")) as connection:
            with pytest.raises(sqlite3.OperationalError, match="syntax error"):
                sqlite._begin(connection)
            assert not connection.in_transaction
            assert not sqlite._is_begun(connection)
    assert append(SqliteLedger(path), KIND, act("r"), time_ms=0).index == 0
