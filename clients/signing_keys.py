"""What a node signs by beside its identity, and by what others did when it met them first.

    <home>/signing-<suite>-<identity>   the seed of its own key, readable by its owner alone
    <home>/ledger.db                    beside its entries: identity and suite -> hash of the key

A key is stated in a run's offers, signed by its member's identity. Who forges that signature could
state another: so a node remembers the key of each identity that it was once in a run with, and goes
into no run where the same identity states another. A member that has lost its key changes its
identity, and is met anew.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from clients.durable_file import make_folder
from privacy.errors import InputError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.ledger.sqlite import SqliteLedger
from privacy.randomness import Entropy
from privacy.secure_sum.keys import Roster
from privacy.suites import require_here
from privacy.suites.voice import SEED_BYTES, Voice
from privacy.whole_file import sync_folder

_NAMED: Final = 16
_NOTE: Final = "signing"


class SigningKeys:
    """See the module. They belong to one node."""

    def __init__(
        self, home: Path, identity: Identity, ledger: SqliteLedger, entropy: Entropy
    ) -> None:
        """Nothing is read or written yet.

        Args:
            home: The node's folder.
            identity: Its own.
            ledger: Its own, in that folder.
            entropy: Makes seeds.
        """
        self._home = home
        self._identity = identity
        self._ledger = ledger
        self._entropy = entropy
        self._voices: dict[str, Voice] = {}

    def voice(self, suite: str) -> Voice:
        """Return what this node signs by in runs of a suite; its key is made the first time.

        Raises:
            ProtocolError: there is no such suite.
            RefusedError: this machine has no such suite, or the node's folder cannot be used.
        """
        if suite not in self._voices:
            one = require_here(suite)
            seed = self._seed(suite) if one.signs_beside else b""
            self._voices[suite] = Voice(self._identity, one, seed)
        return self._voices[suite]

    def require_known(self, roster: Roster) -> None:
        """Return if each member states the key that it stated before; remember the new ones.

        Raises:
            ProtocolError: one states another: it was set back, or somebody signs in its name.
            RefusedError: the node's folder cannot be used.
        """
        if not roster.suite.signs_beside:
            return
        try:
            new = {}
            for member in roster.members:
                name = f"{_NOTE}/{roster.suite.id}/{roster.directory[member].hex()}"
                stated = hashlib.sha256(roster.beside_of(member)).digest()
                known = self._ledger.note(name)
                if known is None:
                    new[name] = stated
                elif known != stated:
                    raise ProtocolError(
                        f"{member} signs by another key of the suite {roster.suite.id} than in "
                        "earlier runs; ask its people, who change its identity if that key is "
                        "lost: tacit federation rotate --identity"
                    )
            for name, stated in new.items():
                self._ledger.keep_note(name, stated)
        except InputError:
            raise RefusedError(
                "This node cannot use its own folder, and so joins no run."
            ) from None

    def _seed(self, suite: str) -> bytes:
        path = self._home / f"signing-{suite}-{self._identity.public.hex()[:_NAMED]}"
        try:
            if not path.exists():
                self._make(path)
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise RefusedError(f"Others may read the signing key {path.name}; run chmod 600.")
            seed = path.read_bytes()
        except OSError:
            raise RefusedError("This node cannot use the signing key in its folder.") from None
        if len(seed) != SEED_BYTES:
            raise RefusedError(
                f"The signing key {path.name} is damaged; restore it, or change the identity."
            )
        return seed

    def _make(self, path: Path) -> None:
        """Write a new seed, whole; where another process was first, its seed stays."""
        make_folder(self._home)
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._entropy(SEED_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                path.hardlink_to(part)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self._home)
