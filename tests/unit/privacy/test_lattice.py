import copy
import hashlib
import importlib
import math
import pickle
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.keystream import Words, keystream_words
from privacy.randomness import system_bytes
from privacy.secure_sum import lattice
from privacy.secure_sum.carrier import Adder, Wrap
from privacy.secure_sum.lattice import (
    CKKS_DEEP,
    CKKS_SHALLOW,
    BfvAdder,
    BfvKey,
    BfvParameters,
    BfvWrap,
    CkksAdder,
    CkksKey,
    CkksParameters,
    CkksWrap,
    bfv_parameters,
)

# All of TenSEAL, not only what is used of it.
native: Any = lattice._native()

LIMITS = (48, 192, 768)
SLOTS = 4096
KEY = b"k" * 32
OTHER = b"o" * 32
# A payload of BFV: eight bytes of length, eight of the parameters, then residues of seven.
HEAD, RESIDUE = 16, 7
# 54 bits, 1 modulo 8192: the modulus of every exact ciphertext here.
Q = 18014398509293569

Key: TypeAlias = BfvKey | CkksKey


@dataclass(frozen=True)
class Carrier:
    key: Key
    wrap: Wrap
    adder: Callable[[], Adder]
    read: Callable[[bytes], Key]


def bfv(parties: int = 3) -> Carrier:
    key = BfvKey.create(parties)
    return Carrier(
        key,
        BfvWrap(key),
        lambda: BfvAdder(key.public_context(), parties=parties),
        lambda secret: BfvKey.from_bytes(secret, parties),
    )


def ckks(parameters: CkksParameters = CKKS_DEEP) -> Carrier:
    key = CkksKey.create(parameters)
    return Carrier(
        key,
        CkksWrap(key),
        lambda: CkksAdder(key.public_context(), parameters=parameters),
        lambda secret: CkksKey.from_bytes(secret, parameters),
    )


CARRIERS: dict[str, Callable[[], Carrier]] = {
    "bfv": bfv,
    "bfv for many": lambda: bfv(500),
    "ckks deep": ckks,
    "ckks shallow": lambda: ckks(CKKS_SHALLOW),
}


@cache
def made(name: str) -> Carrier:
    return CARRIERS[name]()


@pytest.fixture(name="carrier", params=CARRIERS)
def _carrier(request: pytest.FixtureRequest) -> Carrier:
    return made(str(request.param))


@pytest.fixture(name="approximate", params=["ckks deep", "ckks shallow"])
def _approximate(request: pytest.FixtureRequest) -> Carrier:
    return made(str(request.param))


def random_words(count: int, *, bits: int = 64, key: bytes = bytes(32)) -> Words:
    return keystream_words(key, count) >> np.uint64(64 - bits)


# --- parameters ---


def is_prime(number: int) -> bool:
    """Miller and Rabin; these bases are exact below 3 * 10^24."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        powers = [pow(base, odd << step, number) for step in range(twos)]
        if powers[0] != 1 and number - 1 not in powers:
            return False
    return True


def least_modulus(bits: int) -> int:
    number = (1 << bits) + 1
    while not is_prime(number):
        number += 2 * SLOTS
    return number


@pytest.mark.parametrize("limit", LIMITS)
def test_every_modulus_is_the_least_that_holds_two_fields_and_has_slots(limit: int) -> None:
    row = bfv_parameters(limit)
    assert row.parties_max == limit
    assert row.plain_modulus == least_modulus(row.word_bits)
    assert row.word_bits == 2 * row.field_bits
    # Three limbs of so many words stay below t as well.
    assert limit << lattice._LIMB_BITS < row.plain_modulus


@pytest.mark.parametrize("limit", LIMITS)
def test_the_worst_error_of_a_full_sum_is_half_of_what_decryption_bears(limit: int) -> None:
    row = bfv_parameters(limit)
    worst = 21.5 * limit + 0.5  # one correction
    assert 1.9 < 2 ** row.coefficient_bits[0] / (2 * row.plain_modulus) / worst < 2.1


def test_the_fields_are_the_widest_that_so_many_parties_can_use() -> None:
    found = [bfv_parameters(n).field_bits for n in (1, 12, 48, 49, 192, 193, 768)]
    assert found == [21, 21, 21, 20, 20, 19, 19]
    with pytest.raises(ProtocolError, match="up to 768 members"):
        bfv_parameters(769)
    with pytest.raises(ValueError, match="parties"):
        bfv_parameters(0)


# --- exact sums ---


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("whole", [True, False])
def test_masked_sums_are_exact_at_the_most_parties(limit: int, *, whole: bool) -> None:
    # Few ciphertexts, each added often: their errors add up in one direction, which is worse for
    # the noise than as many independent ones.
    one = bfv(limit)
    bits = bfv_parameters(limit).word_bits if whole else 64
    count = 500
    keys = [system_bytes(32) for _ in range(3)]
    words = [random_words(count, bits=bits, key=key) for key in keys]
    if whole:
        words = [vector // np.uint64(limit) for vector in words]
    masks: Sequence[tuple[Sequence[bytes], Sequence[bytes]]] = [
        (keys[:1], []),
        ([], keys[:1]),
        (keys[1:2], keys[2:]),
    ]
    payloads = []
    for vector, (added, subtracted) in zip(words, masks, strict=True):
        numbers = one.wrap.prepare(vector, bits=bits)
        shifted = one.wrap.shift(numbers, added=added, subtracted=subtracted)
        payloads.append(one.wrap.close(shifted))
    adder = one.adder()
    expected = np.zeros(count, np.uint64)
    for index in range(limit - 2):
        adder.add(payloads[index % 2])
        expected += words[index % 2]
    for _ in range(2):
        adder.add(payloads[2])
        expected += words[2]
    adder.correct(added=keys[2:], subtracted=keys[1:2])
    adder.correct(added=keys[2:], subtracted=keys[1:2])
    opened = one.wrap.open(adder.payload(), count=count, bits=bits)
    assert opened.dtype == np.uint64
    np.testing.assert_array_equal(opened, expected)
    with pytest.raises(ProtocolError, match="no more payloads"):
        adder.add(payloads[0])


def multiplied(row: BfvParameters, factor_bits: int) -> tuple[Words, Words]:
    """What decryption says of 2^factor_bits times a masked vector, and what is right."""
    scheme = lattice._bfv_scheme(row)
    secret = lattice._secret_form(lattice._new_context(scheme))
    engine = lattice._Engine.secret(scheme, secret)
    modulus = np.uint64(row.plain_modulus)
    numbers = random_words(SLOTS) % modulus
    vector = engine.encrypt(lattice._signed(numbers, row.plain_modulus).tolist())
    for _ in range(factor_bits):
        vector = vector.add_(vector)
        numbers = numbers * np.uint64(2) % modulus
    opened = np.array(vector.decrypt(), dtype=np.int64) % row.plain_modulus
    return opened.view(np.uint64), numbers


@pytest.mark.parametrize("limit", LIMITS)
def test_a_sum_far_beyond_the_limit_is_wrong(limit: int) -> None:
    row = bfv_parameters(limit)
    within = int(math.log2(limit))
    opened, right = multiplied(row, within)
    np.testing.assert_array_equal(opened, right)
    opened, right = multiplied(row, within + 6)
    assert (opened != right).mean() > 0.9  # an error in one coefficient is one in every slot


def test_a_modulus_that_leaves_no_room_for_the_error_is_wrong_at_once() -> None:
    opened, right = multiplied(BfvParameters(1, 25, least_modulus(51)), 0)
    assert (opened != right).mean() > 0.9


@pytest.mark.parametrize("count", [1, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS + 5])
def test_sums_of_any_length_are_exact(carrier: Carrier, count: int) -> None:
    words = [random_words(count, key=system_bytes(32)) for _ in range(3)]
    before = [vector.copy() for vector in words]
    adder = carrier.adder()
    for vector in words:
        adder.add(carrier.wrap.close(carrier.wrap.prepare(vector, bits=64)))
    opened = carrier.wrap.open(adder.payload(), count=count, bits=64)
    np.testing.assert_array_equal(opened, sum(words, np.zeros(count, np.uint64)))
    for vector, unchanged in zip(words, before, strict=True):
        np.testing.assert_array_equal(vector, unchanged)


def test_a_word_that_fits_is_one_number_and_another_three() -> None:
    wrap = bfv().wrap
    words = random_words(10, bits=42)
    assert wrap.prepare(words, bits=42) is words
    assert len(wrap.prepare(words, bits=43)) == 30
    payload = wrap.close(words)
    with pytest.raises(ProtocolError, match="another length"):
        wrap.open(payload, count=10, bits=43)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4), min_size=1))
def test_limbs_are_joined_exactly_modulo_two_to_the_64(rows: list[list[int]]) -> None:
    words = np.array(rows, dtype=np.uint64)
    limbs = np.array([lattice._limbs(row) for row in words])
    assert limbs.max() < 2**22
    np.testing.assert_array_equal(lattice._joined(limbs.sum(axis=0)), words.sum(axis=0))


def test_nothing_is_printed(carrier: Carrier, capfd: pytest.CaptureFixture[str]) -> None:
    adder = carrier.adder()
    adder.add(carrier.wrap.close(np.ones(3 * SLOTS, np.uint64)))
    adder.payload()
    assert capfd.readouterr() == ("", "")


def test_numbers_open_as_themselves_and_not_as_others_of_the_same_residue() -> None:
    wrap = bfv().wrap
    t = bfv_parameters(3).plain_modulus
    numbers = np.array([0, 1, t // 2, t // 2 + 1, t - 1], dtype=np.uint64)
    opened = wrap.open(wrap.close(numbers), count=5, bits=42)
    np.testing.assert_array_equal(opened, numbers)


def test_a_ciphertext_holds_as_many_numbers_as_it_has_slots(approximate: Carrier) -> None:
    scheme = approximate.key.engine.scheme
    for count, ciphertexts in ((SLOTS, 1), (SLOTS + 1, 2)):
        payload = approximate.wrap.close(np.ones(count, np.uint64))
        assert len(lattice._ciphertexts(scheme, payload)[1]) == ciphertexts


# --- masks modulo t ---


def masks(count: int, added: Sequence[bytes], subtracted: Sequence[bytes] = ()) -> Words:
    zeros = np.zeros(count, np.uint64)
    return bfv().wrap.shift(zeros, added=added, subtracted=subtracted)


def slow_mask(key: bytes, count: int, modulus: int) -> list[int]:
    tops = (word >> 6 for word in keystream_words(key, 4 * count + 100).tolist())
    fair = (top for top in tops if top < 2**58 // modulus * modulus)
    return [top % modulus for top in islice(fair, count)]


@pytest.mark.parametrize(
    "modulus",
    [
        bfv_parameters(3).plain_modulus,
        bfv_parameters(768).plain_modulus,
        2**57 + 1,  # half of all words are left out
    ],
)
@pytest.mark.parametrize("count", [1, 16_384, 16_385, 33_000])
@pytest.mark.parametrize("signs", [(1,), (-1,), (1, 1, -1), (1,) * 31, (-1,) * 70])
def test_masks_are_what_whole_numbers_say(count: int, signs: Sequence[int], modulus: int) -> None:
    keys = [index.to_bytes(32, "big") for index in range(3)]
    used = [(keys[index % 3], sign) for index, sign in enumerate(signs)]
    made = np.zeros(count, np.uint64)
    lattice._shift_by_masks(
        made,
        [key for key, sign in used if sign > 0],
        [key for key, sign in used if sign < 0],
        modulus=modulus,
    )
    slow = {key: np.array(slow_mask(key, count, modulus), dtype=object) for key in keys}
    expected = sum((sign * slow[key] for key, sign in used), np.zeros(count, dtype=object))
    assert made.tolist() == (expected % modulus).tolist()


def test_words_that_would_bias_a_mask_are_left_out_at_every_modulus_in_use() -> None:
    for limit in LIMITS:
        modulus = bfv_parameters(limit).plain_modulus
        words = keystream_words(KEY, 1_000_000) >> np.uint64(6)
        out = int((words >= np.uint64(2**58 // modulus * modulus)).sum())
        assert out < 1_000_000 / 2**15 + 12  # rare, so that they cost nothing
        made = np.zeros(1_000_000 - out, np.uint64)
        lattice._shift_by_masks(made, [KEY], [], modulus=modulus)
        fair = words[words < np.uint64(2**58 // modulus * modulus)]
        np.testing.assert_array_equal(made, fair % np.uint64(modulus))


class Words58:
    """A cipher whose stream is known: words of 58 bits, and six bits below that do not matter."""

    def __init__(self, words: Sequence[int]) -> None:
        self.left = b"".join((word << 6 | 63).to_bytes(8, "little") for word in words)

    def update(self, zeros: bytes | memoryview) -> bytes:
        taken, self.left = self.left[: len(zeros)], self.left[len(zeros) :]
        return taken

    def update_into(self, zeros: memoryview, stream: bytearray) -> None:
        stream[: len(zeros)] = self.update(zeros)


def test_a_word_at_the_limit_is_left_out_and_the_next_takes_its_place() -> None:
    for words, taken in (
        ([0, 99, 5, 7], [0, 99, 5]),
        ([0, 100, 5, 7], [0, 5, 7]),
        ([101, 100, 2**58 - 1, 100, 8, 101, 0, 100, 9, 7], [8, 0, 9]),
    ):
        cipher: Any = Words58(words)
        assert lattice._masks(cipher, bytearray(100), 3, 100).tolist() == taken


def test_masks_cancel_and_leave_their_argument_alone() -> None:
    wrap = bfv().wrap
    words = random_words(10_000, bits=42)
    before = words.copy()
    shifted = wrap.shift(words, added=[KEY, OTHER], subtracted=[])
    assert (shifted != words).all()
    np.testing.assert_array_equal(wrap.shift(shifted, added=[], subtracted=[OTHER, KEY]), words)
    np.testing.assert_array_equal(words, before)


def test_no_numbers_stay_none_under_a_mask() -> None:
    none = bfv().wrap.shift(np.zeros(0, np.uint64), added=[KEY], subtracted=[OTHER])
    assert none.tolist() == []


def p_value(counts: NDArray[np.int64]) -> float:
    """Chi-square against equal cells; Wilson and Hilferty's approximation."""
    expected = counts.sum() / len(counts)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * (len(counts) - 1))
    normal = ((statistic / (len(counts) - 1)) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(normal / math.sqrt(2))


def residue_p_values(residues: Words, modulus: int) -> list[float]:
    """Where in [0, modulus) the residues are, in 500 cells; and their low bits."""
    cells = (residues.astype(np.float64) * (500 / modulus)).astype(np.int64)
    return [
        p_value(np.bincount(cells, minlength=500)),
        p_value(np.bincount(residues.astype(np.int64) & 255, minlength=256)),
    ]


@pytest.mark.parametrize("value", [0, 1, 2**41, 2**42])
@pytest.mark.parametrize("keys", [([KEY], []), ([], [KEY]), ([KEY], [OTHER])])
def test_a_masked_number_is_uniform_modulo_t(
    value: int, keys: tuple[list[bytes], list[bytes]]
) -> None:
    words = np.full(200_000, value, np.uint64)
    shifted = bfv().wrap.shift(words, added=keys[0], subtracted=keys[1])
    assert min(residue_p_values(shifted, bfv_parameters(3).plain_modulus)) > 1e-6


@pytest.mark.parametrize(
    "broken",
    [
        lambda masks: masks >> np.uint64(1),
        lambda masks: np.minimum(masks, masks[::-1]),
        lambda masks: masks % np.uint64(43 * 10**11),  # reduced modulo a number 2 % smaller
        lambda masks: masks & ~np.uint64(1),
    ],
)
def test_the_uniformity_check_can_fail(broken: Callable[[Words], Words]) -> None:
    modulus = bfv_parameters(3).plain_modulus
    made = masks(200_000, [KEY])
    assert min(residue_p_values(made, modulus)) > 1e-6
    assert min(residue_p_values(broken(made), modulus)) < 1e-6


def test_only_residues_are_masked_and_encrypted() -> None:
    wrap = bfv().wrap
    modulus = bfv_parameters(3).plain_modulus
    largest, beyond = (np.full(3, modulus - less, np.uint64) for less in (1, 0))
    payload = wrap.close(largest)
    np.testing.assert_array_equal(wrap.open(payload, count=3, bits=42), largest)
    for refuse in (wrap.close, lambda words: wrap.shift(words, added=[KEY], subtracted=[])):
        with pytest.raises(ValueError, match="prepare the words"):
            refuse(beyond)
    with pytest.raises(ValueError, match="at least one"):
        wrap.close(np.zeros(0, np.uint64))
    with pytest.raises(ValueError, match="32 bytes"):
        wrap.shift(largest, added=[b"short"], subtracted=[])


def test_residues_are_given_to_seal_with_a_sign() -> None:
    residues = np.array([0, 1, 8, 9, 16], dtype=np.uint64)
    assert lattice._signed(residues, 17).tolist() == [0, 1, 8, -8, -1]


# --- keys ---


def test_the_public_context_holds_parameters_and_nothing_else(carrier: Carrier) -> None:
    public = carrier.key.public_context()
    assert len(public) < 120
    assert carrier.key.secret_bytes() not in public
    context = native.TenSEALContext.deserialize(public, 1)
    assert not context.has_secret_key()
    assert not context.has_galois_keys()
    assert not context.has_relin_keys()
    # All keys of the same parameters have the same one.
    assert carrier.read(carrier.key.secret_bytes()).public_context() == public


def test_who_has_the_public_context_cannot_decrypt_or_encrypt(carrier: Carrier) -> None:
    scheme = carrier.key.engine.scheme
    public = lattice._public_engine(scheme, carrier.key.public_context())
    sealed = carrier.key.engine.encrypt([1] * scheme.slots)
    with pytest.raises(ValueError, match="secret_key"):
        public.read(carrier.key.engine.write(sealed)).decrypt()
    with pytest.raises(ValueError, match="encryption"):
        public.encrypt([1] * scheme.slots)


def test_a_wrap_without_the_secret_opens_nothing(carrier: Carrier) -> None:
    payload = carrier.wrap.close(np.ones(6, np.uint64))
    scheme, context = carrier.key.engine.scheme, carrier.key.public_context()
    blind = copy.copy(carrier.wrap)
    blind._engine = lattice._public_engine(scheme, context)  # type: ignore[attr-defined]
    with pytest.raises(ProtocolError, match="malformed"):
        blind.open(payload, count=2, bits=64)


def test_another_key_decrypts_to_something_else() -> None:
    first, second = bfv(), bfv()
    payload = first.wrap.close(np.ones(5, np.uint64))
    assert (second.wrap.open(payload, count=5, bits=42) != 1).all()


def test_a_key_is_the_same_at_another_node(carrier: Carrier) -> None:
    again = carrier.read(carrier.key.secret_bytes())
    assert again.fingerprint() == carrier.key.fingerprint()
    assert again.secret_bytes() == carrier.key.secret_bytes()
    words = random_words(20)
    payload = carrier.wrap.close(carrier.wrap.prepare(words, bits=64))
    wrap: Wrap = BfvWrap(again) if isinstance(again, BfvKey) else CkksWrap(again)
    np.testing.assert_array_equal(wrap.open(payload, count=20, bits=64), words)
    # Encrypting turned off nothing that the bytes tell.
    assert lattice._secret_form(again.engine._context) == carrier.key.secret_bytes()


def test_different_keys_and_parameters_have_different_fingerprints() -> None:
    keys: list[Key] = [BfvKey.create(parties) for parties in (3, 3, 100, 500)]
    keys += [CkksKey.create(p) for p in (CKKS_DEEP, CKKS_DEEP, CKKS_SHALLOW)]
    found = {key.fingerprint() for key in keys}
    assert len(found) == 7
    assert {len(fingerprint) for fingerprint in found} == {32}


def test_a_scheme_and_a_key_are_told_from_everything_else_that_is_hashed() -> None:
    # These bytes are in payloads and in what nodes compare: both ends must hash alike for ever.
    scheme = lattice._bfv_scheme(bfv_parameters(3))
    numbers = [b"4096", b"4398046568449", b"0", b"54", b"54"]
    labelled = framed(b"tacit/lattice-scheme/v1", *numbers)
    assert scheme.digest() == hashlib.sha256(labelled).digest()
    key = BfvKey.create(3)
    secret = hashlib.sha256(key.secret_bytes()).digest()
    parts = (b"tacit/lattice-key/v1", scheme.digest(), key.public_context(), secret)
    assert key.fingerprint() == hashlib.sha256(framed(*parts)).digest()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of threads")
def test_a_context_has_one_thread_however_many_cores_there_are() -> None:
    scheme = lattice._bfv_scheme(bfv_parameters(3))
    public, secret = lattice._public_bytes(scheme), BfvKey.create(3).secret_bytes()
    lattice._keyless_engine.cache_clear()
    kinds: list[Callable[[], object]] = [
        lambda: lattice._new_context(scheme),
        lambda: lattice._Engine.secret(scheme, secret),
        lambda: lattice._public_engine(scheme, public),
    ]
    kept = []
    for make in kinds:
        threads = len(list(Path("/proc/self/task").iterdir()))
        kept.append(make())
        assert len(list(Path("/proc/self/task").iterdir())) <= threads + 1


def test_secrets_are_neither_printed_nor_pickled(carrier: Carrier) -> None:
    for shown in (repr(carrier.key), str(carrier.key), repr(carrier.wrap)):
        assert shown in {"BfvKey(..)", "CkksKey(..)", "BfvWrap(..)", "CkksWrap(..)"}
    for secret in (carrier.key, carrier.wrap):
        with pytest.raises(TypeError):
            pickle.dumps(secret)


def context_bytes(scheme: str, *, galois: bool = False, relin: bool = False) -> bytes:
    """A secret context of another kind, as TenSEAL itself writes it."""
    kind, encryption = native.SCHEME_TYPE.BFV, native.ENCRYPTION_TYPE.SYMMETRIC
    if scheme == "asymmetric":
        encryption = native.ENCRYPTION_TYPE.ASYMMETRIC
    modulus = bfv_parameters(3).plain_modulus
    context = native.TenSEALContext.new(kind, SLOTS, modulus, [54, 54], encryption, 1)
    context.auto_relin = context.auto_rescale = context.auto_mod_switch = False
    if galois:
        context.generate_galois_keys()
    public = scheme == "asymmetric"
    written: bytes = context.serialize(*(public, True, galois, relin))
    return written


@pytest.mark.parametrize(
    "secret",
    [
        lambda: context_bytes("symmetric", galois=True),
        lambda: context_bytes("symmetric", relin=True),
        lambda: context_bytes("asymmetric"),
        lambda: BfvKey.create(100).secret_bytes(),
        lambda: CkksKey.create().secret_bytes(),
        lambda: BfvKey.create(3).public_context(),
        lambda: BfvKey.create(3).secret_bytes()[:-1],
        lambda: BfvKey.create(3).secret_bytes() + b"\x00",
        lambda: BfvKey.create(3).secret_bytes() + BfvKey.create(3).secret_bytes(),
        lambda: b"",
        lambda: b"garbage",
        lambda: bytes(1 << 20),
    ],
)
def test_only_a_secret_key_of_the_agreed_parameters_is_read(secret: Callable[[], bytes]) -> None:
    BfvKey.from_bytes(context_bytes("symmetric"), 3)  # nothing else is wrong with the others
    with pytest.raises(ProtocolError, match="secret key is malformed"):
        BfvKey.from_bytes(secret(), 3)


def test_a_coordinator_refuses_any_other_context() -> None:
    key = BfvKey.create(3)
    others = (
        BfvKey.create(100).public_context(),
        CkksKey.create().public_context(),
        key.secret_bytes(),
        key.public_context() + b"\x00",
        b"",
    )
    for other in others:
        with pytest.raises(ProtocolError, match="public context"):
            BfvAdder(other, parties=3)
    with pytest.raises(ProtocolError, match="public context"):
        CkksAdder(CkksKey.create(CKKS_SHALLOW).public_context())


def test_lengths_are_written_as_protobuf_writes_them() -> None:
    # Seven bits a byte, the lowest first; the top bit says that another byte follows.
    known = {0: "00", 1: "01", 127: "7f", 128: "8001", 150: "9601", 16384: "808001"}
    assert {number: lattice._varint(number).hex() for number in known} == known


# --- malformed payloads ---


def resized(payload: bytes, size: int) -> bytes:
    """`payload` with a ciphertext that is said to have `size` bytes."""
    return payload[:8] + size.to_bytes(8, "big") + payload[16:]


Faults: TypeAlias = dict[str, Callable[[bytes], bytes]]

LENGTHS: Faults = {
    "empty": lambda payload: payload[:0],
    "only a count": lambda payload: payload[:8],
    "only a head": lambda payload: payload[:HEAD],
    "no ciphertext": lambda payload: bytes(len(payload[:8])),
    "cut": lambda payload: payload[:-1],
    "cut by a residue": lambda payload: payload[:-RESIDUE],
    "cut in a length": lambda payload: payload[:12],
    "longer": lambda payload: payload + b"\x00",
    "a second ciphertext": lambda payload: payload + payload[8:],
    "a second ciphertext without its head": lambda payload: payload + payload[HEAD:],
    "garbage": lambda payload: random.Random(1).randbytes(len(payload)),
    "another number, one too many slots": lambda payload: (
        (SLOTS * 2 + 1).to_bytes(8, "big") + payload[8:]
    ),
    "no number": lambda payload: bytes(8) + payload[8:],
    "no number and no ciphertext": lambda payload: bytes(8) + payload[8:HEAD],
    "an endless number": lambda payload: b"\xff" * 8 + payload[8:],
    "an endless ciphertext": lambda payload: resized(payload, 2**64 - 1),
    "an empty ciphertext": lambda payload: payload[:8] + bytes(8),
    "a shorter ciphertext": lambda payload: resized(payload, len(payload) - 17),
}
MALFORMED: Faults = {
    **LENGTHS,
    "garbage inside": lambda payload: payload[:16] + random.Random(1).randbytes(len(payload) - 16),
    "ones": lambda payload: payload[:HEAD] + b"\xff" * (len(payload) - HEAD),
}
MALFORMED_SEAL: Faults = {
    "garbage behind SEAL's header": lambda payload: payload[:32] + bytes(len(payload) - 32),
    "uncompressed as stated": lambda payload: payload[:21] + b"\x00" + payload[22:],
    "another version": lambda payload: payload[:19] + b"\x09\x09" + payload[21:],
    "a byte behind what SEAL reads": lambda payload: (
        resized(payload, len(payload) - 16 + 1) + b"\x00"
    ),
}


def check_refusal(carrier: Carrier, fault: Callable[[bytes], bytes]) -> None:
    words = random_words(5)
    payload = carrier.wrap.close(carrier.wrap.prepare(words, bits=64))
    broken = fault(payload)
    with pytest.raises(ProtocolError):
        carrier.adder().add(broken)
    with pytest.raises(ProtocolError):
        carrier.wrap.open(broken, count=5, bits=64)
    adder = carrier.adder()
    # As the first payload and as the second.
    with pytest.raises(ProtocolError):
        adder.add(broken)
    adder.add(payload)
    before = adder.payload()
    with pytest.raises(ProtocolError):
        adder.add(broken)
    assert adder.payload() == before
    adder.add(payload)
    opened = carrier.wrap.open(adder.payload(), count=5, bits=64)
    np.testing.assert_array_equal(opened, words * np.uint64(2))


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_payload_is_refused_and_changes_nothing(carrier: Carrier, fault: str) -> None:
    check_refusal(carrier, MALFORMED[fault])


@pytest.mark.parametrize("fault", MALFORMED_SEAL)
def test_what_seal_does_not_read_is_refused_and_changes_nothing(
    approximate: Carrier, fault: str
) -> None:
    check_refusal(approximate, MALFORMED_SEAL[fault])


@pytest.mark.parametrize("length", [0, 8, (1 << 30) + 1])
def test_a_payload_without_content_or_beyond_the_limit_is_refused_by_its_length(
    carrier: Carrier, length: int
) -> None:
    with pytest.raises(ProtocolError, match="empty or too long"):
        carrier.adder().add(bytes(length))


def test_a_payload_of_the_most_bytes_is_taken(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = carrier.wrap.close(np.ones(5, np.uint64))
    monkeypatch.setattr(lattice, "PAYLOAD_BYTES_MAX", len(payload))
    adder = carrier.adder()
    adder.add(payload)
    assert adder.payload() == payload
    monkeypatch.setattr(lattice, "PAYLOAD_BYTES_MAX", len(payload) - 1)
    with pytest.raises(ProtocolError, match="empty or too long"):
        adder.add(payload)


def test_a_fault_in_the_last_ciphertext_changes_nothing(carrier: Carrier) -> None:
    payload = carrier.wrap.close(np.ones(2 * SLOTS + 1, np.uint64))
    adder = carrier.adder()
    adder.add(payload)
    before = adder.payload()
    with pytest.raises(ProtocolError):
        adder.add(payload[:-100] + b"\xff" * 100)
    assert adder.payload() == before


def test_flipped_bits_never_raise_anything_else(approximate: Carrier) -> None:
    payload = approximate.wrap.close(np.ones(5, np.uint64))
    source = random.Random(7)
    refused = 0
    for _ in range(40):
        flipped = bytearray(payload)
        place = source.randrange(source.choice([48, 200, len(payload)]))
        flipped[place] ^= 1 << source.randrange(8)
        try:
            approximate.adder().add(bytes(flipped))
        except ProtocolError:
            refused += 1
    assert refused > 10


def test_lengths_must_agree(carrier: Carrier) -> None:
    adder = carrier.adder()
    with pytest.raises(ProtocolError, match="no payload was added"):
        adder.payload()
    payload = carrier.wrap.close(np.ones(6, np.uint64))
    adder.add(payload)
    with pytest.raises(ProtocolError, match="another length"):
        adder.add(carrier.wrap.close(np.ones(7, np.uint64)))
    for count in (1, 3, 5):
        with pytest.raises(ProtocolError, match="another length"):
            carrier.wrap.open(payload, count=count, bits=64)
    np.testing.assert_array_equal(
        carrier.wrap.open(adder.payload(), count=2, bits=64), [1 + (1 << 22) + (1 << 44)] * 2
    )


def test_a_correction_needs_a_sum() -> None:
    with pytest.raises(ProtocolError, match="no payload was added"):
        bfv().adder().correct(added=[KEY], subtracted=[])


def test_ciphertexts_of_other_parameters_are_refused() -> None:
    carriers = [bfv(), bfv(100), ckks(CKKS_DEEP), ckks(CKKS_SHALLOW)]
    payloads = [carrier.wrap.close(np.ones(5, np.uint64)) for carrier in carriers]
    for i, carrier in enumerate(carriers):
        for j, payload in enumerate(payloads):
            if i != j:
                with pytest.raises(ProtocolError, match="malformed"):
                    carrier.adder().add(payload)


@pytest.mark.parametrize("fault", LENGTHS)
def test_lengths_are_checked_before_seal_sees_a_byte(approximate: Carrier, fault: str) -> None:
    payload = approximate.wrap.close(np.ones(5, np.uint64))
    scheme = approximate.key.engine.scheme
    assert lattice._ciphertexts(scheme, payload)[0] == 5
    with pytest.raises(ProtocolError):
        lattice._ciphertexts(scheme, LENGTHS[fault](payload))


def unpacked(engine: lattice._Engine, *, ntt: bool, polynomials: int) -> bytes:
    """A ciphertext of zeros, 150 bytes before and up to a megabyte after SEAL unpacked it."""
    scheme = engine.scheme
    levels = len(scheme.coefficient_bits) - 1
    words = polynomials * scheme.degree * levels
    shape = struct.pack("<QQQdQ", polynomials, scheme.degree, levels, scheme.scale, 1)
    first: Any = engine._context.seal_context().first_parms_id()
    parameters = struct.pack("<4Q", *first)
    array = lattice._SEAL_START + b"\0\0\0" + struct.pack("<QQ", 24 + 8 * words, words)
    plain = parameters + bytes([ntt]) + shape + array
    # RFC 8878: one raw block, then blocks of one repeated byte, 128 KiB each at most.
    packed = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(plain) + 8 * words)
    packed += (len(plain) << 3 | (not words)).to_bytes(3, "little") + plain
    for start in range(0, 8 * words, 1 << 17):
        size = min(8 * words - start, 1 << 17)
        packed += (size << 3 | 2 | (start + size == 8 * words)).to_bytes(3, "little") + b"\0"
    return lattice._SEAL_START + b"\2\0\0" + struct.pack("<Q", 16 + len(packed)) + packed


@pytest.mark.parametrize(
    ("wrong_form", "polynomials"), [(True, 2), (False, 0), (False, 3), (False, 16)]
)
def test_a_ciphertext_of_another_shape_is_refused(
    carrier: Carrier, *, wrong_form: bool, polynomials: int
) -> None:
    engine = carrier.key.engine
    form = not engine.scheme.exact
    engine.read(unpacked(engine, ntt=form, polynomials=2))  # SEAL takes what we make
    with pytest.raises(ProtocolError, match="malformed"):
        engine.read(unpacked(engine, ntt=form ^ wrong_form, polynomials=polynomials))


def test_ciphertexts_that_unpack_to_much_more_are_refused(approximate: Carrier) -> None:
    scheme = approximate.key.engine.scheme
    small = unpacked(approximate.key.engine, ntt=True, polynomials=2)
    with pytest.raises(ProtocolError, match="malformed"):
        approximate.adder().add(lattice._payload(100 * scheme.slots, [small] * 100))


def tampered_vectors(carrier: Carrier) -> list[bytes]:
    """Ciphertexts that SEAL reads and that are no fresh encryption: each as a payload of one."""
    engine = carrier.key.engine
    kind = native.CKKSVector
    one = kind(engine._context, [1] * engine.scheme.slots)
    context = native.TenSEALContext.deserialize(carrier.key.secret_bytes(), 1)
    context.auto_rescale = True
    low = kind(context, [1.0] * engine.scheme.slots)
    found = [
        one.mul(one),  # three polynomials and another scale
        low.mul_plain([1.0] * engine.scheme.slots),  # fewer primes
        kind(engine._context, [1.0] * engine.scheme.slots, 2.0**30),
    ]
    return [lattice._payload(5, [engine.write(vector)]) for vector in found]


def test_ciphertexts_that_are_no_fresh_encryption_are_refused(approximate: Carrier) -> None:
    adder = approximate.adder()
    adder.add(approximate.wrap.close(np.ones(5, np.uint64)))
    before = adder.payload()
    for payload in tampered_vectors(approximate):
        with pytest.raises(ProtocolError):
            adder.add(payload)
        with pytest.raises(ProtocolError):
            approximate.adder().add(payload)
    assert adder.payload() == before


def test_a_ciphertext_that_hides_nothing_is_refused(approximate: Carrier) -> None:
    # Two who work together can send a ciphertext and its negative: SEAL refuses their sum.
    engine = approximate.key.engine
    sealed: Any = engine.encrypt([1.0] * engine.scheme.slots)
    first, negative = (lattice._payload(5, [engine.write(v)]) for v in (sealed, sealed.neg()))
    adder = approximate.adder()
    adder.add(first)
    with pytest.raises(ProtocolError, match="malformed"):
        adder.add(negative)
    assert adder.payload() == first


def test_a_ciphertext_has_at_least_half_of_what_it_unpacks_to(approximate: Carrier) -> None:
    scheme = approximate.key.engine.scheme
    half = 2 * scheme.degree * (len(scheme.coefficient_bits) - 1) * 8 // 2
    assert len(lattice._ciphertexts(scheme, lattice._payload(1, [bytes(half)]))[1]) == 1
    with pytest.raises(ProtocolError, match="malformed"):
        lattice._ciphertexts(scheme, lattice._payload(1, [bytes(half - 1)]))


def test_a_ciphertext_that_zstd_cannot_shrink_is_not_too_long(approximate: Carrier) -> None:
    engine = approximate.key.engine
    plain = len(engine._form) + 8 * engine.scheme.words
    packed = zstandard.compress(random.Random(1).randbytes(plain))
    # The most that zstd writes, by its own word (ZSTD_COMPRESSBOUND): 1/256 more.
    most = lattice._SEAL_HEADER_BYTES + plain + plain // 256
    assert plain < len(packed) < most
    assert most in engine.scheme.ciphertext_bytes


# --- exact ciphertexts as coefficients ---


def residues(payload: bytes) -> list[int]:
    """What a payload says, byte by byte."""
    return [
        int.from_bytes(payload[start : start + RESIDUE], "little")
        for start in range(HEAD, len(payload), RESIDUE)
    ]


def payload_of(parties: int, count: int, coefficients: Sequence[int]) -> bytes:
    head = lattice._exact_head(bfv_parameters(parties), count)
    return head + b"".join(number.to_bytes(RESIDUE, "little") for number in coefficients)


@pytest.mark.parametrize("limit", LIMITS)
def test_q_is_the_modulus_that_seal_computes_with(limit: int) -> None:
    engine = bfv(limit).key.engine
    importlib.import_module("tenseal.sealapi")  # registers the type of what is asked for
    context: Any = engine._context.seal_context()
    (prime,) = context.first_context_data().parms().coeff_modulus()
    assert bfv_parameters(limit).modulus == prime.value() == Q
    assert Q < 2**54
    # With one correction more, no sum of so many leaves a word.
    assert (limit + 2) * Q < 2**64


@pytest.mark.parametrize("limit", LIMITS)
def test_a_ciphertext_built_from_its_coefficients_is_the_same(limit: int) -> None:
    engine = bfv(limit).key.engine
    numbers = (
        random_words(SLOTS, bits=40).view(np.int64) % bfv_parameters(limit).plain_modulus
    ) // 2
    sealed = engine.encrypt(numbers.tolist())
    coefficients = engine.coefficients(sealed)
    assert coefficients.shape == (2 * SLOTS,)
    assert coefficients.max() < Q
    again = engine.vector(coefficients)
    assert engine.write(again) == engine.write(sealed)
    assert list(again.decrypt()) == list(sealed.decrypt()) == numbers.tolist()


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("count", [3, SLOTS + 1])
def test_sums_and_corrections_are_those_of_seal(limit: int, count: int) -> None:
    one = bfv(limit)
    row, engine = bfv_parameters(limit), one.key.engine
    numbers = random_words(count) % np.uint64(row.plain_modulus)
    payloads = [one.wrap.close(numbers) for _ in range(3)]
    adder = one.adder()
    totals: list[Any] = []
    for payload in payloads:
        adder.add(payload)
        # The copies matter, as the next ciphertext takes the array of this one.
        vectors = [engine.vector(part.copy()) for part in lattice._unpacked(row, payload)]
        totals = [a.add(b) for a, b in zip(totals, vectors, strict=True)] if totals else vectors
    for keys in ([KEY], [KEY, OTHER]):
        assert residues(adder.payload()) == [
            number for total in totals for number in engine.coefficients(total).tolist()
        ]
        adder.correct(added=keys, subtracted=[OTHER])
        shift = one.wrap.shift(np.zeros(count, np.uint64), added=keys, subtracted=[OTHER])
        parts = lattice._full_slots(lattice._signed(shift, row.plain_modulus), SLOTS)
        totals = [total.add_plain(part) for total, part in zip(totals, parts, strict=True)]
    assert residues(adder.payload()) == [
        number for total in totals for number in engine.coefficients(total).tolist()
    ]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, SLOTS, SLOTS + 1]))
def test_coefficients_are_written_and_read_back(seed: int, count: int) -> None:
    row = bfv_parameters(3)
    words = np.random.default_rng(seed).integers(
        0, Q, (row.ciphertexts(count), row.words), dtype=np.uint64
    )
    payload = lattice._packed(row, count, words)
    assert lattice._exact_count(row, payload) == count
    read = [part.copy() for part in lattice._unpacked(row, payload)]
    np.testing.assert_array_equal(np.array(read), words)
    assert residues(payload) == words.reshape(-1).tolist()


@pytest.mark.parametrize("ciphertexts", [1, 3])
def test_only_coefficients_below_q_are_taken(ciphertexts: int) -> None:
    one = bfv()
    count = (ciphertexts - 1) * SLOTS + 7
    payload = one.wrap.close(np.ones(count, np.uint64))
    last = 2 * SLOTS * ciphertexts - 1
    for place in (0, 1, SLOTS, 2 * SLOTS - 1, last // 2 + 1, last):
        start = HEAD + RESIDUE * place
        for number in (Q, Q + 1, 2**54, 2**55, 2**56 - 1):
            written = number.to_bytes(RESIDUE, "little")
            broken = payload[:start] + written + payload[start + RESIDUE :]
            adder = one.adder()
            with pytest.raises(ProtocolError, match="malformed"):
                adder.add(broken)
            adder.add(payload)
            with pytest.raises(ProtocolError, match="malformed"):
                adder.add(broken)
            assert adder.payload() == payload
            with pytest.raises(ProtocolError, match="malformed"):
                one.wrap.open(broken, count=count, bits=42)
        largest = (Q - 1).to_bytes(RESIDUE, "little")
        adder = one.adder()
        adder.add(payload[:start] + largest + payload[start + RESIDUE :])
        assert residues(adder.payload())[place] == Q - 1


@given(st.integers(0, 8 * (HEAD + 2 * SLOTS * RESIDUE) - 1))
def test_one_flipped_bit_is_refused_or_is_another_coefficient(place: int) -> None:
    one = made("bfv")
    payload = one.wrap.close(np.ones(5, np.uint64))
    flipped = bytearray(payload)
    flipped[place // 8] ^= 1 << place % 8
    # Any number from 1 to 4096 has this length.
    stated = int.from_bytes(flipped[:8], "big")
    good = (
        1 <= stated <= SLOTS
        and flipped[8:HEAD] == payload[8:HEAD]
        and max(residues(bytes(flipped))) < Q
    )
    adder = one.adder()
    if not good:
        with pytest.raises(ProtocolError):
            adder.add(bytes(flipped))
        return
    adder.add(bytes(flipped))
    assert adder.payload() == bytes(flipped)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_largest_coefficients_of_the_most_parties_do_not_overflow(limit: int) -> None:
    adder = bfv(limit).adder()
    payload = payload_of(limit, 1, [Q - 1] * (2 * SLOTS))
    for index in range(limit):
        adder.add(payload)
        if index == limit // 2:
            adder.correct(added=[], subtracted=[])
    assert set(residues(adder.payload())) == {(limit * (Q - 1)) % Q}


def test_nothing_that_a_node_sent_is_shown_to_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    one = bfv()
    payloads = [one.wrap.close(np.full(5000, n, np.uint64)) for n in range(2)]
    shown: list[bytes] = []
    read = lattice._Engine.read

    def watched(engine: lattice._Engine, ciphertext: bytes | memoryview) -> lattice._Vector:
        shown.append(bytes(ciphertext))
        return read(engine, ciphertext)

    monkeypatch.setattr(lattice._Engine, "read", watched)
    for payload in payloads:
        adder = one.adder()
        adder.add(payload)
        adder.payload()
        assert not shown
        adder.correct(added=[KEY], subtracted=[])
        assert len(shown) == 1
        blank = struct.pack("<Q", 0) * SLOTS + struct.pack("<Q", 1) * SLOTS
        assert shown.pop().endswith(blank)


def test_another_form_of_ciphertexts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = bfv().key.engine
    one: Any = engine.encrypt([1] * SLOTS)
    for other in (one.mul(one), ckks().key.engine.encrypt([1] * SLOTS)):
        with pytest.raises(RuntimeError, match=r"0\.3\.18"):
            engine.coefficients(other)
    written = engine.write(one)
    start, size = written[:16], len(engine._form) + 8 * engine.scheme.words
    for other in (
        start[:3] + b"\x09" + written[4:],
        start[:5] + b"\x01" + written[6:],
        start + zstandard.compress(engine._form + bytes(size - len(engine._form) - 8)),
        start + zstandard.compress(bytes(size)),
    ):
        monkeypatch.setattr(lattice._Engine, "write", lambda *_, other=other: other)
        with pytest.raises(RuntimeError, match=r"0\.3\.18"):
            engine.coefficients(one)


def test_two_numbers_take_14_bytes_each() -> None:
    one = bfv()
    payload = one.wrap.close(np.ones(10 * SLOTS, np.uint64))
    assert len(payload) == HEAD + 10 * SLOTS * 14


# --- approximate encryption ---


@pytest.mark.parametrize("parameters", [CKKS_DEEP, CKKS_SHALLOW])
def test_rounded_sums_are_exact_after_200_additions(parameters: CkksParameters) -> None:
    one = ckks(parameters)
    vectors = [random_words(1000, key=key) for key in (KEY, OTHER)]
    payloads = [one.wrap.close(one.wrap.prepare(vector, bits=63)) for vector in vectors]
    adder = one.adder()
    for index in range(200):
        adder.add(payloads[index % 2])
        if index in {1, 49, 199}:
            opened = one.wrap.open(adder.payload(), count=1000, bits=63)
            expected = (vectors[0] + vectors[1]) * np.uint64(index // 2 + 1)
            np.testing.assert_array_equal(opened, expected)


def test_a_scale_that_is_too_small_is_noticed() -> None:
    one = ckks(CkksParameters((60, 40, 40), scale_bits=7))
    payload = one.wrap.close(one.wrap.prepare(random_words(1000), bits=64))
    with pytest.raises(ProtocolError, match="too noisy"):
        one.wrap.open(payload, count=1000, bits=64)


def test_values_that_no_sum_has_are_refused() -> None:
    one = ckks()
    for value in (-1.0, 0.5, 2.0**54):
        payload = lattice._sealed(one.key.engine, np.full(3 * SLOTS, value))
        with pytest.raises(ProtocolError, match="too noisy"):
            one.wrap.open(payload, count=SLOTS, bits=64)


def test_a_value_up_to_a_quarter_from_a_sum_is_that_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap, most = ckks().wrap, 2.0**53

    def opened(*values: float) -> list[int]:
        monkeypatch.setattr(lattice, "_approximations", lambda *_, count: np.array(values[:count]))
        return wrap.open(b"", count=1, bits=64).tolist()  # type: ignore[no-any-return]

    assert opened(7.25, 1.75, 0.0) == [7 + (2 << 22)]
    assert opened(-0.25, 0.0, 0.0) == [0]
    assert opened(most - 1, 0.0, 0.0) == [2**53 - 1]
    for value in (
        math.nextafter(7.25, 8),
        math.nextafter(1.75, 1),
        math.nextafter(-0.25, -1),
        most,
        math.nan,
    ):
        with pytest.raises(ProtocolError, match="too noisy"):
            opened(0.0, value, 0.0)


def test_what_is_opened_is_whole_numbers() -> None:
    one = ckks()
    opened = one.wrap.open(one.wrap.close(np.arange(6, dtype=np.uint64)), count=2, bits=64)
    assert opened.dtype == np.uint64
    raw = lattice._approximations(
        one.key.engine, one.wrap.close(np.arange(6, dtype=np.uint64)), count=6
    )
    assert (raw != np.rint(raw)).any()  # the errors that must not leave are there


def test_approximate_sums_have_no_masks() -> None:
    one = ckks()
    words = random_words(6, bits=22)
    np.testing.assert_array_equal(one.wrap.shift(words, added=[], subtracted=[]), words)
    adder = one.adder()
    adder.correct(added=[], subtracted=[])
    for shift in (lambda **keys: one.wrap.shift(words, **keys), adder.correct):
        with pytest.raises(ValueError, match="no masks"):
            shift(added=[KEY], subtracted=[])
        with pytest.raises(ValueError, match="no masks"):
            shift(added=[], subtracted=[KEY])
    with pytest.raises(ValueError, match="no limb"):
        one.wrap.close(np.full(3, 1 << 22, np.uint64))
    with pytest.raises(ValueError, match="at least one"):
        one.wrap.close(np.zeros(0, np.uint64))


def test_the_library_is_loaded_when_it_is_needed() -> None:
    program = "import sys, privacy.secure_sum.lattice; sys.exit('tenseal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
