"""What a federation's members have spent, as its coordinator's record says, read over the network.

A member's own ledger, with its caps, is on the member's machine. What each release cost is on the
coordinator's record too, in receipts that the runs' members signed; figures are computed from those
here, and none is read. Where the registry has members' ledgers, it says where their caps stand.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from federation.proto import registry_pb2 as wire
from federation.registry.access import Method, Scope, scope_of
from federation.registry.plain import plain
from federation.runs.reach import Reach
from federation.spending import epsilon_text
from privacy.ledger.grammar import Reading, Run, follow
from privacy.ledger.store import entries_of
from privacy.spent import Spent, spent

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class FederationBudgets:
    """What is spent, by the coordinator's record and by members' own ledgers at the registry.

    Attributes:
        federation: Its name.
        entries: Of the coordinator's ledger, that were read.
        spent: One for each member, data set, unit and cohort; since the beginning.
        told: What the registry says of members' ledgers that it has; nothing of it is verified.
    """

    federation: str
    entries: int
    spent: tuple[Spent, ...]
    told: tuple[wire.Budget, ...]


def read_federation_budgets(reach: Reach) -> FederationBudgets:
    """Read the coordinator's ledger, held against its newest signed state, and add up receipts.

    Raises:
        TacitError: the coordinator cannot be asked, or has signed nothing yet.
        NotVerifiedError: its ledger is not what it signed, or breaks the protocol.
    """
    copy = reach.ledger()
    reading = Reading()
    for entry in entries_of(copy.leaves()):
        follow(reading, entry)
    told: Sequence[wire.Budget] = ()
    if scope_of(reach.place.role, Method.BUDGETS) is not Scope.NONE:
        told = reach.registry.budgets().budgets
    return FederationBudgets(
        federation=reach.place.federation,
        entries=copy.size(),
        spent=spent_by_member(list(reading.runs.values())),
        told=tuple(told),
    )


def spent_by_member(runs: Sequence[Run]) -> tuple[Spent, ...]:
    """Return what the runs cost the units of each member by itself."""
    everybody = sorted({name for run in runs for names, _ in run.spent for name in names})
    found: list[Spent] = []
    for name in everybody:
        own = [
            replace(run, spent=[(frozenset({name}), r) for names, r in run.spent if name in names])
            for run in runs
        ]
        found += spent(own)
    return tuple(sorted(found, key=lambda one: (one.dataset, one.unit, one.cohort, one.member)))


def federation_facts(found: FederationBudgets) -> dict[str, Any]:
    """For programs; null is without bound, or no cap."""
    return {
        "federation": found.federation,
        "entries": found.entries,
        "recorded": [asdict(one) for one in found.spent],
        "own_ledgers": [
            {
                "member": one.member,
                "dataset": one.dataset,
                "unit": one.unit,
                "cohort": one.cohort,
                "releases": one.releases,
                "coordinator": _against(one.coordinator),
                "solo": _against(one.solo),
            }
            for one in found.told
        ],
    }


def federation_table(found: FederationBudgets) -> "RenderableType":
    """For people."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not found.spent and not found.told:
        return Text(
            f"No budgets in {found.federation}: no run there has released anything by entry "
            f"{found.entries}."
        )
    parts: list[RenderableType] = []
    groups: dict[str, list[Spent]] = {}
    for one in found.spent:
        groups.setdefault(f"{one.dataset}: {one.unit}, {one.cohort}", []).append(one)
    for title, rows in groups.items():
        table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE)
        for name in ("member", "releases", "eps_coord", "eps_solo"):
            table.add_column(name, justify="left" if name == "member" else "right")
        for one in rows:
            table.add_row(
                Text(one.member),
                str(one.releases),
                epsilon_text(one.epsilon),
                epsilon_text(one.solo_epsilon),
            )
        parts.append(table)
    if found.spent:
        first = found.spent[0]
        parts.append(
            Text(
                f"Computed here from the receipts in the first {found.entries} entries of the "
                f"coordinator's ledger, since the beginning, at delta {first.delta:g}: epsilon "
                f"against the coordinator with {first.colluders} other members (eps_coord) and "
                "against all others together (eps_solo). Caps are in members' own ledgers: a "
                "member's tacit audit export has them."
            )
        )
    if found.told:
        table = Table(title="members' ledgers that the registry has, as it says", box=SIMPLE)
        for name in ("member", "about", "eps_coord", "cap", "eps_solo", "cap"):
            table.add_column(name, justify="left" if name in {"member", "about"} else "right")
        for each in found.told:
            table.add_row(
                Text(plain(each.member)),
                Text(plain(f"{each.dataset}: {each.unit}, {each.cohort}")),
                f"{each.coordinator.spent:.2f}",
                _cap(each.coordinator),
                f"{each.solo.spent:.2f}",
                _cap(each.solo),
            )
        parts.append(table)
    return Group(*parts)


def _against(one: wire.Spending) -> dict[str, Any]:
    from math import isfinite

    def finite(value: float) -> float | None:
        return value if isfinite(value) else None

    return {
        "spent": finite(one.spent),
        "cap": finite(one.cap) if one.HasField("cap") else None,
        "left": finite(one.left) if one.HasField("left") else None,
    }


def _cap(one: wire.Spending) -> str:
    return f"{one.cap:g}" if one.HasField("cap") else "none"
