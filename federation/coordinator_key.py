"""Another key for the coordinator's ledger, which the one before signs for.

    <home>/coordinator.pem        who signs the ledger
    <home>/coordinator.next.pem   who will; only while a rotation is under way

The new key is on disk before the old one signs for it, and takes its place only once that is in the
ledger, by one rename. So whatever ends the process in between, exactly one of both files is the key
that the ledger has, and the ledger says which; `settle_key` goes by that.

The old key is destroyed with that rename: from there on it signs nothing that anybody believes, and
what it signed before is verified by its public key, which the ledger has. A copy of it is of no use
but to whoever would show new members an older ledger.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from federation.home import Home
from federation.ledger_place import open_store
from federation.ledger_recorder import COORDINATOR, trusted_tree
from federation.runs.facts import INTERRUPTED, facts_of, ordered_runs
from federation.runs.order import read_order
from privacy.errors import InputError, RefusedError, TacitError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.checkpoint import Checkpoint, sign_checkpoint
from privacy.ledger.entry import key_of, parse_leaf
from privacy.ledger.grammar import ROTATION_DOMAIN
from privacy.ledger.keys import log_key
from privacy.ledger.merkle import Frontier
from privacy.ledger.rotation import key_history, rotations_among
from privacy.ledger.store import LedgerStore, append, checked_frontier
from privacy.randomness import Entropy

WAITING: Final = "coordinator.next.pem"


class Settled(Enum):
    """What became of a rotation that was cut short; its value is a sentence for people."""

    NOTHING = ""
    FINISHED = "A rotation of the ledger's key that was cut short is finished: the new key signs."
    DROPPED = (
        "A rotation of the ledger's key that was cut short is undone, as it was not on record: the "
        "old key signs on; rotate again with tacit coordinator rotate-key."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The ledger has another key.

    Attributes:
        origin: The ledger's name, which stays.
        old: The key that it had, 32 bytes.
        new: The key that it has.
        entries: Of the first state that the new key signed.
        finished: Whether the rotation had been begun, and cut short, before.
    """

    origin: str
    old: bytes
    new: bytes
    entries: int
    finished: bool


def settle_key(home: Home) -> Settled:
    """Finish a rotation that was cut short, or undo it where it is not on record.

    Args:
        home: The coordinator's, which the caller holds.

    Raises:
        InputError: A file cannot be read or moved.
        NotVerifiedError: What is there is no ledger.
    """
    waiting = home.root / WAITING
    if not waiting.exists():
        return Settled.NOTHING
    public = Identity.load(waiting).public.hex()
    rotations = rotations_among(open_store(home.ledger_place).leaves())
    if rotations and parse_leaf(rotations[-1][1]).body["key"] == public:
        _take_its_place(home)
        return Settled.FINISHED
    waiting.unlink()
    return Settled.DROPPED


def rotate_key(home: Home, *, entropy: Entropy, now_ms: Callable[[], int]) -> Rotated:
    """Make a new key for the ledger, and let the old one sign for it there.

    Where a rotation was begun, and cut short, that one is finished, and no other is begun.

    Args:
        home: The coordinator's.
        entropy: For the new key.
        now_ms: Milliseconds since 1970 UTC.

    Raises:
        RefusedError: The coordinator is running, a run that names the old key can go on, or the key
            in the home is not the ledger's.
        InputError: There is no ledger, or a file cannot be written.
        NotVerifiedError: The ledger is not what was signed; then nothing is changed.
    """
    try:
        with home.exclusive():
            return _rotated(home, entropy, now_ms)
    except RefusedError as failure:
        if "Another run is using" not in str(failure):
            raise
        raise RefusedError(
            f"The coordinator of {home.root} is running and would go on with its old key; stop it, "
            "and rotate again."
        ) from None


def _rotated(home: Home, entropy: Entropy, now_ms: Callable[[], int]) -> Rotated:
    if not home.coordinator.exists():
        raise InputError(
            f"{home.root} is no coordinator's home; set TACIT_HOME to where its ledger is kept."
        )
    settled = settle_key(home)
    store = open_store(home.ledger_place)
    if not store.size():
        raise InputError(f"{home.root}: there is no ledger yet, so there is no key to rotate.")
    identity = Identity.load(home.coordinator)
    origin = begin_ledger(store, identity, owner=COORDINATOR, role=COORDINATOR, time_ms=now_ms())
    if settled is not Settled.FINISHED:
        _require_idle(home, store)
        # nothing is signed for in a ledger that is not what was signed before
        _checked(store, origin)
        new = Identity.create(entropy)
        _wait(home, new)
        body = {
            "key": new.public.hex(),
            "signature": identity.sign(ROTATION_DOMAIN, new.public).hex(),
        }
        append(store, "key.rotated", body, time_ms=now_ms())
        _take_its_place(home)
        identity = new
    keys = key_history(store.leaves())
    return Rotated(
        origin=origin,
        old=keys[-2][1],
        new=identity.public,
        entries=_sign_state(store, origin, identity),
        finished=settled is Settled.FINISHED,
    )


def _require_idle(home: Home, store: LedgerStore) -> None:
    """A manifest names the ledger's key, so a run lives no longer than that."""
    for run in ordered_runs(home):
        folder = home.runs / run
        try:
            order = read_order(folder)
        except TacitError:
            continue  # nobody goes on with what cannot be read
        if facts_of(order, folder, is_carried_out=False).state != INTERRUPTED:
            continue
        key = key_of("run.stopped", {"run": run})
        with store.turn(durable=False) as turn:
            stopped = key is not None and turn.find(key) is not None
        if not stopped:
            raise RefusedError(
                f"{run} has not ended and names the ledger's old key; start the coordinator and "
                f"let it end, or stop it with tacit run stop {run}, and rotate then."
            )


def _wait(home: Home, new: Identity) -> None:
    new.save(home.root / WAITING)


def _take_its_place(home: Home) -> None:
    try:
        (home.root / WAITING).replace(home.coordinator)
        _sync(home)
    except OSError as failure:
        raise InputError(
            f"{home.coordinator}: cannot be replaced ({failure.strerror}); the new key waits in "
            f"{WAITING} beside it, and takes its place with the next start."
        ) from None


def _sync(home: Home) -> None:
    """Have the folder's names on disk."""
    if os.name != "posix":
        return
    folder = os.open(home.root, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checked(store: LedgerStore, origin: str) -> Checkpoint:
    """The ledger as it is now, which begins with what was signed last; every entry is hashed."""
    size = store.size()
    trusted_tree(store, origin, key_history(store.leaves()))
    return Checkpoint(origin, size, checked_frontier(store, since=Frontier(), size=size).root())


def _sign_state(store: LedgerStore, origin: str, identity: Identity) -> int:
    """Let the new key sign the ledger, so that whoever asks is shown it from now on."""
    state = _checked(store, origin)
    key = log_key(origin, identity.public)
    store.keep_checkpoint(state.size, sign_checkpoint(state, key=key, sign=identity.sign_note))
    return state.size
