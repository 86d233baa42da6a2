"""A run, planned where only one member's rows are at hand."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import tables

from federation.compliance import load_rules
from federation.config import load_project
from federation.home import Home
from federation.plan import plan_run, plan_table


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def planned(where: tables.SmallFederation, home: Home, own: str | None = None) -> dict[str, Any]:
    return plan_run(
        load_project(where.config),
        where.root,
        home,
        seed=0,
        rules=load_rules(home=home.root),
        at=datetime.now(UTC),
        own=own,
    )


def text(plan: dict[str, Any]) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(plan_table(plan))
    return captured.get()


def test_a_participant_plans_with_its_own_rows_alone(tmp_path: Path, home: Home) -> None:
    frame = tables.table("binary")
    where = tables.write(
        tmp_path / "data",
        rows=frame[frame["member"] == "north"],
        config_changes={"minimum_cohort": 4},
    )
    alone = planned(where, home)
    assert (alone["assumed_members"], alone["feasible"]) == (0, False)
    assert "taken for granted" not in text(alone)
    # over the network the usual floor counts
    (reason,) = planned(where, home, "Mill")["members"]["north"]["would_refuse"]
    assert "adds no noise" in reason
    home.own_node.mkdir(parents=True)
    policy = home.own_node / "policy.yaml"
    policy.write_text("minimum_protection: {noise_from: none}\n")
    plan = planned(where, home, "Mill")
    assert (plan["assumed_members"], plan["feasible"]) == (3, True)
    assert list(plan["members"]) == ["north"]
    assert plan["members"]["north"]["would_refuse"] == []
    assert "3 other members are taken for granted" in text(plan)
    assert "It can run." in text(plan)
    policy.write_text("minimum_protection: {noise_from: none}\nminimum_cohort: 5\n")
    (reason,) = planned(where, home, "Mill")["members"]["north"]["would_refuse"]
    assert "this node insists on at least 5" in reason


def test_who_has_all_members_rows_plans_with_these(tmp_path: Path, home: Home) -> None:
    where = tables.write(tmp_path / "data")
    plan = planned(where, home, "Mill")
    assert (plan["assumed_members"], len(plan["members"])) == (0, 3)
    assert "taken for granted" not in text(plan)
