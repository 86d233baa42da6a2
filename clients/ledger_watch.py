"""A node's eye on the coordinator's ledger: nothing is opened that is not on record there.

Before it signs who a sum is over, the node sees the entry that says what the sum costs, its proof,
and that the ledger only grew since the node looked last; it remembers that state, in its own
ledger, durably, and cosigns it. Before it reveals what opens the sum, it sees that more than two
thirds of the run's members cosigned the same state. So a coordinator that leaves a sum out, shows
two ledgers, or sets its own back, opens nothing; and an auditor who has one node's ledger finds
what the coordinator's does not say. It follows the ledger to a new key where it is shown how the
old one signed for that, in a state that follows on what it cosigned; not on anybody's word.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from privacy.errors import (
    CohortError,
    InputError,
    NotVerifiedError,
    OwnFileError,
    ProtocolError,
    RefusedError,
)
from privacy.identity import Identity
from privacy.ledger.checkpoint import (
    Checkpoint,
    cosign,
    open_checkpoint,
    parse_checkpoint_text,
    verify_cosignature,
)
from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.merkle import EMPTY_ROOT, leaf_hash, verify_inclusion
from privacy.ledger.note import NoteSignature, VerifierKey, parse_note
from privacy.ledger.rotation import Shown, keys_after
from privacy.ledger.store import LedgerStore, Turn
from privacy.ledger.witness import StaleError, check_follows
from privacy.messages import RecordedSum, SignedState
from privacy.secure_sum.cohort import Cohort


@dataclass(slots=True)
class _Followed:
    """A ledger that this node follows, as it cosigned it last."""

    key: VerifierKey
    state: Checkpoint
    time_ms: int = 0


class LedgerWatch:
    """What a node remembers of the coordinator's ledger; see the module."""

    def __init__(
        self,
        ledger: LedgerStore,
        *,
        member: str,
        identity: Identity,
        now_ms: Callable[[], int],
    ) -> None:
        """Remember by the node's own ledger, which was begun.

        Args:
            ledger: The node's own.
            member: The node's name.
            identity: The node's, which cosigns.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._ledger = ledger
        self._key = cosigner_key(member, identity.public)
        self._identity = identity
        self._now_ms = now_ms
        self._followed: dict[str, _Followed] = {}
        self._read = 0

    def trust(self, log: VerifierKey, *, allowed: Collection[str]) -> None:
        """Follow a ledger: the first that a run names, and later no other unless it is allowed.

        Raises:
            RefusedError: This node follows another one, or the same under another key; or its own
                ledger cannot be used.
        """
        self._follow(log, allowed=allowed, remember=True)

    def check(self, log: VerifierKey, *, allowed: Collection[str]) -> None:
        """Return if `trust` would follow that ledger; nothing is remembered.

        Raises:
            RefusedError: As for `trust`.
        """
        self._follow(log, allowed=allowed, remember=False)

    def _follow(self, log: VerifierKey, *, allowed: Collection[str], remember: bool) -> None:
        body = {"origin": log.name, "key": log.public.hex()}
        try:
            with self._ledger.turn(durable=remember) as turn:
                self._refresh(turn)
                known = self._followed.get(log.name)
                if known is not None and known.key != log:
                    raise RefusedError(
                        f"The run's ledger {log.name} has another key than the one that this node "
                        "follows, and it was not shown how the one led to the other; ask its "
                        "operator."
                    )
                if known is None and self._followed and log.name not in allowed:
                    first = next(iter(self._followed))
                    raise RefusedError(
                        f"This node follows the ledger {first}, and the run names {log.name}; "
                        "where a new one was begun, add it to ledgers in the node's policy."
                    )
                if known is None and remember:
                    turn.append("ledger.followed", body, time_ms=self._now_ms())
        except InputError as failure:
            raise OwnFileError(f"{failure}; this node follows no ledger then.") from None

    def seen(self, origin: str) -> int:
        """Entries of the ledger when this node cosigned it last; 0 of one that it does not know.

        Raises:
            InputError: The node's own ledger cannot be read.
        """
        with self._ledger.turn(durable=False) as turn:
            self._refresh(turn)
        known = self._followed.get(origin)
        return 0 if known is None else known.state.size

    def follows(self, origin: str) -> bool:
        """Whether this node follows that ledger.

        Raises:
            InputError: The node's own ledger cannot be read.
        """
        with self._ledger.turn(durable=False) as turn:
            self._refresh(turn)
        return origin in self._followed

    def cosign(
        self,
        state: SignedState,
        *,
        time_s: int,
        again: bool = False,
        rotations: Sequence[Shown] = (),
    ) -> bytes:
        """Remember a state of the ledger, durably, and return the cosignature, 72 bytes.

        Args:
            state: As it is shown.
            time_s: Seconds since 1970 UTC.
            again: Whether the very state that is remembered is cosigned whatever its proof, as the
                answer may have been lost.
            rotations: Changes of the ledger's key that are in the state. With the state, the newest
                key is remembered, and from then on no other is taken.

        Raises:
            StaleError: The proof begins at another size than this node remembers.
            NotVerifiedError: It does not follow on what this node cosigned before, or the key that
                signed it does not follow on the one that signed that.
            RefusedError: It cannot be remembered; it was not cosigned.
        """
        shown = parse_checkpoint_text(parse_note(state.checkpoint).text)
        try:
            with self._ledger.turn() as turn:
                self._refresh(turn)
                known = self._followed.get(shown.origin)
                if known is None:
                    raise NotVerifiedError(f"this node does not follow the ledger {shown.origin}")
                keys = keys_after(known.key, rotations, shown, seen=known.state.size)
                open_checkpoint(state.checkpoint, keys[-1].key if keys else known.key)
                if not again or shown != known.state:
                    check_follows(known.state, shown, state.old, state.growth)
                for one in keys:
                    rekeyed = {
                        "origin": shown.origin,
                        "key": one.key.public.hex(),
                        "leaves": one.since,
                    }
                    turn.append("ledger.rekeyed", rekeyed, time_ms=self._now_ms())
                if shown.size > known.state.size:
                    body = {
                        "origin": shown.origin,
                        "leaves": shown.size,
                        "root": shown.root.hex(),
                    }
                    turn.append("ledger.cosigned", body, time_ms=self._now_ms())
                # a time that was told is never taken back
                at_s = max(time_s, known.time_ms // 1000)
        except InputError as failure:
            raise OwnFileError(f"{failure}; nothing was cosigned.") from None
        # The turn is over, so it is on disk.
        return cosign(shown, key=self._key, sign=self._identity.sign_note, time_s=at_s).signature

    def _refresh(self, turn: Turn) -> None:
        """Take in what the node's own ledger says since the last look."""
        if turn.size < self._read:
            self._followed.clear()
            self._read = 0
        for leaf in turn.leaves(self._read):
            # a look at the bytes spares parsing every entry
            if b'"kind":"ledger.' in leaf:
                self._take(parse_leaf(leaf))
        self._read = turn.size

    def _take(self, entry: Entry) -> None:
        body = entry.body
        origin = str(body["origin"])
        if entry.kind == "ledger.followed":
            key = log_key(origin, bytes.fromhex(str(body["key"])))
            self._followed[origin] = _Followed(key, Checkpoint(origin, 0, EMPTY_ROOT))
        elif entry.kind == "ledger.rekeyed":
            key = log_key(origin, bytes.fromhex(str(body["key"])))
            self._followed[origin].key = key
        elif entry.kind == "ledger.cosigned":
            known = self._followed[origin]
            known.state = Checkpoint(
                origin, int(str(body["leaves"])), bytes.fromhex(str(body["root"]))
            )
            known.time_ms = entry.time_ms


def require_on_record(
    record: RecordedSum,
    log: VerifierKey,
    expected: Mapping[str, object],
    *,
    member: str,
    survivors: Collection[str],
) -> None:
    """Return if the ledger has this very sum, with what it costs and this node's own head.

    Args:
        record: The entry as it was shown.
        log: Who signs the ledger.
        expected: Each field of `sum.reserved`; of `nodes`, what must be said of `member`.
        member: This node.
        survivors: Over whom the sum is to be opened; each of them must have its head there.

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
    if (
        not isinstance(nodes, dict)
        or nodes.get(member) != head
        or not nodes.keys() >= set(survivors)
    ):
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
    """Return if more than two thirds of the run's members cosigned that state.

    Above 32 members: of those who hold this node's shares in a sum over all.

    Args:
        record: The sum's.
        log: Who signs the ledger.
        cosignatures: Member -> its cosignature.
        cohort: All members of the run, whatever group the sum is of.
        member: This node.

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
