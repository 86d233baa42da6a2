"""What makes the tests quick for one mutant: the quickest test first, few examples, no shrinking.

A pytest plugin, loaded with `-p mutants_quick` by run.py.
"""

import gc
import json
import resource
import signal
import sys
from collections.abc import Iterator
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
LEAST_S = 0.5
MOST_BYTES = 6 << 30
TAKEN = pytest.StashKey[dict[str, float]]()


def pytest_configure() -> None:
    """Let no mutant take the machine's memory, nor search its parent's for garbage."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    gc.freeze()


def forget() -> None:
    """Empty the code's caches.

    No mutant finds there what the code gave before it was changed, and no test was quick because
    another one before it, which now comes after it, had paid for what both need.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(("privacy.", "clients.")):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def durations_s() -> dict[str, float]:
    """What mutmut measured for each test before the first mutant."""
    measured = Path("mutmut-stats.json")
    if not measured.exists():
        return {}
    return dict(json.loads(measured.read_text(encoding="utf-8"))["duration_by_test"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process (SIGVTALRM) where a test uses far more processor time than it used to take.

    Processor time, for a machine that does other work beside is no mutant's doing.
    """
    forget()
    taken_s = item.config.stash.get(TAKEN, {}).get(item.nodeid)
    if taken_s is not None:
        signal.setitimer(signal.ITIMER_VIRTUAL, LEAST_S + 5 * taken_s)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order by the durations that mutmut measured, and leave out what takes too long."""
    taken = config.stash[TAKEN] = durations_s()
    items.sort(key=lambda one: taken.get(one.nodeid, 0.0))
    slow = [one for one in items if taken.get(one.nodeid, 0.0) > TOO_SLOW_S]
    if slow and len(slow) < len(items):
        config.hook.pytest_deselected(items=slow)
        items[:] = [one for one in items if one not in slow]
