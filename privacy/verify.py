"""Check a bundle of ledgers offline, with the standard library and `cryptography` alone.

This is what a regulator runs, so it is written to be read: a numbered list of steps, each one a
function below. It returns what it found or raises; there is no boolean to forget. A second
verifier, written apart with the standard library alone, is privacy/verify_alone.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from privacy.budget_record import Record
from privacy.cap import require_within_caps
from privacy.errors import NotVerifiedError
from privacy.ledger.bundle import Bundle, Log, read_bundle
from privacy.ledger.checkpoint import cosigners, open_checkpoint, parse_checkpoint_text
from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.grammar import Anchor, Reading, Run, follow, rotated
from privacy.ledger.head import LedgerHead, in_order
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.merkle import leaf_hash, root_of, verify_consistency
from privacy.ledger.note import parse_note
from privacy.ledger.trust import TrustPolicy, parse_policy
from privacy.spent import Spent, spent

STEPS: Mapping[int, str] = {
    1: "form",
    2: "entries",
    3: "order",
    4: "tree",
    5: "signed states",
    6: "runs",
    7: "witnesses",
    8: "nodes' ledgers",
    9: "both sides",
    10: "privacy",
}
"""Number -> name of each step, as it stands in front of what is wrong."""


@dataclass(frozen=True)
class NodeFound:
    """What one node's own ledger holds.

    Attributes:
        owner: The member.
        leaves: Entries.
        releases: That it reserved and did not take back.
        pending: Of these, how many it does not know to have been accepted; spent all the same.
        compared: How many of them were found on the coordinator's side too.
    """

    owner: str
    leaves: int
    releases: int
    pending: int
    compared: int


@dataclass(frozen=True)
class Verdict:
    """What a bundle that holds contains.

    Attributes:
        leaves: Entries of the coordinator's ledger.
        root: Of their tree, 64 hexadecimal digits; compare it with other copies.
        runs: Runs that were started.
        rounds: Rounds that were committed, over all runs.
        releases: Sums on record, each with what it costs.
        opened: Of these, how many were opened. The others are spent all the same.
        signatures: Signatures of members and launchers that were checked.
        cosigned: Who cosigned the newest state, by name, with the time in seconds since 1970 UTC.
        unfinished: Runs that neither finished nor stopped, in the order of their start.
        nodes: Members' own ledgers.
        missing: Members with releases whose own ledger is not there to compare.
        privacy: What the receipts cost, for each contract, unit and cohort of units.
        steps: What each step found, in order, for people.
    """

    leaves: int
    root: str
    runs: int
    rounds: int
    releases: int
    opened: int
    signatures: int
    cosigned: Mapping[str, int]
    unfinished: tuple[str, ...]
    nodes: tuple[NodeFound, ...]
    missing: tuple[str, ...]
    privacy: tuple[Spent, ...]
    steps: tuple[str, ...]


@dataclass
class _Read:
    """A log while it is checked."""

    log: Log
    entries: list[Entry] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    roots: dict[int, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.hashes)


Heads = Mapping[str, Sequence[LedgerHead]]
"""Origin of a ledger -> states of it that somebody remembers."""


def verify_data(
    data: bytes, *, policy: TrustPolicy | None = None, heads: Heads | None = None
) -> Verdict:
    """Return what the bundle in `data` holds; see `verify_bundle`."""
    # Step 1. Form: whole lines, each the one canonical encoding of what it says; and the last one
    # is the hash of all others.
    with_step = _Step(1)
    with with_step:
        bundle = read_bundle(data)
    return verify_bundle(bundle, policy=policy, heads=heads)


def verify_bundle(
    bundle: Bundle,
    *,
    policy: TrustPolicy | None = None,
    heads: Heads | None = None,
    live: bool = False,
) -> Verdict:
    """Return what a bundle holds, if it holds what it claims.

    The steps, in order; each names the first entry that breaks it:
        1. Form: whole lines, each the one canonical encoding of what it says, ended by the hash of
           all lines before. One coordinator's ledger at most, first; no ledger twice.
        2. Entries: each is of a known kind, with exactly that kind's fields, canonically encoded.
        3. Order: places count from 0, times and epochs never go back, no act is there twice.
        4. Tree: each signed state has the root of the entries up to its size, and each proof of
           growth holds.
        5. Signed states: each is signed by the key that the ledger had at that size; the newest
           one is about all entries.
        6. Runs: the grammar of `privacy.ledger.grammar`, with the signatures of launcher and
           members, over what the manifest and the entries before make of each sum.
        7. Witnesses: for each run, more than two thirds of its members cosigned a state that has
           its last opened sum on record; the policy's quorum cosigned the newest state; every head
           that somebody remembered is found at its size.
        8. Nodes' ledgers: each is its member's, and never reserves more than its caps hold.
        9. Both sides: what a node said of its own ledger with each sum is what is there, and it
           had reserved that very release by then; what a node knows to have been accepted is on
           the coordinator's side.
       10. Privacy: every epsilon is computed again from receipts; none is read.

    Args:
        bundle: What was handed over.
        policy: Whom to trust, as the auditor knows it; else the bundle's own policy is taken, which
            shows no ledger that was made up as a whole.
        heads: States that were remembered elsewhere, by ledger.
        live: The ledgers are still written to where they are, so entries after the newest signed
            state are let pass, and a node's ledger need not have signed any.

    Raises:
        NotVerifiedError: it does not hold; the sentence names the step and the entry.
    """
    found: list[str] = []
    with _Step(1):
        logs = [_Read(log) for log in bundle.logs]
        _require_form(logs)
    found.append(f"{len(logs)} ledgers, whole as they were exported")
    for read in logs:
        with _Step(2, read.log):
            read.entries = list(_parsed(read.log.leaves))
        with _Step(3, read.log):
            for _ in in_order(read.entries):
                pass
        with _Step(4, read.log):
            _require_tree(read)
        with _Step(5, read.log):
            _require_signed_states(read, live=live)
    count = sum(read.size for read in logs)
    states = sum(len(read.log.checkpoints) for read in logs)
    found += [
        f"{count} entries, all of known kinds",
        "nothing out of place and nothing twice",
        f"{states} states have the roots of these entries",
        "each is signed by its ledger's key, and the newest are about all entries",
    ]
    coordinator = next((read for read in logs if read.log.role == "coordinator"), None)
    reading = Reading()
    if coordinator is not None:
        for entry in coordinator.entries:
            with _Step(6, coordinator.log, entry.index):
                follow(reading, entry)
    runs = list(reading.runs.values())
    signatures = sum(run.signatures for run in runs)
    found.append(f"{len(runs)} runs keep the protocol; {signatures} signatures hold")
    with _Step(7):
        chosen = parse_policy(bundle.policy) if policy is None else policy
        cosigned = _require_witnesses(coordinator, runs, chosen)
        remembered = _require_heads(logs, heads or {})
    found.append(
        f"every opened sum is in a state that two thirds of its members cosigned; "
        f"{len(cosigned)} cosigned the newest; {remembered} remembered states found"
    )
    records: dict[bytes, tuple[_Read, Record]] = {}
    for read in logs:
        if read.log.role == "node":
            with _Step(8, read.log):
                records[_node_key(read)] = (read, _own_record(read))
    found.append(f"{len(records)} nodes' ledgers; none reserved more than its caps")
    nodes = []
    for public, (read, record) in records.items():
        with _Step(9, read.log):
            anchors = reading.anchors.get(public, [])
            nodes.append(_compared(read, record, anchors, reading, known=coordinator is not None))
    missing = sorted(
        {anchors[0].member for key, anchors in reading.anchors.items() if key not in records}
    )
    found.append(
        f"{sum(node.compared for node in nodes)} releases are the same on both sides"
        + (f"; {len(missing)} members' own ledgers are not here" if missing else "")
    )
    with _Step(10):
        costs = spent(runs)
    found.append(
        f"{len(costs)} totals computed again from {sum(r.releases for r in runs)} receipts"
    )
    size = 0 if coordinator is None else coordinator.size
    return Verdict(
        leaves=size,
        root="" if coordinator is None else root_of(coordinator.hashes).hex(),
        runs=len(runs),
        rounds=sum(run.committed for run in runs),
        releases=sum(run.releases for run in runs),
        opened=sum(run.sums for run in runs),
        signatures=signatures,
        cosigned=cosigned,
        unfinished=tuple(name for name, run in reading.runs.items() if not run.ended),
        nodes=tuple(nodes),
        missing=tuple(missing),
        privacy=costs,
        steps=tuple(found),
    )


class _Step:
    """Puts the step and the entry at fault in front of what is wrong."""

    def __init__(self, number: int, log: Log | None = None, index: int | None = None) -> None:
        self._number, self._log, self._index = number, log, index

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, NotVerifiedError):
            where = f"step {self._number} ({STEPS[self._number]})"
            if self._log is not None:
                where += f", ledger of {self._log.owner}"
            if self._index is not None:
                where += f", entry {self._index}"
            raise NotVerifiedError(f"{where}: {error}") from None


def _require_form(logs: Sequence[_Read]) -> None:
    roles = [read.log.role for read in logs]
    if not logs:
        raise NotVerifiedError("there is no ledger in it; get it again")
    if any(role not in {"coordinator", "node"} for role in roles) or "coordinator" in roles[1:]:
        raise NotVerifiedError("one coordinator's ledger comes first, and then nodes' ledgers")
    origins = [read.log.origin for read in logs]
    if len(set(origins)) != len(origins):
        raise NotVerifiedError("a ledger is in it twice")


def _parsed(leaves: Iterable[bytes]) -> Iterator[Entry]:
    for place, leaf in enumerate(leaves):
        try:
            yield parse_leaf(leaf)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"entry {place}: {error}") from None


def _require_tree(read: _Read) -> None:
    log = read.log
    read.hashes = [leaf_hash(leaf) for leaf in log.leaves]
    sizes = []
    for note in log.checkpoints:
        state = parse_checkpoint_text(parse_note(note).text)
        if state.size > read.size:
            raise NotVerifiedError(
                f"entry {read.size}: the ledger was cut off; a signed state has {state.size}"
            )
        root = root_of(read.hashes[: state.size])
        if state.root != root:
            raise NotVerifiedError(
                f"the signed state of {state.size} entries has another root than these entries: "
                "one of them was changed, added or taken out"
            )
        sizes.append(state.size)
        read.roots[state.size] = root
    if sizes != sorted(set(sizes)):
        raise NotVerifiedError("the signed states are not in order")
    steps = list(pairwise(sizes))
    if [(proof.old, proof.new) for proof in log.proofs] != steps:
        raise NotVerifiedError("there is not one proof of growth from each state to the next")
    for proof in log.proofs:
        verify_consistency(
            proof.old, read.roots[proof.old], proof.new, read.roots[proof.new], proof.hashes
        )


def _require_signed_states(read: _Read, *, live: bool) -> None:
    log = read.log
    keys = _keys(read)
    told = [(key.since, key.public) for key in log.keys]
    if told != [(since, key.hex()) for since, key in keys]:
        raise NotVerifiedError("the key history is not what the entries say")
    if not log.checkpoints and not live:
        raise NotVerifiedError("no state of it is signed")
    sizes = list(read.roots)
    for size, note in zip(sizes, log.checkpoints, strict=True):
        key = [public for since, public in keys if since <= size][-1]
        state = open_checkpoint(note, log_key(log.origin, key))
        if state.origin != log.origin:
            raise NotVerifiedError(f"the state of {size} entries is of another ledger")
    if not live and sizes[-1] != read.size:
        raise NotVerifiedError(
            f"entry {sizes[-1]}: no signed state has it; export the ledger again"
        )


def _keys(read: _Read) -> list[tuple[int, bytes]]:
    """The ledger's keys, each with the size from which on it signs."""
    log = read.log
    first = read.entries[0] if read.entries else None
    if first is None or first.kind != "ledger.begun":
        raise NotVerifiedError("entry 0: a ledger begins with ledger.begun")
    begun = {"origin": log.origin, "owner": log.owner, "role": log.role}
    for name, value in begun.items():
        if first.body[name] != value:
            raise NotVerifiedError(f"entry 0: it begins with another {name} than the bundle says")
    keys = [(0, bytes.fromhex(str(first.body["key"])))]
    for entry in read.entries:
        if entry.kind == "key.rotated":
            keys.append(rotated(entry, keys[-1][1]))
    return keys


def _require_witnesses(
    coordinator: _Read | None,
    runs: Sequence[Run],
    policy: TrustPolicy,
) -> dict[str, int]:
    if coordinator is None:
        return {}
    notes = list(zip(coordinator.roots, coordinator.log.checkpoints, strict=True))
    for run in runs:
        if run.due < 0:
            continue
        keys = [cosigner_key(member, public) for member, public in run.keys.items()]
        most = max(
            (len(cosigners(note, keys)) for size, note in notes if size > run.due), default=0
        )
        needed = 2 * len(keys) // 3 + 1
        if most < needed:
            raise NotVerifiedError(
                f"entry {run.due}: {most} of the {len(keys)} members of run {run.agreed.run} "
                f"cosigned a state that has this sum on record, and {needed} are needed"
            )
    if not notes:
        return {}
    newest = coordinator.log.checkpoints[-1]
    by_policy = policy.require_quorum(newest)
    members = {cosigner_key(member, public) for run in runs for member, public in run.keys.items()}
    return by_policy | cosigners(newest, members)


def _require_heads(logs: Sequence[_Read], heads: Heads) -> int:
    """Find every remembered state; return how many there were."""
    reads = {read.log.origin: read for read in logs}
    for origin, states in heads.items():
        if states and origin not in reads:
            raise NotVerifiedError(f"somebody remembers the ledger {origin}, and it is not here")
        for head in states:
            _require_head(head, reads[origin])
    return sum(len(states) for states in heads.values())


def _require_head(head: LedgerHead, read: _Read) -> None:
    if head.leaves > read.size:
        raise NotVerifiedError(
            f"entry {read.size}: the ledger was cut off; somebody remembers {head.leaves} entries"
        )
    if root_of(read.hashes[: head.leaves]).hex() != head.root:
        raise NotVerifiedError(
            f"entry {head.leaves - 1}: somebody remembers another ledger; compare both copies"
        )


def _node_key(read: _Read) -> bytes:
    return bytes.fromhex(str(read.entries[0].body["key"]))


def _own_record(read: _Read) -> Record:
    """Read a node's ledger, holding each reserve against the caps of its time."""
    record = Record()
    for entry in read.entries:
        fault = record.take(entry)
        if fault:
            raise NotVerifiedError(f"entry {entry.index} {fault}")
        require_within_caps(record, entry)
    if record.member() not in {None, read.log.owner}:
        raise NotVerifiedError(f"it holds the budget of {record.member()}")
    return record


def _compared(
    read: _Read, record: Record, anchors: Sequence[Anchor], reading: Reading, *, known: bool
) -> NodeFound:
    """Hold a node's ledger against what the coordinator's says of it."""
    places = {
        (str(entry.body["run"]), str(entry.body["step"]), entry.body["round"]): entry
        for entry in read.entries
        if entry.kind == "budget.reserved"
    }
    for anchor in anchors:
        run, step, number = anchor.act
        what = f"{step} of round {number} of run {run}"
        head = anchor.head
        if head.leaves > read.size:
            raise NotVerifiedError(
                f"entry {read.size}: it was cut off; with the {what} it had {head.leaves} entries"
            )
        if root_of(read.hashes[: head.leaves]).hex() != head.root:
            raise NotVerifiedError(
                f"entry {head.leaves - 1}: with the {what} it had another root; it was rewritten"
            )
        entry = places.get(anchor.act)
        if entry is None or entry.index >= head.leaves:
            raise NotVerifiedError(f"the {what} was opened, and not reserved here before")
        if entry.body["receipt"] != anchor.receipt.to_json():
            raise NotVerifiedError(
                f"entry {entry.index}: the {what} costs something else on the coordinator's side"
            )
        if anchor.act in record.aborted:
            raise NotVerifiedError(f"the {what} was opened, and taken back here")
    if known:
        _require_known(record, read, reading)
    pending = sum(len(account.pending) for account in record.accounts.values())
    return NodeFound(
        owner=read.log.owner,
        leaves=read.size,
        releases=sum(len(account.releases) for account in record.accounts.values()),
        pending=pending,
        compared=len(anchors),
    )


def _require_known(record: Record, read: _Read, reading: Reading) -> None:
    """What the node knows to have been accepted must be on the coordinator's side."""
    del record
    for entry in read.entries:
        if entry.kind != "budget.committed":
            continue
        run, step, number = entry.body["run"], entry.body["step"], entry.body["round"]
        name = str(run).removesuffix(" (units)")
        theirs = reading.runs.get(name)
        if theirs is None or (step, number) not in theirs.done:
            raise NotVerifiedError(
                f"entry {entry.index}: {step} of round {number} of run {run} was accepted here, "
                "and the coordinator's ledger does not have it"
            )
