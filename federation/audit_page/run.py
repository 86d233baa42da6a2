"""A run as the ledgers tell it: who took part, what was released, what it cost."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from federation.audit_page.receipts import Receipts, epsilon_of, seen
from privacy.ledger.entry import UPDATE
from privacy.receipt import COHORTS, Part

if TYPE_CHECKING:
    from privacy.accounting.event import Event

DANGLING_MS: Final = 3_600_000
"""A sum that waits for so long is one that nobody will open."""
DELTA: Final = 1e-5
NOT_THERE: Final = -1
State: TypeAlias = Literal["announced", "running", "finished", "stopped"]
Consent: TypeAlias = Literal["none", "consented", "declined"]


@dataclass(slots=True)
class Party:
    """A member in a run.

    Attributes:
        name: The member.
        key: Its public key in hexadecimal; empty where it only declined.
        consent: What it answered.
        reason: Why it declined.
        sums: Sums that it was in.
        missed: Updates in a row for which it was asked, and is not in the sum.
        last_ms: When the run heard of it last; 0: never.
    """

    name: str
    key: str = ""
    consent: Consent = "none"
    reason: str = ""
    sums: int = 0
    missed: int = 0
    last_ms: int = 0


@dataclass(slots=True)
class Release:
    """A sum, from its reservation on.

    Attributes:
        step: The ledger's step.
        round_number: Of the step.
        time_ms: Of the reservation.
        reserved: Index of its entry.
        asked: Members who were asked.
        opened: Index of the entry; `NOT_THERE` where it was never opened.
        members: Who is in the sum.
        aggregate: Hash of what was opened.
        payload_bytes: Of one member.
        accepted: Index of the entry, or `NOT_THERE`.
        kept: Whether the model that came of it was kept; None before it is accepted.
    """

    step: str
    round_number: int
    time_ms: int
    reserved: int
    asked: tuple[str, ...]
    opened: int = NOT_THERE
    members: tuple[str, ...] = ()
    aggregate: str = ""
    payload_bytes: int = 0
    accepted: int = NOT_THERE
    kept: bool | None = None


@dataclass(frozen=True, slots=True)
class RunCost:
    """What the releases of a run tell of one unit, at the member of whose units they tell most.

    Attributes:
        unit: Whom it is about.
        part: Training or test units.
        member: At whom.
        releases: About this member's units.
        epsilon: Against the coordinator with `colluders` members; inf without noise.
        solo: Against all others together.
        colluders: As planned.
        delta: As planned.
    """

    unit: str
    part: Part
    member: str
    releases: int
    epsilon: float
    solo: float
    colluders: int
    delta: float


@dataclass(slots=True)
class RunView:
    """One run.

    Attributes:
        run: Its id.
        name: The config's name.
        task: What it learns.
        protection: How its sums are protected.
        manifest: Hash of its manifest.
        state: Where it is.
        reason: Why it stopped.
        minimum: Fewest members in a sum.
        started: Index of the entry that starts it, or `NOT_THERE`.
        started_ms: When; of its first entry where it never started.
        ended_ms: When; None while it is open.
        last_ms: Of its last entry.
        parties: Member -> what became of it.
        rounds: That were committed.
        releases: In the order of their reservations.
        pending: Context -> release that is not opened yet.
        colluders: Of its privacy plan.
        delta: Of its privacy plan.
        noisy: Whether it has a plan for noise; None where its manifest cannot be read.
        dataset: Declared name of the data.
        unit: Declared unit.
        classes: Columns by class, as text.
        retention_days: How long rows are kept.
        warnings: Of the rules that were checked.
        values: Weights of the network.
        model: Hash of the last model.
    """

    run: str
    name: str = ""
    task: str = ""
    protection: str = ""
    manifest: str = ""
    state: State = "announced"
    reason: str = ""
    minimum: int = 0
    started: int = NOT_THERE
    started_ms: int = 0
    ended_ms: int | None = None
    last_ms: int = 0
    parties: dict[str, Party] = field(default_factory=dict)
    rounds: int = 0
    releases: list[Release] = field(default_factory=list)
    pending: dict[str, Release] = field(default_factory=dict)
    colluders: int = 0
    delta: float = DELTA
    noisy: bool | None = None
    dataset: str = ""
    unit: str = ""
    classes: str = ""
    retention_days: int | None = None
    warnings: tuple[str, ...] = ()
    values: int = 0
    model: str = ""
    _spent: Counter[tuple[tuple[str, ...], int]] = field(default_factory=Counter)
    _groups: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    _now: list[Release] = field(default_factory=list)
    _costs: tuple[int, tuple[RunCost, ...]] = field(default=(NOT_THERE, ()), compare=False)

    @property
    def opened(self) -> int:
        """How many sums were opened."""
        return len(self.releases) - len(self.pending)

    def party(self, name: str) -> Party:
        """Return a member of it, a new one where it was not heard of."""
        party = self.parties.get(name)
        if party is None:
            party = self.parties[name] = Party(name)
        return party

    def together(self, members: Iterable[str]) -> tuple[str, ...]:
        """Return the members as a tuple, the same object for the same members."""
        names = tuple(members)
        return self._groups.setdefault(names, names)

    def reserve(self, context: str, release: Release, receipt: int) -> None:
        """Take a reservation."""
        self.releases.append(release)
        self.pending[context] = release
        self._now.append(release)
        self._spent[release.asked, receipt] += 1

    def accept(self, step: str, round_number: int, *, index: int, kept: bool) -> None:
        """Take the acceptance of all sums of a step."""
        about = [one for one in self._now if (one.step, one.round_number) == (step, round_number)]
        for release in about:
            release.accepted, release.kept = index, kept
        self._now = []
        if step == UPDATE:
            there = {member for release in about for member in release.members}
            for member in {member for release in about for member in release.asked}:
                party = self.party(member)
                party.missed = 0 if member in there else party.missed + 1

    def dangling(self, now_ms: int) -> list[Release]:
        """Return the reservations that were never opened and, as it looks, never will be."""
        if not self.pending:
            return []
        last = self.releases[-1]
        return [
            one
            for one in self.pending.values()
            if self.ended_ms is not None
            or (one.step, one.round_number) != (last.step, last.round_number)
            or now_ms - one.time_ms > DANGLING_MS
        ]

    def costs(self, receipts: Receipts) -> tuple[RunCost, ...]:
        """Return what it cost, from the receipts of all its reservations."""
        count = len(self.releases)
        if self._costs[0] != count:
            self._costs = (count, tuple(self._each_cost(receipts)))
        return self._costs[1]

    def _each_cost(self, receipts: Receipts) -> Iterator[RunCost]:
        groups: dict[tuple[str, Part], dict[str, Counter[int]]] = {}
        for (asked, number), count in self._spent.items():
            receipt = receipts[number]
            for part in receipt.cohorts:
                by_member = groups.setdefault((receipt.unit, part), {})
                for member in asked:
                    by_member.setdefault(member, Counter())[number] += count
        for unit, part in sorted(groups, key=lambda one: (one[0], COHORTS.index(one[1]))):
            by_member = groups[unit, part]
            found = [
                (self._epsilons(counts, receipts), name)
                for name, counts in sorted(by_member.items())
            ]
            (epsilon, solo), member = max(found, key=lambda one: one[0])
            yield RunCost(
                unit=unit,
                part=part,
                member=member,
                releases=by_member[member].total(),
                epsilon=epsilon,
                solo=solo,
                colluders=self.colluders,
                delta=self.delta,
            )

    def _epsilons(self, counts: Counter[int], receipts: Receipts) -> tuple[float, float]:
        figures = []
        for colluders in (self.colluders, None):
            events: Counter[Event] = Counter()
            for number, count in counts.items():
                events[seen(receipts[number], colluders)] += count
            figures.append(epsilon_of(events, order=None, delta=self.delta))
        return figures[0], figures[1]
