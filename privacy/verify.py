"""Check a whole ledger offline, with the standard library alone.

This is what a regulator runs, so it is written to be read: a numbered list of steps, each one
repeated above its code. It returns what it found or raises; there is no boolean to forget.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from privacy.errors import NotVerifiedError
from privacy.ledger.chain import LedgerHead, head_of, replay
from privacy.ledger.entry import STATISTICS, UPDATE, Entry, parse_line

# With one member the sum is that member's vector.
_SMALLEST_SUM = 2


@dataclass(frozen=True)
class Verdict:
    """What a ledger that holds contains.

    Attributes:
        leaves: Entries.
        root: Digest of the last one, 64 hexadecimal digits; compare it with other copies.
        runs: Runs that were started.
        rounds: Rounds that were committed, over all runs.
        receipts: Releases, each with its receipt.
        unfinished: Runs that neither finished nor stopped, in the order of their start.
        without_receipt: Runs that broke off between a sum and its receipt; what that sum cost
            is not on record, and a person has to ask.
    """

    leaves: int
    root: str
    runs: int
    rounds: int
    receipts: int
    unfinished: tuple[str, ...]
    without_receipt: tuple[str, ...]


def verify_ledger(data: bytes, *, heads: Sequence[LedgerHead] = ()) -> Verdict:
    """Return what the ledger holds, if it holds what it claims.

    The steps, in order; each names the first entry that breaks it:
        1. Framing: whole lines, each ended by a newline.
        2. Canonical bytes: each line is the only encoding of its entry, and its digest is its own.
        3. Closed kinds: each entry is of a known kind, with exactly that kind's fields.
        4. Chain: indices count from 0, each entry holds the digest of the one before, and time
           never goes back.
        5. Grammar of runs: started once and first; statistics in stages from 0, then rounds from
           1, each with one sum of updates and following on the model before, and evaluations
           between rounds and after the last; all sums of a run over the same two members or
           more; each sum followed by its own receipt before anything else of its run, unless
           that breaks off; nothing after the end.
        6. Heads: each head that somebody remembered is found at its size. A chain alone cannot
           show that its end was cut off.

    Args:
        data: The ledger's bytes.
        heads: Heads remembered elsewhere: by members, in run folders, in print.

    Raises:
        NotVerifiedError: it does not hold; the sentence names the step and the entry.
    """
    # Step 1. Framing: whole lines, each ended by a newline.
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise NotVerifiedError(
            f"step 1 (framing), entry {len(lines)}: the last line is torn; "
            "get a copy that the coordinator wrote to its end"
        )

    # Step 2. Canonical bytes: each line is the only encoding of its entry, and its digest is its
    # own. Step 3. Closed kinds: each entry is of a known kind, with exactly that kind's fields.
    # Both are in the parser that the writer shares, so that they cannot drift apart.
    entries = _entries(lines)

    # Step 4. Chain: indices count from 0, each entry holds the digest of the one before, and time
    # never goes back.
    try:
        for _ in replay(entries):
            pass
    except NotVerifiedError as error:
        raise NotVerifiedError(f"step 4 (chain): {error}") from None

    # Step 5. Grammar of runs: started once and first; statistics in stages from 0, then rounds from
    # 1, each with one sum of updates and following on the model before, and evaluations between
    # rounds and after the last; all sums of a run over the same two members or more; each sum
    # followed by its own receipt before anything else of its run, unless that breaks off; nothing
    # after the end.
    runs: dict[str, _Run] = {}
    for entry in entries:
        try:
            _follow(runs, entry)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"step 5 (runs), entry {entry.index}: {error}") from None

    # Step 6. Heads: each head that somebody remembered is found at its size.
    for head in heads:
        _find(head, entries)

    end = head_of(entries[-1] if entries else None)
    return Verdict(
        leaves=end.leaves,
        root=end.root,
        runs=len(runs),
        rounds=sum(run.committed for run in runs.values()),
        receipts=sum(len(run.opened) - (run.pending is not None) for run in runs.values()),
        unfinished=tuple(name for name, run in runs.items() if not run.ended),
        without_receipt=tuple(name for name, run in runs.items() if run.pending is not None),
    )


@dataclass
class _Run:
    """How far a run has come while its entries are read.

    Attributes:
        members: Who may take part; from the first sum on, who does.
        protection: Of every sum.
        committed: Rounds so far.
        model: What the last of them ended with.
        ended: Whether it finished or was stopped.
        opened: Step and round of each sum.
        pending: Step and round of the sum that waits for its receipt.
    """

    members: frozenset[str]
    protection: object
    committed: int = 0
    model: object = None
    ended: bool = False
    opened: set[tuple[object, object]] = field(default_factory=set)
    pending: tuple[object, object] | None = None


def _entries(lines: Sequence[bytes]) -> list[Entry]:
    entries: list[Entry] = []
    for index, line in enumerate(lines):
        try:
            entries.append(parse_line(line + b"\n"))
        except NotVerifiedError as error:
            raise NotVerifiedError(f"steps 2 and 3 (entries), entry {index}: {error}") from None
    return entries


def _find(head: LedgerHead, entries: Sequence[Entry]) -> None:
    if head.leaves > len(entries):
        raise NotVerifiedError(
            f"step 6 (heads), entry {len(entries)}: the ledger was cut off; "
            f"somebody remembers {head.leaves} entries"
        )
    if head != head_of(entries[head.leaves - 1] if head.leaves > 0 else None):
        raise NotVerifiedError(
            f"step 6 (heads), entry {head.leaves - 1}: somebody remembers another ledger; "
            "compare both copies"
        )


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not holds:
        raise NotVerifiedError(otherwise)


def _members(entry: Entry) -> frozenset[str]:
    members = entry.body["members"]
    return frozenset(members if isinstance(members, list) else ())


def _follow(runs: dict[str, _Run], entry: Entry) -> None:
    name = str(entry.body["run"])
    if entry.kind == "run.started":
        _require(name not in runs, f"run {name} was started before")
        runs[name] = _Run(members=_members(entry), protection=entry.body["protection"])
        return
    _require(name in runs, f"run {name} was never started")
    run = runs[name]
    _require(not run.ended, f"run {name} had ended")
    if entry.kind == "sum.opened":
        _open(run, entry)
    elif entry.kind == "receipt":
        _receive(run, entry)
    elif entry.kind == "round.committed":
        _commit(run, entry)
    else:
        _end(run, entry)


def _open(run: _Run, entry: Entry) -> None:
    step, number = entry.body["step"], entry.body["round"]
    members = _members(entry)
    _require(run.pending is None, "the sum before it has no receipt")
    _require((step, number) not in run.opened, f"step {step} of round {number} was opened before")
    _require(
        number == _due(run, step),
        f"step {step} of round {number} is out of place when {run.committed} rounds were committed",
    )
    _require(members <= run.members, "the sum has members that the run has not")
    _require(len(members) >= _SMALLEST_SUM, "the sum has one member, whose own vector it shows")
    # Two sums that differ by one member would show that member as their difference.
    _require(members == run.members or not run.opened, "the sum has not the members of the first")
    run.members = members
    run.opened.add((step, number))
    run.pending = (step, number)


def _due(run: _Run, step: object) -> int | None:
    """Return the round that a sum of `step` may have now; None if it may not be opened."""
    training = (UPDATE, run.committed + 1) in run.opened
    if step == STATISTICS:
        begun = training or run.committed > 0
        return None if begun else sum(opened == STATISTICS for opened, _ in run.opened)
    if step == UPDATE:
        return run.committed + 1
    return None if training else run.committed


def _receive(run: _Run, entry: Entry) -> None:
    key = (entry.body["step"], entry.body["round"])
    _require(key == run.pending, "the receipt belongs to no sum that waits for one")
    _require(_members(entry) == run.members, "the receipt has other members than its sum")
    _require(entry.body["protection"] == run.protection, "the receipt has another protection")
    run.pending = None


def _commit(run: _Run, entry: Entry) -> None:
    number = entry.body["round"]
    _require(run.pending is None, "a sum that was opened has no receipt")
    _require(number == run.committed + 1, f"round {number} follows on round {run.committed}")
    _require((UPDATE, number) in run.opened, f"round {number} opened no sum of updates")
    _require(
        run.model is None or entry.body["model_before"] == run.model,
        f"round {number} starts from another model than the round before ended with",
    )
    run.committed += 1
    run.model = entry.body["model_after"]


def _end(run: _Run, entry: Entry) -> None:
    # A run may be stopped between a sum and its receipt (the verdict names it), not finished. The
    # model of a finished run is not compared: it may be a mean over the last rounds' models.
    if entry.kind == "run.finished":
        _require(run.pending is None, "a sum that was opened has no receipt")
        training = (UPDATE, run.committed + 1) in run.opened
        _require(not training, f"round {run.committed + 1} was summed and not committed")
        _require(entry.body["rounds"] == run.committed, "the run ends with another round")
    run.ended = True
