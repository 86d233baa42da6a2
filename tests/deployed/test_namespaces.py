"""A coordinator and six members, each on a network of its own: the long form.

    TACIT_LONG=1 pytest tests/deployed/test_namespaces.py

Needs root and iproute2. One federation bears everything that happens to machines and networks, one
thing after the other, and is put in order in between. Where they are at hand, members have the
C-MAPSS engines of one operator each; else tables that are made up.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import ROOT
from support.clock import wrong_clock
from support.deployed import (
    DOOR,
    FLEET,
    OPERATIONS,
    OPERATOR,
    REGISTRY,
    Deployed,
    Machine,
    Process,
    allow,
    deployed,
    give_rows,
    models,
    rounds_seen,
    wait_for,
)
from support.network import Switch, network

from experiments.deployment.rows import SHARES, deal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TACIT_LONG") != "1", reason="set TACIT_LONG=1"),
]
ROLES = dict.fromkeys(SHARES, "manufacturer") | {"elm": "insurer", "fir": "bank"}
LAUNCHER = "fir"
SMALL_DISK = ("cedar", OPERATOR)
DISK_MIB = 48
RUN_S = 400.0
ROUNDS = 8
DAY_S = 86_400
AWAY_S = 45  # longer than after which a member counts as away
TRAINING = {"rounds": ROUNDS, "local_epochs": 2, "batch_rows": 32, "learning_rate": 0.02}
CHANGES: Mapping[str, Any] = {"min_members": 4, "deadline_s": 120}
DATA = Path(os.environ.get("TACIT_DATA", ROOT.parent / "shared" / "data"))


@contextmanager
def small_disks(folder: Path) -> Iterator[None]:
    """Homes of a few MiB each, of which nothing else on this machine sees anything."""
    mounted: list[Path] = []
    try:
        for name in SMALL_DISK:
            home = folder / name / "home"
            home.mkdir(parents=True, mode=0o700)
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(home)],
                check=True,
            )
            mounted.append(home)
        yield
    finally:
        for home in mounted:
            subprocess.run(["umount", "-l", str(home)], check=True)


@contextmanager
def founded(folder: Path, switch: Switch) -> Iterator[Deployed]:
    """Six have joined; coordinator and nodes are at work."""
    with (
        network([OPERATOR, *ROLES], switch=switch) as lan,
        small_disks(folder),
        deployed(folder, ROLES, network=lan) as made,
    ):
        folders = {name: made[name].folder / "data" for name in ROLES}
        if (DATA / "cmapss").is_dir():
            deal(ROOT, DATA, folders, rounds=ROUNDS)
        else:
            give_rows(made, config_changes={"training": TRAINING})
        allow(made["cedar"], {"resources": {"disk_free_mib": 0}})
        made.found()
        made.start_coordinator()
        made.join_all(made.start_node)
        made.connected()
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with founded(tmp_path_factory.mktemp("long"), "bridge") as made:
        yield made


@pytest.fixture
def federation(shared: Deployed) -> Iterator[Deployed]:
    """The one federation, with everybody there, before and after."""
    yield shared
    for name in list(shared.lan.away):
        shared.lan.heal(name)
    for machine in (shared.coordinator, *shared.members.values()):
        (machine.home / "full").unlink(missing_ok=True)
        machine.besides.clear()
    if not shared.coordinator.running["coordinator"].alive:
        shared.start_coordinator()
    for name in ROLES:
        node = shared[name].running["node"]
        if node.alive:
            node.go_on()
        else:
            shared.start_node(name)
    launch = shared[LAUNCHER].running.get("launch")
    if launch is not None and launch.alive:
        launch.kill()
    there(shared)


def there(federation: Deployed) -> None:
    """Wait until the coordinator hears of all nodes."""

    def all_are() -> bool:
        told = federation.coordinator.call_operations("/metrics", federation.ports[3])
        return f"tacit_members_online {len(ROLES)}" in told

    wait_for(all_are, "not all nodes are back", timeout_s=120, every_s=0.5)


def launched(federation: Deployed, **changes: object) -> Process:
    """A run of the launcher's config, with keys replaced."""
    path = federation[LAUNCHER].folder / "data" / "config.yaml"
    config = yaml.safe_load(path.read_text("utf-8")) | dict(CHANGES) | changes
    asked = path.with_name("asked.yaml")
    asked.write_text(yaml.safe_dump(config))
    return federation.launch(LAUNCHER, asked)


def at_round(launch: Process, count: int) -> None:
    wait_for(
        lambda: rounds_seen(launch) >= count,
        f"round {count} is not reached",
        timeout_s=RUN_S,
        of=[launch],
    )


def run_of(federation: Deployed) -> str:
    """The run that was launched last."""
    return max(path.name for path in (federation[LAUNCHER].home / "runs").iterdir())


def finishes(
    federation: Deployed, launch: Process, *, missed: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """It ends by itself; members have one model, and all ledgers hold.

    Args:
        federation: Whose run.
        launch: Its launch, or whoever watches it.
        missed: Who may have missed how many sums at most; nobody else any.
    """
    result = launch.result(RUN_S)
    assert result["rounds"] == ROUNDS
    for name, count in result.get("absences", {}).items():
        assert count <= (missed or {}).get(name, 0), result["absences"]
    kept = models(federation, result["run"])
    assert set(ROLES) - set(missed or {}) <= set(kept)
    assert len(set(kept.values())) == 1
    verdict = federation.audited()
    assert verdict["verified"] is True
    assert result["run"] not in verdict["unfinished"]
    sys.stdout.write(f"{result['run']}: absences {result.get('absences')}\n")
    return result


def fill(machine: Machine) -> None:
    """Leave no room on its disk."""
    with (machine.home / "full").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(b"0")
        except OSError:
            pass


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


@pytest.mark.parametrize("protection", ["masked", "sealed"])
def test_a_run_outlives_nodes_that_are_killed(federation: Deployed, protection: str) -> None:
    launch = launched(federation, protection={"sum": protection})
    for count, name in ((1, "ash"), (3, "birch"), (5, LAUNCHER)):
        at_round(launch, count)
        time.sleep(0.25 * count)  # at another moment of a round each time
        federation[name].running["node"].kill()
        federation.start_node(name)
    finishes(federation, launch, missed=dict.fromkeys(("ash", "birch", LAUNCHER), 3))


@pytest.mark.parametrize("protection", ["masked", "sealed"])
def test_a_run_outlives_its_coordinator(federation: Deployed, protection: str) -> None:
    launch = launched(federation, protection={"sum": protection})
    # while it begins, and at several moments of rounds
    wait_for(lambda: "agrees" in launch.said(), "nobody agrees", timeout_s=RUN_S, of=[launch])
    for count, later_s in ((0, 0.2), (1, 0.0), (2, 0.3), (4, 0.9), (6, 1.5)):
        at_round(launch, count)
        time.sleep(later_s)
        federation.coordinator.running["coordinator"].kill()
        federation.start_coordinator()
    finishes(federation, launch)


def test_a_member_whose_line_is_cut_is_left_out_and_comes_back(federation: Deployed) -> None:
    launch = launched(federation)
    at_round(launch, 2)
    federation.lan.cut("birch")
    at_round(launch, 4)
    federation.lan.heal("birch")
    result = finishes(federation, launch, missed={"birch": ROUNDS})
    assert result["absences"]["birch"] > 0


def test_a_run_outlives_a_coordinator_that_nobody_reaches(federation: Deployed) -> None:
    launch = launched(federation)
    at_round(launch, 2)
    federation.lan.cut(OPERATOR)
    time.sleep(AWAY_S)
    federation.lan.heal(OPERATOR)
    finishes(federation, launch, missed=dict.fromkeys(ROLES, 1))


def test_a_node_that_hangs_is_waited_for_and_then_left_out(federation: Deployed) -> None:
    launch = launched(federation)
    node = federation["dune"].running["node"]
    at_round(launch, 1)
    node.pause()
    time.sleep(10)  # it is waited for so long
    node.go_on()
    at_round(launch, 3)
    node.pause()
    at_round(launch, 6)  # the others go on without it
    node.go_on()
    result = finishes(federation, launch, missed={"dune": ROUNDS})
    assert result["absences"]["dune"] > 0


def test_a_node_whose_disk_is_full_is_left_out_and_comes_back(federation: Deployed) -> None:
    cedar = federation["cedar"]
    launch = launched(federation)
    at_round(launch, 2)
    fill(cedar)
    at_round(launch, 4)
    assert "No space left" in launch.said() + cedar.running["node"].said()
    (cedar.home / "full").unlink()
    result = finishes(federation, launch, missed={"cedar": ROUNDS})
    assert result["absences"]["cedar"] > 0
    assert cedar.running["node"].alive


def test_a_coordinator_whose_disk_is_full_interrupts_the_run(federation: Deployed) -> None:
    launch = launched(federation)
    at_round(launch, 2)
    fill(federation.coordinator)
    assert launch.end(RUN_S) == 1
    assert "the coordinator's machine has a fault; ask its operator" in launch.said()
    assert "free some space" in federation.coordinator.running["coordinator"].said()
    (federation.coordinator.home / "full").unlink()
    run = run_of(federation)
    launcher = federation[LAUNCHER]
    launcher.tacit("run", "resume", run)
    finishes(federation, launcher.start("launch", "run", "watch", run, "--json"))


def test_a_node_whose_clock_is_wrong_is_told_so_and_comes_back(
    federation: Deployed, tmp_path: Path
) -> None:
    elm = federation["elm"]
    launch = launched(federation)
    at_round(launch, 2)
    elm.running["node"].kill()
    elm.besides.update(wrong_clock(tmp_path, DAY_S))
    node = federation.start_node("elm")
    sentence = f"this machine's clock is {DAY_S // 1000}"  # 86 thousand and some seconds
    wait_for(lambda: sentence in node.said(), "it is not told of its clock", of=[node])
    checked = elm.tacit("node", "check", code=1)
    assert "s ahead of the coordinator's" in " ".join(checked.stdout.split())
    elm.besides.clear()
    node.kill()
    federation.start_node("elm")
    finishes(federation, launch, missed={"elm": ROUNDS})


def test_a_run_goes_on_without_its_launcher_who_watches_it_later(federation: Deployed) -> None:
    launch = launched(federation)
    at_round(launch, 2)
    os.killpg(launch.popen.pid, signal.SIGKILL)
    launch.popen.wait()
    launcher = federation[LAUNCHER]
    watch = launcher.start("launch", "run", "watch", run_of(federation), "--json")
    finishes(federation, watch)


def test_a_run_bears_a_slow_and_lossy_network(tmp_path: Path) -> None:
    with founded(tmp_path, "wire") as federation:
        for name in ROLES:
            federation.lan.shape(name, delay_ms=40, jitter_ms=10, loss=0.01)
        finishes(federation, launched(federation))
