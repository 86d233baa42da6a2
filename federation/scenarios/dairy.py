"""A dairy herd: rumination, mastitis alarms -> milk -> cash flow -> repayment.

Formulas: configs/scenarios/dairy_herd/README.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

HOURS: Final = 240
ALARMS_AN_HOUR: Final = 0.15
MILKING_HOUR: Final = 6


@dataclass(frozen=True, slots=True)
class Herds:
    """A member's cows: readings, what is stated, and what came of it."""

    readings: pd.DataFrame
    stated: pd.DataFrame
    labels: pd.DataFrame


def draw_herds(member: str, *, count: int, rng: np.random.Generator) -> Herds:
    """Draw them."""
    names = [f"{member}-{number:05d}" for number in range(1, count + 1)]
    keys = {"machine": np.repeat(names, HOURS), "time_h": np.tile(np.arange(HOURS), count)}
    clock = np.arange(HOURS)
    shape = (count, HOURS)
    health = rng.beta(4.0, 2.0, count)
    sick = np.repeat(rng.random((count, HOURS // 24)) < 0.35 * (1 - health[:, None]), 24, axis=1)
    alarm = sick & (rng.random(shape) < ALARMS_AN_HOUR)
    ruminates = rng.random(shape) < np.where(sick, 0.2, 0.38)
    milk = np.where(
        clock % 12 == MILKING_HOUR, rng.normal(14, 2, shape).clip(0) * np.where(sick, 0.6, 1.0), 0.0
    )
    debt = rng.uniform(0.2, 0.9, count).round(2)
    income = milk.sum(axis=1) / 10
    log_odds = -1.4 - 8 * (income / 26.0 - 1) + 2.0 * (debt - 0.55)
    seen = {"running": ruminates.astype(int), "alarm": alarm.astype(int), "output": milk.round(2)}
    columns = {name: values.ravel() for name, values in seen.items()}
    return Herds(
        readings=pd.DataFrame(keys | columns),
        stated=pd.DataFrame({"machine": names, "debt_share": debt}),
        labels=pd.DataFrame(
            {"default": (rng.random(count) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)}
        ),
    )
