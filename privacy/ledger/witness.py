"""A witness: it cosigns a log's checkpoint only if that follows on what it cosigned before.

Rules and statuses are those of C2SP tlog-witness (add-checkpoint); the transport is another's. The
memory is an SQLite file that any number of threads and processes may share. A checkpoint is on disk
before its cosignature exists, so no crash and no race makes a witness sign two histories. A log's
key is taken when the log is trusted first, and follows its rotations (`privacy.ledger.rotation`).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger.checkpoint import (
    TIME_MAX_S,
    Checkpoint,
    Signer,
    cosign,
    open_checkpoint,
    parse_checkpoint_text,
)
from privacy.ledger.merkle import EMPTY_ROOT, verify_consistency
from privacy.ledger.note import (
    COSIGNATURE_V1,
    ED25519,
    Note,
    NoteSignature,
    VerifierKey,
    parse_note,
)
from privacy.ledger.rotation import Shown, keys_after
from privacy.ledger.sqlite import write_ahead

BUSY_TIMEOUT_S = 60.0
HASHES_MAX = 63
# `time_s` is NULL until something was cosigned.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    origin TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    root BLOB NOT NULL CHECK (length(root) = 32),
    time_s INTEGER CHECK (time_s >= 0)
) STRICT
"""
# Keys that a log had before.
_EARLIER = """
CREATE TABLE IF NOT EXISTS earlier (
    origin TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (origin, key)
) STRICT
"""
# a memory of an earlier version has not both
_WITH_KEYS = {
    "earlier": "SELECT key FROM earlier WHERE origin = ?",
    "log": "SELECT key FROM log WHERE origin = ?",
}


class MalformedError(NotVerifiedError):
    """The request cannot be read, or asks to go back."""

    status = 400


class BadSignatureError(NotVerifiedError):
    """The log's pinned key did not sign the checkpoint."""

    status = 403


class UnknownOriginError(NotVerifiedError):
    """Nobody told the witness to trust this log."""

    status = 404


class StaleError(NotVerifiedError):
    """The request is about another size than the witness remembers.

    Attributes:
        size: The one it remembers; ask again with a proof from there.
    """

    status = 409

    def __init__(self, origin: str, size: int) -> None:
        super().__init__(
            f"the witness remembers {size} entries of {origin}; prove consistency from there"
        )
        self.size = size


class ForkedError(NotVerifiedError):
    """The log shows two roots of the same size: it has two histories."""

    status = 409


class InconsistentError(NotVerifiedError):
    """The proof does not show that the log only grew."""

    status = 422


class Witness:
    """What one witness remembers of each log, and its key; see the module.

    Every call opens the file anew, so a witness may be used from any thread and after a fork.
    """

    def __init__(self, path: Path, *, key: VerifierKey, sign: Signer) -> None:
        """Open the memory, or begin one.

        Args:
            path: The SQLite file; its folder exists.
            key: The witness's own, of type `COSIGNATURE_V1`.
            sign: Signs with the private key of `key`.

        Raises:
            RefusedError: the file cannot be used.
        """
        if key.algorithm != COSIGNATURE_V1:
            raise ValueError(f"a witness's key has type {COSIGNATURE_V1}, not {key.algorithm}")
        self.path = path
        self.key = key
        self._sign = sign
        with self._opened() as connection:
            write_ahead(connection)
            connection.execute(_SCHEMA)
            connection.execute(_EARLIER)

    def trust(self, log_key: VerifierKey, *, origin: str) -> None:
        """Accept checkpoints of `origin` by `log_key`, or by what it led to, and by no other key.

        Args:
            log_key: Of type `ED25519`. Where the log has rotated since it was trusted, any key
                that it had.
            origin: The checkpoints' first line.

        Raises:
            NotVerifiedError: the log never had this key as far as is known; nothing changed.
            RefusedError: the file cannot be used.
        """
        if log_key.algorithm != ED25519:
            raise ValueError(f"a log's key has type {ED25519}, not {log_key.algorithm}")
        first = Checkpoint(origin, 0, EMPTY_ROOT)
        with self._opened() as connection, _turn(connection):
            connection.execute(
                "INSERT INTO log (origin, key, size, root) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (origin, log_key.to_text(), first.size, first.root),
            )
            pinned = connection.execute(
                "SELECT key FROM log WHERE origin = ?", (origin,)
            ).fetchone()[0]
            had = connection.execute(
                "SELECT 1 FROM earlier WHERE origin = ? AND key = ?", (origin, log_key.to_text())
            ).fetchone()
        if pinned != log_key.to_text() and had is None:
            raise NotVerifiedError(
                f"{origin} is pinned to {pinned}, not {log_key.to_text()}; ask its operator"
            )

    def origins(self) -> list[str]:
        """Return the logs that are trusted, in the order of their names.

        Raises:
            RefusedError: the file cannot be used.
        """
        with self._opened() as connection:
            rows = connection.execute("SELECT origin FROM log ORDER BY origin").fetchall()
        return [row[0] for row in rows]

    def seen(self, origin: str) -> int:
        """Return the size of the last checkpoint that was cosigned, 0 if there is none.

        Raises:
            RefusedError: the file cannot be used.
        """
        head = self.head(origin)
        return 0 if head is None else head.size

    def head(self, origin: str) -> Checkpoint | None:
        """Return the last checkpoint that was cosigned, None if there is none.

        Raises:
            RefusedError: the file cannot be used.
        """
        with self._opened() as connection:
            memory = _recall(connection, origin)
        return None if memory is None or memory[2] is None else memory[1]

    def key_of(self, origin: str) -> VerifierKey | None:
        """Return the key that a log has, as far as it was followed; None of one not trusted.

        Raises:
            RefusedError: the file cannot be used.
        """
        with self._opened() as connection:
            memory = _recall(connection, origin)
        return None if memory is None else memory[0]

    def cosign(
        self,
        note: bytes,
        *,
        old: int,
        proof: Sequence[bytes],
        time_s: int,
        rotations: Sequence[Shown] = (),
    ) -> NoteSignature:
        """Remember a checkpoint and cosign it, if it follows on the one remembered.

        The same checkpoint may be cosigned again (`old` is its size, `proof` is empty).

        Args:
            note: The checkpoint, signed by its log.
            old: The size that this witness remembers (`seen`).
            proof: `merkle.consistency_proof` from there, at most 63 hashes.
            time_s: Seconds since 1970 UTC. Where an earlier cosignature for this log has a later
                time, that time stands.
            rotations: Changes of the log's key that are in the checkpoint. With that, the newest
                key is remembered, and from then on no other is taken.

        Raises:
            MalformedError: the note or the sizes make no sense.
            UnknownOriginError: the origin is not trusted.
            BadSignatureError: the log did not sign, or nothing shows that its key led to the one
                that did.
            StaleError: `old` is not what is remembered.
            ForkedError: another root of the same size was cosigned before.
            InconsistentError: the proof does not hold.
            RefusedError: the checkpoint could not be written; it was not cosigned.
        """
        if not 0 <= time_s <= TIME_MAX_S:
            raise ValueError(f"need 0 <= time < 2^63 seconds, not {time_s}")
        parsed, checkpoint = _parse(note, proof)
        with self._opened() as connection, _turn(connection):
            memory = _recall(connection, checkpoint.origin)
            if memory is None:
                raise UnknownOriginError(f"the witness does not know the log {checkpoint.origin}")
            log_key, before, before_s = memory
            try:
                keys = keys_after(log_key, rotations, checkpoint, seen=before.size)
                newest = keys[-1].key if keys else log_key
                # an older state may be signed by an older key, and is cosigned by nobody
                past = _earlier(connection, checkpoint) if checkpoint.size < before.size else ()
                signer = next((key for key in past if parsed.by(key)), newest)
                open_checkpoint(parsed.to_bytes(), signer)
            except NotVerifiedError as error:
                raise BadSignatureError(str(error)) from None
            check_follows(before, checkpoint, old, proof)
            had = (log_key, *(one.key for one in keys))
            connection.executemany(
                "INSERT INTO earlier VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(checkpoint.origin, one.to_text()) for one in had if one != newest],
            )
            now_s = max(time_s, before_s or 0)
            connection.execute(
                "UPDATE log SET key = ?, size = ?, root = ?, time_s = ? WHERE origin = ?",
                (newest.to_text(), checkpoint.size, checkpoint.root, now_s, checkpoint.origin),
            )
        return cosign(checkpoint, key=self.key, sign=self._sign, time_s=now_s)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise RefusedError(
                f"the witness cannot use {self.path}: {error}; nothing was cosigned"
            ) from None


@contextmanager
def _turn(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _recall(
    connection: sqlite3.Connection, origin: str
) -> tuple[VerifierKey, Checkpoint, int | None] | None:
    row = connection.execute(
        "SELECT key, size, root, time_s FROM log WHERE origin = ?", (origin,)
    ).fetchone()
    if row is None:
        return None
    key, size, root, time_s = row
    try:
        return VerifierKey.from_text(key), Checkpoint(origin, size, root), time_s
    except (ValueError, InputError) as error:
        raise RefusedError(f"the witness's memory of {origin} is broken: {error}") from None


def _earlier(connection: sqlite3.Connection, checkpoint: Checkpoint) -> list[VerifierKey]:
    rows = connection.execute("SELECT key FROM earlier WHERE origin = ?", (checkpoint.origin,))
    return [VerifierKey.from_text(row[0]) for row in rows.fetchall()]


def remembered_keys(path: Path, origin: str) -> tuple[VerifierKey, ...]:
    """Return the keys that a log had, as a witness's memory has followed them; none without one.

    Raises:
        RefusedError: the file cannot be used.
    """
    if not path.exists():
        return ()
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            rows = [
                row
                for (table,) in tables.fetchall()
                if table in _WITH_KEYS
                for row in connection.execute(_WITH_KEYS[table], (origin,)).fetchall()
            ]
        return tuple(VerifierKey.from_text(row[0]) for row in rows)
    except (sqlite3.Error, InputError) as error:
        raise RefusedError(f"the witness cannot use {path}: {error}") from None


def _parse(note: bytes, proof: Sequence[bytes]) -> tuple[Note, Checkpoint]:
    if len(proof) > HASHES_MAX:
        raise MalformedError(f"a proof has at most {HASHES_MAX} hashes, not {len(proof)}")
    try:
        parsed = parse_note(note)
        return parsed, parse_checkpoint_text(parsed.text)
    except NotVerifiedError as error:
        raise MalformedError(str(error)) from None


def check_follows(
    before: Checkpoint, checkpoint: Checkpoint, old: int, proof: Sequence[bytes]
) -> None:
    """Return if a checkpoint follows on the one that a witness remembers.

    Args:
        before: What it remembers.
        checkpoint: What it is shown.
        old: The size from which growth is shown.
        proof: The proof, at most 63 hashes.

    Raises:
        MalformedError: the sizes make no sense, or the proof is too long.
        StaleError: `old` is not what is remembered.
        ForkedError: it has another root than the one of this size that is remembered.
        InconsistentError: the proof does not hold.
    """
    if len(proof) > HASHES_MAX:
        raise MalformedError(f"a proof has at most {HASHES_MAX} hashes, not {len(proof)}")
    if not 0 <= old <= checkpoint.size:
        raise MalformedError(f"a log of {checkpoint.size} entries did not grow from {old}")
    if old != before.size:
        raise StaleError(checkpoint.origin, before.size)
    if old == checkpoint.size and before.root != checkpoint.root:
        raise ForkedError(
            f"{checkpoint.origin} shows two roots of {old} entries; keep both checkpoints"
        )
    try:
        verify_consistency(before.size, before.root, checkpoint.size, checkpoint.root, proof)
    except NotVerifiedError as error:
        raise InconsistentError(str(error)) from None
