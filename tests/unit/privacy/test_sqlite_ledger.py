"""What a ledger in a file keeps beside its entries, and what it says when the file is not its own.

What every store promises is in tests/contract/test_ledger_store.py.
"""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from privacy.errors import InputError, NotVerifiedError
from privacy.ledger import sqlite
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, head_of

KIND = "run.stopped"


def act(run: str) -> dict[str, object]:
    return {"run": run, "reason": "by hand"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> SqliteLedger:
    one = SqliteLedger(path)
    append(one, KIND, act("r"), time_ms=0)
    return one


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
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    ledger.sync()
    assert found == [path.with_name("ledger.db-wal")]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names alone
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


def uses(store: SqliteLedger) -> list[Callable[[], object]]:
    return [
        store.size,
        lambda: list(store.leaves()),
        lambda: store.node(0, 0),
        store.checkpoints,
        lambda: store.note("state"),
        store.notes,
        lambda: append(store, KIND, act("more"), time_ms=0),
        lambda: store.keep_checkpoint(1, b"note"),
        lambda: store.drop_checkpoint(1),
        lambda: store.keep_note("state", b"one"),
    ]


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
        for use in uses(ledger)[6:]:
            with pytest.raises(InputError, match="another process keeps") as busy:
                use()
            assert type(busy.value) is InputError
        other.execute("ROLLBACK")
        other.execute("DROP TABLE checkpoint")
    with pytest.raises(NotVerifiedError, match=r"is broken .*no such table"):
        ledger.checkpoints()
    assert ledger.size() == 1
