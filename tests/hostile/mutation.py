"""Bytes made wrong: by chance, and by what parsers are known to trip over."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

LONGEST_BYTES: Final = 1 << 18
DEEP: Final = 20_000
_NUMBER: Final = re.compile(rb"-?\d+(\.\d+)?")
_NUMBERS: Final = (
    b"0", b"-1", b"1e999", b"-1e999", b"NaN", b"Infinity", b"1e-400", b"9" * 400, b"1" * 5000,
    b"18446744073709551616", b"-9223372036854775809", b"0x7fffffff", b"1_0", b"00", b"1.0", b"true",
    b"null", b'"1"', b"[]", b"{}",
)  # fmt: skip
_TEXTS: Final = (
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\r\n", b"\n\n",
    b"\t", b"'", b'"', b"\\u0000", b"\\ud800", b"%s%n", b"../../../../etc/passwd", b"{{7*7}}",
    b"!!python/", b"!!python/object/apply:os.system ['true']", b"<!DOCTYPE x [", b"a" * 70_000,
    b"&a [*a,*a]", b"x: &a [1,1]\ny: &b [*a,*a,*a]\nz: &c [*b,*b,*b]\n", b"<<: *a",
)  # fmt: skip
_DEEP: Final = (
    b"[" * DEEP, b'{"a":' * DEEP, b"\x91" * DEEP, b"\x81\xa1a" * DEEP, b"- " * DEEP, b"(" * DEEP,
    b"{" * DEEP, b'[{"":' * DEEP,
)  # fmt: skip
# heads of msgpack, zstd, gzip and safetensors that say that very much follows
_LYING: Final = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8, b"\x1f\x8b\x08\x00", b"\xff" * 8, b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80\x00\x00\x00\x00", b"PK\x03\x04", b"SQLite format 3\x00",
)  # fmt: skip

Mutator = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def _place(data: bytes, chance: random.Random) -> int:
    return chance.randrange(len(data) + 1)


def flip(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """A few bits."""
    if not data:
        return b"\x00"
    found = bytearray(data)
    for _each in range(chance.choice((1, 1, 1, 2, 8))):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def cut(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """The end, the beginning, or a piece of the middle is gone."""
    first, last = sorted((_place(data, chance), _place(data, chance)))
    return chance.choice((data[:first], data[last:], data[:first] + data[last:]))


def double(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """A piece is there again, once or many times."""
    first, last = sorted((_place(data, chance), _place(data, chance)))
    return data[:last] + data[first:last] * chance.choice((1, 1, 2, 50)) + data[last:]


def splice(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """The beginning of one and the end of another."""
    other = chance.choice(others)
    return data[: _place(data, chance)] + other[_place(other, chance) :]


def renumber(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """A number in text is another, or none."""
    found = list(_NUMBER.finditer(data[:LONGEST_BYTES]))
    if not found:
        return flip(data, chance, ())
    one = chance.choice(found)
    return data[: one.start()] + chance.choice(_NUMBERS) + data[one.end() :]


def swap(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """Two lines, or two halves, change places."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        place = _place(data, chance)
        return data[place:] + data[:place]
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def _putting(pieces: Sequence[bytes]) -> Mutator:
    def put(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
        place = _place(data, chance)
        piece = chance.choice(pieces)
        over = chance.choice((0, len(piece)))
        return data[:place] + piece + data[place + over :]

    return put


MUTATORS: Final[tuple[Mutator, ...]] = (
    flip, flip, cut, double, splice, renumber, renumber, swap,
    _putting(_TEXTS), _putting(_DEEP), _putting(_LYING),
)  # fmt: skip


def mutant(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One wrong thing made of the right ones; it may still be right."""
    data = chance.choice(seeds)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        data = chance.choice(MUTATORS)(data, chance, seeds)[:LONGEST_BYTES]
    return data
