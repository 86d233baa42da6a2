"""Where a device stands: a fold over the acts of review in its node's own ledger.

A device is clear; readings put it under review (`device.held`), where it waits; a person releases
it or rejects it, once a review. Reviews of a device are numbered from 1. Nothing else moves it: no
later reading lets go of a device that is held, and none is needed to keep it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from privacy.errors import NotVerifiedError
from privacy.ledger.entry import Entry

HELD: Final = "device.held"
RELEASED: Final = "device.released"
REJECTED: Final = "device.rejected"
ACTS: Final = frozenset({HELD, RELEASED, REJECTED})


class State(StrEnum):
    """Where a device stands."""

    CLEAR = "clear"
    WAITING = "waiting"
    RELEASED = "released"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Act:
    """One act of review, as the ledger has it.

    Attributes:
        kind: One of `ACTS`.
        review: Which review of the device, from 1.
        reason: Why.
        by: Who decided; empty for what readings did.
        readings: Digest of the readings that it is about, 64 hexadecimal digits.
        time_ms: When, milliseconds since 1970 UTC.
    """

    kind: str
    review: int
    reason: str
    by: str
    readings: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one device stands, and how it came there.

    Attributes:
        state: Where.
        acts: All acts about it, oldest first.
    """

    state: State = State.CLEAR
    acts: tuple[Act, ...] = ()

    @property
    def review(self) -> int:
        """The number of its last review; 0 for none."""
        return self.acts[-1].review if self.acts else 0

    @property
    def is_left_out(self) -> bool:
        """Whether its rows are used by nobody."""
        return self.state in {State.WAITING, State.REJECTED}

    @property
    def releases(self) -> tuple[str, ...]:
        """Digests of the readings that were released."""
        return tuple(act.readings for act in self.acts if act.kind == RELEASED)

    @property
    def rejections(self) -> int:
        """How often it was rejected."""
        return sum(act.kind == REJECTED for act in self.acts)

    def after(self, act: Act) -> "Standing":
        """Return where it stands after one more act.

        Raises:
            NotVerifiedError: The act has no place here.
        """
        if act.kind == HELD:
            fits = self.state is not State.WAITING and act.review == self.review + 1
        else:
            fits = self.state is State.WAITING and act.review == self.review
        if not fits:
            raise NotVerifiedError(
                f"the ledger has a {act.kind} of review {act.review} that does not follow from "
                "what it has before; restore it from a copy"
            )
        states = {HELD: State.WAITING, RELEASED: State.RELEASED, REJECTED: State.REJECTED}
        return replace(self, state=states[act.kind], acts=(*self.acts, act))


CLEAR: Final = Standing()


def standings(entries: Iterable[Entry], dataset: str) -> Mapping[str, Standing]:
    """Return the device's digest (hex) -> where it stands, for all devices with any act.

    Args:
        entries: Of a node's ledger, in order; acts of other kinds and data sets are passed over.
        dataset: The contract's name.

    Raises:
        NotVerifiedError: Acts do not follow from each other.
    """
    found: dict[str, Standing] = {}
    for entry in entries:
        if entry.kind not in ACTS or entry.body["dataset"] != dataset:
            continue
        body = entry.body
        device, review = str(body["device"]), body["review"]
        act = Act(
            kind=entry.kind,
            review=review if isinstance(review, int) else 0,
            reason=str(body["reason"]),
            by=str(body.get("by", "")),
            readings=str(body["readings"]),
            time_ms=entry.time_ms,
        )
        found[device] = found.get(device, CLEAR).after(act)
    return MappingProxyType(found)
