"""PV plants: irradiance, soiling, inverter trips -> yield -> repayment.

Formulas: configs/scenarios/pv_plant/README.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

HOURS: Final = 240


@dataclass(frozen=True, slots=True)
class Plants:
    """A member's plants: readings, what is stated, and what came of it."""

    readings: pd.DataFrame
    stated: pd.DataFrame
    labels: pd.DataFrame


def draw_plants(member: str, *, count: int, rng: np.random.Generator) -> Plants:
    """Draw them."""
    names = [f"{member}-{number:05d}" for number in range(1, count + 1)]
    keys = {"machine": np.repeat(names, HOURS), "time_h": np.tile(np.arange(HOURS), count)}
    clock = np.arange(HOURS)
    shape = (count, HOURS)
    sun = np.maximum(np.sin((clock % 24 - 6) / 12 * np.pi), 0.0) * rng.uniform(0.5, 1.0, shape)
    soiling = 1.0 - 0.4 * rng.beta(1.5, 5.0, count)
    fault = rng.beta(1.2, 18.0, count)
    trips = np.repeat(rng.random((count, HOURS // 6)) < fault[:, None], 6, axis=1)
    power = sun * soiling[:, None] * ~trips
    subsidy = rng.uniform(0.0, 0.3, count).round(2)
    log_odds = -1.2 - 7 * (power.mean(axis=1) / 0.19 - 1) - 3 * (subsidy - 0.15)
    seen = {
        "running": (power > 0).astype(int),
        "down": trips.astype(int),
        "load_share": power.round(4),
    }
    columns = {name: values.ravel() for name, values in seen.items()}
    return Plants(
        readings=pd.DataFrame(keys | columns),
        stated=pd.DataFrame({"machine": names, "subsidy_share": subsidy}),
        labels=pd.DataFrame(
            {"default": (rng.random(count) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)}
        ),
    )
