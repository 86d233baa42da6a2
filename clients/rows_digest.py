"""A hash of a member's rows for its own ledger: it binds, and tells nobody anything of them."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from clients.members import MemberRows
from privacy.canonical import framed
from privacy.errors import InputError
from privacy.randomness import Entropy
from privacy.whole_file import write_first

_KEY_BYTES = 32
_FILE = "rows.key"


def rows_digest(rows: MemberRows, *, run: bytes, home: Path, entropy: Entropy) -> bytes:
    """Return HMAC-SHA256 over the rows, 32 bytes, under a key that stays in the node's folder.

    The same rows in the same order have the same digest in one run, and another in every other
    run: two of them do not tell whether rows changed. Whoever has not the key can test no guess of
    a row against it; a node that shows its key and its rows proves what it read.

    Args:
        rows: As they were read.
        run: Digest of the run's manifest.
        home: The node's folder.
        entropy: Makes the key, the first time.

    Raises:
        InputError: The key cannot be kept.
    """
    code = hmac.new(rows_key(home, entropy), run, digestmod=hashlib.sha256)
    for part in (rows.train, rows.test):
        # framed as a whole too: no column can pass from one part to the other
        code.update(framed(framed(*_columns(part))))
    return code.digest()


def _columns(frame: pd.DataFrame) -> Iterator[bytes]:
    for name, column in frame.items():
        yield str(name).encode("utf-8")
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
            values = column.to_numpy()
            yield values.dtype.str.encode("ascii")
            yield values.tobytes()
        else:
            yield b"text"
            # a value that is missing is none of the words that could stand there
            yield framed(*(b"" if gone else _word(value) for value, gone in _cells(column)))


def _cells(column: pd.Series) -> Iterator[tuple[object, bool]]:
    return zip(column, column.isna(), strict=True)


def _word(value: object) -> bytes:
    return b"=" + str(value).encode("utf-8", "surrogatepass")


def rows_key(home: Path, entropy: Entropy) -> bytes:
    """Return the node's own key for digests of its rows, 32 bytes, made the first time.

    Raises:
        InputError: It cannot be kept.
    """
    path = home / _FILE
    try:
        if not path.exists():
            write_first(path, entropy(_KEY_BYTES))
        key = path.read_bytes()
    except OSError as failure:
        raise InputError(f"{path}: cannot be used ({failure.strerror}).") from None
    if len(key) != _KEY_BYTES:
        raise InputError(f"{path}: is no key of {_KEY_BYTES} bytes; restore it from a copy.")
    return key
