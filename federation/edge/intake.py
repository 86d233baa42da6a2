"""Where rows come from at the edge: standard input, files, folders; read once, or followed."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clients.scoring.rows import Form, Row, RowReader
from privacy.errors import InputError, RefusedError

BLOCK_BYTES: Final = 65_536
MOST_FILES: Final = 100_000
STANDARD_INPUT: Final = "-"
POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing more is there at this moment: what was read so far may be acted upon.

    Attributes:
        whole: Whether everything that there was had been read, not a block of it alone.
    """

    whole: bool


Taken = tuple[Row, str] | Pause


@dataclass(slots=True)
class _File:
    path: Path
    reader: RowReader
    read: int = 0


@dataclass(slots=True)
class Intake:
    """Rows with where they stood, and pauses between them.

    Attributes:
        places: Paths of files and folders, or `-`.
        form: Of the rows; None: as the first line looks.
        follow: Whether to go on with what files and folders get.
        wait: Called between two looks; returns whether to look again.
    """

    places: Sequence[str]
    form: Form | None = None
    follow: bool = False
    wait: Callable[[], bool] = field(default=lambda: _sleep())  # noqa: PLW0108 - it is below
    _files: dict[Path, _File] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Taken]:
        """Give rows and pauses.

        Raises:
            InputError: A place cannot be read.
            DataError: A line is none.
            RefusedError: A followed file became shorter.
        """
        if STANDARD_INPUT in self.places:
            if len(self.places) > 1 or self.follow:
                raise InputError("- is standard input; give it alone, without --follow.")
            yield from self._standard_input()
            return
        while True:
            for path in self._paths():
                yield from self._new_rows(path)
            yield Pause(whole=True)
            if not self.follow or not self.wait():
                return

    def _standard_input(self) -> Iterator[Taken]:
        if sys.stdin is None:
            raise InputError("Standard input is closed; give files or folders of rows.")
        reader, descriptor = RowReader("standard input", self.form), sys.stdin.fileno()
        while block := os.read(descriptor, BLOCK_BYTES):
            for row in reader.rows(block):
                yield row, reader.at()
            yield Pause(whole=False)
        for row in reader.rows(b"", last=True):
            yield row, reader.at()
        yield Pause(whole=True)

    def _paths(self) -> list[Path]:
        found: list[Path] = []
        for place in self.places:
            path = Path(place)
            if not path.is_dir():
                found.append(path)
                continue
            try:
                inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
            except OSError as failure:
                raise _unreadable(path, failure) from None
            found += [one for one in inside if one.is_file()]
        if len(found) > MOST_FILES:
            raise RefusedError(f"More than {MOST_FILES} files are to be read; move some away.")
        return found

    def _new_rows(self, path: Path) -> Iterator[Taken]:
        one = self._files.setdefault(path, _File(path, RowReader(path.name, self.form)))
        try:
            if self.follow and path.stat().st_size < one.read:
                raise RefusedError(f"{path}: became shorter while it was followed; begin again.")
            with path.open("rb") as file:
                file.seek(one.read)
                while block := file.read(BLOCK_BYTES):
                    one.read += len(block)
                    for row in one.reader.rows(block):
                        yield row, one.reader.at()
                    yield Pause(whole=False)
        except OSError as failure:
            raise _unreadable(path, failure) from None
        if not self.follow:
            for row in one.reader.rows(b"", last=True):
                yield row, one.reader.at()


def _sleep() -> bool:
    time.sleep(POLL_S)
    return True


def _unreadable(path: Path, failure: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({failure.strerror}); check the path.")
