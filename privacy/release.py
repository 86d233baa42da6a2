"""Leave to release one payload: given by a budget once its cost is on disk, good for one use."""

import threading
from typing import Final, NoReturn

from privacy.canonical import canonical_json
from privacy.errors import RefusedError
from privacy.ledger.head import LedgerHead

ABORT_DOMAIN: Final = "abort"


class ReleaseToken:
    """That one release is on record. It lets one payload leave, or is taken back, never both.

    Attributes:
        run: The run's id.
        step: One of the ledger's steps.
        round_number: Its round.
        head: The node's own ledger as it is on disk, the reservation included.
    """

    __slots__ = ("_lock", "_spent", "head", "round_number", "run", "step")

    def __init__(self, *, run: str, step: str, round_number: int, head: LedgerHead) -> None:
        self.run = run
        self.step = step
        self.round_number = round_number
        self.head = head
        self._spent = False
        self._lock = threading.Lock()

    def use(self) -> LedgerHead:
        """Let the payload leave, and return the ledger's head to be told with it.

        Raises:
            RefusedError: something left on this token already, or it was taken back.
        """
        self._spend("lets nothing more leave")
        return self.head

    def void(self) -> None:
        """Let nothing leave any more.

        Raises:
            RefusedError: something left already, or it was taken back before.
        """
        self._spend("cannot be taken back")

    def _spend(self, otherwise: str) -> None:
        with self._lock:
            if self._spent:
                raise RefusedError(
                    f"the reservation of {self.step} of round {self.round_number} of run "
                    f"{self.run} was used or taken back, so it {otherwise}"
                )
            self._spent = True

    def __reduce__(self) -> NoReturn:
        raise TypeError("leave to release is not copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("leave to release is not copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("leave to release is not copied")


def abort_message(run: str, step: str, round_number: int, *, dataset: str) -> bytes:
    """Return what a node signs in `ABORT_DOMAIN`: that nothing of this release left."""
    return canonical_json(["nothing left", run, step, round_number, dataset])
