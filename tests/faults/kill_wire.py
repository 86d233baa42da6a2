"""What a courier between processes that are killed saw, and what of it must be on record."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from support.wanted import Sum, sum_of

from clients.ledger_files import LEDGER
from federation.home import Home
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.messages import (
    Released,
    ReleaseRequest,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Sealed,
    SumNotice,
    SurvivorsNotice,
    Voted,
)

FIVE = ("ash", "birch", "cedar", "elm", "fir")


@dataclass
class Wire:
    """What the courier saw of one run.

    Attributes:
        run: Its name.
        left: Node -> the vectors that left it.
        asked: Node -> vectors that it was asked for.
        shown: Sums that members were shown.
        kills: Processes that were killed while the run went on.
        at_work: Of those, the ones that had not said what they were asked for.
        failed: Processes that ended by themselves, with an error.
        wrong: Promises that were broken on the wire.
        over: Whether the coordinator came to the run's end.
    """

    run: str
    left: dict[str, set[Sum]] = field(default_factory=lambda: {name: set() for name in FIVE})
    asked: dict[str, set[Sum]] = field(default_factory=lambda: {name: set() for name in FIVE})
    shown: set[Sum] = field(default_factory=set)
    kills: int = 0
    at_work: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    over: bool = False
    _vectors: dict[tuple[str, Sum], bytes] = field(default_factory=dict)
    _sums: dict[Sum, bytes] = field(default_factory=dict)
    _votes: dict[tuple[str, bytes], frozenset[str]] = field(default_factory=dict)
    _masks: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    _shares: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))

    def gave(self, member: str, request: Request, payload: bytes) -> None:
        """A request left the coordinator."""
        act = sum_of(self.run, request)
        if isinstance(request, SumNotice):
            which = self.run, request.step, request.round
            self.shown.add(which)
            if self._sums.setdefault(which, _hash(payload)) != _hash(payload):
                self.wrong.append(f"two sums were shown of {which}")
        elif act is not None:
            self.asked[member].add(act)

    def took(self, member: str, request: Request, reply: Reply, payload: bytes) -> None:
        """An answer left a node."""
        act = sum_of(self.run, request)
        if isinstance(reply, Sealed) and act is not None:
            self.left[member].add(act)
            vector = _hash(reply.header + payload)
            if self._vectors.setdefault((member, act), vector) != vector:
                self.wrong.append(f"{member} sent two vectors for {act}")
        elif isinstance(reply, Voted) and isinstance(request, SurvivorsNotice):
            chosen = frozenset(request.survivors)
            if not chosen <= self._votes.get((member, request.context), chosen):
                self.wrong.append(f"{member} signed survivors who were gone in its last vote")
            self._votes[member, request.context] = chosen
        elif isinstance(reply, Released) and isinstance(request, ReleaseRequest):
            self._masks[request.context].update(reply.seeds)
            self._require_apart(request.context)
        elif isinstance(reply, Revealed) and isinstance(request, RevealRequest):
            self._shares[request.context].update(reply.shares)
            self._require_apart(request.context)

    def _require_apart(self, context: bytes) -> None:
        both = self._masks[context] & self._shares[context]
        if both:
            self.wrong.append(f"both secrets of {sorted(both)} were told of one sum")


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass
class Tally:
    """What was found over all runs.

    Attributes:
        kills: Processes that were killed.
        at_work: Of those, the ones that had not said what they were asked for.
        runs: Runs.
        finished: Of those, the ones that came to their end all the same.
        released: Vectors that left nodes.
        shown: Sums that members were shown.
        unrecorded: Of both, those that are in no ledger.
        over: Vectors in nodes' ledgers that did not leave.
        over_allowed: Vectors that were asked for and did not leave.
        verified: Homes that were verified as a whole.
        faults: What did not hold.
    """

    kills: int = 0
    at_work: int = 0
    runs: int = 0
    finished: int = 0
    released: int = 0
    shown: int = 0
    unrecorded: int = 0
    over: int = 0
    over_allowed: int = 0
    verified: int = 0
    faults: list[str] = field(default_factory=list)
    read: dict[Path, int] = field(default_factory=dict)

    def news(self, path: Path, run: str) -> dict[str, set[Sum]]:
        """Acts of a run by kind, among the entries that came since the last look."""
        found: dict[str, set[Sum]] = {
            kind: set() for kind in ("budget.reserved", "sum.reserved", "sum.opened")
        }
        before = self.read.get(path, 0)
        ledger = SqliteLedger(path)
        for entry in entries_of(ledger.leaves(before)):
            if entry.kind in found and entry.body["run"] == run:
                act = run, str(entry.body["step"]), int(str(entry.body["round"]))
                if act in found[entry.kind] and entry.kind != "sum.reserved":
                    self.faults.append(f"{path.parent.name}: {entry.kind} twice of {act}")
                found[entry.kind].add(act)
        self.read[path] = ledger.size()
        ledger.close()
        if self.read[path] < before:
            self.faults.append(f"{path}: {before - self.read[path]} entries are gone")
        return found

    def hold_against(self, home: Home, contract: str, wire: Wire) -> None:
        """Compare ledgers with the wire, as they are on disk now."""
        self.runs += 1
        self.finished += wire.over
        self.kills += wire.kills
        self.at_work += wire.at_work
        self.faults += wire.wrong
        if wire.failed:
            self.faults.append(f"failed without being killed: {', '.join(wire.failed)}")
        for member in FIVE:
            ledger = home.node(contract, member) / LEDGER
            reserved = self.news(ledger, wire.run)["budget.reserved"]
            left, asked = wire.left[member], wire.asked[member]
            missing, more = left - reserved, reserved - left
            self.released += len(left)
            self.unrecorded += len(missing)
            self.over += len(more)
            self.over_allowed += len(asked - left)
            if missing:
                self.faults.append(f"{member} released without a record: {sorted(missing)}")
            if not more <= asked - left:
                self.faults.append(f"{member} reserved what it was not asked for: {sorted(more)}")
        kinds = self.news(home.ledger, wire.run)
        opened, put = kinds["sum.opened"], kinds["sum.reserved"]
        self.shown += len(wire.shown)
        unrecorded = wire.shown - (opened & put)
        self.unrecorded += len(unrecorded)
        if unrecorded:
            self.faults.append(f"a sum was shown without a record: {sorted(unrecorded)}")
        if len(put - wire.shown) > 1:
            self.faults.append(f"the coordinator reserved ahead: {sorted(put - wire.shown)}")
