"""Whether a signature holds: Ed25519 (RFC 8032), or what else a suite verifies.

A process that stands for many nodes (the embedded engine) is shown the same signatures once for
each of them, and may remember which hold: that depends on nothing but key, message and signature.
A node that has its process to itself remembers none.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privacy.canonical import framed


@dataclass(slots=True)
class _Memory:
    limit: int = 0
    held: dict[bytes, None] = field(default_factory=dict)


_MEMORY = _Memory()


def holds(
    public: bytes,
    message: bytes,
    signature: bytes,
    verifies: Callable[[bytes, bytes, bytes], bool] | None = None,
) -> bool:
    """Whether `signature` over exactly `message` is by the holder of `public`.

    Args:
        public: A key; keys of different algorithms have different lengths.
        message: As it is verified.
        signature: Of it.
        verifies: Says so, of the three above; None: Ed25519.
    """
    verifies = _verifies if verifies is None else verifies
    if not _MEMORY.limit:
        return verifies(public, message, signature)
    key = hashlib.sha256(framed(public, signature, message)).digest()
    if key in _MEMORY.held:
        return True
    if not verifies(public, message, signature):
        return False
    if len(_MEMORY.held) >= _MEMORY.limit:
        for oldest in list(islice(_MEMORY.held, 1 + _MEMORY.limit // 2)):
            _MEMORY.held.pop(oldest, None)
    _MEMORY.held[key] = None
    return True


def remember(count: int) -> None:
    """Remember up to `count` signatures that hold, in this process, from now on; 0: none.

    Raises:
        ValueError: `count` is negative.
    """
    if count < 0:
        raise ValueError(f"need {count=} >= 0")
    _MEMORY.limit = count
    _MEMORY.held.clear()


def _verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
