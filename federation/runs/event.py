"""What can happen in a run, as it is told to whoever watches: on the wire and in its folder.

Every event has a number, from 0 and without gaps, so whoever lost the line asks for the next one.
Nothing in it is secret from those who may watch, and nothing is evidence: the ledger is that.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from privacy.errors import NotVerifiedError

EVENT_BYTES_MAX: Final = 64 << 10
_Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_Amount = Annotated[float, msgspec.Meta(ge=0)]
_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="step"):
    """A step of the run began."""

    name: str


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="answer"):
    """A member answered to the invitation, or did not.

    Attributes:
        member: Who.
        answer: What.
        reason: Why, in its own words; empty where there is nothing to say.
    """

    member: str
    answer: Literal["agreed", "refused", "pending", "absent"]
    reason: str


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="round"):
    """A round was committed.

    Attributes:
        index: From 1.
        of: How many there are to be.
        watched: Whether it was evaluated on validation rows; members hold what was found.
        seconds: Since the round before, or since the training began.
        bytes_up: What one member sent.
        bytes_down: What one member was sent.
    """

    index: _Natural
    of: _Natural
    watched: bool
    seconds: _Amount
    bytes_up: _Natural
    bytes_down: _Natural


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="note"):
    """Something went otherwise: a member is away, a round was undone."""

    sentence: str


class Finished(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="finished"):
    """The run went to its end; the fields are those of `RunResult`, hashes in hexadecimal."""

    model: _Hash
    architecture: _Hash
    values: _Natural
    bytes_up: _Natural
    bytes_down: _Natural
    bytes_total: _Natural
    undone: _Natural
    absences: dict[str, _Natural]
    seconds: _Amount


class Stopped(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="stopped"):
    """The run ended early, for good."""

    reason: str


class Interrupted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="interrupted"):
    """The run waits for somebody to resume it."""

    reason: str


class Registered(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="registered"):
    """The ledger was told of the model's file and card."""

    file: _Hash
    card: _Hash


Event: TypeAlias = Step | Answer | Round | Note | Finished | Stopped | Interrupted | Registered
ENDS: Final = (Finished, Stopped, Interrupted)


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event.

    Attributes:
        number: From 0.
        time_ms: Milliseconds since 1970 UTC, by the coordinator's clock.
        event: What happened.
    """

    number: _Natural
    time_ms: _Natural
    event: Event

    def to_bytes(self) -> bytes:
        """One line of JSON, without its end."""
        return msgspec.json.encode(self)


_DECODER = msgspec.json.Decoder(Told)


def parse_event(data: bytes) -> Told:
    """Read what `Told.to_bytes` wrote, and no other bytes that would say the same.

    Raises:
        NotVerifiedError: It is none, or of a later version.
    """
    try:
        told = _DECODER.decode(data[: EVENT_BYTES_MAX + 1])  # what is cut off is none
    except (msgspec.MsgspecError, ValueError, RecursionError):
        told = None
    if (
        told is None
        or told.to_bytes() != data
        or not all(text.isprintable() for text in _texts(told.event))
    ):
        raise NotVerifiedError("an event of the run cannot be read; update tacit at both ends")
    return told


def _texts(event: Event) -> Iterator[str]:
    """All words in it: they are shown on terminals."""
    for value in msgspec.structs.astuple(event):
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
