"""Where the lines of a card's drawings go, in each drawing's own coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.importance_shown import ImportanceFacts
from federation.model_card.facts import CalibrationBin, Shape

SIDE: Final = 440
"""Of the calibration plot, which is square."""
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 34
PANEL_WIDTH: Final = 360
PANEL_HEIGHT: Final = 200
PANEL_LEFT, PANEL_RIGHT, PANEL_TOP, PANEL_BOTTOM = 52, 10, 10, 30
BARS_MAX: Final = 24
LEANING_WIDTH: Final = 600
LEANING_LEFT, LEANING_RIGHT, LEANING_ROW = 190, 60, 22
_NAME: Final = 26  # signs that fit beside a bar
_LABEL: Final = 11  # signs that fit below a bar
_FEW: Final = 8  # bars whose names fit level
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS: Final = 4
_LARGE, _SMALL = 1e4, 1e-3


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """A bin of calibration: its place, and the ends of its interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CalibrationPlot:
    """Score across, share upward, on the same scale; `line` is where they agree."""

    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    upward: tuple[Tick, ...]
    line: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """A level: its bar, its whole name, and as much of it as there is room for."""

    x: float
    y: float
    width: float
    height: float
    middle: float
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One column's curve, or its levels' bars.

    Attributes:
        path: SVG path data; empty for a category.
        bars: Empty for a number.
        zero: Height of no effect.
        across: Marks of values.
        upward: Marks of amounts.
        slanted: Whether names of levels have no room side by side.
        levels: How many the column has.
        height: Of the drawing.
    """

    path: str
    bars: tuple[Bar, ...]
    zero: float
    across: tuple[Tick, ...]
    upward: tuple[Tick, ...]
    slanted: bool
    levels: int
    height: int


@dataclass(frozen=True, slots=True)
class Across:
    """An input's bar, from the left: its place, its name, and where its share stands."""

    y: float
    width: float
    middle: float
    end: float
    name: str
    text: str
    share: str


@dataclass(frozen=True, slots=True)
class Leaning:
    """What a model leans on: a bar for each input that there is room for, of how many."""

    bars: tuple[Across, ...]
    height: int
    count: int


def calibration_plot(bins: Sequence[CalibrationBin]) -> CalibrationPlot:
    """Place the points; both axes go from 0 to a round number above all of them."""
    highest = min(max(max(one.high, one.predicted) for one in bins), 1.0)
    step, top = _scale(highest)
    top = min(top, 1.0) if step < 1 else 1.0

    def across(value: float) -> float:
        return round(LEFT + (SIDE - LEFT - RIGHT) * value / top, 1)

    def upward(value: float) -> float:
        return round(SIDE - BOTTOM - (SIDE - TOP - BOTTOM) * min(value / top, 1.0), 1)

    marks = [place * step for place in range(math.floor(top / step + 1e-9) + 1)]
    return CalibrationPlot(
        points=tuple(
            Point(across(one.predicted), upward(one.happened), upward(one.low), upward(one.high))
            for one in bins
        ),
        across=tuple(Tick(across(mark), f"{mark:g}") for mark in marks),
        upward=tuple(Tick(upward(mark), f"{mark:g}") for mark in marks),
        line=(across(0), upward(0), across(top), upward(top)),
    )


def panel(shape: Shape) -> Panel:
    """Place one column's amounts."""
    chosen = list(range(len(shape.amounts)))
    if shape.levels:
        chosen = sorted(sorted(chosen, key=lambda one: -abs(shape.amounts[one]))[:BARS_MAX])
    shown = [shape.amounts[place] for place in chosen]
    low, high = min(0.0, *shown), max(0.0, *shown)
    if high - low < 1e-9:  # noqa: PLR2004 - a column that adds nothing
        low, high = -1.0, 1.0
    step, _ = _scale(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    slanted = len(shown) > _FEW and bool(shape.levels)
    height = PANEL_HEIGHT + (40 if slanted else 0)
    ground = height - PANEL_BOTTOM - (40 if slanted else 0)

    def upward(value: float) -> float:
        share = (value - first * step) / ((last - first) * step)
        return round(ground - (ground - PANEL_TOP) * share, 1)

    inner = PANEL_WIDTH - PANEL_LEFT - PANEL_RIGHT
    marks = tuple(
        Tick(upward(place * step), f"{place * step:.4g}") for place in range(first, last + 1)
    )
    if shape.levels:
        each = inner / len(shown)
        bars = []
        names = [shape.levels[place] for place in chosen]
        for place, (name, amount) in enumerate(zip(names, shown, strict=True)):
            top, bottom = sorted((upward(amount), upward(0.0)))
            left = PANEL_LEFT + each * (place + 0.15)
            bars.append(
                Bar(
                    x=round(left, 1),
                    y=top,
                    width=round(each * 0.7, 1),
                    height=round(bottom - top, 1),
                    middle=round(left + each * 0.35, 1),
                    name=name,
                    text=name if len(name) <= _LABEL else f"{name[: _LABEL - 1]}…",
                )
            )
        return Panel(
            path="",
            bars=tuple(bars),
            zero=upward(0.0),
            across=(),
            upward=marks,
            slanted=slanted,
            levels=shape.of,
            height=height,
        )
    places = [
        round(PANEL_LEFT + inner * place / max(len(shown) - 1, 1), 1) for place in range(len(shown))
    ]
    path = "M" + "L".join(
        f"{x:g} {upward(amount):g}" for x, amount in zip(places, shown, strict=True)
    )
    marked = sorted({round(part * (len(shown) - 1)) for part in (0, 1 / 3, 2 / 3, 1)})
    return Panel(
        path=path,
        bars=(),
        zero=upward(0.0),
        across=tuple(Tick(places[at], value_text(shape.at[at])) for at in marked),
        upward=marks,
        slanted=False,
        levels=0,
        height=height,
    )


def leaning(facts: ImportanceFacts) -> Leaning:
    """Place a bar for each input, longest first, as far as there is room."""
    shown = facts.inputs[:BARS_MAX]
    most = max((one.share for one in shown), default=0.0)
    inner = LEANING_WIDTH - LEANING_LEFT - LEANING_RIGHT
    bars: list[Across] = []
    for place, one in enumerate(shown):
        width = round(inner * one.share / most, 1) if most > 0 else 0.0
        bars.append(
            Across(
                y=round(LEANING_ROW * (place + 0.2), 1),
                width=width,
                middle=round(LEANING_ROW * (place + 0.5) + 4, 1),
                end=round(LEANING_LEFT + width + 5, 1),
                name=one.input,
                text=one.input if len(one.input) <= _NAME else f"{one.input[: _NAME - 1]}…",
                share=f"{100 * one.share:.1f}%",
            )
        )
    return Leaning(
        bars=tuple(bars), height=LEANING_ROW * max(len(bars), 1), count=len(facts.inputs)
    )


def value_text(value: float) -> str:
    """A value on an axis: short, and never in exponents where thousands will do."""
    if value and (abs(value) >= _LARGE or abs(value) < _SMALL):
        for power, sign in ((9, "G"), (6, "M"), (3, "k")):
            if abs(value) >= 10**power:
                return f"{value / 10**power:.3g}{sign}"
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"  # noqa: PLR2004 - digits


def _scale(highest: float) -> tuple[float, float]:
    raw = max(highest, 1e-9) / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in _STEPS if power * one >= raw * (1 - 1e-9))
    return step, step * math.ceil(highest / step - 1e-9)
