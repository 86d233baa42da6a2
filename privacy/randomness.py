"""Where randomness comes from: the operating system, through this file alone.

Whoever needs randomness takes an `Entropy` as an argument. In production it is `system_bytes`;
there is no seed and no fallback, so a machine without entropy stops instead of guessing.
"""

import os
from collections.abc import Callable
from typing import TypeAlias

Entropy: TypeAlias = Callable[[int], bytes]
"""`entropy(count)` returns `count` fresh bytes that nobody else can predict."""


def system_bytes(count: int) -> bytes:
    """Return `count` unpredictable bytes from the operating system's generator.

    Raises:
        ValueError: `count` is negative.
        NotImplementedError: the system has no such generator; nothing stands in for it.
    """
    if count < 0:
        raise ValueError(f"need {count=} >= 0")
    return os.urandom(count)
