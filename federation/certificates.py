"""X.509 as the federation uses it: one root, P-256, SHA-256; made and read here, issued nowhere.

Keys of a connection are EC P-256, as Flower's node authentication and every TLS stack take them.
"""

import hashlib
import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clients.durable_file import make_folder, write_whole
from federation.registry.peer import Peer
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.whole_file import sync_folder

ROOT_DAYS: Final = 3652
SERVER_DAYS: Final = 365
CLIENT_DAYS: Final = 90
SKEW: Final = timedelta(hours=1)
"""How far a machine's clock may be behind that of whoever issued."""
CSR_BYTES_MAX: Final = 4096
NEXT: Final = "next."
"""Before the names of keys and a certificate that will take the place of those there are."""
# all that the library raises for bytes that are nothing of the kind, or of a kind that it lacks
_MALFORMED: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key; OpenSSL's generator makes it."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the private key in PEM, without a password."""
    return key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a private key that its owner alone can read.

    Raises:
        InputError: it is missing, is of another kind, or others may read it.
    """
    try:
        data, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise InputError(f"cannot read the key {path}: {error.strerror}") from None
    if os.name == "posix" and mode & 0o077:
        raise InputError(f"others may read the key {path}; run chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except _MALFORMED:
        raise InputError(f"{path} holds no private key; restore it from a copy") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path} is no P-256 key; restore it from a copy")
    return key


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone can read, whole or not at all; it may exist.

    Raises:
        InputError: the disk refuses.
    """
    try:
        write_whole(path, data, mode=0o600)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def take_place(folder: Path, names: Sequence[str]) -> None:
    """Finish putting new keys and their certificate in the place of the old, where it was begun.

    They wait beside these as `next.*`. The certificate is written last and moved last: while it
    waits, whatever else waits belongs to it.

    Args:
        folder: Where.
        names: Of the files, the certificate's last.

    Raises:
        InputError: the disk refuses; the next call goes on.
    """
    certificate = names[-1]
    if not (folder / (NEXT + certificate)).exists():
        return
    try:
        for name in names:
            if name == certificate:
                sync_folder(folder)
            with suppress(FileNotFoundError):  # it was moved before, or by another process
                (folder / (NEXT + name)).replace(folder / name)
        sync_folder(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None


def private_folder(path: Path) -> None:
    """Make a folder, and what it is in, that its owner alone can enter, where they are missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        make_folder(path, mode=0o700)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from None


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the public key in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def tls_digest(key: ec.EllipticCurvePublicKey) -> str:
    """Return how the ledger names a TLS key: SHA-256 of its DER, 64 hexadecimal digits."""
    return hashlib.sha256(spki(key)).hexdigest()


def load_public(der: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public key that `spki` returned.

    Raises:
        RefusedError: it is none of P-256.
    """
    try:
        key = serialization.load_der_public_key(der)
    except _MALFORMED:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RefusedError("the TLS key is not of P-256; update tacit on that machine")
    return key


def certificate_digest(certificate: x509.Certificate) -> str:
    """Return how the ledger names a certificate: SHA-256 of its DER, 64 hexadecimal digits."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def public_key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key that is certified.

    Raises:
        RefusedError: it is of another kind.
    """
    return _public_of(certificate)


def make_request(key: ec.EllipticCurvePrivateKey, peer: Peer) -> bytes:
    """Return a certificate request (PKCS #10, DER): proof that whoever asks holds the key."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(peer.uri)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def read_request(der: bytes, peer: Peer) -> ec.EllipticCurvePublicKey:
    """Return the key that a certificate request is for; nothing else of it is used.

    Raises:
        RefusedError: it is none, names another, is not signed by its key, or is not of P-256.
    """
    none = RefusedError("the certificate request is none, or its key did not sign it; join again")
    if len(der) > CSR_BYTES_MAX:
        raise none
    try:
        request = x509.load_der_x509_csr(der)
        signed = request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        told = [name.value for name in names]
    except _MALFORMED:
        raise none from None
    if not signed:
        raise none
    if told != [peer.uri]:
        raise RefusedError("the certificate request names another participant; join again")
    return _public_of(request)


def _public_of(
    signed: x509.Certificate | x509.CertificateSigningRequest,
) -> ec.EllipticCurvePublicKey:
    try:
        der = signed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except _MALFORMED:
        der = b""
    return load_public(der)


def make_root(key: ec.EllipticCurvePrivateKey, federation: str, now: datetime) -> x509.Certificate:
    """Return the federation's root: it issues, and nothing issues below what it issued."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, federation)])
    builder = _builder(subject, subject, key.public_key(), now, ROOT_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(issues=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def make_server(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    hosts: tuple[str, ...],
    now: datetime,
) -> x509.Certificate:
    """Return a certificate for a server at these host names and IP addresses."""
    names = [_host_name(host) for host in hosts]
    purpose = ExtendedKeyUsageOID.SERVER_AUTH
    return _issue(root, root_key, key, names, purpose, valid=(now, SERVER_DAYS))


def make_client(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    peer: Peer,
    now: datetime,
) -> x509.Certificate:
    """Return a participant's certificate."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(peer.uri)]
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH
    return _issue(root, root_key, key, names, purpose, valid=(now, CLIENT_DAYS))


def require_issued(
    certificate: x509.Certificate,
    *,
    root: x509.Certificate,
    key: ec.EllipticCurvePublicKey,
    peer: Peer,
) -> None:
    """Return if `root` issued the certificate for this key and this participant alone.

    Raises:
        NotVerifiedError: it did not.
    """
    try:
        certificate.verify_directly_issued_by(root)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        told = [name.value for name in names]
        same_key = spki(public_key_of(certificate)) == spki(key)
    except (*_MALFORMED, RefusedError):
        raise NotVerifiedError(
            "the federation's root did not issue the certificate; ask the operator"
        ) from None
    if not same_key or told != [peer.uri]:
        raise NotVerifiedError("the certificate is for another key or name; ask the operator")


def read_certificate(pem: bytes, what: str) -> x509.Certificate:
    """Return the first certificate in PEM.

    Raises:
        NotVerifiedError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except _MALFORMED:
        raise NotVerifiedError(f"{what} is no certificate; ask the operator") from None


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return the certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM)


def expires_ms(certificate: x509.Certificate) -> int:
    """Return until when it is valid, milliseconds since 1970 UTC."""
    return int(certificate.not_valid_after_utc.timestamp()) * 1000


def at(time_ms: int) -> datetime:
    """Return a time of the ledger as Python's."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    plain = all(
        label
        and label.isascii()
        and label.replace("-", "a").isalnum()
        and not label.startswith("-")
        for label in labels
    )
    if not plain or len(host) > 253:  # noqa: PLR2004 - of RFC 1035
        raise InputError(f"{host} is no host name and no IP address; give the name without a port")
    return x509.DNSName(host)


def _issue(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    *,
    valid: tuple[datetime, int],
) -> x509.Certificate:
    # who it is, is in the alternative name alone: a subject would be a second word on it
    builder = _builder(x509.Name([]), root.subject, key, *valid)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)  # noqa: FBT003
    builder = builder.add_extension(_usage(issues=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    builder = builder.add_extension(authority, critical=False)
    return builder.sign(root_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not issues,
        key_cert_sign=issues,
        crl_sign=issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
