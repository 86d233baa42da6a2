"""The registry's server: mTLS or nothing, and a limit on all that a caller can use up."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from federation.open_files import files_allowed
from federation.proto.registry_pb2_grpc import add_RegistryServicer_to_server
from federation.registry.address import split_address
from federation.registry.credentials import Credentials
from federation.registry.guard import Guard
from federation.registry.peer import Peer
from federation.registry.port_gate import PortGate, PortRoom, gated
from federation.registry.rate import Buckets, Rate
from federation.registry.service import RegistryService
from privacy.errors import InputError

REQUEST_BYTES_MAX: Final = 1 << 20
REPLY_BYTES_MAX: Final = 2 << 20
HANDSHAKE_MS: Final = 3000
THREADS: Final = 64
CONNECTIONS_MAX: Final = 4096
CONNECTIONS_PART: Final = 4
"""At once: that many, and no more than the fourth part of the files that the process may open."""
CONNECTIONS: Final = "grpc.max_allowed_incoming_connections"
_MINUTE_MS: Final = 60_000
OPTIONS: Final = (
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", REPLY_BYTES_MAX),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    # what is compressed may expand; only "identity" is spoken
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    ("grpc.max_concurrent_streams", 16),
    ("grpc.max_connection_idle_ms", _MINUTE_MS),
    # a certificate that has expired or was withdrawn is seen with the next connection
    ("grpc.max_connection_age_ms", 10 * _MINUTE_MS),
    ("grpc.max_connection_age_grace_ms", 10 * _MINUTE_MS),
    ("grpc.keepalive_time_ms", 2 * _MINUTE_MS),
    ("grpc.keepalive_timeout_ms", _MINUTE_MS // 3),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", _MINUTE_MS),
    ("grpc.http2.max_ping_strikes", 2),
    # two servers on one port would share callers between them unseen
    ("grpc.so_reuseport", 0),
)


def connections_most(most: int, part: int) -> int:
    """How many connections a server of gRPC keeps at once; it ends the others as they come.

    Args:
        most: No more than that.
        part: Nor more than this part of the files that the process may open: where a port has none
            left, nothing in the process can open one.
    """
    return min(most, files_allowed() // part)


def _nobody(peer: Peer, certificate: str) -> bool:
    del peer, certificate
    return False


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that answers.

    Attributes:
        address: `host:port`, the port that was taken.
        server: gRPC's.
    """

    address: str
    server: grpc.Server


@contextmanager
def listening(
    service: RegistryService,
    address: str,
    credentials: Credentials,
    *,
    rate: Rate | None = None,
    beside: Sequence[Callable[[grpc.Server], None]] = (),
    revoked: Callable[[Peer, str], bool] = _nobody,
) -> Iterator[Listening]:
    """Answer at `address` until the block is left; calls under way have five seconds then.

    Args:
        service: What answers.
        address: `host:port`; port 0 takes a free one.
        credentials: Of the server. Its certificate names the host; only certificates that the same
            root issued may call.
        rate: Of each caller.
        beside: Each adds one more service to the server; the same guard stands before it.
        revoked: Whether a caller, with the SHA-256 of its certificate in hexadecimal, takes part no
            more; asked with each call.

    Raises:
        InputError: the address is none, or is taken.
    """
    most = connections_most(CONNECTIONS_MAX, CONNECTIONS_PART)
    gate = PortGate(PortRoom.within(most))
    guard = Guard(Buckets(rate or Rate(), time.monotonic), revoked=revoked, heard=gate.heard)
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="registry"),
        interceptors=[guard],
        options=(*OPTIONS, (CONNECTIONS, most)),
        maximum_concurrent_rpcs=2 * THREADS,
    )
    add_RegistryServicer_to_server(service, server)
    for add in beside:
        add(server)
    held = grpc.ssl_server_credentials(
        [(credentials.key, credentials.certificate)],
        root_certificates=credentials.authority,
        require_client_auth=True,
    )
    with answering_at(server, address, held, gate) as found:
        yield found


@contextmanager
def answering_at(
    server: grpc.Server, address: str, credentials: grpc.ServerCredentials, gate: PortGate
) -> Iterator[Listening]:
    """Let a server answer at `address` until the block is left; calls under way have five seconds.

    The gate ends connections for which there is no room.

    Raises:
        InputError: the address is none, or is taken.
    """
    host, port = split_address(address)
    try:
        taken = server.add_secure_port(f"{host}:{port}", credentials)
    except RuntimeError:
        taken = 0
    if not taken:
        raise InputError(f"cannot listen at {address}; choose a free port of this machine")
    server.start()
    try:
        with gated(gate, taken):
            yield Listening(f"{host}:{taken}", server)
    finally:
        server.stop(grace=5).wait()
