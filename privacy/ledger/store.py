"""A ledger in a file: one line an entry, appended under a lock, durable before it is said to be.

An entry counts once `append` has returned. A crash before that leaves at most that one entry,
whole, or as a line without its end that the next append cuts off; anything else that is broken
stays as it is, for a person to look at.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.chain import LedgerHead, head_of, next_entry
from privacy.ledger.entry import LINE_BYTES_MAX, Body, Entry, parse_line

LOCK_TIMEOUT_S = 60.0
_TAIL_BYTES = 1 << 12
_LINE_START = b'{"body":{'


class LedgerStore:
    """The one ledger in `path`; any number of processes may append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, body: Body, *, time_ms: int, durable: bool = True) -> Entry:
        """Append one entry and return it; it is on disk by then, if it is to be `durable`.

        Only the last line is read and checked, so the cost does not grow with the ledger.

        Args:
            kind: One of `entry.KINDS`.
            body: Its fields.
            time_ms: Milliseconds since 1970 UTC. The ledger's own time is the later of this and
                the last entry's.
            durable: Whether a power cut may not take it away again. An entry that is not is on
                disk with the next one that is.

        Raises:
            ValueError: kind or body are not of the table.
            NotVerifiedError: the last line is no entry.
            InputError: the disk does not let it be read or written, or the lock stays taken.
        """
        with self._sentences(), self._locked(), self._opened() as descriptor:
            last, size_bytes = _last_entry(descriptor, self.path)
            entry = next_entry(last, kind, body, time_ms=time_ms)
            os.ftruncate(descriptor, size_bytes)
            try:
                _write_all(descriptor, entry.line())
                if durable:
                    os.fsync(descriptor)
            except OSError:
                # It will be reported as not appended, so it must not be there.
                os.ftruncate(descriptor, size_bytes)
                raise
            return entry

    def head(self) -> LedgerHead:
        """Return size and root, by the last whole line alone; nothing is written or locked.

        Raises:
            NotVerifiedError: that line is no entry.
            InputError: the file cannot be read.
        """
        with self._sentences():
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                return head_of(None)
            try:
                return head_of(_last_entry(descriptor, self.path)[0])
            finally:
                os.close(descriptor)

    def read(self) -> bytes:
        """Return all whole lines, for `verify_ledger`; a torn last one is not an entry.

        Nothing is written or locked, so a copy on a medium that is read-only will do.

        Raises:
            InputError: the file cannot be read.
        """
        with self._sentences():
            try:
                data = self.path.read_bytes()
            except FileNotFoundError:
                return b""
        return data[: data.rfind(b"\n") + 1]

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn what the disk says into one sentence."""
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise InputError(
                f"cannot use the ledger {self.path}: {reason}; check its folder and disk"
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.path.parent.is_dir():
            raise InputError(f"there is no folder {self.path.parent} for a ledger; make it first")
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            with FileLock(lock, timeout=LOCK_TIMEOUT_S):
                yield
        except Timeout:
            raise InputError(f"another process keeps {lock}; stop it, then try again") from None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if new:
                _sync_folder(self.path.parent)
            yield descriptor
        finally:
            os.close(descriptor)


def _last_entry(descriptor: int, path: Path) -> tuple[Entry | None, int]:
    """Return the last entry, and the size of the file without a torn line after it."""
    end_bytes = os.fstat(descriptor).st_size
    tail = b""
    reach_bytes = _TAIL_BYTES
    while True:
        start_bytes = max(0, end_bytes - reach_bytes)
        tail = _read_at(descriptor, start_bytes, end_bytes - start_bytes)
        stop = tail.rfind(b"\n") + 1
        begin = tail.rfind(b"\n", 0, max(0, stop - 1)) + 1
        # Whole once its beginning is in sight too: a line end before it, or the file's beginning.
        if start_bytes == 0 or begin > 0:
            break
        if reach_bytes > 2 * LINE_BYTES_MAX:
            raise NotVerifiedError(f"the end of {path} is no ledger; restore it from a copy")
        reach_bytes *= 4
    if not _is_torn_line(tail[stop:]):
        raise NotVerifiedError(f"the end of {path} is no ledger; restore it from a copy")
    size_bytes = start_bytes + stop
    if stop == 0:
        return None, 0
    try:
        return parse_line(tail[begin:stop]), size_bytes
    except NotVerifiedError as error:
        raise NotVerifiedError(
            f"the last entry of {path} is broken ({error}); restore it from a copy"
        ) from None


def _is_torn_line(rest: bytes) -> bool:
    """Whether a crash can have left `rest`, or nothing; a foreign file is never cut."""
    # A file system may have made room for a line, filled with zeros, before it held the line.
    written = rest.strip(b"\0")
    begun = written.startswith(_LINE_START) or _LINE_START.startswith(written)
    return begun and len(rest) <= LINE_BYTES_MAX


def _read_at(descriptor: int, start_bytes: int, count_bytes: int) -> bytes:
    parts: list[bytes] = []
    while count_bytes > 0:
        part = os.pread(descriptor, count_bytes, start_bytes)
        if not part:
            # Shorter than a moment ago: a writer cut a torn line off while this reader looked.
            break
        parts.append(part)
        start_bytes += len(part)
        count_bytes -= len(part)
    return b"".join(parts)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
