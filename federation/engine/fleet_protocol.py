"""HTTP of the fleet's port: it knows its other end, and takes no more of it than a call may need.

A request's head comes within `HEAD_S` and has `HEAD_BYTES_MAX` at most. Whoever is no member is
answered once, so that its node can tell it, and the connection ends; where it asks nothing within
`STRANGER_S`, it ends as well.

Relied on in uvicorn 0.49: what `HttpToolsProtocol` is told by its parser;
tests/contract/test_flower.py names what of each.
"""

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from federation.engine.fleet import Fleet
from federation.engine.fleet_filter import ANSWER_BYTES_MAX, PEER, Caller
from federation.engine.fleet_gate import Gate

HANDSHAKE_S: Final = 10.0
"""As long as a node tries to connect; those that do not come to an end, the gate ends sooner."""
GOODBYE_S: Final = 2.0
HEAD_S: Final = 10.0
STRANGER_S: Final = 3.0
HEAD_BYTES_MAX: Final = 16 << 10
LOOSE_BYTES_MAX: Final = 1 << 20
"""Of a request's body, without any of the body's content in it."""


class Loop(asyncio.SelectorEventLoop):
    """A loop whose servers wait for a handshake no longer than one takes."""

    async def create_server(self, *given: Any, **how: Any) -> asyncio.Server:  # noqa: ANN401
        """See asyncio."""
        if how.get("ssl") is not None:
            how |= {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GOODBYE_S}
        return await super().create_server(*given, **how)


def protocol(fleet: Fleet, gate: Gate) -> type[HttpToolsProtocol]:
    """Return the protocol of a server, for its connections through a gate."""

    class Own(FleetProtocol):
        pass

    Own.fleet, Own.gate = fleet, gate
    return Own


class FleetProtocol(HttpToolsProtocol):
    """See the module; `protocol` gives it its fleet and its gate."""

    fleet: Fleet
    gate: Gate
    _key: bytes | None = None
    _in_head = True
    _head_bytes = 0
    _loose_bytes = 0
    _dropped_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        caller = _caller(transport)
        self.app_state = {**self.app_state, PEER: caller}
        connected = transport.get_extra_info("socket")
        self._key = caller.key if caller is not None else None
        if self._is_member():
            if not self.gate.is_member(connected.fileno(), self._key or b""):
                transport.close()  # more connections than a node has
                return
            self._arm(HEAD_S)
        else:
            self._arm(STRANGER_S)
        # an answer of several small writes would wait 40 ms for the other end's acknowledgement
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        while data and self._in_head and not self.transport.is_closing():
            if self._timer is None:
                self._arm(HEAD_S)
            room = HEAD_BYTES_MAX - self._head_bytes
            if room <= 0:
                self.transport.abort()  # nobody who is honest has so much to say
                return
            piece, data = data[:room], data[room:]
            self._head_bytes += len(piece)
            super().data_received(piece)
        if data and not self.transport.is_closing():
            # what belongs to no content, as what trails it, is kept by the parser
            self._loose_bytes += len(data)
            if self._loose_bytes > LOOSE_BYTES_MAX:
                self.transport.abort()
                return
            super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See uvicorn."""
        if self._in_head:
            super().on_header(name, value)  # and what trails a body is not kept

    def on_headers_complete(self) -> None:
        """See uvicorn."""
        self._disarm()
        self._in_head, self._loose_bytes, self._dropped_bytes = False, 0, 0
        super().on_headers_complete()
        if not self._is_member():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        self._loose_bytes = 0
        if self.cycle.response_complete:  # it was refused
            self._dropped_bytes += len(body)
            if self._dropped_bytes > ANSWER_BYTES_MAX:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See uvicorn."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def _is_member(self) -> bool:
        return self._key is not None and self.fleet.seat_of(self._key) is not None

    def _arm(self, within_s: float) -> None:
        self._timer = self.loop.call_later(within_s, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        self.transport.abort()


def _caller(transport: asyncio.Transport) -> Caller | None:
    secured = transport.get_extra_info("ssl_object")
    certificate = secured.getpeercert(binary_form=True) if secured is not None else None
    return Caller.of(certificate) if certificate else None
