"""Where runs, identities and the ledger are kept: one folder, one run at a time.

    <home>/ledger.db                        every act of every run, in a signed tree
    <home>/launcher.pem                     who starts runs from here
    <home>/coordinator.pem                  who signs the ledger; coordinator.next.pem: who will
    <home>/nodes/<contract>/<member>/       an embedded node's own folder: identity, ledger, log
    <home>/runs/<run>/                      manifest, rounds, result, model, curve of one run
    <home>/participant/                     this machine's place in a federation: keys, certificate
    <home>/federation/                      the operator's: the federation's root, certificates
    <home>/edge/                            edge bundles made here, devices' logs taken in
    <home>/node/                            a deployed node's own: ledger, policy, runs

A run's files appear whole or not at all: they are written beside and renamed.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from platformdirs import user_data_path

from clients.durable_file import write_whole
from privacy.errors import InputError, RefusedError
from privacy.json_value import json_value

HOME_VARIABLE = "TACIT_HOME"
LEDGER_VARIABLE = "TACIT_LEDGER"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Home:
    """One home folder."""

    root: Path

    @property
    def ledger(self) -> Path:
        """The ledger's file, where it is one."""
        return self.root / "ledger.db"

    @property
    def ledger_place(self) -> Path | str:
        """Where the ledger is kept: a database that TACIT_LEDGER names, else the file."""
        return os.environ.get(LEDGER_VARIABLE) or self.ledger

    @property
    def coordinator(self) -> Path:
        """The identity that signs the ledger."""
        return self.root / "coordinator.pem"

    @property
    def launcher(self) -> Path:
        """The launcher's identity."""
        return self.root / "launcher.pem"

    @property
    def participant(self) -> Path:
        """This machine's place in a federation."""
        return self.root / "participant"

    @property
    def authority(self) -> Path:
        """The federation's root and what it certified; the operator's alone."""
        return self.root / "federation"

    @property
    def own_node(self) -> Path:
        """The folder of the one node that this machine is in a federation with."""
        return self.root / "node"

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.root / "runs"

    @property
    def edge(self) -> Path:
        """Edge bundles that were made here, and logs of devices that were taken in."""
        return self.root / "edge"

    def node(self, contract: str, member: str) -> Path:
        """An embedded node's own folder; a member's name cannot lead out of it."""
        return self.root / "nodes" / contract / quote(member, safe=" ").replace(".", "%2E")

    def new_run(self, name: str, now: datetime) -> str:
        """A run id that this home does not hold yet."""
        return f"{now:%Y%m%d-%H%M%S}-{name}-{secrets.token_hex(2)}"

    def run(self, run: str) -> Path:
        """The folder of an existing run; a unique part of its id, or `last`, will do.

        Raises:
            InputError: There is no such run, or several.
        """
        known = self.run_ids()
        if not known:
            raise InputError(f"There are no runs in {self.root}; start one with tacit run launch.")
        if run == "last":
            return self.runs / known[-1]
        if run in known:
            return self.runs / run
        found = [one for one in known if run and run in one]
        if len(found) != 1:
            what = "is no run" if not found else f"could be any of {len(found)} runs"
            raise InputError(f"{run} {what} in {self.root}; see tacit run list.")
        return self.runs / found[0]

    def run_ids(self) -> list[str]:
        """All runs, oldest first."""
        if not self.runs.is_dir():
            return []
        return sorted(
            path.name
            for path in self.runs.iterdir()
            if path.is_dir() and RUN_NAME.fullmatch(path.name)
        )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the home for one run.

        Raises:
            RefusedError: Another run holds it.
            InputError: The folder cannot be written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # a second, because `tacit run list` holds it for a moment to see whether it is free
            lock = FileLock(self.root / "lock", timeout=1)
            lock.acquire()
        except Timeout:
            raise RefusedError(
                f"Another run is using {self.root}; wait for it, or set {HOME_VARIABLE} to "
                "another folder."
            ) from None
        except OSError as failure:
            raise InputError(
                f"{self.root}: cannot be written ({failure.strerror}); set {HOME_VARIABLE} to a "
                "folder that can."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def is_busy(self) -> bool:
        """Whether a run holds the home now."""
        try:
            with FileLock(self.root / "lock", timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False


def open_home(given: Path | None = None) -> Home:
    """The home: what was given, else $TACIT_HOME, else the platform's data folder."""
    chosen = given or os.environ.get(HOME_VARIABLE) or user_data_path("tacit")
    return Home(Path(chosen).expanduser().absolute())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: The disk refuses.
    """
    try:
        write_whole(path, data)
    except OSError as failure:
        raise InputError(
            f"{path}: cannot be written ({failure.strerror}); free some space or choose another "
            "folder."
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote.

    Raises:
        InputError: It is missing or is none.
    """
    try:
        value = json_value(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read; the run may have been stopped early.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: is no record of a run.")
    return value
