"""Flower's SuperLink within the coordinator's process, answered to members' nodes alone.

Nobody but a node needs a call of it: the coordinator works on its state directly, so that Control
and Runtime calls are refused from everywhere, whoever asks.

Relied on in flwr 1.41: `create_app` with a configuration and a lifespan class,
`SuperLinkLifespanConfig`, `ControlAuthnPlugin`; tests/contract/test_flower.py names what of each.
"""

import asyncio
import os
import secrets
import socket
import ssl
import tempfile
import threading
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import uvicorn
from fastapi import FastAPI
from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.supercore import sql_mixin
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.superlink.auth_plugin import ControlAuthnPlugin
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

from federation.engine.fleet import Fleet, Traffic
from federation.engine.fleet_filter import ANSWER_BYTES_MAX, HOLD_S, FleetFilter
from federation.engine.fleet_gate import Gate, Listener, Room
from federation.engine.fleet_protocol import Loop, protocol
from federation.engine.fleet_transport import FleetTransport
from federation.engine.quiet import quiet_flower
from federation.engine.tls import server_context
from federation.registry.address import split_address
from federation.registry.credentials import Credentials
from privacy.errors import InputError

START_S: Final = 30.0
STOP_S: Final = 5
KEEP_ALIVE_S: Final = 60
DATABASE_BUSY_MS: Final = 60_000
TLS_BUFFER_BYTES: Final = 32 << 10
"""Of each connection: two records of TLS. asyncio's own 256 KiB are 250 MiB for a thousand nodes,
and take more of an accept's time than the rest of it."""


class SuperLink:
    """A coordinator's end of its fleet. Every method may be called by any thread.

    Attributes:
        address: Where it listens, host:port.
    """

    def __init__(self, address: str, fleet: Fleet) -> None:
        self.address = address
        self._fleet = fleet

    def admit(self, name: str, certificate_pem: bytes) -> None:
        """Let the holder of a certificate be this member's node; a former one no longer is.

        Raises:
            InputError: This is no certificate of an elliptic-curve key.
            RefusedError: The key was expelled, or is another member's.
        """
        self._fleet.admit(name, certificate_pem)

    def expel(self, name: str) -> None:
        """Answer this member's node no more; its key can never return."""
        self._fleet.expel(name)

    def online(self) -> Mapping[str, float]:
        """Seconds since each reachable member's node was last heard of."""
        return self._fleet.online()

    def traffic(self) -> Traffic:
        """What went over the network so far."""
        return self._fleet.traffic()

    @contextmanager
    def transport(
        self, run: str, members: Sequence[str], *, stop: threading.Event
    ) -> Iterator[FleetTransport]:
        """Carry one run's messages to the nodes of `members`; on leaving, nothing of it is kept.

        Args:
            run: The run's name; a node handles the messages of one name in order.
            members: Names; one who was not admitted yet is not reachable.
            stop: Once it is set, an exchange ends with a `RefusedError`.
        """
        transport = FleetTransport(self._fleet, run, members, stop=stop)
        try:
            yield transport
        finally:
            transport.close()


@contextmanager
def serving(
    *,
    listen: str,
    credentials: Credentials,
    database: Path | None = None,
    hold_s: float = HOLD_S,
    answer_bytes_max: int = ANSWER_BYTES_MAX,
) -> Iterator[SuperLink]:
    """Answer members' nodes at an address until the context is left.

    Args:
        listen: host:port; port 0 takes any that is free.
        credentials: The server's; its root is the only one whose clients are answered.
        database: A file for Flower's state; without one it is in memory.
        hold_s: How long a node's call for messages is held open while there is none.
        answer_bytes_max: What an answer of a node may have: a step's vector, and a little.

    Raises:
        InputError: The address cannot be listened on, or the credentials cannot be used.
    """
    context = server_context(credentials)
    listener, address = _listen(listen)
    gate = Gate(Room.of_process())
    with Listener.through(gate, listener) as gated, _own_folder():
        app = flower_app(database)
        fleet = Fleet(app.state.linkstate_factory.state())
        asked = FleetFilter(app, fleet, hold_s=hold_s, answer_bytes_max=answer_bytes_max)
        server = _Server(asked, context, fleet, gate)
        with server.running(gated):
            yield SuperLink(address, fleet)


def flower_app(database: Path | None = None) -> FastAPI:
    """Flower's whole app, its accounts closed to everybody, and no process of it started."""
    quiet_flower()
    if database is not None:
        _be_patient()
    return create_app(
        SuperLinkLifespanConfig(
            control_address="",
            health_server_address=None,
            host="",
            port=0,
            insecure=False,
            certificates=None,
            superexec_auth_secret=secrets.token_bytes(32),
            authn_plugin=Nobody(),
            event_log_plugin=None,
            fleet_event_log_plugin=None,
            enable_event_log=False,
            artifact_provider=None,
            enable_supernode_auth=True,
            fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
            fleet_api_address=None,
            simulation=False,
            ssl_ca_certfile=None,
            ssl_certfile=None,
            ssl_keyfile=None,
            database=FLWR_IN_MEMORY_DB_NAME if database is None else str(database),
            isolation=ISOLATION_MODE_PROCESS,
            runtime_dependency_install=False,
        ),
        cast("Any", _Lifespan),
    )


class Nobody(ControlAuthnPlugin):
    """Flower's accounts: there are none, and no token is one."""

    def __init__(self) -> None:
        """Nothing is kept."""

    def get_login_details(self) -> None:
        """Nobody can log in."""

    def validate_tokens_in_metadata(
        self,
        metadata: Sequence[tuple[str, str | bytes]],  # noqa: ARG002 - whatever they are
    ) -> tuple[bool, None]:
        """No token is valid."""
        return False, None

    def get_auth_tokens(self, device_code: str) -> None:
        """Nobody gets a token."""

    def refresh_tokens(
        self,
        metadata: Sequence[tuple[str, str | bytes]],  # noqa: ARG002 - whatever they are
    ) -> tuple[None, None]:
        """No token is renewed."""
        return None, None


class _Lifespan:
    """Starts nothing: Flower's own starts processes and gRPC servers where it is told to."""

    def __init__(self, config: Any, factory: Any) -> None:  # noqa: ANN401 - Flower's own
        del config, factory

    def startup(self) -> None:
        """Nothing."""

    def shutdown(self) -> None:
        """Nothing."""


class _Uvicorn(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.listens.set()


class _Server:
    """One uvicorn in a thread of its own."""

    def __init__(self, app: FleetFilter, context: ssl.SSLContext, fleet: Fleet, gate: Gate) -> None:
        self._fleet = fleet
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=protocol(fleet, gate),
                loop="asyncio",
                ws="none",
                lifespan="on",
                ssl_context_factory=lambda _config, _default: context,
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                workers=1,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_S,
            )
        )

    @contextmanager
    def running(self, listener: socket.socket) -> Iterator[None]:
        thread = threading.Thread(target=self._run, args=(listener,), name="fleet", daemon=True)
        thread.start()
        try:
            if not self._server.listens.wait(START_S):
                raise RuntimeError("the fleet's server did not start")
            yield
        finally:
            self._server.should_exit = True
            self._fleet.close()
            thread.join(START_S)

    def _run(self, listener: socket.socket) -> None:
        SSLProtocol.max_size = TLS_BUFFER_BYTES
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        self._fleet.attach(asyncio.get_running_loop())
        await self._server.serve(sockets=[listener])


def _listen(listen: str) -> tuple[socket.socket, str]:
    host, port = split_address(listen)
    bare = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        listener = socket.create_server((bare, port), family=family, backlog=512)
    except OSError as failure:
        raise InputError(
            f"cannot listen on {listen}: {failure.strerror or failure}; give another address"
        ) from None
    return listener, f"{host}:{listener.getsockname()[1]}"


@contextmanager
def _own_folder() -> Iterator[None]:
    """Whatever Flower writes, it writes in a folder that is deleted."""
    with tempfile.TemporaryDirectory(prefix="tacit-engine-") as folder:
        before = os.environ.get("FLWR_HOME")
        os.environ["FLWR_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["FLWR_HOME"]
            else:
                os.environ["FLWR_HOME"] = before


def _be_patient() -> None:
    # a node's request fails where another holds the file for longer than this
    pragmas = vars(sql_mixin)
    pragmas["SQLITE_PRAGMAS"] = tuple(
        (name, str(DATABASE_BUSY_MS) if name == "busy_timeout" else value)
        for name, value in pragmas["SQLITE_PRAGMAS"]
    )
