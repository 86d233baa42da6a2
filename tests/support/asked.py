"""Runs that a node is asked for. For tests only."""

from dataclasses import replace
from typing import Any

from privacy.manifest import Manifest
from privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(
    noise="distributed",
    mechanism="gaussian",
    unit="borrower",
    parts="apart",
    rate=0.05,
    rows_per_unit=4,
    clip=1.0,
    steps=1,
    watches=0,
    update_share=2.0,
    statistics_share=2.0,
    statistics_clip=3.0,
    watch_share=1.0,
    test_share=1.0,
    evaluation_clip=1.5,
    colluders=1,
    delta=1e-5,
    grid=2.0**-13,
)
SPEC: dict[str, Any] = {
    "task": "credit",
    "seed": 1,
    "model": {"hidden": [4]},
    "training": {"rounds": 7},
}
MANIFEST = Manifest(
    run="20260102-demo-1a2b",
    name="demo",
    task="credit",
    unit="borrower",
    contract="c" * 64,
    directory={f"member {n}": f"{n:064x}" for n in range(5)},
    minimum_cohort=3,
    protection="masked",
    privacy=None,
    group_size=0,
    ledger={"origin": "tacit/coordinator/0f0f", "key": "0f" * 32},
    node_settings=SPEC,
    coordinator_settings={},
)


def asked(**other: object) -> Manifest:
    """The manifest, otherwise in some parts."""
    return replace(MANIFEST, **other)  # type: ignore[arg-type] # a test may ask for anything
