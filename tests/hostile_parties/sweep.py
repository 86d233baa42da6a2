"""What is tried in which seeds, and how it is told: single deviations first, then all together."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import get_args

from hostile_parties.federation import Options
from hostile_parties.harness import COORDINATOR, EARLY, NODE, Attack, Found, Key, Plan

from privacy.messages import Reply, Request

PLAIN = Options(members=5, rounds=1)
ABSENT = Options(members=7, rounds=1, countersigned=True)
"""Here one member is not there for updates and evaluations, and masks with it are told."""
SETTINGS = (PLAIN, ABSENT, Options(members=4, rounds=1, suite="hybrid"))
"""Federations in which, together, every kind of message is sent at every step."""
MAKER, MAKES = Options(rounds=1), 10
"""With these, and this seed, it is the hostile member's turn to make the group's key."""
NOWHERE = "nothing", "nowhere"
STEPS = (EARLY, "statistics", "update", "evaluate watch", "evaluate test")


def places(options: Options, seed: int = 0) -> list[tuple[str, str, str]]:
    """Party, kind and step of all that is sent in a run in which nobody deviates."""
    away = "north" if options == ABSENT else ""
    found = Attack(seed, options, Plan(hostile=("mill",), away=away, single=NOWHERE)).run()
    return sorted(found.honest)


def single(options: Options, place: tuple[str, str, str], seed: int) -> Attack:
    """A run in which one party deviates once, at one place."""
    party, kind, step = place
    away = "north" if options == ABSENT else ""
    by_node = party == NODE
    return Attack(
        seed,
        options,
        Plan(
            coordinator=not by_node,
            hostile=("mill",) if by_node else (),
            away=away,
            single=(kind, step),
        ),
    )


def everywhere(seed: int = 0) -> Iterator[Attack]:
    """One deviation at each place of the protocol, each in a run of its own."""
    done: set[tuple[str, str, str]] = set()
    for options, by in [*((options, seed) for options in SETTINGS), (MAKER, MAKES)]:
        new = [place for place in places(options, by) if place not in done]
        done.update(new)
        for place in new:
            yield single(options, place, by)


@dataclass
class Coverage:
    """What was tried in many seeds.

    Attributes:
        tried: How often, and what became of it.
        seeds: How many there were.
        finished: In how many the run came to its end.
        opened: Sums that honest nodes opened, each found right.
    """

    tried: Counter[Key] = field(default_factory=Counter)
    seeds: int = 0
    finished: int = 0
    opened: int = 0

    def add(self, found: Found) -> None:
        self.tried += found.tried
        self.seeds += 1
        self.finished += found.ended == "finished"
        self.opened += found.opened

    def merge(self, other: "Coverage") -> None:
        self.tried += other.tried
        self.seeds += other.seeds
        self.finished += other.finished
        self.opened += other.opened

    def at(self, party: str, kind: str, step: str) -> int:
        """How many deviations were tried there."""
        return sum(count for key, count in self.tried.items() if key[:3] == (party, kind, step))

    def lines(self) -> Iterator[str]:
        """As a table: rows are kinds of messages, columns are steps, cells how much was tried."""
        yield (
            f"{self.seeds} seeds: {self.finished} runs finished, "
            f"{self.seeds - self.finished} ended in a sentence, {self.opened} sums opened and right"
        )
        became = Counter[tuple[str, str]]()
        for (party, *_, what), count in self.tried.items():
            became[party, what] += count
        for party in (COORDINATOR, NODE):
            ways = {key[3] for key in self.tried if key[0] == party}
            said = ", ".join(
                f"{count} {what}" for (who, what), count in sorted(became.items()) if who == party
            )
            yield ""
            yield f"hostile {party}: {len(ways)} deviations; tries: {said}"
            yield f"  {'':22}" + "".join(
                f"{step.removeprefix('before the '):>16}" for step in STEPS
            )
            for kind in kinds(party):
                cells = [self.at(party, kind, step) for step in STEPS]
                yield f"  {kind:22}" + "".join(f"{cell or '.':>16}" for cell in cells)


def kinds(party: str) -> list[str]:
    """Names of the messages that it sends."""
    return [kind.__name__ for kind in get_args(Request if party == COORDINATOR else Reply)]


def swept(attacks: Iterable[Attack]) -> Coverage:
    """Let them happen, one after the other.

    Raises:
        Broken: A promise did not hold; the seed is in its notes.
    """
    coverage = Coverage()
    for attack in attacks:
        try:
            coverage.add(attack.run())
        except BaseException as fault:
            fault.add_note(
                f"seed {attack.seed}: python -m tests.hostile_parties {attack.seed}; "
                f"{attack.options} {attack.plan}"
            )
            raise
    return coverage
