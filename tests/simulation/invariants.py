"""What has to hold in every world, after every event: a broken promise is `Broken`."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

from simulation.broken import Broken
from simulation.disk import SimLedger
from support.wanted import Sum, sum_of

from privacy.errors import TacitError
from privacy.ledger.entry import Entry, parse_leaf
from privacy.messages import (
    Released,
    ReleaseRequest,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Sealed,
    SurvivorsNotice,
    Voted,
)

read_leaf = lru_cache(maxsize=4096)(parse_leaf)
"""Leaves are read again after every event, and say the same."""


def _entries(store: SimLedger, stop: int | None = None) -> Iterable[Entry]:
    return map(read_leaf, store.leaves(0, stop))


@dataclass
class Watch:
    """Sees every reply that leaves a node, and every sum that a node opens.

    Attributes:
        coordinator: Its ledger.
        nodes: Member -> its own ledger.
        names: Digest of a run's manifest -> its name.
        opened: How many sums were opened and held.
    """

    coordinator: SimLedger
    nodes: Mapping[str, SimLedger]
    names: dict[bytes, str] = field(default_factory=dict)
    opened: int = 0
    _vectors: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    _steps: dict[tuple[str, Sum], bytes] = field(default_factory=dict)
    _votes: dict[tuple[str, bytes], list[frozenset[str]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _masks: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    _shares: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    _sums: dict[bytes, tuple[frozenset[str], bytes]] = field(default_factory=dict)

    def left(self, member: str, request: Request, reply: Reply, payload: bytes) -> None:
        """A node answered; whether that ever arrives is another matter."""
        if isinstance(reply, Sealed):
            self._sealed(member, request, reply, payload)
        elif isinstance(reply, Voted) and isinstance(request, SurvivorsNotice):
            self._voted(member, request)
        elif isinstance(reply, Released) and isinstance(request, ReleaseRequest):
            self._masks[request.context].update(reply.seeds)
            self._require_apart(request.context)
        elif isinstance(reply, Revealed) and isinstance(request, RevealRequest):
            self._shares[request.context].update(reply.shares)
            self._require_apart(request.context)

    def _sealed(self, member: str, request: Request, reply: Sealed, payload: bytes) -> None:
        which = sum_of(self.names[request.run], request)  # type: ignore[union-attr]
        assert which is not None
        vector = reply.header + payload
        if self._steps.setdefault((member, which), vector) != vector:
            raise Broken(f"{member} sent two vectors for {which}")
        ledger = self.nodes[member]
        # what a power cut could still take does not count
        if not any(
            one.kind == "budget.reserved"
            and (one.body["run"], one.body["step"], one.body["round"]) == which
            for one in _entries(ledger, ledger.durable)
        ):
            raise Broken(f"{member} sent a vector for {which} that its ledger has not reserved")

    def _voted(self, member: str, request: SurvivorsNotice) -> None:
        chosen = frozenset(request.survivors)
        before = self._votes[member, request.context]
        if any(not (chosen <= one) for one in before):
            raise Broken(f"{member} signed {sorted(chosen)} after {[sorted(b) for b in before]}")
        before.append(chosen)
        if not any(
            one.kind == "sum.reserved" and one.body["context"] == request.context.hex()
            for one in _entries(self.coordinator, self.coordinator.durable)
        ):
            raise Broken(f"{member} signed a sum that is in no ledger")

    def _require_apart(self, context: bytes) -> None:
        both = self._masks[context] & self._shares[context]
        if both:
            raise Broken(f"both secrets of {sorted(both)} were told of one sum")

    def opened_sum(  # noqa: PLR0917
        self, member: str, which: Sum, context: bytes, survivors: Sequence[str], total: bytes,
        units: Mapping[str, Sequence[float]], stray: Sequence[float],
    ) -> None:  # fmt: skip
        """A node opened a sum.

        Args:
            member: Whose node.
            which: Run, step and round.
            context: Of the sum.
            survivors: Over whom it is said to be.
            total: Its numbers.
            units: Member -> how often each of its units is in it.
            stray: What is at coordinates of nobody.
        """
        for name, counts in units.items():
            due = 1.0 if name in survivors else 0.0
            if any(count != due for count in counts):
                raise Broken(f"{member} opened {which}: units of {name} are in it {counts} times")
        if any(stray):
            raise Broken(f"{member} opened {which}: there is something of nobody in it")
        said = frozenset(survivors), total
        if self._sums.setdefault(context, said) != said:
            raise Broken(f"two sums were opened of {which}")
        for name in survivors:
            ledger = self.nodes[name]
            if not any(
                one.kind == "budget.reserved"
                and (one.body["run"], one.body["step"], one.body["round"]) == which
                for one in _entries(ledger, ledger.durable)
            ):
                raise Broken(f"{name} is in the sum of {which}, which its ledger does not know")
        if not any(
            one.kind == "sum.opened" and one.body["context"] == context.hex()
            for one in _entries(self.coordinator, self.coordinator.durable)
        ):
            raise Broken(f"the sum of {which} was shown before it was on record")
        self.opened += 1

    def gone(self, member: str, home: Path, under_way: Collection[str]) -> None:
        """A node that was started again has let go of all runs that are over.

        Args:
            member: Whose node.
            home: Its folder.
            under_way: Digests of the runs that its ledger says are not over.
        """
        kept = {path.name for path in (home / "sessions").glob("[0-9a-f]*")}
        if kept - set(under_way):
            raise Broken(f"{member} has keys of runs that are over on its disk")

    def end(self, *, models: Mapping[str, set[bytes]], verify: Callable[[], object]) -> None:
        """A world is over.

        Args:
            models: Run -> the final models that members wrote down.
            verify: Audits all ledgers.
        """
        for run, found in models.items():
            if len(found) > 1:
                raise Broken(f"members have {len(found)} models of {run}")
        counted: dict[tuple[object, ...], set[str]] = defaultdict(set)
        for one in _entries(self.coordinator):
            if one.kind == "sum.opened":
                which = one.body["run"], one.body["step"], one.body["round"]
                members = set(cast("list[str]", one.body["members"]))
                if counted[which] & members:
                    raise Broken(f"members are in two sums of {which} that are on record")
                counted[which] |= members
        try:
            verify()
        except TacitError as fault:
            raise Broken(f"the audit says: {fault}") from fault
