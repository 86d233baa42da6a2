"""`gm`: SM2 (GB/T 32918), SM3 (GB/T 32905), SM4-GCM (RFC 8998).

What is wrapped goes under a key of one Diffie-Hellman on the SM2 curve with a fresh key, HKDF with
SM3 over the shared point, both public keys and the purpose. SM4 keys have 16 bytes, the first half
of the 32 that are derived. `docs/adr/0017` says why it is this and not GB/T 32918.3 or .4.
"""

from functools import partial
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SM3

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.identity import bound_message
from privacy.randomness import Entropy, system_bytes
from privacy.suites import sm2_library
from privacy.suites.derivation import derive, digest, mac
from privacy.suites.sm2_library import POINT_BYTES, SIGNATURE_BYTES
from privacy.suites.suite import Suite

_SM4_BYTES = 16
_TAG_BYTES = 16
# Each wrapping has a key of its own, so its nonce may be fixed.
_NONCE = bytes(12)


class GmExchange:
    """An SM2 private key that agrees and unwraps; see `suite.Exchange`."""

    __slots__ = ("_public", "_scalar")

    def __init__(self, secret: bytes) -> None:
        """Take 32 bytes; ProtocolError if they are no key, or there is no SM2 here."""
        self._public = sm2_library.public_of(secret)
        self._scalar = secret

    @property
    def public(self) -> bytes:
        """See `Exchange.public`."""
        return self._public

    def secret_bytes(self) -> bytes:
        """See `Exchange.secret_bytes`."""
        return self._scalar

    def agree(self, other: bytes) -> bytes:
        """See `Exchange.agree`."""
        return sm2_library.shared_point(self._scalar, other)

    def unwrap(self, envelope: bytes, info: bytes) -> bytes:
        """See `Exchange.unwrap`."""
        fresh, closed = envelope[:POINT_BYTES], envelope[POINT_BYTES:]
        try:
            key = _wrapping_key(self.agree(fresh), fresh, self._public, info)
            return sm4_open(key, _NONCE, closed, b"")
        except ProtocolError:
            raise ProtocolError(
                "a sealed key does not open; its sender must seal it to this run's key"
            ) from None

    def __repr__(self) -> str:
        return f"GmExchange(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an exchange key is kept by its member alone; offer a new one")


class GmSigner:
    """An SM2 private key that signs; see `suite.Signer`."""

    __slots__ = ("_public", "_scalar")

    def __init__(self, scalar: bytes) -> None:
        """Take 32 bytes; ProtocolError if they are no key, or there is no SM2 here."""
        self._public = sm2_library.public_of(scalar)
        self._scalar = scalar

    @property
    def public(self) -> bytes:
        """See `Signer.public`."""
        return self._public

    def sign(self, domain: str, message: bytes) -> bytes:
        """See `Signer.sign`."""
        return sm2_library.sign(self._scalar, bound_message(domain, message))

    def __repr__(self) -> str:
        return f"GmSigner(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key stays where it is; make a new one")


def sm4_seal(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """SM4-GCM (RFC 8998) under the first 16 bytes of `key`; the tag comes last."""
    sealing = Cipher(SM4(key[:_SM4_BYTES]), GCM(nonce)).encryptor()
    sealing.authenticate_additional_data(associated)
    return sealing.update(plain) + sealing.finalize() + sealing.tag


def sm4_open(key: bytes, nonce: bytes, closed: bytes, associated: bytes) -> bytes:
    """Open what `sm4_seal` made.

    Raises:
        ProtocolError: anything was changed.
    """
    wrong = "what was sealed was changed on its way; seal it again"
    if len(closed) < _TAG_BYTES:
        raise ProtocolError(wrong)
    tag = closed[-_TAG_BYTES:]
    opening = Cipher(SM4(key[:_SM4_BYTES]), GCM(nonce, tag)).decryptor()
    opening.authenticate_additional_data(associated)
    try:
        return opening.update(closed[:-_TAG_BYTES]) + opening.finalize()
    except InvalidTag:
        raise ProtocolError(wrong) from None


def _wrapping_key(point: bytes, fresh: bytes, public: bytes, info: bytes) -> bytes:
    said = framed(b"tacit/gm-wrap/v1", fresh, public, info)
    return derive(SM3(), point, b"", said)


def _wrap(public: bytes, secret: bytes, info: bytes) -> bytes:
    once = GmExchange(sm2_library.draw_scalar(system_bytes))
    key = _wrapping_key(once.agree(public), once.public, public, info)
    return once.public + sm4_seal(key, _NONCE, secret, b"")


def _verify(public: bytes, domain: str, message: bytes, signature: bytes) -> None:
    sm2_library.verify(public, bound_message(domain, message), signature)


def _create_exchange(entropy: Entropy) -> GmExchange:
    return GmExchange(sm2_library.draw_scalar(entropy))


def _create_signer(entropy: Entropy) -> GmSigner:
    return GmSigner(sm2_library.draw_scalar(entropy))


GM = Suite(
    id="gm",
    sentence="Keys and shares by SM2, SM4-GCM and SM3, not certified; signed by Ed25519 and SM2.",
    exchange_bytes=POINT_BYTES,
    signer_bytes=POINT_BYTES,
    signature_bytes=SIGNATURE_BYTES,
    signs_beside=True,
    static_holds=True,
    missing=sm2_library.missing,
    create_exchange=_create_exchange,
    restore_exchange=GmExchange,
    require_exchange=sm2_library.require_point,
    wrap=_wrap,
    create_signer=_create_signer,
    verify=_verify,
    seal=sm4_seal,
    open=sm4_open,
    digest=partial(digest, SM3()),
    derive=partial(derive, SM3()),
    mac=partial(mac, SM3()),
)
