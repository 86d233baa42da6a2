"""A coordinator's ledger whose key changes; for tests only."""

from dataclasses import replace

from support.direct import Direct, Notes
from support.records import Hand

from federation.ledger_recorder import LedgerRecorder
from privacy.identity import Identity
from privacy.ledger.grammar import ROTATION_DOMAIN
from privacy.ledger.store import LedgerStore, append, prove_inclusion
from privacy.messages import ShownRotation
from privacy.randomness import system_bytes


def rotate(store: LedgerStore, old: Identity, new: Identity | None = None) -> Identity:
    """The old key signs in the ledger for a new one, which is returned."""
    made = new or Identity.create(system_bytes)
    body = {"key": made.public.hex(), "signature": old.sign(ROTATION_DOMAIN, made.public).hex()}
    append(store, "key.rotated", body, time_ms=0)
    return made


def rotated_hand(hand: Hand, new: Identity | None = None) -> Hand:
    """The same ledger, under a new key from its next entry on."""
    return replace(hand, identity=rotate(hand.store, hand.identity, new))


def shown(hand: Hand, size: int | None = None) -> tuple[ShownRotation, ...]:
    """All rotations in a ledger, as they are in the state of `size` entries."""
    count = hand.store.size() if size is None else size
    return tuple(
        ShownRotation(leaf=leaf, index=index, path=prove_inclusion(hand.store, index, count))
        for index, leaf in enumerate(hand.store.leaves(0, count))
        if b'"kind":"key.rotated"' in leaf
    )


def next_run(run: Direct, name: str, *, rotations: int = 1, restarted: bool = False) -> Direct:
    """The next run of a federation whose ledger changed its key so often before."""
    kept = run.notes.recorder
    identity = kept.identity
    for _ in range(rotations):
        identity = rotate(kept.store, identity)
    following = run.again(name, restarted=restarted)
    following.notes = Notes(LedgerRecorder(kept.store, identity))
    ledger = {"origin": kept.origin, "key": identity.public.hex()}
    following.manifest = replace(following.manifest, ledger=ledger)
    return following
