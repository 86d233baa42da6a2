"""What an .xz file holds, unpacked with bounded memory."""

import lzma
from typing import Final, Protocol

MEMORY_BYTES: Final = 256 << 20
"""More than `xz -9` asks for (65 MiB); how much it is, the file says."""
_BLOCK_BYTES: Final = 1 << 16


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


class XzStream:
    """The content of one or several .xz streams, one behind the other."""

    def __init__(self, packed: Readable) -> None:
        """Read nothing yet."""
        self._packed = packed
        self._stream = _begun()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            lzma.LZMAError: It is damaged, or is no .xz file.
            EOFError: It was cut off.
            NotImplementedError: It needs more than `MEMORY_BYTES`.
        """
        while True:
            data = b""
            if self._stream.eof:
                # zeros may stand between streams
                data = (self._stream.unused_data or self._packed.read(_BLOCK_BYTES)).lstrip(b"\0")
                while not data:
                    block = self._packed.read(_BLOCK_BYTES)
                    if not block:
                        return b""
                    data = block.lstrip(b"\0")
                self._stream = _begun()
            elif self._stream.needs_input:
                data = self._packed.read(_BLOCK_BYTES)
                if not data:
                    raise EOFError("an .xz stream was cut off")
            try:
                found = self._stream.decompress(data, size)
            except lzma.LZMAError as failure:
                if "limit" in str(failure):
                    raise NotImplementedError(str(failure)) from None
                raise
            if found:
                return found


def _begun() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=MEMORY_BYTES)
