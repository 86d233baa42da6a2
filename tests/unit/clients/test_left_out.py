"""Indicators have no row of a device that the gate leaves out, whatever the device is called."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.telemetry import KEY, telemetry_contract

from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.gate import Device
from clients.indicators.compute import IndicatorTable, compute_indicators
from clients.indicators.dealt import dealt_chunks
from clients.indicators.lineage import Lineage, plan_again
from clients.indicators.plan import Plan, make_plan
from clients.indicators.table_file import write_table
from clients.judgement import Judgement, Why
from clients.left_out import LeftOut, Sieve, left_out, left_out_again
from privacy.errors import DataError, InputError

MEMBER = {"name": "bank", "type": "text", "role": "member", "class": "L2"}
SITE = {"name": "site", "type": "text", "role": "member", "class": "L3"}


def known(*more: dict[str, Any], **keys: Any) -> DataContract:  # noqa: ANN401 - any key
    return telemetry_contract(["running"], more=more, **keys)


def out_of(
    contract: DataContract, *devices: tuple[str, Device], why: Why = "rejected", key: bytes = KEY
) -> LeftOut:
    judged: dict[str, dict[Device, Why]] = {}
    for member, device in devices:
        judged.setdefault(member, {})[device] = why
    return left_out({m: Judgement(left_out=one) for m, one in judged.items()}, contract, key)


def rows(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def table_of(
    frame: pd.DataFrame,
    contract: DataContract,
    folder: Path,
    out: LeftOut | None = None,
    **wish: Any,  # noqa: ANN401 - of make_plan
) -> IndicatorTable:
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "readings.csv", index=False)
    member, chunk_rows = wish.pop("member", None), wish.pop("chunk_rows", 50_000)
    plan = make_plan(contract, ["running_hours", "utilisation"], hold="1h", **wish)
    return compute_indicators(
        plan, folder, key=KEY, member=member, left_out=out, chunk_rows=chunk_rows
    )


FRAME = rows(
    device=["a", "a", "b", "b", "c"], time=[0, 1, 0, 5, 2], running=[1, 1, 1, 0, 1]
)  # fmt: skip


def test_a_rejected_device_is_in_no_row_value_or_end(tmp_path: Path) -> None:
    contract = known()
    out = out_of(contract, ("readings", Device("b")))
    whole = table_of(FRAME, contract, tmp_path)
    found = table_of(FRAME, contract, tmp_path, out)
    without = table_of(FRAME[FRAME["device"] != "b"], contract, tmp_path / "without")
    assert whole.devices == ("a", "b", "c")
    assert (found.devices, found.rows) == (without.devices, without.rows)
    for key, values in without.columns.items():
        assert np.array_equal(found.columns[key], values, equal_nan=True)
    assert found.left_out is not None
    assert [(one.why, one.rows) for one in found.left_out.values()] == [("rejected", 2)]
    assert whole.left_out is None


def test_the_contracts_own_unit_decides_whatever_the_device_is_called(tmp_path: Path) -> None:
    """A machine's window ends with its last usable reading, of the site that is not left out."""
    contract = known(SITE, unit_key=["site", "device"])
    frame = rows(
        site=["x", "y", "x", "y"], device=["m", "m", "n", "n"], time=[0, 9, 0, 1], running=[1] * 4
    )
    out = out_of(contract, ("readings", Device("y|m")))
    found = table_of(frame, contract, tmp_path, out, device_key=["device"], window="3h")
    assert found.devices == ("m", "n")
    assert [one.rows for one in found.rows] == [1, 2]
    assert found.rows[0].end == 1.0  # not 10: what was left out has no part in the end
    # another name joined otherwise names nobody
    other = out_of(contract, ("readings", Device("m")))
    assert table_of(frame, contract, tmp_path, other, device_key=["device"]).rows[0].rows == 2


def test_a_device_of_one_name_at_another_member_stays(tmp_path: Path) -> None:
    """Members told by a column: one name is two devices, and only one of them is held."""
    contract = known(MEMBER, members={"by": ["bank"]})
    frame = rows(
        bank=["n", "s", "n", "s"], device=["a", "a", "b", "b"], time=[0, 0, 0, 0],
        running=[1, 0, 1, 0],
    )  # fmt: skip
    whole = table_of(frame, contract, tmp_path)
    assert whole.devices == ("n|a", "n|b", "s|a", "s|b")
    assert whole.columns["utilisation@1"].tolist() == [1, 1, 0, 0]
    out = out_of(contract, ("n", Device("a")))
    assert table_of(frame, contract, tmp_path, out, chunk_rows=1).devices == ("n|b", "s|a", "s|b")
    assert table_of(frame, contract, tmp_path, out, member="s").devices == ("a", "b")
    assert table_of(frame, contract, tmp_path, out, member="n").devices == ("b",)
    with pytest.raises(InputError, match="no member w; check the data folder"):
        table_of(frame, contract, tmp_path, out, member="w")
    # a device's name that tells the member already is not made longer
    told = known(MEMBER, members={"by": ["bank"]}, unit_key=["bank", "device"])
    assert table_of(frame, told, tmp_path).devices == ("n|a", "n|b", "s|a", "s|b")


def test_a_device_of_the_test_part_is_another_where_the_data_tells_the_parts(
    tmp_path: Path,
) -> None:
    part = {"name": "part", "type": "text", "role": "part", "class": "L1"}
    contract = known(part, split=None)
    frame = rows(part=["train", "test"], device=["a", "a"], time=[0, 1], running=[1, 0])
    assert table_of(frame, contract, tmp_path).devices == ("test|a", "train|a")
    out = out_of(contract, ("readings", Device("a", test=True)))
    assert table_of(frame, contract, tmp_path, out).devices == ("train|a",)
    assert table_of(frame, contract, tmp_path, out_of(contract, ("x", Device("a")))).devices == (
        "test|a",
    )


def test_where_ids_tell_the_member_common_rows_are_nobodys_and_held_for_all(
    tmp_path: Path,
) -> None:
    members = {"path": "who.csv", "key": "device", "column": "bank", "members": ["n", "s"]}
    contract = known(members={"file": {**members, "test": "test"}}, split=None)
    who = rows(device=["a", "b", "c"], bank=["n", "s", "test"])
    who.to_csv(tmp_path / "who.csv", index=False)
    assert table_of(FRAME, contract, tmp_path).devices == ("a", "b", "c")
    assert table_of(FRAME, contract, tmp_path, member="n").devices == ("a",)
    by_time = table_of(FRAME.sort_values("time"), contract, tmp_path, device_key=["running"])
    assert by_time.devices == ("n|1", "s|0", "s|1", "test|1")
    out = out_of(contract, ("s", Device("c", test=True)))
    assert table_of(FRAME, contract, tmp_path, out).devices == ("a", "b")


def test_none_left_is_said(tmp_path: Path) -> None:
    contract = known()
    out = out_of(contract, *(("readings", Device(name)) for name in "abc"))
    with pytest.raises(DataError, match="no row is left: its devices wait for a review"):
        table_of(FRAME, contract, tmp_path, out)


def test_a_lineage_says_what_was_left_out_and_names_nobody(tmp_path: Path) -> None:
    contract = known()
    out = out_of(contract, ("readings", Device("b")))
    written = write_table(table_of(FRAME, contract, tmp_path, out), tmp_path / "t.csv")
    text = written.lineage_path.read_text(encoding="utf-8")
    told = json.loads(text)["left_out"]
    (digest,) = told
    assert told == {digest: {"rows": 2, "why": "rejected"}}
    assert digest == out.digest("whoever", Device("b"))  # nobody's name counts without members
    # bound to key and contract
    assert digest not in out_of(contract, ("readings", Device("b")), key=b"x" * 32).why
    other = known(name="other")
    assert digest not in out_of(other, ("readings", Device("b"))).why
    assert '"b"' not in text
    # from the lineage alone it comes out again, whoever was released or rejected since
    lineage = written.lineage
    again = left_out_again(lineage.left_out, contract, KEY)
    plan = plan_again(lineage, contract)
    assert compute_indicators(plan, tmp_path, key=KEY, left_out=again).rows == tuple(
        table_of(FRAME, contract, tmp_path, out).rows
    )


def test_a_lineage_without_a_gate_has_the_digest_that_it_always_had(tmp_path: Path) -> None:
    written = write_table(table_of(FRAME, known(), tmp_path), tmp_path / "t.csv")
    value = json.loads(written.lineage_path.read_bytes())
    assert "left_out" not in value
    assert parse_settings(Lineage, value, "lineage").digest == written.lineage.digest
    assert written.lineage_path.read_bytes() == written.lineage.bytes + b"\n"


def test_files_that_change_between_two_passes_are_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device, or a reading, that came between had no window, and was dropped without a word."""
    contract, more = known(), [FRAME]

    def grown(plan: Plan, root: Path, *, inputs: bool, **keys: Any) -> Any:  # noqa: ANN401 - as the true one
        yield from dealt_chunks(plan, root, inputs=inputs, **keys)
        if not inputs:
            now = pd.concat(more).sort_values(["device", "time"])
            now.to_csv(tmp_path / "readings.csv", index=False)

    monkeypatch.setattr("clients.indicators.compute.dealt_chunks", grown)
    for device, time in (("d", 1), ("a", 9)):
        more = [FRAME, rows(device=[device], time=[time], running=[1])]
        with pytest.raises(DataError, match="changed while they were read"):
            table_of(FRAME, contract, tmp_path, window="3h")
    more = [FRAME]
    assert table_of(FRAME, contract, tmp_path, window="3h").devices == ("a", "b", "c")


names = st.sampled_from(["a", "b", "c"])
members = st.sampled_from(["n", "s"])


@settings(max_examples=60)
@given(
    st.lists(st.tuples(members, st.booleans(), names, st.booleans()), min_size=1, max_size=12),
    st.sets(st.tuples(members, st.booleans(), names)),
)
def test_just_the_rows_of_devices_that_are_left_out_are_held_back(
    given_rows: list[tuple[str, bool, str, bool]], outs: set[tuple[str, bool, str]]
) -> None:
    """Held against the rule, written plainly."""
    contract = known(MEMBER, members={"by": ["bank"]})
    sieve = Sieve(out_of(contract, *((m, Device(name, test)) for m, test, name in outs)))
    passed = sieve.passes(
        pd.Series([name for _, _, name, _ in given_rows]),
        members=["n", "s"],
        member=np.array(["ns".index(m) for m, *_ in given_rows], dtype=np.int32),
        test=np.array([test for _, test, _, _ in given_rows]),
        common=np.array([common for *_, common in given_rows]),
    )
    expected = [
        not any((m, test, name) in outs for m in (["n", "s"] if common else [member]))
        for member, test, name, common in given_rows
    ]
    assert passed.tolist() == expected
    assert sum(sieve.rows.values()) == expected.count(False)
