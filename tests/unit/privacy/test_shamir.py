import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import CohortError, ProtocolError
from privacy.randomness import Entropy, system_bytes
from privacy.shamir import PRIME, SECRET_BYTES, SHARE_BYTES, combine, split

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
SECRETS = st.binary(min_size=32, max_size=32)
SECRET = bytes(range(32))
ALPHA = 1e-6
# Below 3.3e24 these bases decide; above, each random one errs with a chance below 1/4.
DECIDING = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def passes_miller_rabin(number: int, base: int) -> bool:
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    power = pow(base, odd, number)
    if power in {1, number - 1}:
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def is_probable_prime(number: int) -> bool:
    source = random.Random(number)
    bases = [*DECIDING, *(source.randrange(2, number - 1) for _ in range(64))]
    return all(passes_miller_rabin(number, base) for base in bases)


def test_the_modulus_is_the_least_prime_above_two_to_the_256() -> None:
    assert is_probable_prime(PRIME)
    assert PRIME.bit_length() <= 8 * SHARE_BYTES
    assert not any(is_probable_prime(2**256 + above) for above in range(1, 297, 2))


def test_the_check_for_primes_can_fail() -> None:
    assert is_probable_prime(2**127 - 1)
    assert not is_probable_prime(3215031751)  # a pseudoprime to the bases 2, 3, 5 and 7
    assert not is_probable_prime((2**127 - 1) * (2**89 - 1))


@UNHURRIED
@given(SECRETS, st.data())
def test_any_threshold_of_the_shares_gives_the_secret(secret: bytes, data: st.DataObject) -> None:
    holders = data.draw(st.integers(1, 14))
    threshold = data.draw(st.integers(1, holders))
    shares = split(secret, holders=holders, threshold=threshold, entropy=system_bytes)
    assert len(shares) == holders
    assert {len(share) for share in shares} == {SHARE_BYTES}
    places = data.draw(st.permutations(range(holders)))
    for count in range(threshold, holders + 1):
        chosen = {place: shares[place] for place in places[:count]}
        assert combine(chosen, threshold=threshold) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, b"\x80" + bytes(31), SECRET])
@pytest.mark.parametrize(("holders", "threshold"), [(1, 1), (2, 2), (3, 3), (33, 23), (327, 219)])
def test_the_ends_of_the_range_come_back(secret: bytes, holders: int, threshold: int) -> None:
    shares = split(secret, holders=holders, threshold=threshold, entropy=system_bytes)
    last = dict(list(enumerate(shares))[-threshold:])
    assert combine(last, threshold=threshold) == secret


def lagrange(points: dict[int, int], x: int) -> int:
    """The value at `x` of the one polynomial of least degree through `points`."""
    total = 0
    for at, value in points.items():
        above = below = 1
        for other in points:
            if other != at:
                above = above * (x - other) % PRIME
                below = below * (at - other) % PRIME
        total += value * above * pow(below, -1, PRIME)
    return total % PRIME


@UNHURRIED
@given(SECRETS, SECRETS, st.data())
def test_one_share_fewer_is_consistent_with_every_secret(
    secret: bytes, other: bytes, data: st.DataObject
) -> None:
    """Not by chance but by construction: another polynomial goes through the same shares."""
    holders = data.draw(st.integers(2, 9))
    threshold = data.draw(st.integers(2, holders))
    shares = split(secret, holders=holders, threshold=threshold, entropy=system_bytes)
    seen = data.draw(st.permutations(range(holders)))[: threshold - 1]
    points = {0: int.from_bytes(other, "big")}
    points |= {place + 1: int.from_bytes(shares[place], "big") for place in seen}
    assert len(points) == threshold  # so its degree is one that `split` draws from
    told = {
        place: lagrange(points, place + 1).to_bytes(SHARE_BYTES, "big") for place in range(holders)
    }
    assert all(told[place] == shares[place] for place in seen)
    assert combine(told, threshold=threshold) == other


@UNHURRIED
@given(st.integers(1, 9), st.data())
def test_every_choice_of_fewer_shares_has_its_polynomial(count: int, data: st.DataObject) -> None:
    """The other direction: whatever values the fewer shares have, each secret can have dealt them.

    Hence for uniform coefficients their distribution is the same for every secret.
    """
    values = data.draw(st.lists(st.integers(0, PRIME - 1), min_size=count, max_size=count))
    secret = data.draw(SECRETS)
    points = {0: int.from_bytes(secret, "big")} | {
        place + 1: value for place, value in enumerate(values)
    }
    x = count + 1
    told = {place: value.to_bytes(SHARE_BYTES, "big") for place, value in enumerate(values)}
    told[count] = lagrange(points, x).to_bytes(SHARE_BYTES, "big")
    assert combine(told, threshold=count + 1) == secret


def test_the_same_coefficients_make_the_same_shares_and_others_do_not() -> None:
    def source() -> Entropy:
        return random.Random("coefficients").randbytes

    first = split(SECRET, holders=5, threshold=3, entropy=source())
    assert split(SECRET, holders=5, threshold=3, entropy=source()) == first
    again = split(SECRET, holders=5, threshold=3, entropy=system_bytes)
    assert not set(first).intersection(again)
    # With a threshold of one, each share is the secret itself.
    assert set(split(SECRET, holders=3, threshold=1, entropy=source())) == {b"\0" + SECRET}


def byte_p_value(draws: bytes) -> float:
    """Chi-square of bytes against uniform ones, Wilson and Hilferty's approximation."""
    counts = np.bincount(np.frombuffer(draws, np.uint8), minlength=256)
    expected = len(draws) / 256
    statistic = float(((counts - expected) ** 2 / expected).sum())
    normal = ((statistic / 255) ** (1 / 3) - (1 - 2 / (9 * 255))) / math.sqrt(2 / (9 * 255))
    return 0.5 * math.erfc(normal / math.sqrt(2))


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
@pytest.mark.parametrize("threshold", [2, 5])
def test_a_share_looks_uniform_whatever_the_secret(secret: bytes, threshold: int) -> None:
    source = random.Random(f"shares {threshold}").randbytes
    dealt = [split(secret, holders=5, threshold=threshold, entropy=source) for _ in range(1500)]
    for holder in range(5):
        # The byte above is zero but for one share in 2^247.
        assert byte_p_value(b"".join(shares[holder][1:] for shares in dealt)) > ALPHA


def test_the_uniformity_check_finds_small_coefficients_and_none() -> None:
    source = random.Random("twin").randbytes

    def small(_: int) -> bytes:
        return source(30)  # below 2^240

    for threshold, entropy in ((2, small), (1, source)):
        dealt = [
            split(bytes(32), holders=3, threshold=threshold, entropy=entropy) for _ in range(1500)
        ]
        assert byte_p_value(b"".join(shares[0][1:] for shares in dealt)) < ALPHA


def test_coefficients_are_drawn_wide_enough_to_hide_the_reduction() -> None:
    asked: list[int] = []

    def noting(count: int) -> bytes:
        asked.append(count)
        return system_bytes(count)

    split(SECRET, holders=7, threshold=5, entropy=noting)
    assert len(asked) == 4
    # Of 2^(8 n) numbers modulo the prime, some values come once more: a bias below prime / 2^(8 n).
    assert all(1 << 8 * count > PRIME << 120 for count in asked)


@pytest.mark.parametrize("threshold", [2, 3, 10])
def test_too_few_shares_are_refused(threshold: int) -> None:
    shares = dict(enumerate(split(SECRET, holders=10, threshold=threshold, entropy=system_bytes)))
    for count in range(threshold):
        with pytest.raises(CohortError, match=f"{count} shares are here and {threshold} are"):
            combine(dict(list(shares.items())[:count]), threshold=threshold)


@pytest.mark.parametrize(
    "share",
    [
        b"",
        bytes(32),
        bytes(34),
        PRIME.to_bytes(SHARE_BYTES, "big"),
        (PRIME + 1).to_bytes(SHARE_BYTES, "big"),
        b"\xff" * SHARE_BYTES,
    ],
)
def test_a_malformed_share_is_refused(share: bytes) -> None:
    shares = dict(enumerate(split(SECRET, holders=3, threshold=3, entropy=system_bytes)))
    for place in range(3):
        with pytest.raises(ProtocolError, match="no value that a share can have"):
            combine({**shares, place: share}, threshold=3)
    below = {-1: shares[0], 1: shares[1], 2: shares[2]}
    with pytest.raises(ProtocolError, match="no value"):
        combine(below, threshold=3)


def test_a_wrong_share_gives_another_secret_or_an_error() -> None:
    shares = dict(enumerate(split(SECRET, holders=4, threshold=3, entropy=system_bytes)))
    changed = {**shares, 0: shares[0][:-1] + bytes([shares[0][-1] ^ 1])}
    swapped = {**shares, 0: shares[1], 1: shares[0]}
    moved = {place + 1: share for place, share in shares.items()}
    for wrong in (changed, swapped, moved):
        try:
            assert combine(wrong, threshold=3) != SECRET
        except ProtocolError as error:
            assert "of no secret" in str(error)  # noqa: PT017 - either outcome is right
    # With one share more than a wrong one, those after it are not looked at.
    assert combine({0: shares[0], 1: shares[1], 2: shares[2], 3: b""}, threshold=3) == SECRET


def test_shares_of_a_number_that_is_no_secret_are_refused() -> None:
    for number in (2**256, PRIME - 1):
        share = number.to_bytes(SHARE_BYTES, "big")
        with pytest.raises(ProtocolError, match="of no secret"):
            combine({0: share}, threshold=1)


@pytest.mark.parametrize(
    ("secret", "holders", "threshold"),
    [
        (bytes(31), 3, 2),
        (bytes(33), 3, 2),
        (b"", 3, 2),
        (bytes(32), 3, 0),
        (bytes(32), 3, 4),
        (bytes(32), 0, 0),
        (bytes(32), 3, -1),
    ],
)
def test_what_cannot_be_split_is_an_error_of_the_programmer(
    secret: bytes, holders: int, threshold: int
) -> None:
    with pytest.raises(ValueError, match="need 32 bytes"):
        split(secret, holders=holders, threshold=threshold, entropy=system_bytes)
    assert SECRET_BYTES == 32
