"""Rounds without end and faults at random, over real processes: does anything grow, or break?

    PYTHONPATH=.:tests python tests/faults/long_run.py FOLDER --minutes 60 --seed 1

A coordinator and five nodes. Runs are launched one after the other; meanwhile nodes are killed and
started again, hang and go on, and launchers go away. The coordinator and the node `steady` are
never touched, so that what they hold can be measured over the whole time: memory, threads and open
files, looked at between runs. At the end all ledgers are exported, merged and verified.

Prints one JSON object. Fails where a run ended in any way but a model or a sentence, where a ledger
does not hold, or where what a steady process holds grows (`grown`).
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from scipy.stats import theilslopes
from support.deployed import Deployed, Process, deployed, give_rows, sessions, wait_for

ROLES: Final = dict.fromkeys(("steady", "cedar", "elm", "fir"), "manufacturer") | {"bank": "bank"}
LAUNCHER: Final = "bank"
SHAKEN: Final = ("cedar", "elm", "fir")
FAULTS: Final = ("killed", "hung", "restarted", "launcher gone", "none")
RUN_S: Final = 300.0
GROWTH: Final = 0.15
MORE: Final = 6
"""So many more files or threads may be there by chance, as a look falls into a call."""
MOST: Final = 40
ENOUGH: Final = 6
"""Looks, before a slope says something."""
CHANGES: Final[dict[str, Any]] = {
    "min_members": 3,
    "deadline_s": 20,
    "training": {"rounds": 4, "local_epochs": 1, "batch_rows": 32, "learning_rate": 0.02},
}


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds at one look; of files, what they are and how many of each."""

    memory_kib: int
    threads: int
    files: int
    kinds: tuple[tuple[str, int], ...] = ()


@dataclass
class Story:
    """What happened.

    Attributes:
        ended: How launches ended, and how often a run went on that was cut off -> how many.
        faults: Which faults -> how many.
        looks: Process -> what it held, in order.
        wrong: Sentences about what should not be.
    """

    ended: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    looks: dict[str, list[Held]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, what: dict[str, int], name: str) -> None:
        what[name] = what.get(name, 0) + 1


def held(process: Process) -> Held:
    """What it holds now, as Linux counts."""
    folder = Path("/proc") / str(process.popen.pid)
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    sockets = _sockets(folder)
    files = [kind for one in (folder / "fd").iterdir() if (kind := _kind(one, sockets))]
    return Held(
        memory_kib=int(status["VmRSS"].split()[0]),
        threads=int(status["Threads"]),
        files=len(files),
        kinds=tuple(Counter(files).most_common()),
    )


def _sockets(folder: Path) -> dict[str, str]:
    """Inode -> the ports and the state of a connection, as Linux numbers states (01: it stands)."""
    found: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (folder / "net" / table).read_text().splitlines()[1:]:
                _, own, other, state, *rest = line.split()
                ports = [int(end.rpartition(":")[2], 16) for end in (own, other)]
                here = ports[0] if ports[0] < ports[1] or not ports[1] else "to " + str(ports[1])
                found[rest[5]] = f"tcp {here} {state}"
    return found


def _kind(file: Path, sockets: dict[str, str]) -> str:
    """What it is, without what differs between two of a kind; empty: it is closed again."""
    try:
        name = str(file.readlink())
    except OSError:
        return ""
    inode = name.removeprefix("socket:[").rstrip("]")
    if name.startswith("socket:"):
        return sockets.get(inode, "socket")
    return name if name.startswith("/") else name.partition(":[")[0]


def shake(federation: Deployed, story: Story, chance: random.Random, launch: Process) -> None:
    """One fault; all nodes are at work again on return, if slowly."""
    name = chance.choice(SHAKEN)
    fault = chance.choices(FAULTS, (4, 4, 2, 1, 4))[0]
    story.count(story.faults, fault)
    node = federation[name].running["node"]
    if fault == "killed":
        node.kill()
        time.sleep(chance.uniform(0, 2))
        federation.start_node(name)
    elif fault == "hung":
        node.pause()
        time.sleep(chance.uniform(0.2, 5))
        node.go_on()
    elif fault == "restarted":
        node.stop()
        federation.start_node(name)
    elif fault == "launcher gone" and launch.alive:
        launch.kill()


def one_run(
    federation: Deployed, config: Path, story: Story, chance: random.Random, number: int
) -> None:
    """Launch a run, shake it, and wait for its end."""
    launch = federation.launch(LAUNCHER, config)
    until_s = time.monotonic() + RUN_S
    while launch.alive and time.monotonic() < until_s:
        time.sleep(chance.uniform(0.2, 3.0))
        if launch.alive:
            shake(federation, story, chance, launch)
    if launch.alive:
        story.wrong.append(f"run {number} did not end in {RUN_S:g} s")
        launch.kill()
        return
    code = launch.popen.returncode
    said = [line for line in launch.said().splitlines() if line.startswith("tacit: ")]
    if code == 0:
        story.count(story.ended, "model")
    elif code < 0:
        story.count(story.ended, "launcher killed")
    elif len(said) == 1 and "Traceback" not in launch.said():
        story.count(story.ended, "sentence")
    else:
        story.wrong.append(f"run {number} ended with {code}: {launch.said()[-500:]}")


def quiet(federation: Deployed, story: Story) -> None:
    """Wait until all nodes are there again and no run goes on; what was cut off goes on first."""
    for name in ROLES:
        node = federation[name].running["node"]
        if not node.alive:
            federation.start_node(name)

    def is_quiet() -> bool:
        told = federation.coordinator.call_operations("/metrics", federation.ports[3])
        return f"tacit_members_online {len(ROLES)}" in told and not runs_going_on(told)

    def is_over() -> bool:
        if is_quiet():
            return True
        runs = federation.coordinator.json("run", "list")["federation"]
        for run in [one["run"] for one in runs if one["state"] == "interrupted"]:
            story.count(story.ended, "gone on with")
            federation[LAUNCHER].tacit("run", "resume", run)
        return False

    wait_for(is_over, "runs do not end, or nodes do not come back", timeout_s=RUN_S, every_s=2.0)


def runs_going_on(metrics: str) -> int:
    """From the operations port's figures."""
    lines = [one for one in metrics.splitlines() if one.startswith("tacit_runs_under_way ")]
    return int(float(lines[0].split()[1])) if lines else 0


def grown(story: Story) -> list[str]:
    """What grows after the first third, by the median slope (Theil 1950, Sen 1968) of all looks.

    A few looks that fell into a call, and a fall at the end, do not hide it. And what no look
    should ever find: more than `MOST` over the middle of the first third.
    """
    found = []
    for name, looks in story.looks.items():
        third = max(len(looks) // 3, 1)
        late = looks[third:]
        for what, allowed in (("memory_kib", GROWTH), ("threads", MORE), ("files", MORE)):
            first = median(getattr(one, what) for one in looks[:third])
            values = [getattr(one, what) for one in late]
            if len(values) >= ENOUGH:
                more = float(theilslopes(values)[0]) * len(values)
                if more > (allowed if what != "memory_kib" else first * GROWTH):
                    found.append(f"{name} gains {more:.0f} {what} over {len(values)} runs")
            if what != "memory_kib" and max(values, default=0) > first + MOST:
                found.append(f"{name} had {max(values)} {what} after {first:.0f}")
    return found


def live(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """The whole of it; see the module."""
    chance = random.Random(seed)
    story = Story()
    with deployed(folder, ROLES) as federation:
        configs = give_rows(federation, config_changes=CHANGES)
        federation.found("long")
        coordinator = federation.start_coordinator()
        federation.join_all(federation.start_node)
        federation.connected()
        steady = federation["steady"].running["node"]
        until_s = time.monotonic() + 60 * minutes
        number = 0
        while time.monotonic() < until_s:
            number += 1
            one_run(federation, configs[LAUNCHER], story, chance, number)
            quiet(federation, story)
            for name, process in (("coordinator", coordinator), ("steady", steady)):
                story.looks.setdefault(name, []).append(held(process))
            if not (coordinator.alive and steady.alive):
                story.wrong.append("a process that nobody touched is gone")
                break
            sys.stderr.write(f"{story.looks['coordinator'][-1]}\n")
            sys.stderr.write(f"runs {number}, {story.ended}, faults {story.faults}\n")
        left = {name: len(sessions(federation[name])) for name in ROLES}
        story.wrong += [f"{name} keeps {count} sessions" for name, count in left.items() if count]
        verdict = federation.audited()
    story.wrong += grown(story)
    return {
        "minutes": minutes,
        "seed": seed,
        "runs": number,
        "ended": story.ended,
        "faults": story.faults,
        "entries": verdict.get("entries", verdict.get("leaves")),
        "looks": {
            name: [[one.memory_kib, one.threads, one.files] for one in looks]
            for name, looks in story.looks.items()
        },
        "kinds": {
            name: dict(max(looks, key=lambda one: one.files).kinds)
            for name, looks in story.looks.items()
        },
        "wrong": story.wrong,
    }


def main() -> int:
    """Read the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = live(given.folder, given.minutes, given.seed)
    sys.stdout.write(json.dumps(found) + "\n")
    return bool(found["wrong"])


if __name__ == "__main__":
    sys.exit(main())
