"""Who calls, as its certificate says: `spiffe://tacit/<role>/<percent-encoded name>`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from federation.registry.access import Role
from privacy.errors import ProtocolError

URI_PREFIX: Final = "spiffe://tacit/"
NAME_CHARACTERS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Peer:
    """A caller whose certificate was verified.

    Attributes:
        role: What it is.
        name: Whom it speaks for.
    """

    role: Role
    name: str

    @property
    def uri(self) -> str:
        """The one spelling of it in certificates and logs: ASCII, no spaces."""
        return f"{URI_PREFIX}{self.role.value}/{quote(self.name, safe='')}"

    @classmethod
    def from_uri(cls, uri: str) -> "Peer":
        """Read what `uri` returned.

        Raises:
            ProtocolError: it is nothing of the kind, or another spelling of it.
        """
        role, slash, name = uri.removeprefix(URI_PREFIX).partition("/")
        try:
            peer = cls(Role(role), unquote(name, errors="strict"))
        except ValueError:
            raise _unnamed(uri) from None
        readable = peer.name.isprintable() and 0 < len(peer.name) <= NAME_CHARACTERS_MAX
        if not slash or not readable or peer.uri != uri:
            raise _unnamed(uri)
        return peer


def peer_of(auth_context: Mapping[str, Iterable[bytes]]) -> Peer:
    """Return who is at the other end of a connection.

    Args:
        auth_context: gRPC's, of a connection whose client certificate it verified.

    Raises:
        ProtocolError: the certificate names nobody, or more than one.
    """
    if list(auth_context.get("transport_security_type", ())) != [b"ssl"]:
        raise ProtocolError("the connection is not encrypted; use a client certificate")
    uris = [bytes(value) for value in auth_context.get("peer_uri", ())]
    if len(uris) != 1:
        raise ProtocolError(
            f"a certificate names exactly one {URI_PREFIX}<role>/<name>, and yours has "
            f"{len(uris)} such names; have it issued anew"
        )
    try:
        return Peer.from_uri(uris[0].decode("ascii"))
    except UnicodeDecodeError:
        raise _unnamed("") from None


def _unnamed(uri: str) -> ProtocolError:
    return ProtocolError(
        f"a certificate names {URI_PREFIX}<role>/<percent-encoded name>, not "
        f"{uri[:NAME_CHARACTERS_MAX]!a}; have it issued anew"
    )
