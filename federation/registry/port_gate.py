"""Whose connections a port of gRPC keeps.

gRPC accepts by itself. Where a port is full it ends whoever comes *next*, so that a stranger who
opens many and says nothing shuts it for everybody else until their handshakes are late. This gate
looks at the process's own sockets of that port and ends others before it is full: of those that
made no call yet, the oldest, first of the address that has most of them. Whoever made a call that
its server admitted is kept. Linux hands over none that has not begun to speak, too.
"""

import logging
import os
import socket
import stat
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from federation.registry.rate import network_of

MEMBER_CONNECTIONS: Final = 16
LOOK_S: Final = 0.1
HURRY_S: Final = 0.01
LOOK_PART: Final = 0.03
HURRY_PART: Final = 0.1
"""Of the time that looks may take, where there are very many files; the second while many wait."""
DEFER_S: Final = 15
"""How long the system keeps a connection to itself that says nothing."""
_FILES: Final = tuple(map(Path, ("/proc/self/fd", "/dev/fd")))
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PortRoom:
    """How many connections at once.

    Attributes:
        waiting: Of whoever made no call yet.
        network: Of those, from one address.
        member: Of one caller who did.
    """

    waiting: int
    network: int
    member: int = MEMBER_CONNECTIONS

    @classmethod
    def within(cls, most: int) -> "PortRoom":
        """The fourth part of what the port keeps, so that there is room until the next look."""
        waiting = max(2, most // 4)
        return cls(waiting, max(1, waiting // 2))


@dataclass(frozen=True, slots=True)
class Held:
    """A connection.

    Attributes:
        number: Its file.
        inode: Of the socket; no other has it while this one is open.
        peer: The other end.
        since_s: When it was seen first, or made a call last where that proves nobody.
        owner: Who it turned out to be; empty: it waits.
    """

    number: int
    inode: int
    peer: "End"
    since_s: float
    owner: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """Of a connection: an address, in the one way that it is written here, and a port."""

    host: str
    port: int

    @classmethod
    def of(cls, peer: str) -> "End | None":
        """Read it as gRPC writes it, such as `ipv4:192.0.2.1:50000`; None: it is of no network."""
        host, colon, port = unquote(peer).partition(":")[2].rpartition(":")
        return cls(_plain(host), int(port)) if colon and port.isdecimal() else None


def _plain(host: str) -> str:
    return host.strip("[]").partition("%")[0].lower().removeprefix("::ffff:")


def to_end(held: Iterable[Held], room: PortRoom) -> list[Held]:
    """Return those for which there is no room.

    Of who waits the oldest goes, of the network that has most; of a caller's own the newest.
    """
    networks: defaultdict[str, list[Held]] = defaultdict(list)
    owned: Counter[str] = Counter()
    ending: list[Held] = []
    for one in sorted(held, key=lambda each: each.since_s):
        if not one.owner:
            networks[network_of(one.peer.host)].append(one)
            continue
        owned[one.owner] += 1
        if owned[one.owner] > room.member:
            ending.append(one)
    for waiting in networks.values():
        over = max(0, len(waiting) - room.network)
        ending += waiting[:over]
        del waiting[:over]
    for _ in range(sum(map(len, networks.values())) - room.waiting):
        ending.append(max(networks.values(), key=len).pop(0))
    return ending


@dataclass(slots=True)
class PortGate:
    """See the module. `heard` is called by any thread, `look` by one.

    Attributes:
        room: How many it keeps.
        now_s: A clock that never goes back, in seconds.
        ended: How many it ended so far.
    """

    room: PortRoom
    now_s: Callable[[], float] = time.monotonic
    ended: int = 0
    port: int = 0
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _held: dict[int, Held] = field(default_factory=dict)  # by inode
    _heard: dict[End, tuple[str, float]] = field(default_factory=dict)
    _others: dict[int, int] = field(default_factory=dict)  # files that are none: number, inode
    _ending: set[int] = field(default_factory=set)  # inodes; gRPC has not closed them yet
    _looked_s: float = 0.0

    def heard(self, peer: str, owner: str = "") -> None:
        """A call was admitted.

        Args:
            peer: Of the connection, as gRPC writes it.
            owner: Who it is, where that is proven; without it the connection waits on, behind the
                others.
        """
        end = End.of(peer)
        if end is not None:
            with self._mutex:
                self._heard[end] = (owner, self.now_s())

    def look(self) -> int:
        """End those for which there is no room; returns how many wait then."""
        now_s = self.now_s()
        found: dict[int, Held] = {}
        others: dict[int, int] = {}
        for number, inode in _sockets():
            if self._others.get(number) == inode:
                others[number] = inode
                continue
            known = self._held.get(inode)
            if known is None or known.number != number:
                try:
                    peer = _peer_at(number, self.port)
                except OSError:
                    continue  # it was closed meanwhile, or no file is left for a copy
                if peer is None:
                    others[number] = inode
                    continue
                known = Held(number, inode, peer, now_s)
            found[inode] = known
        with self._mutex:
            for inode, one in found.items():
                owner, at_s = self._heard.pop(one.peer, ("", 0.0))
                if at_s:
                    since_s = one.since_s if owner else at_s
                    found[inode] = Held(one.number, inode, one.peer, since_s, owner or one.owner)
            # what was heard since the last look may be of a connection that comes to be seen next
            self._heard = {
                end: told for end, told in self._heard.items() if told[1] >= self._looked_s
            }
        self._held, self._others, self._looked_s = found, others, now_s
        self._ending &= found.keys()
        staying = [one for inode, one in found.items() if inode not in self._ending]
        ending = to_end(staying, self.room)
        for one in ending:
            self._end(one)
        return sum(not one.owner for one in staying) - sum(not one.owner for one in ending)

    def follow(self, over: threading.Event) -> None:
        """Look until `over` is set, oftener while many wait."""
        wait_s = LOOK_S
        while not over.wait(wait_s):
            begun_s = time.thread_time()
            try:
                waiting = self.look()
            except OSError as failure:  # no file is left to look with; there will be
                _LOG.warning("cannot look at the connections of port %d: %s", self.port, failure)
                waiting = 0
            cost_s = time.thread_time() - begun_s
            hurry = waiting >= self.room.network // 2
            wait_s = max(HURRY_S, cost_s / HURRY_PART) if hurry else max(LOOK_S, cost_s / LOOK_PART)

    def _end(self, one: Held) -> None:
        # a copy of the file stays this connection, whatever gRPC does with its own meanwhile
        with suppress(OSError), _copied(one.number) as own:
            if os.fstat(own.fileno()).st_ino == one.inode:
                own.shutdown(socket.SHUT_RDWR)
                self._ending.add(one.inode)
                self.ended += 1


@contextmanager
def gated(gate: PortGate, port: int) -> Iterator[None]:
    """Let a gate look after a port of this process until the block is left."""
    gate.port = port
    _defer(port)
    over = threading.Event()
    thread = threading.Thread(target=gate.follow, args=(over,), name=f"gate {port}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sockets() -> Iterator[tuple[int, int]]:
    folder = next((one for one in _FILES if one.exists()), None)
    names: Sequence[str] = os.listdir(folder) if folder is not None else ()  # noqa: PTH208 - names alone
    for name in names:
        with suppress(OSError):  # it was closed meanwhile
            about = os.fstat(int(name))
            if stat.S_ISSOCK(about.st_mode):
                yield int(name), about.st_ino


@contextmanager
def _copied(number: int) -> Iterator[socket.socket]:
    with socket.socket(fileno=os.dup(number)) as own:
        yield own


def _peer_at(number: int, port: int) -> End | None:
    """Return the other end of a connection to `port`; None: the file is none.

    Raises:
        OSError: It cannot be looked at, now.
    """
    with _copied(number) as own:
        if own.family not in {socket.AF_INET, socket.AF_INET6} or own.getsockname()[1] != port:
            return None
        with suppress(OSError):
            host, other = own.getpeername()[:2]
            return End(_plain(host), other)
    return None


def _defer(port: int) -> None:
    if not hasattr(socket, "TCP_DEFER_ACCEPT"):  # Linux alone has it
        return
    for number, _ in list(_sockets()):
        with suppress(OSError), _copied(number) as own:
            internet = own.family in {socket.AF_INET, socket.AF_INET6}
            if internet and own.getsockname()[1] == port:
                own.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
