"""A command for tests of how commands are started: it tells what it was given, and spoils it."""

import atexit
import json
import os
import signal
import sys
import threading
import time


def main(*words: str) -> None:
    """Print one object; then end as the first word says, with all around changed."""
    import privacy

    told = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "leads": os.getsid(0) == os.getpid(),
        "words": sys.argv[1:],
        "cwd": os.getcwd(),  # noqa: PTH109 - a text
        "env": dict(os.environ),
        "given": sys.stdin.read(),
        "threads": threading.active_count(),
        "main": sys.modules["__main__"].__spec__.name,  # type: ignore[union-attr]
        "path": sys.path[0],
        "ctrl_c": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "open": sorted(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names
        "spoilt": hasattr(privacy, "spoilt"),
    }
    print(json.dumps(told))  # noqa: T201
    privacy.spoilt = True  # type: ignore[attr-defined]
    os.environ["TACIT_SPOILT"] = "1"
    os.chdir("/")
    how = words[0] if words else ""
    if how == "late":
        atexit.register(sys.stderr.write, "at the end\n")
        threading.Timer(0.2, sys.stderr.write, ["after\n"]).start()
    elif how == "failure":
        raise ValueError("it fails")
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "hung":
        time.sleep(1_000)
    elif how:
        sys.exit(int(how) if how.isdigit() else how)


if __name__ == "__main__":
    main(*sys.argv[1:])
