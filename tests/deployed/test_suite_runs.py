"""A federation of each suite, as processes of their own: a run that both ends outlive."""

import json
import os
from pathlib import Path

import pytest
from support.deployed import Deployed, Process, deployed, give_rows, models, rounds_seen, wait_for
from support.suites import skip_without

# a node that is killed between its entry and its vector is not in that sum; three others are
ROLES = {"ash": "manufacturer", "birch": "insurer", "coal": "bank", "dune": "manufacturer"}
ROUNDS = 4
# starting a federation takes most of the time; `make soak` takes both
SUITES_RUN = ("gm", "hybrid") if os.environ.get("TACIT_LONG") else ("hybrid",)
RUN_S = 400.0
TRAINING = {"rounds": ROUNDS, "batch_rows": 64, "learning_rate": 0.02}


def at_round(federation: Deployed, launch: Process, count: int) -> None:
    wait_for(
        lambda: rounds_seen(launch) >= count,
        f"round {count} is not reached",
        timeout_s=RUN_S,
        of=[launch, federation["birch"].running["node"]],
    )


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES_RUN)
def test_a_run_of_a_suite_outlives_its_coordinator_and_a_node(tmp_path: Path, suite: str) -> None:
    skip_without(suite)
    with deployed(tmp_path, ROLES) as federation:
        configs = give_rows(
            federation, rows=120, config_changes={"training": TRAINING, "deadline_s": 60}
        )
        federation.found(suite=suite)
        federation.start_coordinator()
        federation.join_all(federation.start_node)
        federation.connected()
        launch = federation.launch("coal", configs["coal"])
        at_round(federation, launch, 1)
        federation.coordinator.running["coordinator"].kill()
        federation["ash"].running["node"].kill()
        federation.start_coordinator()
        federation.start_node("ash")
        result = launch.result(RUN_S)
        assert (result["rounds"], result["suite"]) == (ROUNDS, suite)
        assert result.get("absences", {}).get("ash", 0) <= 2
        run = result["run"]
        assert set(models(federation, run)) == set(ROLES)
        assert len(set(models(federation, run).values())) == 1
        kept = federation["coal"].home / "runs" / run / "manifest.json"
        assert json.loads(kept.read_text("utf-8"))["suite"] == suite
        for name in ROLES:
            assert len(list((federation[name].home / "node").glob(f"signing-{suite}-*"))) == 1
            assert federation[name].running["node"].stop() == 0
        assert federation.coordinator.running["coordinator"].stop() == 0
        assert federation.audited()["verified"] is True
