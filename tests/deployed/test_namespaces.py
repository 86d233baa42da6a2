"""A coordinator and six members, each on a network of its own: the long form.

    TACIT_LONG=1 pytest tests/deployed/test_namespaces.py

Needs root and iproute2. What crosses the network is TLS between real processes; what is done to the
network is what happens to networks: one end goes quiet, all go quiet, packets come late or never.
"""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deployed import (
    DOOR,
    FLEET,
    OPERATIONS,
    OPERATOR,
    REGISTRY,
    Deployed,
    Process,
    deployed,
    give_rows,
    rounds_seen,
    wait_for,
)
from support.network import Switch, network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TACIT_LONG") != "1", reason="set TACIT_LONG=1"),
]
ROLES = {
    "ash": "manufacturer",
    "birch": "manufacturer",
    "cedar": "manufacturer",
    "dune": "insurer",
    "elm": "bank",
    "fir": "bank",
}
RUN_S = 400.0
ROUNDS = 10
CONFIG = {
    "training": {"rounds": ROUNDS, "local_epochs": 2, "batch_rows": 32, "learning_rate": 0.02},
    "min_members": 4,
    "deadline_s": 60,
}


@pytest.fixture(params=["bridge", "wire"])
def switch(request: pytest.FixtureRequest) -> Switch:
    found: Switch = request.param
    return found


@pytest.fixture
def federation(tmp_path: Path, switch: Switch) -> Iterator[Deployed]:
    """Six have joined; coordinator and nodes are at work."""
    with (
        network([OPERATOR, *ROLES], switch=switch) as lan,
        deployed(tmp_path, ROLES, network=lan) as made,
    ):
        made.found()
        made.start_coordinator()
        made.join_all()
        give_rows(made, config_changes=CONFIG)
        made.start_nodes()
        for name in ROLES:
            node = made[name].running["node"]
            wait_for(lambda n=node: "connected" in n.said(), f"{name} is not online", of=[node])  # type: ignore[misc]
        yield made


def launched(federation: Deployed, name: str = "fir") -> Process:
    return federation.launch(name, federation[name].folder / "data" / "config.yaml")


def at_round(launch: Process, count: int) -> None:
    wait_for(
        lambda: rounds_seen(launch) >= count,
        f"round {count} is not reached",
        timeout_s=RUN_S,
        of=[launch],
    )


def holds(federation: Deployed) -> None:
    verdict = federation.coordinator.json("audit", "verify")
    assert verdict["verified"] is True
    assert verdict["rounds"] == ROUNDS


def open_ports(federation: Deployed, seen_from: str, at: str) -> set[int]:
    """Which of our ports one machine reaches at another."""
    address = federation.lan[at].address

    def reached() -> set[int]:
        found: set[int] = set()
        for port in (DOOR, FLEET, OPERATIONS, REGISTRY):
            try:
                socket.create_connection((address, port), timeout=2).close()
            except OSError:
                continue
            found.add(port)
        return found

    return federation.lan[seen_from].call(reached)


def test_only_three_ports_of_the_coordinator_are_open_and_none_of_a_node(
    federation: Deployed,
) -> None:
    assert open_ports(federation, "ash", OPERATOR) == {DOOR, REGISTRY, FLEET}
    assert open_ports(federation, OPERATOR, "ash") == set()
    assert open_ports(federation, "birch", "ash") == set()


def test_a_member_that_goes_quiet_is_left_out_and_comes_back(federation: Deployed) -> None:
    launch = launched(federation)
    at_round(launch, 2)
    federation.lan.cut("birch")
    at_round(launch, 5)
    federation.lan.heal("birch")
    result = launch.result(RUN_S)
    assert result["rounds"] == ROUNDS
    assert result["absences"].get("birch", 0) > 0
    holds(federation)
    node = federation["birch"].running["node"]
    wait_for(
        lambda: federation["birch"].json("node", "status") != {},
        "birch has no status",
        of=[node],
    )


def test_a_run_outlives_a_coordinator_that_nobody_reaches(federation: Deployed) -> None:
    launch = launched(federation)
    at_round(launch, 2)
    federation.lan.cut(OPERATOR)
    time.sleep(45)  # longer than after which a member counts as away
    federation.lan.heal(OPERATOR)
    result = launch.result(RUN_S)
    assert result["rounds"] == ROUNDS
    holds(federation)


def test_a_run_bears_a_slow_and_lossy_network(federation: Deployed, switch: Switch) -> None:
    if switch == "bridge":
        pytest.skip("the wire does it on every kernel")
    for name in ROLES:
        federation.lan.shape(name, delay_ms=40, jitter_ms=10, loss=0.01)
    result = launched(federation).result(RUN_S)
    assert result["rounds"] == ROUNDS
    holds(federation)
