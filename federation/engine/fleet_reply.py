"""An answer of a node on its way in, object by object."""

from dataclasses import dataclass, field

from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.superlink.servicer.fleet import fleet_handlers

from federation.engine.fleet import Begun, Fleet, Seat


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
    bytes_max: int
    kept: Begun = field(default_factory=lambda: Begun(""))

    @classmethod
    def begun(
        cls, fleet: Fleet, seat: Seat, push: PushMessagesRequest, *, bytes_max: int
    ) -> "IncomingReply":
        """Take its head.

        Args:
            fleet: Whose nodes answer.
            seat: Whose node answers.
            push: The head.
            bytes_max: What its objects may have together, in however many goes they come.

        Raises:
            Unanswered: It is not one message, or not its sender's; or the message has begun to be
                answered otherwise.
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
                return cls(fleet, seat, waited, run, PushMessagesResponse(), None, bytes_max)
            kept = fleet.begun.get(waited)
            if kept is not None and kept.reply != about.message_id:
                # a node says the same again; what was kept of the first would be nobody's
                raise Unanswered(410, "this message was answered otherwise")
            response = fleet_handlers.push_messages(push, fleet.state)
            kept = fleet.begun.setdefault(waited, Begun(about.message_id))
            # Flower may have given up what came of it before
            kept.size = _stored_bytes(fleet, push.message_object_trees[0])
        missing = set(response.objects_to_push)
        return cls(fleet, seat, waited, run, response, missing, bytes_max, kept)

    def put(self, push: PushObjectRequest) -> None:
        """Take one of its objects.

        Raises:
            Unanswered: The object is of another node or run, or there were too many bytes.
        """
        if self.missing is None or push.object_id not in self.missing:
            return
        same_node(push.node, self.seat)
        if push.run_id != self.run:
            raise Unanswered(400, "an object is of another run than its message")
        with self.fleet.condition:
            if self.kept.size + len(push.object_content) > self.bytes_max:
                raise Unanswered(413, "an answer is too long")
            self.kept.size += len(push.object_content)
        push.session_id = self.response.session_id
        if fleet_handlers.push_object(push, self.fleet.state).stored:
            self.missing.discard(push.object_id)
        else:
            with self.fleet.condition:
                self.kept.size -= len(push.object_content)

    def end(self) -> None:
        """Give it to whom it is for.

        Raises:
            Unanswered: An object is missing.
        """
        if self.missing:
            raise Unanswered(400, "an answer came without all of its objects")
        if self.missing is not None:
            self.fleet.collect(self.seat, self.message)


def _stored_bytes(fleet: Fleet, tree: ObjectTree) -> int:
    store = fleet.state.object_store
    ids = {each.object_id for each in iterate_object_tree(tree)}
    return sum(len(store.get(each) or b"") for each in ids)


def same_node(node: Node, seat: Seat) -> None:
    """Raise `Unanswered` where a request is not for the node that made it."""
    if node.node_id != seat.node:
        raise Unanswered(401, "a request is for another node")
