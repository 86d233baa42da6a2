"""Which changes of the privacy-critical code do the tests miss?

python experiments/mutants/run.py [GROUP or FILE ...] [--workers N] [--again] [--survivors]

mutmut (pip install 'tacit-fl[mutants]') changes one thing at a time in a copy of the code and runs
the tests that reach it, the quickest first (mutants_quick.py). A mutant whose only change is the
wording of a sentence (what an error says, a string with blanks) is counted apart, noticed or not:
what it says is the business of other tests. A file's result goes to result.json beside this file
once it is done, or stopped (SIGTERM: what was tried counts). A file that has one, and is as it was,
is not tried again unless `--again` asks; `--survivors` tries what survived, as tests were added.
`--table` prints what is known.
"""

import argparse
import ast
import difflib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Facts = dict[str, Any]
PARTS = ("aggregator", "clients", "configs", "federation", "privacy", "tests")
FILES = ("README.md", "Makefile", "CHANGELOG.md", "LICENSE", "pyproject.toml")
MISSED = {0, 5, 33}  # survived; no test is left; no test comes by
TIMED_OUT = {-26, -24, -9, 24, 36, 152, 255}
CODECS = {"utf-8", "ascii"}
UNIT = "tests/unit/privacy/"
ROTATED = "tests/attacks/test_rotated_keys.py::"
SUMS = (
    "-k", "masked or clear or sum_messages or exchange_keys or group_key or cohort or hybrid",
    "tests/contract/test_secure_sum.py", UNIT + "test_sum_messages.py",
    UNIT + "test_exchange_keys.py", UNIT + "test_group_key.py", UNIT + "test_cohort.py",
)  # fmt: skip
MASKED = (  # of what all schemes share; each test costs time before the first mutant
    "-k",
    "masked and not long_vectors and not wrong_with and not is_said or sum_messages or cohort",
    *SUMS[2:],
)  # fmt: skip
STORE = (
    UNIT + "test_memory_ledger.py", UNIT + "test_rotation.py", UNIT + "test_cap.py",
    UNIT + "test_bundle.py", UNIT + "test_ledger_entries.py",
    "tests/unit/clients/test_ledger_watch.py",
)  # fmt: skip
SLOW = (  # these take seconds, and others reach the same code
    "tests/property/test_merkle.py::test_a_witness_signs_one_history",
    "tests/property/test_merkle.py::test_two_processes_never_make_a_witness_sign_two_histories",
    UNIT + "test_note.py::test_reading_never_fails_otherwise",
    UNIT + "test_graph.py::test_the_degree_grows_with_the_logarithm_of_the_cohort",
    UNIT + "test_graph.py::test_more_members_never_have_many_fewer_neighbours",
    UNIT + "test_graph.py::test_the_degree_is_the_published_one[100000-1682]",
    UNIT + "test_graph.py::test_the_graph_is_symmetric_regular_and_without_loops",
    UNIT + "test_accounting_calibrate.py::test_unusual_wishes_are_met[40.0]",
    UNIT + "test_accounting_filter.py::test_deciding_about_a_long_history_is_quick",
    UNIT + "test_budget.py::test_a_log_that_was_torn_holds_a_beginning_of_what_was_written",
)
STATES = (
    UNIT + "test_note.py", UNIT + "test_checkpoint.py", UNIT + "test_witness.py",
    UNIT + "test_ledger_entries.py", "tests/property/test_ledger.py",
)  # fmt: skip
VERDICTS = (  # of both verifiers' vectors, those that the first one reads
    "-k", "not verifiers and not regulator_needs or bundle_that_holds or step_of_first",
    UNIT + "test_ledger_verdict.py", UNIT + "test_membership_runs.py",
    UNIT + "test_verdict_nodes.py", "tests/contract/test_verifiers.py",
)  # fmt: skip
FILE = (
    "-k", "sqlite_ledger or (file or syncs or copy_) and not database and not processes",
    UNIT + "test_sqlite_ledger.py", "tests/contract/test_ledger_store.py",
)  # fmt: skip
REVIEWS = ("tests/unit/clients/test_review_store.py", "tests/property/test_review.py")
TREE = ("tests/property/test_merkle.py", UNIT + "test_merkle.py", UNIT + "test_tlog_proof.py")
NOISE = (
    "tests/property/test_noise.py", UNIT + "test_noise.py",
)  # fmt: skip
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "tree": {
        "privacy/ledger/merkle.py": TREE,
        "privacy/ledger/proof.py": TREE,
    },
    "states": {
        "privacy/ledger/note.py": STATES,
        "privacy/ledger/checkpoint.py": (UNIT + "test_checkpoint.py", UNIT + "test_witness.py"),
        "privacy/ledger/head.py": STATES,
    },
    "ledger": {
        "privacy/ledger/memory.py": STORE,
        "privacy/ledger/store.py": STORE,
        "privacy/ledger/beginning.py": (UNIT + "test_rotation.py",),
        "privacy/ledger/witness.py": (
            UNIT + "test_witness.py", "tests/unit/clients/test_ledger_watch.py",
            ROTATED + "test_a_witness_follows_a_chain_and_remembers_all_keys",
            ROTATED + "test_a_witness_is_moved_by_a_proven_rotation_alone",
        ),
        "privacy/ledger/bundle.py": (UNIT + "test_bundle.py",),
        "privacy/ledger/entry.py": (UNIT + "test_ledger_entries.py", UNIT + "test_rotation.py"),
        "privacy/ledger/grammar.py": VERDICTS,
        "privacy/ledger/sqlite.py": FILE,
        "privacy/verify.py": (*VERDICTS, UNIT + "test_verdict_witnesses.py"),
    },
    "accounting": {
        "privacy/cap.py": (UNIT + "test_cap.py", "tests/property/test_cap.py"),
        "privacy/accounting/filter.py": (
            UNIT + "test_accounting_filter.py", "tests/property/test_accounting.py",
        ),
        "privacy/accounting/event.py": (
            UNIT + "test_accounting_event.py", UNIT + "test_accounting_filter.py",
            "tests/property/test_accounting.py",
        ),
        "privacy/accounting/rdp.py": (
            UNIT + "test_accounting_rdp.py", UNIT + "test_accounting_filter.py",
            "tests/property/test_accounting.py",
        ),
        "privacy/accounting/pld.py": (UNIT + "test_accounting_pld.py",),
        "privacy/accounting/calibrate.py": (UNIT + "test_accounting_calibrate.py",),
        "privacy/spent.py": (UNIT + "test_spent.py",),
        "privacy/release.py": (UNIT + "test_budget.py", "tests/property/test_budget.py"),
        "privacy/budget.py": (
            UNIT + "test_budget.py", "tests/property/test_budget.py", UNIT + "test_cap.py",
        ),
    },
    "shares": {
        "privacy/shamir.py": (UNIT + "test_shamir.py",),
        "privacy/sum_context.py": (UNIT + "test_sum_context.py", UNIT + "test_sum_messages.py"),
        "privacy/secure_sum/cohort.py": (UNIT + "test_cohort.py", UNIT + "test_sum_messages.py"),
        "privacy/secure_sum/statements.py": MASKED,
        "privacy/secure_sum/tag.py": (
            "-k", "affine or ends or short or sixteen or above or _key_ or of_fewer or nothing",
            UNIT + "test_tag.py",
        ),
    },
    "sums": {
        "privacy/secure_sum/pair_keys.py": (
            UNIT + "test_hybrid_sealer.py",
            "tests/attacks/test_pair_keys.py::test_a_secret_is_of_one_pair_direction_and_run",
        ),
        "privacy/secure_sum/schemes.py": (
            "-k", SUMS[1] + " or test_schemes", UNIT + "test_schemes.py", *SUMS[2:],
        ),
        "privacy/secure_sum/group_key.py": (
            "-k", "not ckks", UNIT + "test_group_key.py",
            UNIT + "test_hybrid_sealer.py",
        ),
        "privacy/secure_sum/__init__.py": MASKED,
        "privacy/secure_sum/keys.py": (
            UNIT + "test_exchange_keys.py", UNIT + "test_group_key.py",
            UNIT + "test_hybrid_sealer.py",
        ),
        "privacy/secure_sum/gathering.py": SUMS,
        "privacy/secure_sum/sealer.py": (*SUMS, UNIT + "test_hybrid_sealer.py"),
    },
    "masks": {
        "privacy/keystream.py": (UNIT + "test_keystream.py",),
        "privacy/fixed_point.py": (
            "tests/property/test_fixed_point.py", UNIT + "test_fixed_point_words.py",
        ),
        "privacy/secure_sum/graph.py": (UNIT + "test_graph.py",),
    },
    "lattice": {
        "privacy/secure_sum/lattice.py": (
            "-k", "not 33000 and not 16384 and not is_loaded", UNIT + "test_lattice.py",
        ),
    },
    "noise": {
        "privacy/mechanism.py": (UNIT + "test_mechanism.py",),
        "privacy/sampling.py": (UNIT + "test_sampling.py",),
        "privacy/noise.py": NOISE,
    },
    "gate": {
        "clients/gate_rows.py": ("tests/unit/clients/test_gate_rows.py",),
        "clients/review.py": REVIEWS,
        "clients/gate.py": (
            "tests/unit/clients/test_gate.py", "tests/property/test_gate_readings.py",
            "tests/unit/clients/test_usable_rows.py", "tests/unit/clients/test_left_out.py",
            "tests/unit/clients/test_gate_rows.py",
        ),
        "clients/review_store.py": (*REVIEWS[:1], "tests/unit/clients/test_review_files.py"),
    },
}  # fmt: skip


def decorated_after(code: str) -> str:
    """The same code, with what mutmut passes over (properties, caches) as plain functions.

    `@cache def f` becomes `def _of_f` and, behind it, `f = cache(_of_f)`.
    """
    lines = code.splitlines()
    found = [
        (one, ast.get_source_segment(code, one.decorator_list[0]) or "")
        for one in ast.walk(ast.parse(code))
        if isinstance(one, ast.FunctionDef) and len(one.decorator_list) == 1
    ]
    for one, decorator in sorted(found, key=lambda pair: -pair[0].lineno):
        if decorator.partition("(")[0] not in {"property", "lru_cache", "contextmanager"}:
            continue
        at = one.lineno - 1
        end = one.end_lineno or one.lineno
        lines.insert(end, f"{' ' * one.col_offset}{one.name} = {decorator}(_of_{one.name})")
        lines[at] = lines[at].replace(f"def {one.name}(", f"def _of_{one.name}(", 1)
        del lines[one.decorator_list[0].lineno - 1 : at]
    return "\n".join(lines) + "\n"


def copied(root: Path, source: str, tests: tuple[str, ...]) -> None:
    """A copy of the project in which mutmut changes this file alone."""
    for part in PARTS:
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(ROOT / name, root / name)
    changed = root / source
    changed.write_text(decorated_after(changed.read_text(encoding="utf-8")), encoding="utf-8")
    quick = ["-p", "_hypothesis_pytestplugin", "-p", "mutants_quick"]
    quick += ["--hypothesis-profile", "mutants", "--tb=no", "--assert=plain"]
    quick += [f"--deselect={one}" for one in SLOW]
    settings = {
        "source_paths": [source],
        "pytest_add_cli_args_test_selection": list(tests),
        # mutmut first lets every function fail, `__del__` too, where nobody can catch it
        "pytest_add_cli_args": [
            *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:unraisableexception"),
            *quick,
        ],
        "also_copy": [*PARTS, *FILES],
        "timeout_multiplier": 20.0,
        "timeout_constant": 2.0,
        "track_dependencies": False,
        "use_git_change_detection": False,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    with (root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


class WithoutWords(ast.NodeTransformer):
    """Takes out what an error is told, and the text of every string that holds a blank."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Keep which error it is."""
        if isinstance(node.exc, ast.Call):
            return ast.Raise(ast.Call(node.exc.func, [], []), node.cause)
        return node

    def visit_JoinedStr(self, _: ast.JoinedStr) -> ast.AST:
        """Formatted strings are sentences."""
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Words without a blank are names of things, and stay; a codec has one name in any case."""
        text = node.value
        if not isinstance(text, str):
            return node
        return ast.Constant("" if " " in text or text.lower() in CODECS else text)


def functions(code: Path) -> dict[str, ast.FunctionDef]:
    """Every function of the file that mutmut wrote: as it was, and as each mutant is."""
    tree = ast.parse(code.read_text(encoding="utf-8"))
    return {
        one.name: one
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef) and "__mutmut_" in one.name
    }


def change(known: dict[str, ast.FunctionDef], mutant: str) -> str:
    """What a mutant takes out and puts in, in one line; nothing if it is only a wording."""
    name = mutant.rsplit(".", 1)[-1]
    pair = [known[name.rpartition("_")[0] + "_orig"], known[name]]
    bodies = ["\n".join(map(ast.unparse, [*one.body, *one.args.defaults])) for one in pair]
    plain = [
        ast.unparse([WithoutWords().visit(part) for part in ast.parse(body).body])  # type: ignore[arg-type]
        for body in bodies
    ]
    if plain[0] == plain[1]:
        return ""
    before, after = (body.splitlines() for body in bodies)
    parts = difflib.ndiff(before, after)
    return " | ".join(one for one in parts if one[:1] in "+-")[:900]


def mutmut(root: Path, workers: int, only: list[str]) -> None:
    """Run it in a copy; `only` names mutants, none means all."""
    own = {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = {**os.environ, **own}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers), *only]
    with (root.parent / "log").open("w+", encoding="utf-8") as log:
        running = subprocess.Popen(
            command, cwd=root, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            code = running.wait()
        finally:  # a mutant that runs for ever must not outlive us
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        if code:
            log.seek(0)
            told = [line for line in log if "Running" not in line]
            raise SystemExit(f"mutmut ended with {code}: {''.join(told)[-3000:]}")


def tried(source: str, tests: tuple[str, ...], workers: int, before: Facts) -> Facts:
    """Try the mutants of one file; with a result from before, those that survived or were left."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        root.mkdir()
        copied(root, source, tests)
        with suppress(KeyboardInterrupt):  # what was tried counts
            mutmut(root, workers, [*before.get("survivors", ()), *before.get("untried", ())])
        seconds = before.get("seconds", 0) + round(time.monotonic() - began_s)
        return {**counted(root, source, before), "seconds": seconds}


def counted(root: Path, source: str, before: Facts) -> Facts:
    """What came of the mutants of one file so far."""
    codes = json.loads((root / "mutants" / f"{source}.meta").read_text())["exit_code_by_key"]
    known = functions(root / "mutants" / source)
    changes = {mutant: change(known, mutant) for mutant in codes}
    asked = {*before.get("survivors", ()), *before.get("untried", ())} or set(codes)
    missed = [one for one in asked if changes[one] and codes[one] in MISSED]
    untried = [one for one in asked if changes[one] and codes[one] is None]
    # what survived before and was not tried anew has still survived
    missed += [one for one in untried if one in before.get("survivors", ())]
    return {
        "of": digest(source),
        # a file that was tried before its properties were has more of them now, which nobody tried
        "mutants": before.get("mutants", len(codes)),
        "wording": before.get("wording", sum(not text for text in changes.values())),
        "timed_out": before.get("timed_out", 0) + sum(codes[one] in TIMED_OUT for one in asked),
        "survivors": {one: changes[one] for one in sorted(missed)},
        "untried": sorted(set(untried) - set(missed)),
    }


def digest(source: str) -> str:
    """What the file was when it was tried."""
    return hashlib.sha256((ROOT / source).read_bytes()).hexdigest()[:16]


def table(known: dict[str, Facts], explained: set[str]) -> str:
    """The table of README.md, a row a group."""
    lines = [
        (
            "| group | mutants | wording | untried | noticed | by time | same | missed "
            "| noticed of all | without the same |"
        ),
        f"|{' --- |' * 10}",
    ]
    for group, sources in GROUPS.items():
        facts = [known[one] for one in sources if one in known]
        mutants, words, late = (
            sum(one[key] for one in facts) for key in ("mutants", "wording", "timed_out")
        )
        left = {name for one in facts for name in one["survivors"]}
        untried = sum(len(one.get("untried", ())) for one in facts)
        judged = mutants - words - untried
        if not judged:
            continue
        noticed = judged - len(left)
        same = len(left & explained)
        whole = "" if len(facts) == len(sources) else f" ({len(facts)} of {len(sources)} files)"
        lines.append(
            f"| {group}{whole} | {mutants} | {words} | {untried} | {noticed} | {late} | {same} "
            f"| {len(left) - same} | {noticed / judged:.1%} | {noticed / (judged - same):.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Try the files that are asked for, and keep what is known of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="*", default=list(GROUPS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--survivors", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    result = HERE / "result.json"
    known: dict[str, Facts] = json.loads(result.read_text()) if result.exists() else {}
    if given.table:
        equivalent = HERE / "equivalent.json"
        print(table(known, set(json.loads(equivalent.read_text()))))
        return
    for group, sources in GROUPS.items():
        for source, tests in sources.items():
            if group not in given.wanted and source not in given.wanted:
                continue
            before: Facts = known.get(source, {})
            same = before.get("of") == digest(source)
            due = before.get("untried") or (given.survivors and before.get("survivors"))
            if stopped or (same and not given.again and not due):
                continue
            facts = tried(source, tests, given.workers, before if same and not given.again else {})
            known = json.loads(result.read_text()) if result.exists() else {}
            known[source] = facts
            result.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            judged = facts["mutants"] - facts["wording"] - len(facts["untried"])
            missed = len(facts["survivors"])
            print(f"{source}: {missed} of {judged} missed, {facts['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
