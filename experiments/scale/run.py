"""What does a node cost, and how many does one coordinator carry?

    python experiments/scale/run.py [--sizes 12 100 300 1000] [--engine embedded|ray] [--out FOLDER]

Generates federations of so many members (a file of 40 rows each, a network of 16 units), runs each
with all its nodes on this machine, has its records verified, and reports what a node takes of time,
memory and bytes. Its arithmetic is fitted on the first three sizes and checked at the last.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = 40
THRESHOLD = 1.2
FITTED = 3  # sizes that the arithmetic needs
ROUNDS = 2
SAMPLE_S = 2.0
MIB = 2**20
CONTRACT = """contract: 1
name: scale
title: Generated machines of many plants
unit: machine
sources:
  - {path: rows.csv}
columns:
  - {name: machine, type: integer, role: id, class: L2}
  - {name: heat, type: number, class: L3, range: [0, 1]}
  - {name: load, type: number, class: L3, range: [0, 1]}
  - {name: wear, type: number, class: L3, range: [0, 1]}
  - {name: failure, type: integer, role: label, class: L3}
members: {folder: plants}
split: {kind: stratified, seed: 42, test_share: 0.25}
label: {kind: binary, column: failure, positive: 1}
"""
CONFIG = """name: scale
task: failure
contract: contract.yaml
protection: {{sum: {protection}}}
features: {{bins: 4}}
model: {{hidden: [16]}}
training: {{rounds: {rounds}, local_epochs: 1, batch_rows: 16, learning_rate: 0.05}}
watch_every: {rounds}
deadline_s: 3600
"""


def generate(folder: Path, members: int, protection: str) -> Path:
    """Write a federation; return its config."""
    (folder / "plants").mkdir(parents=True)
    (folder / "contract.yaml").write_text(CONTRACT)
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(protection=protection, rounds=ROUNDS))
    draw = random.Random(1)  # noqa: S311 - rows to learn from, no secret
    for member in range(members):
        lines = ["machine,heat,load,wear,failure"]
        for machine in range(ROWS):
            heat, load, wear = draw.random(), draw.random(), draw.random()
            failed = int(heat + wear + draw.gauss(0, 0.3) > THRESHOLD)
            lines.append(f"{machine},{heat:.3f},{load:.3f},{wear:.3f},{failed}")
        (folder / "plants" / f"plant-{member:04d}.csv").write_text("\n".join(lines) + "\n")
    return config


# -- what processes take ------------------------------------------------------------------------


def descendants() -> list[int]:
    """Every process below this one, as it is now."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(after[1]), []).append(int(entry.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def pss_mib(pid: int | str) -> float:
    """Memory of a process, with its part of what is shared; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:") / 1024


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of processes, user and system."""
    ticks = 0
    for pid in pids:
        try:
            after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(after[11]) + int(after[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Sampler(threading.Thread):
    """Peak memory of this process and of all below it, and the CPU that those have taken."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.nodes = self.nodes_cpu_s = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(SAMPLE_S):
            self.sample()

    def sample(self) -> None:
        below = descendants()
        self.own = max(self.own, pss_mib("self"))
        self.nodes = max(self.nodes, sum(pss_mib(pid) for pid in below))
        self.nodes_cpu_s = max(self.nodes_cpu_s, cpu_s(below))


# -- one size -----------------------------------------------------------------------------------


def measure(members: int, protection: str, engine: str) -> dict:
    """Launch one federation here and verify what it leaves."""
    from federation.config import load_project
    from federation.engine import local_grid
    from federation.home import Home
    from federation.launch import LaunchOptions, launch_local
    from privacy.secure_sum.graph import degree

    sampler = Sampler()
    steps: dict[str, dict[str, float]] = {}
    seen: dict[str, float] = {}

    def counted(base: type) -> type:
        class Counted(base):
            """The engine's grid, which tells what each kind of request takes."""

            step = ""

            def ready(self) -> None:
                seen["coordinator_before_cpu_s"] = time.process_time()
                began = time.perf_counter()
                super().ready()
                seen["start_s"] = time.perf_counter() - began
                sampler.start()

            def push_messages(self, messages: Iterable) -> Iterable[str]:
                asked = list(messages)
                if not asked:  # nobody has masks to tell
                    return []
                body = asked[0].content.config_records["message"]["bytes"]
                self.step = body[7 : 7 + (body[6] & 31)].decode()
                before = getattr(self, "bytes_down", 0)
                pushed = super().push_messages(asked)
                one = steps.setdefault(
                    self.step, {"messages": 0, "bytes_down": 0, "bytes_up": 0, "seconds": 0.0}
                )
                one["messages"] += len(asked)
                one["bytes_down"] += getattr(self, "bytes_down", 0) - before
                seen["pushed"] = time.perf_counter()
                return pushed

            def pull_messages(self, message_ids: Iterable[str]) -> Iterable:
                before = getattr(self, "bytes_up", 0)
                replies = super().pull_messages(message_ids)
                steps[self.step]["bytes_up"] += getattr(self, "bytes_up", 0) - before
                now = time.perf_counter()
                steps[self.step]["seconds"] += now - seen["pushed"]
                seen["pushed"] = now
                return replies

            def close(self) -> None:
                if sampler.is_alive():
                    sampler.sample()
                sampler.over.set()
                seen["coordinator_cpu_s"] = time.process_time() - seen["coordinator_before_cpu_s"]
                super().close()

        return Counted

    if engine == "ray":
        from federation.engine.simulation import SimulationGrid as Grid
    else:
        Grid = local_grid.LocalGrid  # noqa: N806 - a class
    local_grid.LocalGrid = counted(Grid)  # where a launch takes it from
    with tempfile.TemporaryDirectory() as place:
        folder, home = Path(place) / "data", Path(place) / "home"
        project = load_project(generate(folder, members, protection))
        began, load = time.perf_counter(), os.getloadavg()
        outcome = launch_local(project, Home(home), LaunchOptions(data_root=folder))
        wall_s = time.perf_counter() - began
        rounds = [
            json.loads(line)
            for line in next((home / "runs").glob("*/rounds.jsonl")).read_text().splitlines()
        ]
        began = time.perf_counter()
        verified = subprocess.run(
            [sys.executable, "-m", "federation.cli.main", "audit", "verify", "--json"],
            cwd=ROOT,
            env={**os.environ, "TACIT_HOME": str(home), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        verify_s = time.perf_counter() - began
        ledger_bytes = sum(part.stat().st_size for part in home.glob("ledger.db*"))
    sums = steps["sum"]["messages"] / members
    return {
        "members": members,
        "protection": protection,
        "engine": engine,
        "neighbours": degree(members),
        "sums": sums,
        "load_before": round(load[0], 1),
        "wall_s": round(wall_s, 1),
        "start_s": round(seen["start_s"], 1),
        "round_s": round(rounds[0]["seconds"], 1),
        "nodes_cpu_s": round(sampler.nodes_cpu_s, 1),
        "coordinator_cpu_s": round(seen["coordinator_cpu_s"], 2),
        "memory_nodes_mib": round(sampler.nodes),
        "memory_coordinator_mib": round(sampler.own),
        "down_mib": round(sum(one["bytes_down"] for one in steps.values()) / MIB, 2),
        "up_mib": round(sum(one["bytes_up"] for one in steps.values()) / MIB, 2),
        "steps": {
            name: {key: round(value, 1) for key, value in one.items()}
            for name, one in steps.items()
        },
        "auc": round(outcome["metrics"]["auc"], 4),
        "verified": verified.returncode == 0,
        "verify_s": round(verify_s, 1),
        "coordinator_ledger_bytes": ledger_bytes,
    }


# -- arithmetic ---------------------------------------------------------------------------------

# What a member's part of each figure grows with. Shares and masks are for its neighbours; names,
# votes and acceptances are of all members.
FIGURES = {
    "nodes_cpu_s": "neighbours",
    "coordinator_cpu_s": "neighbours",
    "down_mib": "members",
    "up_mib": "neighbours",
    "memory_nodes_mib": "members",
    "memory_coordinator_mib": "neighbours",
}


def fitted(rows: list[dict]) -> dict:
    """Each figure of a run as fixed + members * (p + q * neighbours), or with members twice.

    What does not depend on the members (processes, imports) is the smallest size's own figure; p
    and q are from the next two sizes, and are checked at the others.
    """
    smallest, first, second, *others = rows
    laws = {}
    for name, by in FIGURES.items():

        def each(row: dict, name: str = name) -> float:
            return (row[name] - smallest[name]) / (row["members"] - smallest["members"])

        q = (each(second) - each(first)) / (second[by] - first[by])
        p = each(first) - q * first[by]
        checked = []
        for row in others:
            more = row["members"] - smallest["members"]
            said = smallest[name] + more * (p + q * row[by])
            checked.append({"members": row["members"], "said": round(said, 1), "found": row[name]})
        laws[name] = {"by": by, "fixed": smallest[name], "p": p, "q": q, "checked": checked}
    return laws


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="*", type=int, default=[12, 100, 300, 1000])
    parser.add_argument("--protection", default="masked", help="sealed sums hold 768 members")
    parser.add_argument("--engine", choices=("embedded", "ray"), default="embedded")
    parser.add_argument("--one", type=int, help="one size, in this process; prints JSON")
    parser.add_argument("--out", type=Path, help="also write result.json there")
    asked = parser.parse_args()
    if asked.one is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        print(json.dumps(measure(asked.one, asked.protection, asked.engine)))
        return
    rows = []
    for members in asked.sizes:
        # a process of its own: what an allocator kept of the one before would be counted again
        words = ["--one", str(members), "--protection", asked.protection, "--engine", asked.engine]
        done = subprocess.run(
            [sys.executable, str(HERE / "run.py"), *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout))
        print(json.dumps({k: v for k, v in rows[-1].items() if k != "steps"}), flush=True)
    kept = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "rounds": ROUNDS,
        "rows_a_member": ROWS,
        "sizes": rows,
        "laws": fitted(rows) if len(rows) >= FITTED else {},
    }
    print(json.dumps(kept["laws"], indent=1))
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "result.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
