"""Disks that stop, refuse, and forget what was not synced."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256

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
            self.durable = self.size()
        self._moment("after an entry")

    def keep_note(self, name: str, value: bytes | None) -> None:
        self._moment("before a note")
        if self._refuses("note"):
            raise InputError(f"cannot use the ledger {self.place}: the disk is full")
        if value is None:
            self._notes.pop(name, None)
        else:
            self._notes[name] = value
        self.durable = self.size()
        self._moment("after a note")

    def note(self, name: str) -> bytes | None:
        return self._notes.get(name)

    def notes(self) -> list[str]:
        return sorted(self._notes)

    def sync(self) -> None:
        self.durable = self.size()

    def close(self) -> None:
        """Nothing is held open."""

    def power_cut(self) -> int:
        """Forget what was not synced; how many entries that was."""
        lost = self.size() - self.durable
        self._cut(self.durable)
        return lost


class SimNotebook:
    """`aggregator.ports.Notebook` of one run, on a disk that keeps what `write` returned from."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self._state: bytes | None = None
        self._kept: dict[str, bytes] = {}

    def read(self) -> bytes | None:
        return self._state

    def write(self, state: bytes) -> None:
        self._moment("before the notebook")
        self._state = state
        self._moment("after the notebook")

    def keep(self, payload: bytes) -> str:
        name = sha256(payload).hexdigest()
        self._kept[name] = payload
        return name

    def kept(self, name: str) -> bytes:
        return self._kept[name]

    def keep_only(self, names: Collection[str]) -> None:
        self._kept = {name: data for name, data in self._kept.items() if name in names}
