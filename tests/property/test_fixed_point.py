"""For any layout and any vectors: no carries, bounded error, exact multiples of the step."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import InputError, ProtocolError
from privacy.fixed_point import PACKINGS, FixedPoint, narrow, packed, wide
from privacy.keystream import Words
from privacy.randomness import Entropy, system_bytes
from privacy.secure_sum.schemes import SCHEMES

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
PARTIES = st.integers(1, 64)
CLIPS = st.floats(2.0**-40, 2.0**40)
KEYS = st.binary(min_size=32, max_size=32)


def _entropy(key: bytes) -> Entropy:
    return lambda _: key


def limit(bits: int) -> int:
    """The most parties for whom a field has room at all: one level up and one down for each."""
    return ((1 << bits) - 1) // 2


@st.composite
def layouts(draw: st.DrawFn) -> FixedPoint:
    parties = draw(PARTIES)
    bits = draw(st.integers(8, 63))
    fields = draw(st.integers(1, 64 // bits))
    return FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=draw(CLIPS))


@st.composite
def packings(draw: st.DrawFn) -> FixedPoint:
    """Any packing that a run may use, with any number of parties up to its limit."""
    fields, bits = draw(st.sampled_from([*PACKINGS, (1, 63), (2, 21), (1, 42), (2, 19), (1, 38)]))
    parties = draw(st.one_of(PARTIES, st.integers(1, limit(bits)), st.just(limit(bits))))
    return FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=draw(CLIPS))


def _fields(layout: FixedPoint, words: Words) -> list[list[int]]:
    mask = (1 << layout.field_bits) - 1
    return [
        [int(word) >> layout.field_bits * field & mask for field in range(layout.fields)]
        for word in words
    ]


@UNHURRIED
@given(layouts(), KEYS, st.data())
def test_any_number_of_extreme_vectors_carries_into_no_field(
    layout: FixedPoint, key: bytes, data: st.DataObject
) -> None:
    ends = st.sampled_from([-1.0, 1.0])
    length = data.draw(st.integers(1, 3 * layout.fields))
    total = np.zeros(layout.words(length), np.uint64)
    by_field = [[0] * layout.fields for _ in total]
    for _ in range(layout.parties):
        signs = data.draw(ends)
        words = layout.encode(np.full(length, signs * layout.clip * 2), _entropy(key))
        total += words
        for sums, levels in zip(by_field, _fields(layout, words), strict=True):
            for field, level in enumerate(levels):
                sums[field] += level
    assert _fields(layout, total) == by_field
    assert max(max(sums) for sums in by_field) < 2**layout.field_bits


@UNHURRIED
@given(packings(), KEYS, st.data())
def test_every_packing_has_room_for_all_its_parties(
    layout: FixedPoint, key: bytes, data: st.DataObject
) -> None:
    """All at the clip, which is the most; some at each end; some in between."""
    parties, length = layout.parties, 2 * layout.fields + 1
    lower = data.draw(st.integers(0, parties))
    between = np.array(
        data.draw(st.lists(st.floats(-layout.clip, layout.clip), min_size=length, max_size=length))
    )
    counts = [(layout.clip, parties - lower), (-layout.clip, lower)]
    for groups in ([(layout.clip, parties)], [(-layout.clip, parties)], counts):
        words = np.zeros(layout.words(length), np.uint64)
        exact = [[0] * layout.fields for _ in words]
        # The last of them says something in between.
        last = layout.encode(between, _entropy(key))
        vectors = [
            (layout.encode(np.full(length, value), _entropy(key)), count)
            for value, count in groups
            if count
        ]
        first, count = vectors[0]
        vectors = [(first, count - 1), *vectors[1:], (last, 1)]
        for vector, times in vectors:
            words += vector * np.uint64(times)
            for sums, levels in zip(exact, _fields(layout, vector), strict=True):
                for field, level in enumerate(levels):
                    sums[field] += level * times
        assert _fields(layout, words) == exact
        assert max(max(sums) for sums in exact) < 2**layout.field_bits
        decoded = layout.decode_sum(words, length, parties)
        whole = sum((Fraction(value) * times for value, times in groups), Fraction(0))
        whole -= Fraction(groups[0][0] if groups[0][1] else groups[1][0])
        for found, value in zip(decoded.tolist(), between.tolist(), strict=True):
            error = abs(Fraction(found) - whole - Fraction(value))
            assert error <= Fraction(layout.worst_error(parties))


@pytest.mark.parametrize(("fields", "bits"), [*PACKINGS, (1, 63)])
def test_every_number_of_parties_has_headroom_up_to_the_limit(fields: int, bits: int) -> None:
    """No sampling: the fullest field of each number of parties, and one party too many."""
    for parties in {*range(1, 2049), *(limit(bits) >> shift for shift in range(bits - 1))}:
        if parties > limit(bits):
            continue
        layout = FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=1.0)
        assert parties * 2 * layout.levels < 2**bits
        assert layout.levels * layout.step >= layout.clip
        # The step is the finest: half of it would leave no room.
        assert parties * 2 * math.ceil(2 * Fraction(1) / Fraction(layout.step)) >= 2**bits
    with pytest.raises(ValueError, match="too few"):
        FixedPoint(parties=limit(bits) + 1, fields=fields, field_bits=bits, clip=1.0)


@pytest.mark.parametrize(("fields", "bits"), [*PACKINGS, (1, 63)])
def test_one_party_too_many_carries_and_is_noticed(fields: int, bits: int) -> None:
    """The twin: at the limit, one more at the maximum leaves its field."""
    layout = FixedPoint(parties=limit(bits), fields=fields, field_bits=bits, clip=1.0)
    assert layout.levels == 1
    words = layout.encode(np.ones(fields), _entropy(bytes(32)))
    full = words * np.uint64(layout.parties)
    most = float(layout.parties)
    assert layout.decode_sum(full, fields, layout.parties).tolist() == [most] * fields
    one_more = full + words
    wanted = [[level * (layout.parties + 1) for level in row] for row in _fields(layout, words)]
    assert _fields(layout, one_more) != wanted
    with pytest.raises(ValueError, match="parties_summed"):
        layout.decode_sum(one_more, fields, layout.parties + 1)
    if fields * bits == 64:  # the last carry is lost, so these words are a smaller sum's
        assert max(layout.decode_sum(one_more, fields, layout.parties).tolist()) < 0
    else:
        with pytest.raises(ProtocolError, match="out of range"):
            layout.decode_sum(one_more, fields, layout.parties)


def test_words_of_one_party_too_many_are_out_of_range() -> None:
    for fields, bits in PACKINGS:
        layout = FixedPoint(parties=12, fields=fields, field_bits=bits, clip=1.0)
        words = layout.encode(np.ones(fields), system_bytes)
        for summed in range(1, 12):
            with pytest.raises(ProtocolError, match="out of range"):
                layout.decode_sum(words * np.uint64(summed + 1), fields, summed)


@UNHURRIED
@given(PARTIES, CLIPS, KEYS)
def test_the_fullest_sum_still_decodes(parties: int, clip: float, key: bytes) -> None:
    for layout in (narrow(parties, clip), wide(parties, clip)):
        words = layout.encode(np.full(4, clip), _entropy(key))
        total = layout.decode_sum(words * np.uint64(parties), 4, parties)
        assert np.abs(total - parties * clip).max() <= layout.worst_error(parties)


def test_the_headroom_check_can_fail() -> None:
    layout = narrow(64, clip=1.0)
    words = layout.encode(np.full(3, 1.0), _entropy(bytes(32)))
    one_more = words * np.uint64(2 * layout.parties)
    assert _fields(layout, one_more) != [
        [level * 2 * layout.parties for level in levels] for levels in _fields(layout, words)
    ]


# --- which packing ---


@UNHURRIED
@given(
    st.integers(1, 3000),
    CLIPS,
    st.integers(-40, 0).map(lambda power: 2.0**power) | st.floats(2.0**-40, 2.0),
    st.sampled_from(sorted(SCHEMES)),
)
def test_the_fewest_bytes_that_are_fine_enough_are_chosen_or_a_sentence_says_none_are(
    parties: int, clip: float, precision: float, name: str
) -> None:
    if name == "sealed" and parties > 768:
        return  # no parameters at all; see the scheme's own tests
    choices = SCHEMES[name].packings(parties)
    assert list(choices) == sorted(choices, key=lambda choice: -choice[0])
    fine = []
    for fields, bits in choices:
        if parties <= limit(bits):
            layout = FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=clip)
            if layout.step <= precision * clip:
                fine.append(layout)
    if fine:
        assert SCHEMES[name].update_layout(parties, clip, precision) == fine[0]
        assert all(fine[0].fields >= other.fields for other in fine)
    else:
        with pytest.raises(InputError, match=r"^no packing rounds .* members' .*; set a coarser"):
            SCHEMES[name].update_layout(parties, clip, precision)


@pytest.mark.parametrize(
    ("parties", "precision", "packing"),
    [
        (6, 2.0**-7, (5, 12)),
        (6, 2.0**-8, (5, 12)),
        (6, 2.0**-9, (4, 16)),
        (12, 2.0**-7, (5, 12)),
        (12, 2.0**-12, (3, 21)),
        (12, 2.0**-16, (3, 21)),
        (12, 2.0**-17, (2, 30)),
        (200, 2.0**-11, (3, 21)),
        (3000, 1.0, (4, 16)),
    ],
)
def test_more_members_or_finer_steps_take_more_bytes(
    parties: int, precision: float, packing: tuple[int, int]
) -> None:
    layout = packed(parties, 0.25, precision)
    assert (layout.fields, layout.field_bits) == packing
    assert layout.step <= precision * 0.25


@pytest.mark.parametrize(("place", "bits"), [(0, 12), (1, 16), (2, 21)])
def test_a_packing_serves_as_many_parties_as_its_fields_have_room_for(
    place: int, bits: int
) -> None:
    choices = PACKINGS[place : place + 2]
    assert packed(limit(bits), 1.0, 1.0, choices).field_bits == bits
    assert packed(limit(bits) + 1, 1.0, 1.0, choices).field_bits == choices[1][1]


def test_a_packing_that_no_party_fits_is_passed_over() -> None:
    assert packed(5000, 1.0, 2.0).field_bits == 16  # 12 bits have no room for so many
    with pytest.raises(InputError, match="5000 members"):
        packed(5000, 1.0, 1.0, [(5, 12)])
    with pytest.raises(InputError, match=r"1e-12 of the clip; set a coarser update\.precision"):
        packed(12, 1.0, 1e-12)


# --- errors and exactness ---


@UNHURRIED
@given(layouts(), st.data())
def test_the_decoded_sum_is_within_the_stated_error(
    layout: FixedPoint, data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, 7))
    count = data.draw(st.integers(1, min(layout.parties, 5)))
    numbers = st.floats(-1.5 * layout.clip, 1.5 * layout.clip)
    vectors = [data.draw(st.lists(numbers, min_size=length, max_size=length)) for _ in range(count)]
    total = np.zeros(layout.words(length), np.uint64)
    for vector in vectors:
        total += layout.encode(np.array(vector), _entropy(data.draw(KEYS)))
    decoded = layout.decode_sum(total, length, count)
    for index in range(length):
        clamped = (min(max(vector[index], -layout.clip), layout.clip) for vector in vectors)
        true = sum((Fraction(value) for value in clamped), Fraction(0))
        assert abs(Fraction(float(decoded[index])) - true) <= Fraction(layout.worst_error(count))


@UNHURRIED
@given(PARTIES, st.lists(st.integers(-(2**34), 2**34), min_size=1, max_size=9), KEYS)
def test_integers_are_exact_in_wide(parties: int, numbers: list[int], key: bytes) -> None:
    layout = wide(parties)
    words = layout.encode(np.array(numbers, np.float64), _entropy(key))
    total = layout.decode_sum(words * np.uint64(parties), len(numbers), parties)
    assert total.tolist() == [parties * number for number in numbers]


@UNHURRIED
@given(layouts(), st.data())
def test_multiples_of_the_step_are_exact_whatever_the_rounding_draws(
    layout: FixedPoint, data: st.DataObject
) -> None:
    most = min(int(Fraction(layout.clip) / Fraction(layout.step)), 2**53)
    steps = data.draw(st.lists(st.integers(-most, most), min_size=1, max_size=6))
    values = np.array(steps, np.float64) * layout.step
    words = layout.encode(values, _entropy(data.draw(KEYS)))
    assert layout.decode_sum(words, len(steps), 1).tolist() == values.tolist()
