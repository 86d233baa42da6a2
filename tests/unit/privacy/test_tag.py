import hmac
import random

import numpy as np
import pytest

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.fixed_point import PACKINGS, FixedPoint, wide
from privacy.keystream import Words, keystream_words
from privacy.randomness import system_bytes
from privacy.secure_sum.lattice import bfv_parameters
from privacy.secure_sum.schemes import SCHEMES
from privacy.secure_sum.tag import append_tag, check_tag, tag_key, tag_words

PARTIES = 12
KEY = tag_key(b"secret of the members, 32 bytes!", b"c" * 32)
SHAPES = [*PACKINGS, (2, 21), (1, 30), (1, 42), (1, 63)]
PART_BITS = 16  # of a tag in one word
LENGTHS = (1, 7, 2047, 2048, 2049, 16_384, 40_000)


def layout_of(fields: int, bits: int, parties: int = PARTIES) -> FixedPoint:
    return FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=1.0)


@pytest.fixture(name="layout", params=SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}bits")
def _layout(request: pytest.FixtureRequest) -> FixedPoint:
    return layout_of(*request.param)


def vector(layout: FixedPoint, length: int, seed: int = 0) -> Words:
    values = np.random.default_rng(seed).uniform(-1, 1, length * layout.fields)
    return layout.encode(values, system_bytes)


def tagged(layout: FixedPoint, words: Words, key: bytes = KEY) -> Words:
    return append_tag(words, layout=layout, key=key)


def summed(layout: FixedPoint, length: int, parties: int = PARTIES) -> Words:
    """The sum of tagged vectors, as a coordinator adds them up."""
    total = np.zeros(length + tag_words(layout), np.uint64)
    for seed in range(parties):
        total += tagged(layout, vector(layout, length, seed))
    return total


@pytest.mark.parametrize("length", LENGTHS)
def test_the_tag_of_a_sum_is_the_sum_of_tags(layout: FixedPoint, length: int) -> None:
    for parties in (1, 2, PARTIES):
        total = summed(layout, length, parties)
        body = check_tag(total, layout=layout, key=KEY, parties=parties)
        assert body.tolist() == total[:length].tolist()


def test_vectors_at_the_ends_of_their_range_add_up_too(layout: FixedPoint) -> None:
    for value in (-1.0, 1.0):
        words = layout.encode(np.full(5000 * layout.fields, value), system_bytes)
        total = tagged(layout, words) * np.uint64(PARTIES)
        check_tag(total, layout=layout, key=KEY, parties=PARTIES)


def joined(parts: Words) -> int:
    """The number that a tag's words are the parts of."""
    assert all(int(part) < 1 << PART_BITS for part in parts)
    return sum(int(part) << PART_BITS * place for place, part in enumerate(parts))


def constant() -> int:
    """The secret number that each vector's tag has besides its product."""
    return int.from_bytes(hmac.digest(KEY, b"constant", "sha256"), "big")


def stream(count: int) -> list[int]:
    return [int(word) for word in keystream_words(KEY, count)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("fields", "bits"), [*PACKINGS, (2, 21), (1, 30)])
def test_a_narrow_tag_is_two_affine_products_modulo_a_prime(
    fields: int, bits: int, *, full: bool
) -> None:
    """Written down once more, field by field, in plain integers; also where all are at most."""
    for count in (100, 2049, 6000):
        layout = layout_of(fields, bits)
        words = vector(layout, count)
        if full:
            words[:] = (1 << layout.word_bits) - 1
        drawn = stream(fields * count)  # below one block of words, field after field
        values = [
            int(word) >> bits * field & (1 << bits) - 1 for field in range(fields) for word in words
        ]
        first, second = constant() >> 128, constant() & 2**127 - 1
        wanted = [
            first + sum(value * (r >> 33) for value, r in zip(values, drawn, strict=True)),
            second + sum(value * (r & 2**31 - 1) for value, r in zip(values, drawn, strict=True)),
        ]
        found = tagged(layout, words)[count:]
        half = len(found) // 2
        assert [joined(found[:half]), joined(found[half:])] == [
            total % (2**31 - 1) for total in wanted
        ]


def test_a_wide_tag_is_an_affine_product_modulo_a_prime() -> None:
    layout = layout_of(1, 63)
    words = vector(layout, 100)
    drawn = stream(200)
    total = constant() + sum(
        int(word) * ((drawn[2 * place] << 64 | drawn[2 * place + 1]) >> 1)
        for place, word in enumerate(words)
    )
    assert joined(tagged(layout, words)[100:]) == total % (2**127 - 1)


def moved(words: Words, place: int, change: int) -> Words:
    """The words with `change` added to one of them, modulo 2^64."""
    changed = words.copy()
    changed[place : place + 1] += np.uint64(change % 2**64)
    return changed


def passes(layout: FixedPoint, words: Words, length: int) -> bool:
    """Whether members take it for the sum: the tag, and what no sum can be."""
    try:
        body = check_tag(words, layout=layout, key=KEY, parties=PARTIES)
        layout.decode_sum(body, length * layout.fields, PARTIES)
    except ProtocolError:
        return False
    return True


CHANGES = (1, 2**12, 2**21, 2**31 - 1, 2**32, 2**32 - 1, 2**62, 2**63, 2**64 - 1)


@pytest.mark.parametrize("length", [1, 50])
def test_every_change_of_one_word_is_caught(layout: FixedPoint, length: int) -> None:
    honest = summed(layout, length)
    assert passes(layout, honest, length)
    source = random.Random(length)
    drawn = [source.randrange(1, 2**64) for _ in range(200)]
    for change in (*CHANGES, *drawn):
        for place in {0, length // 2, length - 1}:
            words = moved(honest, place, change)
            assert not passes(layout, words, length), (place, change)


@pytest.mark.parametrize("length", [1, 50])
def test_every_change_of_one_field_within_its_range_is_caught(
    layout: FixedPoint, length: int
) -> None:
    """What the range check cannot see, so that the tag stands alone."""
    honest = summed(layout, length)
    source = random.Random(length)
    for field in range(layout.fields):
        shift = field * layout.field_bits
        for _ in range(100):
            place = source.randrange(length)
            old = int(honest[place]) >> shift & (1 << layout.field_bits) - 1
            new = source.choice([old ^ 1, old - 1, source.randrange(PARTIES * 2 * layout.levels)])
            if new == old or new < 0:
                continue
            words = moved(honest, place, (new - old) << shift)
            layout.decode_sum(words[:length], length * layout.fields, PARTIES)
            with pytest.raises(ProtocolError, match="changed it; discard it"):
                check_tag(words, layout=layout, key=KEY, parties=PARTIES)


def test_two_words_that_change_places_or_make_up_for_each_other_are_caught(
    layout: FixedPoint,
) -> None:
    honest = summed(layout, 50)
    swapped = honest.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    evened = moved(moved(honest, 3, 1), 4, -1)
    for words in (swapped, evened):
        with pytest.raises(ProtocolError, match="tag"):
            check_tag(words, layout=layout, key=KEY, parties=PARTIES)


def test_a_changed_tag_is_caught(layout: FixedPoint) -> None:
    honest = summed(layout, 5)
    for place in range(5, len(honest)):
        for change in (1, 2**31, 2**32, 2**63):
            words = moved(honest, place, change)
            with pytest.raises(ProtocolError, match="tag"):
                check_tag(words, layout=layout, key=KEY, parties=PARTIES)


@pytest.mark.parametrize("length", range(9))
def test_what_is_too_short_for_a_tag_is_refused(layout: FixedPoint, length: int) -> None:
    if length <= tag_words(layout):
        with pytest.raises(ProtocolError, match="too short"):
            check_tag(np.zeros(length, np.uint64), layout=layout, key=KEY, parties=1)


def test_a_sum_of_nothing_is_caught(layout: FixedPoint) -> None:
    """Zeros decode to minus the clip everywhere, so a coordinator must not pass with them."""
    zeros = np.zeros(50 + tag_words(layout), np.uint64)
    for parties in range(1, PARTIES + 1):
        with pytest.raises(ProtocolError, match="changed it; discard it"):
            check_tag(zeros, layout=layout, key=KEY, parties=parties)


def test_a_multiple_of_a_sum_is_caught(layout: FixedPoint) -> None:
    """Of vectors at the lower half of the range, twice the sum is one that members can make."""
    words = layout.encode(np.full(50 * layout.fields, -0.75), system_bytes)
    total = tagged(layout, words) * np.uint64(PARTIES)
    assert passes(layout, total, 50)
    for multiple in (0, 2, 3, 2**31 - 1, 2**31, 2**63, 2**64 - 1):
        assert not passes(layout, total * np.uint64(multiple), 50)


def test_a_sum_of_fewer_or_more_is_caught(layout: FixedPoint) -> None:
    for added in (1, 2, PARTIES - 1, PARTIES):
        total = summed(layout, 50, added)
        for claimed in range(1, 2 * PARTIES):
            if claimed == added:
                check_tag(total, layout=layout, key=KEY, parties=claimed)
            else:
                with pytest.raises(ProtocolError, match="tag"):
                    check_tag(total, layout=layout, key=KEY, parties=claimed)


def test_two_sums_do_not_make_a_third(layout: FixedPoint) -> None:
    """What a coordinator can make of the sums that it was shown, all under one key."""
    first, second = summed(layout, 50, PARTIES), summed(layout, 50, PARTIES - 1)
    for made in (first + second, first - second, first * np.uint64(3) - second * np.uint64(2)):
        with pytest.raises(ProtocolError, match="tag"):
            check_tag(made, layout=layout, key=KEY, parties=PARTIES)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] * shape[1] < 64])
def test_bits_above_the_last_field_are_refused(shape: tuple[int, int]) -> None:
    """They are in no field, so no product of fields can see them."""
    layout = layout_of(*shape)
    honest = summed(layout, 50)
    for bit in range(layout.word_bits, 64):
        for place in (0, 25, 49):
            with pytest.raises(ProtocolError, match="changed it; discard it"):
                check_tag(moved(honest, place, 1 << bit), layout=layout, key=KEY, parties=PARTIES)


def test_a_tag_is_of_parts_of_sixteen_bits() -> None:
    for shape in SHAPES:
        layout = layout_of(*shape)
        count = 4 if shape[1] <= 30 else 8
        assert tag_words(layout) == count
        for seed in range(20):
            tail = tagged(layout, vector(layout, 9, seed))[9:]
            assert len(tail) == count
            assert int(tail.max()) < 1 << PART_BITS


def test_a_sums_key_is_for_tags_and_for_its_context() -> None:
    secret, context = b"s" * 32, b"c" * 32
    assert tag_key(secret, context) == hmac.digest(secret, framed(b"tag", context), "sha256")


def test_another_key_or_context_gives_another_tag(layout: FixedPoint) -> None:
    secret, words = b"s" * 32, vector(layout, 5)
    keys = [
        tag_key(secret, b"c" * 32),
        tag_key(secret, b"d" * 32),
        tag_key(b"t" * 32, b"c" * 32),
        tag_key(secret, b""),
    ]
    assert {len(key) for key in keys} == {32}
    tags = {tuple(tagged(layout, words, key)[5:].tolist()) for key in keys}
    assert len(tags) == 4
    assert keys[0] == tag_key(secret, b"c" * 32)
    for key in keys[1:]:
        with pytest.raises(ProtocolError, match="tag"):
            check_tag(tagged(layout, words, keys[0]), layout=layout, key=key, parties=1)


def test_who_knows_the_key_passes_with_a_sum_of_its_own(layout: FixedPoint) -> None:
    """The stated limit: a coordinator with one member's keys makes up what it likes."""
    forged = tagged(layout, vector(layout, 50, seed=99))
    nothing = tagged(layout, np.zeros(50, np.uint64))
    for _ in range(PARTIES - 1):
        forged = forged + nothing
    assert passes(layout, forged, 50)
    assert forged.tolist() != summed(layout, 50).tolist()


def test_a_tag_says_nothing_of_the_words_of_another_layout() -> None:
    for shape in SHAPES[:4]:
        layout = layout_of(*shape)
        other = wide(PARTIES)
        with pytest.raises(ProtocolError, match="tag"):
            check_tag(tagged(layout, vector(layout, 50)), layout=other, key=KEY, parties=1)


@pytest.mark.parametrize("parties", [2, 12, 1000])
def test_tags_of_all_parties_have_room_in_a_word(parties: int) -> None:
    for fields, bits in (*PACKINGS, (1, 63)):
        if 2 * parties <= (1 << bits) - 1:
            layout = layout_of(fields, bits, parties)
            most = parties * (2**PART_BITS - 1)
            assert most < 1 << layout.word_bits


@pytest.mark.parametrize("parties", [2, 12, 48, 49, 192, 193, 768])
def test_tags_of_all_parties_have_room_below_the_plain_modulus(parties: int) -> None:
    """Sealed words that fit a number travel as one, modulo t; their tags do as well."""
    modulus = bfv_parameters(parties).plain_modulus
    assert parties * (2**PART_BITS - 1) < modulus
    for fields, bits in SCHEMES["sealed"].packings(parties):
        assert 1 << layout_of(fields, bits, parties).word_bits <= modulus


@pytest.mark.parametrize("precision", [2.0**-6, 2.0**-18])
def test_the_tag_of_as_many_as_encryption_allows_comes_back_from_it(precision: float) -> None:
    parties = 768
    scheme = SCHEMES["sealed"]
    layout = scheme.update_layout(parties, 1.0, precision)
    carrier = scheme.create(parties)
    adder = scheme.adder(carrier.public, parties)
    words = tagged(layout, vector(layout, 5))
    payload = carrier.wrap.close(carrier.wrap.prepare(words, bits=layout.word_bits))
    for _ in range(parties):
        adder.add(payload)
    opened = carrier.wrap.open(adder.payload(), count=len(words), bits=layout.word_bits)
    assert opened.tolist() == (words * np.uint64(parties)).tolist()
    check_tag(opened, layout=layout, key=KEY, parties=parties)
