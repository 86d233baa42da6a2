"""Whose signature counts: keys that the user named, by fingerprint; never the key in a file itself.

A fingerprint is SHA-256 over suite and key, whole. The first digits of a key would not do: those of
a hybrid key are its classical half, which is a key of another suite by itself.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from privacy.canonical import framed
from privacy.errors import InputError, NotVerifiedError

DIGITS: Final = 64
MOST_BYTES: Final = 65_536
_DOMAIN: Final = b"tacit/edge-key/v1"
_HEX: Final = frozenset("0123456789abcdef")


def key_fingerprint(suite: str, key: bytes) -> str:
    """64 hexadecimal digits that stand for this key in this suite and for no other."""
    return hashlib.sha256(framed(_DOMAIN, suite.encode("utf-8"), key)).hexdigest()


def read_trust(told: Sequence[str]) -> frozenset[str]:
    """Fingerprints that were given, each as such or as a file with one a line.

    Raises:
        InputError: One is neither.
    """
    found: set[str] = set()
    for text in told:
        spelled = _digits(text)
        if spelled is not None:
            found.add(spelled)
            continue
        try:
            with Path(text).open("rb") as file:
                lines = file.read(MOST_BYTES).decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError, ValueError):
            raise InputError(
                f"{text:.80} is neither a fingerprint of {DIGITS} hexadecimal digits nor a file "
                f"that can be read; give what tacit model export printed."
            ) from None
        for line in lines:
            words = line.split("#")[0].strip()
            spelled = _digits(words)
            if words and spelled is None:
                raise InputError(f"{text}: has a line that is no fingerprint; correct it.")
            if spelled is not None:
                found.add(spelled)
    return frozenset(found)


def require_trusted(suite: str, key: bytes, trusted: frozenset[str]) -> str:
    """Return the key's fingerprint if it is one of those that were named.

    Raises:
        NotVerifiedError: It is another, or none was named.
    """
    found = key_fingerprint(suite, key)
    if not trusted:
        raise NotVerifiedError(
            "no key is trusted here; ask who made the bundle for the fingerprint, and give it "
            "with --trust, or keep it with tacit-edge trust."
        )
    if found not in trusted:
        raise NotVerifiedError(
            f"it is signed by {found[:16]}.., a key that is not trusted here; use a bundle of "
            f"whom you trust."
        )
    return found


def _digits(text: str) -> str | None:
    spelled = text.strip().lower().replace("-", "").replace(":", "").replace(" ", "")
    return spelled if len(spelled) == DIGITS and set(spelled) <= _HEX else None
