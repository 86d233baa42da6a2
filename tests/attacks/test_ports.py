"""Who holds the coordinator's three ports open, or fills its memory; the others are answered."""

import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import grpc
import httpx
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from support import few_files
from support.certificates import Authority, save
from support.federations import NAME, Federated, Serving
from support.fleets import app_of, asked, deadlines_on_call, federation, kept, node, until

from federation.channel import UnreachedError
from federation.door import guard as door_guard
from federation.door.client import DoorClient
from federation.door.guard import CALLS_MAX as DOOR_CALLS
from federation.door.guard import host_of
from federation.engine import fleet_filter, fleet_line, fleet_protocol, superlink, thin_node
from federation.engine.fleet_filter import ANSWER_BYTES_MAX, LONGEST_HOLD_S, held_s
from federation.engine.fleet_gate import ENDING_MAX, Connection, Gate, Listener, Room
from federation.engine.fleet_line import CALL_S, FleetLine, _answer_body
from federation.engine.fleet_protocol import HEAD_BYTES_MAX, LOOSE_BYTES_MAX
from federation.engine.frames import ANSWER, TAKE
from federation.engine.superlink import SuperLink
from federation.members.client import MembersClient
from federation.members.newest_note import KEPT_S, NewestNote
from federation.open_files import allow_files, files_allowed
from federation.registry import guard as registry_guard
from federation.registry.first_message import first_message
from federation.registry.guard import (
    CALLS_MAX,
    LOOK_EVERY,
    PACE_BURST,
    PAUSES_MAX,
    STREAMS_MAX,
    WATCHES_MAX,
    Guard,
)
from federation.registry.pace import Pace
from federation.registry.pause import PAUSE_S, Pauses
from federation.registry.port_gate import End, Held, PortGate, PortRoom, to_end
from federation.registry.rate import Buckets, Rate, network_of
from federation.registry.refusal import CallRefusedError
from federation.registry.refusal_log import RefusalLog
from privacy.errors import RefusedError
from privacy.identity import Identity
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.randomness import system_bytes

MIB = 1 << 20
Timed = TypeVar("Timed")
ELSEWHERE = "127.0.0.9"
CALL_LONG_S = 50.0
ME = "/tacit.members.v1.Members/Me"
ENTRIES = "/tacit.registry.v1.Registry/Entries"
WATCH = "/tacit.runs.v1.Runs/Watch"
FETCH = "/tacit.door.v1.Door/Fetch"


# -- calls without a message: a thread of the server each --


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    one = Federated(tmp_path_factory.mktemp("f"))
    for name in ("bank", "mill", "leaver"):
        one.add(name)
    one.desk().revoke("leaver", "left")
    with one.serving() as answering:
        yield answering


def fetched(door: str, root: bytes, *, deadline_s: float = 30.0) -> bool:
    """Whether somebody whom the door does not know is told so."""
    with DoorClient(door, root, deadline_s=deadline_s) as client, suppress(UnreachedError):
        try:
            client.fetch(
                Identity.create(system_bytes),
                federation=NAME,
                name="x",
                time_ms=int(time.time() * 1000),
            )
        except RefusedError as error:
            if isinstance(error, UnreachedError):
                raise
            return "turned away" in str(error)
    return False


@contextmanager
def silent_calls(
    at: str, credentials: grpc.ChannelCredentials, path: str, *, each: int, timeout: float | None
) -> Iterator[list[Any]]:
    """Calls, over four connections, whose message does not come."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        while not over.wait(60):
            yield b""

    calls: list[Any] = []
    with ExitStack() as stack:
        stack.callback(over.set)
        for _ in range(4):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(grpc.secure_channel(at, credentials, options=options))
            method: Any = channel.stream_unary(path)
            calls += [method.future(nothing(), timeout=timeout) for _ in range(each)]
        yield calls


@contextmanager
def relay(at: str, source: str) -> Iterator[str]:
    """The same port, for whoever comes from another address."""
    host, port = at.split(":")
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def copy(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection((host, int(port)), source_address=(source, 0))
                    for one in (near, far):
                        stack.callback(one.close)
                    for pair in ((near, far), (far, near)):
                        threading.Thread(target=copy, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def ended(calls: list[Any]) -> int:
    return sum(call.done() for call in calls)


@contextmanager
def patient(module: ModuleType) -> Iterator[None]:
    """A call's message is waited for so long that none is given up meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "first_message", partial(first_message, within_s=CALL_LONG_S))
        yield


def test_calls_without_a_message_do_not_shut_the_door(serving: Serving) -> None:
    root = serving.federated.credentials("bank").authority
    ends = grpc.ssl_channel_credentials(root)
    with silent_calls(serving.door, ends, FETCH, each=8, timeout=None) as calls:
        until(lambda: ended(calls) == 32)  # without a deadline none is waited for
        assert fetched(serving.door, root)
    with (
        patient(door_guard),
        relay(serving.door, ELSEWHERE) as elsewhere,
        silent_calls(elsewhere, ends, FETCH, each=8, timeout=CALL_LONG_S) as calls,
    ):
        until(lambda: len(calls) - ended(calls) == DOOR_CALLS)
        assert fetched(serving.door, root)
        assert len(calls) - ended(calls) == DOOR_CALLS
    with (
        relay(serving.door, "127.0.0.10") as elsewhere,
        silent_calls(elsewhere, ends, FETCH, each=8, timeout=CALL_LONG_S) as calls,
    ):
        until(lambda: ended(calls) == 32)  # nor for ever
        codes = [call.code().name for call in calls]
        # where the calls come slowly, some come in place of those that were given up
        assert codes.count("CANCELLED") >= DOOR_CALLS
        assert set(codes) <= {"CANCELLED", "RESOURCE_EXHAUSTED"}


def test_who_was_revoked_does_not_shut_the_registry(serving: Serving) -> None:
    with silent_calls(
        serving.registry, ends_of(serving, "leaver"), ME, each=16, timeout=CALL_LONG_S
    ) as calls:
        until(lambda: ended(calls) == 64)
        with serving.client("mill") as client:
            assert client.me().name == "mill"
        assert {call.code().name for call in calls} <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}


@pytest.mark.parametrize("path", [ME, ENTRIES])
def test_a_member_holds_few_threads_and_not_for_long(serving: Serving, path: str) -> None:
    ends = ends_of(serving, "bank")
    with (
        patient(registry_guard),
        silent_calls(serving.registry, ends, path, each=16, timeout=CALL_LONG_S) as all_,
    ):
        # the others wait a second for their refusals
        until(lambda: len(all_) - ended(all_) <= CALLS_MAX + PAUSES_MAX)
        until(lambda: len(all_) - ended(all_) == CALLS_MAX)
        with serving.client("mill") as client:
            assert client.me().name == "mill"
        assert len(all_) - ended(all_) == CALLS_MAX
    with silent_calls(serving.registry, ends, path, each=16, timeout=CALL_LONG_S) as all_:
        until(lambda: ended(all_) == 64)
    until(lambda: is_answered(serving, "bank"))


def is_answered(serving: Serving, name: str) -> bool:
    with serving.client(name) as client, suppress(RefusedError):
        return client.me().name == name
    return False


def ends_of(serving: Serving, name: str) -> grpc.ChannelCredentials:
    own = serving.federated.credentials(name)
    return grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)


class Call:
    """gRPC's context, as far as it is asked."""

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.over: list[Callable[[], None]] = []
        self.is_cancelled = threading.Event()

    def auth_context(self) -> dict[str, list[bytes]]:
        return {
            "transport_security_type": [b"ssl"],
            "ssl_tls_version": [b"TLSv1.3"],
            "peer_uri": [f"spiffe://tacit/regulator/{self.name}".encode()],
        }

    def time_remaining(self) -> float:
        return 5.0

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.over.append(callback)
        return True

    def cancel(self) -> None:
        self.is_cancelled.set()

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise CallRefusedError(code, details)


class Details:
    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


def streamed(guard: Guard, path: str, behaviour: Any) -> Iterator[Any]:  # noqa: ANN401
    wrap: Any = grpc.unary_stream_rpc_method_handler(behaviour)
    handler: Any = guard.intercept_service(lambda _: wrap, Details(path))  # type: ignore[arg-type]
    answered: Iterator[Any] = handler.stream_stream(iter([None]), Call())
    return answered


def test_a_message_is_waited_for_a_moment() -> None:
    context: Any = Call()

    def messages() -> Iterator[str]:
        if not context.is_cancelled.wait(60):
            yield ""
        raise grpc.RpcError

    with pytest.raises(CallRefusedError, match="no message came") as found:
        first_message(messages(), context, within_s=0.05)
    assert found.value.code is grpc.StatusCode.CANCELLED
    with pytest.raises(CallRefusedError, match="has one message"):
        first_message(iter([]), context)
    assert first_message(iter(["a", "b"]), context) == "a"


def test_who_is_revoked_while_it_is_streamed_to_is_told_no_more() -> None:
    out: list[str] = []
    guard = Guard(Buckets(Rate(), lambda: 0.0), revoked=lambda peer, _: peer.name in out)
    pieces = streamed(guard, ENTRIES, lambda *_: iter(range(1_000)))
    assert [next(pieces) for _ in range(20)] == list(range(20))
    out.append("a")
    rest: list[int] = []
    with pytest.raises(CallRefusedError, match="no member of this federation any more"):
        rest += pieces
    assert len(rest) < LOOK_EVERY


def test_who_watches_may_read_beside() -> None:
    guard = Guard(Buckets(Rate(), lambda: 0.0))
    for _ in range(WATCHES_MAX):
        assert list(streamed(guard, WATCH, lambda *_: iter("w"))) == ["w"]
    for _ in range(STREAMS_MAX):
        assert list(streamed(guard, ENTRIES, lambda *_: iter("e"))) == ["e"]
    for path in (WATCH, ENTRIES):
        with pytest.raises(CallRefusedError, match="streams of yours are open"):
            list(streamed(guard, path, lambda *_: iter("x")))


# -- connections: 300 where a process may open 256 files --


@dataclass
class Few:
    """A coordinator in a process that may open 256 files, and a bank that is a member."""

    federated: Federated
    pid: int
    door: str
    registry: str
    fleet: str

    def files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def ask(self, port: str) -> bool:
        own = self.federated.credentials("bank")
        if port == "door":
            return fetched(self.door, own.authority)
        if port == "registry":
            with MembersClient(self.registry, own, deadline_s=30) as client:
                with suppress(UnreachedError):
                    return client.me().name == "bank"
                return False
        line = FleetLine(self.fleet, own)
        try:
            with suppress(httpx.TransportError):
                return bool(line.activate())
        finally:
            line.close()
        return False


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Few]:
    one = Federated(tmp_path_factory.mktemp("few"))
    one.add("bank")
    started = [sys.executable, few_files.__file__, str(one.home.root), "256"]
    with subprocess.Popen(
        started,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        yield Few(one, process.pid, *ports)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


@pytest.mark.parametrize("port", ["door", "registry", "fleet"])
def test_three_hundred_connections_on_256_files_stop_nobody(few: Few, port: str) -> None:
    others = {"door", "registry", "fleet"} - {port}

    def took() -> tuple[float, float, float]:
        """How long who asks the other ports waits without, and with them; how long at this one."""
        host, number = getattr(few, port).split(":")
        plain_s = asked_s(few, *others)
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(socket.create_connection((host, int(number)), timeout=60))
            assert few.files() < 200
            others_s = asked_s(few, *others)
            begun = time.monotonic()
            until(lambda: few.ask(port))
            return plain_s, others_s, time.monotonic() - begun

    # gRPC ends none before its handshake is late; the fleet's gate ends the oldest
    most_s = 2 if port == "fleet" else 8
    assert_once(
        took, lambda times: times[1] < 2 + 3 * times[0] and times[2] < most_s + 3 * times[0]
    )


def asked_s(few: Few, *ports: str) -> float:
    begun = time.monotonic()
    for port in ports:
        assert few.ask(port)
    return time.monotonic() - begun


def assert_once(measured: Callable[[], Timed], is_soon: Callable[[Timed], bool]) -> None:
    """What a machine that does other work beside does late now and then is late each time here."""
    found: list[Timed] = []
    while not found or not is_soon(found[-1]):
        assert len(found) < 6, f"it took too long each time: {found}"
        found.append(measured())


def test_silent_connections_that_are_encrypted_do_not_shut_the_door_for_good(few: Few) -> None:
    context = ssl.create_default_context(
        cadata=few.federated.credentials("bank").authority.decode()
    )
    context.set_alpn_protocols(["h2"])
    host, number = few.door.split(":")
    with ExitStack() as stack:
        for _ in range(60):
            plain = stack.enter_context(socket.create_connection((host, int(number)), timeout=60))
            with suppress(OSError):
                one = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
                one.sendall(
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
                )
        assert few.ask("registry")
        assert few.ask("fleet")
        until(lambda: few.ask("door"))


@pytest.mark.parametrize("port", ["door", "registry"])
def test_who_begins_handshakes_without_end_shuts_no_port(few: Few, port: str) -> None:
    host, number = getattr(few, port).split(":")
    over = threading.Event()
    hello = bytes.fromhex("1603010200010001fc0303")  # a handshake's first bytes, and no more

    def begin() -> None:
        held: list[socket.socket] = []
        while not over.wait(0.001):
            with suppress(OSError):
                one = socket.create_connection(
                    (host, int(number)), timeout=2, source_address=(ELSEWHERE, 0)
                )
                held.append(one)
                one.sendall(hello)
            if len(held) > 150:
                held.pop(0).close()
        for one in held:
            one.close()

    plain_s = asked_s(few, port)
    attacker = threading.Thread(target=begin)
    attacker.start()
    try:
        time.sleep(1)
        # each over a connection of its own; three of twelve at least, on a machine that is busy
        answered: list[float] = []
        for _ in range(12):
            begun = time.monotonic()
            if few.ask(port):
                answered.append(time.monotonic() - begun)
            if len(answered) == 3:
                break
        assert len(answered) == 3
        assert min(answered) < 2 + 3 * plain_s
        assert few.files() < 200
    finally:
        over.set()
        attacker.join()


def ended_of(room: PortRoom, *waits: str, owners: Sequence[str] = ()) -> list[int]:
    held = [Held(i, i, End(host, i), float(i)) for i, host in enumerate(waits)]
    held += [
        Held(i, i, End("203.0.113.9", i), float(i), owner) for i, owner in enumerate(owners, 100)
    ]
    return [one.number for one in to_end(reversed(held), room)]


def test_a_port_ends_the_oldest_of_the_network_that_has_most() -> None:
    one, two = "203.0.113.1", "203.0.113.2"
    assert ended_of(PortRoom(4, 2), one, two, one, one, one) == [0, 2]
    assert ended_of(PortRoom(3, 3), one, two, one, one) == [0]
    assert ended_of(PortRoom(3, 2), two, one, "203.0.113.3", one) == [1]
    assert ended_of(PortRoom(4, 2), *(f"2001:db8:0:1::{i}" for i in range(3))) == [0]
    assert ended_of(PortRoom(1, 1, member=2), one, owners=("a", "b", "a", "a", "b")) == [103]


def test_a_port_keeps_who_made_a_call() -> None:
    now = [0.0]
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        at = listener.getsockname()
        gate = PortGate(PortRoom(4, 2), lambda: now[0], port=at[1])
        ends = []
        for turn in range(5):
            now[0] += 1.0
            ends.append(stack.enter_context(socket.create_connection(at)))
            stack.enter_context(listener.accept()[0])
            if turn < 2:
                mine = f"ipv4:127.0.0.1:{ends[turn].getsockname()[1]}"
                gate.heard(mine, "a member" if turn == 0 else "")
            assert gate.look() <= 2
        for one in ends:
            one.settimeout(0)
        # the first is a member's; of the four that wait the two that came last stay
        assert [is_over(one) for one in ends] == [False, True, True, False, False]
        assert gate.ended == 2


def test_a_process_opens_as_many_files_as_it_may() -> None:
    script = """
import resource
from federation.open_files import allow_files, files_allowed
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))
print(files_allowed(), allow_files(100), allow_files(50), allow_files(), allow_files(9999))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout.split() == ["64", "100", "100", "512", "512", "512"]
    assert allow_files(1) == files_allowed()


# -- the fleet's port --


def client(authority: Authority, folder: Path, name: str = "one") -> tuple[ssl.SSLContext, bytes]:
    """An end that shows a new certificate, and that certificate."""
    credentials = authority.client("bank", name)
    save(credentials, folder / name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credentials.authority.decode())
    context.load_cert_chain(folder / name / "cert.pem", folder / name / "key.pem")
    return context, credentials.certificate


@contextmanager
def connected(link: SuperLink, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    host, port = link.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=120) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        yield secured


def until_closed(one: socket.socket) -> None:
    with suppress(ConnectionResetError, ssl.SSLEOFError):
        while one.recv(4096):
            pass


HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n"
LIMITS = {"HANDSHAKE_S": 10.0, "STRANGER_S": 3.0, "HEAD_S": 10.0}
SILENT = [
    ("no handshake", b"", "HANDSHAKE_S"),
    ("stranger", b"", "STRANGER_S"),
    ("stranger", HEALTH + b"\r\n", None),  # it is answered once
    ("member", b"", "HEAD_S"),
    ("member", HEALTH, "HEAD_S"),
]


@pytest.mark.parametrize(("who", "says", "limit"), SILENT)
def test_who_says_nothing_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, says: bytes, limit: str | None
) -> None:
    """By one limit each: the others are so long here that a connection they end is seen to be."""
    assert {name: getattr(fleet_protocol, name) for name in LIMITS} == LIMITS
    for name in LIMITS:
        monkeypatch.setattr(fleet_protocol, name, 1.0 if name == limit else 600.0)
    monkeypatch.setattr(superlink, "KEEP_ALIVE_S", 600)
    with federation() as (link, authority):
        context, certificate = client(authority, tmp_path, who)
        if who == "member":
            link.admit(who, certificate)
        host, port = link.address.split(":")
        begun = time.monotonic()
        with ExitStack() as stack:
            if who == "no handshake":
                where = (host, int(port))
                one = stack.enter_context(socket.create_connection(where, timeout=120))
            else:
                one = stack.enter_context(connected(link, context))
            if says:
                one.sendall(says)
            until_closed(one)
        took = time.monotonic() - begun
    assert (0.9 if limit else 0) < took < 120


def test_a_member_that_was_expelled_is_answered_once_more_and_no_longer_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_protocol, "HEAD_S", 600.0)
    monkeypatch.setattr(superlink, "KEEP_ALIVE_S", 600)
    with federation() as (link, authority):
        context, certificate = client(authority, tmp_path)
        link.admit("one", certificate)
        ask = HEALTH + b"\r\n"
        with connected(link, context) as one:
            for _ in range(3):
                one.sendall(ask)
                assert one.recv(4096).startswith(b"HTTP/1.1 200")
                time.sleep(0.05)
            link.expel("one")
            one.sendall(ask)
            until_closed(one)


def sent(one: ssl.SSLSocket, start: bytes, piece: bytes, most: int) -> int:
    """How many bytes were taken before the connection was ended."""
    one.sendall(start)
    count = 0
    with suppress(OSError):
        while count < most:
            one.sendall(piece)
            count += len(piece)
            time.sleep(0)
    return count


def test_a_head_is_short(tmp_path: Path) -> None:
    line = b"a" * 64 + b": " + b"b" * 4_000 + b"\r\n"
    begin = b"GET /health HTTP/1.1\r\nhost: x\r\n"
    chunked = (
        b"POST " + TAKE.encode() + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with federation("one") as (link, authority):
        context, certificate = client(authority, tmp_path, "two")
        link.admit("two", certificate)
        before = memory_mib()
        for start, piece in (
            (begin, line),
            (begin + b"one: ", b"b" * 4_096),
            (b"GET /", b"b" * 4_096),
            (chunked + b"0\r\n", line),
            (chunked + b"0\r\none: ", b"b" * 4_096),
        ):
            with connected(link, context) as one:
                assert sent(one, start, piece, 64 * MIB) < 16 * MIB, start[:40]
        assert memory_mib() - before < 24
        # what is honest is answered, up to the limit
        for room, answered in ((2_000, True), (-2_000, False)):
            filler = b"x: " + b"y" * (HEAD_BYTES_MAX - len(begin) - room)
            with connected(link, context) as one:
                one.sendall(begin + filler + b"\r\n\r\n")
                data = b""
                with suppress(OSError):
                    data = one.recv(4096)
                assert data.startswith(b"HTTP/1.1 200") is answered
    assert LOOSE_BYTES_MAX < 16 * MIB


def memory_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def test_a_member_has_so_many_connections(tmp_path: Path) -> None:
    with federation("one") as (link, authority), ExitStack() as stack:
        context, certificate = client(authority, tmp_path, "two")
        link.admit("two", certificate)
        ask = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
        answered = 0
        for _ in range(20):
            one = stack.enter_context(connected(link, context))
            with suppress(OSError):
                one.sendall(ask)
                answered += one.recv(4096).startswith(b"HTTP/1.1 200")
        assert answered == Room(0, 0, 0).member == 16
        assert "one" in link.online()


@pytest.fixture
def sockets() -> Iterator[Callable[[int], list[Connection]]]:
    with ExitStack() as stack:

        def made(count: int) -> list[Connection]:
            found = []
            for _ in range(count):
                near, far = socket.socketpair()
                stack.callback(far.close)
                own = Connection(near.family, near.type, near.proto, fileno=near.detach())
                stack.callback(own.close)
                own.settimeout(0)
                found.append(own)
            return found

        yield made


def is_over(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False


def test_the_gate_ends_who_waits_longest(sockets: Callable[[int], list[Connection]]) -> None:
    gate = Gate(Room(all=6, waiting=4, network=3, member=2))
    many = sockets(4)
    for one in many:
        gate.came(one, "203.0.113.1")
    assert [is_over(one) for one in many] == [True, False, False, False]
    others = sockets(2)
    for one in others:
        gate.came(one, "203.0.113.2")
    # four wait: the oldest of all went
    assert [is_over(one) for one in many] == [True, True, False, False]
    assert not any(map(is_over, others))
    assert not gate.is_member(many[1].fileno(), b"k")
    assert [gate.is_member(one.fileno(), b"k") for one in (*others, many[2])] == [True, True, False]
    later = sockets(3)
    for one in later:
        gate.came(one, "203.0.113.3")
    # six in all: the members stay, and of those that wait the oldest goes
    assert is_over(many[2])
    assert not any(map(is_over, (*others, many[3], *later[1:])))
    for one in (*many, *others, *later):
        one.close()
        one.close()
    assert gate.counts() == (0, 0)
    assert not gate._networks
    assert not gate._keys
    assert not gate._ending


def test_the_gate_waits_for_those_that_it_ends(sockets: Callable[[int], list[Connection]]) -> None:
    gate = Gate(Room(all=1, waiting=1, network=1))
    many = sockets(ENDING_MAX + 1)
    for one in many[:-1]:
        gate.came(one, "203.0.113.1")
    busy = [gate.is_busy]
    gate.came(many[-1], "203.0.113.1")
    busy.append(gate.is_busy)
    many[0].close()
    busy.append(gate.is_busy)
    assert busy == [False, True, False]


def test_one_is_accepted_in_a_turn_of_the_loop() -> None:
    """Else whoever opens a hundred at once holds up all that are connected."""
    plain = socket.create_server(("127.0.0.1", 0))
    where = plain.getsockname()
    gate = Gate(Room(all=9, waiting=9, network=9))
    with Listener.through(gate, plain) as listener, ExitStack() as stack:
        listener.setblocking(False)
        for _ in range(2):
            stack.enter_context(socket.create_connection(where))
        for _ in range(2):
            stack.enter_context(listener.accept()[0])
            with pytest.raises(BlockingIOError):
                listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert gate.counts() == (2, 2)


# -- what a member's node may say --


@dataclass
class Talker:
    """A member that says what it likes, and a run that waits for its answer."""

    link: SuperLink
    line: FleetLine
    node: int

    def send(
        self, question: Message, sizes: list[int], *, leave_out: bool = False, mark: str = ""
    ) -> None:
        """Answer with arrays of these sizes; perhaps without the answer's own small parts."""
        parts = {f"{mark}{i}": array(os.urandom(size)) for i, size in enumerate(sizes)}
        reply = Message(RecordDict({"a": ArrayRecord(parts)}), reply_to=question)
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects, tree = get_all_nested_objects(reply), get_object_tree(reply)
        if leave_out:
            objects = {id_: one for id_, one in objects.items() if len(one.deflate()) > 10_000}
        own = Node(node_id=self.node)
        push = PushMessagesRequest(
            node=own,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree],
        )
        body = _answer_body(push, own, question.metadata.run_id, objects)
        for _ in self.line._frames(ANSWER, body):
            pass

    def stored(self) -> int:
        store: Any = self.link._fleet.state.object_store
        return sum(len(one.content) for one in store.store.values())


def array(data: bytes) -> Array:
    return Array("|u1", (len(data),), "tacit.v2", data)


@contextmanager
def asked_talker(answer_bytes_max: int = ANSWER_BYTES_MAX) -> Iterator[tuple[Talker, Message]]:
    with (
        pytest.MonkeyPatch.context() as patch,
        federation(hold_s=0.3, answer_bytes_max=answer_bytes_max) as (link, authority),
    ):
        up = deadlines_on_call(patch)
        credentials = authority.client("bank", "evil")
        link.admit("evil", credentials.certificate)
        line = FleetLine(link.address, credentials)
        own = line.activate()
        with link.transport("run", ["evil"], stop=threading.Event()) as transport:
            asking = threading.Thread(target=lambda: asked(transport, b"x" * 100, deadline_s=600.0))
            asking.start()
            message = None
            while message is None:
                message = line.take(own, [])
            try:
                yield Talker(link, line, own), message
            finally:
                up()
                asking.join()
            assert kept(link._fleet)[:3] == [0, 0, 0]
        line.close()


def status(found: pytest.ExceptionInfo[httpx.HTTPStatusError]) -> int:
    return found.value.response.status_code


def test_a_message_is_answered_in_one_way() -> None:
    with asked_talker() as (evil, message):
        with pytest.raises(httpx.HTTPStatusError) as found:
            evil.send(message, [MIB, MIB], leave_out=True)
        assert status(found) == 400
        one = evil.stored()
        assert one > 2 * MIB
        for turn in range(3):
            with pytest.raises(httpx.HTTPStatusError) as found:
                evil.send(message, [MIB, MIB], leave_out=True, mark=f"{turn}")
            assert status(found) == 410
        assert evil.stored() == one


def test_an_answer_is_no_longer_than_it_may_be() -> None:
    with asked_talker(answer_bytes_max=MIB) as (evil, message):
        with pytest.raises(httpx.HTTPStatusError) as found:
            evil.send(message, [2 * MIB])
        assert status(found) == 413
        # nor is one that nobody waits for
        message.metadata.__dict__["_message_id"] = "00" * 32
        evil.send(message, [MIB // 2])
        with pytest.raises(httpx.HTTPStatusError) as found:
            evil.send(message, [2 * MIB])
        assert status(found) == 413
        assert evil.stored() < 2 * MIB


def test_an_answer_in_several_goes_is_no_longer_either() -> None:
    with asked_talker(answer_bytes_max=MIB) as (evil, message):
        parts = {str(i): array(os.urandom(600_000)) for i in range(3)}
        reply = Message(RecordDict({"a": ArrayRecord(parts)}), reply_to=message)
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects, tree = get_all_nested_objects(reply), get_object_tree(reply)
        own = Node(node_id=evil.node)
        push = PushMessagesRequest(
            node=own,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree],
        )
        codes = []
        for id_, one in objects.items():
            if len(one.deflate()) < 10_000:
                continue
            body = _answer_body(push, own, message.metadata.run_id, {id_: one})
            with pytest.raises(httpx.HTTPStatusError) as found:
                list(evil.line._frames(ANSWER, body))
            codes.append(status(found))
        assert codes == [400, 413, 413]
        assert evil.stored() < MIB


def test_a_member_that_calls_without_end_is_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with federation("honest", hold_s=0.3) as (link, authority):
        credentials = authority.client("bank", "evil")
        link.admit("evil", credentials.certificate)
        line = FleetLine(link.address, credentials)

        begun = time.monotonic()
        for _ in range(int(fleet_filter.STARTS) + 10):
            line.activate()
        assert time.monotonic() - begun > 0.8  # what comes too soon waits, and is answered
        monkeypatch.setattr(fleet_filter, "START_COST", fleet_filter.RATE.burst + 1)
        with pytest.raises(httpx.HTTPStatusError) as found:
            line.activate()
        assert status(found) == 429
        with link.transport("run", ["honest"], stop=threading.Event()) as transport:
            assert len(asked(transport)) == 1
        line.close()


def test_a_member_waits_for_the_refusals_of_calls_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_filter, "START_COST", 500.0)  # two at once, and few later
    with federation(hold_s=0.3) as (link, authority):
        credentials = authority.client("bank", "evil")
        link.admit("evil", credentials.certificate)
        over, refused = threading.Event(), threading.Semaphore(0)

        def call_on() -> None:
            line = FleetLine(link.address, credentials)
            while not over.is_set():
                try:
                    line.activate()
                except httpx.HTTPStatusError:
                    refused.release()
            line.close()

        threads = [threading.Thread(target=call_on) for _ in range(3)]
        for one in threads:
            one.start()
        for _ in threads:
            assert refused.acquire(timeout=60)
        begun, counted = time.monotonic(), link.traffic().requests
        time.sleep(1.5)
        more, spent_s = link.traffic().requests - counted, time.monotonic() - begun
        over.set()
        for one in threads:
            one.join()
        # three lines wait a second for each refusal
        assert more <= 3 * (spent_s + 1) + 1


def test_a_refusal_is_waited_for_as_long_as_there_is_room() -> None:
    pauses, waiting = Pauses(2, 3), list[float]()

    def among(callers: str, asked: str) -> int:
        """How often `asked` waits, while these do."""
        waiting.clear()

        def pause(seconds: float) -> None:
            waiting.append(seconds)
            if callers[len(waiting) :]:
                pauses.wait(callers[len(waiting)])
            else:
                pauses.pause = waiting.append
                pauses.wait(asked)

        pauses.pause = pause
        pauses.wait(callers[0])
        assert set(waiting) == {PAUSE_S}
        return len(waiting) - len(callers)

    assert among("a", "a") == 1
    assert among("aa", "a") == 0
    assert among("aa", "b") == 1
    assert among("aab", "c") == 0
    assert among("a", "b") == 1  # whoever has waited is forgotten


def test_who_calls_too_often_is_paused_before_it_is_refused() -> None:
    waited: list[float] = []
    guard = Guard(Buckets(Rate(), lambda: 0.0), pauses=Pauses(4, 4, waited.append))
    refused = 0
    for _ in range(int(Rate().burst) + 2):
        try:
            list(streamed(guard, ENTRIES, lambda *_: iter(())))
        except CallRefusedError as error:
            refused += "too many calls" in error.sentence
    assert (refused, waited[-2:]) == (2, [PAUSE_S] * 2)


def test_calls_that_come_too_close_wait_for_their_places() -> None:
    now = [0.0]
    pace = Pace(10.0, 3.0, lambda: now[0])
    assert [pace.wait_s("a") for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    assert pace.wait_s("b") == 0  # nobody waits for another
    now[0] = 0.4
    assert pace.wait_s("a") == 0
    now[0] = 9.0
    assert [pace.wait_s("a") for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])
    # a member that calls from many threads has no more of the time than one that calls from one
    paused: list[float] = []
    guard = Guard(Buckets(Rate(), lambda: 0.0), pauses=Pauses(4, 4, paused.append))
    wrap: Any = grpc.unary_unary_rpc_method_handler(lambda *_: "me")
    handler: Any = guard.intercept_service(lambda _: wrap, Details(ME))  # type: ignore[arg-type]
    for _ in range(60):
        assert handler.stream_unary(iter([None]), Call()) == "me"
    assert sum(one > 0.001 for one in paused) == 60 - PACE_BURST
    assert paused == sorted(paused)


def test_where_many_nodes_wait_each_is_held_longer() -> None:
    assert [held_s(10.0, waiting, 7) for waiting in (0, 1, 400)] == [10.0] * 3
    assert held_s(0.3, 1, 7) == 0.3
    many = [held_s(10.0, 1_000, node) for node in range(2_000)]
    assert max(many) <= LONGEST_HOLD_S < CALL_S
    assert min(many) > 0.75 * LONGEST_HOLD_S
    assert len(set(many)) > 1_000


# -- the door's ledger, its log, and whose an address is --


def test_who_was_not_invited_does_not_wait_for_the_ledger(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    token = one.invite("bank")
    with one.serving() as serving:
        store = SqliteLedger(one.home.ledger)
        with (
            store.turn(),
            DoorClient(serving.door, token.root_pem, deadline_s=30) as door,
            pytest.raises(RefusedError, match="not known here"),
        ):
            door.ask(
                secret=system_bytes(32),
                peer=token.peer,
                key=bytes(32),
                request=b"",
                signature=b"",
            )
        store.close()


def test_a_flood_of_refusals_is_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = RefusalLog(logging.getLogger("test.refusals"), Rate(1.0, 100.0), lambda: now[0])
    for _ in range(1_000):
        log.refused("Ask", "an outsider", "ipv4:1.2.3.4:5", "PERMISSION_DENIED")
    log.refused("Me", "a member", "ipv4:1.2.3.4:5", "PERMISSION_DENIED")
    assert len(caplog.messages) == 102
    assert caplog.messages[100].startswith("900 more calls were refused")
    now[0] = 1.0
    log.refused("Ask", "an outsider", "ipv4:1.2.3.4:5", "PERMISSION_DENIED")
    assert len(caplog.messages) == 103


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:50000", "ipv4:192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50000", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:ffff::1%5D:443", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:3::1]:443", "ipv6:2001:db8:1:3::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:1", "ipv6:192.0.2.1"),
        ("unix:", "unix:"),
    ],
)
def test_an_address_of_ipv6_is_its_network(peer: str, host: str) -> None:
    assert host_of(peer) == host
    assert network_of("fe80::1%eth0") == "fe80::/64"


def test_the_newest_state_is_not_read_with_every_question() -> None:
    read: list[int] = []

    class Counted(MemoryLedger):
        def checkpoints(self) -> list[tuple[int, bytes]]:
            read.append(1)
            return super().checkpoints()

    store, now = Counted(), [0.0]
    newest = NewestNote(store, lambda: now[0])
    assert newest.note() == b""
    store.keep_checkpoint(0, b"first")
    assert [newest.note() for _ in range(9)] == [b"first"] * 9
    assert len(read) == 2
    store.drop_checkpoint(0)
    store.keep_checkpoint(0, b"first, cosigned")
    now[0] = KEPT_S
    assert newest.note() == b"first, cosigned"


# -- a coordinator that asks too much of a node --


def test_a_node_takes_no_more_runs_than_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thin_node, "RUNS_MAX", 3)
    monkeypatch.setattr(thin_node, "LOOK_S", 0.1)
    go, names = threading.Event(), [f"run {i}" for i in range(8)]
    began: list[str] = []

    def wait(message: Message) -> str:
        began.append(message.metadata.group_id)
        go.wait(60)
        return "done"

    with federation() as (link, authority), ExitStack() as stack:
        each = node(authority, "one")
        link.admit("one", each.credentials.certificate)
        each.start(link.address, app_of(wait))
        stack.callback(each.end)
        until(lambda: "one" in link.online())
        found: list[int] = []

        def run(name: str) -> None:
            with link.transport(name, ["one"], stop=threading.Event()) as transport:
                found.append(len(asked(transport)))

        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        until(lambda: len(began) == 3)
        time.sleep(0.5)
        own = [one for one in threading.enumerate() if one.name in names]
        assert len(own) == 3
        go.set()
        for thread in threads:
            thread.join()
        assert found == [1] * 8
        assert sorted(began) == names


def test_a_node_reads_no_message_that_is_longer_than_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_line, "MESSAGE_BYTES_MAX", MIB)
    up = deadlines_on_call(monkeypatch)
    with federation(hold_s=0.3) as (link, authority):
        credentials = authority.client("bank", "one")
        link.admit("one", credentials.certificate)
        line = FleetLine(link.address, credentials)
        own = line.activate()
        with link.transport("run", ["one"], stop=threading.Event()) as transport:
            long = threading.Thread(
                target=lambda: asked(transport, bytes(2 * MIB), deadline_s=600.0)
            )
            long.start()
            taken = (line.take(own, []) for _ in range(1_000))
            with pytest.raises(ValueError, match="longer than any"):
                list(taken)
            up()
            long.join()
        line.close()
