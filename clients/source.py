"""Rows from files, a chunk at a time, held against their contract while they are read.

CSV and Parquet; plain, .gz, .xz or .zip; one file, a folder, or a glob. Only the contract's columns
are loaded: what the contract does not name never enters the process's tables. Errors name file,
column and line, never a value.
"""

import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from clients.contract import OTHER, Column, DataContract, Source, level_text
from clients.frozen import nearest
from privacy.errors import DataError, InputError, TacitError

CHUNK_ROWS: Final = 50_000
BLOCK_BYTES: Final = 4 * 2**20
LINE_BYTES_MAX: Final = 2**20
PACKED: Final = (".gz", ".xz", ".zip")
SUFFIXES: Final = {"csv": (".csv", ".txt", ".tsv"), "parquet": (".parquet", ".pq")}
_BROKEN = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
_ROW = re.compile(r"[Rr]ow #(\d+)")
_COLUMN = re.compile(r"CSV column #(\d+)")


def files_of(source: Source, root: Path) -> tuple[Path, ...]:
    """The files of a source in sorted order.

    Raises:
        InputError: There is none.
    """
    path = root / source.path
    if path.is_dir():
        found = [one for one in sorted(path.iterdir()) if _is_of(one, source.format)]
        if not found:
            raise InputError(f"{path}: the folder holds no {source.format} file; check the path.")
        return tuple(found)
    if any(mark in source.path for mark in "*?["):
        found = sorted(one for one in root.glob(source.path) if one.is_file())
        if not found:
            raise InputError(f"{path}: no file fits this pattern; check the path.")
        return tuple(found)
    if not path.exists():
        raise InputError(
            f"{path}: no such file; check the path, the data folder, or set TACIT_DATA."
        )
    return (path,)


def read_chunks(contract: DataContract, root: Path, source: Source) -> Iterator[pd.DataFrame]:
    """Stream a source's rows as tables of at most a chunk.

    Yields:
        Columns of the contract without those of role ignore: numbers and times as float64 (NaN
        where missing), categories as pandas categories in code order, ids and texts as str.

    Raises:
        InputError: A file is missing, unreadable, or lacks a column.
        DataError: A row does not keep the contract.
    """
    for path in files_of(source, root):
        rows = 0
        for batch in _batches(contract, path, source):
            frame = _typed(batch, contract, source, path, rows)
            rows += len(frame)
            yield frame
        if rows == 0:
            raise DataError(f"{path}: holds no rows; remove it from the contract or fill it.")


def loaded_columns(contract: DataContract, source: Source) -> tuple[Column, ...]:
    """Columns that are read from the source's files."""
    return tuple(
        column
        for column in contract.columns
        if column.role != "ignore" and column.name not in source.constants
    )


def read_numbers(path: Path) -> list[float]:
    """One number a line, as C-MAPSS's remaining lives are given.

    Raises:
        InputError: Missing or unreadable.
        DataError: A line is no number.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path or the data folder.")
    numbers: list[float] = []
    with _opened(path) as stream:
        for place, line in enumerate(stream.read().decode("ascii", "replace").splitlines()):
            text = line.strip()
            if not text:
                continue
            try:
                numbers.append(float(text))
            except ValueError:
                raise DataError(f"{path}: line {place + 1} is no number.") from None
    return numbers


def _is_of(path: Path, form: str) -> bool:
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return path.is_file() and name.endswith(SUFFIXES[form])


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """The file's bytes, unpacked as they are read."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".gz":
                yield gzip.GzipFile(fileobj=file)
            elif path.suffix == ".xz":
                yield lzma.LZMAFile(file)
            elif path.suffix == ".zip":
                with zipfile.ZipFile(file) as archive:
                    inside = [one for one in archive.infolist() if not one.is_dir()]
                    if len(inside) != 1:
                        raise InputError(f"{path}: a zip must hold one file; pack it alone.")
                    with archive.open(inside[0]) as stream:
                        yield stream  # type: ignore[misc] # a ZipExtFile reads like any other
            else:
                yield file
    except _BROKEN:
        raise DataError(f"{path}: is damaged or ends too early; fetch it again.") from None
    except OSError as failure:
        why = failure.strerror or "unreadable"
        raise InputError(f"{path}: cannot be read ({why}); check its permissions.") from None


class _Lines(io.RawIOBase):
    """Feeds pyarrow, remembers what went wrong below it, and keeps the last line."""

    def __init__(
        self, stream: io.BufferedIOBase, first: bytes, change: Callable[[bytes], bytes] | None
    ) -> None:
        self._stream = stream
        self._left = first
        self._change = change
        self.failure: BaseException | None = None
        self.last = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        want = BLOCK_BYTES if size is None or size < 0 else size
        while len(self._left) < want:
            try:
                piece = self._stream.read(BLOCK_BYTES)
                if piece and self._change is not None:
                    piece = self._change(piece + self._stream.readline(LINE_BYTES_MAX))
            except Exception as failure:
                self.failure = failure
                raise
            if not piece:
                break
            tail = (self.last + piece)[-LINE_BYTES_MAX:].rstrip(b"\r\n")
            self.last = tail[tail.rfind(b"\n") + 1 :]
            self._left += piece
        out, self._left = self._left[:want], self._left[want:]
        return out


def _batches(contract: DataContract, path: Path, source: Source) -> Iterator[pa.RecordBatch]:
    with _opened(path) as stream:
        if source.format == "parquet":
            yield from _parquet(contract, path, source, stream)
        else:
            yield from _csv(contract, path, source, stream)


def _csv(
    contract: DataContract, path: Path, source: Source, stream: io.BufferedIOBase
) -> Iterator[pa.RecordBatch]:
    spaced = source.separator == "whitespace"
    change = _commas if spaced else None
    separator = "," if spaced else source.separator
    columns = loaded_columns(contract, source)
    first = stream.readline(LINE_BYTES_MAX).removeprefix(b"\xef\xbb\xbf")
    if not first.strip():
        raise DataError(f"{path}: is empty; remove it from the contract or fill it.")
    if spaced:
        first = _commas(first)
    fields = _fields(first, separator, path)
    if source.header:
        names = [name.strip() for name in fields]
        _require_columns(columns, names, path)
        head = b""
    else:
        names = [column.name for column in contract.columns if column.name not in source.constants]
        if len(fields) != len(names):
            raise DataError(
                f"{path}: has {len(fields)} fields a line where the contract lists {len(names)} "
                "columns; correct one of them."
            )
        head = first
    wanted = {(c.file_name if source.header else c.name): c for c in columns}
    lines = _Lines(stream, head, change)
    if not source.header:
        lines.last = first.rstrip(b"\r\n")
    try:
        reader = pacsv.open_csv(
            pa.PythonFile(lines, mode="r"),
            read_options=pacsv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, column_names=names
            ),
            parse_options=pacsv.ParseOptions(delimiter=separator),
            convert_options=pacsv.ConvertOptions(
                column_types={
                    name: pa.float64() if c.is_numeric else pa.string()
                    for name, c in wanted.items()
                },
                include_columns=list(wanted),
                null_values=list(contract.missing),
                strings_can_be_null=True,
            ),
        )
        for batch in reader:
            yield pa.RecordBatch.from_arrays(
                list(batch.columns), names=[wanted[n].name for n in batch.schema.names]
            )
    except TacitError:
        raise
    except (pa.ArrowException, ValueError, OSError, *_BROKEN) as failure:
        if lines.failure is not None:
            raise lines.failure from None
        if "Empty CSV" in str(failure):
            return
        raise _csv_fault(str(failure), path, names, first_line=1 + source.header) from None
    # pyarrow reads a last line that was cut off between two fields' characters as a whole one
    if lines.last and len(_fields(lines.last, separator, path)) != len(names):
        raise DataError(f"{path}: the last line is cut off; fetch the file again.")


def _csv_fault(text: str, path: Path, names: list[str], *, first_line: int) -> TacitError:
    row = _ROW.search(text)
    line = f", line {int(row.group(1)) + first_line - 1}" if row else ""
    column = _COLUMN.search(text)
    if "conversion error" in text:
        where = f"column {names[int(column.group(1))]}" if column else "a column"
        if "UTF8" in text or "utf8" in text:
            return DataError(f"{path}: {where}{line} is not UTF-8 text; save the file as UTF-8.")
        return DataError(
            f"{path}: {where}{line} holds text where the contract says number; correct the file, "
            "or list that text under missing."
        )
    if "Expected" in text and "columns" in text:
        return DataError(
            f"{path}: a line{line.replace(', line', ' (line') + ')' if line else ''} has another "
            "number of fields than the first; correct or fetch the file again."
        )
    return DataError(f"{path}: is no CSV file that can be read; check format and separator.")


def _commas(block: bytes) -> bytes:
    return b"".join(b",".join(line.split()) + b"\n" for line in block.splitlines() if line.strip())


def _fields(line: bytes, separator: str, path: Path) -> list[str]:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text; save the file as UTF-8.") from None
    try:
        return next(csv.reader([text], delimiter=separator), [])
    except csv.Error:
        raise DataError(f"{path}: is no CSV file that can be read; check its format.") from None


def _require_columns(columns: tuple[Column, ...], names: list[str], path: Path) -> None:
    for column in columns:
        if column.file_name not in names:
            guess = nearest(column.file_name, names)
            hint = f"; the nearest is {guess}" if guess else ""
            raise InputError(
                f"{path}: has no column {column.file_name}{hint}; correct the contract's columns."
            )
        if names.count(column.file_name) > 1:
            raise InputError(f"{path}: has two columns {column.file_name}; rename one.")


def _parquet(
    contract: DataContract, path: Path, source: Source, stream: io.BufferedIOBase
) -> Iterator[pa.RecordBatch]:
    columns = loaded_columns(contract, source)
    # Parquet's index is at its end, so a packed file must be unpacked first
    seekable = stream if path.suffix not in PACKED else io.BytesIO(stream.read())
    try:
        file = pq.ParquetFile(seekable)
        _require_columns(columns, list(file.schema_arrow.names), path)
        for batch in file.iter_batches(CHUNK_ROWS, columns=[c.file_name for c in columns]):
            arrays = [_cast(batch.column(c.file_name), c, path) for c in columns]
            yield pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns])
    except TacitError:
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise DataError(
            f"{path}: is damaged, ends too early, or is no Parquet file; fetch it again."
        ) from None


def _cast(array: pa.Array, column: Column, path: Path) -> pa.Array:
    try:
        if column.is_numeric:
            if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
                raise pa.ArrowInvalid("text")
            return array.cast(pa.float64())
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return array.cast(pa.string())
    except pa.ArrowException:
        what = "text" if column.is_numeric else "something other than text"
        raise DataError(
            f"{path}: column {column.name} holds {what} where the contract says {column.type}; "
            "correct one of them."
        ) from None


def _typed(
    batch: pa.RecordBatch, contract: DataContract, source: Source, path: Path, rows: int
) -> pd.DataFrame:
    out: dict[str, object] = {}
    for column in contract.columns:
        if column.role == "ignore":
            continue
        if column.name in source.constants:
            value = source.constants[column.name]
            array = pa.array(
                [float(value) if column.is_numeric else level_text(value)] * batch.num_rows
            )
        else:
            array = batch.column(column.name)
        where = f"{path}: column {column.name}"
        if column.is_numeric:
            out[column.name] = _numbers(array, column, where, rows)
        elif column.categories:
            out[column.name] = _categories(array, column, contract.missing)
        else:
            out[column.name] = _texts(array, column, where, rows)
    return pd.DataFrame(out)


def _numbers(array: pa.Array, column: Column, where: str, rows: int) -> np.ndarray:
    values = array.to_numpy(zero_copy_only=False).astype(np.float64)
    missing = np.isnan(values)
    if np.isinf(values).any():
        line = rows + int(np.flatnonzero(np.isinf(values))[0]) + 1
        raise DataError(f"{where}, row {line} is infinite; correct it or leave it empty.")
    if column.role in {"time", "label", "event"} and missing.any():
        line = rows + int(np.flatnonzero(missing)[0]) + 1
        raise DataError(
            f"{where}, row {line} is missing; a column of role {column.role} has no gaps."
        )
    if column.type == "integer" and not (np.mod(values[~missing], 1) == 0).all():
        raise DataError(f"{where} holds fractions where the contract says integer.")
    return values


def _categories(array: pa.Array, column: Column, missing: tuple[str, ...]) -> pd.Categorical:
    coded = pc.dictionary_encode(array)
    names = column.categories
    place = {name: i for i, name in enumerate(names)}
    other = place[OTHER]
    lookup = np.full(len(coded.dictionary) + 1, other, dtype=np.int64)
    for i, value in enumerate(coded.dictionary.to_pylist()):
        text = level_text(value)
        if column.hash_levels is not None:
            lookup[i] = other if text in missing else column.hash_code(text)
        else:
            lookup[i] = place.get(text, other)
    index = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
    return pd.Categorical.from_codes(lookup[index], categories=list(names))


def _texts(array: pa.Array, column: Column, where: str, rows: int) -> np.ndarray:
    if column.role == "id" and array.null_count:
        line = rows + int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0]) + 1
        raise DataError(f"{where}, row {line} is missing; every row needs its id.")
    coded = pc.dictionary_encode(array)
    texts = np.array(
        [*(level_text(value) for value in coded.dictionary.to_pylist()), ""], dtype=object
    )
    index = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
    return np.asarray(texts[index], dtype=object)
