"""What does a federation of processes cost beside one in a process, and how soon is it back?

    python experiments/deployment/run.py [--quick] [--only NAME ...] [--data FOLDER]

On this machine's loopback, every participant with a home and processes of its own, as a user would
start them. `cut` and `far` need root: each machine is a network namespace. Writes result.json
beside this file, unless it is to be quick; what was measured before and is not asked for stays.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support import tables  # noqa: E402
from support.cli import command, environment  # noqa: E402
from support.deployed import (  # noqa: E402
    LOOPBACK,
    OPERATOR,
    Deployed,
    Process,
    deployed,
    give_rows,
    models,
    rounds_seen,
    wait_for,
)
from support.network import Switch, network  # noqa: E402

from experiments.deployment.rows import SHARES, deal  # noqa: E402 - after the path is set

TREES = ("ash", "birch", "cedar", "dune", "elm", "fir", "gum", "holly", "iris", "jute", "kelp",
         "lime")  # fmt: skip
OPERATORS = dict.fromkeys(SHARES, "manufacturer") | {"fir": "bank"}
ROWS = 40
RUN_S = 1_500.0
LOOK_S = 0.02
# one batch an epoch and nothing learnt from it: what a round takes is not training
IDLE = {"local_epochs": 1, "batch_rows": 64, "learning_rate": 0.02}
Facts = dict[str, Any]


def roles(count: int) -> dict[str, str]:
    """So many members, of which the last launches."""
    return dict.fromkeys(TREES[: count - 1], "manufacturer") | {TREES[count - 1]: "bank"}


class Clock:
    """When each round of a launch was told of (monotonic)."""

    def __init__(self, launch: Process) -> None:
        self.begun = time.monotonic()
        self.launch = launch
        self.at: list[float] = []
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while self.launch.alive:
            seen, now = rounds_seen(self.launch), time.monotonic()
            self.at += [now] * (seen - len(self.at))
            time.sleep(LOOK_S)

    def reach(self, count: int) -> None:
        """Wait for a round."""
        wait_for(
            lambda: len(self.at) >= count,
            f"round {count}",
            timeout_s=RUN_S,
            every_s=LOOK_S,
            of=[self.launch],
        )

    def round_s(self) -> float:
        """The median, without the first, in which nodes import what they train with."""
        return median(b - a for a, b in zip(self.at[1:], self.at[2:], strict=False))


def figures(federation: Deployed) -> dict[str, float]:
    """What the coordinator's operations port says now."""
    with urlopen(f"http://{LOOPBACK}:{federation.ports[3]}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def memory_mib(pid: int) -> float:
    """Proportional set size of a process, in MiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return round(int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024, 1)


def held(federation: Deployed, run: str) -> Facts:
    """What all ledgers say afterwards, and whether everybody has one model."""
    verdict, kept = federation.audited(), models(federation, run)
    if verdict["verified"] is not True or len(set(kept.values())) != 1:
        raise SystemExit(f"this does not hold: {verdict}, {kept}")
    return {"all_ledgers_hold": True, "members_with_the_model": len(kept)}


def committed(federation: Deployed, run: str) -> list[float]:
    """When the coordinator put each round on record, in seconds since 1970 UTC."""
    path = federation.coordinator.home / "runs" / run / "events.jsonl"
    told = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [one["time_ms"] / 1000 for one in told if one["event"]["type"] == "round"]


def children(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, task.read_text("ascii").split())
    return found


# one function a question --------------------------------------------------------------------


def embedded(rounds: int, count: int) -> Facts:
    """All members in one command on one machine."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        contract = tables.contract("binary", members={"folder": "members"})
        contract["columns"] = [one for one in contract["columns"] if one["name"] != "member"]
        (root / "contract.yaml").write_text(json.dumps(contract))
        training = IDLE | {"rounds": rounds}
        (root / "config.yaml").write_text(json.dumps(tables.config("binary", training=training)))
        for seed, name in enumerate(TREES[:count], start=1):
            own = tables.table("binary", rows=ROWS, seed=seed).drop(columns="member")
            own["id"] += 1_000_000 * seed
            (root / "members" / name).mkdir(parents=True)
            own.to_csv(root / "members" / name / "table.csv", index=False)
        words = ["run", "launch", str(root / "config.yaml"), "--local", "--data", str(root)]
        log = root / "log"
        with log.open("wb") as errors, (root / "out").open("wb") as out:
            popen = subprocess.Popen(
                command(*words, "--json"),
                cwd=ROOT,
                env=environment(root / "home"),
                stdout=out,
                stderr=errors,
            )
            process = Process("embedded", popen, log, root / "out")
            clock = Clock(process)
            clock.reach(rounds - 2)
            mib = [memory_mib(one) for one in children(popen.pid)]
            result = process.result(RUN_S)
        return {
            "members": count,
            "first_round_s": round(clock.at[0] - clock.begun, 2),
            "round_s": round(clock.round_s(), 3),
            "bytes_per_round_and_member": result["bytes_per_round"],
            "processes": len(mib),
            "memory_mib": round(sum(mib), 1),
            "largest_process_mib": max(mib),
        }


@contextmanager
def at_work(count: int, changes: Facts) -> Iterator[tuple[Deployed, Facts, Path]]:
    """A federation on the loopback, what it took to get there, and a config."""
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder), roles(count)) as made:
        configs = give_rows(made, rows=ROWS, config_changes={"deadline_s": 120} | changes)
        begun = time.monotonic()
        made.found()
        made.start_coordinator()
        answered = time.monotonic()
        made.join_all()
        joined = time.monotonic()
        made.start_nodes()
        made.connected()
        online = time.monotonic()
        facts = {
            "members": count,
            "coordinator_answers_s": round(answered - begun, 2),
            "all_joined_s": round(joined - answered, 2),
            "all_nodes_online_s": round(online - joined, 2),
        }
        yield made, facts, configs[TREES[count - 1]]


def plain(rounds: int, count: int) -> Facts:
    """Nothing happens but rounds; then one more member comes."""
    changes = {"training": IDLE | {"rounds": rounds}}
    with at_work(count, changes) as (federation, facts, config):
        launcher = TREES[count - 1]
        before = figures(federation)
        launch = federation.launch(launcher, config)
        clock = Clock(launch)
        first, last = 3, rounds - 3
        clock.reach(first)
        some = figures(federation)
        clock.reach(last)
        more = figures(federation)
        nodes = [memory_mib(federation[n].running["node"].popen.pid) for n in federation.members]
        facts |= {
            "first_round_s": round(clock.at[0] - clock.begun, 2),
            "coordinator_mib": memory_mib(federation.coordinator.running["coordinator"].popen.pid),
            "node_mib": round(median(nodes), 1),
            "all_nodes_mib": round(sum(nodes), 1),
        }
        result = launch.result(RUN_S)
        after = figures(federation)
        per = (last - first) * count
        for way in ("in", "out"):
            messages, size = (f'{one}{{way="{way}"}}' for one in
                              ("tacit_messages_total", "tacit_message_bytes_total"))  # fmt: skip
            facts[f"messages_{way}_per_round_and_member"] = round(
                (more[messages] - some[messages]) / per, 2
            )
            facts[f"bytes_{way}_per_round_and_member"] = round((more[size] - some[size]) / per)
            facts[f"bytes_{way}_whole_run_and_member"] = round(
                (after[size] - before.get(size, 0.0)) / count
            )
        facts |= {
            "rounds": rounds,
            "round_s": round(clock.round_s(), 3),
            "slowest_round_s": round(
                max(b - a for a, b in zip(clock.at[1:], clock.at[2:], strict=False)), 3
            ),
            "bytes_per_round_and_member_as_told": result["bytes_per_round"],
        }
        return facts | held(federation, result["run"])


def newcomer(count: int) -> Facts:
    """From an invitation to the first round of the new member."""
    changes = {"training": IDLE | {"rounds": 3}}
    with at_work(count, changes) as (federation, _, _):
        new, launcher = "maple", TREES[count - 1]
        folder = federation.coordinator.folder.parent / new
        machine = type(federation.coordinator)(new, folder)
        federation.members[new] = machine
        federation.roles = {**federation.roles, new: "manufacturer"}
        config = give_rows(federation, rows=ROWS, config_changes=changes)[launcher]
        begun = time.monotonic()
        federation.join(new, approvers=[launcher])
        joined = time.monotonic()
        federation.start_node(new)
        federation.connected(new)
        online = time.monotonic()
        launch = federation.launch(launcher, config)
        clock = Clock(launch)
        clock.reach(1)
        result = launch.result(RUN_S)
        if new not in result["members"]:
            raise SystemExit(f"{new} was not in the run")
        return {
            "members": count + 1,
            "invited_to_joined_s": round(joined - begun, 2),
            "joined_to_online_s": round(online - joined, 2),
            "launched_to_first_round_s": round(clock.at[0] - online, 2),
            "invited_to_first_round_s": round(clock.at[0] - begun, 2),
        } | held(federation, result["run"])


def faults(rounds: int, count: int) -> Facts:
    """Each is killed and started again at once, several times; when is the next round told of?"""
    changes = {"training": IDLE | {"rounds": rounds}}
    with at_work(count, changes) as (federation, _, config):
        launcher = TREES[count - 1]
        launch = federation.launch(launcher, config)
        clock = Clock(launch)
        clock.reach(4)
        usual = clock.round_s()
        found: dict[str, list[float]] = {"node": [], "coordinator": [], "coordinator_ordered": []}
        for turn, what in enumerate(("node", "coordinator", "coordinator_ordered") * 3, start=1):
            time.sleep(0.37 * turn * usual)  # at another moment of a round each time
            since = time.monotonic()
            if what == "node":
                name = TREES[turn % (count - 1)]
                federation[name].running["node"].kill()
                federation.start_node(name)
            elif what == "coordinator":
                federation.coordinator.running["coordinator"].kill()
                federation.start_coordinator()
            else:
                federation.coordinator.running["coordinator"].stop()
                federation.start_coordinator()
            seen = len(clock.at)
            clock.reach(seen + 2)
            # the round that was cut short, or the one after it, whichever took longer
            took = [b - a for a, b in zip(clock.at, clock.at[1:], strict=False) if b > since]
            found[what].append(round(max(took), 2))
        result = launch.result(RUN_S)
        return {
            "members": count,
            "rounds": result["rounds"],
            "usual_round_s": round(usual, 3),
            "longest_round_after_a_kill_s": found,
            "absences": result.get("absences", {}),
        } | held(federation, result["run"])


@contextmanager
def machines(data: Path, rounds: int, switch: Switch = "bridge") -> Iterator[Deployed]:
    """Six operators of engines and a coordinator, each on a machine of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        network([OPERATOR, *OPERATORS], switch=switch) as lan,
        deployed(Path(folder), OPERATORS, network=lan) as federation,
    ):
        deal(ROOT, data, {n: federation[n].folder / "data" for n in OPERATORS}, rounds=rounds)
        federation.found()
        federation.start_coordinator()
        federation.join_all(federation.start_node)
        federation.connected()
        yield federation


def engines(federation: Deployed) -> Process:
    return federation.launch("fir", federation["fir"].folder / "data" / "config.yaml")


def told(result: Facts, clock: Clock) -> Facts:
    return {
        "members": len(OPERATORS),
        "rounds": result["rounds"],
        "rmse": round(result["metrics"]["rmse"], 3),
        "round_s": round(clock.round_s(), 2),
        "absences": result.get("absences", {}),
        "rounds_undone": result.get("rounds_undone", 0),
    }


def cut(data: Path, rounds: int) -> Facts:
    """A member's line is cut for two rounds; then the coordinator's for 45 seconds."""
    with machines(data, rounds) as federation:
        launch = engines(federation)
        clock = Clock(launch)
        clock.reach(2)
        since = time.monotonic()
        federation.lan.cut("birch")
        clock.reach(len(clock.at) + 2)
        took = max(b - a for a, b in zip(clock.at, clock.at[1:], strict=False) if b > since)
        federation.lan.heal("birch")
        clock.reach(len(clock.at) + 2)
        federation.lan.cut(OPERATOR)
        time.sleep(45)
        federation.lan.heal(OPERATOR)
        healed_s = time.time()
        result = launch.result(RUN_S)
        after = [one - healed_s for one in committed(federation, result["run"]) if one > healed_s]
        return (
            told(result, clock)
            | {
                "longest_round_after_a_member_was_cut_s": round(took, 1),
                "round_after_the_coordinator_was_healed_s": round(after[0], 1),
                "launcher_knows_all_after_s": round(time.time() - healed_s, 1),
            }
            | held(federation, result["run"])
        )


def far(data: Path, rounds: int) -> Facts:
    """40 ms and 10 ms of jitter each way at each end, one packet in a hundred lost at each end."""
    with machines(data, rounds, "wire") as federation:
        for name in OPERATORS:
            federation.lan.shape(name, delay_ms=40, jitter_ms=10, loss=0.01)
        launch = engines(federation)
        clock = Clock(launch)
        result = launch.result(RUN_S)
        return told(result, clock) | held(federation, result["run"])


def questions(data: Path, *, quick: bool) -> dict[str, Callable[[], Facts]]:
    """By name, in an order in which each can be run alone."""
    rounds = 8 if quick else 20
    return {
        "embedded_3": lambda: embedded(rounds, 3),
        "deployed_3": lambda: plain(rounds, 3),
        "embedded_12": lambda: embedded(rounds, 12),
        "deployed_12": lambda: plain(rounds, 12),
        "newcomer": lambda: newcomer(5),
        "faults": lambda: faults(120, 5),
        "cut": lambda: cut(data, 10),
        "far": lambda: far(data, 6),
    }


def loads() -> Sequence[float]:
    return [round(one, 1) for one in os.getloadavg()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*")
    shared = os.environ.get("TACIT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(shared))
    options = parser.parse_args()
    asked = questions(options.data, quick=options.quick)
    path = HERE / "result.json"
    found: Facts = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name in options.only or asked:
        before = loads()
        facts = asked[name]()
        when = datetime.now(UTC).isoformat(timespec="seconds")
        # of 1, 5 and 15 minutes; what is measured is a part of it
        found[name] = facts | {"at": when, "load_before": before, "load_after": loads()}
        print(name, json.dumps(found[name]), flush=True)
        if not options.quick:
            path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
