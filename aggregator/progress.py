"""How far a run is, as its coordinator writes it down: enough for another process to go on.

A coordinator that was killed asks again for the step that was under way; members answer what they
answered before. So what may not change on the way is written down first: who is in the run before
their keys are shown, who a sum is over before anybody signs that, what was opened before it is
shown. No secret is in it: a coordinator has none but its ledger's key.
"""

from typing import Annotated, Final

import msgspec

from privacy.errors import NotVerifiedError

FORMAT: Final = 1
_Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a member stands.

    Attributes:
        shown: How many of the run's opened steps it accepted.
        absences: Steps that closed without its vector.
        leaves: Entries of its own ledger when it sent its last vector.
    """

    shown: _Natural
    absences: _Natural
    leaves: _Natural


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step's sums as they were, or are to be, shown.

    Attributes:
        notice: The packed `SumNotice`.
        payload: Under which name its payload is kept; empty where it has none.
    """

    notice: bytes
    payload: str


class Opened(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step whose sums were opened, and not yet accepted by enough members.

    Attributes:
        step: As in the ledger.
        round: As in the ledger.
        records: The bodies of `sum.opened`, canonical JSON, sum by sum.
        bytes_up: Of one member's vector.
        bytes_down: Of the sums.
    """

    step: str
    round: _Natural
    records: tuple[bytes, ...]
    bytes_up: _Natural
    bytes_down: _Natural


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the module.

    Attributes:
        format: `FORMAT`.
        run: The manifest's digest.
        offers: The members' signed keys.
        consents: Member -> its signature under the run's digest.
        known: Public key (hexadecimal) of a member -> entries of its own ledger before the run.
        fingerprint: Of the group key; empty before there is one.
        public: Under which name the key's public part is kept.
        members: Where each member stands.
        history: Over all accepted sums.
        model: Hash of the common model.
        accepted: Who accepted the last step's sums, with their signatures.
        architecture: Of the network; empty before the initial model.
        values: Weights of the network.
        seen: How many opened steps everybody has accepted.
        notices: Those that came after them, in order.
        opened: The last of them, until enough members accepted it.
        survivors: Sum under way -> who it is over, as members were asked last.
        revealing: Sums under way whose survivors were asked for what opens them: they tell nothing
            for others.
        over: Rows -> whom sums about them are over.
        done: Steps that were settled, with their round.
        before: Hash of the model that the last round began with.
        last: Bytes up and down of the last update.
        undone: Rounds that members undid.
        bytes_total: What one member sent so far.
    """

    format: int
    run: bytes
    offers: tuple[bytes, ...]
    consents: dict[str, bytes]
    known: dict[str, _Natural]
    fingerprint: bytes
    public: str
    members: dict[str, Place]
    history: bytes
    model: bytes
    accepted: dict[str, bytes]
    architecture: bytes
    values: _Natural
    seen: _Natural
    notices: tuple[Shown, ...]
    opened: Opened | None
    survivors: dict[str, tuple[str, ...]]
    revealing: tuple[str, ...]
    over: dict[str, tuple[str, ...]]
    done: tuple[tuple[str, _Natural], ...]
    before: bytes
    last: tuple[_Natural, _Natural]
    undone: _Natural
    bytes_total: _Natural

    def to_bytes(self) -> bytes:
        """As it is written down."""
        return msgspec.msgpack.encode(self)


def parse_progress(data: bytes, *, run: bytes) -> Progress:
    """Read what `Progress.to_bytes` wrote.

    Args:
        data: What was written down.
        run: The digest of the run that it has to be of.

    Raises:
        NotVerifiedError: It is of another run or version, or was changed.
    """
    try:
        progress = msgspec.msgpack.decode(data, type=Progress)
        again = progress.to_bytes()
    except (msgspec.MsgspecError, ValueError, RecursionError):
        progress, again = None, b""
    if progress is None or again != data or progress.format != FORMAT or progress.run != run:
        raise NotVerifiedError(
            "What was written down of this run cannot be used; launch a new one."
        )
    return progress
