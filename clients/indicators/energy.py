"""What a machine makes of its energy."""

from typing import Final

import numpy as np

from clients.indicators.indicator import Indicator, ratio, share, total

IDLE_LOAD: Final = 0.1

_energy = total(lambda s: np.maximum(s.now["energy"], 0.0))

ENERGY: Final = (
    Indicator(
        name="energy_per_hour",
        unit="kWh/h",
        sentence="Energy used in an hour of running.",
        sentence_zh="每运行小时的能耗。",
        formula="(sum of max(energy, 0)) / (sum of hours where running > 0)",
        inputs=("running", "energy"),
        risk="up",
        rises_with=("energy",),
        tallies={
            "energy": _energy,
            "on": total(lambda s: s.hours_where(s.is_on("running"))),
        },
        value=lambda t: ratio(t["energy"], t["on"]),
    ),
    Indicator(
        name="energy_efficiency",
        unit="1/kWh",
        sentence="Pieces made of a kilowatt-hour.",
        sentence_zh="每千瓦时的产量。",
        formula="(sum of max(output, 0)) / (sum of max(energy, 0))",
        inputs=("output", "energy"),
        risk="down",
        rises_with=("output",),
        falls_with=("energy",),
        tallies={"output": total(lambda s: np.maximum(s.now["output"], 0.0)), "energy": _energy},
        value=lambda t: ratio(t["output"], t["energy"]),
    ),
    Indicator(
        name="idle_energy_share",
        unit="1",
        sentence="Share of the energy that was used at less than a tenth of the rated load.",
        sentence_zh="负载低于额定值十分之一时的能耗占比。",
        formula="(sum of max(energy, 0) where load_share < 0.1) / (sum of max(energy, 0))",
        inputs=("energy", "load_share"),
        high=1.0,
        risk="up",
        falls_with=("load_share",),
        tallies={
            "idle": total(
                lambda s: np.where(
                    s.now["load_share"] < IDLE_LOAD, np.maximum(s.now["energy"], 0.0), 0.0
                )
            ),
            "energy": _energy,
        },
        value=lambda t: share(t["idle"], t["energy"]),
    ),
    Indicator(
        name="driving_consumption",
        unit="kWh/100km",
        sentence="Energy used on a hundred kilometres.",
        sentence_zh="百公里能耗。",
        formula="100 * (sum of max(energy, 0)) / (sum of hours * max(speed, 0))",
        inputs=("energy", "speed"),
        risk="up",
        rises_with=("energy",),
        falls_with=("speed",),
        tallies={
            "energy": _energy,
            "distance": total(lambda s: s.hours * np.maximum(s.now["speed"], 0.0)),
        },
        value=lambda t: 100 * ratio(t["energy"], t["distance"]),
    ),
)
