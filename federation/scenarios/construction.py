"""Leased construction machines: downtime -> paid hours -> cash -> missed repayment.

Formulas: configs/scenarios/construction_lease/README.md. Everything follows from the generator's
state; an intervention sets downtime and leaves orders, age and sector as they were drawn.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SECTORS: Final = ("road", "housing", "quarry")
SHIFTS: Final = 180
SHIFT_H: Final = 8
SPELL: Final = 3


@dataclass(frozen=True, slots=True)
class Leases:
    """A bank's leases, and what no bank sees of them.

    Attributes:
        readings: machine, time_h, running, down; one row a shift.
        stated: machine, age_years, sector.
        downtime: Share of shifts out of order, shape (n,).
        orders: Share of the hours that are wanted, shape (n,).
        chance: Uniform draws that settle who defaults, shape (n,).
    """

    readings: pd.DataFrame
    stated: pd.DataFrame
    downtime: Floats
    orders: Floats
    chance: Floats

    def default_probability(self, downtime: Floats | None = None) -> Floats:
        """P(default), or P(default | do(downtime)), shape (n,)."""
        shown = self.downtime if downtime is None else downtime
        paid = (1 - shown) * self.orders
        quarry = (self.stated["sector"] == "quarry").to_numpy(dtype=np.float64)
        age = self.stated["age_years"].to_numpy(dtype=np.float64)
        cash = paid / 0.55 - 1 - 0.25 * quarry - 0.02 * (age - 7.5)
        return _share(-1.0 - 4 * cash)

    @property
    def labels(self) -> pd.DataFrame:
        """Who defaults."""
        chosen = self.chance < self.default_probability()
        return pd.DataFrame({"default": chosen.astype(np.int64)})


def draw_leases(bank: str, *, count: int, rng: np.random.Generator) -> Leases:
    """Draw a bank's leases and the readings of their machines."""
    place = rng.choice(3, count, p=[0.4, 0.35, 0.25])
    age = rng.uniform(0, 15, count).round(1)
    log_odds = -2.3 + np.array([0.0, 0.3, 0.9])[place] + 0.09 * (age - 7.5)
    broken = _share(log_odds + 0.6 * rng.standard_normal(count))
    spells = rng.random((count, SHIFTS // SPELL)) < broken[:, None]
    down = np.repeat(spells, SPELL, axis=1)
    orders = rng.beta(30, 10, count)
    running = ~down & (rng.random(down.shape) < orders[:, None])
    names = [f"{bank}-{number:05d}" for number in range(1, count + 1)]
    readings = pd.DataFrame(
        {
            "machine": np.repeat(names, SHIFTS),
            "time_h": np.tile(np.arange(SHIFTS) * SHIFT_H, count),
            "running": running.ravel().astype(np.int64),
            "down": down.ravel().astype(np.int64),
        }
    )
    sectors = np.array(SECTORS)[place]
    return Leases(
        readings=readings,
        stated=pd.DataFrame({"machine": names, "age_years": age, "sector": sectors}),
        downtime=down.mean(axis=1),
        orders=orders,
        chance=rng.random(count),
    )


def _share(log_odds: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-log_odds))
