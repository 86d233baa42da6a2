"""Gaussian noise from the operating system's generator: continuous by default, exact as an option.

`docs/noise-and-rounding.md` holds the argument that continuous noise, rounded to a fine grid,
keeps what the accountant says of a Gaussian, and what remains outside of it.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.keystream import BLOCK_WORDS, KEY_BYTES, WORD_BYTES, Words, stream_of
from privacy.randomness import Entropy

TAIL = 16.0
"""Deviations that no noise exceeds: P(|N(0, 1)| > TAIL) < TAIL_CHANCE.

`gaussian` itself never exceeds 13.3 deviations. For `discrete_gaussian` the chance is at most
2 exp(-TAIL^2 / 2) < 2^-183, as it is sub-Gaussian (Canonne, Kamath, Steinke 2020).
"""

TAIL_CHANCE = 2.0**-186
"""From Mills' ratio: P(|N(0, 1)| > x) < sqrt(2 / pi) exp(-x^2 / 2) / x, at x = TAIL."""

_Draw: TypeAlias = Callable[[int], Words]
"""`draw(count)` returns that many uniform words; no word is returned twice."""

# The radius comes of 126 random bits, half a unit above zero: sqrt(2 ln 2^127) = 13.27 deviations.
_REACH = 13.3
_UNIT = 2.0**-63
# Pairs at a time: three words each, and no temporary leaves the cache.
_BLOCK_PAIRS = BLOCK_WORDS // 4
# A uniform real is compared 63 bits at a time, so that the chance 1 is a word as well.
_CHANCE_BITS = 63
_DISCRETE_MAX = 1 << 40
_BATCH = 1 << 15


def gaussian(count: int, deviation: float, entropy: Entropy) -> NDArray[np.float64]:
    """Return `count` independent draws of N(0, deviation^2), in float64.

    Box and Muller's transform (1958) of the AES-256-CTR stream of one fresh key. The radius is
    made from 126 bits, so that its tail reaches 13 deviations and not 8.6, and is never of log(0).
    Nothing is rejected: the number of operations depends on `count` alone (Jin et al., arXiv
    2112.05307, recover values from the time that rejection takes).

    Args:
        count: How many, >= 0.
        deviation: The standard deviation, finite, >= 0. Zero gives zeros and draws no key.
        entropy: Asked once, for the key.

    Returns:
        Shape (count,). No absolute value exceeds 13.3 deviations. What float64 leaves of the
        difference to real Gaussians is bounded in `docs/noise-and-rounding.md`: it counts on
        these values being rounded to a grid before anybody sees them.

    Raises:
        ValueError: `count` is negative, or `deviation` is negative, not finite or so large that
            a draw would not be finite.
    """
    if count < 0:
        raise ValueError(f"need {count=} >= 0")
    if not deviation >= 0 or not math.isfinite(deviation * _REACH):
        raise ValueError(f"need a finite {deviation=} >= 0")
    values = np.zeros(count, dtype=np.float64)
    if deviation == 0 or count == 0:
        return values
    draw = _drawn(entropy)
    for start in range(0, count, 2 * _BLOCK_PAIRS):
        block = values[start : start + 2 * _BLOCK_PAIRS]
        pairs = (len(block) + 1) // 2
        radius, angle = _polar(draw(3 * pairs), deviation)
        np.multiply(radius, np.cos(angle), out=block[:pairs])
        rest = len(block) - pairs
        np.multiply(radius[:rest], np.sin(angle[:rest]), out=block[pairs:])
    return values


def discrete_gaussian(
    count: int, deviation: Fraction | float, entropy: Entropy
) -> NDArray[np.int64]:
    """Return `count` independent integers x, each with a chance in proportion to e^(-x^2/(2 s^2)).

    The sampler of Canonne, Kamath and Steinke 2020 (arXiv 2004.00010, algorithms 1 to 3), for
    s = `deviation`. It is exact: every decision compares a uniform real, revealed bit by bit,
    with a rational, in integers; no float takes part, and a float `deviation` is the fraction
    that it is. Its variance is at most s^2 (and less than s^2 only visibly for s < 1).

    Its time varies with the values drawn, as candidates are rejected and loops end early (Jin et
    al., arXiv 2112.05307, tell values from such times). `gaussian` does not have this channel,
    so it is told for this option alone: whoever may time a node must not be the adversary.

    Args:
        count: How many, >= 0.
        deviation: s, in steps of the grid, 0 < s <= 2^40.
        entropy: Asked once, for the key.

    Returns:
        Shape (count,).

    Raises:
        ValueError: `count` is negative, or `deviation` is out of range.
    """
    if count < 0:
        raise ValueError(f"need {count=} >= 0")
    if not 0 < deviation <= _DISCRETE_MAX:
        raise ValueError(f"need 0 < {deviation=} <= {_DISCRETE_MAX}")
    variance = Fraction(deviation) ** 2
    scale = math.floor(Fraction(deviation)) + 1
    draw = _drawn(entropy)
    parts = [np.zeros(0, dtype=np.int64)]
    missing = count
    while missing > 0:
        # Under half of the candidates are kept; the first ones kept are as random as any.
        candidates = _laplace(min(_BATCH, 3 * missing + 64), scale, draw)
        kept = candidates[_accepted(candidates, variance, scale, draw)][:missing]
        parts.append(kept)
        missing -= len(kept)
    return np.concatenate(parts)


def _drawn(entropy: Entropy) -> _Draw:
    """Return what draws consecutive words of the stream of one fresh key."""
    cipher = stream_of(entropy(KEY_BYTES))

    def draw(count: int) -> Words:
        stream = bytearray(count * WORD_BYTES)
        cipher.update_into(bytes(len(stream)), stream)
        return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)

    return draw


def _polar(words: Words, deviation: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radius and angle of independent pairs, three words each."""
    pairs = len(words) // 3
    # As signed numbers of 63 bits: turning unsigned ones into floats takes a branch on their value.
    numbers = (words >> np.uint64(1)).view(np.int64).astype(np.float64)
    high, low, angle = numbers[:pairs], numbers[pairs : 2 * pairs], numbers[2 * pairs :]
    # u = (high + (low + 1/2) / 2^63) / 2^63 in (0, 1], of full relative precision down to 2^-74.
    low += 0.5
    low *= _UNIT
    high += low
    high *= _UNIT
    radius = np.log(high, out=high)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    radius *= deviation
    angle *= 2.0 * math.pi * _UNIT
    return radius, angle


def _laplace(count: int, scale: int, draw: _Draw) -> NDArray[np.int64]:
    """Discrete Laplace of an integer scale (algorithm 2 with s = 1); at most `count` are kept."""
    words = draw(count)
    uniform = words & np.uint64((1 << (scale - 1).bit_length()) - 1)
    fits = uniform < np.uint64(scale)
    # The highest bit is a coin of its own: the scale has at most 41 bits.
    negative = (words[fits] >> np.uint64(63)).astype(np.bool_)
    uniform = uniform[fits]
    kept = _exp_minus(uniform.tolist(), scale, draw)
    negative, magnitude = negative[kept], uniform[kept].astype(np.int64)
    running = np.arange(len(magnitude))
    while len(running):
        running = running[_exp_minus([1] * len(running), 1, draw)]
        magnitude[running] += scale
    # Zero has one sign, or it would come twice as often.
    once = ~(negative & (magnitude == 0))
    signed: NDArray[np.int64] = np.where(negative, -magnitude, magnitude)[once]
    return signed


def _accepted(
    candidates: NDArray[np.int64], variance: Fraction, scale: int, draw: _Draw
) -> NDArray[np.bool_]:
    """Keep y with chance exp(-(|y| - variance / scale)^2 / (2 variance)) (algorithm 3)."""
    above, below = variance.numerator, variance.denominator
    unit = below * scale
    denominator = 2 * above * unit * scale
    exponents = [(abs(y) * unit - above) ** 2 for y in candidates.tolist()]
    # e^-g for g > 1: as many e^-1 as g has wholes, and the rest (algorithm 1, second case).
    # No loop gets as far as the cap, so it changes nothing.
    wholes = np.array([min(g // denominator, 1 << 62) for g in exponents], dtype=np.int64)
    alive = np.ones(len(candidates), dtype=np.bool_)
    turn = 0
    while len(trying := np.flatnonzero(alive & (wholes > turn))):
        alive[trying] = _exp_minus([1] * len(trying), 1, draw)
        turn += 1
    left = np.flatnonzero(alive)
    rests = [exponents[index] % denominator for index in left.tolist()]
    alive[left] = _exp_minus(rests, denominator, draw)
    return alive


def _exp_minus(numerators: Sequence[int], denominator: int, draw: _Draw) -> NDArray[np.bool_]:
    """Toss coins of chance exp(-n / denominator), 0 <= n <= denominator (algorithm 1).

    Coins of chance g / k, for k = 1, 2, ..., until one fails: an odd k has chance exp(-g).
    """
    levels = [(n << _CHANCE_BITS) // denominator for n in numerators]
    chances = np.array(levels, dtype=np.uint64)
    heads = np.zeros(len(levels), dtype=np.bool_)
    running = np.arange(len(levels))
    turn = 1
    while len(running):
        # floor(floor(g 2^63) / k) = floor(g 2^63 / k): the first 63 bits of the chance g / k.
        chance = chances[running] // np.uint64(turn)
        bits = draw(len(running)) >> np.uint64(64 - _CHANCE_BITS)
        won = bits < chance
        for tie in np.flatnonzero(bits == chance).tolist():
            whole = denominator * turn
            rest = (numerators[running[tie]] << _CHANCE_BITS) % whole
            won[tie] = _below(rest, whole, draw)
        heads[running[~won]] = turn % 2 == 1
        running = running[won]
        turn += 1
    return heads


def _below(numerator: int, denominator: int, draw: _Draw) -> bool:
    """Toss one coin of chance numerator / denominator < 1, by as many words as it takes."""
    while numerator:
        chance, numerator = divmod(numerator << _CHANCE_BITS, denominator)
        bits = int(draw(1)[0]) >> (64 - _CHANCE_BITS)
        if bits != chance:
            return bits < chance
    # Nothing is left of the chance, and no uniform real is below nothing.
    return False
