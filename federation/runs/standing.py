"""A run under way, as long as its launcher takes part, and with the members that still do."""

from collections.abc import Callable, Collection, Mapping

from aggregator.ports import Answer, Transport
from federation.runs.order import Order
from privacy.errors import RefusedError
from privacy.messages import Refused, Request

Left = Callable[[Collection[bytes]], Collection[bytes]]
"""Of these public keys, those whose holders take part in the federation no more."""


class StandingTransport:
    """`aggregator.ports.Transport` that asks nobody who was revoked, and takes no answer of it.

    To the run it is a member that is away. Whoever refuses because of a revocation read it in this
    coordinator's ledger, so it is seen here before that answer is used.
    """

    def __init__(self, carrier: Transport, order: Order, left: Left) -> None:
        self._carrier = carrier
        self._order = order
        self._left = left
        self._keys = order.manifest.directory_keys()

    @property
    def names(self) -> Mapping[int, str]:
        """See the port."""
        return self._carrier.names

    def nodes(self) -> tuple[int, ...]:
        """See the port.

        Raises:
            RefusedError: Who launched the run was revoked.
        """
        self._require_launcher()
        out = self._out()
        return tuple(node for node in self._carrier.nodes() if node not in out)

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
        """See the port.

        Raises:
            RefusedError: Who launched the run was revoked.
        """
        self._require_launcher()
        out = self._out()
        answers = self._carrier.exchange(
            {node: asked for node, asked in requests.items() if node not in out},
            kind=kind,
            deadline_s=deadline_s,
            needed=[node for node in needed if node not in out],
            grace_s=grace_s,
            enough=enough,
        )
        if any(isinstance(reply, Refused) for reply, _ in answers.values()):
            self._require_launcher()  # that may be why
        out = self._out()
        return {node: answer for node, answer in answers.items() if node not in out}

    def _require_launcher(self) -> None:
        if self._left({self._order.key}):
            raise RefusedError(
                f"{self._order.launcher}, who launched this run, takes part in the federation no "
                "more; a member launches a new one."
            )

    def _out(self) -> frozenset[int]:
        """Addresses of members that were revoked."""
        gone = frozenset(self._left(frozenset(self._keys.values())))
        return frozenset(
            node for node, name in self._carrier.names.items() if self._keys.get(name) in gone
        )
