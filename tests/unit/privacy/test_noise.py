import math
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy import noise
from privacy.keystream import KEY_BYTES, Words, keystream_words
from privacy.noise import TAIL, TAIL_CHANCE, discrete_gaussian, gaussian
from privacy.randomness import Entropy, system_bytes

KEY = bytes(range(KEY_BYTES))
Sampler = Callable[[int, float, Entropy], NDArray[np.float64] | NDArray[np.int64]]
SAMPLERS = pytest.mark.parametrize("sampler", [gaussian, discrete_gaussian])


def fixed(count: int) -> bytes:
    assert count == KEY_BYTES
    return KEY


def scripted(words: Iterable[int]) -> Callable[[int], Words]:
    """Draw these words in order; running out is an error."""
    left = iter(words)
    return lambda count: np.array([next(left) for _ in range(count)], dtype=np.uint64)


@SAMPLERS
@pytest.mark.parametrize("count", [0, 1, 2, 3, 8191, 8192, 8193, 20_001])
def test_every_count_is_made_of_at_most_one_key(sampler: Sampler, count: int) -> None:
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return KEY

    values = sampler(count, 1e9, entropy)
    assert values.shape == (count,)
    assert len(asked) <= 1
    assert set(asked) <= {KEY_BYTES}
    assert len(np.unique(values)) >= 0.999 * count


@SAMPLERS
def test_another_key_gives_other_noise_and_the_same_key_the_same(sampler: Sampler) -> None:
    # two integers of this deviation are equal with a chance of 1 / (2 sqrt(pi) 1e12) = 3e-13
    first, second = (sampler(100, 1e12, system_bytes) for _ in range(2))
    assert not (first == second).any()
    np.testing.assert_array_equal(sampler(100, 1e12, fixed), sampler(100, 1e12, fixed))


def test_no_deviation_is_no_noise_and_takes_no_key() -> None:
    def none(count: int) -> bytes:
        raise AssertionError(count)

    np.testing.assert_array_equal(gaussian(5, 0.0, none), np.zeros(5))


@pytest.mark.parametrize("deviation", [-1.0, -1e-300, math.nan, math.inf, -math.inf, 1e308])
def test_a_deviation_that_cannot_be_meant_is_refused(deviation: float) -> None:
    with pytest.raises(ValueError, match="finite deviation"):
        gaussian(3, deviation, system_bytes)


@pytest.mark.parametrize("deviation", [0.0, -1.0, math.nan, math.inf, 2.0**41, Fraction(-1, 3)])
def test_a_discrete_deviation_out_of_range_is_refused(deviation: float | Fraction) -> None:
    with pytest.raises(ValueError, match="deviation"):
        discrete_gaussian(3, deviation, system_bytes)


@SAMPLERS
def test_a_negative_count_is_refused(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="count"):
        sampler(-1, 1.0, system_bytes)


def test_a_pair_is_box_and_mullers_of_three_words() -> None:
    high, low, angle = (word >> 1 for word in keystream_words(KEY, 3).tolist())
    uniform = (high * 2**63 + low + 0.5) / 2**126
    radius = 2.5 * math.sqrt(-2 * math.log(uniform))
    turn = 2 * math.pi * angle / 2**63
    expected = [radius * math.cos(turn), radius * math.sin(turn)]
    np.testing.assert_allclose(gaussian(2, 2.5, fixed), expected, rtol=1e-13)
    np.testing.assert_allclose(gaussian(1, 2.5, fixed), expected[:1], rtol=1e-13)


def polar(*words: int) -> tuple[float, float]:
    radius, angle = noise._polar(np.array(words, dtype=np.uint64), 1.0)
    return float(radius[0]), float(angle[0])


def test_no_word_makes_a_radius_that_is_not_finite() -> None:
    farthest, _ = polar(0, 0, 0)
    assert farthest == pytest.approx(math.sqrt(2 * 127 * math.log(2)))
    assert farthest < noise._REACH < TAIL
    nearest, angle = polar(*[2**64 - 1] * 3)
    assert nearest == 0
    assert angle <= 2 * math.pi


def test_a_far_radius_still_has_all_its_bits() -> None:
    """With 53 bits the values beyond eight deviations would lie on a coarse lattice."""
    step = 1 << 12
    radii = [polar(2, low * step, 0)[0] for low in range(1 << 51, (1 << 51) + 100)]
    assert len(set(radii)) > 1
    assert 8.0 < min(radii) == radii[-1] < max(radii) == radii[0]


def test_the_tail_is_as_thin_as_it_says() -> None:
    assert math.erfc(TAIL / math.sqrt(2)) < TAIL_CHANCE
    assert math.sqrt(2 / math.pi) * math.exp(-(TAIL**2) / 2) / TAIL < TAIL_CHANCE
    assert math.erfc((TAIL - 0.2) / math.sqrt(2)) > TAIL_CHANCE  # and not much thinner


UNIT = 2.0**-53
needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 60, reason="this machine's long double is no longer"
)


@needs_long_double
def test_log_sine_and_cosine_are_as_accurate_as_the_argument_needs() -> None:
    """`docs/noise-and-rounding.md` counts on 4 units in the last place."""
    uniform = (keystream_words(KEY, 200_000) >> np.uint64(11)).astype(np.float64) * UNIT
    near_one = 1.0 - uniform * 2.0**-20
    tiny = np.ldexp(0.5 + uniform / 2, -(np.arange(len(uniform)) % 126))
    for points in (uniform, near_one, tiny):
        exact = np.log(points.astype(np.longdouble))
        assert (np.abs(np.log(points) - exact) <= 4 * np.spacing(np.abs(np.log(points)))).all()
    angles = uniform * 2 * math.pi
    for function in (np.sin, np.cos):
        exact = function(angles.astype(np.longdouble))
        # Of values below 1/2 only the absolute error matters.
        assert (np.abs(function(angles) - exact) <= 4 * UNIT).all()


@needs_long_double
def test_float64_moves_no_value_further_than_the_argument_allows() -> None:
    count = 1 << 13
    words = keystream_words(KEY, 3 * count // 2) >> np.uint64(1)
    high, low, angle = words.astype(np.longdouble).reshape(3, -1)
    uniform = np.ldexp(high + np.ldexp(low + np.longdouble(0.5), -63), -63)
    radius = np.sqrt(-2 * np.log(uniform))
    pi = 4 * np.arctan(np.longdouble(1))
    turn = 2 * pi * np.ldexp(angle, -63)
    exact = np.concatenate([radius * np.cos(turn), radius * np.sin(turn)])
    allowed = np.tile(UNIT * (31 * radius + 6.1 / radius), 2)
    error = np.abs(gaussian(count, 1.0, fixed) - exact)
    assert (error <= allowed).all()
    assert (error > 0.01 * allowed).any()  # the allowance is no free pass
    single = np.abs(gaussian(count, 1.0, fixed).astype(np.float32) - exact)
    assert (single > allowed).mean() > 0.9


@pytest.mark.parametrize("deviation", [Fraction(1, 10**6), 1e-300, 5e-324])
def test_a_tiny_discrete_deviation_gives_zeros(deviation: float | Fraction) -> None:
    assert not discrete_gaussian(200, deviation, fixed).any()


@pytest.mark.parametrize("deviation", [2**40, Fraction(2**40), 2.0**40 - 0.5])
def test_the_largest_discrete_deviation_is_served(deviation: float | Fraction) -> None:
    values = discrete_gaussian(2000, deviation, fixed)
    assert values.dtype == np.int64
    assert float(values.std()) == pytest.approx(2.0**40, rel=0.1)


def test_a_tie_of_63_bits_is_decided_by_the_next_ones() -> None:
    first, rest = divmod(1 << 63, 3)
    second = (rest << 63) // 3
    for word, heads in ((second - 1, True), (second + 1, False)):
        # Chance 1/3 at the first turn; heads there goes on to a second turn, lost by 2^63 - 1.
        words = [2 * first, 2 * word, *([2**64 - 1] if heads else [])]
        won = noise._exp_minus([1], 3, scripted(words))
        assert won.tolist() == [not heads]


def test_a_tie_with_nothing_left_is_no_win() -> None:
    """Chance 1/2 is the interval below 1/2, and the bits 100...0 are not in it."""
    assert noise._exp_minus([1], 2, scripted([1 << 63])).tolist() == [True]
    assert noise._exp_minus([1], 2, scripted([(1 << 63) - 1, 2**64 - 1])).tolist() == [False]


def test_a_coin_of_chance_one_is_always_won_and_of_zero_never() -> None:
    # n = d: turn 1 is won by any word; turn 2 has chance 1/2.
    assert noise._exp_minus([5], 5, scripted([2**64 - 1, 2**64 - 1])).tolist() == [False]
    # n = 0: lost at once, at an odd turn; the word 0 ties with the chance 0.
    assert noise._exp_minus([0], 5, scripted([0])).tolist() == [True]


@pytest.mark.parametrize("deviation", [1.0, 2.0, 2.5, 4.0])
def test_discrete_noise_has_its_law(deviation: float) -> None:
    """By the chi square test at 10^-6. The key is always this one, and so is the outcome."""
    count = 30_000
    drawn = discrete_gaussian(count, deviation, lambda size: bytes(range(size)))
    reach = math.ceil(8 * deviation)
    weights = [math.exp(-(x**2) / (2 * deviation**2)) for x in range(-reach, reach + 1)]
    due = {x: count * w / sum(weights) for x, w in enumerate(weights, -reach)}
    often = [x for x, expected in due.items() if expected >= 20]
    seen = [int((drawn == x).sum()) for x in often]
    terms = [(one - due[x]) ** 2 / due[x] for one, x in zip(seen, often, strict=True)]
    rare = count - sum(due[x] for x in often)  # all others together
    terms.append((count - sum(seen) - rare) ** 2 / rare)
    freedom = len(terms) - 1
    # Wilson and Hilferty 1931: the cube root of chi square over its freedom is nearly normal.
    normal = ((sum(terms) / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) * math.sqrt(
        9 * freedom / 2
    )
    assert normal < 4.75
    assert abs(drawn.mean()) < 5 * deviation / math.sqrt(count)
