"""What does each suite cost? Milliseconds an operation, and bytes, on one core.

python experiments/suites/run.py
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.secure_sum.keys import offer_key
from privacy.suites import SUITES
from privacy.suites.suite import Suite
from privacy.suites.voice import SEED_BYTES, Voice, require_signed

REPEATS, WITHIN = 7, 50
MIB = bytes(1 << 20)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median over repeats of one operation's CPU time."""
    taken = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(WITHIN):
            work()
        taken.append((time.process_time() - began) / WITHIN * 1e3)
    return round(statistics.median(taken), 4)


def measured(suite: Suite) -> dict[str, Any]:
    """Return what one suite costs."""
    one, two = (suite.create_exchange(system_bytes) for _ in range(2))
    signer = suite.create_signer(system_bytes)
    signature = signer.sign("bench", b"words")
    envelope = suite.wrap(one.public, bytes(64), b"info")
    key, nonce = system_bytes(32), bytes(12)
    seed = system_bytes(SEED_BYTES) if suite.signs_beside else b""
    voice = Voice(Identity.create(system_bytes), suite, seed)
    said = voice.sign("bench", b"words")
    keys = {"public": voice.public, "beside": voice.beside}
    who: dict[str, Any] = {"run": b"run", "directory": {"bank": voice.public}, "suite": suite}
    _, offer = offer_key(voice, "bank", entropy=system_bytes, **who)
    return {
        "ms": {
            "make a key": milliseconds(lambda: suite.create_exchange(system_bytes)),
            "agree": milliseconds(lambda: one.agree(two.public)),
            "wrap": milliseconds(lambda: suite.wrap(one.public, bytes(64), b"info")),
            "unwrap": milliseconds(lambda: one.unwrap(envelope, b"info")),
            "sign": milliseconds(lambda: signer.sign("bench", b"words")),
            "verify": milliseconds(
                lambda: suite.verify(signer.public, "bench", b"words", signature)
            ),
            "sign in a run": milliseconds(lambda: voice.sign("bench", b"words")),
            "verify in a run": milliseconds(
                lambda: require_signed(suite, "bench", b"words", said, **keys)
            ),
            "seal 1 MiB": milliseconds(lambda: suite.seal(key, nonce, MIB, b"")),
            "hash 1 MiB": milliseconds(lambda: suite.digest(MIB)),
        },
        "bytes": {
            "exchange key": len(one.public),
            "envelope of 64 bytes": len(envelope),
            "signature": len(signature),
            "signature in a run": len(said),
            "offer": len(offer.to_bytes()),
        },
    }


def main() -> None:
    """Measure, print and write `result.json`."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, default=Path(__file__).parent)
    out: Path = asked.parse_args().out
    found = {
        name: {"missing": suite.missing()} if suite.missing() else measured(suite)
        for name, suite in SUITES.items()
    }
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    (out / "result.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
