"""How a ledger's keys follow on each other, and what is shown of that."""

from pathlib import Path

import pytest
from support.rotations import rotate

from privacy.errors import NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.entry import make_entry, parse_leaf
from privacy.ledger.grammar import ROTATION_DOMAIN
from privacy.ledger.keys import log_key, log_origin
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import inclusion_proof, leaf_hash, new_nodes, root_of
from privacy.ledger.rotation import (
    Rotation,
    key_at,
    key_history,
    keys_after,
    rotations_among,
)
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore, append, head_of, prove_inclusion
from privacy.randomness import system_bytes


def made() -> tuple[MemoryLedger, Identity, str]:
    identity, store = Identity.create(system_bytes), MemoryLedger()
    origin = begin_ledger(store, identity, owner="coordinator", role="coordinator", time_ms=0)
    return store, identity, origin


def other(store: LedgerStore) -> None:
    append(store, "writer.began", {"writer": f"w{store.size()}"}, time_ms=0)


def state_of(store: MemoryLedger, origin: str) -> Checkpoint:
    head = head_of(store)
    return Checkpoint(origin, head.leaves, bytes.fromhex(head.root))


def shown(store: MemoryLedger) -> list[Rotation]:
    return [
        Rotation(leaf, index, prove_inclusion(store, index, store.size()))
        for index, leaf in rotations_among(store.leaves())
    ]


@pytest.mark.parametrize("kept", [False, True])
def test_a_ledger_is_begun_once_and_says_whose_it_is(tmp_path: Path, *, kept: bool) -> None:
    identity = Identity.create(system_bytes)
    store: LedgerStore = SqliteLedger(tmp_path / "l.sqlite") if kept else MemoryLedger()
    origin = begin_ledger(store, identity, owner="mill", role="node", time_ms=7)
    assert origin == log_origin("mill", identity.public)
    (leaf,) = store.leaves()
    entry = parse_leaf(leaf)
    assert (entry.kind, entry.index, entry.time_ms) == ("ledger.begun", 0, 7)
    body = {"origin": origin, "key": identity.public.hex(), "owner": "mill", "role": "node"}
    assert entry.body == body
    assert begin_ledger(store, identity, owner="mill", role="node", time_ms=8) == origin
    assert list(store.leaves()) == [leaf]


@pytest.mark.parametrize("kept", [False, True])
def test_a_ledger_is_gone_on_with_by_its_owner_alone(tmp_path: Path, *, kept: bool) -> None:
    identity = Identity.create(system_bytes)
    store: LedgerStore = SqliteLedger(tmp_path / "l.sqlite") if kept else MemoryLedger()
    origin = begin_ledger(store, identity, owner="coordinator", role="coordinator", time_ms=0)
    again = {"owner": "coordinator", "role": "coordinator", "time_ms": 1}
    for wrong in ({"owner": "mill"}, {"role": "node"}):
        with pytest.raises(RefusedError, match="the ledger of another; use a folder of its own"):
            begin_ledger(store, identity, **{**again, **wrong})  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="was begun with another key than this identity"):
        begin_ledger(store, Identity.create(system_bytes), **again)  # type: ignore[arg-type]
    second = rotate(store, identity)
    assert begin_ledger(store, second, **again) == origin  # type: ignore[arg-type]
    third = rotate(store, second)
    other(store)
    assert begin_ledger(store, third, **again) == origin  # type: ignore[arg-type]
    for out_of_use in (identity, second):
        with pytest.raises(RefusedError, match="has by now another key than this identity"):
            begin_ledger(store, out_of_use, **again)  # type: ignore[arg-type]
    strange = MemoryLedger()
    other(strange)
    with pytest.raises(RefusedError, match="the ledger of another"):
        begin_ledger(strange, identity, **again)  # type: ignore[arg-type]


def test_a_ledgers_keys_are_told_with_the_sizes_from_which_on_they_sign() -> None:
    store, first, _ = made()
    other(store)
    second = rotate(store, first)
    third = rotate(store, second)
    other(store)
    history = key_history(store.leaves())
    assert history == ((0, first.public), (3, second.public), (4, third.public))
    assert [key_at(history, size) for size in range(6)] == [
        *[first.public] * 3,
        second.public,
        *[third.public] * 2,
    ]
    # the first entry and the rotations are enough
    leaves = list(store.leaves())
    assert key_history([leaves[0], *(leaf for _, leaf in rotations_among(leaves))]) == history
    assert [index for index, _ in rotations_among(leaves[2:], 2)] == [2, 3]
    assert key_history([]) == ()


def test_what_begins_no_ledger_has_no_keys() -> None:
    store, _, _ = made()
    other(store)
    with pytest.raises(NotVerifiedError, match="begins with"):
        key_history(store.leaves(1))
    forged, _, _ = made()
    rotate(forged, Identity.create(system_bytes))
    with pytest.raises(NotVerifiedError, match="did not sign"):
        key_history(forged.leaves())


def test_keys_are_told_from_the_one_that_is_known() -> None:
    store, first, origin = made()
    keys = [first]
    for _ in range(3):
        other(store)
        keys.append(rotate(store, keys[-1]))
    state = state_of(store, origin)
    for known, identity in enumerate(keys):
        key = log_key(origin, identity.public)
        found = keys_after(key, shown(store), state, seen=2 * known)
        assert [(one.since, one.key.public) for one in found] == [
            (2 * place + 1, one.public) for place, one in enumerate(keys) if place > known
        ]
        assert {one.key.name for one in found} <= {origin}
    stranger = log_key(origin, Identity.create(system_bytes).public)
    with pytest.raises(NotVerifiedError, match="did not sign"):
        keys_after(stranger, shown(store), state, seen=0)


def test_a_key_that_came_back_is_no_way_round_the_newest() -> None:
    """Backwards, the rotation to a key that is out of use would come last."""
    store, first, origin = made()
    second = rotate(store, first)
    rotate(store, second, first)
    state, known = state_of(store, origin), log_key(origin, first.public)
    assert keys_after(known, shown(store), state, seen=0) == ()
    with pytest.raises(NotVerifiedError, match="out of order"):
        keys_after(known, shown(store)[::-1], state, seen=0)


def test_an_entry_that_says_another_place_than_it_has_is_none() -> None:
    store, first, origin = made()
    new = Identity.create(system_bytes)
    body = {"key": new.public.hex(), "signature": first.sign(ROTATION_DOMAIN, new.public).hex()}
    leaves = list(store.leaves())
    said = 7
    leaves.append(make_entry(index=said, time_ms=0, epoch=1, kind="key.rotated", body=body).leaf())
    hashes = [leaf_hash(leaf) for leaf in leaves]
    nodes: dict[tuple[int, int], bytes] = {}
    for place, one in enumerate(hashes):
        for level, at, value in new_nodes(place, one, lambda level, at: nodes[level, at]):
            nodes[level, at] = value
    path = inclusion_proof(lambda level, at: nodes[level, at], 1, 2)
    state = Checkpoint(origin, 2, root_of(hashes))
    known = log_key(origin, first.public)
    with pytest.raises(NotVerifiedError, match="is another entry"):
        keys_after(known, [Rotation(leaves[1], 1, path)], state, seen=0)
