"""HKDF (RFC 5869) and HMAC (RFC 2104) over one hash, as a suite has them."""

from cryptography.hazmat.primitives.hashes import Hash, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_BYTES = 32


def digest(algorithm: HashAlgorithm, message: bytes) -> bytes:
    """Return the hash of `message`."""
    hashing = Hash(algorithm)
    hashing.update(message)
    return hashing.finalize()


def derive(algorithm: HashAlgorithm, secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes; other salt or info, other bytes."""
    return HKDF(algorithm=algorithm, length=_BYTES, salt=salt, info=info).derive(secret)


def mac(algorithm: HashAlgorithm, key: bytes, message: bytes) -> bytes:
    """Return the keyed hash of `message`."""
    code = HMAC(key, algorithm)
    code.update(message)
    return code.finalize()
