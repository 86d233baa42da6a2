"""`hybrid`: ML-KEM-768 (FIPS 203) with X25519 by HPKE, ML-DSA-44 (FIPS 204) beside Ed25519.

Whoever breaks one half alone has nothing: an envelope opens only with both, a signature holds only
if both halves do. `agree` is X25519 alone, as no two members can agree by ML-KEM without a message.
"""

from functools import partial
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from privacy.errors import ProtocolError
from privacy.identity import Identity, bound_message, verify_signature
from privacy.randomness import Entropy
from privacy.suites.derivation import derive, digest, mac
from privacy.suites.intl import IntlExchange, aes_open, aes_seal, require_x25519
from privacy.suites.suite import Suite

_HPKE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_X_BYTES = 32
_SEED_BYTES = 64
_ML_BYTES = 1184
_SIGNER_ML_BYTES = 1312
_ED_SIGNATURE, _ML_SIGNATURE = 64, 2420
_UNUSABLE = "an exchange key is not usable; its member must offer anew"


class HybridExchange:
    """An X25519 and an ML-KEM-768 private key; see `suite.Exchange`."""

    __slots__ = ("_classic", "_lattice")

    def __init__(self, secret: bytes) -> None:
        """Take 32 and 64 bytes; ProtocolError if they are no keys."""
        self._classic = IntlExchange(secret[:_X_BYTES])
        try:
            self._lattice = MLKEM768PrivateKey.from_seed_bytes(secret[_X_BYTES:])
        except ValueError:
            raise ProtocolError("a kept exchange key is none; leave this run") from None

    @property
    def public(self) -> bytes:
        """See `Exchange.public`; X25519 first."""
        return self._classic.public + self._lattice.public_key().public_bytes_raw()

    def secret_bytes(self) -> bytes:
        """See `Exchange.secret_bytes`."""
        return self._classic.secret_bytes() + self._lattice.private_bytes_raw()

    def agree(self, other: bytes) -> bytes:
        """See `Exchange.agree`; by X25519 alone."""
        if len(other) != _X_BYTES + _ML_BYTES:
            raise ProtocolError(_UNUSABLE)
        return self._classic.agree(other[:_X_BYTES])

    def unwrap(self, envelope: bytes, info: bytes) -> bytes:
        """See `Exchange.unwrap`."""
        classic = X25519PrivateKey.from_private_bytes(self._classic.secret_bytes())
        try:
            both = hpke.MLKEM768X25519PrivateKey(self._lattice, classic)
            return _HPKE.decrypt(envelope, both, info)
        except (InvalidTag, ValueError):
            raise ProtocolError(
                "a sealed key does not open; its sender must seal it to this run's key"
            ) from None

    def __repr__(self) -> str:
        return f"HybridExchange(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange key is kept by its member alone; offer a new one")


class HybridSigner:
    """An Ed25519 and an ML-DSA-44 private key; see `suite.Signer`."""

    __slots__ = ("_classic", "_lattice")

    def __init__(self, entropy: Entropy) -> None:
        """Make both of fresh entropy."""
        self._classic = Identity.create(entropy)
        self._lattice = MLDSA44PrivateKey.from_seed_bytes(entropy(32))

    @property
    def public(self) -> bytes:
        """See `Signer.public`; Ed25519 first."""
        return self._classic.public + self._lattice.public_key().public_bytes_raw()

    def sign(self, domain: str, message: bytes) -> bytes:
        """See `Signer.sign`; Ed25519 first."""
        lattice = self._lattice.sign(bound_message(domain, message))
        return self._classic.sign(domain, message) + lattice

    def __repr__(self) -> str:
        return f"HybridSigner(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key stays where it is; make a new one")


def _require_exchange(public: bytes) -> None:
    if len(public) != _X_BYTES + _ML_BYTES:
        raise ProtocolError(_UNUSABLE)
    require_x25519(public[:_X_BYTES])
    _both(public)


def _both(public: bytes) -> hpke.MLKEM768X25519PublicKey:
    try:
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[_X_BYTES:]),
            X25519PublicKey.from_public_bytes(public[:_X_BYTES]),
        )
    except ValueError:
        raise ProtocolError(_UNUSABLE) from None


def _wrap(public: bytes, secret: bytes, info: bytes) -> bytes:
    try:
        return _HPKE.encrypt(secret, _both(public), info)
    except ValueError:
        raise ProtocolError(_UNUSABLE) from None


def _verify(public: bytes, domain: str, message: bytes, signature: bytes) -> None:
    wrong = f"a signature for {domain} does not verify in both halves; compare the sender's keys"
    if len(signature) != _ED_SIGNATURE + _ML_SIGNATURE:
        raise ProtocolError(wrong)
    try:
        verify_signature(public[:32], domain, message, signature[:_ED_SIGNATURE])
        MLDSA44PublicKey.from_public_bytes(public[32:]).verify(
            signature[_ED_SIGNATURE:], bound_message(domain, message)
        )
    except (ProtocolError, InvalidSignature, ValueError):
        raise ProtocolError(wrong) from None


def _create(entropy: Entropy) -> HybridExchange:
    return HybridExchange(entropy(_X_BYTES) + entropy(_SEED_BYTES))


HYBRID = Suite(
    id="hybrid",
    sentence="Keys and shares by ML-KEM-768 with X25519, AES-256; signed by Ed25519 and ML-DSA-44.",
    exchange_bytes=_X_BYTES + _ML_BYTES,
    signer_bytes=32 + _SIGNER_ML_BYTES,
    signature_bytes=_ED_SIGNATURE + _ML_SIGNATURE,
    signs_beside=True,
    static_holds=False,
    missing=lambda: "",
    create_exchange=_create,
    restore_exchange=HybridExchange,
    require_exchange=_require_exchange,
    wrap=_wrap,
    create_signer=HybridSigner,
    verify=_verify,
    seal=aes_seal,
    open=aes_open,
    digest=partial(digest, SHA256()),
    derive=partial(derive, SHA256()),
    mac=partial(mac, SHA256()),
)
