"""Rows that come packed or in Parquet pages take no more memory or disk than they should."""

import gzip
import lzma
import resource
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import tables

from clients import source
from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.members import read_members
from privacy.errors import DataError, InputError

MIB: Final = 1 << 20
MOST_MIB: Final = 200
FRAME: Final = tables.table("binary", rows=30)
CSV: Final = FRAME.to_csv(index=False).encode()
ENDLESS: Final = {
    "a line": (b"", b"a" * MIB),
    "a row": (CSV, b"a" * MIB),
    "blank lines": (b"", b"\n" * MIB),
    "quoted line ends": (CSV + b'"', b"a\n" * (MIB // 2)),
    "cells on many lines": (CSV, (b'"' + b"a" * 1000 + b'\n",') * 1000),
}


def read(path: Path, form: str = "csv", separator: str = ",") -> object:
    settings = tables.contract(
        "binary", sources=[{"path": path.name, "format": form, "separator": separator}]
    )
    return read_members(parse_settings(DataContract, settings, "it"), path.parent)


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("separator", [",", "whitespace"])
@pytest.mark.parametrize("what", ENDLESS)
def test_a_row_without_end_is_refused_in_the_memory_of_a_row(
    tmp_path: Path, what: str, separator: str
) -> None:
    """600 MiB in less than three; each took more than a gigabyte, or minutes."""
    path = tmp_path / "rows.csv.gz"
    head, again = ENDLESS[what]
    path.write_bytes(gzip.compress(head) + gzip.compress(again) * 600)
    before = peak_mib()
    with pytest.raises((DataError, InputError), match=r"^rows\.csv\.gz: "):
        read(path, separator=separator)
    assert peak_mib() - before < MOST_MIB


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zip"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_small_file_that_unpacks_to_a_very_large_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, form: str
) -> None:
    """Without a limit Parquet fills the disk, and CSV keeps a node busy for hours."""
    monkeypatch.setattr(source, "_UNPACKED_BYTES", MIB)
    data = CSV + CSV.partition(b"\n")[2] * 8000 if form == "csv" else bytes(8 * MIB)
    path = tmp_path / f"rows.{form}{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
            archive.writestr(f"rows.{form}", data)
    else:
        path.write_bytes(gzip.compress(data) if ending == ".gz" else lzma.compress(data))
    monkeypatch.setattr(source, "_UNPACKED_TIMES", len(data) // path.stat().st_size // 2)
    with pytest.raises(InputError, match="times its size; if that is right, unpack it first"):
        read(path, form)


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
def test_a_text_that_a_page_says_often_is_not_written_out(tmp_path: Path, compression: str) -> None:
    """Kilobytes that stand for gigabytes: each of 40,000 rows names a text of 64 KiB."""
    path = tmp_path / "rows.parquet"
    columns = {name: pa.array(FRAME[name].tolist()[:1] * 40_000) for name in FRAME.columns}
    columns["code"] = pa.DictionaryArray.from_arrays(
        pa.array([0] * 40_000, pa.int32()), ["x" * (MIB // 16)]
    )
    pq.write_table(pa.table(columns), path, compression=compression)
    assert path.stat().st_size < MIB
    before = peak_mib()
    with pytest.raises(DataError, match="more than 256 MiB of text in 50000 rows"):
        read(path, "parquet")
    assert peak_mib() - before < MOST_MIB


def test_a_row_group_that_unpacks_to_very_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_UNPACKED_BYTES", MIB // 8)
    monkeypatch.setattr(source, "_UNPACKED_TIMES", 20)
    path = tmp_path / "rows.parquet"
    whole = pa.table({name: FRAME[name].tolist()[:1] * 50_000 for name in FRAME.columns})
    pq.write_table(whole, path, compression="zstd", use_dictionary=False)
    with pytest.raises(InputError, match="a row group unpacks to more than 20 times"):
        read(path, "parquet")


def test_a_packed_file_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    """How much memory it takes to unpack is up to the file: here a dictionary of 4 GiB."""
    path, data = tmp_path / "rows.csv.xz", bytearray(lzma.compress(CSV))
    assert data[14:16] == b"\x21\x01"  # LZMA2, with one byte that says how large
    data[16] = 40
    size = 4 * data[12]
    data[12 + size : 16 + size] = zlib.crc32(data[12 : 12 + size]).to_bytes(4, "little")
    path.write_bytes(data)
    before = peak_mib()
    with pytest.raises(InputError, match="packed in an unknown way; unpack it first"):
        read(path)
    assert peak_mib() - before < MOST_MIB
    with zipfile.ZipFile(tmp_path / "rows.csv.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("rows.csv", CSV)
    with pytest.raises(InputError, match="packed in an unknown way; unpack it first"):
        read(tmp_path / "rows.csv.zip")


def test_streams_one_behind_the_other_are_one_file(tmp_path: Path) -> None:
    half = len(CSV) // 2
    for name, data in (
        ("one", lzma.compress(CSV)),
        ("two", lzma.compress(CSV[:half]) + bytes(8) + lzma.compress(CSV[half:]) + bytes(4)),
    ):
        path = tmp_path / f"{name}.csv.xz"
        path.write_bytes(data)
        found: Any = read(path)
        assert sum(len(one.train) + len(one.test) for one in found.values()) == len(FRAME)
        path.write_bytes(data[:-20])
        with pytest.raises(InputError, match="ends too early"):
            read(path)


@pytest.mark.parametrize("size", [1 << 20, (1 << 31) - 1])
def test_a_page_that_lies_about_its_size_is_refused(tmp_path: Path, size: int) -> None:
    """The uncompressed size in a page's head, a zigzag varint after `0x15`, says another."""
    path = tmp_path / "rows.parquet"
    FRAME.to_parquet(path, compression="zstd", index=False)
    data = path.read_bytes()
    # a page's head: type, then the uncompressed size, then the compressed one (Thrift, compact)
    place = data.index(b"\x15", 6) + 1
    end = next(at for at in range(place, place + 5) if data[at] < 128) + 1
    lie, number = bytearray(), size << 1
    while number >= 128:
        lie.append(number & 127 | 128)
        number >>= 7
    path.write_bytes(data[:place] + bytes([*lie, number]) + data[end:])
    with pytest.raises(InputError, match=r"is damaged|cannot be read"):
        read(path, "parquet")
