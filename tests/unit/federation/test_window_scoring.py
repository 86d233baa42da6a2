"""Tables of devices' scores and their lineage, without a run's folder."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from support import asked, worn

from clients.contract import DataContract, load_contract
from clients.frozen import parse_settings
from clients.gate import Device
from clients.left_out import LeftOut, Sieve
from clients.members import Assignment, tables, told_owners
from clients.model import to_vector
from clients.spec import NodeSpec
from clients.window_model import WindowModel
from federation.kept_model import KeptModel
from federation.scoring import read_score_lineage
from federation.window_scoring import (
    draft_path,
    one_window,
    score_windows,
    write_window_scores,
)
from privacy.canonical import canonical_json
from privacy.errors import DataError, InputError, NotVerifiedError, RefusedError

if TYPE_CHECKING:
    from clients.judgement import Why

KEY = b"k" * 32


def _kept(folder: Path, label: worn.Label) -> tuple[KeptModel, WindowModel]:
    made = worn.trained(folder, label, rounds=1)
    contract = parse_settings(DataContract, worn.contract(label), "worn")
    settings = {"seed": 2, **worn.spec()}
    kept = KeptModel(
        run="run",
        manifest=asked.asked(
            task="failure", contract=contract.digest, node_settings=settings, unit="device"
        ),
        contract=contract,
        spec=NodeSpec.model_validate_json(canonical_json(settings)),
        released=tuple(made.released),
        weights=to_vector(made.learner.network),
        digest="d" * 64,
        file="f" * 64,
    )
    model = kept.explained()
    assert isinstance(model, WindowModel)
    return kept, model


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_device_that_the_gate_leaves_out_gets_no_score(tmp_path: Path) -> None:
    kept, model = _kept(tmp_path / "data", "within_horizon")
    before = [one.key for one in score_windows(model, tmp_path / "data", key=KEY)]
    nobody = LeftOut(contract=kept.contract, why={}, key=KEY)
    held = before[1]
    members = [told.names for told in _owners(kept, tmp_path / "data")]
    whose = {name for names in members for name in names}
    why: dict[str, Why] = {
        nobody.digest(name, Device(held.rpartition("|")[2], test)): "waiting"
        for name in whose
        for test in (False, True)
    }
    sieve = Sieve(LeftOut(contract=kept.contract, why=why, key=KEY))
    table = tmp_path / "scores.csv"
    found = score_windows(model, tmp_path / "data", key=KEY, sieve=sieve)
    lineage = write_window_scores(
        kept, model, found, table, every=None, risk_column=None, sieve=sieve
    )
    assert [*lineage.units] == [name for name in before if name != held]
    assert lineage.left_out is not None
    assert sum(one.rows for one in lineage.left_out.values()) > 0
    sieve = Sieve(LeftOut(contract=kept.contract, why=why, key=KEY))
    with pytest.raises(RefusedError, match="waiting for a review"):
        one_window(model, tmp_path / "data", held, key=KEY, at=None, sieve=sieve)


def test_devices_of_two_members_with_one_name_are_two(tmp_path: Path) -> None:
    """Members told by a column lead names as they do in indicators and training."""
    kept, model = _kept(tmp_path / "data", "within_horizon")
    said = worn.contract("within_horizon")
    table = next((tmp_path / "data").rglob("*.csv"))
    frame = pd.read_csv(table)
    unit = kept.contract.unit_columns[0].name
    (tmp_path / "two").mkdir()
    twice = [frame.assign(plant=plant) for plant in ("north", "south")]
    pd.concat(twice).to_csv(tmp_path / "two" / table.name, index=False)
    columns = [*said["columns"], {"name": "plant", "type": "text", "role": "member", "class": "L1"}]
    source = {**said["sources"][0], "path": table.name}
    source.pop("part", None)
    value = {
        **{key: one for key, one in said.items() if key != "members"},
        "columns": [one for one in columns if one["name"] == "plant" or one["role"] != "member"],
        "sources": [source],
        "members": {"by": ["plant"]},
    }
    model = replace(model, contract=parse_settings(DataContract, value, "two"))
    names = {one.key for one in score_windows(model, tmp_path / "two", key=KEY)}
    for name in frame[unit].astype(str).unique():
        assert {f"north|{name}", f"south|{name}"} <= names


def _owners(kept: KeptModel, root: Path) -> list[Assignment]:
    return [told_owners(kept.contract, table) for table in tables(kept.contract, root)]


def test_remaining_lives_have_reasons_and_lineage_but_are_no_risk(tmp_path: Path) -> None:
    kept, model = _kept(tmp_path / "data", "remaining_life")
    found = list(score_windows(model, tmp_path / "data", key=KEY))
    out = tmp_path / "lives.csv"
    written = write_window_scores(kept, model, found, out, every=None, risk_column=None)
    rows = _rows(out)
    assert list(rows[0])[:3] == ["unit", "step", "remaining_life"]
    assert all(0 <= float(row["remaining_life"]) <= 25 for row in rows)
    assert any("shorter" in row["reason_1_en"] for row in rows)
    assert not draft_path(out).exists()
    lineage = read_score_lineage(out)
    assert lineage == written
    assert set(lineage.units) == {row["unit"] for row in rows}
    out.write_bytes(out.read_bytes().replace(b"m00", b"m99", 1))
    with pytest.raises(NotVerifiedError, match="is not the table"):
        read_score_lineage(out)


def test_chances_have_a_contract_that_names_the_column(tmp_path: Path) -> None:
    kept, model = _kept(tmp_path / "data", "within_horizon")
    found = list(score_windows(model, tmp_path / "data", key=KEY, every=6))
    out = tmp_path / "risk.csv"
    write_window_scores(kept, model, found, out, every=6, risk_column="chance")
    draft = load_contract(draft_path(out))
    assert draft.column("chance").bounds == (0, 1)
    assert draft.column("step").unit == "h"
    assert draft.label.kind == "within_horizon"
    keys = {one.key for one in found}
    assert len(keys) == len(found)
    assert set(read_score_lineage(out).units) == keys
    with pytest.raises(InputError, match="choose another name"):
        write_window_scores(kept, model, found, out, every=6, risk_column="reason_1")
    with pytest.raises(InputError, match=r"end it in \.csv"):
        write_window_scores(
            kept, model, found, tmp_path / "risk.parquet", every=6, risk_column=None
        )
    with pytest.raises(DataError, match="is there twice"):
        write_window_scores(kept, model, found[:1] * 2, out, every=6, risk_column=None)
    with pytest.raises(DataError, match="nothing is scored"):
        write_window_scores(kept, model, [], out, every=6, risk_column=None)


def test_a_digest_is_about_a_devices_rows_up_to_the_windows_end(tmp_path: Path) -> None:
    _, model = _kept(tmp_path / "data", "within_horizon")
    where = tmp_path / "data"

    def digests(key: bytes = KEY) -> dict[str, str]:
        return {one.key: one.row for one in score_windows(model, where, key=key, every=4)}

    before = digests()
    alone = {
        one.key: one.row for one in score_windows(model, where, key=KEY, every=4, only="west|m05")
    }
    assert alone == {key: row for key, row in before.items() if key.startswith("west|m05@")}
    assert alone
    assert not set(before.values()) & set(digests(b"q" * 32).values())
    rows = worn.rows()
    mine = np.flatnonzero(rows["machine"] == "m05")
    rows.loc[mine[-5], "heat"] += 1.0
    rows.to_csv(where / "worn.csv", index=False)
    after = digests()
    last = int(rows["step"].iloc[mine[-5]])
    changed = {key for key in before if before[key] != after[key]}
    own = {key for key in before if key.rpartition("@")[0].endswith("|m05")}
    assert changed == {key for key in own if int(key.rpartition("@")[2]) >= last}
    assert changed


def test_devices_may_be_taken_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = _kept(tmp_path / "data", "within_horizon")
    together = list(score_windows(model, tmp_path / "data", key=KEY, every=5))
    monkeypatch.setattr("federation.window_scoring._BATCH_ROWS", 70)
    apart = list(score_windows(model, tmp_path / "data", key=KEY, every=5))
    assert [(one.key, one.row) for one in apart] == [(one.key, one.row) for one in together]
    for left, right in zip(apart, together, strict=True):
        assert left.window.score.value == pytest.approx(right.window.score.value, rel=1e-9)


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    _, model = _kept(tmp_path / "data", "within_horizon")
    where = tmp_path / "data"
    before = {one.key: one.window.score for one in score_windows(model, where, key=KEY)}
    worn.rows().sample(frac=1.0, random_state=3).to_csv(where / "worn.csv", index=False)
    after = {one.key: one.window.score for one in score_windows(model, where, key=KEY)}
    assert set(before) == set(after)
    for key, score in before.items():
        assert score.value == pytest.approx(after[key].value, rel=1e-9)


def test_a_row_without_a_time_is_refused(tmp_path: Path) -> None:
    _, model = _kept(tmp_path / "data", "within_horizon")
    rows = worn.rows()
    rows["step"] = rows["step"].astype(float)
    rows.loc[3, "step"] = np.nan
    rows.to_csv(tmp_path / "data" / "worn.csv", index=False)
    with pytest.raises(DataError, match="column step"):
        list(score_windows(model, tmp_path / "data", key=KEY))


def test_a_beginning_is_another_base_for_each_device(tmp_path: Path) -> None:
    _, model = _kept(tmp_path / "data", "within_horizon")
    where = tmp_path / "data"
    own = list(score_windows(replace(model, against="beginning"), where, key=KEY))
    common = list(score_windows(model, where, key=KEY))
    assert len({one.window.score.base for one in common}) == 1
    assert len({one.window.score.base for one in own}) == len(own)
    for left, right in zip(own, common, strict=True):
        assert left.window.score.value == pytest.approx(right.window.score.value, rel=1e-6)
