"""The operations port: `GET /health` and `GET /metrics`, plain HTTP, on this machine.

It answers nothing else, keeps no connection, and reads no more of a request than its head. Where it
listens on the loopback, it answers only to the loopback's names, so that no page in a browser of
this machine can read it by a name of its own.
"""

import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from federation.operations.health import Health
from federation.operations.metric import CONTENT_TYPE, Metric, exposition
from federation.registry.address import split_address
from privacy.errors import InputError

CONNECTIONS_MAX: Final = 16
SOCKET_S: Final = 5.0
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Operations:
    """A port that answers.

    Attributes:
        address: `host:port`, the port that was taken.
    """

    address: str


@contextmanager
def operations(
    listen: str, *, health: Callable[[], Health], metrics: Callable[[], Iterable[Metric]]
) -> Iterator[Operations]:
    """Answer at `listen` until the block is left.

    Args:
        listen: `host:port`; port 0 takes a free one. There is no key and no password, so it is of
            the loopback, or of a network that only the operator's own machines reach.
        health: Asked with each `GET /health`; 200 where all holds, else 503.
        metrics: Asked with each `GET /metrics`.

    Raises:
        InputError: the address is none, or is taken.
    """
    host, port = split_address(listen)
    bare = host.removeprefix("[").removesuffix("]")
    loopback = _is_loopback(bare)

    class Handler(_Handler):
        def answer(self) -> "_Answer":
            if loopback and not _names_loopback(self.headers.get_all("host", [])):
                return _Answer(HTTPStatus.BAD_REQUEST, _text("another host is meant"))
            if self.path == "/health":
                found = health()
                status = HTTPStatus.OK if found.status == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
                body = json.dumps(found.facts(), allow_nan=False) + "\n"
                return _Answer(status, body.encode(), "application/json")
            if self.path == "/metrics":
                return _Answer(HTTPStatus.OK, exposition(metrics()).encode(), CONTENT_TYPE)
            return _Answer(HTTPStatus.NOT_FOUND, _text("there are /health and /metrics"))

    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        server = _server(family, (bare, port), Handler)
    except (OSError, OverflowError):
        raise InputError(f"cannot listen at {listen}; choose a free port of this machine") from None
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="operations", daemon=True
    )
    thread.start()
    try:
        yield Operations(f"{host}:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    kind: str = "text/plain; charset=utf-8"


def _text(sentence: str) -> bytes:
    return f"{sentence}\n".encode()


class _Handler(BaseHTTPRequestHandler):
    """One request; the connection ends with it."""

    timeout = SOCKET_S
    protocol_version = "HTTP/1.0"

    def answer(self) -> _Answer:
        raise NotImplementedError

    def do_GET(self) -> None:
        self._send(self._answered(), body=True)

    def do_HEAD(self) -> None:
        self._send(self._answered(), body=False)

    def version_string(self) -> str:
        return "tacit"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep quiet: whoever looks each few seconds is no event, and a path is a caller's text."""

    def _answered(self) -> _Answer:
        try:
            return self.answer()
        except Exception:  # noqa: BLE001 - whatever it is, it stays in the log
            _LOG.exception("the operations port could not answer")
            return _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, _text("it failed; see the log"))

    def _send(self, answer: _Answer, *, body: bool) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if body:
            self.wfile.write(answer.body)


def _server(
    family: socket.AddressFamily, address: tuple[str, int], handler: type[_Handler]
) -> ThreadingHTTPServer:
    free = threading.Semaphore(CONNECTIONS_MAX)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        address_family = family
        request_queue_size = CONNECTIONS_MAX

        def verify_request(self, request: object, client_address: object) -> bool:
            del request, client_address
            return free.acquire(blocking=False)

        def process_request_thread(
            self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
        ) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                free.release()

        def handle_error(self, request: object, client_address: object) -> None:
            """Forget it: the caller went away, or sent nothing in time."""

    return Server(address, handler)


def _is_loopback(host: str) -> bool:
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_loopback(hosts: list[str]) -> bool:
    if not hosts:
        return True  # HTTP/1.0, no browser
    if len(hosts) > 1:
        return False
    host = hosts[0]
    bare = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return _is_loopback(bare.removeprefix("[").removesuffix("]").lower())
