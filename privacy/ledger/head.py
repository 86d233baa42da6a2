"""A ledger at one size, and how one entry follows another: pure, without files and clocks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from privacy.canonical import framed
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import Body, Entry, make_entry
from privacy.ledger.merkle import EMPTY_ROOT


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """A ledger at one size, in so few bytes that others can remember it.

    Attributes:
        leaves: How many entries.
        root: Of the Merkle tree over them (RFC 9162, section 2.1), 64 hexadecimal digits. It binds
            each entry, its place, and all before it.
    """

    leaves: int
    root: str


HEAD_DOMAIN: Final = "ledger-head"
"""In it a node signs what its own ledger is with a vector that it sends."""
EMPTY_HEAD = LedgerHead(0, EMPTY_ROOT.hex())


def head_message(context: bytes, head: LedgerHead) -> bytes:
    """Return what a node signs in `HEAD_DOMAIN`: with its vector for this sum it had this ledger.

    Args:
        context: Digest of the sum's context.
        head: The node's own ledger, in which the release is reserved.
    """
    return framed(context, head.leaves.to_bytes(8, "big"), bytes.fromhex(head.root))


def next_entry(last: Entry | None, kind: str, body: Body, *, time_ms: int, epoch: int) -> Entry:
    """Return the entry that follows `last` (None: the first one).

    A clock that was set back does not set the ledger back: the later of both times stands.

    Raises:
        ValueError: kind or body are not of the table, or the epoch is an earlier writer's.
    """
    if last is not None and epoch < last.epoch:
        raise ValueError(f"epoch {epoch} is over; a later writer took this ledger over")
    return make_entry(
        index=0 if last is None else last.index + 1,
        time_ms=time_ms if last is None else max(last.time_ms, time_ms),
        epoch=epoch,
        kind=kind,
        body=body,
    )


def in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield each entry after checking that it follows the one before.

    Raises:
        NotVerifiedError: an index, a time or an epoch does not follow, or an act that has a name
            stands twice; the entry is named.
    """
    last: Entry | None = None
    acts: set[tuple[object, ...]] = set()
    for entry in entries:
        must_follow(last, entry)
        act = entry.act
        if act is not None:
            if act in acts:
                raise NotVerifiedError(f"entry {entry.index} says again what one before it said")
            acts.add(act)
        yield entry
        last = entry


def must_follow(last: Entry | None, entry: Entry) -> None:
    """Return if `entry` may stand after `last` (None: as the first one).

    Raises:
        NotVerifiedError: its index, time or epoch does not follow; the entry is named.
    """
    place = 0 if last is None else last.index + 1
    if entry.index != place:
        raise NotVerifiedError(f"entry {place} is missing or out of place")
    if last is not None and entry.time_ms < last.time_ms:
        raise NotVerifiedError(f"entry {place} is earlier than the entry before it")
    if last is not None and entry.epoch < last.epoch:
        raise NotVerifiedError(f"entry {place} is of a writer whose turn was over")
