"""Somebody's no, on record."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal.

    Attributes:
        time_ms: When.
        ledger: Slug of the ledger.
        entry: Its index there.
        kind: `run.declined`, `run.refused`, `run.stopped` or `budget.aborted`.
        run: Which run; empty where the entry names a manifest.
        manifest: Hash of the manifest; empty where the entry names a run.
        member: Who; empty where nobody is named.
        reason: In the words of whoever refused.
    """

    time_ms: int
    ledger: str
    entry: int
    kind: str
    run: str
    manifest: str
    member: str
    reason: str
