"""How long the regulator's page takes over a long ledger: to read it once, and for each view.

A run of 10,000 rounds by four members, in SQLite files; the page is asked in this process, without
a network. Writes result.json beside this file.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from fastapi import FastAPI  # noqa: E402
from support.evidence import COORDINATOR, MEMBERS, Story  # noqa: E402

from federation.audit_page.access import Access  # noqa: E402
from federation.audit_page.page import make_app  # noqa: E402
from federation.audit_page.verification import Verification  # noqa: E402
from federation.evidence import Evidence, LedgerView  # noqa: E402
from privacy.ledger.sqlite import SqliteLedger  # noqa: E402

RUN = "20260901-080000-leases-0001"
MS = 1000
PAGES = (
    "/",
    "/runs",
    f"/runs/{RUN}",
    f"/runs/{RUN}?page=57",
    "/members",
    f"/members/{MEMBERS[0]}",
    "/budgets",
    "/budgets/1",
    "/budgets/1?page=57",
    "/refusals",
    "/alerts",
    "/entries?ledger=coordinator&page=200",
    "/entries?ledger=node-2&kind=budget.committed&page=50",
    f"/entries?ledger=coordinator&run={RUN}&kind=sum.opened&page=70",
    "/entries/coordinator/30000",
    "/entries/node-3/12345",
    "/entries/coordinator/30000/proof",
    "/verify",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--views", type=int, default=20, help="of each page")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measured(Path(folder), rounds=asked.rounds, views=asked.views)
    print(json.dumps(result, indent=1))
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n")


def written(folder: Path, rounds: int) -> tuple[int, dict[str, str]]:
    """Write the ledgers; return the time of the last entry, and the ledgers' origins."""
    story = Story(store=lambda name: SqliteLedger(folder / f"{name}.db"), cap=8.0)
    with story.in_bulk():
        story.whole_run(RUN, rounds)
    story.checkpoint()
    return story.now_ms, {name: story.origin(name) for name in story.stores}


def measured(folder: Path, *, rounds: int, views: int) -> dict[str, object]:
    begun = time.perf_counter()
    # in a process of its own, whose memory is not the page's
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        now_ms, origins = pool.submit(written, folder, rounds).result()
    written_s = time.perf_counter() - begun
    evidence = evidence_of(folder, origins)
    sizes = {view.owner: view.store.size() for view in evidence.views}
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    app = make_app(
        evidence,
        verify=lambda: Verification(holds=True, steps=(), failure=None, at_ms=now_ms, seconds=0.0),
        export=lambda: iter(()),
        now_ms=lambda: now_ms,
        access=Access(),
    )
    index_s = time.perf_counter() - begun
    after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, later = asyncio.run(asked_for(app, views))
    everything = sorted(one for times in later.values() for one in times)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rounds": rounds,
        "entries": {
            "coordinator": sizes[COORDINATOR],
            "each node": sizes[MEMBERS[0]],
            "all": sum(sizes.values()),
        },
        "written_s": round(written_s, 1),
        "index_s": round(index_s, 2),
        "index_mib": round((after_kib - before_kib) / 1024, 1),
        "first_view_ms": round(first["/"], 1),
        "slowest_first_view_ms": round(max(first.values()), 1),
        "p95_ms": round(everything[int(0.95 * len(everything))], 1),
        "slowest_ms": round(everything[-1], 1),
        "median_ms_by_page": {
            path: round(statistics.median(times), 1) for path, times in later.items()
        },
    }


def evidence_of(folder: Path, origins: dict[str, str]) -> Evidence:
    found = [
        LedgerView(
            origin=origin,
            owner=name,
            role="coordinator" if name == COORDINATOR else "node",
            dataset="",
            store=SqliteLedger(folder / f"{name}.db"),
        )
        for name, origin in origins.items()
    ]
    return Evidence(federation="measured", coordinator=found[0], nodes=tuple(found[1:]))


async def asked_for(app: FastAPI, views: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:

        async def timed(path: str) -> float:
            begun = time.perf_counter()
            answer = await client.get(path)
            answer.raise_for_status()
            return MS * (time.perf_counter() - begun)

        first = {path: await timed(path) for path in PAGES}
        later: dict[str, list[float]] = {path: [] for path in PAGES}
        order = [path for path in PAGES for _ in range(views)]
        random.Random(0).shuffle(order)  # noqa: S311 - an order, not a secret
        for path in order:
            later[path].append(await timed(path))
        return first, later


if __name__ == "__main__":
    main()
