"""Three invented banks' machine leases: indicators of the leased fleet, and who defaults.

A bank never sees a reading. What it knows of the machines are indicators, and these come from
`machines.operating_point`, the closed form of the wear model. Formulas: docs/generated-data.md.
"""

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from federation.scenarios.machines import KINDS, OperatingPoint, operating_point

Floats: TypeAlias = NDArray[np.float64]

MAKERS = tuple(kind.name for kind in KINDS)
REGIONS = tuple(f"R{number:02d}" for number in range(1, 17))
"""Region codes, common ones first: the i-th is drawn with weight 1 / (i + 4)."""
REGION_EFFECT = (
    0.00, 0.50, -0.55, 0.20, -0.75, 0.85, -0.30, 0.65, -0.90, 0.35, 1.00, -0.50,
    -0.15, 1.10, -1.05, 0.70,
)  # fmt: skip
REGION_TEMP_C = (
    14.0, 17.0, 12.0, 19.0, 15.0, 21.0, 11.0, 16.0, 13.0, 18.0, 22.0, 10.0, 15.0, 20.0, 12.0, 17.0,
)  # fmt: skip
MAKER_EFFECT = (0.35, -0.40, 0.15, -0.65, 0.50, 0.70, -0.30, 0.00, 0.55, -0.70, -0.20, 0.30)


@dataclass(frozen=True)
class Sector:
    """A lessee's trade: its effect on the log-odds and the utilisation at which it earns."""

    name: str
    effect: float
    break_even: float
    usual_utilisation: float
    makers: tuple[int, ...]


SECTORS: tuple[Sector, ...] = (
    Sector("construction", 0.35, 0.50, 0.55, (0, 2, 8, 11)),
    Sector("quarrying", 0.10, 0.55, 0.60, (0, 7, 8)),
    Sector("agriculture", 0.20, 0.30, 0.42, (0, 1, 6)),
    Sector("waste", -0.15, 0.50, 0.62, (0, 7, 8)),
    Sector("metal", -0.25, 0.55, 0.65, (3, 4, 10)),
    Sector("plastics", 0.15, 0.60, 0.66, (2, 4, 10)),
    Sector("printing", 0.75, 0.50, 0.52, (3, 10)),
    Sector("textiles", 0.55, 0.60, 0.60, (9, 2)),
    Sector("food", -0.40, 0.55, 0.68, (1, 7, 11)),
    Sector("logistics", 0.00, 0.50, 0.60, (5, 7, 10)),
    Sector("energy", -0.70, 0.45, 0.62, (1, 2, 6)),
    Sector("forestry", 0.60, 0.35, 0.45, (0, 5)),
)


@dataclass(frozen=True)
class Bank:
    """A bank, the sectors that it knows, and how large its deals are.

    `home_share` of its leases are in `home_sectors`, the rest in all others; `machine_price_eur`
    is the median amount for one machine, `fleet_mean` the mean number of machines in a lease.
    """

    name: str
    leases: int
    home_sectors: tuple[int, ...]
    home_share: float
    machine_price_eur: float
    fleet_mean: float


BANKS: tuple[Bank, ...] = (
    Bank("corvane-bank", 4000, (0, 1, 2, 3), 0.78, 40_000.0, 3.0),
    Bank("lindmark-leasing", 4000, (4, 5, 6, 7), 0.78, 30_000.0, 2.0),
    Bank("pellworth-credit", 4000, (8, 9, 10, 11), 0.78, 34_000.0, 2.5),
)

INTERCEPT = -3.66
HIDDEN_SHARE = {"downtime_share": 0.06, "failure_risk": 0.06, "company_age_years": 0.03}
"""How often a value is missing from the file, whatever it is."""

DECIMALS = {
    "machine_age_years": 1,
    "hours_per_month": 1,
    "utilisation": 3,
    "downtime_share": 4,
    "failure_risk": 4,
    "energy_kwh_per_h": 2,
    "company_age_years": 1,
    "amount_eur": 2,
    "down_payment_share": 3,
    "interest_percent": 2,
}
"""Digits after the point in the file."""


@dataclass(frozen=True)
class LeaseBook:
    """A bank's book.

    `leases` is what the file holds, with gaps; `complete` is the same without gaps;
    `probability` is each lease's probability of default, from which `default` was drawn.
    """

    bank: Bank
    leases: pd.DataFrame
    complete: pd.DataFrame
    probability: Floats


def draw_leases(bank: Bank, *, count: int, rng: np.random.Generator) -> LeaseBook:
    """Draw a bank's book.

    Holds: the same generator state gives the same book; `probability` equals
    `default_probability(complete)`.
    """
    complete = _terms(bank, count, rng)
    complete = pd.concat([complete, _machine_indicators(complete, rng)], axis=1)
    complete = complete.round(DECIMALS)
    probability = default_probability(complete)
    complete["default"] = (rng.random(count) < probability).astype(np.int64)
    leases = complete.copy()
    for column, share in HIDDEN_SHARE.items():
        leases.loc[rng.random(count) < share, column] = np.nan
    return LeaseBook(bank=bank, leases=leases, complete=complete, probability=probability)


def default_probability(leases: pd.DataFrame) -> Floats:
    """Return each lease's probability of default within its term, from columns without gaps."""
    probability: Floats = 1.0 / (1.0 + np.exp(-default_log_odds(leases)))
    return probability


def default_log_odds(leases: pd.DataFrame) -> Floats:
    """Return the log-odds of default: the sum of the terms in docs/generated-data.md."""
    sector = leases["sector"].map({s.name: i for i, s in enumerate(SECTORS)}).to_numpy()
    region = leases["region"].map({code: i for i, code in enumerate(REGIONS)}).to_numpy()
    maker = leases["maker"].map({name: i for i, name in enumerate(MAKERS)}).to_numpy()
    number = {name: leases[name].to_numpy(dtype=np.float64) for name in _NUMBERS}
    break_even = np.array([s.break_even for s in SECTORS])[sector]
    idle = np.maximum(0.0, break_even - number["utilisation"])
    lent = 1.0 - number["down_payment_share"]
    per_machine = number["amount_eur"] / number["machines"]
    log_odds: Floats = (
        INTERCEPT
        + np.array([s.effect for s in SECTORS])[sector]
        + np.array(REGION_EFFECT)[region]
        + np.array(MAKER_EFFECT)[maker]
        + 2.0 * idle
        + 5.0 * idle * lent
        + 1.6 * (lent - 0.8)
        + 0.45 * np.log(np.maximum(number["downtime_share"], 1e-4) / 0.008)
        + 2.2 * number["failure_risk"] * np.minimum(number["machine_age_years"], 12.0) / 12.0
        + 0.28 * (number["interest_percent"] - 5.0)
        + 0.10 * np.maximum(0.0, number["machine_age_years"] - 8.0)
        + 0.9 * np.exp(-number["company_age_years"] / 4.0)
        + 0.45 * np.minimum(number["arrears_12m"], 3)
        + 0.20 * np.log(per_machine / 35_000.0) ** 2
        + 0.012 * np.maximum(0.0, number["term_months"] - 48)
    )
    return log_odds


_NUMBERS = (
    "utilisation", "down_payment_share", "amount_eur", "machines", "downtime_share", "failure_risk",
    "machine_age_years", "interest_percent", "company_age_years", "arrears_12m", "term_months",
)  # fmt: skip


def region_weights() -> Floats:
    """Return how often each region occurs; a few are common and most are rare."""
    weights = 1.0 / (np.arange(len(REGIONS)) + 5.0)
    shares: Floats = weights / weights.sum()
    return shares


def operating_points(
    maker: NDArray[np.int64], *, load: Floats, ambient_c: Floats, on_share: Floats, ageing: Floats
) -> OperatingPoint:
    """Return `machines.operating_point` for machines of mixed makers, given as indices."""
    columns = {field.name: np.zeros(maker.shape) for field in fields(OperatingPoint)}
    for index, kind in enumerate(KINDS):
        own = maker == index
        point = operating_point(
            kind,
            load=load[own],
            ambient_c=ambient_c[own],
            on_share=on_share[own],
            ageing=ageing[own],
        )
        for name, values in columns.items():
            values[own] = getattr(point, name)
    return OperatingPoint(**columns)


def _terms(bank: Bank, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Who leases what on which terms."""
    home = rng.random(count) < bank.home_share
    others = [i for i in range(len(SECTORS)) if i not in bank.home_sectors]
    sector = np.where(home, rng.choice(bank.home_sectors, count), rng.choice(others, count))
    pick = rng.random(count)
    maker = np.array(
        [
            SECTORS[s].makers[int(p * len(SECTORS[s].makers))]
            for s, p in zip(sector, pick, strict=True)
        ]
    )
    stray = rng.random(count) < 0.15  # noqa: PLR2004 - some lease what their trade seldom uses
    maker = np.where(stray, rng.integers(0, len(MAKERS), count), maker)
    usual = np.array([s.usual_utilisation for s in SECTORS])[sector]
    machines = 1 + rng.poisson(bank.fleet_mean - 1.0, count)
    company_age = rng.gamma(1.6, 7.0, count)
    per_machine = bank.machine_price_eur * np.exp(rng.normal(0.0, 0.65, count))
    down_payment = rng.beta(1.8, 7.0, count)
    return pd.DataFrame(
        {
            "lease": [f"{bank.name}-{number:06d}" for number in range(1, count + 1)],
            "sector": np.array([s.name for s in SECTORS])[sector],
            "region": np.array(REGIONS)[rng.choice(len(REGIONS), count, p=region_weights())],
            "maker": np.array(MAKERS)[maker],
            "machines": machines,
            "machine_age_years": np.minimum(rng.gamma(1.5, 3.2, count), 30.0),
            "utilisation": rng.beta(8.0 * usual, 8.0 * (1.0 - usual)),
            "company_age_years": np.minimum(company_age, 120.0),
            "arrears_12m": np.minimum(rng.poisson(rng.gamma(0.35, 1.0, count)), 12),
            "amount_eur": np.clip(per_machine * machines, 2_000.0, 5e6),
            "down_payment_share": down_payment,
            "interest_percent": np.clip(
                5.2 - 4.0 * (down_payment - 0.2) + rng.normal(0.0, 1.1, count), 0.5, 14.0
            ),
            "term_months": rng.choice([24, 36, 48, 60, 72], count, p=[0.1, 0.25, 0.3, 0.25, 0.1]),
        }
    )


def _machine_indicators(terms: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """What the leased machines' own wear model makes of how and where they are used."""
    count = len(terms)
    load = np.clip(rng.normal(0.58, 0.09, count), 0.25, 1.0)
    older = 1.0 + 0.03 * terms["machine_age_years"].to_numpy()
    ageing = np.exp(rng.normal(0.0, 0.25, count)) * older
    on_share = 0.15 + 0.75 * terms["utilisation"].to_numpy()
    region = terms["region"].map({code: i for i, code in enumerate(REGIONS)}).to_numpy()
    ambient = np.array(REGION_TEMP_C)[region]
    maker = terms["maker"].map({name: i for i, name in enumerate(MAKERS)})
    point = operating_points(
        np.asarray(maker, dtype=np.int64),
        load=load,
        ambient_c=ambient,
        on_share=on_share,
        ageing=ageing,
    )
    downtime = point.downtime_share * np.exp(rng.normal(0.0, 0.35, count))
    return pd.DataFrame(
        {
            "hours_per_month": point.hours_per_month,
            "downtime_share": np.clip(downtime, 0.0, 0.5),
            "failure_risk": 1.0 - np.exp(-point.failures_per_year / 12.0),
            "energy_kwh_per_h": point.energy_kwh_per_h,
        }
    )
