"""HPKE as it is in `intl`, but for where its one-time keys come from: they can happen again.

The library draws them from its own generator, which nobody can seed, and that is right.
"""

import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_POINT = 32


class SeededSealing:
    """Stands in for `cryptography`'s HPKE suite; sizes are the same."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy

    def encrypt(self, plain: bytes, public: X25519PublicKey, info: bytes) -> bytes:
        once = X25519PrivateKey.from_private_bytes(self._entropy(_POINT))
        shown = once.public_key().public_bytes_raw()
        key = hashlib.sha256(once.exchange(public) + shown).digest()
        return shown + AESGCM(key).encrypt(bytes(12), plain, info)

    def decrypt(self, sealed: bytes, private: X25519PrivateKey, info: bytes) -> bytes:
        shown = sealed[:_POINT]
        if len(sealed) < _POINT:
            raise InvalidTag
        key = hashlib.sha256(
            private.exchange(X25519PublicKey.from_public_bytes(shown)) + shown
        ).digest()
        return AESGCM(key).decrypt(bytes(12), sealed[_POINT:], info)
