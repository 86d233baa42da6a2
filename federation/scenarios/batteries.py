"""Batteries: cycles, fast charging, heat -> capacity fade -> residual value.

Formulas: configs/scenarios/battery_residual_value/README.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

HOURS: Final = 240
FAST_KW, SLOW_KW = 50.0, 7.0
CHARGES_BELOW: Final = 0.25


@dataclass(frozen=True, slots=True)
class Batteries:
    """A lender's batteries: readings, what is stated, and what they are worth."""

    readings: pd.DataFrame
    stated: pd.DataFrame
    labels: pd.DataFrame


def draw_batteries(member: str, *, count: int, rng: np.random.Generator) -> Batteries:
    """Draw them."""
    use = rng.uniform(0.02, 0.12, count)
    fast = rng.beta(1.0, 2.0, count)
    warm = rng.normal(33.0, 5.0, count)
    charge = np.empty((count, HOURS))
    power = np.zeros((count, HOURS))
    charge[:, 0] = rng.uniform(0.4, 1.0, count)
    for hour in range(1, HOURS):
        empty = charge[:, hour - 1] < CHARGES_BELOW
        power[:, hour] = np.where(empty, np.where(rng.random(count) < fast, FAST_KW, SLOW_KW), 0.0)
        charge[:, hour] = np.where(empty, 0.9, charge[:, hour - 1] - use)
    heat = warm[:, None] + 0.2 * power + rng.normal(0, 2, charge.shape)
    age = rng.uniform(0, 8, count).round(1)
    cycles = 0.5 + use / 0.07
    fade = 0.012 * age * cycles * (1 + 0.8 * fast) * np.exp(0.04 * (warm - 33))
    value = (0.95 - 2.2 * fade + rng.normal(0, 0.03, count)).clip(0.0, 1.0)
    names = [f"{member}-{number:05d}" for number in range(1, count + 1)]
    return Batteries(
        readings=pd.DataFrame(
            {
                "machine": np.repeat(names, HOURS),
                "time_h": np.tile(np.arange(HOURS), count),
                "state_of_charge": charge.clip(0, 1).ravel().round(4),
                "charge_power": power.ravel(),
                "cell_temperature_max": heat.ravel().round(1),
            }
        ),
        stated=pd.DataFrame({"machine": names, "age_years": age}),
        labels=pd.DataFrame({"residual_value_share": value.round(4)}),
    )
