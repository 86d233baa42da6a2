"""What the gate finds follows from the set of a device's rows: order and repeats change nothing."""

import math
import random
from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.machines import column, contract

from clients.contract import DataContract
from clients.device_trust import DeviceFacts, device_facts
from clients.frozen import parse_settings
from clients.gate import Device, DeviceFindings, devices, findings
from clients.members import MemberRows
from clients.source import ROW, UNIT

VALUE = contract(
    gate={
        "interval": 1, "longest_gap": 2, "drift": 0.1, "received": "got", "clock_off": 1,
        "stuck_after": 3, "restarts": "boots", "firmware_days": "age",
    }
)  # fmt: skip
VALUE["columns"] += [column("got"), column("boots"), column("age")]
CONTRACT = parse_settings(DataContract, VALUE, "contract")
DEVICE = Device("m")
NAN = math.nan

Row = tuple[float, float, float, float, float]


def cells(*values: float) -> st.SearchStrategy[float]:
    return st.sampled_from([*values, NAN])


rows_of_one = st.lists(
    st.tuples(
        st.integers(0, 5).map(float),
        cells(50.0, 51.0, 95.0, 130.0),
        cells(0.0, 3.0, 7.0),
        cells(0.0, 1.0, 2.0),
        cells(10.0, 400.0),
    ),
    min_size=1,
    max_size=10,
)


def frame_of(rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["hour", "heat", "got", "boots", "age"], dtype=float)
    frame["member"], frame["machine"], frame["shake"] = "north", "m", 1.0
    frame[UNIT], frame[ROW] = "m", np.arange(len(frame))
    return frame


def found(rows: list[Row]) -> tuple[DeviceFindings, DeviceFacts]:
    frame = frame_of(rows)
    dealt = devices(MemberRows("north", frame, frame[:0]), CONTRACT)
    one = findings(DEVICE, dealt[DEVICE], CONTRACT)
    # these are of rows, and say so
    return replace(one, rows=0, repeats=0, conflicts=0, late=0), device_facts(dealt, CONTRACT, {})[
        DEVICE
    ]


@settings(max_examples=100)
@given(rows_of_one, st.randoms(use_true_random=False), st.data())
def test_neither_order_nor_repeats_of_rows_change_what_is_found(
    rows: list[Row],
    chance: random.Random,
    data: st.DataObject,
) -> None:
    again = data.draw(st.lists(st.sampled_from(rows), max_size=4))
    other = [*rows, *again]
    chance.shuffle(other)
    assert found(other) == found(rows)


@settings(max_examples=50)
@given(rows_of_one)
@example([(0.0, 50.0, 0.0, 1.0, 10.0)])
def test_a_restart_is_said_once_a_moment_and_the_worst_counts(rows: list[Row]) -> None:
    """Held against the rule, written plainly."""
    moments: dict[float, list[float]] = {}
    for hour, _, _, boots, _ in rows:
        moments.setdefault(hour, []).append(0.0 if math.isnan(boots) else boots)
    expected = 100 * sum(max(one) for one in moments.values()) / len(moments)
    assert found(rows)[1].restarts == expected


@settings(max_examples=50)
@given(rows_of_one)
def test_a_sensor_is_stuck_by_the_longest_row_of_moments_that_say_one_value(
    rows: list[Row],
) -> None:
    """Held against the rule, written plainly: a contradiction does not hide a stuck sensor."""
    moments: dict[float, set[float]] = {}
    for hour, heat, *_ in rows:
        if not math.isnan(heat):
            moments.setdefault(hour, set()).add(heat)
    longest = 0
    for value in {value for one in moments.values() for value in one}:
        run = 0
        for hour in sorted(moments):
            run = run + 1 if value in moments[hour] else 0
            longest = max(longest, run)
    assert ("heat" in found(rows)[0].stuck) == (longest >= 3)
