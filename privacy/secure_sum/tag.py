"""A sum's linear tag: members find a coordinator that changes a sum, or makes one up.

Each member appends <r, x> + s to its vector x, with r and s known to the members and not to the
coordinator. Tags add up as vectors do, so an opened sum of n vectors has to carry <r, sum> + n s:
it is of n vectors, neither more nor fewer, and not a multiple of another. A lone coordinator
passes with a changed sum with a chance below 2^-60; with a member's keys it knows r and s.

Fields of up to 30 bits are tagged one by one, modulo the prime 2^31 - 1, with two r: they add up
without carries (`FixedPoint`), and no two field values are equal modulo that prime. Wider ones are
tagged as whole words, modulo the prime 2^127 - 1.
"""

import hashlib
import hmac

import numpy as np

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.fixed_point import FixedPoint
from privacy.keystream import WORD_BYTES, Words, keystream_words, stream_of

_NARROW_BITS_MAX = 30
_NARROW = (1 << 31) - 1
_WIDE = (1 << 127) - 1
# So short that thousands of members' parts add up to less than any carrier's ring.
_PART_BITS = 16
_NARROW_TAGS, _NARROW_PARTS, _WIDE_PARTS = 2, 2, 8
# Field pieces of up to 22 bits times 31 bits: 2^11 of them stay below 2^64.
_PIECE_BITS = 22
_RUN = 1 << 11
_BLOCK = 8 * _RUN
_WORD_BITS = 64


def tag_key(secret: bytes, context: bytes) -> bytes:
    """Return the key of one sum's tag; `secret` (32 bytes) is known to the members alone."""
    return hmac.new(secret, framed(b"tag", context), hashlib.sha256).digest()


def tag_words(layout: FixedPoint) -> int:
    """Return how many words a tag has, each below 2^16."""
    return _NARROW_TAGS * _NARROW_PARTS if _is_narrow(layout) else _WIDE_PARTS


def append_tag(words: Words, *, layout: FixedPoint, key: bytes) -> Words:
    """Return `words`, as `layout` encoded them, and their tag.

    Args:
        words: Shape (w,).
        layout: Sums of `layout.parties` tag words, each below 2^16, must have room in a word.
        key: `tag_key` of this sum.
    """
    tags = _tags(words, layout, key, parties=1)
    each = tag_words(layout) // len(tags)
    parts = [part for value in tags for part in _parts(value, each)]
    return np.concatenate([words, np.array(parts, dtype=np.uint64)])


def check_tag(words: Words, *, layout: FixedPoint, key: bytes, parties: int) -> Words:
    """Return a sum without its tag, if the tag is that of a sum of `parties` vectors.

    Raises:
        ProtocolError: it is not: somebody changed the sum, or a member's vector had a wrong tag.
    """
    length = tag_words(layout)
    if len(words) <= length:
        raise ProtocolError("an opened sum is too short for its tag; discard it")
    body, sums = words[:-length], words[-length:].tolist()
    found = _tags(body, layout, key, parties=parties)
    each = length // len(found)
    modulus = _NARROW if _is_narrow(layout) else _WIDE
    claimed = [_joined(sums[at : at + each]) % modulus for at in range(0, length, each)]
    # Bits above the last field are in no tag, as an honest sum has none.
    above = layout.word_bits < _WORD_BITS and (body >> np.uint64(layout.word_bits)).any()
    if above or claimed != found:
        raise ProtocolError(
            "an opened sum does not carry its members' tag: the coordinator, or a member, "
            "changed it; discard it"
        )
    return body


def _is_narrow(layout: FixedPoint) -> bool:
    return layout.field_bits <= _NARROW_BITS_MAX


def _parts(value: int, count: int) -> list[int]:
    return [(value >> (_PART_BITS * place)) & ((1 << _PART_BITS) - 1) for place in range(count)]


def _joined(parts: list[int]) -> int:
    return sum(part << (_PART_BITS * place) for place, part in enumerate(parts))


def _tags(words: Words, layout: FixedPoint, key: bytes, *, parties: int) -> list[int]:
    """The tags that a sum of `parties` vectors must carry."""
    constant = int.from_bytes(hmac.new(key, b"constant", hashlib.sha256).digest(), "big")
    if _is_narrow(layout):
        first, second = _narrow_products(words, layout, key)
        return [
            (first + parties * (constant >> 128)) % _NARROW,
            (second + parties * (constant & _WIDE)) % _NARROW,
        ]
    stream = keystream_words(key, 2 * len(words)).tolist()
    total = parties * constant
    for word, high, low in zip(words.tolist(), stream[::2], stream[1::2], strict=True):
        total += word * ((high << 64 | low) >> 1)
    return [total % _WIDE]


def _narrow_products(words: Words, layout: FixedPoint, key: bytes) -> tuple[int, int]:
    # One word of the stream gives both r of a field; blocks stay in the core's cache.
    cipher = stream_of(key)
    zeros = bytes(_BLOCK * WORD_BYTES)
    stream = bytearray(len(zeros))
    totals = [0, 0]
    mask = np.uint64((1 << layout.field_bits) - 1)
    low = np.uint64((1 << _PIECE_BITS) - 1)
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        for place in range(layout.fields):
            cipher.update_into(memoryview(zeros)[: block.nbytes], stream)
            drawn = np.frombuffer(stream, dtype="<u8")[: len(block)]
            field = (block >> np.uint64(place * layout.field_bits)) & mask
            pieces = [(field, 0)]
            if layout.field_bits > _PIECE_BITS:
                pieces = [(field & low, 0), (field >> np.uint64(_PIECE_BITS), _PIECE_BITS)]
            for index, r in enumerate((drawn >> np.uint64(33), drawn & np.uint64(_NARROW))):
                for piece, shift in pieces:
                    totals[index] += _dot(piece, r) << shift
    return totals[0], totals[1]


def _dot(values: Words, factors: Words) -> int:
    whole = len(values) - len(values) % _RUN
    runs = np.einsum(
        "ij,ij->i", values[:whole].reshape(-1, _RUN), factors[:whole].reshape(-1, _RUN)
    )
    rest = np.dot(values[whole:], factors[whole:])
    return int(runs.astype(object).sum()) + int(rest)
