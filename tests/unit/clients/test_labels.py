"""What is learnt, by label kind, on tables small enough to label by hand."""

import numpy as np
import pandas as pd
import pytest

from clients.contract import DataContract
from clients.frozen import parse_yaml
from clients.labels import label_rows
from privacy.errors import DataError

TELEMETRY = """
contract: 1
name: pumps
unit: device
sources: [{{path: pumps.csv}}]
columns:
  - {{name: pump, type: text, role: id, class: L3}}
  - {{name: hour, type: time, role: time, class: L3}}
  - {{name: heat, type: number, role: sensor, class: L3, range: [0, 9]}}
  {event}
split: {{kind: units, seed: 0, test_share: 0.5}}
label: {label}
"""
EVENT = "- {name: failed, type: integer, role: event, class: L3}"
TABLE = """
contract: 1
name: table
unit: policyholder
sources: [{{path: table.csv}}]
columns:
  - {{name: x, type: number, class: L3, range: [0, 1]}}
  - {{name: y, {y}, role: label, class: L3}}
  - {{name: years, type: number, role: exposure, class: L3}}
split: {{kind: uniform, seed: 0, test_share: 0.5}}
label: {label}
"""
NUMBER = "type: number, range: [-10, 10]"


def telemetry(label: str, event: str = "") -> DataContract:
    return parse_yaml(DataContract, TELEMETRY.format(label=label, event=event), "pumps.yaml")


def table(label: str, y: str = NUMBER) -> DataContract:
    return parse_yaml(DataContract, TABLE.format(label=label, y=y), "table.yaml")


def pumps(*rows: tuple[str, float], **more: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["pump", "hour"])
    return frame.astype({"hour": float}).assign(heat=1.0, **more)


def labels(y: list[float], years: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"x": 0.5, "y": y, "years": years or [1.0] * len(y)}, dtype=float)


def column(frame: pd.DataFrame, name: str) -> list[float]:
    return list(frame[name].to_numpy(dtype=np.float64))


def test_remaining_life_counts_down_to_the_last_time_and_is_capped() -> None:
    contract = telemetry("{kind: remaining_life, cap: 3}")
    frame = label_rows(pumps(("a", 1), ("a", 2), ("a", 7), ("b", 4), ("b", 5)), contract)
    assert column(frame, "__y_raw") == [6, 5, 0, 1, 0]
    assert column(frame, "__y") == [3, 3, 0, 1, 0]
    assert column(frame, "__exposure") == [1] * 5


def test_remaining_life_at_test_adds_what_the_file_says() -> None:
    contract = telemetry("{kind: remaining_life, cap: 125}")
    rows = pumps(("a", 1), ("a", 3), ("b", 1), __life_at_end=[10, 10, 200])
    frame = label_rows(rows, contract)
    assert column(frame, "__y_raw") == [12, 10, 200]
    assert column(frame, "__y") == [12, 10, 125]


def test_training_rows_beside_test_rows_have_no_life_left_at_their_end() -> None:
    contract = telemetry("{kind: remaining_life, cap: 125}")
    rows = pumps(("a", 1), ("a", 3), __life_at_end=[np.nan, np.nan])
    assert column(label_rows(rows, contract), "__y_raw") == [2, 0]


def test_an_event_within_the_horizon_is_strictly_later() -> None:
    contract = telemetry("{kind: within_horizon, horizon: 2}", EVENT)
    rows = pumps(*(("a", t) for t in range(1, 9)), failed=[0, 0, 0, 1, 0, 0, 0, 0])
    frame = label_rows(rows, contract)
    # t = 2 and 3 see the failure at 4; at 4 itself it has happened
    assert column(frame, "__y")[:6] == [0, 1, 1, 0, 0, 0]
    # the record ends at 8, so nobody knows what 9 and 10 brought
    assert list(frame["__known"]) == [True] * 6 + [False] * 2


def test_an_event_near_the_end_is_known_though_the_record_stops() -> None:
    contract = telemetry("{kind: within_horizon, horizon: 5}", EVENT)
    frame = label_rows(pumps(("a", 1), ("a", 2), ("a", 3), failed=[0, 0, 1]), contract)
    assert column(frame, "__y")[:2] == [1, 1]
    assert list(frame["__known"]) == [True, True, False]


def test_an_event_belongs_to_its_own_unit() -> None:
    contract = telemetry("{kind: within_horizon, horizon: 1}", EVENT)
    rows = pumps(("a", 1), ("a", 2), ("b", 1), ("b", 2), failed=[0, 0, 0, 1])
    frame = label_rows(rows, contract)
    assert column(frame, "__y")[::2] == [0, 1]


def test_without_an_event_column_the_records_end_is_the_failure() -> None:
    contract = telemetry("{kind: within_horizon, horizon: 2}")
    frame = label_rows(pumps(("a", 1), ("a", 2), ("a", 3), ("a", 4)), contract)
    assert column(frame, "__y")[:3] == [0, 1, 1]
    assert list(frame["__known"][:3]) == [True] * 3


def test_no_row_is_dropped_and_order_is_kept() -> None:
    contract = telemetry("{kind: within_horizon, horizon: 2}", EVENT)
    rows = pumps(("a", 3), ("a", 1), ("a", 2), failed=[0, 0, 0])
    frame = label_rows(rows, contract)
    assert column(frame, "hour") == [3, 1, 2]


@pytest.mark.parametrize(("positive", "expected"), [("1", [0, 1, 0]), ("2", [0, 0, 1])])
def test_binary_compares_numbers(positive: str, expected: list[float]) -> None:
    contract = table(f"{{kind: binary, column: y, positive: {positive}}}")
    assert column(label_rows(labels([0, 1, 2]), contract), "__y") == expected


def test_binary_compares_texts_however_they_are_spelled() -> None:
    contract = table("{kind: binary, column: y, positive: 1}", y="type: text")
    rows = labels([0, 0]).assign(y=pd.Series(["1", "no"], dtype="str"))
    assert column(label_rows(rows, contract), "__y") == [1, 0]


def test_a_count_and_its_exposure_are_capped() -> None:
    contract = table("{kind: count, column: y, cap: 4, exposure: years, exposure_cap: 1}")
    frame = label_rows(labels([0, 4, 9], [0.5, 1, 1.9]), contract)
    assert column(frame, "__y") == [0, 4, 4]
    assert column(frame, "__y_raw") == [0, 4, 9]
    assert column(frame, "__exposure") == [0.5, 1, 1]


def test_a_value_is_itself() -> None:
    frame = label_rows(labels([-2.5, 7]), table("{kind: value, column: y}"))
    assert column(frame, "__y") == [-2.5, 7]
    assert column(frame, "__exposure") == [1, 1]


@pytest.mark.parametrize(
    ("label", "y", "years", "named"),
    [
        ("{kind: value, column: y}", [np.nan, 987654.0], None, "column y"),
        ("{kind: binary, column: y}", [np.nan, 987654.0], None, "column y"),
        ("{kind: count, column: y}", [np.nan, 987654.0], None, "column y"),
        ("{kind: count, column: y}", [1, -987654.0], None, "column y has 1 negative"),
        ("{kind: count, column: y, exposure: years}", [1, 1], [1, 0], "column years has 1 cells"),
        ("{kind: count, column: y, exposure: years}", [1, 1], [1, -987654.0], "column years"),
        ("{kind: count, column: y, exposure: years}", [1, 1], [1, np.nan], "column years"),
    ],
)
def test_an_impossible_label_is_refused_without_its_value(
    label: str, y: list[float], years: list[float] | None, named: str
) -> None:
    with pytest.raises(DataError) as failure:
        label_rows(labels(y, years), table(label))
    text = str(failure.value)
    assert named in text
    assert text.startswith("table: ")
    assert text.endswith(".")
    assert "987654" not in text
