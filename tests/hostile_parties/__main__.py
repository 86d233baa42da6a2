"""Attack federations, and print what was tried where.

`python -m tests.hostile_parties [SEED [END]]`

With one seed: what was tried in it, and how it ended. With two: all from the first to before the
second. Without: each place of the protocol once.
"""

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile_parties.harness import Attack
from hostile_parties.sweep import everywhere, swept
from simulation.broken import Broken


def main() -> int:
    numbers = sys.argv[1:]
    if len(numbers) > 2 or not all(one.isdecimal() for one in numbers):
        sys.stderr.write("usage: python -m tests.hostile_parties [SEED [END]]\n")
        return 2
    logging.disable(logging.CRITICAL)
    first = int(numbers[0]) if numbers else 0
    last = int(numbers[1]) if len(numbers) == 2 else first + 1
    try:
        if numbers:
            coverage = swept(Attack(seed) for seed in range(first, last))
        else:
            coverage = swept(everywhere())
    except Broken as broken:
        sys.stdout.write("\n".join([f"BROKEN: {broken}", *broken.__notes__]) + "\n")
        return 1
    if len(numbers) == 1:
        found = Attack(first).run()
        for key, count in sorted(found.tried.items()):
            sys.stdout.write(f"{count:4} {' | '.join(key)}\n")
        sys.stdout.write("\n".join([*found.sentences, f"it ended: {found.ended}"]) + "\n")
    sys.stdout.write("\n".join(coverage.lines()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
