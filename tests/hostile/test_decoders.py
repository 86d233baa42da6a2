"""Bytes from outside mean one thing, or are refused in one sentence: nothing else comes out.

`make soak` makes many more of them (TACIT_MUTANTS, TACIT_FIRST_SEED).
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hostile.decoders import Decoder, table
from hostile.mutants import mutant

from privacy.errors import TacitError

MUTANTS = int(os.environ.get("TACIT_MUTANTS", "20000"))
SEED = os.environ.get("TACIT_FIRST_SEED", "0")
ROOT = Path(__file__).parents[2]
READS = re.compile("from_bytes|from_wire|from_text|from_json|unpack_.*|(parse|read|load)_.*")

OTHERWISE = {
    "a helper of a decoder that is in the table; it raises ValueError there": {
        "privacy.ledger.checkpoint.parse_size", "privacy.secure_sum.read_form",
    },
    "reads numbers of an opened sum, which has no form": {
        "clients.statistics.read_overview", "clients.statistics.read_moments",
        "clients.statistics.read_distribution", "clients.statistics.read_noisy_overview",
        "clients.statistics.read_noisy_distribution", "clients.learner.read_evaluation",
    },
    "reads entries that parse_leaf has read": {
        "privacy.budget.read_statements", "privacy.budget.read_ledger",
        "federation.compliance.subject.read_runs",
    },
    "parses what parse_yaml or parse_canonical has read": {
        "clients.contract.load_contract", "clients.frozen.read_yaml",
        "clients.frozen.parse_settings", "clients.spec.parse_node_spec",
        "aggregator.plan.parse_plan", "clients.terms.rule.load_terms",
        "federation.config.load_project", "federation.node_policy.read_terms",
        "federation.node_policy.read_policy", "federation.compliance.rule_set.load_rules",
        "federation.runs.order.read_order", "federation.participant.load_participant",
    },
    "reads tables with read_tables": {
        "clients.members.read_members", "clients.members.read_table",
        "clients.members.read_assigned", "clients.usable_rows.read_usable",
        "clients.source.read_chunks", "clients.source.read_counted",
    },
    "reads policies with parse_policy": {
        "federation.cli.registry.read_policy", "federation.audit.read_policy",
    },
    "reads what this machine wrote, in a folder of its own": {
        "clients.terms.log.read_log", "clients.indicators.lineage.read_lineage",
        "clients.session_file.read_pointer", "federation.audit_page.access.read_token",
        "federation.ledger_pin.read_pin", "federation.roster.read_ms",
        "federation.record.read_rounds", "federation.record.read_state",
        "federation.record.read_sums", "federation.home.read_json",
        "federation.runs.event_log.read_events", "federation.runs.untold.read_untold",
        "federation.scoring.read_score_lineage", "federation.budget.read_budgets",
        "federation.budget.read_histories", "federation.registry.credentials.load_credentials",
        "federation.certificates.load_key",
    },
    "has load_model and Manifest.from_bytes in it": {
        "federation.kept_model.read_kept_model", "federation.scenarios.scored.read_table_model",
    },
    "asks a server, whose answers are read by other rows": {
        "federation.roster.read_membership", "federation.roster.read_acts",
        "federation.network_budget.read_federation_budgets",
        "federation.registry.status.read_status",
    },
    "not fuzzed yet: X.509 by `cryptography`, and lattice keys of SEAL": {
        "federation.certificates.load_public", "federation.certificates.read_request",
        "federation.certificates.read_certificate",
        "privacy.secure_sum.lattice.from_bytes",
    },
}  # fmt: skip


@pytest.mark.parametrize("decoder", table(), ids=lambda one: one.name)
def test_what_is_not_the_one_form_is_refused(decoder: Decoder) -> None:
    random = Random(f"{SEED} {decoder.name}")
    weight = sum(one.weight for one in table())
    for valid in decoder.valid if decoder.taken else ():
        meaning = decoder.decode(valid)
        assert decoder.encode is None or decoder.encode(meaning) == valid
    for number in range(max(20, int(MUTANTS * decoder.weight / weight))):
        data = mutant(random.choice(decoder.valid), decoder.valid, random)
        try:
            meaning = decoder.decode(data)
        except TacitError:
            continue
        except BaseException as fault:
            fault.add_note(f"mutant {number} of seed {SEED}: {data[:200]!r}")
            raise
        if decoder.encode is not None:
            assert decoder.encode(meaning) == data, f"mutant {number}: {data[:200]!r}"


def test_every_decoder_is_in_the_table_or_it_is_said_why_not() -> None:
    known = {one.name.split(" ")[0].replace(".Manifest.", ".") for one in table()}
    known = {re.sub(r"\.[A-Z]\w+\.", ".", name) for name in known}
    excluded = {name for names in OTHERWISE.values() for name in names}
    found = {
        f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}.{node.name}".replace(
            ".__init__.", "."
        )
        for package in ("privacy", "clients", "aggregator", "federation")
        for path in (ROOT / package).rglob("*.py")
        if "_pb2" not in path.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and READS.fullmatch(node.name)
    }
    assert found - known - excluded == set()
    assert excluded - found == set()


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
