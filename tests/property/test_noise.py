"""For any key, count and deviation: range and scale; for any words: exact comparisons."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import noise
from privacy.fixed_point import FixedPoint
from privacy.keystream import Words
from privacy.noise import TAIL, discrete_gaussian, gaussian
from privacy.randomness import Entropy, system_bytes

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
COUNTS = st.integers(0, 300)
KEYS = st.binary(min_size=32, max_size=32)
WORD = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**63, 2**64 - 1]))


def entropy(key: bytes) -> Entropy:
    return lambda _: key


@UNHURRIED
@given(COUNTS, st.floats(1e-300, 1e300), KEYS)
def test_no_gaussian_leaves_its_reach(count: int, deviation: float, key: bytes) -> None:
    values = gaussian(count, deviation, entropy(key))
    assert values.shape == (count,)
    assert values.dtype == np.float64
    assert (np.abs(values) <= 13.3 * deviation).all()


@UNHURRIED
@given(COUNTS, st.floats(0.5, 2), st.integers(-100, 100), KEYS)
def test_a_power_of_two_scales_every_value_exactly(
    count: int, deviation: float, power: int, key: bytes
) -> None:
    plain = gaussian(count, deviation, entropy(key))
    scaled = gaussian(count, math.ldexp(deviation, power), entropy(key))
    np.testing.assert_array_equal(scaled, np.ldexp(plain, power))


@UNHURRIED
@given(st.integers(1, 100), st.floats(1e-3, 100), st.data(), KEYS)
def test_a_share_with_its_room_left_is_never_clamped(
    count: int, deviation: float, data: st.DataObject, key: bytes
) -> None:
    """The room that `docs/noise-and-rounding.md` asks a caller to leave: TAIL deviations."""
    layout = FixedPoint(parties=3, fields=1, field_bits=40, clip=1.25 * TAIL * deviation)
    limit = layout.clip - TAIL * deviation
    shares = data.draw(st.lists(st.floats(-1e9, 1e9), min_size=count, max_size=count))
    kept = np.clip(np.array(shares), -limit, limit)
    noisy = kept + gaussian(count, deviation, entropy(key))
    opened = layout.decode_sum(layout.encode(noisy, system_bytes), count, 1)
    assert (np.abs(opened - noisy) < layout.step).all()


RATIONALS = st.fractions(min_value=Fraction(1, 1000), max_value=1000, max_denominator=10**9)


@settings(deadline=None, max_examples=30)
@given(COUNTS, st.one_of(RATIONALS, st.floats(1e-3, 1e6)), KEYS)
def test_discrete_noise_is_of_integers_near_zero(
    count: int, deviation: Fraction | float, key: bytes
) -> None:
    values = discrete_gaussian(count, deviation, entropy(key))
    assert values.shape == (count,)
    assert values.dtype == np.int64
    assert (np.abs(values) <= TAIL * float(deviation) + 1).all()


@UNHURRIED
@given(st.floats(1e-3, 1e6), KEYS)
def test_a_float_deviation_is_the_fraction_that_it_is(deviation: float, key: bytes) -> None:
    one = discrete_gaussian(20, deviation, entropy(key))
    other = discrete_gaussian(20, Fraction(deviation), entropy(key))
    np.testing.assert_array_equal(one, other)


class Tape:
    """Words in the order in which they are drawn; zeros or ones when they run out."""

    def __init__(self, words: list[int], then: int) -> None:
        self._words = words
        self._then = then
        self.drawn = 0

    def draw(self, count: int) -> Words:
        return np.array([next(self) for _ in range(count)], dtype=np.uint64)

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.drawn += 1
        return self._words[self.drawn - 1] if self.drawn <= len(self._words) else self._then

    def toss(self, chance: Fraction) -> bool:
        """Compare a uniform real with a chance, 63 bits at a time, in rationals throughout."""
        low, width = Fraction(0), Fraction(1)
        while True:
            width /= 2**63
            low += (next(self) >> 1) * width
            if low + width <= chance:
                return True
            if low >= chance:
                return False


@st.composite
def near_words(draw: st.DrawFn, chance: Fraction) -> int:
    """A word that is likely to tie with a chance, or to miss a tie by one."""
    level = (chance.numerator << 63) // chance.denominator
    return min(max(2 * level + draw(st.integers(-3, 3)), 0), 2**64 - 1)


@UNHURRIED
@given(st.integers(1, 10**30), st.data())
def test_one_coin_is_von_neumanns_in_rationals(denominator: int, data: st.DataObject) -> None:
    """Algorithm 1 of Canonne, Kamath and Steinke, word by word, ties included."""
    numerator = data.draw(st.integers(0, denominator))
    exponent = Fraction(numerator, denominator)
    chances = [exponent / turn for turn in range(1, 5)]
    word = st.one_of(WORD, *(near_words(chance) for chance in chances))
    words = data.draw(st.lists(word, max_size=6))
    reference, tape = (Tape(words, then=2**64 - 2) for _ in range(2))
    turn = 1
    while reference.toss(exponent / turn):
        turn += 1
    heads = noise._exp_minus([numerator], denominator, tape.draw)
    assert heads.tolist() == [turn % 2 == 1]
    assert tape.drawn == reference.drawn


@UNHURRIED
@given(st.integers(1, 10**40), st.integers(0, 3), st.lists(WORD, max_size=2), st.data())
def test_a_rational_chance_is_compared_exactly(
    denominator: int, ties: int, words: list[int], data: st.DataObject
) -> None:
    """Words that begin as the chance does, and then differ."""
    chance = Fraction(data.draw(st.integers(0, denominator - 1)), denominator)
    digits = math.floor(chance * 2 ** (63 * ties))
    tied = [2 * (digits >> 63 * place & (2**63 - 1)) for place in reversed(range(ties))]
    last = math.floor(chance * 2 ** (63 * ties + 63)) & (2**63 - 1)
    near = 2 * min(max(last + data.draw(st.integers(-1, 1)), 0), 2**63 - 1)
    tape = [*tied, near, *words]
    uniform = sum(Fraction(word >> 1, 2 ** (63 * place)) for place, word in enumerate(tape, 1))
    won = noise._below(chance.numerator, chance.denominator, Tape(tape, then=0).draw)
    assert won == (uniform < chance)
