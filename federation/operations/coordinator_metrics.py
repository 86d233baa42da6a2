"""What a coordinator shows: what its ledger says, who is online, what went over the wire.

Nothing of it is about one member but when it was last heard of.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from federation.operations.ledger_counts import LedgerCounts
from federation.operations.metric import Metric, gauge, labelled
from federation.operations.process import process_metrics
from federation.operations.refusals import Refusals
from federation.operations.traffic import Traffic
from privacy.errors import TacitError

ONLINE_S: Final = 30.0
"""A member that was heard of within so many seconds is online."""


@dataclass(frozen=True, slots=True)
class CoordinatorFigures:
    """Where they are had.

    Attributes:
        ledger: What its ledger says.
        members: Names of those whose nodes may take part.
        seen: Member -> seconds since it was heard of; who never was is not in it.
        certificate_s: Seconds that the server's certificate is valid still.
        traffic: What the runs' messages took.
        refusals: What was refused.
        version: Of the program.
        since_ms: When the process started, milliseconds since 1970 UTC.
    """

    ledger: LedgerCounts
    members: Callable[[], Collection[str]]
    seen: Callable[[], Mapping[str, float]]
    certificate_s: Callable[[], float]
    traffic: Traffic
    refusals: Refusals
    version: str
    since_ms: int

    def metrics(self, *, now_ms: int) -> Iterator[Metric]:
        """Yield all figures; where the ledger cannot be read, all but its own."""
        yield from process_metrics(role="coordinator", version=self.version, since_ms=self.since_ms)
        try:
            found = list(self.ledger.metrics(now_ms=now_ms))
            members = frozenset(self.members())
        except TacitError:
            yield gauge("tacit_ledger_readable", "Whether the ledger can be read.", 0)
            members = frozenset()
        else:
            yield gauge("tacit_ledger_readable", "Whether the ledger can be read.", 1)
            yield from found
        seen = {name: since for name, since in sorted(self.seen().items()) if name in members}
        yield gauge("tacit_members", "Members whose nodes may take part.", len(members))
        yield gauge(
            "tacit_members_online",
            f"Members heard of within {ONLINE_S:g} seconds.",
            sum(since <= ONLINE_S for since in seen.values()),
        )
        yield labelled(
            "tacit_member_seen_seconds",
            "Seconds since a member's node was heard of.",
            "gauge",
            "member",
            seen,
        )
        yield gauge(
            "tacit_certificate_seconds",
            "Seconds that the certificate is valid still.",
            self.certificate_s(),
        )
        yield from self.traffic.metrics()
        yield self.refusals.metric()
