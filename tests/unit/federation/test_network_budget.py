"""What a federation has spent, by its coordinator's record, for people and programs."""

import json
import math
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console
from support.ledgers import NOISE, Nodes, Script, bundle_of, ledger_of, whole_run

from federation.network_budget import (
    FederationBudgets,
    federation_facts,
    federation_table,
    read_federation_budgets,
)
from federation.proto import registry_pb2 as wire
from federation.registry.access import Role
from federation.runs.reach import Reach
from privacy.ledger.memory import MemoryLedger
from privacy.verify import verify_bundle

MEMBERS = ("bank", "insurer", "maker")


def reach(
    *scripts: Script, role: Role = Role.REGULATOR, told: tuple[wire.Budget, ...] = ()
) -> Reach:
    """A connection to a coordinator with this record."""

    def budgets() -> SimpleNamespace:
        assert role is not Role.OPERATOR, "it may not ask"
        return SimpleNamespace(budgets=told)

    store = MemoryLedger([entry.leaf() for entry in ledger_of(*scripts)])
    return cast(
        "Reach",
        SimpleNamespace(
            place=SimpleNamespace(role=role, federation="north"),
            registry=SimpleNamespace(budgets=budgets),
            ledger=lambda: store,
        ),
    )


def shown(found: FederationBudgets) -> str:
    file = StringIO()
    Console(width=80, file=file).print(federation_table(found))
    return " ".join(file.getvalue().split())


@pytest.mark.parametrize("privacy", [NOISE, None])
def test_the_dearest_member_is_what_an_auditor_finds(privacy: Any) -> None:  # noqa: ANN401
    scripts = [
        whole_run("r", MEMBERS, privacy=privacy),
        whole_run("s", MEMBERS, privacy=privacy),
    ]
    found = read_federation_budgets(reach(*scripts))
    bundle = bundle_of(ledger_of(*scripts), Nodes(MEMBERS).logs(without=MEMBERS))
    for worst in verify_bundle(bundle, live=True).privacy:
        about = (worst.dataset, worst.unit, worst.cohort)
        each = [one for one in found.spent if (one.dataset, one.unit, one.cohort) == about]
        assert [one.member for one in each] == sorted(MEMBERS)
        assert max(one.epsilon or math.inf for one in each) == (worst.epsilon or math.inf)
        assert {one.releases for one in each} == {worst.releases}
    json.dumps(federation_facts(found), allow_nan=False)
    text = shown(found)
    assert ("without bound" in text) is (privacy is None)
    for name in MEMBERS:
        assert name in text
    assert f"the first {found.entries} entries" in text


def test_a_member_who_was_in_fewer_releases_spent_less() -> None:
    script = whole_run("r", MEMBERS, privacy=NOISE)
    alone = whole_run("s", (*MEMBERS, "zeal"), privacy=NOISE)
    found = read_federation_budgets(reach(script, alone))
    spent = {one.member: one for one in found.spent if one.cohort == "training"}
    assert spent["zeal"].releases < spent["bank"].releases
    assert spent["zeal"].epsilon is not None
    assert spent["bank"].epsilon is not None
    assert spent["zeal"].epsilon < spent["bank"].epsilon


def test_what_the_registry_says_of_members_ledgers_stands_beside() -> None:
    solo = wire.Spending(order=8, spent=math.inf)
    told = wire.Budget(
        member="bank\x1b[2J",
        dataset="loans",
        unit="borrower",
        cohort="training",
        releases=3,
        coordinator=wire.Spending(order=16, spent=1.25, cap=4.0, left=2.75),
        solo=solo,
    )
    found = read_federation_budgets(reach(whole_run("r", MEMBERS), told=(told,)))
    (facts,) = federation_facts(found)["own_ledgers"]
    assert facts["coordinator"] == {"spent": 1.25, "cap": 4.0, "left": 2.75}
    assert facts["solo"] == {"spent": None, "cap": None, "left": None}
    text = shown(found)
    assert "\x1b" not in text
    assert "1.25" in text
    assert "as it says" in text


def test_an_operator_is_shown_the_record_alone() -> None:
    found = read_federation_budgets(reach(whole_run("r", MEMBERS), role=Role.OPERATOR))
    assert found.spent
    assert found.told == ()
