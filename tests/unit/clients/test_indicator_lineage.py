"""A value walks back to its transform, its contract and its rows; a contract says what it is."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from support.telemetry import KEY, computed, telemetry_contract

from clients.contract import DataContract
from clients.frozen import parse_yaml
from clients.indicators.compute import IndicatorTable, compute_indicators
from clients.indicators.lineage import lineage_path, plan_again, read_lineage, trace
from clients.indicators.registry import INDICATORS
from clients.indicators.table_file import Written, write_table
from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError

ENDINGS = ("csv", "parquet")


def made(folder: Path, ending: str = "csv", **wish: Any) -> tuple[IndicatorTable, Written]:  # noqa: ANN401 - of make_plan
    frame = pd.concat(
        [
            pd.DataFrame({"device": d, "time": range(6), "running": share, "energy": 2.0})
            for d, share in (("press-1", 1), ("press-2", 0))
        ]
    )
    table = computed(frame, folder, "utilisation", "energy_per_hour", **wish)
    return table, write_table(table, folder / f"indicators.{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_value_walks_back_to_its_transform_contract_and_rows(tmp_path: Path, ending: str) -> None:
    table, written = made(tmp_path, ending, window="4h")
    steps = trace(written.table, "press-1")
    assert [step.column for step in steps] == ["utilisation", "energy_per_hour"]
    first = steps[0]
    assert first.value == 1
    assert first.known
    assert first.sentence == INDICATORS["utilisation@1"].sentence
    assert first.transform.digest == INDICATORS["utilisation@1"].digest
    assert first.transform.inputs["running"].column == "running"
    assert first.contract.digest == table.plan.digest
    assert first.rows.digest == table.rows[0].digest
    assert (first.rows.rows, first.rows.first, first.rows.last, first.rows.end) == (4, 2, 5, 6)
    assert first.time.window_h == 4
    absent = trace(written.table, "press-2", indicator="energy_per_hour")
    assert absent[0].value is None
    assert trace(written.table, "2")[0].device == "press-2"


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    written = [made(tmp_path, ending)[1] for ending in ENDINGS]
    before = [(one.table.read_bytes(), one.lineage.digest) for one in written]
    again = [made(tmp_path, ending)[1] for ending in ENDINGS]
    assert [(one.table.read_bytes(), one.lineage.digest) for one in again] == before
    assert written[0].lineage_path.read_bytes() == written[0].lineage.bytes + b"\n"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    _, written = made(tmp_path)
    text = written.table.read_text(encoding="utf-8")
    written.table.write_text(text.replace("press-1,1.0", "press-1,0.5"), encoding="utf-8")
    with pytest.raises(NotVerifiedError, match="is not the table that its lineage speaks of"):
        trace(written.table, "press-1")


def test_a_lineage_that_is_none_is_refused(tmp_path: Path) -> None:
    _, written = made(tmp_path)
    beside = lineage_path(written.table)
    value = json.loads(beside.read_bytes())
    beside.write_text(json.dumps(value, indent=1), encoding="utf-8")
    with pytest.raises(NotVerifiedError, match="is not as it was written"):
        read_lineage(written.table)
    beside.write_bytes(canonical_json(value | {"more": 1}))
    with pytest.raises(InputError, match="unknown key more"):
        read_lineage(written.table)
    beside.unlink()
    with pytest.raises(InputError, match="with its lineage beside it"):
        read_lineage(written.table)


def test_who_is_not_there_is_told(tmp_path: Path) -> None:
    _, written = made(tmp_path)
    with pytest.raises(InputError, match=r"has no device press-3; did you mean press-[12]\?"):
        trace(written.table, "press-3")
    with pytest.raises(InputError, match="has no device 3; it has 2 others"):
        trace(written.table, "3")
    with pytest.raises(InputError, match=r"no indicator utilization; did you mean utilisation\?"):
        trace(written.table, "press-1", indicator="utilization")
    with pytest.raises(InputError, match=r"end it in \.csv or \.parquet"):
        write_table(made(tmp_path)[0], tmp_path / "indicators.txt")


def test_whoever_has_the_rows_can_compute_it_again(tmp_path: Path) -> None:
    table, written = made(tmp_path, window="4h", as_of=5.0, hold="30min", zone_h=8.0)
    contract = telemetry_contract(["running", "energy"])
    plan = plan_again(read_lineage(written.table), contract)
    assert replace(plan, contract=table.plan.contract) == table.plan
    again = compute_indicators(plan, tmp_path, key=KEY)
    assert again.rows == table.rows
    assert all(
        again.columns[key].tobytes() == table.columns[key].tobytes() for key in table.columns
    )
    with pytest.raises(NotVerifiedError, match="is not the contract that the lineage names"):
        plan_again(read_lineage(written.table), telemetry_contract(["running", "energy", "speed"]))


def test_another_transform_of_that_name_is_not_taken_for_it(tmp_path: Path) -> None:
    _, written = made(tmp_path)
    beside = lineage_path(written.table)
    value = json.loads(beside.read_bytes())
    value["indicators"]["utilisation"]["digest"] = "0" * 64
    beside.write_bytes(canonical_json(value))
    step = trace(written.table, "press-1", indicator="utilisation")[0]
    assert not step.known
    assert step.sentence == step.formula == ""
    with pytest.raises(NotVerifiedError, match="utilisation@1: is another transform here"):
        plan_again(read_lineage(written.table), telemetry_contract(["running", "energy"]))


# ---- contracts -----------------------------------------------------------------------------------

SCORE: dict[str, Any] = {
    "contract": 1,
    "name": "loans",
    "unit": "borrower",
    "accepts": "indicators",
    "sources": [{"path": "loans.csv"}],
    "columns": [
        {
            "name": "used",
            "type": "number",
            "class": "L2",
            "unit": "1",
            "range": [0, 1],
            "indicator": "utilisation@1",
        },
        {"name": "age", "type": "number", "class": "L2", "range": [0, 99], "declared": True},
        {"name": "late", "type": "integer", "role": "label", "class": "L3"},
    ],
    "split": {"kind": "uniform", "seed": 0, "test_share": 0.5},
    "label": {"kind": "binary", "column": "late"},
}


def score(place: int | None = None, **keys: Any) -> DataContract:  # noqa: ANN401 - of a column, or of the contract
    """The contract with other keys, of a column or at the top; None removes one."""
    value = copy.deepcopy(SCORE)
    inside = value if place is None else value["columns"][place]
    inside.update(keys)
    for key in [key for key, item in inside.items() if item is None]:
        del inside[key]
    return parse_yaml(DataContract, yaml.safe_dump(value), "x.yaml")


def test_a_score_of_indicators_and_declared_facts_is_read() -> None:
    contract = score()
    assert contract.accepts == "indicators"
    assert all(column.is_stated for column in contract.inputs)


@pytest.mark.parametrize(
    ("place", "keys", "sentence"),
    [
        (1, {"declared": None}, r"columns\[1\]: age is neither an indicator nor declared"),
        (0, {"indicator": None}, r"columns\[0\]: used is neither an indicator nor declared"),
        (1, {"declared": None, "role": "sensor"}, "age is neither an indicator nor declared"),
        (1, {"role": "sensor"}, "declared is for features; a sensor or setting is measured"),
        (0, {"role": "sensor"}, "indicator: utilisation is a feature that is a number"),
        (0, {"unit": "%"}, 'indicator: utilisation has the unit "1"; say so'),
        (0, {"declared": True}, "an indicator is computed, not declared"),
        (0, {"indicator": "utilisation@7"}, r"there is no utilisation@7; did you mean utilisat"),
        (0, {"indicator": "utilisation"}, r"there is no utilisation; did you mean utilisation@1"),
    ],
)
def test_a_raw_column_is_refused_as_the_contract_is_read(
    place: int, keys: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        score(place, **keys)


def test_readings_over_time_are_no_indicators() -> None:
    with pytest.raises(InputError, match="readings over time are no indicators"):
        telemetry_contract(["running"], accepts="indicators")


def test_without_the_switch_a_raw_column_is_a_matter_for_rules() -> None:
    value = copy.deepcopy(SCORE)
    del value["accepts"], value["columns"][1]["declared"]
    assert parse_yaml(DataContract, yaml.safe_dump(value), "x.yaml").inputs[1].is_stated is False


def test_what_members_agree_on_holds_which_columns_are_indicators() -> None:
    digests = {
        score().digest,
        score(accepts=None).digest,
        parse_yaml(DataContract, yaml.safe_dump(unsaid()), "x.yaml").digest,
    }
    assert len(digests) == 3


def unsaid() -> dict[str, Any]:
    value = copy.deepcopy(SCORE)
    del value["accepts"], value["columns"][0]["indicator"], value["columns"][1]["declared"]
    return value


def test_a_contract_that_says_nothing_of_it_has_the_digest_that_it_always_had() -> None:
    # as computed before there were these keys
    contract = parse_yaml(DataContract, yaml.safe_dump(unsaid()), "x.yaml")
    assert contract.digest == "2b45d81e123822eee6c8dd9c3a6b7217b8460736f727e72ea138dca3b7758bee"


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_draft_becomes_a_contract_once_the_label_is_chosen(tmp_path: Path, ending: str) -> None:
    _, written = made(tmp_path, ending)
    text = written.draft.read_text(encoding="utf-8")
    assert f"# lineage: {written.lineage.digest}" in text
    chosen = text.replace("  # - {name: default", "  - {name: default")
    chosen = chosen.replace("# label: {", "label: {")
    contract = parse_yaml(DataContract, chosen, "draft.yaml")
    assert contract.accepts == "indicators"
    assert [column.indicator for column in contract.inputs] == [
        "utilisation@1",
        "energy_per_hour@1",
    ]
    for column in contract.inputs:
        low, high = column.bounds
        values = np.array([step.value or 0.0 for step in trace(written.table, "press-1")])
        assert low <= values.min()
        assert high >= values[list(contract.inputs).index(column)]
