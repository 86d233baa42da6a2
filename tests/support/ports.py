"""Ports that stay free until a test comes to listen at them. For tests only."""

import os
import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST = 10_000, 65_000
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at, nor comes to.

    They are none of those that the system hands out by itself. Of those another process could get
    one before we listen there, or between two times that we do; and a client that tries again and
    again to reach a port there meets itself in the end, and holds it. No port is told twice, and
    processes that run tests beside each other have ports of their own: until somebody listens at
    one, the other would find it free as well.
    """
    found: list[int] = []
    own = _handed_out()
    others = [port for port in range(_FIRST, _LAST) if port not in own] or list(own)
    mine = [port for port in others[_worker() :: _workers()] if port not in _given]
    with ExitStack() as stack:
        while len(found) < count:
            port = mine.pop(random.SystemRandom().randrange(len(mine)))
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    _given.update(found)
    return found


def _worker() -> int:
    """Which of the processes this is that run tests beside each other (pytest-xdist)."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _workers()


def _workers() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _handed_out() -> range:
    try:
        first, last = map(int, _OWN.read_text().split())
    except OSError:
        return range(32_768, 61_000)
    return range(first, last + 1)
