"""The deployed engine over real connections: who is let in, what is carried, what is not lost."""

import gc
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.app.message.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from support import echo_node
from support.certificates import LOCALHOST, Authority, save
from support.fleets import (
    NodeThread,
    app_of,
    asked,
    deadlines_on_call,
    federation,
    kept,
    node,
    reasons,
    until,
)
from support.ports import free_ports

from aggregator.app import record_of
from federation.engine import fleet as fleet_module
from federation.engine.fleet_line import FleetLine
from federation.engine.fleet_reply import IncomingReply, Unanswered
from federation.engine.superlink import SuperLink, serving
from federation.registry.credentials import Credentials
from privacy.errors import InputError, RefusedError
from privacy.messages import Parcel

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


@contextmanager
def running(*nodes: NodeThread) -> Iterator[None]:
    try:
        yield
    finally:
        for each in nodes:
            each.end()


def test_every_member_answers_and_a_second_exchange_finds_nothing_of_the_first() -> None:
    with (
        federation("one", "two", "three") as (link, _),
        link.transport("run", ["one", "two", "three"], stop=threading.Event()) as transport,
    ):
        assert sorted(transport.nodes()) == sorted(transport.names)
        assert list(transport.names.values()) == ["one", "two", "three"]
        for payload in (b"", b"x" * 10_000):
            found = asked(transport, payload)
            assert {transport.names[address] for address in found} == {"one", "two", "three"}
            assert reasons(found) == ["echo"] * 3
            assert [data for _, data in found.values()] == [payload] * 3
            assert kept(link._fleet) == [0] * 5
        traffic = link.traffic()
        assert (traffic.messages_out, traffic.messages_in) == (6, 6)
        assert traffic.bytes_in > 30_000
        assert traffic.bytes_out > 30_000


def test_only_nodes_that_hold_a_certificate_of_the_root_get_past_the_handshake() -> None:
    with federation("one") as (link, authority):
        host, port = link.address.split(":")
        no_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        no_certificate.load_verify_locations(cadata=authority.pem.decode())
        assert _spoken(no_certificate, host, int(port)) == b""
        old = _client(authority.client("bank", "one"))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert _spoken(old, host, int(port)) == b""
        of_another = authority.client("bank", "one")
        elsewhere = Authority.create("elsewhere").client("bank", "one")
        mixed = Credentials(elsewhere.certificate, elsewhere.key, of_another.authority)
        assert _spoken(_client(mixed), host, int(port)) == b""
        assert _spoken(_client(of_another), host, int(port)).startswith(b"HTTP/1.1 200")


def test_a_node_is_told_in_one_sentence_why_it_is_not_connected() -> None:
    with federation() as (link, authority), ExitStack() as stack:
        elsewhere = Authority.create("elsewhere")
        port = link.address.rpartition(":")[2]
        theirs = elsewhere.client("bank", "a")
        own = authority.client("bank", "a")
        mixed = Credentials(theirs.certificate, theirs.key, own.authority)
        # taken by us without listening, so that nobody else can come to listen there
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        cases = {
            "not the coordinator of this federation": (NodeThread("a", theirs), link.address),
            "certificate may be of another federation": (NodeThread("a", mixed), link.address),
            "certificate expired": (node(authority, "a", days=-1), link.address),
            "does not know this machine as a member": (node(authority, "a"), link.address),
            "nobody listens": (node(authority, "a"), nobody),
            "is not known here": (node(authority, "a"), f"no-host.invalid:{port}"),
        }
        nodes = [each.start(address) for each, address in cases.values()]
        with running(*nodes):
            for expected, each in zip(cases, nodes, strict=True):
                until(lambda each=each: bool(each.told))  # type: ignore[misc]
                assert expected in each.told[0]
                assert "\n" not in each.told[0]
        assert not link.online()


def test_a_certificate_of_another_host_is_told() -> None:
    authority = Authority.create()
    elsewhere = authority.server(LOCALHOST[0])
    with serving(listen="127.0.0.1:0", credentials=elsewhere) as link:
        each = node(authority, "one").start(link.address)
        with running(each):
            until(lambda: bool(each.told))
        assert "names other hosts" in each.told[0]


def test_who_is_admitted_later_connects_and_who_is_expelled_is_told() -> None:
    with federation(hold_s=0.5) as (link, authority):
        each = node(authority, "one").start(link.address)
        with running(each):
            until(lambda: any("does not know" in said for said in each.told))
            link.admit("one", each.credentials.certificate)
            link.admit("one", each.credentials.certificate)
            until(lambda: "one" in link.online())
            until(lambda: "connected" in each.told[-1])
            link.expel("one")
            assert "one" not in link.online()
            until(lambda: "does not know" in each.told[-1])
            with pytest.raises(RefusedError, match="new one"):
                link.admit("one", each.credentials.certificate)
        link.expel("nobody")


def test_a_renewed_key_takes_the_seat_of_the_old_one_within_a_run() -> None:
    with federation(hold_s=0.5) as (link, authority):
        old, new = node(authority, "one"), node(authority, "one")
        link.admit("one", old.credentials.certificate)
        old.start(link.address)
        with (
            running(old, new),
            link.transport("run", ["one"], stop=threading.Event()) as transport,
        ):
            assert reasons(asked(transport)) == ["echo"]
            link.admit("one", new.credentials.certificate)
            new.start(link.address)
            assert reasons(asked(transport)) == ["echo"]
            until(lambda: "does not know" in old.told[-1])
            assert len(link._fleet.state.get_node_info(statuses=["online"])) == 1


def test_a_request_reaches_a_node_that_was_killed_while_it_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nobody is thought offline, however long a process takes to start on this machine
    monkeypatch.setattr(fleet_module, "OFFLINE_S", 3600.0)
    pause = tmp_path / "pause"
    pause.touch()
    with federation() as (link, authority), ExitStack() as stack:
        credentials = authority.client("bank", "one")
        save(credentials, tmp_path / "one")
        link.admit("one", credentials.certificate)

        def started() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, echo_node.__file__, tmp_path / "one", link.address, pause],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        def kill_and_start() -> None:
            until(lambda: _lines(pause.with_suffix(".asked")) == 1)
            first.kill()
            started()
            until(lambda: _lines(pause.with_suffix(".asked")) == 2)
            pause.unlink()

        first = started()
        until(lambda: "one" in link.online())
        killing = threading.Thread(target=kill_and_start)
        killing.start()
        with link.transport("run", ["one"], stop=threading.Event()) as transport:
            assert reasons(asked(transport, deadline_s=600.0)) == ["echo"]
        killing.join()
        assert kept(link._fleet) == [0] * 5


def test_of_two_processes_of_one_member_the_last_is_its_node() -> None:
    with (
        federation(hold_s=0.3) as (link, authority),
        link.transport("run", ["one"], stop=threading.Event()) as transport,
    ):
        first = node(authority, "one")
        second = NodeThread("one", first.credentials)
        link.admit("one", first.credentials.certificate)
        with running(first, second):
            first.start(link.address, app_of(lambda _: "first"))
            assert reasons(asked(transport)) == ["first"]
            second.start(link.address, app_of(lambda _: "second"))
            until(lambda: "another process" in first.told[-1])
            assert reasons(asked(transport)) == ["second"]
            second.end()
            # where the other has ended, it is the node again
            until(lambda: "connected" in first.told[-1])
            assert reasons(asked(transport)) == ["first"]


def test_what_failed_inside_the_coordinator_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[str] = []

    def failing(name: str) -> None:
        whole = getattr(fleet_module.Fleet, name)

        def first(self: object, *words: object) -> object:
            if failed.count(name) < 2:
                failed.append(name)
                raise RuntimeError("busy")
            return whole(self, *words)

        monkeypatch.setattr(fleet_module.Fleet, name, first)

    with (
        federation("one", hold_s=0.3) as (link, _),
        link.transport("run", ["one"], stop=threading.Event()) as transport,
    ):
        for name in ("pull", "collect"):
            failing(name)
        assert reasons(asked(transport)) == ["echo"]
        assert sorted(failed) == ["collect", "collect", "pull", "pull"]
        # a push that is repeated opens a session of Flower that ends with the run
        assert kept(link._fleet)[:3] == [0] * 3
    assert "busy" in caplog.text


def test_a_message_that_was_lost_on_the_way_is_handed_out_again() -> None:
    with federation(hold_s=0.3) as (link, authority):
        credentials = authority.client("bank", "one")
        link.admit("one", credentials.certificate)
        line = FleetLine(link.address, credentials)
        own = line.activate()
        with link.transport("run", ["one"], stop=threading.Event()) as transport:
            asking = _in_thread(lambda: asked(transport))
            first = None
            while first is None:
                first = line.take(own, [])
            # in hand: it is not sent again
            assert line.take(own, [first.metadata.message_id]) is None
            again = line.take(own, [])
            assert again is not None
            assert again.metadata.message_id != first.metadata.message_id
            assert again.content == first.content
            # an answer to the lost one is nobody's any more, and no fault
            line.answer(own, Message(first.content, reply_to=first))
            line.answer(own, Message(again.content, reply_to=again))
            line.answer(own, Message(again.content, reply_to=again))
            asking.join()
        assert kept(link._fleet) == [0] * 5
        line.close()


def test_what_came_of_an_answer_that_is_late_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    up = deadlines_on_call(monkeypatch)
    with federation(hold_s=0.3) as (link, authority):
        credentials = authority.client("bank", "one")
        link.admit("one", credentials.certificate)
        line = FleetLine(link.address, credentials)
        own = line.activate()
        with link.transport("run", ["one"], stop=threading.Event()) as transport:
            asking = _in_thread(lambda: asked(transport, b"x" * 1_000, deadline_s=600.0))
            message = None
            while message is None:
                message = line.take(own, [])
            content = record_of(Parcel(b"other", b"y" * 1_000))
            reply = Message(content, reply_to=message)
            reply.metadata.__dict__["_message_id"] = reply.object_id
            push = PushMessagesRequest(
                node=Node(node_id=own),
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[get_object_tree(reply)],
            )
            seat = link._fleet.seat("one")
            assert seat is not None
            begun = IncomingReply.begun(link._fleet, seat, push, bytes_max=MIB)
            (first, *_), objects = sorted(begun.missing or ()), get_all_nested_objects(reply)
            put = PushObjectRequest(
                node=Node(node_id=own),
                run_id=message.metadata.run_id,
                object_id=first,
                object_content=objects[first].deflate(),
            )
            begun.put(put)
            assert len(link._fleet.state.object_store) > 6
            up()
            asking.join()
            assert kept(link._fleet)[:3] == [0, 0, 0]
            # and it is told so that it ends: the answer is tried again, and dropped
            with pytest.raises(Unanswered):
                begun.end()
            line.answer(own, reply)
            assert kept(link._fleet)[:3] == [0, 0, 0]
        line.close()


def test_a_node_cannot_answer_for_another_nor_take_what_is_anothers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    up = deadlines_on_call(monkeypatch)
    with federation(hold_s=0.2) as (link, authority):
        lines, ids = {}, {}
        for name in ("one", "two"):
            credentials = authority.client("bank", name)
            link.admit(name, credentials.certificate)
            lines[name] = FleetLine(link.address, credentials)
            ids[name] = lines[name].activate()
        with link.transport("run", ["one"], stop=threading.Event()) as transport:
            found: list[object] = []
            asking = _in_thread(lambda: found.append(asked(transport, deadline_s=600.0)))
            message = None
            while message is None:
                message = lines["one"].take(ids["one"], [])
            with pytest.raises(Exception, match="401"):
                lines["two"].take(ids["one"], [])
            assert lines["two"].take(ids["two"], []) is None
            forged = Message(message.content, reply_to=message)
            with pytest.raises(Exception, match="401"):
                lines["two"].answer(ids["one"], forged)
            with pytest.raises(Exception, match="403"):
                lines["two"].answer(ids["two"], forged)
            # under its own name it is read and dropped
            forged.metadata.__dict__["_src_node_id"] = ids["two"]
            lines["two"].answer(ids["two"], forged)
            assert asking.is_alive()
            up()
            asking.join()
            assert found == [{}]
        for line in lines.values():
            line.close()


def test_nodes_come_back_to_a_coordinator_that_was_started_anew() -> None:
    authority = Authority.create()
    each = node(authority, "one")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with running(each):
        for turn in range(2):
            with serving(listen=address, credentials=authority.server()) as link:
                if turn == 0:
                    each.start(address)
                link.admit("one", each.credentials.certificate)
                with link.transport("run", ["one"], stop=threading.Event()) as transport:
                    assert reasons(asked(transport)) == ["echo"]
    assert sum("connected" in said for said in each.told) == 2


def test_the_time_is_up_for_a_node_that_is_slow_and_its_late_answer_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()
    up = deadlines_on_call(monkeypatch)

    def slow(message: Message) -> str:
        del message
        go.wait(120)
        return "late"

    with federation("quick") as (link, authority):
        each = node(authority, "slow")
        link.admit("slow", each.credentials.certificate)
        each.start(link.address, app_of(slow))
        until(lambda: "slow" in link.online())
        with (
            running(each),
            link.transport("run", ["quick", "slow"], stop=threading.Event()) as transport,
        ):
            # not before, whoever has answered until then
            begun = time.monotonic()
            assert set(reasons(asked(transport, deadline_s=0.4))) <= {"echo"}
            assert time.monotonic() - begun >= 0.4
            found: list[str] = []
            asking = _in_thread(lambda: found.extend(reasons(asked(transport, deadline_s=600.0))))
            until(lambda: _answered(link) == {"quick"})
            assert asking.is_alive()
            up()
            asking.join()
            assert found == ["echo"]
            # nor is it waited for longer than the grace where it is not needed
            assert reasons(asked(transport, deadline_s=600.0, needed=[1], grace_s=0.3)) == ["echo"]
            go.set()
            # asked anew, it answers what it is asked now
            assert sorted(reasons(asked(transport))) == ["echo", "late"]
            assert kept(link._fleet)[:3] == [0, 0, 0]


def test_a_needed_node_that_is_away_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    up = deadlines_on_call(monkeypatch)
    monkeypatch.setattr(fleet_module, "OFFLINE_S", 600.0)
    with (
        federation("here", hold_s=0.2) as (link, authority),
        link.transport("run", ["here", "away", "unknown"], stop=threading.Event()) as transport,
    ):
        each = node(authority, "away")
        link.admit("away", each.credentials.certificate)
        seat = link._fleet.seat("away")
        assert seat is not None
        seat.since -= fleet_module.OFFLINE_S  # it was made so long ago
        begun = time.monotonic()
        assert reasons(asked(transport, deadline_s=600.0)) == ["echo"]
        assert time.monotonic() - begun < 120
        assert transport.nodes() == (1,)
        # one that comes while it is still waited for others is asked
        found: list[str] = []
        asking = _in_thread(
            lambda: found.extend(reasons(asked(transport, deadline_s=600.0, grace_s=600.0)))
        )
        until(lambda: _answered(link) == {"here"})
        each.start(link.address)
        with running(each):
            until(lambda: _answered(link) == {"here", "away"})
            up()
            asking.join()
            assert found == ["echo"] * 2
        until(lambda: transport.nodes() == (1,))


def test_a_run_that_is_stopped_stops_waiting() -> None:
    stop, go = threading.Event(), threading.Event()
    with federation() as (link, authority):
        each = node(authority, "one")
        link.admit("one", each.credentials.certificate)
        each.start(link.address, app_of(lambda _: go.wait(120)))
        until(lambda: "one" in link.online())
        with running(each), link.transport("run", ["one"], stop=stop) as transport:
            threading.Timer(0.2, stop.set).start()
            begun = time.monotonic()
            with pytest.raises(RefusedError, match="stopped"):
                asked(transport, deadline_s=600.0)
            assert time.monotonic() - begun < 100
            go.set()


def test_an_answer_that_is_being_made_when_a_node_ends_is_still_delivered() -> None:
    begun = threading.Event()

    def slow(message: Message) -> str:
        del message
        begun.set()
        time.sleep(0.5)
        return "done"

    with federation() as (link, authority):
        each = node(authority, "one")
        link.admit("one", each.credentials.certificate)
        each.start(link.address, app_of(slow))
        with link.transport("run", ["one"], stop=threading.Event()) as transport:
            found: list[str] = []
            asking = _in_thread(lambda: found.extend(reasons(asked(transport))))
            assert begun.wait(60)
            each.end()
            asking.join()
            assert found == ["done"]
            # it said that it ended
            assert transport.nodes() == ()


def test_an_app_that_fails_ends_the_waiting_for_it() -> None:
    def fail(message: Message) -> str:
        raise RuntimeError(f"secret {message.metadata.message_id}")

    with federation("well") as (link, authority):
        each = node(authority, "ill")
        link.admit("ill", each.credentials.certificate)
        each.start(link.address, app_of(fail))
        until(lambda: "ill" in link.online())
        with (
            running(each),
            link.transport("run", ["well", "ill"], stop=threading.Event()) as transport,
        ):
            begun = time.monotonic()
            found = asked(transport, deadline_s=600.0)
            assert time.monotonic() - begun < 120
            assert {transport.names[address] for address in found} == {"well"}
            assert kept(link._fleet) == [0] * 5


def test_runs_are_handled_side_by_side_and_each_of_them_in_order() -> None:
    order: list[str] = []
    both = threading.Barrier(2, timeout=50)

    def meet(message: Message) -> str:
        order.append(message.metadata.group_id)
        both.wait()  # holds only where two runs are handled at once
        return message.metadata.group_id

    with federation() as (link, authority):
        each = node(authority, "one")
        link.admit("one", each.credentials.certificate)
        each.start(link.address, app_of(meet))
        until(lambda: "one" in link.online())
        found: dict[str, list[str]] = {}

        def run(name: str) -> None:
            with link.transport(name, ["one"], stop=threading.Event()) as transport:
                found[name] = [reason for _ in range(3) for reason in reasons(asked(transport))]

        with running(each):
            threads = [_in_thread(lambda name=name: run(name)) for name in ("a", "b")]
            for thread in threads:
                thread.join()
    assert found == {"a": ["a"] * 3, "b": ["b"] * 3}
    assert sorted(order) == ["a"] * 3 + ["b"] * 3


def test_a_run_that_flower_gave_up_goes_on() -> None:
    with (
        federation("one") as (link, _),
        link.transport("run", ["one"], stop=threading.Event()) as transport,
    ):
        assert reasons(asked(transport)) == ["echo"]
        state = link._fleet.state
        for record in state.task_token_store.values():  # type: ignore[attr-defined]
            record.active_until = record.active_until.replace(year=2025)
        assert reasons(asked(transport)) == ["echo"]


@pytest.mark.slow
def test_a_thousand_exchanges_leave_nothing_behind() -> None:
    with (
        federation("one") as (link, _),
        link.transport("run", ["one"], stop=threading.Event()) as transport,
    ):
        blocks = []
        for turn in range(1_000):
            assert len(asked(transport, b"x" * 1_000)) == 1
            if turn in {199, 599, 999}:
                gc.collect()
                blocks.append(sys.getallocatedblocks())
        assert kept(link._fleet) == [0] * 5
    # less than one object for each exchange; what grows once, in a suite's caches, is no leak
    first, second = blocks[1] - blocks[0], blocks[2] - blocks[1]
    assert min(first, second) < 400
    state = link._fleet.state
    assert state.get_run_status(set(state.run_ids)).popitem()[1].sub_status == "completed"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "size", [5 * MIB - 1, 11 * MIB, pytest.param(100 * MIB, marks=pytest.mark.slow)]
)
def test_a_large_payload_comes_back_whole(size: int) -> None:
    payload = os.urandom(size)
    with (
        federation("one") as (link, _),
        link.transport("run", ["one"], stop=threading.Event()) as transport,
    ):
        ((_, data),) = asked(transport, payload).values()
        assert data == payload
        assert kept(link._fleet) == [0] * 5


@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")
def test_the_state_may_be_kept_in_a_file(tmp_path: Path) -> None:
    authority = Authority.create()
    each = node(authority, "one")
    with (
        serving(
            listen="127.0.0.1:0", credentials=authority.server(), database=tmp_path / "engine.db"
        ) as link,
        running(each),
    ):
        link.admit("one", each.credentials.certificate)
        each.start(link.address)
        until(lambda: "one" in link.online())
        with link.transport("run", ["one"], stop=threading.Event()) as transport:
            assert reasons(asked(transport, b"x" * 100)) == ["echo"]
        link.expel("one")
        assert not link.online()
    assert (tmp_path / "engine.db").stat().st_size


def test_an_address_that_is_taken_is_told() -> None:
    authority = Authority.create()
    with federation() as (link, _):
        with (
            pytest.raises(InputError, match="cannot listen"),
            serving(listen=link.address, credentials=authority.server()),
        ):
            pass
        with (
            pytest.raises(InputError, match="host:port"),
            serving(listen="nowhere", credentials=authority.server()),
        ):
            pass
        own, other = authority.server(), authority.server()
        mixed = Credentials(own.certificate, other.key, own.authority)
        with (
            pytest.raises(InputError, match="belong together"),
            serving(listen="127.0.0.1:0", credentials=mixed),
        ):
            pass


def test_it_writes_nowhere_asks_nobody_and_imports_no_model_framework(tmp_path: Path) -> None:
    script = """
import sys, threading
sys.path[:0] = sys.argv[1:]
from support.fleets import asked, federation
with federation("one") as (link, _):
    with link.transport("run", ["one"], stop=threading.Event()) as transport:
        assert len(asked(transport)) == 1
assert not {"torch", "pandas", "sklearn", "ray"} & set(sys.modules)
from flwr.supercore import telemetry
assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
"""
    home = tmp_path / "home"
    home.mkdir()
    found = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), str(ROOT / "tests")],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""
    assert found.stderr == ""
    assert [path.name for path in tmp_path.rglob("*")] == ["home"]


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def _answered(link: SuperLink) -> set[str]:
    """Whose answers came to what is asked now."""
    asking: list[Any] = list(link._fleet._asking)
    return {name for one in asking for name in list(one.answers)}


def _in_thread(do: object) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def _client(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=credentials.authority.decode())
    with tempfile.TemporaryDirectory() as folder:
        save(credentials, Path(folder) / "own")
        own = Path(folder) / "own"
        context.load_cert_chain(own / "cert.pem", own / "key.pem")
    return context


def _spoken(context: ssl.SSLContext, host: str, port: int) -> bytes:
    """What is answered to a request over this connection; nothing, where it is cut."""
    with (
        suppress(OSError),
        socket.create_connection((host, port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        return secured.recv(1_000)
    return b""
