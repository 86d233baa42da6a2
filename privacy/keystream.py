"""Streams of pseudorandom words from one 32-byte key: AES-256 in counter mode (NIST SP 800-38A).

A key makes one stream, from counter zero. Using it for a second purpose would repeat the stream,
so every key here is derived for, or drawn for, exactly one use.
"""

import sys
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from privacy.randomness import Entropy

Words: TypeAlias = NDArray[np.uint64]
"""Shape (w,), added modulo 2^64."""

KEY_BYTES = 32
WORD_BYTES = 8
# Streams are made and used in pieces that stay in a core's cache: fresh pages cost more than AES.
BLOCK_WORDS = 1 << 14
_ZEROS = bytes(BLOCK_WORDS * WORD_BYTES)


def stream_of(key: bytes) -> CipherContext:
    """Return the cipher that makes the stream of `key`: encrypting zeros gives its bytes in order.

    Raises:
        ValueError: the key has not 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"need a key of {KEY_BYTES} bytes, not {len(key)}")
    # The counter may start at zero because no key is used twice.
    return Cipher(AES256(key), CTR(bytes(16))).encryptor()


def keystream_words(key: bytes, count: int) -> Words:
    """Return the first `count` words of the stream of `key`, read as little-endian.

    Without the key they cannot be told from uniform words, as long as AES-256 cannot be told from
    a random permutation and far fewer than 2^64 blocks are made.

    Raises:
        ValueError: the key has not 32 bytes, or `count` is negative.
    """
    if count < 0:
        raise ValueError(f"need {count=} >= 0")
    stream = bytearray(count * WORD_BYTES)
    stream_of(key).update_into(bytes(len(stream)), stream)
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)


def shift_by_keystream(
    words: Words, added: Sequence[bytes], subtracted: Sequence[bytes] = ()
) -> None:
    """Add the streams of the keys `added` to `words` in place, and subtract those of `subtracted`.

    Modulo 2^64, so what is added here and subtracted elsewhere cancels: exactly.

    Raises:
        ValueError: a key has not 32 bytes.
    """
    # One pass over the words, all streams for each piece of it: a piece stays in the core's cache.
    streams: list[tuple[CipherContext, np.ufunc]] = [(stream_of(key), np.add) for key in added]
    streams += [(stream_of(key), np.subtract) for key in subtracted]
    stream = bytearray(len(_ZEROS))
    block = np.frombuffer(stream, dtype="<u8")
    for start in range(0, len(words), BLOCK_WORDS):
        part = words[start : start + BLOCK_WORDS]
        zeros = memoryview(_ZEROS)[: part.nbytes]
        for cipher, shift in streams:
            cipher.update_into(zeros, stream)
            shift(part, block[: len(part)], out=part)


def uniforms(count: int, entropy: Entropy) -> NDArray[np.float64]:
    """Return `count` independent uniform multiples of 2^-53 in [0, 1), from one fresh key."""
    words = keystream_words(entropy(KEY_BYTES), count)
    fractions: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64)
    fractions *= 2.0**-53
    return fractions


# A word is eight bytes in the machine's own order; only the byte order of streams and of the
# wire is fixed. Arithmetic in place would silently use foreign words on such a machine.
if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("tacit runs on little-endian machines only; use x86-64 or arm64")
