"""Lets the members' nodes in to the engine, and out again, as the membership in the ledger says."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from privacy.errors import RefusedError, TacitError

if TYPE_CHECKING:
    from privacy.membership import Membership

LOOK_S: Final = 1.0
_LOG = logging.getLogger(__name__)


class Gate(Protocol):
    """Where nodes come in; `federation.engine.superlink` has one."""

    def admit(self, name: str, certificate_pem: bytes) -> None:
        """Let the node with this certificate in, as this member's; again is no harm."""

    def expel(self, name: str) -> None:
        """Let this member's node in no more."""


class Admission:
    """See the module."""

    def __init__(
        self,
        gate: Gate,
        *,
        membership: "Callable[[], Membership]",
        certificates: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """Look at nothing yet.

        Args:
            gate: Where nodes come in.
            membership: Says who is in the federation now.
            certificates: Says the newest certificate of each active participant, in PEM.
        """
        self._gate = gate
        self._membership = membership
        self._certificates = certificates
        self._mutex = threading.Lock()
        self._in: dict[str, bytes] = {}

    def look(self) -> None:
        """Bring the gate up to date.

        Raises:
            TacitError: The membership cannot be read, and whoever was in stays in; or some member
                cannot be let in.
        """
        with self._mutex:
            members = self._membership().members()
            due = {name: pem for name, pem in self._certificates().items() if name in members}
            for name in [name for name in self._in if name not in due]:
                self._gate.expel(name)
                del self._in[name]
                _LOG.info("%s is let in no more", name)
            failed: list[str] = []
            for name, pem in due.items():
                if self._in.get(name) == pem:
                    continue
                try:
                    self._gate.admit(name, pem)
                except TacitError as failure:
                    failed.append(str(failure))  # one member's fault keeps nobody else out
                    continue
                self._in[name] = pem
                _LOG.info("%s is let in", name)
            if failed:
                raise RefusedError("; ".join(failed))

    def follow(self, stop: threading.Event) -> None:
        """Look each second until `stop`; what fails is tried again."""
        failed = ""
        while not stop.wait(LOOK_S):
            try:
                self.look()
                failed = ""
            except TacitError as failure:
                if str(failure) != failed:
                    failed = str(failure)
                    _LOG.error("the membership cannot be followed: %s", failed)
            except Exception:  # noqa: BLE001 - whatever it is, revocations have to be followed
                _LOG.exception("following the membership failed inside")
