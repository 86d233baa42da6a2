"""How often a machine fails, and how soon somebody acts."""

from typing import Final

import numpy as np

from clients.indicators.indicator import Indicator, ratio, total

_on = total(lambda s: s.hours_where(s.is_on("running")))
_failures = total(lambda s: np.maximum(s.now["failed"], 0.0))

FAILURES: Final = (
    Indicator(
        name="failure_frequency",
        unit="1/1000h",
        sentence="Failures in a thousand running hours.",
        sentence_zh="每千运行小时的故障次数。",
        formula="1000 * (sum of max(failed, 0)) / (sum of hours where running > 0)",
        inputs=("failed", "running"),
        risk="up",
        rises_with=("failed",),
        falls_with=("running",),
        tallies={"failures": _failures, "on": _on},
        value=lambda t: 1000 * ratio(t["failures"], t["on"]),
    ),
    Indicator(
        name="time_between_failures",
        unit="h",
        sentence="Running hours for each failure; absent where nothing failed.",
        sentence_zh="平均无故障运行时间。无故障时缺失。",
        formula="(sum of hours where running > 0) / (sum of max(failed, 0)); absent without a "
        "failure",
        inputs=("failed", "running"),
        risk="down",
        falls_with=("failed",),
        rises_with=("running",),
        tallies={"failures": _failures, "on": _on},
        value=lambda t: ratio(t["on"], t["failures"]),
    ),
    Indicator(
        name="repair_time",
        unit="h",
        sentence="Mean length of a time out of order; absent where there was none.",
        sentence_zh="平均单次停机时长。无停机时缺失。",
        formula="(sum of hours where down > 0) / (number of readings with down > 0 whose reading "
        "before is further than one hold away or has down <= 0)",
        inputs=("down",),
        risk="up",
        tallies={
            "down": total(lambda s: s.hours_where(s.is_on("down"))),
            "spells": total(lambda s: s.begins(s.is_on("down"), s.before["down"] > 0)),
        },
        value=lambda t: ratio(t["down"], t["spells"]),
    ),
    Indicator(
        name="response_time",
        unit="h",
        sentence="Mean time from an alarm to the first action.",
        sentence_zh="报警到首次处置的平均时间。",
        formula="mean of max(response_time, 0) over readings that have one",
        inputs=("response_time",),
        risk="up",
        rises_with=("response_time",),
        tallies={
            "time": total(lambda s: np.maximum(s.now["response_time"], 0.0)),
            "count": total(lambda s: np.ones(s.hours.shape)),
        },
        value=lambda t: ratio(t["time"], t["count"]),
    ),
    Indicator(
        name="alarm_frequency",
        unit="1/1000h",
        sentence="Alarms in a thousand running hours.",
        sentence_zh="每千运行小时的报警次数。",
        formula="1000 * (sum of max(alarm, 0)) / (sum of hours where running > 0)",
        inputs=("alarm", "running"),
        risk="up",
        rises_with=("alarm",),
        falls_with=("running",),
        tallies={"alarms": total(lambda s: np.maximum(s.now["alarm"], 0.0)), "on": _on},
        value=lambda t: 1000 * ratio(t["alarms"], t["on"]),
    ),
)
