"""Insured electric fleets: style, night and distance -> claims, Poisson over the exposure.

Formulas: configs/scenarios/ev_fleet_insurance/README.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

HOURS: Final = 240


@dataclass(frozen=True, slots=True)
class Vehicles:
    """An insurer's vehicles: readings, what is stated, and claims."""

    readings: pd.DataFrame
    stated: pd.DataFrame
    labels: pd.DataFrame


def draw_vehicles(insurer: str, *, count: int, rng: np.random.Generator) -> Vehicles:
    """Draw them."""
    style = rng.beta(1.5, 12.0, count)
    night = rng.beta(2.0, 5.0, count)
    hours = rng.uniform(2.0, 9.0, count)
    clock = np.arange(HOURS) % 24
    dark = (clock >= 22) | (clock < 6)  # noqa: PLR2004 - as the indicator night_share@1 has it
    chance = hours[:, None] * np.where(dark, night[:, None] / 8, (1 - night[:, None]) / 16)
    drives = rng.random((count, HOURS)) < chance
    speed = np.where(drives, rng.normal(38.0, 9.0, drives.shape).clip(5.0, 110.0), 0.0)
    brakes = drives & (rng.random(drives.shape) < style[:, None])
    exposure = rng.uniform(0.3, 1.0, count).round(3)
    km_a_day = 24 * speed.mean(axis=1)
    rate = (km_a_day / 200) * np.exp(-1.6 + 6.0 * style + 1.5 * night)
    names = [f"{insurer}-{number:05d}" for number in range(1, count + 1)]
    return Vehicles(
        readings=pd.DataFrame(
            {
                "machine": np.repeat(names, HOURS),
                "time_h": np.tile(np.arange(HOURS), count),
                "speed": speed.ravel().round(1),
                "acceleration": np.where(brakes, -4.0, -1.0).ravel(),
            }
        ),
        stated=pd.DataFrame({"machine": names, "exposure_years": exposure}),
        labels=pd.DataFrame({"claims": rng.poisson(rate * exposure)}),
    )
