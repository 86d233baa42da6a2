"""What a member's data look like against their contract: problems, warnings, and how much there is.

The report is for whoever owns the data and stays with them: it tells counts and shares by column
and member, never a row's value.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from clients.contract import Column, Count, DataContract, FoldSplit
from clients.labels import KNOWN, Y
from clients.members import Assignment, MemberRows, Table, assign, read_assigned, tables
from clients.source import UNIT, Chunk, read_counted
from privacy.errors import TacitError

OUTSIDE_SHARE: Final = 0.01
"""Above it, cells outside a range, or of an unlisted level, are worth a warning."""
MISSING_SHARE: Final = 0.5
"""Above it, empty cells are worth a warning."""


@dataclass(frozen=True, slots=True)
class ColumnCheck:
    """One column over all rows.

    Attributes:
        column: The contract's name of it.
        missing_share: Empty cells, of all.
        outside_share: Numbers outside the range, of those present; None without a range.
        unlisted_share: Levels not listed, of those present; None where levels are not listed.
    """

    column: str
    missing_share: float
    outside_share: float | None
    unlisted_share: float | None


@dataclass(frozen=True, slots=True)
class MemberCheck:
    """One member.

    Attributes:
        member: Its name.
        train_rows: Rows that train.
        test_rows: Rows that test.
        train_units: Units with rows that train.
        test_units: Units with rows that test.
        label_mean: Mean of the training label where it is known; None without such rows.
    """

    member: str
    train_rows: int
    test_rows: int
    train_units: int
    test_units: int
    label_mean: float | None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found.

    Attributes:
        contract: The contract's name.
        rows: Rows that could be read.
        units: Units by member; one of the same name in a train and in a test source counts twice.
        columns: The contract's loaded columns that files hold, in its order.
        members: In the order of names; empty where rows could not be read.
        problems: Sentences; with any, training would fail or mean nothing.
        warnings: Sentences; worth a look.
    """

    contract: str
    rows: int
    units: int
    columns: tuple[ColumnCheck, ...]
    members: tuple[MemberCheck, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_json(self) -> dict[str, object]:
        """The report as mappings, lists, texts and numbers."""
        return {"ok": self.ok, **asdict(self)}


def check_data(contract: DataContract, data_root: Path) -> CheckReport:
    """Read everything once as training would, and say what is wrong with it.

    What stops one file's reading becomes a problem, and other files are read on. A contract that
    splits into folds is checked by its first fold.

    Raises:
        InputError: The members' folder is missing or empty.
    """
    found = _Findings()
    tally = _Tally(contract)
    for table in tables(contract, data_root):
        if not tally.read(table, found):
            continue
        try:
            _check_table(contract, table, found)
        except TacitError as fault:
            found.problems.append(_of_member(table, str(fault)))
    if not found.problems and not any(one.test_rows for one in found.members):
        found.problems.append(
            f"{contract.name} has no test rows at all; check the contract's split and sources."
        )
    found.check_labels(contract)
    found.warnings += _column_warnings(tally.columns)
    return CheckReport(
        contract=contract.name,
        rows=tally.rows,
        units=found.units,
        columns=tally.columns,
        members=tuple(sorted(found.members, key=lambda one: one.member)),
        problems=tuple(dict.fromkeys(found.problems)),
        warnings=tuple(dict.fromkeys(found.warnings)),
    )


@dataclass(slots=True)
class _Findings:
    """What is known so far."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    members: list[MemberCheck] = field(default_factory=list)
    labels: set[float] = field(default_factory=set)
    units: int = 0

    def check_labels(self, contract: DataContract) -> None:
        """Refuse labels that leave nothing to learn."""
        if not self.members:
            return
        if contract.label.kind in {"binary", "within_horizon"} and len(self.labels) == 1:
            self.problems.append(
                f"All training labels of {contract.name} are of one class, so nothing can be "
                f"learnt; check the contract's label."
            )
        if isinstance(contract.label, Count) and self.labels == {0.0}:
            self.problems.append(
                f"All training counts of {contract.name} are 0, so nothing can be learnt; check "
                f"the contract's label."
            )


@dataclass(slots=True)
class _Cells:
    """Cells of one column."""

    rows: int = 0
    missing: int = 0
    outside: int = 0
    unlisted: int = 0


class _Tally:
    """Counts of cells over all tables, chunk by chunk."""

    def __init__(self, contract: DataContract) -> None:
        self.rows = 0
        self._contract = contract
        self._cells: dict[str, _Cells] = {}

    def read(self, table: Table, found: _Findings) -> bool:
        """Count a table's cells; False, with its problems told, where it cannot be read whole."""
        before = len(found.problems)
        for source in self._contract.sources:
            try:
                for chunk in read_counted(self._contract, table.root, source):
                    self._add(chunk)
            except TacitError as fault:
                found.problems.append(_of_member(table, str(fault)))
        return len(found.problems) == before

    def _add(self, chunk: Chunk) -> None:
        self.rows += len(chunk.frame)
        for name, missing in chunk.missing.items():
            cells = self._cells.setdefault(name, _Cells())
            cells.rows += len(chunk.frame)
            cells.missing += missing
            cells.unlisted += chunk.unlisted.get(name, 0)
            cells.outside += _outside(chunk.frame, self._contract.column(name))

    @property
    def columns(self) -> tuple[ColumnCheck, ...]:
        """One entry a column that files hold."""
        checks = []
        for column in self._contract.columns:
            cells = self._cells.get(column.name)
            if cells is None or cells.rows == 0:
                continue
            present = max(1, cells.rows - cells.missing)
            ranged = column.is_numeric and column.range is not None
            listed = column.levels is not None and bool(column.categories)
            checks.append(
                ColumnCheck(
                    column=column.name,
                    missing_share=cells.missing / cells.rows,
                    outside_share=cells.outside / present if ranged else None,
                    unlisted_share=cells.unlisted / present if listed else None,
                )
            )
        return tuple(checks)


def _outside(frame: pd.DataFrame, column: Column) -> int:
    if column.range is None or not column.is_numeric:
        return 0
    low, high = column.range
    values = frame[column.name].to_numpy(dtype=np.float64)
    # NaN compares false, and is missing
    return int(((values < low) | (values > high)).sum())


def _of_member(table: Table, sentence: str) -> str:
    return sentence if table.member is None else f"Member {table.member}: {sentence}"


def _check_table(contract: DataContract, table: Table, found: _Findings) -> None:
    fold = 0 if isinstance(contract.split, FoldSplit) else None
    assignment = assign(contract, table, fold=fold)
    for member, rows in _rows_by_member(contract, table, assignment):
        if rows.train.empty:
            found.problems.append(
                f"Member {member} of {contract.name} has no training rows; check the contract's "
                f"members and split."
            )
        train = _units(rows.train)
        test = _units(rows.test)
        shared = train & test if contract.split is not None else set()
        found.units += len(train) + len(test) - len(shared)
        if shared:
            found.warnings.append(
                f"Member {member}: {len(shared)} units have training and test rows, so the test "
                f"flatters; use split kind units."
            )
        labels = _known_labels(rows.train)
        found.labels.update(np.unique(labels)[:3].tolist())
        binary = contract.label.kind in {"binary", "within_horizon"}
        if binary and np.unique(labels).size == 1:
            found.warnings.append(
                f"Member {member}: all training labels are of one class; it cannot learn alone."
            )
        found.warnings += _repeated(rows, contract)
        found.members.append(
            MemberCheck(
                member=member,
                train_rows=len(rows.train),
                test_rows=len(rows.test),
                train_units=len(train),
                test_units=len(test),
                label_mean=float(labels.mean()) if labels.size else None,
            )
        )


def _rows_by_member(
    contract: DataContract, table: Table, assignment: Assignment
) -> Iterable[tuple[str, MemberRows]]:
    return read_assigned(contract, table, assignment, assignment.names).items()


def _units(rows: pd.DataFrame) -> set[str]:
    return set(rows[UNIT].unique())


def _known_labels(rows: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    labels = rows[Y].to_numpy(dtype=np.float64)
    return labels[rows[KNOWN].to_numpy(dtype=bool)] if KNOWN in rows else labels


def _repeated(rows: MemberRows, contract: DataContract) -> list[str]:
    time = contract.time_column
    if not contract.is_telemetry or time is None:
        return []
    count = sum(int(part.duplicated([UNIT, time.name]).sum()) for part in (rows.train, rows.test))
    if not count:
        return []
    return [f"Member {rows.member}: {count} rows repeat a unit's time; keep one row a time."]


def _column_warnings(columns: Iterable[ColumnCheck]) -> list[str]:
    warnings = []
    for one in columns:
        if one.missing_share > MISSING_SHARE:
            warnings.append(f"Column {one.column}: {one.missing_share:.0%} of cells are empty.")
        if (one.outside_share or 0) > OUTSIDE_SHARE:
            warnings.append(
                f"Column {one.column}: {one.outside_share:.1%} of values are outside the range and "
                f"will be held at its ends; check the range and the unit."
            )
        if (one.unlisted_share or 0) > OUTSIDE_SHARE:
            warnings.append(
                f"Column {one.column}: {one.unlisted_share:.1%} of values are of levels that the "
                f"contract does not list, and count as other; list them."
            )
    return warnings
