"""Where a ledger is kept: what every store of entries promises, and what follows from that alone.

Stores: `privacy.ledger.sqlite` (a file, the default) and `federation.postgres_ledger` (a database
that several coordinators share). One suite tests both (tests/contract/test_ledger_store.py).

What holds of every store:
    1. What `append` returned, and what was appended in a turn that was left, is on disk, unless
       the turn was opened with `durable=False`.
    2. A turn excludes every other writer, in any process, and shows all that was written before. A
       turn that is left by an exception leaves nothing behind.
    3. Entries are never changed or taken out through it; leaves are the bytes that were written.
    4. Where the disk is full, or anything is broken, it raises, and nothing was appended. Only
       where a server or a disk fails while a turn ends may it be there; write it again then.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from privacy.errors import DamagedFileError, NotVerifiedError, RefusedError
from privacy.ledger.entry import Body, Entry, key_of, parse_leaf
from privacy.ledger.head import LedgerHead
from privacy.ledger.merkle import (
    Frontier,
    consistency_proof,
    frontier_at,
    inclusion_proof,
    leaf_hash,
)


class Turn(Protocol):
    """One writer's turn at a ledger; nobody else writes until it is over."""

    @property
    def size(self) -> int:
        """Entries so far, this turn's own included."""
        ...

    def leaves(self, start: int, stop: int | None = None) -> Iterator[bytes]:
        """Yield the leaves from `start` on, this turn's own included, to before `stop`."""
        ...

    def find(self, key: bytes) -> Entry | None:
        """Return the entry of the act that `key` names (`Entry.key`), if there is one."""
        ...

    def append(self, kind: str, body: Body, *, time_ms: int) -> Entry:
        """Append one entry and return it; it is kept once the turn is over.

        Args:
            kind: One of `entry.KINDS`.
            body: Its fields.
            time_ms: Milliseconds since 1970 UTC; the later of this and the last entry's stands.

        Raises:
            ValueError: kind or body are not of the table.
            RefusedError: another entry has the same key.
            NotVerifiedError: the last entry is none.
        """
        ...


class LedgerStore(Protocol):
    """A ledger. Any number of processes may hold one over the same place."""

    @property
    def place(self) -> str:
        """Where it is, for sentences to people."""
        ...

    @property
    def epoch(self) -> int:
        """The writer's turn of the ledger, from 1; see `Entry.epoch`."""
        ...

    def turn(self, *, durable: bool = True) -> AbstractContextManager[Turn]:
        """Hold the ledger for one writer.

        Args:
            durable: Whether a power cut may not take away what is appended. What is not durable
                is on disk with the next turn that is.

        Raises:
            InputError: the place cannot be read or written, or another writer stays on.
            NotVerifiedError: what is there is no ledger of this format.
            RefusedError: a later writer took the ledger over.
        """
        ...

    def size(self) -> int:
        """Return how many entries there are; 0 where nothing was ever written."""
        ...

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield leaves as they stand on disk, from `start` to before `stop`; nothing is locked."""
        ...

    def node(self, level: int, index: int) -> bytes:
        """Return the kept hash of the complete subtree of 2^level leaves from index * 2^level on.

        Raises:
            NotVerifiedError: there is none.
        """
        ...

    def keep_checkpoint(self, size: int, note: bytes) -> bytes:
        """Keep a signed checkpoint, with who signed one of the same size that is kept already.

        It can be signed again, but who cosigned it is asked once: what a crash or another writer
        took of that would be missing for ever, and auditors would find a sum that nobody
        witnessed. So it is on disk on return, and no other writer, in any process, comes between
        the look at what is kept and the writing.

        Returns:
            The note as it is kept now, see `checkpoint.merged`.

        Raises:
            InputError: the place cannot be read or written, or another writer stays on.
            NotVerifiedError: another state of that size is kept, or what is there is no ledger of
                this format.
            RefusedError: a later writer took the ledger over.
        """
        ...

    def drop_checkpoint(self, size: int) -> None:
        """Keep the checkpoint of that size no longer: a later one says more."""
        ...

    def checkpoints(self) -> list[tuple[int, bytes]]:
        """Return the sizes and notes of all kept checkpoints, smallest first."""
        ...


@runtime_checkable
class SharedLedger(Protocol):
    """A ledger that several coordinators may reach, of whom one at a time writes."""

    def take_over(self, *, time_ms: int) -> Entry:
        """Begin the next epoch, durably; no turn of an earlier writer commits from here on.

        Raises:
            InputError: the place cannot be read or written.
        """
        ...


def append(store: LedgerStore, kind: str, body: Body, *, time_ms: int) -> Entry:
    """Append one act; where the same one is there already, in the same words, return that.

    So whoever does not know whether an act was written may write it again.

    Raises:
        ValueError: kind or body are not of the table.
        RefusedError: the act is there in other words, or a later writer took the ledger over.
        InputError: it could not be written; then it is not there, unless the sentence says that
            nobody knows.
    """
    with store.turn() as turn:
        return append_once(turn, kind, body, time_ms=time_ms)


def append_once(turn: Turn, kind: str, body: Body, *, time_ms: int) -> Entry:
    """As `append`, within a turn."""
    before = _before(turn, kind, body)
    return turn.append(kind, body, time_ms=time_ms) if before is None else before


def _before(turn: Turn, kind: str, body: Body) -> Entry | None:
    try:
        key = key_of(kind, body)
    except KeyError:
        return None  # `Turn.append` says what is wrong with it
    before = None if key is None else turn.find(key)
    if before is not None and dict(before.body) != dict(body):
        raise RefusedError(f"the ledger holds this {kind} in other words; nothing was written")
    return before


def head_of(store: LedgerStore, size: int | None = None) -> LedgerHead:
    """Return the head that the store keeps, or kept when it had `size` entries.

    Raises:
        NotVerifiedError: it never had so many.
    """
    count = store.size() if size is None else size
    return LedgerHead(count, frontier_at(store.node, count).root().hex())


def checked_frontier(store: LedgerStore, *, since: Frontier, size: int) -> Frontier:
    """Return the tree of the first `size` leaves, hashed anew from the leaves on disk.

    Args:
        store: The ledger.
        since: The tree of the first so many of them, which the caller trusts.
        size: At least as many as in `since`.

    Raises:
        NotVerifiedError: a leaf is missing, is not what was written, or the store's own hashes
            are others. Nothing of it may be signed then.
    """
    tree = since
    for leaf in store.leaves(since.size, size):
        entry = parse_leaf(leaf)
        if entry.index != tree.size:
            raise DamagedFileError(f"entry {tree.size} of {store.place} is missing or out of place")
        tree = tree.append(leaf_hash(leaf))
    if tree.size != size:
        raise DamagedFileError(f"entry {tree.size} of {store.place} is missing")
    if frontier_at(store.node, size).root() != tree.root():
        raise DamagedFileError(
            f"{store.place} was changed: its entries have other hashes than it kept; "
            "restore it from a copy"
        )
    return tree


def prove_inclusion(store: LedgerStore, index: int, size: int) -> tuple[bytes, ...]:
    """Return the path from entry `index` to the root of the first `size` entries (RFC 9162)."""
    return inclusion_proof(store.node, index, size)


def prove_consistency(store: LedgerStore, old: int, new: int) -> tuple[bytes, ...]:
    """Return what shows that the first `new` entries begin with the first `old` (RFC 9162)."""
    return consistency_proof(store.node, old, new)


def entries_of(leaves: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of leaves.

    Raises:
        NotVerifiedError: a leaf is none; it is named by its place among those given.
    """
    for place, leaf in enumerate(leaves):
        try:
            yield parse_leaf(leaf)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"entry {place}: {error}") from None
