"""Which units take part in a step, and which of their rows: drawn so that nobody can predict it.

That a unit may be absent, and nobody knows, is what makes a sampled step cheaper than a full one
(amplification). So the draw must be what the accountant was told: independent, of this rate, new
for every step, and secret. Shuffled batches that are accounted as if drawn like this are not.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import BLOCK_WORDS, KEY_BYTES, WORD_BYTES, keystream_words, stream_of
from privacy.randomness import Entropy

_RATE_BITS = 53


def poisson(count: int, rate: float, entropy: Entropy) -> NDArray[np.int64]:
    """Return which of `count` units take part: each by itself with chance `rate`.

    The chance is `rate` rounded down to a multiple of 2^-53, so nobody takes part more often than
    is accounted for. Rate 1 takes all. The result may be empty, and an empty step must still be
    carried out and charged: that it is empty is a secret as well.

    Args:
        count: Units, >= 0.
        rate: In (0, 1].
        entropy: Asked once, for the key of an AES-256-CTR stream.

    Returns:
        Shape (taken,): indices in [0, count), ascending.

    Raises:
        ValueError: `count` is negative, or `rate` is not in (0, 1].
    """
    if count < 0:
        raise ValueError(f"need {count=} >= 0")
    if not 0 < rate <= 1:
        raise ValueError(f"need 0 < {rate=} <= 1")
    # There are exactly so many of the 2^53 equally likely values below it.
    below = np.uint64(math.floor(Fraction(rate) * 2**_RATE_BITS))
    cipher = stream_of(entropy(KEY_BYTES))
    zeros = bytes(BLOCK_WORDS * WORD_BYTES)
    stream = bytearray(len(zeros))
    block = np.frombuffer(stream, dtype="<u8")
    taken = np.empty(count, dtype=np.bool_)
    for start in range(0, count, BLOCK_WORDS):
        part = taken[start : start + BLOCK_WORDS]
        cipher.update_into(memoryview(zeros)[: len(part) * WORD_BYTES], stream)
        np.less(block[: len(part)] >> np.uint64(64 - _RATE_BITS), below, out=part)
    return np.flatnonzero(taken).astype(np.int64, copy=False)


def bounded_rows(
    starts: NDArray[np.int64], counts: NDArray[np.int64], most: int, entropy: Entropy
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return at most `most` rows of each unit, and weights that average over them.

    Rows are places in an order that is sorted by unit: those of unit u are
    starts[u], ..., starts[u] + counts[u] - 1. A unit with at most `most` rows has all of them,
    each of weight 1 / counts[u]; its other slots repeat its first row with weight zero. A unit
    with more has `most` different ones of weight 1 / most, every such choice equally likely to
    within 2^-32 of its chance for each draw (Floyd's algorithm; Bentley and Floyd 1987).

    Whatever is drawn, a unit moves a weighted sum by its own rows alone, and what it adds is
    clipped afterwards: the guarantee does not rest on which rows these are. Uniform choice keeps
    the average unbiased.

    Args:
        starts: Shape (units,), >= 0.
        counts: Shape (units,), rows of each unit, 1 <= counts < 2^32.
        most: Rows of a unit that are used, >= 1.
        entropy: Asked for one key, if a unit has more rows than `most`.

    Returns:
        Places and weights, each of shape (units, most). Weights are >= 0 and add up to 1 for
        every unit, to within 2^-53.

    Raises:
        ValueError: the shapes differ, or a number is out of range.
    """
    if starts.ndim != 1 or starts.shape != counts.shape:
        raise ValueError(f"need two arrays of one length, not {starts.shape} and {counts.shape}")
    if most < 1 or (len(counts) and (counts.min() < 1 or counts.max() >> 32 or starts.min() < 0)):
        raise ValueError(f"need {most=} >= 1, and units of 1 to 2^32 - 1 rows that start at >= 0")
    slots = np.arange(most, dtype=np.int64)
    held = np.minimum(counts, most)[:, None]
    used = slots < held
    places = starts[:, None] + np.where(used, slots, 0)
    weights = np.where(used, 1.0 / held, 0.0)
    many = np.flatnonzero(counts > most)
    if len(many):
        places[many] = starts[many, None] + _subsets(counts[many], most, entropy)
    return places, weights


def _subsets(sizes: NDArray[np.int64], most: int, entropy: Entropy) -> NDArray[np.int64]:
    """For each size > most, `most` different numbers below it: shape (len(sizes), most)."""
    words = keystream_words(entropy(KEY_BYTES), most * len(sizes)).reshape(most, -1)
    chosen = np.empty((len(sizes), most), dtype=np.int64)
    for slot in range(most):
        # Floyd: draw among the first n; if that one is taken already, take the last of them.
        last = sizes - most + slot
        drawn = (words[slot] % (last + 1).astype(np.uint64)).astype(np.int64)
        taken = (chosen[:, :slot] == drawn[:, None]).any(axis=1)
        chosen[:, slot] = np.where(taken, last, drawn)
    return chosen
