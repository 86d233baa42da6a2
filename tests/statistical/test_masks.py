"""Masks and random fractions look uniform; and each check is shown able to fail.

All draws come from fixed keys, so a result does not change from run to run. ALPHA is the chance
that a correct implementation would have failed on these keys.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.fixed_point import PACKINGS, packed
from privacy.identity import Identity
from privacy.keystream import Words, keystream_words, uniforms
from privacy.randomness import Entropy
from privacy.secure_sum import SealedVector
from privacy.secure_sum.carrier import WordWrap, Wrap
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.keys import admit, offer_key
from privacy.secure_sum.lattice import BfvKey, BfvWrap, bfv_parameters
from privacy.secure_sum.sealer import Sealer
from privacy.sum_context import SumContext

ALPHA = 1e-6
DRAWS = 200_000
MEMBERS = ("a", "b", "c")


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


def sealed(words: Words, name: str, *, round_index: int = 1) -> tuple[SealedVector, Sealer]:
    """What `name` sends to say `words`; every key is the same in each call."""
    source = entropy("federation")
    identities = {member: Identity.create(source) for member in MEMBERS}
    directory = {member: identity.public for member, identity in identities.items()}
    made = {
        member: offer_key(identity, member, run=b"run", directory=directory, entropy=source)
        for member, identity in identities.items()
    }
    roster = admit(
        (offer for _, offer in made.values()), run=b"run", directory=directory, minimum=3
    )
    cohort = Cohort(roster, roster.members, 3)
    sealer = Sealer(
        name,
        identities[name],
        made[name][0],
        roster,
        scheme="masked",
        wrap=WordWrap(),
        masked=True,
        entropy=entropy(f"{name} in round {round_index}"),
    )
    context = SumContext(
        run=b"run",
        step="update",
        round=round_index,
        schema=bytes(32),
        model=bytes(32),
        history=bytes(32),
        roster=roster.digest,
        cohort=cohort.digest,
        keys=bytes(32),
    )
    return sealer.seal(words, bits=64, context=context, cohort=cohort), sealer


def sent(words: Words, name: str, *, round_index: int = 1) -> Words:
    vector, _ = sealed(words, name, round_index=round_index)
    return np.frombuffer(vector.payload, "<u8").astype(np.uint64)


def masked_zeros(name: str, *, round_index: int = 1) -> Words:
    """What a member sends that has nothing to say: its masks alone."""
    return sent(np.zeros(100_000, np.uint64), name, round_index=round_index)


def byte_p_values(words: Words) -> list[float]:
    """One for each of the eight bytes of a word."""
    columns = words.view(np.uint8).reshape(-1, 8)
    return [uniform_p_value(np.bincount(column, minlength=256)) for column in columns.T]


@pytest.mark.parametrize("name", MEMBERS)
def test_masks_are_uniform_in_every_byte(name: str) -> None:
    words = masked_zeros(name)
    assert min(byte_p_values(words)) > ALPHA
    assert min(byte_p_values(np.diff(words))) > ALPHA


@pytest.mark.parametrize("value", [0.0, 0.25, -0.25, 0.1])
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_sealed_update_is_uniform_in_every_byte_and_an_encoded_one_is_not(
    packing: tuple[int, int], value: float
) -> None:
    layout = packed(12, 0.25, 1.0, [packing])
    encoded = layout.encode(np.full(100_000 * layout.fields, value), entropy("rounding"))
    assert min(byte_p_values(sent(encoded, "b"))) > ALPHA
    assert max(byte_p_values(encoded)) < ALPHA


def test_masks_of_two_members_or_two_rounds_are_unrelated() -> None:
    first = masked_zeros("a")
    assert min(byte_p_values(first + masked_zeros("b"))) > ALPHA
    assert min(byte_p_values(first - masked_zeros("a", round_index=2))) > ALPHA


def test_the_sum_of_all_vectors_is_still_hidden_by_the_members_own_masks() -> None:
    """Masks of pairs cancel in it; each one's own does not."""
    total = masked_zeros("a") + masked_zeros("b") + masked_zeros("c")
    assert min(byte_p_values(total)) > ALPHA


def test_without_own_masks_the_sum_would_be_in_the_clear() -> None:
    """The twin of the check above: what is left of it when the pairs' masks alone are used."""
    assert not (pair_masks("a") + pair_masks("b") + pair_masks("c")).any()


def pair_masks(name: str, *, round_index: int = 1) -> Words:
    """What is left of a member's masks without its own: the first key that a sealer draws."""
    own = keystream_words(entropy(f"{name} in round {round_index}")(32), 100_000)
    return masked_zeros(name, round_index=round_index) - own


def test_masks_of_a_pair_are_uniform_and_new_in_every_round() -> None:
    first, second = pair_masks("a"), pair_masks("a", round_index=2)
    for words in (first, second, first - second, first + pair_masks("b", round_index=2)):
        assert min(byte_p_values(words)) > ALPHA
    # The twin: what cancels in one round is not there to be noticed.
    total = first + pair_masks("b") + pair_masks("c")
    assert max(byte_p_values(total)) < ALPHA


def test_shares_boxes_and_commitments_are_uniform_bytes() -> None:
    boxes, hashes = b"", b""
    for round_index in range(800):
        vector, _ = sealed(np.zeros(1, np.uint64), "b", round_index=round_index)
        boxes += b"".join(vector.boxes.values())
        hashes += b"".join(vector.commitments)
    for data in (boxes, hashes):
        counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        assert uniform_p_value(counts) > ALPHA


def residue_p_values(numbers: Words, modulus: int) -> Sequence[float]:
    """Of the value's place below the modulus, and of its lowest byte."""
    places = (numbers.astype(np.float64) * (256 / modulus)).astype(np.int64)
    return (
        uniform_p_value(np.bincount(places, minlength=256)),
        uniform_p_value(np.bincount(numbers.astype(np.int64) & 255, minlength=256)),
    )


@pytest.mark.parametrize("parties", [12, 192, 768])
def test_masks_under_encryption_are_uniform_below_the_plain_modulus(parties: int) -> None:
    modulus = bfv_parameters(parties).plain_modulus
    wrap: Wrap = BfvWrap(BfvKey.create(parties))
    zeros = np.zeros(DRAWS, np.uint64)
    keys = [entropy(f"key {index}")(32) for index in range(3)]
    one = wrap.shift(zeros, added=keys[:1], subtracted=())
    many = wrap.shift(zeros, added=keys[:1], subtracted=keys[1:])
    for numbers in (one, many, wrap.shift(zeros, added=(), subtracted=keys[:1])):
        assert min(residue_p_values(numbers, modulus)) > ALPHA
    # The twin: masks that end at a power of two below the modulus are noticed.
    short = one & np.uint64((1 << (modulus.bit_length() - 2)) - 1)
    assert min(residue_p_values(short, modulus)) < ALPHA


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
