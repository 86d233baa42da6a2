"""Whether what a node keeps of confidential rows is sealed on its disk."""

from collections.abc import Iterator
from pathlib import Path

from clients.session_file import FOLDER
from clients.vault import KEY_FILE, file_key, is_sealed
from federation.node_points.point import Point, sentence_of
from privacy.errors import TacitError
from privacy.randomness import system_bytes

_HEAD_BYTES = 64


def rest_points(folder: Path) -> Iterator[Point]:
    """The key, and the files of runs under way; nothing where there is no key yet."""
    path = folder / KEY_FILE
    if not path.exists():
        return
    try:
        file_key(path, system_bytes)
        kept = [one for one in (folder / FOLDER).glob("*/*") if one.is_file()]
        plain = sum(not is_sealed(_head(one)) for one in kept)
    except TacitError as fault:
        yield Point("at rest", "failed", sentence_of(fault), "Mend it before the node starts.")
        return
    except OSError:
        return  # a run came to its end meanwhile
    found = f"{len(kept)} files of runs under way, {plain} of them not sealed; the key is {path}."
    remedy = "They are sealed as their runs go on." if plain else ""
    yield Point("at rest", "warning" if plain else "ok", found, remedy)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)
