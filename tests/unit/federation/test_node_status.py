"""How a node stands, whatever of it is broken or away."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from support import tables
from support.asked import asked
from support.federations import Federated

from federation.channel import UnreachedError
from federation.decisions import NodeDecisions
from federation.home import Home
from federation.node_data import NodeData
from federation.node_points.point import Me
from federation.node_policy import record_policy
from federation.node_service import alone, open_ledger
from federation.node_status import NodeStatus, node_status, status_page
from federation.participant import Place, load_participant
from privacy.errors import InputError

NAME = "north"
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Told:
    """A coordinator's answer."""

    role: str = "manufacturer"
    name: str = NAME
    time_ms: int = round(NOW.timestamp() * 1000)
    version: str = "0.1.0"
    key_exchange: str = ""


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Home:
    federated = Federated(tmp_path_factory.mktemp("status"))
    federated.add(NAME, "manufacturer")
    return federated.homes[NAME]


@pytest.fixture
def home(joined: Home, tmp_path: Path) -> Home:
    shutil.copytree(joined.root, tmp_path / "home")
    return Home(tmp_path / "home")


def away(place: Place) -> Me:
    raise UnreachedError(f"{place.registry} does not answer")


def there(place: Place) -> Me:
    del place
    return Told()


def page(status: NodeStatus) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(status_page(status))
    json.dumps(status.facts, allow_nan=False)
    return console.export_text()


def look(home: Home, me: Callable[[Place], Me] = there) -> tuple[NodeStatus, str]:
    found = node_status(home, me, now=NOW)
    return found, page(found)


def test_a_node_that_was_never_started(home: Home) -> None:
    found, text = look(home)
    assert found.facts["running"] is False
    assert found.facts["coordinator"]["reachable"] is True
    assert found.facts["policy"]["path"] == "the usual terms"
    assert not home.own_node.exists()  # a look leaves nothing behind
    for part in ("north (manufacturer) of Machines", "not running", "none under way"):
        assert part in text


def test_a_coordinator_that_is_away(home: Home) -> None:
    found, text = look(home, away)
    assert found.facts["coordinator"]["reachable"] is False
    assert "does not answer" in text


def test_a_policy_that_does_not_hold(home: Home) -> None:
    place = load_participant(home)
    ledger = open_ledger(home.own_node, place.identity(), owner=NAME)
    record_policy(ledger, "ab" * 32, now_ms=1)
    (home.own_node / "policy.yaml").write_text("minimum: 3\n")
    found, text = look(home)
    assert found.facts["policy"]["sha256"] == "ab" * 32
    assert "unknown key minimum" in text


def test_data_what_waits_and_what_works(home: Home, tmp_path: Path) -> None:
    small = tables.write(tmp_path / "rows")
    NodeData().add(small.contract, small.root).keep(home.own_node)
    (home.own_node / "policy.yaml").write_text("budgets: [{epsilon: 2.5}]\n")
    ledger = open_ledger(home.own_node, load_participant(home).identity(), owner=NAME)
    NodeDecisions(home.own_node, ledger).wait(asked(), "Bank A", on="person", why="Decide.")
    (home.own_node / "service.json").write_text(
        json.dumps({"since_ms": 1_000, "said": "connected", "seen_ms": 2_000, "runs": {"ab": "r"}})
    )
    with alone(home.own_node):
        found, text = look(home)
    assert found.facts["running"] is True
    assert found.facts["contracts"][0]["epsilon"] == 2.5
    for part in (
        "epsilon at most 2.5 per customer",
        "20260102-demo-1a2b",
        "tacit node approve RUN",
        "at work since 1970-01-01 00:00:01 UTC",
        "seen by the node at 1970-01-01 00:00:02 UTC",
    ):
        assert part in text
    # what a node that ended left behind is not told as if it were so
    assert look(home)[0].facts["runs"] == {}


def test_a_ledger_that_is_none_and_data_that_are_gone(home: Home, tmp_path: Path) -> None:
    small = tables.write(tmp_path / "rows")
    NodeData().add(small.contract, small.root).keep(home.own_node)
    small.contract.unlink()
    (home.own_node / "ledger.db").write_text("nothing of the kind, and long enough to be read")
    found, text = look(home)
    assert found.facts["ledger"]["fault"]
    assert "no such file" in text


def test_a_machine_that_is_in_no_federation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in no federation yet"):
        node_status(Home(tmp_path), there, now=NOW)
