"""Run configs and contracts that do not go together are refused as they are read."""

from pathlib import Path

import pytest
from support import machines, tables

from federation.config import load_project
from privacy.errors import InputError

WINDOW = {"window": {"length": 8, "statistics": ["mean"]}}


def test_sensors_of_single_rows_are_not_dropped_without_a_word(tmp_path: Path) -> None:
    columns = tables.columns("binary")
    for column in columns:
        if column["name"] in {"load", "amount"}:
            column["role"] = "sensor"
            column.pop("transform", None)
    contract = {"columns": columns}
    where = tables.write(tmp_path / "sensors", contract_changes=contract)
    with pytest.raises(InputError, match="calls load, amount sensors or settings"):
        load_project(where.config)
    without = {"features": {"without": ["load", "amount"]}}
    where = tables.write(tmp_path / "without", contract_changes=contract, config_changes=without)
    assert load_project(where.config).config.features.without == ("load", "amount")


def test_a_model_of_nothing_is_refused(tmp_path: Path) -> None:
    names = [each["name"] for each in tables.columns("binary")]
    inputs = [name for name in names if name in {"load", "amount", "code"}]
    where = tables.write(tmp_path, config_changes={"features": {"without": inputs}})
    with pytest.raises(InputError, match="leaves no input; a model needs one"):
        load_project(where.config)


def test_windows_are_of_readings_over_time(tmp_path: Path) -> None:
    where = tables.write(tmp_path / "rows", config_changes={"features": WINDOW})
    with pytest.raises(InputError, match=r"features.window: remove it; small_binary is no"):
        load_project(where.config)
    over_time = machines.write(tmp_path / "readings", config_changes={"features": {}})
    with pytest.raises(InputError, match=r"features.window: is missing; machines holds readings"):
        load_project(over_time.config)


@pytest.mark.parametrize(
    "features", [{}, {"window": {"length": 8, "statistics": ["mean"]}}], ids=["rows", "statistics"]
)
def test_a_convolution_is_over_readings(tmp_path: Path, features: dict[str, object]) -> None:
    changes = {"model": {"kind": "cnn", "hidden": []}, "features": features}
    where = tables.write(tmp_path, config_changes=changes)
    with pytest.raises(InputError, match=r"model.kind: cnn needs features.window without") as told:
        load_project(where.config)
    assert "\n" not in str(told.value)
