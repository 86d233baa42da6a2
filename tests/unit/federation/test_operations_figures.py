"""What a coordinator and a node show of themselves, and what they do not."""

import logging
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.budgets import RECEIPT, TERMS

from federation.operations.coordinator_metrics import CoordinatorFigures
from federation.operations.ledger_counts import LedgerCounts
from federation.operations.metric import exposition
from federation.operations.node_metrics import BudgetFigures, NodeFigures
from federation.operations.node_port import node_port
from federation.operations.refusals import Refusals
from federation.operations.traffic import CountedTransport, Traffic
from privacy.budget import Budget
from privacy.errors import InputError, RefusedError
from privacy.ledger.bundle import Bundle, read_bundle
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.messages import Ready, RosterNotice, pack

VECTORS = Path(__file__).parents[2] / "vectors" / "positives"


def bundle(name: str) -> Bundle:
    return read_bundle((VECTORS / f"{name}.bundle").read_bytes())


def ledger_of(name: str, owner: str, *, upto: int | None = None) -> MemoryLedger:
    log = next(one for one in bundle(name).logs if one.owner == owner)
    return MemoryLedger(log.leaves[:upto])


def figures(text: str) -> dict[str, float]:
    """`name{labels}` -> value."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def coordinator(store: MemoryLedger, **changes: object) -> CoordinatorFigures:
    facts: dict[str, object] = {
        "ledger": LedgerCounts(store),
        "members": lambda: {"ash", "birch"},
        "seen": lambda: {"ash": 2.5, "birch": 90.0, "stranger": 1.0},
        "certificate_s": lambda: 3600.0,
        "traffic": Traffic(),
        "refusals": Refusals(),
        "version": "0.1.0",
        "since_ms": 1000,
    }
    return CoordinatorFigures(**{**facts, **changes})  # type: ignore[arg-type]


def test_a_coordinator_shows_what_its_ledger_says() -> None:
    store = ledger_of("full", "coordinator")
    last_ms = list(entries_of(store.leaves()))[-1].time_ms
    found = figures(exposition(coordinator(store).metrics(now_ms=last_ms + 7000)))
    assert found["tacit_ledger_readable"] == 1
    assert found["tacit_ledger_entries"] == store.size()
    assert found["tacit_ledger_quiet_seconds"] == 7
    assert found["tacit_runs_under_way"] == 0
    assert found['tacit_ledger_runs_total{state="finished"}'] == 1
    assert found["tacit_ledger_rounds_committed_total"] == 2
    assert found["tacit_ledger_sums_opened_total"] == 5
    assert found["tacit_certificate_seconds"] == 3600
    assert "tacit_ledger_checkpoint_seconds" not in found  # nothing was signed


def test_a_run_is_under_way_until_it_ends() -> None:
    unfinished = figures(
        exposition(LedgerCounts(ledger_of("unfinished", "coordinator")).metrics(now_ms=0))
    )
    assert unfinished["tacit_runs_under_way"] == 1
    stopped = figures(
        exposition(LedgerCounts(ledger_of("stopped", "coordinator")).metrics(now_ms=0))
    )
    assert stopped["tacit_runs_under_way"] == 0
    assert stopped['tacit_ledger_refusals_total{kind="run_stopped"}'] == 1


def test_a_ledger_that_grows_is_counted_on_from_where_it_was() -> None:
    whole = ledger_of("full", "coordinator")
    store = ledger_of("full", "coordinator", upto=9)
    counts = LedgerCounts(store)
    assert figures(exposition(counts.metrics(now_ms=0)))["tacit_ledger_entries"] == 9
    asked: list[int] = []
    leaves = store.leaves

    def watched(start: int = 0, stop: int | None = None) -> object:
        asked.append(start)
        return leaves(start, stop)

    store.leaves = watched  # type: ignore[method-assign, assignment]
    for entry in list(entries_of(whole.leaves()))[9:]:
        store.append(entry.kind, entry.body, time_ms=entry.time_ms)
    assert figures(exposition(counts.metrics(now_ms=0))) == figures(
        exposition(LedgerCounts(whole).metrics(now_ms=0))
    )
    assert min(asked) == 9


def test_a_signed_state_has_an_age() -> None:
    store = ledger_of("full", "coordinator")
    entries = list(entries_of(store.leaves()))
    store.keep_checkpoint(10, b"note")
    now_ms = entries[-1].time_ms + 60_000
    found = figures(exposition(LedgerCounts(store).metrics(now_ms=now_ms)))
    assert found["tacit_ledger_checkpoint_seconds"] == (now_ms - entries[9].time_ms) / 1000
    assert found["tacit_ledger_unsigned_entries"] == store.size() - 10


def test_of_members_a_coordinator_shows_presence_alone() -> None:
    store = ledger_of("full", "coordinator")
    text = exposition(coordinator(store).metrics(now_ms=0))
    found = figures(text)
    assert found["tacit_members"] == 2
    assert found["tacit_members_online"] == 1
    assert found['tacit_member_seen_seconds{member="birch"}'] == 90
    assert "stranger" not in text  # no member, so nobody chose that it may be named
    about = {name for name in found if "ash" in name or "birch" in name}
    assert all(name.startswith("tacit_member_seen_seconds{") for name in about)
    assert not re.search("epsilon|budget_|dataset", text)
    members = {one.owner for one in bundle("full").logs if one.role == "node"}
    assert not any(member in text for member in members)


class Unreadable(MemoryLedger):
    def checkpoints(self) -> list[tuple[int, bytes]]:
        raise InputError("the database is away")


def test_without_its_ledger_the_rest_is_shown() -> None:
    found = figures(exposition(coordinator(Unreadable()).metrics(now_ms=0)))
    assert found["tacit_ledger_readable"] == 0
    assert found["tacit_certificate_seconds"] == 3600
    assert "tacit_ledger_entries" not in found


def node(store: object, **changes: object) -> NodeFigures:
    facts: dict[str, object] = {
        "ledger": LedgerCounts(store),  # type: ignore[arg-type]
        "budgets": BudgetFigures(store),  # type: ignore[arg-type]
        "seen_s": lambda: 1.0,
        "certificate_s": lambda: 60.0,
        "refusals": Refusals(),
        "version": "0.1.0",
        "since_ms": 1000,
    }
    return NodeFigures(**{**facts, **changes})  # type: ignore[arg-type]


def test_a_node_shows_its_budgets(tmp_path: Path) -> None:
    store = SqliteLedger(tmp_path / "ledger.db")
    try:
        budget = Budget(store, TERMS, now_ms=lambda: 5)
        shown = node(store)
        labels = (
            f'dataset="{TERMS.dataset}",unit="{TERMS.unit}",cohort="training",against="coordinator"'
        )
        spent, left = (f"tacit_budget_{what}_epsilon{{{labels}}}" for what in ("spent", "left"))
        before = figures(exposition(shown.metrics(now_ms=5)))
        assert before[spent] == 0
        budget.reserve("a", "update", 1, RECEIPT)
        after = figures(exposition(shown.metrics(now_ms=5)))
        assert after[spent] > 0
        assert after[left] < before[left]
        assert after[f"tacit_budget_cap_epsilon{{{labels}}}"] == TERMS.epsilon
        assert after["tacit_connected"] == 1
        assert TERMS.member not in exposition(shown.metrics(now_ms=5))
    finally:
        store.close()


@pytest.mark.parametrize(("seen_s", "connected"), [(None, 0), (29.0, 1), (31.0, 0)])
def test_a_node_says_whether_the_coordinator_answers(
    seen_s: float | None, connected: float
) -> None:
    found = figures(exposition(node(MemoryLedger(), seen_s=lambda: seen_s).metrics(now_ms=0)))
    assert found["tacit_connected"] == connected
    assert ("tacit_coordinator_seen_seconds" in found) is (seen_s is not None)


class _Carrier:
    @property
    def names(self) -> dict[int, str]:
        return {1: "mill"}

    def nodes(self) -> tuple[int, ...]:
        return 1, 2, 3

    def exchange(self, requests: object, **_: object) -> dict[int, tuple[Ready, bytes]]:
        del requests
        return {1: (Ready(member="ash"), b"12345")}


def test_messages_are_counted_both_ways() -> None:
    traffic = Traffic()
    carrier = CountedTransport(_Carrier(), traffic)
    assert carrier.nodes() == (1, 2, 3)
    request = RosterNotice(run=b"r" * 32, offers=())
    answers = carrier.exchange(
        {1: (request, b"123"), 2: (request, b"")},
        kind="query",
        deadline_s=1,
        needed=(),
        grace_s=0,
    )
    assert set(answers) == {1}
    found = figures(exposition(traffic.metrics()))
    size = len(pack(request).message)
    assert found['tacit_messages_total{way="out"}'] == 2
    assert found['tacit_message_bytes_total{way="out"}'] == 2 * size + 3
    assert found['tacit_messages_total{way="in"}'] == 1
    assert (
        found['tacit_message_bytes_total{way="in"}'] == len(pack(Ready(member="ash")).message) + 5
    )


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_nodes_port_is_healthy_while_the_coordinator_answers() -> None:
    seen: list[float | None] = [1.0]
    with node_port(
        "127.0.0.1:0",
        ledger=MemoryLedger(),
        seen_s=lambda: seen[0],
        certificate_s=lambda: 60.0,
        version="0.1.0",
        since_ms=time.time_ns() // 1_000_000,
    ) as at:
        assert at is not None
        assert get(at.address, "/health")[0] == 200
        logging.getLogger("tacit.node.ash").warning("refused: %s", RefusedError("no"))
        text = get(at.address, "/metrics")[1]
        assert figures(text)['tacit_refusals_total{reason="policy"}'] == 1
        seen[0] = None  # it has just begun, and may take a while
        assert get(at.address, "/health")[0] == 200
        seen[0] = 121.0
        status, body = get(at.address, "/health")
        assert status == 503
        assert "network" in body
    assert not logging.getLogger("tacit.node").handlers


def test_a_node_that_is_not_asked_to_opens_no_port() -> None:
    with node_port(
        "none",
        ledger=MemoryLedger(),
        seen_s=lambda: None,
        certificate_s=lambda: 60.0,
        version="0.1.0",
        since_ms=0,
    ) as at:
        assert at is None
