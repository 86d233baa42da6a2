"""Where a witness finds logs: a registry, a bundle, a home."""

from typing import NamedTuple, Protocol

from privacy.errors import RefusedError
from privacy.ledger.note import VerifierKey
from privacy.ledger.rotation import Rotation


class AbsentError(RefusedError):
    """What was asked about is not there."""


class LogInfo(NamedTuple):
    """What a source says of a log; nothing of it is verified.

    Attributes:
        origin: Its name in checkpoints.
        size: How many entries it has.
        key: The log's first key; None where the source does not know it.
    """

    origin: str
    size: int
    key: VerifierKey | None


class Source(Protocol):
    """What a witness asks; each call may raise `TacitError`."""

    @property
    def place(self) -> str:
        """What it is, for sentences to people."""
        ...

    def logs(self) -> tuple[LogInfo, ...]:
        """Return all logs."""
        ...

    def checkpoint(self, origin: str) -> bytes:
        """Return the newest signed note.

        Raises:
            AbsentError: there is none, or no such log.
        """
        ...

    def consistency(self, origin: str, old: int, new: int) -> tuple[bytes, ...]:
        """Return what shows that the first `new` entries begin with the first `old`.

        Raises:
            AbsentError: there are not so many entries.
        """
        ...

    def rotations(self, origin: str, old: int, new: int) -> tuple[Rotation, ...]:
        """Return the changes of a log's key among its entries from `old` to before `new`.

        Each has the proof that it is in the state of `new` entries.

        Raises:
            AbsentError: there are not so many entries.
        """
        ...

    def submit(self, origin: str, size: int, line: str) -> None:
        """Take a cosignature (`NoteSignature.to_line`) of the note of this size."""
        ...
