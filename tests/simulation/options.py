"""What one seed stands for: how large a federation is, and what goes wrong in it how often."""

from dataclasses import asdict, dataclass
from random import Random

from privacy.manifest import Protection
from privacy.suites import SuiteId
from privacy.suites.sm2_library import missing as sm2_missing

FEW, MANY, GROUPED = (3, 4, 4, 5), (6, 7, 8), (12, 12, 13)
"""Members of a run; the last where updates are summed in groups."""
_RATES = (0.0, 0.0, 0.01, 0.05, 0.15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Derived from a seed alone; a trace begins with them.

    Attributes:
        members: Institutions.
        least: Of them that have to agree to a run.
        rounds: Of training.
        watch_every: Rounds between two validations.
        noise: Whether runs have a privacy plan, and nodes a cap.
        runs: Launched one after the other.
        kept: Whether nodes keep their runs on disk.
        loss: Share of messages that are lost, each way.
        twice: Share of messages that arrive a second time, some of them much later.
        slow: Share of messages that take about as long as a step waits.
        cut: Share of exchanges before which a member's line is cut for a while.
        node_stops: Share of a node's moments at which its process ends.
        power: Share of those that are power cuts: what was not synced is gone.
        coordinator_stops: The same of the coordinator.
        unwritten: Share of writes of a node that its disk refuses.
        skew_s: Most that a node's clock is off.
        calm_s: After so many seconds nothing new goes wrong.
        protection: Of sums.
        suite: Of algorithms; `intl` in place of `gm` where the system has no SM2.
        groups: Whether updates are summed in groups.
        coordinator_power: Share of the coordinator's stops that are power cuts.
        coordinator_unwritten: Share of its writes that its disk refuses.
        undone: Share of removed files that are there again after a power cut, where their folder
            was not synced since.
    """

    members: int
    least: int
    rounds: int
    watch_every: int
    noise: bool
    runs: int
    kept: bool
    loss: float
    twice: float
    slow: float
    cut: float
    node_stops: float
    power: float
    coordinator_stops: float
    unwritten: float
    skew_s: int
    calm_s: float
    protection: Protection = "masked"
    suite: SuiteId = "intl"
    groups: bool = False
    coordinator_power: float = 0.0
    coordinator_unwritten: float = 0.0
    undone: float = 0.0

    @property
    def seeded(self) -> bool:
        """Whether every byte comes from the seed; lattices and suites' signatures draw their own.

        What happens comes from the seed also where not all bytes do.
        """
        return self.protection in {"masked", "clear"} and self.suite == "intl"

    def lines(self) -> list[str]:
        """One for each, as a trace has them."""
        return [f"option {name} = {value}" for name, value in asdict(self).items()]


def options_of(seed: int) -> Options:
    """A seed's options; about half of what can go wrong goes wrong in one world."""
    draw = Random(f"options {seed}")
    protection = _protection(draw.random())
    suite = _suite(draw.random())
    groups = draw.random() < 0.03
    members = draw.choice(GROUPED if groups else MANY if draw.random() < 0.08 else FEW)
    stops = (0.0, 0.0, 0.001, 0.003, 0.01)
    return Options(
        members=members,
        least=draw.choice((members, max(12 if groups else 3, members - 1))),
        rounds=draw.choice((1, 1, 2)),
        watch_every=draw.choice((1, 1, 2)),
        noise=draw.random() < 0.5 and not groups,
        runs=draw.choice((1, 1, 2)),
        kept=draw.random() < 0.75,
        loss=draw.choice(_RATES),
        twice=draw.choice(_RATES),
        slow=draw.choice(_RATES),
        cut=draw.choice(_RATES),
        node_stops=draw.choice(stops),
        power=draw.choice((0.0, 0.5, 1.0)),
        coordinator_stops=draw.choice((0.0, 0.0, 0.003, 0.01, 0.03)),
        unwritten=draw.choice(stops),
        skew_s=draw.choice((0, 0, 3600, 10 * 365 * 86_400)),
        calm_s=draw.choice((20.0, 60.0, 300.0)),
        protection=protection,
        suite=suite,
        groups=groups,
        coordinator_power=draw.choice((0.0, 0.5, 1.0)),
        coordinator_unwritten=draw.choice((0.0, 0.0, 0.01, 0.03)),
        undone=draw.choice((0.0, 0.5, 1.0)),
    )


def _protection(place: float) -> Protection:
    """Lattices take many times as long, so there are few of them."""
    if place < 0.03:
        return "sealed"
    if place < 0.05:
        return "ckks"
    return "clear" if place < 0.12 else "masked"


def _suite(place: float) -> SuiteId:
    if place < 0.04:
        return "hybrid"
    return "gm" if place < 0.08 and not sm2_missing() else "intl"
