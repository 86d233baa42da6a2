"""How long does an honest member wait for its coordinator while others do their worst?

    python experiments/load/run.py [--seconds 20] [--nodes 1000] [--only NAME ...]

A whole coordinator in a process of its own, and an honest bank that calls its three ports in turn:
the registry (who am I), the door (a stranger is turned away) and the fleet (a node activates).
Beside it, in processes of their own: nothing; 300 connections that say nothing, on 256 files;
300 that say a byte a second; a member that calls without end from eight threads; 1,000 nodes that
wait for messages. Milliseconds, and how many calls were not answered. Results: result.json.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import httpx  # noqa: E402 - after the path is set
from support import few_files  # noqa: E402
from support.federations import NAME, Federated  # noqa: E402

from federation.channel import UnreachedError  # noqa: E402
from federation.door.client import DoorClient  # noqa: E402
from federation.engine.fleet_line import FleetLine  # noqa: E402
from federation.home import Home  # noqa: E402
from federation.members.client import MembersClient  # noqa: E402
from federation.participant import load_participant  # noqa: E402
from federation.registry.credentials import Credentials  # noqa: E402
from privacy.errors import RefusedError, TacitError  # noqa: E402
from privacy.identity import Identity  # noqa: E402
from privacy.randomness import system_bytes  # noqa: E402

CALL_S = 5.0
FEW, MANY = 256, 8192
CONNECTIONS = 300
FLOOD_THREADS = 8
NODES_A_PROCESS = 125
READY_S = 240.0
PAUSE_S = 0.02
ELSEWHERE = "127.0.0.9"
"""Attackers who are no members come from another address than the honest bank."""


@dataclass(frozen=True)
class Ports:
    """Of one coordinator."""

    door: str
    registry: str
    fleet: str


@contextmanager
def coordinator(federated: Federated, files: int) -> Iterator[Ports]:
    """A process that may open so many files."""
    started = [sys.executable, few_files.__file__, str(federated.home.root), str(files)]
    with subprocess.Popen(
        started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise SystemExit("the coordinator has no pipes")
        yield Ports(*process.stdout.readline().split())
        process.stdin.close()
        process.wait(30)


def timed(call: Callable[[], object]) -> float | None:
    """Milliseconds; None: it was not answered."""
    begun = time.perf_counter()
    try:
        call()
    except RefusedError as error:  # the door turns a stranger away: an answer
        if isinstance(error, UnreachedError):
            return None
    except (TacitError, httpx.HTTPError, OSError):
        return None
    return (time.perf_counter() - begun) * 1e3


def measured(ports: Ports, own: Credentials, seconds: float) -> dict[str, dict[str, float]]:
    """What the honest bank sees for a while."""
    stranger = Identity.create(system_bytes)
    line = FleetLine(ports.fleet, own)
    members = MembersClient(ports.registry, own, deadline_s=CALL_S)
    door = DoorClient(ports.door, own.authority, deadline_s=CALL_S)

    def knock() -> object:
        return door.fetch(stranger, federation=NAME, name="x", time_ms=int(time.time() * 1000))

    calls: dict[str, Callable[[], object]] = {
        "registry": members.me, "door": knock, "fleet": line.activate,
    }  # fmt: skip
    found: dict[str, list[float | None]] = {name: [] for name in calls}
    for call in calls.values():
        timed(call)  # the connection's own handshake is not what is asked
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, call in calls.items():
            found[name].append(timed(call))
            time.sleep(PAUSE_S)
    with suppress(Exception):
        line.close()
    return {name: summary(times) for name, times in found.items()}


def summary(times: list[float | None]) -> dict[str, float]:
    """Median, 99th percentile, and how many were not answered."""
    answered = sorted(one for one in times if one is not None)
    late = answered[min(len(answered) - 1, int(0.99 * len(answered)))] if answered else 0.0
    return {
        "calls": len(times),
        "unanswered": len(times) - len(answered),
        "median_ms": round(median(answered), 2) if answered else 0.0,
        "p99_ms": round(late, 2),
    }


@contextmanager
def attackers(kind: str, count: int, arguments: list[str]) -> Iterator[None]:
    """Processes of this same file that do their worst until they are told to end."""
    with ExitStack() as stack:
        processes = []
        for place in range(count):
            words = [sys.executable, __file__, "--attack", kind, str(place), *arguments]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.send_signal, signal.SIGKILL)
            processes.append(process)
        for process in processes:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{kind}: an attacker did not come so far")
        yield


# -- the attackers --


def connections(at: list[str], *, secured: ssl.SSLContext | None, every_s: float | None) -> None:
    """Hold connections open, and open new ones as they are ended."""
    held: list[socket.socket] = []

    def one(where: str) -> socket.socket | None:
        host, port = where.split(":")
        with suppress(OSError):
            plain = socket.create_connection(
                (host, int(port)), timeout=2, source_address=(ELSEWHERE, 0)
            )
            if secured is None:
                return plain
            with suppress(OSError):
                return secured.wrap_socket(plain, server_hostname="localhost")
            plain.close()
        return None

    for _ in range(CONNECTIONS // len(at)):
        held += [made for where in at if (made := one(where)) is not None]
    print("ready", flush=True)
    while True:
        time.sleep(every_s or 1.0)
        for place, each in enumerate(held):
            try:
                each.sendall(b"P" if every_s else b"")
            except OSError:
                fresh = one(at[place % len(at)])
                if fresh is not None:
                    held[place] = fresh


def flood(ports: Ports, own: Credentials) -> None:
    """A member that calls the registry and the fleet from many threads, without end."""

    def call() -> None:
        line = FleetLine(ports.fleet, own)
        with MembersClient(ports.registry, own, deadline_s=CALL_S) as client:
            while True:
                with suppress(TacitError):
                    client.me()
                with suppress(httpx.HTTPError):
                    line.activate()

    for _ in range(FLOOD_THREADS):
        threading.Thread(target=call, daemon=True).start()
    print("ready", flush=True)
    signal.pause()


def poll(ports: Ports, places: list[Credentials]) -> None:
    """Nodes that activate, and wait for messages as nodes do."""
    begun = threading.Semaphore(0)

    def node(own: Credentials) -> None:
        line = FleetLine(ports.fleet, own)
        told = False
        while True:
            try:
                number = line.activate()
                if not told:
                    begun.release()
                    told = True
                while True:
                    line.take(number, ())
            except (httpx.HTTPError, ValueError):
                time.sleep(1)

    for own in places:
        threading.Thread(target=node, args=(own,), daemon=True).start()
    for _ in places:
        begun.acquire()
    print("ready", flush=True)
    signal.pause()


def attack(kind: str, place: int, rest: list[str]) -> None:
    """One attacker's process."""
    ports = Ports(*rest[:3])
    homes = [Home(Path(one)) for one in rest[3:]]
    owns = [load_participant(home).credentials(datetime.now(UTC)) for home in homes]
    if kind == "silent":
        connections([ports.door, ports.registry, ports.fleet], secured=None, every_s=None)
    elif kind == "slow":
        context = ssl.create_default_context(cadata=owns[0].authority.decode())
        context.set_alpn_protocols(["h2"])
        connections([ports.door, ports.registry, ports.fleet], secured=context, every_s=1.0)
    elif kind == "flood":
        flood(ports, owns[0])
    else:
        poll(ports, owns[place * NODES_A_PROCESS : (place + 1) * NODES_A_PROCESS])


def main() -> None:
    """Measure all, side by side in one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    federated = Federated(root)
    for name in ("bank", "flood"):
        federated.add(name)
    names = [f"node-{place}" for place in range(given.nodes)]
    own = federated.credentials("bank")
    kinds: dict[str, tuple[int, int, list[str]]] = {
        "quiet": (FEW, 0, []),
        "silent": (FEW, 1, []),
        "slow": (FEW, 1, ["bank"]),
        "flood": (MANY, 1, ["flood"]),
        "nodes": (MANY, -(-given.nodes // NODES_A_PROCESS), names),
    }
    found: dict[str, Any] = {}
    try:
        for kind, (files, count, who) in kinds.items():
            if given.only and kind not in {*given.only, "quiet"}:
                continue
            if kind == "nodes":
                for name in names:
                    federated.add(name)
            with coordinator(federated, files) as ports:
                homes = [str(federated.homes[name].root) for name in who]
                arguments = [ports.door, ports.registry, ports.fleet, *homes]
                with attackers(kind, count, arguments):
                    found[kind] = measured(ports, own, given.seconds)
            print(kind, json.dumps(found[kind]), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    result = Path(__file__).with_name("result.json")
    facts = {"cores": os.cpu_count(), "nodes": given.nodes, "seconds": given.seconds, **found}
    result.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attack"]:
        attack(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        main()
