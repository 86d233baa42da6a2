"""Values that stand nowhere else, planted in L3 columns, and the search for them."""

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from support import tables
from support.deployed import Deployed, Machine

LOAD, AMOUNT, CODE = 0.271828183, 31337.062531, "canary-of-code"
# so long that a million hexadecimal signs have it by chance once in 10^12 times
ID = 918273645546342
ROWS = 5  # planted in; train, validation and test rows are among them
OWN_DATA = {"table.csv", "contract.yaml", "config.yaml"}
TAP = Path(__file__).parent / "tap"
HEARD = "TACIT_TAP"


def with_canaries(frame: pd.DataFrame) -> pd.DataFrame:
    """A user's table of which some rows hold canaries."""
    frame = frame.copy()
    frame["code"] = frame["code"].astype(object)
    for place in range(ROWS):
        row: dict[str, float | str] = {
            "load": LOAD,
            "amount": AMOUNT,
            "code": CODE,
            "id": ID + place,
        }
        for column, value in row.items():
            frame.at[place * 7, column] = value  # noqa: PD008 - one cell
    return frame


def planted() -> pd.DataFrame:
    """A whole table with canaries."""
    return with_canaries(tables.table("binary"))


def forms() -> list[bytes]:
    """Each canary as text and as the numbers that machines write."""
    found = [CODE.encode(), str(ID).encode(), b"0.27182818", b"31337.0625"]
    for number in (LOAD, AMOUNT, float(ID)):
        found += [struct.pack(f"{order}d", number) for order in "<>"]
    for number in (AMOUNT, float(ID)):
        found += [struct.pack(f"{order}f", number) for order in "<>"]
    return found + [struct.pack(f"{order}q", ID) for order in "<>"]


def leaks(texts: Iterable[bytes]) -> list[bytes]:
    """Which forms stand in any of the texts."""
    whole = b"\0\0\0\0".join(texts)
    return [one for one in forms() if one in whole]


def by_chance(form: bytes) -> bool:
    """Whether some million bytes of keys, masks or ciphertexts may have a form in them by chance.

    Four bytes stand in ten million random ones once in 400 times.
    """
    return len(form) < 8


def leaks_each_time(said: Callable[[Path], Iterable[bytes]], folder: Path) -> list[bytes]:
    """Which forms stand in what is said; those that may by chance, in what is said each time.

    What leaks does so whenever it is said, and the numbers of another run are other ones. A form of
    four bytes is in ten million of them four times by chance with 0.0024^4, and there are four:
    once in 7e9 times.

    Args:
        said: Does the same anew in an empty folder, by other keys; all that was said and written.
        folder: Of these folders.
    """
    found = leaks(said(folder / "0"))
    for turn in range(1, 4):
        if found and all(map(by_chance, found)):
            again = leaks(said(folder / f"{turn}"))
            found = [one for one in found if one in again]
    return found


def tables_that_leak(texts: Iterable[bytes]) -> list[bytes]:
    """Which forms stand in the texts; those that may by chance, as often as rows have them.

    For what takes too long to be done anew. A form of four bytes stands so often by chance in
    fifty million random ones with a chance of 0.0117^5 / 120: once in 10^11 times.
    """
    whole = b"\0\0\0\0".join(texts)
    assert len(whole) < 50_000_000
    return [one for one in forms() if whole.count(one) >= (ROWS if by_chance(one) else 1)]


def files_below(root: Path) -> list[bytes]:
    """All that lies there, but for what the owner of the rows put there."""
    return [
        path.read_bytes() + str(path).encode()
        for path in root.rglob("*")
        if path.is_file() and path.name not in OWN_DATA
    ]


# of real processes


def overhear(machine: Machine, folder: Path, environment: dict[str, str]) -> None:
    """Let each process of a machine keep what it sends and is sent, as it is before TLS.

    Args:
        machine: Whose processes; those that run already do not.
        folder: Where: outside of all machines.
        environment: Of its processes as it is without.
    """
    folder.mkdir(parents=True, exist_ok=True)
    machine.besides[HEARD] = str(folder)
    machine.besides["PYTHONPATH"] = os.pathsep.join([str(TAP), environment["PYTHONPATH"]])


def plant(machine: Machine) -> None:
    """Put canaries in the rows of a member of a federation of real processes."""
    path = machine.folder / "data" / "table.csv"
    with_canaries(pd.read_csv(path)).to_csv(path, index=False)


def of_a_federation(federation: Deployed, heard: Path) -> Iterator[tuple[str, Sequence[bytes]]]:
    """All that is searched, by what it is: messages, homes, and every line of every process."""
    yield "messages", [path.read_bytes() for path in sorted(heard.iterdir())]
    for machine in (federation.coordinator, *federation.members.values()):
        # logs and outputs lie beside the homes
        yield machine.name, files_below(machine.folder)
