"""How levels of a category are spelled and numbered; of the standard library alone."""

import hashlib
import re
from typing import Final

OTHER: Final = "other"
_WHOLE = re.compile(r"([+-]?)0*(\d+)\.0+|\+(\d+)")


def level_text(value: str | float) -> str:
    """One spelling for one level: `-2`, `-2.0` and `" -2 "` are the same level, `02` is not.

    A table keeps whole numbers as `1` in CSV and as `1.0` once a cell was missing, so a level's
    spelling must not depend on the file that it came from.
    """
    text = str(value).strip()
    match = _WHOLE.fullmatch(text)
    if match is None:
        return text
    sign, digits, plus = match.groups()
    text = plus or ("-" if sign == "-" else "") + digits
    return "0" if text == "-0" else text


def hash_code(text: str, levels: int) -> int:
    """SHA-256(UTF-8 text) as a big-endian integer, mod `levels`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()) % levels
