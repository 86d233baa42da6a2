"""Secrets in shares: any `threshold` of them give it back, fewer say nothing (Shamir 1979).

Arithmetic is modulo the least prime above 2^256, so every secret of 32 bytes has its place.
"""

from collections.abc import Mapping
from functools import lru_cache

from privacy.errors import CohortError, ProtocolError
from privacy.randomness import Entropy

SECRET_BYTES = 32
SHARE_BYTES = 33
PRIME = 2**256 + 297
# 16 bytes more than the prime has: what is left of a bias after the reduction is below 2^-120.
_COEFFICIENT_BYTES = SHARE_BYTES + 16


def split(secret: bytes, *, holders: int, threshold: int, entropy: Entropy) -> tuple[bytes, ...]:
    """Return one share of `SHARE_BYTES` for each holder, in their order.

    Any `threshold` shares determine the secret; any `threshold - 1` are, but for 2^-120, uniform
    and independent of it.

    Args:
        secret: 32 bytes.
        holders: How many shares, 1 <= threshold <= holders.
        threshold: How many of them are needed.
        entropy: Makes the polynomial; nobody may know it.

    Raises:
        ValueError: an argument is out of range.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= holders:
        raise ValueError(f"need 32 bytes and 1 <= {threshold=} <= {holders=}")
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [
        int.from_bytes(entropy(_COEFFICIENT_BYTES), "big") % PRIME for _ in range(threshold - 1)
    ]
    return tuple(_value(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in _places(holders))


def combine(shares: Mapping[int, bytes], *, threshold: int) -> bytes:
    """Return the secret of which `shares` are shares.

    Wrong shares give a wrong secret, or an error: compare its hash with one that its owner signed.

    Args:
        shares: The holder's place, from 0, in the order that `split` was given -> its share. The
            first `threshold` of them by place are used.
        threshold: As given to `split`.

    Raises:
        CohortError: there are fewer than `threshold` shares.
        ProtocolError: a share is malformed, or these are shares of no 32 bytes.
    """
    if len(shares) < threshold:
        raise CohortError(f"{len(shares)} shares are here and {threshold} are needed; ask for more")
    chosen = dict(sorted(shares.items())[:threshold])
    values: dict[int, int] = {}
    for place, share in chosen.items():
        value = int.from_bytes(share, "big")
        if len(share) != SHARE_BYTES or value >= PRIME or place < 0:
            raise ProtocolError("a share has no value that a share can have; ask for it again")
        values[place + 1] = value
    weights = _weights_at_zero(tuple(values))
    secret = sum(w * value for w, value in zip(weights, values.values(), strict=True)) % PRIME
    if secret >= 1 << (8 * SECRET_BYTES):
        raise ProtocolError("these shares are of no secret; one of them is wrong")
    return secret.to_bytes(SECRET_BYTES, "big")


@lru_cache(maxsize=64)
def _weights_at_zero(places: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights; many secrets of one sum are shared among the same holders."""
    weights = []
    for x in places:
        above = below = 1
        for other in places:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)


def _places(holders: int) -> range:
    # At zero lies the secret itself.
    return range(1, holders + 1)


def _value(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value
