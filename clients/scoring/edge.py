"""A device's rows in, scores with their reasons out."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clients.scoring.bundle_file import OpenedBundle
from clients.scoring.column import InputColumn, read_number
from clients.scoring.history import MOST_DEVICES, Histories, Indicated
from clients.scoring.readings_plan import ReadingsPlan
from clients.scoring.rows import Row
from clients.scoring.score_log import LoggedScore
from clients.scoring.scorer import Scored
from clients.scoring.unit_name import unit_name
from clients.scoring.words import LANGUAGES, SMALLEST
from privacy.errors import DataError, InputError, RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeScore:
    """One score.

    Attributes:
        unit: Whose.
        scored: Output, value, and what each input adds.
        values: Of the inputs, as they were read, in the bundle's order; None where missing.
        above: Thresholds of the bundle that the value reaches.
        outside: Columns of the unit's last reading that lie outside of where it normally works.
        indicated: Of what its indicators were made; None where rows brought all inputs.
    """

    unit: str
    scored: Scored
    values: tuple[float | str | None, ...]
    above: tuple[str, ...]
    outside: tuple[str, ...]
    indicated: Indicated | None


class Edge:
    """Takes rows, and scores the units that they are of."""

    def __init__(self, opened: OpenedBundle, stated: Mapping[str, Mapping[str, float]]) -> None:
        """Begin without rows.

        Args:
            opened: What scores them.
            stated: Beside readings: unit -> input -> value, for inputs that no reading gives.

        Raises:
            InputError: The model needs such inputs, and there are none.
        """
        bundle = opened.bundle
        self.opened, self._bundle, self._stated = opened, bundle, stated
        self._plan = bundle.readings
        self._histories = None if self._plan is None else Histories(self._plan)
        self._rows: dict[str, deque[tuple[float, ...]]] = {}
        self._outside: dict[str, tuple[str, ...]] = {}
        self._count = 0
        if self._plan is not None and bundle.stated and not stated:
            names = ", ".join(one.name for one in bundle.stated)
            raise InputError(
                f"The model reads {names} besides what readings give; give a table of them for "
                f"each {bundle.contract.unit} with --stated."
            )

    def take(self, row: Row, at: str) -> str:
        """Take one row; returns whose it is.

        Raises:
            DataError: It lacks a column, or a cell is not as it must be.
            RefusedError: There are more units than may be held.
        """
        if self._plan is not None:
            return self._take_reading(self._plan, row, at)
        bundle = self._bundle
        unit = str(self._count)  # as files number rows that have no unit
        self._count += 1
        if bundle.units:
            unit = unit_name(bundle.units, row, bundle.missing, at)
        values = tuple(_read(one, row, bundle.missing, at) for one in bundle.inputs)
        if unit not in self._rows and len(self._rows) >= MOST_DEVICES:
            raise RefusedError(f"{at}: more than {MOST_DEVICES} units are held; score in parts.")
        self._rows.setdefault(unit, deque(maxlen=bundle.scorer.rows)).append(values)
        return unit

    def score(self, unit: str) -> EdgeScore:
        """Score a unit as it stands at the last of its rows.

        Raises:
            KeyError: None of its rows were taken.
            DataError: Nothing was stated of it that the model needs.
        """
        bundle = self._bundle
        indicated = None
        if self._histories is None:
            rows = list(self._rows[unit])
            if bundle.scorer.rows == 1:
                del self._rows[unit]
        else:
            indicated = self._histories.now(unit)
            rows = [self._indicated_row(unit, indicated)]
        table = np.array(rows, dtype=np.float64)
        scored = bundle.scorer.score(
            {one.name: table[:, place] for place, one in enumerate(bundle.inputs)}
        )
        if not (math.isfinite(scored.output) and math.isfinite(scored.value)):
            raise DataError(f"{unit:.80}: its score is not finite; check the bundle and the rows.")
        return EdgeScore(
            unit=unit,
            scored=scored,
            values=tuple(
                one.shown(value) for one, value in zip(bundle.inputs, rows[-1], strict=True)
            ),
            above=tuple(name for name, least in bundle.thresholds.items() if scored.value >= least),
            outside=self._outside.get(unit, ()),
            indicated=indicated,
        )

    def _take_reading(self, plan: ReadingsPlan, row: Row, at: str) -> str:
        if self._histories is None:
            raise ValueError("a plan has histories")
        unit = unit_name(plan.units, row, plan.missing, at)
        time = read_number(_cell(row, plan.time, at), plan.missing, f"{at}, {plan.time}")
        if math.isnan(time):
            raise DataError(f"{at}, {plan.time}: is empty; every reading needs its time.")
        values: dict[str, float] = {}
        outside: list[str] = []
        for one in plan.quantities:
            value = read_number(_cell(row, one.header, at), plan.missing, f"{at}, {one.header}")
            values[one.quantity] = value
            if one.threshold is not None and not math.isnan(value):
                low, high = one.threshold
                if not low <= value <= high:
                    outside.append(one.header)
        self._histories.add(unit, time, values, at=at)
        self._outside[unit] = tuple(outside)
        return unit

    def _indicated_row(self, unit: str, indicated: Indicated) -> tuple[float, ...]:
        stated: Mapping[str, float] = {}
        if self._bundle.stated:
            found = self._stated.get(unit)
            if found is None:
                raise DataError(f"{unit:.80}: the table of --stated says nothing of it; add it.")
            stated = found
        return tuple(
            stated[one.name] if one.name in stated else indicated.indicators[one.indicator or ""]
            for one in self._bundle.inputs
        )


def stated_of(opened: OpenedBundle, row: Row, at: str) -> tuple[str, dict[str, float]]:
    """A unit, and what a row of the table beside the readings says of it.

    Raises:
        DataError: It lacks a column, or a cell is not as it must be.
    """
    bundle = opened.bundle
    unit = unit_name(bundle.units, row, bundle.missing, at)
    return unit, {one.name: _read(one, row, bundle.missing, at) for one in bundle.stated}


def logged(opened: OpenedBundle, score: EdgeScore, *, unit: str, now_s: int) -> LoggedScore:
    """A score as the log has it; `unit` is the pseudonym."""
    bundle, scored = opened.bundle, score.scored
    pairs = list(zip(bundle.scorer.columns, scored.amounts, strict=True))
    raised = sorted((one for one in pairs if one[1] >= SMALLEST), key=lambda one: -one[1])
    return LoggedScore(
        bundle=opened.digest,
        time_s=now_s,
        unit=unit,
        output=scored.output,
        value=scored.value,
        base=bundle.scorer.base,
        amounts=dict(pairs),
        reasons=tuple(name for name, _ in raised),
    )


def edge_score_facts(opened: OpenedBundle, score: EdgeScore) -> dict[str, Any]:
    """One score for programs: factors from the strongest on, reasons in both languages."""
    bundle = opened.bundle
    factors = sorted(
        zip(bundle.inputs, score.values, score.scored.amounts, strict=True),
        key=lambda one: -abs(one[2]),
    )
    facts: dict[str, Any] = {
        "unit": score.unit,
        "value": score.scored.value,
        "output": score.scored.output,
        "base": bundle.scorer.base,
        "reference": bundle.scorer.reference,
        "factors": [
            {"column": column.name, "value": value, "amount": amount}
            for column, value, amount in factors
        ],
        "reasons": [
            {
                "column": column.name,
                **{said: bundle.reason(column, value, amount, said) for said in LANGUAGES},
            }
            for column, value, amount in factors
            if amount >= SMALLEST
        ],
        "above": list(score.above),
        "bundle": opened.digest,
    }
    if score.indicated is not None:
        made = score.indicated
        facts["outside"] = list(score.outside)
        facts["history"] = {
            "readings": made.readings,
            "first": made.first,
            "last": made.last,
            "hours": made.hours,
            "short": made.short,
            "absent": list(made.absent),
        }
    return facts


def _read(column: InputColumn, row: Row, missing: tuple[str, ...], at: str) -> float:
    return column.read(_cell(row, column.header, at), missing, at)


def _cell(row: Row, header: str, at: str) -> str | float | None:
    if header not in row:
        raise DataError(f"{at}: has no column {header}; give the contract's rows.")
    return row[header]
