"""How a battery is charged, and how it ages."""

from typing import Final

import numpy as np

from clients.indicators.indicator import (
    Floats,
    Indicator,
    Steps,
    largest,
    latest,
    observed,
    ratio,
    share,
    smallest,
    total,
)

FAST_KW: Final = 22.0
DEEP: Final = 0.2
HIGH: Final = 0.9


def _charged(steps: Steps) -> Floats:
    rise = steps.now["state_of_charge"] - steps.before["state_of_charge"]
    return np.where(steps.joined, np.maximum(rise, 0.0), np.nan)


def _charge_kwh(steps: Steps) -> Floats:
    return steps.hours * np.maximum(steps.now["charge_power"], 0.0)


CHARGING: Final = (
    Indicator(
        name="charge_cycles",
        unit="1",
        sentence="Full charges that all charging adds up to.",
        sentence_zh="等效满充循环次数。",
        formula="sum of rises of state_of_charge between readings at most one hold apart; absent "
        "without two such readings",
        inputs=("state_of_charge",),
        risk="up",
        tallies={
            "charged": total(_charged),
            "pairs": total(lambda s: s.joined.astype(np.float64)),
        },
        value=lambda t: np.where(t["pairs"] > 0, t["charged"], np.nan),
    ),
    Indicator(
        name="fast_charge_share",
        unit="1",
        sentence="Share of the charged energy that came with more than 22 kW.",
        sentence_zh="功率高于22千瓦的快充电量占比。",
        formula="(sum of hours * charge_power where charge_power > 22 kW) / (sum of hours * "
        "max(charge_power, 0))",
        inputs=("charge_power",),
        high=1.0,
        risk="up",
        tallies={
            "fast": total(lambda s: np.where(s.now["charge_power"] > FAST_KW, _charge_kwh(s), 0.0)),
            "all": total(_charge_kwh),
        },
        value=lambda t: share(t["fast"], t["all"]),
    ),
    Indicator(
        name="deep_discharge_share",
        unit="1",
        sentence="Share of the observed hours with less than a fifth of the charge.",
        sentence_zh="电量低于20%的时间占比。",
        formula="(sum of hours where state_of_charge < 0.2) / (sum of hours)",
        inputs=("state_of_charge",),
        high=1.0,
        risk="up",
        falls_with=("state_of_charge",),
        tallies={
            "deep": total(lambda s: s.hours_where(s.now["state_of_charge"] < DEEP)),
            "observed": observed,
        },
        value=lambda t: share(t["deep"], t["observed"]),
    ),
    Indicator(
        name="high_charge_share",
        unit="1",
        sentence="Share of the observed hours with more than nine tenths of the charge.",
        sentence_zh="电量高于90%的时间占比。",
        formula="(sum of hours where state_of_charge > 0.9) / (sum of hours)",
        inputs=("state_of_charge",),
        high=1.0,
        risk="up",
        rises_with=("state_of_charge",),
        tallies={
            "high": total(lambda s: s.hours_where(s.now["state_of_charge"] > HIGH)),
            "observed": observed,
        },
        value=lambda t: share(t["high"], t["observed"]),
    ),
    Indicator(
        name="capacity_fade",
        unit="1",
        sentence="Share of the highest capacity that the battery has lost.",
        sentence_zh="电池容量相对最高容量的衰减率。",
        formula="1 - (last capacity) / (largest capacity), over readings with capacity > 0",
        inputs=("capacity",),
        high=1.0,
        risk="up",
        tallies={
            "last": latest(lambda s: np.where(s.now["capacity"] > 0, s.now["capacity"], np.nan)),
            "most": largest(lambda s: np.where(s.now["capacity"] > 0, s.now["capacity"], np.nan)),
        },
        value=lambda t: 1 - share(t["last"], t["most"]),
    ),
    Indicator(
        name="resistance_growth",
        unit="1",
        sentence="How much the inner resistance has grown above its lowest.",
        sentence_zh="电池内阻相对最低内阻的增长率。",
        formula="(last resistance) / (smallest resistance) - 1, over readings with resistance > 0",
        inputs=("resistance",),
        risk="up",
        tallies={
            "last": latest(
                lambda s: np.where(s.now["resistance"] > 0, s.now["resistance"], np.nan)
            ),
            "least": smallest(
                lambda s: np.where(s.now["resistance"] > 0, s.now["resistance"], np.nan)
            ),
        },
        value=lambda t: np.maximum(ratio(t["last"], t["least"]) - 1, 0.0),
    ),
)
