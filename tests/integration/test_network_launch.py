"""Launching over the network as users do: real processes on this machine's loopback."""

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import tables
from support.cli import tacit
from support.deployed import Deployed, Process, allow, deployed, give_rows, wait_for

from clients.model_file import load_model
from clients.vault import is_sealed_file
from federation.home import Home
from federation.ledger_place import open_store
from privacy.ledger.store import entries_of

if TYPE_CHECKING:
    import subprocess

ROLES = {"ash": "bank", "birch": "manufacturer", "cedar": "insurer"}
RUN_S = 400.0


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A coordinator and three members whose nodes are at work."""
    with deployed(tmp_path_factory.mktemp("federation"), ROLES) as found:
        give_rows(found)
        found.found()
        found.start_coordinator()
        found.join_all()
        for machine in found.members.values():
            allow(machine, {"resources": {"runs": 16}})
        found.start_nodes()
        nodes = [machine.running["node"] for machine in found.members.values()]
        wait_for(
            lambda: all("connected to the coordinator" in node.said() for node in nodes),
            "the nodes do not connect",
            of=nodes,
        )
        yield found


def config(federation: Deployed, member: str, name: str, **changes: Any) -> str:  # noqa: ANN401 - any key of a config
    """Write a run config beside a member's contract."""
    path = federation[member].folder / "data" / f"{name}.yaml"
    path.write_text(json.dumps({**tables.config("binary"), "name": name, **changes}))
    return str(path)


def rounds(count: int) -> dict[str, Any]:
    return {"rounds": count, "local_epochs": 1, "batch_rows": 64, "learning_rate": 0.02}


def recorded(federation: Deployed, run: str) -> list[tuple[str, dict[str, Any]]]:
    """What the coordinator's ledger holds of a run."""
    store = open_store(Home(federation.coordinator.home).ledger)
    found = [(one.kind, dict(one.body)) for one in entries_of(store.leaves())]
    return [(kind, body) for kind, body in found if body.get("run") == run]


def standing(federation: Deployed, member: str, run: str) -> dict[str, Any]:
    """Where a run stands, as a member is told."""
    told = federation[member].json("run", "list")
    (found,) = (one for one in told["federation"] if one["run"] == run)
    return dict(found)


@pytest.fixture(scope="module")
def plain(federation: Deployed) -> Process:
    """The launch of a run that came to its end."""
    asked = config(federation, "ash", "plain")
    launch = federation["ash"].start(
        "launch", "run", "launch", asked, "--name", "plain-1", "--json"
    )
    launch.result(RUN_S)
    return launch


def test_a_bank_launches_watches_and_keeps_what_it_may(
    federation: Deployed, plain: Process
) -> None:
    ash, launch = federation["ash"], plain
    result = launch.result(RUN_S)
    assert result["run"] == "plain-1"
    assert result["members"] == sorted(ROLES)
    assert result["answers"] == {name: {"answer": "agreed", "reason": ""} for name in ROLES}
    assert result["rounds"] == 3
    assert result["metrics"]["auc"] > 0.7
    assert list(result["by_member"]) == ["ash"]
    # progress is for people and on the other stream
    said = launch.said()
    assert "birch agrees" in said
    assert "round   3 of 3: ranking (AUC)" in said
    # the model is the own node's, and the ledger knows its file and card
    folder = ash.home / "runs" / "plain-1"
    assert result["model"] == str(folder / "model.safetensors")
    kinds = recorded(federation, "plain-1")
    (signed,) = (body for kind, body in kinds if kind == "run.countersigned")
    assert signed["member"] in {"birch", "cedar"}
    (registered,) = (body for kind, body in kinds if kind == "model.registered")
    assert registered["card"] == _sha256(folder / "card.json")
    # at rest it is sealed, as its columns are L3; what is registered is what is in it
    assert is_sealed_file(folder / "model.safetensors")
    out = ash.folder / "plain-1.safetensors"
    ash.json("model", "export", "plain-1", "--out", str(out))
    assert registered["file"] == _sha256(out)
    assert load_model(out).size
    # everybody in the run sees it; the coordinator shows it from its own files
    assert standing(federation, "birch", "plain-1")["state"] == "finished"
    shown = federation["birch"].json("run", "show", "plain-1")
    assert (shown["state"], shown["launcher"], len(shown["history"])) == ("finished", "ash", 3)
    own = federation.coordinator.json("run", "list")
    assert [one["run"] for one in own["federation"]] == ["plain-1"]
    assert own["runs"] == []
    assert federation.coordinator.json("run", "show", "plain-1")["answers"] == result["answers"]
    assert ash.json("run", "show", "plain-1")["result"]["metrics"] == result["metrics"]
    # what the launch remembers is of the coordinator's ledger, which is not here and not lost
    found = ash.json("audit", "verify")
    assert (found["verified"], found["heads_checked"], found["heads_elsewhere"]) == (True, 0, 1)


def test_a_run_that_nobody_waited_for_is_completed_by_whoever_watches_it(
    federation: Deployed,
) -> None:
    ash = federation["ash"]
    asked = config(federation, "ash", "later", select={"names": list(ROLES)})
    told = ash.json("run", "launch", asked, "--name", "later-1", "--detach")
    assert (told["run"], told["state"]) == ("later-1", "running")
    missing = ash.tacit("model", "card", "later-1", code=2).stderr
    assert "fetch it with tacit run watch later-1" in " ".join(missing.split())
    # a member who did not launch it watches too, and keeps nothing
    watched = federation["birch"].json("run", "watch", "later-1", timeout_s=RUN_S)
    assert (watched["state"], watched["rounds"]) == ("finished", 3)
    assert not (federation["birch"].home / "runs").exists()
    result = ash.json("run", "watch", "later-1", timeout_s=RUN_S)
    assert result["metrics"]["auc"] > 0.7
    assert "model.registered" in dict(recorded(federation, "later-1"))


def test_a_refusal_is_shown_with_its_reason(federation: Deployed) -> None:
    asked = config(federation, "cedar", "open", protection={"sum": "clear"})
    launch = federation["cedar"].start("launch", "run", "launch", asked, "--name", "open-1")
    assert launch.end(RUN_S) == 1
    said = " ".join(launch.said().split())
    assert "tacit: open-1 was stopped: " in said
    assert "clear" in said
    assert "Traceback" not in said
    facts = standing(federation, "ash", "open-1")
    assert facts["state"] == "stopped"
    assert "clear" in facts["reason"]


@dataclass(frozen=True)
class Wrong:
    """A launch that cannot be, and what is said of it."""

    member: str
    changes: dict[str, Any]
    words: tuple[str, ...]
    code: int
    sentence: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong(
            "birch",
            {},
            (),
            1,
            "birch is in demo as manufacturer; runs are launched by a bank or an",
        ),
        Wrong("ash", {}, ("--name", "plain-1"), 2, "holds a run of that name; choose another"),
        Wrong("cedar", {}, ("--name", "plain-1"), 1, "There is a run plain-1 here already; choose"),
        Wrong("ash", {}, ("--name", "a/b"), 2, "use letters, digits"),
        Wrong(
            "ash",
            {"select": {"roles": ["manufacturer"]}},
            (),
            1,
            "fit what the config selects (birch), and minimum_cohort is 3; select more",
        ),
        Wrong(
            "ash", {"select": {"names": ["oak"]}}, (), 2, "select.names: oak is no active member"
        ),
        Wrong("ash", {"min_members": 4}, (), 1, "and min_members is 4; select more"),
        Wrong("ash", {}, ("--baselines",), 2, "--baselines is for launches on this machine alone"),
    ],
)
@pytest.mark.usefixtures("plain")
def test_what_cannot_be_launched_is_said_in_one_sentence(
    federation: Deployed, wrong: Wrong
) -> None:
    asked = config(federation, wrong.member, "wrong", **wrong.changes)
    folder = federation.coordinator.home / "runs"
    before = sorted(folder.iterdir())
    words = ("run", "launch", asked, *wrong.words)
    done = federation[wrong.member].tacit(*words, code=wrong.code)
    assert done.stdout == ""
    said = " ".join(done.stderr.split())
    assert wrong.sentence in said
    assert said.rpartition("tacit: ")[2].count(". ") <= 1
    assert sorted(folder.iterdir()) == before


def test_runs_go_side_by_side_outlive_the_coordinator_and_end_when_they_are_told_to(
    federation: Deployed,
) -> None:
    launched = {"ash": "long-a", "cedar": "long-b"}
    for member, run in launched.items():
        asked = config(federation, member, run, training=rounds(3000))
        federation[member].tacit("run", "launch", asked, "--name", run, "--detach")
    watch = federation["ash"].start("watch", "run", "watch", "long-a")
    _wait_for_rounds(federation, {"long-a": 2, "long-b": 2}, watch)
    # a watch that reaches nobody at its beginning ends
    wait_for(lambda: "round" in watch.said(), "a round is shown", timeout_s=RUN_S, of=[watch])
    federation.coordinator.running["coordinator"].kill()
    # who asks meanwhile is told so
    away = federation["birch"].tacit("run", "stop", "long-a", code=1)
    assert "does not answer" in away.stderr
    wait_for(
        lambda: "does not answer" in " ".join(watch.said().split()),
        "who watches is told so, too",
        of=[watch],
    )
    before = _committed(federation)
    assert set(before) == {"long-a", "long-b"}
    federation.start_coordinator()
    _wait_for_rounds(federation, {run: count + 2 for run, count in before.items()}, watch)
    # only who launched it and the operator end it
    for member, run in (("birch", "long-a"), ("ash", "long-b")):
        assert federation[member].tacit("run", "stop", run, code=1).stdout == ""
    assert federation["cedar"].json("run", "stop", "long-b")["reason"] == "stopped by cedar"
    assert standing(federation, "birch", "long-a")["state"] == "running"
    # whoever watches may go away
    watch.popen.send_signal(signal.SIGINT)
    assert watch.end(120) == 1
    assert "and it goes on. Watch it with: tacit run watch long-a" in " ".join(watch.said().split())
    assert standing(federation, "birch", "long-a")["state"] == "running"
    stopped = federation.coordinator.json("run", "stop", "long-a")
    assert (stopped["state"], stopped["reason"]) == ("stopped", "stopped by operator")
    for run, by in (("long-a", "operator"), ("long-b", "cedar")):
        kinds = recorded(federation, run)
        assert kinds[-1] == ("run.stopped", {"run": run, "reason": f"stopped by {by}"})
        assert [kind for kind, _ in kinds].count("run.started") == 1
    again = federation["ash"].tacit("run", "resume", "long-a", code=1)
    assert "long-a is stopped for good; launch a new run" in " ".join(again.stderr.split())


def test_a_service_that_ends_stops_no_run(federation: Deployed) -> None:
    """SIGTERM, and the next start."""
    asked = config(federation, "ash", "stays", training=rounds(3000))
    federation["ash"].tacit("run", "launch", asked, "--name", "stays-1", "--detach")
    _wait_for_rounds(federation, {"stays-1": 1}, federation.coordinator.running["coordinator"])
    assert federation.coordinator.running["coordinator"].stop() == 0
    assert "run.stopped" not in dict(recorded(federation, "stays-1"))
    own = federation.coordinator.json("run", "list")["federation"]
    (facts,) = (one for one in own if one["run"] == "stays-1")
    assert facts["state"] == "interrupted"
    federation.start_coordinator()
    assert federation["ash"].json("run", "stop", "stays-1")["state"] == "stopped"


def test_a_machine_in_no_federation_is_told_how_to_join_one(
    federation: Deployed, tmp_path: Path
) -> None:
    asked = config(federation, "ash", "alone")
    for words in (
        ("run", "launch", asked),
        ("run", "watch", "x"),
        ("run", "stop", "x"),
        ("run", "resume", "x"),
    ):
        done = _tacit(tmp_path, *words)
        assert done.returncode == 2, done.stderr
        assert "this machine is in no federation yet; join one" in " ".join(done.stderr.split())
    done = _tacit(tmp_path, "coordinator", "start")
    assert done.returncode == 2
    assert "is no coordinator's home; begin a federation" in " ".join(done.stderr.split())


def test_a_home_has_one_coordinator(federation: Deployed) -> None:
    done = federation.coordinator.tacit("coordinator", "start", code=1)
    assert "a coordinator is started there already" in " ".join(done.stderr.split())


def _tacit(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return tacit(*words, home=home, timeout_s=300)


def _committed(federation: Deployed) -> dict[str, int]:
    """Runs that were cut off -> their rounds, from the coordinator's files."""
    found = federation.coordinator.json("run", "list")["federation"]
    return {one["run"]: one["rounds"] for one in found if one["state"] == "interrupted"}


def _wait_for_rounds(federation: Deployed, due: dict[str, int], watch: Process) -> None:
    def there() -> bool:
        folder = federation.coordinator.home / "runs"
        counts = {run: (folder / run / "rounds.jsonl") for run in due}
        return all(
            path.exists() and path.read_text().count("\n") >= due[run]
            for run, path in counts.items()
        )

    until_s = time.monotonic() + RUN_S
    coordinator = federation.coordinator.running["coordinator"]
    while not there():
        assert watch.alive, watch.said()
        assert coordinator.alive, (coordinator.popen.returncode, coordinator.said())
        assert time.monotonic() < until_s, federation.logs()
        time.sleep(0.2)


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
