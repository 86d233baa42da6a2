"""Rows from files, as a stream of chunks that keep their contract.

Nothing is loaded that the contract does not name, nothing is decompressed as a whole, and what
does not keep the contract stops the reading with one sentence: file, line and column, never a
value. Memory is bounded by a chunk, whatever the file's size.

What a chunk holds: numbers and times as float64 (NaN = missing), categories as pandas Categorical
over the contract's levels and `other`, ids and texts as str. Numbers outside their `range` are kept
here; features hold them at the bounds, `clients.check` counts them.
"""

import csv
import gzip
import io
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, NoReturn, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clients.contract import OTHER, Column, DataContract, Source, level_text
from clients.frozen import nearest
from clients.xz_stream import Readable, XzStream
from privacy.errors import DataError, InputError

CHUNK_ROWS: Final = 50_000
LIFE: Final = "__life_at_end"
UNIT: Final = "__unit"
ROW: Final = "__row"
TRUST: Final = "__trust"
_BLOCK_BYTES: Final = 2**20
_LONGEST_ROW: Final = 2**20  # of characters
_UNPACKED_BYTES: Final = 2**30
_UNPACKED_TIMES: Final = 200
_TEXTS_BYTES: Final = 2**28
_REQUIRED: Final = frozenset({"id", "time", "label", "event"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INTEGER_TEXT = r"^[+-]?\d+(\.0+)?$"
_SUFFIXES: Final = {
    "csv": (".csv", ".txt", ".tsv", ".data"),
    "parquet": (".parquet", ".pq"),
}
_PACKED: Final = (".gz", ".xz", ".zip")

Kind = Literal["number", "text"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, and how many cells of each column were missing or of an unlisted level."""

    frame: pd.DataFrame
    missing: Mapping[str, int]
    unlisted: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of rows and how to read it.

    Attributes:
        path: Where it lies.
        shown: What sentences call it.
        format: `csv` or `parquet`.
        separator: CSV: one character, or `whitespace`.
        order: CSV without header: the names of its fields; None = the first line names them.
        missing: Texts that mean missing.
    """

    path: Path
    shown: str
    format: Literal["csv", "parquet"] = "csv"
    separator: str = ","
    order: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ("",)


def read_chunks(
    contract: DataContract,
    data_root: Path,
    source: Source,
    *,
    columns: frozenset[str] | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[pd.DataFrame]:
    """Read one source's rows in file order, `chunk_rows` or fewer at a time.

    Args:
        contract: What the rows must keep.
        data_root: What the source's path is relative to; if it is a file, that file is read.
        source: One of the contract's sources.
        columns: Names of the contract's columns to read; None = all but those of role ignore.
            `__life_at_end` is added where the source has a remaining_life file and all are read.
        chunk_rows: Rows in memory at once.

    Raises:
        InputError: A file is missing, unreadable, cut off, damaged, or not UTF-8.
        DataError: Rows do not keep the contract.
    """
    for chunk in read_counted(contract, data_root, source, columns=columns, chunk_rows=chunk_rows):
        yield chunk.frame


def read_counted(
    contract: DataContract,
    data_root: Path,
    source: Source,
    *,
    columns: frozenset[str] | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[Chunk]:
    """Read as `read_chunks`, and count missing and unlisted cells."""
    columns = columns and (columns - {LIFE})
    loaded = [c for c in contract.columns if c.role != "ignore"]
    wanted = [c for c in loaded if columns is None or c.name in columns]
    if all(c.name in source.constants for c in wanted):
        # the number of rows is wanted even where no cell is
        wanted += [c for c in loaded if c.name not in source.constants][:1]
    read = [c for c in wanted if c.name not in source.constants]
    lives = None
    if source.remaining_life is not None and columns is None:
        lives = _Lives(contract, data_root, source.remaining_life)
    for file in source_files(contract, data_root, source):
        fields = {c.name: (c.file_name, _kind(c)) for c in read}
        record = 0
        for table in _chunks(read_tables(file, fields), chunk_rows):
            where = _Place(file, record)
            chunk = _typed(table, wanted, source, where)
            record += table.num_rows
            if lives is not None:
                chunk.frame[LIFE] = lives.of(chunk.frame)
            yield chunk
        if record == 0:
            raise DataError(f"{file.shown}: has no rows; give a file with rows.")
    if lives is not None:
        lives.check_all_used()


def source_files(contract: DataContract, data_root: Path, source: Source) -> list[TableFile]:
    """The source's files, sorted by name.

    Raises:
        InputError: There is none.
    """
    order = None
    if source.format == "csv" and not source.header:
        order = tuple(c.file_name for c in contract.columns if c.name not in source.constants)
    return [
        TableFile(
            path=path,
            shown=_shown(path, data_root),
            format=source.format,
            separator=source.separator,
            order=order,
            missing=contract.missing,
        )
        for path in _paths(data_root, source)
    ]


def unit_names(frame: pd.DataFrame, contract: DataContract) -> "pd.Series[str]":
    """Each row's unit as text: its unit columns joined by "|"; a unit of its own without any.

    Without unit columns the frame's `__row` is the unit's name.

    Raises:
        DataError: A row names no unit. Whose it is, nobody could say; so nobody's part in what
            leaves would be bounded.
    """
    columns = contract.unit_columns
    if not columns:
        return frame[ROW].astype(str)
    for column in columns:
        empty = int(frame[column.name].isna().sum())
        if empty:
            raise DataError(
                f"{contract.name}: column {column.name} has {empty} empty cells; every row needs "
                f"its {contract.unit}."
            )
    if len(columns) == 1:
        return _as_text(frame[columns[0].name])
    # what joins must not stand in a part: two units' names would be one
    parts = [
        _as_text(frame[column.name])
        .str.replace("\\", "\\\\", regex=False)
        .str.replace("|", "\\|", regex=False)
        for column in columns
    ]
    names = parts[0]
    for part in parts[1:]:
        names = names + "|" + part
    return names


def read_tables(file: TableFile, fields: Mapping[str, tuple[str, Kind]]) -> Iterator[pa.Table]:
    """Stream a file's columns as Arrow tables of float64 and string, nulls for missing.

    Args:
        file: What to read.
        fields: Name in the tables -> (name in the file, kind).

    Raises:
        InputError: As `read_chunks`.
        DataError: A column is missing, a row is ragged, or a numeric column holds text.
    """
    with _faults(file):
        if file.format == "parquet":
            yield from _parquet_tables(file, fields)
        else:
            yield from _csv_tables(file, fields)


def read_header(file: TableFile) -> tuple[str, ...]:
    """The names of a file's columns, as the file spells them.

    Raises:
        InputError: The file cannot be read.
        DataError: The file is empty.
    """
    with _faults(file):
        if file.order is not None:
            return file.order
        if file.format == "parquet":
            with _seekable(file) as stream:
                return tuple(pq.ParquetFile(stream).schema_arrow.names)
        first = next(_records(file), None)
        if first is None:
            raise DataError(f"{file.shown}: is empty; give a file with rows.")
        return tuple(first[1])


def packed_as(path: Path) -> str:
    """`.gz`, `.xz`, `.zip`, or nothing."""
    return path.suffix.lower() if path.suffix.lower() in _PACKED else ""


# files


def _shown(path: Path, data_root: Path) -> str:
    inside = path != data_root and path.is_relative_to(data_root)
    return str(path.relative_to(data_root)) if inside else path.name


def _paths(data_root: Path, source: Source) -> list[Path]:
    if data_root.is_file():
        return [data_root]
    path = data_root / source.path
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.is_file() and _fits(p, source.format))
        if not found:
            endings = ", ".join(_SUFFIXES[source.format])
            raise InputError(
                f"{source.path}: the folder holds no {source.format} file; names end in {endings}, "
                f"or in one of these and .gz, .xz or .zip."
            )
        return found
    if not path.exists() and any(sign in source.path for sign in "*?["):
        found = sorted(p for p in data_root.glob(source.path) if p.is_file())
        if not found:
            raise InputError(f"{source.path}: no file below {data_root} fits; check the path.")
        return found
    return [path]


def _fits(path: Path, form: str) -> bool:
    name = path.name.lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return name.endswith(_SUFFIXES[form]) and not name.startswith(".")


@contextmanager
def _faults(file: TableFile) -> Iterator[None]:
    """Whatever goes wrong with a file's bytes becomes one sentence."""
    name = file.shown
    try:
        yield
    except EOFError:
        raise InputError(f"{name}: ends too early; fetch it again.") from None
    except pa.ArrowException:  # some are Python's own kinds, too
        what = "Parquet" if file.format == "parquet" else "CSV"
        raise InputError(f"{name}: is damaged, or no {what} file; fetch it again.") from None
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile):
        ending = packed_as(file.path)
        raise InputError(f"{name}: is damaged, or no {ending} file; fetch it again.") from None
    except FileNotFoundError:
        raise InputError(f"{name}: no such file at {file.path}; check the data root.") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: is not UTF-8 text; save it as UTF-8.") from None
    except csv.Error:
        raise DataError(
            f"{name}: is not CSV that can be read, a quote may not be closed; correct the file."
        ) from None
    except (RuntimeError, NotImplementedError) as failure:
        if packed_as(file.path) not in {".zip", ".xz"}:
            raise
        unknown = isinstance(failure, NotImplementedError)
        state = "packed in an unknown way" if unknown else "encrypted"
        raise InputError(f"{name}: is {state}; unpack it first.") from None
    except OSError as failure:
        # Arrow reports damaged Parquet as OSError without a reason of the system's
        why = failure.strerror or "it is damaged"
        raise InputError(f"{name}: cannot be read ({why}); check the file.") from None


@contextmanager
def _plain(file: TableFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked as they are read."""
    ending = packed_as(file.path)
    if ending == ".gz":
        with gzip.open(file.path, "rb") as unpacked:
            yield _bounded(file, cast("IO[bytes]", unpacked))
    elif ending == ".xz":
        with file.path.open("rb") as packed:
            yield _bounded(file, XzStream(packed))
    elif ending == ".zip":
        with zipfile.ZipFile(file.path) as archive:
            inside = [one for one in archive.infolist() if not one.filename.endswith("/")]
            if len(inside) != 1:
                raise InputError(
                    f"{file.shown}: holds {len(inside)} files; pack exactly one, or unpack it."
                )
            if inside[0].compress_type == zipfile.ZIP_LZMA:
                raise NotImplementedError  # what memory it takes is up to the file
            with archive.open(inside[0]) as stream:
                yield _bounded(file, stream)
    else:
        with file.path.open("rb") as stream:
            yield stream


def _bounded(file: TableFile, stream: Readable) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedReader(_Unpacked(file, stream)))


class _Unpacked(io.RawIOBase):
    """What a packed file holds, as long as that is no bomb."""

    def __init__(self, file: TableFile, stream: Readable) -> None:
        self._shown = file.shown
        self._stream = stream
        self._left = max(_UNPACKED_BYTES, _UNPACKED_TIMES * file.path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - a writable buffer
        """Raise InputError where a small file unpacks to a very large one."""
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                f"{self._shown}: unpacks to more than {_UNPACKED_TIMES} times its size; if that is "
                f"right, unpack it first."
            )
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _seekable(file: TableFile) -> Iterator[IO[bytes]]:
    """As `_plain`, but a reader may jump; a packed file is unpacked to disk, nameless."""
    with _plain(file) as stream:
        if not packed_as(file.path):
            yield stream
            return
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(stream, spool, _BLOCK_BYTES)
            spool.seek(0)
            yield spool


class _SingleSpaced:
    """A stream of lines whose fields are apart by exactly one space."""

    def __init__(self, shown: str, stream: IO[bytes]) -> None:
        self._shown = shown
        self._stream = stream
        self._rest = b""
        self._ready = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while len(self._ready) < size:
            block = self._stream.read(_BLOCK_BYTES)
            lines, newline, rest = (self._rest + block).rpartition(b"\n")
            if not block:
                lines, newline, rest = self._rest, b"", b""
            self._rest = rest
            if len(rest) > _LONGEST_ROW:
                raise _endless(self._shown)
            if lines or newline:
                self._ready += b"\n".join(b" ".join(x.split()) for x in lines.splitlines())
                self._ready += b"\n"
            if not block:
                break
        out, self._ready = self._ready[:size], self._ready[size:]
        return out


# CSV


def _csv_tables(file: TableFile, fields: Mapping[str, tuple[str, Kind]]) -> Iterator[pa.Table]:
    header = read_header(file)
    spelled = _spelled(file, header, [name for name, _ in fields.values()])
    types = {
        spelled[name]: pa.float64() if kind == "number" else pa.string()
        for name, kind in fields.values()
    }
    blank = file.separator == "whitespace"
    parse = pacsv.ParseOptions(
        delimiter=" " if blank else file.separator,
        quote_char=False if blank else '"',
        newlines_in_values=not blank,
    )
    convert = pacsv.ConvertOptions(
        include_columns=list(types),
        column_types=types,
        null_values=list(file.missing),
        strings_can_be_null=True,
    )
    names = list(file.order) if file.order else None
    with _plain(file) as stream:
        try:
            for rows in _whole_rows(file, _SingleSpaced(file.shown, stream) if blank else stream):
                table = pacsv.read_csv(
                    native_reader(rows),
                    # one block: what no row ends in is told by `_whole_rows`
                    pacsv.ReadOptions(block_size=len(rows) + 1, column_names=names),
                    parse,
                    convert,
                )
                names = list(header)
                yield pa.table(
                    {name: table.column(spelled[own]) for name, (own, _) in fields.items()}
                )
        except pa.ArrowInvalid:
            _tell_what_is_wrong(file, header, fields)


def native_reader(data: bytes) -> pa.BufferReader:
    """The same bytes in Arrow's own memory.

    Arrow's threads may hold on to what they read until the process ends, and a thread that wants
    Python's lock just then, to read on or to let go, ends it with a signal, or never.
    """
    own = pa.allocate_buffer(len(data))
    memoryview(own).cast("B")[:] = data
    return pa.BufferReader(own)


def _whole_rows(file: TableFile, stream: Readable) -> Iterator[bytes]:
    """A CSV file's bytes in pieces that end where a row does, read by the caller's own thread.

    Raises:
        DataError: No row ends within `_LONGEST_ROW` bytes.
    """
    rows = None if file.separator == "whitespace" else _rows_pattern(file.separator)
    rest = b""
    while block := stream.read(_BLOCK_BYTES):
        data = rest + block
        if rows is not None and b'"' in data:
            found = rows.match(data)
            end = 0 if found is None else found.end()
        else:
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        rest = data[end:]
        if len(rest) > _LONGEST_ROW:
            raise _endless(file.shown)
        # nothing but line ends is no row, and no table
        if data[:end].strip(b"\r\n"):
            yield data[:end]
    if rest.strip(b"\r\n"):
        yield rest


def _rows_pattern(separator: str) -> re.Pattern[bytes]:
    """Rows as Arrow tells them apart: a quote counts where it begins a field, until it ends.

    No group is repeated possessively: up to Python 3.11.4 that finds other ends (gh-106052).
    """
    apart = re.escape(separator.encode())
    plain = b"[^\\r\\n" + apart + b"]*+"
    field = b'(?:"(?>(?:[^"]++|"")*)"' + plain + b'|(?!")' + plain + b")"
    row = b"(?>" + field + b"(?:" + apart + field + b")*)[\\r\\n]"
    mark = b"(?>(?:\\xef\\xbb\\xbf)?)"
    return re.compile(b"(?:" + mark + b'(?>(?:[^"\\r\\n]*+[\\r\\n]|' + row + b")+))?")


def _spelled(file: TableFile, header: Sequence[str], wanted: Iterable[str]) -> dict[str, str]:
    """Contract's spelling of a header -> the file's, which may have spaces around it."""
    found: dict[str, str] = {}
    there = [name.strip() for name in header]
    asked = list(wanted)
    for name in asked:
        if there.count(name.strip()) > 1:
            raise DataError(f"{file.shown}: column {name} is there twice; keep one.")
        if name.strip() in there:
            found[name] = header[there.index(name.strip())]
    for name in asked:
        if name in found:
            continue
        # with no name right the first line may be a row, and a row's values are told to nobody
        guess = nearest(name, there) if found else None
        if found or file.format == "parquet":
            hint = f"did you mean {guess}?" if guess else "check the contract."
        else:
            hint = "check the contract's header and separator."
        raise DataError(f"{file.shown}: has no column {name}; {hint}")
    return found


def _records(file: TableFile) -> Iterator[tuple[int, list[str]]]:
    """Non-empty lines with their number, split into fields; slow, and exact about lines."""
    with _plain(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        lines = _Lines(file.shown, text)
        if file.separator == "whitespace":
            for number, line in enumerate(lines, start=1):
                if cells := line.split():
                    yield number, cells
                    lines.begin_row()
            return
        reader = csv.reader(lines, delimiter=file.separator, strict=True)
        for cells in reader:
            if cells:
                yield reader.line_num, cells
                lines.begin_row()


class _Lines:
    """A text's lines, as long as a row ends now and then; only that much of it is in memory."""

    def __init__(self, shown: str, text: io.TextIOWrapper) -> None:
        self._shown = shown
        self._text = text
        self._left = _LONGEST_ROW

    def begin_row(self) -> None:
        """The lines until here are read."""
        self._left = _LONGEST_ROW

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(self._left + 1):
            self._left -= len(line)
            if self._left < 0:
                raise _endless(self._shown)
            yield line


def _endless(shown: str) -> DataError:
    return DataError(
        f"{shown}: has no row that ends within {_LONGEST_ROW} characters; check its line ends and "
        f"quotes."
    )


def _tell_what_is_wrong(
    file: TableFile, header: Sequence[str], fields: Mapping[str, tuple[str, Kind]]
) -> NoReturn:
    """Find the first line that the fast reader cannot have read, and name it."""
    there = [name.strip() for name in header]
    numbers = [(there.index(own.strip()), own) for own, kind in fields.values() if kind == "number"]
    skip = file.order is None
    for line, cells in _records(file):
        if skip:
            skip = False
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{file.shown}: line {line} has {len(cells)} fields where {len(header)} belong; "
                f"correct the line, or the contract's separator."
            )
        for place, name in numbers:
            cell = cells[place]
            if cell not in file.missing and not _NUMBER.fullmatch(cell.strip()):
                raise _no_number(file, name, f"line {line}")
    raise DataError(
        f"{file.shown}: is not CSV that can be read; check its separator, quotes and encoding."
    )


def _no_number(file: TableFile, name: str, where: str) -> DataError:
    return DataError(
        f"{file.shown}: column {name}, {where}: a number belongs there; correct the cell, or name "
        f"its text under missing in the contract."
    )


# Parquet


def _parquet_tables(file: TableFile, fields: Mapping[str, tuple[str, Kind]]) -> Iterator[pa.Table]:
    with _seekable(file) as stream:
        metadata = pq.read_metadata(stream)
        _require_no_bomb(file, metadata)
        schema = metadata.schema.to_arrow_schema()
        spelled = _spelled(file, schema.names, [name for name, _ in fields.values()])
        # texts as an index into those that differ: a small file may name a large one very often
        texts = [name for name in spelled.values() if _is_text(schema.field(name).type)]
        stream.seek(0)
        parquet = pq.ParquetFile(stream, read_dictionary=texts)
        columns = list(dict.fromkeys(spelled.values()))
        record = 0
        for batch in parquet.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
            batch.validate(full=True)  # the reader looks at no text, and at no index
            table = pa.Table.from_batches([batch])
            yield pa.table(
                {
                    name: _cast(table.column(spelled[own]), kind, file, own, record)
                    for name, (own, kind) in fields.items()
                }
            )
            record += batch.num_rows


def _require_no_bomb(file: TableFile, metadata: pq.FileMetaData) -> None:
    size = file.path.stat().st_size
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        if group.total_byte_size > max(_UNPACKED_BYTES, _UNPACKED_TIMES * size):
            raise InputError(
                f"{file.shown}: a row group unpacks to more than {_UNPACKED_TIMES} times the "
                f"file's size; write it in smaller ones."
            )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _written_out(values: pa.ChunkedArray, file: TableFile, name: str) -> pa.ChunkedArray:
    """An index into values as the values, unless its texts would fill the memory so."""
    total = 0
    if _is_text(values.type.value_type):
        for chunk in values.chunks:
            lengths = pc.cast(pc.binary_length(chunk.dictionary), pa.int64())
            total += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    if total > _TEXTS_BYTES:
        raise DataError(
            f"{file.shown}: column {name} has more than {_TEXTS_BYTES >> 20} MiB of text in "
            f"{CHUNK_ROWS} rows; shorten its texts."
        )
    return values.cast(values.type.value_type)


def _cast(
    values: pa.ChunkedArray, kind: Kind, file: TableFile, name: str, record: int
) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = _written_out(values, file, name)
    is_text = _is_text(values.type)
    if is_text:
        gone = pc.is_in(values, value_set=pa.array(file.missing, values.type))
        values = pc.if_else(gone, pa.scalar(None, values.type), values)
    elif pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if kind == "text":
        try:
            return values.cast(pa.string())
        except pa.ArrowException:
            raise DataError(
                f"{file.shown}: column {name} holds {values.type}, no text; store it as text."
            ) from None
    if is_text:
        texts = values.cast(pa.string()).to_pylist()
        for place, text in enumerate(texts):
            if text is not None and not _NUMBER.fullmatch(text.strip()):
                raise _no_number(file, name, f"row {record + place + 1}")
        return pa.chunked_array(
            [pa.array([None if text is None else float(text) for text in texts], pa.float64())]
        )
    try:
        return values.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        raise DataError(
            f"{file.shown}: column {name} holds {values.type}, no number; store it as a number."
        ) from None


# from cells to typed columns


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a chunk begins, so that a bad row can be named."""

    file: TableFile
    first: int

    def of(self, index: int) -> str:
        """The line or row of the chunk's `index`-th record, as words."""
        record = self.first + index
        if self.file.format == "csv":
            skip = 1 if self.file.order is None else 0
            # what nobody reads may be no text, or no CSV; then lines cannot be told apart
            with suppress(UnicodeDecodeError, csv.Error):
                for place, (line, _) in enumerate(_records(self.file)):
                    if place == record + skip:
                        return f"line {line}"
        return f"row {record + 1}"

    def fault(self, column: Column, bad: NDArray[np.bool_], what: str) -> DataError:
        """A sentence about the first bad cell."""
        where = self.of(int(np.argmax(bad)))
        return DataError(f"{self.file.shown}: column {column.file_name}, {where}: {what}.")


def _kind(column: Column) -> Kind:
    return "number" if column.is_numeric else "text"


def _chunks(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= rows:
            joined = pa.concat_tables(held)
            yield joined.slice(0, rows)
            held = [joined.slice(rows)]
            count -= rows
    if count:
        yield pa.concat_tables(held)


def _typed(table: pa.Table, wanted: Sequence[Column], source: Source, where: _Place) -> Chunk:
    data: dict[str, object] = {}
    missing: dict[str, int] = {}
    unlisted: dict[str, int] = {}
    rows = table.num_rows
    for column in wanted:
        if column.name in source.constants:
            data[column.name] = _constant(column, source.constants[column.name], rows)
            continue
        cells = table.column(column.name)
        missing[column.name] = cells.null_count
        if column.role in _REQUIRED and cells.null_count:
            gone = cells.is_null().to_numpy()
            raise where.fault(column, gone, "the cell is empty; fill it, or leave the row out")
        if column.is_numeric:
            data[column.name] = _numbers(column, cells, where)
        elif column.categories:
            data[column.name], unlisted[column.name] = _categories(column, cells)
        else:
            data[column.name] = _texts(column, cells, where)
    # columns are made one by one, so they do not share memory with each other
    return Chunk(pd.DataFrame(data, copy=False), missing, unlisted)


def _numbers(column: Column, cells: pa.ChunkedArray, where: _Place) -> NDArray[np.float64]:
    values = np.array(cells.to_numpy(), dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.sum() > cells.null_count:
        bad &= cells.is_valid().to_numpy()
        raise where.fault(column, bad, "the number is not finite; correct the cell")
    if column.type == "integer":
        # NaN compares false, and is missing
        bad = np.abs(values - np.round(values)) > 0
        if bad.any():
            raise where.fault(column, bad, "a whole number belongs there; correct the cell")
    return values


def _texts(column: Column, cells: pa.ChunkedArray, where: _Place) -> "pd.Series[str]":
    if column.type == "integer":
        trimmed = pc.utf8_trim_whitespace(cells)
        whole = pc.match_substring_regex(trimmed, _INTEGER_TEXT).fill_null(fill_value=True)
        if not pc.all(whole, min_count=0).as_py():
            what = "a whole number belongs there; correct the cell"
            raise where.fault(column, ~whole.to_numpy(), what)
        cells = pc.replace_substring_regex(trimmed, r"^\+?(-?)0*(\d+?)(?:\.0+)?$", r"\1\2")
    elif column.type == "category":
        encoded = cells.combine_chunks().dictionary_encode()
        spelled = [level_text(text) for text in encoded.dictionary.to_pylist()]
        cells = pa.chunked_array([pa.array(spelled, pa.string()).take(encoded.indices)])
    return pd.Series(cells.to_pandas(), dtype="str")


def _categories(column: Column, cells: pa.ChunkedArray) -> tuple[pd.Categorical, int]:
    names = column.categories
    other = len(names) - 1
    place = {name: code for code, name in enumerate(names[:-1])}
    encoded = cells.combine_chunks().dictionary_encode()
    levels = [level_text(text) for text in encoded.dictionary.to_pylist()]
    if column.hash_levels is not None:
        code_of = np.array([column.hash_code(level) for level in levels], dtype=np.int64)
    else:
        code_of = np.array([place.get(level, other) for level in levels], dtype=np.int64)
    code_of = np.append(code_of, other)  # the last stands for missing
    indices = encoded.indices.fill_null(len(levels)).to_numpy(zero_copy_only=False)
    codes = code_of[indices]
    unlisted = int((codes == other).sum()) - cells.null_count
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype="str")), unlisted


def _constant(column: Column, value: str | float, rows: int) -> object:
    if column.is_numeric:
        return np.full(rows, float(value))
    text = level_text(value)
    if not column.categories:
        return pd.Series([text], dtype="str").repeat(rows).reset_index(drop=True)
    if column.hash_levels is not None:
        text = str(column.hash_code(text))
    names = column.categories
    code = names.index(text) if text in names else names.index(OTHER)
    return pd.Categorical.from_codes(np.full(rows, code), categories=pd.Index(names, dtype="str"))


def _as_text(values: "pd.Series[str]") -> "pd.Series[str]":
    if pd.api.types.is_float_dtype(values.dtype):
        codes, unique = pd.factorize(values)
        return pd.Series(
            pd.Index([level_text(x) for x in unique], dtype="str").take(codes), index=values.index
        )
    return values.astype("str")


class _Lives:
    """Remaining life of a source's units at their last rows, dealt out by first appearance."""

    def __init__(self, contract: DataContract, data_root: Path, path: str) -> None:
        self._contract = contract
        base = data_root.parent if data_root.is_file() else data_root
        self._file = TableFile(
            path=base / path, shown=path, separator="whitespace", order=("life",), missing=()
        )
        tables = list(read_tables(self._file, {"life": ("life", "number")}))
        self._values = [x for table in tables for x in table.column("life").to_pylist()]
        if not all(np.isfinite(x) and x >= 0 for x in self._values):
            raise DataError(f"{path}: holds a life below 0 or without end; correct the file.")
        self._seen: dict[str, float] = {}

    def of(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Each row's unit's remaining life at that unit's last row."""
        names = unit_names(frame, self._contract)
        codes, unique = pd.factorize(names)
        for name in unique:
            if name not in self._seen:
                if len(self._seen) == len(self._values):
                    raise self._mismatch("has fewer lines than there are units")
                self._seen[name] = self._values[len(self._seen)]
        return np.array([self._seen[name] for name in unique], dtype=np.float64)[codes]

    def check_all_used(self) -> None:
        """Refuse a file with more lines than units."""
        if len(self._seen) != len(self._values):
            raise self._mismatch("has more lines than there are units")

    def _mismatch(self, what: str) -> DataError:
        return DataError(
            f"{self._file.shown}: {what} in its source; give one line a unit, in order of first "
            f"appearance."
        )
