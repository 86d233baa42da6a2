"""The contracts and rows that a node remembers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients.contract import DataContract
from federation.node_data import DataPlace, NodeData
from federation.node_points.point import Point, sentence_of, why_of
from federation.node_points.reviews import review_points
from privacy.errors import TacitError

DATA_BYTES_MAX: Final = 64 << 20
"""Up to so many bytes all rows are held against their contract, and beyond it the first ones."""
LOOK_ROWS: Final = 20_000
_MIB: Final = 1 << 20


def remembered_points(folder: Path, member: str, *, rows: bool) -> Iterator[Point]:
    """Contracts and rows that the node remembers."""
    try:
        kept = NodeData.read(folder)
        if not kept.places:
            yield Point(
                "data",
                "warning",
                "This node has no data contract yet, so it takes part in no run.",
                "Run tacit node start --contract FILE --data DIR.",
            )
            return
        contracts = kept.contracts()
    except TacitError as fault:
        yield Point("data", "failed", sentence_of(fault), "See tacit node start --help.")
        return
    for name, contract in contracts.items():
        yield from data_points(contract, kept.places[name], member, rows=rows)
        if contract.is_gated:
            yield from review_points(contract, folder)


def data_points(
    contract: DataContract,
    place: DataPlace,
    member: str,
    *,
    rows: bool = True,
    most_bytes: int = DATA_BYTES_MAX,
) -> Iterator[Point]:
    """Whether one contract's rows are there and keep it.

    Args:
        contract: The contract.
        place: Where its rows are.
        member: Whose rows of it count.
        rows: Whether to read any.
        most_bytes: Up to which size of all files all rows are read.
    """
    name = f"data {contract.name}"
    describe = f"Run tacit data check {place.contract} --data {place.data}, and correct the rows."
    if not place.data.exists():
        yield Point(
            name,
            "failed",
            f"{place.data} is gone.",
            f"Put the rows back, or run tacit node start --forget {contract.name}.",
        )
        return
    if not rows:
        yield Point(name, "ok", "The contract can be used; its rows were not looked at.")
        return
    try:
        found = _looked(contract, place, member, most_bytes)
    except TacitError as fault:
        yield Point(name, "failed", sentence_of(fault), describe)
        return
    except OSError as fault:
        yield Point(name, "failed", f"{place.data}: {why_of(fault)}.", describe)
        return
    yield from found.points(name, describe)


@dataclass(frozen=True, slots=True)
class _Rows:
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    sentence: str

    def points(self, name: str, remedy: str) -> Iterator[Point]:
        if self.problems:
            yield Point(name, "failed", self.problems[0], remedy)
            return
        yield Point(name, "ok", self.sentence)
        for warning in self.warnings:
            yield Point(name, "warning", warning, remedy)


def _looked(contract: DataContract, place: DataPlace, member: str, most_bytes: int) -> _Rows:
    from clients.check import check_data
    from clients.members import tables
    from clients.source import read_chunks, source_files

    sole = member if contract.members is None else None
    own = [
        table
        for table in tables(contract, place.data, sole)
        if table.member in {None, member} or contract.members is None
    ]
    absent = (
        f"The rows of {contract.name} name no member {member}; its members are other ones, or "
        "this node joined under another name."
    )
    if not own:
        return _Rows((absent,), (), "")
    files = [
        file
        for table in own
        for source in contract.sources
        for file in source_files(contract, table.root, source)
    ]
    # what is not there has no size, and is named by whoever reads it
    size = sum(file.path.stat().st_size for file in files if file.path.exists())
    if size <= most_bytes:
        report = check_data(contract, place.data, sole_member=sole)
        mine = next((one for one in report.members if one.name == member), None)
        if report.passed and mine is None:
            return _Rows((absent,), (), "")
        train = 0 if mine is None else mine.train_rows
        sentence = f"{train:,} training rows of {member} keep the contract."
        return _Rows(report.problems, report.warnings, sentence)
    seen = 0
    for table in own:
        for source in contract.sources:
            chunk = next(read_chunks(contract, table.root, source, chunk_rows=LOOK_ROWS))
            seen += len(chunk)
    sentence = (
        f"The first {seen:,} rows keep the contract; the rest, {size // _MIB:,} MiB in all, was "
        "not looked at: tacit data check does."
    )
    return _Rows((), (), sentence)
