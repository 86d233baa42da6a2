"""A process that has loaded what commands load, and forks for each: a start costs a fork.

    python tests/support/warm_process.py SOCKET      (by `support.warm`, which says what for)

This process runs no command itself. It has loaded modules, and nothing more: each command is a fork
of that, so nothing goes from one command to the next. A fork copies one thread alone, so this
process has one; else it refuses. What a command is given in the fork: its folder, environment,
arguments, standard streams, and a session of its own where asked for.

One message on the socket is one request: what to run, a channel, and the three streams. On the
channel the process's number goes back, and how it ended, as `os.waitpid` says it.
"""

import atexit
import fcntl
import gc
import importlib
import json
import multiprocessing.util
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

PARTS = ("privacy", "aggregator", "clients", "federation")
BESIDES = (
    "dp_accounting.pld.privacy_loss_distribution",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "opacus.grad_sample",
    "opacus.layers.dp_rnn",
    "safetensors.numpy",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.model_selection",
)
"""What verbs load inside of functions, where it is installed."""
STARTED = ("federation.cli.main", "federation.edge.main")
"""Loaded by each command anew, as what is run as a script is."""
_FORK_SERVER = "from multiprocessing.forkserver import main;"
_LAUNCHES = frozenset({"demo", "launch", "scenario"})
"""Words of commands that start workers on this machine."""
_spawn = multiprocessing.util.spawnv_passfds
_MOST_BYTES = 1 << 20
_NOT_WRITTEN = 120  # what the interpreter makes of streams that cannot be written at the end


def _names(part: str) -> Iterator[str]:
    for found in pkgutil.walk_packages(importlib.import_module(part).__path__, f"{part}."):
        if found.name not in STARTED and not found.name.endswith(".__main__"):
            yield found.name


def load() -> None:
    """Load every module of the packages, and what they load late."""
    for part in PARTS:
        for name in _names(part):
            importlib.import_module(name)
    for name in BESIDES:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for name in STARTED:
        sys.modules.pop(name, None)
    gc.collect()
    gc.freeze()  # pages that no command writes to are shared with all of them


def serve(control: socket.socket) -> str | None:
    """Fork for each request; returns, in a fork, the module to run; None when nobody asks any more.

    Raises:
        RuntimeError: This process has several threads.
    """
    running: dict[int, tuple[int, socket.socket]] = {}  # the process's handle -> what it is
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    asked, given, _, _ = socket.recv_fds(control, _MOST_BYTES, 4)
                    if not asked:
                        return None
                    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
                    if threads != 1:
                        raise RuntimeError(f"there are {threads} threads, so nothing is forked")
                    channel, streams = socket.socket(fileno=given[0]), given[1:]
                    request: dict[str, Any] = json.loads(asked)
                    pid = os.fork()
                    if not pid:
                        for handle, (_, other) in running.items():
                            os.close(handle)
                            other.close()
                        channel.close()
                        control.close()
                        _become(request, streams)
                        return str(request["module"])  # leaving here closes the selector
                    for stream in streams:
                        os.close(stream)
                    channel.send(b"%d" % pid)
                    handle = os.pidfd_open(pid)
                    running[handle] = pid, channel
                    selector.register(handle, selectors.EVENT_READ)
                else:
                    handle = key.fd
                    selector.unregister(handle)
                    pid, channel = running.pop(handle)
                    status = os.waitpid(pid, 0)[1]
                    os.close(handle)
                    with channel:
                        channel.send(b"%d" % status, socket.MSG_NOSIGNAL)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Take on what a process of its own would have been given."""
    if request["session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = request["cwd"]
    sys.argv[:] = [request["module"], *request["words"]]
    if _LAUNCHES & set(request["words"]):
        multiprocessing.util.spawnv_passfds = Spare().start  # type: ignore[assignment]


class Spare:
    """A fork of a command before it began, for the workers of a launch on this machine.

    Such a launch starts the fork server of `multiprocessing`: an interpreter that loads what this
    process has loaded. In its place this fork, a child of the command with one thread, becomes that
    server. Where none is started it ends with the command.
    """

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if not self._pid:
            self._channel.close()
            _wait_and_serve(theirs)
        theirs.close()

    def start(self, path: bytes, args: list[str], passed: list[int]) -> int:
        """As `multiprocessing.util.spawnv_passfds`; the process's number."""
        if not self._pid or not args[-1].startswith(_FORK_SERVER):
            return int(_spawn(path, args, passed))
        asked = json.dumps({"code": args[-1], "numbers": passed}).encode()
        socket.send_fds(self._channel, [asked], passed)
        self._channel.close()
        pid, self._pid = self._pid, 0
        return pid


def _wait_and_serve(channel: socket.socket) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C now is the command's
        asked, given, _, _ = socket.recv_fds(channel, _MOST_BYTES, 8)
        channel.close()
        if asked:
            request = json.loads(asked)
            above = max(request["numbers"]) + 1
            kept = [fcntl.fcntl(one, fcntl.F_DUPFD, above) for one in given]
            for one, number in zip(kept, request["numbers"], strict=True):
                os.dup2(one, number)
                os.close(one)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            exec(request["code"], {})  # noqa: S102 - what the interpreter would be given with -c
        code = 0
    except SystemExit:
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the interpreter would show it
        traceback.print_exc()
    finally:
        os._exit(code)


def _run(module: str) -> int:
    """Run it as the interpreter runs a script; its exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        sys.stderr.write(f"{left.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - whatever it is, the interpreter would show it
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End as the interpreter does, but for taking modules apart, which takes long and says nothing.

    Other threads are waited for, what is to be done at the end is done, and what was written goes
    out.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or _NOT_WRITTEN
    os._exit(code & 0xFF)


def main() -> None:
    """Serve; in a fork, be the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = str(Path.cwd())
    load()
    module = serve(control)
    if module is not None:
        _end(_run(module))


if __name__ == "__main__":
    main()
