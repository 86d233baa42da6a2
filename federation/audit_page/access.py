"""Who may ask for a page: by the name that was asked, a token, or a certificate."""

import hashlib
import hmac
import ipaddress
import os
import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from privacy.errors import InputError, RefusedError

TOKEN_CHARACTERS_MIN: Final = 16
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9A-Za-z._-]{1,253}))(?::[0-9]{1,5})?")
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Access:
    """What a request must bring.

    Attributes:
        names: Host names and addresses under which the page may be asked for, in lower case.
        addresses: Whether any address will do; a name of somebody else's can never be one.
        token: SHA-256 of what must be sent; None asks for nothing.
        local: Whether only this machine can reach the page.
    """

    names: frozenset[str] = LOOPBACK_NAMES
    addresses: bool = False
    token: bytes | None = field(default=None, repr=False)
    local: bool = True

    def admits_host(self, header: str) -> bool:
        """Whether a Host header names this page, whatever its port (DNS rebinding names others)."""
        found = _HOST.fullmatch(header)
        if found is None:
            return False
        name = (found[1] or found[2]).lower()
        return name in self.names or (self.addresses and _is_address(name))

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header holds the token, as Bearer or as a password."""
        if self.token is None:
            return True
        scheme, _, rest = authorization.partition(" ")
        given = rest.strip().encode("utf-8", "replace")
        if scheme.lower() == "basic":
            try:
                given = b64decode(given, validate=True).partition(b":")[2]
            except ValueError:
                given = b""
        elif scheme.lower() != "bearer":
            given = b""
        # equally long hashes, so that the time tells nothing of either
        return hmac.compare_digest(hashlib.sha256(given).digest(), self.token)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def access_for(
    host: str, *, names: Iterable[str] = (), token: str | None, certificates: bool
) -> Access:
    """Return what requests must bring to a page that listens on `host`.

    Args:
        host: Name or address.
        names: Further names under which the page may be asked for.
        token: That every request must hold; None for none.
        certificates: Whether connections need a certificate of a known authority.

    Raises:
        RefusedError: others could read the page, and nothing would be asked of them.
    """
    if not is_loopback(host) and token is None and not certificates:
        raise RefusedError(
            f"whoever reaches {host} could read the ledgers; give --token-file, or --cert, --key "
            "and --client-ca, or listen on 127.0.0.1"
        )
    wild = host in _WILDCARDS
    known = {name.lower() for name in names} | LOOPBACK_NAMES
    if not wild:
        known.add(host.lower())
    return Access(
        names=frozenset(known),
        addresses=wild,
        token=None if token is None else hashlib.sha256(token.encode()).digest(),
        local=is_loopback(host),
    )


def read_token(path: Path) -> str:
    """Return the token in a file that nobody else may read: its one line.

    Raises:
        InputError: the file cannot be read, others may read it, or its token is too short or has
            blanks.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError):
        raise InputError(f"cannot read the token in {path}; write one line of text to it") from None
    if os.name == "posix" and mode & 0o077:
        raise InputError(f"others may read the token {path}; run chmod 600 {path}")
    if len(text) < TOKEN_CHARACTERS_MIN or not text.isascii() or len(text.split()) != 1:
        raise InputError(
            f"the token in {path} needs at least {TOKEN_CHARACTERS_MIN} characters of ASCII and no "
            f"blanks; run openssl rand -hex 32 > {path}"
        )
    return text


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
