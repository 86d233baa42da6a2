"""What a result of `run.py` must say; else something is broken: the product, or the attack."""

from collections.abc import Mapping
from typing import Any

CLEAR_LEAST = 0.9
"""Share that an attack must get of one member's one row in the clear, or it is no attack."""
SUM_MOST = 0.02
"""Most that may be got of a sum over 12 members with 16 rows each, and no noise."""
NOISE_MOST = 0.0
"""Most that may be got where there is noise."""


def faults(result: Mapping[str, Any]) -> list[str]:
    """One sentence for each threshold that does not hold; empty where all do."""
    found = []
    for one in result["cases"]:
        got = {way: max(shares) for way, shares in one["recovered"].items()}
        best = max(share for way, share in got.items() if way != "by guessing")
        least = min(one["recovered"]["by ratio"])
        about = f"{one['members']} members with {one['rows_each']} rows each"
        if one["noise"] and best > NOISE_MOST:
            found.append(f"{about}, with noise: {best:.0%} of the rows were found")
        if (one["members"], one["rows_each"], one["noise"]) == (
            1,
            1,
            False,
        ) and least < CLEAR_LEAST:
            found.append(f"{about}: the attack found only {least:.0%}, so it shows nothing")
        if (one["members"], one["rows_each"], one["noise"]) == (12, 16, False) and best > SUM_MOST:
            found.append(f"{about}: {best:.0%} of the rows were found in the sum")
        if got["by guessing"] > 0:
            found.append(f"{about}: a guess without any gradient is near to a row")
    kinds = {(one["members"] == 1, one["noise"]) for one in result["cases"]}
    if len(kinds) < len((False, True)) ** 2:
        found.append("not every kind of view was tried")
    return found
