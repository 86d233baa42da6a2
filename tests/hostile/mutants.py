"""What an attacker, a bad disk or a bad line makes of bytes that were valid."""

import json
from random import Random
from typing import Any

import msgspec

NUMBERS = (0, -1, 2**31, 2**32, 2**53, 2**63 - 1, 2**64 - 1)
SPLICES = (b"\0", b"\xff" * 4, b"\xc0\x80", b"\xed\xa0\x80", b"\n", b"{", b"[" * 40, b"*a", b"&a ")


def mutant(valid: bytes, others: tuple[bytes, ...], random: Random) -> bytes:
    """One of many ways in which `valid` can go wrong; now and then more than one."""
    data = valid
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_WAYS)(data, others, random)
    return data


def _flip(data: bytes, _: tuple[bytes, ...], random: Random) -> bytes:
    if not data:
        return b"\x01"
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _cut(data: bytes, _: tuple[bytes, ...], random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    stop = min(len(data), start + random.choice((1, 4, 32, len(data))))
    return data[:start] + data[stop:]


def _splice(data: bytes, others: tuple[bytes, ...], random: Random) -> bytes:
    other = random.choice((*others, *SPLICES))
    at, start = random.randrange(len(data) + 1), random.randrange(len(other) + 1)
    piece = other[start : start + random.choice((1, 8, 64, 4096))]
    return data[:at] + piece + data[at + random.choice((0, len(piece))) :]


def _repeat(data: bytes, _: tuple[bytes, ...], random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    size = random.choice((1, 8, 64, len(data)))
    return data[: at + size] + data[at : at + size] + data[at + size :]


def _length(data: bytes, _: tuple[bytes, ...], random: Random) -> bytes:
    """A field of 1, 2, 4 or 8 bytes says another size."""
    size = random.choice((1, 2, 4, 8))
    value = random.choice(NUMBERS) % 256**size
    at = random.randrange(len(data) + 1)
    field = value.to_bytes(size, "big")
    return data[:at] + (field if random.random() < 0.5 else field[::-1]) + data[at + size :]


def _structured(data: bytes, others: tuple[bytes, ...], random: Random) -> bytes:
    """The same structure with one value that is another: sizes fit, meaning does not."""
    for read, write in ((json.loads, _json), (msgspec.msgpack.decode, msgspec.msgpack.encode)):
        try:
            changed = _changed(read(data), random)
            made = write(changed)
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError, OverflowError):
            continue
        if write is _json and random.random() < 0.2:  # a key that stands there twice
            return bytes(made).replace(b"{", b'{"format":1,', 1)
        return bytes(made)
    return _splice(data, others, random)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _changed(value: Any, random: Random) -> Any:  # noqa: ANN401 - whatever stands there
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        if random.random() < 0.1:
            return {k: v for k, v in value.items() if k != key} | {"another": 1}
        return {**value, key: _changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        if random.random() < 0.15:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], _changed(value[at], random), *value[at + 1 :]]
    nested: Any = []
    for _ in range(40):
        nested = [nested]
    return random.choice(
        (*NUMBERS, 0.5, float("nan"), True, None, "", "\0", "a" * 300, [], {}, nested, {"": nested})
    )


_WAYS = (_flip, _flip, _cut, _splice, _repeat, _length, _structured, _structured)
