"""A home that keeps all its nodes: another key for its ledger between two launches."""

import json
from pathlib import Path

from support import tables
from support.cli import tacit

from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of


def test_a_home_launches_on_after_a_rotation(tmp_path: Path) -> None:
    where, home = tables.write(tmp_path / "small"), tmp_path / "home"
    words = ["run", "launch", str(where.config), "--local", "--data", str(where.root), "--json"]
    done = [tacit(*words, home=home)]
    done.append(tacit("coordinator", "rotate-key", "--json", home=home))
    done.append(tacit(*words, home=home))
    done.append(tacit("audit", "verify", "--json", home=home))
    for one in done:
        assert one.returncode == 0, one.stderr
    key = json.loads(done[1].stdout)["key"]
    assert "does not cosign" not in done[2].stderr
    assert json.loads(done[3].stdout)["runs"] == 2
    ledgers = list(home.glob("nodes/*/*/ledger.db"))
    assert len(ledgers) > 1
    for path in ledgers:
        told = list(entries_of(SqliteLedger(path).leaves()))
        assert [one.body["key"] for one in told if one.kind == "ledger.rekeyed"] == [key]
