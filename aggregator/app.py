"""The Flower ServerApp of a coordinator, and its transport over any Flower `Grid`.

Flower is a courier here: what it carries is signed and sealed inside.
"""

import time
from collections.abc import Callable, Collection, Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from aggregator.ports import Answer
from privacy.errors import ProtocolError
from privacy.messages import Parcel, Refused, Request, pack, unpack_reply

_SHORTEST_WAIT_S = 0.001


def server_app(carry_out: Callable[["GridTransport"], None]) -> ServerApp:
    """The app that carries out one run over whatever grid it is given."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        carry_out(GridTransport(grid))

    return app


class GridTransport:
    """`aggregator.ports.Transport` over Flower's messages."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    @property
    def names(self) -> Mapping[int, str]:
        """See the port. A grid within this machine has no other proof of who speaks."""
        return {}

    def nodes(self) -> tuple[int, ...]:
        """Flower's ids of the nodes that are online."""
        return tuple(self._grid.get_node_ids())

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
        """See the port. All nodes are at hand here, so `enough` says nothing new."""
        del enough
        started = time.monotonic()
        waiting = set(
            self._grid.push_messages(
                [
                    Message(record_of(pack(request, payload)), node, kind)
                    for node, (request, payload) in requests.items()
                ]
            )
        )
        answers: dict[int, Answer] = {}
        missing, end = set(needed), started + deadline_s
        while waiting:
            for reply in self._grid.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                node = reply.metadata.src_node_id
                missing.discard(node)
                if not reply.has_error() and node in requests and node not in answers:
                    answers[node] = answer_in(reply.content)
            now = time.monotonic()
            if not missing and end > now + grace_s:
                end = now + grace_s
            if now >= end:
                break
            # short waits while a step is young, rare questions when it takes long
            time.sleep(min(max(0.02 * (now - started), _SHORTEST_WAIT_S), 1.0, end - now))
        return answers


def answer_in(content: RecordDict) -> Answer:
    """What a node answered; where it cannot be read, a `Refused` that says so."""
    try:
        return unpack_reply(_parcel(content))
    except ProtocolError as fault:
        return Refused(member="a node", reason=str(fault)), b""


def record_of(parcel: Parcel, arrays: dict[int, ArrayRecord] | None = None) -> RecordDict:
    """What travels: one record with the message, and one flat array where there is a payload.

    Args:
        parcel: What is packed.
        arrays: Those made so far, by the identity of their payload; one that several nodes get is
            made once.
    """
    record = RecordDict({"message": ConfigRecord({"bytes": parcel.message})})
    if parcel.payload:
        known = arrays.get(id(parcel.payload)) if arrays is not None else None
        if known is None:
            array = Array("|u1", (len(parcel.payload),), "tacit.v2", parcel.payload)
            known = ArrayRecord({"payload": array})
        if arrays is not None:
            arrays[id(parcel.payload)] = known
        record["payload"] = known
    return record


def _parcel(content: RecordDict) -> Parcel:
    try:
        message = content.config_records["message"]["bytes"]
        if not isinstance(message, bytes):
            raise ProtocolError("A reply came without its bytes.")
        if "payload" not in content.array_records:
            return Parcel(message)
        array = content.array_records["payload"]["payload"]
    except KeyError:
        raise ProtocolError("A reply came without one of its parts.") from None
    return Parcel(message, array.data)
