"""The command that a user types, in a process of its own."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support import warm

ROOT = warm.ROOT
TACIT, EDGE = "federation.cli.main", "federation.edge.main"


def environment(home: Path) -> dict[str, str]:
    """The environment of the tests with another home; warnings are no errors in it."""
    return {**warm.USUAL, "TACIT_HOME": str(home)}


def command(*words: str, module: str = TACIT) -> list[str]:
    """`tacit WORDS`, run by this interpreter."""
    return [sys.executable, "-m", module, *words]


def begin(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    module: str = TACIT,
    fresh: bool = False,
    on: Sequence[str] = (),
    **streams: Any,  # noqa: ANN401 - as the library takes them
) -> "subprocess.Popen[Any]":
    """Begin `tacit WORDS`, as `subprocess.Popen` does, where it can be as a fork of a warm process.

    Args:
        words: The command's.
        env: Its environment.
        module: Whose main it is.
        fresh: Start an interpreter for it alone, for a test of what that loads.
        on: What stands before the command line, where it is for a machine of its own.
        streams: As `subprocess.Popen` takes them; and `start_new_session`.
    """
    if fresh or on or not warm.may_fork(env):
        return subprocess.Popen(
            [*on, *command(*words, module=module)],
            cwd=ROOT,
            env=env,
            **streams,
        )
    return warm.Forked(module, words, cwd=ROOT, env=env, **streams)


def run(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout_s: float,
    given: str | None = None,
    module: str = TACIT,
    fresh: bool = False,
    on: Sequence[str] = (),
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, as `subprocess.run` does, with `given` on its standard input."""
    pipe = subprocess.PIPE
    streams = {} if given is None else {"stdin": pipe}
    with begin(
        words, env=env, module=module, fresh=fresh, on=on,
        text=True, stdout=pipe, stderr=pipe, **streams,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(given, timeout_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def tacit(
    *words: str,
    home: Path,
    timeout_s: float = 300,
    ledger: str | None = None,
    fresh: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end; `ledger` is where the coordinator's is, if not in the home."""
    kept = environment(home)
    env = kept if ledger is None else {**kept, "TACIT_LEDGER": ledger}
    return run(words, env=env, timeout_s=timeout_s, fresh=fresh)


def start(*words: str, home: Path) -> "subprocess.Popen[str]":
    """Start it, in a process group of its own, where Ctrl-C reaches it."""
    return begin(
        words,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def assert_one_sentence(found: "subprocess.CompletedProcess[str]", code: int) -> str:
    """It failed with that code, one sentence, no traceback; returns the sentence."""
    lines = [line for line in found.stderr.splitlines() if line.startswith("tacit: ")]
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr + found.stdout
    assert len(lines) == 1, found.stderr
    return lines[0]
