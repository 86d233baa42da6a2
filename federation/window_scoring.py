"""Devices scored by a kept model of windows, each score with its sensors and where it came from.

The table has a row for each score: device, time, the chance of a failure within the horizon (or the
remaining life), and reasons. Beside it lie its lineage, as `federation.scoring` writes it, and for
chances the draft of a contract, by which `tacit data indicators compute` makes the indicator
`failure_risk` of the table.
"""

import csv
import hashlib
import hmac
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from clients.contract import WithinHorizon
from clients.frozen import nearest
from clients.indicators.dealt import Dealt
from clients.left_out import Sieve
from clients.members import tables
from clients.reasons import LANGUAGES
from clients.source import UNIT, read_chunks, unit_names
from clients.window_model import WindowModel
from clients.window_reasons import AGE, WindowScore, window_scores, window_sentence
from federation.home import write_bytes
from federation.kept_model import KeptModel
from federation.left_out_shown import WORDS
from federation.scoring import (
    REASONS,
    ScoredUnit,
    ScoreLineage,
    require_csv,
    transform_of,
    write_lineage,
)
from privacy.canonical import canonical_json, framed
from privacy.errors import DataError, InputError, RefusedError

RISK: Final = "failure_risk"
LIFE: Final = "remaining_life"
_BATCH_ROWS: Final = 20_000
_TAKEN: Final = frozenset({"unit", *(f"reason_{place}" for place in range(1, REASONS + 1))})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredWindow:
    """A window's score, and the digest of the rows that it is about.

    Attributes:
        window: The score.
        row: HMAC-SHA-256, hex, under the node's key, over the device's rows up to the window's end.
        every: Whether a device may have several.
    """

    window: WindowScore
    row: str
    every: bool

    @property
    def key(self) -> str:
        """What the lineage calls it: the device, or `DEVICE@TIME` where it may have several."""
        unit = self.window.score.unit
        return f"{unit}@{number(self.window.time)}" if self.every else unit


def score_windows(
    model: WindowModel,
    data_root: Path,
    *,
    key: bytes,
    every: int | None = None,
    only: str | None = None,
    sieve: Sieve | None = None,
) -> Iterator[ScoredWindow]:
    """Score the devices of the contract's sources below `data_root`.

    Labels are not read, so devices may be scored before anything is known of how they end. A
    device is called as `clients.indicators.compute` calls it: member or part lead its name where
    the contract tells them apart.

    Args:
        model: The model.
        data_root: Where the sources lie.
        key: The node's.
        every: Steps between a device's windows, counted from its last; None: its last alone.
        only: One device.
        sieve: Holds back rows of devices that are left out: they get no score.

    Raises:
        InputError: A file cannot be read.
        DataError: Rows do not keep the contract, or have no time.
        RefusedError: The amounts of a score do not add up.
    """
    for member, table in _devices(model, data_root, only, sieve):
        for rows in _batches(table):
            digests = _Digests(model, rows, member, key)
            for window in window_scores(model, rows, every=every):
                yield ScoredWindow(
                    window=window, row=digests.up_to(window.row), every=every is not None
                )


def one_window(
    model: WindowModel,
    data_root: Path,
    unit: str,
    *,
    key: bytes,
    at: float | None,
    sieve: Sieve | None = None,
) -> ScoredWindow:
    """A device's last window, or the one that ends at a time.

    Raises:
        InputError: There is no such device, or no such window.
        RefusedError: The device is left out by the quality gate.
    """
    every = None if at is None else 1
    found = [
        one
        for one in score_windows(model, data_root, key=key, every=every, only=unit, sieve=sieve)
        if at is None or one.window.time == at
    ]
    if found:
        return found[-1]
    name = model.contract.name
    known = sorted(_device_names(model, data_root))
    if sieve is not None and unit in known and unit not in _device_names(model, data_root, sieve):
        # all of its rows were held back, so the sieve has its name, without what leads it
        why = next(why for name, why in sieve.units.items() if f"|{unit}".endswith(f"|{name}"))
        raise RefusedError(
            f"{unit}: is {WORDS[why]}, so it gets no score; see tacit data review "
            "list and tacit data trust."
        )
    if unit in known:
        raise InputError(f"{name}: {unit} has no whole window that ends there; leave --at out.")
    guess = next((one for one in known if one.endswith(f"|{unit}")), nearest(unit, known))
    advice = f"did you mean {guess}?" if guess else f"there are {len(known)} others."
    raise InputError(f"{name}: has no rows of {unit}; {advice}")


def write_window_scores(
    kept: KeptModel,
    model: WindowModel,
    found: Iterable[ScoredWindow],
    path: Path,
    *,
    every: int | None,
    risk_column: str | None,
    sieve: Sieve | None = None,
) -> ScoreLineage:
    """Write the table, its lineage, and for chances the contract of an indicator.

    Scores are taken one by one; what their readings add is not kept.

    Raises:
        InputError: The name is none of a CSV file, or the column's name is taken.
        DataError: Nothing was scored, or two scores could not be told apart.
    """
    require_csv(path)
    name = value_column(model, risk_column)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_head(model, name))
    units: dict[str, ScoredUnit] = {}
    for one in found:
        if one.key in units:
            raise DataError(
                f"{kept.contract.name}: {one.key} is there twice; a score is about one window of "
                f"one device."
            )
        units[one.key] = _unit(one)
        writer.writerow(_line(model, one.window))
    if not units:
        raise DataError(
            f"{kept.contract.name}: no device has a window of {model.features.window.length} "
            f"readings; nothing is scored."
        )
    data = text.getvalue().encode("utf-8")
    lineage = write_lineage(
        kept,
        data,
        path,
        indicators={
            **{column.name: transform_of(column.indicator) for column in model.features.sensors},
            **({AGE: {}} if model.sees_age else {}),
        },
        units=units,
        method="attribution",
        against=model.against,
        every=every,
        left_out=None if sieve is None else sieve.facts(),
    )
    if model.target.kind == "binary":
        write_bytes(draft_path(path), draft_contract(model, path, name).encode("utf-8"))
    return lineage


def value_column(model: WindowModel, wanted: str | None) -> str:
    """What the table's column of chances or remaining lives is called.

    Raises:
        InputError: The table has another column of that name.
    """
    name = wanted or (RISK if model.target.kind == "binary" else LIFE)
    if name in _TAKEN | {time_name(model)} or name.startswith("__"):
        raise InputError(f"--risk-column {name}: the table has such a column; choose another name.")
    return name


def draft_path(table: Path) -> Path:
    """Where the contract of a table of chances lies."""
    return table.with_name(f"{table.name}.contract.yaml")


def draft_contract(model: WindowModel, path: Path, column: str) -> str:
    """A contract's YAML for a table of chances, for `tacit data indicators compute`."""
    contract, time = model.contract, model.contract.time_column
    label = contract.label
    if time is None or not isinstance(label, WithinHorizon):
        raise ValueError("a model of chances has a time and a horizon")
    unit = "" if time.unit is None else f", unit: {_quoted(time.unit)}"
    lines = [
        f"# Chances of a failure that a model of {_quoted(contract.name)} gave.",
        "# tacit data indicators compute makes the indicator failure_risk of them.",
        "contract: 1",
        f"name: {_quoted(f'{contract.name[:80]}_risk')}",
        f"unit: {contract.unit}",
        "sources:",
        f"  - {{path: {_quoted(path.name)}}}",
        "columns:",
        "  - {name: unit, type: text, role: id, class: L3}",
        f"  - {{name: {_quoted(time.name)}, type: time, role: time, class: L3{unit}}}",
        (
            f"  - {{name: {_quoted(column)}, type: number, role: sensor, class: L3, unit: '1', "
            f"range: [0, 1]}}"
        ),
        "split: {kind: units, seed: 0, test_share: 0.5}",
        f"label: {{kind: within_horizon, horizon: {label.horizon:g}}}",
    ]
    return "\n".join(lines) + "\n"


def window_facts(model: WindowModel, scored: ScoredWindow) -> dict[str, Any]:
    """One score for programs, with what each reading adds."""
    window = scored.window
    score = window.score
    return {
        "unit": score.unit,
        "time": window.time,
        "value": score.value,
        "output": score.output,
        "base": score.base,
        "method": "attribution",
        "against": model.against,
        "row": scored.row,
        "factors": [
            {
                "column": one.column,
                "value": one.value,
                "amount": one.amount,
                **{
                    language: window_sentence(model, window, one, language)
                    for language in LANGUAGES
                },
            }
            for one in sorted(score.factors, key=lambda one: -abs(one.amount))
        ],
        "reasons": [one.column for one in score.reasons],
        "readings": {
            "times": window.times.tolist(),
            "amounts": {
                name: window.amounts[:, place].tolist() for place, name in enumerate(window.sensors)
            },
        },
    }


def time_name(model: WindowModel) -> str:
    """The contract's time column."""
    time = model.contract.time_column
    if time is None:
        raise ValueError("a telemetry contract has a time column")
    return time.name


def number(value: float) -> str:
    """A time as it stands in a table."""
    return repr(int(value)) if value == int(value) else repr(value)


def _head(model: WindowModel, value_name: str) -> list[str]:
    places = range(1, REASONS + 1)
    codes = [f"reason_{place}" for place in places]
    words = [f"reason_{place}_{language}" for place in places for language in LANGUAGES]
    return ["unit", time_name(model), value_name, *codes, *words]


def _line(model: WindowModel, window: WindowScore) -> list[str]:
    reasons = window.score.reasons[:REASONS]
    codes = [factor.column for factor in reasons] + [""] * (REASONS - len(reasons))
    words = [
        window_sentence(model, window, factor, language)
        for factor in reasons
        for language in LANGUAGES
    ]
    words += [""] * (REASONS * len(LANGUAGES) - len(words))
    return [window.score.unit, number(window.time), repr(window.score.value), *codes, *words]


def _unit(one: ScoredWindow) -> ScoredUnit:
    score = one.window.score
    return ScoredUnit(
        row=one.row,
        value=score.value,
        output=score.output,
        base=score.base,
        factors={factor.column: factor.amount for factor in score.factors},
    )


def _devices(
    model: WindowModel, data_root: Path, only: str | None, sieve: Sieve | None = None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of each table's part, unit by unit, each in order of time."""
    contract = model.contract
    time = time_name(model)
    wanted = {time, *model.sensors, *(column.name for column in contract.unit_columns)}
    if contract.regime is not None:
        wanted.add(contract.regime.column)
    found = tables(contract, data_root)
    parts = sorted({source.part for source in contract.sources})
    for table in found:
        whose = f"{table.member or ''}|" if len(found) > 1 else ""
        held: dict[str, list[pd.DataFrame]] = {part: [] for part in parts}
        dealt = Dealt(contract, contract, table, None, sifted=sieve is not None)
        for source in contract.sources:
            lead = whose + (f"{source.part}|" if len(parts) > 1 else "")
            for chunk in read_chunks(contract, table.root, source, columns=frozenset(wanted)):
                names = unit_names(chunk, contract)
                own = dealt.take(len(chunk), source)
                named = chunk.assign(**{UNIT: own.led(lead + names)})
                if sieve is not None:
                    named = named[own.passing(names, sieve)]
                held[source.part].append(named if only is None else named[named[UNIT] == only])
        dealt.finish()
        for part in parts:
            rows = pd.concat(held[part], ignore_index=True)
            if len(rows):
                yield table.member or "", _in_order(rows, contract.name, time)


def _batches(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Whole devices, about `_BATCH_ROWS` rows at a time: windows are far larger than rows."""
    ends = np.append(np.flatnonzero(np.diff(pd.factorize(rows[UNIT])[0])) + 1, len(rows))
    start = 0
    for end, later in zip(ends, [*ends[1:], None], strict=True):
        if later is None or later - start > _BATCH_ROWS:
            yield rows.iloc[start:end].reset_index(drop=True)
            start = int(end)


def _device_names(model: WindowModel, data_root: Path, sieve: Sieve | None = None) -> set[str]:
    found = _devices(model, data_root, None, sieve)
    return {str(name) for _, rows in found for name in rows[UNIT].unique()}


def _in_order(rows: pd.DataFrame, contract: str, time: str) -> pd.DataFrame:
    moment = rows[time].to_numpy(dtype=np.float64)
    if not np.isfinite(moment).all():
        raise DataError(
            f"{contract}: column {time} has {int((~np.isfinite(moment)).sum())} empty or endless "
            f"cells; every row needs one."
        )
    unit = pd.factorize(rows[UNIT])[0]
    return rows.iloc[np.lexsort((moment, unit))].reset_index(drop=True)


class _Digests:
    """Keyed digests of devices' rows, each up to some row; asked for in the order of rows."""

    def __init__(self, model: WindowModel, rows: pd.DataFrame, member: str, key: bytes) -> None:
        regime = model.contract.regime
        names = [time_name(model), *([regime.column] if regime else []), *model.sensors]
        cells = rows[names].to_numpy(dtype=np.float64)
        cells[np.isnan(cells)] = np.nan  # one spelling for what is missing
        self._cells = np.ascontiguousarray(cells, dtype="<f8")
        self._unit, names_of = pd.factorize(rows[UNIT])
        self._unit_names = [str(name) for name in names_of]
        self._starts = np.flatnonzero(np.diff(self._unit, prepend=-1))
        self._member, self._key, self._names = member, key, names
        self._of = -1
        self._code = hmac.new(key, digestmod=hashlib.sha256)
        self._next = 0

    def up_to(self, row: int) -> str:
        unit = int(self._unit[row])
        if unit != self._of:
            head = framed(
                b"tacit/scored-window/v1",
                self._member.encode(),
                self._unit_names[unit].encode(),
                canonical_json(self._names),
            )
            self._code = hmac.new(self._key, head, hashlib.sha256)
            self._of, self._next = unit, int(self._starts[unit])
        self._code.update(self._cells[self._next : row + 1].tobytes())
        self._next = row + 1
        return self._code.hexdigest()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
