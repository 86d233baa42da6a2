"""What a launcher asks a coordinator for, and how it lies in the run's folder.

    <run>/manifest.json  what the launcher signed
    <run>/manifest.sig   its signature
    <run>/order.json     who it was, and what the ledger is to be told beside

The folder appears whole or not at all, so what has one can be carried out again after a crash.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from federation.home import read_json, write_bytes, write_json
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.manifest import Manifest

FILE: Final = "order.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One run, as it was asked for.

    Attributes:
        manifest: What was agreed.
        signature: The launcher's, over the manifest's bytes.
        launcher: The launcher's name.
        key: The launcher's public key.
        data: The body of `data.declared`, without the run.
        rules: The body of `rules.checked`, without the run.
        launched_ms: When it was taken, in milliseconds since 1970 UTC.
    """

    manifest: Manifest
    signature: bytes
    launcher: str
    key: bytes
    data: Mapping[str, Any]
    rules: Mapping[str, Any]
    launched_ms: int

    @property
    def run(self) -> str:
        """The run's name."""
        return self.manifest.run

    def is_same(self, other: "Order") -> bool:
        """Whether both ask for the same run, in the same words."""
        return (self.manifest, self.signature, self.launcher) == (
            other.manifest,
            other.signature,
            other.launcher,
        )


def keep_order(order: Order, folder: Path) -> None:
    """Make a run's folder.

    Raises:
        InputError: It cannot be made.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write_bytes(part / "manifest.json", order.manifest.to_bytes())
        write_bytes(part / "manifest.sig", order.signature)
        write_json(
            part / FILE,
            {
                "launcher": order.launcher,
                "key": order.key.hex(),
                "data": dict(order.data),
                "rules": dict(order.rules),
                "launched_ms": order.launched_ms,
            },
        )
        part.rename(folder)
        _sync(folder.parent)
    except OSError as failure:
        raise InputError(f"{folder}: cannot be made ({failure.strerror}).") from None


def read_order(folder: Path) -> Order:
    """Read what `keep_order` wrote.

    Raises:
        InputError: It is not there.
        NotVerifiedError: It was changed.
    """
    kept = read_json(folder / FILE)
    try:
        return Order(
            manifest=Manifest.from_bytes((folder / "manifest.json").read_bytes()),
            signature=(folder / "manifest.sig").read_bytes(),
            launcher=str(kept["launcher"]),
            key=bytes.fromhex(kept["key"]),
            data=dict(kept["data"]),
            rules=dict(kept["rules"]),
            launched_ms=int(kept["launched_ms"]),
        )
    except (OSError, KeyError, TypeError, ValueError, ProtocolError):
        raise NotVerifiedError(
            f"{folder} does not hold what was launched; stop the run and launch it again"
        ) from None


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
