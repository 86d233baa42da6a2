"""A disk for SQLite that writes down what it was told, from which power cuts are made.

`watched` puts itself between SQLite and the file system (a VFS over the usual one, by ctypes) and
keeps every write, cut, sync and removal in order. `image` makes what a disk may hold after the
power went at any of these: what was synced is there; of what was not, each sector of each write is
there or not, by chance, and a file that was never synced may be missing. SQLite needs no more of a
disk (its `atomiccommit` page); a disk that says it synced and did not is not covered.
"""

import _sqlite3
import ctypes
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest

SECTOR_BYTES: Final = 512
_FULL, _FAILED_SYNC = 13, 1034
_NAME: Final = b"tacit-lossy"
_VOID, _INT, _I64, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p
_OPEN = ctypes.CFUNCTYPE(_INT, _VOID, _VOID, _VOID, _INT, ctypes.POINTER(_INT))
_DELETE = ctypes.CFUNCTYPE(_INT, _VOID, _VOID, _INT)
_CLOSE = ctypes.CFUNCTYPE(_INT, _VOID)
_WRITE = ctypes.CFUNCTYPE(_INT, _VOID, _VOID, _INT, _I64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _VOID, _I64)
_SYNC = ctypes.CFUNCTYPE(_INT, _VOID, _INT)


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`; what is not replaced here stays a bare pointer."""

    _fields_ = (
        ("version", _INT), ("file_bytes", _INT), ("path_bytes", _INT), ("next", _VOID),
        ("name", _TEXT), ("own", _VOID), ("open", _VOID), ("delete", _VOID),
        *((f"rest_{place}", _VOID) for place in range(14)),
    )  # fmt: skip


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""

    _fields_ = (
        ("version", _INT), ("close", _VOID), ("read", _VOID), ("write", _VOID),
        ("truncate", _VOID), ("sync", _VOID),
        *((f"rest_{place}", _VOID) for place in range(13)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that the disk was told.

    Attributes:
        what: Which.
        file: Its name, without a folder.
        at: Where a write begins; to how many bytes a file is cut.
        data: Of a write.
    """

    what: Literal["write", "cut", "sync", "remove"]
    file: str
    at: int = 0
    data: bytes = b""


@dataclass
class Disk:
    """What it was told so far, and whether it still does it.

    Attributes:
        told: In order.
        room: How many more writes there is room for; None: any number.
        syncs: Whether it still can sync.
    """

    told: list[Told] = field(default_factory=list)
    room: int | None = None
    syncs: bool = True


def _library() -> Any:  # noqa: ANN401 - ctypes has no types for a library's functions
    library = ctypes.CDLL(_sqlite3.__file__)
    try:
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        library.sqlite3_vfs_register.argtypes = [_VOID, _INT]
        library.sqlite3_vfs_unregister.argtypes = [_VOID]
    except AttributeError:
        pytest.skip("this Python has SQLite built in, and no disk can be put below it")
    return library


@contextmanager
def watched(folder: Path) -> Iterator[Disk]:
    """All that SQLite does below `folder` meanwhile goes over the disk that is given."""
    library = _library()
    usual = library.sqlite3_vfs_find(None)
    disk = Disk()
    shim = _Shim(disk, usual, str(folder.resolve()))
    library.sqlite3_vfs_register(ctypes.byref(shim.vfs), 1)
    try:
        yield disk
    finally:
        library.sqlite3_vfs_register(usual, 1)
        library.sqlite3_vfs_unregister(ctypes.byref(shim.vfs))


class _Shim:
    """The callbacks, which must outlive their registration."""

    def __init__(self, disk: Disk, usual: Any, folder: str) -> None:  # noqa: ANN401 - a ctypes pointer
        self.disk = disk
        self._folder = folder
        self._names: dict[int, str] = {}
        self._tables: dict[int, _Methods] = {}
        self._usual = usual
        self._open = _OPEN(usual.contents.open)
        self._delete = _DELETE(usual.contents.delete)
        self._kept = [_OPEN(self._opened), _DELETE(self._deleted)]
        self.vfs = _Vfs.from_buffer_copy(usual.contents)
        self.vfs.name = _NAME
        self.vfs.open, self.vfs.delete = (ctypes.cast(one, _VOID).value for one in self._kept)

    def _opened(self, _: int, name: int | None, file: int, flags: int, out: Any) -> int:  # noqa: ANN401
        code = int(self._open(ctypes.cast(self._usual, _VOID), name, file, flags, out))
        where = b"" if name is None else ctypes.string_at(name)
        if code == 0 and where.decode().startswith(self._folder):
            self._names[file] = Path(where.decode()).name
            pointer = ctypes.cast(file, ctypes.POINTER(_VOID))
            usual = pointer[0]
            if usual not in self._tables:
                self._tables[usual] = self._table(usual)
            pointer[0] = ctypes.addressof(self._tables[usual])
        return code

    def _deleted(self, _: int, name: int, synced: int) -> int:
        where = ctypes.string_at(name).decode()
        if where.startswith(self._folder):
            self.disk.told.append(Told("remove", Path(where).name))
        return int(self._delete(ctypes.cast(self._usual, _VOID), name, synced))

    def _table(self, usual: int) -> _Methods:
        table = _Methods.from_address(usual)
        close, write = _CLOSE(table.close), _WRITE(table.write)
        truncate, sync = _TRUNCATE(table.truncate), _SYNC(table.sync)
        names, disk = self._names, self.disk

        def closed(file: int) -> int:
            names.pop(file, None)
            return int(close(file))

        def written(file: int, data: int, count: int, at: int) -> int:
            if disk.room is not None:
                if disk.room <= 0:
                    return _FULL
                disk.room -= 1
            disk.told.append(Told("write", names[file], at, ctypes.string_at(data, count)))
            return int(write(file, data, count, at))

        def cut(file: int, count: int) -> int:
            disk.told.append(Told("cut", names[file], count))
            return int(truncate(file, count))

        def synced(file: int, flags: int) -> int:
            if not disk.syncs:
                return _FAILED_SYNC
            disk.told.append(Told("sync", names[file]))
            return int(sync(file, flags))

        mine = _Methods.from_buffer_copy(table)
        callbacks = (_CLOSE(closed), _WRITE(written), _TRUNCATE(cut), _SYNC(synced))
        self._kept.extend(callbacks)
        mine.close, mine.write, mine.truncate, mine.sync = (
            ctypes.cast(one, _VOID).value for one in callbacks
        )
        return mine


@dataclass
class _Held:
    """What a disk has of a file for certain, and what it was told since."""

    synced: bytes | None = None
    later: list[Told] = field(default_factory=list)
    removed: bool = False


def image(told: Sequence[Told], folder: Path, chance: random.Random) -> None:
    """Write what a disk may hold if the power goes after it was told this."""
    files: dict[str, _Held] = {}
    for one in told:
        held = files.setdefault(one.file, _Held())
        if one.what == "remove":
            held.removed, held.later = True, []
            continue
        held.later.append(one)
        if one.what == "sync":
            before = None if held.removed else held.synced
            if before is None and one.file.endswith(("-journal", "-wal")):
                # SQLite syncs the folder with such a new file, and so what was removed from it
                for other in files.values():
                    if other.removed:
                        other.synced, other.removed = None, False
            held.synced = _carried_out(before or b"", held.later, lambda: True)
            held.removed, held.later = False, []
    kept = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for name, held in files.items():
        there = held.synced is not None and not held.removed
        if not there and (not held.later or chance.random() < 0.5):
            if held.removed and held.synced is not None and chance.random() < 0.5:
                (folder / name).write_bytes(held.synced)  # its removal is not on disk
            continue
        before = held.synced if there and held.synced is not None else b""
        data = _carried_out(before, held.later, lambda: chance.random() < kept)
        (folder / name).write_bytes(data)


def _carried_out(before: bytes, later: Sequence[Told], happened: Callable[[], bool]) -> bytes:
    data = bytearray(before)
    for one in later:
        if one.what == "cut" and happened():
            del data[one.at :]
        elif one.what == "write":
            for start in range(0, len(one.data), SECTOR_BYTES):
                if happened():
                    part = one.data[start : start + SECTOR_BYTES]
                    at = one.at + start
                    if len(data) < at:
                        data.extend(bytes(at - len(data)))
                    data[at : at + len(part)] = part
    return bytes(data)
