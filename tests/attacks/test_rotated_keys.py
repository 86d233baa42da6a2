"""What a hostile coordinator can show a node, or a witness, of a change of its ledger's key.

Whoever stole only the old key, or only the coordinator's place, or shows another ledger, moves
nobody; and what was refused is not remembered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from support.records import Hand
from support.rotations import rotate, rotated_hand, shown

from clients.ledger_watch import LedgerWatch
from privacy.errors import NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.checkpoint import open_checkpoint
from privacy.ledger.grammar import ROTATION_DOMAIN
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore, append, entries_of, prove_consistency
from privacy.ledger.witness import BadSignatureError, StaleError, Witness, remembered_keys
from privacy.messages import ShownRotation, SignedState
from privacy.randomness import system_bytes

SEEN = 4


def begun() -> Hand:
    """A coordinator's ledger of `SEEN` entries."""
    identity, store = Identity.create(system_bytes), MemoryLedger()
    origin = begin_ledger(store, identity, owner="coordinator", role="coordinator", time_ms=0)
    grow(store, SEEN - 1)
    return Hand(store, identity, origin)


def grow(store: LedgerStore, count: int, word: str = "w") -> None:
    for _ in range(count):
        body = {"run": f"{word}{store.size()}", "member": "m", "reason": "no"}
        append(store, "run.declined", body, time_ms=0)


def fork(hand: Hand, at: int) -> Hand:
    """Another history after the first `at` entries, under the same key."""
    store = MemoryLedger(list(hand.store.leaves(0, at)))
    grow(store, SEEN - at, "fork")
    return replace(hand, store=store)


@dataclass
class Node:
    """A node that follows a ledger, and cosigned it when it had `SEEN` entries."""

    folder: Path
    first: Hand
    identity: Identity = field(default_factory=lambda: Identity.create(system_bytes))

    def __post_init__(self) -> None:
        self.key = log_key(self.first.origin, self.first.identity.public)
        self.watch.trust(self.key, allowed=())
        self.watch.cosign(self.first.state(), time_s=1)

    @property
    def watch(self) -> LedgerWatch:
        """As after a restart."""
        store = SqliteLedger(self.folder / "ledger.db")
        begin_ledger(store, self.identity, owner="mill", role="node", time_ms=0)
        return LedgerWatch(store, member="mill", identity=self.identity, now_ms=lambda: 5000)

    def show(
        self, hand: Hand, rotations: tuple[ShownRotation, ...] | None = None, *, old: int = SEEN
    ) -> None:
        told = shown(hand) if rotations is None else rotations
        self.watch.cosign(hand.state(old=old), time_s=2, rotations=told)

    def trusts(self, hand: Hand) -> bool:
        key = log_key(hand.origin, hand.identity.public)
        try:
            self.watch.check(key, allowed=())
        except RefusedError:
            return False
        return True

    @property
    def acts(self) -> list[tuple[str, object]]:
        store = SqliteLedger(self.folder / "ledger.db")
        return [(one.kind, dict(one.body)) for one in entries_of(store.leaves(1))]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, begun())


# -- what is followed -----------------------------------------------------------------------------


def test_a_key_that_the_old_one_signed_for_is_followed_and_the_old_one_no_more(node: Node) -> None:
    new = rotated_hand(node.first)
    assert not node.trusts(new)
    node.show(new)
    assert node.trusts(new)
    assert not node.trusts(node.first)
    told = {"origin": new.origin, "key": new.identity.public.hex(), "leaves": SEEN + 1}
    assert [kind for kind, _ in node.acts] == [
        "ledger.followed",
        "ledger.cosigned",
        "ledger.rekeyed",
        "ledger.cosigned",
    ]
    assert ("ledger.rekeyed", told) in node.acts
    # from here on the old key signs nothing, also nothing that does follow
    grow(node.first.store, 1)
    with pytest.raises(NotVerifiedError, match="has not signed"):
        node.show(node.first, (), old=SEEN + 1)
    with pytest.raises(NotVerifiedError, match="has not signed"):
        node.show(node.first, old=SEEN + 1)
    node.show(new, (), old=SEEN + 1)


def test_a_chain_is_followed_at_once_or_key_by_key(tmp_path: Path) -> None:
    ledger = begun()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    early, late = Node(tmp_path / "a", ledger), Node(tmp_path / "b", ledger)
    hands = [rotated_hand(ledger)]
    early.show(hands[0])
    for _ in range(2):
        grow(ledger.store, 2)
        hands.append(rotated_hand(hands[-1]))
    early.show(hands[-1], old=SEEN + 1)
    late.show(hands[-1])
    keys = [one.identity.public.hex() for one in hands]
    for one in (early, late):
        told = [body for kind, body in one.acts if kind == "ledger.rekeyed"]
        assert [each["key"] for each in told if isinstance(each, dict)] == keys
        assert one.trusts(hands[-1])
        assert not any(one.trusts(each) for each in (*hands[:-1], ledger))


def test_a_key_that_came_back_is_followed_once_it_is_the_newest(node: Node) -> None:
    second = rotated_hand(node.first)
    back = rotated_hand(second, node.first.identity)
    # who knows the first key knows the newest one
    node.show(back)
    assert node.trusts(back)
    assert "ledger.rekeyed" not in [kind for kind, _ in node.acts]


def test_where_the_proof_begins_elsewhere_the_node_says_from_where_and_follows_nothing(
    node: Node,
) -> None:
    new = rotated_hand(node.first)
    with pytest.raises(StaleError) as stale:
        node.show(new, old=0)
    assert stale.value.size == SEEN
    assert not node.trusts(new)
    node.show(new)


# -- what is not ----------------------------------------------------------------------------------


def by_nobody(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The new key signed for itself."""
    thief = Identity.create(system_bytes)
    body = {
        "key": thief.public.hex(),
        "signature": thief.sign(ROTATION_DOMAIN, thief.public).hex(),
    }
    append(hand.store, "key.rotated", body, time_ms=0)
    made = replace(hand, identity=thief)
    return made, shown(made)


def for_another_key(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The old key signed, and for another key than the entry names."""
    thief, honest = (Identity.create(system_bytes) for _ in range(2))
    signature = hand.identity.sign(ROTATION_DOMAIN, honest.public).hex()
    body = {"key": thief.public.hex(), "signature": signature}
    append(hand.store, "key.rotated", body, time_ms=0)
    made = replace(hand, identity=thief)
    return made, shown(made)


def in_another_domain(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """What the old key signed as something else."""
    thief = Identity.create(system_bytes)
    body = {
        "key": thief.public.hex(),
        "signature": hand.identity.sign("consent", thief.public).hex(),
    }
    append(hand.store, "key.rotated", body, time_ms=0)
    made = replace(hand, identity=thief)
    return made, shown(made)


def not_in_the_ledger(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The old key signed, and the ledger has another entry there: nobody else would see it."""
    aside = replace(hand, store=MemoryLedger(list(hand.store.leaves())))
    new = rotated_hand(aside)
    grow(hand.store, 1)
    return replace(hand, identity=new.identity), shown(new)


def without_the_entry(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The new key signs, and no rotation is shown."""
    return rotated_hand(hand), ()


def without_the_first_of_two(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The chain has a gap."""
    new = rotated_hand(rotated_hand(hand))
    return new, shown(new)[1:]


def without_the_last_of_two(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The state is signed by a key that is not shown."""
    new = rotated_hand(rotated_hand(hand))
    return new, shown(new)[:1]


def out_of_order(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The chain is shown backwards."""
    new = rotated_hand(rotated_hand(hand))
    return new, shown(new)[::-1]


def twice(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """One rotation is shown twice."""
    new = rotated_hand(hand)
    return new, shown(new) * 2


def at_another_place(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The entry says another place than it has."""
    new = rotated_hand(hand)
    (one,) = shown(new)
    return new, (msgspec.structs.replace(one, index=one.index - 1),)


def with_another_proof(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The proof of inclusion is of another state."""
    new = rotated_hand(hand)
    told = shown(new)
    grow(new.store, 3)
    return new, told


def another_kind(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """An entry of another kind is shown as a rotation."""
    new = rotated_hand(hand)
    (one,) = shown(new)
    leaf = next(iter(hand.store.leaves(1, 2)))
    return new, (msgspec.structs.replace(one, leaf=leaf, index=1),)


def no_entry(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """What is shown is no entry at all."""
    new = rotated_hand(hand)
    (one,) = shown(new)
    return new, (msgspec.structs.replace(one, leaf=b'{"kind":"key.rotated"}'),)


def forked(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The rotation is in another ledger than the one that the node cosigned."""
    new = rotated_hand(fork(hand, SEEN - 1))
    return new, shown(new)


def forked_and_grown(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The same, longer."""
    new = rotated_hand(fork(hand, 2))
    grow(new.store, 5)
    return new, shown(new)


def shrunken(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The ledger was set back, and the rotation put where the node saw another entry."""
    new = rotated_hand(replace(hand, store=MemoryLedger(list(hand.store.leaves(0, SEEN - 2)))))
    return new, shown(new)


def shrunken_and_grown(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The same, with as many entries as before, and more."""
    new = rotated_hand(replace(hand, store=MemoryLedger(list(hand.store.leaves(0, SEEN - 2)))))
    grow(new.store, 4)
    return new, shown(new)


def of_another_name(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The state is of a ledger that the node does not follow."""
    new = rotated_hand(hand)
    return replace(new, origin="tacit/coordinator/another"), shown(new)


def by_the_old_key(hand: Hand) -> tuple[Hand, tuple[ShownRotation, ...]]:
    """The old key signs a state that has the rotation: it may not any more."""
    new = rotated_hand(hand)
    return hand, shown(new)


ATTACKS: list[Callable[[Hand], tuple[Hand, tuple[ShownRotation, ...]]]] = [
    by_nobody,
    for_another_key,
    in_another_domain,
    not_in_the_ledger,
    without_the_entry,
    without_the_first_of_two,
    without_the_last_of_two,
    out_of_order,
    twice,
    at_another_place,
    with_another_proof,
    another_kind,
    no_entry,
    forked,
    forked_and_grown,
    shrunken,
    shrunken_and_grown,
    of_another_name,
    by_the_old_key,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_node_is_moved_by_a_proven_rotation_alone(
    node: Node, attack: Callable[[Hand], tuple[Hand, tuple[ShownRotation, ...]]]
) -> None:
    before = node.acts
    honest = replace(node.first, store=MemoryLedger(list(node.first.store.leaves())))
    made, rotations = attack(node.first)
    for state in states(made):
        with pytest.raises(NotVerifiedError):
            node.watch.cosign(state, time_s=2, rotations=rotations)
        with pytest.raises(NotVerifiedError):
            node.watch.cosign(state, time_s=2, again=True, rotations=rotations)
    assert node.acts == before
    assert made.identity == node.first.identity or not node.trusts(made)
    # and what is honest goes on
    new = rotated_hand(honest)
    node.show(new)
    assert node.trusts(new)


def states(hand: Hand) -> list[SignedState]:
    """The newest state, with the proofs that somebody may try."""
    size = hand.store.size()
    whole = hand.state(old=min(SEEN, size))
    grown = tuple(prove_consistency(hand.store, min(SEEN, size), size))
    return [
        whole,
        msgspec.structs.replace(whole, old=SEEN, growth=grown),
        msgspec.structs.replace(whole, old=SEEN, growth=()),
        msgspec.structs.replace(whole, old=size, growth=()),
    ]


def test_the_old_key_alone_cannot_move_a_node_that_followed(node: Node) -> None:
    """Who stole the old key after the rotation signs for a key of its own, where it was."""
    first = replace(node.first, store=MemoryLedger(list(node.first.store.leaves())))
    node.show(rotated_hand(node.first))
    stolen = rotated_hand(first)
    grow(first.store, 3)
    before = node.acts
    for old in (0, SEEN, SEEN + 1):
        with pytest.raises(NotVerifiedError):
            node.show(stolen, old=old)
    assert node.acts == before
    assert not node.trusts(stolen)


def test_a_rotation_below_what_the_old_key_signed_is_refused(node: Node) -> None:
    """The ledger says that the key had changed before the state that the old key signed."""
    body = rotate(node.first.store, node.first.identity)
    grow(node.first.store, 2)
    # the node cosigns it under the old key, as nothing of the rotation is shown
    node.show(node.first, ())
    with pytest.raises(NotVerifiedError, match="and the key before signed 7 entries"):
        node.show(replace(node.first, identity=body), old=SEEN + 3)


# -- a witness ------------------------------------------------------------------------------------


@pytest.fixture
def witness(tmp_path: Path) -> Callable[[], Witness]:
    identity = Identity.create(system_bytes)
    key = cosigner_key("regulator", identity.public)
    return lambda: Witness(tmp_path / "memory.sqlite", key=key, sign=identity.sign_note)


def cosigned(made: Witness, state: SignedState, rotations: tuple[ShownRotation, ...] = ()) -> None:
    made.cosign(state.checkpoint, old=state.old, proof=state.growth, time_s=5, rotations=rotations)


def test_a_witness_follows_a_chain_and_remembers_all_keys(witness: Callable[[], Witness]) -> None:
    ledger = begun()
    keys = [log_key(ledger.origin, ledger.identity.public)]
    witness().trust(keys[0], origin=ledger.origin)
    cosigned(witness(), ledger.state())
    new = rotated_hand(rotated_hand(ledger))
    cosigned(witness(), new.state(old=SEEN), shown(new))
    newest = log_key(new.origin, new.identity.public)
    assert witness().key_of(ledger.origin) == newest
    head = witness().head(ledger.origin)
    assert head == open_checkpoint(new.state().checkpoint, newest)
    before, *past = remembered_keys(witness().path, ledger.origin)
    assert before == newest
    assert len(past) == 2
    assert keys[0] in past
    assert newest not in past
    # it was told the first key at its start, and is told it again
    witness().trust(keys[0], origin=ledger.origin)
    witness().trust(newest, origin=ledger.origin)
    stranger = log_key(ledger.origin, Identity.create(system_bytes).public)
    with pytest.raises(NotVerifiedError, match="is pinned to"):
        witness().trust(stranger, origin=ledger.origin)
    # an older state under an older key is no news, and no forgery
    with pytest.raises(StaleError):
        cosigned(witness(), ledger.state(SEEN, old=SEEN))
    # the same one, or a newer one, under an older key is one
    with pytest.raises(BadSignatureError):
        cosigned(witness(), ledger.state(old=SEEN + 2))
    grow(ledger.store, 1)
    with pytest.raises(BadSignatureError):
        cosigned(witness(), ledger.state(old=SEEN + 2), shown(ledger))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_witness_is_moved_by_a_proven_rotation_alone(
    witness: Callable[[], Witness], attack: Callable[[Hand], tuple[Hand, tuple[ShownRotation, ...]]]
) -> None:
    ledger = begun()
    key = log_key(ledger.origin, ledger.identity.public)
    witness().trust(key, origin=ledger.origin)
    cosigned(witness(), ledger.state())
    before = witness().head(ledger.origin)
    honest = replace(ledger, store=MemoryLedger(list(ledger.store.leaves())))
    made, rotations = attack(ledger)
    for state in states(made):
        with pytest.raises(NotVerifiedError):
            cosigned(witness(), state, rotations)
    assert (witness().head(ledger.origin), witness().key_of(ledger.origin)) == (before, key)
    new = rotated_hand(honest)
    cosigned(witness(), new.state(old=SEEN), shown(new))
