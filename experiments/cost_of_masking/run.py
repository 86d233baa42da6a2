"""What does hiding a sum cost? Node and coordinator, masked against clear, side by side in one run.

    python experiments/cost_of_masking/run.py [--length 1000000] [--members 12]

Prints CPU milliseconds (best of several) and bytes a number; writes result.json beside this file
with --write. Ratios carry over to other machines, milliseconds do not.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from privacy.fixed_point import narrow
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.secure_sum import SumContext
from privacy.secure_sum.clear import ClearOpener, ClearSealer
from privacy.secure_sum.keys import admit, offer_key
from privacy.secure_sum.masked import MaskedOpener, MaskedSealer

REPEATS = 5


def best_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return 1000 * min(times)


def measure(length: int, members: int) -> dict:
    names = [f"member-{i:02d}" for i in range(members)]
    identities = {name: Identity.create(system_bytes) for name in names}
    directory = {name: identity.public for name, identity in identities.items()}
    run = os.urandom(32)
    made = {
        name: offer_key(identities[name], name, run=run, directory=directory, entropy=system_bytes)
        for name in names
    }
    roster = admit([offer for _, offer in made.values()], run=run, directory=directory, minimum=3)
    encoding = narrow(members, clip=1.0)
    values = np.random.default_rng(0).normal(0, 0.1, length)
    words = encoding.encode(values, system_bytes)
    rounds = iter(range(10_000))

    def context() -> SumContext:
        return SumContext(
            run=run,
            step="update",
            round=next(rounds),
            schema=encoding.schema(length),
            model=bytes(32),
            roster=roster.digest,
        )

    out = {
        "length": length,
        "members": members,
        "encode_ms": best_ms(lambda: encoding.encode(values, system_bytes)),
        "bytes_a_number": 8 * encoding.words(length) / length,
        "float32_sum_ms": best_ms(
            lambda: np.sum([values.astype(np.float32) for _ in range(members)], axis=0)
        ),
    }
    for kind in ("clear", "masked"):
        sealers = {
            name: (
                MaskedSealer(name, identities[name], made[name][0], roster)
                if kind == "masked"
                else ClearSealer(name, identities[name], roster)
            )
            for name in names
        }
        opener = MaskedOpener(roster) if kind == "masked" else ClearOpener(roster)
        first = sealers[names[0]]
        out[f"{kind}_seal_ms"] = best_ms(lambda first=first: first.seal(words, context=context()))
        agreed = context()
        sealed = [sealer.seal(words, context=agreed) for sealer in sealers.values()]
        out[f"{kind}_open_ms"] = best_ms(
            lambda opener=opener, sealed=sealed, agreed=agreed: opener.open_sum(
                sealed, context=agreed
            )
        )
    total = opener.open_sum(sealed, context=agreed)
    out["decode_ms"] = best_ms(lambda: encoding.decode_sum(total, length, members))
    out["node_masked_to_clear"] = (out["encode_ms"] + out["masked_seal_ms"]) / (
        out["encode_ms"] + out["clear_seal_ms"]
    )
    out["coordinator_masked_to_clear"] = out["masked_open_ms"] / out["clear_open_ms"]
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--length", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=12)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.length, asked.members)
    for name, value in result.items():
        print(f"{name:28} {value}")
    if asked.write:
        kept = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **result}
        path = Path(__file__).parent / "result.json"
        path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
