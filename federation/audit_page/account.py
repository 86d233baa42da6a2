"""A node's budget over time: one member, data set and unit, as its own ledger tells it."""

import math
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from federation.audit_page.receipts import Receipts, epsilon_of, losses, seen
from privacy.accounting.event import Event
from privacy.accounting.rdp import ORDERS, epsilon_at
from privacy.budget_record import BudgetTerms
from privacy.receipt import COHORTS, Part

OPEN, COMMITTED, ABORTED = 0, 1, 2
Against: TypeAlias = Literal["coordinator", "solo"]
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Figure:
    """What one adversary may have learned of one unit.

    Attributes:
        spent: Epsilon of all that counts now, as the node enforces it.
        cap: None where the node has none.
        order: Renyi order of the node's filter.
    """

    spent: float
    cap: float | None
    order: int

    @property
    def share(self) -> float | None:
        """Part of the cap that is spent; None without one."""
        return None if self.cap is None else self.spent / self.cap


@dataclass(frozen=True, slots=True)
class PartFigures:
    """Where one part of the units stands.

    Attributes:
        part: Training or test units.
        releases: That count now.
        runs: Of how many runs.
        coordinator: Against the coordinator with the terms' colluders.
        solo: Against all others together.
    """

    part: Part
    releases: int
    runs: int
    coordinator: Figure
    solo: Figure

    def figure(self, against: Against) -> Figure:
        """Return one of both."""
        return self.coordinator if against == "coordinator" else self.solo


@dataclass(frozen=True, slots=True)
class Reserved:
    """One reservation.

    Attributes:
        place: Among the account's, from 0.
        time_ms: When.
        entry: Index in the node's ledger.
        run: For which run.
        step: The ledger's step.
        round_number: Of the step.
        state: `OPEN`, `COMMITTED` or `ABORTED`.
        parts: Whom it is about.
    """

    place: int
    time_ms: int
    entry: int
    run: str
    step: str
    round_number: int
    state: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class RunShare:
    """What one run took of a budget.

    Attributes:
        run: Its id.
        releases: That were not taken back.
        first_ms: Of its first reservation.
        last_ms: Of its last one.
        epsilons: Part -> epsilon of this run alone, against the coordinator and against all others.
    """

    run: str
    releases: int
    first_ms: int
    last_ms: int
    epsilons: tuple[tuple[Part, float, float], ...]


@dataclass(slots=True)
class _Counted:
    """What counts against one part: places, times, receipts and runs; up to which place."""

    aborted: int
    upto: int = 0
    places: "array[int]" = field(default_factory=lambda: array("I"))
    times_ms: "array[int]" = field(default_factory=lambda: array("q"))
    numbers: "array[int]" = field(default_factory=lambda: array("I"))
    runs: "array[int]" = field(default_factory=lambda: array("I"))


class Account:
    """One budget; what it holds of a reservation are a few numbers.

    Attributes:
        number: Its place among all budgets, from 1.
        ledger: Slug of the node's ledger.
        terms: As agreed last.
        solo_order: Order of the filter against all others.
        agreed: (entry, milliseconds, terms) each time that they were agreed.
    """

    def __init__(
        self, number: int, ledger: str, terms: BudgetTerms, solo_order: int, receipts: Receipts
    ) -> None:
        self.number = number
        self.ledger = ledger
        self.terms = terms
        self.solo_order = solo_order
        self.agreed: list[tuple[int, int, BudgetTerms]] = []
        self._receipts = receipts
        self._times_ms = array("q")
        self._entries = array("I")
        self._numbers = array("I")
        self._runs = array("I")
        self._steps = array("I")
        self._rounds = array("q")
        self._states = array("B")
        self._run_numbers: dict[str, int] = {}
        self._run_names: list[str] = []
        self._step_names: list[str] = []
        self._aborted = 0
        self._counted: dict[Part, _Counted] = {}

    def __len__(self) -> int:
        return len(self._times_ms)

    def agree(self, terms: BudgetTerms, *, entry: int, time_ms: int) -> None:
        """Take new terms; they hold for all that was reserved before, too."""
        self.terms = terms
        self.agreed.append((entry, time_ms, terms))

    def reserve(
        self, run: str, step: str, round_number: int, *, receipt: int, entry: int, time_ms: int
    ) -> int:
        """Take a reservation, and return its place."""
        if run not in self._run_numbers:
            self._run_numbers[run] = len(self._run_names)
            self._run_names.append(run)
        if step not in self._step_names:
            self._step_names.append(step)
        self._times_ms.append(time_ms)
        self._entries.append(entry)
        self._numbers.append(receipt)
        self._runs.append(self._run_numbers[run])
        self._steps.append(self._step_names.index(step))
        self._rounds.append(round_number)
        self._states.append(OPEN)
        return len(self._times_ms) - 1

    def settle(self, place: int, state: int) -> None:
        """Note what became of a reservation."""
        self._states[place] = state
        if state == ABORTED:
            self._aborted += 1

    def reserved(self, place: int) -> Reserved:
        """Return a reservation."""
        return Reserved(
            place=place,
            time_ms=self._times_ms[place],
            entry=self._entries[place],
            run=self._run_names[self._runs[place]],
            step=self._step_names[self._steps[place]],
            round_number=self._rounds[place],
            state=self._states[place],
            parts=self._receipts[self._numbers[place]].cohorts,
        )

    def figures(self, now_ms: int) -> tuple[PartFigures, ...]:
        """Return where it stands, for each part with releases."""
        found = []
        for part in COHORTS:
            counted = self._count(part)
            if not counted.places:
                continue
            start = bisect_left(counted.times_ms, self._since_ms(now_ms))
            counts = Counter(counted.numbers[start:])
            coordinator, solo = (
                Figure(
                    spent=epsilon_of(
                        self._events(counts, against),
                        order=None if cap is None else order,
                        delta=self.terms.delta,
                    ),
                    cap=cap,
                    order=order,
                )
                for against, cap, order in self._readings()
            )
            found.append(
                PartFigures(part, counts.total(), len(set(counted.runs[start:])), coordinator, solo)
            )
        return tuple(found)

    def places(self, part: Part) -> Sequence[int]:
        """Return the places of reservations of a part that were not taken back."""
        return self._count(part).places

    def course(self, part: Part, against: Against, places: Iterable[int]) -> Iterator[float]:
        """Yield the epsilon of a part just after each place (ascending), of what counted then."""
        counted = self._count(part)
        numbers = counted.numbers
        cap, order = next((cap, order) for name, cap, order in self._readings() if name == against)
        orders = ORDERS if cap is None else (order,)
        kinds = sorted(set(numbers))
        colluders = self.terms.colluders if against == "coordinator" else None
        table = losses((seen(self._receipts[number], colluders) for number in kinds), orders)
        counts: Counter[int] = Counter()
        upto = start = 0
        for place in places:
            end = bisect_left(counted.places, place + 1)
            counts.update(numbers[upto:end])
            upto = end
            if self.terms.period_days is not None and end:
                since = bisect_left(counted.times_ms, self._since_ms(self._times_ms[place]))
                counts.subtract(numbers[start:since])
                start = since
            row = [(counts[number], loss) for number, loss in zip(kinds, table, strict=True)]
            row = [(count, loss) for count, loss in row if count]
            if not row:
                yield 0.0
                continue
            yield min(
                epsilon_at(
                    math.fsum(count * loss[at] for count, loss in row), one, self.terms.delta
                )
                for at, one in enumerate(orders)
            )

    def shares(self) -> list[RunShare]:
        """Return what each run took, the first first."""
        found: dict[int, list[int]] = {}
        for place, (run, state) in enumerate(zip(self._runs, self._states, strict=True)):
            if state != ABORTED:
                found.setdefault(run, []).append(place)
        return [self._share(run, places) for run, places in found.items()]

    def _share(self, run: int, places: Sequence[int]) -> RunShare:
        counts = Counter(self._numbers[place] for place in places)
        epsilons: list[tuple[Part, float, float]] = []
        for part in COHORTS:
            about = Counter(
                {n: count for n, count in counts.items() if part in self._receipts[n].cohorts}
            )
            if about:
                one, other = (
                    epsilon_of(self._events(about, against), order=None, delta=self.terms.delta)
                    for against, _, _ in self._readings()
                )
                epsilons.append((part, one, other))
        return RunShare(
            run=self._run_names[run],
            releases=len(places),
            first_ms=self._times_ms[places[0]],
            last_ms=self._times_ms[places[-1]],
            epsilons=tuple(epsilons),
        )

    def _readings(self) -> tuple[tuple[Against, float | None, int], ...]:
        terms = self.terms
        return (
            ("coordinator", terms.epsilon, terms.order),
            ("solo", terms.solo_epsilon, self.solo_order),
        )

    def _events(self, counts: Counter[int], against: Against) -> dict[Event, int]:
        colluders = self.terms.colluders if against == "coordinator" else None
        events: Counter[Event] = Counter()
        for number, count in counts.items():
            events[seen(self._receipts[number], colluders)] += count
        return dict(events)

    def _since_ms(self, now_ms: int) -> int:
        days = self.terms.period_days
        return 0 if days is None else now_ms - math.ceil(days * _DAY_MS)

    def _count(self, part: Part) -> "_Counted":
        kept = self._counted.get(part)
        if kept is None or kept.aborted != self._aborted:
            kept = self._counted[part] = _Counted(aborted=self._aborted)
        for place in range(kept.upto, len(self._times_ms)):
            number = self._numbers[place]
            if self._states[place] != ABORTED and part in self._receipts[number].cohorts:
                kept.places.append(place)
                kept.times_ms.append(self._times_ms[place])
                kept.numbers.append(number)
                kept.runs.append(self._runs[place])
        kept.upto = len(self._times_ms)
        return kept
