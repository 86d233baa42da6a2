"""What does a federation over a network cost beside one in a process, and what does it survive?

    python experiments/deployment/run.py [--quick] [--only NAME ...] [--data FOLDER]

Seven machines (network namespaces, needs root): a coordinator and six operators of C-MAPSS engines,
each with its own rows, a home of its own, and processes that a user would start. Writes result.json
beside this file, unless it is to be quick; what was measured before and is not asked for stays.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(HERE)]

from rows import SHARES, deal  # noqa: E402 - after the path is set
from support.cli import command, environment  # noqa: E402
from support.deployed import (  # noqa: E402
    OPERATOR,
    Deployed,
    Process,
    deployed,
    rounds_seen,
    wait_for,
)
from support.network import Switch, network  # noqa: E402

ROLES = dict.fromkeys(SHARES, "manufacturer") | {"fir": "bank"}
LAUNCHER = "fir"
RUN_S = 3_000.0
Facts = dict[str, Any]


@contextmanager
def machines(
    data: Path, rounds: int, switch: Switch = "bridge"
) -> Iterator[tuple[Deployed, Facts]]:
    """A federation at work, and what it took to get there."""
    with (
        tempfile.TemporaryDirectory() as folder,
        network([OPERATOR, *ROLES], switch=switch) as lan,
        deployed(Path(folder), ROLES, network=lan) as federation,
    ):
        begun = time.monotonic()
        federation.found()
        federation.start_coordinator()
        answered = time.monotonic()
        federation.join_all()
        joined = time.monotonic()
        deal(ROOT, data, {n: federation[n].folder / "data" for n in ROLES}, rounds=rounds)
        started = time.monotonic()
        federation.start_nodes()
        for name in ROLES:
            node = federation[name].running["node"]
            wait_for(lambda n=node: "connected" in n.said(), f"{name} is away", of=[node])
        yield (
            federation,
            {
                "coordinator_answers_s": round(answered - begun, 2),
                "one_member_joins_s": round((joined - answered) / len(ROLES), 2),
                "all_nodes_online_s": round(time.monotonic() - started, 2),
            },
        )


def launch(federation: Deployed) -> Process:
    config = federation[LAUNCHER].folder / "data" / "config.yaml"
    return federation.launch(LAUNCHER, config)


def told(result: Facts) -> Facts:
    return {
        "rounds": result["rounds"],
        "rmse": round(result["metrics"]["rmse"], 3),
        "seconds": result["seconds"]["federated"],
        "seconds_per_round": result["seconds"]["per_round"],
        "bytes_up_per_round": result["bytes_per_round"]["up_per_member"],
        "absences": result.get("absences", {}),
        "rounds_undone": result.get("rounds_undone", 0),
    }


def memory_mib(process: Process) -> float:
    """Proportional set size of a process, in MiB."""
    try:
        lines = Path(f"/proc/{process.popen.pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return 0.0
    return round(int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024, 1)


def held(federation: Deployed, rounds: int) -> Facts:
    """What the ledger says afterwards."""
    verdict = federation.coordinator.json("audit", "verify")
    if verdict["rounds"] != rounds or verdict["verified"] is not True:
        raise SystemExit(f"the ledger does not hold what was run: {verdict}")
    return {"ledger_holds": True, "leaves": verdict["leaves"]}


# one function a question


def embedded(data: Path, rounds: int) -> Facts:
    """The same six members and rows in one command on one machine."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        deal(ROOT, data, {name: root / "members" / name for name in SHARES}, rounds=rounds)
        first = root / "members" / LAUNCHER
        contract = yaml.safe_load((first / "contract.yaml").read_text("utf-8"))
        contract["members"] = {"folder": "members"}
        (root / "contract.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))
        shutil.copy(first / "config.yaml", root / "config.yaml")
        for name in SHARES:
            for kept in ("contract.yaml", "config.yaml"):
                (root / "members" / name / kept).unlink()
        words = ["run", "launch", str(root / "config.yaml"), "--local", "--data", str(root)]
        done = subprocess.run(
            command(*words, "--json"),
            cwd=ROOT,
            env=environment(root / "home"),
            stdout=subprocess.PIPE,
            check=True,
        )
    return told(json.loads(done.stdout))


def plain(data: Path, rounds: int) -> Facts:
    """Seven machines and a good network."""
    with machines(data, rounds) as (federation, facts):
        under_way = launch(federation)
        wait_for(
            lambda: rounds_seen(under_way) >= rounds // 2, "half", timeout_s=RUN_S, of=[under_way]
        )
        facts["coordinator_mib"] = memory_mib(federation.coordinator.running["coordinator"])
        facts["node_mib"] = max(memory_mib(federation[n].running["node"]) for n in ROLES)
        return facts | told(under_way.result(RUN_S)) | held(federation, rounds)


def far(data: Path, rounds: int) -> Facts:
    """40 ms and 10 ms of jitter each way at each end, one packet in a hundred lost at each end."""
    with machines(data, rounds, "wire") as (federation, _):
        for name in ROLES:
            federation.lan.shape(name, delay_ms=40, jitter_ms=10, loss=0.01)
        return told(launch(federation).result(RUN_S)) | held(federation, rounds)


def killed(data: Path, rounds: int) -> Facts:
    """Each second round something is killed: a node, the coordinator, another node, ..."""
    with machines(data, rounds) as (federation, _):
        under_way = launch(federation)
        kills = {"coordinator": 0, "node": 0}
        others = [name for name in ROLES if name != LAUNCHER]
        for count in range(1, rounds - 1, 2):
            wait_for(
                lambda c=count: rounds_seen(under_way) >= c,
                f"round {count}",
                timeout_s=RUN_S,
                of=[under_way],
            )
            if count % 4 == 1:
                name = others[count // 4 % len(others)]
                federation[name].running["node"].kill()
                federation.start_node(name)
                kills["node"] += 1
            else:
                federation.coordinator.running["coordinator"].kill()
                federation.start_coordinator()
                kills["coordinator"] += 1
        return {"kills": kills} | told(under_way.result(RUN_S)) | held(federation, rounds)


def cut(data: Path, rounds: int) -> Facts:
    """A member's line is cut for two rounds; then the coordinator's for a minute."""
    with machines(data, rounds) as (federation, _):
        under_way = launch(federation)

        def at_round(count: int) -> None:
            wait_for(
                lambda: rounds_seen(under_way) >= count,
                f"round {count}",
                timeout_s=RUN_S,
                of=[under_way],
            )

        at_round(2)
        federation.lan.cut("birch")
        at_round(4)
        federation.lan.heal("birch")
        at_round(6)
        federation.lan.cut(OPERATOR)
        time.sleep(60)
        federation.lan.heal(OPERATOR)
        return told(under_way.result(RUN_S)) | held(federation, rounds)


QUESTIONS: dict[str, Callable[[Path, int], Facts]] = {
    one.__name__: one for one in (embedded, plain, far, killed, cut)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=sorted(QUESTIONS))
    shared = os.environ.get("TACIT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(shared))
    options = parser.parse_args()
    rounds = 8 if options.quick else 20
    path = HERE / "result.json"
    found: Facts = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name in options.only or QUESTIONS:
        facts = QUESTIONS[name](options.data, rounds)
        found[name] = facts | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        print(name, json.dumps(facts), flush=True)
        if not options.quick:
            path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
