"""How rows fall to members, and within a member to training and test.

Rules that need only a row itself are applied while rows stream by; rules that look at all rows
(the largest regions, a stratified split) keep the rows until the end of the file.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import (
    Binary,
    DataContract,
    FoldSplit,
    MemberColumn,
    MemberFile,
    Source,
    StratifiedSplit,
    UniformSplit,
    UnitSplit,
    level_text,
)
from clients.labels import LIFE_AT_END, label_rows
from clients.source import PACKED, SUFFIXES, read_chunks, read_numbers
from privacy.errors import DataError, InputError

TRAIN, TEST = 0, 1
UNKNOWN = -1


@dataclass(frozen=True)
class MemberRows:
    """One member's labelled rows.

    Both tables have the contract's columns and `__row` (number in file order), `__unit` (where
    the contract names units), `__y`, `__exposure`, and for remaining life `__y_raw`. Telemetry is
    sorted by unit, then time.
    """

    member: str
    train: pd.DataFrame
    test: pd.DataFrame


def read_members(
    contract: DataContract,
    root: Path,
    *,
    only: frozenset[str] | None = None,
    fold: int | None = None,
    sole_member: str = "member",
) -> dict[str, MemberRows]:
    """Read the rows of some or all members, in sorted order of their names.

    Args:
        contract: What rows mean.
        root: Where the contract's paths begin.
        only: Whose rows are kept; None keeps all.
        fold: The test fold, for a contract that splits in folds.
        sole_member: The member's name where the contract has no rule for members.

    Raises:
        InputError: A file cannot be read, or there is no member of that name.
        DataError: Rows do not keep the contract, a member has no training rows, or nobody has
            test rows.
    """
    if isinstance(contract.split, FoldSplit) and fold is None:
        fold = 0
    rows = pd.concat(
        list(_assigned(contract, root, only=only, fold=fold, sole_member=sole_member)),
        ignore_index=True,
    )
    found = sorted(rows["__member"].unique())
    wanted = sorted(only) if only is not None else found
    out: dict[str, MemberRows] = {}
    for member in wanted:
        own = rows[rows["__member"] == member].drop(columns="__member")
        parts = [own[own["__part"] == part].drop(columns="__part") for part in (TRAIN, TEST)]
        if parts[0].empty:
            raise DataError(
                f"{contract.name}: member {member} has no training rows; "
                "correct the contract's members or split."
            )
        train, test = (_finished(part, contract) for part in parts)
        out[member] = MemberRows(member, train, test)
    if not out:
        raise DataError(f"{contract.name}: no rows fall to any member; check the contract.")
    if only is None and all(one.test.empty for one in out.values()):
        raise DataError(f"{contract.name}: there are no test rows; check the contract's split.")
    return out


def member_names(
    contract: DataContract, root: Path, *, sole_member: str = "member"
) -> tuple[str, ...]:
    """All members that have rows, sorted.

    Raises:
        InputError, DataError: As `read_members`.
    """
    members = contract.members
    if members is None:
        return (sole_member,)
    if members.file is not None:
        return tuple(sorted(members.file.members))
    if members.folder is not None:
        return tuple(sorted(name for name, _, _ in _folders(contract, root)))
    names: set[str] = set()
    for chunk in _assigned(contract, root, only=None, fold=0, sole_member=sole_member):
        names.update(chunk["__member"].unique())
    return tuple(sorted(names))


def _assigned(
    contract: DataContract,
    root: Path,
    *,
    only: frozenset[str] | None,
    fold: int | None,
    sole_member: str,
) -> Iterator[pd.DataFrame]:
    """Chunks with `__member` and `__part`, cut down to the wanted members as early as may be."""
    by_row = _splits_by_row(contract)
    held: list[pd.DataFrame] = []
    for chunk in _numbered(contract, root, only=only, sole_member=sole_member):
        if by_row:
            yield _chosen(_parted(chunk, contract), only)
        else:
            held.append(chunk)
    if held:
        rows = pd.concat(held, ignore_index=True)
        _name_largest(rows, contract)
        yield _chosen(_split_all(rows, contract, fold), only)


def _splits_by_row(contract: DataContract) -> bool:
    whole = (UniformSplit, StratifiedSplit, FoldSplit)
    members = contract.members
    largest = members is not None and any(r.largest is not None for r in members.by or ())
    return not largest and not isinstance(contract.split, whole)


def _chosen(rows: pd.DataFrame, only: frozenset[str] | None) -> pd.DataFrame:
    return rows if only is None else rows[rows["__member"].isin(only)]


def _numbered(
    contract: DataContract, root: Path, *, only: frozenset[str] | None, sole_member: str
) -> Iterator[pd.DataFrame]:
    """Chunks of all sources with row number, unit and member; `__part` where a source says it."""
    members = contract.members
    number = 0
    part_of = {"all": UNKNOWN, "train": TRAIN, "test": TEST}
    table = _member_table(members.file, root) if members is not None and members.file else None
    for member, folder, source in _sources(contract, root):
        if only is not None and member is not None and member not in only:
            continue
        lives = read_numbers(folder / source.remaining_life) if source.remaining_life else None
        seen: dict[str, int] = {}
        for chunk in read_chunks(contract, folder, source):
            rows = chunk.assign(
                __row=np.arange(number, number + len(chunk)), __part=part_of[source.part]
            )
            number += len(chunk)
            unit = _units(rows, contract)
            if unit is not None:
                rows = rows.assign(__unit=unit)
            if lives is not None and unit is not None:
                rows = rows.assign(**{LIFE_AT_END: _lives(unit, lives, seen, source)})
            if member is not None:
                rows = rows.assign(__member=member)
            elif members is None:
                rows = rows.assign(__member=sole_member)
            elif table is not None and members.file is not None:
                rows = _by_file(rows, contract, members.file, table)
            else:
                rows = rows.assign(__member=_by_columns(rows, members.by or ()))
            yield rows
        if lives is not None and len(seen) != len(lives):
            raise DataError(
                f"{source.remaining_life}: has {len(lives)} lines where {source.path} has "
                f"{len(seen)} units; they must be of one set."
            )


def _sources(contract: DataContract, root: Path) -> Iterator[tuple[str | None, Path, Source]]:
    if contract.members is not None and contract.members.folder is not None:
        yield from _folders(contract, root)
        return
    for source in contract.sources:
        yield None, root, source


def _folders(contract: DataContract, root: Path) -> list[tuple[str, Path, Source]]:
    """Each member of a `folder` rule with the folder and source of its rows."""
    assert contract.members is not None and contract.members.folder is not None  # noqa: S101, PT018
    top = root / contract.members.folder
    if not top.is_dir():
        raise InputError(f"{top}: no such folder of members; check the path or the data folder.")
    found: list[tuple[str, Path, Source]] = []
    for path in sorted(top.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += [(path.name, path, source) for source in contract.sources]
        else:
            name = path.name
            for packed in PACKED:
                name = name.removesuffix(packed)
            source = contract.sources[0]
            if Path(name).suffix in SUFFIXES[source.format]:
                found.append(
                    (Path(name).stem, top, source.model_copy(update={"path": path.name}))
                )
    if not found:
        raise InputError(f"{top}: holds no member's folder or file; check the path.")
    return found


def _units(rows: pd.DataFrame, contract: DataContract) -> NDArray[np.object_] | None:
    columns = contract.unit_columns
    if not columns:
        return None
    texts = [rows[column.name].astype(str).to_numpy(dtype=object) for column in columns]
    unit = texts[0]
    for more in texts[1:]:
        unit = unit + "|" + more
    return np.asarray(unit, dtype=object)


def _lives(
    unit: NDArray[np.object_], lives: list[float], seen: dict[str, int], source: Source
) -> NDArray[np.float64]:
    for one in pd.unique(unit):
        seen.setdefault(one, len(seen))
    if len(seen) > len(lives):
        raise DataError(
            f"{source.remaining_life}: has {len(lives)} lines, fewer than {source.path} has units."
        )
    return np.array([lives[seen[one]] for one in unit], dtype=np.float64)


def _member_table(rule: MemberFile, root: Path) -> dict[str, str]:
    path = root / rule.path
    if not path.exists():
        raise InputError(f"{path}: no such file; check the contract's members.file.path.")
    try:
        table = pd.read_csv(path, sep=rule.separator, dtype=str, keep_default_na=False)
    except (ValueError, OSError, EOFError):
        raise DataError(f"{path}: is no readable CSV file of members; fetch it again.") from None
    for name in (rule.key, rule.column):
        if name not in table:
            raise InputError(f"{path}: has no column {name}; correct the contract's members.file.")
    known = {*rule.members, rule.test}
    strange = sorted(set(table[rule.column]) - {m for m in known if m})
    if strange:
        raise DataError(
            f"{path}: column {rule.column} names {len(strange)} members that the contract does "
            "not list; list them."
        )
    keys = [level_text(key) for key in table[rule.key]]
    return dict(zip(keys, table[rule.column], strict=True))


def _by_file(
    rows: pd.DataFrame, contract: DataContract, rule: MemberFile, table: dict[str, str]
) -> pd.DataFrame:
    key = rows[contract.unit_columns[0].name].astype(str)
    named = key.map(table)
    if named.isna().any():
        raise DataError(
            f"{rule.path}: {int(named.isna().sum())} rows of {contract.name} are not in it; "
            "every row needs a member."
        )
    member = named.to_numpy(dtype=object)
    if rule.test is None:
        return rows.assign(__member=member)
    test = member == rule.test
    order = np.array(sorted(rule.members), dtype=object)
    # the shared test part belongs to nobody: it falls to the members in turn
    spread = order[rows["__row"].to_numpy() % len(order)]
    return rows.assign(
        __member=np.where(test, spread, member), __part=np.where(test, TEST, TRAIN)
    )


def _by_columns(rows: pd.DataFrame, rules: tuple[MemberColumn, ...]) -> NDArray[np.object_]:
    pieces = [_piece(rows, rule) for rule in rules]
    name = pieces[0]
    for more in pieces[1:]:
        name = name + "-" + more
    return np.asarray(name, dtype=object)


def _piece(rows: pd.DataFrame, rule: MemberColumn) -> NDArray[np.object_]:
    column = rows[rule.column]
    if rule.modulo is not None:
        number = pd.to_numeric(column).to_numpy(dtype=np.int64)
        return (number % rule.modulo).astype(str).astype(object)
    if rule.edges is not None:
        values = column.to_numpy(dtype=np.float64)
        if np.isnan(values).any() or (values < rule.edges[0]).any():
            raise DataError(
                f"column {rule.column}: a row is missing or below the first edge of the "
                "contract's members; add an edge."
            )
        bands = [f"{low:g}-{high:g}" for low, high in zip(rule.edges, rule.edges[1:], strict=False)]
        names = np.array([*bands, f"{rule.edges[-1]:g}+"], dtype=object)
        return names[np.searchsorted(rule.edges, values, side="right") - 1]
    return column.astype(str).to_numpy(dtype=object)


def _name_largest(rows: pd.DataFrame, contract: DataContract) -> None:
    """Fold all but the largest values of a member column into one, over all rows."""
    members = contract.members
    rules = members.by or () if members is not None else ()
    if not any(rule.largest is not None for rule in rules):
        return
    pieces: list[NDArray[np.object_]] = []
    for rule in rules:
        piece = _piece(rows, rule)
        if rule.largest is not None:
            counts = pd.Series(piece).value_counts()
            # by size, and by name among equals, so that the choice is the same everywhere
            order = sorted(counts.index, key=lambda name: (-int(counts[name]), name))
            piece = np.where(np.isin(piece, order[: rule.largest]), piece, rule.rest)
        pieces.append(np.asarray(piece, dtype=object))
    name = pieces[0]
    for more in pieces[1:]:
        name = name + "-" + more
    rows["__member"] = name


def _parted(rows: pd.DataFrame, contract: DataContract) -> pd.DataFrame:
    """Parts that each row tells by itself."""
    column = next(iter(contract.by_role("part")), None)
    if column is not None:
        test = rows[column.name].astype(str) == "test"
        return rows.assign(__part=np.where(test, TEST, TRAIN))
    split = contract.split
    if isinstance(split, UnitSplit):
        unknown = rows["__part"].to_numpy() == UNKNOWN
        unit = rows["__unit"]
        aside = {one: _is_test_unit(one, split) for one in unit.unique()}
        drawn = np.where(unit.map(aside).to_numpy(dtype=bool), TEST, TRAIN)
        return rows.assign(__part=np.where(unknown, drawn, rows["__part"]))
    return rows


def _is_test_unit(unit: str, split: UnitSplit) -> bool:
    digest = hashlib.sha256(f"{split.seed}|{unit}".encode()).digest()
    return int.from_bytes(digest) < split.test_share * 2.0**256


def _split_all(rows: pd.DataFrame, contract: DataContract, fold: int | None) -> pd.DataFrame:
    """Parts that depend on all rows, drawn in file order as the published protocols do."""
    split = contract.split
    if isinstance(split, UniformSplit):
        drawn = np.random.RandomState(split.seed).rand(len(rows)) < split.test_share  # noqa: NPY002 - the protocol names this generator
        return rows.assign(__part=np.where(drawn, TEST, TRAIN))
    if not isinstance(split, (StratifiedSplit, FoldSplit)):
        return _parted(rows, contract)
    label = contract.label
    if not isinstance(label, Binary):
        raise TypeError("the contract lets binary labels alone be stratified")
    y = label_rows(rows, contract)["__y"].to_numpy()
    part = np.full(len(rows), TRAIN)
    counts = np.bincount(y.astype(np.int64), minlength=2)
    least = split.folds if isinstance(split, FoldSplit) else 2
    if counts.min() < least:
        raise DataError(
            f"{contract.name}: column {label.column}: one class has only {int(counts.min())} rows, "
            "which cannot be split; check the contract's label."
        )
    if isinstance(split, StratifiedSplit):
        from sklearn.model_selection import train_test_split

        _, test = train_test_split(
            np.arange(len(rows)),
            test_size=split.test_share,
            stratify=y,
            random_state=split.seed,
        )
    else:
        from sklearn.model_selection import StratifiedKFold

        folds = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
        if fold is None or not 0 <= fold < split.folds:
            raise InputError(f"{contract.name}: has folds 0 to {split.folds - 1}; choose one.")
        test = list(folds.split(np.zeros(len(rows)), y))[fold][1]
    part[test] = TEST
    return rows.assign(__part=part)


def _finished(rows: pd.DataFrame, contract: DataContract) -> pd.DataFrame:
    """Labelled, and for telemetry in the order of units and time."""
    if contract.is_telemetry and contract.time_column is not None:
        order = np.lexsort(
            (rows[contract.time_column.name].to_numpy(), pd.factorize(rows["__unit"])[0])
        )
        rows = rows.iloc[order]
    rows = rows.reset_index(drop=True)
    return label_rows(rows, contract)
