"""A coordinator's engine with nodes, on this machine's loopback. For tests only."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from support.certificates import Authority
from support.echo_node import echo_app

from aggregator.app import record_of
from aggregator.ports import Answer
from federation.engine import fleet_transport
from federation.engine.fleet import Fleet
from federation.engine.fleet_filter import ANSWER_BYTES_MAX
from federation.engine.fleet_transport import FleetTransport
from federation.engine.superlink import SuperLink, serving
from federation.engine.thin_node import serve
from federation.registry.credentials import Credentials
from privacy.messages import Refused, RosterNotice, pack

PATIENCE_S = 60.0


@dataclass
class NodeThread:
    """A node in a thread of this process, and what a person was told."""

    name: str
    credentials: Credentials
    told: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self, fleet: str, app: ClientApp | None = None) -> "NodeThread":
        self.thread = threading.Thread(
            target=serve,
            args=(fleet, self.credentials, app or echo_app(self.name)),
            kwargs={"stop": self.stop, "told": self.told.append},
            daemon=True,
        )
        self.thread.start()
        return self

    def end(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(PATIENCE_S)
            assert not self.thread.is_alive()


def node(authority: Authority, name: str, *, days: float = 1) -> NodeThread:
    return NodeThread(name, authority.client("bank", name, days=days))


@contextmanager
def federation(
    *names: str,
    authority: Authority | None = None,
    hold_s: float = 10.0,
    answer_bytes_max: int = ANSWER_BYTES_MAX,
) -> Iterator[tuple[SuperLink, Authority]]:
    """An engine, and one echoing node for each name."""
    authority = authority or Authority.create()
    with serving(
        listen="127.0.0.1:0",
        credentials=authority.server(),
        hold_s=hold_s,
        answer_bytes_max=answer_bytes_max,
    ) as link:
        nodes = [node(authority, name) for name in names]
        try:
            for each in nodes:
                link.admit(each.name, each.credentials.certificate)
                each.start(link.address)
            until(lambda: set(link.online()) == set(names))
            yield link, authority
        finally:
            for each in nodes:
                each.end()


def until(holds: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.01)


def asked(transport: FleetTransport, payload: bytes = b"", **more: object) -> Mapping[int, Answer]:
    """One exchange with every member of a transport."""
    wanted = {
        "kind": "train",
        "deadline_s": PATIENCE_S,
        "needed": list(transport.names),
        "grace_s": 0.0,
        **more,
    }
    request = RosterNotice(run=bytes(32), offers=())
    requests = dict.fromkeys(transport.names, (request, payload))
    return transport.exchange(requests, **wanted)  # type: ignore[arg-type]


def deadlines_on_call(patch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Put the clock of exchanges forward by a day when told to: deadlines that are long until then.

    A short one can be over before a machine that does other work beside has come to what is to be
    shown within it.
    """
    ahead_s = [0.0]

    def monotonic() -> float:
        return time.monotonic() + ahead_s[0]

    def up() -> None:
        ahead_s[0] += 86_400

    clock = SimpleNamespace(time=time.time, monotonic=monotonic)
    patch.setattr(fleet_transport, "time", clock)
    return up


def app_of(answer: Callable[[Message], object]) -> ClientApp:
    """An app that does something, and then accepts."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        del context
        said = answer(message)
        return Message(record_of(pack(Refused(member="app", reason=str(said)))), reply_to=message)

    return app


def reasons(found: Mapping[int, Answer]) -> list[str]:
    return [reply.reason for reply, _ in found.values() if isinstance(reply, Refused)]


def kept(fleet: Fleet) -> list[int]:
    """How much of any message Flower's in-memory state still holds."""
    state = fleet.state
    return [
        state.num_message_ins(),
        state.num_message_res(),
        len(state.object_store),
        len(state._object_push_sessions),  # type: ignore[attr-defined]
        len(fleet.handed) + len(fleet.begun),
    ]
