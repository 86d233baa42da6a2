"""Ask a registry. Whatever goes wrong ends in one sentence that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, Self, cast

import grpc

from federation.proto import registry_pb2 as wire
from federation.proto.registry_pb2_grpc import RegistryStub
from federation.registry.address import split_address
from federation.registry.credentials import Credentials
from federation.registry.plain import plain
from federation.registry.server import REPLY_BYTES_MAX
from federation.registry.source import AbsentError, LogInfo
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError
from privacy.ledger.entry import LEAF_BYTES_MAX
from privacy.ledger.merkle import HASH_BYTES
from privacy.ledger.note import ED25519, VerifierKey
from privacy.ledger.proof import HASHES_MAX
from privacy.ledger.rotation import Rotation, rotations_among

DEADLINE_S: Final = 30.0
STREAM_DEADLINE_S: Final = 600.0
BUNDLE_BYTES_MAX: Final = 4 << 30
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", REPLY_BYTES_MAX),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)


class RegistryClient:
    """A connection to one registry; nothing that it returns is verified.

    Every call raises:
        AbsentError: the registry has not what the question is about.
        RefusedError: the registry cannot be reached, does not accept the certificate, or says no.
        InputError: it says that the question makes no sense.
        NotVerifiedError: the answer is none.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        *,
        server_name: str | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Prepare a connection; it is made with the first call.

        Args:
            address: `host:port`.
            credentials: Of the caller; the same root must have issued the registry's certificate.
            server_name: What the registry's certificate must name; the host, unless given.
            deadline_s: Of each call but `entries` and `bundle`, in seconds, at most 60.

        Raises:
            InputError: the address is none.
        """
        split_address(address)
        self.address = address
        self._deadline_s = deadline_s
        named = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
        self._channel = grpc.secure_channel(
            address,
            grpc.ssl_channel_credentials(
                root_certificates=credentials.authority,
                private_key=credentials.key,
                certificate_chain=credentials.certificate,
            ),
            options=(*_OPTIONS, *named),
        )
        self._stub = RegistryStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def ledgers(self) -> wire.LedgersReply:
        """Return which ledgers there are."""
        with self._sentences():
            reply: wire.LedgersReply = self._stub.Ledgers(
                wire.LedgersRequest(), timeout=self._deadline_s
            )
        return reply

    def checkpoint(self, origin: str) -> bytes:
        """Return the newest signed note of a ledger."""
        with self._sentences():
            reply: wire.CheckpointReply = self._stub.Checkpoint(
                wire.CheckpointRequest(origin=origin), timeout=self._deadline_s
            )
        return reply.note

    def entries(self, origin: str, start: int, count: int) -> Iterator[bytes]:
        """Yield `count` leaves from `start` on, neither more nor fewer."""
        request = wire.EntriesRequest(origin=origin, start=start, count=count)
        at = start
        with self._sentences():
            for reply in self._stub.Entries(request, timeout=STREAM_DEADLINE_S):
                if reply.start != at or at + len(reply.leaves) > start + count:
                    raise self._nonsense()
                if any(len(leaf) > LEAF_BYTES_MAX for leaf in reply.leaves):
                    raise self._nonsense()
                yield from reply.leaves
                at += len(reply.leaves)
        if at != start + count:
            raise self._nonsense()

    def inclusion(self, origin: str, index: int, size: int) -> tuple[bytes, ...]:
        """Return the path for `merkle.verify_inclusion`."""
        with self._sentences():
            reply: wire.ProofReply = self._stub.Inclusion(
                wire.InclusionRequest(origin=origin, index=index, size=size),
                timeout=self._deadline_s,
            )
        return self._hashes(reply)

    def consistency(self, origin: str, old: int, new: int) -> tuple[bytes, ...]:
        """Return the hashes for `merkle.verify_consistency`."""
        with self._sentences():
            reply: wire.ProofReply = self._stub.Consistency(
                wire.ConsistencyRequest(origin=origin, old=old, new=new), timeout=self._deadline_s
            )
        return self._hashes(reply)

    def cosign(self, origin: str, size: int, line: str) -> bytes:
        """Submit a cosignature (`NoteSignature.to_line`); return the note that has it."""
        with self._sentences():
            reply: wire.CheckpointReply = self._stub.Cosign(
                wire.CosignRequest(origin=origin, size=size, line=line), timeout=self._deadline_s
            )
        return reply.note

    def budgets(self) -> wire.BudgetsReply:
        """Return where the budgets stand that the caller may see."""
        with self._sentences():
            reply: wire.BudgetsReply = self._stub.Budgets(
                wire.BudgetsRequest(), timeout=self._deadline_s
            )
        return reply

    def bundle(self, file: BinaryIO) -> int:
        """Write the file for auditors; return its bytes, at most 4 GiB."""
        size = 0
        with self._sentences():
            for reply in self._stub.Bundle(wire.BundleRequest(), timeout=STREAM_DEADLINE_S):
                size += len(reply.chunk)
                if size > BUNDLE_BYTES_MAX:
                    raise self._nonsense()
                file.write(reply.chunk)
        return size

    def _hashes(self, reply: wire.ProofReply) -> tuple[bytes, ...]:
        hashes = tuple(reply.hashes)
        if len(hashes) > HASHES_MAX or any(len(each) != HASH_BYTES for each in hashes):
            raise self._nonsense()
        return hashes

    def _nonsense(self) -> NotVerifiedError:
        return NotVerifiedError(
            f"the registry {self.address} sent what is no answer; update tacit at both ends"
        )

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def _failure(self, error: grpc.RpcError) -> TacitError:
        call = cast("grpc.Call", error)  # gRPC's errors of calls are both
        code, details = call.code(), call.details() or ""
        where = f"the registry {self.address}"
        said = f"{where} says: {plain(details) or code.name}"
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return InputError(said)
        if code is grpc.StatusCode.NOT_FOUND:
            return AbsentError(said)
        if code is grpc.StatusCode.UNAVAILABLE:
            return RefusedError(_unreached(where, details))
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return RefusedError(f"{where} did not answer in time; try again")
        return RefusedError(said)


class RegistrySource:
    """A registry as `source.Source`."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    @property
    def place(self) -> str:
        """See the Protocol."""
        return f"the registry {self._client.address}"

    def logs(self) -> tuple[LogInfo, ...]:
        """See the Protocol."""
        return tuple(
            LogInfo(each.origin, each.size, told_key(each))
            for each in self._client.ledgers().ledgers
        )

    def checkpoint(self, origin: str) -> bytes:
        """See the Protocol."""
        return self._client.checkpoint(origin)

    def consistency(self, origin: str, old: int, new: int) -> tuple[bytes, ...]:
        """See the Protocol."""
        return self._client.consistency(origin, old, new)

    def rotations(self, origin: str, old: int, new: int) -> tuple[Rotation, ...]:
        """See the Protocol. All those entries are fetched: the registry says of none what it is."""
        if old >= new:
            return ()
        found = rotations_among(self._client.entries(origin, old, new - old), old)
        return tuple(
            Rotation(leaf, index, self._client.inclusion(origin, index, new))
            for index, leaf in found
        )

    def submit(self, origin: str, size: int, line: str) -> None:
        """See the Protocol."""
        self._client.cosign(origin, size, line)


def told_key(ledger: wire.Ledger) -> VerifierKey | None:
    """Return the key that a registry says a log has; None where it says none.

    Raises:
        NotVerifiedError: what it says is no log's key.
    """
    if not ledger.key:
        return None
    try:
        key = VerifierKey.from_text(ledger.key)
    except InputError as error:
        raise NotVerifiedError(plain(str(error))) from None
    if key.algorithm != ED25519:
        raise NotVerifiedError(f"{plain(key.name)} is the key of a witness, not of a log")
    return key


def _unreached(where: str, details: str) -> str:
    if "Tls handshake failed" in details:
        return (
            f"the federation's root did not issue the certificate of {where}, or it has expired; "
            "compare the file given as --ca with the operator's"
        )
    if "Hostname Verification" in details:
        return (
            f"the certificate of {where} does not name it; give the name in it as --server-name, "
            "or another address"
        )
    return (
        f"{where} does not answer, or does not accept this certificate; check the address, and "
        "that the federation's root issued the certificate"
    )
