"""Whether a table keeps its contract, and what a person should look at before training."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import Binary, Column, DataContract, FoldSplit, WithinHorizon
from clients.labels import Y, label_rows
from clients.members import Assignment, Table, assign, tables
from clients.source import LIFE, ROW, UNIT, Chunk, read_counted, unit_names
from privacy.errors import TacitError

NOTED_SHARE: Final = 0.01  # of cells; above it a column is worth a warning
_MEMBER: Final = "__member"
_TEST: Final = "__test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnCheck:
    """Shares of one column's cells, in [0, 1]."""

    name: str
    missing_share: float
    out_of_range_share: float
    unlisted_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCheck:
    """One member's rows.

    Attributes:
        name: The member.
        train_rows: Its training rows.
        test_rows: Its test rows.
        units: Different units; for telemetry those of the training part and of the test part.
        label_mean: Mean label, capped where the contract caps it, except for remaining life, which
            is as recorded; None for `within_horizon`.
    """

    name: str
    train_rows: int
    test_rows: int
    units: int
    label_mean: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What was found. It says things about single members, so it stays on the node.

    Attributes:
        rows: Rows of all sources.
        units: Sum over members; each row is one where the contract names none.
        members: One entry a member, by name.
        columns: One entry a column that was read.
        problems: Sentences; training cannot begin before they are dealt with.
        warnings: Sentences that a person should know.
    """

    rows: int
    units: int
    members: tuple[MemberCheck, ...]
    columns: tuple[ColumnCheck, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def check_data(
    contract: DataContract, data_root: Path, *, sole_member: str | None = None
) -> CheckReport:
    """Read everything and report; errors of reading become problems, and the first one ends it.

    Memory: a chunk, a few bytes a row (member, part, for telemetry a fingerprint of 8), and what
    is kept for each unit. Of several folds the first is checked.
    """
    seen = _Seen(contract)
    try:
        for table in tables(contract, data_root, sole_member):
            fold = 0 if isinstance(contract.split, FoldSplit) else None
            seen.read(table, assign(contract, table, fold=fold))
        if contract.members is not None and contract.members.file is not None:
            for name in contract.members.file.members:
                seen.members.setdefault(name, _Member())
    except TacitError as failure:
        seen.problems.append(str(failure))
    return seen.report()


@dataclass(slots=True)
class _Member:
    """What was seen of one member."""

    train_rows: int = 0
    test_rows: int = 0
    units: set[str] = field(default_factory=set)
    label_sum: float = 0.0
    classes: set[float] = field(default_factory=set)


@dataclass(slots=True)
class _Record:
    """One unit's rows of one part: what the mean remaining life is made of."""

    rows: int = 0
    time_sum: float = 0.0
    end: float = -math.inf

    def add(self, times: NDArray[np.float64], life: float) -> None:
        self.rows += times.size
        self.time_sum += float(times.sum())
        self.end = max(self.end, float(times.max()) + life)


class _Seen:
    """What was seen so far."""

    def __init__(self, contract: DataContract) -> None:
        self.contract = contract
        self.rows = 0
        self.cells: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.unlisted: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()
        self.members: dict[str, _Member] = {}
        self.records: dict[tuple[str, bool, str], _Record] = {}
        self.readings: list[NDArray[np.uint64]] = []
        self.events = 0
        self.problems: list[str] = []

    def read(self, table: Table, assignment: Assignment) -> None:
        """Read one table."""
        start = 0
        for source in self.contract.sources:
            for chunk in read_counted(self.contract, table.root, source):
                rows = slice(start, start + len(chunk.frame))
                self._count(chunk)
                frame = chunk.frame.copy(deep=False)
                frame[ROW] = np.arange(rows.start, rows.stop)
                frame[_MEMBER] = assignment.member[rows]
                frame[_TEST] = assignment.test[rows]
                self._count_members(frame, assignment.names)
                start = rows.stop

    def _count(self, chunk: Chunk) -> None:
        rows = len(chunk.frame)
        self.rows += rows
        for name, missing in chunk.missing.items():
            self.cells[name] += rows
            self.missing[name] += missing
            self.unlisted[name] += chunk.unlisted.get(name, 0)
            self.outside[name] += _outside(self.contract.column(name), chunk.frame)

    def _count_members(self, frame: pd.DataFrame, names: Sequence[str]) -> None:
        contract = self.contract
        if contract.unit_columns:
            frame[UNIT] = unit_names(frame, contract)
        if contract.is_telemetry:
            self._add_readings(frame, names)
        else:
            frame = label_rows(frame, contract)
        for code in frame[_MEMBER].unique():
            rows = frame[frame[_MEMBER] == code]
            own = self.members.setdefault(names[code], _Member())
            test = int(rows[_TEST].sum())
            own.test_rows += test
            own.train_rows += len(rows) - test
            if contract.unit_columns:
                own.units.update(rows[UNIT].unique())
            if not contract.is_telemetry:
                own.label_sum += float(rows[Y].sum())
            if isinstance(contract.label, Binary):
                own.classes.update(rows[Y].unique())

    def _add_readings(self, frame: pd.DataFrame, names: Sequence[str]) -> None:
        time = self.contract.time_column
        if time is None:
            raise ValueError("a telemetry contract has a time column")
        for event in self.contract.by_role("event"):
            self.events += int((frame[event.name] == 1).sum())
        # units of one name are different devices in the training and in the test part
        whose = [_MEMBER, _TEST, UNIT]
        key = pd.util.hash_pandas_object(frame[[*whose, time.name]], index=False)
        self.readings.append(np.asarray(key, dtype=np.uint64))
        for (code, test, unit), rows in frame.groupby(whose, sort=False):
            whole = (names[int(str(code))], bool(test), str(unit))
            record = self.records.setdefault(whole, _Record())
            life = float(rows[LIFE].iloc[0]) if LIFE in rows else 0.0
            record.add(rows[time.name].to_numpy(dtype=np.float64), life)

    def report(self) -> CheckReport:
        """Sum up."""
        for (name, _, _), record in self.records.items():
            self.members[name].label_sum += record.rows * record.end - record.time_sum
        members = tuple(self._member(name, own) for name, own in sorted(self.members.items()))
        columns = tuple(self._column(name) for name in self.cells)
        problems = self.problems or self._problems(members)
        return CheckReport(
            rows=self.rows,
            units=sum(one.units for one in members),
            members=members,
            columns=columns,
            problems=tuple(problems),
            warnings=tuple(self._warnings(columns)),
        )

    def _member(self, name: str, own: _Member) -> MemberCheck:
        rows = own.train_rows + own.test_rows
        known = rows > 0 and not isinstance(self.contract.label, WithinHorizon)
        return MemberCheck(
            name=name,
            train_rows=own.train_rows,
            test_rows=own.test_rows,
            units=self._units(name, own) if self.contract.unit_columns else rows,
            label_mean=own.label_sum / rows if known else None,
        )

    def _units(self, name: str, own: _Member) -> int:
        if not self.contract.is_telemetry:
            return len(own.units)
        return sum(member == name for member, _, _ in self.records)

    def _column(self, name: str) -> ColumnCheck:
        cells = max(self.cells[name], 1)
        return ColumnCheck(
            name=name,
            missing_share=self.missing[name] / cells,
            out_of_range_share=self.outside[name] / cells,
            unlisted_share=self.unlisted[name] / cells,
        )

    def _problems(self, members: Sequence[MemberCheck]) -> list[str]:
        found = [
            f"Member {one.name} has no training rows; check the contract's members and split."
            for one in members
            if one.train_rows == 0
        ]
        if members and all(one.test_rows == 0 for one in members):
            found.append("There are no test rows at all; check the contract's split and sources.")
        classes = {value for own in self.members.values() for value in own.classes}
        if isinstance(self.contract.label, Binary) and len(classes) == 1:
            found.append(
                f"Column {self.contract.label.column} has one class only over the whole table; "
                f"check label.positive in the contract."
            )
        if self.contract.by_role("event") and self.events == 0:
            name = self.contract.by_role("event")[0].name
            found.append(f"Column {name} holds no event (1) at all; check the contract.")
        return found

    def _warnings(self, columns: Sequence[ColumnCheck]) -> list[str]:
        found = []
        if isinstance(self.contract.label, Binary):
            found += [
                f"Member {name} has labels of one class only; it cannot train alone."
                for name, own in sorted(self.members.items())
                if len(own.classes) == 1
            ]
        if self.readings:
            readings = np.concatenate(self.readings)
            again = readings.size - np.unique(readings).size
            if again:
                found.append(
                    f"{again} rows repeat the unit and time of another row; keep one each."
                )
        for one in columns:
            if one.out_of_range_share > NOTED_SHARE:
                found.append(
                    f"Column {one.name} lies outside its range in {one.out_of_range_share:.1%} of "
                    f"cells; they are held at the bounds."
                )
            if one.unlisted_share > NOTED_SHARE:
                found.append(
                    f"Column {one.name} shows levels that the contract does not list in "
                    f"{one.unlisted_share:.1%} of cells; they count as other."
                )
        return found


def _outside(column: Column, frame: pd.DataFrame) -> int:
    if column.range is None or not column.is_numeric:
        return 0
    values = frame[column.name].to_numpy(dtype=np.float64)
    low, high = column.range
    return int(((values < low) | (values > high)).sum())
