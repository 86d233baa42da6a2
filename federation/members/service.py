"""What the Members service answers; the registry's guard asks who may before.

An act counts by the signature in it. That whoever hands it in is its signer is asked besides, so
that nobody can choose the hour of another's act.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final, TypeVar

import grpc
from cryptography import x509

from federation.certificates import certificate_digest, expires_ms
from federation.enrolment import Enrolment
from federation.members.newest_note import NewestNote
from federation.proto import members_pb2 as wire
from federation.proto.members_pb2_grpc import MembersServicer, add_MembersServicer_to_server
from federation.registry.guard import auth_of
from federation.registry.peer import Peer, peer_of
from federation.registry.refusal import CallRefusedError, denied, invalid
from privacy.canonical import parse_canonical
from privacy.errors import NotVerifiedError, ProtocolError, RefusedError

PAGE_BYTES: Final = 512 << 10  # the note may have a MiB, and a message two
BODY_BYTES_MAX: Final = 64 << 10
_Answer = TypeVar("_Answer")


class MembersService(MembersServicer):
    """The service; safe for any number of threads."""

    def __init__(
        self, enrolment: Enrolment, *, fleet: Callable[[], str], now_ms: Callable[[], int]
    ) -> None:
        """Answer from an enrolment.

        Args:
            enrolment: What decides.
            fleet: host:port for nodes at work.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._enrolment = enrolment
        self._fleet = fleet
        self._now_ms = now_ms
        self._newest = NewestNote(enrolment.store)

    def add_to(self, server: grpc.Server) -> None:
        """Add the service to a server; `listening(.., beside=[service.add_to])`."""
        add_MembersServicer_to_server(self, server)

    def Me(  # noqa: N802 - the wire's name
        self, request: wire.MeRequest, context: grpc.ServicerContext
    ) -> wire.MeReply:
        """Say how the caller is known and connected."""
        del request
        peer = self._caller(context)
        auth = auth_of(context)

        def told(name: str) -> str:
            return b"".join(auth.get(name, ())).decode("ascii")

        return wire.MeReply(
            role=peer.role.value,
            name=peer.name,
            tls=told("ssl_tls_version"),
            key_exchange=told("ssl_negotiated_key_exchange_group"),
            time_ms=self._now_ms(),
            version=version("tacit-fl"),
            federation=self._enrolment.membership().federation,
            expires_ms=expires_ms(_certificate(context)),
            fleet=self._fleet(),
        )

    def Membership(  # noqa: N802
        self, request: wire.MembershipRequest, context: grpc.ServicerContext
    ) -> wire.MembershipReply:
        """Return acts as they stand in the ledger, as many as a message holds."""
        self._caller(context)
        acts = self._enrolment.acts()
        if request.skip > len(acts):
            raise invalid("there are not so many acts; ask from the first one")
        leaves: list[bytes] = []
        size = 0
        for entry in acts[request.skip :]:
            leaf = entry.leaf()
            if leaves and size + len(leaf) > PAGE_BYTES:
                break
            leaves.append(leaf)
            size += len(leaf)
        return wire.MembershipReply(
            leaves=leaves,
            more=request.skip + len(leaves) < len(acts),
            note=self._newest.note(),
        )

    def Act(  # noqa: N802
        self, request: wire.ActRequest, context: grpc.ServicerContext
    ) -> wire.ActReply:
        """Put an act of the caller on record."""
        peer = self._caller(context)
        body = _body(request.body)
        acted = _decided(lambda: self._enrolment.act(request.kind, body, by=peer.name))
        return wire.ActReply(index=acted.index, admitted=acted.admitted)

    def Renew(  # noqa: N802
        self, request: wire.RenewRequest, context: grpc.ServicerContext
    ) -> wire.RenewReply:
        """Replace the caller's keys."""
        peer = self._caller(context)
        body = _body(request.body)
        certificate = _decided(lambda: self._enrolment.renew(body, request.csr, by=peer.name))
        return wire.RenewReply(certificate=certificate)

    def _caller(self, context: grpc.ServicerContext) -> Peer:
        peer = peer_of(auth_of(context))
        if self._enrolment.is_out(peer, certificate_digest(_certificate(context))):
            raise CallRefusedError(
                grpc.StatusCode.UNAUTHENTICATED,
                f"{peer.name} has another certificate by now, or is no member of this federation "
                "any more; use the newest, or ask its operator",
            )
        return peer


def _certificate(context: grpc.ServicerContext) -> x509.Certificate:
    return x509.load_pem_x509_certificate(b"".join(auth_of(context).get("x509_pem_cert", ())))


def _body(data: bytes) -> dict[str, Any]:
    try:
        value = parse_canonical(data) if len(data) <= BODY_BYTES_MAX else None
    except ProtocolError:
        value = None
    if not isinstance(value, dict):
        raise invalid("the body of an act is an object in canonical JSON; update tacit")
    return value


def _decided(decide: Callable[[], _Answer]) -> _Answer:
    try:
        return decide()
    except NotVerifiedError:
        raise
    except RefusedError as error:
        raise denied(str(error)) from None
