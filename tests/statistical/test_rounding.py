"""Rounding has the right mean, masks look uniform; and each check is shown able to fail.

All draws come from fixed keys, so a result does not change from run to run. ALPHA is the chance
that a correct implementation would have failed on these keys.
"""

import hashlib
import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.fixed_point import narrow, wide
from privacy.identity import Identity
from privacy.keystream import Words, keystream_words, uniforms
from privacy.randomness import Entropy
from privacy.secure_sum import SumContext
from privacy.secure_sum.keys import admit, offer_key
from privacy.secure_sum.masked import MaskedSealer

ALPHA = 1e-6
DRAWS = 200_000  # finds a bias of 1 % of a step: the twin below shows it


def entropy(seed: str) -> Entropy:
    counter = itertools.count()

    def draw(count: int) -> bytes:
        blocks = (
            hashlib.sha256(f"{seed} {next(counter)}".encode()).digest()
            for _ in range(-(-count // 32))
        )
        return b"".join(blocks)[:count]

    return draw


def mean_p_value(rounded: NDArray[np.float64], true: float, step: float) -> float:
    """Two-sided, normal approximation; one rounding varies by f (1 - f) steps squared."""
    remainder = (true / step) % 1.0
    deviation = step * math.sqrt(remainder * (1 - remainder) / len(rounded))
    return math.erfc(abs(float(rounded.mean()) - true) / deviation / math.sqrt(2))


def uniform_p_value(counts: NDArray[np.int64]) -> float:
    """Chi-square against equal cells, every cell counted; Wilson and Hilferty's approximation."""
    expected = counts.sum() / len(counts)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    spread = 2 / (9 * freedom)
    normal = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(normal / math.sqrt(2))


@pytest.mark.parametrize("remainder", [0.5, 0.1, 0.93, 0.003])
@pytest.mark.parametrize("level", [-5, 0, 3])
@pytest.mark.parametrize("make", [narrow, wide])
def test_stochastic_rounding_is_unbiased(make: object, level: int, remainder: float) -> None:
    layout = narrow(12, 0.25) if make is narrow else wide(12)
    value = (level + remainder) * layout.step
    words = layout.encode(np.full(DRAWS, value), entropy(f"{level} {remainder}"))
    rounded = layout.decode_sum(words, DRAWS, 1)
    neighbours = {level * layout.step, (level + 1) * layout.step}
    assert set(np.unique(rounded)) == neighbours
    assert mean_p_value(rounded, value, layout.step) > ALPHA


@pytest.mark.parametrize("bias", [0.01, -0.01])
def test_the_check_finds_a_bias_of_a_hundredth_of_a_step(bias: float) -> None:
    layout = narrow(12, 0.25)
    words = layout.encode(np.full(DRAWS, (0.5 + bias) * layout.step), entropy("biased"))
    rounded = layout.decode_sum(words, DRAWS, 1)
    assert mean_p_value(rounded, 0.5 * layout.step, layout.step) < ALPHA


def test_the_check_finds_rounding_to_the_nearest() -> None:
    assert mean_p_value(np.full(DRAWS, 0.0), 0.3, 1.0) < ALPHA


def test_roundings_of_two_coordinates_and_two_calls_are_unrelated() -> None:
    layout = narrow(12, 0.25)
    source = entropy("pairs")
    values = np.full(DRAWS, 0.5 * layout.step)
    first = layout.decode_sum(layout.encode(values, source), DRAWS, 1) > 0
    second = layout.decode_sum(layout.encode(values, source), DRAWS, 1) > 0
    for one, other in ((first[:-1], first[1:]), (first, second), (first[::-1], second)):
        cells = np.bincount(2 * one + other, minlength=4)
        assert uniform_p_value(cells) > ALPHA


@pytest.mark.parametrize("bits", [1, 8, 12])
def test_uniforms_fill_their_cells_evenly(bits: int) -> None:
    drawn = uniforms(DRAWS, entropy("uniforms"))
    high = (drawn * 2**bits).astype(np.int64)
    low = (drawn * 2.0**53).astype(np.int64) & (2**bits - 1)
    for cells in (high, low):
        assert uniform_p_value(np.bincount(cells, minlength=2**bits)) > ALPHA


def masked_zeros(name: str, *, round_index: int = 1, count: int = 100_000) -> Words:
    """What a member sends that has nothing to say: its masks alone."""
    source = entropy("federation")
    identities = {member: Identity.create(source) for member in ("a", "b", "c")}
    directory = {member: identity.public for member, identity in identities.items()}
    made = {
        member: offer_key(identity, member, run=b"run", directory=directory, entropy=source)
        for member, identity in identities.items()
    }
    roster = admit(
        (offer for _, offer in made.values()), run=b"run", directory=directory, minimum=3
    )
    sealer = MaskedSealer(name, identities[name], made[name][0], roster)
    context = SumContext(b"run", "update", round_index, bytes(32), bytes(32), roster.digest)
    sealed = sealer.seal(np.zeros(count, np.uint64), context=context)
    return np.frombuffer(sealed.payload, "<u8").astype(np.uint64)


def byte_p_values(words: Words) -> list[float]:
    """One for each of the eight bytes of a word."""
    columns = words.view(np.uint8).reshape(-1, 8)
    return [uniform_p_value(np.bincount(column, minlength=256)) for column in columns.T]


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_masks_are_uniform_in_every_byte(name: str) -> None:
    words = masked_zeros(name)
    assert min(byte_p_values(words)) > ALPHA
    assert min(byte_p_values(np.diff(words))) > ALPHA


def test_masks_of_two_members_or_two_rounds_are_unrelated() -> None:
    first = masked_zeros("a")
    assert min(byte_p_values(first + masked_zeros("b"))) > ALPHA
    assert min(byte_p_values(first - masked_zeros("a", round_index=2))) > ALPHA


@pytest.mark.parametrize(
    "broken",
    [
        lambda words: words >> np.uint64(1),  # a bit that is never set
        lambda words: np.where(words % np.uint64(50), words, np.uint64(0)),  # 2 % of gaps
        lambda words: words & ~(words >> np.uint64(9) & np.uint64(1)),  # two bits tied
        lambda words: np.repeat(words[::2], 2) * np.uint64(2),
    ],
)
def test_the_uniformity_check_can_fail(broken: object) -> None:
    assert callable(broken)
    words = keystream_words(bytes(32), 100_000)
    assert min(byte_p_values(words)) > ALPHA
    assert min(byte_p_values(broken(words))) < ALPHA


def test_a_cell_that_is_never_visited_is_noticed() -> None:
    cells = np.full(256, 400)
    cells[7] = 0
    assert uniform_p_value(cells) < ALPHA
    assert uniform_p_value(np.full(256, 400)) > ALPHA
