"""Wrong bytes for every decoder, within a memory limit.

    PYTHONPATH=.:tests python -m hostile.fuzz --mutants 1000000 --seed 1 --memory-mib 2048

Prints one JSON object: how many mutants each decoder had, how many it took, its slowest answer,
and what was wrong: an error of another kind, wrong bytes that were taken, an answer that took
longer than `SLOWEST_S`, memory beyond the limit. A fault is told with the seed that makes it again.
"""

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hostile.corpus import Corpus, corpus
from hostile.decoders import DECODERS, Decoder
from hostile.mutation import mutant

from privacy.errors import TacitError

SLOWEST_S: Final = 5.0
MOST_FAULTS: Final = 20


@dataclass
class Told:
    """What became of one decoder's mutants."""

    mutants: int = 0
    taken: int = 0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)


def fault_of(decoder: Decoder, data: bytes, seeds: list[bytes], folder: Path) -> tuple[str, bool]:
    """What is wrong with how a decoder answers; empty where nothing is. And whether it took it."""
    try:
        value = decoder.read(data, folder)
    except TacitError as refusal:
        return ("a refusal of several lines" if "\n" in str(refusal) else ""), False
    except MemoryError:
        return "memory beyond the limit", False
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__}: {error}"[:300], False
    if decoder.owes == "sealed" and decoder.bare(data) not in seeds:
        return "wrong bytes were taken", True
    if decoder.owes == "canonical" and decoder.again is not None and decoder.again(value) != data:
        return "what was taken is written otherwise", True
    return "", True


def attack(decoder: Decoder, right: Corpus, mutants: int, seed: int, folder: Path) -> Told:
    """Give one decoder so many mutants."""
    told = Told()
    seeds = right[decoder.name]
    for data in seeds:
        fault, taken = fault_of(decoder, data, seeds, folder)
        if fault or not taken:
            told.faults.append(f"right bytes are refused: {fault}")
    for number in range(mutants):
        data = mutant(seeds, random.Random(f"{seed}/{decoder.name}/{number}"))
        # of the processor: it may have had other work meanwhile
        begun = time.process_time()
        fault, taken = fault_of(decoder, data, seeds, folder)
        took_s = time.process_time() - begun
        told.mutants += 1
        told.taken += taken
        told.slowest_s = max(told.slowest_s, took_s)
        if took_s > SLOWEST_S:
            fault = fault or f"it took {took_s:.1f} s"
        if fault and len(told.faults) < MOST_FAULTS:
            told.faults.append(f"mutant {number} of seed {seed}: {fault}")
    return told


def main() -> int:
    """Read the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory-mib", type=int, default=1024, help="beyond what is in use")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    chosen = [one for one in DECODERS if not given.only or one.name in given.only]
    whole = sum(one.share for one in chosen)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = corpus(folder)
        for shared in ("contracts",):
            (folder / shared).symlink_to(Path(__file__).parents[2] / "configs" / shared)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + (given.memory_mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for decoder in chosen:
            count = max(1, int(given.mutants * decoder.share / whole))
            found = attack(decoder, right, count, given.seed, folder)
            told[decoder.name] = {
                "mutants": found.mutants,
                "taken": found.taken,
                "slowest_s": round(found.slowest_s, 3),
                "faults": found.faults,
            }
            if sys.stderr.isatty():
                sys.stderr.write(f"{decoder.name}: {found.mutants}\n")
    sys.stdout.write(json.dumps(told) + "\n")
    return any(one["faults"] for one in told.values())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
