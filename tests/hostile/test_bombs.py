"""Bytes that say they are huge, or nest without end, take no more memory than they have."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BOMBS = {
    "deep yaml": "parse_yaml(DataContract, 'a: ' + '[' * 100_000, 'f')",
    "laughs": "parse_yaml(DataContract, 'a: &a [x]\\nb: &b [*a,*a,*a,*a]\\n', 'f')",
    "deep json": "parse_canonical(b'[' * 5_000_000)",
    "a large number": "parse_canonical(b'9' * 1_000_000)",
    "a message that is too large": "unpack_request(Parcel(b'\\x81' * 50_000_000))",
    "an array that says it is huge": "unpack_request(Parcel(b'\\xdd\\xff\\xff\\xff\\xff'))",
    "a note of lines": "parse_note(b'\\n' * 5_000_000)",
    "a bundle of lines": "read_bundle(b'{}\\n' * 100_000)",
}


def test_nothing_that_is_sent_takes_more_memory_than_it_has() -> None:
    """400 MiB above what the imports take; each is refused, none is a MemoryError."""
    code = "\n".join(
        [
            "import resource",
            "from clients.contract import DataContract",
            "from clients.frozen import parse_yaml",
            "from privacy.canonical import parse_canonical",
            "from privacy.errors import TacitError",
            "from privacy.ledger.bundle import read_bundle",
            "from privacy.ledger.note import parse_note",
            "from privacy.messages import Parcel, unpack_request",
            "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()",
            "resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)",
            *(
                f"try: {bomb}\nexcept TacitError: print({name!r})"
                for name, bomb in BOMBS.items()
            ),
        ]
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == list(BOMBS), done.stderr[-2000:]
