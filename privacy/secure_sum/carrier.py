"""What carries a masked vector: plain words, or words inside a homomorphic encryption.

    node           Wrap.shift(words, ..)   add masks, in the carrier's own ring
                   Wrap.close(words)       -> payload, what leaves the node
                   Wrap.open(payload, ..)  -> the sum's words, of what comes back
    coordinator    Adder.add(payload), ..  add up; Adder.correct(..): take masks away again
                   Adder.payload()         -> the sum, in the form in which nodes open it

A carrier knows nothing of members, rounds or signatures.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from privacy.errors import ProtocolError
from privacy.keystream import WORD_BYTES, Words, shift_by_keystream

__all__ = ["Adder", "WordAdder", "WordWrap", "Wrap"]


class Wrap(Protocol):
    """A node's half of a carrier."""

    def shift(self, words: Words, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> Words:
        """Return `words` plus the masks of the keys `added`, minus those of `subtracted`.

        Masks of one key cancel exactly, in the ring of this carrier, between any two vectors of
        the same length. Each key (32 bytes) makes one stream and serves nothing else.
        """
        ...

    def prepare(self, words: Words, *, bits: int) -> Words:
        """Return `words`, each below 2^`bits`, as the numbers that this carrier masks and adds."""
        ...

    def close(self, numbers: Words) -> bytes:
        """Return the payload that holds prepared and masked `numbers`."""
        ...

    def open(self, payload: bytes, *, count: int, bits: int) -> Words:
        """Return the `count` words, modulo 2^64, of a sum's payload.

        Raises:
            ProtocolError: the payload is malformed, or of another length.
        """
        ...


class Adder(Protocol):
    """A coordinator's half of a carrier, for one sum. It holds no key of any payload."""

    def add(self, payload: bytes) -> None:
        """Add one member's payload.

        Raises:
            ProtocolError: it is malformed, or of another length than those before; the sum so far
                is as it was.
        """
        ...

    def correct(self, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
        """Shift the sum by masks, as `Wrap.shift` does."""
        ...

    def payload(self) -> bytes:
        """Return the sum as nodes open it.

        Raises:
            ProtocolError: nothing was added.
        """
        ...


class WordWrap:
    """Words as they are, modulo 2^64."""

    __slots__ = ()

    def shift(self, words: Words, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> Words:
        """See `Wrap.shift`."""
        shifted = words.copy()
        shift_by_keystream(shifted, added, subtracted)
        return shifted

    def prepare(self, words: Words, *, bits: int) -> Words:
        """See `Wrap.prepare`."""
        del bits
        return words

    def close(self, numbers: Words) -> bytes:
        """See `Wrap.close`."""
        return numbers.tobytes()

    def open(self, payload: bytes, *, count: int, bits: int) -> Words:
        """See `Wrap.open`."""
        del bits
        if len(payload) != count * WORD_BYTES:
            raise ProtocolError("an opened sum has another length than was sealed; discard it")
        return np.frombuffer(payload, dtype="<u8").astype(np.uint64)


class WordAdder:
    """Adds words modulo 2^64."""

    __slots__ = ("_total",)

    def __init__(self) -> None:
        self._total: Words | None = None

    def add(self, payload: bytes) -> None:
        """See `Adder.add`."""
        if not payload or len(payload) % WORD_BYTES:
            raise ProtocolError("a payload is no vector of words; its member must seal it again")
        words = np.frombuffer(payload, dtype="<u8")
        if self._total is None:
            self._total = words.astype(np.uint64)
        elif len(words) != len(self._total):
            raise ProtocolError("a payload has another length than the others; compare the schema")
        else:
            self._total += words

    def correct(self, *, added: Sequence[bytes], subtracted: Sequence[bytes]) -> None:
        """See `Adder.correct`."""
        shift_by_keystream(self._known(), added, subtracted)

    def payload(self) -> bytes:
        """See `Adder.payload`."""
        return self._known().tobytes()

    def _known(self) -> Words:
        if self._total is None:
            raise ProtocolError("no payload was added; there is no sum to open")
        return self._total
