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
import io
import json
import os
import re
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

NEEDS: Final = "Coverage-guided inputs need atheris; install it: pip install 'tacit-fl[fuzz]'."
PLANTED: Final = "planted"
FAULTY: Final = "faulty"
PACKAGES: Final = ["privacy", "clients", "aggregator", "federation"]
MEMORY_BYTES: Final = 2 << 30
LONGEST_BYTES: Final = 1 << 16
_DONE: Final = re.compile(r"Done (\d+) runs? in (\d+) second")
_LINE: Final = re.compile(r"^#(\d+)\s.*?\bcov: (\d+) ft: \d+ corp: (\d+)/", re.MULTILINE)
_FAULT: Final = re.compile(r"^(?:\S*Fault|AssertionError): (.*)$", re.MULTILINE)
_ARTIFACT: Final = re.compile(r"Test unit written to (\S+)")


class Fault(Exception):  # noqa: N818 - libFuzzer prints its name
    """A decoder did what it may not."""


@dataclass(frozen=True)
class Ready:
    """The project's packages, instrumented, and right bytes for them; each decoder gets a fork.

    Attributes:
        atheris: The library.
        decoders: By name.
        right: Right bytes of each kind.
        fault_of: `hostile.fuzz.fault_of`.
        scratch: Where decoders that read files have them.
    """

    atheris: Any
    decoders: Mapping[str, Any]
    right: Mapping[str, list[bytes]]
    fault_of: Callable[..., tuple[str, bool]]
    scratch: Path


def prepare(scratch: Path) -> Ready:
    """Load and instrument everything once."""
    atheris = importlib.import_module("atheris")
    # it names each module that it instruments
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=PACKAGES):
        from hostile.corpus import corpus
        from hostile.decoders import DECODERS
        from hostile.fuzz import fault_of
    right = corpus(scratch)
    (scratch / "contracts").symlink_to(Path(__file__).parents[2] / "configs" / "contracts")
    return Ready(atheris, {one.name: one for one in DECODERS}, right, fault_of, scratch)


def begin(ready: Ready, name: str, seconds: int, where: Path, seed: int) -> NoReturn:
    """Give one decoder inputs; libFuzzer ends this process."""
    seeds = ready.right.get(name, [b"once upon a time"])
    for kept in ("seeds", "found"):
        (where / kept).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds):
        (where / "seeds" / str(number)).write_bytes(data)

    def one_input(data: bytes) -> None:
        fault, _ = ready.fault_of(ready.decoders[name], data, seeds, ready.scratch)
        if fault:
            # libFuzzer writes none where it is an exception that ends it
            (where / FAULTY).write_bytes(data)
            raise Fault(fault)

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = used * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    options = (
        f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST_BYTES}", "-timeout=20",
        "-rss_limit_mb=0", f"-artifact_prefix={where}/", str(where / "found"), str(where / "seeds"),
    )  # fmt: skip
    one = ready.atheris.instrument_func(planted) if name == PLANTED else one_input
    ready.atheris.Setup([sys.argv[0], *options], one)
    ready.atheris.Fuzz()
    os._exit(0)


def guide(ready: Ready, name: str, seconds: int, where: Path, seed: int) -> dict[str, object]:
    """Do that in a process of its own; what became of it."""
    where.mkdir(parents=True, exist_ok=True)
    log = where / "log"
    pid = os.fork()
    if not pid:
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(out, 1)
            os.dup2(out, 2)
            begin(ready, name, seconds, where, seed)
        except BaseException:  # noqa: BLE001 - it is in the log, and told
            traceback.print_exc()
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    found = told(log.read_text(encoding="utf-8", errors="replace"))
    if "fault" in found and (where / FAULTY).exists():
        found["file"] = str(where / FAULTY)
    return found


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
    given = parser.parse_args(words)
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write(f"{NEEDS}\n")
        return 2
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        ready = prepare(Path(scratch))
        for name in given.only or ready.decoders:
            where = given.folder.resolve() / name.replace(" ", "-")
            found[name] = guide(ready, name, given.seconds, where, given.seed)
            sys.stderr.write(f"{name}: {found[name]}\n")
            sys.stderr.flush()
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return any("fault" in one for one in found.values())


if __name__ == "__main__":
    sys.exit(main())
