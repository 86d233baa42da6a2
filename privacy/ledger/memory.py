"""A ledger in memory: for what was read from a bundle, and for tests. Nothing of it is durable."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.checkpoint import merged
from privacy.ledger.entry import Body, Entry, parse_leaf
from privacy.ledger.head import next_entry
from privacy.ledger.merkle import leaf_hash, new_nodes


class MemoryTurn:
    """`privacy.ledger.store.Turn` over a ledger in memory."""

    def __init__(self, ledger: "MemoryLedger") -> None:
        self._ledger = ledger

    @property
    def size(self) -> int:
        """See the Protocol."""
        return self._ledger.size()

    def leaves(self, start: int, stop: int | None = None) -> Iterator[bytes]:
        """See the Protocol."""
        return self._ledger.leaves(start, stop)

    def find(self, key: bytes) -> Entry | None:
        """See the Protocol."""
        return self._ledger.find(key)

    def append(self, kind: str, body: Body, *, time_ms: int) -> Entry:
        """See the Protocol."""
        return self._ledger.append(kind, body, time_ms=time_ms)


class MemoryLedger:
    """`privacy.ledger.store.LedgerStore` over lists."""

    epoch = 1

    def __init__(self, leaves: Iterable[bytes] = (), *, place: str = "memory") -> None:
        """Take leaves over as they are; they are not checked."""
        self.place = place
        self._mutex = threading.RLock()
        self._leaves: list[bytes] = []
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._acts: dict[bytes, int] = {}
        self._checkpoints: dict[int, bytes] = {}
        for leaf in leaves:
            self._take(leaf)

    @contextmanager
    def turn(self, *, durable: bool = True) -> Iterator[MemoryTurn]:
        """See the Protocol; `durable` changes nothing here."""
        del durable
        with self._mutex:
            before = len(self._leaves)
            try:
                yield MemoryTurn(self)
            except BaseException:
                self._cut(before)
                raise

    @property
    def _last(self) -> Entry | None:
        return parse_leaf(self._leaves[-1]) if self._leaves else None

    def append(self, kind: str, body: Body, *, time_ms: int) -> Entry:
        """See `Turn.append`."""
        entry = next_entry(self._last, kind, body, time_ms=time_ms, epoch=self.epoch)
        key = entry.key
        if key is not None:
            if key in self._acts:
                raise RefusedError(f"{self.place} holds this {kind} already")
            self._acts[key] = entry.index
        self._take(entry.leaf())
        return entry

    def find(self, key: bytes) -> Entry | None:
        """See `Turn.find`."""
        place = self._acts.get(key)
        return None if place is None else parse_leaf(self._leaves[place])

    def size(self) -> int:
        """See the Protocol."""
        return len(self._leaves)

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """See the Protocol."""
        return iter(self._leaves[start:stop])

    def node(self, level: int, index: int) -> bytes:
        """See the Protocol."""
        try:
            return self._nodes[level, index]
        except KeyError:
            raise NotVerifiedError(f"{self.place} has not so many entries") from None

    def keep_checkpoint(self, size: int, note: bytes) -> bytes:
        """See the Protocol."""
        with self._mutex:
            self._checkpoints[size] = merged(self._checkpoints.get(size), note)
            return self._checkpoints[size]

    def drop_checkpoint(self, size: int) -> None:
        """See the Protocol."""
        self._checkpoints.pop(size, None)

    def checkpoints(self) -> list[tuple[int, bytes]]:
        """See the Protocol."""
        return sorted(self._checkpoints.items())

    def _take(self, leaf: bytes) -> None:
        for level, place, digest in new_nodes(len(self._leaves), leaf_hash(leaf), self.node):
            self._nodes[level, place] = digest
        self._leaves.append(leaf)

    def _cut(self, size: int) -> None:
        for leaf in self._leaves[size:]:
            key = parse_leaf(leaf).key
            if key is not None:
                del self._acts[key]
        del self._leaves[size:]
        self._nodes = {
            (level, place): digest
            for (level, place), digest in self._nodes.items()
            if (place + 1) << level <= size
        }
