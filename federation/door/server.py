"""The door's server: TLS 1.3, the server's certificate alone, and little that a caller can use."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import grpc

from federation.authority import Addresses
from federation.door.guard import DoorGuard
from federation.door.service import DoorService
from federation.enrolment import Enrolment
from federation.proto.door_pb2_grpc import add_DoorServicer_to_server
from federation.registry.credentials import Credentials
from federation.registry.port_gate import PortGate, PortRoom
from federation.registry.rate import Buckets, Rate
from federation.registry.server import (
    CONNECTIONS,
    OPTIONS,
    Listening,
    answering_at,
    connections_most,
)

MESSAGE_BYTES_MAX: Final = 16 << 10
THREADS: Final = 32
CONNECTIONS_MAX: Final = 1024
CONNECTIONS_PART: Final = 8
"""At once: that many, and no more than the eighth part of the files that the process may open."""
RATE: Final = Rate(per_second=5.0, burst=100.0)
"""Of each address: twenty askers at once, and as many who wait for approval."""
_SMALLER: Final = {
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_concurrent_streams": 8,
    # whoever has no certificate makes a call at once, or goes
    "grpc.max_connection_idle_ms": 10_000,
    "grpc.max_connection_age_ms": 60_000,
    "grpc.max_connection_age_grace_ms": 60_000,
}


@contextmanager
def door_open(
    enrolment: Enrolment,
    address: str,
    credentials: Credentials,
    *,
    addresses: Addresses,
    now_ms: Callable[[], int],
    rate: Rate = RATE,
) -> Iterator[Listening]:
    """Answer at `address` until the block is left; calls under way have five seconds then.

    Args:
        enrolment: What decides.
        address: host:port; port 0 takes a free one.
        credentials: Of the server.
        addresses: Told to whom was let in.
        now_ms: Milliseconds since 1970 UTC.
        rate: Of each address that calls.

    Raises:
        InputError: the address is none, or is taken.
    """
    most = connections_most(CONNECTIONS_MAX, CONNECTIONS_PART)
    gate = PortGate(PortRoom.within(most))
    service = DoorService(enrolment, addresses, now_ms=now_ms)
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="door"),
        interceptors=[DoorGuard(Buckets(rate, time.monotonic), heard=gate.heard)],
        options=(
            *((name, _SMALLER.get(name, value)) for name, value in OPTIONS),
            (CONNECTIONS, most),
        ),
        maximum_concurrent_rpcs=2 * THREADS,
    )
    add_DoorServicer_to_server(service, server)
    held = grpc.ssl_server_credentials([(credentials.key, credentials.certificate)])
    with answering_at(server, address, held, gate) as found:
        yield found
