"""What every call passes before it is answered; where one check fails, nothing is answered.

In this order: TLS 1.3; a certificate that names one caller; that the caller is in; its rate; a call
that its role may make; a deadline, and not too far a one; not too many of its calls at once. All of
that before the call's message is taken, for which there is a moment; whoever sends none holds a few
threads for that long. Whether a caller is still in is looked up again while it is streamed to.

A refused call leaves one line in the log, without anything of the request; too many leave their
number. What goes wrong inside leaves its traceback in the server's log and is called internal
outside.
"""

from __future__ import annotations  # gRPC's classes are generic in their stubs only

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, Never, TypeAlias, TypeVar, cast

import grpc
from cryptography import x509

from federation.certificates import certificate_digest
from federation.registry.access import Method, Scope, scope_of
from federation.registry.first_message import first_message
from federation.registry.open_calls import OpenCalls
from federation.registry.pace import Pace
from federation.registry.pause import Pauses
from federation.registry.peer import Peer, peer_of
from federation.registry.rate import COSTS, Buckets
from federation.registry.refusal import CallRefusedError, denied, invalid
from federation.registry.refusal_log import RefusalLog
from privacy.errors import ProtocolError

DEADLINE_S: Final = 60.0
STREAM_DEADLINE_S: Final = 600.0
CALLS_MAX: Final = 4
STREAMS_MAX: Final = 2
WATCHES_MAX: Final = 6
"""Each of one caller, at once. A stream is one of its calls until its message came."""
PAUSES_MAX: Final = 16
PAUSES_ALL: Final = 24
"""Calls that came too often and wait for their refusal, of one caller and of all."""
PACE: Final = 40.0
PACE_BURST: Final = 40.0
"""Calls of one caller a second, and at once; what comes sooner waits."""
LOOK_EVERY: Final = 8
"""Pieces of a stream."""
_CLOCK_S: Final = 1.0  # a deadline is counted from when the call was sent
_TLS: Final = b"TLSv1.3"
_SERVICES: Final[Mapping[str, frozenset[Method]]] = MappingProxyType(
    {
        "/tacit.registry.v1.Registry/": frozenset(
            {
                Method.LEDGERS,
                Method.CHECKPOINT,
                Method.ENTRIES,
                Method.INCLUSION,
                Method.CONSISTENCY,
                Method.COSIGN,
                Method.BUDGETS,
                Method.BUNDLE,
            }
        ),
        "/tacit.members.v1.Members/": frozenset(
            {Method.ME, Method.MEMBERSHIP, Method.ACT, Method.RENEW}
        ),
        "/tacit.runs.v1.Runs/": frozenset(
            {
                Method.LAUNCH,
                Method.RUNS,
                Method.WATCH,
                Method.STOP,
                Method.RESUME,
                Method.REPORT,
            }
        ),
    }
)
_LOG = logging.getLogger(__name__)

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")
_Context: TypeAlias = grpc.ServicerContext
_Behaviour: TypeAlias = Callable[[Any, _Context], Any]
_Messages: TypeAlias = Iterator[Any]


def auth_of(context: _Context) -> Mapping[str, Iterable[bytes]]:
    """Return what gRPC knows of the connection."""
    # the stubs say one value of each; there are several
    return cast("Mapping[str, Iterable[bytes]]", context.auth_context())


def certificate_of(auth: Mapping[str, Iterable[bytes]]) -> str:
    """Return the SHA-256 of the caller's certificate (DER), hexadecimal; empty where none is told.

    Args:
        auth: gRPC's, of a connection whose client certificate it verified.
    """
    for pem in auth.get("x509_pem_cert", ()):
        return certificate_digest(x509.load_pem_x509_certificate(bytes(pem)))
    return ""


class Guard(grpc.ServerInterceptor):
    """See the module."""

    def __init__(
        self,
        buckets: Buckets,
        *,
        revoked: Callable[[Peer, str], bool] = lambda _, __: False,
        heard: Callable[[str, str], None] = lambda _, __: None,
        pauses: Pauses | None = None,
    ) -> None:
        self._buckets = buckets
        self._heard = heard
        self._revoked = revoked
        self._calls = OpenCalls(CALLS_MAX)
        self._streams = OpenCalls(STREAMS_MAX)
        self._watches = OpenCalls(WATCHES_MAX)
        self._pauses = pauses or Pauses(PAUSES_MAX, PAUSES_ALL)
        self._pace = Pace(PACE, PACE_BURST, buckets.now_s)
        self._log = RefusalLog(_LOG)
        self._mutex = threading.Lock()
        self._greeted: set[tuple[str, str]] = set()

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Reply] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Reply] | None:
        """Put the checks before whatever would answer; see gRPC."""
        handler = cast("Any", continuation(handler_call_details))
        method = _method(handler_call_details.method)
        if handler is None or method is None:
            return grpc.stream_unary_rpc_method_handler(self._answering(None, _nothing))
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        # The wire has no other shapes.
        return grpc.stream_unary_rpc_method_handler(
            self._answering(method, handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _answering(self, method: Method | None, behaviour: _Behaviour) -> _Behaviour:
        def answer(messages: _Messages, context: _Context) -> object:
            try:
                peer = self._admit(method, context, DEADLINE_S)
                with self._one(peer):
                    return behaviour(first_message(messages, context), context)
            except Exception as error:  # noqa: BLE001 - nothing may leave but a sentence
                refusal = _refusal(error, method)
            return self._end(context, method, refusal)

        return answer

    def _streaming(self, method: Method, behaviour: _Behaviour) -> _Behaviour:
        def stream(messages: _Messages, context: _Context) -> Iterator[object]:
            try:
                peer = self._admit(method, context, STREAM_DEADLINE_S)
                with self._one(peer):
                    request = first_message(messages, context)
                self._begin_stream(method, peer, context)
                for told, reply in enumerate(behaviour(request, context), 1):
                    yield reply
                    if told % LOOK_EVERY == 0:
                        self._require_in(peer, auth_of(context))
            except Exception as error:  # noqa: BLE001 - nothing may leave but a sentence
                refusal = _refusal(error, method)
            else:
                return
            self._end(context, method, refusal)

        return stream

    def _admit(self, method: Method | None, context: _Context, deadline_s: float) -> Peer:
        auth = auth_of(context)
        tls = list(auth.get("ssl_tls_version", ()))
        if tls != [_TLS]:
            raise CallRefusedError(
                grpc.StatusCode.UNAUTHENTICATED, "TLS 1.3 is needed; update your client"
            )
        try:
            peer = peer_of(auth)
        except ProtocolError as error:
            raise CallRefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
        self._require_in(peer, auth)
        self._heard(context.peer(), peer.uri)
        self._greet(peer, auth)
        cost = 1.0 if method is None else COSTS.get(method, 1.0)
        if not self._buckets.take(peer.uri, cost):
            self._pauses.wait(peer.uri)
            raise CallRefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls; wait a few seconds"
            )
        if method is None or scope_of(peer.role, method) is Scope.NONE:
            name = "that" if method is None else method.value
            raise denied(f"the role {peer.role.value} may not call {name}")
        # the stubs forget that there may be none
        left_s = cast("float | None", context.time_remaining())
        if left_s is None or left_s > deadline_s + _CLOCK_S:
            raise invalid(f"{method.value} needs a deadline of at most {deadline_s:.0f} seconds")
        return peer

    @contextmanager
    def _one(self, peer: Peer) -> Iterator[None]:
        """Count a call, which waits for its place."""
        if not self._calls.begin(peer.uri):
            self._pauses.wait(peer.uri)
            raise self._calls.refusal()
        try:
            wait_s = self._pace.wait_s(peer.uri)
            if wait_s:
                self._pauses.pause(wait_s)
            yield
        finally:
            self._calls.end(peer.uri)

    def _require_in(self, peer: Peer, auth: Mapping[str, Iterable[bytes]]) -> None:
        if self._revoked(peer, certificate_of(auth)):
            raise CallRefusedError(
                grpc.StatusCode.UNAUTHENTICATED,
                f"{peer.name} is no member of this federation any more, or has another certificate "
                "by now; use the newest, or ask its operator",
            )

    def _begin_stream(self, method: Method, peer: Peer, context: _Context) -> None:
        # a watch waits most of its time, and who watches runs may read ledgers beside
        streams = self._watches if method is Method.WATCH else self._streams
        if not streams.begin(peer.uri):
            raise CallRefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{streams.most} streams of yours are open; let one end",
            )
        # whatever ends the call, the callback runs; it is not taken where the call is over already
        if not context.add_callback(lambda: streams.end(peer.uri)):
            streams.end(peer.uri)
            raise CallRefusedError(grpc.StatusCode.CANCELLED, "the call is over")

    def _greet(self, peer: Peer, auth: Mapping[str, Iterable[bytes]]) -> None:
        """Note once how each caller is connected."""
        group = b"".join(auth.get("ssl_negotiated_key_exchange_group", ())).decode("ascii")
        with self._mutex:
            known = (peer.uri, group) in self._greeted
            self._greeted.add((peer.uri, group))
        if not known:
            _LOG.info("connected %s by %s, key exchange %s", peer.uri, _TLS.decode(), group)

    def _end(self, context: _Context, method: Method | None, refusal: CallRefusedError) -> Never:
        try:
            who = peer_of(auth_of(context)).uri
        except ProtocolError:
            who = "nobody"
        what = "unknown" if method is None else method.value
        self._log.refused(what, who, context.peer(), refusal.code.name)
        context.abort(refusal.code, refusal.sentence)
        raise AssertionError  # `abort` always raises


def _method(path: str) -> Method | None:
    service, slash, name = path.rpartition("/")
    known = _SERVICES.get(service + slash, frozenset())
    return next((method for method in known if method.value == name), None)


def _nothing(request: object, context: _Context) -> Never:
    del request, context
    raise denied("there is no such call")


def _refusal(error: Exception, method: Method | None) -> CallRefusedError:
    if isinstance(error, CallRefusedError):
        return error
    _LOG.error("failed %s", "unknown" if method is None else method.value, exc_info=error)
    return CallRefusedError(
        grpc.StatusCode.INTERNAL, "the registry failed; its operator sees why in the server's log"
    )
