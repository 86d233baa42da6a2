"""Verifying and handing over a home, and what of it is said to people and programs."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.federations import OPERATOR, Federated
from support.homes import MEMBERS, Household
from support.ledgers import (
    COORDINATOR,
    NOISE,
    ORIGIN,
    Nodes,
    Script,
    bundle_of,
    data_of,
    key_of,
    ledger_of,
    whole_run,
)
from typer.testing import CliRunner

from clients.ledger_files import LEDGER
from federation.audit import (
    Audit,
    export_home,
    export_sentence,
    read_policy,
    verify_file,
    verify_home,
    verify_remembering,
)
from federation.cli.main import app
from federation.evidence import live_bundle
from federation.fingerprint import fingerprint
from federation.home import LEDGER_VARIABLE, Home, write_json
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger import EMPTY_HEAD, LedgerHead
from privacy.ledger.bundle import read_bundle, write_bundle
from privacy.ledger.entry import UPDATE
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.proof import PROOF_HEADER
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import head_of
from privacy.ledger.trust import TrustPolicy
from privacy.verify import STEPS, verify_bundle
from privacy.verify_alone import main


@pytest.fixture(autouse=True)
def _in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEDGER_VARIABLE, raising=False)


@pytest.fixture
def household(tmp_path: Path) -> Household:
    found = Household(tmp_path / "home")
    found.run()
    return found


def shown(audit: Audit) -> str:
    file = StringIO()
    Console(width=200, file=file).print(audit.page())
    return file.getvalue()


REGULATOR = cosigner_key("regulator", key_of("regulator").public)
LOG_KEY = log_key(ORIGIN, key_of(COORDINATOR).public)


def policy_file(path: Path, policy: TrustPolicy) -> Path:
    path.write_text(policy.to_text())
    return path


# --- a home ---


def test_a_home_is_held_against_what_its_folders_remember(household: Household) -> None:
    household.run("s")
    audit = verify_home(household.home)
    assert (audit.heads, audit.verdict.runs, audit.verdict.missing) == (2, 2, ())
    assert audit.verdict.root == head_of(household.recorder.store).root


def test_entries_after_the_newest_signed_state_are_let_pass_at_home(household: Household) -> None:
    household.start()
    assert verify_home(household.home).verdict.unfinished == ("s",)


@pytest.mark.parametrize(
    "kept",
    [
        {"leaves": 5, "root": "a" * 64},
        {"leaves": 10_000, "root": "a" * 64},
        {"leaves": 0, "root": "a" * 64},
        {"leaves": -1, "root": "a" * 64},
        {"leaves": True, "root": "a" * 64},
        {"leaves": "5", "root": "a" * 64},
        {"leaves": 5, "root": None},
        {"leaves": 5},
        {},
    ],
)
def test_a_folder_that_remembers_another_ledger_is_found(
    household: Household, kept: dict[str, object]
) -> None:
    for name in ("result.json", "state.json"):
        path = household.home.runs / "r" / name
        before = path.read_bytes() if path.exists() else b""
        write_json(path, {"ledger": kept})
        with pytest.raises(NotVerifiedError):
            verify_home(household.home)
        write_json(path, json.loads(before or b"{}"))
        verify_home(household.home)


def test_what_remembers_nothing_is_left_out(household: Household) -> None:
    folder = household.home.runs / "r"
    (folder / "state.json").write_text("no json")
    write_json(folder / "result.json", {"ledger": None})
    assert verify_home(household.home).heads == 0
    (folder / "result.json").unlink()
    assert verify_home(household.home).heads == 0


def test_a_ledger_that_is_gone_is_missed_by_whoever_remembers_it(household: Household) -> None:
    household.recorder.store.close()  # type: ignore[attr-defined]  # it is a file's
    for path in household.home.root.glob("ledger.db*"):
        path.unlink()
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*the coordinator's ledger is gone"):
        verify_home(household.home)
    (household.home.runs / "r" / "result.json").unlink()
    assert verify_home(household.home).verdict.leaves == 0


def launched_elsewhere(home: Home, head: LedgerHead, run: str = "far-1") -> None:
    """What a launch over the network leaves in its home."""
    folder = home.runs / run
    folder.mkdir(parents=True)
    ledger = {"leaves": head.leaves, "root": head.root}
    write_json(folder / "result.json", {"coordinator": "127.0.0.1:9443", "ledger": ledger})


def test_what_a_launcher_remembers_of_the_coordinators_ledger_is_no_loss_of_its_own(
    tmp_path: Path,
) -> None:
    one = Federated(tmp_path)
    one.add("ash")
    home = one.homes["ash"]
    home.own_node.mkdir()
    Nodes(("ash",), stores={"ash": SqliteLedger(home.own_node / LEDGER)})
    head = LedgerHead(700, "ab" * 32)
    launched_elsewhere(home, head)
    audit = verify_home(home)
    assert (audit.heads, audit.elsewhere, len(audit.verdict.nodes)) == (0, 1, 1)
    assert audit.to_json()["heads_elsewhere"] == 1
    assert "ledger is not here: 1 state of it that launches" in audit.sentence()
    launched_elsewhere(home, head, "far-2")
    assert "2 states of it" in verify_home(home).sentence()


def test_a_ledger_of_runs_here_is_not_held_against_what_launches_elsewhere_remember(
    household: Household,
) -> None:
    launched_elsewhere(household.home, LedgerHead(5, "ab" * 32))
    audit = verify_home(household.home)
    assert (audit.heads, audit.elsewhere) == (1, 1)
    household.recorder.store.close()  # type: ignore[attr-defined]  # it is a file's
    for path in household.home.root.glob("ledger.db*"):
        path.unlink()
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*the coordinator's ledger is gone"):
        verify_home(household.home)


def test_what_a_launch_remembers_is_held_against_the_coordinators_ledger_where_it_is(
    tmp_path: Path,
) -> None:
    one = Federated(tmp_path)
    one.sign()
    launched_elsewhere(one.home, head_of(one.enrolment.store))
    audit = verify_home(one.home)
    assert (audit.heads, audit.elsewhere) == (1, 0)
    launched_elsewhere(one.home, LedgerHead(1, "ab" * 32), "far-2")
    with pytest.raises(NotVerifiedError, match=r"^step 7 "):
        verify_home(one.home)


def test_a_coordinator_whose_ledger_is_gone_is_told_so(tmp_path: Path) -> None:
    """Whether or not something here remembers a state of it."""
    one = Federated(tmp_path)
    for path in one.home.root.glob("ledger.db*"):
        path.unlink()
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*the coordinator's ledger is gone"):
        verify_home(one.home)


def test_a_home_without_ledgers_is_one_sentence(tmp_path: Path) -> None:
    for act in (verify_home, lambda home: export_home(home, tmp_path / "bundle")):
        with pytest.raises(InputError, match="there is no ledger yet"):
            act(Home(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_live_ledgers_are_held_against_heads_that_are_given(household: Household) -> None:
    bundle = live_bundle(household.home)
    head = head_of(household.recorder.store)
    assert verify_remembering(bundle, [EMPTY_HEAD, head]).heads == 2
    assert verify_remembering(bundle, []).heads == 0
    with pytest.raises(NotVerifiedError, match=r"^step 7 "):
        verify_remembering(bundle, [LedgerHead(head.leaves, "a" * 64)])
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*is gone"):
        verify_remembering(replace(bundle, logs=bundle.logs[1:]), [EMPTY_HEAD])
    strict = TrustPolicy(logs=(), witnesses={"regulator": REGULATOR}, quorum="regulator")
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*regulator"):
        verify_remembering(bundle, [], policy=strict)


# --- a file ---


def test_what_is_exported_is_verified_from_the_file(household: Household, tmp_path: Path) -> None:
    household.start()
    path = tmp_path / "evidence.bundle"
    bundle = export_home(household.home, path)
    assert read_bundle(path.read_bytes()) == bundle
    audit = verify_file(path)
    assert audit.verdict == verify_bundle(bundle)
    assert audit.heads == 0
    said = export_sentence(bundle, path)
    leaves = sum(len(log.leaves) for log in bundle.logs)
    assert f"4 ledgers, {leaves} entries" in said
    assert f"tacit audit verify {path}" in said


def audited(home: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """What `tacit audit WORDS --json` prints, and the sentence that it ends with."""
    env = {"TACIT_HOME": str(home)}
    found = CliRunner().invoke(app, ("audit", *words, "--json"), env=env)
    assert isinstance(found.exception, NotVerifiedError)
    return found.exception.exit_code, json.loads(found.stdout), str(found.exception)


def test_a_program_is_told_what_does_not_hold_as_the_second_verifier_tells_it(
    household: Household, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut, changed = (tmp_path / name for name in ("whole", "cut", "changed"))
    bundle = export_home(household.home, whole)
    cut.write_bytes(whole.read_bytes()[:-9])
    first = bundle.logs[0]
    leaves = [*first.leaves[:3], first.leaves[4], *first.leaves[4:]]
    with changed.open("wb") as file:
        write_bundle(replace(bundle, logs=(replace(first, leaves=leaves), *bundle.logs[1:])), file)
    nowhere = tmp_path / "nowhere"
    for path, step in ((cut, 1), (changed, 3)):
        code, told, sentence = audited(nowhere, "verify", str(path))
        assert (code, told["verified"], told["step"]) == (1, False, step)
        assert set(told) == {"verified", "step", "message"}
        assert sentence.startswith(f"step {step} (")
        assert sentence.endswith(told["message"])
        assert main([str(path), "--json"]) == 1
        other = json.loads(capsys.readouterr().out)
        assert (other["verified"], other["step"]) == (False, step)
        assert set(other) == set(told)
    # of several, the file is named; what is found before the steps has none
    code, told, _ = audited(nowhere, "verify", str(whole), str(cut))
    assert (code, told["verified"], told["step"]) == (1, False, 1)
    assert told["message"].startswith(f"{cut}: ")
    _, told, _ = audited(nowhere, "verify", str(whole), str(changed))
    assert (told["verified"], told["step"]) == (False, None)
    assert "two histories" in told["message"]
    # and so it is of a home, and of a proof
    (household.home.ledger).unlink()
    _, told, _ = audited(household.home.root, "verify")
    assert (told["step"], told["message"]) == (7, "the coordinator's ledger is gone")
    proof = tmp_path / "proof"
    proof.write_bytes(PROOF_HEADER)
    policy = policy_file(tmp_path / "policy", TrustPolicy(logs=(LOG_KEY,)))
    _, told, _ = audited(nowhere, "verify", str(proof), "--policy", str(policy))
    assert (told["verified"], told["step"]) == (False, None)


def test_an_export_is_whole_or_not_there(household: Household, tmp_path: Path) -> None:
    path = tmp_path / "evidence.bundle"
    path.write_bytes(b"an older one")
    household.home.coordinator.unlink()
    household.start()
    with pytest.raises(InputError, match="cannot read the identity"):
        export_home(household.home, path)
    assert path.read_bytes() == b"an older one"
    with pytest.raises(InputError):
        export_home(Household(tmp_path / "other").home, tmp_path / "nowhere" / "bundle")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["evidence.bundle", "home", "other"]


def test_a_file_that_is_no_bundle_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with pytest.raises(InputError, match="cannot be read"):
        verify_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        verify_file(tmp_path)
    for data in (b"", b"{}\n", b"\x00" * 100, b"# README\n"):
        path.write_bytes(data)
        with pytest.raises(NotVerifiedError, match=r"^step 1 [^\n]+$"):
            verify_file(path)


def test_the_auditors_policy_is_held_against_a_file(tmp_path: Path) -> None:
    entries = ledger_of(whole_run(names=MEMBERS))
    path = tmp_path / "bundle"
    path.write_bytes(data_of(bundle_of(entries)))
    lenient = policy_file(tmp_path / "lenient", TrustPolicy(logs=(LOG_KEY,)))
    strict = policy_file(
        tmp_path / "strict",
        TrustPolicy(logs=(LOG_KEY,), witnesses={"r": REGULATOR}, quorum="r"),
    )
    assert verify_file(path, policy=lenient).verdict.leaves == len(entries)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*missing: r$"):
        verify_file(path, policy=strict)
    seen = bundle_of(entries, states={len(entries): (*MEMBERS, "regulator")})
    path.write_bytes(data_of(seen))
    assert "r" in verify_file(path, policy=strict).verdict.cosigned


def test_a_policy_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    assert read_policy(None) is None
    path = tmp_path / "policy"
    with pytest.raises(InputError, match="cannot be read"):
        read_policy(path)
    for data in (b"", b"quorum none", b"\xff\n", b"log x\nquorum none\n"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            read_policy(path)
    path.write_bytes(b"quorum none\n")
    assert read_policy(path) == TrustPolicy(logs=())


# --- what is said ---


def audit_of(script: Script, nodes: Nodes, *, without: tuple[str, ...] = ()) -> Audit:
    bundle = bundle_of(ledger_of(script), nodes.logs(without=without))
    return Audit(verify_bundle(bundle), 3)


def test_a_verdict_is_said_in_one_paragraph() -> None:
    nodes = Nodes(MEMBERS)
    whole = audit_of(whole_run(names=MEMBERS, nodes=nodes), nodes)
    said = whole.sentence()
    assert f"{whole.verdict.leaves} entries, 1 run, 2 rounds, 8 releases on record" in said
    assert "held against 3 remembered states" in said
    assert whole.verdict.root[:16] in said
    assert "3 nodes' own ledgers say the same of 24 releases" in said
    assert "\n" not in said
    for word in ("Not compared", "Not finished", "never opened"):
        assert word not in said


def test_what_is_missing_or_open_is_said() -> None:
    nodes = Nodes(MEMBERS)
    script = Script("r", MEMBERS, nodes=nodes).begin().reserve(UPDATE, 1)
    said = audit_of(script, nodes, without=("bank", "insurer")).sentence()
    assert "Not compared, as not at hand: bank, insurer." in said
    assert "Not finished: r." in said
    assert "Reserved and never opened, which counts as spent: 1 release." in said
    alone = audit_of(script, nodes, without=MEMBERS).sentence()
    assert "nodes' own ledgers" not in alone


def test_who_founded_it_and_how_many_act_is_said(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    for name, role in (("A", "bank"), ("B", "bank"), ("R", "regulator"), ("gone", "insurer")):
        one.add(name, role)
    one.desk().revoke("gone", "left")
    one.ask(one.invite("W", "bank"))
    path = tmp_path / "a.bundle"
    export_home(one.home, path)
    audit = verify_file(path)
    key = one.place().founder_key
    begun = audit.to_json()["federation"]
    assert audit.verdict.founder == begun["key"] == key.hex()
    assert (begun["founder"], begun["fingerprint"]) == (OPERATOR, fingerprint(key))
    assert (begun["known"], begun["revoked"], begun["waiting"]) == (None, ["gone"], ["W"])
    assert {name: each["role"] for name, each in begun["participants"].items()} == {
        OPERATOR: "operator",
        "A": "bank",
        "B": "bank",
        "R": "regulator",
    }
    said = " ".join(shown(audit).split())
    assert f"founded by {OPERATOR} with the key {fingerprint(key)}; compare it" in said
    assert "4 take part: 2 banks, 1 operator, 1 regulator." in said
    assert "Revoked: 1. Waiting for approval: 1." in said
    same = replace(audit, known_founder=key.hex())
    assert same.to_json()["federation"]["known"] is True
    assert "as this machine's invitation says" in same.federation_sentence()
    other = replace(audit, known_founder="0" * 64)
    assert other.to_json()["federation"]["known"] is False
    assert "NOT who founded" in other.federation_sentence()
    home = verify_home(one.home)
    assert home.membership == audit.membership == one.membership


def test_where_no_federation_was_begun_nothing_is_said_of_one(household: Household) -> None:
    audit = verify_home(household.home)
    assert audit.to_json()["federation"] is None
    assert "Federation" not in shown(audit)


def test_a_page_names_every_step_and_what_was_spent() -> None:
    nodes = Nodes(MEMBERS)
    audit = audit_of(whole_run(names=MEMBERS, nodes=nodes, privacy=NOISE), nodes)
    page = shown(audit)
    for number, name in STEPS.items():
        assert f"{number} " in page
        assert name in page
    for said in audit.verdict.steps:
        assert said[:60] in page
    for cost in audit.verdict.privacy:
        assert cost.dataset in page
        assert f"{cost.epsilon:.2f}"[:3] in page
    assert "delta 1e-05" in page
    assert "rules: not checked" in page


def test_without_releases_there_is_no_table_of_costs() -> None:
    audit = audit_of(Script("r", MEMBERS).start(), Nodes(()))
    assert audit.costs() is None
    assert "epsilon" not in shown(audit)


def test_a_program_reads_the_same_as_a_person() -> None:
    nodes = Nodes(MEMBERS)
    audit = audit_of(whole_run(names=MEMBERS, nodes=nodes), nodes)
    told = json.loads(json.dumps(audit.to_json()))
    assert told["verified"] is True
    assert told["heads_checked"] == 3
    assert told["rules"] is None
    assert told["root"] == audit.verdict.root
    assert [node["owner"] for node in told["nodes"]] == list(MEMBERS)
    assert len(told["steps"]) == len(STEPS)
    assert told["missing"] == []
    assert {one["epsilon"] for one in told["privacy"]} == {None}
