"""A disk that is full, or that may not be written, costs one sentence and nothing that was there.

Real file systems of their own (tmpfs), which take root to mount; elsewhere the same faults come
from below SQLite (`test_power_cuts`).
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support import tables
from support.cli import assert_one_sentence, tacit

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
