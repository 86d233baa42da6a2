"""Real vectors as unsigned integers, several to a 64-bit word, so that exact sums are possible.

A coordinate x is clamped to [-clip, clip], divided by the step, rounded to one of its two
neighbours at random so that the mean is right (unbiased stochastic rounding), and shifted to be
unsigned. A field is wide enough for the sum of `parties` maxima: no sum carries into the next
field, hence adding words adds every field.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from privacy.canonical import framed
from privacy.errors import InputError, ProtocolError
from privacy.keystream import BLOCK_WORDS, Words, uniforms
from privacy.randomness import Entropy

_WORD_BITS = 64
# A decoded sum passes through a signed word.
_FIELD_BITS_MAX = 63
# Between these, every scaling by the step stays within float64's normal range.
_CLIP_MIN = 2.0**-500
_CLIP_MAX = 2.0**500


@dataclass(frozen=True)
class FixedPoint:
    """How `parties` members write their vectors; all must hold the same one.

    Guarantees, for finite input:
        * the sum of any `parties` encodings carries out of no field;
        * |decoded - true sum of the clamped values| <= `worst_error(parties_summed)`;
        * E[decoded] is the true sum, to within 2^-53 of a step per value;
        * multiples of `step` within [-clip, clip] are exact.

    Attributes:
        parties: Most vectors that are ever added, >= 1.
        fields: Coordinates per word; field j holds coordinates [j * words, (j + 1) * words).
        field_bits: Bits per field; field_bits <= 63, fields * field_bits <= 64.
        clip: Bound on each coordinate's absolute value, in the vector's own unit.
    """

    parties: int
    fields: int
    field_bits: int
    clip: float

    def __post_init__(self) -> None:
        if self.fields < 1 or not 1 <= self.field_bits <= _FIELD_BITS_MAX:
            raise ValueError(f"need fields of 1 to {_FIELD_BITS_MAX} bits in {self}")
        if self.parties < 1 or self.fields * self.field_bits > _WORD_BITS:
            raise ValueError(f"{self} does not fit a word of {_WORD_BITS} bits")
        if not _CLIP_MIN <= self.clip <= _CLIP_MAX:
            raise ValueError(f"need a finite clip > 0, not {self.clip}")
        if 2 * self.parties > self._field_max:
            raise ValueError(f"{self.field_bits} bits are too few for {self.parties} parties")

    @property
    def _field_max(self) -> int:
        return (1 << self.field_bits) - 1

    @cached_property
    def step(self) -> float:
        """The distance of neighbouring levels: the least power of two that leaves headroom.

        parties * 2 * ceil(clip / step) <= 2^field_bits - 1. The ceiling matters: rounding may go
        up from a clip that is no multiple of the step.
        """
        room = Fraction(self._field_max, 2 * self.parties)
        exponent = math.floor(math.log2(self.clip)) - self.field_bits
        while math.ceil(Fraction(self.clip) / Fraction(2) ** exponent) > room:
            exponent += 1
        return 2.0**exponent

    @cached_property
    def levels(self) -> int:
        """Steps from zero to the clip, rounded up: one party's field is at most twice this."""
        return math.ceil(Fraction(self.clip) / Fraction(self.step))

    @property
    def word_bits(self) -> int:
        """Bits that a word of this layout, and any sum of `parties` of them, may have."""
        return self.fields * self.field_bits

    def words(self, length: int) -> int:
        """How many words hold `length` coordinates."""
        if length < 1:
            raise ValueError(f"need {length=} >= 1")
        return -(-length // self.fields)

    def worst_error(self, parties: int) -> float:
        """Bound on |decoded - true sum| of any coordinate when `parties` vectors are added.

        Each rounding moves a value by less than a step; a sum above 2^53 steps is once more
        rounded, to the nearest float64.
        """
        rounding = parties * self.step
        exact = parties * self.levels <= 2**53
        return rounding if exact else rounding * (1 + self.levels * 2.0**-53)

    def digest(self) -> bytes:
        """Return 32 bytes that differ wherever two members would write differently."""
        numbers = (self.parties, self.fields, self.field_bits)
        exact = [str(number).encode("ascii") for number in numbers]
        layout = framed(b"tacit/fixed-point/v1", *exact, self.clip.hex().encode("ascii"))
        return hashlib.sha256(layout).digest()

    def schema(self, length: int) -> bytes:
        """Return the 32-byte hash of this layout for vectors of `length` coordinates."""
        parts = (b"tacit/schema/v1", self.digest(), str(length).encode("ascii"))
        return hashlib.sha256(framed(*parts)).digest()

    def encode(self, values: NDArray[np.float64], entropy: Entropy) -> Words:
        """Return `values` as words; the unused fields of the last words are zero.

        Args:
            values: Shape (d,), d >= 1, finite. Coordinates beyond the clip are clamped.
            entropy: Makes the rounding unpredictable; a predictable one would be a bias that
                somebody could choose.

        Raises:
            ValueError: the shape or type is wrong, or a value is not finite.
        """
        if values.ndim != 1 or not len(values) or values.dtype != np.float64:
            raise ValueError(f"need float64 of shape (d,), not {values.dtype} {values.shape}")
        count = self.words(len(values))
        words = np.zeros(count, dtype=np.uint64)
        scale = 1.0 / self.step
        # In blocks, so that no temporary leaves the cache: fresh pages cost more than arithmetic.
        for field in range(self.fields):
            coordinates = values[field * count : (field + 1) * count]
            shift = np.uint64(field * self.field_bits)
            for start in range(0, len(coordinates), BLOCK_WORDS):
                block = coordinates[start : start + BLOCK_WORDS]
                levels = self._round(block, scale=scale, entropy=entropy)
                np.left_shift(levels, shift, out=levels)
                words[start : start + len(block)] |= levels
        return words

    def _round(self, block: NDArray[np.float64], *, scale: float, entropy: Entropy) -> Words:
        if not np.isfinite(block).all():
            raise ValueError("a value is not finite; check the vector before encoding it")
        scaled = np.clip(block, -self.clip, self.clip)
        scaled *= scale
        lower = np.floor(scaled)
        # Comparing the exact remainder, not flooring scaled + u: that sum is itself rounded, and
        # would now and then lift a value that lies on a level.
        scaled -= lower
        levels = lower.astype(np.int64)
        levels += uniforms(len(block), entropy) < scaled
        levels += self.levels
        return levels.view(np.uint64)

    def decode_sum(self, words: Words, length: int, parties_summed: int) -> NDArray[np.float64]:
        """Return the sum of the values that `parties_summed` vectors encoded.

        Args:
            words: Shape (words(length),): the sum modulo 2^64 of that many encodings.
            length: Coordinates, d.
            parties_summed: How many vectors were added, 1 <= parties_summed <= parties.

        Returns:
            Shape (d,), in the vector's own unit.

        Raises:
            ValueError: more parties than this layout has headroom for.
            ProtocolError: the words are none that so many parties can produce (not this length,
                or a field out of range): masks that did not cancel look like this.
        """
        if not 1 <= parties_summed <= self.parties:
            raise ValueError(f"need 1 <= {parties_summed=} <= {self.parties}")
        count = self.words(length)
        if words.shape != (count,):
            raise ProtocolError(f"an opened sum has {words.size} words where {count} are due")
        total = np.empty(length, dtype=np.float64)
        highest = np.uint64(2 * self.levels * parties_summed)
        offset = self.levels * parties_summed
        for start in range(0, count, BLOCK_WORDS):
            self._decode_block(
                words[start : start + BLOCK_WORDS], total, start, highest=highest, offset=offset
            )
        return total

    def _decode_block(
        self,
        block: Words,
        total: NDArray[np.float64],
        start: int,
        *,
        highest: np.uint64,
        offset: int,
    ) -> None:
        count = self.words(len(total))
        mask = np.uint64(self._field_max)
        for field in range(self.fields):
            shift = np.uint64(field * self.field_bits)
            first = field * count + start
            used = max(0, min(len(block), len(total) - first))
            # The last field is not masked: bits above it must be zero as well.
            levels = block >> shift if field == self.fields - 1 else (block >> shift) & mask
            if levels[:used].max(initial=0) > highest or levels[used:].any():
                raise ProtocolError(
                    "an opened sum is out of range; discard it, its masks did not cancel"
                )
            signed = levels[:used].view(np.int64)
            signed -= offset
            np.multiply(signed, self.step, out=total[first : first + used])


# Fields x bits, the fewest bytes first: 1.6, 2, 2.67 and 4 bytes a coordinate.
PACKINGS = ((5, 12), (4, 16), (3, 21), (2, 30))


def packed(
    parties: int,
    clip: float,
    precision: float,
    packings: Sequence[tuple[int, int]] = PACKINGS,
) -> FixedPoint:
    """Return the layout with the fewest bytes whose step is at most `precision` * `clip`.

    Args:
        parties: Most vectors that are ever added.
        clip: Bound on each coordinate's absolute value.
        precision: The largest step that rounding may take, in units of the clip, > 0.
        packings: Fields x bits to choose from, the fewest bytes first.

    Raises:
        InputError: none of them is so fine for so many parties.
    """
    for fields, bits in packings:
        if 2 * parties > (1 << bits) - 1:
            continue
        layout = FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=clip)
        if layout.step <= precision * clip:
            return layout
    raise InputError(
        f"no packing rounds {parties} members' updates as finely as {precision:g} of the clip; "
        "set a coarser update.precision"
    )


def narrow(parties: int, clip: float) -> FixedPoint:
    """Three fields of 21 bits: 2.67 bytes a coordinate."""
    return FixedPoint(parties=parties, fields=3, field_bits=21, clip=clip)


def wide(parties: int, clip: float = 2.0**34) -> FixedPoint:
    """One field of 63 bits: for counts and sums, where integers must stay exact."""
    return FixedPoint(parties=parties, fields=1, field_bits=63, clip=clip)
