"""Many worlds one after the other, and what was in them: what never happened was not tried."""

from collections import Counter
from collections.abc import Iterable, Mapping

from simulation.options import Options
from simulation.world import World


def traits_of(options: Options) -> list[str]:
    """What is unusual in a world, as counts name it."""
    said = {
        f"sums {options.protection}": True,
        f"suite {options.suite}": True,
        "groups": options.groups,
        "more than five members": options.members > 5,
        "noise": options.noise,
    }
    return [name for name, holds in said.items() if holds]


def lived(seeds: Iterable[int]) -> Mapping[str, int]:
    """Let worlds happen.

    Returns:
        Count of runs that were `finished` and `aborted`; of sums that nodes opened and that held,
        in all and for each trait; of faults.

    Raises:
        Broken: A promise did not hold; a note says in which seed.
    """
    found: Counter[str] = Counter()
    for seed in seeds:
        world = World(seed)
        try:
            ending = world.live()
        except BaseException as fault:
            fault.add_note(f"seed {seed}: python -m tests.simulation {seed}")
            raise
        for outcome in ending.runs.values():
            found["finished" if outcome == "finished" else "aborted"] += 1
        found += Counter(
            seeds=1,
            opened=ending.opened,
            stops=ending.stops,
            refused=ending.refused,
            coordinator_cuts=ending.coordinator_cuts,
            undone=ending.undone,
        )
        found += Counter({f"opened, {name}": ending.opened for name in traits_of(world.has)})
    return dict(sorted(found.items()))
