"""`tacit node leave`: a node leaves a run because a person says so.

    <node>/leaving/<digest>.json    a run that is to be left; gone once it was

The running node looks there every few seconds. Where none runs, whoever asks leaves the run itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients.session_file import kept_runs, read_pointer
from federation.home import read_json, write_json
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.entry import is_hex64
from privacy.ledger.sqlite import SqliteLedger

FOLDER: Final = "leaving"
REASON_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A run that a node has keys of.

    Attributes:
        digest: Of its manifest.
        run: Its name; empty where what is kept of it is damaged.
    """

    digest: bytes
    run: str


def under_way(ledger: SqliteLedger) -> tuple[UnderWay, ...]:
    """Return the runs that a node has keys of.

    Raises:
        InputError: Its ledger cannot be read.
        NotVerifiedError: It is none.
    """
    found: list[UnderWay] = []
    for digest in kept_runs(ledger):
        try:
            pointer = read_pointer(ledger, digest)
        except NotVerifiedError:
            found.append(UnderWay(digest, ""))
            continue
        if pointer is not None and pointer.state:
            found.append(UnderWay(digest, pointer.run))
    return tuple(found)


def find_under_way(ledger: SqliteLedger, run: str) -> UnderWay:
    """Return the one run under way that `run` names: its id, a part of it, or its digest.

    Raises:
        InputError: None is named, or several are; or the node's ledger cannot be read.
    """
    known = under_way(ledger)
    found = [one for one in known if run in {one.run, one.digest.hex()}] or [
        one for one in known if run and (run in one.run or one.digest.hex().startswith(run))
    ]
    if len(found) != 1:
        what = "no run that is under way here" if not found else f"any of {len(found)} runs here"
        raise InputError(f"{run} names {what}; see tacit node status.")
    return found[0]


def checked_reason(reason: str) -> str:
    """Return a reason as it is kept.

    Raises:
        InputError: It cannot be kept.
    """
    text = " ".join(reason.split()).rstrip(".")
    if not text or len(text) > REASON_CHARACTERS_MAX or not text.isprintable():
        raise InputError(
            f"--reason: is printable text of at most {REASON_CHARACTERS_MAX} characters; "
            "write one, or a shorter one."
        )
    return text


def ask_to_leave(folder: Path, one: UnderWay, reason: str) -> Path:
    """Have a run left by whoever looks first; the file is gone once it was.

    Args:
        folder: The node's.
        one: The run.
        reason: As `checked_reason` returned it.

    Raises:
        InputError: The folder cannot be written.
    """
    path = folder / FOLDER / f"{one.digest.hex()}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise InputError(
            f"{folder}: cannot be written ({failure.strerror}); give it to this user."
        ) from None
    write_json(path, {"run": one.run, "reason": reason})
    return path


def take_leaves(folder: Path, leave: Callable[[bytes, str], object]) -> None:
    """Leave all runs that are to be left.

    Args:
        folder: The node's.
        leave: Leaves the run of that digest, for that reason.
    """
    where = folder / FOLDER
    if not where.is_dir():
        return
    for path in sorted(where.glob("*.json")):
        if not is_hex64(path.stem):
            continue
        try:
            reason = str(read_json(path).get("reason", ""))
        except InputError:
            reason = ""  # whoever wrote it was stopped half-way; that the run is to go is clear
        leave(bytes.fromhex(path.stem), reason or "a person here said so")
        path.unlink(missing_ok=True)
