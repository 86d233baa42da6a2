"""What the gate left out of a table of indicators or scores, for programs and for people."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from clients.judgement import Why
from clients.left_out import LeftOutFacts

WORDS: Final[Mapping[Why, str]] = {
    "waiting": "waiting for a review",
    "rejected": "rejected",
    "distrusted": "of too little trust",
}


def left_out_facts(found: Mapping[str, LeftOutFacts] | None) -> dict[str, Any] | None:
    """For programs: counts by reason; None where the contract has no gate."""
    if found is None:
        return None
    whys = Counter(one.why for one in found.values())
    return {
        "devices": len(found),
        "rows": sum(one.rows for one in found.values()),
        **{why: whys[why] for why in WORDS},
    }


def left_out_line(found: Mapping[str, LeftOutFacts] | None) -> str:
    """For people, one sentence that says where to go on; empty where nothing is left out."""
    return f"{left_out_sentence(found)}; see tacit data review list." if found else ""


def left_out_sentence(found: Mapping[str, LeftOutFacts]) -> str:
    """What was left out and why, of one device at least."""
    whys = Counter(one.why for one in found.values())
    words = ", ".join(f"{whys[why]} {said}" for why, said in WORDS.items() if whys[why])
    rows = sum(one.rows for one in found.values())
    devices = f"{len(found):,} device{'s' * (len(found) > 1)}"
    return f"Left out by the quality gate: {rows:,} rows of {devices} ({words})"
