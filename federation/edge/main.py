"""`tacit-edge`: score offline, with numpy and cryptography alone; a failure is one sentence."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from federation.edge.printable import printable
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError

HOME_VARIABLE: Final = "TACIT_EDGE_HOME"
SHOWN: Final = 3
STOPPED: Final = 1


def main(words: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 refused or not verified, 2 wrong usage."""
    told = _parser().parse_args(words)
    run: Callable[[argparse.Namespace], None] = told.run
    try:
        run(told)
    except TacitError as failure:
        _fail(str(failure), failure.exit_code)
    except ModuleNotFoundError as failure:
        if failure.name != "numpy":
            raise
        _fail("numpy is not there; install it with: pip install 'tacit-fl[edge]'.", 2)
    except KeyboardInterrupt:
        _fail("Stopped by hand; what was scored is in the log.", STOPPED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone
        os._exit(STOPPED)
    except OSError as failure:
        where = failure.filename or "a file"
        _fail(f"{where}: {failure.strerror or failure}; free some space or choose another.", 1)
    sys.exit(0)


def edge_home(given: Path | None) -> Path:
    """The device's own folder: what was given, else $TACIT_EDGE_HOME, else ~/.tacit-edge."""
    chosen = given or os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".tacit-edge"


def score_text(facts: dict[str, Any], language: str) -> str:
    """One score for people, on one line."""
    parts = [f"{facts['unit']}: {facts['value']:.4g}"]
    if facts["above"]:
        parts.append(f"above {', '.join(facts['above'])}")
    if facts.get("outside"):
        parts.append(f"last reading outside of {', '.join(facts['outside'])}")
    history = facts.get("history")
    if history is not None:
        short = ", less than the window" if history["short"] else ""
        parts.append(f"{history['readings']} readings over {history['hours']:.6g} h{short}")
        if history["absent"]:
            parts.append(f"absent: {', '.join(history['absent'])}")
    parts += [one[language] for one in facts["reasons"][:SHOWN]]
    return printable(" | ".join(parts))


def printer(*, as_json: bool, language: str) -> Callable[[dict[str, Any]], None]:
    """What writes a score on standard output: a JSON object a line, or a line for people."""

    def give(facts: dict[str, Any]) -> None:
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False) if as_json else ""
        sys.stdout.write((text or score_text(facts, language)) + "\n")
        sys.stdout.flush()

    return give


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tacit-edge", description="Score readings offline with a signed bundle, with reasons."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    score = verbs.add_parser("score", help="Score rows; a line each, and a line in the log.")
    score.add_argument("bundle", type=Path, help="The bundle (.tacit).")
    score.add_argument(
        "rows", nargs="*", default=["-"], help="Files or folders; -: standard input."
    )
    score.add_argument(
        "--trust", action="append", default=[], help="Fingerprint of a signer, or a file of them."
    )
    score.add_argument("--contract", help="Refuse a bundle for another one: its name or digest.")
    score.add_argument("--stated", type=Path, help="Table of the inputs that no reading gives.")
    score.add_argument("--form", choices=("csv", "jsonl"), help="Of the rows; else as they look.")
    score.add_argument(
        "--each-reading", action="store_true", help="A score for each reading, not at the end."
    )
    score.add_argument("--follow", action="store_true", help="Go on with what files get.")
    score.add_argument("--lang", choices=("en", "zh"), default="en", help="Of the reasons.")
    score.set_defaults(run=_score)

    inspect = verbs.add_parser("inspect", help="Show what is in a bundle, by whom, until when.")
    inspect.add_argument("bundle", type=Path, help="The bundle (.tacit).")
    inspect.add_argument(
        "--trust", action="append", default=[], help="Fingerprint of a signer, or a file of them."
    )
    inspect.set_defaults(run=_inspect)

    trust = verbs.add_parser("trust", help="Keep whose bundles may score on this device.")
    trust.add_argument("fingerprint", nargs="+", help="As tacit model export printed it.")
    trust.set_defaults(run=_trust)

    log = verbs.add_parser("log", help="Verify this device's log, and show its fingerprint.")
    log.set_defaults(run=_log)

    for one in (score, inspect, trust, log):
        one.add_argument("--home", type=Path, help="The device's own folder.")
        one.add_argument("--json", action="store_true", help="For programs.")
    return parser


def _score(told: argparse.Namespace) -> None:
    from federation.edge.scoring import EdgeJob, score_all

    job = EdgeJob(
        bundle=told.bundle,
        places=tuple(told.rows),
        home=edge_home(told.home),
        trust=tuple(told.trust),
        contract=told.contract,
        stated=told.stated,
        form=told.form,
        each_reading=told.each_reading,
        follow=told.follow,
    )
    if not score_all(job, printer(as_json=told.json, language=told.lang)):
        sys.stderr.write("tacit-edge: there were no rows, so nothing was scored.\n")


def _inspect(told: argparse.Namespace) -> None:
    from clients.scoring.bundle_file import look_at_bundle, read_bundle_file
    from clients.scoring.device import DeviceFolder
    from clients.scoring.trust import read_trust
    from federation.edge.pages import bundle_facts, bundle_text
    from federation.edge.scoring import machine_clock

    trusted = read_trust(told.trust) | DeviceFolder(edge_home(told.home)).known()
    try:
        opened = look_at_bundle(read_bundle_file(told.bundle))
    except NotVerifiedError as failure:
        raise NotVerifiedError(f"{told.bundle}: {failure}") from None
    facts = bundle_facts(opened, trusted=opened.signer in trusted, now_s=machine_clock())
    sys.stdout.write((json.dumps(facts, indent=1) if told.json else bundle_text(facts)) + "\n")


def _trust(told: argparse.Namespace) -> None:
    from clients.scoring.device import DeviceFolder
    from clients.scoring.trust import read_trust

    folder = DeviceFolder(edge_home(told.home))
    with folder.exclusive():
        kept = folder.trust(sorted(read_trust(told.fingerprint)))
    if told.json:
        sys.stdout.write(json.dumps({"trusted": sorted(kept)}, indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{one}\n" for one in sorted(kept)))


def _log(told: argparse.Namespace) -> None:
    from clients.scoring.device import DeviceFolder, read_head
    from clients.scoring.score_log import LONGEST_LINE, LogReader

    folder = DeviceFolder(edge_home(told.home))
    if not folder.log.exists():
        raise InputError(f"{folder.root}: holds no log yet; score something first.")
    reader = LogReader(str(folder.log))
    with folder.exclusive():
        head, size = read_head(folder)
        with folder.log.open("rb") as file:
            while file.tell() < size:
                reader.take(file.readline(LONGEST_LINE).removesuffix(b"\n"))
    if reader.head != head or reader.beginning is None:
        raise RefusedError(f"{folder.log}: was cut or changed; restore it from a copy.")
    facts = {
        "log": str(folder.log),
        "device": reader.beginning.device,
        "contract": reader.beginning.contract,
        "lines": head.lines,
        "head": head.digest,
        "last_s": head.time_s,
    }
    if told.json:
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        sys.stdout.write(
            f"{facts['log']} holds: {head.lines} lines, head {head.digest[:16]}..\n"
            f"device {facts['device']}\n"
        )


def _fail(sentence: str, code: int) -> None:
    sys.stderr.write(f"tacit-edge: {printable(' '.join(sentence.split()))}\n")
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
