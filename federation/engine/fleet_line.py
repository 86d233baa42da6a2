"""A node's calls to its coordinator: what `federation.engine.fleet_filter` answers.

Relied on in flwr 1.41: `FleetHttpClient` (its `_client`, an httpx client), and
`NodeAuthHttpInterceptor`; tests/contract/test_flower.py names what of each.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from flwr.app import Message
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PullObjectResponse, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from federation.engine.frames import ANSWER, PROCESS, TAKE, Frames, framed
from federation.engine.tls import client_context
from federation.registry.credentials import Credentials
from privacy.randomness import system_bytes

CALL_S: Final = 30.0
CONNECT_S: Final = 10.0
MESSAGE_BYTES_MAX: Final = 257 << 20
"""Of a message that a coordinator sends: a step's vector, and a little."""


class FleetLine:
    """One node's connections to one coordinator; threads may share it.

    Its methods raise `httpx.HTTPStatusError` where the coordinator refuses, and
    `httpx.TransportError` where it is not reached.
    """

    def __init__(self, fleet: str, credentials: Credentials) -> None:
        key = load_pem_private_key(credentials.key, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("a node's key is of an elliptic curve")
        self._public = public_key_to_bytes(key.public_key())
        self._signing = NodeAuthHttpInterceptor(key, key.public_key())
        self._base = f"https://{fleet}"
        self._flower = FleetHttpClient(
            self._base,
            interceptors=[self._signing],
            verify=client_context(credentials),
            timeout=CALL_S,
        )
        self._http: httpx.Client = self._flower._client  # noqa: SLF001 - to send several at once
        self._http.headers[PROCESS] = system_bytes(8).hex()
        self._http.timeout = httpx.Timeout(CALL_S, connect=CONNECT_S)

    def close(self) -> None:
        """End all connections."""
        self._flower.close()

    def activate(self) -> int:
        """Say that this node begins; returns Flower's id of it."""
        answer = self._flower.ActivateNode(
            ActivateNodeRequest(
                public_key=self._public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
            )
        )
        return int(answer.node_id)

    def deactivate(self, node: int) -> None:
        """Say that this node ends."""
        self._flower.DeactivateNode(DeactivateNodeRequest(node_id=node))

    def take(self, node: int, in_hand: Collection[str]) -> Message | None:
        """Wait for a message; None: there was none for as long as the coordinator waits.

        Args:
            node: Flower's id of this node.
            in_hand: Messages that were taken before and are not answered yet.

        Raises:
            ValueError: What came is no message.
        """
        own = Node(node_id=node)
        body = framed(
            SendNodeHeartbeatRequest(node=own, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        ) + framed(PullMessagesRequest(node=own, message_ids=sorted(in_hand)))
        frames = self._frames(TAKE, body)
        response = PullMessagesResponse.FromString(next(frames, b""))
        if not response.messages_list:
            for _ in frames:
                raise ValueError("there was an object and no message")
            return None
        about = response.messages_list[0].metadata
        tree = response.message_object_trees[0]
        contents: dict[str, bytes] = {}
        for object_id in dict.fromkeys(each.object_id for each in iterate_object_tree(tree)):
            part = PullObjectResponse.FromString(next(frames, b""))
            if not part.object_available:
                raise ValueError("a message came without one of its objects")
            contents[object_id] = part.object_content
        for _ in frames:
            raise ValueError("a message came with more than its objects")
        message = inflate_object_from_contents(about.message_id, contents)
        if not isinstance(message, Message):
            raise TypeError("what came is no message")
        message.metadata.__dict__["_message_id"] = about.message_id
        return message

    def answer(self, node: int, reply: Message) -> None:
        """Deliver a reply, all of it; it may be delivered again."""
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            tree = get_object_tree(reply)
        own = Node(node_id=node)
        push = PushMessagesRequest(
            node=own,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree],
        )
        run = reply.metadata.run_id
        for _ in self._frames(ANSWER, _answer_body(push, own, run, objects)):
            pass

    def _frames(self, path: str, body: bytes | Iterator[bytes]) -> Iterator[bytes]:
        request = self._http.build_request(
            "POST",
            f"{self._base}{path}",
            content=body,
            headers={"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE},
        )
        context = ProtobufRequestContext(path, PullMessagesRequest(), request)
        response = self._signing.intercept(
            context, lambda one: self._http.send(one.request, stream=True)
        )
        try:
            if response.is_error:
                response.read()
            response.raise_for_status()
            frames, size = Frames(), 0
            for piece in response.iter_raw():
                size += len(piece)
                if size > MESSAGE_BYTES_MAX:
                    raise ValueError("a message is longer than any is")
                yield from frames.feed(piece)
            frames.close()
        finally:
            response.close()


def _answer_body(
    push: PushMessagesRequest, node: Node, run: int, objects: Mapping[str, InflatableObject]
) -> Iterator[bytes]:
    yield framed(push)
    for object_id, each in objects.items():
        yield framed(
            PushObjectRequest(
                node=node, run_id=run, object_id=object_id, object_content=each.deflate()
            )
        )
