"""After a power cut at any moment a ledger holds all that it said it holds, and nothing else."""

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from faults.killing import commit, reserve
from faults.lossy_disk import Disk, image, watched

from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint, merged
from privacy.ledger.merkle import Frontier
from privacy.ledger.note import Note, NoteSignature
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import checked_frontier

IMAGES: Final = int(os.environ.get("TACIT_IMAGES", "400"))
FIRST: Final = int(os.environ.get("TACIT_FIRST_SEED", "0"))
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what was synced is known from the disk below SQLite
PAGES: Final = 12
"""So many pages of the log, and SQLite takes them into the file: often, in a short test."""


@dataclass
class Written:
    """What was written, and when it was said to be on disk.

    Attributes:
        leaves: All, in order.
        notes: The values of the one note, in order.
        checkpoints: Size and note, in order.
        durable: (things told to the disk, leaves, notes, checkpoints) at each moment at which a
            call returned that promises so many on disk.
    """

    leaves: list[bytes] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)
    checkpoints: list[tuple[int, bytes]] = field(default_factory=list)
    durable: list[tuple[int, int, int, int]] = field(default_factory=list)

    def promised(self, told: int) -> tuple[int, int, int]:
        """Leaves, notes and checkpoints that are there if power goes after so many things told."""
        known = [counts for at, *counts in self.durable if at <= told]
        leaves, notes, checkpoints = known[-1] if known else (0, 0, 0)
        return leaves, notes, checkpoints


ACTS: Final = ("reserve", "reserve", "commit", "note", "checkpoint", "sync", "close")


def work(path: Path, disk: Disk, chance: random.Random, acts: int) -> Written:
    """Write to a ledger as nodes and coordinators do, and reopen it now and then."""
    written = Written()
    ledger = SqliteLedger(path)
    for act in range(acts):
        kind = chance.choice(ACTS)
        carry_out(kind, ledger, written, f"run-{act}", chance)
        if ledger._connection is not None:
            ledger._connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES}")
        written.leaves = list(ledger.leaves())
        if kind in {"reserve", "note"} or (kind == "checkpoint" and written.leaves):
            written.durable.append(
                (
                    len(disk.told),
                    len(written.leaves),
                    len(written.notes),
                    len(written.checkpoints),
                )
            )
    ledger.close()
    return written


def carry_out(
    kind: str, ledger: SqliteLedger, written: Written, run: str, chance: random.Random
) -> None:
    if kind == "reserve":
        reserve(ledger, run + "x" * chance.randrange(40))
    elif kind == "note":
        written.notes.append(run.encode() * chance.randrange(1, 600))
        ledger.keep_note("state", written.notes[-1])
    elif kind == "close":
        ledger.close()  # SQLite takes its log into the file; the next call opens it again
    elif kind == "sync":
        ledger.sync()  # by a descriptor of its own, which the disk below SQLite does not see
    elif ledger.size():
        if kind == "commit":
            commit(ledger, run)
        else:
            size = ledger.size()
            name = run + "x" * chance.randrange(800)
            state = Checkpoint("log", size, bytes(32)).text()
            note = Note(state, (NoteSignature(name, b"wits", bytes(72)),)).to_bytes()
            written.checkpoints.append((size, merged(dict(written.checkpoints).get(size), note)))
            ledger.keep_checkpoint(size, note)


def require_held(folder: Path, written: Written, told: int) -> None:
    """Raise AssertionError unless a ledger after a power cut holds what it promised."""
    leaves, notes, checkpoints = written.promised(told)
    ledger = SqliteLedger(folder / "ledger.db")
    try:
        found = list(ledger.leaves())
        assert found == written.leaves[: len(found)]
        assert len(found) >= leaves
        if found:
            checked_frontier(ledger, since=Frontier(), size=len(found))
        signed = ledger.checkpoints()
        assert {size for size, _ in written.checkpoints[:checkpoints]} <= dict(signed).keys()
        assert set(signed) <= set(written.checkpoints)
        note = ledger.note("state")
        if notes or note is not None:
            assert note in written.notes[max(notes - 1, 0) :]
        reserve(ledger, "afterwards")
        assert ledger.size() == len(found) + 1
    finally:
        ledger.close()


def cuts(root: Path, seed: int, images: int, *, acts: int = 60) -> list[str]:
    """Make power cuts in one history; what was wrong after each that lost or broke something."""
    chance = random.Random(seed)
    home = root / f"home-{seed}"
    home.mkdir()
    with watched(home) as disk:
        written = work(home / "ledger.db", disk, chance, acts)
    wrong = []
    for number in range(images):
        told = chance.randrange(len(disk.told) + 1)
        folder = root / f"image-{seed}-{number}"
        folder.mkdir()
        image(disk.told[:told], folder, chance)
        try:
            require_held(folder, written, told)
        except (AssertionError, NotVerifiedError, InputError) as fault:
            wrong.append(f"seed {seed}, image {number}, after {told}: {fault}")
        shutil.rmtree(folder)
    shutil.rmtree(home)
    return wrong


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: three times as many images in the same time."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.mark.parametrize("part", range(4))
def test_what_was_said_to_be_on_disk_is_there_after_a_power_cut(quick: Path, part: int) -> None:
    each = 50
    seeds = max(1, IMAGES // (4 * each))
    for seed in range(FIRST, FIRST + seeds):
        assert cuts(quick, 100_000 * part + seed, each) == []


def test_a_ledger_that_does_not_sync_loses_what_it_said(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: the same cuts find it."""
    usual = sqlite3.connect

    class Careless(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:  # noqa: ANN401
            return super().execute(sql.replace("synchronous = FULL", "synchronous = OFF"), *rest)

    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **named: usual(*args, factory=Careless, **named)
    )
    assert cuts(quick, 1, 40)


def full(disk: Disk) -> None:
    disk.room = 0


def no_sync(disk: Disk) -> None:
    disk.syncs = False


@pytest.mark.parametrize("fault", [full, no_sync])
@pytest.mark.parametrize("after", range(6))
def test_a_disk_that_is_full_or_fails_is_one_sentence_and_leaves_what_was_there(
    tmp_path: Path, fault: Callable[[Disk], None], after: int
) -> None:
    path = tmp_path / "ledger.db"
    with watched(tmp_path) as disk:
        ledger = SqliteLedger(path)
        for number in range(after):
            reserve(ledger, f"run-{number}")
        before = list(ledger.leaves())
        fault(disk)
        with pytest.raises(InputError, match="check its folder and disk"):
            reserve(ledger, "too-much")
        disk.room, disk.syncs = None, True
        # where a disk fails while a turn ends, the entry may be there; never a half of one
        found = list(ledger.leaves())
        assert found[: len(before)] == before
        assert len(found) - len(before) in ({0, 1} if fault is no_sync else {0})
        if found:
            checked_frontier(ledger, since=Frontier(), size=len(found))
        reserve(ledger, "next")
        assert ledger.size() == len(found) + 1
        ledger.close()


def test_every_write_of_a_turn_may_be_the_one_without_room(tmp_path: Path) -> None:
    for room in range(12):
        folder = tmp_path / str(room)
        folder.mkdir()
        with watched(folder) as disk:
            ledger = SqliteLedger(folder / "ledger.db")
            reserve(ledger, "first")
            disk.room = room
            try:
                for number in range(20):
                    reserve(ledger, f"run-{number}")
            except InputError:
                pass
            disk.room = None
            size = ledger.size()
            checked_frontier(ledger, since=Frontier(), size=size)
            reserve(ledger, "last")
            assert ledger.size() == size + 1
            ledger.close()
