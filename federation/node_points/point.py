"""One thing that was looked at, and what is outside of a node's own files."""

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from federation.handshake import connected
from federation.machine import free_mib, memory_mib
from privacy.errors import TacitError
from privacy.membership import Membership

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was looked at.

    Attributes:
        name: What, in one word or two.
        level: How it is.
        found: One sentence.
        remedy: What to do; empty where nothing need be done.
    """

    name: str
    level: Level
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "level": self.level,
            "found": self.found,
            "remedy": self.remedy,
        }


class Me(Protocol):
    """What the coordinator says of this node and itself; see federation/proto/members.proto."""

    @property
    def role(self) -> str:
        """As it knows this node."""
        ...

    @property
    def name(self) -> str:
        """As it knows this node."""
        ...

    @property
    def time_ms(self) -> int:
        """Its clock, milliseconds since 1970 UTC."""
        ...

    @property
    def version(self) -> str:
        """Of tacit there."""
        ...

    @property
    def key_exchange(self) -> str:
        """How this connection's keys were agreed on; may be empty."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a check reaches for outside of the node's own files.

    Attributes:
        me: Asks the coordinator about this node.
        membership: Who is in the federation, from the coordinator.
        now: The time, with a time zone.
        free_mib: MiB that are free where a path is.
        memory_mib: MiB of memory that are free; None where it cannot be known.
        connect: Opens a connection to `host:port`; raises as `federation.handshake.connected`.
    """

    me: Callable[[], Me]
    membership: Callable[[], Membership]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    free_mib: Callable[[Path], int] = free_mib
    memory_mib: Callable[[], int | None] = memory_mib
    connect: Callable[[str], socket.socket] = connected


def failed(points: Sequence[Point]) -> bool:
    """Whether any point failed."""
    return any(point.level == "failed" for point in points)


def sentence_of(fault: TacitError) -> str:
    """An error as a sentence of its own."""
    text = str(fault).strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def why_of(fault: OSError) -> str:
    """What the system says, in a few words."""
    if isinstance(fault, ssl.SSLError):
        return (fault.reason or "TLS failed").replace("_", " ").lower()
    return (fault.strerror or str(fault) or type(fault).__name__).lower()
