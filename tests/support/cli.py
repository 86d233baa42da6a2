"""The command that a user types, in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(home: Path) -> dict[str, str]:
    """This environment with another home, and warnings as errors stay in our own tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TACIT_")}
    return {
        **kept,
        "TACIT_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "160",
    }


def command(*words: str) -> list[str]:
    """`tacit WORDS`, run by this interpreter."""
    return [sys.executable, "-m", "federation.cli.main", *words]


def tacit(
    *words: str, home: Path, timeout_s: float = 120, ledger: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; `ledger` is where the coordinator's is, if not in the home."""
    kept = environment(home)
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        env=kept if ledger is None else {**kept, "TACIT_LEDGER": ledger},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def start(*words: str, home: Path) -> "subprocess.Popen[str]":
    """Start it, in a process group of its own, where Ctrl-C reaches it.

    Tests that are started in the background of a script have Ctrl-C ignored, and so would this.
    """
    return subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads
    )


def assert_one_sentence(found: "subprocess.CompletedProcess[str]", code: int) -> str:
    """It failed with that code, one sentence, no traceback; returns the sentence."""
    lines = [line for line in found.stderr.splitlines() if line.startswith("tacit: ")]
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr + found.stdout
    assert len(lines) == 1, found.stderr
    return lines[0]
