"""The nodes of a coordinator, as Flower's state knows them, and who waits for which answer.

Relied on in flwr 1.41: `LinkState` (nodes, messages), its `object_store`, and the Fleet handlers
`pull_messages` and `push_messages`; tests/contract/test_flower.py names what of each.
"""

import asyncio
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.inflatable.inflatable_object import no_object_id_recompute
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.servicer.fleet import fleet_handlers

from privacy.errors import InputError, RefusedError

OFFLINE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over the network since the coordinator started.

    Attributes:
        requests: HTTP requests that nodes made.
        messages_out: Requests of runs that were handed to nodes.
        messages_in: Answers that nodes gave.
        bytes_out: Bytes of what was handed out.
        bytes_in: Bytes of what was answered.
    """

    requests: int = 0
    messages_out: int = 0
    messages_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


@dataclass(slots=True, eq=False)
class Seat:
    """A member's place in the fleet, taken by its node.

    Attributes:
        name: The member.
        key: Its node key, as Flower writes it.
        node: Flower's id of its node.
        here: Whether it was heard of, and did not say that it ended.
        since: When that was last so, or when the seat was made (monotonic).
        open_calls: Calls of it that are held open now.
        answers: Answers of it that are on their way in now.
        process: What the process calls itself that is its node now.
        generation: Grows when its node starts or leaves; a call held since before ends.
        wake: Set when there may be a message for it.
    """

    name: str
    key: bytes
    node: int
    here: bool = False
    since: float = field(default_factory=time.monotonic)
    open_calls: int = 0
    answers: int = 0
    process: bytes = b""
    generation: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Begun:
    """An answer that has begun to come in.

    Attributes:
        reply: Its id. Another answer to the same message is none.
        size: Bytes of its objects that are kept.
    """

    reply: str
    size: int = 0


class Asking(Protocol):
    """Requests that wait for answers; called with the fleet's lock held."""

    def offer(self, seat: Seat, in_hand: Collection[str] | None) -> None:
        """Put the request for this seat in Flower's state, unless it is there or its node has it.

        Args:
            seat: Whose.
            in_hand: What its node has; None: it did not say.
        """
        ...

    def owes(self, seat: Seat, message: str) -> bool:
        """Whether this seat's answer to this message is waited for."""
        ...

    def collect(self, seat: Seat, message: str) -> None:
        """Take the answer, which is whole, out of Flower's state."""
        ...


class Fleet:
    """See the module. Every method may be called by any thread.

    `condition` guards all of it and is notified when an answer came or a node came or went.
    """

    def __init__(self, state: LinkState) -> None:
        self.state = state
        self.condition = threading.Condition(threading.RLock())
        # of messages that are asked now: what was handed out, and which answers have begun
        self.handed: set[str] = set()
        self.begun: dict[str, Begun] = {}
        self.closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seats: dict[str, Seat] = {}
        self._by_key: dict[bytes, Seat] = {}
        self._asking: list[Asking] = []
        self._traffic = Traffic()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that serves the network."""
        self._loop = loop

    def admit(self, name: str, certificate_pem: bytes) -> None:
        """Let the holder of a certificate's key be this member's node, and no other.

        Raises:
            InputError: This is no certificate of an elliptic-curve key.
            RefusedError: The key was expelled, or is another member's.
        """
        try:
            key = x509.load_pem_x509_certificates(certificate_pem)[0].public_key()
        except ValueError:
            raise InputError(f"the certificate of {name} is none; have it issued anew") from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InputError(f"the key of {name} is not P-256 or P-384; make one of that kind")
        pem = public_key_to_bytes(key)
        with self.condition:
            old = self._seats.get(name)
            if old is not None and old.key == pem:
                return
            try:
                node = self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, pem, 0, name=name)
            except ValueError:
                raise RefusedError(
                    f"the key of {name} was expelled, or is another member's; make a new one"
                ) from None
            if old is not None:
                self._remove(old)
            self._seats[name] = self._by_key[pem] = Seat(name, pem, node)
            self.condition.notify_all()

    def expel(self, name: str) -> None:
        """Answer this member's node no more; its key can never return."""
        with self.condition:
            seat = self._seats.get(name)
            if seat is not None:
                self._remove(seat)

    def seat_of(self, key: bytes) -> Seat | None:
        """Whose node key this is."""
        return self._by_key.get(key)

    def seat(self, name: str) -> Seat | None:
        """The seat of a member that was admitted."""
        return self._seats.get(name)

    def saw(self, seat: Seat) -> None:
        """A node was heard of."""
        with self.condition:
            back = not _reachable(seat)
            seat.here, seat.since = True, time.monotonic()
            if back:
                self.condition.notify_all()

    def started(self, seat: Seat, process: bytes) -> None:
        """A node says that it begins; whatever it was before is over."""
        with self.condition:
            # Flower refuses a node that it still believes to be online
            self.state.deactivate_node(seat.node)
            self._ended(seat)
            seat.process, seat.here = process, True

    def left(self, seat: Seat) -> None:
        """A node says that it ends."""
        with self.condition:
            self._ended(seat)

    @contextmanager
    def held(self, seat: Seat) -> Iterator[None]:
        """While a node's call is open, its node is there."""
        with self.condition:
            seat.open_calls += 1
            generation = seat.generation
        try:
            yield
        finally:
            with self.condition:
                seat.open_calls -= 1
                if seat.generation == generation:
                    seat.since = time.monotonic()

    def reachable(self, name: str) -> bool:
        """Whether a member's node was heard of within `OFFLINE_S`, and did not leave since."""
        seat = self._seats.get(name)
        return seat is not None and _reachable(seat)

    def away(self, name: str) -> bool:
        """Whether a member has no seat, or its node was not heard of for `OFFLINE_S`.

        A seat that was made a moment ago is not away yet: its node may be about to call, as after
        the coordinator was started anew.
        """
        seat = self._seats.get(name)
        return seat is None or _silent(seat)

    def online(self) -> Mapping[str, float]:
        """Seconds since each reachable member's node was last heard of."""
        with self.condition:
            now = time.monotonic()
            return {
                seat.name: 0.0 if seat.open_calls else now - seat.since
                for seat in self._seats.values()
                if _reachable(seat)
            }

    def traffic(self) -> Traffic:
        """What was counted so far."""
        return self._traffic

    def count(self, **more: int) -> None:
        """Add to what is counted."""
        with self.condition:
            old = self._traffic
            self._traffic = Traffic(
                **{name: getattr(old, name) + more.get(name, 0) for name in Traffic.__slots__}
            )

    def ask(self, asking: Asking) -> None:
        """Offer new requests to every seat, now and at each of their calls until `forget`."""
        with self.condition:
            self._asking.append(asking)
            seats = list(self._seats.values())
        for seat in seats:  # one by one: calls of others are answered between
            with self.condition:
                asking.offer(seat, None)
                self._wake(seat)

    def forget(self, asking: Asking) -> None:
        """Wait for these answers no longer."""
        with self.condition:
            self._asking.remove(asking)

    def pull(self, seat: Seat, request: PullMessagesRequest) -> PullMessagesResponse:
        """Answer a node's call with a message for it, if there is one.

        `request.message_ids` are those that the node has in hand: one that it was handed and has
        not (it was restarted, or the connection broke) is handed out again.
        """
        with self.condition:
            with no_object_id_recompute():
                for asking in self._asking:
                    asking.offer(seat, request.message_ids)
            response = fleet_handlers.pull_messages(request, self.state, self.state.object_store)
            self.handed.update(one.metadata.message_id for one in response.messages_list)
            return response

    def asking_for(self, seat: Seat, message: str) -> Asking | None:
        """Who waits for this seat's answer to this message."""
        with self.condition:
            return next((one for one in self._asking if one.owes(seat, message)), None)

    def collect(self, seat: Seat, message: str) -> None:
        """An answer is whole: give it to whom it is for; nothing, where nobody waits any more."""
        with self.condition:
            asking = self.asking_for(seat, message)
            if asking is not None:
                # Flower gives no answer of a node that it thinks offline
                self.state.acknowledge_node_heartbeat(seat.node, HEARTBEAT_DEFAULT_INTERVAL)
                asking.collect(seat, message)
                self.condition.notify_all()

    def close(self) -> None:
        """End every call that is held open, and answer no more."""
        with self.condition:
            self.closed = True
            for seat in self._seats.values():
                self._ended(seat)

    def _remove(self, seat: Seat) -> None:
        self.state.delete_node(NOOP_FLWR_AID, seat.node)
        del self._seats[seat.name], self._by_key[seat.key]
        self._ended(seat)

    def _ended(self, seat: Seat) -> None:
        seat.generation += 1
        seat.here, seat.since = False, time.monotonic()
        self._wake(seat)
        self.condition.notify_all()

    def _wake(self, seat: Seat) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(seat.wake.set)


def _reachable(seat: Seat) -> bool:
    return seat.here and not _silent(seat)


def _silent(seat: Seat) -> bool:
    return not seat.open_calls and time.monotonic() - seat.since >= OFFLINE_S
