"""Values planted in L3 columns are searched for in all that leaves a node or is written or said."""

import logging
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from support import tables
from support.cli import tacit
from support.direct import assemble

from clients.policy import NodePolicy
from privacy.manifest import PROTECTIONS
from privacy.messages import Parcel, Request

if TYPE_CHECKING:
    import subprocess

LOAD, AMOUNT, ID, CODE = 0.271828183, 31337.062531, 918273645, "canary-of-code"
ROWS = 5  # planted in; train, validation and test rows are among them
OWN_DATA = {"table.csv", "contract.yaml", "config.yaml"}


def planted() -> pd.DataFrame:
    """A user's table with rows whose values stand nowhere else."""
    frame = tables.table("binary")
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


def said(found: "subprocess.CompletedProcess[str]") -> list[bytes]:
    return [found.stdout.encode(), found.stderr.encode()]


@pytest.mark.parametrize("form", forms(), ids=lambda form: form.hex()[:16])
def test_the_search_finds_each_form_that_leaks(form: bytes) -> None:
    assert form in leaks([b"before", b"some" + form + b"where", b"after"])
    assert not leaks([b"before", b"after"])


@pytest.mark.parametrize("protection", ["masked", "sealed"])
def test_no_message_file_or_line_of_a_run_holds_a_planted_value(
    tmp_path: Path, protection: str, caplog: pytest.LogCaptureFixture
) -> None:
    where = tables.write(
        tmp_path / "data", rows=planted(), config_changes={"protection": {"sum": protection}}
    )
    # the search sees the rows themselves, so it is no search of nothing
    assert {CODE.encode(), str(ID).encode()} <= set(leaks([where.table.read_bytes()]))
    direct = assemble(where.config, where.root, policy=NodePolicy(sums=PROTECTIONS))
    passed: list[bytes] = []

    def tap(_: str, __: Request, parcel: Parcel) -> Parcel:
        passed.append(parcel.message + parcel.payload)
        return parcel

    direct.transport.tamper_request = tap
    direct.transport.tamper_reply = tap
    with caplog.at_level(logging.DEBUG):
        direct.run()
    assert passed
    assert not leaks(passed)
    assert not leaks([record.getMessage().encode() for record in caplog.records])
    assert not leaks(files_below(tmp_path))


def test_no_report_and_no_file_of_a_launch_holds_a_planted_value(tmp_path: Path) -> None:
    where = tables.write(tmp_path / "data", rows=planted())
    home = tmp_path / "home"
    launch = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), "--json",
        home=home,
    )  # fmt: skip
    assert launch.returncode == 0, launch.stderr
    shown = [
        tacit("run", "show", "last", home=home),
        tacit("data", "check", str(where.contract), "--data", str(where.root), home=home),
        tacit("audit", "export", str(tmp_path / "evidence.bundle"), home=home),
    ]
    assert not leaks(text for one in (launch, *shown) for text in said(one))
    assert not leaks(files_below(tmp_path))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("amount", f"{AMOUNT} EUR"),  # text that holds the planted number
        ("amount", "1e999"),
        ("id", f"{ID}.5"),
        ("label", CODE),
    ],
)
def test_what_is_wrong_with_a_planted_value_is_said_without_it(
    tmp_path: Path, column: str, value: str
) -> None:
    frame = planted()
    frame[column] = frame[column].astype(object)
    frame.loc[0, column] = value
    where = tables.write(tmp_path / "data", rows=frame)
    found = tacit(
        "data", "check", str(where.contract), "--data", str(where.root), home=tmp_path / "home"
    )
    assert found.returncode == 1
    assert column in found.stderr
    assert value not in found.stdout + found.stderr
    assert not leaks(said(found))
    assert not leaks(files_below(tmp_path))
