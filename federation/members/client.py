"""Ask about the federation, act in it, renew keys; nothing that it returns is verified."""

from collections.abc import Iterator, Mapping
from typing import Self

from federation.channel import DEADLINE_S, open_channel, patiently
from federation.proto import members_pb2 as wire
from federation.proto.members_pb2_grpc import MembersStub
from federation.registry.credentials import Credentials
from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError

ACTS_MAX = 1_000_000


class MembersClient:
    """A connection to one coordinator.

    Every call raises:
        UnreachedError: it cannot be reached now.
        UnknownCallerError: it does not accept the certificate.
        RefusedError: it says no, or is not who it should be.
        InputError: it says that the question makes no sense.
    """

    def __init__(
        self, address: str, credentials: Credentials, *, deadline_s: float = DEADLINE_S
    ) -> None:
        """Prepare a connection; it is made with the first call.

        Raises:
            InputError: the address is none.
        """
        self.address = address
        self._deadline_s = deadline_s
        self._channel = open_channel(address, credentials)
        self._stub = MembersStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def me(self) -> wire.MeReply:
        """Return how the coordinator knows this end, and how it is connected."""
        reply: wire.MeReply = patiently(
            self._stub.Me, wire.MeRequest(), where=self._where, deadline_s=self._deadline_s
        )
        return reply

    def acts(self, skip: int = 0) -> Iterator[bytes]:
        """Yield the leaves of the acts after the first `skip`."""
        count = skip
        while True:
            reply: wire.MembershipReply = patiently(
                self._stub.Membership,
                wire.MembershipRequest(skip=count),
                where=self._where,
                deadline_s=self._deadline_s,
            )
            yield from reply.leaves
            count += len(reply.leaves)
            if not reply.more:
                return
            if not reply.leaves or count > ACTS_MAX:
                raise NotVerifiedError(
                    f"{self._where} sent what is no answer; update tacit at both ends"
                )

    def act(self, kind: str, body: Mapping[str, object]) -> wire.ActReply:
        """Put a signed act on record; see `Enrolment.act`."""
        asked = wire.ActRequest(kind=kind, body=canonical_json(dict(body)))
        reply: wire.ActReply = patiently(
            self._stub.Act, asked, where=self._where, deadline_s=self._deadline_s
        )
        return reply

    def renew(self, body: Mapping[str, object], request: bytes) -> bytes:
        """Replace keys; return the new certificate in PEM. See `Enrolment.renew`."""
        asked = wire.RenewRequest(body=canonical_json(dict(body)), csr=request)
        reply: wire.RenewReply = patiently(
            self._stub.Renew, asked, where=self._where, deadline_s=self._deadline_s
        )
        return reply.certificate

    @property
    def _where(self) -> str:
        return f"the coordinator {self.address}"
