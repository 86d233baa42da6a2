"""A CNC workshop: spindle load -> tool wear -> scrap -> cash -> repayment.

Formulas: configs/scenarios/cnc_workshop/README.md.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

HOURS: Final = 240


@dataclass(frozen=True, slots=True)
class Workshop:
    """A member's CNC machines: readings, what is stated, and what came of it."""

    readings: pd.DataFrame
    stated: pd.DataFrame
    labels: pd.DataFrame


def draw_workshop(member: str, *, count: int, rng: np.random.Generator) -> Workshop:
    """Draw them."""
    names = [f"{member}-{number:05d}" for number in range(1, count + 1)]
    keys = {"machine": np.repeat(names, HOURS), "time_h": np.tile(np.arange(HOURS), count)}
    clock = np.arange(HOURS)
    shape = (count, HOURS)
    load = rng.uniform(0.4, 0.95, count)
    care = rng.beta(2.0, 2.0, count)
    change_h = (20 + 100 * (1 - care)).astype(np.int64)
    wear = (clock[None, :] % change_h[:, None]) * (load[:, None] / 0.7) ** 2 / 100
    spindle = np.clip(load[:, None] * (1 + 0.2 * wear) + rng.normal(0, 0.05, shape), 0.0, 1.3)
    pieces = rng.poisson(10 * load[:, None], shape)
    good = rng.binomial(pieces, np.exp(-0.25 * wear))
    contracts = rng.uniform(0.0, 1.0, count).round(2)
    earned = (good - 0.6 * (pieces - good)).mean(axis=1)
    log_odds = -1.2 - 3 * (earned / 5.0 - 1) - 1.0 * (contracts - 0.5)
    seen = {
        "running": np.ones(shape, int),
        "load_share": spindle.round(4),
        "output": pieces,
        "good_output": good,
    }
    columns = {name: values.ravel() for name, values in seen.items()}
    return Workshop(
        readings=pd.DataFrame(keys | columns),
        stated=pd.DataFrame({"machine": names, "fixed_contracts_share": contracts}),
        labels=pd.DataFrame(
            {"default": (rng.random(count) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)}
        ),
    )
