"""Rows that keep their contract come through; rows that do not are named, and never shown."""

import gzip
import io
import lzma
import os
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from clients import source as source_module
from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.source import (
    LIFE,
    Chunk,
    TableFile,
    read_chunks,
    read_counted,
    read_tables,
    unit_names,
)
from privacy.errors import DataError, InputError, TacitError

PLANTED = "83517"  # planted in bad cells; no sentence may repeat it


def contract(*, hash_levels: int | None = None, **source: object) -> DataContract:
    open_or_not = {"levels": [-2, 0, "B1"]} if hash_levels is None else {"hash_levels": hash_levels}
    return parse_settings(
        DataContract,
        {
            "contract": 1,
            "name": "loans",
            "unit": "borrower",
            "sources": [{"path": "rows.csv", **source}],
            "columns": [
                {"name": "who", "type": "integer", "role": "id", "class": "L3"},
                {
                    "name": "income",
                    "header": "yearly income [k]",
                    "type": "number",
                    "class": "L3",
                    "range": [0, 100],
                },
                {"name": "kids", "type": "integer", "class": "L3", "range": [0, 9]},
                {"name": "pay", "type": "category", "class": "L2", **open_or_not},
                {"name": "note", "type": "text", "role": "ignore", "class": "L4"},
                {"name": "late", "type": "integer", "role": "label", "class": "L3"},
            ],
            "split": {"kind": "units", "seed": 0, "test_share": 0.5},
            "label": {"kind": "binary", "column": "late"},
        },
        "x",
    )


HEADER = "who,yearly income [k],kids,pay,note,late,extra\n"
GOOD = HEADER + "1,2.5,0,-2,secret,0,9\n2,,3,-2.0,,1,\n3,4,NA,B1,x,0,9\n4,5,1,zzz,x,0,9\n"


def read(
    root: Path,
    what: DataContract | None = None,
    *,
    columns: frozenset[str] | None = None,
    chunk_rows: int = 50_000,
) -> pd.DataFrame:
    what = what or contract()
    (source,) = what.sources
    chunks = read_chunks(what, root, source, columns=columns, chunk_rows=chunk_rows)
    return pd.concat(list(chunks), ignore_index=True)


def counted(root: Path, what: DataContract) -> list[Chunk]:
    return [c for s in what.sources for c in read_counted(what, root, s)]


def one_sentence(failure: pytest.ExceptionInfo[TacitError]) -> str:
    text = str(failure.value)
    assert text[-1] in ".?"
    assert "\n" not in text
    assert ". " not in text
    assert PLANTED not in text
    return text


def test_types_out(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(GOOD)
    rows = read(tmp_path)
    assert list(rows.columns) == ["who", "income", "kids", "pay", "late"]  # no note, no extra
    assert rows["who"].tolist() == ["1", "2", "3", "4"]
    assert rows["who"].dtype == "str"
    assert rows["income"].dtype == rows["kids"].dtype == rows["late"].dtype == np.float64
    np.testing.assert_array_equal(rows["income"], [2.5, np.nan, 4, 5])
    np.testing.assert_array_equal(rows["kids"], [0, 3, np.nan, 1])
    assert rows["pay"].tolist() == ["-2", "-2", "B1", "other"]
    assert rows["pay"].cat.categories.tolist() == ["-2", "0", "B1", "other"]


def test_missing_and_unlisted_cells_are_counted_apart(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(GOOD + "5,6,1,,x,0,9\n")
    (chunk,) = counted(tmp_path, contract())
    assert chunk.missing == {"who": 0, "income": 1, "kids": 1, "pay": 1, "late": 0}
    assert chunk.unlisted == {"pay": 1}
    assert chunk.frame["pay"].tolist()[-1] == "other"


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 4, 5])
def test_chunks_are_no_larger_than_asked_and_lose_nothing(tmp_path: Path, chunk_rows: int) -> None:
    (tmp_path / "rows.csv").write_text(GOOD)
    what = contract()
    chunks = list(read_chunks(what, tmp_path, what.sources[0], chunk_rows=chunk_rows))
    assert max(len(chunk) for chunk in chunks) <= chunk_rows
    pd.testing.assert_frame_equal(pd.concat(chunks, ignore_index=True), read(tmp_path))


def test_only_some_columns_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(GOOD)
    assert list(read(tmp_path, columns=frozenset({"pay"})).columns) == ["pay"]
    assert len(read(tmp_path, columns=frozenset({"pay"}))) == 4
    assert len(read(tmp_path, columns=frozenset())) == 4


def test_headers_may_be_quoted_spaced_and_marked(tmp_path: Path) -> None:
    text = GOOD.replace(HEADER, '"who", "yearly income [k]" ,kids,"pay","note",late,extra\r\n')
    text = text.replace('"who", "yearly income [k]" ', '"who", yearly income [k] ')
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(tmp_path)["income"].tolist()[0] == 2.5


def test_columns_come_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("late,pay,kids,yearly income [k],who\n1,0,2,3,7\n")
    assert read(tmp_path).to_dict("list") == {
        "who": ["7"],
        "income": [3.0],
        "kids": [2.0],
        "pay": ["0"],
        "late": [1.0],
    }


def test_a_headerless_file_follows_the_contracts_order_without_constants(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("  7 3.5\t2   x 1  \n\n8 4 0 y 0\n")
    what = contract(header=False, separator="whitespace", constants={"pay": "B1"})
    rows = read(tmp_path, what)
    assert rows["who"].tolist() == ["7", "8"]
    assert rows["income"].tolist() == [3.5, 4.0]
    assert rows["pay"].tolist() == ["B1", "B1"]
    assert rows["pay"].cat.categories.tolist()[-1] == "other"


def test_constants_come_typed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("who,yearly income [k],late\n1,2,0\n")
    rows = read(tmp_path, contract(constants={"kids": 3, "pay": -2.0}))
    assert rows["kids"].tolist() == [3.0]
    assert rows["pay"].tolist() == ["-2"]


def test_an_id_is_the_same_text_from_any_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        HEADER + "007,1,1,0,x,0,\n8.0,1,1,0,x,0,\n-0012,1,1,0,x,0,\n"
    )
    assert read(tmp_path)["who"].tolist() == ["7", "8", "-12"]
    frame = pd.DataFrame(
        {"who": [7.0, 8.0], "yearly income [k]": [1, 2], "kids": 1, "pay": [-2, 0], "late": True}
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = read(tmp_path, contract(path="rows.parquet", format="parquet"))
    assert rows["who"].tolist() == ["7", "8"]
    assert rows["pay"].tolist() == ["-2", "0"]
    assert rows["late"].tolist() == [1.0, 1.0]


def test_parquet_texts_are_read_like_csv(tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "who": pa.array(["1", "2", "3"]).dictionary_encode(),
                "yearly income [k]": ["1.5", "NA", " 2 "],
                "kids": pa.array([1.0, float("nan"), 2.0]),
                "pay": pa.array([-2.0, None, 5.0]),
                "late": pa.array([0, 1, 0], pa.int8()),
            }
        ),
        tmp_path / "rows.parquet",
    )
    rows = read(tmp_path, contract(path="rows.parquet", format="parquet"))
    np.testing.assert_array_equal(rows["income"], [1.5, np.nan, 2.0])
    np.testing.assert_array_equal(rows["kids"], [1, np.nan, 2])
    assert rows["pay"].tolist() == ["-2", "other", "other"]


def test_folders_and_globs_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "b.csv").write_text(HEADER + "2,1,1,0,x,0,\n")
    (folder / "a.csv.gz").write_bytes(gzip.compress((HEADER + "1,1,1,0,x,0,\n").encode()))
    (folder / ".hidden.csv").write_text("no table")
    (folder / "notes.md").write_text("no table")
    assert read(tmp_path, contract(path="rows"))["who"].tolist() == ["1", "2"]
    assert read(tmp_path, contract(path="rows/b*"))["who"].tolist() == ["2"]
    assert read(tmp_path, contract(path="r*/[ab].*"))["who"].tolist() == ["1", "2"]


def test_a_hashed_category_is_the_code_of_its_text(tmp_path: Path) -> None:
    what = contract(hash_levels=4)
    (tmp_path / "rows.csv").write_text(HEADER + "1,1,1,abc,x,0,\n2,1,1,-2.0,x,0,\n3,1,1,,x,0,\n")
    rows = read(tmp_path, what)
    column = what.column("pay")
    assert rows["pay"].tolist() == [
        str(column.hash_code("abc")),
        str(column.hash_code("-2")),
        "other",
    ]


def plain(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "rows.csv").write_text(text)


def row(
    *, who: str = "1", income: str = "1", kids: str = "1", pay: str = "0", late: str = "0"
) -> str:
    return f"{who},{income},{kids},{pay},x,{late},9\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "rows.csv: is empty"),
        (HEADER, "rows.csv: has no rows"),
        (
            GOOD + row(income=PLANTED + "x"),
            "rows.csv: column yearly income [k], line 6: a number belongs there",
        ),
        (GOOD + "\n\n" + row(kids="x" + PLANTED), "column kids, line 8: a number belongs there"),
        (
            GOOD + '5,1,1,0,"two\nlines",0,9\n' + row(income="?" + PLANTED),
            "column yearly income [k], line 8: a number",
        ),
        (GOOD + row(income="1,5"), "rows.csv: line 6 has 8 fields where 7 belong"),
        (GOOD + "5,1\n", "rows.csv: line 6 has 2 fields where 7 belong"),
        (GOOD + row(income="inf"), "column yearly income [k], line 6: the number is not finite"),
        (GOOD + row(income="1e999"), "column yearly income [k], line 6: the number is not finite"),
        (GOOD + row(kids=PLANTED + ".5"), "column kids, line 6: a whole number belongs there"),
        (GOOD + row(who=PLANTED + ".5"), "column who, line 6: a whole number belongs there"),
        (GOOD + row(who="A" + PLANTED), "column who, line 6: a whole number belongs there"),
        (GOOD + row(who=""), "column who, line 6: the cell is empty"),
        (GOOD + row(late="NA"), "column late, line 6: the cell is empty"),
        (GOOD + row(pay='"' + PLANTED), "a quote may not be closed"),
        (
            GOOD.replace("[k]", "[kk]"),
            "rows.csv: has no column yearly income [k]; did you mean yearly income [kk]?",
        ),
        (
            PLANTED + ",5,6,7,8,9\n" + PLANTED + ",5,6,7,8,9\n",
            "rows.csv: has no column who; check the contract's header and separator.",
        ),
        (
            "whom,83517,kid,5\nwhom,83517,kid,5\n",
            "rows.csv: has no column who; check the contract's header and separator.",
        ),
        (GOOD.replace(",", ";"), "rows.csv: has no column who; check the contract's header and"),
        (GOOD.replace("extra", "late"), "rows.csv: column late is there twice; keep one."),
    ],
)
def test_bad_rows_are_named_not_shown(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(DataError) as failure:
        read(tmp_path)
    assert sentence in one_sentence(failure)


def test_a_bad_cell_in_a_late_chunk_has_its_own_line(tmp_path: Path) -> None:
    text = HEADER + row() * 120_000 + row(kids="0.5") + row() * 5
    (tmp_path / "rows.csv.xz").write_bytes(lzma.compress(text.encode(), preset=0))
    with pytest.raises(DataError, match="column kids, line 120002: a whole number"):
        read(tmp_path, contract(path="rows.csv.xz"))


def test_whitespace_rows_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"1 2 3 0 x 1\n\n2 2 {PLANTED}x 0 x 1\n")
    with pytest.raises(DataError) as failure:
        read(tmp_path, contract(header=False, separator="whitespace"))
    assert "column kids, line 3: a number belongs there" in one_sentence(failure)
    (tmp_path / "rows.csv").write_text(f"1 2 3 0 x 1\n2 2 {PLANTED}\n")
    with pytest.raises(DataError, match="line 2 has 3 fields where 6 belong"):
        read(tmp_path, contract(header=False, separator="whitespace"))
    (tmp_path / "rows.csv").write_text("1 2 3 0 x 1\n\n2 2 0.5 0 x 1\n3 2 3 0 x 1\n")
    with pytest.raises(DataError, match="column kids, line 3: a whole number belongs there"):
        read(tmp_path, contract(header=False, separator="whitespace"))


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("kids", pa.array(["1", "q" + PLANTED]), "column kids, row 2: a number belongs there"),
        ("kids", pa.array([1.0, 2.5]), "column kids, row 2: a whole number belongs there"),
        ("kids", pa.array([1.0, float("inf")]), "column kids, row 2: the number is not finite"),
        ("kids", pa.array([[1], [2]]), "column kids holds list<"),
        ("pay", pa.array([[1], [2]]), "column pay holds list<"),
        ("late", pa.array([1, None]), "column late, row 2: the cell is empty"),
    ],
)
def test_bad_parquet_is_named_not_shown(
    tmp_path: Path, column: str, values: pa.Array, sentence: str
) -> None:
    columns = {
        "who": pa.array([1, 2]),
        "yearly income [k]": pa.array([1.0, 2.0]),
        "kids": pa.array([1, 2]),
        "pay": pa.array(["0", "0"]),
        "late": pa.array([0, 1]),
    }
    pq.write_table(pa.table(columns | {column: values}), tmp_path / "rows.parquet")
    with pytest.raises(DataError) as failure:
        read(tmp_path, contract(path="rows.parquet", format="parquet"))
    assert sentence in one_sentence(failure)


def packed_zip(data: bytes, *, files: int = 1) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for place in range(files):
            archive.writestr(f"{place}.csv", data)
    return out.getvalue()


LONG = (HEADER + "".join(row(who=str(n * 7919 % 10007)) for n in range(60_000))).encode()


@pytest.mark.parametrize("ending", [".gz", ".xz"])
@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_a_file_that_ends_too_early_is_to_be_fetched_again(
    tmp_path: Path, ending: str, kept: float
) -> None:
    data = gzip.compress(LONG) if ending == ".gz" else lzma.compress(LONG)
    (tmp_path / f"rows.csv{ending}").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError) as failure:
        read(tmp_path, contract(path=f"rows.csv{ending}"))
    assert one_sentence(failure) == f"rows.csv{ending}: ends too early; fetch it again."


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zip"])
def test_a_file_that_is_damaged_is_to_be_fetched_again(tmp_path: Path, ending: str) -> None:
    packed = {".gz": gzip.compress(LONG), ".xz": lzma.compress(LONG), ".zip": packed_zip(LONG)}
    data = bytearray(packed[ending])
    for place in range(len(data) // 2, len(data) // 2 + 40):
        data[place] ^= 0xFF
    (tmp_path / f"rows.csv{ending}").write_bytes(bytes(data))
    with pytest.raises((InputError, DataError)) as failure:
        read(tmp_path, contract(path=f"rows.csv{ending}"))
    assert "fetch it again" in one_sentence(failure)


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zip", ""])
def test_another_kind_of_file_is_told(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"rows.parquet{ending}").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError) as failure:
        read(tmp_path, contract(path=f"rows.parquet{ending}", format="parquet"))
    assert "is damaged, or no " in one_sentence(failure)


def test_a_cut_parquet_file_is_told(tmp_path: Path) -> None:
    pd.read_csv(io.BytesIO(LONG)).to_parquet(tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError) as failure:
        read(tmp_path, contract(path="rows.parquet", format="parquet"))
    assert "is damaged, or no Parquet file; fetch it again." in one_sentence(failure)


def test_a_zip_holds_one_file(tmp_path: Path) -> None:
    (tmp_path / "rows.zip").write_bytes(packed_zip(GOOD.encode(), files=2))
    with pytest.raises(InputError) as failure:
        read(tmp_path, contract(path="rows.zip"))
    assert one_sentence(failure) == "rows.zip: holds 2 files; pack exactly one, or unpack it."


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, sentence in [
        ("rows.csv", "rows.csv: no such file at "),
        ("none/*.csv", "none/*.csv: no file below "),
    ]:
        with pytest.raises(InputError) as failure:
            read(tmp_path, contract(path=path))
        assert sentence in one_sentence(failure)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as failure:
        read(tmp_path, contract(path="empty"))
    assert "empty: the folder holds no csv file" in one_sentence(failure)


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(GOOD)
    (tmp_path / "rows.csv").chmod(0)
    with pytest.raises(InputError, match=r"rows.csv: cannot be read \(Permission denied\)"):
        read(tmp_path)


def test_a_refused_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_text(GOOD)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError) as failure:
        read(tmp_path)
    assert one_sentence(failure) == "rows.csv: cannot be read (Permission denied); check the file."


def test_text_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    for text in (GOOD + row(pay="é"), GOOD.replace("extra", "é")):
        (tmp_path / "rows.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError) as failure:
            read(tmp_path)
        assert one_sentence(failure) == "rows.csv: is not UTF-8 text; save it as UTF-8."


def test_memory_follows_the_chunk_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_BLOCK_BYTES", 2**16)

    def peak_bytes(rows: int) -> int:
        path = tmp_path / f"{rows}.csv.gz"
        path.write_bytes(gzip.compress(LONG[: len(HEADER)] + row().encode() * rows, 1))
        what = contract(path=path.name)
        tracemalloc.start()
        arrow = pa.total_allocated_bytes()
        most = 0
        for _ in read_chunks(what, tmp_path, what.sources[0], chunk_rows=5_000):
            most = max(most, pa.total_allocated_bytes() - arrow)
        python = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most + python

    # both are far beyond what is read ahead, so a reader that keeps rows needs three times as much
    small, large = peak_bytes(400_000), peak_bytes(1_200_000)
    assert large < 1.5 * small


def telemetry(life: str) -> DataContract:
    return parse_settings(
        DataContract,
        {
            "contract": 1,
            "name": "pumps",
            "unit": "device",
            "unit_key": ["site", "pump"],
            "sources": [
                {
                    "part": "test",
                    "path": "rows.csv",
                    "constants": {"site": "s1"},
                    "remaining_life": life,
                }
            ],
            "columns": [
                {"name": "pump", "type": "integer", "role": "id", "class": "L3"},
                {"name": "hour", "type": "time", "role": "time", "class": "L3"},
                {
                    "name": "heat",
                    "type": "number",
                    "role": "sensor",
                    "class": "L3",
                    "range": [0, 9],
                },
                {
                    "name": "site",
                    "type": "category",
                    "role": "group",
                    "class": "L1",
                    "levels": ["s1", "s2"],
                },
            ],
            "label": {"kind": "remaining_life", "cap": 125},
        },
        "x",
    )


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".zip"])
@pytest.mark.parametrize("separator", [",", "whitespace"])
def test_no_thread_but_the_callers_reads_a_csv_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, separator: str
) -> None:
    """Arrow's threads outlive an error; one that calls Python at exit ends it with a signal."""
    readers: set[int] = set()
    plain = source_module._plain

    class Watched:
        def __init__(self, stream: IO[bytes]) -> None:
            self._stream = stream
            self.closed = False  # as Arrow asks, where it reads by itself

        def read(self, size: int) -> bytes:
            readers.add(threading.get_ident())
            return self._stream.read(size)

        def readable(self) -> bool:
            return True

        def close(self) -> None:
            self.closed = True

    @contextmanager
    def watched(file: TableFile) -> Iterator[Any]:
        with plain(file) as stream:
            yield Watched(stream)

    apart = "," if separator == "," else " "
    text = (apart.join("ab") + "\n" + (apart.join("12") + "\n") * 500_000).encode()
    packed: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".xz": lzma.compress,
        ".zip": packed_zip,
    }
    path = tmp_path / f"rows.csv{ending}"
    path.write_bytes(packed[ending](text))
    file = TableFile(path=path, shown="rows.csv", separator=separator)
    monkeypatch.setattr(source_module, "read_header", lambda _: ("a", "b"))
    monkeypatch.setattr(source_module, "_plain", watched)
    tables = read_tables(file, {"a": ("a", "number")})
    assert sum(table.num_rows for table in tables) == 500_000
    assert readers == {threading.get_ident()}


ROWS = [
    b"",
    b"1,x\n2,y\n",
    b'1,"x\ny"\n2,"a "" b"\n3,"\r\n"\n',
    b'1,"x"\r\n\r\n\n2,y"y\r\n3,"z" and "more"\n',
    b'"1","x,\n,"\r"2",""\r3,\r',
    b'1,"x"\n2,"last line, \n without end"',
    b"1,\xc3\xa4\n2,last",
]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("header", [b"a,b\n", b'"a","b"\r\n', b'a,"b\nb"\n'])
def test_rows_are_the_same_whatever_a_block_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: bytes, mark: bytes, header: bytes
) -> None:
    data = mark + header + rows
    (tmp_path / "rows.csv").write_bytes(data)
    file = TableFile(path=tmp_path / "rows.csv", shown="rows.csv")
    fields: dict[str, tuple[str, source_module.Kind]] = {
        "a": ("a", "number"),
        "b": ("b\nb" if b"\nb" in header else "b", "text"),
    }
    whole = pacsv.read_csv(
        pa.BufferReader(data),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types={"a": pa.float64(), fields["b"][0]: pa.string()},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    for size in range(1, 40):
        monkeypatch.setattr(source_module, "_BLOCK_BYTES", size)
        found = list(read_tables(file, fields))
        assert pa.concat_tables(found).to_pydict() == dict(
            zip("ab", whole.to_pydict().values(), strict=True)
        )


def test_lives_fall_to_units_by_first_appearance(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("pump,hour,heat\n9,1,1\n9,2,1\n4,1,1\n9,3,1\n4,2,1\n")
    (tmp_path / "life.txt").write_text("112 \n7.5\n\n")
    what = telemetry("life.txt")
    for chunk_rows in (1, 2, 50):
        rows = read(tmp_path, what, chunk_rows=chunk_rows)
        assert rows[LIFE].tolist() == [112, 112, 7.5, 112, 7.5]
    assert unit_names(read(tmp_path, what), what).tolist() == [
        "s1|9",
        "s1|9",
        "s1|4",
        "s1|9",
        "s1|4",
    ]


@pytest.mark.parametrize(
    ("life", "sentence"),
    [
        ("112\n", "life.txt: has fewer lines than there are units"),
        ("112\n7\n8\n", "life.txt: has more lines than there are units"),
        ("112\n-7\n", "life.txt: holds a life below 0"),
        (f"112\nx{PLANTED}\n", "life.txt: column life, line 2: a number belongs there"),
        ("112 3\n7 3\n", "life.txt: line 1 has 2 fields where 1 belong"),
    ],
)
def test_lives_that_do_not_fit_are_refused(tmp_path: Path, life: str, sentence: str) -> None:
    (tmp_path / "rows.csv").write_text("pump,hour,heat\n9,1,1\n4,2,1\n")
    (tmp_path / "life.txt").write_text(life)
    with pytest.raises(DataError) as failure:
        read(tmp_path, telemetry("life.txt"))
    assert sentence in one_sentence(failure)


def test_time_is_never_missing(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("pump,hour,heat\n9,1,1\n9,,1\n")
    (tmp_path / "life.txt").write_text("1\n")
    with pytest.raises(DataError, match="column hour, line 3: the cell is empty"):
        read(tmp_path, telemetry("life.txt"))
