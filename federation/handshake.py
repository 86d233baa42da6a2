"""What a TLS handshake settled: the version, and how its keys were agreed on.

Python's `ssl` does not tell the group of the key exchange, but the server says it in the clear, in
the key_share of its ServerHello (RFC 8446, section 4.2.8), so it is read from there.
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from federation.registry.address import split_address
from privacy.errors import RefusedError

TIMEOUT_S: Final = 5.0
GROUPS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x0017: "secp256r1",
        0x0018: "secp384r1",
        0x0019: "secp521r1",
        0x001D: "x25519",
        0x001E: "x448",
        0x11EB: "SecP256r1MLKEM768",
        0x11EC: "X25519MLKEM768",
        0x11ED: "SecP384r1MLKEM1024",
    }
)
"""Code points of the TLS supported groups registry."""
HYBRID: Final = frozenset({0x11EB, 0x11EC, 0x11ED})
_CHUNK_BYTES: Final = 1 << 14
_HEARD_BYTES_MAX: Final = 1 << 16
_RECORD: Final = 5
_HANDSHAKE: Final = 22
_SERVER_HELLO: Final = 2
_KEY_SHARE: Final = 51


@dataclass(frozen=True, slots=True)
class Handshake:
    """A connection that was made.

    Attributes:
        version: As `ssl` names it, such as `TLSv1.3`.
        group: The code point of the key exchange's group; None where it could not be read.
        answer: What the other end sent afterwards, if something was asked; at most 64 KiB.
    """

    version: str
    group: int | None
    answer: bytes = b""

    @property
    def group_name(self) -> str:
        """For people."""
        if self.group is None:
            return "an unknown group"
        return GROUPS.get(self.group, f"group {self.group:#06x}")

    @property
    def hybrid(self) -> bool:
        """Whether what is recorded today stays closed to a quantum computer of tomorrow."""
        return self.group in HYBRID


@dataclass(frozen=True, slots=True)
class Files:
    """One end's, in PEM."""

    certificate: Path
    key: Path
    authority: Path


def context_of(files: Files, *, protocol: str) -> ssl.SSLContext:
    """What a node connects with: TLS 1.3, its own certificate, its federation's root alone.

    Raises:
        RefusedError: A file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # an older one is told, not hidden
    context.set_alpn_protocols([protocol])
    try:
        context.load_verify_locations(cafile=str(files.authority))
        context.load_cert_chain(str(files.certificate), str(files.key))
    except (OSError, ssl.SSLError):
        raise RefusedError("this node's certificate, key or root cannot be used") from None
    return context


def shake_hands(
    connection: socket.socket, context: ssl.SSLContext, *, name: str, ask: bytes = b""
) -> Handshake:
    """Make a TLS connection over one that is there, and perhaps ask something.

    Args:
        connection: To the other end, with a timeout.
        context: Of this end.
        name: Whom the other end's certificate must name.
        ask: Sent afterwards; the answer begins with what comes back first.

    Raises:
        ssl.SSLError: There is no handshake to be had: see `ssl`.
        OSError: The connection broke, or nothing came in time.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = context.wrap_bio(incoming, outgoing, server_hostname=name)
    heard = bytearray()

    def more() -> None:
        connection.sendall(outgoing.read())
        data = connection.recv(_CHUNK_BYTES)
        if not data:
            raise ConnectionResetError("the other end closed the connection")
        if len(heard) < _HEARD_BYTES_MAX:
            heard.extend(data)
        incoming.write(data)

    while True:
        try:
            end.do_handshake()
            break
        except ssl.SSLWantReadError:
            more()
    answer = b""
    if ask:
        end.write(ask)
        while not answer:
            # in TLS 1.3 a server that refuses the certificate says so only after the handshake
            try:
                answer = end.read(_CHUNK_BYTES)
            except ssl.SSLWantReadError:
                more()
    connection.sendall(outgoing.read())
    return Handshake(end.version() or "unknown", group_of(bytes(heard)), answer)


def group_of(heard: bytes) -> int | None:
    """Return the key exchange's group from what a server sent first; None where it says none."""
    hello = bytearray()
    at = 0
    while at + _RECORD <= len(heard) and heard[at] == _HANDSHAKE:
        length = int.from_bytes(heard[at + 3 : at + _RECORD])
        hello += heard[at + _RECORD : at + _RECORD + length]
        at += _RECORD + length
    length = int.from_bytes(hello[1:4])
    body = bytes(hello[4 : 4 + length])
    if hello[:1] != bytes([_SERVER_HELLO]) or len(body) != length or length <= 2 + 32:
        return None
    place = 2 + 32  # version, random
    place += 1 + body[place] + 2 + 1  # session, cipher, compression
    end = place + 2 + int.from_bytes(body[place : place + 2])
    place += 2
    while place + 4 <= min(end, len(body)):
        kind, length = (int.from_bytes(body[place + n : place + n + 2]) for n in (0, 2))
        if kind == _KEY_SHARE and place + 6 <= len(body):
            return int.from_bytes(body[place + 4 : place + 6])
        place += 4 + length
    return None


def connected(address: str, *, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """Open a connection.

    Raises:
        InputError: The address is none.
        socket.gaierror: The name is not known.
        OSError: Nobody answers there.
    """
    host, port = split_address(address)
    return socket.create_connection((host.strip("[]"), port), timeout=timeout_s)
