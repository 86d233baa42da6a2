"""A ledger in an SQLite file: durable before it is said to be, exact under concurrent writers.

WAL, synchronous=FULL, BEGIN IMMEDIATE, STRICT tables. The triggers against changing entries are a
guard against mistakes; what shows a change by whoever owns the file is the tree's signed root.
"""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from privacy.errors import DamagedFileError, InputError, NotVerifiedError, OwnFileError
from privacy.ledger.checkpoint import merged
from privacy.ledger.entry import FORMAT, Body, Entry, parse_leaf
from privacy.ledger.head import next_entry
from privacy.ledger.merkle import leaf_hash, new_nodes

BUSY_TIMEOUT_S: Final = 60.0
_RETRY_S = 0.01
_BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # a table is missing
    sqlite3.SQLITE_CONSTRAINT,  # an entry or a hash stands where none can be
}
_PLACES = 2**63 - 1
_APPLICATION = 0x74616331
_ROWS = 1000
_ATTEMPTS = 100
_SCHEMA = f"""
CREATE TABLE entry (
    place INTEGER PRIMARY KEY, leaf BLOB NOT NULL, key BLOB UNIQUE
) STRICT;
CREATE TABLE node (
    level INTEGER NOT NULL, place INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT;
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger is only appended to'); END;
CREATE TRIGGER entry_is_kept BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger is only appended to'); END;
CREATE TRIGGER node_stays BEFORE UPDATE ON node
    BEGIN SELECT RAISE(ABORT, 'a ledger is only appended to'); END;
CREATE TRIGGER node_is_kept BEFORE DELETE ON node
    BEGIN SELECT RAISE(ABORT, 'a ledger is only appended to'); END;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT};
"""
_NOTES = "CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT"


class SqliteTurn:
    """`privacy.ledger.store.Turn` over a transaction of an SQLite file."""

    def __init__(self, connection: sqlite3.Connection, place: str, epoch: int) -> None:
        self._connection = connection
        self._place = place
        self._epoch = epoch
        self._last = _last(connection, place)
        self._half = self._over = False

    @property
    def size(self) -> int:
        """See the Protocol."""
        return 0 if self._last is None else self._last.index + 1

    def leaves(self, start: int, stop: int | None = None) -> Iterator[bytes]:
        """See the Protocol."""
        return _leaves(self._connection, start, stop)

    def find(self, key: bytes) -> Entry | None:
        """See the Protocol."""
        row = self._connection.execute("SELECT leaf FROM entry WHERE key = ?", (key,)).fetchone()
        return None if row is None else parse_leaf(row[0])

    def append(self, kind: str, body: Body, *, time_ms: int) -> Entry:
        """See the Protocol."""
        if self._over:
            raise RuntimeError(f"this turn at {self._place} is over")
        entry = next_entry(self._last, kind, body, time_ms=time_ms, epoch=self._epoch)
        leaf = entry.leaf()
        nodes = new_nodes(entry.index, leaf_hash(leaf), self._node)
        try:
            self._connection.execute(
                "INSERT INTO entry VALUES (?, ?, ?)", (entry.index, leaf, entry.key)
            )
        except sqlite3.IntegrityError:
            raise OwnFileError(f"{self._place} holds this {kind} already") from None
        self._half = True
        self._connection.executemany("INSERT INTO node VALUES (?, ?, ?)", nodes)
        self._half = False
        self._last = entry
        return entry

    def end(self) -> None:
        """Append nothing more."""
        self._over = True

    def require_whole(self) -> None:
        """Raise InputError if an entry failed half-way, and whoever held the turn went on."""
        if self._half:
            raise InputError(f"{self._place} could not be written; nothing of the turn was")

    def _node(self, level: int, index: int) -> bytes:
        return _node(self._connection, self._place, level, index)


class SqliteLedger:
    """`privacy.ledger.store.LedgerStore` in one file (with `-wal` and `-shm` beside it while open).

    It has one writer at a time by the file's lock, so all are of epoch 1. A process that was forked
    may use the ledgers that its parent holds; not in the turn in which it was forked.
    """

    epoch = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._orphaned = False
        with _ALL_LOCK:
            _ALL.add(self)

    @property
    def place(self) -> str:
        """See the Protocol."""
        return str(self.path)

    @contextmanager
    def turn(self, *, durable: bool = True) -> Iterator[SqliteTurn]:
        """See the Protocol."""
        with self._transaction(durable=durable) as connection:
            turn = SqliteTurn(connection, self.place, self.epoch)
            try:
                yield turn
            finally:
                turn.end()
            turn.require_whole()

    def size(self) -> int:
        """See the Protocol."""
        with self._reading() as connection:
            if connection is None:
                return 0
            row = connection.execute("SELECT max(place) FROM entry").fetchone()
            return 0 if row[0] is None else int(row[0]) + 1

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """See the Protocol."""
        at = start
        while True:
            with self._reading() as connection:
                upto = at + _ROWS if stop is None else min(stop, at + _ROWS)
                rows = [] if connection is None else list(_leaves(connection, at, upto))
            if not rows:
                return
            yield from rows
            at = upto

    def node(self, level: int, index: int) -> bytes:
        """See the Protocol."""
        with self._reading() as connection:
            if connection is None:
                raise DamagedFileError(f"{self.place} holds no entries")
            return _node(connection, self.place, level, index)

    def keep_checkpoint(self, size: int, note: bytes) -> bytes:
        """See the Protocol."""
        with self._transaction(durable=True) as connection:
            row = connection.execute(
                "SELECT note FROM checkpoint WHERE size = ?", (size,)
            ).fetchone()
            whole = merged(None if row is None else bytes(row[0]), note)
            connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (size, whole))
        return whole

    def drop_checkpoint(self, size: int) -> None:
        """See the Protocol."""
        with self._mutex, self._sentences():
            connection = self._writable()
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("DELETE FROM checkpoint WHERE size = ?", (size,))

    def checkpoints(self) -> list[tuple[int, bytes]]:
        """See the Protocol."""
        with self._reading() as connection:
            if connection is None:
                return []
            return connection.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall()

    def keep_note(self, name: str, value: bytes | None) -> None:
        """Keep something beside the entries, durably, in place of what is there; None: nothing.

        It is in the same file, so that whoever puts an old copy of that back has the old notes with
        the old entries. It is no part of the ledger: no entry, and in no root of the tree.

        Raises:
            InputError: The file cannot be written.
            NotVerifiedError: It is no ledger of this format.
        """
        with self._transaction(durable=True) as connection:
            connection.execute(_NOTES)
            if value is None:
                connection.execute("DELETE FROM note WHERE name = ?", (name,))
            else:
                connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    def note(self, name: str) -> bytes | None:
        """Return what is kept under that name beside the entries; None where nothing is."""
        with self._reading() as connection:
            if connection is None or not _has_notes(connection):
                return None
            row = connection.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
            return None if row is None else bytes(row[0])

    def notes(self) -> list[str]:
        """Return the names under which something is kept beside the entries, sorted."""
        with self._reading() as connection:
            if connection is None or not _has_notes(connection):
                return []
            return [row[0] for row in connection.execute("SELECT name FROM note ORDER BY name")]

    def sync(self) -> None:
        """Have on disk what was committed so far, by turns that were not durable too.

        Raises:
            InputError: It cannot be written.
        """
        with self._mutex:
            log = self.path.with_name(f"{self.path.name}-wal")
            try:
                descriptor = os.open(log, os.O_RDONLY)
            except FileNotFoundError:
                return  # all of it is in the file itself
            except OSError as failure:
                raise InputError(f"cannot use the ledger {self.path}: {failure.strerror}") from None
            try:
                os.fsync(descriptor)
            except OSError as failure:
                raise InputError(f"cannot use the ledger {self.path}: {failure.strerror}") from None
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        """Let go of the file with the last reference.

        A connection of sqlite3 and its cache of statements hold each other. Left to the collector,
        which comes by seldom in a large process, three files of each stayed open for many runs.
        """
        connection = vars(self).get("_connection")
        if connection is not None and not self._orphaned:
            connection.close()

    def before_fork(self) -> None:
        """Let go of the file, unless a turn is under way.

        SQLite keeps its locks by process and cannot tell that it was forked: the child would take
        its parent's locks for its own, and write to a log that the parent takes away.
        """
        if not self._mutex.acquire(timeout=BUSY_TIMEOUT_S):
            return
        if self._connection is not None and not self._connection.in_transaction:
            self.close()

    def after_fork(self, *, child: bool) -> None:
        """Be usable again; in the child unless a turn was under way."""
        if child:
            self._orphaned = self._connection is not None
            self._mutex = threading.RLock()
        else:
            with suppress(RuntimeError):  # it was never acquired
                self._mutex.release()

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Hold the file for one writer until all that was done is committed."""
        with self._mutex, self._sentences():
            connection = self._writable()
            try:
                # in WAL, FULL syncs the log with each commit and NORMAL with the next one that does
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                self._require_own()
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    if connection.in_transaction and not self._orphaned:
                        connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give a connection, or None where nothing was ever written."""
        with self._mutex, self._sentences():
            self._require_own()
            if self._connection is None and self.path.exists() and _may_write(self.path):
                self._connection, self._file = _connect(self.path), _file_at(self.path)
            if self._connection is not None or not self.path.exists():
                yield self._connection
                return
            with _read_only(self.path) as connection:
                yield connection

    def _writable(self) -> sqlite3.Connection:
        self._require_own()
        if self._connection is None:
            if not self.path.parent.is_dir():
                raise InputError(
                    f"there is no folder {self.path.parent} for a ledger; make it first"
                )
            self._connection, self._file = _connect_or_begin(self.path), _file_at(self.path)
        if self._connection.in_transaction:
            raise RuntimeError(f"a turn at {self.place} is under way; append in that")
        return self._connection

    def _require_own(self) -> None:
        if self._orphaned:
            raise InputError(
                f"this process was forked in a turn at {self.place}; start it outside of one"
            )
        # SQLite would go on in a file that nobody else can see any more
        if self._connection is not None and _file_at(self.path) != self._file:
            raise DamagedFileError(
                f"the ledger {self.path} was moved, removed or replaced while it was in use; put "
                "it back, then start again"
            )

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what SQLite says into one sentence."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
            if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise InputError(
                    f"another process keeps the ledger {self.path}; stop it, then try again"
                ) from None
            if code in _BROKEN:
                raise DamagedFileError(
                    f"the ledger {self.path} is broken ({error}); restore it from a copy"
                ) from None
            raise InputError(
                f"cannot use the ledger {self.path}: {error}; check its folder and disk"
            ) from None


# A fork takes SQLite's own tables along; see `SqliteLedger.before_fork`.
_ALL: "weakref.WeakSet[SqliteLedger]" = weakref.WeakSet()
_ALL_LOCK = threading.Lock()
_forking: list[SqliteLedger] = []


def _before_fork() -> None:
    with _ALL_LOCK:
        _forking[:] = _ALL
    for ledger in _forking:
        ledger.before_fork()


def _after_fork(*, child: bool) -> None:
    global _ALL_LOCK  # noqa: PLW0603 - another thread may have held it, and is not in the child
    if child:
        _ALL_LOCK = threading.Lock()
    for ledger in _forking:
        ledger.after_fork(child=child)
    _forking.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _connect_or_begin(path: Path) -> sqlite3.Connection:
    connection = _connected(path, "mode=rwc")
    try:
        if not _is_begun(connection):
            _begin(connection)
        _require_format(connection, path)
        _use_log(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection | None:
    return _begun(_connected(path, "mode=rw"), path)


def _alone(path: Path) -> tuple[int, int] | None:
    """When a file without a log was written to last, and its size; None where there is a log.

    A copy on a medium that cannot be written has no log, and SQLite needs to be told so.
    """
    log = path.with_name(f"{path.name}-wal")
    with suppress(FileNotFoundError):
        if log.stat().st_size:
            return None
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return 0, 0


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Give a connection, or None where nothing was ever written, to who may not write."""
    alone = _alone(path)
    connection = None
    try:
        options = "mode=ro" if alone is None else "mode=ro&immutable=1"
        connection = _begun(_connected(path, options), path)
        yield connection
    finally:
        if connection is not None:
            connection.close()
        # nothing was locked, so what was read may be of two states, or look broken
        if alone is not None and _alone(path) != alone:
            raise InputError(f"the ledger {path} was written to meanwhile; try again") from None


def _begun(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection | None:
    try:
        begun = _is_begun(connection)
        if begun:
            _require_format(connection, path)
    except BaseException:
        connection.close()
        raise
    if not begun:
        connection.close()
        return None
    return connection


def _connected(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?{options}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    until = time.monotonic() + BUSY_TIMEOUT_S
    mode = None
    while mode is None:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself here, lest two that begin a ledger wait for each other
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)
    if mode != "wal":
        raise InputError(f"a ledger cannot be kept on the disk of {path}; give a local folder")


def write_ahead(connection: sqlite3.Connection) -> None:
    """Keep the file with a log beside it (WAL), while others may do the same.

    Raises:
        sqlite3.OperationalError: others keep opening it, or the disk refuses.
    """
    # While another process makes the same change, SQLite refuses at once, whatever the timeout.
    # For a turn to write it does wait, and after that the change is made, or can be.
    for _ in range(_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        else:
            return
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")
    raise sqlite3.OperationalError("other processes keep opening it")


def _is_begun(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def _has_notes(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'note'").fetchone()
    return bool(found[0])


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_begun(connection):  # another process may have been first
            for statement in _statements():
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements() -> Iterator[str]:
    statement = ""
    for line in _SCHEMA.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _require_format(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise DamagedFileError(f"{path} is no ledger of tacit; give another file")
    if version != FORMAT:
        raise DamagedFileError(
            f"{path} is a ledger of format {version} and this version reads {FORMAT}; update tacit"
        )


def _last(connection: sqlite3.Connection, place: str) -> Entry | None:
    row = connection.execute("SELECT place, leaf FROM entry ORDER BY place DESC LIMIT 1").fetchone()
    if row is None:
        return None
    try:
        entry = parse_leaf(row[1])
    except NotVerifiedError as error:
        raise DamagedFileError(
            f"the last entry of {place} is broken ({error}); restore it from a copy"
        ) from None
    if entry.index != row[0]:
        raise DamagedFileError(f"the last entry of {place} is not in its place")
    return entry


def _leaves(connection: sqlite3.Connection, start: int, stop: int | None) -> Iterator[bytes]:
    rows = connection.execute(
        "SELECT leaf FROM entry WHERE place >= ? AND place < ? ORDER BY place",
        (start, _PLACES if stop is None else stop),
    )
    return (row[0] for row in rows)


def _node(connection: sqlite3.Connection, place: str, level: int, index: int) -> bytes:
    row = connection.execute(
        "SELECT hash FROM node WHERE level = ? AND place = ?", (level, index)
    ).fetchone()
    if row is None:
        raise DamagedFileError(f"{place} has not the hash of a part of its entries; restore a copy")
    return bytes(row[0])
