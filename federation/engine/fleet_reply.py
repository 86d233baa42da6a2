"""An answer of a node on its way in, object by object."""

from dataclasses import dataclass

from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.superlink.servicer.fleet import fleet_handlers

from federation.engine.fleet import Fleet, Seat


class Unanswered(Exception):  # noqa: N818 - it is an answer, and no fault of ours
    """A request that ends with a status and a sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(slots=True)
class IncomingReply:
    """An answer on its way in; where nobody waits for it any more, it is read and dropped."""

    fleet: Fleet
    seat: Seat
    message: str
    run: int
    response: PushMessagesResponse
    missing: set[str] | None

    @classmethod
    def begun(cls, fleet: Fleet, seat: Seat, push: PushMessagesRequest) -> "IncomingReply":
        """Take its head.

        Raises:
            Unanswered: It is not one message, or not its sender's.
        """
        if len(push.messages_list) != 1 or len(push.message_object_trees) != 1:
            raise Unanswered(400, "an answer has one message")
        about = push.messages_list[0].metadata
        if about.src_node_id != seat.node:
            raise Unanswered(403, "an answer is not its sender's")
        waited, run = about.reply_to_message_id, about.run_id
        # Flower's own check of what belongs together is not one step
        with fleet.condition:
            if fleet.asking_for(seat, waited) is None:
                return cls(fleet, seat, waited, run, PushMessagesResponse(), None)
            response = fleet_handlers.push_messages(push, fleet.state)
            fleet.begun[waited] = about.message_id
        missing = set(response.objects_to_push)
        return cls(fleet, seat, waited, run, response, missing)

    def put(self, push: PushObjectRequest) -> None:
        """Take one of its objects.

        Raises:
            Unanswered: The object is of another node or run.
        """
        if self.missing is None or push.object_id not in self.missing:
            return
        same_node(push.node, self.seat)
        if push.run_id != self.run:
            raise Unanswered(400, "an object is of another run than its message")
        push.session_id = self.response.session_id
        if fleet_handlers.push_object(push, self.fleet.state).stored:
            self.missing.discard(push.object_id)

    def end(self) -> None:
        """Give it to whom it is for.

        Raises:
            Unanswered: An object is missing.
        """
        if self.missing:
            raise Unanswered(400, "an answer came without all of its objects")
        if self.missing is not None:
            self.fleet.collect(self.seat, self.message)


def same_node(node: Node, seat: Seat) -> None:
    """Raise `Unanswered` where a request is not for the node that made it."""
    if node.node_id != seat.node:
        raise Unanswered(401, "a request is for another node")
