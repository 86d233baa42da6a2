"""A coordinator and four members as processes of their own, over the loopback: the short form.

One federation from its first day to its last, as starting one takes longer than most of what is
then looked at; `stage` says where it failed.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support import canaries
from support.cli import assert_one_sentence
from support.deployed import (
    LOOPBACK,
    OPERATOR,
    Deployed,
    Process,
    allow,
    deployed,
    files_below,
    give_rows,
    models,
    rounds_seen,
    row_values,
    sessions,
    wait_for,
)

from federation.desk import open_desk
from federation.home import Home
from federation.invitation import Token, read_token
from federation.ledger_recorder import now_ms
from federation.participant import load_participant
from federation.registry.access import Role
from federation.runs.client import RunsClient
from privacy.errors import RefusedError
from privacy.manifest import SIGNING_DOMAIN
from privacy.randomness import system_bytes

ROLES = {"ash": "manufacturer", "birch": "insurer", "coal": "bank", "dune": "manufacturer"}
ROUNDS = 7
LONG_ROUNDS = 3000
RUN_S = 400.0
FEWEST_BYTES = 10_000
SOON_S = 60.0
TRAINING = {"rounds": ROUNDS, "local_epochs": 2, "batch_rows": 32, "learning_rate": 0.02}
SECOND_DAYS = 1 / 86_400


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say in a failure how far it came, and in the log how long each stage took."""
    begun = time.monotonic()
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"while: {name}")
        raise
    finally:
        sys.stdout.write(f"{time.monotonic() - begun:6.1f} s  {name}\n")


def ask(federation: Deployed, path: str) -> tuple[int, str]:
    """What the coordinator's operations port says."""
    address = f"http://{LOOPBACK}:{federation.ports[3]}{path}"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def figure(federation: Deployed, name: str) -> float:
    lines = ask(federation, "/metrics")[1].splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])


def online(federation: Deployed, *names: str) -> None:
    """Wait until these nodes are connected, and no others."""
    nodes = [federation[name].running["node"] for name in names]
    wait_for(
        lambda: figure(federation, "tacit_members_online") == len(names),
        f"there are not {len(names)} nodes online",
        of=[federation.coordinator.running["coordinator"], *nodes],
    )


def at_round(launch: Process, count: int) -> None:
    """Wait until so many rounds were told of."""
    wait_for(
        lambda: rounds_seen(launch) >= count,
        f"round {count} is not reached",
        timeout_s=RUN_S,
        of=[launch],
    )


def refused(federation: Deployed, name: str, sentence: str, *words: str) -> None:
    """A command of a member ends with this sentence."""
    told = federation[name].tacit(*words, code=1)
    assert sentence in assert_one_sentence(told, 1)


def runs_client(federation: Deployed, name: str) -> RunsClient:
    """A member's connection, without what its own command line would refuse before."""
    place = load_participant(Home(federation[name].home))
    return RunsClient(place.registry, place.credentials(datetime.now(UTC)))


# the stages ---------------------------------------------------------------------------------


def nobody_joins_without_an_invitation_that_is_good(
    federation: Deployed, used: Token, expired: Token
) -> None:
    wait_for(lambda: now_ms() > expired.expires_ms, "the invitation is good")
    stranger = replace(used, secret=bytes(len(used.secret)))
    folder = federation.coordinator.folder.parent
    for name, token, sentence in (
        ("stranger", stranger, "this invitation is not known here"),
        ("thief", used, "the invitation was used already, with another key"),
        ("late", expired, "the invitation of late has expired"),
    ):
        federation.members[name] = replace(
            federation["coal"], name=name, folder=folder / name, running={}
        )
        federation.members[name].folder.mkdir()
        try:
            refused(federation, name, sentence, "node", "join", token.reveal())
        finally:
            del federation.members[name]


def who_may_not_launch_is_refused_at_both_ends(federation: Deployed, config: Path) -> None:
    refused(federation, "ash", "runs are launched by a bank or an insurer", "run", "launch",
            str(config))  # fmt: skip
    with runs_client(federation, "ash") as client:
        with pytest.raises(RefusedError, match="the role manufacturer may not call Launch"):
            client.launch(b"{}", bytes(64), data=b"{}", rules=b"{}")
        with pytest.raises(RefusedError, match="the role manufacturer may not call Stop"):
            client.stop("any")


def a_run_outlives_its_coordinator_and_a_node(federation: Deployed, config: Path) -> dict[str, Any]:
    launch = federation.launch("coal", config)
    at_round(launch, 2)
    federation.coordinator.running["coordinator"].kill()
    federation.start_coordinator()
    at_round(launch, 4)
    federation["ash"].running["node"].kill()
    federation.start_node("ash")
    result = launch.result(RUN_S)
    assert result["rounds"] == ROUNDS
    assert result["members"] == sorted(ROLES)
    assert result["metrics"]["auc"] > 0.7
    # it was away for no more than the round in which it was killed and the one after
    assert result.get("absences", {}).get("ash", 0) <= 2, result["absences"]
    assert set(result.get("absences", {})) <= {"ash"}
    assert set(models(federation, result["run"])) == set(ROLES)
    assert len(set(models(federation, result["run"]).values())) == 1
    return result


def what_was_sent_counts_once(federation: Deployed, run: str) -> None:
    """A manifest that was changed, and one that is sent again, with the launcher's own keys."""
    kept = federation["coal"].home / "runs" / run
    sent = federation.coordinator.home / "runs" / run
    order = json.loads((sent / "order.json").read_text("utf-8"))
    document, signature = ((kept / f"manifest.{one}").read_bytes() for one in ("json", "sig"))
    data, rules = (json.dumps(order[one], sort_keys=True, separators=(",", ":")).encode()
                   for one in ("data", "rules"))  # fmt: skip
    identity = load_participant(Home(federation["coal"].home)).identity()
    before = figure(federation, "tacit_ledger_entries")
    with runs_client(federation, "coal") as client:
        again = client.launch(document, signature, data=data, rules=rules)
        assert (again.run, again.state) == (run, "finished")
        changed = document.replace(b'"seed":0', b'"seed":1')
        assert changed != document
        with pytest.raises(RefusedError, match="not signed by the key that coal is"):
            client.launch(changed, signature, data=data, rules=rules)
        own = identity.sign(SIGNING_DOMAIN, changed)
        with pytest.raises(RefusedError, match=f"There is a run {run} here already"):
            client.launch(changed, own, data=data, rules=rules)
    with (
        runs_client(federation, "birch") as client,
        pytest.raises(RefusedError, match="not signed by the key that birch is"),
    ):
        client.launch(document, signature, data=data, rules=rules)
    assert figure(federation, "tacit_ledger_entries") == before


def a_node_has_terms(federation: Deployed, config: Path) -> None:
    allow(federation["birch"], {"tasks": ["failure"]})
    told = federation["coal"].tacit("run", "launch", str(config), code=1)
    assert "birch" in told.stdout + told.stderr
    allow(federation["birch"], {})


def a_stopped_run_leaves_no_keys(federation: Deployed, config: Path) -> None:
    run = federation["coal"].json("run", "launch", str(config), "--detach")["run"]
    nodes = [federation[name] for name in ROLES]
    events = federation.coordinator.home / "runs" / run / "rounds.jsonl"
    wait_for(events.exists, "there is no round", timeout_s=RUN_S)
    for node in nodes:
        assert sessions(node), node.name
    federation["coal"].tacit("run", "stop", run)
    wait_for(
        lambda: not any(sessions(node) for node in nodes),
        "nodes keep keys of a run that was stopped",
        timeout_s=SOON_S,
        of=[node.running["node"] for node in nodes],
    )
    found = federation["coal"].json("run", "show", run)
    assert (found["state"], found["reason"]) == ("stopped", "stopped by coal")


def a_revoked_member_is_out(federation: Deployed) -> None:
    federation.coordinator.tacit("federation", "revoke", "birch", "--reason", "left")
    online(federation, *(ROLES.keys() - {"birch"}))
    refused(federation, "birch", "birch is no member of this federation any more", "federation",
            "members")  # fmt: skip
    with (
        runs_client(federation, "birch") as client,
        pytest.raises(RefusedError, match="birch is no member of this federation any more"),
    ):
        client.runs()


def no_canary_is_in_a_message_a_home_or_a_line(federation: Deployed, heard: Path) -> None:
    rows = (federation["ash"].folder / "data" / "table.csv").read_bytes()
    assert {canaries.CODE.encode(), str(canaries.ID).encode()} <= set(canaries.leaks([rows]))
    for what, texts in canaries.of_a_federation(federation, heard):
        assert sum(map(len, texts)) > FEWEST_BYTES, what
        assert not canaries.tables_that_leak(texts), what
        # the twin: the same search finds what leaks there
        assert canaries.tables_that_leak([*texts, b"..." + rows]), what


def nothing_of_a_row_has_left_its_member(federation: Deployed) -> None:
    values = row_values(federation)
    assert len(values) > 500
    for name, text in federation.logs().items():
        assert not any(value in text for value in values), name
        assert "Traceback" not in text, name
        assert "PRIVATE KEY" not in text, name
    for path, data in files_below(federation.coordinator.folder):
        assert not any(value.encode() in data for value in values), path


@pytest.mark.slow
def test_a_federation_from_its_first_day_to_its_last(tmp_path: Path) -> None:
    with deployed(tmp_path, ROLES) as federation:
        configs = give_rows(federation, config_changes={"training": TRAINING, "deadline_s": 60})
        heard = tmp_path / "heard"
        for machine in federation.members.values():
            canaries.overhear(machine, heard, machine.environment)
        canaries.plant(federation["ash"])
        with stage("it begins"):
            federation.found()
            federation.start_coordinator()
        with stage("members join"):
            federation.join_all(federation.start_node)
            assert federation.standing("active") == {OPERATOR, *ROLES}
        with stage("who may not"):
            with open_desk(Home(federation.coordinator.home), now_ms=now_ms) as desk:
                expired = desk.invite(role=Role.BANK, name="late", days=SECOND_DAYS,
                                      attributes={}, entropy=system_bytes)  # fmt: skip
            used = read_token(federation.tokens["coal"])
            nobody_joins_without_an_invitation_that_is_good(federation, used, expired)
            who_may_not_launch_is_refused_at_both_ends(federation, configs["ash"])
        with stage("nodes are online"):
            online(federation, *ROLES)
        with stage("a run, its coordinator killed, a node killed"):
            run = a_run_outlives_its_coordinator_and_a_node(federation, configs["coal"])["run"]
        with stage("what the operator sees"):
            status, body = ask(federation, "/health")
            assert (status, json.loads(body)["status"]) == (200, "ok")
            assert figure(federation, "tacit_members") == len(ROLES)
            assert figure(federation, "tacit_ledger_rounds_committed_total") == ROUNDS
            assert figure(federation, "tacit_runs_under_way") == 0
            assert figure(federation, 'tacit_messages_total{way="in"}') > 0
        with stage("changed and sent again"):
            what_was_sent_counts_once(federation, run)
        with stage("terms of a node"):
            a_node_has_terms(federation, configs["coal"])
        with stage("a run is stopped"):
            configs = give_rows(
                federation, config_changes={"training": TRAINING | {"rounds": LONG_ROUNDS}}
            )
            canaries.plant(federation["ash"])
            a_stopped_run_leaves_no_keys(federation, configs["coal"])
        with stage("a member is revoked"):
            a_revoked_member_is_out(federation)
        with stage("all end in order"):
            for name in ("ash", "coal", "dune"):
                assert federation[name].running["node"].stop() == 0
            assert federation.coordinator.running["coordinator"].stop() == 0
        with stage("everything on record holds"):
            verdict = federation.audited()
            assert verdict["verified"] is True
            assert verdict["runs"] == 3  # one of them was not agreed to
            assert verdict["rounds"] >= ROUNDS
        nothing_of_a_row_has_left_its_member(federation)
        no_canary_is_in_a_message_a_home_or_a_line(federation, heard)
