"""Scores of a device's windows: a factor for each sensor, where in time it lies, and in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import Column
from clients.reasons import Factor, Language, Score
from clients.scoring.words import times
from clients.source import UNIT
from clients.window_model import WindowModel, reading
from clients.window_summary import AGE_SCALE

Floats = NDArray[np.float64]
AGE: Final = "age of record"
"""The factor that is no sensor: for how long the device has been read."""
MOST: Final = 0.5  # of a sensor's amount: what the readings have that are named for it
NEAR: Final = 0.05  # spreads; a mean that is no farther from the reference lies at it
_DECIMALS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowScore:
    """One window's score, and what every reading in it did.

    Attributes:
        score: With a factor for each sensor, and for the age of the record where the model sees it.
            A sensor's value is the mean of the window's readings as they were read.
        time: Of the window's last reading.
        times: Shape (t,). Of each reading; a device younger than a window has fewer readings.
        amounts: Shape (t, s). What each reading adds.
        level: Shape (s,). How far the readings' mean lies above the reference's, in spreads.
        sensors: Names, in the order of `amounts`.
        row: Place of the window's last row among those that were scored.
    """

    score: Score
    time: float
    times: Floats
    amounts: Floats
    level: Floats
    sensors: tuple[str, ...]
    row: int

    def most(self, sensor: str) -> tuple[float, float] | None:
        """The shortest stretch of readings that adds most of a sensor's amount: its ends' times.

        None where the sensor adds nothing.
        """
        place = self.sensors.index(sensor)
        total = float(self.amounts[:, place].sum())
        part = np.append(0.0, np.cumsum(self.amounts[:, place])) * np.sign(total)
        for length in range(1, len(self.times) + 1):
            sums = part[length:] - part[:-length]
            best = int(sums.argmax())
            if sums[best] >= MOST * abs(total) > 0:
                return float(self.times[best]), float(self.times[best + length - 1])
        return None


def window_scores(
    model: WindowModel, rows: pd.DataFrame, *, every: int | None
) -> Iterator[WindowScore]:
    """Score windows, device by device, each in order of time.

    Args:
        model: The model.
        rows: Unit by unit (`__unit`), each in order of time; no label is read.
        every: Steps between a device's windows, counted from its last; None: its last alone.

    Raises:
        RefusedError: The amounts of a score do not add up, so that there is none.
    """
    windows = model.windows(rows, every=every)
    those, beginning = reading(windows), model.beginning(rows, windows)
    amounts = model.amounts(those, beginning)
    value = model.target.value(amounts.output)
    time_column = model.contract.time_column
    if time_column is None:
        raise ValueError("a telemetry contract has a time column")
    time = rows[time_column.name].to_numpy(dtype=np.float64)
    names = rows[UNIT].astype(str).to_numpy()
    raw = rows[list(model.sensors)].to_numpy(dtype=np.float64)
    level = those.series.mean(axis=1)
    if beginning is not None:
        level = level - beginning.series.mean(axis=1)
    length = those.series.shape[1]
    for place, last in enumerate(windows.last.tolist()):
        held = min(length, round(windows.age[place] * AGE_SCALE))
        part = slice(last + 1 - held, last + 1)
        own = _folded(amounts.series[place], held)
        yield WindowScore(
            score=_score(
                model,
                str(names[last]),
                _factors(
                    model,
                    raw[part],
                    together=own.sum(axis=0),
                    age=(float(round(windows.age[place] * AGE_SCALE)), float(amounts.age[place])),
                ),
                base=float(amounts.base[place]),
                value=float(value[place]),
            ),
            time=float(time[last]),
            times=time[part],
            amounts=own,
            level=level[place],
            sensors=model.sensors,
            row=last,
        )


def window_sentence(
    model: WindowModel, window: WindowScore, factor: Factor, language: Language
) -> str:
    """One reason in plain words: how far off, since when, and what that does to the score."""
    effect = _effect(model, factor.amount, language)
    against = _reference(model, language)
    if factor.column == AGE:
        count = f"{factor.value:g}"
        if language == "zh":
            return f"记录长度为 {count} 次读数: 与{against}相比, {effect}。"
        return f"The record is {count} readings long: {effect} than at {against}."
    column = model.contract.column(factor.column)
    name, count = _named(column, language), str(len(window.times))
    level = float(window.level[window.sensors.index(factor.column)])
    said = window.most(factor.column)
    time = model.contract.time_column
    unit = time.name if time is not None else ""
    if language == "zh":
        off = f"比{against}{'高' if level > 0 else '低'} {abs(level):.1f} 个标准差"
        if abs(level) < NEAR:
            off = f"接近{against}"
        where = "" if said is None else f"; 主要来自 {unit} {_stretch(said, '至')} 的读数"
        return f"{name}在最近 {count} 次读数中平均{off}: {effect}{where}。"
    off = f"{abs(level):.1f} spreads {'above' if level > 0 else 'below'} {against}"
    if abs(level) < NEAR:
        off = f"near {against}"
    where = "" if said is None else f", mostly by {unit} {_stretch(said, 'to')}"
    return f"{name} is on average {off} over {count} readings: {effect}{where}."


def _score(
    model: WindowModel, unit: str, factors: tuple[Factor, ...], *, base: float, value: float
) -> Score:
    worse: Literal["up", "down"] = "down" if model.target.kind == "life" else "up"
    return Score(
        unit=unit,
        base=base,
        output=base + sum(one.amount for one in factors),
        value=value,
        factors=factors,
        worse=worse,
    )


def _factors(
    model: WindowModel, raw: Floats, *, together: Floats, age: tuple[float, float]
) -> tuple[Factor, ...]:
    """One for each sensor, with its readings' mean, and one for the age in readings."""
    present = ~np.isnan(raw)
    count = present.sum(axis=0)
    total = np.where(present, raw, 0.0).sum(axis=0)
    found = [
        Factor(
            column=name,
            value=float(total[index] / count[index]) if count[index] else None,
            amount=float(together[index]),
        )
        for index, name in enumerate(model.sensors)
    ]
    if model.sees_age:
        found.append(Factor(column=AGE, value=age[0], amount=age[1]))
    return tuple(found)


def _folded(amounts: Floats, held: int) -> Floats:
    """Amounts of readings that there were; what stood for readings before goes to the first."""
    own = amounts[len(amounts) - held :].copy()
    own[0] += amounts[: len(amounts) - held].sum(axis=0)
    return own


def _effect(model: WindowModel, amount: float, language: Language) -> str:
    kind = model.target.kind
    size = f"{abs(amount):.{_DECIMALS}g}"
    time = model.contract.time_column
    unit = f" {time.unit}" if time is not None and time.unit not in {None, "1"} else ""
    if language == "zh":
        if kind == "binary":
            return f"使故障发生比{times(amount, zh=True)}"
        return f"使剩余寿命{'延长' if amount >= 0 else '缩短'} {size}{unit}"
    if kind == "binary":
        return f"the odds of a failure are {times(amount)}"
    return f"the remaining life is {size}{unit} {'longer' if amount >= 0 else 'shorter'}"


def _reference(model: WindowModel, language: Language) -> str:
    if model.against == "beginning":
        return {"en": "its own first window", "zh": "自身最初窗口"}[language]
    if model.features.window.baseline == "own":
        return {"en": "its own first readings", "zh": "自身最初读数"}[language]
    return {"en": "the members' mean", "zh": "成员平均水平"}[language]


def _named(column: Column, language: Language) -> str:
    if column.note is None:
        return column.name
    return f"{column.name}{'' if language == 'zh' else ' '}({column.note})"


def _stretch(ends: tuple[float, float], word: str) -> str:
    first, last = (f"{end:.10g}" for end in ends)
    return first if first == last else f"{first} {word} {last}"
