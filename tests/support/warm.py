"""A command in a process of its own, forked from one that has loaded what commands load.

A fresh process takes seconds to load what it needs, and the tests start more than a thousand. What
a fork of a warm one is no test of: what a command itself loads, and when. Tests of that start fresh
ones (`cli.fresh`), and so do all with TACIT_LONG, as `make soak` has it.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, AnyStr

ROOT = Path(__file__).parents[2]
_SCRIPT = Path(__file__).with_name("warm_process.py")
_END_S = 30.0


_FREE = ("TACIT_", "PYTEST_")
"""How names begin that tacit reads when it runs, and not when it is loaded, or not at all."""
_FIXED = {
    "OMP_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "160",
}


def _loading(environment: Mapping[str, str]) -> dict[str, str]:
    """What modules may read when they are loaded."""
    return {key: value for key, value in environment.items() if not key.startswith(_FREE)}


USUAL = _loading({**os.environ, **_FIXED})
"""As the tests began: what one of them, or a verb that runs in this process, sets is not in it."""


class Warm:
    """The process that is forked; it ends with this one, and what was forked goes on."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(_SCRIPT), str(theirs.fileno())],
                cwd=ROOT,
                # a thread that frees memory would be one too many
                env={**USUAL, "JE_ARROW_MALLOC_CONF": "background_thread:false"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, asked: Mapping[str, Any], streams: Sequence[int]) -> socket.socket:
        """Ask for a process; returns the channel on which its number comes, and how it ended."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            request = [json.dumps(asked).encode()]
            socket.send_fds(self._control, request, [theirs.fileno(), *streams])
        return ours

    def end(self) -> None:
        """Let it end."""
        self._control.shutdown(socket.SHUT_RDWR)  # whoever else may hold it
        self._control.close()
        self._process.wait(_END_S)


_WARM: list[Warm] = []


def warm() -> Warm:
    """The one of this process, which is started when it is first needed."""
    if not _WARM:
        _WARM.append(Warm())
    return _WARM[0]


def end() -> None:
    """End it, if it was started."""
    while _WARM:
        _WARM.pop().end()


def may_fork(environment: Mapping[str, str]) -> bool:
    """Whether a fork of the warm process is as a process that was started in this environment."""
    able = hasattr(os, "pidfd_open") and "TACIT_LONG" not in os.environ
    return able and _loading(environment) == USUAL


class Forked(subprocess.Popen[AnyStr]):
    """As `subprocess.Popen`, of a module that is run in a fork of the warm process.

    `_execute_child`, `_internal_poll` and `_try_wait` are where the library starts a process and
    asks how it ended. The rest of it holds for a process whose parent is another, too.
    """

    _channel: socket.socket
    _waitpid_lock: threading.Lock  # the library's

    def __init__(self, module: str, words: Sequence[str], **given: Any) -> None:  # noqa: ANN401 - as there
        self._module, self._words = module, words
        super().__init__([module, *words], **given)

    def _execute_child(self, *given: Any) -> None:  # noqa: ANN401 - as there
        cwd, env, session, pipes = given[5], given[6], given[21], given[10:16]
        theirs = (pipes[0], pipes[3], pipes[5])
        asked = {
            "module": self._module,
            "words": list(self._words),
            "cwd": str(cwd),
            "env": env,
            "session": session,
        }
        streams = [number if one == -1 else one for number, one in enumerate(theirs)]
        self._channel = warm().fork(asked, streams)
        self.pid = self._hear()
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _hear(self, flags: int = 0) -> int:
        told = self._channel.recv(64, flags)
        if not told:
            raise RuntimeError("the warm process ended; what it says of it stands above")
        return int(told)

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                self._try_wait(os.WNOHANG)
            except (OSError, RuntimeError):
                if _deadstate is None:
                    raise
                self.returncode = _deadstate
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self.returncode is None:
            try:
                status = self._hear(socket.MSG_DONTWAIT if wait_flags == os.WNOHANG else 0)
            except BlockingIOError:
                return 0, 0
            self._channel.close()
            self.returncode = os.waitstatus_to_exitcode(status)
        return 0, 0
