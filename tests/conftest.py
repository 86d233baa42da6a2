"""Settings of all tests."""

from hypothesis import settings

# A machine that does other work beside is slow, not wrong; speed is measured by `make bench`.
settings.register_profile("tacit", deadline=None)
settings.load_profile("tacit")
