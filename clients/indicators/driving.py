"""How a vehicle is driven."""

from typing import Final

import numpy as np

from clients.indicators.indicator import Floats, Indicator, Steps, observed, ratio, share, total

HARD_M_S2: Final = 3.0
STANDING_KM_H: Final = 1.0
NIGHT_BEGINS_H, NIGHT_H, DAY_H = 22.0, 8.0, 24.0

_distance = total(lambda s: s.hours * np.maximum(s.now["speed"], 0.0))
_moving = total(lambda s: s.hours_where(s.now["speed"] > STANDING_KM_H))


def _night_before(time_h: Floats) -> Floats:
    """Hours of night, 22 to 6 o'clock, from the first 22 o'clock to a time."""
    since = time_h - NIGHT_BEGINS_H
    days = np.floor(since / DAY_H)
    return days * NIGHT_H + np.minimum(since - days * DAY_H, NIGHT_H)


def _driven_at_night(steps: Steps) -> Floats:
    night = _night_before(steps.start_h + steps.hours) - _night_before(steps.start_h)
    moves = steps.now["speed"] > STANDING_KM_H
    return np.where(moves, np.clip(night, 0.0, steps.hours), 0.0)


DRIVING: Final = (
    Indicator(
        name="daily_distance",
        unit="km/d",
        sentence="Kilometres driven a day.",
        sentence_zh="日均行驶里程。",
        formula="24 * (sum of hours * max(speed, 0)) / (sum of hours)",
        inputs=("speed",),
        risk="up",
        rises_with=("speed",),
        tallies={"distance": _distance, "observed": observed},
        value=lambda t: 24 * ratio(t["distance"], t["observed"]),
    ),
    Indicator(
        name="hard_braking",
        unit="1/100km",
        sentence="Hard brakings on a hundred kilometres.",
        sentence_zh="百公里急刹车次数。",
        formula="100 * (number of readings with acceleration < -3 m/s2 whose reading before is "
        "further than one hold away or has acceleration >= -3) / (sum of hours * max(speed, 0))",
        inputs=("speed", "acceleration"),
        risk="up",
        falls_with=("speed",),
        tallies={
            "brakings": total(
                lambda s: s.begins(
                    s.now["acceleration"] < -HARD_M_S2, s.before["acceleration"] < -HARD_M_S2
                )
            ),
            "distance": _distance,
        },
        value=lambda t: 100 * ratio(t["brakings"], t["distance"]),
    ),
    Indicator(
        name="hard_acceleration",
        unit="1/100km",
        sentence="Hard accelerations on a hundred kilometres.",
        sentence_zh="百公里急加速次数。",
        formula="100 * (number of readings with acceleration > 3 m/s2 whose reading before is "
        "further than one hold away or has acceleration <= 3) / (sum of hours * max(speed, 0))",
        inputs=("speed", "acceleration"),
        risk="up",
        falls_with=("speed",),
        tallies={
            "starts": total(
                lambda s: s.begins(
                    s.now["acceleration"] > HARD_M_S2, s.before["acceleration"] > HARD_M_S2
                )
            ),
            "distance": _distance,
        },
        value=lambda t: 100 * ratio(t["starts"], t["distance"]),
    ),
    Indicator(
        name="night_share",
        unit="1",
        sentence="Share of the driving hours between 22 and 6 o'clock.",
        sentence_zh="22时至次日6时夜间行驶时间占比。",
        formula="(hours with speed > 1 km/h between 22:00 and 6:00) / (sum of hours where "
        "speed > 1 km/h)",
        inputs=("speed",),
        high=1.0,
        risk="up",
        tallies={"night": total(_driven_at_night), "moving": _moving},
        value=lambda t: share(t["night"], t["moving"]),
    ),
    Indicator(
        name="speeding_share",
        unit="1",
        sentence="Share of the driving hours above the speed limit.",
        sentence_zh="超速行驶时间占比。",
        formula="(sum of hours where speed > 1 km/h and speed > speed_limit) / (sum of hours "
        "where speed > 1 km/h)",
        inputs=("speed", "speed_limit"),
        high=1.0,
        risk="up",
        falls_with=("speed_limit",),
        tallies={
            "over": total(
                lambda s: s.hours_where(
                    (s.now["speed"] > STANDING_KM_H) & (s.now["speed"] > s.now["speed_limit"])
                )
            ),
            "moving": _moving,
        },
        value=lambda t: share(t["over"], t["moving"]),
    ),
    Indicator(
        name="standing_share",
        unit="1",
        sentence="Share of the hours with the engine on in which the vehicle stood.",
        sentence_zh="发动机运转但车辆静止的时间占比。",
        formula="(sum of hours where running > 0 and speed <= 1 km/h) / (sum of hours where "
        "running > 0)",
        inputs=("running", "speed"),
        high=1.0,
        risk="up",
        falls_with=("speed",),
        tallies={
            "standing": total(
                lambda s: s.hours_where(s.is_on("running") & (s.now["speed"] <= STANDING_KM_H))
            ),
            "on": total(lambda s: s.hours_where(s.is_on("running"))),
        },
        value=lambda t: share(t["standing"], t["on"]),
    ),
)
