"""A first look at a user's own table, and a contract for it to start from.

A contract goes to every member of a federation, so a draft says little about the rows behind it:
ranges are rounded outward to two digits, a level that few rows show is left out, and no text is
listed that nearly every row has for itself.
"""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clients.contract import DEFAULT_MISSING, OTHER, level_text
from clients.frozen import nearest
from clients.source import TableFile, packed_as, read_header, read_tables
from privacy.errors import DataError, InputError

DISTINCT_LIMIT: Final = 200
FEW_ROWS: Final = 10  # a level of fewer rows is not named in a draft
MANY_LEVELS: Final = 50
FEW_CODES: Final = 12
LONGEST_NAME: Final = 100
HASH_LEVELS: Final = 64
TOP: Final = 10

Guess = Literal["integer", "number", "category", "text", "empty"]
Task = Literal["failure", "claims", "credit"]
UNIT_OF_TASK: Final = {"failure": "device", "claims": "policyholder", "credit": "borrower"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSummary:
    """One column of a table, as found.

    Attributes:
        name: The file's header.
        guess: What its cells look like.
        missing: Cells that are empty or say so.
        low: The smallest number; None where not all cells are numbers.
        high: The largest number.
        distinct: Different texts, counted up to `DISTINCT_LIMIT` + 1.
        levels: The texts with their rows, most frequent first, `DISTINCT_LIMIT` at most; none
            where there are more.
        running: Whether the cells count up by one from row to row.
    """

    name: str
    guess: Guess
    missing: int
    low: float | None
    high: float | None
    distinct: int
    levels: tuple[tuple[str, int], ...]
    running: bool

    @property
    def more(self) -> bool:
        """Whether there are more different texts than were counted."""
        return self.distinct > DISTINCT_LIMIT

    @property
    def top(self) -> tuple[tuple[str, int], ...]:
        """The most frequent texts."""
        return self.levels[:TOP]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSummary:
    """A table, as found. It holds values of rows, so it stays on the node."""

    path: Path
    format: Literal["csv", "parquet"]
    separator: str
    header: bool
    rows: int
    columns: tuple[ColumnSummary, ...]

    def column(self, name: str) -> ColumnSummary:
        """The column of that name.

        Raises:
            InputError: There is none; names the nearest.
        """
        for column in self.columns:
            if column.name == name:
                return column
        guess = nearest(name, (column.name for column in self.columns))
        hint = f"did you mean {guess}?" if guess else "see `tacit data describe`."
        raise InputError(f"{self.path.name}: has no column {name}; {hint}")


def describe_table(
    path: Path,
    *,
    format: Literal["csv", "parquet"] | None = None,  # noqa: A002 - the contract's own word
    separator: str | None = None,
    header: bool = True,
) -> TableSummary:
    """Read a table once, streaming, and say what each column holds.

    Args:
        path: A CSV or Parquet file, plain or packed (.gz, .xz, .zip).
        format: Default: by the file's name.
        separator: CSV: one character, or `whitespace`; default: the likeliest of the first line.
        header: CSV: whether the first line names the columns; else they are `column_1`, ...

    Raises:
        InputError: The file cannot be read.
        DataError: The file is empty or ragged.
    """
    kind = format or ("parquet" if _plain_suffix(path) in {".parquet", ".pq"} else "csv")
    file = TableFile(path=path, shown=path.name, format=kind, missing=DEFAULT_MISSING)
    if kind == "csv":
        file = _with_separator(file, separator)
    names = read_header(file)
    if kind == "csv" and not header:
        names = tuple(f"column_{place}" for place in range(1, len(names) + 1))
        file = replace(file, order=names)
    seen = [_Seen(name.strip()) for name in names]
    rows = 0
    fields = {str(place): (one.name, "text") for place, one in enumerate(seen)}
    for table in read_tables(file, {key: (name, "text") for key, (name, _) in fields.items()}):
        rows += table.num_rows
        for place, one in enumerate(seen):
            one.add(table.column(str(place)))
    if rows == 0:
        raise DataError(f"{path.name}: has no rows; give a file with rows.")
    return TableSummary(
        path=path,
        format=kind,
        separator=file.separator,
        header=header,
        rows=rows,
        columns=tuple(one.summary() for one in seen),
    )


def draft_contract(
    summary: TableSummary,
    *,
    name: str,
    source: str | None = None,
    label: str | None = None,
    unit: str | None = None,
    id: str | None = None,  # noqa: A002 - the contract's own word
    time: str | None = None,
    task: Task | None = None,
    exposure: str | None = None,
    members: str | None = None,
) -> str:
    """Write a contract's YAML for a described table.

    With `label` (for `failure` with `time`: with `id`) it loads as it is. What a person has to
    decide is marked REVIEW, or CHOOSE where it is still open.

    Args:
        summary: From `describe_table`.
        name: The contract's name.
        source: The file's path below the data root; default: the file's name.
        label: The column to learn.
        unit: Whom privacy protects; default: by the task.
        id: The column that names the unit; each row is a unit of its own without.
        time: The column of order within a unit; makes the table telemetry.
        task: `failure`, `claims` or `credit`; default: by the label's values.
        exposure: The column that a count is counted over.
        members: A column that names each row's member; without, all rows are one member's.

    Raises:
        InputError: A column does not exist, or cannot be what it is named for.
    """
    given = {"label": label, "id": id, "time": time, "exposure": exposure, "member": members}
    roles = {column: role for role, column in given.items() if column is not None}
    if len(roles) != sum(column is not None for column in given.values()):
        raise InputError("One column was named for two roles; name each column once.")
    for column in roles:
        summary.column(column)
    telemetry = time is not None
    if telemetry and id is None:
        raise InputError("A table over time needs the column that names the device; name the id.")
    if telemetry and label is not None:
        roles[label] = "event"
    kind = _label_kind(summary, label, task, telemetry=telemetry)
    lines = [
        "# Drafted from the table itself. REVIEW marks what a person has to decide.",
        "contract: 1",
        f"name: {_quoted(name)}",
        f"title: {_quoted(summary.path.name)}",
        f"unit: {unit or UNIT_OF_TASK.get(task or '', 'customer')}  # REVIEW whom privacy protects",
        "sources:",
        f"  - {_source(summary, source)}",
        "columns:  # REVIEW each class: L1 public, L2 internal, L3 confidential, L4 secret",
        *(
            f"  - {_column(one, roles.get(one.name, 'sensor' if telemetry else 'feature'), kind)}"
            for one in summary.columns
            # what a contract does not name is not loaded, so an unnamed index can stay out
            if _can_be_named(one.name)
        ),
    ]
    if members is not None:
        lines += ["members:", f"  by: [{{column: {_quoted(members)}}}]"]
    else:
        lines.append("# All rows belong to one member; REVIEW: or add members: {by: [COLUMN]}")
    lines.append(_split(kind, has_id=id is not None))
    lines.append(_label(kind, summary, label, exposure))
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Seen:
    """What was seen of one column so far."""

    name: str
    missing: int = 0
    all_numbers: bool = True
    all_whole: bool = True
    low: float = math.inf
    high: float = -math.inf
    levels: Counter[str] = field(default_factory=Counter)
    distinct: int = 0
    running: bool = True
    last: float | None = None

    def add(self, cells: pa.ChunkedArray) -> None:
        self.missing += cells.null_count
        counted = cells.drop_null().value_counts()
        texts = counted.field("values").to_pylist()
        if self.all_numbers:
            self._add_numbers(texts)
        # a text that occurs twice is counted once, so lengths differ where nothing runs
        self.running = self.running and self.all_numbers and len(texts) == len(cells)
        if self.distinct <= DISTINCT_LIMIT:
            counts = counted.field("counts").to_pylist()
            for text, count in zip(texts, counts, strict=True):
                self.levels[level_text(text)] += count
            self.distinct = min(len(self.levels), DISTINCT_LIMIT + 1)
            if self.distinct > DISTINCT_LIMIT:
                self.levels.clear()

    def _add_numbers(self, texts: list[str]) -> None:
        if not texts:
            return
        try:
            values = pc.cast(pc.utf8_trim_whitespace(pa.array(texts)), pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            self.all_numbers = False
            return
        if not np.isfinite(values).all():
            self.all_numbers = False
            return
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        before = values[:1] - 1 if self.last is None else [self.last]
        self.running = self.running and bool((np.diff(values, prepend=before) == 1).all())
        self.last = float(values[-1])
        self.all_whole = self.all_whole and bool((values == np.round(values)).all())

    def summary(self) -> ColumnSummary:
        numbers = self.all_numbers and self.distinct > 0
        guess: Guess = "text"
        if self.distinct == 0:
            guess = "empty"
        elif numbers:
            guess = "integer" if self.all_whole else "number"
        elif self.distinct <= DISTINCT_LIMIT:
            guess = "category"
        return ColumnSummary(
            name=self.name,
            guess=guess,
            missing=self.missing,
            low=self.low if numbers else None,
            high=self.high if numbers else None,
            distinct=self.distinct,
            running=self.running and self.distinct > 1,
            levels=tuple(sorted(self.levels.items(), key=lambda item: (-item[1], item[0]))),
        )


def _plain_suffix(path: Path) -> str:
    name = path.name.removesuffix(path.suffix) if packed_as(path) else path.name
    return Path(name).suffix.lower()


def _with_separator(file: TableFile, separator: str | None) -> TableFile:
    chosen = separator
    if chosen is None:
        widths = {sign: _width(file, sign) for sign in (",", ";", "\t", "|", "whitespace")}
        # `whitespace` splits texts too, so it only wins where nothing else splits at all
        chosen = max(widths, key=lambda sign: widths[sign] if sign != "whitespace" else 1.5)
        if chosen == "whitespace" and widths[chosen] == 1:
            chosen = ","
    return TableFile(path=file.path, shown=file.shown, separator=chosen, missing=file.missing)


def _width(file: TableFile, separator: str) -> int:
    """Fields of the first line; 0 where the separator cannot be the right one."""
    try:
        return len(read_header(replace(file, separator=separator)))
    except DataError:
        return 0


def outward(low: float, high: float) -> tuple[float, float]:
    """A range that holds [low, high], low < high, its ends of two significant digits or fewer."""
    if not low < high:
        margin = max(1.0, abs(low) / 10)
        low, high = low - margin, high + margin
    return _rounded(low, ROUND_FLOOR), _rounded(high, ROUND_CEILING)


def _rounded(value: float, how: str) -> float:
    # the shortest decimal that is this float: its binary digits would turn 3.8 into 3.7
    exact = Decimal(repr(value))
    if exact == 0:
        return 0.0
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=how))


def _can_be_named(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def _quoted(text: str) -> str:
    return (
        text
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) and not _is_word(text)
        else (json.dumps(text, ensure_ascii=False))
    )


def _is_word(text: str) -> bool:
    """Whether YAML 1.1 reads it as something else than text."""
    return text.casefold() in {"y", "n", "yes", "no", "true", "false", "on", "off", "null"}


def _source(summary: TableSummary, source: str | None) -> str:
    path = json.dumps(source or summary.path.name, ensure_ascii=False)
    if summary.format == "parquet":
        return f"{{path: {path}, format: parquet}}"
    separator = json.dumps(summary.separator)
    header = "true" if summary.header else "false"
    return f"{{path: {path}, format: csv, separator: {separator}, header: {header}}}"


def _column(column: ColumnSummary, role: str, kind: str) -> str:
    keys, note = _keys(column, role, kind)
    own = f"name: {_quoted(column.name)}"
    if column.name.startswith("__"):
        own = f"name: {_quoted(column.name.strip('_') or 'column')}, header: {_quoted(column.name)}"
    return f"{{{own}, {keys}, class: L3}}" + (f"  # {note}" if note else "")


def _keys(column: ColumnSummary, role: str, kind: str) -> tuple[str, str]:
    """The keys of a column's line, and a remark."""
    numeric = column.low is not None
    if role in {"time", "exposure", "event"} and not numeric:
        raise InputError(f"Column {column.name} holds no numbers, so it can be no {role}.")
    if role in {"id", "member", "time"}:
        return _order_keys(column, role)
    if role in {"label", "exposure", "event"}:
        return _label_keys(column, role, kind), ""
    if numeric:
        return _input_keys(column, role)
    if role == "sensor" or column.guess == "empty":
        return "type: text, role: ignore", "no cell holds a number"
    return _category(column)


def _input_keys(column: ColumnSummary, role: str) -> tuple[str, str]:
    if column.running and role != "sensor":
        return f"type: {_number_type(column)}, role: ignore", "REVIEW: a running number"
    remark = "REVIEW: constant" if column.low == column.high else ""
    if column.guess == "integer" and 2 < column.distinct <= FEW_CODES:  # noqa: PLR2004 - flags are numbers too
        remark = "REVIEW: if its numbers are codes, make it a category with levels"
    return f"type: {_number_type(column)}, role: {role}, range: {_range(column)}", remark


def _order_keys(column: ColumnSummary, role: str) -> tuple[str, str]:
    if role == "time":
        return "type: time, role: time", ""
    if role == "id":
        return f"type: {'integer' if column.guess == 'integer' else 'text'}, role: id", ""
    return "type: text, role: member", "REVIEW: one member a value"


def _label_keys(column: ColumnSummary, role: str, kind: str) -> str:
    if column.low is None:
        if kind != "binary":
            raise InputError(f"Column {column.name} holds no numbers; task credit can learn it.")
        return "type: text, role: label"
    bounds = f", range: {_range(column)}" if kind == "value" else ""
    return f"type: {_number_type(column)}, role: {role}{bounds}"


def _number_type(column: ColumnSummary) -> str:
    return "integer" if column.guess == "integer" else "number"


def _category(column: ColumnSummary) -> tuple[str, str]:
    frequent = [text for text, rows in column.levels if rows >= FEW_ROWS and text != OTHER]
    if 0 < len(frequent) <= MANY_LEVELS:
        levels = ", ".join(json.dumps(text, ensure_ascii=False) for text in sorted(frequent))
        rare = column.distinct - len(frequent)
        note = f"{rare} rare levels are left out" if rare > 0 else ""
        return f"type: category, role: feature, levels: [{levels}]", note
    if frequent:
        return f"type: category, role: feature, hash_levels: {HASH_LEVELS}", "REVIEW: many levels"
    return "type: text, role: ignore", "REVIEW: too many different texts for levels"


def _range(column: ColumnSummary) -> str:
    low, high = outward(column.low or 0.0, column.high or 0.0)
    return f"[{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """As YAML 1.1 reads it back: `1e+06` would be a text there."""
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004 - beyond it digits say nothing
        return str(int(value))
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")


def _label_kind(
    summary: TableSummary, label: str | None, task: Task | None, *, telemetry: bool
) -> str:
    if telemetry:
        return "within_horizon" if label is not None else "remaining_life"
    if label is None:
        return "open"
    column = summary.column(label)
    if task == "claims":
        return "count"
    if task is not None or column.distinct == 2:  # noqa: PLR2004 - two classes
        return "binary"
    counts = column.guess == "integer" and (column.low or 0) >= 0 and (column.high or 0) < 100  # noqa: PLR2004
    return "count" if counts else "value"


def _split(kind: str, *, has_id: bool) -> str:
    if has_id:
        return "split: {kind: units, seed: 0, test_share: 0.25}"
    if kind == "binary":
        return "split: {kind: stratified, seed: 0, test_share: 0.25}"
    return "split: {kind: uniform, seed: 0, test_share: 0.25}"


def _label(kind: str, summary: TableSummary, label: str | None, exposure: str | None) -> str:
    if kind == "remaining_life":
        return "label: {kind: remaining_life, cap: 125}  # REVIEW the cap, in units of time"
    if kind == "within_horizon":
        return "label: {kind: within_horizon, horizon: 30}  # REVIEW the horizon, in units of time"
    if label is None:
        return "# CHOOSE what to learn:\n# label: {kind: binary, column: NAME, positive: 1}"
    own = _quoted(label)
    if kind == "count":
        over = f", exposure: {_quoted(exposure)}" if exposure else ""
        return f"label: {{kind: count, column: {own}{over}}}"
    if kind == "value":
        return f"label: {{kind: value, column: {own}}}"
    column = summary.column(label)
    rarer = column.levels[-1][0] if column.levels else "1"
    positive = "1" if "1" in dict(column.levels) else rarer
    shown = positive if column.low is not None else json.dumps(positive, ensure_ascii=False)
    return f"label: {{kind: binary, column: {own}, positive: {shown}}}  # REVIEW the positive class"
