"""How good what a machine makes is."""

from typing import Final

import numpy as np

from clients.indicators.indicator import Indicator, ratio, share, total

_made = total(lambda s: np.maximum(s.now["output"], 0.0))

QUALITY: Final = (
    Indicator(
        name="yield",
        unit="1",
        sentence="Share of the pieces that passed inspection.",
        sentence_zh="良品率。",
        formula="(sum of good_output held to [0, output]) / (sum of max(output, 0))",
        inputs=("output", "good_output"),
        high=1.0,
        risk="down",
        rises_with=("good_output",),
        tallies={
            "good": total(
                lambda s: np.clip(s.now["good_output"], 0.0, np.maximum(s.now["output"], 0.0))
            ),
            "made": _made,
        },
        value=lambda t: share(t["good"], t["made"]),
    ),
    Indicator(
        name="output_rate",
        unit="1/h",
        sentence="Pieces made in an hour of running.",
        sentence_zh="每运行小时的产量。",
        formula="(sum of max(output, 0)) / (sum of hours where running > 0)",
        inputs=("running", "output"),
        risk="down",
        rises_with=("output",),
        tallies={
            "made": _made,
            "on": total(lambda s: s.hours_where(s.is_on("running"))),
        },
        value=lambda t: ratio(t["made"], t["on"]),
    ),
)
