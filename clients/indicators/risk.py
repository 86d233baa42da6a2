"""What a failure model says of a device, as one indicator: the bridge from a model to a score."""

from typing import Final

import numpy as np

from clients.indicators.indicator import Indicator, observed, share, total

RISK: Final = (
    Indicator(
        name="failure_risk",
        unit="1",
        sentence="Mean chance of a failure within the failure model's horizon, as it was scored.",
        sentence_zh="故障模型在其预测期内给出的平均故障概率。",
        formula="(sum of hours * failure_risk held to [0, 1]) / (sum of hours)",
        inputs=("failure_risk",),
        high=1.0,
        risk="up",
        rises_with=("failure_risk",),
        tallies={
            "risk": total(lambda s: s.hours * np.clip(s.now["failure_risk"], 0.0, 1.0)),
            "observed": observed,
        },
        value=lambda t: share(t["risk"], t["observed"]),
    ),
)
