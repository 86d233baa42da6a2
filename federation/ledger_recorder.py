"""A ledger with its key: what begins it, signs its states, and keeps who cosigned them."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from aggregator.ports import Recorded, State
from federation.evidence import told_heads
from privacy.errors import NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint_text,
    sign_checkpoint,
    verify_cosignature,
    with_room,
)
from privacy.ledger.entry import key_of, parse_leaf
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.merkle import Frontier, frontier_at
from privacy.ledger.note import NoteSignature, VerifierKey, parse_note
from privacy.ledger.rotation import key_at, key_history, rotations_among
from privacy.ledger.store import (
    LedgerStore,
    SharedLedger,
    Turn,
    append,
    append_once,
    checked_frontier,
    prove_consistency,
    prove_inclusion,
)
from privacy.membership import Membership, after

COORDINATOR: Final = "coordinator"


@dataclass(slots=True)
class LedgerRecorder:
    """`aggregator.ports.Ledger` over a store, the coordinator's identity and this machine's clock.

    `unfinished` holds the runs that were started here and have not ended.
    """

    store: LedgerStore
    identity: Identity
    origin: str = field(init=False)
    unfinished: list[str] = field(default_factory=list)
    _mutex: threading.RLock = field(default_factory=threading.RLock)
    _floor: threading.RLock = field(default_factory=threading.RLock)
    _witnessed: dict[bytes, int] = field(default_factory=dict)
    _membership: Membership | None = None
    _acts_read: int = 0
    _tree: Frontier = field(init=False)
    _rotations: list[tuple[int, bytes]] = field(init=False)
    _kept: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin the ledger where it is new; take it over where others may write to it too.

        Raises:
            RefusedError: It is another's.
            NotVerifiedError: It is not what was written.
        """
        self.origin = begin_ledger(
            self.store, self.identity, owner=COORDINATOR, role=COORDINATOR, time_ms=now_ms()
        )
        if isinstance(self.store, SharedLedger):
            self.store.take_over(time_ms=now_ms())
        leaves = self.store.leaves()
        first = next(leaves)
        self._rotations = rotations_among(leaves, 1)
        keys = key_history((first, *(leaf for _, leaf in self._rotations)))
        self._tree = trusted_tree(self.store, self.origin, keys)

    @property
    def key(self) -> VerifierKey:
        """The key of its signed states."""
        return log_key(self.origin, self.identity.public)

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        """See the port."""
        if kind == "run.started":
            self._start(body)
        else:
            append(self.store, kind, dict(body), time_ms=now_ms())
        if kind == "run.started":
            self._begun(str(body["run"]))
        elif kind in {"run.finished", "run.stopped"}:
            self._ended(str(body["run"]))

    def _start(self, body: Mapping[str, object]) -> None:
        """Put a run on record, if all of its people take part in the federation at that moment.

        Raises:
            RefusedError: One does not, or not with that key any more.
        """
        with self._mutex, self.store.turn() as turn:
            key = key_of("run.started", body)
            if key is None or turn.find(key) is None:
                self._read_acts(turn)
                if self._membership is not None:
                    _require_participants(self._membership, body)
            append_once(turn, "run.started", dict(body), time_ms=now_ms())

    def _read_acts(self, turn: Turn) -> None:
        for leaf in turn.leaves(self._acts_read):
            # a look at the bytes spares parsing every entry
            if b'"kind":"member.' in leaf or b'"kind":"federation.' in leaf:
                self._membership = after(self._membership, parse_leaf(leaf))
        self._acts_read = turn.size

    def recorded(self, kind: str, about: Mapping[str, object]) -> Mapping[str, object] | None:
        """See the port."""
        key = key_of(kind, about)
        if key is None:
            return None
        with self.store.turn(durable=False) as turn:
            found = turn.find(key)
        return None if found is None else found.body

    @contextmanager
    def showing(self) -> Iterator[None]:
        """See the port."""
        with self._floor:
            yield

    def witnessed(self, public: bytes) -> int:
        """See the port."""
        with self._mutex:
            return self._witnessed.get(public, 0)

    def note_witnessed(self, public: bytes, size: int) -> None:
        """See the port."""
        with self._mutex:
            self._witnessed[public] = max(size, self._witnessed.get(public, 0))

    def _begun(self, run: str) -> None:
        with self._mutex:
            if run not in self.unfinished:
                self.unfinished.append(run)

    def _ended(self, run: str) -> None:
        with self._mutex:
            if run in self.unfinished:
                self.unfinished.remove(run)

    def reserve(self, bodies: Sequence[Mapping[str, object]]) -> Sequence[Recorded]:
        """See the port."""
        with self.store.turn() as turn:
            entries = [
                append_once(turn, "sum.reserved", dict(body), time_ms=now_ms()) for body in bodies
            ]
        state = self.state()
        return [
            Recorded(
                leaf=entry.leaf(),
                index=entry.index,
                path=prove_inclusion(self.store, entry.index, state.size),
                state=state,
            )
            for entry in entries
        ]

    def state(self) -> State:
        """See the port. The leaves since the last state are read from disk and hashed anew."""
        with self._mutex:
            size = self.store.size()
            self._tree = checked_frontier(self.store, since=self._tree, size=size)
            checkpoint = Checkpoint(self.origin, size, self._tree.root())
        note = sign_checkpoint(checkpoint, key=self.key, sign=self.identity.sign_note)
        return State(size, note)

    def rotations(self, state: State) -> Sequence[Recorded]:
        """See the port. Nobody changes the key while this is in use."""
        return [
            Recorded(
                leaf=leaf,
                index=index,
                path=prove_inclusion(self.store, index, state.size),
                state=state,
            )
            for index, leaf in self._rotations
        ]

    def growth(self, old: int, state: State) -> tuple[bytes, ...]:
        """See the port."""
        return prove_consistency(self.store, old, state.size) if old <= state.size else ()

    def cosigned(
        self, run: str, state: State, cosignatures: Mapping[str, tuple[bytes, bytes]]
    ) -> None:
        """See the port."""
        checkpoint = parse_checkpoint_text(parse_note(state.note).text)
        lines: list[NoteSignature] = []
        for member, (public, signature) in cosignatures.items():
            key = cosigner_key(member, public)
            line = NoteSignature(key.name, key.key_id, signature)
            verify_cosignature(checkpoint, key, line)
            lines.append(line)
        note = with_room(state.note, lines)
        with self._mutex:
            # others cosign the same state here, and the registry signs it: the store joins all
            self.store.keep_checkpoint(state.size, note)
            last, many = self._kept.get(run, (state.size, 0))
            # a state with more cosignatures says of the sums before it what this one may not
            spare = last not in self._others(run) and many <= len(cosignatures)
            if last != state.size and spare:
                self.store.drop_checkpoint(last)
            self._kept[run] = state.size, len(cosignatures)

    def stop(self, run: str, reason: str) -> None:
        """Record that a run ended early, unless its end is on record.

        Whoever is interrupted while an entry is written does not know whether it was.
        """
        with self.store.turn() as turn:
            ends = (key_of(kind, {"run": run}) for kind in ("run.finished", "run.stopped"))
            if not any(key is not None and turn.find(key) for key in ends):
                turn.append("run.stopped", {"run": run, "reason": reason}, time_ms=now_ms())
        self._ended(run)

    def heads(self) -> Mapping[bytes, int]:
        """See the port."""
        return told_heads(self.store.leaves())

    def _others(self, run: str) -> set[int]:
        return {size for name, (size, _) in self._kept.items() if name != run}


def _require_participants(membership: Membership, body: Mapping[str, object]) -> None:
    """Return if an auditor will find all of a run's people in the federation; see `privacy.verify`.

    Raises:
        RefusedError: They are not.
    """
    known, said = membership.members(), body["members"]
    keys = said if isinstance(said, dict) else {}
    for member, key in keys.items():
        if member not in known or known[member].hex() != key:
            raise RefusedError(
                f"{member} takes no part in this federation with the key that the run names; "
                "launch the run anew."
            )
    if not membership.may_launch(bytes.fromhex(str(body["launcher"]))):
        raise RefusedError("Who signed this run may launch none in this federation.")


def trusted_tree(store: LedgerStore, origin: str, keys: Sequence[tuple[int, bytes]]) -> Frontier:
    """The tree at the newest state that the ledger's key signed; the empty one if there is none.

    Raises:
        NotVerifiedError: The store has other entries than were signed; another state beside that
            one would be a second history.
    """
    kept = store.checkpoints()
    if not kept:
        return Frontier()
    size, note = kept[-1]
    state = open_checkpoint(note, log_key(origin, key_at(keys, size)))
    tree = frontier_at(store.node, size)
    if (state.origin, state.size, state.root) != (origin, size, tree.root()):
        raise NotVerifiedError(
            f"{store.place} is not what was signed at {size} entries; restore it from a copy"
        )
    return tree


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
