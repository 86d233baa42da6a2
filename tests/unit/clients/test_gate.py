"""What the quality gate finds in one device's readings."""

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.machines import column, contract

from clients.contract import DataContract
from clients.frozen import parse_settings
from clients.gate import Device, DeviceFindings, devices, findings, totals, watched
from clients.members import MemberRows
from clients.source import ROW, UNIT
from clients.unit_guess import looks_like
from privacy.canonical import framed

NAN = float("nan")
HEAT_RANGE = next(one["range"] for one in contract()["columns"] if one["name"] == "heat")
BOUNDS = np.array([[20.0, 90.0], [0.0, 5.0]])


def built(gate: dict[str, Any] | None = None, *more: dict[str, Any]) -> DataContract:
    value = contract(gate=gate)
    value["columns"] += more
    return parse_settings(DataContract, value, "x.yaml")


def frame(hours: list[float], **columns: list[float]) -> pd.DataFrame:
    """Rows in the order in which they stand in the file."""
    place = np.arange(len(hours))
    whose = {"machine": "m", "member": "north", UNIT: "m", ROW: place}
    usual = {"heat": 50.0 + 0.01 * place, "shake": 1.0 + 0.001 * place}
    return pd.DataFrame({**whose, "hour": hours, **usual, **columns})


def found(rows: pd.DataFrame, known: DataContract) -> DeviceFindings:
    ((device, own),) = devices(MemberRows("north", rows, rows[:0]), known).items()
    return findings(device, own, known)


def hours(count: int) -> list[float]:
    return [float(hour) for hour in range(count)]


def test_clean_readings_are_clean() -> None:
    one = found(frame(hours(30)), built({"longest_gap": 1, "stuck_after": 2, "interval": 1}))
    assert one.is_clean
    assert (one.rows, one.readings, one.longest_gap, one.drift) == (30, 30, 1.0, 0.0)


@pytest.mark.parametrize(
    "finding",
    [
        *({name: 1} for name in ("repeats", "conflicts", "late", "out_of_range", "gaps")),
        {"longest_run": 3},
        {"stuck": ("heat",)},
        {"drifts": True},
        {"is_off": True},
        {"looks_like": {"heat": "kelvin"}},
        {"repeats": 1, "conflicts": 1},
        {"late": 2, "out_of_range": 2},
        {"out_of_range": 3, "gaps": 3},
    ],
)
def test_any_finding_is_one_to_look_at(finding: dict[str, Any]) -> None:
    clean = found(frame(hours(30)), built({"longest_gap": 1, "stuck_after": 2, "interval": 1}))
    assert not replace(clean, **finding).is_clean
    # what puts nobody under review is no finding
    assert replace(clean, out_of_threshold=9, longest_run=2, drift=0.5, clock_off=1.0).is_clean


@pytest.mark.parametrize(
    ("cells", "out"),
    [
        ([[91, 1]], [True]),
        ([[90, 1], [20, 0]], [False, False]),  # the bounds are inside
        ([[NAN, 6]], [True]),
        ([[50, NAN]], [False]),
        ([[NAN, NAN]], []),  # says nothing
        ([[91, 1], [NAN, NAN], [91, 1]], [True, True]),
    ],
)
def test_a_reading_is_out_if_any_known_cell_is(cells: list[list[float]], out: list[bool]) -> None:
    seen = watched(np.arange(len(cells), dtype=float), np.array(cells, dtype=float), BOUNDS)
    assert seen.out.tolist() == out
    assert len(seen.words) == sum(out)


def test_rows_of_one_time_are_one_reading_and_the_worst_counts() -> None:
    values = np.array([[50.0, 1.0], [95.0, 1.0], [95.0, 1.0], [96.0, 1.0]])
    seen = watched(np.zeros(4), values, BOUNDS)
    assert seen.out.tolist() == [True]
    other = watched(np.zeros(2), values[1:3], BOUNDS)
    assert seen.words != other.words  # another word on the same time is another reading
    assert watched(np.zeros(3), values[:3], BOUNDS).words == other.words


def test_two_in_a_row_put_nobody_under_review_and_three_do() -> None:
    values = np.array([[95.0, 1], [95, 1], [50, 1], [95, 1], [50, 6], [91, 1]])
    seen = watched(np.arange(6.0), values, BOUNDS)
    assert [list(run) for run in seen.runs()] == [[0, 1], [2, 3, 4]]
    assert seen.puts_under_review() == (2, 3, 4)
    assert seen.puts_under_review({3}) == ()
    assert watched(np.arange(5.0), values[:5], BOUNDS).puts_under_review() == ()


def test_repeats_contradictions_and_late_rows_are_told_apart() -> None:
    rows = frame([0.0, 1.0, 1.0, 3.0, 2.0, 2.0])
    rows.loc[2, ["heat", "shake"]] = rows.loc[1, ["heat", "shake"]]
    one = found(rows, built())
    assert (one.readings, one.repeats, one.conflicts, one.late) == (4, 1, 1, 2)
    assert not one.is_clean


def test_a_gap_is_longer_than_the_longest_that_is_allowed() -> None:
    one = found(frame([0.0, 5.0, 10.1, 11.0]), built({"longest_gap": 5}))
    assert one.gaps == 1
    assert one.longest_gap == pytest.approx(5.1)


def test_a_sensor_that_stands_still_is_stuck_unless_it_may_rest() -> None:
    rows = frame(hours(10), heat=[50, 51, 52, 52, NAN, 52, 52, 53, 54, 55])
    assert found(rows, built({"stuck_after": 4})).stuck == ("heat",)
    assert found(rows, built({"stuck_after": 5})).stuck == ()
    assert found(rows, built({"stuck_after": 4, "may_rest": ["heat"]})).stuck == ()


def test_a_clock_that_runs_fast_is_found_whatever_is_missing() -> None:
    rules = built({"interval": 1, "drift": 0.02})
    fast = found(frame([1.05 * hour for hour in range(20) if hour not in {4, 5, 9}]), rules)
    assert fast.drifts
    assert fast.drift == pytest.approx(0.05)
    gaps = found(frame([float(hour) for hour in range(20) if hour not in {4, 5, 9}]), rules)
    assert not gaps.drifts


def test_a_clock_is_held_against_when_readings_arrived() -> None:
    rules = built({"received": "got", "clock_off": 2}, column("got"))
    off = found(frame(hours(5), got=[-3.0, -2.0, -1.0, NAN, 90.0]), rules)
    assert off.clock_off == pytest.approx(3.0)
    assert off.is_off
    assert not found(frame(hours(5), got=[1.0, 2.0, 3.0, 4.0, 5.0]), rules).is_off
    assert found(frame(hours(3), got=[NAN] * 3), rules).clock_off is None


def test_each_row_of_readings_that_are_out_has_its_own_places() -> None:
    heat = [95.0, 95, 50, 95, 50, 95, 95, 95]
    seen = watched(np.arange(8.0), np.array([[one, 1.0] for one in heat]), BOUNDS)
    assert list(seen.runs()) == [(0, 1), (2,), (3, 4, 5)]
    assert seen.puts_under_review() == (3, 4, 5)
    assert seen.puts_under_review(settled=(4,)) == ()


def test_a_rule_is_broken_beyond_its_figure_and_not_at_it() -> None:
    at = frame([0.0, 2.5, 5.0, 7.5], got=[2.0, 4.5, 7.0, 9.5])
    rules = {"interval": 2, "drift": 0.25, "received": "got", "clock_off": 2}
    one = found(at, built(rules, column("got")))
    assert (one.drift, one.drifts, one.clock_off, one.is_off) == (0.25, False, -2.0, False)
    tighter = found(at, built({**rules, "drift": 0.24, "clock_off": 1.9}, column("got")))
    assert tighter.drifts
    assert tighter.is_off
    assert found(at.iloc[:3], built({"interval": 2, "drift": 0.25})).drift is None  # two steps
    single = found(frame([1.0]), built())
    assert (single.longest_gap, single.longest_run, single.gaps) == (None, 0, 0)
    high, low = float(HEAT_RANGE[1]), float(HEAT_RANGE[0])
    assert found(frame(hours(2), heat=[low, high]), built()).out_of_range == 0
    assert found(frame(hours(2), heat=[low - 1, high + 1]), built()).out_of_range == 2


def test_a_reading_out_of_bounds_has_its_time_and_its_cells_for_a_name() -> None:
    values = np.array([[95.0, -0.0], [95.0, 0.0], [NAN, 6.0]])
    zero, same, unknown = (watched(np.zeros(1), values[at : at + 1], BOUNDS) for at in range(3))
    cells = np.array([95.0, 0.0]).astype(">f8").tobytes()
    assert zero.words == same.words == (framed(struct.pack(">d", 0.0), cells),)
    cells = np.array([NAN, 6.0]).astype(">f8").tobytes()
    assert unknown.words == (framed(struct.pack(">d", 0.0), cells),)


def test_one_reading_has_one_name_however_its_zero_and_its_gap_are_spelled() -> None:
    cells = np.array([[NAN, 6.0]])
    (word,) = watched(np.zeros(1), cells, BOUNDS).words
    assert watched(np.array([-0.0]), cells, BOUNDS).words == (word,)
    other = np.array([[np.copysign(NAN, -1.0), 6.0]])
    assert other.tobytes() != cells.tobytes()
    assert watched(np.zeros(1), other, BOUNDS).words == (word,)


def test_numbers_in_another_unit_are_named() -> None:
    celsius = 45 + 10 * np.sin(np.arange(60.0))
    bounds = (0.0, 90.0)
    assert looks_like(celsius, unit="degC", bounds=bounds) == ""
    assert looks_like(celsius * 1.8 + 32, unit="degC", bounds=(0.0, 80.0)) == "degF"
    for spelled in ("degC", "C", "°C"):
        assert looks_like(celsius + 273.15, unit=spelled, bounds=bounds) == "K"
    assert looks_like(celsius, unit="K", bounds=(270.0, 360.0)) == "degC"
    assert looks_like(celsius[:19] + 273.15, unit="degC", bounds=bounds) == ""  # too few to say
    assert looks_like(celsius + 900, unit="degC", bounds=bounds) == ""  # nothing fits
    assert looks_like(celsius * 1000, unit="A", bounds=bounds) == "mA"
    assert looks_like(celsius, unit="share", bounds=(0.0, 1.0)) == "%"
    assert looks_like(celsius + 273.15, unit="mood", bounds=bounds) == ""
    assert looks_like(celsius + 273.15, unit=None, bounds=bounds) == ""
    room = column("room", role="setting", unit="degC", range=[-40, 90])
    told = found(frame(hours(30), room=[295.0] * 30), built(None, room))
    assert told.looks_like == {"room": "K"}
    one = found(frame(hours(30), heat=[323.0] * 30), built())
    assert dict(one.looks_like) == {"heat": "K"}
    assert one.out_of_range == 30


def test_one_name_in_both_parts_is_two_devices_only_where_the_data_says_the_parts() -> None:
    train, test = frame(hours(3)), frame([float(hour) for hour in range(3, 6)])
    rows = MemberRows("north", train, test)
    drawn = devices(rows, built())
    assert {one.name: len(own) for one, own in drawn.items()} == {"m": 6}
    value = contract(
        split=None, sources=[{"path": "a", "part": "train"}, {"path": "b", "part": "test"}]
    )
    told = devices(rows, parse_settings(DataContract, value, "x.yaml"))
    assert {one.name: len(own) for one, own in told.items()} == {"m": 3, "test:m": 3}
    assert Device("m") != Device("m", test=True)


def test_a_sensor_that_stands_still_from_its_first_reading_on_is_stuck() -> None:
    rows = frame(hours(6), heat=[50.0, 50.0, 50.0, 50.0, 51.0, 52.0])
    assert found(rows, built({"stuck_after": 4})).stuck == ("heat",)
    assert found(rows, built({"stuck_after": 5})).stuck == ()
    assert found(rows, built({"stuck_after": 4})).device == Device("m", test=False)


def test_totals_are_sums_under_the_names_of_what_was_found() -> None:
    whole = found(frame(hours(3)), built())
    one = replace(
        whole, rows=1, readings=2, repeats=3, conflicts=4, late=5, out_of_range=6,
        out_of_threshold=7, gaps=8, stuck=("heat",), drifts=True, is_off=True,
        looks_like={"heat": "F", "shake": "g"},
    )  # fmt: skip
    two = replace(one, rows=10, drifts=False, is_off=False)
    assert totals([]) == dict.fromkeys(totals([one]), 0)
    assert totals([one, two, replace(one, drifts=False)]) == {
        "devices": 3, "rows": 12, "readings": 6, "repeats": 9, "conflicts": 12, "late": 15,
        "out_of_range": 18, "out_of_threshold": 21, "gaps": 24, "stuck": 3, "clocks": 2,
        "other_units": 6,
    }  # fmt: skip


def test_totals_count_what_was_found() -> None:
    known = built({"longest_gap": 1, "stuck_after": 2})
    one = found(frame([0.0, 1.0, 3.0], heat=[95.0, 95.0, 95.0]), known)
    sums = totals([one, one])
    assert (sums["devices"], sums["rows"], sums["gaps"], sums["stuck"]) == (2, 6, 2, 2)
    assert sums["out_of_threshold"] == 6
    assert sums["out_of_range"] == 0
