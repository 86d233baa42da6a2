"""The registry over real TLS on this machine's loopback: what it answers, and whom it refuses."""

import contextlib
import io
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from support.certificates import CLIENT, LOCALHOST, SERVER, Authority, save
from support.cli import ROOT
from support.registry import (
    BANK,
    NOW_MS,
    NOW_S,
    REGULATOR,
    Ledger,
    World,
    identity,
    made_world,
)

from federation.proto import registry_pb2 as wire
from federation.proto.registry_pb2_grpc import RegistryStub
from federation.registry import server as server_module
from federation.registry.client import RegistryClient, RegistrySource
from federation.registry.credentials import Credentials
from federation.registry.rate import Rate
from federation.registry.server import REQUEST_BYTES_MAX, listening
from federation.registry.service import RegistryService
from federation.registry.source import AbsentError
from federation.registry.status import read_status
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError
from privacy.ledger.bundle import read_bundle
from privacy.ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigners,
    open_checkpoint,
)
from privacy.ledger.entry import LEAF_BYTES_MAX
from privacy.ledger.keys import cosigner_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from privacy.ledger.note import parse_note
from privacy.ledger.store import append, head_of


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture
def world(authority: Authority, tmp_path: Path) -> Iterator[World]:
    with made_world(authority, tmp_path) as made:
        yield made


# -- what it answers --


def test_a_regulator_reads_everything(world: World) -> None:
    client = world.client(world.serve())
    told = client.ledgers()
    assert told.federation == "test"
    everything = (world.coordinator, *world.nodes)
    assert [(one.origin, one.owner, one.role, one.size, one.key) for one in told.ledgers] == [
        (one.origin, one.owner, one.role, one.store.size(), one.key.to_text()) for one in everything
    ]
    for ledger in everything:
        size, origin = ledger.store.size(), ledger.origin
        leaves = list(ledger.store.leaves())
        newest = open_checkpoint(client.checkpoint(origin), ledger.key)
        assert newest.size == size
        assert list(client.entries(origin, 0, size)) == leaves
        assert list(client.entries(origin, 1, 2)) == leaves[1:3]
        assert list(client.entries(origin, size - 1, 1)) == leaves[-1:]
        for index in range(size):
            proof = client.inclusion(origin, index, size)
            verify_inclusion(leaf_hash(leaves[index]), index, size, proof, newest.root)
        for old in range(size + 1):
            root = bytes.fromhex(head_of(ledger.store, old).root)
            proof = client.consistency(origin, old, size)
            verify_consistency(old, root, size, newest.root, proof)
    file = io.BytesIO()
    assert client.bundle(file) == len(file.getvalue())
    assert read_bundle(file.getvalue()).logs == world.bundle().logs


def large_entry(ledger: Ledger, size: int) -> None:
    body = {
        "run": f"{ledger.store.size()}",
        "name": "n",
        "task": "t",
        "members": {"m": "00" * 32},
        "minimum": 1,
        "group_size": 0,
        "manifest": "00" * 32,
        "document": "d" * size,
        "signature": "00" * 64,
        "launcher": "00" * 32,
        "protection": "masked",
    }
    append(ledger.store, "run.started", body, time_ms=0)


def test_entries_of_all_sizes_arrive_whole(world: World) -> None:
    for size in (1, 400, 60_000, 70_000, 500_000):
        large_entry(world.coordinator, size)
        world.coordinator.grow(300, f"after {size}, ")
    client = world.client(world.serve())
    store = world.coordinator.store
    found = list(client.entries(world.coordinator.origin, 0, store.size()))
    assert found == list(store.leaves())


def test_budgets_are_those_of_each_member(world: World) -> None:
    at = world.serve()
    reply = world.client(at).budgets()
    assert reply.time_ms == NOW_MS
    assert {one.member for one in reply.budgets} == {"bank", "mill"}
    (one,) = (one for one in reply.budgets if (one.member, one.cohort) == ("bank", "training"))
    assert (one.dataset, one.unit, one.delta, one.colluders) == ("loans", "borrower", 1e-5, 2)
    assert (one.releases, one.runs) == (2, 1)
    assert not one.HasField("period_days")
    assert 0 < one.coordinator.pending < one.coordinator.spent
    assert one.coordinator.cap == 8.0
    assert one.coordinator.spent + one.coordinator.left == pytest.approx(8.0)
    assert not one.solo.HasField("cap")
    assert not one.solo.HasField("left")
    assert one.solo.spent > one.coordinator.spent
    own = world.client(at, "bank", "bank").budgets()
    assert {one.member for one in own.budgets} == {"bank"}
    assert not world.client(at, "insurer", "nobody").budgets().budgets


def test_a_budget_that_cannot_be_read_is_named_and_no_path_is(world: World) -> None:
    world.nodes[1].grow(1)  # an entry of a coordinator's
    reply = world.client(world.serve()).budgets()
    assert list(reply.unreadable) == ["mill"]
    assert {one.member for one in reply.budgets} == {"bank"}
    assert str(world.folder) not in str(reply)


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda c, _: c.checkpoint("x"), AbsentError, "no ledger has that origin"),
        (lambda c, _: list(c.entries("", 0, 1)), AbsentError, "no ledger has that origin"),
        (lambda c, o: list(c.entries(o, 0, 0)), InputError, "at least one"),
        (lambda c, o: list(c.entries(o, 0, 11)), AbsentError, "not so many"),
        (lambda c, o: list(c.entries(o, 2**63, 2**63)), AbsentError, "not so many"),
        (lambda c, o: c.inclusion(o, 3, 3), InputError, "below its size"),
        (lambda c, o: c.inclusion(o, 3, 11), AbsentError, "not so many"),
        (lambda c, o: c.inclusion(o, 2**64 - 2, 2**64 - 1), AbsentError, "not so many"),
        (lambda c, o: c.consistency(o, 3, 2), InputError, "does not shrink"),
        (lambda c, o: c.consistency(o, 3, 11), AbsentError, "not so many"),
        (lambda c, o: c.cosign(o, 10, "x"), InputError, "no line of a signature"),
        (lambda c, o: c.cosign(o, 10, ""), InputError, "no line of a signature"),
    ],
)
def test_bad_questions_end_in_a_sentence(
    world: World,
    ask: Callable[[RegistryClient, str], object],
    error: type[TacitError],
    match: str,
) -> None:
    client = world.client(world.serve())
    with pytest.raises(error, match=match) as found:
        ask(client, world.coordinator.origin)
    assert "Traceback" not in str(found.value)
    assert "\n" not in str(found.value)
    assert client.ledgers().federation == "test"


def test_a_ledger_without_a_checkpoint_says_so(world: World) -> None:
    world.nodes.append(Ledger(MemoryLedger(), "young", signer=identity(30)))
    client = world.client(world.serve())
    with pytest.raises(AbsentError, match="no signed checkpoint yet"):
        client.checkpoint(world.nodes[-1].origin)


def test_a_broken_store_is_internal_and_tells_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    client = world.client(world.serve())
    (world.folder / "mill.sqlite").write_bytes(b"no database" * 1000)
    for suffix in ("-wal", "-shm"):
        (world.folder / f"mill.sqlite{suffix}").unlink(missing_ok=True)
    world.nodes[1].store.close()  # type: ignore[attr-defined]
    with pytest.raises(RefusedError, match="operator sees why") as found:
        client.checkpoint(world.nodes[1].origin)
    assert "sqlite" not in str(found.value)
    assert "mill.sqlite" in caplog.text


# -- who is refused --

MEMBERS = ("manufacturer", "insurer", "bank")
CALLS: dict[str, Callable[[RegistryClient, World], object]] = {
    "Ledgers": lambda c, _: c.ledgers(),
    "Checkpoint": lambda c, w: c.checkpoint(w.nodes[1].origin),
    "Entries": lambda c, w: list(c.entries(w.nodes[1].origin, 0, 1)),
    "Own entries": lambda c, w: list(c.entries(w.nodes[0].origin, 0, 1)),
    "Common entries": lambda c, w: list(c.entries(w.coordinator.origin, 0, 1)),
    "Inclusion": lambda c, w: c.inclusion(w.nodes[1].origin, 0, 1),
    "Consistency": lambda c, w: c.consistency(w.nodes[1].origin, 0, 1),
    "Cosign": lambda c, w: c.cosign(w.nodes[1].origin, 4, w.line(BANK, w.nodes[1].sign())),
    "Budgets": lambda c, _: c.budgets(),
    "Bundle": lambda c, _: c.bundle(io.BytesIO()),
}
DENIED: dict[str, set[str]] = {
    "regulator": set(),
    "operator": {"Entries", "Own entries", "Cosign", "Budgets", "Bundle"},
    **{role: {"Entries", "Bundle"} for role in MEMBERS},
}


@pytest.mark.parametrize("role", DENIED)
def test_each_role_is_refused_what_it_may_not(world: World, role: str) -> None:
    size = world.nodes[1].store.size()
    world.nodes[1].sign()
    calls: dict[str, Callable[[RegistryClient, World], object]] = {
        **CALLS,
        "Cosign": lambda c, w: c.cosign(w.nodes[1].origin, size, w.line(BANK, w.nodes[1].sign())),
    }
    client = world.client(world.serve(), role, BANK)
    denied: set[str] = set()
    for name, call in calls.items():
        try:
            call(client, world)
        except RefusedError as error:
            if "may not" in str(error):
                denied.add(name)
    assert denied == DENIED[role]


def rpc_error(at: str, credentials: grpc.ChannelCredentials) -> str:
    with grpc.secure_channel(at, credentials) as channel:
        try:
            RegistryStub(channel).Ledgers(wire.LedgersRequest(), timeout=60)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "answered"


def channel_of(credentials: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        credentials.authority, credentials.key, credentials.certificate
    )


def test_without_a_certificate_of_the_federation_nothing_is_answered(
    world: World, authority: Authority
) -> None:
    at = world.serve()
    foreign = Authority.create()
    known = authority.client("regulator", REGULATOR)
    forged = foreign.client("regulator", REGULATOR)
    strangers = {
        "no certificate": grpc.ssl_channel_credentials(authority.pem),
        "foreign root": channel_of(
            Credentials(certificate=forged.certificate, key=forged.key, authority=authority.pem)
        ),
        "expired": channel_of(authority.client("regulator", REGULATOR, days=-1)),
        "a server's": channel_of(authority.issue(LOCALHOST, SERVER)),
        "another's key": channel_of(
            Credentials(certificate=known.certificate, key=forged.key, authority=authority.pem)
        ),
    }
    found = {name: rpc_error(at, credentials) for name, credentials in strangers.items()}
    assert set(found.values()) == {"UNAVAILABLE"}
    nobody = {
        "no name": channel_of(authority.issue((x509.DNSName("a"),), CLIENT)),
        "two names": channel_of(
            authority.named("spiffe://tacit/bank/a", "spiffe://tacit/regulator/a")
        ),
        "another name": channel_of(authority.named("spiffe://example/regulator/a")),
        "unknown role": channel_of(authority.named("spiffe://tacit/chief/a")),
    }
    found = {name: rpc_error(at, credentials) for name, credentials in nobody.items()}
    assert set(found.values()) == {"UNAUTHENTICATED"}
    assert rpc_error(at, channel_of(known)) == "answered"
    with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(at) as channel:
        RegistryStub(channel).Ledgers(wire.LedgersRequest(), timeout=3)
        pytest.fail("it answered in the clear")


def test_a_client_says_what_is_wrong(world: World, authority: Authority) -> None:
    def sentence(at: str, credentials: Credentials, server_name: str | None = None) -> str:
        with (
            RegistryClient(at, credentials, server_name=server_name, deadline_s=30) as client,
            pytest.raises(RefusedError) as found,
        ):
            client.ledgers()
        return str(found.value)

    known, foreign = authority.client("regulator", REGULATOR), Authority.create()
    at = world.serve()
    strange = world.serve(server=foreign.server())
    # the client does not believe it, and the server would not believe the client
    assert "did not issue the certificate of the registry" in sentence(strange, known)
    named = world.serve(server=authority.server(x509.DNSName("registry.example")))
    assert "--server-name" in sentence(named, known)
    assert "--server-name" in sentence(at, known, server_name="registry.example")
    stale = world.serve(server=authority.server(days=-1))
    assert "has expired" in sentence(stale, known)
    assert "does not accept this certificate" in sentence(
        at, authority.client("regulator", REGULATOR, days=-1)
    )
    with (
        socket.socket() as free
    ):  # taken by us without listening: nobody else comes to listen there
        free.bind(("127.0.0.1", 0))
        assert "does not answer" in sentence(f"127.0.0.1:{free.getsockname()[1]}", known)
    with RegistryClient(named, known, server_name="registry.example") as client:
        assert client.ledgers().ledgers
    with RegistryClient(at.replace("127.0.0.1", "localhost"), known) as client:
        assert client.ledgers().ledgers


def test_a_port_that_is_taken_is_refused(world: World, authority: Authority) -> None:
    at = world.serve()
    service = RegistryService(
        lambda: world.evidence,
        bundle=world.bundle,
        witnesses={},
        now_ms=lambda: NOW_MS,
    )
    with (
        pytest.raises(InputError, match="choose a free port"),
        listening(service, at, authority.server()),
    ):
        pass


class Nonsense(RegistryService):
    """A registry that answers what nobody should believe."""

    def Ledgers(  # noqa: N802
        self, request: wire.LedgersRequest, context: grpc.ServicerContext
    ) -> wire.LedgersReply:
        reply = super().Ledgers(request, context)
        reply.ledgers[0].key = self.word
        reply.ledgers[0].owner = "\x1b[2J"
        return reply

    def Consistency(  # noqa: N802
        self, request: wire.ConsistencyRequest, context: grpc.ServicerContext
    ) -> wire.ProofReply:
        del request, context
        return wire.ProofReply(hashes=self.hashes)

    def Entries(  # noqa: N802
        self, request: wire.EntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.EntriesReply]:
        del request, context
        yield from self.batches

    word = ""
    hashes: tuple[bytes, ...] = ()
    batches: tuple[wire.EntriesReply, ...] = ()


def test_a_registry_that_sends_nonsense_is_not_believed(world: World) -> None:
    service = Nonsense(
        lambda: world.evidence, bundle=world.bundle, witnesses={}, now_ms=lambda: NOW_MS
    )
    server = listening(service, "127.0.0.1:0", world.authority.server())
    client = world.client(world.stack.enter_context(server).address)
    for service.word in ("x", "\x1b[2J", world.witness_key(BANK).to_text()):
        with pytest.raises(NotVerifiedError) as found:
            RegistrySource(client).logs()
        first = read_status(client, {})[0]
        assert (first.signed, first.owner) == (None, "?[2J")
        assert first.reason
        assert str(found.value).isprintable()
        assert first.reason.isprintable()
    service.word = ""
    assert RegistrySource(client).logs()[0].key is None
    assert read_status(client, {})[0].reason == "it says no key of its own"
    for service.hashes in ((bytes(31),), (bytes(33),), (bytes(32),) * 64):
        with pytest.raises(NotVerifiedError, match="no answer"):
            client.consistency(world.coordinator.origin, 1, 2)
    batch = wire.EntriesReply
    for service.batches in (
        (),
        (batch(start=0, leaves=[b"a"]),),
        (batch(start=1, leaves=[b"a", b"b"]),),
        (batch(start=0, leaves=[b"a", b"b", b"c"]),),
        (batch(start=0, leaves=[b"a"]), batch(start=0, leaves=[b"a"])),
        (batch(start=0, leaves=[b"x" * (LEAF_BYTES_MAX + 1), b"b"]),),
    ):
        with pytest.raises(NotVerifiedError, match="no answer"):
            list(client.entries(world.coordinator.origin, 0, 2))
    service.batches = (batch(start=0, leaves=[b"a"]), batch(start=1, leaves=[b"b"]))
    assert list(client.entries(world.coordinator.origin, 0, 2)) == [b"a", b"b"]


# -- TLS --


def raw_call(at: str, credentials: Credentials, folder: Path, version: ssl.TLSVersion) -> bytes:
    """Ask for the ledgers in HTTP/2 by hand, as Python's gRPC cannot be held to an older TLS."""
    folder.mkdir()
    save(credentials, folder / "files")
    context = ssl.create_default_context(cadata=credentials.authority.decode())
    context.load_cert_chain(folder / "files" / "cert.pem", folder / "files" / "key.pem")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    host, port = at.split(":")
    headers = b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":path", b"/tacit.registry.v1.Registry/Ledgers"),
            (b":authority", at.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"grpc-timeout", b"50S"),
        )
    )
    received = b""
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        assert tls.version() == version.name.replace("_", ".").replace("v1", "v1")
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        tls.sendall(frame(1, 0x4, 1, headers) + frame(0, 0x1, 1, bytes(5)))
        with contextlib.suppress(TimeoutError):
            tls.settimeout(60)
            while b"grpc-status" not in received:
                part = tls.recv(65536)
                if not part:
                    break
                received += part
    return received


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def test_a_verified_peer_over_tls_1_2_gets_nothing(world: World, authority: Authority) -> None:
    at, known = world.serve(), authority.client("regulator", REGULATOR)
    origin = world.coordinator.origin.encode()
    new = raw_call(at, known, world.folder / "new", ssl.TLSVersion.TLSv1_3)
    assert origin in new
    old = raw_call(at, known, world.folder / "old", ssl.TLSVersion.TLSv1_2)
    assert origin not in old
    assert b"TLS 1.3 is needed" in old or b"TLS%201.3" in old
    assert b"federation" not in old


def test_the_key_exchange_is_noted_once_for_each_caller(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="federation.registry")
    client = world.client(world.serve())
    client.ledgers()
    client.ledgers()
    (line,) = (one for one in caplog.messages if one.startswith("connected"))
    assert line == (
        "connected spiffe://tacit/regulator/The%20Regulator by TLSv1.3, key exchange X25519MLKEM768"
    )


# -- what a caller may use up --


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as found:
        call()
    return str(found.value.code().name)


def test_a_call_without_a_deadline_or_with_a_far_one_is_refused(world: World) -> None:
    at = world.serve()
    credentials = channel_of(world.authority.client("regulator", REGULATOR))
    with grpc.secure_channel(at, credentials) as channel:
        stub = RegistryStub(channel)
        assert code_of(lambda: stub.Ledgers(wire.LedgersRequest())) == "INVALID_ARGUMENT"
        assert code_of(lambda: stub.Ledgers(wire.LedgersRequest(), timeout=90)) == (
            "INVALID_ARGUMENT"
        )
        assert stub.Ledgers(wire.LedgersRequest(), timeout=60).ledgers
        assert code_of(lambda: list(stub.Bundle(wire.BundleRequest()))) == "INVALID_ARGUMENT"
        assert list(stub.Bundle(wire.BundleRequest(), timeout=600))


def test_a_large_request_is_refused_unread(world: World) -> None:
    at = world.serve()
    credentials = channel_of(world.authority.client("regulator", REGULATOR))
    with grpc.secure_channel(at, credentials) as channel:
        stub = RegistryStub(channel)
        large = wire.CheckpointRequest(origin="x" * REQUEST_BYTES_MAX)
        assert code_of(lambda: stub.Checkpoint(large, timeout=60)) == "RESOURCE_EXHAUSTED"
        just = wire.CheckpointRequest(origin="x" * (REQUEST_BYTES_MAX - 16))
        assert code_of(lambda: stub.Checkpoint(just, timeout=60)) == "NOT_FOUND"
        zipped = code_of(
            lambda: stub.Checkpoint(just, timeout=60, compression=grpc.Compression.Gzip)
        )
        assert zipped in {"UNIMPLEMENTED", "INTERNAL"}
        junk: Any = channel.unary_unary("/tacit.registry.v1.Registry/Cosign")
        assert code_of(lambda: junk(b"\xff" * 100, timeout=60)) == "INTERNAL"
        assert stub.Ledgers(wire.LedgersRequest(), timeout=60).ledgers


def test_who_asks_too_often_is_refused_and_others_are_not(world: World) -> None:
    at = world.serve(rate=Rate(per_second=0.5, burst=100))
    client = world.client(at)
    for _ in range(100):
        client.ledgers()
    # one more, or as many as the time that these took allows
    more = (client.ledgers() for _ in range(1_000))
    with pytest.raises(RefusedError, match="wait a few seconds"):
        list(more)
    assert world.client(at, "bank", BANK).ledgers().ledgers
    time.sleep(2.5)
    assert client.ledgers().ledgers


def test_streams_of_one_caller_are_few_and_come_back(world: World) -> None:
    for _ in range(48):
        large_entry(world.coordinator, 400_000)  # more than any buffer on the way holds
    origin, size = world.coordinator.origin, world.coordinator.store.size()
    at = world.serve()
    credentials = channel_of(world.authority.client("regulator", REGULATOR))
    request = wire.EntriesRequest(origin=origin, start=0, count=size)
    with grpc.secure_channel(at, credentials) as channel:
        stub = RegistryStub(channel)
        for _ in range(3):
            open_ones = [stub.Entries(request, timeout=60) for _ in range(2)]
            firsts = [next(one) for one in open_ones]  # the rest waits for whoever does not read
            assert all(one.start == 0 for one in firsts)
            assert code_of(lambda: list(stub.Entries(request, timeout=60))) == "RESOURCE_EXHAUSTED"
            assert stub.Ledgers(wire.LedgersRequest(), timeout=60).ledgers
            for one in open_ones:
                one.cancel()
            end_s = time.monotonic() + 60
            while time.monotonic() < end_s:
                try:
                    assert sum(len(one.leaves) for one in stub.Entries(request, timeout=60)) == size
                    break
                except grpc.RpcError:
                    time.sleep(0.05)
            else:
                pytest.fail("a stream that was cancelled still counts")


@contextmanager
def half_open(at: str, count: int) -> Iterator[list[socket.socket]]:
    host, port = at.split(":")
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)
        ]
        for one in sockets[: count // 2]:
            one.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a handshake
        yield sockets


def peers_here() -> set[Any]:
    """The other ends of this process's connections."""
    found: set[Any] = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names alone
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as one:
            found.add(one.getpeername())
    return found


def test_half_open_connections_do_not_stop_an_honest_client(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        # as long as they are kept then, none ends before the client is answered
        slow = {**dict(server_module.OPTIONS), "grpc.server_handshake_timeout_ms": 90_000}
        patch.setattr(server_module, "OPTIONS", tuple(slow.items()))
        at = world.serve()
    with half_open(at, 50):
        begun_s = time.monotonic()
        assert world.client(at).ledgers().ledgers
        assert time.monotonic() - begun_s < 45
    at = world.serve()
    with half_open(at, 50) as sockets:
        begun_s = time.monotonic()
        begun, silent = sockets[:25], {one.getsockname() for one in sockets[25:]}
        for one in begun:
            one.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                while one.recv(1024):
                    pass
        while silent & peers_here() and time.monotonic() - begun_s < 60:
            time.sleep(0.1)
        assert not silent & peers_here()
        assert time.monotonic() - begun_s < 100  # none of them is kept; gRPC alone waits for 120 s


# -- cosignatures --


def test_a_cosignature_is_kept_with_its_checkpoint(world: World) -> None:
    ledger = world.coordinator
    newest, earlier = ledger.sign(), ledger.sign(4)
    at = world.serve()
    regulator, bank = world.client(at), world.client(at, "bank", BANK)
    keys = [world.witness_key(name) for name in world.witnesses]
    note = regulator.cosign(ledger.origin, 10, world.line(REGULATOR, newest))
    assert cosigners(note, keys) == {keys[0].name: NOW_S}
    note = bank.cosign(ledger.origin, 10, world.line(BANK, newest, NOW_S - 60))
    assert note == bank.checkpoint(ledger.origin)
    assert cosigners(note, keys) == {keys[0].name: NOW_S, keys[1].name: NOW_S - 60}
    assert open_checkpoint(note, ledger.key) == newest
    # a later time stands, an earlier one does not; again changes nothing
    bank.cosign(ledger.origin, 10, world.line(BANK, newest, NOW_S))
    note = bank.cosign(ledger.origin, 10, world.line(BANK, newest, NOW_S - 30))
    assert cosigners(note, keys) == {keys[0].name: NOW_S, keys[1].name: NOW_S}
    assert len(parse_note(note).signatures) == 3
    # an earlier state that is kept
    bank.cosign(ledger.origin, 4, world.line(BANK, earlier))
    assert cosigners(dict(ledger.store.checkpoints())[4], keys) == {keys[1].name: NOW_S}


def test_what_is_no_cosignature_of_the_caller_is_refused(world: World) -> None:
    ledger = world.coordinator
    newest, earlier = ledger.sign(), ledger.sign(4)
    before = ledger.store.checkpoints()
    at = world.serve()
    client = world.client(at)
    line = world.line(REGULATOR, newest)
    flipped = line[:-10] + ("A" if line[-10] != "A" else "B") + line[-9:]
    forger = cosign(
        newest,
        key=cosigner_key(REGULATOR, identity(99).public),
        sign=identity(99).sign_note,
        time_s=NOW_S,
    ).to_line()
    own_key = identity(1).sign_note  # the log's own signature, shown as a witness's
    log_line = parse_note(ledger.store.checkpoints()[-1][1]).signatures[0].to_line()
    assert own_key is not None
    for name, size, text in (
        ("flipped", 10, flipped),
        ("another key under the name", 10, forger),
        ("another witness's", 10, world.line(BANK, newest)),
        ("of another size", 10, world.line(REGULATOR, earlier)),
        ("for another size", 4, line),
        ("of another root", 10, world.line(REGULATOR, Checkpoint(ledger.origin, 10, bytes(32)))),
        ("of another log", 10, world.line(REGULATOR, world.nodes[0].sign())),
        ("the log's", 10, log_line),
        ("two lines", 10, line + line),
        ("no newline", 10, line[:-1]),
        ("from the future", 10, world.line(REGULATOR, newest, NOW_S + 301)),
    ):
        with pytest.raises(InputError):
            client.cosign(ledger.origin, size, text)
        assert ledger.store.checkpoints() == before, name
    with pytest.raises(AbsentError, match="no checkpoint of that size"):
        client.cosign(ledger.origin, 7, line)
    with pytest.raises(RefusedError, match="registered as no witness"):
        world.client(at, "insurer", "nobody").cosign(ledger.origin, 10, line)
    with pytest.raises(RefusedError, match="may not call Cosign"):
        world.client(at, "operator", REGULATOR).cosign(ledger.origin, 10, line)
    assert ledger.store.checkpoints() == before


def test_cosignatures_at_the_same_time_are_all_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow() -> list[tuple[int, bytes]]:
        kept = read()
        time.sleep(0.02)
        return kept

    read = world.coordinator.store.checkpoints
    monkeypatch.setattr(world.coordinator.store, "checkpoints", slow)
    from concurrent.futures import ThreadPoolExecutor

    world.witnesses |= {f"bank {place}": identity(40 + place) for place in range(8)}
    newest = world.coordinator.sign()
    at = world.serve()
    clients = {name: world.client(at, "bank", name) for name in world.witnesses}
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda name: clients[name].cosign(
                    newest.origin, newest.size, world.line(name, newest)
                ),
                world.witnesses,
            )
        )
    note = world.client(at).checkpoint(newest.origin)
    assert len(cosigners(note, [world.witness_key(name) for name in world.witnesses])) == 10


# -- docs/registry.md --


@pytest.mark.skipif(shutil.which("openssl") is None, reason="it is about openssl")
def test_the_manuals_openssl_commands_make_certificates_that_work(world: World) -> None:
    manual = (ROOT / "docs" / "registry.md").read_text()
    script = manual.split("```sh\n# certificates\n")[1].split("```")[0]
    folder = world.folder / "made"
    folder.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-eu"], input=script, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    def credentials(name: str) -> Credentials:
        from federation.registry.credentials import load_credentials

        return load_credentials(
            certificate=folder / f"{name}.pem",
            key=folder / f"{name}.key",
            authority=folder / "ca.pem",
            now=datetime.now(UTC),
        )

    at = world.serve(server=credentials("server"))
    with RegistryClient(at, credentials("regulator")) as client:
        assert len(client.budgets().budgets) == 4
    with (
        RegistryClient(at, credentials("bank")) as client,
        pytest.raises(RefusedError, match="bank may not call Bundle"),
    ):
        client.bundle(io.BytesIO())
