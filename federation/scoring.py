"""Rows scored by a kept model, each score with its reasons and where it came from.

Beside a table of scores lies `TABLE.scores.json`: canonical JSON that names the run, the model, the
contract, the transforms of its indicators, and a keyed digest of each unit's row, which tells
nothing of the row to who has not the key.
"""

import csv
import hashlib
import hmac
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clients.frozen import Frozen, nearest, parse_settings
from clients.indicators.registry import INDICATORS
from clients.members import read_table, tables
from clients.reasons import LANGUAGES, Explained, Language, Score, scores, sentence
from clients.source import unit_names
from federation.home import write_bytes
from federation.kept_model import KeptModel
from privacy.canonical import canonical_json, framed, parse_canonical
from privacy.errors import DataError, InputError, NotVerifiedError, ProtocolError

if TYPE_CHECKING:
    import pandas as pd

REASONS: Final = 3
MOST_UNITS: Final = 1_000_000
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ScoredUnit(Frozen):
    """One score.

    Attributes:
        row: HMAC-SHA-256, hex, under the node's key, over the inputs as they were read.
        value: As the table has it.
        output: In the model's own scale.
        base: What every unit starts from.
        factors: Column -> what it adds.
    """

    row: Hex
    value: float
    output: float
    base: float
    factors: dict[str, float]


class ScoreLineage(Frozen):
    """Where a table's scores came from.

    Attributes:
        scores: The form's version.
        table: SHA-256 of the table's bytes.
        run: The run's id.
        manifest: Digest of what its members agreed on.
        model: Digest of the weights.
        task: What the model is for.
        contract: Digest of the rows' contract.
        contract_name: Its name.
        indicators: Input -> the registered transform that made it, with its digest; empty where
            it is declared.
        units: Whose scores; of windows, `DEVICE@TIME` where a device may have several.
        method: Whether factors are exact, or attributed.
        against: Of models of windows: what their amounts are measured against.
        every: Of models of windows: steps between a device's; None: its last alone.
    """

    scores: Literal[1]
    table: Hex
    run: str
    manifest: Hex
    model: Hex
    task: str
    contract: Hex
    contract_name: str
    indicators: dict[str, dict[str, str]]
    units: dict[str, ScoredUnit]
    method: Literal["exact", "attribution"] = "exact"
    against: Literal["members", "beginning"] | None = None
    every: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A score and the digest of the row that it is about."""

    score: Score
    row: str


def score_rows(
    kept: KeptModel, model: Explained, data_root: Path, *, key: bytes
) -> Iterator[Scored]:
    """Score all rows of the contract's sources below `data_root`, in their order.

    Labels are not read, so rows may be scored before anything is known of how they end.

    Raises:
        InputError: A file cannot be read.
        DataError: Rows do not keep the contract.
    """
    contract = kept.contract
    inputs = model.columns
    wanted = frozenset(column.name for column in (*inputs, *contract.unit_columns))
    for table in tables(contract, data_root):
        for frame in read_table(contract, table, columns=wanted):
            columns = {column.name: _values(frame, column.name) for column in inputs}
            units = unit_names(frame, contract).tolist()
            for score in scores(model, units, columns):
                yield Scored(score=score, row=_row_digest(key, score, table.member or ""))


def one_unit(found: Iterator[Scored], unit: str, where: str) -> Scored:
    """The last row of a unit.

    Raises:
        InputError: There is none.
    """
    last: Scored | None = None
    others: list[str] = []
    for one in found:
        if one.score.unit == unit:
            last = one
        elif len(others) < MOST_UNITS:
            others.append(one.score.unit)
    if last is None:
        guess = nearest(unit, others)
        advice = f"did you mean {guess}?" if guess else f"there are {len(others)} others."
        raise InputError(f"{where}: has no rows of {unit}; {advice}")
    return last


def write_scores(
    kept: KeptModel, model: Explained, found: Sequence[Scored], path: Path
) -> ScoreLineage:
    """Write a CSV of scores with reasons in both languages, and its lineage beside it.

    Raises:
        InputError: The name is none of a CSV file.
        DataError: A unit has several rows, so that a score could not be traced.
    """
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: is no name for a table of scores; end it in .csv.")
    names = [one.score.unit for one in found]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"{kept.contract.name}: {twice} has several rows; a score is about one row of a unit."
        )
    data = _table(model, found)
    lineage = ScoreLineage(
        scores=1,
        table=hashlib.sha256(data).hexdigest(),
        run=kept.run,
        manifest=kept.manifest.digest().hex(),
        model=kept.digest,
        task=kept.manifest.task,
        contract=kept.contract.digest,
        contract_name=kept.contract.name,
        indicators={column.name: transform_of(column.indicator) for column in model.columns},
        units={
            one.score.unit: ScoredUnit(
                row=one.row,
                value=one.score.value,
                output=one.score.output,
                base=one.score.base,
                factors={factor.column: factor.amount for factor in one.score.factors},
            )
            for one in found
        },
        method=model.method,
    )
    write_bytes(path, data)
    told = lineage.model_dump(mode="json", exclude_defaults=True)
    write_bytes(scores_path(path), canonical_json(told) + b"\n")
    return lineage


def scores_path(table: Path) -> Path:
    """Where the lineage of a table of scores lies."""
    return table.with_name(f"{table.name}.scores.json")


def read_score_lineage(table: Path) -> ScoreLineage:
    """Read it, and hold the table against it.

    Raises:
        InputError: A file is missing.
        NotVerifiedError: The lineage is not as it was written, or the table is another.
    """
    path = scores_path(table)
    try:
        raw, data = path.read_bytes(), table.read_bytes()
    except OSError as failure:
        raise InputError(
            f"{failure.filename}: cannot be read ({failure.strerror}); give a table that tacit "
            f"model predict wrote, with its lineage beside it."
        ) from None
    try:
        value = parse_canonical(raw.removesuffix(b"\n"))
    except ProtocolError:
        raise NotVerifiedError(f"{path}: is not as it was written; score again.") from None
    lineage = parse_settings(ScoreLineage, value, str(path))
    if hashlib.sha256(data).hexdigest() != lineage.table:
        raise NotVerifiedError(
            f"{table}: is not the table that its lineage speaks of; score again."
        )
    return lineage


def score_facts(model: Explained, scored: Scored) -> dict[str, Any]:
    """One score for programs."""
    score = scored.score
    return {
        "unit": score.unit,
        "value": score.value,
        "output": score.output,
        "base": score.base,
        "method": model.method,
        "reference": model.reference,
        "row": scored.row,
        "factors": [
            {
                "column": one.column,
                "value": one.value,
                "amount": one.amount,
                **{language: sentence(model, one, language) for language in LANGUAGES},
            }
            for one in sorted(score.factors, key=lambda one: -abs(one.amount))
        ],
        "reasons": [one.column for one in score.reasons],
    }


def _table(model: Explained, found: Sequence[Scored]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = range(1, REASONS + 1)
    said: tuple[Language, ...] = LANGUAGES
    head = [f"reason_{place}" for place in places]
    head += [f"reason_{place}_{language}" for place in places for language in said]
    writer.writerow(["unit", "value", *head])
    for one in found:
        reasons = one.score.reasons[:REASONS]
        codes = [factor.column for factor in reasons] + [""] * (REASONS - len(reasons))
        words = [sentence(model, factor, language) for factor in reasons for language in said]
        words += [""] * (REASONS * len(said) - len(words))
        writer.writerow([one.score.unit, repr(one.score.value), *codes, *words])
    return text.getvalue().encode("utf-8")


def transform_of(indicator: str | None) -> dict[str, str]:
    """The registered transform of an input, with its digest; empty where there is none."""
    known = INDICATORS.get(indicator or "")
    return {} if known is None else {"indicator": known.key, "digest": known.digest}


def _values(frame: "pd.DataFrame", name: str) -> NDArray[np.generic]:
    cells = frame[name]
    if hasattr(cells, "cat"):
        return np.asarray(cells.cat.codes.to_numpy(), dtype=np.int64)
    return np.asarray(cells.to_numpy(dtype=np.float64))


def _row_digest(key: bytes, score: Score, member: str) -> str:
    parts = [f"{one.column}={one.value!r}".encode() for one in score.factors]
    message = framed(b"tacit/scored-row/v1", member.encode(), score.unit.encode(), *parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()
