"""Where a home keeps the bundles that it made, so that a log can be held against them."""

from pathlib import Path
from typing import Final

from federation.home import Home

SUFFIX: Final = ".tacit"


def kept_bundle(home: Home, digest: str) -> Path:
    """The home's own copy of the bundle of this digest."""
    return home.edge / "bundles" / f"{digest}{SUFFIX}"
