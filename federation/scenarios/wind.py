"""A wind farm: wind -> power curve, pitch and icing -> energy sold -> repayment.

Formulas: configs/scenarios/wind_farm/README.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

HOURS: Final = 240
CUT_IN, RATED, CUT_OUT = 3.0, 12.0, 25.0


@dataclass(frozen=True, slots=True)
class Turbines:
    """A lender's turbines: readings, what owners state, and who defaults."""

    readings: pd.DataFrame
    stated: pd.DataFrame
    labels: pd.DataFrame


def draw_turbines(lender: str, *, count: int, rng: np.random.Generator) -> Turbines:
    """Draw them."""
    site = rng.normal(8.0, 1.2, count)
    cold = rng.random(count)
    gusts = rng.normal(0.0, 1.0, (count, HOURS))
    for hour in range(1, HOURS):
        gusts[:, hour] = 0.9 * gusts[:, hour - 1] + np.sqrt(1 - 0.81) * gusts[:, hour]
    wind = np.maximum(site[:, None] + 2.5 * gusts, 0.0)
    ice = np.repeat(rng.random((count, HOURS // 12)) < 0.25 * cold[:, None] ** 2, 12, axis=1)
    pitch = 1.0 - 0.3 * rng.beta(1.0, 5.0, count)
    power = np.clip((wind**3 - CUT_IN**3) / (RATED**3 - CUT_IN**3), 0.0, 1.0)
    power = power * (wind < CUT_OUT) * ~ice * pitch[:, None]
    age = rng.uniform(0, 20, count).round(1)
    log_odds = -1.4 - 5 * (power.mean(axis=1) / 0.35 - 1) + 0.04 * (age - 10)
    names = [f"{lender}-{number:05d}" for number in range(1, count + 1)]
    return Turbines(
        readings=pd.DataFrame(
            {
                "machine": np.repeat(names, HOURS),
                "time_h": np.tile(np.arange(HOURS), count),
                "running": (power > 0).ravel().astype(np.int64),
                "down": ice.ravel().astype(np.int64),
                "load_share": power.ravel().round(4),
            }
        ),
        stated=pd.DataFrame({"machine": names, "age_years": age}),
        labels=pd.DataFrame(
            {"default": (rng.random(count) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)}
        ),
    )
