"""Take enforcements out one at a time and look whether the tests that the page names then fail.

    python -m compliance.without, in tests [NAME ...]

A copy of the code is changed, never the code itself.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from compliance.demands import DEMANDS, Cut, Demand

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = (
    "privacy",
    "clients",
    "aggregator",
    "federation",
    "configs",
    "docs",
    "experiments",
    "tests",
)
FILES: Final = ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")
FAILED: Final = 1
"""What pytest ends with where tests failed; 2 to 5: it did not get as far."""


def changed(cut: Cut, root: Path) -> str:
    """The file's text without the enforcement.

    Raises:
        ValueError: The text that holds it is not there, or more than once.
    """
    text = (root / cut.file).read_text(encoding="utf-8")
    if text.count(cut.holds) != 1:
        raise ValueError(
            f"{cut.file} has {text.count(cut.holds)} places like {cut.holds!r}; one holds the "
            "demand: say which"
        )
    return text.replace(cut.holds, cut.without)


def copied(to: Path) -> None:
    """Copy what the tests need."""
    for part in PARTS:
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(ROOT / name, to / name)


def fails_without(demand: Demand, root: Path) -> str:
    """Why the named test does not show the demand; empty where it fails as it should."""
    kept = {cut.file: (root / cut.file).read_text(encoding="utf-8") for cut in demand.cuts}
    for cut in demand.cuts:
        (root / cut.file).write_text(changed(cut, root), encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", demand.test],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    finally:
        for file, text in kept.items():
            (root / file).write_text(text, encoding="utf-8")
    if done.returncode == FAILED:
        return ""
    return f"{demand.test} ended with {done.returncode}: {done.stdout[-400:]}"


def main(names: list[str]) -> int:
    """Look at all demands, or the named ones; the exit code."""
    chosen = [one for one in DEMANDS if not names or one.name in names]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        copied(root)
        for one in chosen:
            why = fails_without(one, root)
            wrong += bool(why)
            sys.stdout.write(f"{one.name}: {why or 'its test fails without it'}\n")
            sys.stdout.flush()
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
