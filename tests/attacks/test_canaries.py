"""Values planted in L3 columns are searched for in all that leaves a node or is written or said."""

import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import tables
from support.canaries import (
    AMOUNT,
    CODE,
    HEARD,
    ID,
    ROWS,
    TAP,
    by_chance,
    files_below,
    forms,
    leaks,
    leaks_each_time,
    planted,
    tables_that_leak,
)
from support.cli import ROOT, tacit
from support.direct import assemble

from clients.learner import split_validation
from clients.members import read_members
from clients.policy import NodePolicy
from clients.spec import parse_node_spec
from privacy.manifest import PROTECTIONS
from privacy.messages import Parcel, Request


def said(found: "subprocess.CompletedProcess[str]") -> list[bytes]:
    return [found.stdout.encode(), found.stderr.encode()]


@pytest.mark.parametrize("form", forms(), ids=lambda form: form.hex()[:16])
def test_the_search_finds_each_form_that_leaks(form: bytes) -> None:
    assert form in leaks([b"before", b"some" + form + b"where", b"after"])
    assert not leaks([b"before", b"after"])


@pytest.mark.parametrize("form", forms(), ids=lambda form: form.hex()[:16])
def test_what_leaks_each_time_is_found_and_what_chance_writes_is_not(
    tmp_path: Path, form: bytes
) -> None:
    def once(folder: Path) -> list[bytes]:
        return [b"noise" + form if folder.name == "0" else b"other noise"]

    assert leaks_each_time(lambda _: [b"noise" + form], tmp_path) == [form]
    # nothing long enough is there by chance, and it is a leak however seldom it is said
    assert leaks_each_time(once, tmp_path) == ([] if by_chance(form) else [form])
    few = (b"noise" + form) * (ROWS - 1)
    assert tables_that_leak([few, b"..." + form]) == [form]
    assert tables_that_leak([few]) == ([] if by_chance(form) else [form])


def test_rows_of_all_parts_are_planted(tmp_path: Path) -> None:
    where = tables.write(tmp_path, rows=planted())
    direct = assemble(where.config, where.root)
    spec = parse_node_spec(dict(direct.manifest.node_settings))
    parts: Counter[str] = Counter()
    for own in read_members(direct.project.contract, where.root).values():
        train, watch = split_validation(own.train, spec)
        for name, rows in (("train", train), ("watch", watch), ("test", own.test)):
            parts[name] += int((rows["amount"] == AMOUNT).sum())
    assert parts == {"train": 3, "watch": 1, "test": 1}


@pytest.mark.parametrize("protection", ["masked", "sealed"])
def test_no_message_file_or_line_of_a_run_holds_a_planted_value(
    tmp_path: Path, protection: str, caplog: pytest.LogCaptureFixture
) -> None:
    def said_in(folder: Path) -> list[bytes]:
        where = tables.write(
            folder, rows=planted(), config_changes={"protection": {"sum": protection}}
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
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            direct.run()
        assert passed
        lines = [record.getMessage().encode() for record in caplog.records]
        return [*passed, *lines, *files_below(folder)]

    assert not leaks_each_time(said_in, tmp_path)


def test_no_report_and_no_file_of_a_launch_holds_a_planted_value(tmp_path: Path) -> None:
    def said_in(folder: Path) -> list[bytes]:
        where = tables.write(folder / "data", rows=planted())
        home = folder / "home"
        launch = tacit(
            "run", "launch", str(where.config), "--local", "--data", str(where.root), "--json",
            home=home,
        )  # fmt: skip
        assert launch.returncode == 0, launch.stderr
        shown = [
            tacit("run", "show", "last", home=home),
            tacit("data", "check", str(where.contract), "--data", str(where.root), home=home),
            tacit("audit", "export", str(folder / "evidence.bundle"), home=home),
        ]
        return [*(text for one in (launch, *shown) for text in said(one)), *files_below(folder)]

    assert not leaks_each_time(said_in, tmp_path)


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


SENDS = """
import contextlib, ssl, sys
import grpc
for text in sys.stdin.read().split():
    data = bytes.fromhex(text)
    call = grpc.insecure_channel("127.0.0.1:1").unary_unary("/any/Thing")
    with contextlib.suppress(grpc.RpcError):
        call(b"grpc" + data, timeout=0.05)
    ends = ssl.MemoryBIO(), ssl.MemoryBIO()
    line = ssl.create_default_context().wrap_bio(*ends, server_hostname="a")
    with contextlib.suppress(ssl.SSLError):
        line.write(b"tls." + data)
"""


def test_the_tap_of_real_processes_hears_each_form_before_it_is_sealed(tmp_path: Path) -> None:
    """The twin of the search over a deployed federation (tests/deployed/test_loopback.py)."""
    asked = " ".join(form.hex() for form in forms())
    path = os.pathsep.join([str(TAP), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", SENDS],
        input=asked.encode(),
        env={**os.environ, "PYTHONPATH": path, HEARD: str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heard = b"".join(one.read_bytes() for one in tmp_path.iterdir())
    assert {form for form in forms() if b"grpc" + form in heard} == set(forms())
    assert {form for form in forms() if b"tls." + form in heard} == set(forms())
    assert set(leaks([heard])) == set(forms())
