"""Figures that a ledger holds, counted as it grows: each look reads only what is new."""

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Final

from federation.operations.metric import Metric, counter, gauge, labelled
from privacy.ledger.store import LedgerStore, entries_of

_COUNTED: Final = frozenset(
    {
        "run.started",
        "run.finished",
        "run.stopped",
        "run.joined",
        "run.declined",
        "run.refused",
        "round.committed",
        "sum.opened",
        "budget.aborted",
        "member.revoked",
    }
)
_REFUSED: Final = ("run.declined", "run.refused", "run.stopped", "budget.aborted", "member.revoked")


class LedgerCounts:
    """Counts of one ledger; safe for any number of threads.

    Args:
        store: The ledger. Nothing is written and nothing locked.
    """

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._mutex = threading.Lock()
        self._size = 0
        self._last_ms = 0
        self._kinds: Counter[str] = Counter()
        self._under_way: set[str] = set()
        self._checkpoint: tuple[int, int] | None = None  # size, time of its last entry

    def metrics(self, *, now_ms: int) -> Iterator[Metric]:
        """Yield the figures, read anew.

        Raises:
            NotVerifiedError: what is new in the ledger is no entry.
            InputError: it cannot be read.
        """
        with self._mutex:
            self._read()
            yield from self._figures(now_ms)

    def _read(self) -> None:
        newest = max((size for size, _ in self._store.checkpoints()), default=0)
        for entry in entries_of(self._store.leaves(self._size)):
            self._size = entry.index + 1
            self._last_ms = entry.time_ms
            if entry.kind in _COUNTED:
                self._kinds[entry.kind] += 1
            if entry.kind == "run.started":
                self._under_way.add(str(entry.body["run"]))
            elif entry.kind in {"run.finished", "run.stopped"}:
                self._under_way.discard(str(entry.body["run"]))
        if newest and (self._checkpoint is None or self._checkpoint[0] != newest):
            last = next(entries_of(self._store.leaves(newest - 1, newest)))
            self._checkpoint = newest, last.time_ms

    def _figures(self, now_ms: int) -> Iterator[Metric]:
        kinds = self._kinds
        yield gauge("tacit_ledger_entries", "Entries of the ledger.", self._size)
        if self._last_ms:
            yield gauge(
                "tacit_ledger_quiet_seconds",
                "Seconds since the newest entry.",
                max(0, now_ms - self._last_ms) / 1000,
            )
        if self._checkpoint is not None:
            size, time_ms = self._checkpoint
            yield gauge(
                "tacit_ledger_checkpoint_seconds",
                "Seconds since the newest entry that a signed state holds.",
                max(0, now_ms - time_ms) / 1000,
            )
            yield gauge(
                "tacit_ledger_unsigned_entries",
                "Entries that no signed state holds yet.",
                max(0, self._size - size),
            )
        yield gauge(
            "tacit_runs_under_way", "Runs that began and did not end.", len(self._under_way)
        )
        yield labelled(
            "tacit_ledger_runs_total",
            "Runs in the ledger.",
            "counter",
            "state",
            {
                "started": kinds["run.started"],
                "finished": kinds["run.finished"],
                "stopped": kinds["run.stopped"],
                "joined": kinds["run.joined"],
            },
        )
        yield counter(
            "tacit_ledger_rounds_committed_total",
            "Rounds that were committed.",
            kinds["round.committed"],
        )
        yield counter("tacit_ledger_sums_opened_total", "Sums opened.", kinds["sum.opened"])
        yield labelled(
            "tacit_ledger_refusals_total",
            "Refusals, withdrawals and ends on record, by the kind of entry.",
            "counter",
            "kind",
            {kind.replace(".", "_"): kinds[kind] for kind in _REFUSED if kinds[kind]},
        )
