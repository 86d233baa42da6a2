"""What a node's own ledger says of its budgets, entry by entry: for the node and for an auditor.

Standard library alone, beside `cryptography` for the signature under what was taken back.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias

from privacy.accounting.event import Event, event_of, solo_event_of
from privacy.accounting.rdp import added, epsilon_at, renyi
from privacy.errors import NotVerifiedError, ProtocolError
from privacy.identity import verify_signature
from privacy.ledger.entry import KINDS, Entry, parse_leaf
from privacy.ledger.grammar import rotated
from privacy.ledger.head import LedgerHead, must_follow
from privacy.ledger.merkle import Frontier, leaf_hash
from privacy.receipt import Part, Receipt
from privacy.release import ABORT_DOMAIN, abort_message

TERMS, RESERVED = "budget.terms", "budget.reserved"
COMMITTED, ABORTED = "budget.committed", "budget.aborted"
_DAY_MS = 86_400_000
ReleaseKey: TypeAlias = tuple[str, str, int]
"""Run, step and round of a release."""


@dataclass(frozen=True, kw_only=True)
class BudgetTerms:
    """What a node allows about one data set.

    Attributes:
        member: Whose budget it is.
        dataset: The data contract's name.
        unit: Whom it protects, as in the receipts.
        epsilon: Cap against the coordinator with `colluders` nodes; None counts without a cap.
        delta: For which epsilon holds, in (0, 1).
        order: Renyi order of that filter; it never changes for this data set and unit.
        colluders: How many other nodes are assumed to work with the coordinator.
        period_days: Only releases of the last so many days count; None: all, for ever.
        solo_epsilon: Cap where all others work together; None counts without a cap.
    """

    member: str
    dataset: str
    unit: str
    epsilon: float | None
    delta: float
    order: int
    colluders: int
    period_days: float | None
    solo_epsilon: float | None

    def __post_init__(self) -> None:
        caps = (self.epsilon, self.solo_epsilon, self.period_days)
        if any(cap is not None and not 0 < cap < math.inf for cap in caps):
            raise ValueError("caps and the period are finite and above 0, or None")
        if self.colluders < 0:
            raise ValueError(f"need colluders >= 0, not {self.colluders}")
        # Refuses an order or a delta out of range.
        epsilon_at(0.0, self.order, self.delta)


@dataclass(frozen=True)
class Release:
    """One release as it was reserved."""

    run: str
    time_ms: int
    receipt: Receipt


@dataclass(frozen=True)
class Reading:
    """One adversary: what it sees as noise, and what it may learn."""

    name: Literal["coordinator", "solo"]
    against: str
    cap: float | None
    order: int
    view: Callable[[Receipt], Event]


@dataclass(slots=True)
class _Row:
    """Equal releases: when they were, ascending, and what the last so many of them cost."""

    times_ms: list[int] = field(default_factory=list)
    counted: int = 0
    loss: float = 0.0

    def since(self, since_ms: int) -> int:
        return len(self.times_ms) - bisect_left(self.times_ms, since_ms)


class Account:
    """What a ledger says about one data set and unit."""

    def __init__(self, terms: BudgetTerms, solo_order: int) -> None:
        self.terms = terms
        self.solo_order = solo_order
        self.releases: dict[ReleaseKey, Release] = {}
        self.pending: dict[ReleaseKey, Release] = {}
        self._rows: dict[tuple[str, Part], dict[Event, _Row]] | None = None

    def set_terms(self, terms: BudgetTerms) -> None:
        """Read all releases under other terms from now on."""
        self.terms = terms
        self._rows = None

    def reserve(self, key: ReleaseKey, release: Release) -> None:
        """Count a release; it is later than all before."""
        self.releases[key] = self.pending[key] = release
        self._note(release)

    def abort(self, key: ReleaseKey) -> None:
        """Count a release no more."""
        release = self.releases.pop(key)
        if self._rows is None:
            return
        for reading in self.readings():
            event = reading.view(release.receipt)
            for cohort in release.receipt.cohorts:
                times_ms = self._rows[reading.name, cohort][event].times_ms
                del times_ms[bisect_left(times_ms, release.time_ms)]

    def readings(self) -> tuple[Reading, Reading]:
        """Return both adversaries: the coordinator with some nodes, and all others."""
        terms = self.terms

        def view(receipt: Receipt) -> Event:
            return event_of(receipt, colluders=terms.colluders)

        return (
            Reading(
                "coordinator",
                f"the coordinator with {terms.colluders} other nodes",
                terms.epsilon,
                terms.order,
                view,
            ),
            Reading(
                "solo", "all others together", terms.solo_epsilon, self.solo_order, solo_event_of
            ),
        )

    def counts(self, reading: Reading, cohort: Part, since_ms: int) -> Counter[Event]:
        """How often each event counts."""
        rows = self._counted(reading, cohort).items()
        counts = {event: row.since(since_ms) for event, row in rows}
        return Counter({event: count for event, count in counts.items() if count})

    def loss(self, reading: Reading, cohort: Part, since_ms: int) -> float:
        """Return the Renyi loss of all that counts, at the reading's order, rounded upward."""
        losses: list[float] = []
        for event, row in self._counted(reading, cohort).items():
            count = row.since(since_ms)
            # from one release to the next, only one row of all changes
            if count != row.counted:
                steps = event.steps * count
                row.loss = renyi(replace(event, steps=steps), reading.order) if steps else 0.0
                row.counted = count
            losses.append(row.loss)
        return added(losses)

    def since_ms(self, now_ms: int) -> int:
        """The earliest time that counts."""
        days = self.terms.period_days
        return 0 if days is None else now_ms - math.ceil(days * _DAY_MS)

    def _counted(self, reading: Reading, cohort: Part) -> dict[Event, _Row]:
        if self._rows is None:
            self._rows = {}
            for release in self.releases.values():
                self._note(release)
        return self._rows.get((reading.name, cohort), {})

    def _note(self, release: Release) -> None:
        if self._rows is None:
            return
        for reading in self.readings():
            event = reading.view(release.receipt)
            for cohort in release.receipt.cohorts:
                rows = self._rows.setdefault((reading.name, cohort), {})
                rows.setdefault(event, _Row()).times_ms.append(release.time_ms)


class Record:
    """What a node's ledger says of its budgets, entry by entry."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str], Account] = {}
        self.owners: dict[ReleaseKey, Account] = {}
        self.aborted: set[ReleaseKey] = set()
        self.keys: list[bytes] = []
        self.last: Entry | None = None
        self.last_leaf = b""
        self.tree = Frontier()

    def member(self) -> str | None:
        """Return whose budgets these are; None before any terms."""
        return next((account.terms.member for account in self.accounts.values()), None)

    def head(self) -> LedgerHead:
        """Return the head of what was taken so far."""
        return LedgerHead(self.tree.size, self.tree.root().hex())

    def follow(self, leaf: bytes) -> Entry:
        """Take one more leaf, and return its entry.

        Raises:
            NotVerifiedError: it does not follow on what was taken, or is nothing of a node's.
        """
        try:
            entry = parse_leaf(leaf)
            must_follow(self.last, entry)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"entry {self.tree.size}: {error}") from None
        fault = self.take(entry)
        if fault:
            raise NotVerifiedError(f"entry {entry.index} {fault}")
        self.last, self.last_leaf = entry, leaf
        self.tree = self.tree.append(leaf_hash(leaf))
        return entry

    def take(self, entry: Entry) -> str:
        """Take an entry that follows; return why it cannot be, or nothing."""
        body: Mapping[str, Any] = entry.body
        if entry.kind == TERMS:
            return self._take_terms(body)
        if entry.kind == RESERVED:
            return self._take_reserved(body, entry.time_ms)
        if entry.kind == COMMITTED:
            return self._take_settled(body)
        if entry.kind == ABORTED:
            return self._take_aborted(body)
        if entry.kind == "ledger.begun":
            self.keys.append(bytes.fromhex(body["key"]))
        if entry.kind == "key.rotated":
            return self._take_rotated(entry)
        return "" if KINDS[entry.kind].owner != "coordinator" else "is no entry of a node's ledger"

    def _take_rotated(self, entry: Entry) -> str:
        if not self.keys:
            return "changes a key in a ledger without one"
        try:
            self.keys.append(rotated(entry, self.keys[-1])[1])
        except NotVerifiedError as error:
            return f"changes the key: {error}"
        return ""

    def _take_terms(self, body: Mapping[str, Any]) -> str:
        values = {name: body[name] for name in TERMS_FIELDS}
        try:
            terms = BudgetTerms(**values)
            replace(terms, order=body["solo_order"])
        except ValueError as error:
            return f"holds no terms: {error}"
        if self.member() not in {None, terms.member}:
            return "is about another member"
        account = self.accounts.get((terms.dataset, terms.unit))
        if account is None:
            account = Account(terms, body["solo_order"])
            self.accounts[terms.dataset, terms.unit] = account
        elif (account.terms.order, account.solo_order) != (terms.order, body["solo_order"]):
            return "changes the filter's order, which is fixed"
        else:
            account.set_terms(terms)
        return ""

    def _take_reserved(self, body: Mapping[str, Any], time_ms: int) -> str:
        receipt, key = Receipt.from_json(body["receipt"]), release_key(body)
        account = self.accounts.get((body["dataset"], receipt.unit))
        if account is None:
            return "reserves before any terms"
        if key in self.owners:
            return "reserves what was reserved before"
        self.owners[key] = account
        account.reserve(key, Release(body["run"], time_ms, receipt))
        return ""

    def _take_settled(self, body: Mapping[str, Any]) -> str:
        key = release_key(body)
        account = self.owners.get(key)
        if account is None or account.terms.dataset != body["dataset"]:
            return "settles what was never reserved"
        if account.pending.pop(key, None) is None:
            return "settles what was settled before"
        return ""

    def _take_aborted(self, body: Mapping[str, Any]) -> str:
        key = release_key(body)
        if not self.keys:
            return "takes a release back in a ledger without a key"
        message = abort_message(*key, dataset=body["dataset"])
        try:
            verify_signature(self.keys[-1], ABORT_DOMAIN, message, bytes.fromhex(body["signature"]))
        except ProtocolError:
            return "takes a release back without the node's own signature"
        fault = self._take_settled(body)
        if fault:
            return fault
        self.owners[key].abort(key)
        self.aborted.add(key)
        return ""


TERMS_FIELDS = tuple(one.name for one in fields(BudgetTerms))


def release_key(body: Mapping[str, Any]) -> ReleaseKey:
    """Return what names the release that an entry is about."""
    return body["run"], body["step"], body["round"]
