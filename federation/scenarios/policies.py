"""Four invented insurers' machinery policies: how machines are used, and how many claims follow.

The rate of breakdown claims follows the wear model (`machines.operating_point`); the rest is how
people and places add to it. Formulas: docs/generated-data.md.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from federation.scenarios.leases import (
    MAKERS,
    REGION_TEMP_C,
    REGIONS,
    operating_points,
    region_weights,
)

Floats: TypeAlias = NDArray[np.float64]

USES = ("own", "shared", "rental", "seasonal", "training")
USE_SHARE = (0.55, 0.20, 0.15, 0.07, 0.03)
USE_EFFECT = (0.0, 0.25, 0.55, -0.35, 0.75)
REGION_EFFECT = (
    0.00, -0.40, 0.35, -0.20, 0.65, -0.70, 0.40, -0.50, 0.75, -0.30, 0.55, -0.85,
    0.90, -0.65, 0.20, -0.35,
)  # fmt: skip
MAKER_EFFECT = (0.45, -0.40, 0.20, -0.50, 0.40, 0.60, -0.20, -0.45, 0.70, -0.30, 0.15, -0.60)
DEDUCTIBLES_EUR = (500, 1000, 2500, 5000, 10000)


@dataclass(frozen=True)
class Insurer:
    """An insurer and the makers that most of its policies cover."""

    name: str
    policies: int
    home_makers: tuple[int, ...]
    home_share: float


INSURERS: tuple[Insurer, ...] = (
    Insurer("oakmere-assurance", 9000, (0, 8, 11), 0.8),
    Insurer("sunderfold-cover", 11000, (3, 4, 10), 0.8),
    Insurer("tarnbrook-mutual", 9500, (1, 5, 6), 0.8),
    Insurer("veldhaven-insurance", 10500, (2, 7, 9), 0.8),
)

INTERCEPT = -2.65

DECIMALS = {
    "exposure_years": 3,
    "machine_age_years": 1,
    "load_share": 3,
    "temperature_rise": 1,
    "operator_years": 1,
}
"""Digits after the point in the file."""


@dataclass(frozen=True)
class PolicyBook:
    """An insurer's book: the file's rows, and the claims a year that each was drawn from.

    `failures_per_year` is the machine's breakdown rate and `bearing_temp_c` its bearing's
    temperature. No file holds them: an insurer sees no reading, and the file has an indicator,
    the temperature's rise above the surroundings.
    """

    insurer: Insurer
    policies: pd.DataFrame
    failures_per_year: Floats
    bearing_temp_c: Floats
    claims_per_year: Floats


def draw_policies(insurer: Insurer, *, count: int, rng: np.random.Generator) -> PolicyBook:
    """Draw an insurer's book.

    Holds: the same generator state gives the same book; `claims_per_year` equals `claim_rate` of
    its policies, failures and temperatures.
    """
    home = rng.random(count) < insurer.home_share
    others = [i for i in range(len(MAKERS)) if i not in insurer.home_makers]
    maker = np.where(home, rng.choice(insurer.home_makers, count), rng.choice(others, count))
    region = rng.choice(len(REGIONS), count, p=region_weights())
    age = np.minimum(rng.gamma(1.6, 3.4, count), 30.0)
    load = rng.normal(0.58, 0.13, count).clip(0.2, 1.0).round(3)
    on_share = np.clip(rng.beta(4.0, 3.5, count), 0.05, 0.98)
    ageing = np.exp(rng.normal(0.0, 0.15, count))
    ambient = np.array(REGION_TEMP_C)[region] + rng.normal(0.0, 3.0, count)
    point = operating_points(maker, load=load, ambient_c=ambient, on_share=on_share, ageing=ageing)
    failures = point.failures_per_year
    full_year = rng.random(count) < 0.4  # noqa: PLR2004 - policies in force all year
    exposure = np.where(full_year, 1.0, rng.uniform(0.08, 1.0, count))
    temp = (point.bearing_temp_c + rng.normal(0.0, 1.0, count)).round(1)
    policies = pd.DataFrame(
        {
            "policy": [f"{insurer.name}-{number:06d}" for number in range(1, count + 1)],
            "exposure_years": exposure,
            "machine_age_years": age,
            "hours_per_year": np.round(8760.0 * on_share).astype(np.int64),
            "load_share": load,
            "temperature_rise": temp - ambient,
            "operator_years": np.minimum(rng.gamma(1.3, 5.0, count), 45.0),
            "use": np.array(USES)[rng.choice(len(USES), count, p=USE_SHARE)],
            "region": np.array(REGIONS)[region],
            "maker": np.array(MAKERS)[maker],
            "deductible_eur": rng.choice(DEDUCTIBLES_EUR, count, p=[0.15, 0.35, 0.25, 0.15, 0.1]),
        }
    ).round(DECIMALS)
    rate = claim_rate(policies, failures_per_year=failures, bearing_temp_c=temp)
    policies["claims"] = rng.poisson(rate * policies["exposure_years"].to_numpy())
    return PolicyBook(
        insurer=insurer,
        policies=policies,
        failures_per_year=failures,
        bearing_temp_c=temp,
        claims_per_year=rate,
    )


def claim_rate(
    policies: pd.DataFrame, *, failures_per_year: Floats, bearing_temp_c: Floats
) -> Floats:
    """Return claims a year: exp of the sum of the terms in docs/generated-data.md."""
    region = policies["region"].map({code: i for i, code in enumerate(REGIONS)}).to_numpy()
    maker = policies["maker"].map({name: i for i, name in enumerate(MAKERS)}).to_numpy()
    use = policies["use"].map({name: i for i, name in enumerate(USES)}).to_numpy()
    age = policies["machine_age_years"].to_numpy(dtype=np.float64)
    load = policies["load_share"].to_numpy(dtype=np.float64)
    novice = np.exp(-policies["operator_years"].to_numpy(dtype=np.float64) / 3.0)
    deductible = policies["deductible_eur"].to_numpy(dtype=np.float64)
    rate: Floats = np.exp(
        INTERCEPT
        + 0.5 * np.log(failures_per_year)
        + np.array(REGION_EFFECT)[region]
        + np.array(MAKER_EFFECT)[maker]
        + np.array(USE_EFFECT)[use]
        + 0.4 * np.exp(-age)
        + 0.07 * np.clip(age - 6.0, 0.0, 10.0)
        + 0.6 * novice * (1.0 + (load > 0.7))  # noqa: PLR2004 - where load counts as heavy
        + 0.04 * np.maximum(0.0, bearing_temp_c - 48.0)
        - 0.2 * np.log(deductible / 1000.0)
    )
    return rate
