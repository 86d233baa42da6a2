"""A ledger with its key: what begins it, signs its states, and keeps who cosigned them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aggregator.ports import Recorded, State
from federation.evidence import told_heads
from privacy.errors import NotVerifiedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint_text,
    sign_checkpoint,
    verify_cosignature,
    with_cosignatures,
)
from privacy.ledger.entry import key_of
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.merkle import Frontier, frontier_at
from privacy.ledger.note import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    NoteSignature,
    VerifierKey,
    parse_note,
)
from privacy.ledger.store import (
    LedgerStore,
    SharedLedger,
    append,
    append_once,
    checked_frontier,
    prove_consistency,
    prove_inclusion,
)

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
    _tree: Frontier = field(init=False)
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
        self._tree = _trusted(self.store, self.key)

    @property
    def key(self) -> VerifierKey:
        """The key of its signed states."""
        return log_key(self.origin, self.identity.public)

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        """See the port."""
        append(self.store, kind, dict(body), time_ms=now_ms())
        if kind == "run.started":
            self.unfinished.append(str(body["run"]))
        elif kind in {"run.finished", "run.stopped"}:
            self.unfinished.remove(str(body["run"]))

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
        size = self.store.size()
        self._tree = checked_frontier(self.store, since=self._tree, size=size)
        checkpoint = Checkpoint(self.origin, size, self._tree.root())
        note = sign_checkpoint(checkpoint, key=self.key, sign=self.identity.sign_note)
        return State(size, note)

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
        kept = dict(self.store.checkpoints())
        before = kept.get(state.size, state.note)
        note = with_cosignatures(before, _that_fit(before, lines))
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
        self.unfinished.remove(run)

    def heads(self) -> Mapping[bytes, int]:
        """See the port."""
        return told_heads(self.store.leaves())

    def _others(self, run: str) -> set[int]:
        return {size for name, (size, _) in self._kept.items() if name != run}


def _that_fit(note: bytes, lines: Sequence[NoteSignature]) -> list[NoteSignature]:
    """As many of these cosignatures as a note has room for; two thirds of 382 members fit."""
    there = {(one.name, one.key_id) for one in parse_note(note).signatures}
    count, size_bytes = SIGNATURES_MAX - len(there), NOTE_BYTES_MAX - len(note)
    fit: list[NoteSignature] = []
    for line in lines:
        if (line.name, line.key_id) not in there:
            count, size_bytes = count - 1, size_bytes - len(line.to_line().encode())
        if count >= 0 and size_bytes >= 0:
            fit.append(line)
    return fit


def _trusted(store: LedgerStore, key: VerifierKey) -> Frontier:
    """The tree at the newest state that this key signed; the empty one if there is none.

    Raises:
        NotVerifiedError: The store has other entries than were signed; another state beside that
            one would be a second history.
    """
    kept = store.checkpoints()
    if not kept:
        return Frontier()
    size, note = kept[-1]
    state = open_checkpoint(note, key)
    tree = frontier_at(store.node, size)
    if (state.origin, state.size, state.root) != (key.name, size, tree.root()):
        raise NotVerifiedError(
            f"{store.place} is not what was signed at {size} entries; restore it from a copy"
        )
    return tree


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
