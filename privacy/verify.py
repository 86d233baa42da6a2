"""Check a whole ledger offline, with the standard library alone.

This is what a regulator runs, so it is written to be read: a numbered list of steps, each one
repeated above its code. It returns what it found or raises; there is no boolean to forget.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from privacy.errors import NotVerifiedError
from privacy.ledger.chain import LedgerHead, head_of, replay
from privacy.ledger.entry import Entry, parse_line


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
        5. Grammar of runs: started once and first; rounds count from 1, each one with a sum,
           following on the model before; each sum that was opened has its own receipt, with the
           same members, before a round is committed or its run finishes; nothing after the end.
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

    # Step 5. Grammar of runs: started once and first; rounds count from 1, each one with a sum,
    # following on the model before; each sum that was opened has its own receipt, with the same
    # members, before a round is committed or its run finishes; nothing after the end.
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
        receipts=sum(len(run.opened) - len(run.pending) for run in runs.values()),
        unfinished=tuple(name for name, run in runs.items() if not run.ended),
        without_receipt=tuple(name for name, run in runs.items() if run.pending),
    )


@dataclass
class _Run:
    """How far a run has come while its entries are read."""

    members: frozenset[str]
    protection: object
    committed: int = 0
    model: object = None
    ended: bool = False
    # (step, round) -> members
    opened: dict[tuple[object, object], frozenset[str]] = field(default_factory=dict)
    pending: set[tuple[object, object]] = field(default_factory=set)


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
    key = (entry.body["step"], entry.body["round"])
    # Statistics come in round 0, before the first one; an evaluation may follow its round.
    in_time = entry.body["round"] in (run.committed, run.committed + 1)
    _require(in_time, f"a sum of round {key[1]} when {run.committed} rounds were committed")
    _require(key not in run.opened, f"step {key[0]} of round {key[1]} was opened before")
    _require(_members(entry) <= run.members, "the sum has members that the run has not")
    run.opened[key] = _members(entry)
    run.pending.add(key)


def _receive(run: _Run, entry: Entry) -> None:
    key = (entry.body["step"], entry.body["round"])
    _require(key in run.pending, "the receipt belongs to no sum that waits for one")
    _require(_members(entry) == run.opened[key], "the receipt has other members than its sum")
    _require(entry.body["protection"] == run.protection, "the receipt has another protection")
    run.pending.remove(key)


def _commit(run: _Run, entry: Entry) -> None:
    number = entry.body["round"]
    _require(number == run.committed + 1, f"round {number} follows on round {run.committed}")
    _require(not run.pending, "a sum that was opened has no receipt")
    _require(any(opened == number for _, opened in run.opened), f"round {number} opened no sum")
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
        _require(not run.pending, "a sum that was opened has no receipt")
        _require(entry.body["rounds"] == run.committed, "the run ends with another round")
    run.ended = True
