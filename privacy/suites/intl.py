"""`intl`: Ed25519 (RFC 8032), X25519 (RFC 7748), HPKE (RFC 9180), AES-256-GCM, SHA-256."""

from functools import partial
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from privacy.errors import ProtocolError
from privacy.identity import Identity, verify_signature
from privacy.randomness import Entropy
from privacy.suites.derivation import derive, digest, mac
from privacy.suites.suite import Suite

_HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_UNUSABLE = "an exchange key is not usable; its member must offer anew"
_CLOSED = "a sealed key does not open; its sender must seal it to this run's key"
# Any scalar finds a point of small order: X25519 makes every scalar a multiple of the cofactor.
_PROBE = X25519PrivateKey.from_private_bytes(bytes(range(32)))


class IntlExchange:
    """An X25519 private key; see `suite.Exchange`."""

    __slots__ = ("_private",)

    def __init__(self, secret: bytes) -> None:
        """Take 32 bytes; ProtocolError if they are no key."""
        try:
            self._private = X25519PrivateKey.from_private_bytes(secret)
        except ValueError:
            raise ProtocolError("a kept exchange key is none; leave this run") from None

    @property
    def public(self) -> bytes:
        """See `Exchange.public`."""
        return self._private.public_key().public_bytes_raw()

    def secret_bytes(self) -> bytes:
        """See `Exchange.secret_bytes`."""
        return self._private.private_bytes_raw()

    def agree(self, other: bytes) -> bytes:
        """See `Exchange.agree`."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise ProtocolError(_UNUSABLE) from None

    def unwrap(self, envelope: bytes, info: bytes) -> bytes:
        """See `Exchange.unwrap`."""
        try:
            return _HPKE.decrypt(envelope, self._private, info)
        except (InvalidTag, ValueError):
            raise ProtocolError(_CLOSED) from None

    def __repr__(self) -> str:
        return f"IntlExchange(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange key is kept by its member alone; offer a new one")


def require_x25519(public: bytes) -> None:
    """Return if a public key is no point of small order.

    Raises:
        ProtocolError: it is, or has another length.
    """
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ProtocolError(_UNUSABLE) from None


def aes_seal(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """AES-256-GCM (NIST SP 800-38D)."""
    return AESGCM(key).encrypt(nonce, plain, associated)


def aes_open(key: bytes, nonce: bytes, closed: bytes, associated: bytes) -> bytes:
    """Open what `aes_seal` made.

    Raises:
        ProtocolError: anything was changed.
    """
    try:
        return AESGCM(key).decrypt(nonce, closed, associated)
    except (InvalidTag, ValueError):
        raise ProtocolError("what was sealed was changed on its way; seal it again") from None


def _wrap(public: bytes, secret: bytes, info: bytes) -> bytes:
    try:
        return _HPKE.encrypt(secret, X25519PublicKey.from_public_bytes(public), info)
    except ValueError:
        raise ProtocolError(_UNUSABLE) from None


def _create(entropy: Entropy) -> IntlExchange:
    return IntlExchange(entropy(32))


INTL = Suite(
    id="intl",
    sentence="Keys and shares by X25519 and AES-256-GCM; signed by Ed25519.",
    exchange_bytes=32,
    signer_bytes=32,
    signature_bytes=64,
    signs_beside=False,
    static_holds=True,
    missing=lambda: "",
    create_exchange=_create,
    restore_exchange=IntlExchange,
    require_exchange=require_x25519,
    wrap=_wrap,
    create_signer=Identity.create,
    verify=verify_signature,
    seal=aes_seal,
    open=aes_open,
    digest=partial(digest, SHA256()),
    derive=partial(derive, SHA256()),
    mac=partial(mac, SHA256()),
)
