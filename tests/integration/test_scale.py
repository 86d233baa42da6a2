"""More members than a complete graph of masks is for, all on this machine."""

import json
from pathlib import Path

from support.cli import tacit

from federation.home import Home
from federation.ledger_place import open_store
from privacy.ledger.note import parse_note
from privacy.secure_sum.graph import COMPLETE_UP_TO

MEMBERS = 36
CONTRACT = """contract: 1
name: scale
title: Generated machines of many plants
unit: machine
sources:
  - {path: rows.csv}
columns:
  - {name: machine, type: integer, role: id, class: L2}
  - {name: heat, type: number, class: L3, range: [0, 1]}
  - {name: failure, type: integer, role: label, class: L3}
members: {folder: plants}
split: {kind: stratified, seed: 42, test_share: 0.25}
label: {kind: binary, column: failure, positive: 1}
"""
CONFIG = """name: scale
task: failure
contract: contract.yaml
protection: {sum: masked}
features: {bins: 4}
model: {hidden: [4]}
training: {rounds: 1, local_epochs: 1, batch_rows: 16, learning_rate: 0.05}
"""


def federation(folder: Path, members: int) -> Path:
    """A file of a dozen rows for each member; returns the run config."""
    (folder / "plants").mkdir(parents=True)
    (folder / "contract.yaml").write_text(CONTRACT)
    (folder / "config.yaml").write_text(CONFIG)
    rows = "\n".join(f"{i},{(7 * i % 12) / 12:.2f},{int(7 * i % 12 > 6)}" for i in range(12))
    for member in range(members):
        (folder / "plants" / f"plant-{member:03d}.csv").write_text(
            f"machine,heat,failure\n{rows}\n"
        )
    return folder / "config.yaml"


def test_a_federation_of_many_runs_on_one_machine_and_is_verified(tmp_path: Path) -> None:
    assert MEMBERS > COMPLETE_UP_TO
    config, home = federation(tmp_path / "data", MEMBERS), tmp_path / "home"
    words = ("run", "launch", str(config), "--local", "--data", str(config.parent), "--json")
    launched = tacit(*words, home=home, timeout_s=300)
    assert launched.returncode == 0, launched.stderr
    outcome = json.loads(launched.stdout)
    assert len(outcome["members"]) == MEMBERS
    assert outcome["absences"] == {}
    _, note = open_store(Home(home).ledger_place).checkpoints()[-1]
    assert len(parse_note(note).signatures) == 1 + MEMBERS
    verified = tacit("audit", "verify", home=home, timeout_s=300)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert f"{MEMBERS} cosigned the newest" in " ".join(verified.stdout.split())
