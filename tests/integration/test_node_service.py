"""`tacit node start` as a process: it joins what it may, waits where a person decides, and ends."""

import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support import tables
from support.cli import assert_one_sentence, begin, environment, tacit
from support.deployed import replace_text, wait_for
from support.federations import Federated

from federation.config import load_project
from federation.engine.superlink import SuperLink, serving
from federation.home import Home, read_json
from federation.run_manifest import make_manifest
from privacy.identity import Identity
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN, Manifest
from privacy.messages import CountersignRequest, Invite, Reply, Request, StopNotice

NODE, LAUNCHER, OTHER = "north", "south", "west"


@dataclass
class Scene:
    """One node with its rows, and a coordinator that does what a test says."""

    federated: Federated
    small: tables.SmallFederation
    link: SuperLink
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def home(self) -> Home:
        return self.federated.homes[NODE]

    def start(self, *words: str) -> None:
        with self.log.open("ab") as log:
            self.process = begin(
                ["node", "start", "--device", "cpu", *words],
                env=environment(self.home.root),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def data(self) -> tuple[str, ...]:
        return ("--contract", str(self.small.contract), "--data", str(self.small.root))

    def wait(self, text: str) -> None:
        """Until the node has said so."""

        def done() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.said()
            return text in self.said()

        wait_for(done, text, timeout_s=240)

    def said(self) -> str:
        return self.log.read_text("utf-8") if self.log.exists() else ""

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)

    def manifest(self, run: str) -> Manifest:
        project = load_project(self.small.config)
        place = self.federated.place(NODE)
        return make_manifest(
            project,
            run=run,
            directory=self.federated.membership.members(),
            ledger={
                "origin": place.ledger_origin,
                "key": place.ledger_key.hex(),
                **self.federated.membership.told,
            },
            seed=0,
            fold=None,
            plan=None,
        )

    def ask(self, run: str, request: Request) -> Reply:
        with self.link.transport(run, [NODE], stop=threading.Event()) as transport:
            answers = transport.exchange(
                {1: (request, b"")}, kind="query", deadline_s=120, needed=[1], grace_s=0
            )
        return answers[1][0]

    def invite(self, run: str) -> Reply:
        manifest = self.manifest(run)
        launcher, other = (self.federated.identity(name) for name in (LAUNCHER, OTHER))
        return self.ask(
            run,
            Invite(
                manifest=manifest.to_bytes(),
                signature=launcher.sign(SIGNING_DOMAIN, manifest.to_bytes()),
                launcher=launcher.public,
                countersigner=OTHER,
                countersignature=other.sign(COUNTERSIGN_DOMAIN, manifest.digest()),
            ),
        )

    def kinds(self) -> list[str]:
        ledger = SqliteLedger(self.home.own_node / "ledger.db")
        return [entry.kind for entry in entries_of(ledger.leaves())]


@contextmanager
def scene(root: Path) -> Iterator[Scene]:
    federated = Federated(root / "federation")
    for name, role in ((NODE, "manufacturer"), (LAUNCHER, "bank"), (OTHER, "insurer")):
        federated.add(name, role)
    small = tables.write(root / "rows")
    server = federated.authority.server(federated.now)
    with (
        federated.serving() as registry,
        serving(listen="127.0.0.1:0", credentials=server) as link,
    ):
        here = federated.place(NODE)
        replace(here, registry=registry.registry, fleet=link.address).write()
        link.admit(NODE, federated.credentials(NODE).certificate)
        made = Scene(federated, small, link, root / "node.log")
        # these runs are without noise
        made.home.own_node.mkdir(mode=0o700, parents=True, exist_ok=True)
        policy = made.home.own_node / "policy.yaml"
        policy.write_text("minimum_protection: {noise_from: none}\n")
        try:
            yield made
        finally:
            if made.process is not None and made.process.poll() is None:
                made.process.kill()
                made.process.wait(60)


def test_a_run_is_left_while_the_node_works_and_while_it_does_not(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        here.start(*here.data())
        here.wait("connected to the coordinator")
        for run in ("first-run", "second-run"):
            assert type(here.invite(run)).__name__ == "Joined"
        sessions = here.home.own_node / "sessions"
        keys = {
            run: sessions / here.manifest(run).digest().hex() for run in ("first-run", "second-run")
        }
        assert all(path.is_dir() for path in keys.values())

        wrong = tacit("node", "leave", "run", "--reason", "why", home=here.home.root)
        assert "run names any of 2 runs here" in assert_one_sentence(wrong, 2)
        said = tacit("node", "leave", "first", "--reason", "it ended", home=here.home.root)
        assert (said.returncode, said.stdout) == (
            0,
            "first-run is left; its keys are deleted here.\n",
        )
        here.wait("first-run is over here")
        assert [run for run, path in keys.items() if path.exists()] == ["second-run"]
        notice = StopNotice(run=here.manifest("first-run").digest())
        assert type(here.ask("first-run", notice)).__name__ == "Ready"

        assert here.end() == 0
        words = ("node", "leave", "second-run", "--reason", "it ended", "--json")
        told = json.loads(tacit(*words, home=here.home.root).stdout)
        assert told == {
            "run": "second-run",
            "manifest": keys["second-run"].name,
            "left": True,
        }
        assert not any(path.exists() for path in keys.values())


def test_a_node_from_its_first_start_to_its_end(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        here.start(*here.data())
        here.wait("connected to the coordinator")

        # a run that fits is joined, and a second process is turned away
        assert type(here.invite("first-run")).__name__ == "Joined"
        second = tacit("node", "start", home=here.home.root)
        assert "Another process is the node" in assert_one_sentence(second, 1)

        # from now on a person decides; the node takes that over without a restart
        terms = tmp_path / "terms.yaml"
        terms.write_text("decide: by_hand\nminimum_protection: {noise_from: none}\n")
        assert tacit("node", "policy", "set", str(terms), home=here.home.root).returncode == 0
        here.wait("policy.yaml is in force now")
        pending = here.invite("second-run")
        assert type(pending).__name__ == "Pending"
        assert getattr(pending, "reason", "") == "A person at this node decides about this run."
        here.wait("tacit node approve second-run")
        listed = tacit("node", "pending", home=here.home.root)
        assert "second-run" in listed.stdout
        assert f"{LAUNCHER} (bank)" in listed.stdout
        assert tacit("node", "approve", "second", home=here.home.root).returncode == 0
        assert type(here.invite("second-run")).__name__ == "Joined"

        assert type(here.invite("third-run")).__name__ == "Pending"
        refuse = ("node", "refuse", "third-run", "--reason", "not this quarter")
        assert tacit(*refuse, home=here.home.root).returncode == 0
        refused = here.invite("third-run")
        assert "refused this run: not this quarter" in getattr(refused, "reason", "")
        kinds = here.kinds()
        assert kinds.count("policy.applied") == 2
        assert kinds.count("run.decided") == 2
        assert kinds.count("run.joined") == 2

        status = json.loads(tacit("node", "status", "--json", home=here.home.root).stdout)
        assert (status["running"], status["coordinator"]["reachable"]) == (True, True)
        assert status["policy"]["sha256"] == hashlib.sha256(terms.read_bytes()).hexdigest()
        checked = tacit("node", "check", "--json", home=here.home.root)
        points = {one["name"]: one for one in json.loads(checked.stdout)["points"]}
        assert checked.returncode == 0, points
        assert "hybrid" in points["registry keys"]["found"]
        assert points["fleet TLS"]["level"] == points["membership"]["level"] == "ok"
        assert "training rows of north" in points["data small_binary"]["found"]
        wait_for(
            lambda: len(read_json(here.home.own_node / "service.json")["runs"]) == 2, "two runs"
        )
        # a cap that the budget of these runs cannot hold is said when it is set, and after that
        terms.write_text("budgets: [{epsilon: 0.5}]\n")
        done = tacit("node", "policy", "set", str(terms), "--json", home=here.home.root)
        assert "cannot hold epsilon 0.5" in " ".join(json.loads(done.stdout)["remarks"])
        checked = tacit("node", "check", "--json", home=here.home.root)
        points = {one["name"]: one for one in json.loads(checked.stdout)["points"]}
        assert points["budget small_binary"]["level"] == "failed"
        assert checked.returncode == 1
        assert here.end() == 0
        assert "ended in order" in here.said()
        assert "Traceback" not in here.said()
        state = read_json(here.home.own_node / "service.json")
        assert state["running"] is False


def test_a_later_start_needs_no_words_and_a_broken_policy_stops_it(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        found = tacit("node", "start", home=here.home.root)
        assert "no data contract yet" in assert_one_sentence(found, 2)
        here.start(*here.data(), "--log", "json")
        here.wait("connected to the coordinator")
        assert here.end(signal.SIGINT) == 0
        here.start()
        wait_for(lambda: here.said().count("connected to the coordinator") == 2, "again")
        # what cannot be used changes nothing while it runs
        policy = here.home.own_node / "policy.yaml"
        replace_text(policy, "minimum_cohort: none of your business\n")
        here.wait("The terms of before stay in force.")
        assert type(here.invite("first-run")).__name__ == "Joined"
        assert here.end() == 0
        assert "minimum_cohort" in assert_one_sentence(
            tacit("node", "start", home=here.home.root), 2
        )
        policy.unlink()
        name = load_project(here.small.config).contract.name
        forgot = tacit("node", "start", "--forget", name, home=here.home.root)
        assert "no data contract yet" in assert_one_sentence(forgot, 2)


def test_a_node_refuses_whoever_may_not_start_runs(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        here.start(*here.data())
        here.wait("connected to the coordinator")
        manifest = here.manifest("a-run")
        mallory = Identity.create(os.urandom)
        asked = CountersignRequest(
            manifest=manifest.to_bytes(),
            signature=mallory.sign(SIGNING_DOMAIN, manifest.to_bytes()),
            launcher=mallory.public,
        )
        assert "may start none here" in getattr(here.ask("a-run", asked), "reason", "")
        # the node's own kind starts no runs either
        own = here.federated.identity(NODE)
        asked = CountersignRequest(
            manifest=manifest.to_bytes(),
            signature=own.sign(SIGNING_DOMAIN, manifest.to_bytes()),
            launcher=own.public,
        )
        assert "may start none here" in getattr(here.ask("a-run", asked), "reason", "")
        bank = here.federated.identity(LAUNCHER)
        asked = CountersignRequest(
            manifest=manifest.to_bytes(),
            signature=bank.sign(SIGNING_DOMAIN, manifest.to_bytes()),
            launcher=bank.public,
        )
        assert type(here.ask("a-run", asked)).__name__ == "Countersigned"


@pytest.mark.parametrize("words", [("status",), ("check", "--no-data")])
def test_what_a_machine_without_a_federation_is_told(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    found = tacit("node", *words, home=tmp_path)
    text = found.stderr + found.stdout
    assert found.returncode in {1, 2}
    assert "is in no federation yet" in text
    assert "Traceback" not in text
