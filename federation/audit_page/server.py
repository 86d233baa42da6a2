"""How the page listens: few connections, small requests, TLS 1.3 where it has a certificate."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from cryptography import x509
from fastapi import FastAPI

from privacy.errors import InputError

CONNECTIONS_MAX: Final = 64
REQUEST_BYTES_MAX: Final = 16 * 1024
KEEP_ALIVE_S: Final = 5
SHUTDOWN_S: Final = 3


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the server shows, and what it asks of whoever connects.

    Attributes:
        chain: PEM file with its certificate, and those between it and a root.
        key: PEM file with its private key.
        authority: PEM file with the roots of accepted clients; None asks clients for nothing.
    """

    chain: Path
    key: Path
    authority: Path | None

    def names(self) -> tuple[str, ...]:
        """Return the names and addresses that the certificate is for.

        Raises:
            InputError: it cannot be read.
        """
        try:
            first = x509.load_pem_x509_certificate(self.chain.read_bytes())
            named = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        except (OSError, ValueError):
            raise InputError(f"{self.chain} holds no certificate; give --cert a PEM file") from None
        addresses = named.get_values_for_type(x509.IPAddress)
        return (*named.get_values_for_type(x509.DNSName), *(str(one) for one in addresses))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        InputError: it cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=CONNECTIONS_MAX)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on {host} port {port} ({reason}); choose another --port or --host"
        ) from None


def address_of(listening: socket.socket, host: str, *, secure: bool) -> str:
    """Return the address for a browser."""
    port = listening.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    return f"http{'s' if secure else ''}://{name}:{port}/"


def run(app: FastAPI, listening: socket.socket, *, certificate: Certificate | None) -> None:
    """Answer requests until a signal ends it.

    Raises:
        InputError: certificate, key or authority cannot be used.
        KeyboardInterrupt: after Ctrl-C, when all is closed.
    """
    config = config_of(app, certificate)
    try:
        config.load()
    except (OSError, ssl.SSLError):
        raise InputError(
            "the certificate, its key or the clients' authority cannot be used; give PEM files "
            "that belong together"
        ) from None
    uvicorn.Server(config).run(sockets=[listening])


def config_of(app: FastAPI, certificate: Certificate | None) -> uvicorn.Config:
    """Return how uvicorn is run."""
    authority = None if certificate is None else certificate.authority
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        backlog=CONNECTIONS_MAX,
        h11_max_incomplete_event_size=REQUEST_BYTES_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        ssl_certfile=None if certificate is None else certificate.chain,
        ssl_keyfile=None if certificate is None else certificate.key,
        ssl_ca_certs=None if authority is None else str(authority),
        ssl_cert_reqs=ssl.CERT_NONE if authority is None else ssl.CERT_REQUIRED,
        ssl_context_factory=None if certificate is None else _tls,
    )


def _tls(_: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
