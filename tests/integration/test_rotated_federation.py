"""A federation of real processes whose ledger gets another key: nobody but the operator acts."""

import io
import json
from pathlib import Path
from typing import Any

from support import tables
from support.deployed import Deployed, allow, deployed, give_rows, wait_for

from federation.evidence import home_bundle, merged
from federation.home import Home
from privacy import verify_alone
from privacy.identity import Identity
from privacy.ledger.bundle import write_bundle
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.verify import verify_bundle

ROLES = {"ash": "bank", "birch": "manufacturer", "cedar": "insurer"}
RUN_S = 400.0


def launched(federation: Deployed, member: str, run: str) -> dict[str, Any]:
    path = federation[member].folder / "data" / f"{run}.yaml"
    path.write_text(json.dumps({**tables.config("binary"), "name": run}))
    launch = federation[member].start("launch", "run", "launch", str(path), "--name", run, "--json")
    return launch.result(RUN_S)


def rekeyed(federation: Deployed, member: str) -> list[object]:
    entries = entries_of(SqliteLedger(federation[member].home / "node" / "ledger.db").leaves())
    return [one.body["key"] for one in entries if one.kind == "ledger.rekeyed"]


def rotated(federation: Deployed, times: int = 1) -> str:
    """Stop the coordinator, rotate, start it again."""
    operator = federation.coordinator
    assert operator.running["coordinator"].stop() == 0
    told = [operator.json("coordinator", "rotate-key")["key"] for _ in range(times)]
    assert told[-1] == Identity.load(Home(operator.home).coordinator).public.hex()
    federation.start_coordinator()
    return str(told[-1])


def test_runs_go_on_under_new_keys_and_auditors_verify_all_of_it(tmp_path: Path) -> None:
    with deployed(tmp_path, ROLES) as federation:
        give_rows(federation)
        federation.found()
        federation.start_coordinator()
        federation.join_all()
        for machine in federation.members.values():
            allow(machine, {"resources": {"runs": 16}})
        federation.start_nodes()
        nodes = [machine.running["node"] for machine in federation.members.values()]
        wait_for(
            lambda: all("connected to the coordinator" in node.said() for node in nodes),
            "the nodes do not connect",
            of=nodes,
        )
        assert launched(federation, "ash", "before")["members"] == sorted(ROLES)
        refused = federation.coordinator.tacit("coordinator", "rotate-key", code=1)
        assert "stop it, and rotate again" in " ".join(refused.stderr.split())

        first = rotated(federation)
        # another launcher than before, which has to be led to the key, too
        assert launched(federation, "cedar", "between")["members"] == sorted(ROLES)
        assert {name: rekeyed(federation, name) for name in ROLES} == {
            name: [first] for name in ROLES
        }

        second = rotated(federation, 2)
        result = launched(federation, "ash", "after")
        assert result["members"] == sorted(ROLES)
        for name in ROLES:
            assert len(rekeyed(federation, name)) == 3
            assert rekeyed(federation, name)[-1] == second
        for node in nodes:
            assert node.stop() == 0
        assert federation.coordinator.running["coordinator"].stop() == 0

        homes = [federation.coordinator.home, *(one.home for one in federation.members.values())]
        bundle = merged([home_bundle(Home(home)) for home in homes])
        found = verify_bundle(bundle)
        assert (found.runs, found.unfinished, found.missing) == (3, (), ())
        assert [len(log.keys) for log in bundle.logs] == [4, 1, 1, 1]
        file = io.BytesIO()
        write_bundle(bundle, file)
        assert verify_alone.verify(file.getvalue())["root"] == found.root
