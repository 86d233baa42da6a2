"""A connection to the coordinator's services, and what its failures are called."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import grpc
from google.protobuf.message import Message

from federation.registry.address import split_address
from federation.registry.credentials import Credentials
from federation.registry.plain import plain
from privacy.errors import InputError, RefusedError, TacitError

DEADLINE_S: Final = 30.0
REPLY_BYTES_MAX: Final = 2 << 20
AGAIN_S: Final = (0.13, 0.37, 0.75, 1.75)
"""How long to wait before whoever did not answer is asked again.

At first a little longer than gRPC waits before it connects anew: 100 ms, and a fifth more or less.
"""
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", REPLY_BYTES_MAX),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # what lies on two ports of one host, or under two certificates, shares no connection
    ("grpc.use_local_subchannel_pool", 1),
    # whoever asks again has a new connection made for it
    ("grpc.initial_reconnect_backoff_ms", 100),
)


class UnreachedError(RefusedError):
    """Nobody answers, for now; the same again later may go well."""


class UnknownCallerError(RefusedError):
    """The coordinator answers, and does not know this certificate, any more or yet."""


def open_channel(address: str, credentials: Credentials | bytes) -> grpc.Channel:
    """Prepare a connection over TLS; it is made with the first call.

    Args:
        address: host:port; the other end's certificate names the host.
        credentials: Of this end; or only the root in PEM, where this end has no certificate yet.

    Raises:
        InputError: the address is none.
    """
    split_address(address)
    if isinstance(credentials, bytes):
        ends = grpc.ssl_channel_credentials(root_certificates=credentials)
    else:
        ends = grpc.ssl_channel_credentials(
            root_certificates=credentials.authority,
            private_key=credentials.key,
            certificate_chain=credentials.certificate,
        )
    return grpc.secure_channel(address, ends, options=_OPTIONS)


def patiently(
    call: Callable[..., Any],
    request: Message,
    *,
    where: str,
    deadline_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> Any:  # noqa: ANN401 - the reply of a generated stub
    """Return what a call answers; where nobody answers at once, it is made four times in all.

    A machine that is busy, or that begins at this moment, takes longer over a connection than it
    has time for. Only for what changes nothing the second time.

    Raises:
        TacitError: As in `sentences`.
    """
    for wait_s in AGAIN_S:
        try:
            return call(request, timeout=deadline_s)
        except grpc.RpcError as error:
            found, code = failure(error, where), cast("grpc.Call", error).code()
            if code is not grpc.StatusCode.UNAVAILABLE or not isinstance(found, UnreachedError):
                raise found from None
        pause(wait_s)
    with sentences(where):
        return call(request, timeout=deadline_s)


@contextmanager
def sentences(where: str) -> Iterator[None]:
    """Turn gRPC's errors into ours; `where` is whom was asked."""
    try:
        yield
    except grpc.RpcError as error:
        raise failure(error, where) from None


def failure(error: grpc.RpcError, where: str) -> TacitError:
    """Return what went wrong with a call, as one sentence."""
    call = cast("grpc.Call", error)  # gRPC's errors of calls are both
    code, details = call.code(), call.details() or ""
    said = f"{where} says: {plain(details) or code.name}"
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InputError(said)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return UnknownCallerError(said)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return UnreachedError(said)
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unreached(where, details)
    if code in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}:
        return UnreachedError(f"{where} did not answer in time; try again")
    return RefusedError(said)


def _unreached(where: str, details: str) -> RefusedError:
    if "Tls handshake failed" in details or "CERTIFICATE_VERIFY_FAILED" in details:
        return RefusedError(
            f"the certificate of {where} is not by the federation's root, or it has expired; ask "
            "the operator"
        )
    if "Hostname Verification" in details:
        return RefusedError(
            f"the certificate of {where} does not name that host; ask the operator, who names it "
            "with tacit federation init --host"
        )
    return UnreachedError(
        f"{where} does not answer, or does not accept this certificate; check the network, and ask "
        "the operator whether the coordinator is running"
    )
