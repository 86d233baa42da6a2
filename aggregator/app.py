"""The Flower ServerApp of a coordinator, and its transport over any Flower `Grid`.

Flower is a courier here: what it carries is signed and sealed inside.
"""

from collections.abc import Callable, Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from aggregator.ports import Answer
from privacy.errors import ProtocolError
from privacy.messages import Parcel, Request, Vector, pack, unpack_reply


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

    def nodes(self) -> tuple[int, ...]:
        """Flower's ids of the nodes that are online."""
        return tuple(self._grid.get_node_ids())

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, Vector | None]],
        *,
        kind: str,
        deadline_s: float,
    ) -> Mapping[int, Answer]:
        """See the port."""
        messages = [
            Message(_record(pack(request, vector)), node, kind)
            for node, (request, vector) in requests.items()
        ]
        answers: dict[int, Answer] = {}
        for reply in self._grid.send_and_receive(messages, timeout=deadline_s):
            node = reply.metadata.src_node_id
            if reply.has_error():
                raise ProtocolError(f"Node {node} failed without an answer; its own log says why.")
            if node not in requests or node in answers:
                raise ProtocolError(f"Node {node} answered more than it was asked.")
            answers[node] = unpack_reply(_parcel(reply.content))
        return answers


def _record(parcel: Parcel) -> RecordDict:
    record = RecordDict({"message": ConfigRecord({"bytes": parcel.message})})
    if parcel.dtype:
        count = len(parcel.data) // int(parcel.dtype[-1])
        array = Array(parcel.dtype, (count,), "tacit.v1", parcel.data)
        record["vector"] = ArrayRecord({"vector": array})
    return record


def _parcel(content: RecordDict) -> Parcel:
    try:
        message = content.config_records["message"]["bytes"]
        if not isinstance(message, bytes):
            raise ProtocolError("A reply came without its bytes.")
        if "vector" not in content.array_records:
            return Parcel(message)
        array = content.array_records["vector"]["vector"]
    except KeyError:
        raise ProtocolError("A reply came without one of its parts.") from None
    return Parcel(message, array.dtype, array.data)
