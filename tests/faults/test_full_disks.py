"""A disk that is full, or that may not be written, costs one sentence and nothing that was there.

Real file systems of their own (tmpfs), which take root to mount; elsewhere the same faults come
from below SQLite (`test_power_cuts`).
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from support import tables
from support.cli import assert_one_sentence, tacit
from support.sums import Exchange, federation, watched

from federation.record import read_sums
from privacy.errors import RefusedError
from privacy.messages import SumNotice

SIZES_KB: Final = (0, 40, 100, 140, 200, 280, 400) if "TACIT_LONG" in os.environ else (100, 280)
"""A whole launch of this size needs some 500 kB."""


def mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=64m", "none", str(where))
    except (subprocess.CalledProcessError, OSError):
        pytest.skip("no file system can be mounted here")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=False, capture_output=True)


def launch(where: tables.SmallFederation, home: Path) -> "subprocess.CompletedProcess[str]":
    words = ["run", "launch", str(where.config), "--local", "--data", str(where.root), "--json"]
    return tacit(*words, home=home)


def assert_failed(found: "subprocess.CompletedProcess[str]") -> None:
    assert found.returncode in {1, 2}
    assert_one_sentence(found, found.returncode)


def test_a_launch_on_a_disk_that_fills_up_ends_in_a_sentence(tmp_path: Path, disk: Path) -> None:
    where = tables.write(tmp_path / "data")
    home = disk / "home"
    for size_kb in SIZES_KB:
        mount("-o", f"remount,size={max(size_kb, 4)}k", str(disk))
        found = launch(where, home)
        if found.returncode == 0:
            break
        assert_failed(found)
        mount("-o", "remount,size=64m", str(disk))
        if (home / "ledger.db").exists():
            held = tacit("audit", "verify", "--json", home=home)
            assert held.returncode == 0 or "there is no ledger yet" in held.stderr, held.stderr
    mount("-o", "remount,size=64m", str(disk))
    assert launch(where, home).returncode == 0
    assert tacit("audit", "verify", home=home).returncode == 0


def test_a_home_that_may_not_be_written_is_read_and_refuses_the_rest(
    tmp_path: Path, disk: Path
) -> None:
    where = tables.write(tmp_path / "data")
    home = disk / "home"
    assert launch(where, home).returncode == 0
    before = tacit("audit", "verify", "--json", home=home)
    mount("-o", "remount,ro", str(disk))
    assert_failed(launch(where, home))
    for words in (("run", "list"), ("run", "show", "last"), ("budget", "show"), ("model", "list")):
        found = tacit(*words, "--json", home=home)
        assert found.returncode == 0, found.stderr
        json.loads(found.stdout)
    again = tacit("audit", "verify", "--json", home=home)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["root"] == json.loads(before.stdout)["root"]


def test_a_sum_that_a_node_wrote_down_half_is_written_whole_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = federation(tmp_path, ("bank", "east", "mill", "north"))
    path = run._folder("bank") / "sums.jsonl"
    refused: list[str] = []

    def full(at: Exchange) -> None:
        if at.node.member != "bank" or not isinstance(at.request, SumNotice):
            return
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half_of_a_line(path))
            with pytest.raises(RefusedError, match="make room in its folder"):
                at.node.handle(at.request, at.payload)
        refused.append(at.step)

    watched(run).hostile = full
    run.run()
    assert refused
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [f"{one['step']} {one['round']}" for one in found] == refused
    assert read_sums(path)


def half_of_a_line(path: Path) -> Callable[[int, bytes], int]:
    """As `os.write`, on a disk that has room for a piece of the next line of that file."""
    real, calls = os.write, list[int]()

    def write(descriptor: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink() != path:
            return real(descriptor, data)
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:9])

    return write
