"""Where what stands in a ledger: kinds and runs of its entries, in a few bytes for each."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from federation.audit_page.checkpoint import CheckpointView
from federation.evidence import LedgerView
from privacy.ledger.entry import KINDS, Entry

KIND_NAMES: Final = tuple(KINDS)
BROKEN_KEPT: Final = 100
_NUMBERS: Final = {name: number for number, name in enumerate(KIND_NAMES)}
_BROKEN: Final = 255


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry that cannot be read.

    Attributes:
        index: Its place.
        reason: Why, in one sentence.
    """

    index: int
    reason: str


@dataclass(slots=True)
class LedgerIndex:
    """One ledger, as far as it was read.

    Attributes:
        slug: Its name in links.
        view: The ledger.
        kinds: Number of the kind of each entry.
        runs: Run -> its entries.
        keys: (index, key) from the ledger itself, the first first.
        broken: The first entries that cannot be read.
        broken_total: How many cannot be read.
        first_ms: Time of the first entry.
        last_ms: Time of the last one.
        newest: The newest checkpoint; None where there is none.
        cosigned: The newest that somebody else cosigned, too; None where none is.
        cut: Entries that were here before and are no more.
    """

    slug: str
    view: LedgerView
    kinds: "array[int]" = field(default_factory=lambda: array("B"))
    runs: "dict[str, array[int]]" = field(default_factory=dict)
    keys: list[tuple[int, bytes]] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    broken_total: int = 0
    first_ms: int = 0
    last_ms: int = 0
    newest: CheckpointView | None = None
    cosigned: CheckpointView | None = None
    cut: int = 0

    @property
    def size(self) -> int:
        """Entries that were read."""
        return len(self.kinds)

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.view.owner

    @property
    def leading(self) -> CheckpointView | None:
        """The newest checkpoint that somebody cosigned; where none is, the newest."""
        return self.cosigned or self.newest

    @property
    def uncovered(self) -> int:
        """Entries after the leading checkpoint."""
        return max(0, self.size - (0 if self.leading is None else self.leading.size))

    def covering(self, index: int) -> CheckpointView | None:
        """Return a signed checkpoint over an entry, a cosigned one if there is; None: none is."""
        for one in (self.cosigned, self.newest):
            known = one is not None and not one.fault and one.signed is not False
            if one is not None and known and index < one.size <= self.size:
                return one
        return None

    def note(self, entry: Entry) -> None:
        """Take the place of an entry that can be read."""
        if not self.kinds:
            self.first_ms = entry.time_ms
        self.kinds.append(_NUMBERS[entry.kind])
        self.last_ms = entry.time_ms
        run = entry.body.get("run")
        if isinstance(run, str):
            self.runs.setdefault(run, array("I")).append(entry.index)

    def note_broken(self, reason: str) -> None:
        """Take the place of one that cannot."""
        if len(self.broken) < BROKEN_KEPT:
            self.broken.append(Broken(self.size, reason))
        self.broken_total += 1
        self.kinds.append(_BROKEN)

    def places(self, *, kind: str, run: str) -> Sequence[int]:
        """Return the places of entries of a kind and a run; empty text stands for all."""
        rows: Sequence[int] = range(self.size) if not run else self.runs.get(run, array("I"))
        if not kind:
            return rows
        number = _NUMBERS.get(kind, _BROKEN)
        return [place for place in rows if self.kinds[place] == number]

    def count(self, kind: str) -> int:
        """Return how many entries of a kind there are."""
        return self.kinds.count(_NUMBERS[kind])

    def present(self) -> list[str]:
        """Return the kinds that occur, in the order of the table."""
        found = set(self.kinds)
        return [name for number, name in enumerate(KIND_NAMES) if number in found]
