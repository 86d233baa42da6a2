"""A ledger in a PostgreSQL database, for several coordinators: exact, with one of them in charge.

A turn is one transaction that locks the ledger's one row in `tacit.ledger`, so turns follow each
other whatever the number of writers. It is for availability and several hosts, not for speed.

Fencing: the row holds the ledger's epoch. A writer works in the epoch that it met first;
`take_over` begins the next one, and from its commit on no turn of a writer of an earlier epoch
commits, as each turn compares both under the same lock. `Entry.epoch` keeps whose turn it was.

What holds beyond `privacy.ledger.store`:
    1. A durable turn commits with `synchronous_commit = on`: it is on the server's disk, and on
       that of the standbys that `synchronous_standby_names` asks for, before it is over. A server
       that runs with `fsync = off` is refused.
    2. A turn with `durable=False` commits with `synchronous_commit = off`: a crash of the server
       (not of a writer) may take away the last such turns, always from the end, and none before a
       durable one.
    3. Where the connection breaks while a turn commits, nobody knows whether it did, and the
       sentence says so; acts that have a key may be appended again (`privacy.ledger.store.append`).
    4. A writer that stands still in its turn for `IDLE_TIMEOUT_S` loses it with all it wrote.

The triggers against changing entries are a guard against mistakes; what shows a change by whoever
owns the database is the tree's signed root.
"""

import os
import re
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString, NamedTuple, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from privacy.errors import (
    DamagedFileError,
    InputError,
    NotVerifiedError,
    OwnFileError,
    RefusedError,
    TacitError,
)
from privacy.ledger.checkpoint import merged
from privacy.ledger.entry import FORMAT, Body, Entry, parse_leaf
from privacy.ledger.head import next_entry
from privacy.ledger.merkle import leaf_hash, new_nodes

LOCK_TIMEOUT_S: Final = 60
IDLE_TIMEOUT_S: Final = 30
_ROWS = 1000
_PLACES = 2**63 - 1
_ADVISORY_LOCK = 0x7461636974  # only while the schema is created
_NAME_CHARACTERS_MAX = 128
# What may be shown of an address; anything else could be a part of a password that was not encoded.
_SHOWN = re.compile(r"[A-Za-z0-9_.,:/\[\]-]*")
_PORT = re.compile(r"[0-9,]*")
_DEFAULTS: Mapping[str, Any] = {
    "application_name": "tacit",
    "client_encoding": "UTF8",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_BEGIN: LiteralString = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
    " SET LOCAL synchronous_commit = {commit};"
    " SET LOCAL lock_timeout = '{lock}s';"
    " SET LOCAL idle_in_transaction_session_timeout = '{idle}s'"
)
_SCHEMA: LiteralString = """
CREATE SCHEMA IF NOT EXISTS tacit;
CREATE TABLE tacit.ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    format bigint NOT NULL,
    epoch bigint NOT NULL CHECK (epoch > 0)
);
CREATE TABLE tacit.entry (
    ledger bigint NOT NULL, place bigint NOT NULL, leaf bytea NOT NULL, key bytea,
    PRIMARY KEY (ledger, place), UNIQUE (ledger, key)
);
CREATE TABLE tacit.node (
    ledger bigint NOT NULL, level bigint NOT NULL, place bigint NOT NULL, hash bytea NOT NULL,
    PRIMARY KEY (ledger, level, place)
);
CREATE TABLE tacit.checkpoint (
    ledger bigint NOT NULL, size bigint NOT NULL, note bytea NOT NULL, PRIMARY KEY (ledger, size)
);
CREATE FUNCTION tacit.stays() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'a ledger is only appended to'; END $$;
CREATE FUNCTION tacit.epoch_rises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (NEW.id, NEW.name, NEW.format) <> (OLD.id, OLD.name, OLD.format) OR NEW.epoch <= OLD.epoch
    THEN RAISE EXCEPTION 'only the epoch of a ledger changes, and it rises'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER entry_stays BEFORE UPDATE OR DELETE ON tacit.entry
    FOR EACH ROW EXECUTE FUNCTION tacit.stays();
CREATE TRIGGER entry_is_kept BEFORE TRUNCATE ON tacit.entry EXECUTE FUNCTION tacit.stays();
CREATE TRIGGER node_stays BEFORE UPDATE OR DELETE ON tacit.node
    FOR EACH ROW EXECUTE FUNCTION tacit.stays();
CREATE TRIGGER node_is_kept BEFORE TRUNCATE ON tacit.node EXECUTE FUNCTION tacit.stays();
CREATE TRIGGER ledger_stays BEFORE UPDATE ON tacit.ledger
    FOR EACH ROW EXECUTE FUNCTION tacit.epoch_rises();
CREATE TRIGGER ledger_is_kept BEFORE DELETE ON tacit.ledger
    FOR EACH ROW EXECUTE FUNCTION tacit.stays();
CREATE TRIGGER ledger_is_not_emptied BEFORE TRUNCATE ON tacit.ledger
    EXECUTE FUNCTION tacit.stays();
"""

_Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
_Rows: TypeAlias = list[tuple[Any, ...]]


class _Head(NamedTuple):
    """The ledger's one row."""

    id: int
    format: int
    epoch: int


@dataclass(frozen=True, slots=True)
class _Address:
    """What of a URL may be shown, and all of it, which may not."""

    shown: str
    conninfo: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "_Address":
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            given = {}
        host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
        if (
            not url.startswith(("postgresql://", "postgres://"))
            or not database
            or not _SHOWN.fullmatch(host + database)
            or "/" in database
            or not _PORT.fullmatch(port)
        ):
            raise InputError(
                "the address of the ledger cannot be read; write"
                " postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and % and two hexadecimal digits"
                " for each special character of the password"
            )
        return cls(
            f"{host or 'localhost'}/{database}",
            make_conninfo("", **{**_DEFAULTS, **given}),
            str(given.get("password") or ""),
        )

    def quoted(self, error: psycopg.Error) -> str:
        """Return the first line of what the server or the network said, never the password."""
        text = str(error).strip()
        line = text.splitlines()[0] if text else type(error).__name__
        return type(error).__name__ if self.password and self.password in text else line


class PostgresTurn:
    """`privacy.ledger.store.Turn` over a transaction that holds the ledger's row."""

    def __init__(self, connection: _Connection, ledger: int, place: str, epoch: int) -> None:
        self._connection = connection
        self._ledger = ledger
        self._place = place
        self._epoch = epoch
        self._last = self._read_last()
        self._half = self._over = False

    @property
    def size(self) -> int:
        """See the Protocol."""
        return 0 if self._last is None else self._last.index + 1

    def leaves(self, start: int, stop: int | None = None) -> Iterator[bytes]:
        """See the Protocol."""
        at, end = start, self.size if stop is None else min(stop, self.size)
        while at < end:
            upto = min(end, at + _ROWS)
            for (leaf,) in self._connection.execute(_LEAVES, (self._ledger, at, upto)).fetchall():
                yield leaf
            at = upto

    def find(self, key: bytes) -> Entry | None:
        """See the Protocol."""
        row = self._connection.execute(
            "SELECT leaf FROM tacit.entry WHERE ledger = %s AND key = %s", (self._ledger, key)
        ).fetchone()
        return None if row is None else parse_leaf(row[0])

    def append(self, kind: str, body: Body, *, time_ms: int) -> Entry:
        """See the Protocol."""
        if self._over:
            raise RuntimeError(f"this turn at {self._place} is over")
        entry = next_entry(self._last, kind, body, time_ms=time_ms, epoch=self._epoch)
        leaf = entry.leaf()
        nodes = new_nodes(entry.index, leaf_hash(leaf), self._nodes_beside(entry.index))
        # a conflict that raised would end the transaction, and with it what the turn wrote before
        made = self._connection.execute(
            "INSERT INTO tacit.entry VALUES (%s, %s, %s, %s) ON CONFLICT (ledger, key) DO NOTHING",
            (self._ledger, entry.index, leaf, entry.key),
        )
        if made.rowcount != 1:
            raise OwnFileError(f"{self._place} holds this {kind} already")
        self._half = True
        levels, places, hashes = zip(*nodes, strict=True)
        self._connection.execute(
            "INSERT INTO tacit.node"
            " SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[])",
            (self._ledger, list(levels), list(places), list(hashes)),
        )
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

    def _read_last(self) -> Entry | None:
        row = self._connection.execute(
            "SELECT place, leaf FROM tacit.entry WHERE ledger = %s ORDER BY place DESC LIMIT 1",
            (self._ledger,),
        ).fetchone()
        if row is None:
            return None
        try:
            entry = parse_leaf(row[1])
        except NotVerifiedError as error:
            raise DamagedFileError(
                f"the last entry of {self._place} is broken ({error}); restore it from a copy"
            ) from None
        if entry.index != row[0]:
            raise DamagedFileError(f"the last entry of {self._place} is not in its place")
        if entry.epoch > self._epoch:
            raise _set_back(self._place)
        return entry

    def _nodes_beside(self, index: int) -> "_Beside":
        levels, places = [], []
        level = 0
        while index & 1:
            levels.append(level)
            places.append(index - 1)
            level, index = level + 1, index >> 1
        if not levels:
            return _Beside(self._place, {})
        rows = self._connection.execute(
            "SELECT level, place, hash FROM tacit.node WHERE ledger = %s AND (level, place) IN"
            " (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))",
            (self._ledger, levels, places),
        ).fetchall()
        return _Beside(self._place, {(level, place): digest for level, place, digest in rows})


@dataclass(frozen=True, slots=True)
class _Beside:
    """`merkle.Nodes` of those that were fetched."""

    place: str
    hashes: Mapping[tuple[int, int], bytes]

    def __call__(self, level: int, index: int) -> bytes:
        try:
            return self.hashes[level, index]
        except KeyError:
            raise _no_hash(self.place) from None


_TABLES: LiteralString = (
    "SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'tacit' AND tablename = 'ledger'"
)
_LEAVES: LiteralString = (
    "SELECT leaf FROM tacit.entry WHERE ledger = %s AND place >= %s AND place < %s ORDER BY place"
)


class PostgresLedger:
    """`privacy.ledger.store.LedgerStore` in a database, which may hold several, by name.

    The tables come about with the first turn, in a schema `tacit`. One connection is held; a lost
    one is made again by the next call. A process that was forked may use the ledgers that its
    parent holds, with connections of its own; not in the turn in which it was forked.
    """

    def __init__(self, url: str, *, name: str = "coordinator", writer: str) -> None:
        """Connect to nothing yet.

        Args:
            url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, with any parameter of libpq.
            name: Which of the database's ledgers.
            writer: Who writes, for `writer.began`.

        Raises:
            InputError: the address or the name cannot be used. No password is in any sentence.
        """
        if not 0 < len(name) <= _NAME_CHARACTERS_MAX or not name.isprintable():
            raise InputError(
                f"a ledger's name has 1 to {_NAME_CHARACTERS_MAX} printable characters"
            )
        self.writer = writer
        self.name = name
        self._address = _Address.parse(url)
        self._mutex = threading.RLock()
        self._held = _Held()
        self._epoch: int | None = None
        self._in_turn = False
        with _ALL_LOCK:
            _ALL.add(self)
        weakref.finalize(self, self._held.drop)

    @property
    def place(self) -> str:
        """See the Protocol: host, database and name."""
        return f"{self._address.shown}/{self.name}"

    @property
    def epoch(self) -> int:
        """The epoch that this writer works in: the one that it took over, or met first."""
        if self._epoch is None:
            head = self._head()
            if head is None:
                return 1
            self._epoch = head.epoch
        return self._epoch

    def take_over(self, *, time_ms: int) -> Entry:
        """Begin the next epoch: from now on every other writer's turns are refused.

        It waits for the turn that is under way. Who was refused may take over again.

        Args:
            time_ms: Milliseconds since 1970 UTC, for the entry.

        Returns:
            The `writer.began` entry, the first of its epoch, on disk.

        Raises:
            InputError: as for a turn. Where nobody knows whether it was written, take over again.
        """
        with self._transaction(durable=True) as (connection, head):
            epoch = head.epoch + 1
            connection.execute("UPDATE tacit.ledger SET epoch = %s WHERE id = %s", (epoch, head.id))
            turn = PostgresTurn(connection, head.id, self.place, epoch)
            entry = turn.append("writer.began", {"writer": self.writer}, time_ms=time_ms)
        self._epoch = epoch
        return entry

    @contextmanager
    def turn(self, *, durable: bool = True) -> Iterator[PostgresTurn]:
        """See the Protocol.

        Raises:
            InputError: also where nobody knows whether the turn was committed.
        """
        with self._transaction(durable=durable) as (connection, head):
            turn = PostgresTurn(connection, head.id, self.place, self._fenced(head))
            try:
                yield turn
            finally:
                turn.end()
            turn.require_whole()

    def size(self) -> int:
        """See the Protocol."""
        rows = self._rows("SELECT max(place) FROM tacit.entry WHERE ledger = %s")
        return 0 if not rows or rows[0][0] is None else int(rows[0][0]) + 1

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """See the Protocol."""
        at, end = start, _PLACES if stop is None else stop
        while at < end:
            upto = min(end, at + _ROWS)
            rows = self._rows(_LEAVES, at, upto)
            if not rows:
                return
            yield from (leaf for (leaf,) in rows)
            at = upto

    def node(self, level: int, index: int) -> bytes:
        """See the Protocol."""
        rows = self._rows(
            "SELECT hash FROM tacit.node WHERE ledger = %s AND level = %s AND place = %s",
            level,
            index,
        )
        if not rows:
            raise _no_hash(self.place)
        return bytes(rows[0][0])

    def keep_checkpoint(self, size: int, note: bytes) -> bytes:
        """See the Protocol; a writer of an earlier epoch is refused as in a turn."""
        with self._transaction(durable=True) as (connection, head):
            self._fenced(head)
            row = connection.execute(
                "SELECT note FROM tacit.checkpoint WHERE ledger = %s AND size = %s", (head.id, size)
            ).fetchone()
            whole = merged(None if row is None else bytes(row[0]), note)
            connection.execute(
                "INSERT INTO tacit.checkpoint VALUES (%s, %s, %s)"
                " ON CONFLICT (ledger, size) DO UPDATE SET note = excluded.note",
                (head.id, size, whole),
            )
        return whole

    def drop_checkpoint(self, size: int) -> None:
        """See the Protocol; a writer of an earlier epoch is refused as in a turn."""
        with self._transaction(durable=False) as (connection, head):
            self._fenced(head)
            connection.execute(
                "DELETE FROM tacit.checkpoint WHERE ledger = %s AND size = %s", (head.id, size)
            )

    def checkpoints(self) -> list[tuple[int, bytes]]:
        """See the Protocol."""
        rows = self._rows("SELECT size, note FROM tacit.checkpoint WHERE ledger = %s ORDER BY size")
        return [(int(size), bytes(note)) for size, note in rows]

    def close(self) -> None:
        """Let go of the connection; the next call makes another."""
        with self._mutex:
            self._held.drop()

    def after_fork(self) -> None:
        """In a child: leave the parent's connection alone."""
        self._mutex = threading.RLock()
        self._in_turn = False
        self._held.disown()

    def _fenced(self, head: _Head) -> int:
        """Return the epoch of this writer, if it is the ledger's."""
        if self._epoch is None:
            self._epoch = head.epoch
        if head.epoch > self._epoch:
            raise RefusedError(f"a later writer took the ledger over ({self.place}); stop this one")
        if head.epoch < self._epoch:
            raise _set_back(self.place)
        return self._epoch

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[tuple[_Connection, _Head]]:
        """Hold the ledger's row until all that was done is committed."""
        with self._mutex, self._sentences():
            if self._in_turn:
                raise RuntimeError(f"a turn at {self.place} is under way; append in that")
            connection = self._begin(durable=durable)
            self._in_turn = True
            try:
                yield connection, self._locked(connection)
                self._commit(connection)
            except BaseException:
                if connection is self._held.connection:
                    self._roll_back(connection)
                raise
            finally:
                self._in_turn = False

    def _begin(self, *, durable: bool) -> _Connection:
        """Open a transaction, over a new connection where the old one was lost meanwhile."""
        begin = _BEGIN.format(
            commit="on" if durable else "off", lock=LOCK_TIMEOUT_S, idle=IDLE_TIMEOUT_S
        )
        held = self._held.connection
        if held is not None and self._held.may_write:
            try:
                held.execute(begin, prepare=False)
            except psycopg.Error:
                self._held.drop()  # nothing was done over it yet
            else:
                return held
        if self._head() is None:
            self._make()
        connection = self._held.connection or self._connect()
        row = connection.execute("SELECT current_setting('fsync')").fetchone()
        if row != ("on",):
            raise InputError(
                f"the server of {self.place} runs with fsync = off and may lose what it was "
                "given; set it to on"
            )
        self._held.may_write = True
        connection.execute(begin, prepare=False)
        return connection

    def _locked(self, connection: _Connection) -> _Head:
        row = connection.execute(
            "SELECT id, format, epoch FROM tacit.ledger WHERE name = %s FOR UPDATE", (self.name,)
        ).fetchone()
        if row is None:
            raise DamagedFileError(f"{self.place} was taken out of its database; restore a copy")
        head = _Head(*row)
        self._require_format(head)
        return head

    def _make(self) -> None:
        """Make what is missing, in one transaction, after others who do the same."""
        connection = self._held.connection or self._connect()
        with connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = on")
            connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'".encode())
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
            # reads the catalogue itself; `to_regclass` may still know what was before the lock
            if not connection.execute(_TABLES).fetchall():
                connection.execute(_SCHEMA, prepare=False)
            connection.execute(
                "INSERT INTO tacit.ledger (name, format, epoch) VALUES (%s, %s, 1)"
                " ON CONFLICT (name) DO NOTHING",
                (self.name, FORMAT),
            )

    def _commit(self, connection: _Connection) -> None:
        if connection is not self._held.connection:
            raise InputError(
                f"the connection to {self.place} was lost, or the process forked, in a turn; "
                "nothing of it was written; try again"
            )
        try:
            done = connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            if _outcome_unknown(error, connection):
                self._held.drop()
                raise InputError(
                    f"the connection to {self.place} broke while it was written, and nobody knows "
                    "whether it was; append the same again"
                ) from None
            raise
        if done != "COMMIT":
            raise InputError(f"{self.place} could not be written; nothing of the turn was")

    def _roll_back(self, connection: _Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            self._held.drop()

    def _head(self) -> _Head | None:
        """Return the ledger's row; None where nothing was ever written."""
        if not self._asked(_TABLES, ()):
            return None
        rows = self._asked(
            "SELECT id, format, epoch FROM tacit.ledger WHERE name = %s", (self.name,)
        )
        if not rows:
            return None
        head = _Head(*rows[0])
        self._require_format(head)
        return head

    def _rows(self, query: LiteralString, *values: object) -> _Rows:
        """Return what a query about this ledger finds; its first parameter is the ledger."""
        with self._mutex:
            if self._held.ledger is None or self._held.is_lost:
                head = self._head()
                if head is None:
                    return []
                self._held.ledger = head.id
            return self._asked(query, (self._held.ledger, *values))

    def _asked(self, query: LiteralString, values: tuple[object, ...]) -> _Rows:
        """Return what a query finds, over a new connection where the old one was lost meanwhile."""
        with self._mutex, self._sentences():
            held = self._held.connection
            if held is not None:
                try:
                    return held.execute(query, values).fetchall()
                except psycopg.OperationalError:
                    if self._in_turn or not held.closed:
                        raise
                    self._held.drop()
            return self._connect().execute(query, values).fetchall()

    def _connect(self) -> _Connection:
        connection = psycopg.connect(self._address.conninfo, autocommit=True)
        self._held.connection = connection
        return connection

    def _require_format(self, head: _Head) -> None:
        if head.format != FORMAT:
            raise DamagedFileError(
                f"{self.place} is a ledger of format {head.format} and this version reads "
                f"{FORMAT}; update tacit"
            )

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what the server says into one sentence."""
        try:
            yield
        except psycopg.Error as error:
            raise _sentence(error, self.place, self._address) from None
        finally:
            if self._held.is_lost:
                self._held.drop()


class _Held:
    """A connection, and what was learned over it; none at first."""

    def __init__(self) -> None:
        self.connection: _Connection | None = None
        self.may_write = False
        self.ledger: int | None = None

    @property
    def is_lost(self) -> bool:
        """Whether there was a connection and it is gone."""
        return self.connection is not None and self.connection.closed

    def drop(self) -> None:
        """Close it; a transaction over it is rolled back by the server."""
        connection, self.connection = self.connection, None
        self.may_write = False
        self.ledger = None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def disown(self) -> None:
        """Let go of a connection that is the parent's, without a word to the server."""
        if self.connection is not None and not self.connection.closed:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self.connection.fileno(), inheritable=False)
            os.close(nowhere)
        self.drop()


def _outcome_unknown(error: psycopg.Error, connection: _Connection) -> bool:
    """Whether a COMMIT that ended so may have been carried out."""
    if error.sqlstate == "25P03":  # stood still for too long; it was rolled back before
        return False
    return connection.closed or error.sqlstate is None or error.sqlstate.startswith(("08", "57"))


def _sentence(error: psycopg.Error, place: str, address: _Address) -> TacitError:
    state = error.sqlstate or ""
    if state == "55P03":
        return InputError(f"another writer keeps the ledger {place}; stop it, then try again")
    if state == "53100":
        return InputError(f"the disk of the server of {place} is full; nothing was written")
    if state in {"25006", "0A000"}:
        return InputError(f"the server of {place} is a copy that only reads; give the other one")
    if state.startswith("28") or state == "42501":
        return InputError(
            f"the server refuses the user of {place}; check name, password and rights"
        )
    if state.startswith(("23", "42", "3F", "XX001", "XX002")):
        return DamagedFileError(
            f"what {place} holds is no whole ledger of this version "
            f"({address.quoted(error)}); restore it from a copy"
        )
    return InputError(
        f"cannot use the ledger {place}: {address.quoted(error)}; check its server, then try again"
    )


def _set_back(place: str) -> NotVerifiedError:
    return DamagedFileError(f"{place} was set back to an earlier epoch; restore its latest copy")


def _no_hash(place: str) -> NotVerifiedError:
    return DamagedFileError(f"{place} has not the hash of a part of its entries; restore a copy")


# A child must not speak over, or close, a connection of its parent.
_ALL: "weakref.WeakSet[PostgresLedger]" = weakref.WeakSet()
_ALL_LOCK = threading.Lock()


def _after_fork_in_child() -> None:
    global _ALL_LOCK  # noqa: PLW0603 - another thread may have held it, and is not in the child
    _ALL_LOCK = threading.Lock()
    for ledger in list(_ALL):
        ledger.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
