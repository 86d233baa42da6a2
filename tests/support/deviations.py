"""A run that is attacked at every message: each hostile request goes before an honest one.

For tests only. Each must be refused in a sentence of its own, and the run must still end as if
nothing had been.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from support.direct import Direct
from support.sums import Exchange, federation, watched

from privacy.errors import CohortError, ProtocolError, TacitError
from privacy.identity import Identity
from privacy.messages import Cosigned, Reply, Request, pack, unpack_request
from privacy.secure_sum.group_key import maker_of

MEMBERS = ("bank", "east", "mill", "north", "south", "west")
Loose: TypeAlias = Any  # an array, or a field of any type
Hostile = tuple[Request, bytes]
Make = Callable[[Exchange, Direct], Hostile]


@dataclass(frozen=True)
class Deviation:
    """One hostile request.

    Attributes:
        before: The kind of honest request in whose place it is sent.
        step: The sum that is then under way; "" before the first.
        make: Makes it.
        sentence: What the node refuses it with; {node}, {maker}, {other} are names.
        error: The kind of refusal.
        ends: Whether the node then leaves the run, as it was shown a sum that does not hold.
    """

    before: type
    step: str
    make: Make
    sentence: str
    error: type[TacitError] = ProtocolError
    ends: bool = False


@dataclass
class Deviations:
    """A table of hostile requests, filled by decorating what makes them."""

    all: dict[str, Deviation] = field(default_factory=dict)

    def __call__(
        self,
        before: type,
        step: str,
        sentence: str,
        error: type[TacitError] = ProtocolError,
        *,
        ends: bool = False,
    ) -> Callable[[Make], Make]:
        def kept(make: Make) -> Make:
            name = make.__name__.removeprefix("_").replace("_", " ")
            self.all[name] = Deviation(before, step, make, sentence, error, ends)
            return make

        return kept


def other_than(name: str, *more: str) -> str:
    """The first member that is none of these."""
    return next(member for member in MEMBERS if member not in (name, *more))


def identity_of(run: Direct, name: str) -> Identity:
    return next(n._settings.identity for n in run.nodes.values() if n.member == name)


def replaced(request: Request, **changes: object) -> Request:
    return msgspec.structs.replace(request, **changes)


@dataclass
class Outcome:
    """What became of one hostile request."""

    node: str
    other: str
    maker: str
    reply: Reply | None = None
    error: TacitError | None = None


@dataclass
class Attacked:
    """The run, after everything was tried in it.

    Attributes:
        run: The run.
        tried: What is tried, by name.
        everyone: Whether it is tried at every node, and not only at the first.
        after: Called after each hostile request, before the honest one.
        struck: What became of each, node by node.
        finished: How the run ended; None if it did not.
    """

    run: Direct
    tried: Mapping[str, Deviation]
    everyone: bool = False
    after: Callable[[Exchange], None] = lambda _: None
    struck: dict[str, list[Outcome]] = field(default_factory=dict)
    finished: Loose = None

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What became of each at the first node."""
        return {name: found[0] for name, found in self.struck.items()}

    def strike(self, at: Exchange) -> None:
        """Hand the node every hostile request that belongs here, before the honest one."""
        for name, one in self.tried.items():
            due = isinstance(at.request, one.before) and at.step == one.step
            if due and (self.everyone or name not in self.struck):
                self.struck.setdefault(name, []).append(self._struck(at, one))
                self.after(at)

    def _struck(self, at: Exchange, one: Deviation) -> Outcome:
        node = at.node.member
        session = at.node._sessions.get(self.run.manifest.digest())
        roster = session.roster if session is not None else None
        maker = maker_of(roster) if roster is not None else ""
        outcome = Outcome(node, other_than(node), maker)
        try:
            outcome.reply, _ = at.node.handle(*unpack_request(pack(*one.make(at, self.run))))
        except TacitError as fault:
            outcome.error = fault
        return outcome


def attack_run(folder: Path, deviations: Deviations, tried: Collection[str]) -> Attacked:
    """Try some of the table in a run of its own."""
    run = federation(folder, MEMBERS, update={"clip_l2": 3.0})
    return attack(Attacked(run, {name: deviations.all[name] for name in tried}))


def attack(attacked: Attacked) -> Attacked:
    """Try what is to be tried."""
    run = attacked.run
    watched(run).hostile = attacked.strike
    # An attack that succeeds may end the run; the tests say which one it was.
    with suppress(Exception):
        attacked.finished = run.run().result
    return attacked


REMEMBERS = "it says how much it remembers, and nothing else"
"""In place of a sentence, where a proof of growth begins at another size than that."""


def check_refused(one: Deviation, outcome: Outcome) -> None:
    if one.sentence == REMEMBERS:
        assert isinstance(outcome.reply, Cosigned)
        assert outcome.reply.cosignature is None
        return
    assert outcome.reply is None
    assert outcome.error is not None
    names = {"node": outcome.node, "other": outcome.other, "maker": outcome.maker}
    sentence = one.sentence.format(**names, first=MEMBERS[0], last=MEMBERS[-1])
    with pytest.raises(one.error, match=sentence):
        raise outcome.error
    if one.error is not CohortError:
        assert not isinstance(outcome.error, CohortError)
