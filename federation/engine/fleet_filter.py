"""What of Flower's app is answered to the network: the table below, and nothing else.

Two calls carry whole messages, so that an exchange costs a node two HTTP requests: each takes
several of Flower's own Fleet requests, one a frame, and gives them to Flower's own handlers behind
Flower's own authentication of nodes.

    TAKE    a heartbeat and a PullMessagesRequest -> its response, then a PullObjectResponse for
            each object of the message, children first. It is held until there is a message.
    ANSWER  a PushMessagesRequest, then a PushObjectRequest for each object -> its response.

Who calls is twice the same: the client certificate of the connection, and the node key that
signs each request.

Relied on in flwr 1.41: `authenticate_node`, the Fleet handlers, and how errors become statuses;
tests/contract/test_flower.py names what of each.
"""

import asyncio
import contextlib
import json
import logging
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, HTTPException
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supercore.error import FlowerError
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError
from starlette.requests import Request

from federation.engine.fleet import Fleet, Seat
from federation.engine.fleet_reply import IncomingReply, Unanswered, same_node
from federation.engine.frames import ANSWER, FRAME_BYTES_MAX, PROCESS, TAKE, Frames, framed
from federation.registry.pace import Pace
from federation.registry.pause import PAUSE_S
from federation.registry.rate import Buckets, Rate

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Wire = TypeVar("Wire")

PEER: Final = "tacit.peer"
PROCESS_HEADER: Final = PROCESS.encode("ascii")
HOLD_S: Final = 10.0
LONGEST_HOLD_S: Final = 24.0
"""A node waits no longer than 30 s for a sentence (federation.engine.fleet_line.CALL_S)."""
TAKES_A_SECOND: Final = 40
"""Empty answers to nodes that wait; where there are more nodes, each is held longer."""
STUCK_S: Final = 60.0
SHORT_BYTES_MAX: Final = 64 << 10
"""Of a call that carries no answer: a heartbeat, and the names of what the node has in hand."""
HEAD_BYTES_MAX: Final = 1 << 20
"""Of an answer's first part, which names its objects."""
SEND_BYTES: Final = 1 << 20
ANSWER_BYTES_MAX: Final = 256 << 20
ANSWERS_MAX: Final = 8
"""Of one member, on their way in at once; a node of ours sends no more."""
RATE: Final = Rate(per_second=200.0, burst=1_000.0)
"""Of each member, in calls."""
START_COST: Final = 10.0
PACE: Final = 60.0
STARTS: Final = 10.0
"""Of each member, in a second: calls, and how often its node may begin; what comes sooner waits."""


class Call(Enum):
    """How a request from the network is treated."""

    OPEN = "passed on as it is"
    START = "passed on; the node begins anew"
    LEAVE = "passed on; the node is away from here"
    TAKE = "a message, when there is one"
    ANSWER = "a message's answer"


CALLS: Final[Mapping[tuple[str, str], Call]] = {
    ("GET", "/health"): Call.OPEN,
    ("POST", "/v1/fleet/activate-node"): Call.START,
    ("POST", "/v1/fleet/deactivate-node"): Call.LEAVE,
    ("POST", TAKE): Call.TAKE,
    ("POST", ANSWER): Call.ANSWER,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a connection, as its certificate says.

    Attributes:
        key: The certificate's key, as Flower writes node keys.
        until: When the certificate expires.
    """

    key: bytes
    until: datetime

    @classmethod
    def of(cls, certificate: bytes) -> "Caller | None":
        """Read a certificate in DER that the handshake verified."""
        read = x509.load_der_x509_certificate(certificate)
        key = read.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return None
        return cls(public_key_to_bytes(key), read.not_valid_after_utc)


class FleetFilter:
    """The ASGI app that stands in front of Flower's."""

    def __init__(
        self,
        app: FastAPI,
        fleet: Fleet,
        *,
        hold_s: float = HOLD_S,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        rate: Rate = RATE,
    ) -> None:
        self._app = app
        self._fleet = fleet
        self._hold_s = hold_s
        self._answer_bytes_max = answer_bytes_max
        self._buckets = Buckets(rate, time.monotonic)
        self._pace = Pace(PACE, 2 * PACE, time.monotonic)
        self._starts = Pace(STARTS, STARTS, time.monotonic)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not spoken here")
        self._fleet.count(requests=1)
        try:
            await self._treat(scope, receive, send)
        except Unanswered as answer:
            await _say(send, answer.status, str(answer))
        except HTTPException as fault:
            await _say(send, fault.status_code, str(fault.detail))
        except (DecodeError, ValueError) as fault:
            await _say(send, 400, str(fault))
        except FlowerError as fault:
            known = API_ERROR_MAP.get(fault.code)
            status = known.http_status_code if known is not None else 500
            await _say(send, status, known.public_message if known is not None else "")
        except (ConnectionError, TimeoutError):
            pass  # its end is gone; it asks again
        except Exception:
            logging.getLogger("tacit.fleet").exception("a node's request failed")
            await _say(send, 500, "the coordinator failed inside; its log says where")

    async def _treat(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = CALLS.get((scope["method"], scope["path"]))
        if call is None:
            raise Unanswered(403, "this is not answered here")
        if call is Call.OPEN:
            await self._app(scope, receive, send)
            return
        if self._fleet.closed:
            raise Unanswered(503, "the coordinator is ending")
        seat = self._seat(scope)
        if not self._buckets.take(seat.name, START_COST if call is Call.START else 1.0):
            # whoever is told at once calls on at once; this one has few connections to wait on
            await asyncio.sleep(PAUSE_S)
            raise Unanswered(429, "too many calls; wait a few seconds")
        pace = self._starts if call in {Call.START, Call.LEAVE} else self._pace
        wait_s = pace.wait_s(seat.name)
        if wait_s:
            await asyncio.sleep(wait_s)
        if call is Call.TAKE:
            await self._take(seat, scope, receive, send)
        elif call is Call.ANSWER:
            if seat.answers >= ANSWERS_MAX:
                raise Unanswered(429, "too many answers at once; wait for one to be taken")
            seat.answers += 1
            try:
                with self._fleet.held(seat):
                    await self._answer(seat, scope, receive, send)
            finally:
                seat.answers -= 1
        else:
            body = await _short(receive)
            await self._told(call, seat, scope, body)
            await self._app(scope, _again(body), send)

    def _seat(self, scope: Scope) -> Seat:
        caller = scope.get("state", {}).get(PEER)
        if not isinstance(caller, Caller) or caller.until < datetime.now(UTC):
            raise Unanswered(401, "the connection has no certificate that is valid")
        if b64decode(_header(scope, _KEY_HEADER)) != caller.key:
            raise Unanswered(401, "the node key is not the certificate's")
        seat = self._fleet.seat_of(caller.key)
        if seat is None:
            raise Unanswered(401, "this is no member's key")
        return seat

    async def _told(self, call: Call, seat: Seat, scope: Scope, body: bytes) -> None:
        if call is Call.START:
            await self._authentic(scope, ActivateNodeRequest.FromString(body))
            self._fleet.started(seat, _header(scope, PROCESS_HEADER))
        else:
            await self._authentic(scope, DeactivateNodeRequest.FromString(body))
            self._fleet.left(seat)

    async def _take(self, seat: Seat, scope: Scope, receive: Receive, send: Send) -> None:
        beat, pull = _frames_of(await _short(receive), 2)
        heartbeat = SendNodeHeartbeatRequest.FromString(beat)
        request = PullMessagesRequest.FromString(pull)
        await self._authentic(scope, request)
        same_node(heartbeat.node, seat)
        if _header(scope, PROCESS_HEADER) != seat.process:
            if self._fleet.reachable(seat.name):
                raise Unanswered(409, "another process is this member's node")
            raise Unanswered(401, "this node did not begin")
        fleet_handlers.send_node_heartbeat(heartbeat, self._fleet.state)
        self._fleet.saw(seat)
        # a node that receives a long message says nothing else meanwhile, and is there
        with self._fleet.held(seat):
            await self._hand_out(seat, request, receive, send)

    async def _hand_out(
        self, seat: Seat, request: PullMessagesRequest, receive: Receive, send: Send
    ) -> None:
        response = await self._held(seat, request, receive)
        pieces = [framed(response)]
        await send(_START)
        for message, tree in zip(
            response.messages_list, response.message_object_trees, strict=True
        ):
            ids = dict.fromkeys(each.object_id for each in iterate_object_tree(tree))
            for object_id in ids:
                wanted = PullObjectRequest(
                    node=request.node, run_id=message.metadata.run_id, object_id=object_id
                )
                pieces.append(framed(fleet_handlers.pull_object(wanted, self._fleet.state)))
                if sum(map(len, pieces)) > SEND_BYTES:
                    await self._give(send, pieces)
        await self._give(send, pieces)
        await send({"type": "http.response.body", "body": b""})
        self._fleet.count(messages_out=len(response.messages_list))

    async def _give(self, send: Send, pieces: list[bytes]) -> None:
        body = b"".join(pieces)
        pieces.clear()
        self._fleet.count(bytes_out=len(body))
        async with asyncio.timeout(STUCK_S):
            await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _held(self, seat: Seat, request: PullMessagesRequest, receive: Receive) -> Any:  # noqa: ANN401 - Flower's response
        loop = asyncio.get_running_loop()
        generation = seat.generation
        gone = asyncio.ensure_future(receive())
        self._waiting += 1
        end = loop.time() + held_s(self._hold_s, self._waiting, seat.node)
        try:
            while True:
                seat.wake.clear()
                if gone.done() or seat.generation != generation:
                    # whoever asks has ended; a message given to it would be lost
                    ending = self._fleet.closed
                    raise Unanswered(503 if ending else 409, "this node has begun anew, or ended")
                response = await asyncio.to_thread(self._fleet.pull, seat, request)
                left = end - loop.time()
                if response.messages_list or left <= 0:
                    return response
                waking = asyncio.ensure_future(seat.wake.wait())
                await asyncio.wait(
                    {gone, waking}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                waking.cancel()
        finally:
            self._waiting -= 1
            gone.cancel()

    async def _answer(self, seat: Seat, scope: Scope, receive: Receive, send: Send) -> None:
        frames, size = Frames(), 0
        reply: IncomingReply | None = None
        async for piece in _body(receive):
            size += len(piece)
            if size > self._answer_bytes_max:
                raise Unanswered(413, "an answer is too long")
            if self._fleet.seat_of(seat.key) is not seat:
                raise Unanswered(401, "this is no member's key")
            for frame in frames.feed(piece):
                if reply is None:
                    reply = await self._begun(seat, scope, frame)
                else:
                    await asyncio.to_thread(reply.put, PushObjectRequest.FromString(frame))
        frames.close()
        if reply is None:
            raise Unanswered(400, "an answer has no message")
        self._fleet.saw(seat)
        self._fleet.count(messages_in=1, bytes_in=size)
        await asyncio.to_thread(reply.end)
        await send(_START)
        await send({"type": "http.response.body", "body": framed(reply.response)})

    async def _begun(self, seat: Seat, scope: Scope, head: bytes) -> IncomingReply:
        if len(head) > HEAD_BYTES_MAX:
            raise Unanswered(413, "an answer has too many objects")
        push = PushMessagesRequest.FromString(head)
        await self._authentic(scope, push)
        return await asyncio.to_thread(
            IncomingReply.begun, self._fleet, seat, push, bytes_max=self._answer_bytes_max
        )

    async def _authentic(self, scope: Scope, message: Any) -> None:  # noqa: ANN401 - Flower's request
        request = Request({**scope, "app": self._app, "state": {"protobuf_request": message}})
        await asyncio.to_thread(authenticate_node, request)


def held_s(hold_s: float, waiting: int, node: int) -> float:
    """How long a node's call for messages is held open while there is none, in seconds.

    Args:
        hold_s: Where few wait.
        waiting: Nodes that wait now. No more than about `TAKES_A_SECOND` of them call anew each
            second, as long as `LONGEST_HOLD_S` allows it.
        node: Flower's id; where many wait, those that came together do not come again together.
    """
    longer_s = min(LONGEST_HOLD_S, waiting / TAKES_A_SECOND)
    if longer_s <= hold_s:
        return hold_s
    return max(hold_s, longer_s * (0.8 + 0.2 * (node % 1_009) / 1_009))


_KEY_HEADER: Final = FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode("ascii")
_START: Final[Event] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", PROTOBUF_MEDIA_TYPE.encode("ascii"))],
}


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _frames_of(body: bytes, count: int) -> list[bytes]:
    frames = Frames(frame_bytes_max=min(SHORT_BYTES_MAX, FRAME_BYTES_MAX))
    found = list(frames.feed(body))
    frames.close()
    if len(found) != count:
        raise Unanswered(400, f"this call has {count} parts")
    return found


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        async with asyncio.timeout(STUCK_S):
            event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionError
        yield event.get("body", b"")
        more = event.get("more_body", False)


async def _short(receive: Receive) -> bytes:
    body = bytearray()
    async for piece in _body(receive):
        body += piece
        if len(body) > SHORT_BYTES_MAX:
            raise Unanswered(413, "this call is too long")
    return bytes(body)


def _again(body: bytes) -> Receive:
    events = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Event:
        if events:
            return events.pop()
        await asyncio.Event().wait()
        raise RuntimeError

    return receive


async def _say(send: Send, status: int, detail: str) -> None:
    # it can be too late for an answer: then the connection alone ends
    with contextlib.suppress(RuntimeError):
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": json.dumps({"detail": detail}).encode()})
