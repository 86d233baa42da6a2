"""A node's process: it calls its coordinator, and answers with the app that is installed here.

Nothing listens here, and no code comes from anywhere. The node keeps trying for ever: after its
coordinator was away, or was started anew, it goes on. An answer is delivered until it is, or until
nobody can want it any more.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import httpx
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from federation.engine.connection_fault import sentence_of
from federation.engine.fleet_line import FleetLine
from federation.engine.quiet import quiet_flower
from federation.registry.credentials import Credentials

FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 15.0
SIDE_BY_SIDE: Final = 8
RUNS_MAX: Final = 32
IN_HAND_MAX: Final = 64
"""Runs, each with a thread, and messages in all; more are not taken until there is room."""
LEAVE_S: Final = 2.0
FINISH_S: Final = 60.0
LOOK_S: Final = 1.0
UNAUTHORIZED: Final = 401
# of an answer: nothing that is done again would change these
FINAL: Final = frozenset({403, 404, 410, 413})


def serve(
    fleet: str,
    credentials: Credentials,
    app: ClientApp,
    *,
    stop: threading.Event,
    told: Callable[[str], None],
) -> None:
    """Answer a coordinator's messages until `stop` is set.

    Messages of different runs are handled side by side, those of one run in order.

    Args:
        fleet: The coordinator's fleet address, host:port.
        credentials: This member's; the key is both of its certificate and of its node.
        app: What answers.
        stop: Set by another thread; an answer that is being made then is still made and delivered,
            where that takes no longer than `FINISH_S`.
        told: Given one sentence when the connection is made, and when it fails otherwise than
            before.

    Raises:
        InputError: The credentials cannot be used.
    """
    quiet_flower()
    node = _ThinNode(fleet, credentials, app, stop, told)
    taking = threading.Thread(target=node.take_all, name="fleet", daemon=True)
    taking.start()
    stop.wait()
    node.finish(FINISH_S)
    node.leave()
    taking.join(LEAVE_S)
    node.close()


class _ThinNode:
    def __init__(
        self,
        fleet: str,
        credentials: Credentials,
        app: ClientApp,
        stop: threading.Event,
        told: Callable[[str], None],
    ) -> None:
        self._fleet, self._credentials = fleet, credentials
        self._app, self._stop, self._told = app, stop, told
        self._line = FleetLine(fleet, credentials)
        self._closed = threading.Event()
        self._lock = threading.Condition()
        self._node = 0
        self._said = ""
        self._connected = False
        self._in_hand: set[str] = set()
        self._queues: dict[str, deque[Message]] = {}
        self._room = threading.BoundedSemaphore(SIDE_BY_SIDE)

    def take_all(self) -> None:
        """Take messages until the node is stopped."""
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            try:
                self._take_one()
                wait_s = FIRST_WAIT_S
            except (httpx.HTTPError, OSError, ValueError, TypeError) as fault:
                if self._stop.is_set():
                    return
                status = _status_of(fault)
                if status == UNAUTHORIZED and self._node:
                    self._node = 0  # a coordinator that was started anew knows it by another id
                    continue
                self._say(self._fault(fault))
                self._stop.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def finish(self, within_s: float) -> None:
        """Wait for what is being handled; what waits behind it is asked anew another time."""
        with self._lock:
            self._lock.wait_for(lambda: not self._queues, within_s)

    def leave(self) -> None:
        """Say that this node ends, where that can be said."""
        if self._node:
            try:
                self._line.deactivate(self._node)
            except (httpx.HTTPError, OSError, ValueError):
                logging.getLogger("tacit.fleet").info("the coordinator was not told of the end")

    def close(self) -> None:
        """End all connections."""
        self._closed.set()
        self._line.close()

    def _take_one(self) -> None:
        if not self._has_room():
            return
        if not self._node:
            self._node = self._line.activate()
            self._say(f"connected to the coordinator at {self._fleet}")
        with self._lock:
            in_hand = set(self._in_hand)
        message = self._line.take(self._node, in_hand)
        self._connected = True
        self._say(f"connected to the coordinator at {self._fleet}")
        if message is not None and not self._stop.is_set():
            self._accept(message)

    def _has_room(self) -> bool:
        """Wait a moment for it; a coordinator that asks more than a node can do has to wait."""

        def has_room() -> bool:
            return len(self._queues) < RUNS_MAX and len(self._in_hand) < IN_HAND_MAX

        with self._lock:
            return self._lock.wait_for(has_room, LOOK_S)

    def _accept(self, message: Message) -> None:
        run = message.metadata.group_id or str(message.metadata.run_id)
        with self._lock:
            self._in_hand.add(message.metadata.message_id)
            queue = self._queues.get(run)
            if queue is not None:
                queue.append(message)
                return
            self._queues[run] = deque([message])
        threading.Thread(target=self._handle_all, args=(run,), name=run, daemon=True).start()

    def _handle_all(self, run: str) -> None:
        while True:
            with self._lock:
                if not self._queues[run] or self._stop.is_set():
                    del self._queues[run]
                    self._lock.notify_all()
                    return
                message = self._queues[run].popleft()
            try:
                if not self._is_over(message):
                    with self._room:
                        reply = self._reply(message)
                    self._deliver(message, reply)
            except Exception:
                logging.getLogger("tacit.fleet").exception("a message was given up")
            finally:
                with self._lock:
                    self._in_hand.discard(message.metadata.message_id)
                    self._lock.notify_all()

    def _reply(self, message: Message) -> Message:
        about = message.metadata
        context = Context(about.run_id, about.dst_node_id, {}, RecordDict(), {}, 0)
        try:
            return self._app(message, context)
        except Exception:
            # what went wrong stays here: a traceback can show rows
            logging.getLogger("tacit.fleet").exception("the app failed")
            reason = "The node failed inside; its own log says where."
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    def _deliver(self, message: Message, reply: Message) -> None:
        node, wait_s = message.metadata.dst_node_id, FIRST_WAIT_S
        while not self._closed.is_set():
            try:
                self._line.answer(node, reply)
            except (httpx.HTTPError, OSError, ValueError) as fault:
                if _status_of(fault) in FINAL or self._is_over(message):
                    return
            else:
                return
            self._closed.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _is_over(self, message: Message) -> bool:
        """Whether the coordinator was started anew since: it knows this node by another id."""
        return self._node not in {0, message.metadata.dst_node_id}

    def _fault(self, fault: Exception) -> str:
        return sentence_of(fault, self._fleet, self._credentials, connected=self._connected)

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._told(sentence)


def _status_of(fault: Exception) -> int | None:
    return fault.response.status_code if isinstance(fault, httpx.HTTPStatusError) else None
