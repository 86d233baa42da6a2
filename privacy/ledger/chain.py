"""How one entry follows another: pure functions of entries, without files and clocks."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from privacy.errors import NotVerifiedError
from privacy.ledger.entry import DOMAIN, Body, Entry, make_entry

EMPTY_ROOT = hashlib.sha256(DOMAIN).hexdigest()
"""What the first entry follows."""


@dataclass(frozen=True)
class LedgerHead:
    """A ledger at one size, in so few bytes that others can remember it.

    Attributes:
        leaves: How many entries.
        root: Digest of the last one, which binds all before; `EMPTY_ROOT` of none.
    """

    leaves: int
    root: str


def head_of(entry: Entry | None) -> LedgerHead:
    """Return the head of a ledger that ends with `entry`; None for the empty one."""
    if entry is None:
        return LedgerHead(0, EMPTY_ROOT)
    return LedgerHead(entry.index + 1, entry.digest)


def next_entry(last: Entry | None, kind: str, body: Body, *, time_ms: int) -> Entry:
    """Return the entry that follows `last` (None: the first one).

    A clock that was set back does not set the ledger back: the later of both times stands.

    Raises:
        ValueError: kind or body are not of the table.
    """
    head = head_of(last)
    earliest_ms = 0 if last is None else last.time_ms
    return make_entry(
        index=head.leaves,
        time_ms=max(earliest_ms, time_ms),
        kind=kind,
        body=body,
        previous=head.root,
    )


def replay(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield each entry after checking that it follows the one before.

    Raises:
        NotVerifiedError: an index, a link or a time does not follow; the entry is named.
    """
    last: Entry | None = None
    for entry in entries:
        head = head_of(last)
        if entry.index != head.leaves:
            raise NotVerifiedError(f"entry {head.leaves} is missing or out of place")
        if entry.previous != head.root:
            raise NotVerifiedError(f"entry {entry.index} does not follow the entry before it")
        if last is not None and entry.time_ms < last.time_ms:
            raise NotVerifiedError(f"entry {entry.index} is earlier than the entry before it")
        yield entry
        last = entry
