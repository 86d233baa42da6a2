"""Inputs that are led by what they reach find what chance does not; without atheris it says so."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.guided import NEEDS, PLANTED, main, told

ROOT = Path(__file__).parents[2]


def test_what_libfuzzer_says_is_read() -> None:
    said = "#2\tINITED cov: 8 ft: 9 corp: 2/9b\n#99\tNEW    cov: 12 ft: 15 corp: 4/31b lim: 4\n"
    assert told(f"{said}Done 512 runs in 2 second(s)\n") == {"inputs": 512, "cov": 12, "kept": 4}
    broken = told(f"{said}hostile.guided.Fault: KeyError: 'a'\nTest unit written to ./crash-1\n")
    assert broken["fault"] == "KeyError: 'a'"
    assert broken["file"] == "./crash-1"
    assert "fault" in told("ImportError: no")


def test_without_atheris_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main([]) == 2
    assert capsys.readouterr().err == f"{NEEDS}\n"


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason=NEEDS)
def test_a_planted_word_is_found_letter_by_letter(tmp_path: Path) -> None:
    """The twin."""
    words = ["--seconds", "60", "--only", PLANTED, "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "hostile.guided", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert json.loads(done.stdout)[PLANTED]["fault"] == "the planted word was found"
