"""Ask at the door. Whatever goes wrong ends in one sentence that says what to do."""

from typing import Self

from federation.channel import DEADLINE_S, open_channel, patiently
from federation.door.proof import sign_fetch
from federation.proto import door_pb2 as wire
from federation.proto.door_pb2_grpc import DoorStub
from federation.registry.peer import Peer
from privacy.identity import Identity


class DoorClient:
    """A connection to one door, whose certificate the given root issued.

    Every call raises:
        UnreachedError: it cannot be reached now.
        RefusedError: it says no, or is not who it should be.
    """

    def __init__(self, address: str, root: bytes, *, deadline_s: float = DEADLINE_S) -> None:
        """Prepare a connection; `root` is in PEM.

        Raises:
            InputError: the address is none.
        """
        self.address = address
        self._deadline_s = deadline_s
        self._channel = open_channel(address, root)
        self._stub = DoorStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def ask(
        self, *, secret: bytes, peer: Peer, key: bytes, request: bytes, signature: bytes
    ) -> wire.Standing:
        """Use an invitation; see `Enrolment.ask`."""
        asked = wire.AskRequest(
            secret=secret,
            role=peer.role.value,
            name=peer.name,
            key=key,
            csr=request,
            signature=signature,
        )
        reply: wire.AskReply = patiently(
            self._stub.Ask, asked, where=self._where, deadline_s=self._deadline_s
        )
        return reply.standing

    def fetch(
        self, identity: Identity, *, federation: str, name: str, time_ms: int
    ) -> wire.Standing:
        """See how it stands with the holder of `identity`."""
        asked = wire.FetchRequest(
            name=name,
            key=identity.public,
            time_ms=time_ms,
            signature=sign_fetch(identity, federation, name, time_ms),
        )
        reply: wire.FetchReply = patiently(
            self._stub.Fetch, asked, where=self._where, deadline_s=self._deadline_s
        )
        return reply.standing

    @property
    def _where(self) -> str:
        return f"the door {self.address}"
