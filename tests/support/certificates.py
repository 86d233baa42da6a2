"""A federation's root, and the certificates that it issues. For tests only."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.registry.access import Role
from federation.registry.credentials import Credentials
from federation.registry.peer import Peer

DAY = timedelta(days=1)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
LOCALHOST = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@dataclass(frozen=True)
class Authority:
    """A root that issues."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, name: str = "federation") -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, key, days=1).issuer_name(subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        return cls(key, builder.sign(key, hashes.SHA256()))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        names: tuple[x509.GeneralName, ...],
        purposes: tuple[x509.ObjectIdentifier, ...],
        *,
        days: float = 1,
    ) -> Credentials:
        """Certify a new key, valid for so many days; below 0: expired since as many."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(x509.Name([]), key, days=days).issuer_name(self.certificate.subject)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Credentials(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            authority=self.pem,
        )

    def server(self, *names: x509.GeneralName, days: float = 1) -> Credentials:
        return self.issue(names or LOCALHOST, SERVER, days=days)

    def client(self, role: str, name: str, *, days: float = 1) -> Credentials:
        return self.named(Peer(Role(role), name).uri, days=days)

    def named(self, *uris: str, days: float = 1) -> Credentials:
        names = tuple(x509.UniformResourceIdentifier(uri) for uri in uris)
        return self.issue(names, CLIENT, days=days)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begun, over = (
        (now - DAY, now + days * DAY) if days > 0 else (now + days * 2 * DAY, now + days * DAY)
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(over)
    )


def save(credentials: Credentials, folder: Path) -> list[str]:
    """Write the files, and return the options that name them."""
    folder.mkdir(parents=True)
    parts = {
        "--cert": credentials.certificate,
        "--key": credentials.key,
        "--ca": credentials.authority,
    }
    options: list[str] = []
    for option, data in parts.items():
        path = folder / f"{option[2:]}.pem"
        path.write_bytes(data)
        path.chmod(0o600)
        options += [option, str(path)]
    return options
