"""What the quality gate makes of devices whose rows this machine is about to read anew.

Indicators, scores, plans and baselines ask here, so that they are about the rows that a run uses.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from clients.contract import DataContract
from clients.gate_rows import gate_rows
from clients.judgement import Judgement, judged
from clients.left_out import LeftOut, left_out
from clients.members import MemberRows, tables
from clients.source import source_files
from federation.home import Home
from federation.review_places import embedded_place, own_member, place_of
from privacy.errors import DataError


@contextmanager
def left_out_here(
    home: Home, contract: DataContract, data: Path, *, member: str | None, key: bytes
) -> Iterator[LeftOut | None]:
    """Look at the devices whose rows are read within, and say which are left out.

    A look is put on record as a run's is: what it holds waits for a person from then on. The rows
    may be fewer than the node has, as a month's are: what the gate remembers of a device that was
    under review before is not changed by them. None for a contract without a gate.

    Args:
        home: Where the members' nodes are.
        contract: What it says.
        data: Where its sources begin.
        member: Whose rows are read; None: all members'.
        key: Of the digests by which devices are named.

    Raises:
        TacitError: Rows or a node's folder cannot be used; nothing may be made of the rows then.
        DataError: At the end: files changed since the look.
    """
    if not contract.is_gated:
        yield None
        return
    sole = (member or own_member(home, contract)) if contract.members is None else None
    only = None if member is None else frozenset((member,))
    before = _mark(contract, data, sole)
    judgements: dict[str, Judgement] = {}
    for name, rows in gate_rows(contract, data, only=only, sole_member=sole).items():
        place = place_of(home, contract, name)
        look = partial(place.open(contract).look, whole=False)
        judgements[name], _ = judged(rows, contract, look)
    yield left_out(judgements, contract, key)
    if _mark(contract, data, sole) != before:
        raise DataError(f"The files of {contract.name} changed while they were read; start again.")


def judgements_here(
    home: Home, contract: DataContract, rows: Mapping[str, MemberRows]
) -> dict[str, Judgement]:
    """What embedded nodes' gates make of their rows now; nothing is put on record.

    Args:
        home: Where the nodes are.
        contract: What the rows mean; without a gate nothing is left out.
        rows: Member -> all its rows, of any fold.

    Raises:
        TacitError: A node's folder cannot be used.
    """
    if not contract.is_gated:
        return {}
    return {
        name: judged(one, contract, embedded_place(home, contract, name).looks(contract))[0]
        for name, one in rows.items()
    }


def _mark(contract: DataContract, data: Path, sole: str | None) -> frozenset[tuple[str, int, int]]:
    """What tells whether any file of the contract's sources came, went or changed."""
    files = [
        file.path
        for table in tables(contract, data, sole)
        for source in contract.sources
        for file in source_files(contract, table.root, source)
    ]
    kept = [(path, path.stat()) for path in files]
    return frozenset((str(path), one.st_size, one.st_mtime_ns) for path, one in kept)
