"""How long does a verifier take? A bundle of many rounds, and a log of many leaves; on one core.

    python experiments/ledger/verify.py [--rounds 10000] [--leaves 1000000] [--out FOLDER]

The bundle is what `tacit audit export` would write after a run of three members with masked sums
and noise: the coordinator's ledger with every signature, each member's own ledger written by its
real budget under a cap with a period, and a last state that all three cosigned. The log of leaves
is a node's, of short entries. `--profile` prints where the time goes.
"""

import argparse
import cProfile
import json
import pstats
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.ledgers import (  # noqa: E402 - after the path is set
    NOISE,
    Line,
    Nodes,
    Script,
    bundle_of,
    chained,
    data_of,
    digest,
    key_of,
    ledger_of,
    node_log,
)

from privacy.ledger import in_order  # noqa: E402
from privacy.ledger.bundle import Bundle, read_bundle  # noqa: E402
from privacy.ledger.checkpoint import open_checkpoint  # noqa: E402
from privacy.ledger.entry import parse_leaf  # noqa: E402
from privacy.ledger.keys import log_key, log_origin  # noqa: E402
from privacy.ledger.merkle import leaf_hash, root_of  # noqa: E402
from privacy.verify import Verdict, verify_data  # noqa: E402

MEMBERS = ("amber", "birch", "cedar")
# So much noise that a cap holds for all rounds, and is checked at every reserve.
PLAN = replace(NOISE, update_share=4.0)
CAP = 8.0
Result = TypeVar("Result")


def timed(act: Callable[[], Result]) -> tuple[Result, float]:
    begun = time.perf_counter()
    result = act()
    return result, time.perf_counter() - begun


def rounds_bundle(rounds: int) -> Bundle:
    """A finished run of so many rounds, with all that belongs to it."""
    nodes = Nodes(MEMBERS, epsilon=CAP, period_days=365.0)
    script = Script("long", MEMBERS, privacy=PLAN, nodes=nodes)
    script.begin()
    for _ in range(rounds):
        script.train()
    return bundle_of(ledger_of(script.finish()), nodes)


def leaves_bundle(leaves: int) -> Bundle:
    """One node's ledger of so many short entries."""
    member = MEMBERS[0]
    public = key_of(member).public
    first: Line = (
        "ledger.begun",
        {
            "origin": log_origin(member, public),
            "key": public.hex(),
            "owner": member,
            "role": "node",
        },
    )
    lines = (
        first
        if place == 0
        else ("run.joined", {"run": "r", "manifest": digest(place), "origin": "x"})
        for place in range(leaves)
    )
    log = node_log(member, [entry.leaf() for entry in chained(lines)])
    return replace(bundle_of(chained([first])), logs=(log,))


def profiled(data: bytes) -> None:
    profile = cProfile.Profile()
    profile.runcall(verify_data, data)
    pstats.Stats(profile).sort_stats("tottime").print_stats(35)


def verified(data: bytes, repeats: int) -> tuple[Verdict, float]:
    """The verdict, and the fastest of some times: what else the machine does only adds."""
    found = [timed(lambda: verify_data(data)) for _ in range(repeats)]
    return found[0][0], min(seconds for _, seconds in found)


def of_leaves(data: bytes) -> dict[str, float]:
    """Seconds of each of the first five steps, by the functions that the verifier calls."""
    bundle, form_s = timed(lambda: read_bundle(data))
    log = bundle.logs[0]
    entries, entries_s = timed(lambda: [parse_leaf(leaf) for leaf in log.leaves])
    _, order_s = timed(lambda: sum(1 for _ in in_order(entries)))
    root, tree_s = timed(lambda: root_of(leaf_hash(leaf) for leaf in log.leaves))
    key = log_key(log.origin, bytes.fromhex(log.keys[0].public))
    state, states_s = timed(lambda: open_checkpoint(log.checkpoints[-1], key))
    if state.root != root:
        raise SystemExit("the signed state has another root")
    return {
        "1 form": round(form_s, 2),
        "2 entries": round(entries_s, 2),
        "3 order": round(order_s, 2),
        "4 tree": round(tree_s, 2),
        "5 signed states": round(states_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked = parser.parse_args()
    found: dict[str, object] = {"made": f"{datetime.now(tz=UTC):%Y-%m-%d}"}
    if asked.rounds:
        data, building_s = timed(lambda: data_of(rounds_bundle(asked.rounds)))
        print(f"{asked.rounds} rounds, {len(data) / 2**20:.0f} MiB, built in {building_s:.0f} s")
        verdict, seconds = verified(data, asked.repeats)
        found["rounds"] = {
            "rounds": verdict.rounds,
            "members": len(MEMBERS),
            "entries": verdict.leaves + sum(node.leaves for node in verdict.nodes),
            "signatures": verdict.signatures,
            "compared": sum(node.compared for node in verdict.nodes),
            "bytes": len(data),
            "verify_s": round(seconds, 2),
        }
        print(json.dumps(found["rounds"]))
        if asked.profile:
            profiled(data)
    if asked.leaves:
        data, building_s = timed(lambda: data_of(leaves_bundle(asked.leaves)))
        print(f"{asked.leaves} leaves, {len(data) / 2**20:.0f} MiB, built in {building_s:.0f} s")
        steps = of_leaves(data)
        _, seconds = verified(data, 1)
        found["leaves"] = {"leaves": asked.leaves, "steps_s": steps, "verify_s": round(seconds, 2)}
        print(json.dumps(found["leaves"]))
        if asked.profile:
            profiled(data)
    asked.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1) + "\n"
    (asked.out / "verify.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
