"""Check a whole ledger offline, with the standard library and `cryptography` alone.

This is what a regulator runs, so it is written to be read: a numbered list of steps, each one
repeated above its code. It returns what it found or raises; there is no boolean to forget.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from privacy.errors import NotVerifiedError
from privacy.ledger.chain import LedgerHead, head_of, replay
from privacy.ledger.entry import Entry, parse_line
from privacy.ledger.grammar import Run, follow
from privacy.spent import Spent, spent


@dataclass(frozen=True)
class Verdict:
    """What a ledger that holds contains.

    Attributes:
        leaves: Entries.
        root: Digest of the last one, 64 hexadecimal digits; compare it with other copies.
        runs: Runs that were started.
        rounds: Rounds that were committed, over all runs.
        receipts: Releases, each with its receipt.
        signatures: Members' signatures that were checked.
        unfinished: Runs that neither finished nor stopped, in the order of their start.
        without_receipt: Runs that broke off between a sum and its receipt; what that sum cost
            is not on record, and a person has to ask.
        privacy: What the receipts cost, for each contract, unit and cohort of units.
    """

    leaves: int
    root: str
    runs: int
    rounds: int
    receipts: int
    signatures: int
    unfinished: tuple[str, ...]
    without_receipt: tuple[str, ...]
    privacy: tuple[Spent, ...]


def verify_ledger(data: bytes, *, heads: Sequence[LedgerHead] = ()) -> Verdict:
    """Return what the ledger holds, if it holds what it claims.

    The steps, in order; each names the first entry that breaks it:
        1. Framing: whole lines, each ended by a newline.
        2. Canonical bytes: each line is the only encoding of its entry, and its digest is its own.
        3. Closed kinds: each entry is of a known kind, with exactly that kind's fields.
        4. Chain: indices count from 0, each entry holds the digest of the one before, and time
           never goes back.
        5. Grammar of runs: started once and first, then keys; statistics in stages from 0, the
           initial model, then rounds from 1, each with its sums of updates and following on the
           model before, and evaluations between rounds and after the last; each sum over members
           who were asked, not fewer than the run's minimum, and followed by its own receipt before
           anything else of its run, unless that breaks off; sums about the same rows over the
           same members; nothing after the end.
        6. Signatures: each sum's context is what the manifest and the entries before it make it,
           and more than two thirds of those who were asked (above 32 members: of those who are
           left) signed who it is over; more than two thirds of the members signed that they
           accepted the same sums and came to the same model.
        7. Heads: each head that somebody remembered is found at its size. A chain alone cannot
           show that its end was cut off.
        8. Privacy: each receipt is what the run's manifest makes it (with step 5), and every
           epsilon is computed again from receipts; none is read.

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

    # Step 5. Grammar of runs: started once and first, then keys; statistics in stages from 0, the
    # initial model, then rounds from 1, each with its sums of updates and following on the model
    # before, and evaluations between rounds and after the last; each sum over members who were
    # asked, not fewer than the run's minimum, and followed by its own receipt before anything else
    # of its run, unless that breaks off; sums about the same rows over the same members; nothing
    # after the end.
    # Step 6. Signatures: each sum's context is what the manifest and the entries before it make it,
    # and more than two thirds of those who were asked (above 32 members: of those who are left)
    # signed who it is over; more than two thirds of the members signed that they accepted the same
    # sums and came to the same model.
    # Both in one pass, as a context binds a sum to all that came before it.
    runs: dict[str, Run] = {}
    for entry in entries:
        try:
            follow(runs, entry)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"steps 5 and 6 (runs), entry {entry.index}: {error}") from None

    # Step 7. Heads: each head that somebody remembered is found at its size.
    for head in heads:
        _find(head, entries)

    # Step 8. Privacy: every epsilon is computed again from receipts.
    costs = spent(runs.values())

    end = head_of(entries[-1] if entries else None)
    return Verdict(
        leaves=end.leaves,
        root=end.root,
        runs=len(runs),
        rounds=sum(run.committed for run in runs.values()),
        receipts=sum(run.receipts for run in runs.values()),
        signatures=sum(run.signatures for run in runs.values()),
        unfinished=tuple(name for name, run in runs.items() if not run.ended),
        without_receipt=tuple(name for name, run in runs.items() if run.pending is not None),
        privacy=costs,
    )


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
            f"step 7 (heads), entry {len(entries)}: the ledger was cut off; "
            f"somebody remembers {head.leaves} entries"
        )
    if head != head_of(entries[head.leaves - 1] if head.leaves > 0 else None):
        raise NotVerifiedError(
            f"step 7 (heads), entry {head.leaves - 1}: somebody remembers another ledger; "
            "compare both copies"
        )
