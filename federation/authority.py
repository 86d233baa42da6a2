"""The federation's root: who issues certificates, and what it issued; the operator's alone.

<home>/federation/root.key.pem root.pem      the root; whoever has the key can let anybody in
                  server.key.pem server.pem  of the coordinator's three listeners; new ones wait as
                                             next.* until both are whole
                  certificates/<sha256>.pem  what was issued to participants
                  requests/<sha256>.der      public TLS keys that ask for one
                  federation.json            name, hosts and addresses
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from federation.certificates import (
    NEXT,
    certificate_digest,
    key_pem,
    load_key,
    load_public,
    make_client,
    make_root,
    make_server,
    new_key,
    pem_of,
    private_folder,
    read_certificate,
    spki,
    take_place,
    tls_digest,
    write_private,
)
from federation.home import read_json, write_bytes, write_json
from federation.registry.credentials import Credentials, load_credentials
from federation.registry.peer import Peer
from privacy.errors import InputError, RefusedError

DOOR_PORT: Final = 9441
REGISTRY_PORT: Final = 9443
FLEET_PORT: Final = 9444
SERVER_KEY: Final = "server.key.pem"
SERVER: Final = "server.pem"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where participants reach the coordinator, each as host:port.

    Attributes:
        door: For who has an invitation only.
        registry: For questions, acts and runs.
        fleet: For nodes at work.
    """

    door: str
    registry: str
    fleet: str


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """The root with its key; it cannot be printed.

    Attributes:
        folder: Where it is kept.
        federation: The name.
        hosts: What the server's certificate names; the first is in the addresses.
        addresses: As participants are told them.
        root: Its certificate.
    """

    folder: Path
    federation: str
    hosts: tuple[str, ...]
    addresses: Addresses
    root: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Authority({self.federation!r})"

    @classmethod
    def create(
        cls,
        folder: Path,
        federation: str,
        hosts: tuple[str, ...],
        addresses: Addresses,
        now: datetime,
    ) -> Self:
        """Make a root and a server's certificate; `federation.json` is written last.

        Raises:
            InputError: the folder holds a federation already, or a host is none.
        """
        if (folder / "federation.json").exists():
            raise InputError(f"{folder} holds a federation already; use another home")
        private_folder(folder)
        key = new_key()
        authority = cls(folder, federation, hosts, addresses, make_root(key, federation, now), key)
        write_private(folder / "root.key.pem", key_pem(key))
        write_bytes(folder / "root.pem", pem_of(authority.root))
        authority.renew_server(now)
        for name in ("certificates", "requests"):
            private_folder(folder / name)
        told = {"door": addresses.door, "registry": addresses.registry, "fleet": addresses.fleet}
        write_json(
            folder / "federation.json",
            {"format": 1, "federation": federation, "hosts": list(hosts), **told},
        )
        return authority

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `create` wrote.

        Raises:
            InputError: there is none, or a file of it is damaged.
        """
        if not (folder / "federation.json").exists():
            raise InputError(
                f"{folder} holds no federation; begin one with tacit federation init, or use the "
                "home where that was done"
            )
        told = read_json(folder / "federation.json")
        try:
            addresses = Addresses(*(str(told[name]) for name in ("door", "registry", "fleet")))
            hosts = tuple(str(host) for host in cast("list[object]", told["hosts"]))
            root = read_certificate((folder / "root.pem").read_bytes(), f"{folder / 'root.pem'}")
            name = str(told["federation"])
        except (KeyError, TypeError, OSError):
            raise InputError(f"{folder} is damaged; restore it from a copy") from None
        return cls(folder, name, hosts, addresses, root, load_key(folder / "root.key.pem"))

    @property
    def fingerprint(self) -> str:
        """The root's, as the ledger has it: 64 hexadecimal digits."""
        return certificate_digest(self.root)

    def renew_server(self, now: datetime) -> None:
        """Make the coordinator's listeners a new key and certificate; they take them at a start.

        Whatever ends the process in between, they take both of the old ones or both of the new.

        Raises:
            InputError: the disk refuses.
        """
        key = new_key()
        certificate = make_server(self.root, self._key, key.public_key(), self.hosts, now)
        # what waits from before is never mixed with what comes now
        take_place(self.folder, (SERVER_KEY, SERVER))
        write_private(self.folder / (NEXT + SERVER_KEY), key_pem(key))
        write_bytes(self.folder / (NEXT + SERVER), pem_of(certificate))
        take_place(self.folder, (SERVER_KEY, SERVER))

    def server(self, now: datetime) -> Credentials:
        """Return what the coordinator's listeners show, and whom they believe.

        Raises:
            InputError: a file is missing, or the certificate is not valid now.
        """
        take_place(self.folder, (SERVER_KEY, SERVER))
        return load_credentials(
            certificate=self.folder / SERVER,
            key=self.folder / SERVER_KEY,
            authority=self.folder / "root.pem",
            now=now,
        )

    def keep_request(self, key: ec.EllipticCurvePublicKey) -> str:
        """Keep a public TLS key until it may be certified; return how the ledger names it."""
        digest = tls_digest(key)
        write_bytes(self.folder / "requests" / f"{digest}.der", spki(key))
        return digest

    def issue(self, tls: str, peer: Peer, now: datetime) -> x509.Certificate:
        """Certify a TLS key that was kept; the certificate is kept before it is returned.

        Raises:
            RefusedError: no such key was kept.
        """
        path = self.folder / "requests" / f"{tls}.der"
        try:
            key = load_public(path.read_bytes())
        except OSError:
            raise RefusedError(
                f"the certificate request of {peer.name} is not here; let it join again"
            ) from None
        if tls_digest(key) != tls:
            raise RefusedError(f"{path} was changed; let {peer.name} join again")
        certificate = make_client(self.root, self._key, key, peer, now)
        digest = certificate_digest(certificate)
        write_bytes(self.folder / "certificates" / f"{digest}.pem", pem_of(certificate))
        return certificate

    def issued(self, digest: str) -> bytes:
        """Return a certificate in PEM by its digest.

        Raises:
            RefusedError: it is not kept here.
        """
        try:
            return (self.folder / "certificates" / f"{digest}.pem").read_bytes()
        except OSError:
            raise RefusedError("that certificate is not kept here; ask the operator") from None
