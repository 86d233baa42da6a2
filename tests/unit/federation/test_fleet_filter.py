"""What the network gets of Flower's app: the table, and nothing else, from members alone."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import sign_message
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import Authority

from federation.engine.fleet import Fleet
from federation.engine.fleet_filter import (
    CALLS,
    PEER,
    Call,
    Caller,
    Event,
    FleetFilter,
    Receive,
    Scope,
    Send,
)
from federation.engine.frames import ANSWER, PROCESS, TAKE, Frames, framed
from federation.engine.superlink import Nobody, flower_app
from federation.registry.credentials import Credentials

Headers = Mapping[str, str]


@dataclass
class Answered:
    """What came of one request."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


@dataclass
class Door:
    """A filter in front of Flower's app, and one member's credentials."""

    app: FastAPI
    fleet: Fleet
    filter: FleetFilter
    own: Credentials
    passed: list[str]

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(self.own.key, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    @property
    def caller(self) -> Caller:
        return caller_of(self.own)

    @property
    def node(self) -> int:
        seat = self.fleet.seat("one")
        assert seat is not None
        return seat.node

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        caller: Caller | None = None,
        headers: Headers | None = None,
    ) -> Answered:
        return asyncio.run(
            _asked(self.filter, method, path, body, caller=caller, headers=headers or {})
        )

    def signed(self, *, at: datetime | None = None) -> dict[str, str]:
        return signed_by(self.own, at=at)


def caller_of(credentials: Credentials) -> Caller:
    certificate = x509.load_pem_x509_certificate(credentials.certificate)
    caller = Caller.of(certificate.public_bytes(Encoding.DER))
    assert caller is not None
    return caller


def signed_by(credentials: Credentials, *, at: datetime | None = None) -> dict[str, str]:
    key = load_pem_private_key(credentials.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    stamp = (at or datetime.now(UTC)).isoformat()
    return {
        PROCESS: "a process",
        FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(caller_of(credentials).key).decode(),
        TIMESTAMP_HEADER: stamp,
        FLEET_HTTP_SIGNATURE_HEADER: b64encode(sign_message(key, stamp.encode())).decode(),
        "content-type": "application/protobuf",
    }


async def _asked(
    app: FleetFilter,
    method: str,
    path: str,
    body: bytes,
    *,
    caller: Caller | None,
    headers: Headers,
) -> Answered:
    found = Answered()
    events: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop()
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(event: Event) -> None:
        if event["type"] == "http.response.start":
            found.status, found.headers = event["status"], list(event["headers"])
        else:
            found.body += event.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {PEER: caller} if caller is not None else {},
    }
    await app(scope, receive, send)
    return found


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    own = Authority.create().client("bank", "one")
    app = flower_app()
    passed: list[str] = []
    whole = FastAPI.__call__

    async def watched(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["path"])
        await whole(self, scope, receive, send)

    monkeypatch.setattr(FastAPI, "__call__", watched)
    fleet = Fleet(app.state.linkstate_factory.state())
    fleet.admit("one", own.certificate)
    return Door(app, fleet, FleetFilter(app, fleet, hold_s=0.05), own, passed)


def routes(app: FastAPI) -> Iterable[tuple[str, str]]:
    for found in iter_route_contexts(app.routes):
        route = found.route
        path = route.path  # type: ignore[attr-defined]
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield method, path


def test_every_route_of_flower_is_refused_but_the_table(door: Door) -> None:
    known = set(routes(door.app))
    assert len(known) > 70
    assert {("GET", "/openapi.json"), ("GET", "/docs")} <= known
    assert {("POST", "/v1/control/start-run"), ("POST", "/v1/runtime/acquire-task")} <= known
    headers = door.signed()
    for method, path in known - set(CALLS):
        found = door.ask(method, path, caller=door.caller, headers=headers)
        assert (found.status, json.loads(found.body)) == (
            403,
            {"detail": "this is not answered here"},
        ), path
    assert door.passed == []
    # and the table names what there is
    assert {key for key, call in CALLS.items() if call in {Call.OPEN, Call.START, Call.LEAVE}} <= (
        known
    )


def test_the_table_is_this() -> None:
    assert set(CALLS) == {
        ("GET", "/health"),
        ("POST", "/v1/fleet/activate-node"),
        ("POST", "/v1/fleet/deactivate-node"),
        ("POST", TAKE),
        ("POST", ANSWER),
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/health"), ("POST", "/health"), ("GET", "/health/"), ("GET", "//health"),
        ("GET", "/HEALTH"), ("OPTIONS", TAKE), ("GET", TAKE), ("POST", TAKE + "/"),
        ("POST", "/v1/fleet/../control/start-run"), ("POST", "/v1/fleet"), ("GET", "/"),
        ("POST", "/v1/fleet/register-node"), ("POST", "/v1/fleet/pull-object"),
    ],
)  # fmt: skip
def test_other_spellings_are_refused(door: Door, method: str, path: str) -> None:
    found = door.ask(method, path, caller=door.caller, headers=door.signed())
    assert found.status == 403
    assert door.passed == []


def test_health_is_answered(door: Door) -> None:
    assert door.ask("GET", "/health").status == 200
    assert door.passed == ["/health"]


def take(node: int) -> bytes:
    own = Node(node_id=node)
    beat = SendNodeHeartbeatRequest(node=own, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
    return framed(beat) + framed(PullMessagesRequest(node=own))


def activate(door: Door) -> bytes:
    return ActivateNodeRequest(
        public_key=door.caller.key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
    ).SerializeToString()


BODIES: Mapping[str, Callable[[Door], bytes]] = {
    "/v1/fleet/activate-node": activate,
    "/v1/fleet/deactivate-node": lambda door: DeactivateNodeRequest(
        node_id=door.node
    ).SerializeToString(),
    TAKE: lambda door: take(door.node),
    ANSWER: lambda door: framed(PushMessagesRequest(node=Node(node_id=door.node))),
}


@pytest.mark.parametrize("path", list(BODIES))
def test_only_the_holder_of_a_members_key_is_answered(door: Door, path: str) -> None:
    body = BODIES[path](door)
    stranger = Authority.create().client("bank", "one")
    late = Caller(door.caller.key, datetime.now(UTC) - timedelta(seconds=1))
    old = door.signed(at=datetime.now(UTC) - timedelta(hours=1))
    unsigned = {
        name: value for name, value in door.signed().items() if "signature" not in name.lower()
    }
    cases = {
        "no certificate": (None, door.signed()),
        "expired since the handshake": (late, door.signed()),
        "no headers": (door.caller, {"content-type": "application/protobuf"}),
        "another's certificate": (caller_of(stranger), door.signed()),
        "another's key in the headers": (door.caller, signed_by(stranger)),
        "a stranger": (caller_of(stranger), signed_by(stranger)),
        "signed an hour ago": (door.caller, old),
        "no signature": (door.caller, unsigned),
    }
    for name, (caller, headers) in cases.items():
        found = door.ask("POST", path, body, caller=caller, headers=headers)
        assert found.status == 401, name
    assert door.passed == []
    assert door.fleet.online() == {}


def test_the_keys_of_two_members_cannot_be_mixed(door: Door) -> None:
    other = Authority.create().client("bank", "two")
    door.fleet.admit("two", other.certificate)
    body = ActivateNodeRequest(
        public_key=caller_of(other).key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
    ).SerializeToString()
    path, headers = "/v1/fleet/activate-node", signed_by(other)
    assert door.ask("POST", path, body, caller=door.caller, headers=headers).status == 401
    assert door.fleet.online() == {}
    assert door.ask("POST", path, body, caller=caller_of(other), headers=headers).status == 200
    assert list(door.fleet.online()) == ["two"]


def test_a_node_that_flower_thinks_online_may_begin_anew_at_once(door: Door) -> None:
    for _ in range(3):
        found = door.ask(
            "POST",
            "/v1/fleet/activate-node",
            activate(door),
            caller=door.caller,
            headers=door.signed(),
        )
        assert found.status == 200
        assert ActivateNodeResponse.FromString(found.body).node_id == door.node
        assert list(door.fleet.online()) == ["one"]
    # Flower itself refuses that
    assert not door.fleet.state.activate_node(door.node, HEARTBEAT_DEFAULT_INTERVAL)


def begin(door: Door) -> None:
    path = "/v1/fleet/activate-node"
    found = door.ask("POST", path, activate(door), caller=door.caller, headers=door.signed())
    assert found.status == 200


def test_a_call_for_messages_is_held_and_then_answered_with_none(door: Door) -> None:
    early = door.ask("POST", TAKE, take(door.node), caller=door.caller, headers=door.signed())
    assert early.status == 401
    begin(door)
    other = {**door.signed(), PROCESS: "another"}
    assert door.ask("POST", TAKE, take(door.node), caller=door.caller, headers=other).status == 409
    found = door.ask("POST", TAKE, take(door.node), caller=door.caller, headers=door.signed())
    assert found.status == 200
    (only,) = Frames().feed(found.body)
    assert not PullMessagesResponse.FromString(only).messages_list
    assert list(door.fleet.online()) == ["one"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (TAKE, b"", 400),
        (TAKE, b"\x00", 400),
        (TAKE, b"\xff" * 8, 400),
        (TAKE, framed(Node()) * 3, 400),
        (TAKE, bytes(2 << 20), 413),
        (ANSWER, b"", 400),
        (ANSWER, b"\x00\x00\x00\x05x", 400),
        (ANSWER, b"\x00\x00\x00\x01\xff", 400),
        ("/v1/fleet/activate-node", b"\xff", 400),
    ],
)
def test_what_is_nothing_of_the_kind_is_told(
    door: Door, path: str, body: bytes, status: int
) -> None:
    found = door.ask("POST", path, body, caller=door.caller, headers=door.signed())
    assert found.status == status
    assert set(json.loads(found.body)) == {"detail"}


def test_nothing_is_answered_once_the_coordinator_ends(door: Door) -> None:
    door.fleet.close()
    found = door.ask("POST", TAKE, take(door.node), caller=door.caller, headers=door.signed())
    assert found.status == 503


def test_a_fault_inside_is_logged_here_and_not_told_there(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    begin(door)
    monkeypatch.setattr(Fleet, "pull", fail)
    found = door.ask("POST", TAKE, take(door.node), caller=door.caller, headers=door.signed())
    assert found.status == 500
    assert b"secret" not in found.body
    assert "secret" in caplog.text


def test_accounts_refuse_everybody() -> None:
    nobody = Nobody()
    assert nobody.validate_tokens_in_metadata([("flwr-access-token", "any")]) == (False, None)
    assert nobody.refresh_tokens([]) == (None, None)


@given(
    st.lists(st.binary(max_size=40), max_size=6),
    st.lists(st.integers(min_value=0, max_value=60), max_size=5),
)
def test_frames_come_back_however_a_body_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(framed(_Bytes(part)) for part in parts)
    ends = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    frames = Frames()
    pieces = [body[a:b] for a, b in pairwise(ends)]
    assert [frame for piece in pieces for frame in frames.feed(piece)] == parts
    frames.close()


def test_a_frame_that_is_too_long_or_cut_is_no_frame() -> None:
    frames = Frames(frame_bytes_max=4)
    assert list(frames.feed(b"\x00\x00\x00\x04abcd")) == [b"abcd"]
    with pytest.raises(ValueError, match="longer"):
        list(frames.feed(b"\x00\x00\x00\x05"))
    cut = Frames()
    assert list(cut.feed(b"\x00\x00\x00\x02a")) == []
    with pytest.raises(ValueError, match="within a frame"):
        cut.close()


@dataclass(frozen=True)
class _Bytes:
    """A message that is its own bytes."""

    data: bytes

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's own name
        return self.data
