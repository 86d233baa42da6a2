"""Masks and random fractions look uniform; and each check is shown able to fail.

All draws come from fixed keys, so a result does not change from run to run. ALPHA is the chance
that a correct implementation would have failed on these keys.
"""

import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.fixed_point import narrow
from privacy.identity import Identity
from privacy.keystream import Words, keystream_words, uniforms
from privacy.randomness import Entropy
from privacy.secure_sum import SumContext
from privacy.secure_sum.keys import admit, offer_key
from privacy.secure_sum.masked import MaskedSealer

ALPHA = 1e-6
DRAWS = 200_000


def entropy(seed: str) -> Entropy:
    return random.Random(seed).randbytes


def uniform_p_value(counts: NDArray[np.int64]) -> float:
    """Chi-square against equal cells, every cell counted; Wilson and Hilferty's approximation."""
    expected = counts.sum() / len(counts)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    spread = 2 / (9 * freedom)
    normal = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(normal / math.sqrt(2))


@pytest.mark.parametrize("bits", [1, 8, 12])
def test_uniforms_fill_their_cells_evenly(bits: int) -> None:
    drawn = uniforms(DRAWS, entropy("uniforms"))
    high = (drawn * 2**bits).astype(np.int64)
    low = (drawn * 2.0**53).astype(np.int64) & (2**bits - 1)
    for cells in (high, low):
        assert uniform_p_value(np.bincount(cells, minlength=2**bits)) > ALPHA


def sent(words: Words, name: str, *, round_index: int = 1) -> Words:
    """What `name` sends to say `words`."""
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
    sealed = sealer.seal(words, context=context)
    return np.frombuffer(sealed.payload, "<u8").astype(np.uint64)


def masked_zeros(name: str, *, round_index: int = 1) -> Words:
    """What a member sends that has nothing to say: its masks alone."""
    return sent(np.zeros(100_000, np.uint64), name, round_index=round_index)


def byte_p_values(words: Words) -> list[float]:
    """One for each of the eight bytes of a word."""
    columns = words.view(np.uint8).reshape(-1, 8)
    return [uniform_p_value(np.bincount(column, minlength=256)) for column in columns.T]


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_masks_are_uniform_in_every_byte(name: str) -> None:
    words = masked_zeros(name)
    assert min(byte_p_values(words)) > ALPHA
    assert min(byte_p_values(np.diff(words))) > ALPHA


@pytest.mark.parametrize("value", [0.0, 0.25, -0.25, 0.1])
def test_a_sealed_update_is_uniform_in_every_byte_and_an_encoded_one_is_not(value: float) -> None:
    encoded = narrow(12, 0.25).encode(np.full(300_000, value), entropy("rounding"))
    assert min(byte_p_values(sent(encoded, "b"))) > ALPHA
    assert max(byte_p_values(encoded)) < ALPHA


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
