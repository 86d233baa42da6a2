"""Which rows belong to which member, and which of them train and which test.

Rows are read twice. The first pass reads only the columns that decide a row's member and part, and
keeps a few bytes a row; the second keeps the rows of the members that were asked for. A split is
drawn over a whole table in file order, as published protocols do; where each member has a folder
of its own, over its own rows, since it could not know those of others.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import (
    OTHER,
    Column,
    DataContract,
    FoldSplit,
    MemberColumn,
    MemberFile,
    StratifiedSplit,
    UniformSplit,
    UnitSplit,
    level_text,
)
from clients.frozen import nearest
from clients.labels import label_rows
from clients.source import ROW, UNIT, TableFile, packed_as, read_chunks, read_tables, unit_names
from privacy.errors import DataError, InputError

_TEST: Final = -1  # a row of the test part that belongs to no member


@dataclass(frozen=True)
class MemberRows:
    """One member's rows, labelled.

    `__row` numbers rows in file order from 0, `__unit` names the protected unit; labels are as
    `clients.labels.label_rows` adds them. Telemetry lies unit by unit, each in order of time.
    """

    member: str
    train: pd.DataFrame
    test: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that are split together: all of them, or one member's own folder or file."""

    root: Path
    member: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Member and part of every row of a table, in file order.

    Attributes:
        names: Members, sorted.
        member: int32 (rows,). Index into `names`.
        test: bool (rows,). Whether the row is a test row.
        common: bool (rows,). Whether it is nobody's own, and only dealt out to a member for tests.
    """

    names: tuple[str, ...]
    member: NDArray[np.int32]
    test: NDArray[np.bool_]
    common: NDArray[np.bool_]

    def rows_of(self, member: str, *, test: bool) -> int:
        """How many rows of a part a member has."""
        return int(((self.member == self.names.index(member)) & (self.test == test)).sum())


def member_names(
    contract: DataContract, data_root: Path, *, sole_member: str | None = None
) -> tuple[str, ...]:
    """The members' names, sorted; reads only the columns that decide them.

    Args:
        contract: What the rows mean.
        data_root: Where its sources lie.
        sole_member: The name where all rows belong to one member; default: the contract's name.

    Raises:
        TacitError: As `read_members`.
    """
    rule = contract.members
    if rule is not None and rule.file is not None:
        return tuple(sorted(rule.file.members))
    if rule is not None and rule.by is not None:
        table = Table(data_root, None)
        by = _ByColumns(contract, rule.by)
        for _, chunk in _stream(contract, table, by.columns):
            by.add(chunk)
        return by.finish()[0]
    found = [table.member for table in tables(contract, data_root, sole_member)]
    return tuple(sorted(name for name in found if name is not None))


def read_members(
    contract: DataContract,
    data_root: Path,
    *,
    only: frozenset[str] | None = None,
    fold: int | None = None,
    sole_member: str | None = None,
) -> dict[str, MemberRows]:
    """Read members' rows, labelled and split.

    Args:
        contract: What the rows mean.
        data_root: Where its sources lie.
        only: Members to read; None = all. Rows of others are dropped as they are read.
        fold: Which fold tests, from 0, where the contract splits into folds.
        sole_member: The name where all rows belong to one member; default: the contract's name.

    Returns:
        Member name -> rows, in the order of names.

    Raises:
        InputError: A file cannot be read, `only` names no member, or `fold` does not fit.
        DataError: Rows do not keep the contract, a member has no training rows, or nobody has
            test rows.
    """
    found: dict[str, MemberRows] = {}
    known: list[str] = []
    some_test = False
    for table in tables(contract, data_root, sole_member):
        if table.member is not None:
            known.append(table.member)
            if only is not None and table.member not in only:
                continue
        assignment = assign(contract, table, fold=fold)
        some_test = some_test or bool(assignment.test.any())
        if table.member is None:
            known += assignment.names
        wanted = [name for name in assignment.names if only is None or name in only]
        for name in wanted:
            if assignment.rows_of(name, test=False) == 0:
                raise DataError(
                    f"Member {name} of {contract.name} has no training rows; check the contract's "
                    f"members and split."
                )
        found |= read_assigned(contract, table, assignment, wanted)
    for name in sorted(only or ()):
        if name not in known:
            guess = nearest(name, known)
            hint = f"did you mean {guess}?" if guess else f"there are {len(known)} others."
            raise InputError(f"The contract {contract.name} has no member {name}; {hint}")
    if found and not some_test:
        raise DataError(
            f"{contract.name} has no test rows at all; check the contract's split and sources."
        )
    return dict(sorted(found.items()))


def tables(
    contract: DataContract, data_root: Path, sole_member: str | None = None
) -> tuple[Table, ...]:
    """What is split together.

    Raises:
        InputError: The members' folder is missing or empty.
    """
    if contract.members is None:
        return (Table(data_root, sole_member or contract.name),)
    if contract.members.folder is None:
        return (Table(data_root, None),)
    shown = contract.members.folder
    try:
        inside = sorted((data_root / shown).iterdir())
    except OSError:
        raise InputError(
            f"{shown}: no such folder below {data_root}; put one folder or file a member there."
        ) from None
    found = {}
    for path in inside:
        if path.name.startswith("."):
            continue
        name = member_name(path.name if path.is_dir() else _stem(path))
        if name in found:
            raise InputError(f"{shown}: two entries name the member {name}; rename one.")
        found[name] = Table(path, name)
    if not found:
        raise InputError(f"{shown}: is empty; put one folder or file a member there.")
    if len(contract.sources) > 1 and any(table.root.is_file() for table in found.values()):
        raise InputError(
            f"{shown}: holds single files, but the contract has several sources; give each member "
            f"a folder."
        )
    return tuple(table for _, table in sorted(found.items()))


def assign(contract: DataContract, table: Table, *, fold: int | None = None) -> Assignment:
    """Decide every row's member and part.

    Raises:
        TacitError: As `read_members`.
    """
    return _assign(contract, table, _parts(contract, fold))


def told_owners(contract: DataContract, table: Table) -> Assignment:
    """Say whose each row is, and its part as far as the data itself says it.

    No split is drawn and no label is read: `test` is False where the data does not tell the parts.

    Raises:
        TacitError: As `read_members`.
    """
    told = contract.model_copy(update={"split": None})
    found = _assign(contract, table, _Parts(told, None))
    return found if contract.parts_are_told else replace(found, test=np.zeros_like(found.test))


def read_table(
    contract: DataContract, table: Table, *, columns: frozenset[str] | None = None
) -> Iterator[pd.DataFrame]:
    """A table's rows in file order, with `__row`."""
    for _, chunk in _stream(contract, table, columns):
        yield chunk


def member_name(text: str) -> str:
    """A member's name as it can name a folder: signs but letters, digits, _ . + - become -."""
    plain = "".join(
        sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign)
    )
    safe = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", plain).strip())
    return re.sub(r"^[.-]", "_", safe)[:64]


def _stem(path: Path) -> str:
    name = path.name.removesuffix(path.suffix) if packed_as(path) else path.name
    return name.rpartition(".")[0] or name


def _stream(
    contract: DataContract, table: Table, columns: frozenset[str] | None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """(part of the source, chunk) in file order, `__row` counting over all sources."""
    start = 0
    for source in contract.sources:
        for chunk in read_chunks(contract, table.root, source, columns=columns):
            rows = len(chunk)
            yield source.part, chunk.assign(**{ROW: np.arange(start, start + rows)})
            start += rows


def read_assigned(
    contract: DataContract, table: Table, assignment: Assignment, wanted: Sequence[str]
) -> dict[str, MemberRows]:
    """Read some members' rows of a table, as `assign` dealt them out, labelled.

    Raises:
        TacitError: As `read_members`, but that a part may be empty.
    """
    codes = {assignment.names.index(name): name for name in wanted}
    kept = np.isin(assignment.member, list(codes))
    held: list[pd.DataFrame] = []
    rows = 0
    for _, chunk in _stream(contract, table, None):
        mine = kept[rows : rows + len(chunk)]
        rows += len(chunk)
        if mine.size == len(chunk):
            held.append(chunk if mine.all() else chunk[mine])
    if rows != kept.size:
        raise DataError(f"The files of {contract.name} changed while they were read; start again.")
    frame = pd.concat(held, ignore_index=True)
    frame[UNIT] = unit_names(frame, contract)
    member, test = assignment.member[kept], assignment.test[kept]
    return {
        name: MemberRows(
            member=name,
            train=_part(frame, contract, (member == code) & ~test),
            test=_part(frame, contract, (member == code) & test),
        )
        for code, name in codes.items()
    }


def _part(frame: pd.DataFrame, contract: DataContract, mask: NDArray[np.bool_]) -> pd.DataFrame:
    rows = frame[mask]
    time = contract.time_column
    if contract.is_telemetry and time is not None:
        unit = pd.factorize(rows[UNIT])[0]
        rows = rows.iloc[np.lexsort((rows[time.name].to_numpy(), unit))]
    return label_rows(rows, contract).reset_index(drop=True)


# the first pass


@dataclass(slots=True)
class _Parts:
    """What decides the parts of a table, and what has to be kept until all rows are seen."""

    contract: DataContract
    fold: int | None
    test: list[NDArray[np.bool_]] = field(default_factory=list)
    drawn: list[NDArray[np.bool_]] = field(default_factory=list)
    labels: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def columns(self) -> frozenset[str]:
        """Columns that the first pass has to read for it."""
        contract = self.contract
        names = [column.name for column in contract.by_role("part")]
        if isinstance(contract.split, UnitSplit):
            names += [column.name for column in contract.unit_columns]
        if isinstance(contract.split, (StratifiedSplit, FoldSplit)):
            names += [column.name for column in contract.by_role("label")]
        return frozenset(names)

    def add(self, part: str, chunk: pd.DataFrame) -> None:
        """Take one chunk's parts, as far as they are known."""
        contract, rows = self.contract, len(chunk)
        whole = part == "all"
        self.drawn.append(np.full(rows, whole and contract.split is not None))
        if whole and contract.by_role("part"):
            self.test.append(_told(chunk[contract.by_role("part")[0].name]))
        elif whole and isinstance(contract.split, UnitSplit):
            self.test.append(_by_unit(unit_names(chunk, contract), contract.split))
        else:
            self.test.append(np.full(rows, part == "test"))
        if isinstance(contract.split, (StratifiedSplit, FoldSplit)):
            labelled = label_rows(chunk, contract)["__y"].to_numpy(dtype=np.float64)
            self.labels.append(labelled)

    def finish(self) -> NDArray[np.bool_]:
        """Whether each row tests."""
        test = np.concatenate(self.test)
        drawn = np.concatenate(self.drawn)
        split = self.contract.split
        if isinstance(split, UniformSplit):
            # the legacy generator is the published protocol's
            draw = np.random.RandomState(split.seed).rand(int(drawn.sum()))
            test[drawn] = draw < split.test_share
        elif isinstance(split, (StratifiedSplit, FoldSplit)):
            labels = np.concatenate(self.labels)[drawn]
            places = np.flatnonzero(drawn)[_test_places(labels, split, self.fold, self.contract)]
            test[places] = True
        return test


def _parts(contract: DataContract, fold: int | None) -> _Parts:
    split = contract.split
    if isinstance(split, FoldSplit) and (fold is None or not 0 <= fold < split.folds):
        raise InputError(
            f"The contract {contract.name} splits into {split.folds} folds; name one from 0 to "
            f"{split.folds - 1}."
        )
    if fold is not None and not isinstance(split, FoldSplit):
        raise InputError(f"The contract {contract.name} has no folds; leave the fold out.")
    return _Parts(contract, fold)


def _test_places(
    labels: NDArray[np.float64],
    split: StratifiedSplit | FoldSplit,
    fold: int | None,
    contract: DataContract,
) -> NDArray[np.int64]:
    # scikit-learn takes a second to import, and only these two kinds need it
    from sklearn.model_selection import StratifiedKFold, train_test_split

    counts = np.unique(labels, return_counts=True)[1]
    fewest = split.folds if isinstance(split, FoldSplit) else 2
    if counts.size < 2 or counts.min() < fewest:  # noqa: PLR2004 - two classes
        raise DataError(
            f"{contract.name}: a stratified split needs two classes with {fewest} rows or more "
            f"each; check the label, or use split kind units."
        )
    rows = np.arange(labels.size)
    if isinstance(split, StratifiedSplit):
        parts = train_test_split(
            rows, test_size=split.test_share, stratify=labels, random_state=split.seed
        )
        return np.asarray(parts[1], dtype=np.int64)
    folds = StratifiedKFold(n_splits=split.folds, shuffle=True, random_state=split.seed)
    return np.asarray(list(folds.split(rows, labels))[fold or 0][1], dtype=np.int64)


def _told(parts: "pd.Series[str]") -> NDArray[np.bool_]:
    texts = parts.astype("str")
    if not texts.isin(["train", "test"]).all():
        raise DataError(
            f"Column {parts.name} tells each row's part; every cell must be train or test."
        )
    return (texts == "test").to_numpy(dtype=bool)


def _by_unit(units: "pd.Series[str]", split: UnitSplit) -> NDArray[np.bool_]:
    codes, unique = pd.factorize(units)
    edge = math.floor(split.test_share * 2**256)
    tests = [
        int.from_bytes(hashlib.sha256(f"{split.seed}|{unit}".encode()).digest()) < edge
        for unit in unique
    ]
    return np.array(tests, dtype=bool)[codes]


def _assign(contract: DataContract, table: Table, parts: _Parts) -> Assignment:
    rule = contract.members
    whose: _ByColumns | _ByFile | _Sole
    if table.member is not None or rule is None:
        whose = _Sole(table.member or contract.name)
    elif rule.file is not None:
        whose = _ByFile(contract, rule.file, table.root)
    else:
        whose = _ByColumns(contract, rule.by or ())
    for part, chunk in _stream(contract, table, parts.columns | whose.columns):
        whose.add(chunk)
        parts.add(part, chunk)
    names, member = whose.finish()
    test = parts.finish()
    ownerless = member == _TEST
    test |= ownerless
    member[ownerless] = np.flatnonzero(ownerless) % len(names)
    if isinstance(whose, _ByFile):
        # dealt out in the order that the contract lists them, then told by sorted names
        order = np.argsort(np.argsort(names)).astype(np.int32)
        member, names = order[member], tuple(sorted(names))
    return Assignment(names, member, test, ownerless)


@dataclass(slots=True)
class _Sole:
    """All rows belong to one member."""

    name: str
    rows: int = 0
    columns: frozenset[str] = frozenset()

    def add(self, chunk: pd.DataFrame) -> None:
        self.rows += len(chunk)

    def finish(self) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        return (self.name,), np.zeros(self.rows, dtype=np.int32)


class _ByFile:
    """A file names each row's member by the row's id."""

    def __init__(self, contract: DataContract, rule: MemberFile, root: Path) -> None:
        self._contract = contract
        self._rule = rule
        self._place = {name: code for code, name in enumerate(rule.members)}
        if rule.test is not None:
            self._place[rule.test] = _TEST
        self._member_of = self._read(root)
        self._codes: list[NDArray[np.int32]] = []
        self.columns = frozenset(column.name for column in contract.unit_columns)

    def _read(self, root: Path) -> Mapping[str, int]:
        rule = self._rule
        file = TableFile(path=root / rule.path, shown=rule.path, separator=rule.separator)
        found: dict[str, int] = {}
        for table in read_tables(
            file, {"key": (rule.key, "text"), "member": (rule.column, "text")}
        ):
            keys, members = table.column("key").to_pylist(), table.column("member").to_pylist()
            for key, member in zip(keys, members, strict=True):
                if key is None or member not in self._place:
                    raise DataError(
                        f"{rule.path}: column {rule.column} names a member that the contract does "
                        f"not list, or an id is empty; correct one of them."
                    )
                if found.setdefault(level_text(key), self._place[member]) != self._place[member]:
                    raise DataError(f"{rule.path}: an id is there twice; keep one line each.")
        return found

    def add(self, chunk: pd.DataFrame) -> None:
        units = unit_names(chunk, self._contract)
        codes = units.map(level_text).map(self._member_of)
        if codes.isna().any():
            raise DataError(
                f"{self._rule.path}: {int(codes.isna().sum())} rows or more have an id that it "
                f"does not name; add them."
            )
        self._codes.append(np.asarray(codes, dtype=np.int32))

    def finish(self) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        return self._rule.members, np.concatenate(self._codes)


class _ByColumns:
    """Columns name each row's member."""

    def __init__(self, contract: DataContract, rules: Sequence[MemberColumn]) -> None:
        self._pieces = [_Piece(contract.column(rule.column), rule) for rule in rules]
        self.columns = frozenset(rule.column for rule in rules)

    def add(self, chunk: pd.DataFrame) -> None:
        for piece in self._pieces:
            piece.add(chunk[piece.column.name])

    def finish(self) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        codes, raw = self._pieces[0].finish()
        for piece in self._pieces[1:]:
            inner, texts = piece.finish()
            codes = codes * len(texts) + inner
            raw = [f"{left}-{right}" for left in raw for right in texts]
        present, dense = np.unique(codes, return_inverse=True)
        texts = [raw[code] for code in present]
        safe = [member_name(text) for text in texts]
        if len(set(safe)) != len(safe):
            raise DataError(
                "Two members' names differ only in signs that no folder's name can hold; rename "
                "one in the data."
            )
        order = np.argsort(np.argsort(safe)).astype(np.int32)
        return tuple(sorted(safe)), order[dense]


class _Piece:
    """One column's part of members' names, collected over chunks."""

    def __init__(self, column: Column, rule: MemberColumn) -> None:
        self.column = column
        self._rule = rule
        self._name_of = _namer(column, rule)
        self._texts: dict[str, int] = {}
        self._codes: list[NDArray[np.int64]] = []

    def add(self, values: "pd.Series[str]") -> None:
        codes, unique = pd.factorize(values)
        own = [self._texts.setdefault(self._name_of(x), len(self._texts)) for x in unique]
        missing = self._texts.setdefault(OTHER, len(self._texts)) if (codes < 0).any() else 0
        self._codes.append(np.asarray([*own, missing], dtype=np.int64)[codes])

    def finish(self) -> tuple[NDArray[np.int64], list[str]]:
        codes = np.concatenate(self._codes)
        texts = list(self._texts)
        if self._rule.largest is None:
            return codes, texts
        counts = np.bincount(codes, minlength=len(texts))
        ranked = sorted(range(len(texts)), key=lambda code: (-counts[code], texts[code]))
        kept = ranked[: self._rule.largest]
        if self._rule.rest in (texts[code] for code in kept):
            raise DataError(
                f"members.by: rest: {self._rule.rest} is also one of the largest; rename it."
            )
        to = np.full(len(texts), len(kept))
        to[kept] = np.arange(len(kept))
        return to[codes], [*(texts[code] for code in kept), self._rule.rest]


def _namer(column: Column, rule: MemberColumn) -> Callable[[str | float], str]:
    if rule.modulo is not None:
        modulo = rule.modulo
        return lambda value: str(int(float(value)) % modulo)
    if rule.edges is None:
        return level_text
    edges = rule.edges
    step = 1 if column.type == "integer" else 0
    bands = [
        *(f"{low:g}-{high - step:g}" for low, high in pairwise(edges)),
        f"{edges[-1]:g}+",
    ]

    def band(value: str | float) -> str:
        place = int(np.searchsorted(edges, float(value), side="right")) - 1
        if place < 0:
            raise DataError(
                f"Column {column.name} has values below the lowest of members.by edges; lower it."
            )
        return bands[place]

    return band
