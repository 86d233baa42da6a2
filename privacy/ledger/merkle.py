"""A Merkle tree over SHA-256 (RFC 9162, section 2.1): roots, proofs, and how they are checked.

Whoever holds a root holds every leaf before it: a proof of inclusion shows that one leaf is among
them, a proof of consistency that a later root only appended. Nothing here keeps a tree; complete
subtrees are read through `Nodes`, and a `Frontier` of at most 64 hashes is enough to append.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from privacy.errors import NotVerifiedError

HASH_BYTES = 32
EMPTY_ROOT: bytes = hashlib.sha256(b"").digest()
# (level, index) -> hash of the complete subtree over the 2**level leaves from index * 2**level on.
Nodes = Callable[[int, int], bytes]
_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf, 32 bytes; no inner node has the same (section 2.1.1)."""
    return hashlib.sha256(_LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two hashes, 32 bytes (section 2.1.1)."""
    return hashlib.sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs to know of a tree.

    Attributes:
        size: Number of leaves, >= 0.
        hashes: Roots of the complete subtrees that the leaves fall into, largest first; as many
            as `size` has one bits.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} hashes are no frontier of {self.size} leaves")
        for each in self.hashes:
            _check_hash(each)

    def append(self, leaf: bytes) -> "Frontier":
        """Return the frontier with one more leaf, given by its `leaf_hash`."""
        _check_hash(leaf)
        hashes = list(self.hashes)
        size = self.size
        while size & 1:
            leaf = node_hash(hashes.pop(), leaf)
            size >>= 1
        return Frontier(self.size + 1, (*hashes, leaf))

    def root(self) -> bytes:
        """Return the root, 32 bytes; of no leaves it is `EMPTY_ROOT`."""
        return _folded(self.hashes) if self.hashes else EMPTY_ROOT


def root_of(hashes: Iterable[bytes]) -> bytes:
    """Return the root over these leaf hashes, 32 bytes; about a microsecond a leaf."""
    level = list(hashes)
    for each in level:
        _check_hash(each)
    if not level:
        return EMPTY_ROOT
    sha256 = hashlib.sha256
    while len(level) > 1:
        odd = level[-1:] if len(level) & 1 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(_NODE + left + right).digest() for left, right in pairs]
        level += odd
    return level[0]


def new_nodes(index: int, leaf: bytes, nodes: Nodes) -> list[tuple[int, int, bytes]]:
    """Return the complete subtrees that come about when leaf `index` is appended.

    Args:
        index: Number of leaves before this one, >= 0.
        leaf: Its `leaf_hash`.
        nodes: Reads the subtrees that were complete before.

    Returns:
        (level, index, hash) of each, from the leaf itself (level 0) upwards.
    """
    if index < 0:
        raise ValueError(f"need a leaf's index >= 0, not {index}")
    _check_hash(leaf)
    level = 0
    made = [(level, index, leaf)]
    while index & 1:
        leaf = node_hash(nodes(level, index - 1), leaf)
        level += 1
        index >>= 1
        made.append((level, index, leaf))
    return made


def frontier_at(nodes: Nodes, size: int) -> Frontier:
    """Return the frontier of the first `size` leaves."""
    if size < 0:
        raise ValueError(f"need a size >= 0, not {size}")
    return Frontier(size, tuple(_complete(nodes, 0, size)))


def inclusion_proof(nodes: Nodes, index: int, size: int) -> tuple[bytes, ...]:
    """Return the proof that leaf `index` is in the tree of the first `size` leaves.

    Returns:
        The hashes beside the path, from the leaf's sibling upwards (section 2.1.3.1).
    """
    if not 0 <= index < size:
        raise ValueError(f"need 0 <= index < size, not {index} and {size}")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_folded(_complete(nodes, middle, end)))
            end = middle
        else:
            proof.append(_folded(_complete(nodes, start, middle)))
            start = middle
    return tuple(reversed(proof))


def consistency_proof(nodes: Nodes, old: int, new: int) -> tuple[bytes, ...]:
    """Return the proof that the first `new` leaves begin with the first `old` leaves.

    Returns:
        Hashes in the order of section 2.1.4.1; none where `old` is 0 or equals `new`.
    """
    if not 0 <= old <= new:
        raise ValueError(f"need 0 <= old <= new, not {old} and {new}")
    if old in {0, new}:
        return ()
    proof: list[bytes] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_folded(_complete(nodes, middle, end)))
            end = middle
        else:
            proof.append(_folded(_complete(nodes, start, middle)))
            start = middle
    if start:
        proof.append(_folded(_complete(nodes, start, end)))
    return tuple(reversed(proof))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Return if leaf `index` of the tree with this size and root has the hash `leaf`.

    Source: section 2.1.3.2.

    Raises:
        NotVerifiedError: the proof does not show it, or is longer or shorter than it must be.
    """
    if not 0 <= index < size:
        raise NotVerifiedError(f"a tree of {size} leaves has no leaf {index}; ask for another")
    _check_proof_hashes((leaf, root, *proof))
    sides = list(_sides(index, size - 1))
    computed = leaf
    for on_left, sibling in zip(sides, proof, strict=False):
        computed = node_hash(sibling, computed) if on_left else node_hash(computed, sibling)
    if len(sides) != len(proof) or computed != root:
        raise NotVerifiedError(
            f"nothing shows that entry {index} is in the log of {size} entries;"
            " ask for its proof again"
        )


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if the tree of `new` leaves begins with all leaves of the tree of `old` leaves.

    From 0 leaves on every tree is consistent, and from a tree to itself; both need no hashes.
    Source: section 2.1.4.2.

    Raises:
        NotVerifiedError: the proof does not show it, or is longer or shorter than it must be.
    """
    _check_heads(old, old_root, new, new_root)
    _check_proof_hashes((old_root, new_root, *proof))
    if old in {0, new}:
        if proof:
            raise _not_consistent(old, new)
        return
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    path, last = old - 1, new - 1
    while path & 1:
        path >>= 1
        last >>= 1
    sides = list(_sides(path, last))
    if len(hashes) != 1 + len(sides):
        raise _not_consistent(old, new)
    old_computed = new_computed = hashes[0]
    for on_left, each in zip(sides, hashes[1:], strict=True):
        if on_left:
            old_computed = node_hash(each, old_computed)
            new_computed = node_hash(each, new_computed)
        else:
            new_computed = node_hash(new_computed, each)
    if old_computed != old_root or new_computed != new_root:
        raise _not_consistent(old, new)


def _check_heads(old: int, old_root: bytes, new: int, new_root: bytes) -> None:
    if not 0 <= old <= new:
        raise NotVerifiedError(f"a log cannot go from {old} entries to {new}; it was rolled back")
    if (old == 0 and old_root != EMPTY_ROOT) or (new == 0 and new_root != EMPTY_ROOT):
        raise NotVerifiedError("a log without entries has another root than this one")
    if old == new and old_root != new_root:
        raise NotVerifiedError(
            f"two logs of {old} entries have different roots; keep both and ask the operator"
        )


def _sides(path: int, last: int) -> Iterator[bool]:
    # Of each sibling between node `path` and the root, upwards: whether it stands on the left.
    # `last` is the index of the last node of the same level.
    while last:
        on_left = bool(path & 1) or path == last
        while on_left and not path & 1:
            path >>= 1
            last >>= 1
        yield on_left
        path >>= 1
        last >>= 1


def _split(size: int) -> int:
    # The largest power of two below `size`, for size >= 2.
    return 1 << ((size - 1).bit_length() - 1)


def _complete(nodes: Nodes, start: int, end: int) -> list[bytes]:
    # Complete subtrees over leaves start .. end - 1, largest first. `start` is a multiple of the
    # largest of them, as it is for every subtree that section 2.1 splits off.
    hashes: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        hashes.append(nodes(level, start >> level))
        start += 1 << level
    return hashes


def _folded(hashes: Sequence[bytes]) -> bytes:
    computed = hashes[-1]
    for each in reversed(hashes[:-1]):
        computed = node_hash(each, computed)
    return computed


def _check_hash(value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise ValueError(f"a hash has {HASH_BYTES} bytes, not {len(value)}")


def _check_proof_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(each) != HASH_BYTES for each in hashes):
        raise NotVerifiedError(f"a proof holds a hash that has not {HASH_BYTES} bytes")


def _not_consistent(old: int, new: int) -> NotVerifiedError:
    return NotVerifiedError(
        f"nothing shows that the log of {new} entries begins with the {old} seen before;"
        " keep both checkpoints and ask the operator"
    )
