"""Who speaks: one Ed25519 key pair per member (RFC 8032), pinned by the others at enrolment.

A signature is over `tacit/v1/<domain> NUL message`, so what was signed for one purpose can never
be shown for another.
"""

import os
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import InputError, ProtocolError
from privacy.randomness import Entropy
from privacy.signature import holds
from privacy.whole_file import write_first

PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64


class Identity:
    """A member's private signing key. It signs; it cannot be printed, copied or pickled."""

    __slots__ = ("_private",)

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def create(cls, entropy: Entropy) -> "Identity":
        """Make a new key from 32 bytes of `entropy`."""
        return cls(Ed25519PrivateKey.from_private_bytes(entropy(32)))

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """Read a key that `save` wrote.

        Raises:
            InputError: the file is missing, is no Ed25519 key, or others may read it.
        """
        try:
            data = path.read_bytes()
            mode = path.stat().st_mode
        except OSError as error:
            raise InputError(f"cannot read the identity {path}: {error.strerror}") from None
        if os.name == "posix" and mode & 0o077:
            raise InputError(f"others may read the identity {path}; run chmod 600 {path}")
        try:
            private = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError):
            raise InputError(f"{path} holds no private key; give the member's own file") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise InputError(f"{path} holds no Ed25519 key; give the member's own file")
        return cls(private)

    def save(self, path: Path) -> None:
        """Write the key, whole or not at all, readable by its owner alone.

        An existing file is never replaced. The key is on disk on return.

        Raises:
            InputError: the file exists, or its folder cannot be written.
        """
        data = self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            if not write_first(path, data):
                raise InputError(f"an identity is already in {path}; keep it, or move it")
        except OSError as error:
            raise InputError(f"cannot write the identity {path}: {error.strerror}") from None

    @property
    def public(self) -> bytes:
        """The 32 bytes that others pin."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, domain: str, message: bytes) -> bytes:
        """Return the signature (64 bytes) of `message` for the one purpose `domain`."""
        return self._private.sign(bound_message(domain, message))

    def sign_note(self, text: bytes) -> bytes:
        """Return the bare signature (64 bytes) of a C2SP note or cosigned message.

        A note is text without NUL, and whatever `sign` signs has one after its domain, so a note
        can never be shown as something else that this key said.

        Raises:
            ValueError: the text holds a NUL.
        """
        if b"\0" in text:
            raise ValueError("a note is text without NUL")
        return self._private.sign(text)

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()[:16]}..)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity stays where it is; use save and load")


def verify_signature(public: bytes, domain: str, message: bytes, signature: bytes) -> None:
    """Return if `signature` over `message` for `domain` is by the holder of `public`.

    Raises:
        ProtocolError: it is not, or key or signature are no valid encodings.
    """
    try:
        held = holds(public, bound_message(domain, message), signature)
    except ValueError:
        held = False
    if not held:
        raise ProtocolError(
            f"a signature for {domain} does not verify; compare the sender's public key"
        )


def bound_message(domain: str, message: bytes) -> bytes:
    """Return what is signed of `message` for the one purpose `domain`.

    Raises:
        ValueError: the domain is empty, not ASCII, or holds a NUL.
    """
    # Without NUL in the domain, its end is unambiguous.
    if not domain or not domain.isascii() or "\0" in domain:
        raise ValueError(f"a domain is ASCII without NUL, not {domain!r}")
    return b"tacit/v1/" + domain.encode("ascii") + b"\0" + message
