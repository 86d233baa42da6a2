"""Let one seed's world happen, and print every event: `python -m tests.simulation SEED`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.invariants import Broken
from simulation.world import World


def main() -> int:
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.stderr.write("usage: python -m tests.simulation SEED\n")
        return 2
    world = World(int(sys.argv[1]))
    try:
        ending = world.live()
    except Broken as broken:
        sys.stdout.write("\n".join([*world.trace, f"BROKEN: {broken}"]) + "\n")
        return 1
    sys.stdout.write("\n".join(ending.trace) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
