"""A draft for a user's own table loads as it is, and tells little about the rows."""

import lzma
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.check import check_data
from clients.contract import DataContract, load_contract
from clients.describe import DISTINCT_LIMIT, Task, describe_table, draft_contract, outward
from clients.members import read_members
from privacy.errors import DataError, InputError

ROWS = 400


def frame() -> pd.DataFrame:
    span = range(ROWS)
    return pd.DataFrame(
        {
            "customer id": [f"c{n // 2}" for n in span],
            "row": list(span),
            "income": [1234.5 + 7.25 * n for n in span],
            "kids": [n % 4 for n in span],
            "job": ["clerk", "yes", "other", 'cook: "head" #1'][0:4] * (ROWS // 4),
            "rare": ["known"] * (ROWS - 3) + ["Mrs Secret", "Mr Secret", "Secret jr"],
            "street": [f"street {n}" for n in span],
            "flag": [None if n % 5 == 0 else 0.5 for n in span],
            "empty": [None] * ROWS,
            "years": [0.1 + (n % 9) / 10 for n in span],
            "claims": [n % 7 // 6 for n in span],
            "bank": ["north", "south"] * (ROWS // 2),
        }
    )


def drafted(root: Path, draft: str) -> DataContract:
    path = root / "drafted.yaml"
    path.write_text(draft)
    return load_contract(path)


def test_a_summary_says_what_columns_hold(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    summary = describe_table(tmp_path / "t.csv")
    assert summary.rows == ROWS
    assert (summary.separator, summary.header, summary.format) == (",", True, "csv")
    found = {c.name: c.guess for c in summary.columns}
    assert found == {
        "customer id": "category",
        "row": "integer",
        "income": "number",
        "kids": "integer",
        "job": "category",
        "rare": "category",
        "street": "text",
        "flag": "number",
        "empty": "empty",
        "years": "number",
        "claims": "integer",
        "bank": "category",
    }
    income = summary.column("income")
    assert (income.low, income.high, income.missing) == (1234.5, 1234.5 + 7.25 * 399, 0)
    assert income.distinct == DISTINCT_LIMIT + 1
    assert income.levels == ()
    assert summary.column("flag").missing == 80
    assert summary.column("kids").top == (("0", 100), ("1", 100), ("2", 100), ("3", 100))
    assert summary.column("row").running
    assert not summary.column("kids").running
    with pytest.raises(InputError, match=r"^t.csv: has no column incom; did you mean income\?$"):
        summary.column("incom")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(tmp_path: Path, separator: str) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False, sep=separator)
    assert describe_table(tmp_path / "t.csv").separator == separator


def test_forms_are_told_by_the_name(tmp_path: Path) -> None:
    frame().drop(columns="empty").to_parquet(tmp_path / "t.parquet")
    packed = lzma.compress((tmp_path / "t.parquet").read_bytes())
    (tmp_path / "t.parquet.xz").write_bytes(packed)
    plain, from_xz = (describe_table(tmp_path / f"t.parquet{end}") for end in ("", ".xz"))
    assert plain.columns == from_xz.columns
    assert plain.format == from_xz.format == "parquet"
    assert plain.column("income").guess == "number"


def test_a_table_without_header_gets_names(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("".join(f"{n // 40} {n % 40} {n * 1.5} \n" for n in range(400)))
    summary = describe_table(tmp_path / "t.txt", header=False)
    assert [c.name for c in summary.columns] == ["column_1", "column_2", "column_3"]
    assert (summary.rows, summary.separator) == (400, "whitespace")
    draft = draft_contract(summary, name="t", id="column_1", time="column_2", task="failure")
    contract = drafted(tmp_path, draft)
    assert contract.is_telemetry
    assert contract.unit == "device"
    assert check_data(contract, tmp_path).passed


@pytest.mark.parametrize(
    ("label", "task", "kind"),
    [
        ("claims", "claims", "count"),
        ("claims", "credit", "binary"),
        ("claims", None, "binary"),
        ("kids", None, "count"),
        ("income", None, "value"),
        ("job", "credit", "binary"),
        ("bank", None, "binary"),
    ],
)
def test_a_draft_with_a_label_loads_and_reads_as_it_is(
    tmp_path: Path, label: str, task: Task | None, kind: str
) -> None:
    frame().to_csv(tmp_path / "t.csv.xz", index=False)
    summary = describe_table(tmp_path / "t.csv.xz")
    draft = draft_contract(
        summary,
        name="mine",
        label=label,
        task=task,
        id="customer id",
        exposure="years" if kind == "count" else None,
    )
    contract = drafted(tmp_path, draft)
    assert contract.label.kind == kind
    assert {c.data_class for c in contract.columns} == {"L3"}
    report = check_data(contract, tmp_path)
    assert report.problems == ()
    assert all(c.out_of_range_share == 0 for c in report.columns)
    found = read_members(contract, tmp_path)
    assert sum(len(one.train) + len(one.test) for one in found.values()) == ROWS


def test_a_draft_names_members_where_asked(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    summary = describe_table(tmp_path / "t.csv")
    draft = draft_contract(summary, name="mine", label="claims", members="bank")
    contract = drafted(tmp_path, draft)
    assert list(read_members(contract, tmp_path)) == ["north", "south"]


def test_a_draft_tells_little_about_the_rows(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    draft = draft_contract(describe_table(tmp_path / "t.csv"), name="mine", label="claims")
    assert "Secret" not in draft
    assert "3 rare levels are left out" in draft
    assert "street 7" not in draft
    assert "1234.5" not in draft
    contract = drafted(tmp_path, draft)
    assert contract.column("income").range == (1200.0, 4200.0)
    assert contract.column("street").role == "ignore"
    assert contract.column("row").role == "ignore"
    assert contract.column("empty").role == "ignore"
    assert contract.column("job").levels == ("clerk", 'cook: "head" #1', "yes")


def test_without_a_label_the_choice_is_open_and_told(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    draft = draft_contract(describe_table(tmp_path / "t.csv"), name="mine")
    assert "# CHOOSE what to learn:" in draft
    with pytest.raises(InputError, match="label: is missing; add it"):
        drafted(tmp_path, draft)


def test_an_unnamed_index_stays_out(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv")
    draft = draft_contract(describe_table(tmp_path / "t.csv"), name="mine", label="claims")
    assert check_data(drafted(tmp_path, draft), tmp_path).passed


def test_names_that_yaml_reads_otherwise_are_quoted(tmp_path: Path) -> None:
    rows = "".join(f"{n % 2},{n},{n * 2}\n" for n in range(40))
    (tmp_path / "t.csv").write_text("no,1e5,__x\n" + rows)
    draft = draft_contract(describe_table(tmp_path / "t.csv"), name="mine", label="no")
    contract = drafted(tmp_path, draft)
    assert [c.file_name for c in contract.columns] == ["no", "1e5", "__x"]
    assert check_data(contract, tmp_path).passed


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        ({"label": "claim"}, "t.csv: has no column claim; did you mean claims?"),
        ({"label": "claims", "id": "claims"}, "named for two roles"),
        ({"time": "row"}, "needs the column that names the device"),
        ({"time": "job", "id": "row"}, "Column job holds no numbers, so it can be no time"),
        ({"label": "claims", "exposure": "job"}, "it can be no exposure"),
        ({"label": "street", "task": "claims"}, "Column street holds no numbers"),
    ],
)
def test_columns_that_cannot_be_what_they_are_named_for(
    tmp_path: Path, roles: dict[str, str], sentence: str
) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    summary = describe_table(tmp_path / "t.csv")
    with pytest.raises(InputError) as failure:
        draft_contract(summary, name="mine", **roles)  # type: ignore[arg-type]
    assert sentence in str(failure.value)


def test_tables_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^t.csv: no such file"):
        describe_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DataError, match=r"^t.csv: is empty"):
        describe_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"^t.csv: has no rows"):
        describe_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n1\n")
    with pytest.raises(DataError, match=r"^t.csv: line 3 has 1 fields where 2 belong"):
        describe_table(tmp_path / "t.csv")


finite = st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(finite, finite)
def test_a_rounded_range_holds_the_values_and_is_short(one: float, two: float) -> None:
    low, high = outward(min(one, two), max(one, two))
    assert low <= min(one, two)
    assert max(one, two) <= high
    assert low < high
    if one != two:
        for bound in (low, high):
            assert float(f"{bound:.2g}") == bound
