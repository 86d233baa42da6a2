"""Check a bundle of ledgers offline, with the standard library and `cryptography` alone.

This is what a regulator runs, so it is written to be read: a numbered list of steps, each one a
function below. It returns what it found or raises; there is no boolean to forget. A second
verifier, written apart with the standard library alone, is privacy/verify_alone.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from privacy.budget_record import RESERVED, Record, ReleaseKey, release_key
from privacy.cap import require_within_caps
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.bundle import Bundle, Log, read_bundle
from privacy.ledger.checkpoint import cosigned_at, open_checkpoint, parse_checkpoint_text
from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.grammar import Anchor, Reading, Run, follow, rotated
from privacy.ledger.head import LedgerHead, in_order
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.merkle import frontier_at, leaf_hash, node_hash, verify_consistency
from privacy.ledger.note import VerifierKey, parse_note
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
        witnessed: States of the coordinator's ledger that it cosigned, each found there.
        elsewhere: Releases of runs that are on record in another coordinator's ledger.
        terms: How often it set, or changed, what its policy allows.
        clocks_s: By how many seconds its clock and the coordinator's differed at most.
    """

    owner: str
    leaves: int
    releases: int
    pending: int
    compared: int
    witnessed: int
    elsewhere: int
    terms: int
    clocks_s: int


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
        set_back: Members whose own ledgers were set back, as they signed two releases at one size.
        launchers: Public keys of who started the runs; compare them with those that you know.
        privacy: What the receipts cost, for each contract, unit and cohort of units.
        steps: What each step found, in order, for people.
        founder: Public key of who began the federation, which signs for all others; compare it
            with the one that you know. Empty where none was begun.
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
    set_back: tuple[str, ...]
    launchers: tuple[str, ...]
    privacy: tuple[Spent, ...]
    steps: tuple[str, ...]
    founder: str = ""


@dataclass
class _Read:
    """A log while it is checked.

    Attributes:
        log: As it was handed over.
        entries: Of its leaves.
        levels: Its tree: hashes of all complete subtrees, of single leaves first.
        states: Sizes of its signed states.
    """

    log: Log
    entries: list[Entry] = field(default_factory=list)
    levels: list[list[bytes]] = field(default_factory=list)
    states: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.log.leaves)

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries, of so many as there are at most."""
        return frontier_at(lambda level, place: self.levels[level][place], size).root()


Heads = Mapping[str, Sequence[LedgerHead]]
"""Origin of a ledger -> states of it that somebody remembers."""


def verify_data(
    data: bytes, *, policy: TrustPolicy | None = None, heads: Heads | None = None
) -> Verdict:
    """Return what the bundle in `data` holds; see `verify_bundle`."""
    # Step 1. Form: whole lines, each the one canonical encoding of what it says; and the last one
    # is the hash of all others.
    with _Step(1):
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
           members, over what the manifest and the entries before make of each sum; and who takes
           part in the federation, where one was begun, by the rules of `privacy.membership`.
        7. Witnesses: for each run, more than two thirds of its members cosigned a state that has
           its last opened sum on record; the policy's quorum cosigned the newest state; every head
           that somebody remembered is found at its size. A policy that an auditor gives needs the
           coordinator's ledger to be there; it may name any key of that ledger's history.
        8. Nodes' ledgers: each is its member's, and never reserves more than its caps hold. No
           two of them share a key, or hold budgets of one owner for the same data set and unit.
        9. Both sides: what a node signed of its own ledger with each vector that it sent, opened or
           not, is what is there, and it had reserved that very release by then, of the data set
           that the run declared, and never took it back. Each state of the coordinator's ledger
           that a node cosigned, and each change of its key that a node was shown, is there; what it
           knows to have been accepted is on record there,
           in a run of which it is a member; and nobody else goes by its name in runs about its
           rows. Runs of another coordinator are counted and not compared.
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
        chosen = _policy_of(bundle) if policy is None else policy
        if coordinator is None and policy is not None and (policy.logs or policy.quorum):
            raise NotVerifiedError("the policy is about a coordinator's ledger, and there is none")
        cosigned = _require_witnesses(coordinator, runs, chosen)
        remembered = _require_heads(logs, heads or {})
    found.append(
        f"every opened sum is in a state that two thirds of its members cosigned; "
        f"{len(cosigned)} cosigned the newest; {remembered} remembered states found"
    )
    records = _own_records(logs)
    found.append(f"{len(records)} nodes' ledgers; none reserved more than its caps")
    nodes = []
    for read, record in records:
        with _Step(9, read.log):
            nodes.append(_compared(read, record, reading, coordinator))
    owned = {key for _, record in records for key in record.keys}
    missing = sorted({told[0].member for key, told in reading.told.items() if key not in owned})
    found.append(
        f"{sum(node.compared for node in nodes)} releases are the same on both sides"
        + (f"; {len(missing)} members' own ledgers are not here" if missing else "")
    )
    with _Step(10):
        costs = spent(runs, {key: record.keys[0] for _, record in records for key in record.keys})
    found.append(
        f"{len(costs)} totals computed again from {sum(r.releases for r in runs)} receipts"
    )
    size = 0 if coordinator is None else coordinator.size
    return Verdict(
        leaves=size,
        root="" if coordinator is None else coordinator.root(size).hex(),
        runs=len(runs),
        rounds=sum(run.committed for run in runs),
        releases=sum(run.releases for run in runs),
        opened=sum(run.sums for run in runs),
        signatures=signatures,
        cosigned=cosigned,
        unfinished=tuple(name for name, run in reading.runs.items() if not run.ended),
        nodes=tuple(nodes),
        missing=tuple(missing),
        set_back=tuple(sorted(reading.set_back)),
        launchers=tuple(sorted({run.launcher for run in runs})),
        privacy=costs,
        steps=tuple(found),
        founder="" if reading.membership is None else reading.membership.founder_key.hex(),
    )


class _Step:
    """Puts the step and the entry at fault in front of what is wrong."""

    def __init__(self, number: int, log: Log | None = None, index: int | None = None) -> None:
        self._number, self._log, self._index = number, log, index

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # What no honest writer writes may break what reads it, and that is no leave to pass.
        refusals = NotVerifiedError | InputError | ValueError | TypeError | ArithmeticError
        if isinstance(error, refusals):
            where = f"step {self._number} ({STEPS[self._number]})"
            if self._log is not None:
                where += f", ledger of {self._log.owner}"
            if self._index is not None:
                where += f", entry {self._index}"
            foreseen = isinstance(error, NotVerifiedError)
            raise NotVerifiedError(
                f"{where}: {error if foreseen else f'it cannot be read: {error}'}"
            ) from None


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


def _policy_of(bundle: Bundle) -> TrustPolicy:
    try:
        return parse_policy(bundle.policy)
    except InputError as error:
        raise NotVerifiedError(f"the bundle's own policy cannot be used: {error}") from None


def _require_tree(read: _Read) -> None:
    log = read.log
    read.levels = _levels([leaf_hash(leaf) for leaf in log.leaves])
    sizes = []
    for note in log.checkpoints:
        state = parse_checkpoint_text(parse_note(note).text)
        if state.size > read.size:
            raise NotVerifiedError(
                f"entry {read.size}: the ledger was cut off; a signed state has {state.size}"
            )
        if state.root != read.root(state.size):
            raise NotVerifiedError(
                f"the signed state of {state.size} entries has another root than these entries: "
                "one of them was changed, added or taken out"
            )
        sizes.append(state.size)
    if sizes != sorted(set(sizes)):
        raise NotVerifiedError("the signed states are not in order")
    steps = list(pairwise(sizes))
    if [(proof.old, proof.new) for proof in log.proofs] != steps:
        raise NotVerifiedError("there is not one proof of growth from each state to the next")
    for proof in log.proofs:
        roots = read.root(proof.old), read.root(proof.new)
        verify_consistency(proof.old, roots[0], proof.new, roots[1], proof.hashes)
    read.states = sizes


def _levels(hashes: list[bytes]) -> list[list[bytes]]:
    """All complete subtrees over these leaf hashes, from which the root of any size follows."""
    levels = [hashes]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([node_hash(*pair) for pair in zip(below[::2], below[1::2], strict=False)])
    return levels


def _require_signed_states(read: _Read, *, live: bool) -> None:
    log = read.log
    keys = _keys(read)
    told = [(key.since, key.public) for key in log.keys]
    if told != [(since, key.hex()) for since, key in keys]:
        raise NotVerifiedError("the key history is not what the entries say")
    try:
        signers = [(since, log_key(log.origin, key)) for since, key in keys]
    except ValueError:
        raise NotVerifiedError(f"no key can have the name {log.origin!r:.80}") from None
    if not log.checkpoints and not live:
        raise NotVerifiedError("no state of it is signed")
    for size, note in zip(read.states, log.checkpoints, strict=True):
        signer = [key for since, key in signers if since <= size][-1]
        if open_checkpoint(note, signer).origin != log.origin:
            raise NotVerifiedError(f"the state of {size} entries is of another ledger")
    if not live and read.states[-1] != read.size:
        raise NotVerifiedError(
            f"entry {read.states[-1]}: no signed state has it; export the ledger again"
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
    states = _cosigned(coordinator, runs)
    for run in runs:
        if run.due < 0:
            continue
        keys = {cosigner_key(member, public) for member, public in run.members.items()}
        most = max(
            (len(keys & times.keys()) for size, times in states if size > run.due), default=0
        )
        needed = 2 * len(keys) // 3 + 1
        if most < needed:
            raise NotVerifiedError(
                f"entry {run.due}: {most} of the {len(keys)} members of run {run.agreed.run} "
                f"cosigned a state that has this sum on record, and {needed} are needed"
            )
    if not states:
        if policy.quorum is not None:
            raise NotVerifiedError("no state of it is signed, so nobody of the policy cosigned one")
        return {}
    # A policy knows the ledger by a key that it once had: each signed the next one (step 5).
    known = {log_key(coordinator.log.origin, key) for _, key in _keys(coordinator)}
    if policy.logs and known.isdisjoint(policy.logs):
        raise NotVerifiedError("the policy knows none of this ledger's keys; compare them")
    by_policy = replace(policy, logs=()).require_quorum(coordinator.log.checkpoints[-1])
    _, newest = states[-1]
    return by_policy | {key.name: newest[key] for key in sorted(newest, key=lambda key: key.name)}


def _cosigned(coordinator: _Read, runs: Sequence[Run]) -> list[tuple[int, dict[VerifierKey, int]]]:
    """Size of each signed state, smallest first, and which members of the runs cosigned it when."""
    keys = {cosigner_key(member, public) for run in runs for member, public in run.keys.items()}
    found = []
    for size, note in zip(coordinator.states, coordinator.log.checkpoints, strict=True):
        parsed = parse_note(note)
        times = {key: cosigned_at(parsed, key) for key in keys}
        found.append((size, {key: time_s for key, time_s in times.items() if time_s is not None}))
    return found


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
    if head.leaves < 0:
        raise NotVerifiedError("somebody remembers fewer entries than none; compare both copies")
    if head.leaves > read.size:
        raise NotVerifiedError(
            f"entry {read.size}: the ledger was cut off; somebody remembers {head.leaves} entries"
        )
    if read.root(head.leaves).hex() != head.root:
        raise NotVerifiedError(
            f"entry {max(0, head.leaves - 1)}: somebody remembers another ledger; compare both "
            "copies"
        )


def _own_records(logs: Sequence[_Read]) -> list[tuple[_Read, Record]]:
    records: list[tuple[_Read, Record]] = []
    owned: set[bytes] = set()
    for read in logs:
        if read.log.role == "node":
            with _Step(8, read.log):
                record = _own_record(read)
                if not owned.isdisjoint(record.keys):
                    raise NotVerifiedError("another ledger here has the same key")
                if any(
                    before.log.owner == read.log.owner and record.accounts.keys() & other.accounts
                    for before, other in records
                ):
                    # each would keep a cap that both together break
                    raise NotVerifiedError("another ledger here has a budget of the same units")
            owned.update(record.keys)
            records.append((read, record))
    return records


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
    read: _Read, record: Record, reading: Reading, coordinator: _Read | None
) -> NodeFound:
    """Hold a node's ledger against what the coordinator's says of it, and the other way round."""
    told = [one for key in record.keys for one in reading.told.get(key, ())]
    elsewhere = _elsewhere(read, reading.origin)
    clocks_ms = _require_told(read, record, reading, told, elsewhere)
    witnessed = 0
    if coordinator is not None:
        _require_one_key(read, record, reading)
        witnessed = _require_witnessed(read, coordinator)
        _require_rekeyed(read, coordinator)
        _require_known(read, record, reading, elsewhere)
    releases = [act for account in record.accounts.values() for act in account.releases]
    return NodeFound(
        owner=read.log.owner,
        leaves=read.size,
        releases=len(releases),
        pending=sum(len(account.pending) for account in record.accounts.values()),
        compared=len(told),
        witnessed=witnessed,
        elsewhere=sum(act in elsewhere for act in releases),
        terms=sum(entry.kind == "budget.terms" for entry in read.entries),
        clocks_s=clocks_ms // 1000,
    )


def _elsewhere(read: _Read, origin: str) -> set[ReleaseKey]:
    """Return the releases of runs that it had joined under another coordinator's name by then."""
    joined: dict[str, object] = {}
    found: set[ReleaseKey] = set()
    for entry in read.entries:
        if entry.kind == "run.joined":
            joined[str(entry.body["run"])] = entry.body["origin"]
        elif entry.kind == RESERVED:
            act = release_key(entry.body)
            if joined.get(_run_of(act[0]), origin) != origin:
                found.add(act)
    return found


def _run_of(name: str) -> str:
    """The run, of a budget's entry: releases about single units have a name of their own."""
    return name.removesuffix(" (units)")


def _require_told(
    read: _Read,
    record: Record,
    reading: Reading,
    told: Sequence[Anchor],
    elsewhere: set[ReleaseKey],
) -> int:
    """What the node said with its vectors is what is here; return how far clocks differed, ms."""
    places = {
        (str(entry.body["run"]), str(entry.body["step"]), entry.body["round"]): entry
        for entry in read.entries
        if entry.kind == "budget.reserved"
    }
    clocks_ms = 0
    for anchor in told:
        run, step, number = anchor.act
        what = f"{step} of round {number} of run {run}"
        head = anchor.head
        if anchor.member != read.log.owner:
            raise NotVerifiedError(f"with the {what} its key is that of {anchor.member}")
        if head.leaves > read.size:
            raise NotVerifiedError(
                f"entry {read.size}: it was cut off; with the {what} it had {head.leaves} entries; "
                "if it was exported before that, get it again"
            )
        if read.root(head.leaves).hex() != head.root:
            raise NotVerifiedError(
                f"entry {max(0, head.leaves - 1)}: with the {what} it had another root; "
                "it was rewritten"
            )
        entry = places.get(anchor.act)
        if entry is None or entry.index >= head.leaves:
            raise NotVerifiedError(f"the {what} was sent, and not reserved here before")
        if entry.body["receipt"] != anchor.receipt.to_json():
            raise NotVerifiedError(
                f"entry {entry.index}: the {what} costs something else on the coordinator's side"
            )
        if anchor.act in record.aborted:
            raise NotVerifiedError(f"the {what} was sent, and taken back here")
        if reading.runs[run].dataset != entry.body["dataset"]:
            raise NotVerifiedError(f"the {what} is of another data set on the coordinator's side")
        if anchor.act in elsewhere:
            raise NotVerifiedError(f"the {what} was joined under another coordinator's name")
        clocks_ms = max(clocks_ms, abs(entry.time_ms - anchor.time_ms))
    return clocks_ms


def _require_one_key(read: _Read, record: Record, reading: Reading) -> None:
    """Nobody else went by the owner's name in a run about its rows."""
    datasets = {dataset for dataset, _ in record.accounts}
    for run in reading.runs.values():
        key = run.keys.get(read.log.owner)
        if key is not None and run.dataset in datasets and key not in record.keys:
            raise NotVerifiedError(
                f"run {run.agreed.run} names {read.log.owner} with a key that is not its own"
            )


def _require_witnessed(read: _Read, coordinator: _Read) -> int:
    """Each state of the coordinator's ledger that the node cosigned is there; return how many."""
    count = 0
    for entry in read.entries:
        if entry.kind != "ledger.cosigned" or entry.body["origin"] != coordinator.log.origin:
            continue
        size = int(str(entry.body["leaves"]))
        if size > coordinator.size:
            raise NotVerifiedError(
                f"entry {entry.index}: it cosigned {size} entries of the coordinator's ledger, of "
                f"which {coordinator.size} are here; that was cut off, or exported before: get it "
                "again"
            )
        if coordinator.root(size).hex() != entry.body["root"]:
            raise NotVerifiedError(
                f"entry {entry.index}: it cosigned another ledger of the coordinator than this"
            )
        count += 1
    return count


def _require_rekeyed(read: _Read, coordinator: _Read) -> None:
    """Each key of the coordinator's ledger that the node was shown came about where it says."""
    keys = {(since, key.hex()) for since, key in _keys(coordinator) if since}
    for entry in read.entries:
        if entry.kind != "ledger.rekeyed" or entry.body["origin"] != coordinator.log.origin:
            continue
        if (entry.body["leaves"], entry.body["key"]) not in keys:
            raise NotVerifiedError(
                f"entry {entry.index}: it was shown a change of the coordinator's key that is not "
                "in this ledger"
            )


def _require_known(
    read: _Read, record: Record, reading: Reading, elsewhere: set[ReleaseKey]
) -> None:
    """What the node knows to have been accepted must be on the coordinator's side.

    Members accept a sum that is on record as opened. That enough of them did is written after
    that, and never where the coordinator broke down between both. Runs of another coordinator are
    on record with that one.
    """
    for entry in read.entries:
        if entry.kind != "budget.committed":
            continue
        act = release_key(entry.body)
        if act in elsewhere:
            continue
        run, step, number = act
        theirs = reading.runs.get(_run_of(run))
        if (
            theirs is None
            or ((step, number) not in theirs.done and (step, number) != theirs.step)
            or theirs.members.get(read.log.owner) not in record.keys
        ):
            raise NotVerifiedError(
                f"entry {entry.index}: {step} of round {number} of run {run} was accepted here, "
                "and the coordinator's ledger does not have it"
            )
