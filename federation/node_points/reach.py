"""The way to the coordinator: name, port and TLS, each by itself."""

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Final

from federation.handshake import Files, Handshake, context_of, shake_hands
from federation.node_points.exchange import exchange_point
from federation.node_points.point import Point, Surroundings, sentence_of, why_of
from federation.participant import ROOT, TLS, TLS_KEY, Place
from federation.registry.address import split_address
from privacy.errors import InputError, RefusedError

REGISTRY: Final = "registry"
_TLS: Final = "TLSv1.3"


def connection_points(place: Place, around: Surroundings) -> Iterator[Point]:
    """Whether registry and fleet can be reached: name, port and TLS, each by itself."""
    files = Files(place.folder / TLS, place.folder / TLS_KEY, place.folder / ROOT)
    host = split_address(place.fleet)[0]
    asked = f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    yield from reach_points(
        REGISTRY, place.registry, files, protocol="h2", ask=b"", connect=around.connect
    )
    yield from reach_points(
        "fleet", place.fleet, files, protocol="http/1.1", ask=asked, connect=around.connect
    )


def reach_points(
    name: str,
    address: str,
    files: Files,
    *,
    protocol: str,
    ask: bytes,
    connect: Callable[[str], socket.socket],
) -> Iterator[Point]:
    """Whether one address can be reached, and how.

    Args:
        name: What is there.
        address: `host:port`.
        files: The node's certificate, key and root.
        protocol: Spoken there (ALPN).
        ask: Sent once the connection is made; empty: nothing.
        connect: As in `Surroundings`.
    """
    try:
        host = split_address(address)[0].strip("[]")
        connection = connect(address)
    except InputError as fault:
        yield Point(name, "failed", sentence_of(fault), "Be invited again and join anew.")
        return
    except socket.gaierror:
        yield Point(
            f"{name} name",
            "failed",
            f"The name in {address} is not known here.",
            "Ask the operator for the address, and see this machine's name server.",
        )
        return
    except OSError as fault:
        why = "nothing answers in time" if isinstance(fault, TimeoutError) else why_of(fault)
        yield Point(
            f"{name} port",
            "failed",
            f"{address} cannot be reached: {why}.",
            f"Let this machine connect out to {address} (TCP), and ask the operator whether the "
            "coordinator runs.",
        )
        return
    yield Point(f"{name} port", "ok", f"{address} can be reached.")
    with connection:
        try:
            context = context_of(files, protocol=protocol)
            made = shake_hands(connection, context, name=host, ask=ask)
        except RefusedError as fault:
            yield Point(
                f"{name} TLS", "failed", sentence_of(fault), "Restore the participant folder."
            )
            return
        except ssl.SSLCertVerificationError as fault:
            yield Point(
                f"{name} TLS",
                "failed",
                f"The certificate of {address} is not of this federation or does not name it "
                f"({fault.verify_message}).",
                "Ask the operator for the address that its certificate names; if it is that one, "
                "somebody stands in between, so do not go on.",
            )
            return
        except (ssl.SSLError, OSError) as fault:
            yield Point(
                f"{name} TLS",
                "failed",
                f"{address} does not accept this node's connection ({why_of(fault)}).",
                "See whether the certificate is valid and the node is a member still, and whether "
                "a proxy on the way breaks TLS.",
            )
            return
    yield tls_point(name, made)


def tls_point(name: str, made: Handshake) -> Point:
    """Version of a connection, and how its keys were agreed on where this end's library decides.

    gRPC has a library of its own, so of the registry the coordinator says the latter.
    """
    title = f"{name} TLS"
    if made.version != _TLS:
        return Point(
            title,
            "failed",
            f"The connection to the {name} is {made.version}, and only TLS 1.3 is spoken here.",
            "See whether a proxy on the way takes the connection apart.",
        )
    if name == REGISTRY:
        return Point(title, "ok", f"TLS 1.3; the {name}'s certificate is of this federation.")
    return exchange_point(title, made.group_name, hybrid=made.hybrid)
