"""Nothing leaves without a record, however often and whenever its writers and its server die."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import killing
from faults.killing import COMMITTED, RESERVED, WORKERS
from support.postgres import Server, postgres_server

from federation.ledger_place import open_store
from privacy.ledger.head import in_order
from privacy.ledger.merkle import Frontier
from privacy.ledger.store import checked_frontier, entries_of

LONGEST_S = 3600
KILLS = int(os.environ.get("TACIT_KILLS", "200"))
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What was released, and what of it the ledger holds, after many kills.

    Attributes:
        wire: Ids that were released.
        reserved: Ids that the ledger holds as reserved.
        committed: Ids that it holds as committed.
        kills: Workers that were killed.
        failures: Workers that ended by themselves as the ledger could not be used.
    """

    wire: set[str]
    reserved: set[str]
    committed: set[str]
    kills: int
    failures: int

    @property
    def lost(self) -> set[str]:
        """Released without a record."""
        return self.wire - self.reserved

    @property
    def dangling(self) -> set[str]:
        """Recorded, and nobody knows whether it was released; it counts."""
        return self.reserved - self.committed


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server() as one:
        yield one


def start(target: str, worker: str, kills: int, failures: int = 0) -> subprocess.Popen[str]:
    life_ms = 300 if "://" in target else 80
    numbers = map(str, (kills, failures, life_ms, secrets.randbelow(1 << 32)))
    return subprocess.Popen(
        [sys.executable, killing.__file__, target, worker, *numbers],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
    )


def outcome(target: str, killer: subprocess.Popen[str]) -> Outcome:
    """Of a killer that is waited for, after everything in the ledger was verified."""
    said = json.loads(killer.communicate(timeout=LONGEST_S)[0])
    store = open_store(target)
    checked_frontier(store, since=Frontier(), size=store.size())
    entries = list(in_order(entries_of(store.leaves())))
    runs = {
        kind: {str(entry.body["run"]) for entry in entries if entry.kind == kind}
        for kind in (RESERVED, COMMITTED)
    }
    assert len(said["wire"]) == len(set(said["wire"]))
    return Outcome(
        set(said["wire"]), runs[RESERVED], runs[COMMITTED], said["kills"], said["failures"]
    )


def assert_nothing_lost(found: Outcome, kills: int) -> None:
    assert found.kills >= kills
    assert len(found.wire) > kills
    assert found.lost == set()
    assert found.committed <= found.wire
    # a killed worker leaves one at most, that under way
    assert len(found.dangling) <= found.kills + found.failures


def test_writers_of_a_file_are_killed(tmp_path: Path) -> None:
    target = str(tmp_path / "ledger.db")
    found = outcome(target, start(target, "record_then_release", KILLS))
    assert_nothing_lost(found, KILLS)
    assert found.failures == 0


def test_who_records_after_the_release_loses_records(tmp_path: Path) -> None:
    target = str(tmp_path / "ledger.db")
    kills = max(KILLS // 4, 50)
    assert outcome(target, start(target, "release_then_record", kills)).lost


def test_writers_of_a_database_are_killed_and_its_server_crashes(server: Server) -> None:
    target = server.url(server.empty_database())
    kills = max(KILLS // 4, 20)
    killer = start(target, "record_then_release", kills, failures=WORKERS)
    store = open_store(target)
    while store.size() < kills:
        time.sleep(0.01)
    server.stop("immediate")
    server.start()
    assert_nothing_lost(outcome(target, killer), kills)


def test_who_records_after_the_release_loses_records_in_a_database(server: Server) -> None:
    target = server.url(server.empty_database())
    # more than half of the kills show it, so of fifty none does with a chance below 1e-15
    assert outcome(target, start(target, "release_then_record", 50)).lost
