"""What every call at the door passes; no caller has a certificate.

In this order: TLS 1.3, the rate of the caller's address, a deadline, not too many calls of that
address at once; then the call's message is taken, for which there is a moment.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Never, TypeAlias, cast
from urllib.parse import unquote

import grpc

from federation.registry.first_message import first_message
from federation.registry.guard import DEADLINE_S, auth_of
from federation.registry.open_calls import OpenCalls
from federation.registry.pause import Pauses
from federation.registry.rate import Buckets, network_of
from federation.registry.refusal import CallRefusedError, denied, invalid
from federation.registry.refusal_log import RefusalLog
from privacy.errors import NotVerifiedError, RefusedError

CALLS_MAX: Final = 4
"""Of one address, at once."""
PAUSES_MAX: Final = 4
PAUSES_ALL: Final = 8
"""Calls that came too often and wait for their refusal, of one address and of all."""
COSTS: Final[Mapping[str, float]] = MappingProxyType({"Ask": 5.0, "Fetch": 1.0})
_SERVICE: Final = "/tacit.door.v1.Door/"
_OUTSIDER: Final = "an outsider"
_CLOCK_S: Final = 1.0
_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:  # gRPC's classes are generic in their stubs only
    _Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]


class DoorGuard(grpc.ServerInterceptor):
    """See the module."""

    def __init__(
        self,
        buckets: Buckets,
        *,
        heard: Callable[[str], None] = lambda _: None,
        pauses: Pauses | None = None,
    ) -> None:
        self._buckets = buckets
        self._heard = heard
        self._calls = OpenCalls(CALLS_MAX)
        self._pauses = pauses or Pauses(PAUSES_MAX, PAUSES_ALL)
        self._log = RefusalLog(_LOG)

    def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], _Handler | None]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Put the checks before whatever would answer; see gRPC."""
        handler = cast("Any", continuation(handler_call_details))
        name = handler_call_details.method.removeprefix(_SERVICE)
        if handler is None or name not in COSTS:
            return grpc.stream_unary_rpc_method_handler(self._answering("unknown", _nothing))
        return grpc.stream_unary_rpc_method_handler(
            self._answering(name, handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _answering(
        self, name: str, behaviour: Callable[[Any, grpc.ServicerContext], object]
    ) -> Callable[[Iterator[Any], grpc.ServicerContext], object]:
        def answer(messages: Iterator[Any], context: grpc.ServicerContext) -> object:
            try:
                host = self._admit(context, COSTS.get(name, 1.0))
                with self._calls.one(host):
                    return behaviour(first_message(messages, context), context)
            except Exception as error:  # noqa: BLE001 - nothing may leave but a sentence
                refusal = _refusal(name, error)
            return self._end(name, context, refusal)

        return answer

    def _admit(self, context: grpc.ServicerContext, cost: float) -> str:
        if list(auth_of(context).get("ssl_tls_version", ())) != [b"TLSv1.3"]:
            raise CallRefusedError(
                grpc.StatusCode.UNAUTHENTICATED, "TLS 1.3 is needed; update your client"
            )
        host = host_of(context.peer())
        if not self._buckets.take(host, cost):
            self._pauses.wait(host)
            raise CallRefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls; wait a few seconds"
            )
        # the stubs forget that there may be none
        left_s = cast("float | None", context.time_remaining())
        if left_s is None or left_s > DEADLINE_S + _CLOCK_S:
            raise invalid(f"a call needs a deadline of at most {DEADLINE_S:.0f} seconds")
        self._heard(context.peer())
        return host

    def _end(self, name: str, context: grpc.ServicerContext, refusal: CallRefusedError) -> Never:
        self._log.refused(name, _OUTSIDER, context.peer(), refusal.code.name)
        context.abort(refusal.code, refusal.sentence)
        raise AssertionError  # `abort` always raises


def host_of(peer: str) -> str:
    """Return whose address a caller's is, as gRPC writes it: without its port, an IPv6 network."""
    family, _, address = unquote(peer).partition(":")
    return f"{family}:{network_of(address.rpartition(':')[0])}"


def _nothing(request: object, context: grpc.ServicerContext) -> Never:
    del request, context
    raise denied("there is no such call")


def _refusal(name: str, error: Exception) -> CallRefusedError:
    if isinstance(error, CallRefusedError):
        return error
    if isinstance(error, RefusedError) and not isinstance(error, NotVerifiedError):
        return denied(str(error))
    _LOG.error("failed %s", name, exc_info=error)
    return CallRefusedError(
        grpc.StatusCode.INTERNAL, "the door failed; the operator sees why in its log"
    )
