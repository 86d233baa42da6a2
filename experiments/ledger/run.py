"""What does it cost to keep a ledger, and to show that nothing in it was changed?

    python experiments/ledger/run.py [--quick] [--json] [--folder FOLDER]

One process. What waits for the disk is in wall time, on the disk where FOLDER is (default: the
system's temporary one); what computes is in CPU time. Entries are those of runs of 12 members with
60 rounds each. Writes result.json beside this file, unless it is to be quick.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from federation.budget_history import budget_history  # noqa: E402
from privacy.budget import Budget, read_ledger  # noqa: E402
from privacy.budget_record import BudgetTerms  # noqa: E402
from privacy.identity import Identity  # noqa: E402
from privacy.ledger.entry import Body  # noqa: E402
from privacy.ledger.merkle import (  # noqa: E402
    Frontier,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from privacy.ledger.sqlite import SqliteLedger  # noqa: E402
from privacy.ledger.store import (  # noqa: E402
    append,
    checked_frontier,
    head_of,
    prove_consistency,
    prove_inclusion,
)
from privacy.randomness import system_bytes  # noqa: E402
from privacy.receipt import Receipt  # noqa: E402

Act = tuple[str, Body]
Figures = dict[str, float]

MEMBERS = tuple(f"manufacturer-{number:02d}" for number in range(12))
ROUNDS = 60
LEAVES = 1_000_000
RELEASES = 20_000
APPENDS = 2_000
RESERVES = 2_000
PROOFS = 2_000
BULK = 5_000
OLD_SHARE = 0.9
MIB = 1 << 20
RECEIPT = Receipt(
    kind="update",
    unit="borrower",
    cohort="training",
    mechanism="discrete_gaussian",
    share=1.0,
    clip=1.0,
    sampling="poisson",
    rate=0.02,
    steps=1,
    shares=9,
    values=2_305,
    grid=2.0**-12,
    purpose="run r, update of round 1",
)
TERMS = BudgetTerms(
    member=MEMBERS[0],
    dataset="credit_uci",
    unit="borrower",
    epsilon=400.0,
    delta=1e-5,
    order=8,
    colluders=2,
    period_days=365.0,
    solo_epsilon=4000.0,
)


def digest() -> str:
    return random.randbytes(32).hex()  # noqa: S311  # no secret, only of the right length


def signature() -> str:
    return random.randbytes(64).hex()  # noqa: S311


def receipt_of(run: int, round_number: int) -> Receipt:
    # each run has a noise of its own, as it was planned for an epsilon of its own
    return replace(
        RECEIPT,
        share=20.0 + 0.01 * run,
        purpose=f"run 20261101-{run:06d}-credit_uci, update of round {round_number}",
    )


def run_name(run: int) -> str:
    return f"20261101-{run:06d}-credit_uci"


def coordinator_acts() -> Iterator[Act]:
    """Round by round: a sum reserved, opened and accepted, and the round committed."""
    place = 0
    while True:
        run, round_number = divmod(place, ROUNDS)
        place += 1
        act = {"run": run_name(run), "step": "update", "round": round_number + 1}
        model, context = digest(), digest()
        yield (
            "sum.reserved",
            {
                **act,
                "asked": list(MEMBERS),
                "schema": digest(),
                "model": model,
                "context": context,
                "protection": "masked",
                "receipt": receipt_of(run, round_number).to_json(),
                "nodes": {name: {"leaves": 2 * place, "root": digest()} for name in MEMBERS},
            },
        )
        yield (
            "sum.opened",
            {
                **act,
                "context": context,
                "members": list(MEMBERS),
                "aggregate": digest(),
                "payload_bytes": 6_160,
                "signatures": {name: signature() for name in MEMBERS},
            },
        )
        yield (
            "sum.accepted",
            {
                **act,
                "model": model,
                "kept": True,
                "signatures": {name: signature() for name in MEMBERS},
            },
        )
        yield (
            "round.committed",
            {
                "run": act["run"],
                "round": act["round"],
                "model_before": digest(),
                "model_after": model,
            },
        )


def node_acts() -> Iterator[Act]:
    """A node's own ledger: its terms, and releases that are reserved and committed."""
    values = {name: getattr(TERMS, name) for name in TERMS.__dataclass_fields__}
    yield "budget.terms", {**values, "solo_order": TERMS.order}
    place = 0
    while True:
        run, round_number = divmod(place, ROUNDS)
        place += 1
        act = {
            "run": run_name(run),
            "step": "update",
            "round": round_number + 1,
            "dataset": TERMS.dataset,
        }
        receipt = receipt_of(run, round_number)
        yield "budget.reserved", {**act, "receipt": receipt.to_json()}
        yield "budget.committed", act


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def fill(store: SqliteLedger, acts: Iterator[Act], leaves: int) -> float:
    """Append many in few turns; return the CPU seconds."""
    start_s = time.process_time()
    for first in range(0, leaves, BULK):
        with store.turn() as turn:
            for _ in range(min(BULK, leaves - first)):
                kind, body = next(acts)
                turn.append(kind, body, time_ms=now_ms())
    return time.process_time() - start_s


def synced_per_s(folder: Path) -> float:
    """How often a second this disk makes 4 KiB durable at the end of a file."""
    times = 500
    with (folder / "probe").open("wb") as file:
        start_s = time.perf_counter()
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
        return times / (time.perf_counter() - start_s)


def appends(folder: Path, count: int) -> Figures:
    found: Figures = {}
    for name, acts in (("coordinator", coordinator_acts()), ("node", node_acts())):
        with closing(SqliteLedger(folder / f"{name}.db")) as store:
            size = 0
            start_s = time.perf_counter()
            for _ in range(count):
                kind, body = next(acts)
                size += len(append(store, kind, body, time_ms=now_ms()).leaf())
            found[f"{name}_appends_per_s"] = count / (time.perf_counter() - start_s)
            found[f"{name}_entry_bytes"] = size / count
    return found


def reserves(folder: Path, *, releases: int, count: int) -> Figures:
    found: Figures = {}
    with closing(SqliteLedger(folder / "empty.db")) as store:
        found |= _reserves(store, count, "empty")
    path = folder / "budget.db"
    identity = Identity.create(system_bytes)
    with closing(SqliteLedger(path)) as store:
        begun = {
            "origin": "tacit/bench",
            "key": identity.public.hex(),
            "owner": TERMS.member,
            "role": "node",
        }
        append(store, "ledger.begun", begun, time_ms=now_ms())
        fill(store, node_acts(), 1 + 2 * releases)
    with closing(SqliteLedger(path)) as store:
        start_s = time.process_time()
        Budget(store, TERMS, now_ms=now_ms)
        found["open_s"] = time.process_time() - start_s
        found |= _reserves(store, count, "full")
        _, entries = read_ledger(store)
        start_s = time.process_time()
        budget_history(entries, now_ms=now_ms())
        found["history_s"] = time.process_time() - start_s
    found["releases"] = releases
    found["distinct_noises"] = -(-releases // ROUNDS)
    return found


def _reserves(store: SqliteLedger, count: int, name: str) -> Figures:
    budget = Budget(store, TERMS, now_ms=now_ms)
    # the first one adds up what was before
    budget.reserve("warm", "update", 0, receipt_of(0, 0))
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    for number in range(count):
        run, round_number = divmod(number, ROUNDS)
        budget.reserve(f"bench-{run}", "update", round_number, receipt_of(run, round_number))
    return {
        f"{name}_reserves_per_s": count / (time.perf_counter() - start_s),
        f"{name}_reserve_cpu_us": 1e6 * (time.process_time() - start_cpu_s) / count,
    }


def large(folder: Path, *, leaves: int, proofs: int) -> Figures:
    """A log so large that nobody will have a larger one: build, hash again, prove."""
    path = folder / "large.db"
    found: Figures = {"leaves": leaves}
    with closing(SqliteLedger(path)) as store:
        build_s = fill(store, node_acts(), leaves)
        found["build_s"] = build_s
        found["bulk_appends_per_s"] = leaves / build_s
    found["file_mib"] = path.stat().st_size / MIB
    with closing(SqliteLedger(path)) as store:
        start_s = time.process_time()
        checked_frontier(store, since=Frontier(), size=leaves)
        found["rehash_s"] = time.process_time() - start_s
        start_s = time.process_time()
        hashes = [leaf_hash(leaf) for leaf in store.leaves()]
        found["leaf_hashes_s"] = time.process_time() - start_s
        start_s = time.process_time()
        root = root_of(hashes)
        found["root_s"] = time.process_time() - start_s
        head = head_of(store)
        if head.root != root.hex():
            raise SystemExit("the store's root is not the one over its leaves")
        proving: list[float] = []
        verifying: list[float] = []
        for _ in range(proofs):
            index = random.randrange(leaves)  # noqa: S311
            start_s = time.perf_counter()
            proof = prove_inclusion(store, index, leaves)
            middle_s = time.perf_counter()
            verify_inclusion(hashes[index], index, leaves, proof, root)
            proving.append(middle_s - start_s)
            verifying.append(time.perf_counter() - middle_s)
        found["prove_inclusion_us"] = 1e6 * statistics.median(proving)
        found["verify_inclusion_us"] = 1e6 * statistics.median(verifying)
        old = round(OLD_SHARE * leaves)
        start_s = time.perf_counter()
        growth = prove_consistency(store, old, leaves)
        found["prove_consistency_us"] = 1e6 * (time.perf_counter() - start_s)
        old_root = bytes.fromhex(head_of(store, old).root)
        start_s = time.perf_counter()
        verify_consistency(old, old_root, leaves, root, growth)
        found["verify_consistency_us"] = 1e6 * (time.perf_counter() - start_s)
    return found


def rows(result: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    disk, one, budget, log = (result[name] for name in ("disk", "appends", "budget", "log"))
    releases, leaves = f"{budget['releases']:,.0f}", f"{log['leaves']:,.0f}"
    noises, cpu_us = f"{budget['distinct_noises']:,.0f}", budget["full_reserve_cpu_us"]
    return [
        ("4 KiB made durable, by this disk", f"{disk['synced_per_s']:,.0f} /s"),
        (
            f"append, durable, a coordinator's entry of {one['coordinator_entry_bytes']:,.0f} B",
            f"{one['coordinator_appends_per_s']:,.0f} /s",
        ),
        (
            f"append, durable, a node's entry of {one['node_entry_bytes']:,.0f} B",
            f"{one['node_appends_per_s']:,.0f} /s",
        ),
        (
            f"reserve a release, first of a budget ({budget['empty_reserve_cpu_us']:,.0f} us CPU)",
            f"{budget['empty_reserves_per_s']:,.0f} /s",
        ),
        (
            f"the same after {releases} of {noises} noises ({cpu_us:,.0f} us CPU)",
            f"{budget['full_reserves_per_s']:,.0f} /s",
        ),
        (f"open a budget of {releases} releases", f"{budget['open_s']:.1f} s"),
        ("its history, release by release", f"{budget['history_s']:.1f} s"),
        (
            f"append {leaves} entries, {BULK:,} a turn, by CPU ({log['file_mib']:,.0f} MiB)",
            f"{log['bulk_appends_per_s']:,.0f} /s",
        ),
        (f"read, parse and hash {leaves} entries", f"{log['rehash_s']:,.0f} s"),
        ("read and hash them, without parsing", f"{log['leaf_hashes_s']:.1f} s"),
        ("root over their hashes", f"{log['root_s']:.1f} s"),
        ("prove that one entry is in it", f"{log['prove_inclusion_us']:,.0f} us"),
        ("verify that", f"{log['verify_inclusion_us']:,.0f} us"),
        ("prove that it only grew by its last tenth", f"{log['prove_consistency_us']:,.0f} us"),
        ("verify that", f"{log['verify_consistency_us']:,.0f} us"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of all; writes nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    asked = parser.parse_args()
    part = 100 if asked.quick else 1
    random.seed(1)
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch)
        result = {
            "disk": {"synced_per_s": synced_per_s(folder)},
            "appends": appends(folder, APPENDS // part),
            "budget": reserves(folder, releases=RELEASES // part, count=RESERVES // part),
            "log": large(folder, leaves=LEAVES // part, proofs=PROOFS // part),
        }
    kept = {
        "when": datetime.now(tz=UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        **result,
    }
    if asked.json:
        print(json.dumps(kept, indent=1))
    else:
        print("| what | |\n|---|---|")
        for name, figure in rows(result):
            print(f"| {name} | {figure} |")
    if not asked.quick:
        (HERE / "result.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
