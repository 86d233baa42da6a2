"""Several of Flower's protobuf messages in one HTTP body: each behind its length, in four bytes.

The two calls that are made so, `TAKE` and `ANSWER`, are told in federation/engine/fleet_filter.py.
"""

from collections.abc import Iterator
from typing import Final, Protocol

TAKE: Final = "/v1/fleet/take-message"
ANSWER: Final = "/v1/fleet/answer-message"
# the header in which a node's process has a name of its own: the last that began is the node
PROCESS: Final = "tacit-process"
LENGTH_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 64 << 20


class Wire(Protocol):
    """Any protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's own name
        """Return its bytes."""
        ...


def framed(message: Wire) -> bytes:
    """One message as a frame."""
    data = message.SerializeToString()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


class Frames:
    """Takes a body in whatever pieces it comes, and gives whole frames."""

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._rest = bytearray()
        self._max = frame_bytes_max

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The frames that this piece completes.

        Raises:
            ValueError: A frame is longer than any may be.
        """
        self._rest += piece
        while len(self._rest) >= LENGTH_BYTES:
            size = int.from_bytes(self._rest[:LENGTH_BYTES], "big")
            if size > self._max:
                raise ValueError(f"a frame of {size} bytes is longer than {self._max}")
            end = LENGTH_BYTES + size
            if len(self._rest) < end:
                return
            whole = bytes(memoryview(self._rest)[LENGTH_BYTES:end])
            del self._rest[:end]
            yield whole

    def close(self) -> None:
        """Raise `ValueError` where the body ended within a frame."""
        if self._rest:
            raise ValueError(f"the body ended within a frame, {len(self._rest)} bytes into it")
