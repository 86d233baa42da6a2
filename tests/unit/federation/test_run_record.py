"""What is kept of a run while it goes: rounds that are whole, or told to be damaged."""

import os
from pathlib import Path

import pytest
from support.cli import assert_one_sentence, tacit

from federation.home import Home
from federation.record import RunFolder, count_rounds, read_rounds
from privacy.errors import InputError


def refuse_half(patch: pytest.MonkeyPatch) -> None:
    """Let the disk take a piece of a line, and then no more."""
    real, calls = os.write, list[int]()

    def half(descriptor: int, data: bytes) -> int:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:5])

    patch.setattr(os, "write", half)


def test_a_round_that_the_disk_refused_spoils_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(path=tmp_path)
    folder.round({"round": 1})
    with monkeypatch.context() as patch:
        refuse_half(patch)
        with pytest.raises(InputError, match="free some space"):
            folder.round({"round": 2})
    assert folder.rounds == read_rounds(tmp_path) == [{"round": 1}]
    folder.round({"round": 2})
    assert folder.rounds == read_rounds(tmp_path) == [{"round": 1}, {"round": 2}]
    assert count_rounds(tmp_path) == 2


def test_a_round_that_a_crash_cut_off_spoils_none(tmp_path: Path) -> None:
    (tmp_path / "rounds.jsonl").write_bytes(b'{"round": 1}\n{"rou')
    assert read_rounds(tmp_path) == [{"round": 1}]
    RunFolder(path=tmp_path).round({"round": 2})
    assert read_rounds(tmp_path) == [{"round": 1}, {"round": 2}]


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run.log").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        RunFolder(path=tmp_path).log("north is asked")


@pytest.mark.parametrize("data", [b'{"rou{"round": 2}\n', b"\xff\n", b"[" * 100_000 + b"\n"])
def test_damaged_rounds_are_a_sentence_and_hide_no_other_run(tmp_path: Path, data: bytes) -> None:
    home = Home(tmp_path / "home")
    for run in ("one", "two"):
        (home.runs / run).mkdir(parents=True)
    (home.runs / "one" / "rounds.jsonl").write_bytes(data)
    with pytest.raises(InputError, match=r"rounds.jsonl: is damaged; move it away"):
        read_rounds(home.runs / "one")
    assert_one_sentence(tacit("run", "show", "one", home=home.root), 2)
    listed = tacit("run", "list", home=home.root)
    assert listed.returncode == 0, listed.stderr
    assert "one" in listed.stdout
    assert "two" in listed.stdout
