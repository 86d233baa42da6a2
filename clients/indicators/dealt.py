"""A contract's rows as indicators read them: whose they are, what their device is called, usable.

A device's name begins with its member and its part wherever two devices could share a name else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import DataContract, Source
from clients.frozen import nearest
from clients.indicators.plan import Plan
from clients.left_out import Sieve
from clients.members import Assignment, Table, tables, told_owners
from clients.source import read_chunks, unit_names
from privacy.errors import DataError, InputError


def dealt_chunks(
    plan: Plan,
    data_root: Path,
    *,
    member: str | None,
    sieve: Sieve | None,
    chunk_rows: int,
    inputs: bool,
) -> Iterator[tuple["pd.Series[str]", pd.DataFrame]]:
    """Read (device's name of each row, rows), in file order, without rows that are left out.

    Args:
        plan: What is computed.
        data_root: Where the contract's sources lie.
        member: Whose rows; None for all.
        sieve: Holds back rows of devices that are left out; None: none is.
        chunk_rows: Rows in memory at once.
        inputs: Whether the columns that hold inputs are read too, or names and times alone.

    Raises:
        TacitError: As `clients.members.read_members`.
        InputError: There is no such member.
    """
    contract, given = plan.contract, plan.given
    # both names of a row: the one that was asked for, and the one by which a person decides
    named = {column.name for column in (*contract.unit_columns, *given.unit_columns)}
    wanted = {plan.time.name, *named, *(plan.columns if inputs else ())}
    found = tables(given, data_root, member if given.members is None else None)
    if member is not None and _in_folders(given):
        _require_member(member, [table.member or "" for table in found], given)
        found = tuple(table for table in found if table.member == member)
    parts = {source.part for source in given.sources}
    for table in found:
        dealt = Dealt(contract, given, table, member, sifted=sieve is not None)
        for source in given.sources:
            lead = [table.member or ""] if len(found) > 1 else []
            lead += [source.part] if len(parts) > 1 else []
            for chunk in read_chunks(
                contract, table.root, source, columns=frozenset(wanted), chunk_rows=chunk_rows
            ):
                own = dealt.take(len(chunk), source)
                mine = own.mine
                if sieve is not None:
                    mine = mine & own.passing(unit_names(chunk, given), sieve)
                names = own.led(_led(unit_names(chunk, contract), lead))
                yield (names, chunk) if mine.all() else (names[mine], chunk[mine])
        dealt.finish()


@dataclass(frozen=True, slots=True)
class _Owned:
    """Whose each row of a chunk is."""

    names: Sequence[str]
    member: NDArray[np.int32]
    test: NDArray[np.bool_]
    common: NDArray[np.bool_]
    mine: NDArray[np.bool_]
    leads: tuple[bool, bool]
    nobodys: str

    def passing(self, units: "pd.Series[str]", sieve: Sieve) -> NDArray[np.bool_]:
        """Which rows the sieve lets through; `units` are named by the given contract's columns."""
        return sieve.passes(
            units, members=self.names, member=self.member, test=self.test, common=self.common
        )

    def led(self, names: "pd.Series[str]") -> "pd.Series[str]":
        by_member, by_part = self.leads
        if by_part:
            parts = np.where(self.test, "test|", "train|")
            names = pd.Series(parts, names.index, dtype=str) + names
        if by_member:
            whose = np.where(self.common, self.nobodys, np.array(self.names)[self.member])
            names = pd.Series(whose, names.index, dtype=str) + "|" + names
        return names


class Dealt:
    """Whose each row of a table is, chunk by chunk."""

    def __init__(
        self,
        contract: DataContract,
        given: DataContract,
        table: Table,
        member: str | None,
        *,
        sifted: bool,
    ) -> None:
        """Read the columns that decide, where any do.

        Args:
            contract: Whose unit columns name devices.
            given: The contract as it was given, whose members own rows.
            table: Of `given`.
            member: Whose rows are wanted; None for all.
            sifted: Whether rows are held against who owns them.
        """
        self._given, self._member = given, member
        self._assigned: Assignment | None = None
        self._at = 0
        named = {column.name for column in contract.unit_columns}
        dealt = not _in_folders(given)
        by_member = dealt and member is None and not _names_member(given) <= named
        by_part = given.parts_are_told and bool(given.by_role("part"))
        # a pass of its own, over the columns that decide
        if by_part or (dealt and (sifted or by_member or member is not None)):
            self._assigned = told_owners(given, table)
        names = (table.member or "",) if self._assigned is None else self._assigned.names
        if dealt and member is not None:
            _require_member(member, names, given)
        self._names = names
        self._leads = (
            by_member and len(names) > 1,
            by_part and not {column.name for column in given.by_role("part")} <= named,
        )

    def take(self, rows: int, source: Source) -> _Owned:
        """Whose the next rows of a source are.

        Raises:
            DataError: The table has grown since its owners were read.
        """
        start, self._at = self._at, self._at + rows
        nowhere = np.zeros(rows, dtype=bool)
        if self._assigned is None:
            told = self._given.parts_are_told and source.part == "test"
            nobody = np.zeros(rows, dtype=np.int32)
            test = np.full(rows, told)
            return _Owned(self._names, nobody, test, nowhere, ~nowhere, self._leads, "")
        own = self._assigned
        if self._at > own.member.size:
            raise _changed(self._given)
        rows_here = slice(start, self._at)
        member, test, common = own.member[rows_here], own.test[rows_here], own.common[rows_here]
        mine = ~nowhere
        if self._member is not None and not _in_folders(self._given):
            mine = (member == own.names.index(self._member)) & ~common
        rule = None if self._given.members is None else self._given.members.file
        nobodys = "" if rule is None else rule.test or ""
        return _Owned(self._names, member, test, common, mine, self._leads, nobodys)

    def finish(self) -> None:
        """Raise DataError if the table has become shorter since its owners were read."""
        if self._assigned is not None and self._at != self._assigned.member.size:
            raise _changed(self._given)


def _in_folders(contract: DataContract) -> bool:
    """Whether a table is one member's: it has a folder of its own, or there is no other."""
    return contract.members is None or contract.members.folder is not None


def _names_member(contract: DataContract) -> frozenset[str]:
    """Columns that together say whose a row is."""
    rule = contract.members
    if rule is not None and rule.by is not None:
        return frozenset(one.column for one in rule.by)
    return frozenset(column.name for column in contract.unit_columns)


def _require_member(member: str, known: Sequence[str], contract: DataContract) -> None:
    if member not in known:
        guess = nearest(member, known)
        advice = f"did you mean {guess}?" if guess else "check the data folder."
        raise InputError(f"{contract.name} has no member {member}; {advice}")


def _changed(contract: DataContract) -> DataError:
    return DataError(f"The files of {contract.name} changed while they were read; start again.")


def _led(names: "pd.Series[str]", lead: Sequence[str]) -> "pd.Series[str]":
    head = "".join(f"{text}|" for text in lead)
    return head + names if head else names
