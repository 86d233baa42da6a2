"""Carries packets between TUN devices: `python network_wire.py NAME=NAMESPACE=ADDRESS ...`.

Each machine has a device `tun0`, whose other end is here. A packet goes to the machine whose
address it names, after the delays of both ends, unless one of them is cut or loses it. Lines on
standard input: `cut NAME`, `heal NAME`, `shape NAME DELAY_MS JITTER_MS LOSS`; each is answered by
`ok`. When this process ends, so do the devices.
"""

import ctypes
import fcntl
import heapq
import os
import random
import selectors
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_FOLDER = Path("/run/netns")
_LIBC = ctypes.CDLL(None, use_errno=True)
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_BYTES = 1 << 16
_WAITING_MAX = 100_000


@dataclass
class End:
    """One machine's end of the wire."""

    device: int
    cut: bool = False
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0


def enter(namespace: str) -> None:
    """Make this thread's new sockets sockets of that machine."""
    with (_FOLDER / namespace).open() as file:
        if _LIBC.setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def open_tun(namespace: str) -> int:
    """Make `tun0` in a namespace, and return its other end."""
    found: list[int] = []

    def make() -> None:
        enter(namespace)
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
        found.append(device)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return found[0]


def obey(line: str, ends: dict[str, End]) -> None:
    """Carry out one line."""
    word, name, *numbers = line.split()
    end = ends[name]
    if word == "shape":
        delay_ms, jitter_ms, loss = map(float, numbers)
        end.delay_s, end.jitter_s, end.loss = delay_ms / 1000, jitter_ms / 1000, loss
    else:
        end.cut = word == "cut"
    sys.stdout.write("ok\n")
    sys.stdout.flush()


@dataclass
class Wire:
    """All ends, and the packets that are on their way.

    Attributes:
        ends: By the machines' names.
        by_address: The same, by IPv4 address in its four bytes.
    """

    ends: dict[str, End]
    by_address: dict[bytes, End]

    def __post_init__(self) -> None:
        self._rng = random.Random(0)
        self._waiting: list[tuple[float, int, End, End, bytes]] = []
        self._count = 0

    def deliver(self) -> float | None:
        """Hand over what is due; returns for how long there is nothing more to hand over."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, _, source, target, packet = heapq.heappop(self._waiting)
            if not source.cut and not target.cut:
                with suppress(OSError):  # the device is down, or its queue is full: lost
                    os.write(target.device, packet)
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def take(self, source: End) -> None:
        """Take over all that a machine sent."""
        with suppress(OSError):
            while True:
                packet = os.read(source.device, _PACKET_BYTES)
                target = self.by_address.get(packet[16:20]) if packet[0] >> 4 == 4 else None
                if target is not None:
                    self._send(source, target, packet)

    def _send(self, source: End, target: End, packet: bytes) -> None:
        both = (source, target)
        lost = any(end.cut or self._rng.random() < end.loss for end in both)
        if lost or len(self._waiting) >= _WAITING_MAX:
            return
        late_s = sum(
            max(0.0, end.delay_s + end.jitter_s * self._rng.uniform(-1, 1)) for end in both
        )
        self._count += 1
        due_s = time.monotonic() + late_s
        heapq.heappush(self._waiting, (due_s, self._count, source, target, packet))


def main(*words: str) -> None:
    """See the module."""
    wire = Wire({}, {})
    ready = selectors.DefaultSelector()
    for word in words:
        name, namespace, address = word.split("=")
        end = End(open_tun(namespace))
        wire.ends[name] = wire.by_address[socket.inet_aton(address)] = end
        ready.register(end.device, selectors.EVENT_READ, end)
    ready.register(sys.stdin, selectors.EVENT_READ, None)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for key, _ in ready.select(wire.deliver()):
            if key.data is not None:
                wire.take(key.data)
            elif line := sys.stdin.readline():
                obey(line, wire.ends)
            else:
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
