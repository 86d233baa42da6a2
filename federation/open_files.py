"""How many files and connections this process may have open."""

import resource
from contextlib import suppress
from typing import Final

UNLIMITED: Final = 1 << 20
"""What is told where the system sets no limit."""


def allow_files(needed: int | None = None) -> int:
    """Let this process open so many files, as far as it may raise its own limit.

    Args:
        needed: How many; without it as many as it may.

    Returns:
        How many it can open from here on.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    most = UNLIMITED if hard == resource.RLIM_INFINITY else hard
    wanted = most if needed is None else min(needed, most)
    if wanted > soft:
        # there are systems that allow less than they say
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return files_allowed()


def files_allowed() -> int:
    """How many files this process can open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft
