"""A suite: the algorithms that go together, by one id, as a federation chose them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from privacy.randomness import Entropy

KEY_BYTES = 32
"""Of a key that `Suite.seal` takes, whatever its cipher: see each suite."""


class Exchange(Protocol):
    """The secret half of an exchange key. It cannot be printed or pickled."""

    @property
    def public(self) -> bytes:
        """What is offered to others; `Suite.exchange_bytes` long."""
        ...

    def secret_bytes(self) -> bytes:
        """What its member's own disk keeps, and `Suite.restore_exchange` reads."""
        ...

    def agree(self, other: bytes) -> bytes:
        """Return the secret shared with the holder of `other`; derive keys from it.

        Raises:
            ProtocolError: `other` is no key, or one that would share the secret with all.
        """
        ...

    def unwrap(self, envelope: bytes, info: bytes) -> bytes:
        """Return what `Suite.wrap` sealed to `public` for the same `info`.

        Raises:
            ProtocolError: it was sealed to another key, for another `info`, or was changed.
        """
        ...


class Signer(Protocol):
    """The secret half of a signing key. It cannot be printed or pickled."""

    @property
    def public(self) -> bytes:
        """What others verify with; `Suite.signer_bytes` long."""
        ...

    def sign(self, domain: str, message: bytes) -> bytes:
        """Return the signature of `message` for the one purpose `domain`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """See the module.

    Attributes:
        id: As manifests, ledgers and policies name it.
        sentence: What a person is told of it.
        exchange_bytes: Of a public exchange key.
        signer_bytes: Of a public signing key.
        signature_bytes: Of a signature.
        signs_beside: Whether members of a run sign by it too, beside their identities (`voice`).
        static_holds: Whether `agree` alone keeps what the suite promises. Where it does not, pair
            secrets also need what was wrapped.
        missing: Why this machine cannot use it, one sentence; empty where it can.
        create_exchange: Makes a key from entropy.
        restore_exchange: Reads `secret_bytes`; ProtocolError if it is none.
        require_exchange: Returns if a public key is usable; ProtocolError if it is not.
        wrap: (public, secret, info) -> envelope; it says nothing of who sealed it.
        create_signer: Makes a key from entropy.
        verify: (public, domain, message, signature); ProtocolError if it does not hold.
        seal: (key, nonce, plain, associated) -> ciphertext and tag; a key and nonce serve once.
        open: Its inverse; ProtocolError if anything was changed.
        digest: 32 bytes of hash.
        derive: (secret, salt, info) -> 32 bytes (HKDF, RFC 5869).
        mac: (key, message) -> 32 bytes (HMAC, RFC 2104).
    """

    id: str
    sentence: str
    exchange_bytes: int
    signer_bytes: int
    signature_bytes: int
    signs_beside: bool
    static_holds: bool
    missing: Callable[[], str]
    create_exchange: Callable[[Entropy], Exchange]
    restore_exchange: Callable[[bytes], Exchange]
    require_exchange: Callable[[bytes], None]
    wrap: Callable[[bytes, bytes, bytes], bytes]
    create_signer: Callable[[Entropy], Signer]
    verify: Callable[[bytes, str, bytes, bytes], None]
    seal: Callable[[bytes, bytes, bytes, bytes], bytes]
    open: Callable[[bytes, bytes, bytes, bytes], bytes]
    digest: Callable[[bytes], bytes]
    derive: Callable[[bytes, bytes, bytes], bytes]
    mac: Callable[[bytes, bytes], bytes]
