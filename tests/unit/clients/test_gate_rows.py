"""Rows read for the gate alone are judged as rows that are read for training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.machines import MEMBERS, Machines, column, contract, overheat, readings, write

from clients.contract import load_contract
from clients.gate import Device, Watched
from clients.gate_rows import gate_rows
from clients.judgement import judged
from clients.members import read_members
from clients.review_store import Looked
from privacy.errors import DataError

RULES = {"interval": 1, "restarts": "boots", "firmware_days": "age", "least_trust": 70,
         "weigh_by_trust": True}  # fmt: skip
MORE = [column("boots"), column("age")]


def frame() -> pd.DataFrame:
    found = overheat(readings(), "n1", range(10, 13))
    found["boots"] = (found["machine"] == "s2").astype(float)
    found["age"] = found["hour"] * 10.0
    return found


def look(seen: Mapping[Device, Watched]) -> Looked:
    due = tuple(one for one, watched in seen.items() if watched.puts_under_review())
    return Looked(standings={}, new=due)


def same(where: Machines) -> None:
    known = load_contract(where.contract)
    whole = read_members(known, where.root)
    found = gate_rows(known, where.root)
    assert list(found) == list(whole) == sorted(MEMBERS)
    for name, rows in whole.items():
        expected, told = judged(rows, known, look)[0], judged(found[name], known, look)[0]
        assert told == expected
        assert told.shares
    assert Device("n1") in judged(found["north"], known, look)[0].left_out


def built(folder: Path, **changes: Any) -> Machines:  # noqa: ANN401 - any key
    columns = changes.pop("columns", contract()["columns"])
    return write(
        folder,
        changes.pop("frame", frame()),
        contract_changes={"gate": RULES, "columns": [*columns, *MORE], **changes},
    )


def test_whatever_the_split_and_whoever_tells_the_member(tmp_path: Path) -> None:
    same(built(tmp_path / "units"))
    uniform = {"kind": "uniform", "seed": 1, "test_share": 0.4}
    same(built(tmp_path / "uniform", split=uniform))
    part = {"name": "part", "type": "text", "role": "part", "class": "L1"}
    told = frame()
    told["part"] = ["train" if hour < 30 else "test" for hour in told["hour"]]
    columns = [*contract()["columns"], part]
    same(built(tmp_path / "told", frame=told, split=None, columns=columns))


def test_of_one_file_of_all_members_only_those_who_are_asked_for(tmp_path: Path) -> None:
    where = built(tmp_path)
    known = load_contract(where.contract)
    some = gate_rows(known, where.root, only=frozenset({"west", "north"}))
    assert [(name, rows.member) for name, rows in some.items()] == [
        ("north", "north"),
        ("west", "west"),
    ]
    assert gate_rows(known, where.root, only=frozenset()) == {}


def test_where_all_rows_are_one_members_it_has_the_name_that_is_given(tmp_path: Path) -> None:
    where = built(tmp_path, members=None)
    known = load_contract(where.contract)
    assert list(gate_rows(known, where.root)) == ["machines"]
    named = gate_rows(known, where.root, sole_member="acme")
    assert [(name, rows.member) for name, rows in named.items()] == [("acme", "acme")]


def test_where_members_have_folders(tmp_path: Path) -> None:
    where = built(tmp_path, members={"folder": "rows"}, sources=[{"path": "a.csv"}])
    whole = frame()
    (where.rows / "a.csv").unlink()
    for name, own in whole.groupby("member"):
        (where.rows / str(name)).mkdir()
        own.to_csv(where.rows / str(name) / "a.csv", index=False)
    same(where)
    known = load_contract(where.contract)
    assert list(gate_rows(known, where.root, only=frozenset({"west"}))) == ["west"]


def test_no_label_is_needed_but_every_row_has_its_time(tmp_path: Path) -> None:
    label = {"name": "bad", "type": "integer", "role": "label", "class": "L3", "range": [0, 1]}
    stratified = {"kind": "stratified", "seed": 1, "test_share": 0.4}
    where = built(
        tmp_path, split=stratified, columns=[*contract()["columns"], label],
        label={"kind": "binary", "column": "bad", "positive": 1},
    )  # fmt: skip
    known = load_contract(where.contract)
    assert list(gate_rows(known, where.root)) == sorted(MEMBERS)
    with pytest.raises(DataError, match="no column bad"):
        read_members(known, where.root)
    rows = frame().astype({"hour": "float"})
    rows.loc[5, "hour"] = None
    rows.to_csv(where.rows / "a.csv", index=False)
    with pytest.raises(DataError, match="hour"):
        gate_rows(known, where.root)
