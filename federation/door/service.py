"""What the door answers: what the ledger says. `guard` looks at each call before."""

from collections.abc import Callable
from typing import Final

import grpc

from federation.authority import Addresses
from federation.door.proof import require_fetch
from federation.enrolment import Enrolment, Standing
from federation.invitation import secret_digest
from federation.proto import door_pb2 as wire
from federation.proto.door_pb2_grpc import DoorServicer
from federation.registry.access import Role
from federation.registry.peer import Peer
from federation.registry.refusal import invalid
from privacy.errors import ProtocolError, RefusedError

_PUBLIC_BYTES: Final = 32
_TIME_MAX: Final = 2**53


class DoorService(DoorServicer):
    """The service; safe for any number of threads."""

    def __init__(
        self, enrolment: Enrolment, addresses: Addresses, *, now_ms: Callable[[], int]
    ) -> None:
        """Answer from an enrolment.

        Args:
            enrolment: What decides.
            addresses: Told to whom was let in.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._enrolment = enrolment
        self._addresses = addresses
        self._now_ms = now_ms

    def Ask(  # noqa: N802 - the wire's name
        self, request: wire.AskRequest, context: grpc.ServicerContext
    ) -> wire.AskReply:
        """Use an invitation."""
        del context
        try:
            peer = Peer.from_uri(Peer(Role(request.role), request.name).uri)
        except (ValueError, ProtocolError):
            raise invalid("an invitation is for a role and a name; copy the whole line") from None
        self._require_invited(secret_digest(request.secret))
        standing = self._enrolment.ask(
            secret=request.secret,
            peer=peer,
            key=request.key,
            request=request.csr,
            signature=request.signature,
        )
        return wire.AskReply(standing=self._told(standing))

    def Fetch(  # noqa: N802
        self, request: wire.FetchRequest, context: grpc.ServicerContext
    ) -> wire.FetchReply:
        """Say how it stands, to the holder of the key alone."""
        del context
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

    def _require_invited(self, token: str) -> None:
        """Whoever was not invited does not hold up the ledger: nothing is written here."""
        if token in self._enrolment.membership().invitations:
            return
        for entry in self._enrolment.acts():
            if entry.kind == "member.invited" and entry.body["token"] == token:
                return  # used or withdrawn, which the enrolment has its sentences for
        raise RefusedError(
            "this invitation is not known here; copy the whole line again, or ask the operator for "
            "a new one"
        )

    def _told(self, standing: Standing) -> wire.Standing:
        return wire.Standing(
            approved=standing.approved,
            needed=standing.needed,
            certificate=standing.certificate,
            registry=self._addresses.registry,
            fleet=self._addresses.fleet,
        )
