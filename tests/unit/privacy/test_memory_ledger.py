"""The ledger over lists, and what is told of any store: acts once, heads, trees hashed anew."""

from collections.abc import Iterator

import pytest
from support.ledger_writers import KIND, act

from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from privacy.ledger.note import Note, NoteSignature
from privacy.ledger.store import (
    append,
    append_once,
    checked_frontier,
    entries_of,
    head_of,
    prove_consistency,
    prove_inclusion,
)


def ledger(count: int) -> MemoryLedger:
    store = MemoryLedger(place="here")
    for number in range(count):
        append(store, KIND, act(f"run-{number}"), time_ms=number)
    return store


def root(leaves: Iterator[bytes]) -> bytes:
    return root_of(leaf_hash(leaf) for leaf in leaves)


def test_an_act_is_there_once_in_the_same_words() -> None:
    store = MemoryLedger(place="here")
    first = append(store, KIND, act("a"), time_ms=1)
    assert append(store, KIND, act("a"), time_ms=2) == first
    assert (store.size(), first.time_ms, first.epoch) == (1, 1, 1)
    with pytest.raises(RefusedError, match=f"holds this {KIND} in other words"):
        append(store, KIND, act("a", "another reason"), time_ms=3)
    with store.turn() as turn:
        assert append_once(turn, KIND, act("a"), time_ms=4) == first
        assert turn.find(first.key or b"") == first
        assert turn.find(b"another") is None
        with pytest.raises(RefusedError, match=f"^here holds this {KIND} already"):
            turn.append(KIND, act("a"), time_ms=5)
        assert list(turn.leaves(0)) == [first.leaf()]
        assert list(turn.leaves(0, 0)) == []
    assert append(store, KIND, act("b"), time_ms=6).index == 1
    with pytest.raises(ValueError, match="kind"):
        append(store, "no.kind", act("c"), time_ms=7)


def test_a_turn_that_fails_leaves_nothing() -> None:
    store = ledger(5)
    before, head = list(store.leaves()), head_of(store)

    def stopped() -> None:
        with store.turn(durable=False) as turn:
            for number in range(5, 9):
                turn.append(KIND, act(f"run-{number}"), time_ms=number)
            assert turn.size == 9
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (list(store.leaves()), head_of(store)) == (before, head)
    for level, index in ((0, 5), (1, 2), (2, 1), (3, 0)):
        with pytest.raises(NotVerifiedError, match="here has not so many entries"):
            store.node(level, index)
    for number in range(5, 9):  # and what was written then can be written now
        append(store, KIND, act(f"run-{number}"), time_ms=number)
    assert head_of(store).root == root(store.leaves()).hex()


def test_heads_and_proofs_are_those_of_the_tree() -> None:
    store = ledger(7)
    assert head_of(MemoryLedger()).root == EMPTY_ROOT.hex()
    leaves = list(store.leaves())
    for size in range(1, 8):
        assert head_of(store, size).leaves == size
        top = bytes.fromhex(head_of(store, size).root)
        assert top == root(iter(leaves[:size]))
        for index in range(size):
            path = prove_inclusion(store, index, size)
            verify_inclusion(leaf_hash(leaves[index]), index, size, path, top)
        verify_consistency(size, top, 7, root(iter(leaves)), prove_consistency(store, size, 7))
    assert head_of(store) == head_of(store, 7)
    assert [entry.index for entry in entries_of(store.leaves(2, 5))] == [2, 3, 4]
    with pytest.raises(NotVerifiedError, match=r"^entry 1: "):
        list(entries_of([leaves[0], b"{}"]))


def test_a_store_is_hashed_anew_from_any_tree_that_is_trusted() -> None:
    store = ledger(7)
    trees = [Frontier()]
    for leaf in store.leaves():
        trees.append(trees[-1].append(leaf_hash(leaf)))
    for size in range(8):
        for since in range(size + 1):
            assert checked_frontier(store, since=trees[since], size=size) == trees[size]
    with pytest.raises(NotVerifiedError, match=r"^entry 7 of here is missing$"):
        checked_frontier(store, since=trees[2], size=8)
    leaves = list(store.leaves())
    gap = MemoryLedger([*leaves[:3], *leaves[4:]], place="here")
    with pytest.raises(NotVerifiedError, match=r"^entry 3 of here is missing or out of place$"):
        checked_frontier(gap, since=trees[0], size=6)
    other = append(ledger(3), KIND, act("other"), time_ms=3)
    store._leaves[3] = other.leaf()  # behind its back: its own hashes stay
    with pytest.raises(NotVerifiedError, match="here was changed: its entries have other hashes"):
        checked_frontier(store, since=trees[0], size=7)


def test_checkpoints_are_kept_one_of_a_size() -> None:
    store = MemoryLedger(place="here")
    for size, note in ((5, b"five"), (2, b"two"), (5, b"five"), (7, b"seven")):
        assert store.keep_checkpoint(size, note) == note
    store.drop_checkpoint(7)
    store.drop_checkpoint(9)
    assert store.checkpoints() == [(2, b"two"), (5, b"five")]
    assert MemoryLedger().place == "memory"


def test_who_signed_a_state_stays_with_it() -> None:
    def note(*lines: NoteSignature) -> bytes:
        return Note(Checkpoint("log", 5, bytes(32)).text(), lines).to_bytes()

    log = NoteSignature("log", b"logs", bytes(64))
    bank, mill = (NoteSignature(name, b"wits", bytes(72)) for name in ("bank", "mill"))
    store = MemoryLedger(place="here")
    store.keep_checkpoint(5, note(log, bank))
    assert store.keep_checkpoint(5, note(log, mill)) == note(log, bank, mill)
    with pytest.raises(NotVerifiedError, match="no signed note"):
        store.keep_checkpoint(5, b"five")
    assert store.checkpoints() == [(5, note(log, bank, mill))]
