"""What do a thousand nodes cost that wait for messages, and how long does one more wait?

    python experiments/load/polling.py [--nodes 1000] [--seconds 50]

The fleet's port alone (the same `federation.engine.superlink`, without door and registry, where a
thousand members take half an hour to join), in a process of its own; nodes in threads of two more
processes that the system serves last (nice 10), each with its certificate and connection, calling
as nodes do; an honest one that begins eight times a second, before they come, while they wait, and
after they went. It prints one JSON object, with what the coordinator's process used of one core.
"""

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

import httpx  # noqa: E402 - after the path is set
from run import NODE_S, compared, timed  # noqa: E402
from support.certificates import Authority  # noqa: E402

from federation.engine.fleet_line import FleetLine  # noqa: E402
from federation.engine.superlink import serving  # noqa: E402
from federation.open_files import allow_files  # noqa: E402
from federation.registry.credentials import Credentials  # noqa: E402

PROCESSES = 2
TURN_S = 0.12
READY_S = 150.0


def coordinate(pipe: Connection, own: Credentials, members: dict[str, bytes]) -> None:
    """Answer the nodes until the pipe says something."""
    allow_files(8192)
    with serving(listen="127.0.0.1:0", credentials=own) as link:
        for name, certificate in members.items():
            link.admit(name, certificate)
        pipe.send(link.address)
        while not pipe.poll(0.5):
            pass
        pipe.send((len(link.online()), link.traffic().requests))


def wait_for_messages(pipe: Connection, fleet: str, nodes: list[Credentials]) -> None:
    """Each of the nodes begins, and waits, and waits again."""
    os.nice(10)
    allow_files(8192)
    begun = threading.Semaphore(0)

    def node(own: Credentials) -> None:
        line, told = FleetLine(fleet, own), False
        while True:
            with suppress(httpx.HTTPError, ValueError):
                number = line.activate()
                if not told:
                    begun.release()
                    told = True
                while True:
                    line.take(number, ())
            time.sleep(1)

    for own in nodes:
        threading.Thread(target=node, args=(own,), daemon=True).start()
        time.sleep(NODE_S)
    end = time.monotonic() + READY_S
    count = sum(begun.acquire(timeout=max(0.0, end - time.monotonic())) for _ in nodes)
    pipe.send(count)
    pipe.recv()
    os._exit(0)


def processor_s(process: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(line: FleetLine, seconds: float, process: int) -> tuple[list[float | None], float]:
    """Milliseconds of each call, and the share of one core that the coordinator used."""
    begun, used = time.monotonic(), processor_s(process)
    found: list[float | None] = []
    while time.monotonic() < begun + seconds:
        found.append(timed(line.activate))
        time.sleep(TURN_S)
    return found, (processor_s(process) - used) / (time.monotonic() - begun)


def main() -> None:
    """Measure, side by side in one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=50.0)
    given = parser.parse_args()
    authority = Authority.create()
    owns = [authority.client("bank", f"node-{place}") for place in range(given.nodes)]
    bank = authority.client("bank", "bank")
    members = {f"node-{place}": own.certificate for place, own in enumerate(owns)}
    spawn = multiprocessing.get_context("spawn")
    near, far = spawn.Pipe()
    server = spawn.Process(
        target=coordinate, args=(far, authority.server(), members | {"bank": bank.certificate})
    )
    server.start()
    fleet, process = near.recv(), server.pid or 0
    line = FleetLine(fleet, bank)
    measure(line, 1.0, process)
    quiet, alone = measure(line, given.seconds / 2, process)
    pollers: list[tuple[Connection, Any]] = []
    for place in range(PROCESSES):
        one, other = spawn.Pipe()
        poller = spawn.Process(
            target=wait_for_messages, args=(other, fleet, owns[place::PROCESSES]), daemon=True
        )
        poller.start()
        pollers.append((one, poller))
    begun = sum(pipe.recv() for pipe, _ in pollers)
    attacked, beside = measure(line, given.seconds, process)
    for pipe, poller in pollers:
        pipe.send("end")
        poller.join()
    time.sleep(1)
    quiet += measure(line, given.seconds / 2, process)[0]
    line.close()
    near.send("end")
    near.recv()
    server.join(20)
    facts: dict[str, Any] = {
        "nodes": begun,
        "seconds": given.seconds,
        "core_share": {"quiet": round(alone, 3), "attacked": round(beside, 3)},
        **compared({"fleet": quiet}, {"fleet": attacked}),
    }
    result = Path(__file__).with_name("polling.json")
    result.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
