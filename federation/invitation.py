"""The one line that an operator hands to whoever shall join, good once.

`tacit1.` and, in base64url, eight bytes of a checksum and canonical JSON. It says where the door
is and which root its certificate is of, so whoever has the line needs no other file; and it holds
a secret, so whoever has the line can ask to be let in under that one name and role, until it
expires. Others still have to approve the key. It is shown once, by the verb that makes it.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from federation.registry.access import Role
from federation.registry.address import split_address
from federation.registry.peer import Peer
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import InputError, ProtocolError, TacitError
from privacy.identity import PUBLIC_BYTES
from privacy.ledger.note import VerifierKey

PREFIX: Final = "tacit1."
SECRET_BYTES: Final = 32
CHARACTERS_MAX: Final = 16 << 10
_CHECK_BYTES: Final = 8
_FIELDS: Final = frozenset(
    {
        *("door", "expires_ms", "federation", "founder"),
        *("ledger", "name", "role", "root", "secret"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An invitation as its holder has it; its secret is not printed.

    Attributes:
        door: host:port.
        federation: The federation's name.
        name: How whoever joins will be called.
        role: What it will be.
        expires_ms: Until when it can ask, milliseconds since 1970 UTC.
        founder: The key that began the federation, 32 bytes.
        ledger: The coordinator's ledger, as a C2SP key: its origin and its key.
        root: The root's certificate, DER.
        secret: Shown to the door; the ledger holds its SHA-256.
    """

    door: str
    federation: str
    name: str
    role: Role
    expires_ms: int
    founder: bytes
    ledger: VerifierKey
    root: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """How the ledger names the invitation."""
        return secret_digest(self.secret)

    @property
    def peer(self) -> Peer:
        """Who its holder will be."""
        return Peer(self.role, self.name)

    @property
    def fingerprint(self) -> str:
        """The root's: SHA-256 of its certificate, hexadecimal."""
        return hashlib.sha256(self.root).hexdigest()

    @property
    def root_pem(self) -> bytes:
        """The root's certificate in PEM."""
        return x509.load_der_x509_certificate(self.root).public_bytes(Encoding.PEM)

    def reveal(self) -> str:
        """Return the line, which lets its holder ask; show it to nobody else."""
        told = canonical_json(
            {
                "door": self.door,
                "expires_ms": self.expires_ms,
                "federation": self.federation,
                "founder": self.founder.hex(),
                "ledger": self.ledger.to_text(),
                "name": self.name,
                "role": self.role.value,
                "root": base64.b64encode(self.root).decode(),
                "secret": self.secret.hex(),
            }
        )
        whole = _check(told) + told
        return PREFIX + base64.urlsafe_b64encode(whole).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `reveal` returned; spaces and line breaks from copying do not matter.

        Raises:
            InputError: it is none, or was changed or cut.
        """
        bare = "".join(text.split())
        if not bare.startswith(PREFIX) or len(bare) > CHARACTERS_MAX:
            raise InputError(
                f"that is no invitation; give the whole line that begins with {PREFIX}, or the "
                "file that it is in"
            )
        try:
            body = bare.removeprefix(PREFIX)
            whole = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            check, told = whole[:_CHECK_BYTES], whole[_CHECK_BYTES:]
            # the last character has bits that stand for nothing; one invitation is one text
            again = base64.urlsafe_b64encode(whole).decode().rstrip("=")
            if again != body or check != _check(told):
                raise ValueError  # noqa: TRY301 - ends as any other damage
            value = parse_canonical(told)
            if not isinstance(value, dict) or value.keys() != _FIELDS:
                raise ValueError  # noqa: TRY301
            return cls._read(value)
        except (ValueError, TypeError, binascii.Error, TacitError):
            raise InputError(
                "the invitation was cut or changed on its way; copy the whole line again"
            ) from None

    @classmethod
    def _read(cls, value: dict[str, Any]) -> Self:
        token = cls(
            door=str(value["door"]),
            federation=str(value["federation"]),
            name=str(value["name"]),
            role=Role(value["role"]),
            expires_ms=int(value["expires_ms"]),
            founder=bytes.fromhex(value["founder"]),
            ledger=VerifierKey.from_text(value["ledger"]),
            root=base64.b64decode(value["root"], validate=True),
            secret=bytes.fromhex(value["secret"]),
        )
        split_address(token.door)
        Peer.from_uri(token.peer.uri)
        x509.load_der_x509_certificate(token.root)
        if len(token.founder) != PUBLIC_BYTES or len(token.secret) != SECRET_BYTES:
            raise ProtocolError("a key or secret of an invitation has another length")
        return token


def read_token(text: str) -> Token:
    """Return the invitation of a line, or of the file that is named.

    Raises:
        InputError: it is none, or the file cannot be read.
    """
    if text.strip().startswith(PREFIX):
        return Token.parse(text)
    try:
        path = Path(text)
        if path.stat().st_size > CHARACTERS_MAX:
            raise InputError(f"{path} holds no invitation; give the file that the operator sent")
        return Token.parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError):
        raise InputError(
            f"that is no invitation and no file with one; give the whole line that begins with "
            f"{PREFIX}"
        ) from None


def secret_digest(secret: bytes) -> str:
    """Return how the ledger names an invitation by its secret: SHA-256, hexadecimal."""
    return hashlib.sha256(secret).hexdigest()


def _check(told: bytes) -> bytes:
    return hashlib.sha256(b"tacit/v1/token\0" + told).digest()[:_CHECK_BYTES]
