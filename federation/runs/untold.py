"""Members that have not heard of a run's end, and hold its keys until they do: in its folder."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from federation.home import write_bytes
from privacy.errors import InputError
from privacy.json_value import json_value

FILE: Final = "untold.json"


def keep_untold(folder: Path, members: Iterable[str]) -> None:
    """Remember whom to tell; nobody: there is nothing to remember any more.

    Raises:
        InputError: The disk refuses.
    """
    names = sorted(members)
    path = folder / FILE
    if names:
        write_bytes(path, json.dumps(names).encode())
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as failure:
        raise InputError(f"{path}: cannot be removed ({failure.strerror}).") from None


def read_untold(folder: Path) -> frozenset[str]:
    """Return whom to tell; nobody where nothing is kept, or what is kept cannot be read."""
    try:
        names = json_value((folder / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(names, list):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str))
