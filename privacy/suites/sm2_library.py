"""SM2 (GB/T 32918, GM/T 0003) by the system's OpenSSL 3, through ctypes.

The `cryptography` package has SM3 and SM4 and no SM2. Nothing here computes on curves by itself:
each function asks libcrypto, whose nonces are random and whose scalar multiplication by one secret
takes the same steps for every secret. Where the library is missing, `missing` says so, and nothing
stands in for it.
"""

import ctypes
import ctypes.util
from functools import cache
from typing import Final, Self

from privacy.errors import ProtocolError
from privacy.randomness import Entropy

SCALAR_BYTES: Final = 32
POINT_BYTES: Final = 65
SIGNATURE_BYTES: Final = 64
DISTINGUISHING_ID: Final = b"1234567812345678"
"""What GM/T 0009 signs with where no other is agreed."""
_ORDER: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
_NID: Final = 1172
_UNCOMPRESSED: Final = 4
_PUBLIC, _PAIR = 0x86, 0x87
_UNSIGNED, _TEXT, _OCTETS = 2, 4, 5
_POINTERS: Final = (
    "EC_GROUP_new_by_curve_name",
    "EC_POINT_new",
    "BN_bin2bn",
    "EVP_PKEY_CTX_new_from_name",
    "EVP_PKEY_CTX_new",
    "EVP_MD_CTX_new",
    "EVP_sm3",
)
_WORDS: Final = (
    "EC_POINT_mul",
    "EC_POINT_oct2point",
    "EVP_PKEY_fromdata_init",
    "EVP_PKEY_fromdata",
    "EVP_PKEY_CTX_set1_id",
    "EVP_DigestSignInit",
    "EVP_DigestSign",
    "EVP_DigestVerifyInit",
    "EVP_DigestVerify",
)
_FREE: Final = (
    "EC_GROUP_free",
    "EC_POINT_clear_free",
    "BN_clear_free",
    "EVP_PKEY_CTX_free",
    "EVP_PKEY_free",
    "EVP_MD_CTX_free",
)


class _Param(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_void_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    )


@cache
def _library() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("crypto")
    if name is None:
        return None
    try:
        found = ctypes.CDLL(name)
        for one in _POINTERS:
            getattr(found, one).restype = ctypes.c_void_p
        for one in _WORDS:
            getattr(found, one).restype = ctypes.c_int
        for one in _FREE:
            getattr(found, one).restype = None
        found.EC_POINT_point2oct.restype = ctypes.c_size_t
    except (OSError, AttributeError):
        return None
    group = found.EC_GROUP_new_by_curve_name(_NID)
    if not group:
        return None
    found.EC_GROUP_free(ctypes.c_void_p(group))
    return found


def missing() -> str:
    """Return the sentence that says why this machine has no SM2; empty where it has."""
    if _library() is not None:
        return ""
    return (
        "This machine has no SM2: its system library libcrypto is missing, older than OpenSSL 3, "
        "or built without it; install OpenSSL 3 with SM2, or choose another suite."
    )


def _known() -> ctypes.CDLL:
    found = _library()
    if found is None:
        raise ProtocolError(missing())
    return found


class _Held:
    """What libcrypto handed out during one operation, given back at its end."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._held: list[tuple[str, ctypes.c_void_p]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for free, pointer in reversed(self._held):
            getattr(self._library, free)(pointer)

    def keep(self, free: str, address: int | None) -> ctypes.c_void_p:
        if not address:
            raise MemoryError("libcrypto made nothing")
        pointer = ctypes.c_void_p(address)
        self._held.append((free, pointer))
        return pointer


def draw_scalar(entropy: Entropy) -> bytes:
    """Return a private key, uniform in [1, n - 2] (GB/T 32918.1, 6.1), 32 bytes."""
    while True:
        scalar = entropy(SCALAR_BYTES)
        if 1 <= int.from_bytes(scalar, "big") <= _ORDER - 2:
            return scalar


def public_of(scalar: bytes) -> bytes:
    """Return the public key of a private one: 04, x, y; 65 bytes.

    Raises:
        ProtocolError: it is no private key, or this machine has no SM2.
    """
    return _multiply(scalar, None)


def shared_point(scalar: bytes, public: bytes) -> bytes:
    """Return x and y (64 bytes) of `scalar` times the point `public`; derive keys from them.

    Raises:
        ProtocolError: `public` is no point of the curve, or this machine has no SM2.
    """
    return _multiply(scalar, public)[1:]


def require_point(public: bytes) -> None:
    """Return if `public` is a point of the curve, not the neutral one; its cofactor is 1.

    Raises:
        ProtocolError: it is not.
    """
    _multiply((1).to_bytes(SCALAR_BYTES, "big"), public)


def _multiply(scalar: bytes, public: bytes | None) -> bytes:
    if (
        len(scalar) != SCALAR_BYTES
        or not 1 <= int.from_bytes(scalar, "big") <= _ORDER - 2
        or (public is not None and (len(public) != POINT_BYTES or public[0] != _UNCOMPRESSED))
    ):
        raise ProtocolError("an SM2 key has a wrong form; its holder must offer anew")
    library = _known()
    with _Held(library) as held:
        group = held.keep("EC_GROUP_free", library.EC_GROUP_new_by_curve_name(_NID))
        number = held.keep("BN_clear_free", library.BN_bin2bn(scalar, SCALAR_BYTES, None))
        result = held.keep("EC_POINT_clear_free", library.EC_POINT_new(group))
        if public is None:
            done = library.EC_POINT_mul(group, result, number, None, None, None)
        else:
            point = held.keep("EC_POINT_clear_free", library.EC_POINT_new(group))
            size = ctypes.c_size_t(POINT_BYTES)
            if library.EC_POINT_oct2point(group, point, public, size, None) != 1:
                library.ERR_clear_error()
                raise ProtocolError("an SM2 key is no point of the curve; offer anew")
            done = library.EC_POINT_mul(group, result, None, point, number, None)
        out = ctypes.create_string_buffer(POINT_BYTES)
        size = ctypes.c_size_t(POINT_BYTES)
        written = done == 1 and library.EC_POINT_point2oct(
            group, result, _UNCOMPRESSED, out, size, None
        )
        if written != POINT_BYTES:
            library.ERR_clear_error()
            raise ProtocolError("an SM2 key is not usable; its holder must offer anew")
        return out.raw


def sign(scalar: bytes, message: bytes, *, identity: bytes = DISTINGUISHING_ID) -> bytes:
    """Return the signature r, s (64 bytes) over `message`, hashed by SM3 with Z of `identity`.

    Raises:
        ProtocolError: it is no private key, or this machine has no SM2.
    """
    library, public = _known(), public_of(scalar)
    with _Held(library) as held:
        context = _digesting(library, held, _key(library, held, public, scalar), identity, "Sign")
        out = ctypes.create_string_buffer(80)
        size = ctypes.c_size_t(len(out))
        done = library.EVP_DigestSign(
            context, out, ctypes.byref(size), message, ctypes.c_size_t(len(message))
        )
        if done != 1:
            library.ERR_clear_error()
            raise ProtocolError("libcrypto made no SM2 signature; see the machine's OpenSSL")
        return _plain(out.raw[: size.value])


def verify(
    public: bytes, message: bytes, signature: bytes, *, identity: bytes = DISTINGUISHING_ID
) -> None:
    """Return if the holder of `public` signed `message` under `identity`.

    Raises:
        ProtocolError: it did not, key or signature have a wrong form, or there is no SM2 here.
    """
    require_point(public)
    wrong = "an SM2 signature does not verify; compare the sender's public key"
    if len(signature) != SIGNATURE_BYTES:
        raise ProtocolError(wrong)
    library, der = _known(), _der(signature)
    with _Held(library) as held:
        context = _digesting(library, held, _key(library, held, public, None), identity, "Verify")
        done = library.EVP_DigestVerify(
            context, der, ctypes.c_size_t(len(der)), message, ctypes.c_size_t(len(message))
        )
        if done != 1:
            library.ERR_clear_error()
            raise ProtocolError(wrong)


def _key(library: ctypes.CDLL, held: _Held, public: bytes, scalar: bytes | None) -> ctypes.c_void_p:
    # OpenSSL takes whole numbers in the machine's own order, which is little-endian.
    fields = [(b"group", _TEXT, b"SM2"), (b"pub", _OCTETS, public)]
    if scalar is not None:
        fields.append((b"priv", _UNSIGNED, scalar[::-1]))
    buffers = [ctypes.create_string_buffer(value, len(value)) for _, _, value in fields]
    params = (_Param * (len(fields) + 1))()
    for place, ((name, kind, value), buffer) in enumerate(zip(fields, buffers, strict=True)):
        address = ctypes.cast(buffer, ctypes.c_void_p)
        params[place] = _Param(name, kind, address, len(value), 0)
    context = held.keep("EVP_PKEY_CTX_free", library.EVP_PKEY_CTX_new_from_name(None, b"SM2", None))
    key = ctypes.c_void_p()
    kind = _PUBLIC if scalar is None else _PAIR
    done = (
        library.EVP_PKEY_fromdata_init(context) == 1
        and library.EVP_PKEY_fromdata(context, ctypes.byref(key), kind, params) == 1
    )
    if scalar is not None:
        ctypes.memset(buffers[-1], 0, SCALAR_BYTES)
    if not done:
        library.ERR_clear_error()
        raise ProtocolError("an SM2 key is not usable; its holder must offer anew")
    return held.keep("EVP_PKEY_free", key.value)


def _digesting(
    library: ctypes.CDLL, held: _Held, key: ctypes.c_void_p, identity: bytes, what: str
) -> ctypes.c_void_p:
    way = held.keep("EVP_PKEY_CTX_free", library.EVP_PKEY_CTX_new(key, None))
    context = held.keep("EVP_MD_CTX_free", library.EVP_MD_CTX_new())
    library.EVP_MD_CTX_set_pkey_ctx(context, way)
    begin = getattr(library, f"EVP_Digest{what}Init")
    digest = ctypes.c_void_p(library.EVP_sm3())
    if (
        library.EVP_PKEY_CTX_set1_id(way, identity, len(identity)) != 1
        or begin(context, None, digest, None, key) != 1
    ):
        library.ERR_clear_error()
        raise ProtocolError("libcrypto cannot use SM2 with SM3; see the machine's OpenSSL")
    return context


def _der(signature: bytes) -> bytes:
    body = b""
    for half in (signature[:32], signature[32:]):
        number = half.lstrip(b"\0") or b"\0"
        number = (b"\0" if number[0] & 0x80 else b"") + number
        body += bytes((2, len(number))) + number
    return bytes((0x30, len(body))) + body


def _plain(der: bytes) -> bytes:
    first = der[3]
    r, s = der[4 : 4 + first], der[6 + first :]
    return r.lstrip(b"\0").rjust(32, b"\0") + s.lstrip(b"\0").rjust(32, b"\0")
