"""How many connections the fleet's port keeps, and whose.

A connection waits until its certificate's key turns out to be a member's. Of those that wait there
are few: where one more comes, the one that waits longest is ended, so that whoever opens many and
says nothing ends its own. Of each member there are few too, and there the new one is ended.
"""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

from federation.open_files import files_allowed
from federation.registry.rate import network_of

MEMBER_CONNECTIONS: Final = 16
ENDING_MAX: Final = 32
WAITING_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections at once.

    Attributes:
        all: Of everybody.
        waiting: Of whoever was not found to be a member yet.
        network: Of those, from one address.
        member: Of one member's key.
    """

    all: int
    waiting: int
    network: int
    member: int = MEMBER_CONNECTIONS

    @classmethod
    def of_process(cls) -> Self:
        """As many as the process may open files for, without taking those from the rest of it."""
        files = files_allowed()
        waiting = min(WAITING_MAX, files // 4)
        return cls(all=3 * files // 8, waiting=waiting, network=waiting // 2)


class Connection(socket.socket):
    """One that was accepted; the gate is told when it is closed."""

    gate: "Gate | None" = None
    network: str = ""

    def close(self) -> None:
        """Close it."""
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.gone(self)
        super().close()


@dataclass(slots=True)
class Gate:
    """See the module. Only the thread of the server's loop uses it."""

    room: Room
    _open: dict[int, Connection] = field(default_factory=dict)
    _waiting: dict[int, Connection] = field(default_factory=dict)  # in the order they came
    _networks: Counter[str] = field(default_factory=Counter)  # of those that wait
    _members: dict[int, bytes] = field(default_factory=dict)
    _keys: Counter[bytes] = field(default_factory=Counter)
    _ending: set[int] = field(default_factory=set)

    @property
    def is_busy(self) -> bool:
        """Whether so many are ending that no more are accepted until they have."""
        return len(self._ending) >= ENDING_MAX

    def came(self, connection: Connection, host: str) -> None:
        """Take one in; it waits, and another may have to go."""
        number, network = connection.fileno(), network_of(host)
        connection.gate, connection.network = self, network
        self._open[number] = self._waiting[number] = connection
        self._networks[network] += 1
        if self._networks[network] > self.room.network:
            self._end(next(self._of(network)))
        elif len(self._waiting) > self.room.waiting or self._too_many():
            self._end(next(iter(self._waiting.values())))

    def is_member(self, number: int, key: bytes) -> bool:
        """Whether a connection, by its file number, may stay as one of the member with this key."""
        connection = self._waiting.get(number)
        if connection is None:
            return False  # it was ended
        if self._keys[key] >= self.room.member:
            return False
        self._leave(connection)
        self._members[number] = key
        self._keys[key] += 1
        return True

    def gone(self, connection: Connection) -> None:
        """One is closed."""
        number = connection.fileno()
        if self._open.pop(number, None) is None:
            return
        self._leave(connection)
        self._ending.discard(number)
        key = self._members.pop(number, None)
        if key is not None:
            self._keys[key] -= 1
            if not self._keys[key]:
                del self._keys[key]

    def counts(self) -> tuple[int, int]:
        """How many are open, and how many of them wait."""
        return len(self._open), len(self._waiting)

    def _too_many(self) -> bool:
        return len(self._open) - len(self._ending) > self.room.all

    def _of(self, network: str) -> Iterator[Connection]:
        return (one for one in self._waiting.values() if one.network == network)

    def _leave(self, connection: Connection) -> None:
        if self._waiting.pop(connection.fileno(), None) is not None:
            self._networks[connection.network] -= 1
            if not self._networks[connection.network]:
                del self._networks[connection.network]

    def _end(self, connection: Connection) -> None:
        """Its end is read from it as if the other had gone; then the server closes it."""
        self._leave(connection)
        self._ending.add(connection.fileno())
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class Listener(socket.socket):
    """Accepts through a gate, and one in a turn of the loop.

    asyncio alone would take all that came, and begin a handshake with each, before anything else:
    a hundred strangers at once would hold members up for the time of a hundred.
    """

    gate: Gate
    _accepted: bool = False

    @classmethod
    def through(cls, gate: Gate, plain: socket.socket) -> Self:
        """Take the place of a socket that listens."""
        taken = cls(plain.family, plain.type, plain.proto, fileno=plain.detach())
        taken.gate = gate
        return taken

    def accept(self) -> tuple[socket.socket, object]:
        """Accept one; see the socket."""
        if self.gate.is_busy or self._accepted:
            self._accepted = False
            raise BlockingIOError
        plain, address = super().accept()
        self._accepted = True
        connection = Connection(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self.gate.came(connection, str(address[0]))
        return connection, address
