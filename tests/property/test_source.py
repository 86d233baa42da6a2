"""A table reads back the same from every form in which it can be kept."""

import gzip
import lzma
import math
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.source import read_chunks

numbers = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=64))
wholes = st.integers(-(2**53), 2**53)
# what a level or a text may hold, short of signs that end a line in some editor but not in CSV
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1
).filter(lambda text: text.strip() == text and text not in {"NA", "NaN", "nan", "null"})
words = st.text("abcXYZ09_-#", min_size=1).filter(lambda t: t not in {"NA", "nan", "null"})
FORMS = ["", ".gz", ".xz", ".zip"]


def contract(path: str, form: str, separator: str, *, header: bool) -> DataContract:
    return parse_settings(
        DataContract,
        {
            "contract": 1,
            "name": "any",
            "unit": "device",
            "sources": [{"path": path, "format": form, "separator": separator, "header": header}],
            "columns": [
                {"name": "who", "type": "integer", "role": "id", "class": "L1"},
                {"name": "x", "type": "number", "class": "L1", "range": [0, 1]},
                {"name": "word", "type": "text", "role": "member", "class": "L1"},
                {"name": "level", "type": "category", "class": "L1", "levels": ["a", "b"]},
                {"name": "y", "type": "integer", "role": "label", "class": "L1"},
            ],
            "split": {"kind": "units", "seed": 0, "test_share": 0.5},
            "label": {"kind": "binary", "column": "y"},
        },
        "x",
    )


def pack(path: Path, ending: str) -> Path:
    packed = path.with_name(path.name + ending)
    if ending == ".gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    elif ending == ".xz":
        packed.write_bytes(lzma.compress(path.read_bytes(), preset=0))
    elif ending == ".zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(path, path.name)
    return packed


def rows_of(word: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[object, ...]]]:
    one = st.tuples(wholes, numbers, word, st.sampled_from(["a", "b", "c", None]), wholes)
    return st.lists(one, min_size=1, max_size=20)


def check(rows: list[tuple[object, ...]], path: Path, what: DataContract, chunk_rows: int) -> None:
    chunks = list(read_chunks(what, path.parent, what.sources[0], chunk_rows=chunk_rows))
    back = pd.concat(chunks, ignore_index=True)
    who, x, word, level, y = zip(*rows, strict=True)
    assert back["who"].tolist() == [str(value) for value in who]
    np.testing.assert_array_equal(
        back["x"], np.array([math.nan if value is None else value for value in x], dtype=float)
    )
    assert back["word"].tolist() == list(word)
    assert back["level"].tolist() == ["other" if v in {"c", None} else v for v in level]
    assert back["y"].tolist() == [float(str(value)) for value in y]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", FORMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_csv(separator: str, ending: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of(texts))
    header = data.draw(st.booleans())
    mark = data.draw(st.sampled_from(["utf-8", "utf-8-sig"]))
    line = data.draw(st.sampled_from(["\n", "\r\n"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        frame = pd.DataFrame(rows, columns=["who", "x", "word", "level", "y"], dtype=object)
        frame.to_csv(
            path, sep=separator, index=False, header=header, encoding=mark, lineterminator=line
        )
        packed = pack(path, ending)
        what = contract(packed.name, "csv", separator, header=header)
        check(rows, packed, what, data.draw(st.integers(1, 25)))


@pytest.mark.parametrize("ending", FORMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whitespace(ending: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of(words))
    gap = data.draw(st.sampled_from([" ", "  ", "\t", " \t "]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.txt"
        lines = [gap.join("NA" if v is None else str(v) for v in one) for one in rows]
        text = "".join(f"{data.draw(st.sampled_from(['', gap]))}{one}{gap}\n" for one in lines)
        path.write_text("who x word level y\n" + text)
        packed = pack(path, ending)
        check(rows, packed, contract(packed.name, "csv", "whitespace", header=True), 7)


@pytest.mark.parametrize("ending", FORMS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_parquet(ending: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of(texts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        frame = pd.DataFrame(rows, columns=["who", "x", "word", "level", "y"])
        frame["x"] = frame["x"].astype("float64")
        frame["level"] = frame["level"].astype("str")
        groups = data.draw(st.integers(1, 30))
        frame.to_parquet(path, row_group_size=groups)
        packed = pack(path, ending)
        check(rows, packed, contract(packed.name, "parquet", ",", header=True), 7)
