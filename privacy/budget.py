"""A node's own budget: what the releases about its rows cost so far, and what they may cost.

What holds, while every writer of budget entries is a `Budget`:
    1. A release is on disk, in the node's own ledger, before `reserve` returns the token without
       which nothing leaves. A crash after it counts as spent. Only `abort`, with the node's signed
       word that nothing left, and the end of a period give back.
    2. For each cohort of units, and each reading that has a cap, the Renyi loss of all that was
       reserved within the period is at most what the cap allows at one order, fixed before the
       first release: the filter of Feldman and Zrnic (arXiv 2008.11193), which is sound when later
       releases are chosen after earlier ones were seen.
    3. One run, step and round is reserved once, whatever becomes of it.
    4. What cannot be read, written or understood refuses.
Who removes the ledger, or puts an older copy in its place, undoes all that; it shows, as each token
holds the ledger's head, which the coordinator notes in its own with each sum.

Two readings of the same noise: the coordinator's with `colluders` nodes, and `solo`, where all
others work together against this node. No epsilon is stored; all are computed from receipts.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from privacy.accounting.event import Event, merged
from privacy.accounting.filter import Terms, admit, room
from privacy.accounting.pld import Report, reported
from privacy.accounting.rdp import added, best_order, capacity, epsilon, epsilon_at, renyi
from privacy.budget_record import (
    ABORTED,
    COMMITTED,
    RESERVED,
    TERMS,
    Account,
    BudgetTerms,
    Reading,
    Record,
    Release,
    ReleaseKey,
)
from privacy.errors import (
    BudgetError,
    DamagedFileError,
    InputError,
    NotVerifiedError,
    OwnFileError,
    ProtocolError,
    RefusedError,
)
from privacy.identity import verify_signature
from privacy.ledger.entry import Body, Entry
from privacy.ledger.merkle import Frontier, frontier_at
from privacy.ledger.store import LedgerStore, Turn
from privacy.receipt import COHORTS, Part, Receipt
from privacy.release import ABORT_DOMAIN, ReleaseToken, abort_message

_Ask: TypeAlias = tuple[str, Part, Event]  # reading, cohort, event
_Promise: TypeAlias = Counter[_Ask]


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


class Budget:
    """The budget of one data set and unit, in a ledger that any number of processes may share.

    Promises are of this object alone, and bind `check` only; what binds is what was reserved.
    """

    def __init__(
        self,
        store: LedgerStore,
        terms: BudgetTerms,
        *,
        now_ms: Callable[[], int],
        order_is_meant: bool = True,
    ) -> None:
        """Read and check the whole ledger, and note the terms where they are new.

        Args:
            store: The node's own ledger; nobody but a `Budget` may append budget entries to it.
            terms: What the node's policy allows.
            order_is_meant: Whether a budget that was begun at another order is refused; else that
                one stays, and the terms' own is for a new budget alone.
            now_ms: Milliseconds since 1970 UTC. Where it goes back, the ledger's times do not, and
                of a period more releases count, never fewer.

        Raises:
            RefusedError: the ledger is broken or cannot be used, belongs to another member, was
                begun with another order, or with one that cannot hold a cap.
            InputError: no release would ever fit under a cap at its order.
        """
        self._store = store
        self._terms = terms
        self._order_is_meant = order_is_meant
        self._clock = now_ms
        self._mutex = threading.Lock()
        self._record = Record()
        self._ahead = False  # the record may hold what is not on disk
        self._seen = Frontier()  # what was on disk when it was last looked at
        self._promises: dict[str, _Promise] = {}
        # An order may be too low or too high for a cap, and then nothing would ever fit.
        if terms.epsilon is not None:
            capacity(terms.epsilon, terms.delta, terms.order)
        if terms.solo_epsilon is not None:
            best_order(terms.solo_epsilon, terms.delta)
        with self._exclusive() as turn:
            self._agree(turn)

    def check(self, receipts: Sequence[Receipt], *, run: str = "") -> None:
        """Hold releases against what is left: would all fit, with what is promised to other runs?

        Args:
            receipts: What is asked.
            run: Who asks, if it may have a promise already; that one is not held against it.

        Raises:
            RefusedError: they would not, with the numbers and what would still fit; or they are
                about another unit; or the file cannot be read.
        """
        with self._turn() as (_, account):
            promises = [parts for name, parts in self._promises.items() if name != run]
            self._require_room(account, receipts, promises, self._clock())

    def promise(self, run: str, receipts: Sequence[Receipt]) -> None:
        """Remember what a run may still reserve, so that `check` keeps it free.

        Each reserve of the run takes its own part off. A second promise replaces the first.

        Raises:
            RefusedError: the receipts are about another unit, or the file cannot be read.
        """
        with self._turn() as (_, account):
            promised: _Promise = Counter()
            for receipt in receipts:
                self._require_unit(receipt)
                promised.update(_asks(account, receipt))
            self._promises[run] = promised

    def forget(self, run: str) -> None:
        """Drop what is left of a promise: the run ended. What it reserved stays spent."""
        with self._mutex:
            self._promises.pop(run, None)

    def reserve(self, run: str, step: str, round_number: int, receipt: Receipt) -> ReleaseToken:
        """Spend one release, on disk, before anything of it leaves; return what lets it leave.

        Args:
            run: The run's id.
            step: One of the ledger's steps.
            round_number: Its round, from 0.
            receipt: What the release will be; it must be what is then released.

        Raises:
            RefusedError: it does not fit, with the numbers; or this run, step and round was
                reserved before, so that something of it may have left; or the receipt is about
                another unit; or the ledger cannot be read or written. Nothing may leave then.
            ValueError: the step or the round is none of the ledger's.
        """
        key = (run, step, round_number)
        with self._turn() as (turn, account):
            if key in self._record.owners:
                raise RefusedError(
                    f"{step} of round {round_number} of run {run} was reserved before and is not "
                    "reserved again; start a new run"
                )
            # What is decided holds at the time that is written: a clock may jump in between.
            now_ms = self._clock()
            self._require_room(account, [receipt], [], now_ms)
            body = {**self._names(key), "receipt": receipt.to_json()}
            self._append(turn, RESERVED, body, now_ms)
            asks = Counter(_asks(account, receipt))
            head = self._record.head()
        # The turn is over, so it is on disk.
        with self._mutex:
            promised = self._promises.get(run)
            if promised is not None:
                # `Counter.__sub__` keeps what is above 0.
                self._promises[run] = promised - asks
        return ReleaseToken(run=run, step=step, round_number=round_number, head=head)

    def commit(self, run: str, step: str, round_number: int) -> None:
        """Note that what was reserved was accepted; it stays spent. A second note is not written.

        Raises:
            RefusedError: nothing was reserved for it, or the ledger cannot be read or written.
        """
        key = (run, step, round_number)
        # without its note a release counts as spent all the same, so the note may be lost
        with self._turn(durable=False) as (turn, account):
            if key not in account.releases:
                raise RefusedError(
                    f"nothing was reserved for {step} of round {round_number} of run {run}, so "
                    "nothing can be committed"
                )
            if key in account.pending:
                self._append(turn, COMMITTED, self._names(key), self._clock())

    def abort(
        self, token: ReleaseToken, *, reason: str, sign: Callable[[str, bytes], bytes]
    ) -> None:
        """Take back what was reserved, of which nothing left, with the node's signed word.

        Only for reasons that do not depend on the rows: that something was not released would
        otherwise tell of them. The token lets nothing leave from here on.

        Args:
            token: What `reserve` returned, unused.
            reason: For the ledger, one sentence.
            sign: The node's `Identity.sign`.

        Raises:
            RefusedError: something left, or `sign` is not by the ledger's key, or the ledger has
                none, or it cannot be read or written; it stays spent.
        """
        token.void()
        key = (token.run, token.step, token.round_number)
        with self._turn() as (turn, account):
            if key not in account.pending:
                raise RefusedError(
                    f"{token.step} of round {token.round_number} of run {token.run} is not "
                    "reserved here, so it cannot be taken back"
                )
            if not self._record.keys:
                raise OwnFileError(
                    f"the ledger {self._store.place} holds no key of this node, so nothing can be "
                    "taken back; begin it with one"
                )
            message = abort_message(*key, dataset=self._terms.dataset)
            signature = sign(ABORT_DOMAIN, message)
            try:
                verify_signature(self._record.keys[-1], ABORT_DOMAIN, message, signature)
            except ProtocolError:
                raise OwnFileError(
                    f"the key that signs is not the one that {self._store.place} holds, so nothing "
                    "can be taken back; note the new key there first"
                ) from None
            body = {**self._names(key), "reason": reason, "signature": signature.hex()}
            self._append(turn, ABORTED, body, self._clock())

    def statement(self, *, tightest: bool = True) -> BudgetStatement:
        """Return where the budget stands.

        Args:
            tightest: Also find the tightest epsilon of what was released, which takes up to a
                second where dp-accounting is installed.

        Raises:
            RefusedError: the file cannot be read.
        """
        with self._turn() as (_, account):
            return _statement(account, self._clock(), tightest=tightest)

    def _names(self, key: ReleaseKey) -> dict[str, object]:
        run, step, round_number = key
        return {"run": run, "step": step, "round": round_number, "dataset": self._terms.dataset}

    def _agree(self, turn: Turn) -> None:
        """Note this object's terms, unless they are the last ones."""
        terms, where = self._terms, self._store.place
        member = self._record.member()
        if member not in {None, terms.member}:
            raise OwnFileError(
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
            solo_order, order = account.solo_order, account.terms.order
            if self._order_is_meant and order != terms.order:
                raise BudgetError(
                    f"the budget of {terms.dataset} was begun at order {order}, which cannot "
                    f"change to {terms.order}; leave order out of the node's policy"
                )
            self._terms = terms = replace(terms, order=order)
        for cap, at, name in (
            (terms.epsilon, terms.order, "epsilon"),
            (terms.solo_epsilon, solo_order, "solo_epsilon"),
        ):
            if cap is None:
                continue
            try:
                capacity(cap, terms.delta, at)
            except InputError:
                raise BudgetError(
                    f"the budget of {terms.dataset} was begun at order {at}, which cannot hold "
                    f"{name} {cap:g}; choose a larger one"
                ) from None
        if account is None or account.terms != terms:
            body = {**asdict(terms), "solo_order": solo_order}
            self._append(turn, TERMS, body, self._clock())

    def _require_unit(self, receipt: Receipt) -> None:
        if receipt.unit != self._terms.unit:
            raise RefusedError(
                f"the release is about a {receipt.unit}, and this budget about a "
                f"{self._terms.unit}; plan the run again with the contract's unit"
            )

    def _require_room(
        self,
        account: Account,
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
                charges = [
                    account.loss(reading, cohort, since_ms),
                    _loss(_promised(promises, reading, cohort), reading.order),
                ]
                try:
                    admit(terms, charges, events)
                except RefusedError as refusal:
                    raise BudgetError(
                        f"the budget of {account.terms.dataset} ({account.terms.unit}, {cohort}, "
                        f"against {reading.against}): {refusal}"
                    ) from None

    @contextmanager
    def _turn(self, *, durable: bool = True) -> Iterator[tuple[Turn, Account]]:
        """Hold the ledger, on its current state."""
        with self._exclusive(durable=durable) as turn:
            terms = self._terms
            account = self._record.accounts[terms.dataset, terms.unit]
            if account.terms != terms:
                raise OwnFileError(
                    f"another process opened {self._store.place} with other terms; restart this "
                    "node, so that it reads its policy again"
                )
            yield turn, account

    @contextmanager
    def _exclusive(self, *, durable: bool = True) -> Iterator[Turn]:
        with self._mutex:
            try:
                with self._store.turn(durable=durable) as turn:
                    self._refresh(turn)
                    yield turn
                self._seen, self._ahead = self._record.tree, False
            except BaseException as error:
                if self._ahead:
                    # what was taken in in this turn is not on disk: all is read anew
                    self._record, self._ahead = Record(), False
                if isinstance(error, InputError):
                    raise OwnFileError(f"{error}; nothing may leave before it is written") from None
                raise

    def _broken(self, reason: object) -> OwnFileError:
        return OwnFileError(
            f"the budget {self._store.place} does not hold ({reason}), so nothing may leave; "
            "restore it from its newest copy"
        )

    def _refresh(self, turn: Turn) -> None:
        """Take in what was appended since; the last known entry must still be where it was."""
        record, known = self._record, self._record.tree.size
        leaves = turn.leaves(max(0, known - 1))
        if known and next(leaves, None) != record.last_leaf:
            raise self._cut()
        for leaf in leaves:
            self._ahead = True
            try:
                record.follow(leaf)
            except NotVerifiedError as error:
                raise self._broken(error) from None
            # Where all is read anew, it must still begin with what was seen before.
            if record.tree.size == self._seen.size and record.tree != self._seen:
                raise self._cut()
        if record.tree.size < self._seen.size:
            raise self._cut()
        if record.tree.size != known:
            try:
                _require_kept(self._store, record.tree)
            except NotVerifiedError as error:
                raise self._broken(error) from None
        self._seen, self._ahead = record.tree, False

    def _cut(self) -> OwnFileError:
        return self._broken("it was cut or changed while it was in use")

    def _append(self, turn: Turn, kind: str, body: Body, now_ms: int) -> None:
        """Write one entry and take it in; it is on disk when the turn is over."""
        entry = turn.append(kind, body, time_ms=now_ms)
        self._ahead = True
        try:
            self._record.follow(entry.leaf())
        except NotVerifiedError as error:
            raise self._broken(error) from None


def read_statements(
    store: LedgerStore, *, now_ms: int, tightest: bool = True
) -> tuple[BudgetStatement, ...]:
    """Return where every budget in a ledger stands; nothing is written and nothing locked.

    Args:
        store: The node's ledger; one that does not exist holds no budget.
        now_ms: Milliseconds since 1970 UTC.
        tightest: As for `Budget.statement`.

    Raises:
        RefusedError: the ledger is broken or is no node's.
        InputError: it cannot be read.
    """
    record, _ = read_ledger(store)
    return statements_of(record, now_ms=now_ms, tightest=tightest)


def statements_of(
    record: Record, *, now_ms: int, tightest: bool = True
) -> tuple[BudgetStatement, ...]:
    """Return where every budget of a record stands; see `read_statements`."""
    return tuple(
        _statement(account, now_ms, tightest=tightest) for account in record.accounts.values()
    )


def read_ledger(store: LedgerStore) -> tuple[Record, tuple[Entry, ...]]:
    """Return what a node's ledger says of its budgets, and all its entries, after checking them.

    Nothing is written and nothing locked.

    Args:
        store: The node's ledger; one that does not exist has no entries.

    Raises:
        RefusedError: the ledger is broken or is no node's.
        InputError: it cannot be read.
    """
    record = Record()
    try:
        entries = tuple(record.follow(leaf) for leaf in store.leaves())
        _require_kept(store, record.tree)
    except NotVerifiedError as error:
        raise DamagedFileError(
            f"the budget {store.place} does not hold ({error}); restore it from its newest copy"
        ) from None
    return record, entries


def _statement(account: Account, now_ms: int, *, tightest: bool) -> BudgetStatement:
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
    account: Account, reading: Reading, cohort: Part, since_ms: int, *, tightest: bool
) -> Spending:
    delta, order, cap = account.terms.delta, reading.order, reading.cap

    def loss_of(releases: Sequence[Release]) -> float:
        return _loss(
            Counter(reading.view(one.receipt) for one in releases if cohort in one.receipt.cohorts),
            order,
        )

    counts = account.counts(reading, cohort, since_ms)
    loss = account.loss(reading, cohort, since_ms)
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


def _require_kept(store: LedgerStore, tree: Frontier) -> None:
    if frontier_at(store.node, tree.size).root() != tree.root():
        raise NotVerifiedError("its entries are not those that were written")


def _promised(promises: Iterable[_Promise], reading: Reading, cohort: Part) -> Counter[Event]:
    counts: Counter[Event] = Counter()
    for promise in promises:
        for (name, group, event), count in promise.items():
            if (name, group) == (reading.name, cohort):
                counts[event] += count
    return counts


def _asks(account: Account, receipt: Receipt) -> list[_Ask]:
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
