"""A node's eye on the coordinator's ledger: nothing is opened that is not on record there.

Before it signs who a sum is over, the node sees the entry that says what the sum costs, its proof,
and that the ledger only grew since the node looked last; it remembers that state, on disk, and
cosigns it. Before it reveals what opens the sum, it sees that more than two thirds of the holders
of its shares cosigned the same state. So a coordinator that leaves a sum out, shows two ledgers,
or sets its own back, opens nothing.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from privacy.errors import CohortError, NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.ledger.checkpoint import open_checkpoint, verify_cosignature
from privacy.ledger.entry import parse_leaf
from privacy.ledger.keys import cosigner_key
from privacy.ledger.merkle import leaf_hash, verify_inclusion
from privacy.ledger.note import NoteSignature, VerifierKey
from privacy.ledger.witness import StaleError, Witness
from privacy.messages import RecordedSum, SignedState
from privacy.secure_sum.cohort import Cohort


class LedgerWatch:
    """What a node remembers of the coordinator's ledger; see the module."""

    def __init__(self, path: Path, *, member: str, identity: Identity) -> None:
        """Open the memory, or begin one.

        Raises:
            RefusedError: The file cannot be used.
        """
        key = cosigner_key(member, identity.public)
        self._witness = Witness(path, key=key, sign=identity.sign_note)

    def trust(self, log: VerifierKey, *, allowed: Collection[str]) -> None:
        """Follow a ledger: the first that a run names, and later no other unless it is allowed.

        Raises:
            RefusedError: This node follows another one, or the same under another key.
        """
        known = self._witness.origins()
        if known and log.name not in known and log.name not in allowed:
            raise RefusedError(
                f"This node follows the ledger {known[0]}, and the run names {log.name}; where "
                "a new one was begun, add it to ledgers in the node's policy."
            )
        try:
            self._witness.trust(log, origin=log.name)
        except NotVerifiedError as fault:
            raise RefusedError(f"The run's ledger has another key than before: {fault}.") from None

    def seen(self, origin: str) -> int:
        """Entries of the ledger when this node cosigned it last; 0 of one that it does not know."""
        return self._witness.seen(origin)

    def cosign(self, state: SignedState, *, time_s: int) -> bytes:
        """Remember a state of the ledger, durably, and return the cosignature, 72 bytes.

        Raises:
            StaleError: The proof begins at another size than this node remembers.
            NotVerifiedError: It does not follow on what this node cosigned before.
            RefusedError: It cannot be remembered.
        """
        return self._witness.cosign(
            state.checkpoint, old=state.old, proof=state.growth, time_s=time_s
        ).signature


def require_on_record(
    record: RecordedSum, log: VerifierKey, expected: Mapping[str, object], *, member: str
) -> None:
    """Return if the ledger has this very sum, with what it costs and this node's own head.

    Args:
        record: The entry as it was shown.
        log: Who signs the ledger.
        expected: Each field of `sum.reserved`; of `nodes`, what must be said of `member`.
        member: This node.

    Raises:
        ProtocolError: The entry says something else, or is not in the signed state.
    """
    try:
        entry = parse_leaf(record.leaf)
        state = open_checkpoint(record.state.checkpoint, log)
        verify_inclusion(leaf_hash(record.leaf), record.index, state.size, record.path, state.root)
    except NotVerifiedError as fault:
        raise ProtocolError(f"The sum is not in the coordinator's ledger: {fault}.") from None
    if state.origin != log.name:
        raise ProtocolError("The coordinator showed a state of another ledger than the run's.")
    if entry.kind != "sum.reserved" or entry.index != record.index:
        raise ProtocolError("The coordinator showed another entry than the sum's.")
    said = dict(entry.body)
    nodes = said.pop("nodes")
    own = dict(expected)
    head = own.pop("nodes")
    wrong = [name for name, value in own.items() if said[name] != value]
    if not isinstance(nodes, dict) or nodes.get(member) != head:
        wrong.append("nodes")
    if wrong:
        raise ProtocolError(
            f"The coordinator's ledger says something else of this sum: {', '.join(wrong)}."
        )


def require_cosigned(
    record: RecordedSum,
    log: VerifierKey,
    cosignatures: Mapping[str, bytes],
    cohort: Cohort,
    *,
    member: str,
) -> None:
    """Return if more than two thirds of the holders of this node's shares cosigned that state.

    Raises:
        CohortError: Fewer did.
        ProtocolError: A cosignature does not hold, or is of nobody who is asked.
    """
    state = open_checkpoint(record.state.checkpoint, log)
    for name, signature in cosignatures.items():
        if name not in cohort.members:
            raise ProtocolError(f"{name} is not asked for this sum, and cosigns nothing.")
        key = cosigner_key(name, cohort.roster.directory[name])
        try:
            verify_cosignature(state, key, NoteSignature(key.name, key.key_id, signature))
        except NotVerifiedError:
            raise ProtocolError(
                f"{name} did not cosign the ledger that this node was shown; the coordinator may "
                "have shown two. Compare the members' logs, and launch again."
            ) from None
    held = len(set(cosignatures).intersection(cohort.holders(member)))
    needed = cohort.threshold(member)
    if held < needed:
        raise CohortError(
            f"{held} members cosigned the ledger that has this sum, and {needed} are needed."
        )


__all__ = ["LedgerWatch", "StaleError", "require_cosigned", "require_on_record"]
