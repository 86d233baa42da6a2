"""What makes the tests quick for one mutant: the quickest test first, few examples, no shrinking.

A pytest plugin, loaded with `-p mutants_quick` by run.py.
"""

import gc
import json
from pathlib import Path

import pytest
from hypothesis import Phase, settings

settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
)
TOO_SLOW_S = 4.0


def pytest_configure() -> None:
    """Spare a mutant's process the search for garbage in what its parent made."""
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order by the durations that mutmut measured, and leave out what takes too long."""
    measured = Path("mutmut-stats.json")
    if not measured.exists():
        return
    taken = json.loads(measured.read_text(encoding="utf-8"))["duration_by_test"]
    items.sort(key=lambda one: taken.get(one.nodeid, 0.0))
    slow = [one for one in items if taken.get(one.nodeid, 0.0) > TOO_SLOW_S]
    if slow and len(slow) < len(items):
        config.hook.pytest_deselected(items=slow)
        items[:] = [one for one in items if one not in slow]
