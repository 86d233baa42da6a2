"""Files that are whole or not there, and on disk once it was said that they are."""

import os
import threading
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Write a file, whole or not at all; it is on disk on return.

    Args:
        path: Its folder is there.
        data: All of it.
        mode: Who may read it, before the process's mask is taken off.

    Raises:
        OSError: It could not be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        # what a crash left there may be readable by others
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_first(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file where there is none; where another process was first, its file stands.

    For keys, of which two that are made at once must not both be used: read it back.

    Args:
        path: Its folder is there.
        data: All of it.
        mode: Who may read it, before the process's mask is taken off.

    Raises:
        OSError: It could not be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def append_whole(path: Path, data: bytes) -> None:
    """Append to a file, which may be new; it is on disk on return.

    Raises:
        OSError: It could not be written.
    """
    new = not path.exists()
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and what it is in, where they are not there; they are on disk on return.

    Raises:
        OSError: It could not be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, mode=mode)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


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
