"""Wrong bytes end in a refusal; no decoder is forgotten; a harness that finds nothing is found."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hostile.decoders import DECODERS
from hostile.fuzz import attack, fault_of
from hostile.mutation import mutant

from privacy.canonical import parse_canonical
from privacy.errors import ProtocolError

ROOT: Final = Path(__file__).parents[2]
MUTANTS: Final = int(os.environ.get("TACIT_MUTANTS", "20000"))
PARTS: Final = ("aggregator", "clients", "federation", "privacy")
DEFINED: Final = re.compile(
    r"^\s*def (from_bytes|from_json|from_text|(?:parse|read|load|unpack|open)_\w+|unseal)\(",
    re.MULTILINE,
)
# Where what a decoder reads is looked at, beside the table.
ELSEWHERE: Final = {
    "clients/frozen.py": "under contract, config, rules, terms, policy",
    "clients/hours.py": "asks the clock",
    "clients/importance.py": "numbers of an opened sum",
    "clients/indicators/lineage.py": "canonical JSON, and pydantic's form of it",
    "clients/learner.py": "numbers of an opened sum",
    "clients/members.py": "csv and parquet",
    "clients/passphrase.py": "one line of text",
    "clients/scoring/additive.py": "edge bundle",
    "clients/scoring/bundle.py": "edge bundle",
    "clients/scoring/column.py": "edge bundle, and cells (tests/property/test_edge_scores.py)",
    "clients/scoring/device.py": "a device's own log (tests/attacks/test_edge_log.py)",
    "clients/scoring/network.py": "weights of a model",
    "clients/scoring/readings_plan.py": "edge bundle",
    "clients/scoring/trust.py": "lines of fingerprints (tests/attacks/test_edge_bundle.py)",
    "clients/session_file.py": "one note in the node's own ledger",
    "clients/source.py": "csv and parquet",
    "clients/statistics.py": "numbers of an opened sum",
    "clients/usable_rows.py": "csv and parquet, and the node's own ledger",
    "clients/vault_folder.py": "a node's own file (tests/faults/test_rekey.py)",
    "federation/audit.py": "trust policy",
    "federation/audit_page/access.py": "one line of text",
    "federation/budget.py": "leaves of ledgers",
    "federation/channel.py": "opens a connection",
    "federation/cli/registry.py": "trust policy",
    "federation/compliance/subject.py": "leaves of ledgers",
    "federation/desk.py": "opens a connection",
    "federation/enrolment.py": "leaves of ledgers",
    "federation/home.py": "a home's own files",
    "federation/invitation.py": "token",
    "federation/kept_model.py": "model, manifest, contract",
    "federation/ledger_pin.py": "a home's own file",
    "federation/ledger_place.py": "opens a ledger (tests/contract/test_ledger_store.py)",
    "federation/model_card/result.py": "a home's own file",
    "federation/model_card/signed.py": "each bit (tests/unit/federation/test_model_card.py)",
    "federation/network_budget.py": "leaves of ledgers",
    "federation/node_policy.py": "policy",
    "federation/node_service.py": "opens a ledger",
    "federation/participant.py": "a home's own file",
    "federation/record.py": "a home's own files",
    "federation/registry/credentials.py": "certificate and key",
    "federation/registry/opened.py": "a connection's own answers",
    "federation/registry/status.py": "a connection's own answers",
    "federation/roster.py": "leaves of ledgers",
    "federation/runs/event_log.py": "event",
    "federation/runs/order.py": "manifest, and a home's own file",
    "federation/runs/untold.py": "a home's own file",
    "federation/scenarios/pack.py": "a scenario's own table",
    "federation/scenarios/scored.py": "model",
    "federation/scoring.py": "canonical JSON, and pydantic's form of it",
    "privacy/budget.py": "leaves of ledgers",
    "privacy/canonical.py": "under manifest, leaf, token, receipt",
    "privacy/ledger/checkpoint.py": "note and proof",
    "privacy/plan.py": "manifest (tests/unit/privacy/test_manifest.py has each key)",
    "privacy/secure_sum/__init__.py": "key offer, and tests/unit/privacy/test_sum_messages.py",
    "privacy/secure_sum/group_key.py": "tests/unit/privacy/test_group_key.py",
    "privacy/secure_sum/pair_keys.py": "sealed for one member (tests/attacks/test_pair_keys.py)",
}


def test_wrong_bytes_end_in_a_refusal_in_time_and_memory() -> None:
    seed = os.environ.get("TACIT_SEED", "1")
    words = ["-m", "hostile.fuzz", "--mutants", str(MUTANTS), "--seed", seed]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert {name: one["faults"] for name, one in told.items() if one["faults"]} == {}
    assert set(told) == {one.name for one in DECODERS}
    assert sum(one["mutants"] for one in told.values()) > 0.98 * MUTANTS - len(DECODERS)
    assert done.returncode == 0


def test_no_decoder_is_forgotten() -> None:
    table = (ROOT / "tests" / "hostile" / "decoders.py").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                names = set(DEFINED.findall(path.read_text(encoding="utf-8")))
                if names:
                    found[path.relative_to(ROOT).as_posix()] = names
    listed = {path for path in found if path.removesuffix(".py").replace("/", ".") in table}
    listed |= {"federation/certificates.py"}
    assert set(found) - listed - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) - set(found) == set()


def wrong_kind(data: bytes, _: Path) -> object:
    if b"1" in data:
        raise KeyError(data)
    return None


def loose(data: bytes, _: Path) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ProtocolError("no JSON") from None


def refuses_all(_: bytes, __: Path) -> object:
    raise ProtocolError("no")


@pytest.mark.parametrize(
    ("read", "told"),
    [(wrong_kind, "KeyError"), (loose, "taken is written otherwise"), (refuses_all, "are refused")],
)
def test_a_decoder_that_is_off_is_told(
    tmp_path: Path, read: Callable[[bytes, Path], object], told: str
) -> None:
    """The twins."""
    receipt = next(one for one in DECODERS if one.name == "receipt")
    bad = replace(receipt, read=read, again=lambda value: json.dumps(value).encode())
    seeds = [b'{"b": 2, "a": 3}', b'{"a": 5}']
    faults = attack(bad, {"receipt": seeds}, 500, 1, tmp_path).faults
    assert any(told in fault for fault in faults)


def test_mutants_follow_from_their_seed_and_are_wrong_mostly(tmp_path: Path) -> None:
    seeds = [b'{"a":1,"b":[2,3]}']
    made = [mutant(seeds, random.Random(number)) for number in range(300)]
    assert made == [mutant(seeds, random.Random(number)) for number in range(300)]
    canonical = replace(
        DECODERS[0], read=lambda data, _: parse_canonical(data), again=None, owes="settings"
    )
    taken = [fault_of(canonical, data, seeds, tmp_path) for data in made]
    assert all(not fault for fault, _ in taken)
    assert sum(took for _, took in taken) < 60
