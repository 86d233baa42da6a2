"""The coordinator's service, whole and in this process; no member's node is at work."""

import json
import logging
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support import tables
from support.federations import Federated

from federation import config
from federation.config import Project, load_project
from federation.coordinator_service import Coordinator, Listen, coordinating, facts_of
from federation.desk import local_enrolment
from federation.history import history
from federation.home import Home
from federation.ledger_recorder import now_ms
from federation.network_launch import NetworkOptions, launch_network
from federation.runs.reach import Reach, reached
from privacy.errors import InputError, RefusedError
from privacy.ledger.store import entries_of

ROLES = {"Bank": "bank", "Insurer": "insurer", "Mill": "manufacturer"}
ANYWHERE = Listen(
    door="127.0.0.1:0", registry="127.0.0.1:0", fleet="127.0.0.1:0", operations="127.0.0.1:0"
)


@pytest.fixture
def federated(tmp_path: Path) -> Federated:
    found = Federated(tmp_path)
    for name, role in ROLES.items():
        found.add(name, role, attributes={"region": "north"} if name != "Mill" else {})
    return found


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def started(federated: Federated, stack: ExitStack) -> Coordinator:
    """A coordinator, which all participants know the addresses of."""
    found = stack.enter_context(coordinating(federated.home, ANYWHERE))
    for name in federated.homes:
        place = federated.place(name)
        replace(place, registry=found.listens.registry, fleet=found.listens.fleet).write()
    return found


def reach(federated: Federated, stack: ExitStack, name: str) -> Reach:
    return stack.enter_context(reached(federated.homes[name]))


def project(folder: Path, **changes: object) -> Project:
    return load_project(tables.write(folder / "run", config_changes=changes).config)


def wait(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end_s, "it never held"
        time.sleep(0.01)


class Seen:
    """A display that remembers."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str, str]] = []
        self.steps: list[str] = []

    def step(self, name: str) -> None:
        self.steps.append(name)

    def round(self, index: int, of: int, metrics: object, facts: object) -> None:
        del index, of, metrics, facts

    def note(self, sentence: str) -> None:
        del sentence

    def answered(self, member: str, answer: str, reason: str) -> None:
        self.answers.append((member, answer, reason))


def test_a_run_that_nobody_answers_ends_with_the_reason(
    federated: Federated, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CONSENT_S", 1.0)
    coordinator = started(federated, stack)
    seen = Seen()
    with pytest.raises(RefusedError, match="silent-1 was stopped: "):
        launch_network(
            project(tmp_path),
            federated.homes["Bank"],
            NetworkOptions(name="silent-1", rules=()),
            reach(federated, stack, "Bank"),
            seen,
        )
    assert "inviting the members" in seen.steps
    facts = coordinator.desk.facts("silent-1")
    assert (facts.state, facts.members, facts.launcher) == ("stopped", tuple(sorted(ROLES)), "Bank")
    (kept,) = history(federated.homes["Bank"])
    assert (kept["state"], kept["reason"]) == ("stopped", facts.reason)
    kinds = [one.kind for one in entries_of(coordinator.ledger.store.leaves())]
    assert kinds[-1] == "run.stopped"


def test_a_run_that_waits_for_members_is_ended_from_afar(
    federated: Federated, stack: ExitStack, tmp_path: Path
) -> None:
    coordinator = started(federated, stack)
    bank, mill = (reach(federated, stack, name) for name in ("Bank", "Mill"))
    patient = project(tmp_path, consent_s=600.0, select={"attributes": {"region": "north"}})
    patient = patient.model_copy(
        update={"config": patient.config.model_copy(update={"minimum_cohort": 2})}
    )
    told = launch_network(
        patient,
        federated.homes["Bank"],
        NetworkOptions(name="patient-1", detach=True, rules=()),
        bank,
    )
    assert (told["state"], told["members"]) == ("running", ["Bank", "Insurer"])
    assert bank.runs.run("patient-1").state == "running"
    assert mill.runs.runs() == ()  # it is not asked
    assert bank.runs.stop("patient-1").reason == "stopped by Bank"
    wait(lambda: coordinator.desk.under_way == 0)


def test_the_run_of_a_launcher_that_is_revoked_is_ended(
    federated: Federated, stack: ExitStack, tmp_path: Path
) -> None:
    coordinator = started(federated, stack)
    launch_network(
        project(tmp_path, consent_s=600.0),
        federated.homes["Bank"],
        NetworkOptions(name="orphan-1", detach=True, rules=()),
        reach(federated, stack, "Bank"),
    )
    # before that, the ledger itself takes no such run
    wait(lambda: coordinator.ledger.recorded("run.started", {"run": "orphan-1"}) is not None)
    assert coordinator.desk.facts("orphan-1").state == "running"
    federated.enrolment = local_enrolment(federated.home, now_ms=now_ms)
    federated.desk().revoke("Bank", "it left")
    wait(lambda: coordinator.desk.facts("orphan-1").state == "stopped")
    reason = coordinator.desk.facts("orphan-1").reason
    assert reason.startswith("Bank, who launched this run, takes part in the federation no more")
    body = coordinator.ledger.recorded("run.stopped", {"run": "orphan-1"})
    assert body is not None
    assert body["reason"] == reason


def test_runs_under_way_are_left_and_gone_on_with(
    federated: Federated, stack: ExitStack, tmp_path: Path
) -> None:
    with ExitStack() as first:
        started(federated, first)
        launch_network(
            project(tmp_path, consent_s=600.0),
            federated.homes["Bank"],
            NetworkOptions(name="stays-1", detach=True, rules=()),
            reach(federated, first, "Bank"),
        )
        time.sleep(0.2)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 120
    again = started(federated, stack)
    assert again.resumed == ("stays-1",)
    assert again.desk.facts("stays-1").state == "running"
    assert reach(federated, stack, "Bank").runs.stop("stays-1").state == "stopped"
    kinds = [one.kind for one in entries_of(again.ledger.store.leaves())]
    assert kinds.count("run.started") == kinds.count("run.stopped") == 1


def test_what_another_process_records_is_followed(
    federated: Federated, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "federation.runs.admission")
    started(federated, stack)
    assert {f"{name} is let in" for name in ROLES} <= set(caplog.messages)
    mill = reach(federated, stack, "Mill")
    assert mill.runs.runs() == ()
    # the operator's command line has an enrolment of its own over the same ledger
    federated.enrolment = local_enrolment(federated.home, now_ms=now_ms)
    federated.desk().revoke("Mill", "it left")
    with pytest.raises(RefusedError, match="Mill is no member of this federation any more"):
        mill.runs.runs()
    wait(lambda: "Mill is let in no more" in caplog.messages)
    federated.add("Forge", "manufacturer")
    wait(lambda: "Forge is let in" in caplog.messages)


def test_it_says_where_it_answers_and_how_it_is(federated: Federated, stack: ExitStack) -> None:
    coordinator = started(federated, stack)
    facts = facts_of(coordinator)
    assert facts["federation"] == "Machines"
    assert facts["resumed"] == []
    for what in ("door", "registry", "fleet", "operations"):
        assert not str(facts[what]).endswith(":0")
    with urllib.request.urlopen(f"http://{facts['operations']}/health", timeout=60) as answer:
        assert json.load(answer)["status"] == "ok"
    with urllib.request.urlopen(f"http://{facts['operations']}/metrics", timeout=60) as answer:
        assert b"tacit_members 3" in answer.read()
    with (
        pytest.raises(RefusedError, match="a coordinator is started there already"),
        coordinating(federated.home, ANYWHERE),
    ):
        pytest.fail("two coordinators hold one home")


def test_it_needs_a_federation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no coordinator's home; begin a federation"):
        Listen.of(Home(tmp_path))
    with (
        pytest.raises(InputError, match="is no coordinator's home"),
        coordinating(Home(tmp_path), ANYWHERE),
    ):
        pytest.fail("it began nothing")


def test_it_listens_where_participants_are_told(federated: Federated) -> None:
    where = Listen.of(federated.home, "0.0.0.0")  # noqa: S104 - that is what is asked for
    assert (where.door, where.registry, where.fleet) == (
        "0.0.0.0:9441",
        "0.0.0.0:9443",
        "0.0.0.0:9444",
    )
