"""A budget over time as a drawing: where its lines go, in the drawing's own coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.audit_page.account import Account, Against
from federation.audit_page.instant import utc
from privacy.receipt import Part

WIDTH: Final = 1100
HEIGHT: Final = 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
POINTS: Final = 160
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS: Final = 5
_CAP_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        name: `coordinator` or `solo`.
        path: SVG path data.
        last: Epsilon at its end.
        cap_at: Height of its cap; None without one, or where it is beyond the drawing.
        cap: Its cap.
        unbounded_ms: From when on nothing bounds it; None: never.
    """

    name: Against
    path: str
    last: float
    cap_at: float | None
    cap: float | None
    unbounded_ms: int | None


@dataclass(frozen=True, slots=True)
class Chart:
    """One part of a budget.

    Attributes:
        part: Training or test units.
        lines: Against the coordinator, and against all others.
        across: Marks in time.
        upward: Marks of epsilon.
        first_ms: Of the first reservation.
        last_ms: Of the last one.
        releases: That it shows.
    """

    part: Part
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    upward: tuple[Tick, ...]
    first_ms: int
    last_ms: int
    releases: int

    @property
    def drawn(self) -> bool:
        """Whether anything of it has a bound, and so a line."""
        return any(line.path for line in self.lines)


def chart_of(account: Account, part: Part) -> Chart:
    """Draw a part with releases."""
    places = account.places(part)
    shown = _thinned(places)
    times_ms = [account.reserved(place).time_ms for place in shown]
    courses: dict[Against, list[float]] = {
        "coordinator": list(account.course(part, "coordinator", shown)),
        "solo": list(account.course(part, "solo", shown)),
    }
    caps: dict[Against, float | None] = {
        "coordinator": account.terms.epsilon,
        "solo": account.terms.solo_epsilon,
    }
    values = [value for course in courses.values() for value in course if math.isfinite(value)]
    # a cap far above all that was spent would press the lines to the ground
    highest = max(values, default=0.0)
    near = [
        cap for cap in caps.values() if cap is not None and cap <= max(_CAP_SHOWN * highest, 1.0)
    ]
    step, top = _scale(max([highest, *near], default=1.0))
    first_ms, last_ms = times_ms[0], times_ms[-1]
    span_ms = max(1, last_ms - first_ms)

    def across(time_ms: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (time_ms - first_ms) / span_ms, 1)

    def upward(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, value / top), 1)

    lines = []
    for name, course in courses.items():
        points = [
            (across(time_ms), upward(value) if math.isfinite(value) else None)
            for time_ms, value in zip(times_ms, course, strict=True)
        ]
        endless = next(
            (t for t, value in zip(times_ms, course, strict=True) if math.isinf(value)), None
        )
        cap = caps[name]
        lines.append(
            Line(
                name=name,
                path=_path(points, upward(0.0)),
                last=course[-1],
                cap_at=upward(cap) if cap is not None and cap <= top else None,
                cap=cap,
                unbounded_ms=endless,
            )
        )
    marks = range(round(top / step) + 1)
    return Chart(
        part=part,
        lines=tuple(lines),
        across=tuple(Tick(across(at), utc(at)[:16]) for at in _moments(first_ms, last_ms)),
        upward=tuple(Tick(upward(mark * step), f"{mark * step:g}") for mark in marks),
        first_ms=first_ms,
        last_ms=last_ms,
        releases=len(places),
    )


def _thinned(places: Sequence[int]) -> list[int]:
    count = len(places)
    if count <= POINTS:
        return list(places)
    return [places[round(at * (count - 1) / (POINTS - 1))] for at in range(POINTS)]


def _scale(highest: float) -> tuple[float, float]:
    raw = max(highest, 1e-6) * 1.05 / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in _STEPS if power * one >= raw)
    return step, step * math.ceil(max(highest, 1e-6) * 1.02 / step)


def _moments(first_ms: int, last_ms: int) -> list[int]:
    if last_ms == first_ms:
        return [first_ms]
    return [first_ms, (first_ms + last_ms) // 2, last_ms]


def _path(points: Sequence[tuple[float, float | None]], ground: float) -> str:
    """Steps from the ground on; where there is no height, there is no line."""
    path, drawing = "", False
    for at, (across, height) in enumerate(points):
        if drawing:
            path += f"H{across:g}"
        if height is not None:
            if not drawing:
                path += f"M{across:g} {height if at else ground:g}"
            path += f"V{height:g}"
        drawing = height is not None
    return f"{path}H{WIDTH - RIGHT}" if drawing else path
