"""Settings of all tests."""

from hypothesis import settings
from support import warm

# A machine that does other work beside is slow, not wrong; speed is measured by `make bench`.
# The same examples each time: what a change broke shows at that change. `make soak` draws others.
settings.register_profile("tacit", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("tacit")


def pytest_sessionfinish() -> None:
    """What tests forked commands from ends with them."""
    warm.end()
