"""Sums inside homomorphic encryption (TenSEAL): exact BFV under masks, and CKKS for comparison.

    node            BfvKey.create(parties) -> secret_bytes(), sealed to the other nodes
                    BfvWrap(key)                           see `privacy.secure_sum.carrier.Wrap`
    coordinator     BfvAdder(public_context, parties=..)   see `privacy.secure_sum.carrier.Adder`

Every node of a run holds the same secret key; the coordinator has none, so alone it reads nothing,
not even the sum. Encryption is symmetric, with the secret key. What the coordinator is given, the
public context, is the parameters and nothing else: no public, Galois or relinearisation key.

    BFV     the numbers are masked before they are encrypted. A coordinator that colludes with a
            node takes off the encryption and meets the masks.
            A ciphertext is two polynomials, and adding ciphertexts is adding their coefficients
            modulo q. So a payload is how many numbers it holds (8 bytes, big), of which parameters
            (8 bytes), and the coefficients of one ciphertext after the other (7 bytes each,
            little). The coordinator adds these as integers; nothing that comes from a node is ever
            shown to SEAL there.
    CKKS    no masks, as approximate numbers have none that cancel. NOT COLLUSION-RESISTANT: the
            coordinator and any one node together read every single update. Payloads hold SEAL's
            own compressed bytes.

Parameters keep 128-bit security (HomomorphicEncryption.org standard, 2018: at most 109 bits of
coefficient modulus at degree 4096, 218 at 8192; SEAL refuses to load others).
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np
import zstandard
from cryptography.hazmat.primitives.ciphers import CipherContext
from numpy.typing import NDArray

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.keystream import BLOCK_WORDS, WORD_BYTES, Words, stream_of

__all__ = [
    "CKKS_DEEP",
    "CKKS_SHALLOW",
    "BfvAdder",
    "BfvKey",
    "BfvParameters",
    "BfvWrap",
    "CkksAdder",
    "CkksKey",
    "CkksParameters",
    "CkksWrap",
    "bfv_parameters",
]

PAYLOAD_BYTES_MAX = 1 << 30
# A secret key has one word for each coefficient and prime: 262 kB at the largest parameters here.
_SECRET_BYTES_MAX = 1 << 19

# A word of 64 bits in parts that stay far below every plain modulus, however many are added.
_LIMB_BITS = 22
_LIMBS = 3

# 58 bits a word: the signed sum of 31 of them, and one number more, is below 2^63.
_MASK_BITS = 58
_KEYS_A_PASS = 31
_ZEROS = bytes(BLOCK_WORDS * WORD_BYTES)

# Every q here is below 2^54. A coefficient's eighth byte is always zero and is not sent.
_RESIDUE_BYTES = 7
_RESIDUE_FIELD = np.dtype(
    {"names": ["sent"], "formats": [f"V{_RESIDUE_BYTES}"], "itemsize": WORD_BYTES}
)

_MALFORMED = "a payload's ciphertext is malformed or of other parameters; seal it again"
_CUT = "a payload is cut short or holds another number; seal it again"
_OTHER_LENGTH = "a payload has another length than the others; compare the schema"
_OTHER_LENGTH_OPENED = "an opened sum has another length than was sealed; discard it"
_NOTHING_ADDED = "no payload was added; there is no sum to open"
_BAD_KEY = "the encryption's secret key is malformed or of other parameters; make it anew"
_OTHER_SEAL = "TenSEAL writes ciphertexts in another form than 0.3.18; install that version"
_NOT_PICKLED = "the encryption's key goes to other nodes sealed; use secret_bytes"

# Further from an integer than this, rounding is a guess.
_ROUNDING_MAX = 0.25
_EXACT_FLOATS = 2.0**53

_LENGTH_BYTES = 8
_EXACT_HEAD_BYTES = 16
# What SEAL writes begins with 16 bytes: magic number, this header's length, SEAL's version (4.3,
# both with TenSEAL 0.3.18), how the rest is compressed, two unused bytes, and the size of it all.
_SEAL_MAGIC = b"\x5e\xa1"
_SEAL_START = _SEAL_MAGIC + b"\x10\x04\x03"
_SEAL_PLAIN, _SEAL_ZSTD = b"\0\0\0", b"\2\0\0"
_SEAL_SIZE = slice(8, 16)
_SEAL_HEADER_BYTES = 16
# A ciphertext is then: identifier of the parameters, in NTT form?, polynomials, degree, primes,
# scale, correction factor; and an array: a header, how many coefficients, all coefficients.
_SEAL_CIPHERTEXT = struct.Struct("<4QB3QdQ")
# What zstd adds at most to bytes that it cannot shrink is 1/256, and its own header.
_SEAL_SLACK = 128
_SEAL_SLACK_BYTES = 1024
_FRESH_POLYNOMIALS = 2
# What the C++ exceptions of SEAL and TenSEAL become in Python.
_SEAL_ERRORS = (RuntimeError, ValueError, IndexError, OverflowError, TypeError, MemoryError)

_T = TypeVar("_T")
_Stream: TypeAlias = tuple[CipherContext, np.ufunc]


# --- what is used of TenSEAL, which has no types ---


class _Ciphertext(Protocol):
    scale: float

    def size(self) -> int: ...
    def parms_id(self) -> object: ...
    def is_ntt_form(self) -> bool: ...


class _Vector(Protocol):
    def add_(self, other: "_Vector") -> "_Vector": ...
    def add_plain(self, values: Sequence[float]) -> "_Vector": ...
    def ciphertext(self) -> Sequence[_Ciphertext]: ...
    def decrypt(self) -> Sequence[float]: ...
    def serialize(self) -> bytes: ...


class _SealContext(Protocol):
    def first_parms_id(self) -> Sequence[int]: ...


class _Context(Protocol):
    global_scale: float
    auto_relin: bool
    auto_rescale: bool
    auto_mod_switch: bool

    def has_secret_key(self) -> bool: ...
    def seal_context(self) -> _SealContext: ...
    def serialize(self, public: bool, secret: bool, galois: bool, relin: bool) -> bytes: ...  # noqa: FBT001


class _Contexts(Protocol):
    def new(  # noqa: PLR0917
        self,
        scheme: object,
        degree: int,
        plain_modulus: int,
        coefficient_bits: list[int],
        encryption: object,
        threads: int,
    ) -> _Context: ...
    def deserialize(self, data: bytes, threads: int) -> _Context: ...


class _Schemes(Protocol):
    BFV: object
    CKKS: object


class _Encryptions(Protocol):
    SYMMETRIC: object


class _Native(Protocol):
    TenSEALContext: _Contexts
    SCHEME_TYPE: _Schemes
    ENCRYPTION_TYPE: _Encryptions
    BFVVector: Callable[[_Context, Sequence[float] | bytes], _Vector]
    CKKSVector: Callable[[_Context, Sequence[float] | bytes], _Vector]


def _native() -> _Native:
    """Return the compiled half of TenSEAL: its Python half copies every vector three times."""
    from tenseal import _ts_cpp  # type: ignore[import-untyped]

    native: _Native = _ts_cpp
    return native


def _guarded(action: Callable[[], _T], sentence: str) -> _T:
    try:
        return action()
    except _SEAL_ERRORS:
        raise ProtocolError(sentence) from None


# --- parameters ---


@dataclass(frozen=True)
class BfvParameters:
    """How sums of up to `parties_max` vectors are encrypted exactly.

    Attributes:
        parties_max: Most vectors that one sum can hold.
        field_bits: Bits of each of the two fields that are packed into a number.
        plain_modulus: t, the least prime above 2^(2 field_bits) that is 1 modulo twice the degree,
            so that a polynomial has `degree` slots, each an integer modulo t.
        degree: Of the polynomials; numbers a ciphertext.
        coefficient_bits: Of the primes; ciphertexts live modulo the first, SEAL keeps the last for
            keys that are not used here.
        modulus: q, the first of these primes.
    """

    parties_max: int
    field_bits: int
    plain_modulus: int
    degree: int = 4096
    coefficient_bits: tuple[int, ...] = (54, 54)
    modulus: int = 18014398509293569

    @property
    def word_bits(self) -> int:
        """Bits of the largest word that is one number: two fields."""
        return 2 * self.field_bits

    @property
    def words(self) -> int:
        """Coefficients of a ciphertext."""
        return _FRESH_POLYNOMIALS * self.degree

    def ciphertexts(self, count: int) -> int:
        """How many ciphertexts hold `count` numbers."""
        return -(-count // self.degree)


# How the limits were found. A fresh symmetric ciphertext's error is at most 21 in every coefficient
# (SEAL samples a centred binomial of 2 x 21 bits), and scaling a plaintext, fresh or added, rounds
# by at most 1/2. Decryption is exact below q / (2t), which is 2^(53 - 2 field_bits): 2048, 8192
# and 32768. With 21.5 a party, in the worst case and all of one sign, sums hold up to 95, 381 and
# 1524 parties; each limit is half of that. Adding one ciphertext again and again, the worst that
# can be done honestly, first failed at 148 to 193, 676 and 2688 additions in experiments; sums of
# independent ciphertexts and one correction had 4, 5 and 6 bits left at the limits.
_BFV_TABLE = (
    BfvParameters(parties_max=48, field_bits=21, plain_modulus=4398046568449),
    BfvParameters(parties_max=192, field_bits=20, plain_modulus=1099511799809),
    BfvParameters(parties_max=768, field_bits=19, plain_modulus=274878062593),
)


def bfv_parameters(parties: int) -> BfvParameters:
    """Return the parameters with the widest fields that sum `parties` vectors exactly.

    Raises:
        ValueError: `parties` < 1.
        ProtocolError: no parameters are exact for so many.
    """
    if parties < 1:
        raise ValueError(f"need {parties=} >= 1")
    for parameters in _BFV_TABLE:
        if parties <= parameters.parties_max:
            return parameters
    raise ProtocolError(
        f"sealed sums hold up to {_BFV_TABLE[-1].parties_max} members, not {parties}; "
        "use masked sums"
    )


@dataclass(frozen=True)
class CkksParameters:
    """How sums are encrypted approximately.

    Attributes:
        coefficient_bits: Of the primes. The last is never part of a ciphertext; the others cost
            bytes and time in proportion.
        scale_bits: Values are multiplied by 2^scale_bits and rounded.
        degree: Of the polynomials; twice the numbers a ciphertext.
    """

    coefficient_bits: tuple[int, ...]
    scale_bits: int = 40
    degree: int = 8192


CKKS_DEEP = CkksParameters((60, 40, 40, 60))
"""What tutorials use: room for two multiplications, of which a sum needs none."""
CKKS_SHALLOW = CkksParameters((60, 40, 40))
"""What other federations use for sums."""


@dataclass(frozen=True)
class _Scheme:
    """Everything that TenSEAL has to be told; `plain_modulus` is zero for CKKS."""

    degree: int
    coefficient_bits: tuple[int, ...]
    plain_modulus: int = 0
    scale_bits: int = 0

    @property
    def exact(self) -> bool:
        return self.plain_modulus != 0

    @property
    def slots(self) -> int:
        return self.degree if self.exact else self.degree // 2

    @property
    def scale(self) -> float:
        return 2.0**self.scale_bits

    @property
    def words(self) -> int:
        """Coefficients of a ciphertext."""
        return _FRESH_POLYNOMIALS * self.degree * (len(self.coefficient_bits) - 1)

    @property
    def ciphertext_bytes(self) -> range:
        """How long a ciphertext can be as SEAL compresses it.

        Its coefficients cannot be told from uniform ones, so of their words' bytes no compression
        saves half; much shorter ones would fill a memory with zeros that cost nothing to send.
        """
        most = self.words * WORD_BYTES
        return range(most // 2, most + most // _SEAL_SLACK + _SEAL_SLACK_BYTES)

    def digest(self) -> bytes:
        numbers = (self.degree, self.plain_modulus, self.scale_bits, *self.coefficient_bits)
        parts = [str(number).encode("ascii") for number in numbers]
        return hashlib.sha256(framed(b"tacit/lattice-scheme/v1", *parts)).digest()


def _bfv_scheme(parameters: BfvParameters) -> _Scheme:
    return _Scheme(parameters.degree, parameters.coefficient_bits, parameters.plain_modulus)


def _ckks_scheme(parameters: CkksParameters) -> _Scheme:
    return _Scheme(parameters.degree, parameters.coefficient_bits, scale_bits=parameters.scale_bits)


# --- contexts, keys and single ciphertexts ---


def _secret_form(context: _Context) -> bytes:
    return context.serialize(False, True, False, False)  # noqa: FBT003


def _public_form(context: _Context) -> bytes:
    return context.serialize(False, False, False, False)  # noqa: FBT003


def _new_context(scheme: _Scheme) -> _Context:
    native = _native()
    context = native.TenSEALContext.new(
        native.SCHEME_TYPE.BFV if scheme.exact else native.SCHEME_TYPE.CKKS,
        scheme.degree,
        scheme.plain_modulus,
        list(scheme.coefficient_bits),
        native.ENCRYPTION_TYPE.SYMMETRIC,
        1,
    )
    if not scheme.exact:
        context.global_scale = scheme.scale
    # TenSEAL turns some of these off when it first encrypts, and then writes other bytes.
    context.auto_relin = context.auto_rescale = context.auto_mod_switch = False
    return context


@lru_cache(maxsize=16)
def _public_bytes(scheme: _Scheme) -> bytes:
    """Return the only public context of `scheme`: it holds no key."""
    return _public_form(_new_context(scheme))


class _Engine:
    """Reads and writes ciphertexts of one scheme; encrypts and decrypts if it has the secret."""

    __slots__ = ("_context", "_form", "_head", "_level", "_tail", "_vector", "scheme")

    def __init__(self, scheme: _Scheme, context: _Context) -> None:
        native = _native()
        self.scheme = scheme
        self._context = context
        self._vector = native.BFVVector if scheme.exact else native.CKKSVector
        self._level = context.seal_context().first_parms_id()
        # TenSEAL's protobuf of one ciphertext is head, length, ciphertext, tail. It is made here
        # and not taken from the wire, where it could name many ciphertexts, or a vector of one
        # slot, which TenSEAL would rotate.
        slots = _varint(scheme.slots)
        self._head = b"\x0a" + _varint(len(slots)) + slots + b"\x12"
        self._tail = b"" if scheme.exact else b"\x19" + struct.pack("<d", scheme.scale)
        primes = len(scheme.coefficient_bits) - 1
        array = scheme.words.to_bytes(8, "little")
        self._form = (
            _SEAL_CIPHERTEXT.pack(
                *self._level,
                not scheme.exact,
                _FRESH_POLYNOMIALS,
                scheme.degree,
                primes,
                scheme.scale,
                1,
            )
            + _seal_header(len(array) + scheme.words * WORD_BYTES)
            + array
        )

    @staticmethod
    def secret(scheme: _Scheme, secret: bytes) -> "_Engine":
        """Return one that encrypts and decrypts, if `secret` is a key of `scheme` and no more."""
        if len(secret) > _SECRET_BYTES_MAX:
            raise ProtocolError(_BAD_KEY)
        context = _guarded(lambda: _native().TenSEALContext.deserialize(secret, 1), _BAD_KEY)
        # The last comparison refuses every second encoding, and whatever else the bytes may hold,
        # as Galois or relinearisation keys.
        if (
            not context.has_secret_key()
            or _public_form(context) != _public_bytes(scheme)
            or _secret_form(context) != secret
        ):
            raise ProtocolError(_BAD_KEY)
        return _Engine(scheme, context)

    def encrypt(self, values: Sequence[float]) -> _Vector:
        """Return the encryption of one value for every slot."""
        return self._vector(self._context, values)

    def write(self, vector: _Vector) -> bytes:
        """Return SEAL's own bytes: those of TenSEAL without their frame."""
        data = vector.serialize()
        start = data.index(_SEAL_MAGIC)  # no frame has these two bytes
        return data[start : len(data) - len(self._tail)]

    def read(self, ciphertext: bytes | memoryview) -> _Vector:
        """Return the vector of a fresh ciphertext, or of a sum of such."""
        size = len(ciphertext)
        if ciphertext[: len(_SEAL_MAGIC)] != _SEAL_MAGIC or _stated_size(ciphertext) != size:
            raise ProtocolError(_MALFORMED)
        data = b"".join((self._head, _varint(size), ciphertext, self._tail))
        vector = _guarded(lambda: self._vector(self._context, data), _MALFORMED)
        (inner,) = vector.ciphertext()
        if (
            inner.size() != _FRESH_POLYNOMIALS
            or inner.parms_id() != self._level
            or inner.is_ntt_form() == self.scheme.exact
            or inner.scale != self.scheme.scale
        ):
            raise ProtocolError(_MALFORMED)
        return vector

    def coefficients(self, vector: _Vector) -> Words:
        """Return the coefficients of a fresh ciphertext, or of a sum of such."""
        data = self.write(vector)
        if not data.startswith(_SEAL_START + _SEAL_ZSTD):
            raise RuntimeError(_OTHER_SEAL)
        size = len(self._form) + self.scheme.words * WORD_BYTES
        plain = zstandard.decompress(memoryview(data)[_SEAL_HEADER_BYTES:])
        if len(plain) != size or not plain.startswith(self._form):
            raise RuntimeError(_OTHER_SEAL)
        return np.frombuffer(plain, dtype="<u8", offset=len(self._form))

    def vector(self, coefficients: Words) -> _Vector:
        """Return the ciphertext of these coefficients, `scheme.words` of them."""
        plain = self._form + coefficients.tobytes()
        return self.read(_seal_header(len(plain)) + plain)


@lru_cache(maxsize=4)
def _keyless_engine(scheme: _Scheme) -> _Engine:
    # Kept, as tables for a new context cost as much as adding up two payloads.
    return _Engine(scheme, _native().TenSEALContext.deserialize(_public_bytes(scheme), 1))


def _public_engine(scheme: _Scheme, public_context: bytes) -> _Engine:
    """Return an engine that cannot decrypt, if `public_context` is the one of `scheme`."""
    if public_context != _public_bytes(scheme):
        raise ProtocolError(
            "the encryption's public context is of other parameters or holds a key; "
            "ask a node for it again"
        )
    return _keyless_engine(scheme)


def _stated_size(ciphertext: bytes | memoryview) -> int:
    return int.from_bytes(ciphertext[_SEAL_SIZE], "little")


def _seal_header(size: int) -> bytes:
    """Return what precedes `size` bytes that are not compressed."""
    return _SEAL_START + _SEAL_PLAIN + (_SEAL_HEADER_BYTES + size).to_bytes(8, "little")


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number >= 1 << 7:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _fingerprint(scheme: _Scheme, secret: bytes) -> bytes:
    parts = (scheme.digest(), _public_bytes(scheme), hashlib.sha256(secret).digest())
    return hashlib.sha256(framed(b"tacit/lattice-key/v1", *parts)).digest()


class BfvKey:
    """The secret key of one run's exact sums, held by its nodes and never by the coordinator."""

    __slots__ = ("_secret", "engine", "parameters")

    def __init__(self, secret: bytes, parameters: BfvParameters) -> None:
        self.parameters = parameters
        self.engine = _Engine.secret(_bfv_scheme(parameters), secret)
        self._secret = secret

    @staticmethod
    def create(parties: int) -> "BfvKey":
        """Return a new key, drawn by SEAL from the operating system's generator.

        Raises:
            ValueError: `parties` < 1.
            ProtocolError: no parameters are exact for so many.
        """
        parameters = bfv_parameters(parties)
        return BfvKey(_secret_form(_new_context(_bfv_scheme(parameters))), parameters)

    @staticmethod
    def from_bytes(secret: bytes, parties: int) -> "BfvKey":
        """Read what `secret_bytes` wrote for as many parties.

        Raises:
            ProtocolError: anything but a secret key of exactly these parameters with no other key
                beside it, in its one encoding.
        """
        return BfvKey(secret, bfv_parameters(parties))

    def secret_bytes(self) -> bytes:
        """Return the key itself: seal it to every node, and write it nowhere."""
        return self._secret

    def public_context(self) -> bytes:
        """Return what the coordinator is given: the parameters, and no key."""
        return _public_bytes(self.engine.scheme)

    def fingerprint(self) -> bytes:
        """Return 32 bytes (SHA-256) that differ for other keys and for other parameters."""
        return _fingerprint(self.engine.scheme, self._secret)

    def __repr__(self) -> str:
        return "BfvKey(..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_PICKLED)


class CkksKey:
    """The secret key of one run's approximate sums. A node that gives it away gives away all."""

    __slots__ = ("_secret", "engine")

    def __init__(self, secret: bytes, parameters: CkksParameters) -> None:
        self.engine = _Engine.secret(_ckks_scheme(parameters), secret)
        self._secret = secret

    @staticmethod
    def create(parameters: CkksParameters = CKKS_DEEP) -> "CkksKey":
        """Return a new key, drawn by SEAL from the operating system's generator."""
        return CkksKey(_secret_form(_new_context(_ckks_scheme(parameters))), parameters)

    @staticmethod
    def from_bytes(secret: bytes, parameters: CkksParameters = CKKS_DEEP) -> "CkksKey":
        """Read what `secret_bytes` wrote; see `BfvKey.from_bytes`."""
        return CkksKey(secret, parameters)

    def secret_bytes(self) -> bytes:
        """See `BfvKey.secret_bytes`."""
        return self._secret

    def public_context(self) -> bytes:
        """See `BfvKey.public_context`."""
        return _public_bytes(self.engine.scheme)

    def fingerprint(self) -> bytes:
        """See `BfvKey.fingerprint`."""
        return _fingerprint(self.engine.scheme, self._secret)

    def __repr__(self) -> str:
        return "CkksKey(..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_PICKLED)


# --- slots ---


def _full_slots(
    numbers: NDArray[np.int64] | NDArray[np.float64], slots: int
) -> Iterator[list[float]]:
    """Yield lists of exactly `slots` values, the last one ending in zeros.

    TenSEAL prints a warning for a longer list, and for a shorter one writes its length.
    """
    for start in range(0, len(numbers), slots):
        part = numbers[start : start + slots]
        values: list[float] = part.tolist()
        values += np.zeros(slots - len(part), dtype=part.dtype).tolist()
        yield values


def _require_numbers(numbers: Words) -> None:
    if not len(numbers):
        raise ValueError("need at least one number to encrypt")


def _count_of(payload: bytes) -> int:
    """Return how many numbers a payload says it holds."""
    if not _LENGTH_BYTES < len(payload) <= PAYLOAD_BYTES_MAX:
        raise ProtocolError("a payload is empty or too long; its member must seal it again")
    return int.from_bytes(payload[:_LENGTH_BYTES], "big")


# --- exact payloads: how many numbers, then the coefficients of all ciphertexts ---


def _packed(parameters: BfvParameters, count: int, ciphertexts: Iterable[Words]) -> bytes:
    parts = [ciphertext.view(_RESIDUE_FIELD)["sent"].tobytes() for ciphertext in ciphertexts]
    return b"".join([_exact_head(parameters, count), *parts])


def _exact_head(parameters: BfvParameters, count: int) -> bytes:
    mark = _bfv_scheme(parameters).digest()[: _EXACT_HEAD_BYTES - _LENGTH_BYTES]
    return count.to_bytes(_LENGTH_BYTES, "big") + mark


def _exact_count(parameters: BfvParameters, payload: bytes) -> int:
    """Return how many numbers a payload holds, if it has the length for exactly these.

    Raises:
        ProtocolError: it has another, or is of other parameters.
    """
    count = _count_of(payload)
    if payload[:_EXACT_HEAD_BYTES] != _exact_head(parameters, count):
        raise ProtocolError(_MALFORMED)
    words = parameters.ciphertexts(count) * parameters.words
    if not count or len(payload) != _EXACT_HEAD_BYTES + words * _RESIDUE_BYTES:
        raise ProtocolError(_CUT)
    return count


def _unpacked(parameters: BfvParameters, payload: bytes) -> Iterator[Words]:
    """Yield the coefficients of each ciphertext, in one array that the next one overwrites.

    Raises:
        ProtocolError: the next ciphertext has a coefficient that is not below q.
    """
    words = parameters.words
    total = (len(payload) - _EXACT_HEAD_BYTES) // _RESIDUE_BYTES
    # Words that overlap: each is one byte of what precedes it, and the seven of a coefficient.
    sent: Words = np.ndarray(
        (total,), "<u8", payload, offset=_EXACT_HEAD_BYTES - 1, strides=(_RESIDUE_BYTES,)
    )
    coefficients = np.empty(words, dtype=np.uint64)
    for start in range(0, total, words):
        np.right_shift(sent[start : start + words], 8, out=coefficients)
        if coefficients.max() >= parameters.modulus:
            raise ProtocolError(_MALFORMED)
        yield coefficients


# --- approximate payloads: how many numbers, then SEAL's bytes of each ciphertext, framed ---


def _sealed(engine: _Engine, numbers: NDArray[np.float64]) -> bytes:
    parts = _full_slots(numbers, engine.scheme.slots)
    return _payload(len(numbers), (engine.write(engine.encrypt(part)) for part in parts))


def _payload(count: int, ciphertexts: Iterable[bytes]) -> bytes:
    return count.to_bytes(_LENGTH_BYTES, "big") + framed(*ciphertexts)


def _ciphertexts(scheme: _Scheme, payload: bytes) -> tuple[int, list[memoryview]]:
    """Return how many numbers a payload holds, and its ciphertexts, none of which was read yet.

    Raises:
        ProtocolError: a length is not as it must be.
    """
    count = _count_of(payload)
    view = memoryview(payload)
    ciphertexts: list[memoryview] = []
    end = _LENGTH_BYTES
    while end < len(payload):
        start = end + _LENGTH_BYTES
        end = start + int.from_bytes(payload[end:start], "big")
        if end - start not in scheme.ciphertext_bytes:
            raise ProtocolError(_MALFORMED)
        ciphertexts.append(view[start:end])
    if end != len(payload) or len(ciphertexts) != -(-count // scheme.slots):
        raise ProtocolError(_CUT)
    return count, ciphertexts


def _approximations(engine: _Engine, payload: bytes, *, count: int) -> NDArray[np.float64]:
    """Return the `count` decrypted values."""
    stated, ciphertexts = _ciphertexts(engine.scheme, payload)
    if stated != count:
        raise ProtocolError(_OTHER_LENGTH_OPENED)
    slots = engine.scheme.slots
    values = np.empty(len(ciphertexts) * slots, dtype=np.float64)
    for part, ciphertext in zip(values.reshape(-1, slots), ciphertexts, strict=True):
        opened = _guarded(engine.read(ciphertext).decrypt, _MALFORMED)
        part[:] = np.fromiter(opened, np.float64, slots)
    return values[:count]


# --- limbs ---


def _limbs(words: Words) -> Words:
    """Return all lowest limbs, then all middle ones, then all highest ones."""
    mask = np.uint64((1 << _LIMB_BITS) - 1)
    shifts = (np.uint64(_LIMB_BITS * limb) for limb in range(_LIMBS))
    return np.concatenate([(words >> shift) & mask for shift in shifts])


def _joined(limbs: Words) -> Words:
    """Return the words, modulo 2^64, of limbs or of sums of limbs."""
    words = np.zeros(len(limbs) // _LIMBS, dtype=np.uint64)
    for index, limb in enumerate(limbs.reshape(_LIMBS, -1)):
        words += limb << np.uint64(_LIMB_BITS * index)
    return words


# --- masks modulo t ---


def _shift_by_masks(
    numbers: Words, added: Sequence[bytes], subtracted: Sequence[bytes], *, modulus: int
) -> None:
    """Shift `numbers`, each below `modulus`, in place by one mask for each key and number.

    A key's masks are, modulo t, the top 58 bits of the words of its stream, in order, without those
    words that are not below the largest multiple of t: one in 2^15 or fewer. So if words are
    uniform, masks are uniform modulo t, without any bias.
    """
    streams: list[_Stream] = [(stream_of(key), np.add) for key in added]
    streams += [(stream_of(key), np.subtract) for key in subtracted]
    for first in range(0, len(streams), _KEYS_A_PASS):
        _shift_by_streams(numbers, streams[first : first + _KEYS_A_PASS], modulus)


def _shift_by_streams(numbers: Words, streams: Sequence[_Stream], modulus: int) -> None:
    # Sums first, then one reduction a block: remainders cost more than AES.
    limit = (1 << _MASK_BITS) // modulus * modulus
    stream = bytearray(len(_ZEROS))
    block = np.empty(BLOCK_WORDS, dtype=np.int64)
    multiples = np.empty(BLOCK_WORDS, dtype=np.int64)
    for start in range(0, len(numbers), BLOCK_WORDS):
        part = numbers[start : start + BLOCK_WORDS].view(np.int64)
        sums, quotients = block[: len(part)], multiples[: len(part)]
        np.copyto(sums, part)
        for cipher, shift in streams:
            shift(sums, _masks(cipher, stream, len(part), limit).view(np.int64), out=sums)
        # Three steps, as numpy's own remainder is slower.
        np.floor_divide(sums, modulus, out=quotients)
        quotients *= modulus
        np.subtract(sums, quotients, out=part)


def _masks(cipher: CipherContext, stream: bytearray, count: int, limit: int) -> Words:
    """Return the next `count` masks, all below `limit`; in `stream`, if none was left out."""
    cipher.update_into(memoryview(_ZEROS)[: count * WORD_BYTES], stream)
    masks: Words = np.frombuffer(stream, dtype="<u8", count=count)
    np.right_shift(masks, 64 - _MASK_BITS, out=masks)
    if masks.max() < limit:
        return masks
    masks = masks[masks < limit]
    while missing := count - len(masks):
        words = np.frombuffer(cipher.update(bytes(missing * WORD_BYTES)), dtype="<u8")
        more = words >> np.uint64(64 - _MASK_BITS)
        masks = np.concatenate([masks, more[more < limit]])
    return masks


class BfvWrap:
    """Words in exact encryption under masks modulo t: a node's half. See `carrier.Wrap`."""

    __slots__ = ("_engine", "_parameters")

    def __init__(self, key: BfvKey) -> None:
        self._engine = key.engine
        self._parameters = key.parameters

    def shift(self, words: Words, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> Words:
        """See `Wrap.shift`; the masks are integers modulo t.

        Raises:
            ValueError: a number is not below t, or a key has not 32 bytes.
        """
        self._require_residues(words)
        shifted = words.copy()
        _shift_by_masks(shifted, added, subtracted, modulus=self._parameters.plain_modulus)
        return shifted

    def prepare(self, words: Words, *, bits: int) -> Words:
        """See `Wrap.prepare`: words that fit a number as they are, others in three limbs."""
        return words if bits <= self._parameters.word_bits else _limbs(words)

    def close(self, numbers: Words) -> bytes:
        """See `Wrap.close`.

        Raises:
            ValueError: there is no number, or one is not below t.
        """
        _require_numbers(numbers)
        self._require_residues(numbers)
        engine, parameters = self._engine, self._parameters
        parts = _full_slots(_signed(numbers, parameters.plain_modulus), parameters.degree)
        ciphertexts = (engine.coefficients(engine.encrypt(part)) for part in parts)
        return _packed(parameters, len(numbers), ciphertexts)

    def open(self, payload: bytes, *, count: int, bits: int) -> Words:
        """See `Wrap.open`; exact for as many payloads as the key's parameters allow."""
        whole = bits <= self._parameters.word_bits
        numbers = self._decrypted(payload, count=count if whole else _LIMBS * count)
        return numbers if whole else _joined(numbers)

    def _decrypted(self, payload: bytes, *, count: int) -> Words:
        engine, parameters = self._engine, self._parameters
        if _exact_count(parameters, payload) != count:
            raise ProtocolError(_OTHER_LENGTH_OPENED)
        signed = np.empty((parameters.ciphertexts(count), parameters.degree), dtype=np.int64)
        for part, ciphertext in zip(signed, _unpacked(parameters, payload), strict=True):
            opened = _guarded(engine.vector(ciphertext).decrypt, _MALFORMED)
            part[:] = np.fromiter(opened, np.int64, len(part))
        signed += (signed < 0) * np.int64(parameters.plain_modulus)
        return signed.reshape(-1)[:count].view(np.uint64)

    def _require_residues(self, numbers: Words) -> None:
        if numbers.max(initial=0) >= self._parameters.plain_modulus:
            raise ValueError("a number does not fit the plain modulus; prepare the words first")

    def __repr__(self) -> str:
        return "BfvWrap(..)"


def _signed(numbers: Words, modulus: int) -> NDArray[np.int64]:
    """Return `numbers` below `modulus` as SEAL takes them: in (-t/2, t/2]."""
    signed = numbers.astype(np.int64)
    signed -= (signed > modulus // 2) * modulus
    return signed


class BfvAdder:
    """Adds what it cannot read: a coordinator's half. See `carrier.Adder`."""

    __slots__ = ("_added", "_count", "_engine", "_parameters", "_parties", "_total")

    # The first payload sets these two. A row of coefficients for each ciphertext: below 2^54 each,
    # a thousand fit a word.
    _count: int
    _total: NDArray[np.uint64]

    def __init__(self, public_context: bytes, *, parties: int) -> None:
        self._parameters = bfv_parameters(parties)
        self._engine = _public_engine(_bfv_scheme(self._parameters), public_context)
        self._parties = parties
        self._added = 0

    def add(self, payload: bytes) -> None:
        """See `Adder.add`; more payloads than parties are refused as well."""
        if self._added == self._parties:
            raise ProtocolError(
                f"a sum for {self._parties} members holds no more payloads; start another"
            )
        parameters = self._parameters
        count = _exact_count(parameters, payload)
        if not self._added:
            total = np.zeros((parameters.ciphertexts(count), parameters.words), dtype=np.uint64)
        elif count == self._count:
            total = self._total
        else:
            raise ProtocolError(_OTHER_LENGTH)

        def each(step: np.ufunc) -> None:
            for row, coefficients in zip(total, _unpacked(parameters, payload), strict=True):
                step(row, coefficients, out=row)

        try:
            each(np.add)
        except ProtocolError:
            # Checking all before adding any would unpack every good payload twice. What was added
            # is taken back, up to the same ciphertext, which is refused again.
            with suppress(ProtocolError):
                each(np.subtract)
            raise
        self._total, self._count = total, count
        self._added += 1

    def correct(self, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
        """See `Adder.correct`; the masks are those of `BfvWrap.shift`."""
        total = self._reduced()
        degree, modulus = self._parameters.degree, self._parameters.plain_modulus
        masks = np.zeros(self._count, dtype=np.uint64)
        _shift_by_masks(masks, added, subtracted, modulus=modulus)
        parts = _full_slots(_signed(masks, modulus), degree)
        # What SEAL adds to any ciphertext, it adds to this one, which is no member's: zero, and
        # one, as SEAL refuses results whose second polynomial is zero.
        blank = np.repeat(np.array([0, 1], dtype=np.uint64), degree)
        vector = self._engine.vector(blank)
        for row, part in zip(total, parts, strict=True):
            row[:degree] += self._engine.coefficients(vector.add_plain(part))[:degree]

    def payload(self) -> bytes:
        """See `Adder.payload`."""
        total = self._reduced()
        return _packed(self._parameters, self._count, total)

    def _reduced(self) -> NDArray[np.uint64]:
        """Return the sum, each coefficient modulo q: that of a ciphertext."""
        if not self._added:
            raise ProtocolError(_NOTHING_ADDED)
        self._total %= np.uint64(self._parameters.modulus)
        return self._total


class CkksWrap:
    """Words in approximate encryption without masks, for comparison. See `carrier.Wrap`.

    NOT COLLUSION-RESISTANT: the coordinator and any one node together read every single update.
    """

    __slots__ = ("_engine",)

    def __init__(self, key: CkksKey) -> None:
        self._engine = key.engine

    def shift(self, words: Words, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> Words:
        """Return `words`; there are no masks here.

        Raises:
            ValueError: a key is given.
        """
        _require_no_masks(added, subtracted)
        return words

    def prepare(self, words: Words, *, bits: int) -> Words:
        """Return three limbs of 22 bits for every word, whatever its bits.

        Larger numbers would need a larger scale to be told apart.
        """
        del bits
        return _limbs(words)

    def close(self, numbers: Words) -> bytes:
        """See `Wrap.close`.

        Raises:
            ValueError: there is no number, or one is no limb.
        """
        _require_numbers(numbers)
        if numbers.max() >> _LIMB_BITS:
            raise ValueError("a number is no limb; prepare the words first")
        return _sealed(self._engine, numbers.astype(np.float64))

    def open(self, payload: bytes, *, count: int, bits: int) -> Words:
        """See `Wrap.open`; no decrypted float ever leaves this method.

        A ciphertext (c0, c1) decrypts to c0 + c1 s, which in CKKS is the plaintext plus an error,
        and the error is what hides the key s. Whoever has the ciphertext and sees that value as it
        is holds a linear equation in s with nothing unknown but s (Li and Micciancio 2021, "On the
        Security of Homomorphic Encryption on Approximate Numbers", EUROCRYPT 2021). Limbs are
        integers, so the nearest integer is the exact sum: it depends on the plaintexts alone, and
        the error stays unknown. See docs/approximate-encryption.md.

        Raises:
            ProtocolError: the payload is malformed or of another length, or a value is further
                than 1/4 from an integer, not negative, that a sum can be.
        """
        del bits
        values = _approximations(self._engine, payload, count=_LIMBS * count)
        nearest = np.rint(values)
        # Written so that a value that is no number fails as well.
        near = np.abs(values - nearest) <= _ROUNDING_MAX
        if not (near & (nearest >= 0) & (nearest < _EXACT_FLOATS)).all():
            raise ProtocolError(
                "an opened sum is too noisy to be exact; discard it, and raise the scale"
            )
        return _joined(nearest.astype(np.uint64))

    def __repr__(self) -> str:
        return "CkksWrap(..)"


class CkksAdder:
    """Adds what it cannot read, unless one node helps it. See `carrier.Adder` and `CkksWrap`."""

    __slots__ = ("_count", "_engine", "_vectors")

    _count: int  # set by the first payload

    def __init__(self, public_context: bytes, *, parameters: CkksParameters = CKKS_DEEP) -> None:
        self._engine = _public_engine(_ckks_scheme(parameters), public_context)
        self._vectors: list[_Vector] = []

    def add(self, payload: bytes) -> None:
        """See `Adder.add`."""
        count, ciphertexts = _ciphertexts(self._engine.scheme, payload)
        read = self._engine.read
        if not self._vectors:
            self._count, self._vectors = count, [read(ciphertext) for ciphertext in ciphertexts]
            return
        if count != self._count:
            raise ProtocolError(_OTHER_LENGTH)
        # The old sum is added to what arrived, not the other way round, so that a bad last
        # ciphertext changes nothing.
        pairs = zip(self._vectors, ciphertexts, strict=True)
        self._vectors = _guarded(
            lambda: [read(one).add_(total) for total, one in pairs], _MALFORMED
        )

    def correct(self, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
        """Do nothing; there are no masks here.

        Raises:
            ValueError: a key is given.
        """
        _require_no_masks(added, subtracted)

    def payload(self) -> bytes:
        """See `Adder.payload`."""
        if not self._vectors:
            raise ProtocolError(_NOTHING_ADDED)
        return _payload(self._count, (self._engine.write(vector) for vector in self._vectors))


def _require_no_masks(added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
    if added or subtracted:
        raise ValueError("approximate encryption carries no masks; seal with BFV or plain words")
