"""Kills writers of a ledger: `python killing.py TARGET WORKER KILLS FAILURES LIFE_MS SEED`.

Two workers write at a time, each until it is killed (SIGKILL) at a random moment of its first
LIFE_MS milliseconds; then another takes its place. That goes on until there were so many kills, and
so many workers that ended by themselves as the ledger could not be used. A worker releases ids over
a pipe to this process, as a coordinator releases sums over a wire: what is in the pipe has left and
survives the kill.

The modules are loaded once, and each worker is a fork that opens the ledger for itself.

Prints one JSON object: `wire`, all ids that were released; `kills` and `failures`.
"""

import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

from federation.ledger_place import open_store
from privacy.errors import TacitError
from privacy.ledger.store import LedgerStore, append, append_once
from privacy.receipt import Receipt

WORKERS = 2
PAUSE_S = 0.05
LONGEST_MS = 20_000.0
RESERVED, COMMITTED = "budget.reserved", "budget.committed"
_RECEIPT = Receipt(
    kind="update",
    unit="device",
    cohort="training",
    mechanism="none",
    share=0.0,
    clip=0.0,
    sampling="none",
    rate=1.0,
    steps=1,
    shares=1,
    values=1,
    grid=0.0,
    purpose="killed",
).to_json()
Release = Callable[[str], None]


def reserve(store: LedgerStore, run: str) -> None:
    """On disk when it returns."""
    what = {"run": run, "step": "update", "round": 1, "dataset": "d", "receipt": _RECEIPT}
    append(store, RESERVED, what, time_ms=time.time_ns() // 1_000_000)


def commit(store: LedgerStore, run: str) -> None:
    """On disk with the next reserve."""
    what = {"run": run, "step": "update", "round": 1, "dataset": "d"}
    with store.turn(durable=False) as turn:
        append_once(turn, COMMITTED, what, time_ms=time.time_ns() // 1_000_000)


def record_then_release(store: LedgerStore, run: str, release: Release) -> None:
    """As it must be."""
    reserve(store, run)
    release(run)
    commit(store, run)


def release_then_record(store: LedgerStore, run: str, release: Release) -> None:
    """As it must not be."""
    release(run)
    reserve(store, run)
    commit(store, run)


@dataclass
class _Running:
    process: int
    pipe: int
    ends_at_s: float
    heard: bytes = b""


def main(target: str, worker: str, *numbers: str) -> None:
    """See the module."""
    kills, failures, most_ms, seed = map(int, numbers)
    life_ms = float(most_ms)
    step = {one.__name__: one for one in (record_then_release, release_then_record)}[worker]
    rng = random.Random(seed)
    open_store(target)  # loads what the workers need
    running: list[_Running] = []
    wire: list[str] = []
    killed = failed = begun = 0
    while True:
        # on a machine that is slow they live longer: who is killed before it began shows nothing
        idle = len(wire) <= 2 * killed
        enough = killed >= kills and failed >= failures and not idle
        if enough and not running:
            break
        while not enough and len(running) < WORKERS:
            life_ms = min(1.05 * life_ms, LONGEST_MS) if idle else life_ms
            life_s = rng.uniform(0.0, life_ms / 1000)
            running.append(_start(target, step, f"{seed}-{begun}", life_s))
            begun += 1
        wait_s = max(0.0, min(one.ends_at_s for one in running) - time.monotonic())
        ready, _, _ = select.select([one.pipe for one in running], [], [], wait_s)
        for one in list(running):
            ended = one.pipe in ready and not _hear(one)
            due = one.ends_at_s <= time.monotonic()
            if not ended and not due:
                continue
            if not ended:
                os.kill(one.process, signal.SIGKILL)
                while _hear(one):
                    pass
            os.close(one.pipe)
            _, status = os.waitpid(one.process, 0)
            if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
                killed += 1
            else:
                failed += 1
                time.sleep(PAUSE_S)
            # an id that was cut was not released
            wire += one.heard.decode().split("\n")[:-1]
            running.remove(one)
    json.dump({"wire": wire, "kills": killed, "failures": failed}, sys.stdout)


def _hear(one: _Running) -> bytes:
    data = os.read(one.pipe, 65536)
    one.heard += data
    return data


def _start(
    target: str,
    step: Callable[[LedgerStore, str, Release], None],
    name: str,
    life_s: float,
) -> _Running:
    pipe, wire = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(pipe)
        _work(target, step, name, wire)
    os.close(wire)
    return _Running(process, pipe, time.monotonic() + life_s)


def _work(
    target: str, step: Callable[[LedgerStore, str, Release], None], name: str, wire: int
) -> Never:
    def release(run: str) -> None:
        os.write(wire, f"{run}\n".encode())

    try:
        store = open_store(target)
        number = 0
        while True:
            step(store, f"{name}-{number}", release)
            number += 1
    except TacitError:
        os._exit(3)
    finally:
        os._exit(4)


if __name__ == "__main__":
    main(*sys.argv[1:])
