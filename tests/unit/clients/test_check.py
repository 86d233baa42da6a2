"""What a check tells the owner of the data, and that it keeps rows' values to itself."""

import os
from pathlib import Path

import pytest

from clients.check import CheckReport, check_data
from clients.contract import DataContract, load_contract
from clients.frozen import parse_yaml

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
LOANS = """
contract: 1
name: loans
unit: borrower
sources: [{path: loans.csv}]
columns:
  - {name: who, type: text, role: id, class: L3}
  - {name: bank, type: text, role: member, class: L1}
  - {name: income, type: number, class: L3, range: [0, 100]}
  - {name: job, type: category, class: L2, levels: [a, b]}
  - {name: part, type: text, role: part, class: L1}
  - {name: late, type: integer, role: label, class: L3}
members: {by: [bank]}
label: {kind: binary, column: late}
"""
PUMPS = """
contract: 1
name: pumps
unit: device
sources: [{part: train, path: train.csv}, {part: test, path: test.csv}]
columns:
  - {name: pump, type: text, role: id, class: L3}
  - {name: hour, type: time, role: time, class: L3}
  - {name: heat, type: number, role: sensor, class: L3, range: [0, 9]}
label: {kind: remaining_life, cap: 125}
"""
HEADER = "who,bank,income,job,part,late\n"
WHOLE = (
    "p,north,10,a,train,0\n"
    "q,north,20,b,train,1\n"
    "r,north,30,a,test,1\n"
    "s,south,40,b,train,0\n"
    "t,south,50,a,train,1\n"
    "u,south,60,b,test,0\n"
)


def check(root: Path, rows: str) -> CheckReport:
    (root / "loans.csv").write_text(HEADER + rows)
    return check_data(parse_yaml(DataContract, LOANS, "loans.yaml"), root)


def test_a_whole_table_passes_and_is_counted(tmp_path: Path) -> None:
    report = check(tmp_path, WHOLE)
    assert report.passed
    assert (report.problems, report.warnings) == ((), ())
    assert (report.rows, report.units) == (6, 6)
    assert [(m.name, m.train_rows, m.test_rows, m.units) for m in report.members] == [
        ("north", 2, 1, 3),
        ("south", 2, 1, 3),
    ]
    assert report.members[0].label_mean == pytest.approx(2 / 3)


def test_shares_are_of_all_cells(tmp_path: Path) -> None:
    report = check(
        tmp_path, WHOLE.replace("10,a", ",zz").replace("60,b", "101,").replace("50,a", "-1,a")
    )
    found = {column.name: column for column in report.columns}
    assert found["income"].missing_share == pytest.approx(1 / 6)
    assert found["income"].out_of_range_share == pytest.approx(2 / 6)
    assert found["job"].missing_share == pytest.approx(1 / 6)
    assert found["job"].unlisted_share == pytest.approx(1 / 6)
    assert report.passed
    assert any("income lies outside its range" in text for text in report.warnings)
    assert any("job shows levels that the contract does not list" in t for t in report.warnings)


def test_one_class_over_the_whole_table_is_a_problem(tmp_path: Path) -> None:
    report = check(tmp_path, WHOLE.replace(",1\n", ",0\n"))
    assert not report.passed
    assert any("one class only over the whole table" in text for text in report.problems)


def test_one_class_at_a_member_is_a_warning(tmp_path: Path) -> None:
    rows = WHOLE.replace("t,south,50,a,train,1", "t,south,50,a,train,0")
    report = check(tmp_path, rows)
    assert report.passed
    assert [text for text in report.warnings if "Member south" in text]
    assert not [text for text in report.warnings if "Member north" in text]


def test_a_member_without_training_rows_is_a_problem(tmp_path: Path) -> None:
    report = check(tmp_path, WHOLE + "v,west,70,a,test,1\n")
    assert [text for text in report.problems if "west" in text and "no training rows" in text]


def test_no_test_rows_at_all_is_a_problem(tmp_path: Path) -> None:
    report = check(tmp_path, WHOLE.replace(",test,", ",train,"))
    assert [text for text in report.problems if "no test rows" in text]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("z,north,SECRET,a,train,1\n", "column income, line 8"),
        ("z,north,1,a,train,\n", "column late, line 8"),
        ("z,north,1,a,train\n", "line 8 has 5 fields"),
        ("z,north,inf,a,train,1\n", "column income, line 8"),
    ],
)
def test_a_fault_of_the_data_becomes_a_problem_without_its_value(
    tmp_path: Path, rows: str, named: str
) -> None:
    report = check(tmp_path, WHOLE + rows)
    assert not report.passed
    assert len(report.problems) == 1
    assert named in report.problems[0]
    assert "SECRET" not in report.problems[0]


def test_a_missing_file_becomes_a_problem(tmp_path: Path) -> None:
    report = check_data(parse_yaml(DataContract, LOANS, "loans.yaml"), tmp_path)
    assert not report.passed
    assert "loans.csv: no such file" in report.problems[0]


def test_a_time_that_a_unit_has_twice_is_a_warning(tmp_path: Path) -> None:
    contract = parse_yaml(DataContract, PUMPS, "pumps.yaml")
    header = "pump,hour,heat\n"
    (tmp_path / "train.csv").write_text(header + "a,1,1\na,2,2\na,2,3\nb,2,1\n")
    (tmp_path / "test.csv").write_text(header + "a,1,1\na,2,2\n")
    report = check_data(contract, tmp_path)
    assert report.passed
    # b's hour 2 and the test pump's are rows of other devices
    assert [text for text in report.warnings if text.startswith("1 rows repeat")]
    assert report.units == 3
    (tmp_path / "train.csv").write_text(header + "a,1,1\na,2,2\nb,2,1\n")
    assert check_data(contract, tmp_path).warnings == ()


def test_a_table_without_any_event_is_a_problem(tmp_path: Path) -> None:
    text = PUMPS.replace("{kind: remaining_life, cap: 125}", "{kind: within_horizon, horizon: 1}")
    event = "  - {name: failed, type: integer, role: event, class: L3}\nlabel:"
    contract = parse_yaml(DataContract, text.replace("label:", event), "pumps.yaml")
    header = "pump,hour,heat,failed\n"
    (tmp_path / "test.csv").write_text(header + "a,1,1,0\na,2,2,0\n")
    for failed, passed in ((0, False), (1, True)):
        (tmp_path / "train.csv").write_text(header + f"a,1,1,0\na,2,2,{failed}\n")
        report = check_data(contract, tmp_path)
        assert report.passed is passed
        assert any("Column failed holds no event" in p for p in report.problems) is not passed
        assert report.members[0].label_mean is None


def test_a_member_that_only_the_contract_knows_is_a_problem(tmp_path: Path) -> None:
    rule = "members: {file: {path: who.csv, key: id, column: bank, members: [x, y], test: t}}"
    text = LOANS.replace("members: {by: [bank]}", rule).replace(
        "  - {name: part, type: text, role: part, class: L1}\n", ""
    )
    (tmp_path / "loans.csv").write_text(HEADER + WHOLE)
    named = "".join(f"{who},{bank}\n" for who, bank in zip("pqrstu", "xxxttt", strict=True))
    (tmp_path / "who.csv").write_text("id,bank\n" + named)
    report = check_data(parse_yaml(DataContract, text, "loans.yaml"), tmp_path)
    assert [(m.name, m.train_rows) for m in report.members] == [("x", 3), ("y", 0)]
    assert [text for text in report.problems if text.startswith("Member y has no training rows")]


@pytest.mark.real_data
@pytest.mark.skipif(not (DATA / "cmapss").is_dir(), reason="needs the public data sets")
@pytest.mark.parametrize(
    ("name", "rows", "units", "members"),
    [
        ("cmapss", 265_256, 709 + 707, 12),
        ("fremtpl2", 677_991, 677_991, 12),
        ("uci_credit", 30_000, 30_000, 12),
        ("uci_credit_fate", 30_000, 30_000, 3),
        ("ai4i", 10_000, 10_000, 3),
    ],
)
def test_the_public_sets_keep_their_contracts(
    name: str, rows: int, units: int, members: int
) -> None:
    report = check_data(load_contract(ROOT / "configs" / "contracts" / f"{name}.yaml"), DATA)
    assert (report.problems, report.warnings) == ((), ())
    assert (report.rows, report.units, len(report.members)) == (rows, units, members)
    assert all(column.missing_share == column.unlisted_share == 0 for column in report.columns)
