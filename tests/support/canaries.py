"""Values that stand nowhere else, planted in L3 columns, and the search for them."""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from support import tables
from support.deployed import Deployed, Machine

LOAD, AMOUNT, ID, CODE = 0.271828183, 31337.062531, 918273645, "canary-of-code"
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
