"""How much went over the wire between the coordinator and the nodes, as messages and bytes."""

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aggregator.ports import Answer, Transport
from federation.operations.metric import Metric, labelled
from privacy.messages import Reply, Request, pack

Way = Literal["in", "out"]


@dataclass(slots=True)
class Traffic:
    """Counts since the process started; safe for any number of threads."""

    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _messages: dict[str, int] = field(default_factory=lambda: {"in": 0, "out": 0})
    _bytes: dict[str, int] = field(default_factory=lambda: {"in": 0, "out": 0})

    def add(self, way: Way, size_bytes: int) -> None:
        """Count one message."""
        with self._mutex:
            self._messages[way] += 1
            self._bytes[way] += size_bytes

    def metrics(self) -> Iterator[Metric]:
        """Yield both counts."""
        with self._mutex:
            messages = {way: float(count) for way, count in self._messages.items()}
            sizes = {way: float(size) for way, size in self._bytes.items()}
        yield labelled(
            "tacit_messages_total",
            "Messages of runs between coordinator and nodes.",
            "counter",
            "way",
            messages,
        )
        yield labelled(
            "tacit_message_bytes_total",
            "Bytes of these messages, without what the courier adds.",
            "counter",
            "way",
            sizes,
        )


class CountedTransport:
    """`aggregator.ports.Transport` that counts what another one carries."""

    def __init__(self, carrier: Transport, traffic: Traffic) -> None:
        self._carrier = carrier
        self._traffic = traffic

    @property
    def names(self) -> Mapping[int, str]:
        """As the carrier says."""
        return self._carrier.names

    def nodes(self) -> tuple[int, ...]:
        """As the carrier says."""
        return self._carrier.nodes()

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
        """See the port."""
        for request, payload in requests.values():
            self._traffic.add("out", _bytes_of(request, payload))
        answers = self._carrier.exchange(
            requests,
            kind=kind,
            deadline_s=deadline_s,
            needed=needed,
            grace_s=grace_s,
            enough=enough,
        )
        for reply, payload in answers.values():
            self._traffic.add("in", _bytes_of(reply, payload))
        return answers


def _bytes_of(message: Request | Reply, payload: bytes) -> int:
    return len(pack(message, b"").message) + len(payload)
