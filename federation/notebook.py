"""What a coordinator writes down of a run, in the run's folder: `aggregator.ports.Notebook`.

    <run>/progress/state        where the run stands
    <run>/progress/<sha256>     payloads of opened sums that some member has not seen yet

Payloads are sums, which the coordinator may read anyhow (or cannot, where they are sealed).
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.home import write_bytes
from privacy.errors import InputError, NotVerifiedError

FOLDER: Final = "progress"
_STATE: Final = "state"


@dataclass(frozen=True, slots=True)
class FolderNotebook:
    """See the module.

    Attributes:
        run: The run's folder.
    """

    run: Path

    def read(self) -> bytes | None:
        """See the port."""
        try:
            return (self._folder / _STATE).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as failure:
            raise InputError(f"{self._folder}: cannot be read ({failure.strerror}).") from None

    def write(self, state: bytes) -> None:
        """See the port."""
        self._make()
        write_bytes(self._folder / _STATE, state)

    def keep(self, payload: bytes) -> str:
        """See the port."""
        name = hashlib.sha256(payload).hexdigest()
        self._make()
        if not (self._folder / name).exists():
            write_bytes(self._folder / name, payload)
        return name

    def kept(self, name: str) -> bytes:
        """See the port."""
        try:
            payload = (self._folder / name).read_bytes()
        except OSError:
            payload = b""
        if hashlib.sha256(payload).hexdigest() != name:
            raise NotVerifiedError(f"{self._folder / name} is not what was kept; launch a new run.")
        return payload

    def keep_only(self, names: Collection[str]) -> None:
        """See the port."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if path.name != _STATE and path.name not in names:
                path.unlink(missing_ok=True)

    @property
    def _folder(self) -> Path:
        return self.run / FOLDER

    def _make(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise InputError(
                f"{self._folder}: cannot be made ({failure.strerror}); free some space."
            ) from None
