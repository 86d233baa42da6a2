"""Which files of a home are sealed, under which kind and id; and sealing what still lies open.

    <node>/sessions/<run>/<part>             session   <run>/<part>
    <node>/review/<data set>/<name>.json     review    <data set>/<name>
    <node>/runs/<run>/model.safetensors      model     <run>
    <home>/runs/<run>/model*.safetensors     model     <run>, with the fold's ending
    <home>/tables/<name>                     table     <name>

A model has one label wherever it lies, so its sealed file is copied as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients.durable_file import write_whole
from clients.review_store import FOLDER as REVIEWS
from clients.session_file import FOLDER as SESSIONS
from clients.vault import KeyService, Label, is_sealed_file, rewrap, unseal
from clients.vault_folder import SEALED_CLASSES
from privacy.errors import DamagedFileError, InputError, NotVerifiedError
from privacy.randomness import Entropy

TABLES: Final = "tables"
RUNS: Final = "runs"
WEIGHTS: Final = "model"
_ENDING: Final = ".safetensors"


@dataclass(frozen=True, slots=True)
class Kept:
    """A file, and what it is sealed as."""

    path: Path
    kind: str
    id: str

    def labels(self) -> tuple[Label, ...]:
        """The labels that it may have; the class of its columns is told by opening it."""
        return tuple(Label(self.kind, self.id, one) for one in SEALED_CLASSES)

    def is_sealed(self) -> bool:
        """Whether it is now.

        Raises:
            InputError: It cannot be read.
        """
        return is_sealed_file(self.path)


def kept_files(node: Path) -> Iterator[Kept]:
    """All files of a node's folder, and of the home around it, that may be sealed."""
    for path in _below(node / SESSIONS, "*/*"):
        yield Kept(path, "session", f"{path.parent.name}/{path.name}")
    for path in _below(node / REVIEWS, "*/*.json"):
        yield Kept(path, "review", f"{path.parent.name}/{path.stem}")
    for path in _below(node / RUNS, f"*/{WEIGHTS}{_ENDING}"):
        yield Kept(path, "model", path.parent.name)
    for path in _below(node.parent / RUNS, f"*/{WEIGHTS}*{_ENDING}"):
        fold = path.name.removeprefix(WEIGHTS).removesuffix(_ENDING)
        yield Kept(path, "model", f"{path.parent.name}{fold}")
    for path in _below(node.parent / TABLES, "*"):
        yield Kept(path, "table", path.name)


def label_of(kept: Kept, keys: KeyService) -> Label:
    """Open a sealed file, and return what it is sealed as.

    Raises:
        NotVerifiedError: It is damaged, was moved, or is of another key.
        InputError: It or the key cannot be read now.
    """
    data = _read(kept.path)
    for label in kept.labels():
        try:
            unseal(data, label, keys)
        except NotVerifiedError:
            continue
        return label
    raise DamagedFileError(
        f"{kept.path}: is damaged, or sealed with another key; restore it from a copy, or take it "
        "away, and run this again."
    )


def sealed_again(kept: Kept, old: KeyService, new: KeyService, *, entropy: Entropy) -> None:
    """Seal a file under another master key, in its place: it is the one or the other, whole.

    Raises:
        NotVerifiedError: It opens under neither.
        InputError: It or a key cannot be read, or the disk refuses.
    """
    try:
        label_of(kept, new)
    except NotVerifiedError:
        label = label_of(kept, old)
        data = rewrap(_read(kept.path), label, old, new, entropy=entropy)
        try:
            write_whole(kept.path, data, mode=0o600)
        except OSError as failure:
            raise InputError(
                f"{kept.path}: cannot be written ({failure.strerror}); free some space, and run "
                "this again."
            ) from None


def _below(folder: Path, pattern: str) -> list[Path]:
    found = folder.glob(pattern) if folder.is_dir() else ()
    return sorted(one for one in found if one.is_file() and not one.name.startswith("."))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None
