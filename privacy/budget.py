"""A node's own budget: what the releases about its rows cost so far, and what they may cost.

What holds, while every writer of the file is a `Budget`:
    1. A release is on disk, in the node's own file, before `reserve` returns; nothing may leave
       before that. A crash after it counts as spent; only the end of a period gives back.
    2. For each cohort of units, and each reading that has a cap, the Renyi loss of all that was
       reserved within the period is at most what the cap allows at one order, fixed before the
       first release: the filter of Feldman and Zrnic (arXiv 2008.11193), which is sound when later
       releases are chosen after earlier ones were seen.
    3. One run, step and round is reserved once, whatever becomes of it.
    4. What cannot be read, written or understood refuses.
Who removes the file, or puts an older copy in its place, undoes all that; it shows where the
file's head (`LedgerStore.head`) was noted elsewhere.

Two readings of the same noise: the coordinator's with `colluders` nodes, and `solo`, where all
others work together against this node. No epsilon is stored; all are computed from receipts.
"""

import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from filelock import FileLock, Timeout

from privacy.accounting.event import Event, event_of, merged, solo_event_of
from privacy.accounting.filter import Terms, admit, room
from privacy.accounting.pld import Report, reported
from privacy.accounting.rdp import added, best_order, capacity, epsilon, epsilon_at, renyi
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError
from privacy.ledger.chain import head_of
from privacy.ledger.entry import Body, Entry, parse_line
from privacy.ledger.store import LOCK_TIMEOUT_S, LedgerStore
from privacy.receipt import COHORTS, Part, Receipt

_TERMS, _RESERVED, _COMMITTED = "budget.terms", "budget.reserved", "budget.committed"
_DAY_MS = 86_400_000
_Key: TypeAlias = tuple[str, str, int]
_Ask: TypeAlias = tuple[str, Part, Event]  # reading, cohort, event
_Promise: TypeAlias = Counter[_Ask]


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


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What one cohort of units has spent under one reading. Epsilons hold for the terms' delta.

    Attributes:
        order: Renyi order of the filter.
        spent: Epsilon of all that was reserved, at that order, or at the best one where there is
            no cap; 0 of nothing, inf without noise.
        pending: The part of `spent` that was reserved and not committed. It is spent all the same.
        cap: None where there is none.
        left: Epsilon at that order that more releases may add; None without a cap.
        more_runs: How many more runs like the last one would fit; None without a cap or a run.
        epsilon: The tightest proven epsilon of what was released, as if all of it had been planned
            in advance; None where dp-accounting is not installed.
        method: How `epsilon` was found: "pld" or "rdp"; None without one.
        true_positive_rate: The most that any attack finds of the units that took part, while it
            takes one in a hundred others for one; None where that is not known.
    """

    order: int
    spent: float
    pending: float
    cap: float | None
    left: float | None
    more_runs: int | None
    epsilon: float | None
    method: str | None
    true_positive_rate: float | None


@dataclass(frozen=True, kw_only=True)
class CohortStatement:
    """One cohort of units.

    Attributes:
        cohort: "training" or "test" units.
        releases: How many releases count now.
        runs: Of how many runs.
        coordinator: Against the coordinator with the terms' colluders.
        solo: Against all others together.
    """

    cohort: Part
    releases: int
    runs: int
    coordinator: Spending
    solo: Spending


@dataclass(frozen=True, kw_only=True)
class BudgetStatement:
    """Where a budget stands.

    Attributes:
        terms: As last agreed.
        time_ms: When, by the clock that was given, milliseconds since 1970 UTC.
        cohorts: Each cohort of units.
        last_run: The run that reserved last; empty if none did.
        last_time_ms: When it did, milliseconds since 1970 UTC; 0 if none did.
    """

    terms: BudgetTerms
    time_ms: int
    cohorts: tuple[CohortStatement, ...]
    last_run: str
    last_time_ms: int


@dataclass(frozen=True)
class _Release:
    run: str
    time_ms: int
    receipt: Receipt


@dataclass(frozen=True)
class _Reading:
    """One adversary: what it sees as noise, and what it may learn."""

    name: Literal["coordinator", "solo"]
    against: str
    cap: float | None
    order: int
    view: Callable[[Receipt], Event]


class _Account:
    """What a file says about one data set and unit."""

    def __init__(self, terms: BudgetTerms, solo_order: int) -> None:
        self.terms = terms
        self.solo_order = solo_order
        self.releases: dict[_Key, _Release] = {}
        self.pending: dict[_Key, _Release] = {}
        self._times_ms: dict[tuple[str, Part], dict[Event, list[int]]] | None = None

    def set_terms(self, terms: BudgetTerms) -> None:
        self.terms = terms
        self._times_ms = None

    def reserve(self, key: _Key, release: _Release) -> None:
        self.releases[key] = self.pending[key] = release
        self._note(release)

    def readings(self) -> tuple[_Reading, _Reading]:
        terms = self.terms

        def view(receipt: Receipt) -> Event:
            return event_of(receipt, colluders=terms.colluders)

        return (
            _Reading(
                "coordinator",
                f"the coordinator with {terms.colluders} other nodes",
                terms.epsilon,
                terms.order,
                view,
            ),
            _Reading(
                "solo", "all others together", terms.solo_epsilon, self.solo_order, solo_event_of
            ),
        )

    def counts(self, reading: _Reading, cohort: Part, since_ms: int) -> Counter[Event]:
        """How often each event counts; equal releases are one row of times, which ascend."""
        if self._times_ms is None:
            self._times_ms = {}
            for release in self.releases.values():
                self._note(release)
        rows = self._times_ms.get((reading.name, cohort), {})
        counts = {event: len(times) - bisect_left(times, since_ms) for event, times in rows.items()}
        # Unary plus leaves out what has no count.
        return +Counter(counts)

    def since_ms(self, now_ms: int) -> int:
        """The earliest time that counts."""
        days = self.terms.period_days
        return 0 if days is None else now_ms - math.ceil(days * _DAY_MS)

    def _note(self, release: _Release) -> None:
        if self._times_ms is None:
            return
        for reading in self.readings():
            event = reading.view(release.receipt)
            for cohort in release.receipt.cohorts:
                rows = self._times_ms.setdefault((reading.name, cohort), {})
                rows.setdefault(event, []).append(release.time_ms)


class _Record:
    """What a budget's file says, entry by entry."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str], _Account] = {}
        self.owners: dict[_Key, _Account] = {}
        self.last: Entry | None = None

    @property
    def time_ms(self) -> int:
        return 0 if self.last is None else self.last.time_ms

    def member(self) -> str | None:
        return next((account.terms.member for account in self.accounts.values()), None)

    def follow(self, line: bytes) -> None:
        """Take one more line.

        Raises:
            NotVerifiedError: it does not follow on what was taken, or is nothing of a budget.
        """
        head = head_of(self.last)
        try:
            entry = parse_line(line)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"entry {head.leaves}: {error}") from None
        if (entry.index, entry.previous) != (head.leaves, head.root):
            raise NotVerifiedError(f"entry {head.leaves} does not follow the entry before it")
        if entry.time_ms < self.time_ms:
            raise NotVerifiedError(f"entry {head.leaves} is earlier than the entry before it")
        fault = self._take(entry)
        if fault:
            raise NotVerifiedError(f"entry {head.leaves} {fault}")
        self.last = entry

    def _take(self, entry: Entry) -> str:
        """Take an entry that follows; return why it cannot be, or nothing."""
        body: Mapping[str, Any] = entry.body
        if entry.kind == _TERMS:
            return self._take_terms(body)
        if entry.kind == _RESERVED:
            return self._take_reserved(body, entry.time_ms)
        if entry.kind == _COMMITTED:
            return self._take_committed(body)
        return "is no entry of a budget"

    def _take_terms(self, body: Mapping[str, Any]) -> str:
        values = {name: body[name] for name in _TERMS_FIELDS}
        try:
            terms = BudgetTerms(**values)
            replace(terms, order=body["solo_order"])
        except ValueError as error:
            return f"holds no terms: {error}"
        if self.member() not in {None, terms.member}:
            return "is about another member"
        account = self.accounts.get((terms.dataset, terms.unit))
        if account is None:
            account = _Account(terms, body["solo_order"])
            self.accounts[terms.dataset, terms.unit] = account
        elif (account.terms.order, account.solo_order) != (terms.order, body["solo_order"]):
            return "changes the filter's order, which is fixed"
        else:
            account.set_terms(terms)
        return ""

    def _take_reserved(self, body: Mapping[str, Any], time_ms: int) -> str:
        receipt, key = Receipt.from_json(body["receipt"]), _key(body)
        account = self.accounts.get((body["dataset"], receipt.unit))
        if account is None:
            return "reserves before any terms"
        if key in self.owners:
            return "reserves what was reserved before"
        self.owners[key] = account
        account.reserve(key, _Release(body["run"], time_ms, receipt))
        return ""

    def _take_committed(self, body: Mapping[str, Any]) -> str:
        key = _key(body)
        account = self.owners.get(key)
        if account is None or account.terms.dataset != body["dataset"]:
            return "commits what was never reserved"
        if account.pending.pop(key, None) is None:
            return "commits what was committed before"
        return ""


_TERMS_FIELDS = tuple(one.name for one in fields(BudgetTerms))


class Budget:
    """The budget of one data set and unit, in one file that any number of processes may share.

    Promises are of this object alone, and bind `check` only; what binds is what was reserved.
    """

    def __init__(
        self, store: LedgerStore, terms: BudgetTerms, *, now_ms: Callable[[], int]
    ) -> None:
        """Read and check the whole file, and note the terms where they are new.

        Args:
            store: The file, in the node's own folder; nobody but a `Budget` may append to it.
            terms: What the node's policy allows.
            now_ms: Milliseconds since 1970 UTC. Where it goes back, the file's times do not, and
                of a period more releases count, never fewer.

        Raises:
            RefusedError: the file is broken or cannot be used, belongs to another member, or was
                begun with another order.
            InputError: no release would ever fit under a cap at its order.
        """
        self._store = store
        self._terms = terms
        self._clock = now_ms
        self._mutex = threading.Lock()
        self._record = _Record()
        self._size_bytes = 0
        self._last_line = b""
        self._promises: dict[str, _Promise] = {}
        with self._exclusive():
            self._refuse_foreign_end()
            self._agree()

    def check(self, receipts: Sequence[Receipt], *, run: str = "") -> None:
        """Hold releases against what is left: would all fit, with what is promised to other runs?

        Args:
            receipts: What is asked.
            run: Who asks, if it may have a promise already; that one is not held against it.

        Raises:
            RefusedError: they would not, with the numbers and what would still fit; or they are
                about another unit; or the file cannot be read.
        """
        with self._turn() as account:
            promises = [parts for name, parts in self._promises.items() if name != run]
            self._require_room(account, receipts, promises, self._clock())

    def promise(self, run: str, receipts: Sequence[Receipt]) -> None:
        """Remember what a run may still reserve, so that `check` keeps it free.

        Each reserve of the run takes its own part off. A second promise replaces the first.

        Raises:
            RefusedError: the receipts are about another unit, or the file cannot be read.
        """
        with self._turn() as account:
            promised: _Promise = Counter()
            for receipt in receipts:
                self._require_unit(receipt)
                promised.update(_asks(account, receipt))
            self._promises[run] = promised

    def forget(self, run: str) -> None:
        """Drop what is left of a promise: the run ended. What it reserved stays spent."""
        with self._mutex:
            self._promises.pop(run, None)

    def reserve(self, run: str, step: str, round_number: int, receipt: Receipt) -> None:
        """Spend one release, on disk, before anything of it leaves.

        Args:
            run: The run's id.
            step: One of the ledger's steps.
            round_number: Its round, from 0.
            receipt: What the release will be; it must be what is then released.

        Raises:
            RefusedError: it does not fit, with the numbers; or this run, step and round was
                reserved before; or the receipt is about another unit; or the file cannot be read
                or written. Nothing may leave then.
            ValueError: the step or the round is none of the ledger's.
        """
        key = (run, step, round_number)
        with self._turn() as account:
            if key in self._record.owners:
                raise RefusedError(
                    f"{step} of round {round_number} of run {run} was reserved before and is not "
                    "reserved again; start a new run"
                )
            # What is decided holds at the time that is written: a clock may jump in between.
            now_ms = self._clock()
            self._require_room(account, [receipt], [], now_ms)
            self._append(_RESERVED, {**self._names(key), "receipt": receipt.to_json()}, now_ms)
            promised = self._promises.get(run)
            if promised is not None:
                # `Counter.__sub__` keeps what is above 0.
                self._promises[run] = promised - Counter(_asks(account, receipt))

    def commit(self, run: str, step: str, round_number: int) -> None:
        """Note that what was reserved was accepted; it stays spent. A second note is not written.

        Raises:
            RefusedError: nothing was reserved for it, or the file cannot be read or written.
        """
        key = (run, step, round_number)
        with self._turn() as account:
            if key not in account.releases:
                raise RefusedError(
                    f"nothing was reserved for {step} of round {round_number} of run {run}, so "
                    "nothing can be committed"
                )
            if key in account.pending:
                self._append(_COMMITTED, self._names(key), self._clock())

    def statement(self, *, tightest: bool = True) -> BudgetStatement:
        """Return where the budget stands.

        Args:
            tightest: Also find the tightest epsilon of what was released, which takes up to a
                second where dp-accounting is installed.

        Raises:
            RefusedError: the file cannot be read.
        """
        with self._turn() as account:
            return _statement(account, self._clock(), tightest=tightest)

    def _names(self, key: _Key) -> dict[str, object]:
        run, step, round_number = key
        return {"run": run, "step": step, "round": round_number, "dataset": self._terms.dataset}

    def _agree(self) -> None:
        """Note this object's terms, unless they are the last ones."""
        terms, where = self._terms, self._store.path
        member = self._record.member()
        if member not in {None, terms.member}:
            raise RefusedError(
                f"{where} is the budget of {member}, not of {terms.member}; use a folder of its own"
            )
        account = self._record.accounts.get((terms.dataset, terms.unit))
        if account is None:
            solo_order = (
                terms.order
                if terms.solo_epsilon is None
                else best_order(terms.solo_epsilon, terms.delta)
            )
        else:
            solo_order = account.solo_order
            if account.terms.order != terms.order:
                raise RefusedError(
                    f"the budget of {terms.dataset} was begun at order {account.terms.order}, "
                    f"which cannot change to {terms.order}; set order: {account.terms.order} in "
                    "the node's policy"
                )
        # An order may be too low or too high for a cap, and then nothing would ever fit.
        if terms.epsilon is not None:
            capacity(terms.epsilon, terms.delta, terms.order)
        if terms.solo_epsilon is not None:
            try:
                capacity(terms.solo_epsilon, terms.delta, solo_order)
            except InputError:
                raise RefusedError(
                    f"the budget of {terms.dataset} was begun at order {solo_order}, which cannot "
                    f"hold solo_epsilon {terms.solo_epsilon:g}; choose a larger one"
                ) from None
        if account is None or account.terms != terms:
            self._append(_TERMS, {**asdict(terms), "solo_order": solo_order}, self._clock())

    def _require_unit(self, receipt: Receipt) -> None:
        if receipt.unit != self._terms.unit:
            raise RefusedError(
                f"the release is about a {receipt.unit}, and this budget about a "
                f"{self._terms.unit}; plan the run again with the contract's unit"
            )

    def _require_room(
        self,
        account: _Account,
        receipts: Sequence[Receipt],
        promises: Sequence[_Promise],
        now_ms: int,
    ) -> None:
        for receipt in receipts:
            self._require_unit(receipt)
        since_ms = account.since_ms(now_ms)
        for reading in account.readings():
            if reading.cap is None:
                continue
            terms = Terms(epsilon=reading.cap, delta=account.terms.delta, order=reading.order)
            for cohort in COHORTS:
                events = [reading.view(one) for one in receipts if cohort in one.cohorts]
                if not events:
                    continue
                if not all(event.bounded for event in events):
                    raise RefusedError(
                        f"the node's policy caps what is learned of {account.terms.dataset}, and "
                        "this release has no noise; plan the run with noise, or without this node"
                    )
                counts = account.counts(reading, cohort, since_ms)
                counts.update(_promised(promises, reading, cohort))
                try:
                    admit(terms, [_loss(counts, reading.order)], events)
                except RefusedError as refusal:
                    raise RefusedError(
                        f"the budget of {account.terms.dataset} ({account.terms.unit}, {cohort}, "
                        f"against {reading.against}): {refusal}"
                    ) from None

    @contextmanager
    def _turn(self) -> Iterator[_Account]:
        """Hold the file, on its current state."""
        with self._exclusive():
            terms = self._terms
            account = self._record.accounts[terms.dataset, terms.unit]
            if account.terms != terms:
                raise RefusedError(
                    f"another process opened {self._store.path} with other terms; restart this "
                    "node, so that it reads its policy again"
                )
            yield account

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        # The store locks single appends; between looking and appending nobody may append either.
        path = self._store.path
        if not path.parent.is_dir():
            # `FileLock` would make it, and begin a budget that nobody looks after.
            raise RefusedError(f"there is no folder {path.parent} for a budget; make it first")
        lock = FileLock(path.with_name(path.name + ".turn.lock"), timeout=LOCK_TIMEOUT_S)
        with self._mutex:
            try:
                lock.acquire()
            except Timeout:
                raise RefusedError(
                    f"another process keeps the budget {path}; stop it, then try again"
                ) from None
            except OSError as error:
                raise self._unusable(error) from None
            try:
                self._refresh()
                yield
            finally:
                lock.release()

    def _unusable(self, error: OSError) -> RefusedError:
        return RefusedError(
            f"cannot use the budget {self._store.path} ({error.strerror}), so nothing may leave; "
            "check its folder and disk"
        )

    def _broken(self, reason: object) -> RefusedError:
        return RefusedError(
            f"the budget {self._store.path} does not hold ({reason}), so nothing may leave; "
            "restore it from its newest copy"
        )

    def _refuse_foreign_end(self) -> None:
        """Refuse a file that ends with what is neither an entry nor one that a crash tore."""
        try:
            head = self._store.head()
        except TacitError as error:
            raise self._broken(error) from None
        if head != head_of(self._record.last):
            raise self._broken("another program writes to it")

    def _refresh(self) -> None:
        """Take in what was appended since; the last known line must still be where it was."""
        known = self._last_line
        try:
            data = _read_from(self._store.path, self._size_bytes - len(known))
        except OSError as error:
            raise self._unusable(error) from None
        if not data.startswith(known):
            raise self._broken("it was cut or changed while it was in use")
        whole = data[len(known) : data.rfind(b"\n") + 1]
        for line in whole.splitlines(keepends=True):
            try:
                self._record.follow(line)
            except NotVerifiedError as error:
                raise self._broken(error) from None
            self._size_bytes += len(line)
            self._last_line = line

    def _append(self, kind: str, body: Body, now_ms: int) -> None:
        """Write one entry and take it in as it stands on disk."""
        before = head_of(self._record.last).leaves
        try:
            # without its note a release counts as spent all the same, so the note may be lost
            self._store.append(kind, body, time_ms=now_ms, durable=kind != _COMMITTED)
        except TacitError as error:
            raise RefusedError(f"{error}; nothing may leave before it is written") from None
        self._refresh()
        if head_of(self._record.last).leaves != before + 1:
            raise self._broken("another program writes to it")


def read_statements(
    store: LedgerStore, *, now_ms: int, tightest: bool = True
) -> tuple[BudgetStatement, ...]:
    """Return where every budget in a file stands; nothing is written and nothing locked.

    Args:
        store: The file; one that does not exist holds no budget.
        now_ms: Milliseconds since 1970 UTC.
        tightest: As for `Budget.statement`.

    Raises:
        RefusedError: the file is broken or is no budget.
        InputError: the file cannot be read.
    """
    record = _Record()
    try:
        store.head()
        for line in store.read().splitlines(keepends=True):
            record.follow(line)
    except NotVerifiedError as error:
        raise NotVerifiedError(
            f"the budget {store.path} does not hold ({error}); restore it from its newest copy"
        ) from None
    return tuple(
        _statement(account, now_ms, tightest=tightest) for account in record.accounts.values()
    )


def _statement(account: _Account, now_ms: int, *, tightest: bool) -> BudgetStatement:
    last = next(reversed(account.releases.values()), None)
    since_ms = account.since_ms(now_ms)
    coordinator, solo = account.readings()
    cohorts: list[CohortStatement] = []
    for cohort in COHORTS:
        counted = [
            one
            for one in account.releases.values()
            if one.time_ms >= since_ms and cohort in one.receipt.cohorts
        ]
        cohorts.append(
            CohortStatement(
                cohort=cohort,
                releases=len(counted),
                runs=len({one.run for one in counted}),
                coordinator=_spending(account, coordinator, cohort, since_ms, tightest=tightest),
                solo=_spending(account, solo, cohort, since_ms, tightest=tightest),
            )
        )
    return BudgetStatement(
        terms=account.terms,
        time_ms=now_ms,
        cohorts=tuple(cohorts),
        last_run="" if last is None else last.run,
        last_time_ms=0 if last is None else last.time_ms,
    )


def _spent(counts: Counter[Event], loss: float, order: int, delta: float, *, capped: bool) -> float:
    if not counts:
        return 0.0
    if capped:
        return epsilon_at(loss, order, delta)
    # no order is enforced, so the best one says most
    return epsilon(_merged(counts), delta)[0]


def _spending(
    account: _Account, reading: _Reading, cohort: Part, since_ms: int, *, tightest: bool
) -> Spending:
    delta, order, cap = account.terms.delta, reading.order, reading.cap

    def loss_of(releases: Sequence[_Release]) -> float:
        return _loss(
            Counter(reading.view(one.receipt) for one in releases if cohort in one.receipt.cohorts),
            order,
        )

    counts = account.counts(reading, cohort, since_ms)
    loss = _loss(counts, order)
    pending = loss_of([one for one in account.pending.values() if one.time_ms >= since_ms])
    left = more_runs = None
    if cap is not None:
        left = room(Terms(epsilon=cap, delta=delta, order=order), [loss])
        last = next(reversed(account.releases.values()), None)
        run_loss = loss_of(
            [one for one in account.releases.values() if last and one.run == last.run]
        )
        more_runs = math.floor(left / run_loss) if run_loss else None
    report = _reported(counts, delta) if tightest else None
    return Spending(
        order=order,
        spent=_spent(counts, loss, order, delta, capped=cap is not None),
        pending=pending,
        cap=cap,
        left=left,
        more_runs=more_runs,
        epsilon=None if report is None else report.epsilon,
        method=None if report is None else report.method,
        true_positive_rate=None if report is None else report.true_positive_rate,
    )


def _key(body: Mapping[str, Any]) -> _Key:
    return body["run"], body["step"], body["round"]


def _promised(promises: Iterable[_Promise], reading: _Reading, cohort: Part) -> Counter[Event]:
    counts: Counter[Event] = Counter()
    for promise in promises:
        for (name, group, event), count in promise.items():
            if (name, group) == (reading.name, cohort):
                counts[event] += count
    return counts


def _asks(account: _Account, receipt: Receipt) -> list[_Ask]:
    return [
        (reading.name, cohort, reading.view(receipt))
        for reading in account.readings()
        for cohort in receipt.cohorts
    ]


def _merged(counts: Mapping[Event, int]) -> list[Event]:
    """Equal events as one of so many steps."""
    return [replace(event, steps=event.steps * count) for event, count in counts.items()]


def _loss(counts: Mapping[Event, int], order: int) -> float:
    """Return the Renyi loss of all events together, rounded upward."""
    return added(renyi(event, order) for event in _merged(counts))


def _reported(counts: Mapping[Event, int], delta: float) -> Report | None:
    try:
        return _report(merged(_merged(counts)), delta)
    except InputError:  # dp-accounting is not installed
        return None


@lru_cache(maxsize=256)
def _report(events: tuple[Event, ...], delta: float) -> Report:
    # The members of a home have often released the same.
    return reported(events, delta)


def _read_from(path: Path, offset_bytes: int) -> bytes:
    """Return the file's bytes from there on; nothing of a file that does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(offset_bytes)
            return file.read()
    except FileNotFoundError:
        return b""
