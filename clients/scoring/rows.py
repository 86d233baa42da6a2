"""Rows as they come at the edge, CSV or JSON lines: one line at a time, none of them too long.

CSV has a first line of names and no cell that goes over several lines. JSON lines are objects of
texts, numbers and null. A line without its end is not read until it has one, or the input ends.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

from clients.scoring.column import Cell
from privacy.errors import DataError

Form: TypeAlias = Literal["csv", "jsonl"]
Row: TypeAlias = Mapping[str, Cell]
LONGEST_LINE: Final = 2**20
MOST_CELLS: Final = 10_000


class RowReader:
    """Bytes in, rows out."""

    def __init__(self, where: str, form: Form | None) -> None:
        """Begin.

        Args:
            where: What sentences call the input.
            form: None: JSON lines if the first line begins with a brace, else CSV.
        """
        self._where, self._form = where, form
        self._rest = b""
        self._names: list[str] | None = None
        self.line = 0

    def rows(self, block: bytes, *, last: bool = False) -> Iterator[Row]:
        """The rows that are complete with these bytes; at the end all that is left.

        Raises:
            DataError: A line is none; the sentence names it.
            InputError: It is no text.
        """
        lines = (self._rest + block).split(b"\n")
        self._rest = b"" if last else lines.pop()
        if max((len(line) for line in (*lines, self._rest)), default=0) > LONGEST_LINE:
            raise DataError(f"{self._where}: line {self.line + 1} is too long; check the file.")
        for raw in lines:
            self.line += 1
            if self.line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - a mark, no text
            try:
                text = raw.decode("utf-8").strip("\r")
            except UnicodeDecodeError:
                raise DataError(f"{self.at()}: is not UTF-8 text; save it as UTF-8.") from None
            if text.strip():
                row = self._row(text)
                if row is not None:
                    yield row

    def at(self) -> str:
        """Where the last row stood, for sentences."""
        return f"{self._where}, line {self.line}"

    def _row(self, text: str) -> Row | None:
        if self._form is None:
            self._form = "jsonl" if text.lstrip().startswith("{") else "csv"
        return self._object(text) if self._form == "jsonl" else self._cells(text)

    def _object(self, text: str) -> Row:
        try:
            value = json.loads(text, object_pairs_hook=_once)
            if "\\u" in text:  # half a sign has no bytes: it could be neither hashed nor shown
                json.dumps(value, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            raise DataError(f"{self.at()}: is no JSON object; correct the line.") from None
        if type(value) is not dict or len(value) > MOST_CELLS:
            raise DataError(f"{self.at()}: is no JSON object; correct the line.")
        row: dict[str, Cell] = {}
        for name, cell in value.items():
            if cell is not None and type(cell) not in {str, int, float}:
                raise DataError(
                    f"{self.at()}, {name:.80}: holds neither text, number nor null; correct it."
                )
            row[name] = cell
        return row

    def _cells(self, text: str) -> Row | None:
        try:
            cells = next(csv.reader([text], strict=True))
        except (csv.Error, StopIteration):
            raise DataError(
                f"{self.at()}: is not CSV that can be read, a quote may not be closed; correct it."
            ) from None
        if self._names is None:
            names = [name.strip() for name in cells]
            if len(set(names)) != len(names) or len(names) > MOST_CELLS:
                raise DataError(f"{self.at()}: has a column twice; keep one.")
            self._names = names
            return None
        if len(cells) != len(self._names):
            raise DataError(
                f"{self.at()}: has {len(cells)} fields where {len(self._names)} belong; correct "
                f"the line."
            )
        return dict(zip(self._names, cells, strict=True))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
