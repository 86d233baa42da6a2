"""What a contract may say, and what it is told when it says something else."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clients.contract import Column, DataContract, Regime, level_text, load_contract
from clients.frozen import MAX_FILE_BYTES, Frozen, parse_yaml
from privacy.errors import InputError

CONTRACTS = Path(__file__).parents[3] / "configs" / "contracts"

TABLE: dict[str, Any] = {
    "contract": 1,
    "name": "loans",
    "unit": "borrower",
    "sources": [{"path": "loans.csv"}],
    "columns": [
        {"name": "who", "type": "integer", "role": "id", "class": "L3"},
        {"name": "income", "type": "number", "class": "L3", "range": [0, 100]},
        {"name": "job", "type": "category", "class": "L2", "levels": ["a", "b"]},
        {"name": "late", "type": "integer", "role": "label", "class": "L3"},
    ],
    "split": {"kind": "units", "seed": 0, "test_share": 0.5},
    "label": {"kind": "binary", "column": "late"},
}
TELEMETRY: dict[str, Any] = {
    "contract": 1,
    "name": "pumps",
    "unit": "device",
    "sources": [{"path": "pumps.csv"}],
    "columns": [
        {"name": "pump", "type": "text", "role": "id", "class": "L3"},
        {"name": "hour", "type": "time", "role": "time", "class": "L3"},
        {"name": "heat", "type": "number", "role": "sensor", "class": "L3", "range": [0, 9]},
        {"name": "load", "type": "number", "role": "setting", "class": "L3", "range": [0, 1]},
    ],
    "split": {"kind": "units", "seed": 0, "test_share": 0.5},
    "label": {"kind": "remaining_life", "cap": 125},
}


def build(value: dict[str, Any]) -> DataContract:
    return parse_yaml(DataContract, yaml.safe_dump(value), "x.yaml")


def table(change: Callable[[dict[str, Any]], object] = lambda _: None) -> dict[str, Any]:
    value = copy.deepcopy(TABLE)
    change(value)
    return value


def put(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(root: dict[str, Any]) -> None:
        here: Any = root
        for key in path[:-1]:
            here = here[key]
        here[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(root: dict[str, Any]) -> None:
        here: Any = root
        for key in path[:-1]:
            here = here[key]
        del here[path[-1]]

    return change


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_contract_loads_under_its_own_name(path: Path) -> None:
    contract = load_contract(path)
    assert contract.name == path.stem
    assert len(contract.digest) == 64


def test_the_shipped_contracts_are_the_four_sets() -> None:
    assert {p.stem for p in CONTRACTS.glob("*.yaml")} >= {
        "ai4i",
        "cmapss",
        "fremtpl2",
        "uci_credit",
        "uci_credit_fate",
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("columns", 1, "range", value=[3]), "columns[1].range: expected two numbers, low"),
        (put("columns", 1, "range", value=[3, 3]), "columns[1].range: expected two numbers, low"),
        (put("columns", 1, "range", value=[0, True]), "columns[1].range: expected two numbers"),
        (put("columns", 1, "range", value=[0, math.inf]), "columns[1].range: expected two"),
        (put("columns", 1, "range", value="0-9"), "columns[1].range: expected two numbers"),
        (drop("columns", 1, "range"), "columns[1]: range is missing"),
        (drop("columns", 1, "class"), "columns[1].class: is missing; add it."),
        (put("columns", 1, "class", value="L5"), "columns[1].class: expected L1, L2, L3 or L4"),
        (put("columns", 1, "rnage", value=1), "columns[1]: unknown key rnage; did you mean range?"),
        (put("colums", value=[]), "x.yaml: unknown key colums; did you mean columns?"),
        (put("label", "colum", value="x"), "label: unknown key colum; did you mean column?"),
        (put("split", "share", value=1), "split: unknown key share; did you mean test_share?"),
        (put("split", "zzzz", value=1), "split: unknown key zzzz; known here are kind, seed, te"),
        (put("columns", 2, "levels", value=[]), "columns[2].levels: expected one level or more"),
        (put("columns", 2, "levels", value=[1, "1.0"]), "columns[2].levels: expected one level"),
        (put("columns", 2, "levels", value=["other"]), "columns[2].levels: leave `other` out"),
        (put("columns", 2, "levels", value=[True]), "columns[2].levels: expected texts or numb"),
        (drop("columns", 2, "levels"), "columns[2]: a category needs levels, or hash_levels"),
        (put("columns", 2, "hash_levels", value=8), "columns[2]: give levels or hash_levels, not"),
        (put("columns", 2, "range", value=[0, 1]), "columns[2]: a category column has no range"),
        (put("columns", 1, "levels", value=["a"]), "columns[1]: a number column has no levels"),
        (put("columns", 1, "type", value="text"), "columns[1]: a text column has no range"),
        (put("columns", 1, "name", value="__y"), "columns[1].name: names that begin with __"),
        (put("columns", 1, "name", value="who"), "columns[1]: who is there twice"),
        (put("columns", 1, "header", value="who"), "columns[1]: who is there twice"),
        (put("columns", 1, "role", value="id"), "an id is an integer, a text or a category"),
        (put("columns", 1, "role", value="time"), "columns[1]: role time and type time belong"),
        (put("columns", 2, "role", value="sensor"), "columns[2]: a column of role sensor is a n"),
        (put("columns", 1, "also_feature", value=True), "columns[1]: also_feature is for"),
        (put("columns", value=[]), "columns: "),
        (put("columns", 2, "role", value="label"), "columns: two have role label; one may"),
        (put("contract", value=2), "contract: expected 1"),
        (put("unit", value="Borrower!"), "unit: should match pattern"),
        (put("name", value=7), "name: expected text; put quotes around it."),
        (put("label", "column", value="lat"), "no column lat; did you mean late"),
        (put("label", "column", value="income"), "label.column: give column income the role"),
        (put("label", "positive", value="yes"), "label.positive: late holds numbers"),
        (put("label", "kind", value="ordinal"), "label: kind: expected "),
        (drop("label", "kind"), "label: kind is missing; add it."),
        (put("label", value={"kind": "value", "column": "late"}), "late needs a range"),
        (
            put("label", value={"kind": "count", "column": "late", "exposure": "income"}),
            "label.exposure: give column income the role exposure",
        ),
        (
            put("label", value={"kind": "count", "column": "late", "exposure_cap": 1}),
            "label: exposure_cap needs exposure",
        ),
        (put("label", value={"kind": "remaining_life", "cap": 9}), "needs a column of role time"),
        (drop("split"), "split: is missing; add for example"),
        (put("split", "test_share", value=1), "split.test_share: should be less than 1"),
        (put("sources", 0, "part", value="test"), "split: no source has part all; remove split"),
        (drop("columns", 0), "split: kind units needs a column of role id"),
        (put("sources", value=[]), "sources: "),
        (put("sources", 0, "path", value="/etc/passwd"), "sources[0].path: expected a path below"),
        (put("sources", 0, "path", value="a/../../b"), "sources[0].path: expected a path below"),
        (put("sources", 0, "separator", value=",,"), "sources[0].separator: expected one char"),
        (put("sources", 0, "constants", value={"nope": 1}), "sources[0].constants: the contract"),
        (put("sources", 0, "constants", value={"income": "x"}), "expected a number"),
        (put("sources", 0, "remaining_life", value="r"), "remaining_life is for a source of part"),
        (put("members", value={}), "members: expected exactly one of by, file and folder"),
        (put("members", value={"by": ["income"], "folder": "x"}), "members: expected exactly one"),
        (put("members", value={"by": []}), "members.by: "),
        (put("members", value={"by": ["jo"]}), "members.by[0].column: the contract has no column"),
        (
            put("members", value={"by": [{"column": "job", "modulo": 3}]}),
            "members.by[0].column: modulo needs an integer column",
        ),
        (
            put("members", value={"by": [{"column": "job", "edges": [1, 2]}]}),
            "members.by[0].column: edges need a numeric column",
        ),
        (
            put("members", value={"by": [{"column": "income", "edges": [2, 2]}]}),
            "members.by[0].edges: expected one number or more, each above the one before",
        ),
        (
            put("members", value={"by": [{"column": "job", "largest": 3, "edges": [1]}]}),
            "members.by[0]: give one of modulo, largest and edges",
        ),
        (
            put("members", value={"by": [{"column": "job", "rest": "x"}]}),
            "members.by[0]: rest belongs to largest",
        ),
        (
            put(
                "members",
                value={"file": {"path": "m", "key": "k", "column": "c", "members": ["a", "a"]}},
            ),
            "members.file: members and test must differ",
        ),
        (put("unit_key", value=["nobody"]), "unit_key[0]: the contract has no column nobody"),
        (put("regime", value={"column": "job", "levels": [1]}), "job is no numeric column"),
        (put("regime", value={"column": "income", "levels": []}), "regime.levels: expected one"),
    ],
)
def test_a_wrong_contract_is_one_sentence(
    change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    build(table())
    with pytest.raises(InputError) as failure:
        build(table(change))
    text = str(failure.value)
    assert sentence in text
    assert text.startswith("x.yaml: ")
    assert text[-1] in ".?"
    assert "\n" not in text
    assert "pydantic" not in text


@pytest.mark.parametrize("role", ["id", "time", "sensor"])
def test_telemetry_needs_its_roles(role: str) -> None:
    value = copy.deepcopy(TELEMETRY)
    build(value)
    value["columns"] = [c for c in value["columns"] if c["role"] != role]
    with pytest.raises(InputError, match=f"needs a column of role {role}"):
        build(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2\n", "x.yaml: line 2: key a is given twice; keep one."),
        ("a: {b: 1, b: 2}\n", "x.yaml: line 1: key b is given twice; keep one."),
        ("a: &x 1\nb: *x\n", "x.yaml: line 2: aliases"),
        ("a: [1\n", "x.yaml: line 2: is not YAML"),
        ("yes: 1\n", "x.yaml: a key is no text; put quotes around"),
        ("a: {1: 2}\n", "x.yaml: a: a key is no text; put quotes around"),
        ("a: 2024-01-02\n", "x.yaml: a: expected text, a number, true or false; put quotes"),
        ("a: 2024-13-45\n", "x.yaml: is not YAML that can be read"),
        ("a: !!python/object/apply:os.getcwd []\n", "is not YAML"),
        ("", "x.yaml: expected `key: value` lines at the top."),
        ("- a\n", "x.yaml: expected `key: value` lines at the top."),
        ("[" * MAX_FILE_BYTES, "x.yaml: is nested too deeply"),
        ("[" * 33 + "]" * 33, "x.yaml: is nested too deeply; make it flatter."),
        ("a: " + "x" * MAX_FILE_BYTES, "x.yaml: is larger than 1 MiB; make it smaller."),
        ("a: \x00\n", "x.yaml: is not YAML"),
    ],
    ids=range(15),
)
def test_hostile_yaml_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as failure:
        parse_yaml(DataContract, text, "x.yaml")
    assert sentence in str(failure.value)
    assert "\n" not in str(failure.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; check the path"):
        load_contract(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_contract(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("title: Zürich".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_contract(path)
    path.write_bytes(b"a: " + "ü".encode() * MAX_FILE_BYTES)
    with pytest.raises(InputError, match="larger than 1 MiB"):
        load_contract(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "loans.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + yaml.safe_dump(TABLE).encode())
    assert load_contract(path).name == "loans"


def test_the_digest_follows_the_meaning_and_nothing_else() -> None:
    digest = build(table()).digest
    reordered = dict(reversed(table().items()))
    assert build(reordered).digest == digest
    assert build(table(put("label", "positive", value=1))).digest == digest  # the default
    assert build(table(put("columns", 1, "range", value=[0.0, 100.0]))).digest == digest
    assert build(table(put("columns", 1, "range", value=[0, 101]))).digest != digest
    assert build(table(put("columns", 1, "class", value="L4"))).digest != digest
    swapped = table(lambda v: v["columns"].reverse())
    assert build(swapped).digest != digest  # a headerless file is read in this order


def test_a_contract_cannot_be_changed() -> None:
    contract = build(table())
    with pytest.raises(ValueError, match="frozen"):
        contract.name = "other"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (-2, "-2"),
        (-2.0, "-2"),
        ("-2.0", "-2"),
        (" -2 ", "-2"),
        ("+3", "3"),
        ("-0.0", "0"),
        (0, "0"),
        ("007", "007"),
        ("7.50", "7.50"),
        ("B12", "B12"),
        ("1.0.0", "1.0.0"),
    ],
)
def test_a_level_has_one_spelling(given: str | float, shown: str) -> None:
    assert level_text(given) == shown
    assert level_text(level_text(given)) == shown


def test_categories_end_with_other() -> None:
    column = build(table()).column("job")
    assert column.categories == ("a", "b", "other")
    hashed = Column.model_validate(
        {"name": "word", "type": "category", "class": "L2", "hash_levels": 3}
    )
    assert hashed.categories == ("0", "1", "2", "other")
    # SHA-256("abc") = ba7816bf...f20015ad, whose last byte decides mod 2 and digits' sum mod 3
    value = int("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 16)
    assert hashed.hash_code("abc") == value % 3


def test_roles_are_found_by_name() -> None:
    contract = build(copy.deepcopy(TELEMETRY))
    assert contract.is_telemetry
    assert [c.name for c in contract.inputs] == ["heat", "load"]
    assert contract.features == ()
    assert [c.name for c in contract.unit_columns] == ["pump"]
    assert contract.time_column is not None
    assert contract.time_column.name == "hour"
    assert contract.label_column is None
    assert contract.groups == ()


def test_a_condition_is_the_nearest_level() -> None:
    regime = Regime(column="s", levels=(0.0, 10.0, 20.0, 25.0, 35.0, 42.0))
    values = np.array([0.4, -7, 9.7, 15.6, 14.4, 42.008, 1e9, math.nan])
    assert regime.index(values).tolist() == [0, 0, 1, 2, 1, 5, 5, 0]


def test_decimals_round_before_the_nearest_level_is_taken() -> None:
    regime = Regime(column="s", decimals=1, levels=(0.0, 0.2, 0.4))
    assert regime.index(np.array([0.149, 0.26, 0.34])).tolist() == [0, 1, 1]
    assert regime.index(np.array([0.151, 0.29, 0.36])).tolist() == [1, 1, 2]


def test_lists_are_read_as_tuples_and_strictly() -> None:
    class Settings(Frozen):
        numbers: tuple[int, ...]

    assert parse_yaml(Settings, "numbers: [1, 2]", "x").numbers == (1, 2)
    with pytest.raises(InputError, match=r"^x: numbers\[1\]: expected a whole number\.$"):
        parse_yaml(Settings, "numbers: [1, two]", "x")
    with pytest.raises(InputError, match=r"^x: numbers: expected a list\.$"):
        parse_yaml(Settings, "numbers: 1", "x")


GOVERNANCE = {
    "purposes": ["failure", "claims"],
    "retention_days": 730,
    "collected": "2026-06-30",
    "place": "CN",
    "cross_border": False,
    "important": False,
}


def test_a_contract_without_governance_has_the_digest_that_it_always_had() -> None:
    # published before there was the section; members hold contracts against each other by it
    assert build(TABLE).digest == "e180a1e6b120ce76c4ccc6c53dc86acb117a7f431231584fb3cf527c9ecee6e8"
    assert build(TABLE).governance is None


def test_governance_is_part_of_what_members_agree_on() -> None:
    digest = build(table(put("governance", value=GOVERNANCE))).digest
    assert digest != build(TABLE).digest
    turned = GOVERNANCE | {"purposes": ["claims", "failure"]}  # a set has no order
    assert build(table(put("governance", value=turned))).digest == digest
    unsaid = {key: value for key, value in GOVERNANCE.items() if key != "place"}
    assert build(table(put("governance", value=unsaid))).digest != digest
    null = build(table(put("governance", value=GOVERNANCE | {"place": None})))
    assert null.digest == build(table(put("governance", value=unsaid))).digest


def test_rows_are_kept_for_so_many_days_and_no_more() -> None:
    said = build(table(put("governance", value=GOVERNANCE))).governance
    assert said is not None
    assert str(said.kept_until) == "2028-06-29"
    open_ended = build(table(put("governance", value={"retention_days": 730}))).governance
    assert open_ended is not None
    assert open_ended.kept_until is None


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "governance: says nothing; give it a key such as purposes, or leave it out."),
        ({"purpose": ["credit"]}, "governance: unknown key purpose; did you mean purposes?"),
        (
            {"purposes": ["marketing"]},
            "governance.purposes[0]: expected failure, claims or credit.",
        ),
        ({"purposes": []}, "governance.purposes: "),
        ({"purposes": ["credit", "credit"]}, "governance.purposes: a purpose is there twice; keep"),
        ({"retention_days": 0}, "governance.retention_days: "),
        ({"retention_days": 1.5}, "governance.retention_days: expected a whole number."),
        ({"collected": "30.6.2026"}, "governance.collected: expected a day in quotes, such as"),
        ({"collected": "20260630"}, "governance.collected: expected a day in quotes, such as"),
        ({"collected": "2026-02-30"}, "governance.collected: expected a day in quotes, such as"),
        ({"place": "China"}, "governance.place: "),
        ({"cross_border": "no"}, "governance.cross_border: expected true or false."),
        ({"important": 1}, "governance.important: expected true or false."),
    ],
)
def test_governance_that_is_off_is_told(value: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build(table(put("governance", value=value)))
    assert sentence in str(caught.value)
