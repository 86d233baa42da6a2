"""How much a machine runs, and how."""

from typing import Final

import numpy as np

from clients.indicators.indicator import (
    Indicator,
    Steps,
    largest,
    observed,
    ratio,
    share,
    smallest,
    total,
)

IDLE_LOAD: Final = 0.1

_on = total(lambda s: s.hours_where(s.is_on("running")))


def _metered(steps: Steps) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    # a meter that begins again says nothing of what it lost
    return np.where(
        steps.before["hour_meter"] <= steps.now["hour_meter"],
        steps.now["hour_meter"] - steps.before["hour_meter"],
        np.nan,
    )


RUNNING: Final = (
    Indicator(
        name="running_hours",
        unit="h",
        sentence="Hours that the machine ran.",
        sentence_zh="设备运行小时数。",
        formula="sum of hours where running > 0",
        inputs=("running",),
        rises_with=("running",),
        tallies={"on": _on},
        value=lambda t: t["on"],
    ),
    Indicator(
        name="metered_hours",
        unit="h",
        sentence="Running hours that the machine's own meter counted.",
        sentence_zh="设备计时表累计的运行小时数。",
        formula="sum of rises of hour_meter from reading to reading, gaps included; a fall is a "
        "new meter and is left out; absent where no two readings are left",
        inputs=("hour_meter",),
        tallies={
            "metered": total(_metered),
            "pairs": total(lambda s: (~np.isnan(_metered(s))).astype(np.float64)),
        },
        value=lambda t: np.where(t["pairs"] > 0, t["metered"], np.nan),
    ),
    Indicator(
        name="utilisation",
        unit="1",
        sentence="Share of the observed hours in which the machine ran.",
        sentence_zh="运行时间占观测时间的比例。",
        formula="(sum of hours where running > 0) / (sum of hours)",
        inputs=("running",),
        high=1.0,
        risk="down",
        rises_with=("running",),
        tallies={"on": _on, "observed": observed},
        value=lambda t: share(t["on"], t["observed"]),
    ),
    Indicator(
        name="idle_ratio",
        unit="1",
        sentence="Share of the running hours at less than a tenth of the rated load.",
        sentence_zh="运行时间中负载低于额定值十分之一的比例。",
        formula="(sum of hours where running > 0 and load_share < 0.1) / (sum of hours where "
        "running > 0)",
        inputs=("running", "load_share"),
        high=1.0,
        risk="up",
        falls_with=("load_share",),
        tallies={
            "idle": total(
                lambda s: s.hours_where(s.is_on("running") & (s.now["load_share"] < IDLE_LOAD))
            ),
            "on": _on,
        },
        value=lambda t: share(t["idle"], t["on"]),
    ),
    Indicator(
        name="starts_per_day",
        unit="1/d",
        sentence="How often a day the machine was started.",
        sentence_zh="设备平均每天的启动次数。",
        formula="24 * (number of readings with running > 0 whose reading before is at most one "
        "hold away and has running <= 0) / (sum of hours)",
        inputs=("running",),
        risk="up",
        tallies={
            "starts": total(
                lambda s: (s.is_on("running") & s.joined & (s.before["running"] <= 0)).astype(
                    np.float64
                )
            ),
            "observed": observed,
        },
        value=lambda t: 24 * ratio(t["starts"], t["observed"]),
    ),
    Indicator(
        name="downtime_share",
        unit="1",
        sentence="Share of the observed hours in which the machine was out of order.",
        sentence_zh="故障停机时间占观测时间的比例。",
        formula="(sum of hours where down > 0) / (sum of hours)",
        inputs=("down",),
        high=1.0,
        risk="up",
        rises_with=("down",),
        tallies={
            "down": total(lambda s: s.hours_where(s.is_on("down"))),
            "observed": observed,
        },
        value=lambda t: share(t["down"], t["observed"]),
    ),
    Indicator(
        name="coverage",
        unit="1",
        sentence="Share of the time for which there are readings at all.",
        sentence_zh="有读数的时间所占比例。",
        formula="(sum of hours) / (length of the window; without one, from the first reading to "
        "the end of what the last one stands for)",
        inputs=(),
        high=1.0,
        risk="down",
        tallies={
            "observed": observed,
            "first": smallest(lambda s: s.start_h),
            "end": largest(lambda s: s.start_h + s.hours),
            "window": largest(lambda s: s.window_h),
        },
        value=lambda t: share(
            t["observed"],
            np.where(np.isfinite(t["window"]), t["window"], t["end"] - t["first"]),
        ),
    ),
)
