"""What a result of `run.py` must say; else something is broken: the product, or an attack."""

from collections.abc import Iterator, Mapping
from typing import Any

BOUNDS = ("lower", "lower_gaussian")
LIRA_AUC_MOST = 0.55
"""Most that LiRA may tell members apart where there is noise; guessing is 0.5."""
LIRA_AUC_LEAST = 0.6
"""Least that it must where there is none and training is long, or it is no attack."""
IMPRINT_LEAST = 0.9
"""Share of rows that the imprint must read off the smallest step without noise."""
UNNOISED_LEAST = 2.0
"""Least epsilon that canaries must show where there is no noise."""


def faults(result: Mapping[str, Any], *, full: bool = True) -> list[str]:
    """One sentence for each threshold that does not hold; empty where all do.

    Args:
        result: As `run.py` made it.
        full: Whether it is of the full size: in a quick one too little is trained for LiRA to find
            anything where there is no noise.
    """
    return [
        *_canaries(result),
        *_membership(result, full=full),
        *_imprint(result),
    ]


def _canaries(result: Mapping[str, Any]) -> Iterator[str]:
    for part in ("dummy", "one_run"):
        for one in result[part]:
            highest = max(max(one[bound]) for bound in BOUNDS)
            proven = one["proven"]
            if one["noise"] == 1.0 and highest > proven:
                yield f"{part}: canaries show epsilon {highest:.2f} where {proven:.2f} is proven"
            if proven is None and highest < UNNOISED_LEAST:
                yield f"{part}: without noise canaries show {highest:.2f}: they show nothing"
    halved = [one for one in result["dummy"] if 0 < one["noise"] < 1]
    if not any(max(one["lower_gaussian"]) > one["proven"] for one in halved):
        yield "dummy: half of the claimed noise is not found"


def _membership(result: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    for one in result["lira"]:
        if one["epsilon"] is None:
            if full and one["auc"] < LIRA_AUC_LEAST:
                yield f"lira: without noise its AUC is {one['auc']:.3f} only, so it shows nothing"
            continue
        if one["rate"] - 3 * one["rate_error"] > one["rate_proven"]:
            yield f"lira: {one['rate']:.3f} are found, and {one['rate_proven']:.3f} is proven"
        if one["auc"] > LIRA_AUC_MOST:
            yield f"lira: AUC {one['auc']:.3f} at epsilon {one['epsilon']:g}"


def _imprint(result: Mapping[str, Any]) -> Iterator[str]:
    first = result["imprint"][0]
    if first["plain"] < IMPRINT_LEAST * first["rows"]:
        yield f"imprint: {first['plain']} of {first['rows']} rows without noise: it shows nothing"
    for one in result["imprint"]:
        for name, rows in one.items():
            if name.startswith("epsilon") and rows:
                yield f"imprint: {rows} rows are read off a sum with the noise of {name}"
