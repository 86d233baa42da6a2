"""Which changes of the privacy-critical code do the tests miss?

python experiments/mutants/run.py [GROUP ...] [--workers N]

mutmut (pip install 'tacit-fl[mutants]') changes one thing at a time in a copy of the code and runs
the tests that reach it. A mutant whose only change is the wording of a sentence is counted apart:
what it says is the business of other tests. Results go to result.json beside this file.
"""

import argparse
import difflib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PARTS = (
    "aggregator",
    "clients",
    "configs",
    "docs",
    "federation",
    "privacy",
    "tests",
    "experiments",
)
FILES = ("README.md", "Makefile", "CHANGELOG.md", "LICENSE", "pyproject.toml")
SURVIVED, UNREACHED = 0, 33
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tree": (
        ("privacy/ledger/merkle.py", "privacy/ledger/proof.py"),
        (
            "tests/property/test_merkle.py", "tests/unit/privacy/test_merkle.py",
            "tests/unit/privacy/test_tlog_proof.py",
        ),
    ),
    "states": (
        ("privacy/ledger/note.py", "privacy/ledger/checkpoint.py", "privacy/ledger/head.py"),
        (
            "tests/unit/privacy/test_note.py", "tests/unit/privacy/test_checkpoint.py",
            "tests/unit/privacy/test_witness.py", "tests/property/test_ledger.py",
            "tests/unit/privacy/test_ledger_entries.py",
        ),
    ),
    "accounting": (
        (
            "privacy/accounting/rdp.py", "privacy/accounting/filter.py",
            "privacy/accounting/event.py", "privacy/cap.py",
        ),
        (
            "tests/unit/privacy/test_accounting_rdp.py",
            "tests/unit/privacy/test_accounting_filter.py",
            "tests/unit/privacy/test_accounting_event.py", "tests/unit/privacy/test_cap.py",
            "tests/property/test_cap.py", "tests/property/test_accounting.py",
        ),
    ),
    "shares": (
        (
            "privacy/shamir.py", "privacy/secure_sum/cohort.py", "privacy/secure_sum/statements.py",
            "privacy/secure_sum/tag.py", "privacy/sum_context.py",
        ),
        (
            "tests/unit/privacy/test_shamir.py", "tests/unit/privacy/test_cohort.py",
            "tests/unit/privacy/test_tag.py", "tests/unit/privacy/test_sum_context.py",
            "tests/unit/privacy/test_sum_messages.py",
        ),
    ),
    "masks": (
        ("privacy/fixed_point.py", "privacy/keystream.py", "privacy/secure_sum/graph.py"),
        (
            "tests/property/test_fixed_point.py", "tests/unit/privacy/test_fixed_point_words.py",
            "tests/unit/privacy/test_keystream.py", "tests/unit/privacy/test_graph.py",
        ),
    ),
    "noise": (
        ("privacy/noise.py", "privacy/mechanism.py", "privacy/sampling.py"),
        (
            "tests/property/test_noise.py", "tests/unit/privacy/test_noise.py",
            "tests/unit/privacy/test_sampling.py", "tests/statistical/test_noise.py",
        ),
    ),
    "gate": (
        ("clients/gate.py", "clients/review.py"),
        (
            "tests/unit/clients/test_gate.py", "tests/property/test_review.py",
            "tests/unit/clients/test_usable_rows.py", "tests/unit/clients/test_review_store.py",
        ),
    ),
}  # fmt: skip


def copied(root: Path, sources: tuple[str, ...], tests: tuple[str, ...]) -> None:
    """A copy of the project in which mutmut changes these files alone."""
    for part in PARTS:
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(ROOT / name, root / name)
    settings = {
        "source_paths": list(sources),
        "pytest_add_cli_args_test_selection": list(tests),
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:randomly"],
        "also_copy": [*PARTS, *FILES],
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    with (root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


def without_words(code: str) -> str:
    """Code with the text of every string taken out."""
    try:
        tokens = tokenize.generate_tokens(io.StringIO(code).readline)
        return " ".join(
            '""' if one.type == tokenize.STRING or "FSTRING" in tokenize.tok_name[one.type]
            else one.string
            for one in tokens
        )  # fmt: skip
    except (tokenize.TokenError, IndentationError, SyntaxError):
        return re.sub(r'"[^"]*"', '""', code)


def change(root: Path, name: str) -> tuple[str, str]:
    """What a mutant takes out and puts in, as mutmut shows it."""
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", name], cwd=root, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    lines = [one for one in shown.splitlines() if not one.startswith(("---", "+++", "#"))]
    out = "\n".join(one[1:].strip() for one in lines if one.startswith("-"))
    put = "\n".join(one[1:].strip() for one in lines if one.startswith("+"))
    return out, put


def shortened(out: str, put: str) -> str:
    """One line for people."""
    parts = difflib.ndiff(out.splitlines(), put.splitlines())
    return " | ".join(one for one in parts if one[:1] in "+-")[:300]


def group(name: str, workers: int) -> dict[str, Any]:
    """Run one group and count."""
    sources, tests = GROUPS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        root.mkdir()
        copied(root, sources, tests)
        with (Path(folder) / "log").open("w+", encoding="utf-8") as log:
            done = subprocess.run(
                [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers)],
                cwd=root, stdout=log, stderr=log, check=False,
            )  # fmt: skip
            if done.returncode:
                log.seek(0)
                raise SystemExit(f"mutmut ended with {done.returncode}: {log.read()[-2000:]}")
        codes: dict[str, int] = {}
        for source in sources:
            meta = json.loads((root / "mutants" / f"{source}.meta").read_text())
            codes |= meta["exit_code_by_key"]
        left, words = {}, 0
        for mutant, code in codes.items():
            if code not in {SURVIVED, UNREACHED}:
                continue
            out, put = change(root, mutant)
            if without_words(out) == without_words(put):
                words += 1
            else:
                left[mutant] = shortened(out, put)
    counted = len(codes) - words
    return {
        "mutants": len(codes),
        "wording": words,
        "killed": counted - len(left),
        "killed_share": round((counted - len(left)) / counted, 4),
        "codes": {str(code): count for code, count in sorted(Counter(codes.values()).items())},
        "survivors": left,
    }


def main() -> None:
    """Run the groups that are asked for, and keep what is known of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", default=list(GROUPS))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    result = Path(__file__).with_name("result.json")
    known = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    for name in given.groups:
        known[name] = group(name, given.workers)
        result.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        facts = known[name]
        print(f"{name}: {facts['killed_share']:.1%} of {facts['mutants'] - facts['wording']}")


if __name__ == "__main__":
    main()
