"""What a coordinator that holds its ledger's key can put on record, and in which ledger.

For tests only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.direct import Direct

from clients.node import Node
from privacy.identity import Identity
from privacy.ledger.checkpoint import Checkpoint, sign_checkpoint
from privacy.ledger.head import HEAD_DOMAIN, LedgerHead, head_message
from privacy.ledger.keys import log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.store import (
    LedgerStore,
    append,
    head_of,
    prove_consistency,
    prove_inclusion,
)
from privacy.messages import RecordedSum, SignedState


@dataclass
class Hand:
    """A ledger and who signs it, as a hostile coordinator likes.

    Attributes:
        store: The entries.
        identity: Signs.
        origin: Under which name.
    """

    store: LedgerStore
    identity: Identity
    origin: str

    def state(self, size: int | None = None, *, old: int = 0) -> SignedState:
        """The first `size` entries, all by default, as one sees them who remembers `old`."""
        head = head_of(self.store, size)
        key = log_key(self.origin, self.identity.public)
        checkpoint = Checkpoint(self.origin, head.leaves, bytes.fromhex(head.root))
        note = sign_checkpoint(checkpoint, key=key, sign=self.identity.sign_note)
        growth = prove_consistency(self.store, old, head.leaves) if old <= head.leaves else ()
        return SignedState(checkpoint=note, old=old, growth=growth)

    def shown(self, index: int, *, old: int, size: int | None = None) -> RecordedSum:
        """An entry with its proof in that state."""
        count = self.store.size() if size is None else size
        return RecordedSum(
            leaf=list(self.store.leaves(index, index + 1))[0],  # noqa: RUF015 - a Protocol's iterator
            index=index,
            path=prove_inclusion(self.store, index, count),
            state=self.state(count, old=old),
        )

    def recorded(self, body: Mapping[str, Any], *, old: int) -> RecordedSum:
        """Put one sum on record, and show it."""
        entry = append(self.store, "sum.reserved", dict(body), time_ms=0)
        return self.shown(entry.index, old=old)


def own_hand(run: Direct) -> Hand:
    """The ledger that the run's coordinator really keeps; what is put there stays there."""
    recorder = run.notes.recorder
    return Hand(recorder.store, recorder.identity, recorder.origin)


def copied_hand(run: Direct, leaves: Sequence[bytes] | None = None) -> Hand:
    """Another ledger under the same name and key, with the same entries or those."""
    recorder = run.notes.recorder
    taken = list(recorder.store.leaves()) if leaves is None else leaves
    return Hand(MemoryLedger(taken), recorder.identity, recorder.origin)


def seen_by(run: Direct, node: Node) -> int:
    """Entries of the coordinator's ledger when the node cosigned it last."""
    return node._books.watch().seen(run.notes.recorder.origin)


def signed_head(identity: Identity, context: bytes, head: LedgerHead) -> dict[str, Any]:
    """What a node says of its own ledger with a vector, as it is put on record."""
    signature = identity.sign(HEAD_DOMAIN, head_message(context, head))
    return {"leaves": head.leaves, "root": head.root, "signature": signature.hex()}


def heads_of(nodes: Mapping[str, Node], run: bytes) -> dict[str, dict[str, Any]]:
    """The nodes' own ledgers, as they told them with the vectors under way."""
    heads: dict[str, dict[str, Any]] = {}
    for name, node in nodes.items():
        session = node._sessions[run]
        assert session.head is not None
        assert session.step is not None
        context = session.step.contexts[session.step.of(name)].digest()
        heads[name] = signed_head(node._settings.identity, context, session.head)
    return heads


def body_of(node: Node, run: bytes, heads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What an honest coordinator records of the sum that is under way at a node."""
    session = node._sessions[run]
    step = session.step
    assert step is not None
    mine = step.of(node.member)
    context = step.contexts[mine]
    manifest = session.manifest
    return {
        "run": manifest.run,
        "step": step.name,
        "round": step.round,
        "asked": list(step.cohorts[mine].members),
        "schema": context.schema.hex(),
        "model": context.model.hex(),
        "context": context.digest().hex(),
        "protection": manifest.protection,
        "receipt": manifest.receipt(step.name, step.round, step.length).to_json(),
        "nodes": dict(heads),
    }
