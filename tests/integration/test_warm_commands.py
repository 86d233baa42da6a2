"""A command that is forked from a warm process is as one that an interpreter was started for."""

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from support import cli, warm, warm_process
from support.cli import begin, environment, run, tacit

TELLER = "tests.support.teller"
forks = pytest.mark.skipif("TACIT_LONG" in os.environ, reason="commands are not forked there")


def told(*words: str, home: Path, fresh: bool = False) -> tuple[dict[str, Any], str, int]:
    found = run(
        words, env=environment(home), timeout_s=240, given="given", module=TELLER, fresh=fresh
    )
    return json.loads(found.stdout), found.stderr, found.returncode


@pytest.mark.parametrize(
    "words",
    [["--help"], ["run", "nix"], ["run", "list", "--json"], ["audit", "verify"]],
    ids=" ".join,
)
def test_it_says_what_a_fresh_one_says(tmp_path: Path, words: list[str]) -> None:
    found, fresh = (tacit(*words, home=tmp_path, fresh=fresh) for fresh in (False, True))
    assert (found.returncode, found.stdout, found.stderr) == (
        fresh.returncode,
        fresh.stdout,
        fresh.stderr,
    )


@forks
@pytest.mark.parametrize("how", ["", "0", "3", "a sentence", "late", "killed"])
def test_it_is_given_what_a_fresh_one_is_and_ends_so(tmp_path: Path, how: str) -> None:
    (found, said, code), (fresh, saying, ends) = (
        told(how, home=tmp_path, fresh=fresh) for fresh in (False, True)
    )
    assert found.pop("pid") != fresh.pop("pid")
    assert found.pop("parent") != fresh.pop("parent")
    assert found == fresh
    assert (said, code) == (saying, ends)


def test_what_it_fails_with_is_shown(tmp_path: Path) -> None:
    _, said, code = told("failure", home=tmp_path)
    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("ValueError: it fails\n")


def test_nothing_goes_from_one_to_the_next(tmp_path: Path) -> None:
    first, second = (told(home=tmp_path)[0] for _ in range(2))
    assert first.pop("pid") != second.pop("pid")
    assert first == second
    assert not second["spoilt"]
    assert second["cwd"] == str(warm.ROOT)
    assert "TACIT_SPOILT" not in second["env"]


def test_it_leads_a_session_where_asked_and_signals_reach_it(tmp_path: Path) -> None:
    started = begin(
        ["hung"],
        module=TELLER,
        env=environment(tmp_path),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with started as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["leads"]
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(120) == -signal.SIGTERM
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_process_with_threads_is_not_forked() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        with ours, theirs, Path(os.devnull).open("rb") as nothing:
            socket.send_fds(ours, [b"{}"], [os.dup(ours.fileno()), *[nothing.fileno()] * 3])
            with pytest.raises(RuntimeError, match="threads, so nothing is forked"):
                warm_process.serve(theirs)
    finally:
        stop.set()
        other.join()


def test_what_is_loaded_with_another_environment_is_started_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = environment(tmp_path)
    assert not warm.may_fork({**env, "LD_PRELOAD": ""})
    assert not warm.may_fork({**env, "PYTHONPATH": "elsewhere"})
    assert warm.may_fork({**env, "TACIT_LEDGER": "elsewhere"}) == ("TACIT_LONG" not in os.environ)
    monkeypatch.setenv("TACIT_LONG", "1")
    assert not warm.may_fork(env)
    assert cli.command("run")[1:] == ["-m", "federation.cli.main", "run"]


def test_what_a_verb_sets_in_this_process_reaches_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    assert "GRPC_VERBOSITY" not in told(home=tmp_path)[0]["env"]
    assert warm.may_fork(environment(tmp_path)) == ("TACIT_LONG" not in os.environ)
