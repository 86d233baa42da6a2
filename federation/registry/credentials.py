"""The files of one end of a connection: its certificate, its key, and whom it believes."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from federation.registry.peer import URI_PREFIX, Peer
from privacy.errors import InputError, ProtocolError


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What gRPC needs, in PEM; it cannot be printed.

    Attributes:
        certificate: Its own, with those between it and the federation's root, if there are any.
        key: The private key of it.
        authority: The federation's root, alone believed to name anybody.
    """

    certificate: bytes
    key: bytes
    authority: bytes

    def __repr__(self) -> str:
        return "Credentials(..)"

    @property
    def peer(self) -> Peer:
        """Who this is, as its own certificate says.

        Raises:
            InputError: the certificate names nobody, or more than one.
        """
        certificate = x509.load_pem_x509_certificates(self.certificate)[0]
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        except x509.ExtensionNotFound:
            uris = []
        if len(uris) != 1:
            raise InputError(
                f"a certificate names exactly one {URI_PREFIX}<role>/<name>, and this one has "
                f"{len(uris)} such names; have it issued anew"
            )
        try:
            return Peer.from_uri(uris[0])
        except ProtocolError as error:
            raise InputError(str(error)) from None


def load_credentials(
    *, certificate: Path, key: Path, authority: Path, now: datetime
) -> Credentials:
    """Read the three files, and find what a handshake would only call a failure.

    Args:
        certificate: PEM.
        key: PEM, elliptic curve P-256 or P-384, readable by its owner alone.
        authority: PEM.
        now: With a time zone.

    Raises:
        InputError: a file is missing or is nothing of the kind, others may read the key, the key
            is of another certificate, or the certificate is not valid now.
    """
    chain = _read(certificate, "the certificate")
    private = _read(key, "the key")
    root = _read(authority, "the root certificate")
    if os.name == "posix" and key.stat().st_mode & 0o077:
        raise InputError(f"others may read the key {key}; run chmod 600 {key}")
    own = _certificates(certificate, chain)[0]
    _certificates(authority, root)
    try:
        loaded = serialization.load_pem_private_key(private, password=None)
    except (ValueError, TypeError):
        raise InputError(f"{key} holds no private key without a password; give its file") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise InputError(f"{key} is of another kind than P-256 and P-384; make a key of that kind")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if loaded.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        raise InputError(
            f"{key} is not the key of {certificate}; give the two that belong together"
        )
    if not own.not_valid_before_utc <= now <= own.not_valid_after_utc:
        raise InputError(
            f"{certificate} is valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} to "
            f"{own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, not now; have it issued anew"
        )
    return Credentials(certificate=chain, key=private, authority=root)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}") from None


def _certificates(path: Path, data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise InputError(f"{path} holds no certificate in PEM; give another file") from None
