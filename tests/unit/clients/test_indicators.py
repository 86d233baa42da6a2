"""Known mechanisms have known indicators; what is missing stays absent; a version never changes."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.telemetry import KEY, computed, random_rows, telemetry_contract, value_of

from clients.contract import DataContract, load_contract
from clients.indicators.compute import compute_indicators
from clients.indicators.plan import duration_h, make_plan
from clients.indicators.quantity import QUANTITIES
from clients.indicators.readings import Sorter
from clients.indicators.registry import INDICATORS, find_indicator
from clients.indicators.units import UNITS, convert
from federation.scenarios.generate import contract_path
from federation.scenarios.machines import KINDS, simulate_fleet
from privacy.errors import DataError, InputError

ROOT = Path(__file__).parents[3]


def rows(device: str = "a", **columns: Any) -> pd.DataFrame:  # noqa: ANN401 - cells
    return pd.DataFrame({"device": device, **columns})


# ---- the registry --------------------------------------------------------------------------------


def test_the_registry_is_whole() -> None:
    assert len(INDICATORS) >= 23
    for key, one in INDICATORS.items():
        assert key == f"{one.name}@{one.version}"
        assert set(one.inputs) <= set(QUANTITIES)
        assert set(one.rises_with) | set(one.falls_with) <= set(one.inputs)
        assert not set(one.rises_with) & set(one.falls_with)
        assert one.sentence.endswith(".")
        assert any("\u4e00" <= sign <= "\u9fff" for sign in one.sentence_zh)
        assert one.formula
        assert one.high is None or one.low < one.high
    assert len({one.digest for one in INDICATORS.values()}) == len(INDICATORS)


def test_the_document_has_every_indicator_with_its_formula_and_every_quantity() -> None:
    text = (ROOT / "docs" / "indicators.md").read_text(encoding="utf-8")
    for key, one in INDICATORS.items():
        assert f"| `{key}` | {one.unit} | {one.sentence} | {one.formula} |" in text
    for name, quantity in QUANTITIES.items():
        assert f"| `{name}` | {quantity.kind} | {quantity.unit or 'any'} | " in text


# what a version means never changes: a new meaning is a new version, with a line of its own
MEANS = {
    "alarm_frequency@1": "0f389d1cb15e7858",
    "capacity_fade@1": "19e1015e470ad99b",
    "charge_cycles@1": "44cecfe84103688e",
    "coverage@1": "cda4d384827f9eec",
    "daily_distance@1": "af443980b8d71713",
    "deep_discharge_share@1": "3a903efffb75b8bb",
    "downtime_share@1": "f35448a395dd3bc7",
    "driving_consumption@1": "145ece1cdd659708",
    "energy_efficiency@1": "49007ad35011735e",
    "energy_per_hour@1": "eafb1edbc35c07de",
    "failure_frequency@1": "bca4ccea3f44b820",
    "failure_risk@1": "8811a30cbe2474be",
    "fast_charge_share@1": "96141b5733d21418",
    "hard_acceleration@1": "dd31145d92eac20b",
    "hard_braking@1": "29ad4a8e6ed1d3c9",
    "high_charge_share@1": "e5c2a2dd0eaefe5d",
    "hot_battery_share@1": "23d68df7e7eba70f",
    "idle_energy_share@1": "54704b37b9736ceb",
    "idle_ratio@1": "047b46110cd8e4eb",
    "load_share@1": "33dffdc03d169136",
    "load_variation@1": "9581fe971c84320a",
    "metered_hours@1": "37b2110522de49d5",
    "night_share@1": "516ccecdea6a4bfe",
    "output_rate@1": "7142afac4c727fd0",
    "overload_share@1": "fdeb80a7a99b48cb",
    "peak_load@1": "73beb875d49bacfb",
    "repair_time@1": "66aa31615e2dc875",
    "resistance_growth@1": "5755a76593cae780",
    "response_time@1": "07bd1d870bcd38f7",
    "running_hours@1": "2f1ad7b974bf107a",
    "speeding_share@1": "bfc68a667715984e",
    "standing_share@1": "f5d00835c238975f",
    "starts_per_day@1": "a1dbeec6d4c9db04",
    "temperature_rise@1": "d63d62e1068ce6d3",
    "temperature_spread@1": "f7dafbea6be0abab",
    "time_between_failures@1": "c30c65635473577b",
    "utilisation@1": "cec866acef876b8a",
    "vibration_rms@1": "aa2d9491e87dfa0e",
    "yield@1": "da2b8ea89295f2ce",
}


def meaning(key: str, folder: Path) -> str:
    """A digest of what it declares, and of its values on readings that are always the same."""
    frame = random_rows(np.random.default_rng(7), rows=60, devices=5)
    table = computed(frame, folder, key)
    values = [None if math.isnan(x) else float(f"{x:.12g}") for x in table.columns[key]]
    return hashlib.sha256(f"{INDICATORS[key].digest} {values}".encode()).hexdigest()[:16]


@pytest.mark.parametrize("key", sorted(INDICATORS))
def test_a_version_means_what_it_always_meant(key: str, tmp_path: Path) -> None:
    assert meaning(key, tmp_path) == MEANS[key]


def test_a_name_alone_is_its_newest_version() -> None:
    assert find_indicator("utilisation") is INDICATORS["utilisation@1"]
    with pytest.raises(ValueError, match=r"no indicator utilization@1; did you mean utilisation@1"):
        find_indicator("utilization@1")


# ---- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "given", "wanted", "result"),
    [
        (100.0, "%", "1", 1.0),
        (3.6, "MJ", "kWh", 1.0),
        (212.0, "degF", "degC", 100.0),
        (491.67, "degR", "degC", 0.0),
        (273.15, "K", "degC", 0.0),
        (10.0, "m/s", "km/h", 36.0),
        (1.0, "in/s", "mm/s", 25.4),
        (1.0, "g", "m/s2", 9.80665),
        (60.0, "mph", "km/h", 96.56064),
        (90.0, "min", "h", 1.5),
        (0.002, "ohm", "mohm", 2.0),
        (2500.0, "mAh", "Ah", 2.5),
    ],
)
def test_units_become_one_another(value: float, given: str, wanted: str, result: float) -> None:
    there = convert(np.array([value, np.nan]), given, wanted, "x")
    assert there[0] == pytest.approx(result, rel=1e-12, abs=1e-12)
    assert math.isnan(there[1])
    assert convert(there, wanted, given, "x")[0] == pytest.approx(value)


def test_every_quantity_has_a_unit_of_the_table() -> None:
    assert {q.unit for q in QUANTITIES.values()} - {None} <= set(UNITS)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("kW", "is in kW, a unit of power; energy is needed"),
        ("kwh", r"there is no unit kwh here; did you mean kWh\?"),
        (None, "has no unit; say it in the contract"),
    ],
)
def test_a_column_in_the_wrong_unit_is_refused(given: str | None, sentence: str) -> None:
    contract = telemetry_contract(["running", "energy"])
    columns = tuple(
        column.model_copy(update={"unit": given}) if column.name == "energy" else column
        for column in contract.columns
    )
    with pytest.raises(InputError, match=sentence):
        make_plan(contract.model_copy(update={"columns": columns}), ["energy_per_hour"])


# ---- known mechanisms ----------------------------------------------------------------------------


def test_a_machine_that_runs_two_shifts_of_three(tmp_path: Path) -> None:
    shifts = 90
    on = np.arange(shifts) % 3 < 2
    frame = rows(
        time=np.arange(shifts),
        running=on.astype(int),
        load_share=np.where(on, 0.6, 0.0),
        energy=np.where(on, 40.0, 2.0),
        failed=(np.arange(shifts) % 45 == 44).astype(int),
    )
    contract = telemetry_contract(["running", "load_share", "energy", "failed"], time_unit="shift")
    table = computed(frame, tmp_path, contract=contract, step="8h", hold="8h")
    assert value_of(table, "running_hours") == 480
    assert value_of(table, "utilisation") == pytest.approx(2 / 3)
    assert value_of(table, "starts_per_day") == pytest.approx(
        29 / 30
    )  # it ran as it was first seen
    assert value_of(table, "load_share") == pytest.approx(0.6)
    assert value_of(table, "load_variation") == pytest.approx(0, abs=1e-7)
    assert value_of(table, "energy_per_hour") == pytest.approx((60 * 40 + 30 * 2) / 480)
    assert value_of(table, "failure_frequency") == pytest.approx(1000 * 2 / 480)
    assert value_of(table, "time_between_failures") == pytest.approx(240)
    assert value_of(table, "coverage") == 1


def test_a_drive_over_midnight(tmp_path: Path) -> None:
    # from 20 to 8 o'clock at 60 km/h, a reading a minute; 8 of 12 hours are night
    time = np.arange(12 * 60) / 60 + 20
    brakes = np.zeros(time.size)
    brakes[[100, 101, 102, 400]] = -4.0  # three readings in a row are one braking
    frame = rows(time=time, speed=60.0, acceleration=brakes, running=1)
    table = computed(frame, tmp_path, hold="1min")
    assert value_of(table, "night_share") == pytest.approx(8 / 12)
    assert value_of(table, "hard_braking") == pytest.approx(100 * 2 / 720)
    assert value_of(table, "hard_acceleration") == 0
    assert value_of(table, "daily_distance") == pytest.approx(60 * 24)
    assert value_of(table, "standing_share") == 0
    later = computed(frame, tmp_path, "night_share", hold="1min", zone_h=-12.0)
    assert value_of(later, "night_share") == pytest.approx(0)  # the same hours are day elsewhere


def test_a_battery_that_is_charged_twice_a_day(tmp_path: Path) -> None:
    hours = np.arange(240)
    phase = hours % 12
    charge = np.where(phase < 8, 0.9 - 0.1 * phase, 0.1 + 0.2 * (phase - 8))
    power = np.where(phase >= 8, np.where(hours % 24 < 12, 50.0, 10.0), 0.0)
    frame = rows(
        time=hours,
        state_of_charge=charge,
        charge_power=power,
        capacity=100 - 0.05 * hours,
        resistance=2 + 0.01 * hours,
        cell_temperature_max=31.0,
        cell_temperature_min=28.5,
    )
    table = computed(frame, tmp_path)
    rise = 0.8 * 20 - 0.2 - (0.9 - charge[-1] - 0.2)  # each charge adds 0.8; the last is cut off
    assert value_of(table, "charge_cycles") == pytest.approx(np.maximum(np.diff(charge), 0).sum())
    assert value_of(table, "charge_cycles") == pytest.approx(rise, abs=0.3)
    assert value_of(table, "fast_charge_share") == pytest.approx(50 / 60)
    assert value_of(table, "deep_discharge_share") == pytest.approx((charge < 0.2).mean())
    assert value_of(table, "capacity_fade") == pytest.approx(0.05 * 239 / 100)
    assert value_of(table, "resistance_growth") == pytest.approx(0.01 * 239 / 2)
    assert value_of(table, "temperature_spread") == pytest.approx(2.5)
    assert value_of(table, "hot_battery_share") == 0


def test_generated_machines_tell_their_own_hours_and_failures(tmp_path: Path) -> None:
    fleet = simulate_fleet(KINDS[1], machines=3, rng=np.random.default_rng(3), steps=300).telemetry
    names = {"machine": "device", "step": "time", "hours_run_h": "hour_meter"}
    frame = fleet.rename(columns=names | {"energy_kwh": "energy"})
    frame["running"] = (frame["load_share"] > 0).astype(int)
    keep = ["device", "time", "hour_meter", "running", "load_share", "energy", "failed"]
    contract = telemetry_contract(keep[2:], time_unit="shift")
    table = computed(frame[keep], tmp_path, contract=contract, step="8h", hold="8h")
    for place, device in enumerate(table.devices):
        own = frame[frame["device"] == device]
        on = own["running"] > 0
        met = own["hour_meter"].iloc[-1] - own["hour_meter"].iloc[0]
        assert table.columns["metered_hours@1"][place] == pytest.approx(met)
        assert table.columns["running_hours@1"][place] == 8 * on.sum()
        assert table.columns["load_share@1"][place] == pytest.approx(own["load_share"][on].mean())
        failures = own["failed"].sum()
        frequency = 1000 * failures / (8 * on.sum())
        assert table.columns["failure_frequency@1"][place] == pytest.approx(frequency)


def test_shipped_telemetry_needs_only_names_for_its_columns(tmp_path: Path) -> None:
    contract = load_contract(contract_path("failure"))
    plan = make_plan(
        contract,
        ["all"],
        inputs={"running": "load_share", "vibration": "vibration_mm_s", "energy": "energy_kwh"},
        step="8h",
    )
    assert plan.hold_h == 8  # a shift stands for itself
    assert {one.name for one in plan.indicators} >= {
        "running_hours",
        "utilisation",
        "load_share",
        "overload_share",
        "energy_per_hour",
        "failure_frequency",
        "vibration_rms",
    }
    with pytest.raises(InputError, match=r"no column of numbers hours_run_h; columns of role ign"):
        make_plan(contract, ["metered_hours"], inputs={"hour_meter": "hours_run_h"}, step="8h")
    assert tmp_path.exists()


# ---- gaps, holes, absence ------------------------------------------------------------------------


def test_a_reading_stands_until_the_next_but_no_longer_than_it_may(tmp_path: Path) -> None:
    frame = rows(time=[0.0, 0.5, 10.0, 10.5], running=[1, 0, 1, 1])
    table = computed(frame, tmp_path, hold="1h")
    # 0.5 on, then 1 of the gap off, 0.5 on, and 1 for the last
    assert value_of(table, "running_hours") == 2
    assert value_of(table, "utilisation") == pytest.approx(2 / 3)
    assert value_of(table, "coverage") == pytest.approx(3 / 11.5)
    assert value_of(table, "starts_per_day") == 0  # what lies before a gap begins nothing


def test_what_is_missing_is_absent_and_never_zero(tmp_path: Path) -> None:
    frame = pd.concat(
        [
            rows("a", time=[0, 1, 2], running=[1.0, 1.0, 0.0], energy=[5.0, np.nan, 1.0]),
            rows("b", time=[0, 1, 2], running=[np.nan] * 3, energy=[5.0, 5.0, 5.0]),
            rows("c", time=[0, 1, 2], running=[0.0, 0.0, 0.0], energy=[5.0, 5.0, 5.0]),
        ]
    )
    table = computed(frame, tmp_path)
    assert value_of(table, "running_hours") == 2
    assert value_of(table, "running_hours", "c") == 0  # seen, and it stood
    assert math.isnan(value_of(table, "running_hours", "b"))
    assert math.isnan(value_of(table, "utilisation", "b"))
    # a reading without energy does not exist here: the first stands for its hold alone
    assert value_of(table, "energy_per_hour") == 6
    assert math.isnan(value_of(table, "energy_per_hour", "c"))
    assert value_of(table, "coverage", "b") == 1  # there were readings


def test_what_lies_outside_its_range_is_no_reading(tmp_path: Path) -> None:
    frame = rows(time=[0, 1, 2, 3], state_of_charge=[0.2, 255.0, 0.4, 0.5])
    contract = telemetry_contract(["state_of_charge"])
    columns = tuple(
        column.model_copy(update={"range": (0.0, 1.0)})
        if column.name == "state_of_charge"
        else column
        for column in contract.columns
    )
    narrow = contract.model_copy(update={"columns": columns})
    table = computed(frame, tmp_path, "charge_cycles", contract=narrow, hold="2h")
    assert value_of(table, "charge_cycles") == pytest.approx(0.3)
    gap = computed(frame, tmp_path, "charge_cycles", contract=narrow, hold="1h")
    assert value_of(gap, "charge_cycles") == pytest.approx(0.1)


def test_a_meter_that_begins_again_loses_nothing_else(tmp_path: Path) -> None:
    frame = rows(time=[0, 1, 90, 91], hour_meter=[100.0, 101.0, 3.0, 3.5])
    table = computed(frame, tmp_path, "metered_hours")
    assert value_of(table, "metered_hours") == 1.5
    alone = computed(rows(time=[0], hour_meter=[5.0]), tmp_path, "metered_hours")
    assert math.isnan(value_of(alone, "metered_hours"))


# ---- windows -------------------------------------------------------------------------------------


def test_a_window_is_the_last_part_of_each_record_or_ends_where_one_says(tmp_path: Path) -> None:
    frame = pd.concat(
        [
            rows("a", time=np.arange(100), running=[0] * 90 + [1] * 10),
            rows("b", time=np.arange(50), running=[1] * 45 + [0] * 5),
        ]
    )
    own = computed(frame, tmp_path, "running_hours", "utilisation", window="10h")
    assert value_of(own, "running_hours") == 10
    assert value_of(own, "running_hours", "b") == 5
    assert [one.end for one in own.rows] == [100, 50]
    assert [(one.first, one.last, one.rows) for one in own.rows] == [(90, 99, 10), (40, 49, 10)]
    then = computed(frame, tmp_path, "running_hours", window="20h", as_of=60.0)
    assert value_of(then, "running_hours") == 0
    assert value_of(then, "running_hours", "b") == 5
    late = computed(frame, tmp_path, "coverage", window="10h", as_of=95.5)
    assert late.devices == ("a",)  # the other was silent: it has no row at all
    # the last reading stands only for what is left of the window, and before its first is nothing
    assert value_of(late, "coverage") == pytest.approx(0.95)
    with pytest.raises(DataError, match="no row is within the window"):
        computed(frame, tmp_path, "coverage", window="10h", as_of=500.0)


# ---- whose rows ----------------------------------------------------------------------------------


def test_rows_are_bound_without_being_told(tmp_path: Path) -> None:
    frame = pd.concat(
        [rows(d, time=[0, 1, 2], running=[1.0, 0.0, 1.0]) for d in ("a", "b")], ignore_index=True
    )
    first = computed(frame, tmp_path)
    assert first.rows[0].digest != first.rows[1].digest  # equal rows of two devices do not show
    changed = computed(frame.assign(running=[1.0, 0.5, 1.0, 1.0, 0.0, 1.0]), tmp_path)
    assert changed.columns["running_hours@1"][0] != first.columns["running_hours@1"][0]
    assert changed.rows[0].digest != first.rows[0].digest
    assert changed.rows[1] == first.rows[1]
    plan = make_plan(telemetry_contract(["running"]), ["all"], hold="1h")
    other = compute_indicators(plan, tmp_path, key=b"o" * 32)
    assert other.rows[1].digest != first.rows[1].digest


def test_devices_of_members_and_parts_are_not_mixed(tmp_path: Path) -> None:
    for member, share in (("north", 1), ("south", 0)):
        (tmp_path / "members" / member).mkdir(parents=True)
        frame = rows(time=[0, 1, 2], running=[share] * 3)
        frame.to_csv(tmp_path / "members" / member / "readings.csv", index=False)
    contract = telemetry_contract(["running"], members={"folder": "members"})
    plan = make_plan(contract, ["utilisation"])
    table = compute_indicators(plan, tmp_path, key=KEY)
    assert table.devices == ("north|a", "south|a")
    assert list(table.columns["utilisation@1"]) == [1, 0]
    one = compute_indicators(plan, tmp_path, key=KEY, member="south")
    assert one.devices == ("a",)
    with pytest.raises(InputError, match=r"no member sooth; did you mean south\?"):
        compute_indicators(plan, tmp_path, key=KEY, member="sooth")


def test_another_key_names_another_device(tmp_path: Path) -> None:
    contract = telemetry_contract(["running"])
    frame = rows(time=[0, 1], running=[1, 0])
    with pytest.raises(InputError, match=r"--device-key: readings has no column devise; did you"):
        computed(frame, tmp_path, contract=contract, device_key=["devise"])
    table = computed(frame, tmp_path, contract=contract, device_key=["device"])
    assert table.plan.digest == contract.digest  # not that of the contract with another unit


# ---- refusals ------------------------------------------------------------------------------------


def plan_of(contract: DataContract | None = None, choose: str = "utilisation", **wish: Any) -> None:  # noqa: ANN401 - of make_plan
    make_plan(contract or telemetry_contract(["running"]), choose.split(","), **wish)


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"choose": "utilization"}, r"--choose: there is no indicator utilization; did you mean"),
        ({"choose": "utilisation,utilisation@1"}, "utilisation is there twice"),
        ({"choose": "yield"}, r"yield needs output \(pieces made .*\); say .* --input output=COL"),
        ({"inputs": {"runing": "running"}}, r"no quantity runing; did you mean running\?"),
        ({"inputs": {"down": "runing"}}, r"no column of numbers runing; did you mean running\?"),
        ({"as_of": 3.0}, "--as-of needs --window"),
        ({"window": "a month"}, "--window a month: expected a duration such as 30d"),
        ({"hold": "0h"}, "--hold 0h: expected a duration"),
        ({"contract": telemetry_contract(["running"], time_unit="shift")}, "no clock's; say how"),
    ],
)
def test_a_wish_that_cannot_be_met_is_told(wish: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        plan_of(**wish)


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    frame = rows(time=[0, 2, 1], running=1)
    for chunk_rows in (1, 2, 50):
        with pytest.raises(DataError, match="not in order of time; sort them by time"):
            computed(frame, tmp_path, chunk_rows=chunk_rows)


def test_a_device_that_stutters_fills_no_memory() -> None:
    sorter = Sorter([False, True])
    for _ in range(50):
        repeated = np.array([[1.0] * 100, [np.nan] * 100])
        out = sorter.add(np.zeros(100, np.int64), np.full(100, 7.0), repeated)
        assert out.device.size == 0
    assert sorter._held.device.size == 1
    assert sorter.finish().device.size == 1


def test_durations() -> None:
    assert duration_h("30d", "x") == 720
    assert duration_h("1.5 h", "x") == 1.5
    assert duration_h("90s", "x") == pytest.approx(0.025)


@pytest.mark.real_data
def test_turbofans_run_as_many_flights_as_they_have_rows() -> None:
    root = ROOT.parent / "shared" / "data"
    if not (root / "cmapss").is_dir():
        pytest.skip("the data sets are not at hand")
    contract = load_contract(ROOT / "configs" / "contracts" / "cmapss.yaml")
    plan = make_plan(
        contract,
        ["running_hours", "coverage", "temperature_rise"],
        inputs={"running": "Nf", "temperature": "T50", "ambient_temperature": "T24"},
        step="1h",
    )
    table = compute_indicators(plan, root, key=KEY)
    assert len(table.devices) == 100 + 260 + 100 + 249 + 100 + 259 + 100 + 248
    assert sum(one.rows for one in table.rows) == 160_359 + 104_897
    hours = table.columns["running_hours@1"]
    assert list(hours) == [one.rows for one in table.rows]  # a flight a row, none is missing
    assert (table.columns["coverage@1"] == 1).all()
    rise = table.columns["temperature_rise@1"]
    assert (rise > 300).all()  # kelvin between compressor inlet and turbine outlet
    assert (rise < 550).all()
