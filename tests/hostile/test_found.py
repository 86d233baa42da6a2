"""What mutants found, each as the fewest bytes that showed it."""

import base64
import re
import zipfile
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.corpus import corpus
from hostile.decoders import DECODERS
from support import tables
from support.federations import Federated

from federation.invitation import PREFIX, Token
from privacy.errors import InputError, TacitError

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = {one.name: one for one in DECODERS}


def refusal(name: str, data: bytes, folder: Path) -> str:
    """What a decoder says of wrong bytes: one sentence."""
    with pytest.raises(TacitError) as told:
        TABLE[name].read(data, folder)
    said = str(told.value)
    assert said.isprintable()
    return said


def test_an_invitation_is_one_text(tmp_path: Path) -> None:
    """Bits of its last character that stand for nothing were whatever they liked."""
    federated = Federated(tmp_path)
    tokens = [federated.invite(f"bank-{'x' * more}", "bank") for more in range(3)]
    loose = 0
    for line in (one.reveal() for one in tokens):
        body = line.removeprefix(PREFIX)
        whole = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        for last in "AEIMQUYcgkosw048BCDFGHJKLNOPRSTVWXZabdefhijlmnpqrtuvxyz1235679-_":
            other = body[:-1] + last
            same = base64.urlsafe_b64decode(other + "=" * (-len(other) % 4)) == whole
            if other != body and same:
                loose += 1
                with pytest.raises(InputError):
                    Token.parse(PREFIX + other)
    assert loose >= 3


def test_words_of_a_file_are_told_in_one_line(tmp_path: Path) -> None:
    """Names of keys that JSON spells with a line end, and what steers a terminal."""
    for name, data in (
        ("manifest", rb'{"a\nb":1,"format":4}'),
        ("receipt", rb'{"a\nb":1}'),
        ("node spec", rb'{"a\u001b[2Jb":1}'),
        ("coordinator plan", rb'{"a\u202eb":1}'),
    ):
        assert refusal(name, data, tmp_path)


def test_a_notebook_has_one_form(tmp_path: Path) -> None:
    """A number in more bytes than it needs was taken."""
    read = TABLE["progress"].read
    right = corpus(tmp_path)["progress"][0]
    read(right, tmp_path)
    place = right.index(b"\xa6undone\x00") + 7
    assert refusal("progress", right[:place] + b"\xcc\x00" + right[place + 1 :], tmp_path)


def test_an_archive_of_a_file_without_a_name_is_read_like_any_other(tmp_path: Path) -> None:
    """A name that begins with a zero byte is empty to the library, which looks at its last one."""
    with zipfile.ZipFile(tmp_path / "it", "w") as archive:
        archive.writestr("rows.csv", b"x")
    data = (tmp_path / "it").read_bytes().replace(b"rows.csv", b"\0ows.csv")
    assert "has no column id" in refusal("csv in zip", data, tmp_path)


def test_numbers_that_arrow_cannot_hold_are_a_damaged_file(tmp_path: Path) -> None:
    """It says so by an error that is also one of Python's own, as an unknown packing is."""
    pq.write_table(pa.table({"a": pa.array([1], pa.int32())}), tmp_path / "it")
    schema = pq.read_metadata(tmp_path / "it").metadata[b"ARROW:schema"]
    bits = (32).to_bytes(4, "little")
    raw = base64.b64decode(schema)
    assert raw.count(bits) >= 1
    wider = base64.b64encode(raw.replace(bits, (96).to_bytes(4, "little")))
    data = (tmp_path / "it").read_bytes().replace(schema, wider)
    assert "is damaged, or no Parquet file" in refusal("parquet", data, tmp_path)


def test_a_bad_cell_is_told_although_another_column_is_no_text(tmp_path: Path) -> None:
    """Where its line was looked for, bytes of a column that nobody reads raised."""
    frame = tables.table("binary", rows=2_000)
    number = next(name for name in frame if frame[name].dtype.kind == "f")
    cells: Any = frame.astype(object)
    cells.loc[1_900, number] = "inf"
    header, *rows = cells.to_csv(index=False).encode().splitlines()
    ends = [b",\xff" if place == 1_500 else b"," for place in range(len(rows))]
    lines = [header + b",note", *(row + end for row, end in zip(rows, ends, strict=True))]
    said = refusal("csv", b"\n".join(lines) + b"\n", tmp_path)
    assert f"column {number}, row 1901" in said


def test_a_bad_cell_is_told_although_a_quote_is_never_closed(tmp_path: Path) -> None:
    """Its line was looked for by a reader that is stricter than the one that had read it."""
    said = refusal("csv", b'id,member,load,amount,code,label\nb0,n,1,1,4,"\n', tmp_path)
    assert "column id, row 1" in said


def test_a_text_in_parquet_that_is_none_is_a_damaged_file(tmp_path: Path) -> None:
    frame = tables.table("binary", rows=30)
    text = next(name for name in frame if isinstance(frame[name].iloc[0], str))
    frame.to_parquet(tmp_path / "it", index=False, compression=None)
    right, found = (tmp_path / "it").read_bytes(), 0
    for value in {*frame[text]}:
        word = len(value).to_bytes(4, "little") + value.encode()
        if word in right:
            found += 1
            wrong = right.replace(word, word[:4] + b"\xed" + word[5:])
            assert "is damaged, or no Parquet file" in refusal("parquet", wrong, tmp_path)
    assert found


def test_a_log_of_terms_that_is_nested_without_end_is_none(tmp_path: Path) -> None:
    assert "is no log of terms" in refusal("terms log", b"[" * 20_000 + b"\n", tmp_path)


@pytest.mark.parametrize("digits", [309, 400])
def test_a_range_beyond_any_float_is_none(tmp_path: Path, digits: int) -> None:
    text = (ROOT / "configs" / "contracts" / "ai4i.yaml").read_text("utf-8")
    changed, count = re.subn(r"range: \[290, 310\]", f"range: [290, {'9' * digits}]", text)
    assert count == 1
    assert "expected two numbers, low before high" in refusal(
        "contract", changed.encode(), tmp_path
    )


@pytest.mark.parametrize(
    "line", [b"budgets: [{datase\n\n f, epsilon: 4.0}]\n", b'"a\\e[2J": 1\n"b": 2\n']
)
def test_a_key_is_told_in_one_line(tmp_path: Path, line: bytes) -> None:
    assert "unknown key" in refusal("policy", line, tmp_path)
