"""Telemetry for indicators: a table of quantities, its contract, and what a plain reading gives."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from clients.contract import DataContract
from clients.frozen import parse_yaml
from clients.indicators.compute import IndicatorTable, compute_indicators
from clients.indicators.plan import make_plan
from clients.indicators.quantity import QUANTITIES

KEY = b"k" * 32


def telemetry_contract(
    columns: Sequence[str],
    *,
    time_unit: str = "h",
    more: Sequence[dict[str, Any]] = (),
    **keys: Any,  # noqa: ANN401 - any key
) -> DataContract:
    """Columns called like quantities, in the quantity's own unit, after `more` of any kind.

    `keys` replaces top keys.
    """
    value: dict[str, Any] = {
        "contract": 1,
        "name": "readings",
        "unit": "device",
        "sources": [{"path": "readings.csv"}],
        "columns": [
            *more,
            {"name": "device", "type": "text", "role": "id", "class": "L3"},
            {"name": "time", "type": "time", "role": "time", "class": "L3", "unit": time_unit},
            *(
                {
                    "name": name,
                    "type": "number",
                    "role": "sensor",
                    "class": "L3",
                    "unit": QUANTITIES[name].unit or "1",
                    "range": [-1000, 1_000_000],
                }
                for name in columns
            ),
        ],
        "split": {"kind": "units", "seed": 0, "test_share": 0.5},
        "label": {"kind": "within_horizon", "horizon": 1},
    }
    return parse_yaml(DataContract, yaml.safe_dump(value | keys), "readings.yaml")


def computed(
    frame: pd.DataFrame,
    folder: Path,
    *choose: str,
    contract: DataContract | None = None,
    chunk_rows: int = 50_000,
    **wish: Any,  # noqa: ANN401 - of make_plan
) -> IndicatorTable:
    """Write the rows as a file, and compute from it."""
    frame.to_csv(folder / "readings.csv", index=False)
    if contract is None:
        columns = [name for name in frame.columns if name in QUANTITIES]
        contract = telemetry_contract(columns or ["running"])
    plan = make_plan(contract, choose or ["all"], **({"hold": "1h"} | wish))
    return compute_indicators(plan, folder, key=KEY, chunk_rows=chunk_rows)


def value_of(table: IndicatorTable, key: str, device: str = "a") -> float:
    """One value; the newest version where the key has none."""
    full = next(k for k in table.columns if k in {key, f"{key}@1"})
    return float(table.columns[full][table.devices.index(device)])


@dataclass(frozen=True)
class Held:
    """A reading with what it stands for, in plain Python."""

    time: float
    hours: float
    joined: bool
    now: Mapping[str, float]
    before: Mapping[str, float] | None


def held(rows: pd.DataFrame, inputs: Sequence[str], hold: float) -> list[Held]:
    """One device's readings by the rules of docs/indicators.md, written once more and slowly."""
    moments: dict[float, dict[str, float]] = {}
    for time, same in rows.groupby("time"):
        one: dict[str, float] = {}
        for name in inputs:
            values = sorted({float(x) for x in same[name] if not math.isnan(x)})
            if values:
                largest = QUANTITIES[name].kind in {"state", "event"}
                one[name] = values[-1] if largest else math.fsum(values) / len(values)
        if len(one) == len(inputs):
            moments[float(time)] = one  # type: ignore[arg-type] # a number
    times = sorted(moments)
    out: list[Held] = []
    for place, time in enumerate(times):
        hours = min(times[place + 1] - time, hold) if place + 1 < len(times) else hold
        joined = place > 0 and time - times[place - 1] <= hold + 1e-9
        before = moments[times[place - 1]] if place else None
        out.append(Held(time, hours, joined, moments[time], before))
    return out


def _hours(steps: list[Held], holds: Callable[[Mapping[str, float]], bool]) -> float:
    return math.fsum(one.hours for one in steps if holds(one.now))


def _on(now: Mapping[str, float]) -> bool:
    return now["running"] > 0


def _all(_: Mapping[str, float]) -> bool:
    return True


def _sum(steps: list[Held], of: Callable[[Held], float]) -> float:
    return math.fsum(of(one) for one in steps)


def _onsets(steps: list[Held], holds: Callable[[Mapping[str, float]], bool]) -> int:
    return sum(
        holds(one.now) and not (one.joined and one.before is not None and holds(one.before))
        for one in steps
    )


def _per(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan


def _night(one: Held) -> float:
    """Hours at night, by counting small pieces."""
    pieces = 900
    dark = sum(
        not 6 <= (one.time + one.hours * (i + 0.5) / pieces) % 24 < 22 for i in range(pieces)
    )
    return one.hours * dark / pieces


def _rises(steps: list[Held], name: str, *, joined: bool) -> list[float]:
    return [
        one.now[name] - one.before[name]
        for one in steps
        if one.before is not None and (one.joined or not joined)
    ]


def _metered(steps: list[Held]) -> float:
    kept = [rise for rise in _rises(steps, "hour_meter", joined=False) if rise >= 0]
    return math.fsum(kept) if kept else math.nan


def _load_variation(steps: list[Held]) -> float:
    on = [one for one in steps if _on(one.now)]
    mean = _per(_sum(on, lambda s: s.hours * s.now["load_share"]), _hours(on, _all))
    spread = _per(_sum(on, lambda s: s.hours * (s.now["load_share"] - mean) ** 2), _hours(on, _all))
    return math.sqrt(spread) / mean if on and mean > 0 else math.nan


def _positive(steps: list[Held], name: str) -> list[float]:
    return [one.now[name] for one in steps if one.now[name] > 0]


REFERENCE: Mapping[str, Callable[[list[Held]], float]] = {
    "running_hours@1": lambda s: _hours(s, _on),
    "metered_hours@1": _metered,
    "utilisation@1": lambda s: _per(_hours(s, _on), _hours(s, _all)),
    "idle_ratio@1": lambda s: _per(
        _hours(s, lambda n: _on(n) and n["load_share"] < 0.1), _hours(s, _on)
    ),
    "starts_per_day@1": lambda s: (
        24
        * _per(
            sum(
                _on(one.now) and one.joined and one.before is not None and not _on(one.before)
                for one in s
            ),
            _hours(s, _all),
        )
    ),
    "downtime_share@1": lambda s: _per(_hours(s, lambda n: n["down"] > 0), _hours(s, _all)),
    "coverage@1": lambda s: _per(_hours(s, _all), s[-1].time + s[-1].hours - s[0].time),
    "load_share@1": lambda s: _per(
        _sum(s, lambda x: x.hours * max(x.now["load_share"], 0) if _on(x.now) else 0),
        _hours(s, _on),
    ),
    "overload_share@1": lambda s: _per(
        _hours(s, lambda n: _on(n) and n["load_share"] > 1), _hours(s, _on)
    ),
    "peak_load@1": lambda s: max(
        (max(x.now["load_share"], 0) for x in s if _on(x.now)), default=math.nan
    ),
    "load_variation@1": _load_variation,
    "vibration_rms@1": lambda s: math.sqrt(
        _per(
            _sum(s, lambda x: x.hours * x.now["vibration"] ** 2 if _on(x.now) else 0),
            _hours(s, _on),
        )
    ),
    "energy_per_hour@1": lambda s: _per(_sum(s, lambda x: max(x.now["energy"], 0)), _hours(s, _on)),
    "energy_efficiency@1": lambda s: _per(
        _sum(s, lambda x: max(x.now["output"], 0)), _sum(s, lambda x: max(x.now["energy"], 0))
    ),
    "idle_energy_share@1": lambda s: _per(
        _sum(s, lambda x: max(x.now["energy"], 0) if x.now["load_share"] < 0.1 else 0),
        _sum(s, lambda x: max(x.now["energy"], 0)),
    ),
    "driving_consumption@1": lambda s: (
        100
        * _per(
            _sum(s, lambda x: max(x.now["energy"], 0)),
            _sum(s, lambda x: x.hours * max(x.now["speed"], 0)),
        )
    ),
    "failure_frequency@1": lambda s: (
        1000 * _per(_sum(s, lambda x: max(x.now["failed"], 0)), _hours(s, _on))
    ),
    "time_between_failures@1": lambda s: _per(
        _hours(s, _on), _sum(s, lambda x: max(x.now["failed"], 0))
    ),
    "repair_time@1": lambda s: _per(
        _hours(s, lambda n: n["down"] > 0), _onsets(s, lambda n: n["down"] > 0)
    ),
    "response_time@1": lambda s: _per(_sum(s, lambda x: max(x.now["response_time"], 0)), len(s)),
    "alarm_frequency@1": lambda s: (
        1000 * _per(_sum(s, lambda x: max(x.now["alarm"], 0)), _hours(s, _on))
    ),
    "daily_distance@1": lambda s: (
        24 * _per(_sum(s, lambda x: x.hours * max(x.now["speed"], 0)), _hours(s, _all))
    ),
    "hard_braking@1": lambda s: (
        100
        * _per(
            _onsets(s, lambda n: n["acceleration"] < -3),
            _sum(s, lambda x: x.hours * max(x.now["speed"], 0)),
        )
    ),
    "hard_acceleration@1": lambda s: (
        100
        * _per(
            _onsets(s, lambda n: n["acceleration"] > 3),
            _sum(s, lambda x: x.hours * max(x.now["speed"], 0)),
        )
    ),
    "night_share@1": lambda s: _per(
        _sum(s, lambda x: _night(x) if x.now["speed"] > 1 else 0),
        _hours(s, lambda n: n["speed"] > 1),
    ),
    "speeding_share@1": lambda s: _per(
        _hours(s, lambda n: n["speed"] > 1 and n["speed"] > n["speed_limit"]),
        _hours(s, lambda n: n["speed"] > 1),
    ),
    "standing_share@1": lambda s: _per(
        _hours(s, lambda n: _on(n) and n["speed"] <= 1), _hours(s, _on)
    ),
    "charge_cycles@1": lambda s: (
        sum(max(r, 0) for r in _rises(s, "state_of_charge", joined=True))
        if any(x.joined for x in s)
        else math.nan
    ),
    "fast_charge_share@1": lambda s: _per(
        _sum(s, lambda x: x.hours * x.now["charge_power"] if x.now["charge_power"] > 22 else 0),
        _sum(s, lambda x: x.hours * max(x.now["charge_power"], 0)),
    ),
    "deep_discharge_share@1": lambda s: _per(
        _hours(s, lambda n: n["state_of_charge"] < 0.2), _hours(s, _all)
    ),
    "high_charge_share@1": lambda s: _per(
        _hours(s, lambda n: n["state_of_charge"] > 0.9), _hours(s, _all)
    ),
    "capacity_fade@1": lambda s: (
        1 - seen[-1] / max(seen) if (seen := _positive(s, "capacity")) else math.nan
    ),
    "resistance_growth@1": lambda s: (
        seen[-1] / min(seen) - 1 if (seen := _positive(s, "resistance")) else math.nan
    ),
    "temperature_spread@1": lambda s: _per(
        _sum(
            s,
            lambda x: (
                x.hours * max(x.now["cell_temperature_max"] - x.now["cell_temperature_min"], 0)
            ),
        ),
        _hours(s, _all),
    ),
    "temperature_rise@1": lambda s: _per(
        _sum(
            s,
            lambda x: (
                x.hours * (x.now["temperature"] - x.now["ambient_temperature"]) if _on(x.now) else 0
            ),
        ),
        _hours(s, _on),
    ),
    "hot_battery_share@1": lambda s: _per(
        _hours(s, lambda n: n["cell_temperature_max"] > 45), _hours(s, _all)
    ),
    "yield@1": lambda s: _per(
        _sum(s, lambda x: min(max(x.now["good_output"], 0), max(x.now["output"], 0))),
        _sum(s, lambda x: max(x.now["output"], 0)),
    ),
    "output_rate@1": lambda s: _per(_sum(s, lambda x: max(x.now["output"], 0)), _hours(s, _on)),
    "failure_risk@1": lambda s: _per(
        _sum(s, lambda x: x.hours * min(max(x.now["failure_risk"], 0), 1)), _hours(s, _all)
    ),
}
"""Each indicator once more, from its sentence in docs/indicators.md, device by device."""

# values around every threshold, so that each side of it is met
CHOICES: Mapping[str, tuple[float, ...]] = {
    "running": (0, 1, 0.4),
    "down": (0, 0, 1),
    "load_share": (0, 0.05, 0.1, 0.5, 1, 1.2),
    "vibration": (0.5, 2, 4.25),
    "hour_meter": (10, 10.5, 11, 12, 13),
    "energy": (-1, 0, 1.5, 20),
    "output": (-1, 0, 3, 10),
    "good_output": (0, 2, 3, 11),
    "failed": (0, 0, 1, 2),
    "alarm": (0, 1, 3),
    "response_time": (-0.5, 0.25, 3),
    "speed": (-1, 0, 1, 30, 90.5),
    "speed_limit": (30, 50, 90.5),
    "acceleration": (-5, -3, 0, 3, 3.5),
    "state_of_charge": (0.1, 0.2, 0.55, 0.9, 1),
    "charge_power": (-3, 0, 11, 22, 150),
    "capacity": (-1, 0, 80, 95.5, 100),
    "resistance": (0, 1.5, 2),
    "temperature": (-5, 40, 55.5),
    "ambient_temperature": (-10, 20),
    "cell_temperature_max": (25, 45, 50),
    "cell_temperature_min": (20, 24.5, 47),
    "failure_risk": (-0.1, 0, 0.02, 0.5, 1, 1.3),
}
LATER = frozenset({"failure_risk"})
"""Quantities that came later: drawn apart, so that the others' values are as they always were."""


def random_rows(
    rng: np.random.Generator, *, rows: int, devices: int = 3, missing: float = 0.1
) -> pd.DataFrame:
    """Readings of all quantities: gaps, repeated moments, rows that are there twice, holes."""
    frames = []
    names = [f"d{place:02}" for place in range(devices)]
    for device in range(devices):
        steps = rng.choice([0.0, 0.25, 0.5, 1.0, 1.5, 5.0], rows)
        own = pd.DataFrame({"device": names[device], "time": np.cumsum(steps)})
        for name, values in CHOICES.items():
            draw = rng.spawn(1)[0] if name in LATER else rng
            cells = draw.choice(np.array(values, dtype=np.float64), rows)
            cells[draw.random(rows) < missing] = np.nan
            own[name] = cells
        twice = rng.random(rows) < 0.1
        own = pd.concat([own, own[twice]]).sort_values("time", kind="stable")
        frames.append(own)
    whole = pd.concat(frames, ignore_index=True)
    # devices report in turn, each in order of its own time
    turn = rng.permutation(np.repeat(np.arange(devices), [len(f) for f in frames]))
    places = {d: iter(np.flatnonzero(whole["device"] == names[d])) for d in range(devices)}
    return whole.iloc[[int(next(places[d])) for d in turn]].reset_index(drop=True)
