"""This machine's place in a federation: which one, as whom, with which keys, and where it is.

    <home>/participant/identity.pem            signs whatever the participant says
                       tls.key.pem tls.pem     its end of every connection
                       root.pem                whom it believes
                       federation.json         the rest; written last, so what has it is whole
                       membership.json         the acts of membership as they were read last
                       ledger.json             the coordinator's ledger as it was shown last
                       lock                    held while new keys take their place

Keys are made here and never leave. New keys wait beside the old ones, as `next.*`, until they are
certified; `settle` finishes what was cut short in between.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from filelock import FileLock, Timeout

from federation.certificates import NEXT, certificate_digest, read_certificate, take_place
from federation.home import Home, read_json, write_json
from federation.registry.access import Role
from federation.registry.credentials import Credentials, load_credentials
from federation.registry.peer import Peer
from privacy.errors import InputError, NotVerifiedError
from privacy.identity import Identity
from privacy.ledger.keys import log_key
from privacy.ledger.note import VerifierKey

IDENTITY: Final = "identity.pem"
TLS_KEY: Final = "tls.key.pem"
TLS: Final = "tls.pem"
ROOT: Final = "root.pem"
FEDERATION: Final = "federation.json"
LOCK: Final = "lock"
LOCK_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A participant's place, as this machine keeps it.

    Attributes:
        folder: Where.
        federation: The federation's name.
        name: Under which it takes part.
        role: As what.
        door: host:port, for who has an invitation only.
        registry: host:port, for questions, acts and runs.
        fleet: host:port, for nodes at work.
        root_fingerprint: SHA-256 of the root's certificate (DER), hexadecimal.
        founder_key: Of who began the federation, 32 bytes; every act goes back to it.
        ledger_origin: Name of the coordinator's ledger.
        ledger_key: Its first public key, 32 bytes.
    """

    folder: Path
    federation: str
    name: str
    role: Role
    door: str
    registry: str
    fleet: str
    root_fingerprint: str
    founder_key: bytes
    ledger_origin: str
    ledger_key: bytes

    @property
    def home(self) -> Home:
        """The home that it is a part of."""
        return Home(self.folder.parent)

    @property
    def peer(self) -> Peer:
        """As certificates name it."""
        return Peer(self.role, self.name)

    @property
    def log_key(self) -> VerifierKey:
        """The key of the coordinator's signed states."""
        return log_key(self.ledger_origin, self.ledger_key)

    def identity(self) -> Identity:
        """Return the private signing key.

        Raises:
            InputError: it is missing, or others may read it.
        """
        return Identity.load(self.folder / IDENTITY)

    def credentials(self, now: datetime | None = None) -> Credentials:
        """Return this end of a connection.

        Args:
            now: With a time zone; the machine's clock where it is not given.

        Raises:
            InputError: a file is missing or damaged, or the certificate is not valid now.
        """
        settle(self.folder)
        return load_credentials(
            certificate=self.folder / TLS,
            key=self.folder / TLS_KEY,
            authority=self.folder / ROOT,
            now=now or datetime.now(UTC),
        )

    def write(self) -> None:
        """Write `federation.json`, which makes the place whole."""
        write_json(
            self.folder / FEDERATION,
            {
                "format": 1,
                "federation": self.federation,
                "name": self.name,
                "role": self.role.value,
                "door": self.door,
                "registry": self.registry,
                "fleet": self.fleet,
                "root": self.root_fingerprint,
                "founder": self.founder_key.hex(),
                "ledger": {"origin": self.ledger_origin, "key": self.ledger_key.hex()},
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            InputError: it is missing or damaged.
        """
        told = read_json(folder / FEDERATION)
        try:
            ledger = told["ledger"]
            place = cls(
                folder=folder,
                federation=str(told["federation"]),
                name=str(told["name"]),
                role=Role(told["role"]),
                door=str(told["door"]),
                registry=str(told["registry"]),
                fleet=str(told["fleet"]),
                root_fingerprint=str(told["root"]),
                founder_key=bytes.fromhex(told["founder"]),
                ledger_origin=str(ledger["origin"]),
                ledger_key=bytes.fromhex(ledger["key"]),
            )
            root = read_certificate((folder / ROOT).read_bytes(), f"{folder / ROOT}")
        except (KeyError, TypeError, ValueError, OSError, NotVerifiedError):
            raise InputError(f"{folder} is damaged; restore it from a copy") from None
        if certificate_digest(root) != place.root_fingerprint:
            raise InputError(
                f"{folder / ROOT} is not the root that this machine joined under; restore it"
            )
        return place


@contextmanager
def alone(folder: Path, lock: str) -> Iterator[None]:
    """Hold some files of a folder, which other processes of this machine read and write too.

    Args:
        folder: Where they are.
        lock: The name of the file that is locked for it, the same in every process.

    Raises:
        InputError: another process stays on, or the folder cannot be written.
    """
    try:
        with FileLock(folder / lock, timeout=LOCK_S):
            yield
    except Timeout:
        raise InputError(f"another process holds {folder / lock}; end it, and try again") from None
    except OSError as failure:
        raise InputError(
            f"{folder}: cannot be written ({failure.strerror}); give it to this user"
        ) from None


def load_participant(home: Home) -> Place:
    """Return this machine's place.

    Raises:
        InputError: it has none, or what it has is damaged.
    """
    if not (home.participant / FEDERATION).exists():
        raise InputError(
            "this machine is in no federation yet; join one with tacit node join and the "
            "invitation, or begin one with tacit federation init"
        )
    settle(home.participant)
    return Place.read(home.participant)


def settle(folder: Path) -> None:
    """Finish putting certified new keys in the place of the old ones, where that was begun.

    The new certificate is written only once the coordinator has the new keys on record, and is
    moved last. Any number of processes may do it at once: one does it, and the others wait for it.

    Raises:
        InputError: another process stays on, or the folder cannot be written.
    """
    if not (folder / (NEXT + TLS)).exists():
        return
    # once it is ours, keys that wait may be those of the next renewal, without a certificate
    with alone(folder, LOCK):
        take_place(folder, (IDENTITY, TLS_KEY, TLS))
