"""What does an exchange over the deployed engine cost, without any training?

    python experiments/deployment/engine.py [--nodes 3,12] [--exchanges 40] [--mib 1,10,100]

Nodes are processes of their own that answer with what they were asked with, over TLS 1.3 with
client certificates, on this machine's loopback. A round of a run is four exchanges.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support import echo_node  # noqa: E402 - after the path is set
from support.certificates import Authority, save  # noqa: E402

from federation.engine.fleet_transport import FleetTransport  # noqa: E402
from federation.engine.superlink import SuperLink, serving  # noqa: E402
from privacy.messages import RosterNotice  # noqa: E402

MIB = 1 << 20
START_S = 120.0
ROUND = 4
TOGETHER_MIB = 400
SMALL = 10_000  # bytes: a model of 1,250 parameters, masked


@contextmanager
def nodes(link: SuperLink, authority: Authority, count: int, folder: Path) -> Iterator[list[int]]:
    names = [f"member {index}" for index in range(count)]
    with ExitStack() as stack:
        pids = []
        for name in names:
            credentials = authority.client("bank", name)
            save(credentials, folder / name)
            link.admit(name, credentials.certificate)
            process = subprocess.Popen(
                [sys.executable, echo_node.__file__, str(folder / name), link.address],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            pids.append(process.pid)
        end = time.monotonic() + START_S
        while len(link.online()) < count:
            if time.monotonic() > end:
                raise SystemExit("not all nodes connected")
            time.sleep(0.05)
        yield pids


def exchanged(transport: FleetTransport, kind: str, payload: bytes) -> float:
    asked = {
        node: (RosterNotice(run=bytes(32), offers=(bytes(200),)), payload)
        for node in transport.names
    }
    started = time.perf_counter()
    found = transport.exchange(asked, kind=kind, deadline_s=600, needed=list(asked), grace_s=0)
    took = time.perf_counter() - started
    if [len(data) for _, data in found.values()] != [len(payload)] * len(asked):
        raise SystemExit("an exchange did not come back whole")
    return took


def measured(count: int, exchanges: int, payloads: list[int]) -> dict:
    authority = Authority.create()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        link = stack.enter_context(serving(listen="127.0.0.1:0", credentials=authority.server()))
        started = time.perf_counter()
        pids = stack.enter_context(nodes(link, authority, count, Path(folder)))
        found: dict = {"nodes": count, "online_s": time.perf_counter() - started}
        names = [f"member {index}" for index in range(count)]
        transport = stack.enter_context(link.transport("measured", names, stop=threading.Event()))
        exchanged(transport, "query", b"")
        before, cpu = link.traffic(), cpu_s([os.getpid(), *pids])
        took = [exchanged(transport, "train", os.urandom(SMALL)) for _ in range(exchanges)]
        after = link.traffic()
        each = exchanges * count
        found["small"] = {
            "payload_bytes": SMALL,
            "exchange_s": median(took),
            "slowest_s": max(took),
            "round_s": ROUND * median(took),
            "requests_per_exchange_and_node": (after.requests - before.requests) / each,
            "bytes_out_per_exchange_and_node": (after.bytes_out - before.bytes_out) / each,
            "bytes_in_per_exchange_and_node": (after.bytes_in - before.bytes_in) / each,
            "cpu_s_per_exchange": (cpu_s([os.getpid(), *pids]) - cpu) / exchanges,
        }
        found["memory_mib"] = {
            "coordinator": memory_mib(os.getpid()),
            "node": max(map(memory_mib, pids)),
        }
        for size in payloads:
            data = os.urandom(size * MIB)
            for pid in (os.getpid(), *pids):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
            found[f"{size} MiB"] = {
                "exchange_s": median(exchanged(transport, "train", data) for _ in range(2)),
                "coordinator_peak_mib": memory_mib(os.getpid(), "VmHWM"),
                "node_peak_mib": max(memory_mib(pid, "VmHWM") for pid in pids),
            }
        idle, before = cpu_s([os.getpid()]), link.traffic()
        time.sleep(5)
        found["idle"] = {
            "coordinator_cpu_s_per_s": (cpu_s([os.getpid()]) - idle) / 5,
            "requests_per_s": (link.traffic().requests - before.requests) / 5,
        }
        return found


def memory_mib(pid: int, line: str = "VmRSS") -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) / 1024 for row in status.splitlines() if row.startswith(line))


def cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",") if word]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=numbers, default=[3, 12])
    parser.add_argument("--exchanges", type=int, default=40)
    parser.add_argument("--mib", type=numbers, default=[1, 10, 100])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = []
    for count in asked.nodes:
        # a payload to every node at once: what they hold together stays below a GiB
        payloads = [size for size in asked.mib if size * count <= TOGETHER_MIB]
        found.append(measured(count, asked.exchanges, payloads))
        print(json.dumps(found[-1], indent=1), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
