"""Settings of all tests."""

import random
import signal
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from support import warm

# A machine that does other work beside is slow, not wrong; speed is measured by `make bench`.
# The same examples each time: what a change broke shows at that change. `make soak` draws others.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("tacit", deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("search", deadline=None, suppress_health_check=_SLOW)
settings.load_profile("tacit")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # begun in the background by a script: the commands that tests begin would have Ctrl-C ignored,
    # too, where it is not this process itself that ignores it
    signal.signal(signal.SIGINT, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test draws without a seed of its own does not depend on which tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that all share
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_sessionfinish() -> None:
    """What tests forked commands from ends with them."""
    warm.end()
