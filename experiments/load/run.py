"""How long does an honest member wait for its coordinator while others do their worst?

    python experiments/load/run.py [--seconds 60] [--nodes 1000] [--only NAME ...]

A whole coordinator in a process of its own, and an honest bank that calls its three ports in turn:
the registry (who am I), the door (a stranger is turned away), both again over new connections, and
the fleet (a node activates). Beside it, in processes of their own that the system serves last
(nice 10): connections that say nothing, on 256 files; connections that say a byte a second;
connections that begin a handshake and do not end it; a member that calls without end from eight
threads; nodes that wait for messages. The attackers come and go in slices of a few seconds, and
quiet and attacked calls of one row are of one coordinator in one run; nodes wait in one stretch,
and the quiet calls are from before and after. Milliseconds, and what was not answered: result.json.
"""

import argparse
import json
import math
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
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
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
NODES_A_PROCESS = 500
TURN_S = 0.06
DOOR_EVERY = 6
"""Turns: one address may knock five times a second, one node begin ten times."""
SLICE_S = 2.0
SETTLE_S = 0.3
STARVED = "starved, a turn"
SLOW_MS = 300.0
AGAIN_S = 1.0
WARM_S = 25.0
NODE_S = 0.04
HELLO = bytes.fromhex("1603010200010001fc0303")
"""A handshake's first bytes."""
ELSEWHERE = "127.0.0.9"
"""Attackers who are no members come from another address than the honest bank."""


Found = dict[str, list[float | None]]


@dataclass(frozen=True)
class Ports:
    """Of one coordinator."""

    door: str
    registry: str
    fleet: str
    pid: int = 0


def starved_ms(*processes: int) -> float:
    """How long the threads of processes were ready, and had no processor, so far."""
    found = 0
    for process in processes:
        for one in Path(f"/proc/{process}/task").glob("*/schedstat"):
            with suppress(OSError):
                found += int(one.read_text().split()[1])
    return found / 1e6


@contextmanager
def coordinator(federated: Federated, files: int) -> Iterator[Ports]:
    """A process that may open so many files."""
    started = [sys.executable, few_files.__file__, str(federated.home.root), str(files)]
    with subprocess.Popen(
        started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise SystemExit("the coordinator has no pipes")
        yield Ports(*process.stdout.readline().split(), process.pid)
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


class Bank:
    """An honest member's calls, and how long each took."""

    def __init__(self, ports: Ports, own: Credentials) -> None:
        self._ports, self._own = ports, own
        self._stranger = Identity.create(system_bytes)
        self._line = FleetLine(ports.fleet, own)
        self._members = MembersClient(ports.registry, own, deadline_s=CALL_S)
        self._door = DoorClient(ports.door, own.authority, deadline_s=CALL_S)
        self._turn = 0

    def _knock(self, door: DoorClient) -> object:
        now_ms = int(time.time() * 1000)
        return door.fetch(self._stranger, federation=NAME, name="x", time_ms=now_ms)

    def _knock_anew(self) -> object:
        with DoorClient(self._ports.door, self._own.authority, deadline_s=CALL_S) as door:
            return self._knock(door)

    def _me_anew(self) -> object:
        with MembersClient(self._ports.registry, self._own, deadline_s=CALL_S) as members:
            return members.me()

    def calls(self) -> dict[str, Callable[[], object]]:
        """Of this turn; fewer where one address or member may make no more."""
        self._turn += 1
        found: dict[str, Callable[[], object]] = {"registry": self._members.me}
        if self._turn % 2:
            found["fleet"] = self._line.activate
        if self._turn % DOOR_EVERY == 0:
            found["door"] = lambda: self._knock(self._door)
        if self._turn % DOOR_EVERY == 1:
            found["door anew"] = self._knock_anew
        if self._turn % DOOR_EVERY == 2:  # noqa: PLR2004 - a turn of its own
            found["registry anew"] = self._me_anew
        return found

    def measure(self, seconds: float, into: Found) -> None:
        """Call for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begun = time.monotonic()
            before = starved_ms(os.getpid(), self._ports.pid)
            took = {name: timed(call) for name, call in self.calls().items()}
            starved = starved_ms(os.getpid(), self._ports.pid) - before
            for name, each in took.items():
                into.setdefault(name, []).append(each)
            into.setdefault(STARVED, []).append(starved)
            slow = {
                name: round(each or 0.0) for name, each in took.items() if (each or 0) > SLOW_MS
            }
            if slow:
                print("slow", slow, "starved", round(starved), file=sys.stderr, flush=True)
            time.sleep(max(0.0, begun + TURN_S - time.monotonic()))

    def close(self) -> None:
        """End the fleet's connections."""
        with suppress(Exception):
            self._line.close()


Come = Callable[[], AbstractContextManager[list[Any]]]


def side_by_side(bank: Bank, come: Come, seconds: float) -> tuple[Found, Found]:
    """Slices without attackers and with them, in turn; so many seconds of each."""
    quiet: Found = {}
    attacked: Found = {}
    bank.measure(1.0, {})
    with come() as attacking:
        for _ in range(max(1, round(seconds / SLICE_S))):
            bank.measure(SLICE_S, quiet)
            tell(attacking, "on")
            time.sleep(SETTLE_S)
            bank.measure(SLICE_S, attacked)
            tell(attacking, "off")
            time.sleep(SETTLE_S)
    return quiet, attacked


def before_and_after(bank: Bank, come: Come, seconds: float) -> tuple[Found, Found]:
    """Half of the quiet seconds before all have come, half after they went."""
    quiet: Found = {}
    attacked: Found = {}
    bank.measure(1.0, {})
    bank.measure(seconds / 2, quiet)
    with come():
        time.sleep(WARM_S)
        bank.measure(seconds, attacked)
    time.sleep(SETTLE_S)
    bank.measure(seconds / 2, quiet)
    return quiet, attacked


def tell(attacking: list[Any], word: str) -> None:
    """Let attackers begin or end."""
    for process in attacking:
        process.stdin.write(word + "\n")
        process.stdin.flush()


def compared(quiet: Found, attacked: Found) -> dict[str, Any]:
    """Both, and the second over the first."""
    found: dict[str, Any] = {}
    for name, times in quiet.items():
        one, other = summary(times), summary(attacked.get(name, []))
        ratios = {
            f"{what}_ratio": round(other[f"{what}_ms"] / one[f"{what}_ms"], 2)
            for what in ("median", "p90", "p99")
            if one[f"{what}_ms"]
        }
        found[name] = {"quiet": one, "attacked": other, **ratios}
    return found


def summary(times: list[float | None]) -> dict[str, float]:
    """Median, 90th and 99th percentile, the longest, and how many were not answered."""
    answered = sorted(one for one in times if one is not None)

    def at(part: float) -> float:
        return round(answered[max(0, math.ceil(part * len(answered)) - 1)], 2) if answered else 0.0

    return {
        "calls": len(times),
        "unanswered": len(times) - len(answered),
        "median_ms": round(median(answered), 2) if answered else 0.0,
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "longest_ms": round(answered[-1], 2) if answered else 0.0,
    }


@contextmanager
def attackers(kind: str, count: int, arguments: list[str]) -> Iterator[list[Any]]:
    """Processes of this same file that do their worst while they are told to."""
    with ExitStack() as stack:
        processes = []
        for place in range(count):
            words = [sys.executable, __file__, "--attack", kind, str(place), *arguments]
            process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.send_signal, signal.SIGKILL)
            processes.append(process)
        for process in processes:
            if process.stdout is None or process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{kind}: an attacker did not come so far")
        yield processes


# -- the attackers --


def switched() -> threading.Event:
    """Set while this attacker is told to do its worst."""
    on = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            (on.set if line.strip() == "on" else on.clear)()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return on


def is_over(each: socket.socket, says: bytes) -> bool:
    """Say something, and hear whether the other end has ended."""
    try:
        each.send(says)
        return each.recv(4096) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def connections(
    at: list[str], *, secured: ssl.SSLContext | None, says: bytes, first: bytes
) -> None:
    """Hold connections open, say something every second, and open new ones as they are ended."""
    on, held = switched(), dict[int, socket.socket]()

    def one(where: str) -> socket.socket | None:
        host, port = where.split(":")
        with suppress(OSError):
            plain = socket.create_connection(
                (host, int(port)), timeout=2, source_address=(ELSEWHERE, 0)
            )
            with suppress(OSError):
                made = secured.wrap_socket(plain, server_hostname="localhost") if secured else plain
                made.sendall(first)
                made.settimeout(0)
                return made
            plain.close()
        return None

    print("ready", flush=True)
    while True:
        on.wait()
        for place in range(CONNECTIONS):
            if place in held and is_over(held[place], says):
                held.pop(place).close()
            if place not in held and (made := one(at[place % len(at)])) is not None:
                held[place] = made
        end = time.monotonic() + AGAIN_S
        while on.is_set() and time.monotonic() < end:
            time.sleep(0.05)
        while not on.is_set() and held:
            held.popitem()[1].close()


def flood(ports: Ports, own: Credentials) -> None:
    """A member that calls the registry and the fleet from many threads, without end."""
    on = switched()

    def call() -> None:
        line = FleetLine(ports.fleet, own)
        with MembersClient(ports.registry, own, deadline_s=CALL_S) as client:
            while on.wait():
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
        time.sleep(NODE_S)
    for _ in places:
        begun.acquire()
    print("ready", flush=True)
    signal.pause()


def attack(kind: str, place: int, rest: list[str]) -> None:
    """One attacker's process."""
    os.nice(10)
    ports = Ports(*rest[:3])
    homes = [Home(Path(one)) for one in rest[3:]]
    owns = [load_participant(home).credentials(datetime.now(UTC)) for home in homes]
    at = [ports.door, ports.registry, ports.fleet]
    if kind == "silent":
        connections(at, secured=None, says=b"", first=b"")
    elif kind == "begun":
        connections(at, secured=None, says=b"", first=HELLO)
    elif kind == "slow":
        context = ssl.create_default_context(cadata=owns[0].authority.decode())
        context.set_alpn_protocols(["h2"])
        connections(at, secured=context, says=b"P", first=b"P")
    elif kind == "flood":
        flood(ports, owns[0])
    else:
        poll(ports, owns[place * NODES_A_PROCESS : (place + 1) * NODES_A_PROCESS])


def main() -> None:
    """Measure all, side by side in one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
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
        "silent": (FEW, 1, []),
        "begun": (FEW, 1, []),
        "slow": (FEW, 1, ["bank"]),
        "flood": (MANY, 1, ["flood"]),
        "nodes": (MANY, -(-given.nodes // NODES_A_PROCESS), names),
    }
    result = Path(__file__).with_name("result.json")
    found: dict[str, Any] = {}
    if given.only and result.exists():
        found = json.loads(result.read_text("utf-8"))
    try:
        for kind, (files, count, who) in kinds.items():
            if given.only and kind not in given.only:
                continue
            if kind == "nodes":
                for name in names:
                    federated.add(name)
                print("nodes are members", flush=True)
            with coordinator(federated, files) as ports, closing(Bank(ports, own)) as bank:
                homes = [str(federated.homes[name].root) for name in who]
                words = [ports.door, ports.registry, ports.fleet, *homes]
                come = partial(attackers, kind, count, words)
                way = before_and_after if kind == "nodes" else side_by_side
                pair = way(bank, come, given.seconds)
                found[kind] = {"seconds": given.seconds, **compared(*pair)}
            print(kind, json.dumps(found[kind]), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    facts = {**found, "cores": os.cpu_count()}
    if "nodes" in facts:
        facts["nodes"].setdefault("count", given.nodes)
    result.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attack"]:
        attack(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        main()
