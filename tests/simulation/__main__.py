"""One seed's world with every event, or what was in many of them.

`python -m tests.simulation SEED` and `python -m tests.simulation FIRST STOP`.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.broken import Broken
from simulation.many import lived
from simulation.world import World


def main() -> int:
    numbers = sys.argv[1:]
    if len(numbers) not in {1, 2} or not all(one.isdecimal() for one in numbers):
        sys.stderr.write("usage: python -m tests.simulation SEED | FIRST STOP\n")
        return 2
    if len(numbers) == 2:
        sys.stdout.write(json.dumps(lived(range(*map(int, numbers)))) + "\n")
        return 0
    world = World(int(numbers[0]))
    try:
        ending = world.live()
    except Broken as broken:
        sys.stdout.write("\n".join([*world.trace, f"BROKEN: {broken}"]) + "\n")
        return 1
    sys.stdout.write("\n".join(ending.trace) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
