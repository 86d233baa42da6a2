"""What a result of `run.py` must say; else something is broken: the product, or an attack."""

from collections.abc import Mapping
from typing import Any

WORSE_MOST = {"rmse_cap": 1.5, "auc": 0.01}
"""Most by which one hostile member of 12 may make a run in groups worse, on the same rows."""
LOST_LEAST = {"rmse_cap": 20.0, "auc": 0.1}
"""Least by which one that scales must make a plain run worse, or it is no attack."""
QUIET_MOST = {"rmse_cap": 0.5, "auc": 0.005}
"""Most that groups and rollback may cost where nobody is hostile."""
ALONE = ("sign flip", "scaling", "label flip", "scaling from half-way", "negative weight")
LATE = "scaling from half-way"


def faults(result: Mapping[str, Any]) -> list[str]:
    """One sentence for each threshold that does not hold; empty where all do."""
    found = []
    by = {(s["data"], s["mode"], s["attack"], s["hostile"]): s for s in result["summary"]}
    for data, about in result["sets"].items():
        headline = about["headline"]
        sign = -1.0 if about["higher_is_better"] else 1.0
        quiet = by[data, "plain", "none", 0]["without_the_first"]
        same = {f: [rows[f] for rows in quiet] for f in (0, 1)}

        def worse(mode: str, attack: str, hostile: int) -> list[float]:
            got = by.get((data, mode, attack, hostile))  # noqa: B023 - called within the loop
            if got is None:
                return []
            return [
                float("inf") if value is None else sign * (value - before)  # noqa: B023
                for value, before in zip(got["honest"], same[hostile], strict=True)  # noqa: B023
            ]

        for mode in ("groups", "rollback"):
            cost = max(worse(mode, "none", 0), default=0.0)
            if cost > QUIET_MOST[headline]:
                found.append(f"{data}: {mode} cost {cost:.3g} of {headline} where nobody attacks")
        for attack in ALONE:
            cost = max(worse("groups", attack, 1), default=0.0)
            if cost > WORSE_MOST[headline]:
                found.append(f"{data}: {attack} by one costs a run in groups {cost:.3g}")
        lost = min(worse("plain", "scaling", 1), default=0.0)
        if lost < LOST_LEAST[headline]:
            found.append(
                f"{data}: scaling by one costs a plain run {lost:.3g}, so it shows nothing"
            )
        late = list(zip(worse("rollback", LATE, 1), worse("plain", LATE, 1), strict=True))
        if not all(after < before for after, before in late):
            found.append(f"{data}: undone rounds do not help against {LATE}")
    return found or ([] if result["sets"] else ["nothing was run"])
