"""Files that are whole or not there, and on disk once it was said that they are."""

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

from privacy.whole_file import part_of, sync_folder

_BLOCK_BYTES: Final = 1 << 16


def write_whole(path: Path, data: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Write a file, whole or not at all; it is on disk on return. Of several writers, one is last.

    Args:
        path: Its folder is there.
        data: All of it.
        mode: Who may read it, before the process's mask is taken off.

    Raises:
        OSError: It could not be written.
    """
    with part_of(path, data, mode=mode) as part:
        part.replace(path)
    sync_folder(path.parent)


def append_whole(path: Path, data: bytes, *, after: int | None = None) -> None:
    """Append lines to a file, which may be new, all or nothing; they are on disk on return.

    A line without an end, which a crash or a full disk left, is cut off before.

    Args:
        path: Its folder is there, and nobody else writes it now.
        data: Whole lines.
        after: How many bytes are to stand before them; what follows those was never said to be
            there, and goes. None: all whole lines.

    Raises:
        OSError: They could not be written.
    """
    # not buffered: closing would try again to write what was refused
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        whole = _end_of_lines(file, size) if after is None else min(after, size)
        if whole < size:
            file.truncate(whole)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(file.fileno(), left) :]
            os.fsync(file.fileno())
            if not whole:
                # it may be new
                sync_folder(path.parent)
        except OSError:
            # where that is refused too, the next line does it
            with suppress(OSError):
                file.truncate(whole)
            raise


def _end_of_lines(file: FileIO, size: int) -> int:
    """How many of a file's bytes are whole lines."""
    while size:
        start = max(0, size - _BLOCK_BYTES)
        file.seek(start)
        block = file.read(size - start)
        if (at := block.rfind(b"\n")) >= 0:
            return start + at + 1
        size = start
    return 0


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
