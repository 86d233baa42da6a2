"""Flower's `Grid` within one machine: the same apps as on a network, without one.

Each node lives in one worker process for as long as the grid is open, so its state stays its own;
every message passes through Flower's protobuf encoding, so that what could not travel fails here
too. Workers run side by side, one a core.

Relied on in flwr 1.41: the abstract `Grid`, `common.serde`, and `Metadata._message_id`, which
Flower's own grids also set on the way out.
"""

import multiprocessing
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Self, TypeVar

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as WireMessage
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from federation.engine import worker
from federation.engine.pool import end
from federation.engine.worker import LocalNode
from privacy.errors import RefusedError, TacitError

FIRST_ADDRESS = 1_001
Value = TypeVar("Value")


class LocalGrid(Grid):
    """See the module. Use it as a context; leaving it ends every worker.

    Attributes:
        messages: Handed to nodes so far.
        bytes_down: What they took in Flower's encoding.
        bytes_up: What the replies took.
    """

    def __init__(self, nodes: Sequence[LocalNode], *, workers: int | None = None) -> None:
        if not nodes:
            raise ValueError("a grid needs a node")
        count = min(workers or os.cpu_count() or 1, len(nodes))
        self._members = {FIRST_ADDRESS + i: node.member for i, node in enumerate(nodes)}
        placed: list[dict[int, LocalNode]] = [{} for _ in range(count)]
        for index, node in enumerate(nodes):
            placed[index % count][FIRST_ADDRESS + index] = node
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["federation.engine.preload"])
        threads = max(1, (os.cpu_count() or 1) // count)
        alive, self._alive = multiprocessing.Pipe(duplex=False)
        self._workers = [
            ProcessPoolExecutor(
                1,
                mp_context=context,
                initializer=worker.start,
                initargs=(mine, threads, alive),
            )
            for mine in placed
        ]
        self._home = {
            address: self._workers[i] for i, mine in enumerate(placed) for address in mine
        }
        self.messages = self.bytes_down = self.bytes_up = 0
        self._under_way: dict[str, tuple[Future[bytes], Message]] = {}
        self._run = Run.create_empty(run_id=int.from_bytes(os.urandom(8), "big") >> 1)
        self._run.primary_task_id = 1
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = self._run.run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        self._joining = [one.submit(worker.join) for one in self._workers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> None:
        """Wait until every node has started.

        Raises:
            TacitError: A node could not start; its own sentence.
        """
        for future in self._joining:
            self._result(future)

    def close(self) -> None:
        """End every worker at once; what was under way is lost."""
        for one in self._workers:
            end(one)
        self._alive.close()

    def set_run(self, run: Run) -> None:
        """Name the run that messages belong to."""
        self._run = run
        TaskIdentity.run_id = run.run_id

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; they are in this machine, so they are online."""
        return list(self._members)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """All nodes with their members' names."""
        return [
            NodeInfo(node_id=address, name=member, status="online")
            for address, member in self._members.items()
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to their nodes' workers; returns the messages' ids."""
        ids: list[str] = []
        for message in messages:
            message_id = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id
            wire = message_to_proto(message).SerializeToString()
            self.messages += 1
            self.bytes_down += len(wire)
            address = message.metadata.dst_node_id
            answer: Future[bytes]
            try:
                answer = self._home[address].submit(worker.handle, address, self._run.run_id, wire)
            except BrokenProcessPool as gone:
                answer = Future()
                answer.set_exception(gone)
            self._under_way[message_id] = (answer, message)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there."""
        done = [i for i in message_ids if i in self._under_way and self._under_way[i][0].done()]
        return [self._reply(*self._under_way.pop(i)) for i in done]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, and pull until all replies are there or `timeout` seconds have passed."""
        missing = set(self.push_messages(messages))
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while missing:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            wait({self._under_way[i][0] for i in missing}, left, return_when=FIRST_COMPLETED)
            got = list(self.pull_messages(missing))
            replies += got
            missing -= {reply.metadata.reply_to_message_id for reply in got}
        for message_id in missing:  # a late reply is dropped, as on a network
            del self._under_way[message_id]
        return replies

    def _reply(self, answer: "Future[bytes]", message: Message) -> Message:
        try:
            wire = answer.result()
        except BrokenProcessPool:
            reason = "The node's process ended by itself, perhaps for want of memory."
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        self.bytes_up += len(wire)
        return message_from_proto(WireMessage.FromString(wire))

    @staticmethod
    def _result(future: "Future[Value]") -> Value:
        try:
            return future.result()
        except TacitError:
            raise
        except BrokenProcessPool:
            raise RefusedError(
                "A node's process ended by itself, perhaps for want of memory; see its node.log."
            ) from None
