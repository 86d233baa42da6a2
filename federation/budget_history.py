"""How a budget came to be spent: release by release, run by run, and when its cap will be reached.

Pure: entries in, rows out; for the command line and for pages. Everything is read under the terms
as they were agreed last, at the filter's fixed order where there is a cap and at the best order
where there is none, as `privacy.budget` does. Sums are rounded upward.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import add, sub
from typing import Any, Literal, TypeAlias

from privacy.accounting.event import Event, event_of, solo_event_of
from privacy.accounting.rdp import ORDERS, capacity, epsilon_at, renyi
from privacy.budget_record import (
    ABORTED,
    COMMITTED,
    RESERVED,
    TERMS,
    TERMS_FIELDS,
    BudgetTerms,
    ReleaseKey,
    release_key,
)
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import Entry
from privacy.receipt import COHORTS, Part, Receipt

PACE_DAYS = 30
_DAY_MS = 86_400_000

State: TypeAlias = Literal["committed", "reserved", "aborted"]
Change: TypeAlias = Literal["reserved", "aborted", "expired"]
Against: TypeAlias = Literal["coordinator", "solo"]
_Place: TypeAlias = tuple[str, str]  # data set, unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What something took of one budget under one reading.

    Attributes:
        before: Epsilon spent before it.
        after: Epsilon spent after it.
        loss: Its own Renyi loss at the filter's order, which is what it adds to epsilon there.
            What was taken back has none; infinite without noise.
    """

    before: float
    after: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRow:
    """One release.

    Attributes:
        index: Its entry in the node's ledger.
        time_ms: When it was reserved, milliseconds since 1970 UTC.
        run: The run's id.
        step: One of the ledger's steps.
        round_number: Its round.
        state: "reserved" is spent all the same; "aborted" was given back.
        coordinator: Against the coordinator with the terms' colluders, as it was when reserved.
        solo: Against all others together.
    """

    index: int
    time_ms: int
    run: str
    step: str
    round_number: int
    state: State
    coordinator: Taken
    solo: Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run.

    Attributes:
        run: Its id.
        first_ms: When it reserved first, milliseconds since 1970 UTC.
        last_ms: When it reserved last.
        releases: How many it reserved.
        pending: How many of them were neither committed nor taken back; they are spent.
        aborted: How many of them were taken back.
        coordinator: From before its first release to after its last entry. Where runs overlapped,
            `after` holds what others took in between; `loss` is its own alone.
        solo: The same, against all others together.
    """

    run: str
    first_ms: int
    last_ms: int
    releases: int
    pending: int
    aborted: int
    coordinator: Taken
    solo: Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is spent from one time on.

    Attributes:
        time_ms: Milliseconds since 1970 UTC.
        change: Why it changed: a release was reserved, taken back, or left the period.
        run: Whose release it was.
        coordinator: Epsilon from then on.
        solo: Epsilon from then on, against all others together.
    """

    time_ms: int
    change: Change
    run: str
    coordinator: float
    solo: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetHistory:
    """One member's data set, unit and cohort of units.

    Attributes:
        terms: As agreed last.
        cohort: "training" or "test" units.
        solo_order: Renyi order of the solo filter; the other one's is in the terms.
        until_ms: Up to when releases that left the period are taken off, milliseconds since 1970.
        releases: All of them, in order.
        runs: All runs, by their first release.
        curve: What was spent over time.
    """

    terms: BudgetTerms
    cohort: Part
    solo_order: int
    until_ms: int
    releases: tuple[ReleaseRow, ...]
    runs: tuple[RunRow, ...]
    curve: tuple[Point, ...]

    def spent(self, against: Against) -> float:
        """Return the epsilon that is spent at `until_ms`."""
        return float(getattr(self.curve[-1], against)) if self.curve else 0.0

    def cap(self, against: Against) -> float | None:
        """Return the cap on epsilon; None without one."""
        return self.terms.epsilon if against == "coordinator" else self.terms.solo_epsilon

    def order(self, against: Against) -> int:
        """Return the filter's Renyi order."""
        return self.terms.order if against == "coordinator" else self.solo_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Where it leads if things go on as in the last `PACE_DAYS` days.

    Attributes:
        pace: Epsilon a day that releases of these days added and that was not given back.
        reached_ms: When the cap will be reached, milliseconds since 1970 UTC; None without a cap,
            and where at this pace it is never reached.
    """

    pace: float
    reached_ms: int | None


def budget_history(
    entries: Iterable[Entry], *, now_ms: int | None = None
) -> tuple[BudgetHistory, ...]:
    """Return the history of each budget and cohort that a node's ledger holds releases of.

    Tens of microseconds a release: each is added to what was spent before it.

    Args:
        entries: Of one node, in order, as `privacy.budget.read_ledger` returns them; signatures
            are not checked again.
        now_ms: Up to when releases leave the period; None: the time of the last entry.

    Raises:
        NotVerifiedError: an entry settles or reserves what it cannot.
    """
    known = tuple(entries)
    book = _Book()
    for entry in known:
        if entry.kind == TERMS:
            book.agree(entry)
    # under the terms as they are now, from the first release on
    for entry in known:
        if entry.kind == RESERVED:
            book.reserve(entry)
        elif entry.kind in {COMMITTED, ABORTED}:
            book.settle(entry)
    last_ms = known[-1].time_ms if known else 0
    return book.histories(last_ms if now_ms is None else max(now_ms, last_ms))


def outlook(history: BudgetHistory, against: Against, *, now_ms: int) -> Outlook:
    """Return when the cap is reached at the pace of the last `PACE_DAYS` days.

    What was spent then is taken to be spent again, evenly, while what is older than the period
    leaves it; what is spent from now on leaves it a period later.
    """
    rows = [
        (row.time_ms, loss)
        for row in history.releases
        if row.state != "aborted" and (loss := getattr(row, against).loss)
    ]
    recent = math.fsum(loss for time_ms, loss in rows if time_ms > now_ms - PACE_DAYS * _DAY_MS)
    pace = recent / PACE_DAYS
    cap = history.cap(against)
    if cap is None:
        return Outlook(pace=pace, reached_ms=None)
    return Outlook(pace=pace, reached_ms=_reached_ms(history, against, rows, pace, now_ms))


def _reached_ms(
    history: BudgetHistory,
    against: Against,
    rows: list[tuple[int, float]],
    pace: float,
    now_ms: int,
) -> int | None:
    terms = history.terms
    cap = history.cap(against)
    most = capacity(cap, terms.delta, history.order(against)) if cap is not None else math.inf
    period_ms = _period_ms(terms)
    alive = [(at, loss) for at, loss in rows if period_ms is None or at >= now_ms - period_ms]
    spent = math.fsum(loss for _, loss in alive)
    if spent >= most:
        return now_ms
    if not pace:
        return None
    pace_ms = pace / _DAY_MS
    at_ms = now_ms
    # Between two releases that leave, what is spent only grows.
    leaving = [] if period_ms is None else [(at + period_ms + 1, loss) for at, loss in alive]
    for leaves_ms, loss in [*leaving, (math.inf if period_ms is None else now_ms + period_ms, 0.0)]:
        reached_ms = at_ms + (most - spent) / pace_ms
        if reached_ms <= leaves_ms:
            return math.ceil(reached_ms)
        if leaves_ms == math.inf:
            break
        spent += (leaves_ms - at_ms) * pace_ms - loss
        at_ms = math.ceil(leaves_ms)
    return None


def _period_ms(terms: BudgetTerms) -> int | None:
    days = terms.period_days
    return None if days is None else math.ceil(days * _DAY_MS)


class _Sum:
    """Charges that come and go under one reading, and the epsilon of those that are there."""

    def __init__(self, order: int, delta: float, *, capped: bool) -> None:
        self._order = order
        self._delta = delta
        # where no order is enforced, the best one says most
        self._orders = (order,) if capped else ORDERS
        self._extras = [epsilon_at(_FAR, one, delta) - _FAR for one in self._orders]
        self._charges: dict[Event, tuple[float, list[float]]] = {}
        self.epsilon = 0.0
        self._empty()

    def _empty(self) -> None:
        self._count = 0
        self._unbounded = 0
        self._totals = [0.0] * len(self._orders)
        # what rounding may have taken from each total before the last `_additions` of them
        self._errors = [0.0] * len(self._orders)
        self._additions = 0

    def loss(self, event: Event) -> float:
        """Return the Renyi loss at the filter's order."""
        return self._charged(event)[0]

    def add(self, event: Event) -> None:
        """Take one release in."""
        self._count += 1
        if event.bounded:
            self._totals = list(map(add, self._totals, self._charged(event)[1]))
            self._additions += 1
        else:
            self._unbounded += 1
        self.epsilon = self._epsilon()

    def remove(self, event: Event) -> None:
        """Take one release out that was taken in."""
        self._count -= 1
        if not self._count:
            self._empty()
        elif event.bounded:
            lost = (self._additions + 1) * _ULP
            self._errors = [
                error + total * lost
                for error, total in zip(self._errors, self._totals, strict=True)
            ]
            self._totals = list(map(sub, self._totals, self._charged(event)[1]))
            self._additions = 0
        else:
            self._unbounded -= 1
        self.epsilon = self._epsilon()

    def _charged(self, event: Event) -> tuple[float, list[float]]:
        found = self._charges.get(event)
        if found is None:
            charges = [renyi(event, order) for order in self._orders] if event.bounded else []
            found = self._charges[event] = (renyi(event, self._order), charges)
        return found

    def _epsilon(self) -> float:
        if not self._count:
            return 0.0
        if self._unbounded:
            return math.inf
        sums = list(map(add, self._totals, self._extras))
        best = sums.index(min(sums))
        loss = max(0.0, self._totals[best]) * (1 + self._additions * _ULP) + self._errors[best]
        return epsilon_at(math.nextafter(loss, math.inf), self._orders[best], self._delta)


# Large enough that no conversion reaches below 0, small enough that nothing is lost beside it.
_FAR = 1000.0
_ULP = 2.0**-52


@dataclass(slots=True)
class _Release:
    index: int
    time_ms: int
    key: ReleaseKey
    cohorts: tuple[Part, ...]
    events: dict[Against, Event]
    place: _Place
    state: State = "reserved"


@dataclass(slots=True)
class _Budget:
    """One data set and unit, before it is told by cohort."""

    terms: BudgetTerms
    solo_order: int
    # what happens in order: a release, and whether it comes or goes
    acts: list[tuple[int, _Release, Change]] = field(default_factory=list)


class _Book:
    """What the entries of a ledger say, before it is added up."""

    def __init__(self) -> None:
        self._budgets: dict[_Place, _Budget] = {}
        self._releases: dict[ReleaseKey, _Release] = {}
        self._seen: dict[tuple[object, ...], tuple[tuple[Part, ...], dict[Against, Event]]] = {}

    def agree(self, entry: Entry) -> None:
        body: Mapping[str, Any] = entry.body
        terms = BudgetTerms(**{name: body[name] for name in TERMS_FIELDS})
        place = terms.dataset, terms.unit
        budget = self._budgets.setdefault(place, _Budget(terms, body["solo_order"]))
        budget.terms = terms

    def reserve(self, entry: Entry) -> None:
        body: Mapping[str, Any] = entry.body
        receipt: Mapping[str, Any] = body["receipt"]
        place, key = (body["dataset"], receipt["unit"]), release_key(body)
        budget = self._budgets.get(place)
        if budget is None or key in self._releases:
            raise NotVerifiedError(f"entry {entry.index} reserves what it cannot")
        cohorts, events = self._read(receipt, place, budget.terms)
        release = _Release(entry.index, entry.time_ms, key, cohorts, events, place)
        self._releases[key] = release
        budget.acts.append((entry.time_ms, release, "reserved"))

    def settle(self, entry: Entry) -> None:
        release = self._releases.get(release_key(entry.body))
        if release is None or release.state != "reserved":
            raise NotVerifiedError(f"entry {entry.index} settles what it cannot")
        if entry.kind == COMMITTED:
            release.state = "committed"
        else:
            release.state = "aborted"
            self._budgets[release.place].acts.append((entry.time_ms, release, "aborted"))

    def histories(self, until_ms: int) -> tuple[BudgetHistory, ...]:
        return tuple(
            _history(budget, cohort, until_ms)
            for budget in self._budgets.values()
            for cohort in COHORTS
            if any(cohort in release.cohorts for _, release, _ in budget.acts)
        )

    def _read(
        self, body: Mapping[str, Any], place: _Place, terms: BudgetTerms
    ) -> tuple[tuple[Part, ...], dict[Against, Event]]:
        # Most releases of a ledger differ by what they were for alone.
        facts = (place, *(value for name, value in body.items() if name != "purpose"))
        found = self._seen.get(facts)
        if found is None:
            receipt = Receipt.from_json(body)
            coordinator = event_of(receipt, colluders=terms.colluders)
            events: dict[Against, Event] = {
                "coordinator": coordinator,
                "solo": solo_event_of(receipt),
            }
            found = self._seen[facts] = (receipt.cohorts, events)
        return found


class _Telling:
    """One cohort of units, act by act."""

    def __init__(self, budget: _Budget) -> None:
        terms = budget.terms
        self.sums: dict[Against, _Sum] = {
            "coordinator": _Sum(terms.order, terms.delta, capped=terms.epsilon is not None),
            "solo": _Sum(budget.solo_order, terms.delta, capped=terms.solo_epsilon is not None),
        }
        self.rows: list[ReleaseRow] = []
        self.curve: list[Point] = []
        # run -> epsilons after its last act
        self.after: dict[str, tuple[float, float]] = {}
        self._period_ms = _period_ms(terms)
        self._counting: deque[_Release] = deque()
        self._gone: set[int] = set()

    def expire(self, now_ms: int) -> None:
        """Take off what left the period before `now_ms`."""
        if self._period_ms is None:
            return
        while self._counting and self._counting[0].time_ms < now_ms - self._period_ms:
            release = self._counting.popleft()
            self._take_off(release.time_ms + self._period_ms + 1, release, "expired")

    def take(self, time_ms: int, release: _Release, how: Change) -> None:
        """Take what was reserved, or taken back, at a time."""
        self.expire(time_ms)
        if how == "reserved":
            before = [total.epsilon for total in self.sums.values()]
            for against, total in self.sums.items():
                total.add(release.events[against])
            self._note(time_ms, release, how)
            self._counting.append(release)
            self.rows.append(self._row(release, before))
        else:
            self._take_off(time_ms, release, how)

    def _take_off(self, time_ms: int, release: _Release, how: Change) -> None:
        if release.index in self._gone:
            return
        self._gone.add(release.index)
        for against, total in self.sums.items():
            total.remove(release.events[against])
        self._note(time_ms, release, how)

    def _note(self, time_ms: int, release: _Release, how: Change) -> None:
        run, (coordinator, solo) = release.key[0], (one.epsilon for one in self.sums.values())
        self.curve.append(
            Point(time_ms=time_ms, change=how, run=run, coordinator=coordinator, solo=solo)
        )
        if how != "expired":
            self.after[run] = coordinator, solo

    def _row(self, release: _Release, before: list[float]) -> ReleaseRow:
        run, step, round_number = release.key
        coordinator, solo = (
            Taken(
                before=epsilon,
                after=total.epsilon,
                loss=0.0 if release.state == "aborted" else total.loss(release.events[against]),
            )
            for epsilon, (against, total) in zip(before, self.sums.items(), strict=True)
        )
        return ReleaseRow(
            index=release.index,
            time_ms=release.time_ms,
            run=run,
            step=step,
            round_number=round_number,
            state=release.state,
            coordinator=coordinator,
            solo=solo,
        )


def _history(budget: _Budget, cohort: Part, until_ms: int) -> BudgetHistory:
    telling = _Telling(budget)
    for time_ms, release, how in budget.acts:
        if cohort in release.cohorts:
            telling.take(time_ms, release, how)
    telling.expire(until_ms)
    return BudgetHistory(
        terms=budget.terms,
        cohort=cohort,
        solo_order=budget.solo_order,
        until_ms=until_ms,
        releases=tuple(telling.rows),
        runs=_runs(telling.rows, telling.after),
        curve=tuple(telling.curve),
    )


def _runs(rows: list[ReleaseRow], after: Mapping[str, tuple[float, float]]) -> tuple[RunRow, ...]:
    by_run: dict[str, list[ReleaseRow]] = {}
    for row in rows:
        by_run.setdefault(row.run, []).append(row)
    return tuple(
        RunRow(
            run=run,
            first_ms=own[0].time_ms,
            last_ms=own[-1].time_ms,
            releases=len(own),
            pending=sum(one.state == "reserved" for one in own),
            aborted=sum(one.state == "aborted" for one in own),
            coordinator=Taken(
                before=own[0].coordinator.before,
                after=after[run][0],
                loss=math.fsum(one.coordinator.loss for one in own),
            ),
            solo=Taken(
                before=own[0].solo.before,
                after=after[run][1],
                loss=math.fsum(one.solo.loss for one in own),
            ),
        )
        for run, own in by_run.items()
    )
