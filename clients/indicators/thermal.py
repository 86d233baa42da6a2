"""How warm a device gets."""

from typing import Final

import numpy as np

from clients.indicators.indicator import Indicator, observed, ratio, share, total

HOT_CELL_C: Final = 45.0

THERMAL: Final = (
    Indicator(
        name="temperature_spread",
        unit="K",
        sentence="Mean difference between the warmest and the coldest cell.",
        sentence_zh="最高与最低电芯温度之差的均值。",
        formula="(sum of hours * max(cell_temperature_max - cell_temperature_min, 0)) / (sum of "
        "hours)",
        inputs=("cell_temperature_max", "cell_temperature_min"),
        risk="up",
        rises_with=("cell_temperature_max",),
        falls_with=("cell_temperature_min",),
        tallies={
            "spread": total(
                lambda s: (
                    s.hours
                    * np.maximum(s.now["cell_temperature_max"] - s.now["cell_temperature_min"], 0.0)
                )
            ),
            "observed": observed,
        },
        value=lambda t: ratio(t["spread"], t["observed"]),
    ),
    Indicator(
        name="temperature_rise",
        unit="K",
        sentence="Mean temperature above the surroundings while running.",
        sentence_zh="运行时相对环境温度的平均温升。",
        formula="(sum of hours * (temperature - ambient_temperature) where running > 0) / (sum "
        "of hours where running > 0)",
        inputs=("running", "temperature", "ambient_temperature"),
        low=-1000.0,
        risk="up",
        rises_with=("temperature",),
        falls_with=("ambient_temperature",),
        tallies={
            "rise": total(
                lambda s: (
                    s.hours_where(s.is_on("running"))
                    * (s.now["temperature"] - s.now["ambient_temperature"])
                )
            ),
            "on": total(lambda s: s.hours_where(s.is_on("running"))),
        },
        value=lambda t: ratio(t["rise"], t["on"]),
    ),
    Indicator(
        name="hot_battery_share",
        unit="1",
        sentence="Share of the observed hours in which the warmest cell was above 45 degrees.",
        sentence_zh="最高电芯温度超过45摄氏度的时间占比。",
        formula="(sum of hours where cell_temperature_max > 45 degC) / (sum of hours)",
        inputs=("cell_temperature_max",),
        high=1.0,
        risk="up",
        rises_with=("cell_temperature_max",),
        tallies={
            "hot": total(lambda s: s.hours_where(s.now["cell_temperature_max"] > HOT_CELL_C)),
            "observed": observed,
        },
        value=lambda t: share(t["hot"], t["observed"]),
    ),
)
