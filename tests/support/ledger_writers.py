"""Other processes at a ledger: `python ledger_writers.py TARGET VERB ARGUMENT...`.

Each says `ready`, waits for a line, does what it is asked, and says what came of it.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from federation.ledger_place import open_store
from privacy.errors import TacitError
from privacy.ledger.store import LedgerStore, append

NOBODY = 65534
CHILD_S = 60
LOOK_S = 0.02  # far longer than a turn
KIND = "run.stopped"


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def wait() -> None:
    sys.stdin.readline()


def act(run: str, reason: str = "by hand") -> dict[str, object]:
    """The body of an act that has a key."""
    return {"run": run, "reason": reason}


def reads(store: LedgerStore) -> list[Callable[[], object]]:
    """A call of each thing that reads a ledger."""
    return [store.size, lambda: list(store.leaves()), lambda: store.node(0, 0), store.checkpoints]


def writes(store: LedgerStore) -> list[Callable[[], object]]:
    """A call of each thing that writes one."""
    return [
        lambda: append(store, KIND, act("more"), time_ms=0),
        lambda: store.keep_checkpoint(1, b"note"),
        lambda: store.drop_checkpoint(1),
    ]


def everything(store: LedgerStore) -> list[Callable[[], object]]:
    """A call of each thing that a ledger is used for."""
    return [*reads(store), *writes(store)]


def write(store: LedgerStore, who: str, count: str) -> None:
    """So many acts, one in each turn."""
    for number in range(int(count)):
        append(store, KIND, act(f"{who}-{number}"), time_ms=number)
    say("done")


def grant(store: LedgerStore, who: str, cap: str) -> None:
    """As many as the ledger has room for: looked and written in the same turn."""
    granted, full = 0, False
    while not full:
        with store.turn() as turn:
            full = turn.size >= int(cap)
            if not full:
                turn.append(KIND, act(f"{who}-{granted}"), time_ms=0)
                granted += 1
    say(granted)


def grant_loosely(store: LedgerStore, who: str, cap: str) -> None:
    """As `grant`, but looked in one turn and written in the next."""
    granted = 0
    while True:
        with store.turn() as turn:
            full = turn.size >= int(cap)
        if full:
            break
        time.sleep(LOOK_S)
        append(store, KIND, act(f"{who}-{granted}"), time_ms=0)
        granted += 1
    say(granted)


def hang(store: LedgerStore, who: str, count: str) -> None:
    """Stay in a turn in which so much was appended, until a second line comes."""
    with store.turn() as turn:
        for number in range(int(count)):
            turn.append(KIND, act(f"{who}-{number}"), time_ms=0)
        say("in the turn")
        wait()
    say("done")


def fork(store: LedgerStore, who: str) -> None:
    """Parent and child append in turn; then the parent lets go, and the child appends once more."""
    append(store, KIND, act(f"{who}-before"), time_ms=0)
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        append(store, KIND, act(f"{who}-child"), time_ms=0)
        os.write(to_parent[1], b".")
        os.read(to_child[0], 1)
        append(store, KIND, act(f"{who}-child-alone"), time_ms=0)
        os._exit(0)
    os.read(to_parent[0], 1)
    append(store, KIND, act(f"{who}-parent"), time_ms=0)
    store.close()  # type: ignore[attr-defined]  # both stores have it
    os.write(to_child[1], b".")
    _, status = os.waitpid(child, 0)
    append(store, KIND, act(f"{who}-after"), time_ms=0)
    say(status, store.size())


def fork_and_hang(store: LedgerStore, who: str) -> None:
    """Stay in a turn for ever, with a child that lives on for a while."""
    append(store, KIND, act(f"{who}-before"), time_ms=0)
    with store.turn() as turn:
        turn.append(KIND, act(f"{who}-turn"), time_ms=0)
        if os.fork() == 0:
            os.closerange(0, 3)
            time.sleep(CHILD_S)
            os._exit(0)
        say("in the turn")
        wait()


def fork_in_turn(store: LedgerStore, who: str) -> None:
    """The child of a turn cannot commit it, nor anything else; the parent can."""
    append(store, KIND, act(f"{who}-before"), time_ms=0)
    child = status = -1
    try:
        with store.turn() as turn:
            turn.append(KIND, act(f"{who}-turn"), time_ms=0)
            child = os.fork()
            if child != 0:  # the child has ended before the turn does
                _, status = os.waitpid(child, 0)
    except TacitError:
        os._exit(42)
    if child == 0:
        os._exit(0)
    append(store, KIND, act(f"{who}-after"), time_ms=0)
    say(os.waitstatus_to_exitcode(status), store.size())


def read_as_nobody(store: LedgerStore, files: str) -> None:
    """How many entries a user sees who cannot write, in a copy of these files, or in `live`."""
    path = Path(store.place)
    if files != "live":
        folder = Path(tempfile.mkdtemp())
        for end in files.split(","):
            shutil.copy(f"{path}{end}", folder)
        folder.chmod(0o555)
        path = folder / path.name
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    copy = open_store(path)
    for _ in range(2):
        try:
            say(copy.size(), len(list(copy.leaves())))
        except TacitError as error:
            say(type(error).__name__)
        wait()


VERBS: dict[str, Callable[..., None]] = {
    verb.__name__: verb
    for verb in (
        write,
        grant,
        grant_loosely,
        hang,
        fork,
        fork_and_hang,
        fork_in_turn,
        read_as_nobody,
    )
}


def main(target: str, verb: str, *arguments: str) -> None:
    say("ready")
    wait()
    VERBS[verb](open_store(target), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
