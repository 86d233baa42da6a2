"""What the door answers; no caller has a certificate, so every check is here.

In this order: TLS 1.3, the rate of the caller's address, a deadline; then what the ledger says.
"""

import logging
from collections.abc import Callable
from typing import Final, Never, TypeVar, cast

import grpc

from federation.authority import Addresses
from federation.door.proof import require_fetch
from federation.enrolment import Enrolment, Standing
from federation.proto import door_pb2 as wire
from federation.proto.door_pb2_grpc import DoorServicer
from federation.registry.access import Role
from federation.registry.guard import DEADLINE_S, auth_of
from federation.registry.peer import Peer
from federation.registry.rate import Buckets
from federation.registry.refusal import CallRefusedError, denied, invalid
from privacy.errors import NotVerifiedError, ProtocolError, RefusedError, TacitError

ASK_COST: Final = 5.0
FETCH_COST: Final = 1.0
_CLOCK_S: Final = 1.0
_PUBLIC_BYTES: Final = 32
_TIME_MAX: Final = 2**53
_LOG = logging.getLogger(__name__)
_Reply = TypeVar("_Reply")


class DoorService(DoorServicer):
    """The service; safe for any number of threads."""

    def __init__(
        self,
        enrolment: Enrolment,
        addresses: Addresses,
        buckets: Buckets,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        """Answer from an enrolment.

        Args:
            enrolment: What decides.
            addresses: Told to whom was let in.
            buckets: One for each address that calls.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._enrolment = enrolment
        self._addresses = addresses
        self._buckets = buckets
        self._now_ms = now_ms

    def Ask(  # noqa: N802 - the wire's name
        self, request: wire.AskRequest, context: grpc.ServicerContext
    ) -> wire.AskReply:
        """Use an invitation."""
        return self._answered("Ask", ASK_COST, context, lambda: self._ask(request))

    def Fetch(  # noqa: N802
        self, request: wire.FetchRequest, context: grpc.ServicerContext
    ) -> wire.FetchReply:
        """Say how it stands, to the holder of the key alone."""
        return self._answered("Fetch", FETCH_COST, context, lambda: self._fetch(request))

    def _ask(self, request: wire.AskRequest) -> wire.AskReply:
        try:
            peer = Peer.from_uri(Peer(Role(request.role), request.name).uri)
        except (ValueError, ProtocolError):
            raise invalid("an invitation is for a role and a name; copy the whole line") from None
        standing = self._enrolment.ask(
            secret=request.secret,
            peer=peer,
            key=request.key,
            request=request.csr,
            signature=request.signature,
        )
        return wire.AskReply(standing=self._told(standing))

    def _fetch(self, request: wire.FetchRequest) -> wire.FetchReply:
        if len(request.key) != _PUBLIC_BYTES or request.time_ms > _TIME_MAX:
            raise invalid("a key has 32 bytes; update tacit")
        require_fetch(
            request.signature,
            federation=self._enrolment.membership().federation,
            name=request.name,
            key=request.key,
            time_ms=request.time_ms,
            now_ms=self._now_ms(),
        )
        return wire.FetchReply(
            standing=self._told(self._enrolment.standing(request.name, request.key))
        )

    def _told(self, standing: Standing) -> wire.Standing:
        return wire.Standing(
            approved=standing.approved,
            needed=standing.needed,
            certificate=standing.certificate,
            registry=self._addresses.registry,
            fleet=self._addresses.fleet,
        )

    def _answered(
        self, name: str, cost: float, context: grpc.ServicerContext, answer: Callable[[], _Reply]
    ) -> _Reply:
        try:
            self._admit(context, cost)
            return answer()
        except CallRefusedError as error:
            refusal = error
        except NotVerifiedError as error:
            refusal = _failed(name, error)
        except RefusedError as error:
            refusal = denied(str(error))
        except (TacitError, Exception) as error:  # noqa: BLE001 - nothing may leave but a sentence
            refusal = _failed(name, error)
        return _end(name, context, refusal)

    def _admit(self, context: grpc.ServicerContext, cost: float) -> None:
        if list(auth_of(context).get("ssl_tls_version", ())) != [b"TLSv1.3"]:
            raise CallRefusedError(
                grpc.StatusCode.UNAUTHENTICATED, "TLS 1.3 is needed; update your client"
            )
        if not self._buckets.take(_host(context), cost):
            raise CallRefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls; wait a few seconds"
            )
        # the stubs forget that there may be none
        left_s = cast("float | None", context.time_remaining())
        if left_s is None or left_s > DEADLINE_S + _CLOCK_S:
            raise invalid(f"a call needs a deadline of at most {DEADLINE_S:.0f} seconds")


def _host(context: grpc.ServicerContext) -> str:
    """Return the caller's address without its port, which is another with each connection."""
    return context.peer().rpartition(":")[0]


def _failed(name: str, error: Exception) -> CallRefusedError:
    _LOG.error("failed %s", name, exc_info=error)
    return CallRefusedError(
        grpc.StatusCode.INTERNAL, "the door failed; the operator sees why in its log"
    )


def _end(name: str, context: grpc.ServicerContext, refusal: CallRefusedError) -> Never:
    _LOG.warning("refused %s at %s: %s", name, context.peer(), refusal.code.name)
    context.abort(refusal.code, refusal.sentence)
    raise AssertionError  # `abort` always raises
