"""How a ledger changes its key, and what shows it to somebody who knows the key before.

`key.rotated` names the new key and is signed by the one before. States that have the entry are
signed by the new key, earlier ones by the old one. So who knows a key is shown each rotation since,
its place in a state, and that this state, signed by the newest key, begins with what it saw before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.grammar import rotated
from privacy.ledger.merkle import leaf_hash, verify_inclusion
from privacy.ledger.note import VerifierKey

KIND = "key.rotated"
# a look at the bytes spares parsing every entry
_IN_A_LEAF = b'"kind":"key.rotated"'


class Shown(Protocol):
    """An entry, with the proof that it is in a state of its ledger."""

    @property
    def leaf(self) -> bytes:
        """The entry."""
        ...

    @property
    def index(self) -> int:
        """Its place."""
        ...

    @property
    def path(self) -> tuple[bytes, ...]:
        """The proof of inclusion (RFC 9162, section 2.1.3)."""
        ...


@dataclass(frozen=True, slots=True)
class Rotation:
    """`Shown`, of a `key.rotated`."""

    leaf: bytes
    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeySince:
    """A key of a ledger.

    Attributes:
        since: It signs states of at least so many entries.
        key: Until the next one does.
    """

    since: int
    key: VerifierKey


def rotations_among(leaves: Iterable[bytes], start: int = 0) -> list[tuple[int, bytes]]:
    """Return each `key.rotated` among leaves, with its place.

    Args:
        leaves: In order.
        start: Place of the first one.

    Raises:
        NotVerifiedError: one that says to be such an entry is none.
    """
    return [
        (place, leaf)
        for place, leaf in enumerate(leaves, start)
        if _IN_A_LEAF in leaf and parse_leaf(leaf).kind == KIND
    ]


def key_history(leaves: Iterable[bytes]) -> tuple[tuple[int, bytes], ...]:
    """Return a ledger's public keys, each with the number of entries from which on it signs.

    Args:
        leaves: The first one, and at least each `key.rotated`, in order; none has no keys.

    Raises:
        NotVerifiedError: the first one does not begin a ledger, or a key before did not sign the
            next one.
    """
    keys: list[tuple[int, bytes]] = []
    for leaf in leaves:
        if not keys:
            entry = parse_leaf(leaf)
            if entry.kind != "ledger.begun":
                raise NotVerifiedError("entry 0: a ledger begins with ledger.begun")
            keys.append((0, bytes.fromhex(str(entry.body["key"]))))
        elif _IN_A_LEAF in leaf:
            entry = parse_leaf(leaf)
            if entry.kind == KIND:
                keys.append(rotated(entry, keys[-1][1]))
    return tuple(keys)


def keys_after(
    known: VerifierKey, shown: Sequence[Shown], state: Checkpoint, *, seen: int
) -> tuple[KeySince, ...]:
    """Return the keys that a ledger had after one that is known, the newest last.

    That the newest one signed the state, and that the state follows on what was seen before, is the
    caller's to verify; without both this shows nothing.

    Args:
        known: Trusted so far.
        shown: Rotations of the ledger, in order; those up to the known key are passed over.
        state: A state that has all of them.
        seen: Entries of the last state that was seen under the known key.

    Raises:
        NotVerifiedError: an entry is not in the state, is no rotation, is out of place, or is not
            signed by the key before it.
    """
    entries: list[Entry] = []
    for one in shown:
        entry = parse_leaf(one.leaf)
        if entry.kind != KIND or entry.index != one.index:
            raise NotVerifiedError(
                "what was shown as a change of the ledger's key is another entry"
            )
        if entries and entry.index <= entries[-1].index:
            raise NotVerifiedError("changes of the ledger's key were shown out of order")
        verify_inclusion(leaf_hash(one.leaf), one.index, state.size, one.path, state.root)
        entries.append(entry)
    public = known.public.hex()
    past = max((at + 1 for at, one in enumerate(entries) if one.body["key"] == public), default=0)
    keys: list[KeySince] = []
    before = known.public
    for entry in entries[past:]:
        if entry.index < seen:
            raise NotVerifiedError(
                f"the ledger changed its key at entry {entry.index}, and the key before signed "
                f"{seen} entries"
            )
        since, before = rotated(entry, before)
        keys.append(KeySince(since, VerifierKey(known.name, known.algorithm, before)))
    return tuple(keys)


def key_at(keys: Sequence[tuple[int, bytes]], size: int) -> bytes:
    """Return the key that signs a state of `size` entries, of a history that is not empty."""
    return [key for since, key in keys if since <= size][-1]
