"""How hard a machine works while it runs."""

from typing import Final

import numpy as np

from clients.indicators.indicator import Indicator, Totals, largest, ratio, share, total

OVERLOAD: Final = 1.0

_on = total(lambda s: s.hours_where(s.is_on("running")))
_load = total(lambda s: s.hours_where(s.is_on("running")) * s.now["load_share"])
_IN = ("running", "load_share")
_ROUNDING: Final = 1e-12


def _variation(totals: Totals) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    mean = ratio(totals["load"], totals["on"])
    square = ratio(totals["square"], totals["on"])
    # the difference of two sums is exact to about 1e-15 of them: less than a millionth of the mean
    # is rounding, where the load never changed
    variance = square - mean * mean
    spread = np.sqrt(np.where(variance > _ROUNDING * square, variance, 0.0))
    return ratio(spread, mean)


LOAD: Final = (
    Indicator(
        name="load_share",
        unit="1",
        sentence="Mean load while running, as a share of the rated one.",
        sentence_zh="运行时相对额定值的平均负载率。",
        formula="(sum of hours * max(load_share, 0) where running > 0) / (sum of hours where "
        "running > 0)",
        inputs=_IN,
        risk="up",
        low=0.0,
        rises_with=("load_share",),
        tallies={
            "load": total(
                lambda s: s.hours_where(s.is_on("running")) * np.maximum(s.now["load_share"], 0.0)
            ),
            "on": _on,
        },
        value=lambda t: ratio(t["load"], t["on"]),
    ),
    Indicator(
        name="overload_share",
        unit="1",
        sentence="Share of the running hours above the rated load.",
        sentence_zh="运行时间中超过额定负载的比例。",
        formula="(sum of hours where running > 0 and load_share > 1) / (sum of hours where "
        "running > 0)",
        inputs=_IN,
        high=1.0,
        risk="up",
        rises_with=("load_share",),
        tallies={
            "over": total(
                lambda s: s.hours_where(s.is_on("running") & (s.now["load_share"] > OVERLOAD))
            ),
            "on": _on,
        },
        value=lambda t: share(t["over"], t["on"]),
    ),
    Indicator(
        name="peak_load",
        unit="1",
        sentence="Highest load while running, as a share of the rated one.",
        sentence_zh="运行时相对额定值的最高负载率。",
        formula="largest of max(load_share, 0) where running > 0",
        inputs=_IN,
        risk="up",
        rises_with=("load_share",),
        tallies={
            "peak": largest(
                lambda s: np.where(s.is_on("running"), np.maximum(s.now["load_share"], 0.0), np.nan)
            )
        },
        value=lambda t: np.where(np.isfinite(t["peak"]), t["peak"], np.nan),
    ),
    Indicator(
        name="load_variation",
        unit="1",
        sentence="How much the load varies while running: its spread against its mean.",
        sentence_zh="运行时负载的标准差与均值之比。",
        formula="standard deviation / mean of load_share over hours where running > 0; absent "
        "where the mean is not above 0",
        inputs=_IN,
        risk="up",
        tallies={
            "load": _load,
            "square": total(
                lambda s: (
                    s.hours_where(s.is_on("running")) * s.now["load_share"] * s.now["load_share"]
                )
            ),
            "on": _on,
        },
        value=_variation,
    ),
    Indicator(
        name="vibration_rms",
        unit="mm/s",
        sentence="Vibration while running, root of the mean square.",
        sentence_zh="运行时的振动速度均方根。",
        formula="square root of (sum of hours * vibration^2 where running > 0) / (sum of hours "
        "where running > 0)",
        inputs=("running", "vibration"),
        risk="up",
        tallies={
            "square": total(
                lambda s: (
                    s.hours_where(s.is_on("running")) * s.now["vibration"] * s.now["vibration"]
                )
            ),
            "on": _on,
        },
        value=lambda t: np.sqrt(ratio(t["square"], t["on"])),
    ),
)
