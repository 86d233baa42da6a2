"""What a coordinator needs from outside: a courier, a ledger, a clock and somebody who watches."""

from collections.abc import Mapping
from typing import Protocol

from privacy.messages import Reply, Request, Vector

Answer = tuple[Reply, Vector | None]


class Transport(Protocol):
    """Carries requests to nodes and their replies back."""

    def nodes(self) -> tuple[int, ...]:
        """Addresses of the nodes that can be reached now."""
        ...

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, Vector | None]],
        *,
        kind: str,
        deadline_s: float,
    ) -> Mapping[int, Answer]:
        """Send one request to each node and wait for all replies, at most `deadline_s` seconds.

        Raises:
            ProtocolError: A node failed without an answer of its own, or sent what is no reply.
        """
        ...


class Ledger(Protocol):
    """Where a run's acts are recorded, before their consequences leave."""

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        """Append one entry, durably.

        Raises:
            InputError: It could not be written; then nothing may be released.
        """
        ...


class Observer(Protocol):
    """Told of progress; never asked."""

    def step(self, name: str) -> None:
        """A step of the run began."""
        ...

    def round(self, index: int, metrics: Mapping[str, float], facts: Mapping[str, float]) -> None:
        """A round was committed.

        Args:
            index: From 1.
            metrics: Of the members' validation parts; empty where the round was not evaluated.
            facts: `seconds`, and `bytes_up` and `bytes_down` of one member.
        """
        ...
