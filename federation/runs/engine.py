"""What carries out a run: the coordinator's half, over the messages of a SuperLink."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from aggregator import coordinator
from aggregator.coordinator import RunResult
from aggregator.ports import Answer, Ledger, Observer, Transport
from federation.notebook import FolderNotebook
from federation.operations.traffic import CountedTransport, Traffic
from federation.runs.order import Order
from federation.runs.standing import Left, StandingTransport
from privacy.errors import RefusedError
from privacy.manifest import Manifest
from privacy.messages import Request


class Engine(Protocol):
    """Carries out runs, any number side by side."""

    def carry_out(
        self, order: Order, folder: Path, *, stop: threading.Event, observer: Observer
    ) -> RunResult:
        """Carry out a run from where its folder says it is.

        Raises:
            TacitError: It cannot go on; also where `stop` is set.
        """
        ...

    def witness(self, manifest: Manifest, *, stop: threading.Event, observer: Observer) -> int:
        """Let a run's members cosign the ledger as it is now; how many did.

        Raises:
            TacitError: It cannot be shown to them.
        """
        ...

    def dismiss(self, manifest: Manifest, members: Collection[str]) -> tuple[str, ...]:
        """Tell members that a run goes on without them, for good; return who has not heard it.

        Raises:
            TacitError: They cannot be told.
        """
        ...

    def online(self, manifest: Manifest) -> frozenset[str]:
        """Which of a run's members can be reached now."""
        ...


class Links(Protocol):
    """What reaches the members; `federation.engine.superlink` has one."""

    def transport(
        self, run: str, members: Sequence[str], *, stop: threading.Event
    ) -> AbstractContextManager[Transport]:
        """Return a courier between the coordinator and these members, for one run."""
        ...


class CountedLinks:
    """`Links` that counts what goes over another one."""

    def __init__(self, links: Links, traffic: Traffic) -> None:
        self._links = links
        self._traffic = traffic

    @contextmanager
    def transport(
        self, run: str, members: Sequence[str], *, stop: threading.Event
    ) -> Iterator[Transport]:
        """See the Protocol."""
        with self._links.transport(run, members, stop=stop) as carrier:
            yield CountedTransport(carrier, self._traffic)


class LinkedEngine:
    """`Engine` over links to the members' nodes."""

    def __init__(self, links: Links, ledger: Ledger, *, left: Left) -> None:
        """Ask nobody yet.

        Args:
            links: Reach the members.
            ledger: The coordinator's.
            left: Of public keys, those whose holders take part in the federation no more.
        """
        self._links = links
        self._ledger = ledger
        self._left = left

    def carry_out(
        self, order: Order, folder: Path, *, stop: threading.Event, observer: Observer
    ) -> RunResult:
        """See the Protocol."""
        with self._links.transport(order.run, order.manifest.members, stop=stop) as transport:
            carrier: Transport = StandingTransport(transport, order, self._left)
            if self._ledger.recorded("run.finished", {"run": order.run}) is not None:
                carrier = transport  # who missed its end is brought to it, whoever left since
            return coordinator.run(
                order.manifest,
                order.signature,
                launcher=order.key,
                data=order.data,
                rules=order.rules,
                transport=StoppableTransport(carrier, stop),
                ledger=self._ledger,
                observer=observer,
                notebook=FolderNotebook(folder),
            )

    def witness(self, manifest: Manifest, *, stop: threading.Event, observer: Observer) -> int:
        """See the Protocol."""
        with self._links.transport(manifest.run, manifest.members, stop=stop) as transport:
            return coordinator.witness(
                manifest, transport=transport, ledger=self._ledger, observer=observer
            )

    def dismiss(self, manifest: Manifest, members: Collection[str]) -> tuple[str, ...]:
        """See the Protocol."""
        stop = threading.Event()
        with self._links.transport(manifest.run, manifest.members, stop=stop) as transport:
            return coordinator.dismiss(manifest, transport=transport, members=members)

    def online(self, manifest: Manifest) -> frozenset[str]:
        """See the Protocol."""
        stop = threading.Event()
        with self._links.transport(manifest.run, manifest.members, stop=stop) as transport:
            return frozenset(transport.names[node] for node in transport.nodes())


class StoppableTransport:
    """`aggregator.ports.Transport` that carries nothing more once `stop` is set.

    A courier that waits for an answer sees it by itself; here it is seen between two exchanges too,
    as while nobody is online and members are asked again and again.
    """

    def __init__(self, carrier: Transport, stop: threading.Event) -> None:
        self._carrier = carrier
        self._stop = stop

    @property
    def names(self) -> Mapping[int, str]:
        """See the port."""
        return self._carrier.names

    def nodes(self) -> tuple[int, ...]:
        """See the port.

        Raises:
            RefusedError: `stop` is set.
        """
        self._require_going()
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
        """See the port.

        Raises:
            RefusedError: `stop` is set.
        """
        self._require_going()
        return self._carrier.exchange(
            requests,
            kind=kind,
            deadline_s=deadline_s,
            needed=needed,
            grace_s=grace_s,
            enough=enough,
        )

    def _require_going(self) -> None:
        if self._stop.is_set():
            raise RefusedError("The run was stopped.")
