"""Disks that stop, refuse, and forget what was not synced."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from simulation.broken import Broken

from privacy.errors import InputError
from privacy.ledger.memory import MemoryLedger, MemoryTurn

Moment = Callable[[str], None]
"""`moment(what)`: something is about to be written, or just was; may end the process."""
Refuses = Callable[[str], bool]


class SimLedger(MemoryLedger):
    """What `SqliteLedger` promises, and no more: a power cut takes what no later write synced."""

    def __init__(self, place: str, moment: Moment, refuses: Refuses) -> None:
        super().__init__(place=place)
        self._moment, self._refuses = moment, refuses
        self._notes: dict[str, bytes] = {}
        self.durable = 0
        self._checkpoints_synced: dict[int, bytes] = {}

    @contextmanager
    def turn(self, *, durable: bool = True) -> Iterator[MemoryTurn]:
        before = self.size()
        with super().turn() as turn:
            yield turn
            if self.size() == before:
                return
            self._moment("before an entry")
            if self._refuses("entry"):
                raise InputError(f"cannot use the ledger {self.place}: the disk is full")
        if durable:
            self.sync()
        self._moment("after an entry")

    def keep_checkpoint(self, size: int, note: bytes) -> bytes:
        self._moment("before a signed state")
        if self._refuses("signed state"):
            raise InputError(f"cannot use the ledger {self.place}: the disk is full")
        kept = super().keep_checkpoint(size, note)
        self.sync()
        self._moment("after a signed state")
        return kept

    def keep_note(self, name: str, value: bytes | None) -> None:
        self._moment("before a note")
        if self._refuses("note"):
            raise InputError(f"cannot use the ledger {self.place}: the disk is full")
        if value is None:
            self._notes.pop(name, None)
        else:
            self._notes[name] = value
        self.sync()
        self._moment("after a note")

    def note(self, name: str) -> bytes | None:
        return self._notes.get(name)

    def notes(self) -> list[str]:
        return sorted(self._notes)

    def sync(self) -> None:
        self.durable = self.size()
        self._checkpoints_synced = dict(self._checkpoints)

    def close(self) -> None:
        """Nothing is held open."""

    def power_cut(self) -> int:
        """Forget what was not synced; how many entries that was."""
        lost = self.size() - self.durable
        self._cut(self.durable)
        self._checkpoints = dict(self._checkpoints_synced)
        return lost


class SimNotebook:
    """`aggregator.ports.Notebook` of one run, on a disk that keeps what `write` returned from."""

    def __init__(self, moment: Moment, refuses: Refuses) -> None:
        self._moment, self._refuses = moment, refuses
        self._state: bytes | None = None
        self._kept: dict[str, bytes] = {}
        self._synced: dict[str, bytes] = {}

    def read(self) -> bytes | None:
        return self._state

    def write(self, state: bytes) -> None:
        self._moment("before the notebook")
        if self._refuses("notebook"):
            raise InputError("the run's folder cannot be written: the disk is full")
        self._state = state
        self._synced = dict(self._kept)
        self._moment("after the notebook")

    def keep(self, payload: bytes) -> str:
        if self._refuses("payload"):
            raise InputError("the run's folder cannot be written: the disk is full")
        name = sha256(payload).hexdigest()
        self._kept[name] = payload
        self._moment("after a payload")
        return name

    def kept(self, name: str) -> bytes:
        if name not in self._kept:
            raise Broken("a payload that a run goes on from is not on the coordinator's disk")
        return self._kept[name]

    def keep_only(self, names: Collection[str]) -> None:
        self._kept = {name: data for name, data in self._kept.items() if name in names}
        self._moment("after payloads were removed")

    def power_cut(self) -> int:
        """Forget what was not synced, have again what was removed since; how many these are."""
        changed = self._kept.keys() ^ self._synced.keys()
        self._kept = dict(self._synced)
        return len(changed)


@dataclass
class Removals:
    """Files that were removed from folders that were not synced since: power may bring them back.

    Attributes:
        undone: How many came back.
    """

    undone: int = 0
    _gone: dict[Path, bytes] = field(default_factory=dict)

    def note(self, path: Path) -> None:
        """A file is about to be removed."""
        self._gone[path] = path.read_bytes()

    def synced(self, folder: Path) -> None:
        """What is in a folder, and what is not, is on disk; so are folders that are not in it."""
        self._gone = {
            path: data
            for path, data in self._gone.items()
            if not path.is_relative_to(folder) or _is_there(path, folder)
        }

    def power_cut(self, home: Path, comes_back: Callable[[], bool]) -> int:
        """Have some of what was removed from a machine's disk there again; how many files."""
        mine = [path for path in self._gone if path.is_relative_to(home)]
        # by what they are for, as names may be hashes of bytes that are not the seed's
        mine.sort(key=lambda path: (path.name != "state", len(self._gone[path]), path))
        back = 0
        for path in mine:
            data = self._gone.pop(path)
            if not path.exists() and comes_back():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                back += 1
        self.undone += back
        return back


def _is_there(path: Path, folder: Path) -> bool:
    """Whether a removed file was in a folder that is still there, below the one that is synced."""
    return path.parent != folder and (folder / path.relative_to(folder).parts[0]).exists()
