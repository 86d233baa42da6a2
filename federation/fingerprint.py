"""A key as two people read it to each other: the first 32 hexadecimal digits, four at a time."""

from typing import Final

from privacy.errors import InputError, RefusedError

DIGITS: Final = 32
_LEAST: Final = 16
_GROUP: Final = 4


def fingerprint(key: bytes) -> str:
    """Return the spelling for people; 128 bits that nobody can aim at."""
    text = key.hex()[:DIGITS]
    return "-".join(text[at : at + _GROUP] for at in range(0, DIGITS, _GROUP))


def require_fingerprint(key: bytes, told: str) -> None:
    """Return if what a person was told is this key.

    Raises:
        InputError: it is no fingerprint, or too little of one.
        RefusedError: it is another key's.
    """
    digits = "".join(told.lower().split()).replace("-", "").replace(":", "")
    if len(digits) < _LEAST or any(each not in "0123456789abcdef" for each in digits):
        raise InputError(f"a fingerprint has {DIGITS} hexadecimal digits; give all that was shown")
    if not key.hex().startswith(digits):
        raise RefusedError(
            f"the key here is {fingerprint(key)}, not the one that you were told; approve nothing, "
            "and ask who sent it"
        )
