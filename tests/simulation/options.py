"""What one seed stands for: how large a federation is, and what goes wrong in it how often."""

from dataclasses import asdict, dataclass
from random import Random

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

    def lines(self) -> list[str]:
        """One for each, as a trace has them."""
        return [f"option {name} = {value}" for name, value in asdict(self).items()]


def options_of(seed: int) -> Options:
    """A seed's options; about half of what can go wrong goes wrong in one world."""
    draw = Random(f"options {seed}")
    members = draw.choice((3, 4, 4, 5))
    stops = (0.0, 0.0, 0.001, 0.003, 0.01)
    return Options(
        members=members,
        least=draw.choice((members, max(3, members - 1))),
        rounds=draw.choice((1, 1, 2)),
        watch_every=draw.choice((1, 1, 2)),
        noise=draw.random() < 0.5,
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
    )
