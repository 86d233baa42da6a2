"""Files that are whole before they have their name; until then each writer's has its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from privacy.randomness import system_bytes


@contextmanager
def part_for(path: Path, *, mode: int) -> Iterator[tuple[Path, BinaryIO]]:
    """Open an empty file beside the name that it is for; at the end it is not there.

    Any number of writers may be at it, each with a part of its own. What those left that were
    stopped on the way is locked by nobody, and goes first.

    Args:
        path: What the file is for. Its folder is there.
        mode: Who may read it, before the process's mask is taken off.

    Raises:
        OSError: It could not be made.
    """
    _sweep(path)
    part, descriptor = _begun(path, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield part, file
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def part_of(path: Path, data: bytes | memoryview, *, mode: int) -> Iterator[Path]:
    """Have all of a file on disk beside the name that it is for, see `part_for`.

    Args:
        path: What the file is for. Its folder is there.
        data: All of it.
        mode: Who may read it, before the process's mask is taken off.

    Raises:
        OSError: It could not be written.
    """
    with part_for(path, mode=mode) as (part, file):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        yield part


def write_first(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Write a file where there is none; where another process was first, its file stands.

    For keys, of which two that are made at once must not both be used: read it back.

    Args:
        path: Its folder is there.
        data: All of it.
        mode: Who may read it, before the process's mask is taken off.

    Returns:
        Whether it is this one; it is on disk then.

    Raises:
        OSError: It could not be written.
    """
    with part_of(path, data, mode=mode) as part:
        try:
            os.link(part, path)
            first = True
        except FileExistsError:
            first = False
    sync_folder(path.parent)
    return first


def sync_folder(folder: Path) -> None:
    """Have on disk which files a folder holds.

    Raises:
        OSError: It could not be written.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _begun(path: Path, mode: int) -> tuple[Path, int]:
    """A new empty part, which is locked while it is open."""
    while True:
        part = path.with_name(f".{path.name}.{system_bytes(8).hex()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            _lock(descriptor)
            swept = not os.fstat(descriptor).st_nlink
        except BlockingIOError:
            swept = True
        except OSError:
            swept = False  # where files cannot be locked, nothing is swept either
        if not swept:
            return part, descriptor
        # another writer took it for one that was left, before it was locked
        os.close(descriptor)


def _sweep(path: Path) -> None:
    """Remove what writers of a file left that were stopped on the way."""
    with os.scandir(path.parent) as there:
        names = [one.name for one in there]
    for name in names:
        if name.startswith(f".{path.name}.") and name.endswith(".part"):
            with suppress(OSError):
                _remove_unlocked(path.with_name(name))


def _remove_unlocked(part: Path) -> None:
    descriptor = os.open(part, os.O_WRONLY)
    try:
        _lock(descriptor)
        part.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock an open file until it is closed, or raise BlockingIOError."""
    # here, as who only reads and verifies may be where there is none
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
