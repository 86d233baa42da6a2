"""What a home knows of the logs of terms that it wrote or read: how far they went, and whose.

    <home>/terms.json   the log's whole path -> lines, head, key of its last line

A log whose end was cut, or that was written anew, is found by it. Who can write the home's files
can change both; so it is worth keeping a head elsewhere all the same (`tacit terms log --head`).
"""

from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from clients.terms.log import Mark
from federation.home import Home, read_json, write_json
from federation.kept_identity import kept_identity
from privacy.errors import InputError
from privacy.identity import Identity
from privacy.randomness import Entropy

FILE: Final = "terms.json"


def home_identity(home: Home, entropy: Entropy, *, keep: bool = True) -> Identity:
    """The key that a home signs terms with: its participant's, else its launcher's, made once.

    Args:
        home: Whose.
        entropy: Makes it.
        keep: Whether one that is made stays: a dry run leaves a home as it is.

    Raises:
        InputError: It cannot be read or made.
    """
    own = home.participant / "identity.pem"
    if own.exists():
        return Identity.load(own)
    if not keep and not home.launcher.exists():
        return Identity.create(entropy)
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise InputError(f"{home.root}: cannot be written ({failure.strerror}).") from None
    with FileLock(home.root / ".launcher.lock"):
        return kept_identity(home.launcher, entropy)


def remembered(home: Home, log: Path) -> Mark | None:
    """How far a log was seen from this home; None: it never was.

    Raises:
        InputError: The home's memory is damaged.
    """
    found = _all(home).get(_name(log))
    if found is None:
        return None
    try:
        return Mark(int(found["lines"]), str(found["head"]), str(found["key"]))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{home.root / FILE}: is damaged; restore it from a copy.") from None


def remember(home: Home, log: Path, mark: Mark) -> None:
    """Keep how far a log went; an older mark never takes the place of a newer one.

    Raises:
        InputError: The home cannot be read or written.
    """
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(home.root / ".terms.lock"):
        before = remembered(home, log)
        if before is None or before.lines <= mark.lines:
            known = {"lines": mark.lines, "head": mark.head, "key": mark.key}
            write_json(home.root / FILE, {**_all(home), _name(log): known})


def _all(home: Home) -> dict[str, Any]:
    path = home.root / FILE
    return dict(read_json(path)) if path.exists() else {}


def _name(log: Path) -> str:
    return str(log.resolve())
