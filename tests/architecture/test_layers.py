"""The arrows of the design, and that a forbidden one is caught."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("federation", "clients", "aggregator", "privacy")


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
    )


def _copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold() -> None:
    found = _lint(ROOT)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("aggregator/plan.py", "import torch", "cannot train"),
        ("aggregator/plan.py", "import clients.node", "One direction"),
        ("privacy/tally.py", "import pydantic", "knows no framework"),
        ("privacy/fixed_point.py", "import federation.home", "One direction"),
        ("privacy/verify.py", "import numpy", "regulator"),
        ("clients/node.py", "import flwr", "one door"),
        ("privacy/secure_sum/sealer.py", "import tenseal", "one file"),
    ],
)
def test_a_planted_import_is_caught(tmp_path: Path, file: str, line: str, broken: str) -> None:
    root = _copy(tmp_path)
    path = root / file
    path.write_text(path.read_text() + f"\n{line}\n")
    found = _lint(root)
    assert found.returncode != 0
    verdicts = [text for text in found.stdout.splitlines() if "BROKEN" in text]
    assert any(broken in text for text in verdicts), found.stdout
