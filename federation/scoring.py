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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    TypedDict,
    Unpack,
)

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clients.contract import DataContract
from clients.frozen import Frozen, nearest, parse_settings
from clients.indicators.registry import INDICATORS
from clients.left_out import LeftOutFacts, Sieve
from clients.members import Assignment, read_table, tables, told_owners
from clients.reasons import LANGUAGES, Explained, Language, Method, Score, scores, sentence
from clients.source import ROW, unit_names
from clients.window_model import Against
from federation.gate_here import left_out_here
from federation.home import Home, write_bytes
from federation.kept_model import KeptModel
from federation.left_out_shown import WORDS
from privacy.canonical import canonical_json, framed, parse_canonical
from privacy.errors import DataError, InputError, NotVerifiedError, ProtocolError, RefusedError

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
        left_out: Keyed digest of a device -> why it has no score; None, and not in the file, where
            the contract has no gate.
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
    method: Method = "exact"
    against: Against | None = None
    every: int | None = None
    left_out: dict[Hex, LeftOutFacts] | None = None

    @property
    def bytes(self) -> bytes:
        """Canonical JSON; what has its usual value is not in it."""
        return canonical_json(self.model_dump(mode="json", exclude_defaults=True))


class About(TypedDict):
    """What a lineage says beside what its table and its run say; see `ScoreLineage`."""

    indicators: dict[str, dict[str, str]]
    units: dict[str, ScoredUnit]
    method: Method
    left_out: dict[str, LeftOutFacts] | None
    against: NotRequired[Against | None]
    every: NotRequired[int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A score and the digest of the row that it is about."""

    score: Score
    row: str


def score_rows(
    kept: KeptModel,
    model: Explained,
    data_root: Path,
    *,
    key: bytes,
    sieve: Sieve | None = None,
) -> Iterator[Scored]:
    """Score all rows of the contract's sources below `data_root`, in their order.

    Labels are not read, so rows may be scored before anything is known of how they end.

    Args:
        kept: The model's run.
        model: Its curves.
        data_root: Where the contract's sources lie.
        key: The node's, of its digests of rows.
        sieve: Holds back rows of devices that are left out: they get no score.

    Raises:
        InputError: A file cannot be read.
        DataError: Rows do not keep the contract.
    """
    contract = kept.contract
    inputs = model.columns
    wanted = frozenset(column.name for column in (*inputs, *contract.unit_columns))
    for table in tables(contract, data_root):
        owners = None if sieve is None else told_owners(contract, table)
        for frame in read_table(contract, table, columns=wanted):
            if sieve is not None and owners is not None:
                at = int(frame[ROW].iloc[0]) if len(frame) else 0
                names = unit_names(frame, contract)
                frame = frame[_passing(names, at, contract, owners, sieve)]  # noqa: PLW2901 - fewer rows
                if frame.empty:
                    continue
            columns = {column.name: _values(frame, column.name) for column in inputs}
            units = unit_names(frame, contract).tolist()
            for score in scores(model, units, columns):
                yield Scored(score=score, row=_row_digest(key, score, table.member or ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredHere:
    """Scores of a machine's rows as they may be used.

    Attributes:
        scores: One a row, in their order; to be read once, within `scored_here`.
        sieve: What held rows back; None for a contract without a gate.
    """

    scores: Iterator[Scored]
    sieve: Sieve | None

    @property
    def left_out(self) -> dict[str, LeftOutFacts] | None:
        """What got no score, once all scores were read."""
        return None if self.sieve is None else self.sieve.facts()


@contextmanager
def scored_here(
    home: Home, kept: KeptModel, model: Explained, data_root: Path, *, key: bytes
) -> Iterator[ScoredHere]:
    """Score rows of this machine; devices that the gate of their contract leaves out get none.

    Raises:
        TacitError: As `score_rows` and `federation.gate_here.left_out_here`.
    """
    with left_out_here(home, kept.contract, data_root, member=None, key=key) as out:
        sieve = None if out is None else Sieve(out)
        found = score_rows(kept, model, data_root, key=key, sieve=sieve)
        yield ScoredHere(scores=found, sieve=sieve)


def _passing(
    units: "pd.Series[str]", at: int, contract: DataContract, owners: Assignment, sieve: Sieve
) -> NDArray[np.bool_]:
    """Which of some rows of a table that follow each other pass, shape (rows,).

    Args:
        units: Names by the contract's own unit columns.
        at: The place of the first in its table.
        contract: What the rows mean.
        owners: Whose the table's rows are.
        sieve: Holds back rows of devices that are left out.

    Raises:
        DataError: The table has grown since its owners were read.
    """
    rows = slice(at, at + len(units))
    if rows.stop > owners.member.size:
        raise DataError(f"The files of {contract.name} changed while they were read; start again.")
    return sieve.passes(
        units,
        members=owners.names,
        member=owners.member[rows],
        test=owners.test[rows],
        common=owners.common[rows],
    )


def one_unit(
    found: Iterator[Scored], unit: str, where: str, *, sieve: Sieve | None = None
) -> Scored:
    """The last row of a unit.

    Args:
        found: All scores.
        unit: Whose.
        where: Name of the rows.
        sieve: What held rows back of them.

    Raises:
        InputError: There is none.
        RefusedError: There are some, of a device that is left out.
    """
    last: Scored | None = None
    others: list[str] = []
    for one in found:
        if one.score.unit == unit:
            last = one
        elif len(others) < MOST_UNITS:
            others.append(one.score.unit)
    if last is None and sieve is not None and unit in sieve.units:
        raise RefusedError(
            f"{unit}: is {WORDS[sieve.units[unit]]}, so it gets no score; see tacit data review "
            f"list and tacit data trust."
        )
    if last is None:
        guess = nearest(unit, others)
        advice = f"did you mean {guess}?" if guess else f"there are {len(others)} others."
        raise InputError(f"{where}: has no rows of {unit}; {advice}")
    return last


def write_scores(
    kept: KeptModel,
    model: Explained,
    found: Sequence[Scored],
    path: Path,
    *,
    left_out: dict[str, LeftOutFacts] | None = None,
) -> ScoreLineage:
    """Write a CSV of scores with reasons in both languages, and its lineage beside it.

    Args:
        kept: The model's run.
        model: Its curves.
        found: The scores.
        path: The table to write.
        left_out: What the gate left out; None for a contract without one.

    Raises:
        InputError: The name is none of a CSV file.
        DataError: A unit has several rows, so that a score could not be traced.
    """
    require_csv(path)
    names = [one.score.unit for one in found]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"{kept.contract.name}: {twice} has several rows; a score is about one row of a unit."
        )
    data = _table(model, found)
    return write_lineage(
        kept,
        data,
        path,
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
        left_out=left_out,
    )


def require_csv(path: Path) -> None:
    """Return if a path may be that of a table of scores.

    Raises:
        InputError: It has another ending.
    """
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: is no name for a table of scores; end it in .csv.")


def write_lineage(
    kept: KeptModel, table: bytes, path: Path, **about: Unpack[About]
) -> ScoreLineage:
    """Write a table of scores, and beside it where they came from."""
    lineage = ScoreLineage(
        scores=1,
        table=hashlib.sha256(table).hexdigest(),
        run=kept.run,
        manifest=kept.manifest.digest().hex(),
        model=kept.digest,
        task=kept.manifest.task,
        contract=kept.contract.digest,
        contract_name=kept.contract.name,
        **about,
    )
    write_bytes(path, table)
    write_bytes(scores_path(path), lineage.bytes + b"\n")
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
