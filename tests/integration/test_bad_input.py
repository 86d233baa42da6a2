"""Wrong input: one clear sentence, an exit code, nothing half-written, no value of a row."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import tables
from support.cli import assert_one_sentence, tacit

SECRET = "9077.25"  # noqa: S105 - a value that must not be shown


@dataclass(frozen=True)
class Case:
    """A small federation with one thing wrong."""

    says: str
    code: int
    kind: str = "binary"
    contract: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    rows: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    after: Callable[[tables.SmallFederation], None] | None = None


def _text_in_numbers(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(load=rows["load"].astype(str).where(rows.index != 7, f"x{SECRET}"))


def _gap_in_label(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(label=rows["label"].astype(float).where(rows.index != 5))


def _column_gone(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.rename(columns={"amount": "amonut"})


def _cut_plain(where: tables.SmallFederation) -> None:
    data = where.table.read_bytes()
    where.table.write_bytes(data[: data.rfind(b"\n", 0, -1) + 8])


def _cut_packed(where: tables.SmallFederation) -> None:
    packed = gzip.compress(where.table.read_bytes())
    (where.root / "table.csv.gz").write_bytes(packed[: len(packed) // 2])


def _drop_table(where: tables.SmallFederation) -> None:
    where.table.unlink()


def _empty_table(where: tables.SmallFederation) -> None:
    where.table.write_text("")


def _broken_yaml(where: tables.SmallFederation) -> None:
    where.config.write_text("name: [1, 2\n")


def _two_banks(where: tables.SmallFederation) -> None:
    lines = [f"{i + 1},{'north' if i % 2 else 'south'}" for i in range(600)]
    (where.root / "members.csv").write_text("\n".join(["id,bank", *lines, ""]))


CASES = {
    "unknown key in the contract": Case("colums", 2, contract={"colums": []}),
    "unknown key in the config": Case("trainig", 2, config={"trainig": {}}),
    "missing column": Case("amount", 1, rows=_column_gone),
    "text in a numeric column": Case("load", 1, rows=_text_in_numbers),
    "an empty member": Case(
        "nobody",
        1,
        contract={
            "members": {
                "file": {
                    "path": "members.csv",
                    "key": "id",
                    "column": "bank",
                    "members": ["nobody", "north", "south"],
                }
            }
        },
        after=_two_banks,
    ),
    "one class only": Case("one class", 1, rows=lambda rows: rows.assign(label=0)),
    "NaN labels": Case("label", 1, rows=_gap_in_label),
    "a plain file cut in half": Case("table.csv", 1, after=_cut_plain),
    "a packed file cut in half": Case(
        "table.csv.gz", 2, contract={"sources": [{"path": "table.csv.gz"}]}, after=_cut_packed
    ),
    "a negative rate": Case(
        "learning_rate", 2, config={"training": {"rounds": 2, "learning_rate": -0.1}}
    ),
    "an infinite rate": Case(
        "learning_rate", 2, config={"training": {"rounds": 2, "learning_rate": 1e999}}
    ),
    "a missing file": Case("table.csv", 2, after=_drop_table),
    "an empty file": Case("table.csv", 1, after=_empty_table),
    "no YAML": Case("config.yaml", 2, after=_broken_yaml),
    "a task that cannot learn the label": Case("task", 2, config={"task": "failure"}, kind="count"),
    "more averaged models than rounds": Case("average_last", 2, config={"average_last": 9}),
    "unprotected sums": Case("protection.sum", 1, config={"protection": {"sum": "clear"}}),
    "no such protection": Case("protection", 2, config={"protection": "masked"}),
    "groups of too few": Case(
        "group_size",
        2,
        config={"protection": {"robust": "groups", "group_size": 2}},
    ),
    "groups of few members": Case("12 members", 1, config={"protection": {"robust": "groups"}}),
    "too fine a precision": Case("update.precision", 2, config={"update": {"precision": 1e-12}}),
    "two members": Case("2 members", 1, rows=lambda rows: rows[rows["member"] != "west"]),
    "an exposure of zero": Case(
        "exposure", 1, kind="count", rows=lambda rows: rows.assign(exposure=0.0)
    ),
    "a negative count": Case("label", 1, kind="count", rows=lambda rows: rows.assign(label=-1)),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_ends_in_one_sentence(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    rows = tables.table(case.kind)
    where = tables.write(
        tmp_path,
        case.kind,
        rows=case.rows(rows) if case.rows else rows,
        contract_changes=case.contract,
        config_changes=case.config,
    )
    if case.after:
        case.after(where)
    home = tmp_path / "home"
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), "--json",
        home=home,
    )  # fmt: skip
    sentence = assert_one_sentence(found, case.code)
    assert case.says in sentence
    assert SECRET not in found.stderr
    assert found.stdout == ""
    assert not list(home.rglob("*.part"))
    assert not list(home.rglob("model*.safetensors"))
    for state in home.glob("runs/*/state.json"):
        assert json.loads(state.read_text())["state"] == "stopped"
    if (home / "ledger.db").exists():
        assert tacit("audit", "verify", home=home).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("run", "launch", "nowhere.yaml", "--local"), 2, "nowhere.yaml"),
        (("run", "launch", "configs/credit_uci.yaml"), 2, "--local"),
        (
            ("run", "launch", "configs/credit_uci.yaml", "--local", "--data", "nowhere"),
            2,
            "nowhere",
        ),
        (("run", "show", "nothing"), 2, "no runs"),
        (("audit", "verify"), 2, "no ledger"),
        (("audit", "verify", "README.md"), 1, "README.md"),
        (("data", "check", "README.md"), 2, "README.md"),
        (("data", "describe", "nowhere.csv"), 2, "nowhere.csv"),
        (("run", "launch", "configs/credit_uci.yaml", "--local", "--device", "tpu"), 2, "tpu"),
    ],
)
def test_wrong_words_end_in_one_sentence(
    tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    sentence = assert_one_sentence(tacit(*words, home=tmp_path / "home"), code)
    if says != "README.md" or words[0] != "audit":
        assert says in sentence


def test_an_unknown_option_is_wrong_usage(tmp_path: Path) -> None:
    found = tacit("run", "launch", "--nonsense", home=tmp_path)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_path(tmp_path: Path) -> None:
    where = tables.write(tmp_path)
    where.table.chmod(0)
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root),
        home=tmp_path / "home",
    )  # fmt: skip
    assert "table.csv" in assert_one_sentence(found, 2)


def test_a_folder_where_a_file_is_due(tmp_path: Path) -> None:
    where = tables.write(tmp_path)
    where.table.unlink()
    where.table.mkdir()
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root),
        home=tmp_path / "home",
    )  # fmt: skip
    assert "table.csv" in assert_one_sentence(found, 2)


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    where = tables.write(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root),
        home=blocked / "home",
    )  # fmt: skip
    assert "TACIT_HOME" in assert_one_sentence(found, 2)


def test_a_ledger_of_an_earlier_version_is_not_passed_over(tmp_path: Path) -> None:
    where = tables.write(tmp_path / "data")
    home = tmp_path / "home"
    home.mkdir()
    (home / "ledger.jsonl").write_text("{}\n")
    words = ("run", "launch", str(where.config), "--local", "--data", str(where.root))
    said = assert_one_sentence(tacit(*words, home=home), 1)
    assert "ledger.jsonl is a ledger of an earlier version" in said
    assert not (home / "ledger.db").exists()


READ = """
import sys
from pathlib import Path
from clients.source import TableFile, read_tables
from privacy.errors import TacitError

for path in map(Path, sys.argv[1:]):
    form = "parquet" if ".parquet" in path.name else "csv"
    separator = "whitespace" if path.name.startswith("spaced") else ","
    file = TableFile(path, path.name, form, separator)
    try:
        for _ in read_tables(file, {"a": ("a", "number"), "b": ("b", "text")}):
            if path.name.startswith("left"):
                break
    except TacitError as failure:
        sys.stderr.write(f"{failure}\\n")
"""


def test_a_process_that_read_bad_rows_ends_by_itself(tmp_path: Path) -> None:
    """Nothing that read ahead calls for Python's lock while the interpreter ends."""
    lines = ["a,b,c,d"] + ["1,x,2,3"] * 300_000
    whole = "\n".join([*lines, ""])
    ragged = "\n".join([*lines[:4], "1,x,2", *lines[4:], ""])
    long = "\n".join(["a,b" + ",2" * 5_000, *["1,x" + ",2" * 4_999] * 300, ""])
    (tmp_path / "ragged.csv").write_text(ragged)
    (tmp_path / "long.csv").write_text(long)
    (tmp_path / "spaced.csv").write_text(ragged.replace(",", " "))
    (tmp_path / "ragged.csv.gz").write_bytes(gzip.compress(ragged.encode(), 1))
    (tmp_path / "left.csv").write_text(whole)
    (tmp_path / "left.csv.gz").write_bytes(gzip.compress(whole.encode(), 1))
    rows = pd.DataFrame({"a": np.arange(300_000) % 9973, "b": "x"})
    rows.to_parquet(tmp_path / "left.parquet")
    data = bytearray((tmp_path / "left.parquet").read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (tmp_path / "bad.parquet").write_bytes(data)
    names = sorted(path.name for path in tmp_path.iterdir())
    for start in range(10):
        last = start % len(names)
        files = [str(tmp_path / name) for name in names[last + 1 :] + names[: last + 1]]
        command = [sys.executable, "-c", READ, *files]
        done = subprocess.run(  # what hangs never ends: the limit is no measure of anything
            command, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        told = done.stderr.splitlines()
        assert len(told) == sum("left" not in name for name in names), done.stderr
        assert all(line.endswith(".") for line in told)
