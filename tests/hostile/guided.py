"""Wrong bytes for every decoder, led by what of the code they reach (libFuzzer, by atheris).

    PYTHONPATH=.:tests python -m hostile.guided --seconds 60 [--only NAME ...] [--folder FOLDER]

Where `hostile.fuzz` changes right bytes by chance, this keeps what reached a new branch of this
project's packages and goes on from there. The seeds are the same right bytes, and what counts as a
fault is the same. What reaches something new stays in FOLDER, and the next call begins with it.

Prints one JSON object: decoder -> how many inputs, how many branches (`cov`), how many of them are
worth keeping, and the fault, with the file that shows it again. `planted` is the twin: a decoder
that fails on one word, found letter by letter.
"""

import argparse
import importlib
import importlib.util
import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

NEEDS: Final = "Coverage-guided inputs need atheris; install it: pip install 'tacit-fl[fuzz]'."
PLANTED: Final = "planted"
PACKAGES: Final = ["privacy", "clients", "aggregator", "federation"]
MEMORY_BYTES: Final = 2 << 30
LONGEST_BYTES: Final = 1 << 16
_DONE: Final = re.compile(r"Done (\d+) runs? in (\d+) second")
_LINE: Final = re.compile(r"^#(\d+)\s.*?\bcov: (\d+) ft: \d+ corp: (\d+)/", re.MULTILINE)
_FAULT: Final = re.compile(r"^(?:\S*Fault|AssertionError): (.*)$", re.MULTILINE)
_ARTIFACT: Final = re.compile(r"Test unit written to (\S+)")


class Fault(Exception):  # noqa: N818 - libFuzzer prints its name
    """A decoder did what it may not."""


def names() -> list[str]:
    """All decoders of the table."""
    from hostile.decoders import DECODERS

    return [one.name for one in DECODERS]


def begin(name: str, seconds: int, folder: Path, seed: int) -> None:
    """Give one decoder inputs; ends this process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=PACKAGES):
        from hostile.corpus import corpus
        from hostile.decoders import DECODERS
        from hostile.fuzz import fault_of
    where = folder / name.replace(" ", "-")
    scratch = Path(tempfile.mkdtemp())
    right = corpus(scratch)
    (scratch / "contracts").symlink_to(Path(__file__).parents[2] / "configs" / "contracts")
    seeds = right.get(name, [b"once upon a time"])
    for kept in ("seeds", "found"):
        (where / kept).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (where / "seeds" / str(number)).write_bytes(data)
    decoder = next((one for one in DECODERS if one.name == name), None)

    def one_input(data: bytes) -> None:
        assert decoder is not None
        fault, _ = fault_of(decoder, data, seeds, scratch)
        if fault:
            raise Fault(fault)

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = used * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    options = (
        f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST_BYTES}", "-timeout=20",
        "-rss_limit_mb=0", "-print_final_stats=1", f"-artifact_prefix={where}/",
        str(where / "found"), str(where / "seeds"),
    )  # fmt: skip
    one = atheris.instrument_func(planted) if name == PLANTED else one_input
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def planted(data: bytes) -> None:
    """The twin: by chance nobody writes this word."""
    if data[:1] == b"t" and data[1:2] == b"a" and data[2:3] == b"c" and data[3:4] == b"i":
        raise Fault("the planted word was found")


def told(text: str) -> dict[str, object]:
    """What libFuzzer said of one decoder."""
    done, lines = _DONE.search(text), _LINE.findall(text)
    fault, artifact = _FAULT.search(text), _ARTIFACT.search(text)
    found: dict[str, object] = {
        "inputs": int(done[1] if done else lines[-1][0] if lines else 0),
        "cov": int(lines[-1][1]) if lines else 0,
        "kept": int(lines[-1][2]) if lines else 0,
    }
    if artifact is not None or fault is not None or done is None:
        found["fault"] = fault[1] if fault else text.strip()[-300:]
        found["file"] = artifact[1] if artifact else ""
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--folder", type=Path, default=Path("build/guided"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write(f"{NEEDS}\n")
        return 2
    if given.here:
        begin(given.only[0], given.seconds, given.folder.resolve(), given.seed)
    found = {}
    for name in given.only or names():
        options = ["--only", name, "--seconds", str(given.seconds), "--seed", str(given.seed)]
        done = subprocess.run(
            [sys.executable, "-m", "hostile.guided", *options, "--folder", given.folder, "--here"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        found[name] = told(done.stderr + done.stdout)
        sys.stderr.write(f"{name}: {found[name]}\n")
        sys.stderr.flush()
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return any("fault" in one for one in found.values())


if __name__ == "__main__":
    sys.exit(main())
