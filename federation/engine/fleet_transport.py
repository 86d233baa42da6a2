"""The transport of one run over a fleet: no request to itself, no poll, nothing left behind.

Relied on in flwr 1.41: `LinkState.create_run` and the tasks of a run, `store_message_ins`,
`preregister_object_tree`, `store_object`, `get_message_res`, `delete_messages`, `cleanup_run`, and
the tree of objects that a message is; tests/contract/test_flower.py names what of each.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, cast

from flwr.app import ArrayRecord, Message, Metadata, RecordDict
from flwr.app.message.message import make_message, remove_content_from_message
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID, SubStatus
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from aggregator.app import answer_in, record_of
from aggregator.ports import Answer
from federation.engine.fleet import Fleet, Seat
from privacy.errors import RefusedError
from privacy.messages import Request, pack

FIRST_ADDRESS: Final = 1
LOOK_S: Final = 0.5
TASK_BEAT_S: Final = 10.0
# clocks of nodes differ, and a message that is late is dropped by us
TTL_S: Final = 86_400.0


class FleetTransport:
    """`aggregator.ports.Transport` over a fleet, for one run and the members that it names.

    Attributes:
        names: Address -> member. Addresses stay the same when a member's node is restarted or its
            key renewed.
    """

    def __init__(
        self, fleet: Fleet, run: str, members: Sequence[str], *, stop: threading.Event
    ) -> None:
        self.names: Mapping[int, str] = dict(enumerate(members, FIRST_ADDRESS))
        self._fleet = fleet
        self._run = run
        self._stop = stop
        self._engine = EngineRun(fleet)

    def nodes(self) -> tuple[int, ...]:
        """Addresses of the members whose nodes are there."""
        return tuple(node for node, name in self.names.items() if self._fleet.reachable(name))

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, bytes]],
        *,
        kind: str,
        deadline_s: float,
        needed: Collection[int],
        grace_s: float,
        enough: int = 0,
    ) -> Mapping[int, Answer]:
        """See the port. A request is handed out again to a node that lost it.

        A needed node that was not heard of for `OFFLINE_S` is not waited for while it is away,
        unless fewer than `enough` answered: then some have to come back.

        Raises:
            RefusedError: `stop` was set.
        """
        started = time.monotonic()
        arrays: dict[int, ArrayRecord] = {}
        records = {
            self.names[node]: record_of(pack(request, payload), arrays)
            for node, (request, payload) in requests.items()
        }
        needed_names = {self.names[node] for node in needed} & records.keys()
        answers: dict[str, RecordDict | None] = {}
        lost = True
        while lost:
            questions = Questions(
                self._fleet,
                {name: record for name, record in records.items() if name not in answers},
                run=self._engine.running(),
                group=self._run,
                kind=kind,
                ttl_s=deadline_s + TTL_S,
            )
            with questions.open():
                awaited = needed_names - answers.keys()
                missing = min(enough, len(records)) - len(answers)
                lost = not self._wait(questions, awaited, started + deadline_s, grace_s, missing)
            answers |= questions.answers
        return {
            node: answer_in(content)
            for node in requests
            if (content := answers.get(self.names[node])) is not None
        }

    def close(self) -> None:
        """End the engine's run and all that it kept."""
        self._engine.finish()

    def _wait(
        self,
        questions: "Questions",
        needed: Collection[str],
        end: float,
        grace_s: float,
        missing: int,
    ) -> bool:
        """Wait until it is over; False: Flower gave its run up, as after a clock was set."""
        condition = self._fleet.condition
        with condition:
            while not questions.complete():
                if self._stop.is_set():
                    raise RefusedError("the run was stopped; resume it to go on")
                if not self._engine.beat():
                    return False
                now = time.monotonic()
                awaited = needed - questions.answers.keys()
                few = len(questions.answers) < missing
                if not few and all(self._fleet.away(name) for name in awaited):
                    end = min(end, now + grace_s)
                if now >= end:
                    break
                condition.wait(min(LOOK_S, end - now))
        return True


class Questions:
    """One message to each of several members; `federation.engine.fleet.Asking`.

    Attributes:
        answers: Member -> what came; None: its node failed.
    """

    def __init__(
        self,
        fleet: Fleet,
        records: Mapping[str, RecordDict],
        *,
        run: int,
        group: str,
        kind: str,
        ttl_s: float,
    ) -> None:
        self.answers: dict[str, RecordDict | None] = {}
        self._fleet = fleet
        self._records = records
        self._sent: dict[str, tuple[Seat, str]] = {}
        self._run, self._group, self._kind, self._ttl_s = run, group, kind, ttl_s

    @contextmanager
    def open(self) -> Iterator[None]:
        """Ask, and forget on leaving all that was not answered."""
        with no_object_id_recompute():  # what several messages share is hashed once
            self._fleet.ask(self)
        try:
            yield
        finally:
            with self._fleet.condition:
                self._fleet.forget(self)
                for name in list(self._sent):
                    self._drop(name)

    def complete(self) -> bool:
        """Whether everybody has answered."""
        return len(self.answers) == len(self._records)

    def offer(self, seat: Seat, in_hand: Collection[str] | None) -> None:
        """See the protocol."""
        name = seat.name
        if name not in self._records or name in self.answers:
            return
        if name in self._sent:
            asked, message = self._sent[name]
            handed = message in self._fleet.handed
            lost = handed and in_hand is not None and message not in in_hand
            if asked is seat and not lost:
                return
            self._drop(name)
        message_id = self._store(seat)
        if message_id is not None:
            self._sent[name] = (seat, message_id)

    def owes(self, seat: Seat, message: str) -> bool:
        """See the protocol."""
        return self._sent.get(seat.name) == (seat, message)

    def collect(self, seat: Seat, message: str) -> None:
        """See the protocol."""
        for reply in self._fleet.state.get_message_res({message}, self._run):
            reply_id = reply.metadata.message_id
            try:
                self.answers[seat.name] = None if reply.has_error() else self._content(reply_id)
            except (KeyError, ValueError, TypeError, AttributeError):
                # a node that sends no message has failed, whatever it sent
                self.answers[seat.name] = None
        self._drop(seat.name)

    def _content(self, reply: str) -> RecordDict:
        state = self._fleet.state
        contents = {
            each.object_id: state.get_object(self._run, each.object_id) or b""
            for each in iterate_object_tree(state.object_store.get_object_tree(reply))
        }
        return cast("Message", inflate_object_from_contents(reply, contents)).content

    def _store(self, seat: Seat) -> str | None:
        state = self._fleet.state
        message = make_message(
            Metadata(
                run_id=self._run,
                message_id="",
                src_node_id=SUPERLINK_NODE_ID,
                dst_node_id=seat.node,
                reply_to_message_id="",
                group_id=self._group,
                created_at=time.time(),
                ttl=self._ttl_s,
                message_type=self._kind,
            ),
            content=self._records[seat.name],
        )
        message.metadata.delivered_at = ""
        message_id = message.object_id
        message.metadata.__dict__["_message_id"] = message_id
        objects = get_all_nested_objects(message)
        session = state.start_session(self._run)
        # its objects first: a node that is told of a message finds all of it
        missing = state.preregister_object_tree(get_object_tree(message), session)
        for object_id in missing:
            state.store_object(self._run, session, object_id, objects[object_id].deflate())
        # a node that was never online gets none; it is offered at its first call
        if state.store_message_ins(remove_content_from_message(message)) is None:
            state.object_store.delete(message_id)
            return None
        return message_id

    def _drop(self, name: str) -> None:
        _, message = self._sent.pop(name)
        state, store = self._fleet.state, self._fleet.state.object_store
        self._fleet.handed.discard(message)
        begun = self._fleet.begun.pop(message, None)
        if begun is not None:  # what came of an answer that is late
            store.delete(begun.reply)
        state.delete_messages({message})
        store.delete(message)


class EngineRun:
    """A run of the engine that begins when it is needed, and anew where Flower gave it up."""

    def __init__(self, fleet: Fleet) -> None:
        self._state = fleet.state
        self._run = 0
        self._task = 0
        self._beat_at = 0.0

    def running(self) -> int:
        """Flower's id of a run that is running."""
        if self._run:
            if self.beat(force=True):
                return self._run
            self.finish()
        self._run = self._state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        (run,) = self._state.get_run_info(run_ids=[self._run])
        self._task = cast("int", run.primary_task_id)
        if self._state.claim_task(self._task) is None or not self._state.activate_task(self._task):
            raise RuntimeError("the engine did not start a run that was created a moment ago")
        return self._run

    def beat(self, *, force: bool = False) -> bool:
        """Tell Flower from time to time that the run goes on; False: it thinks otherwise."""
        now = time.monotonic()
        if not force and now - self._beat_at < TASK_BEAT_S:
            return True
        self._beat_at = now
        return self._state.acknowledge_task_heartbeat(self._task)

    def finish(self) -> None:
        """End the run, and delete its messages and objects."""
        if self._run:
            self._state.finish_task(self._task, SubStatus.COMPLETED, "")
            self._state.cleanup_run(self._run)
            self._run = 0
