"""One value, one sequence of bytes: what is hashed or signed is encoded here.

JSON for what a person may read (ledger, manifests), length-prefixed parts for what only machines
read. Both are injective: two different values never share their bytes.
"""

import json

from privacy.errors import ProtocolError

_MAX_DEPTH = 32
_MAX_INTEGER = 2**63 - 1
# What is encoded was checked before, and is nested nowhere within itself.
_ENCODER = json.JSONEncoder(
    sort_keys=True,
    separators=(",", ":"),
    ensure_ascii=True,
    allow_nan=False,
    check_circular=False,
)


def framed(*parts: bytes) -> bytes:
    """Join parts so that the boundaries cannot move: each follows its length (8 bytes, big)."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def canonical_json(value: object) -> bytes:
    """Return the only bytes that stand for `value`: sorted keys, no spaces, ASCII.

    Args:
        value: None, bool, int (64 bits), finite float, str, list, or dict with str keys, nested
            at most 32 deep. Subclasses and other types are refused, as their meaning would be
            lost on the way back.

    Raises:
        ValueError: `value` holds anything else.
    """
    _check(value, depth=0)
    return _ENCODER.encode(value).encode("ascii")


def parse_canonical(data: bytes) -> object:
    """Return the value that `data` stands for; encoding it again gives exactly `data`.

    Raises:
        ProtocolError: `data` is not the canonical encoding of anything.
    """
    try:
        text = data.decode("ascii")
        value: object = _DECODER.decode(text)
        if not _is_plain(data):
            _check(value, depth=0)
        again = _ENCODER.encode(value)
    except (ValueError, RecursionError):
        raise ProtocolError("the bytes are not canonical JSON; ask for them again") from None
    if again != text:
        raise ProtocolError("the JSON is not in its canonical form; ask for it again")
    return value


def _is_plain(data: bytes) -> bool:
    """Whether what `data` decodes to has a canonical form, as far as a look at the bytes tells.

    A decoder makes plain types only, integers are checked by `_integer`, and what is not finite is
    not encoded. What is left are lone surrogates, which ASCII holds only behind a backslash, and
    the depth, which is at most the number of brackets.
    """
    return b"\\" not in data and data.count(b"{") + data.count(b"[") <= _MAX_DEPTH


def _integer(text: str) -> int:
    value = int(text)
    if abs(value) > _MAX_INTEGER:
        raise ValueError("an integer needs more than 64 bits")
    return value


_DECODER = json.JSONDecoder(parse_int=_integer)


def _check(value: object, *, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"a value may be nested {_MAX_DEPTH} deep, not more")
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise ValueError(f"keys are str, not {type(key).__name__}")
            _check_leaf(key)
            _check(item, depth=depth + 1)
    elif type(value) is list:
        for item in value:
            _check(item, depth=depth + 1)
    else:
        _check_leaf(value)


def _check_leaf(value: object) -> None:
    if type(value) is str:
        # A lone surrogate has no bytes in UTF-8, so other readers could not repeat it.
        if not value.isascii():
            value.encode("utf-8")
    elif type(value) is int:
        if abs(value) > _MAX_INTEGER:
            raise ValueError("an integer needs more than 64 bits")
    elif type(value) not in (bool, float, type(None)):
        raise ValueError(f"{type(value).__name__} has no canonical form")
