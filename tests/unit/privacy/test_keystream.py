from pathlib import Path

import numpy as np
import pytest

import privacy
from privacy.keystream import BLOCK_WORDS, Words, keystream_words, shift_by_keystream, uniforms
from privacy.randomness import system_bytes


def test_the_stream_is_aes_256_in_counter_mode() -> None:
    # AES-256, zero key, counters 0 and 1: the first blocks of the GCM specification's test case 13.
    expected = "dc95c078a2408989ad48a21492842087" + "530f8afbc74536b9a963b4f1c4cb738b"
    assert keystream_words(bytes(32), 4).tobytes() == bytes.fromhex(expected)


COUNTS = [1, 2, 3, BLOCK_WORDS - 1, BLOCK_WORDS, 2 * BLOCK_WORDS + 7]


@pytest.mark.parametrize("count", COUNTS)
def test_a_shift_is_the_stream_and_can_be_taken_back(count: int) -> None:
    key = system_bytes(32)
    words = keystream_words(system_bytes(32), count)
    shifted = words.copy()
    shift_by_keystream(shifted, [key])
    np.testing.assert_array_equal(shifted, words + keystream_words(key, count))
    shift_by_keystream(shifted, (), [key])
    np.testing.assert_array_equal(shifted, words)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("added", "subtracted"), [(0, 0), (3, 0), (0, 2), (4, 5)])
def test_many_shifts_at_once_are_one_after_another(count: int, added: int, subtracted: int) -> None:
    plus = [system_bytes(32) for _ in range(added)]
    minus = [system_bytes(32) for _ in range(subtracted)]
    words = keystream_words(system_bytes(32), count)
    expected = words.copy()
    for key in plus:
        expected += keystream_words(key, count)
    for key in minus:
        expected -= keystream_words(key, count)
    shift_by_keystream(words, plus, minus)
    np.testing.assert_array_equal(words, expected)
    shift_by_keystream(words, minus, plus)
    shift_by_keystream(words, [*plus, *minus], [*minus, *plus])
    np.testing.assert_array_equal(words, expected - _streams(plus, count) + _streams(minus, count))


def _streams(keys: list[bytes], count: int) -> Words:
    total = np.zeros(count, np.uint64)
    for key in keys:
        total += keystream_words(key, count)
    return total


def test_a_part_of_a_vector_is_shifted_in_place() -> None:
    key = system_bytes(32)
    words = np.zeros(10, np.uint64)
    shift_by_keystream(words[2:5], [key])
    assert words.tolist() == [0, 0, *keystream_words(key, 3).tolist(), *[0] * 5]
    shift_by_keystream(words[:0], [key])


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(33)])
def test_a_key_has_256_bits(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        keystream_words(key, 1)
    with pytest.raises(ValueError, match="32 bytes"):
        shift_by_keystream(np.zeros(1, np.uint64), [key])
    words = np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match="32 bytes"):
        shift_by_keystream(words, [bytes(32)], [key])
    assert words.tolist() == [0]  # a wrong key among others shifts nothing


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="count"):
        keystream_words(bytes(32), -1)
    with pytest.raises(ValueError, match="count"):
        system_bytes(-1)


def test_uniforms_are_multiples_of_two_to_the_minus_53_below_one() -> None:
    drawn = uniforms(100_000, system_bytes)
    assert drawn.dtype == np.float64
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert (drawn * 2.0**53 == np.floor(drawn * 2.0**53)).all()
    assert (np.floor(drawn * 2.0**53) % 2 == 1).any()  # all 53 bits are used


def test_each_call_draws_a_new_key() -> None:
    assert (uniforms(8, system_bytes) != uniforms(8, system_bytes)).any()
    assert len(system_bytes(32)) == 32


def test_one_file_asks_the_operating_system_and_none_falls_back() -> None:
    folder = Path(privacy.__file__).parent
    asking = ("urandom", "import secrets", "import random", "default_rng", "np.random")
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in asking)
    }
    assert found == {"randomness.py"}


def test_uniform_numbers_are_the_upper_53_bits_of_words() -> None:
    words = keystream_words(b"k" * 32, 1000)
    found = uniforms(1000, lambda count: b"k" * count)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found * 2.0**53, (words // 2048).astype(np.float64))
    assert 0.4 < found.mean() < 0.6
    assert keystream_words(b"k" * 32, 0).size == uniforms(0, system_bytes).size == 0
