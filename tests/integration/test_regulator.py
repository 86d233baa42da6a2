"""A regulator over the network, without a flag: what it sees, fetches, believes and cosigns."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from support.certificates import Authority, save
from support.federations import MANY, NAME, OPERATOR, Federated
from support.registry import Ledger, identity
from typer.testing import CliRunner

from federation.cli.join import _next as joined
from federation.cli.main import app
from federation.cosigned import MEMORY, cosigned_heads
from federation.evidence import home_bundle, home_evidence, live_bundle
from federation.fetching import REJECTED, Fetched, fetch, require_auditor
from federation.fingerprint import fingerprint
from federation.ledger_recorder import LedgerRecorder
from federation.members.client import MembersClient
from federation.members.service import MembersService
from federation.participant import Place
from federation.registry.access import Method, Role, Scope, scope_of
from federation.registry.client import RegistryClient
from federation.registry.newest import sign_newest
from federation.registry.participants import ParticipantWitnesses
from federation.registry.server import listening
from federation.registry.service import RegistryService
from federation.roster import read_acts
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError
from privacy.identity import Identity
from privacy.ledger.bundle import Bundle, read_bundle, write_bundle
from privacy.ledger.keys import cosigner_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.trust import TrustPolicy, two_thirds

REGULATOR, BANK = "The Regulator", "Bank A"


@pytest.fixture
def one(tmp_path: Path) -> Federated:
    found = Federated(tmp_path / "all")
    found.add(REGULATOR, Role.REGULATOR)
    found.add(BANK)
    return found


@contextmanager
def answering(one: Federated) -> Iterator[str]:
    """A registry as a coordinator has it, at the address that every place is told."""
    with ExitStack() as stack:
        members = MembersService(
            one.enrolment, fleet=lambda: one.authority.addresses.fleet, now_ms=one.now_ms
        )
        registry = RegistryService(
            lambda: home_evidence(one.home),
            bundle=lambda: home_bundle(one.home),
            witnesses=ParticipantWitnesses(one.enrolment.membership, {}),
            now_ms=one.now_ms,
        )
        server = one.authority.server(one.now)
        at = stack.enter_context(
            listening(
                registry,
                "127.0.0.1:0",
                server,
                rate=MANY,
                beside=(members.add_to,),
                revoked=one.enrolment.is_out,
            )
        ).address
        for name in one.homes:
            replace(one.place(name), registry=at).write()
        yield at


@pytest.fixture
def at(one: Federated) -> Iterator[str]:
    with answering(one) as address:
        yield address


def run(one: Federated, name: str, *words: str) -> Any:  # noqa: ANN401
    """The command on somebody's machine, in this process; a failure is in `exception`."""
    home = one.homes[name].root
    return CliRunner().invoke(app, words, env={"TACIT_HOME": str(home), "COLUMNS": "80"})


def said(one: Federated, name: str, *words: str) -> str:
    found = run(one, name, *words)
    assert found.exit_code == 0, (found.exception, found.output)
    return " ".join(found.stdout.split())


def facts(one: Federated, name: str, *words: str) -> dict[str, Any]:
    found = run(one, name, *words, "--json")
    assert found.exit_code == 0, (found.exception, found.output)
    value: dict[str, Any] = json.loads(found.stdout)
    return value


def refusal(one: Federated, name: str, *words: str) -> str:
    found = run(one, name, *words)
    assert isinstance(found.exception, TacitError), (found.exception, found.output)
    sentence = str(found.exception)
    assert "\n" not in sentence
    return sentence


# -- what it is told when it joined --


def test_a_regulator_is_told_what_it_may_do_and_each_is_a_verb() -> None:
    told = joined(Role.REGULATOR)
    assert told.startswith("What you may do now:\n")
    verbs = [line.split("  ")[1].split() for line in told.splitlines()[1:]]
    assert len(verbs) == 6
    for tacit, *words in verbs:
        assert tacit == "tacit"
        names = [word for word in words if word.islower() and not word.startswith("--")]
        found = CliRunner().invoke(app, [*names[:2], "--help"], env={"COLUMNS": "200"})
        assert found.exit_code == 0, words
        assert all(word in found.stdout for word in words if word.startswith("--"))
    assert "node start" in joined(Role.BANK)
    assert "members" in joined(Role.OPERATOR)


# -- registry status --


@pytest.mark.parametrize("name", [REGULATOR, BANK, OPERATOR])
def test_status_needs_no_flag(one: Federated, at: str, name: str) -> None:
    (told,) = facts(one, name, "registry", "status")["ledgers"]
    assert (told["signed"], told["pinned"]) == (None, True)
    assert "no signed checkpoint yet" in told["reason"]
    one.sign()
    assert facts(one, REGULATOR, "audit", "witness")["logs"][0]["state"] == "cosigned"
    (told,) = facts(one, name, "registry", "status")["ledgers"]
    assert told["signed"] == told["entries"]
    assert list(told["cosigned"]) == [REGULATOR]
    assert told["unverified"] == []
    shown = said(one, name, "registry", "status")
    assert f"signed up to {told['signed']} of them, by the key that your invitation" in shown
    assert f"cosigned by {REGULATOR} (20" in shown
    assert at


def test_a_registry_with_another_ledger_or_key_is_not_taken_for_the_federations(
    one: Federated, at: str
) -> None:
    one.sign()
    place = one.place(REGULATOR)
    assert place.registry == at
    replace(place, ledger_key=identity(7).public).write()
    (told,) = facts(one, REGULATOR, "registry", "status")["ledgers"]
    assert told["signed"] is None
    assert told["reason"]
    replace(place, ledger_origin="tacit/coordinator/0000000000000000").write()
    (told,) = facts(one, REGULATOR, "registry", "status")["ledgers"]
    assert (told["signed"], told["pinned"]) == (None, False)
    assert "not the ledger that the invitation names" in told["reason"]


def test_flags_stand_before_the_place(one: Federated, at: str, tmp_path: Path) -> None:
    place = one.place(REGULATOR)
    replace(place, registry="127.0.0.1:1").write()
    assert "127.0.0.1:1 does not answer" in refusal(one, REGULATOR, "registry", "status")
    assert facts(one, REGULATOR, "registry", "status", "--registry", at)["ledgers"]
    save(Authority.create().client("regulator", REGULATOR), tmp_path / "tls")
    other = [str(tmp_path / "tls" / f"{name}.pem") for name in ("cert", "key")]
    strange = ("registry", "status", "--registry", at, "--cert", other[0], "--key", other[1])
    assert "does not accept this certificate" in refusal(one, REGULATOR, *strange)


def test_too_little_is_said_in_a_sentence(one: Federated, tmp_path: Path) -> None:
    status = ("registry", "status")
    assert "give both --cert and --key" in refusal(one, BANK, *status, "--cert", "x")
    assert "give --cert and --key too" in refusal(one, BANK, *status, "--ca", "x")
    one.homes["nobody"] = replace(one.home, root=tmp_path / "nobody")
    assert "join one with tacit node join" in refusal(one, "nobody", *status)
    assert "give all of" in refusal(one, "nobody", *status, "--registry", "127.0.0.1:1")


# -- audit fetch --


def test_the_record_is_fetched_verified_and_holds_by_itself(
    one: Federated, at: str, tmp_path: Path
) -> None:
    out = tmp_path / "pool.bundle"
    told = facts(one, REGULATOR, "audit", "fetch", str(out))
    assert (told["bundle"], told["unsigned"], told["verified"]) == (str(out), 0, True)
    begun = told["federation"]
    assert (begun["name"], begun["founder"], begun["known"]) == (NAME, OPERATOR, True)
    assert begun["fingerprint"] == fingerprint(one.place().founder_key)
    assert {name: each["role"] for name, each in begun["participants"].items()} == {
        OPERATOR: "operator",
        REGULATOR: "regulator",
        BANK: "bank",
    }
    assert read_bundle(out.read_bytes()).logs[0].role == "coordinator"
    assert [path.name for path in tmp_path.glob("*bundle*")] == ["pool.bundle"]
    shown = said(one, REGULATOR, "audit", "fetch", str(out))
    assert "as this machine's invitation says" in shown
    assert "3 take part: 1 bank, 1 operator, 1 regulator." in shown
    # with nothing but the file
    (tmp_path / "empty").mkdir()
    one.homes["nobody"] = replace(one.home, root=tmp_path / "empty")
    assert "compare it with the one that you were told" in said(
        one, "nobody", "audit", "verify", str(out)
    )
    assert at


@pytest.mark.parametrize("role", list(Role))
def test_who_may_not_have_the_record_is_told_what_it_may(role: Role) -> None:
    if scope_of(role, Method.BUNDLE) is Scope.ALL:
        require_auditor(role)
        return
    with pytest.raises(RefusedError, match=rf"as {role.value}; .*tacit audit export"):
        require_auditor(role)


def test_a_member_is_refused_in_one_sentence(one: Federated, at: str, tmp_path: Path) -> None:
    out = tmp_path / "pool.bundle"
    for name in (BANK, OPERATOR):
        assert "for regulators" in refusal(one, name, "audit", "fetch", str(out))
    # and by the registry, whatever this machine's program thinks
    with (
        RegistryClient(at, one.credentials(BANK)) as client,
        pytest.raises(RefusedError, match="bank may not call Bundle"),
    ):
        fetch(client, out, place=one.place(BANK), policy=None)
    assert not list(tmp_path.glob("*pool*"))


class Sends:
    """A registry that sends these bytes as the record."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def bundle(self, file: BinaryIO) -> int:
        return file.write(self.data)


def bytes_of(bundle: Bundle) -> bytes:
    file = BytesIO()
    write_bundle(bundle, file)
    return file.getvalue()


def fetched(
    data: bytes, path: Path, place: Place | None, policy: TrustPolicy | None = None
) -> Fetched:
    return fetch(cast("RegistryClient", Sends(data)), path, place=place, policy=policy)


def rejected(
    data: bytes, path: Path, place: Place, match: str, policy: TrustPolicy | None = None
) -> None:
    """It is refused, and what was sent is kept beside the file that was asked for."""
    with pytest.raises(NotVerifiedError, match=match) as error:
        fetched(data, path, place, policy)
    kept = path.with_name(path.name + REJECTED)
    assert str(kept) in str(error.value)
    assert kept.read_bytes() == data
    assert not path.exists()
    kept.unlink()


def test_what_nobody_signed_yet_is_counted(one: Federated, tmp_path: Path) -> None:
    one.sign()
    signed = bytes_of(live_bundle(one.home))
    place = one.place(REGULATOR)
    assert fetched(signed, tmp_path / "a", place).unsigned == 0
    one.add("Bank B")
    found = fetched(bytes_of(live_bundle(one.home)), tmp_path / "b", place)
    assert found.unsigned == 4  # invited, requested, approved, certified
    assert found.audit.membership == one.membership


def test_two_who_fetch_to_one_place_have_a_whole_file_each(one: Federated, tmp_path: Path) -> None:
    place, out = one.place(REGULATOR), tmp_path / "pool.bundle"
    older = bytes_of(live_bundle(one.home))
    one.add("Bank B")
    newer = bytes_of(live_bundle(one.home))

    class Slow(Sends):
        def bundle(self, file: BinaryIO) -> int:
            half = len(newer) // 2
            file.write(newer[:half])
            fetched(older, out, place)
            return half + file.write(newer[half:])

    found = fetch(cast("RegistryClient", Slow(newer)), out, place=place, policy=None)
    assert found.audit.membership == one.membership
    assert out.read_bytes() == newer
    assert [path.name for path in tmp_path.glob("*.bundle*")] == [out.name]
    assert not list(tmp_path.glob(".*.part"))


def test_what_is_not_the_federation_of_the_invitation_is_not_believed(
    one: Federated, tmp_path: Path
) -> None:
    place, out = one.place(REGULATOR), tmp_path / "pool.bundle"
    data = bytes_of(home_bundle(one.home))
    assert fetched(data, out, place).bundle.logs
    out.unlink()
    other = Federated(tmp_path / "other")
    forged = bytes_of(home_bundle(other.home))
    rejected(forged, out, place, "knows none of this ledger's keys")
    rejected(forged, out, place, "invitation names", TrustPolicy(logs=(other.place().log_key,)))
    for pin, match in (
        (replace(place, founder_key=identity(9).public), "another key began"),
        (replace(place, root_fingerprint="0" * 64), "another root or name"),
        (replace(place, federation="South"), "another root or name"),
    ):
        rejected(data, out, pin, match)
    rejected(data[:-1], out, place, "ends in the middle of a line|cut off|bundle")
    lone = Ledger(MemoryLedger(), "coordinator", "coordinator", identity(5))
    lone.sign()
    node = Ledger(MemoryLedger(), BANK, "node", identity(6))
    node.sign()
    bundle = read_bundle(data)
    alone = bytes_of(replace(bundle, logs=(node.log(),)))
    rejected(alone, out, place, "not in what was sent")
    pinned = replace(place, ledger_origin=lone.origin, ledger_key=lone.signer.public)
    bare = bytes_of(replace(bundle, logs=(lone.log(),)))
    rejected(bare, out, pinned, "no federation was begun in it")


def test_an_older_record_than_this_machine_has_seen_is_refused(
    one: Federated, at: str, tmp_path: Path
) -> None:
    place, out = one.place(REGULATOR), tmp_path / "pool.bundle"
    before = bytes_of(home_bundle(one.home))
    one.desk().revoke(BANK, "left")
    with MembersClient(at, one.credentials(REGULATOR)) as client:
        read_acts(place, client)
    rejected(before, out, place, "1 acts of membership that this machine has seen")
    assert fetched(bytes_of(home_bundle(one.home)), out, place).audit.membership == one.membership
    # by states that it cosigned, whatever the acts
    (place.folder / "membership.json").unlink()
    out.unlink()
    one.sign()
    assert run(one, REGULATOR, "audit", "witness").exit_code == 0
    (head,) = cosigned_heads(place)
    assert head.leaves == one.enrolment.store.size()
    rejected(before, out, place, "the ledger was cut off; somebody remembers")
    found = fetched(bytes_of(home_bundle(one.home)), out, place)
    assert found.audit.heads == 1
    # and so is a file that came another way
    old = tmp_path / "old.bundle"
    old.write_bytes(before)
    assert "cut off" in refusal(one, REGULATOR, "audit", "verify", str(old))
    assert facts(one, REGULATOR, "audit", "verify", str(out))["heads_checked"] == 1
    assert facts(one, BANK, "audit", "verify", str(old))["heads_checked"] == 0


def test_states_of_other_ledgers_and_unsigned_ones_are_not_remembered(one: Federated) -> None:
    place = one.place(REGULATOR)
    folder = place.home.root / MEMORY
    folder.mkdir()
    other = Ledger(MemoryLedger(), "coordinator", "coordinator", identity(3))
    other.sign()
    (folder / "a.note").write_bytes(other.store.checkpoints()[-1][1])
    (folder / "b.note").write_bytes(b"no note")
    assert cosigned_heads(place) == []


def test_the_auditors_own_policy_counts(one: Federated, tmp_path: Path) -> None:
    place, out = one.place(REGULATOR), tmp_path / "pool.bundle"
    key = cosigner_key(REGULATOR, place.identity().public)
    strict = two_thirds((place.log_key,), {"r": key})
    rejected(bytes_of(home_bundle(one.home)), out, place, "too few witnesses", strict)
    with answering(one):
        one.sign()
        assert run(one, REGULATOR, "audit", "witness").exit_code == 0
        policy = tmp_path / "policy.txt"
        policy.write_text(strict.to_text())
        words = ("audit", "fetch", str(out), "--policy", str(policy))
        assert list(facts(one, REGULATOR, *words)["cosigned"]) == ["r"]
    with pytest.raises(InputError, match="--policy"):
        fetched(b"", out, None)


# -- audit witness --


def test_a_participant_witnesses_without_a_flag(one: Federated, at: str) -> None:
    home = one.homes[REGULATOR].root
    told = facts(one, REGULATOR, "audit", "witness")
    assert [each["state"] for each in told["logs"]] == ["nothing signed"]
    one.sign()
    told = facts(one, REGULATOR, "audit", "witness")
    key = cosigner_key(REGULATOR, one.identity(REGULATOR).public)
    assert told["witness"] == key.to_text()
    size = one.enrolment.store.size()
    assert [(each["state"], each["size"]) for each in told["logs"]] == [("cosigned", size)]
    assert told["logs"][0]["pinned"] is None  # the invitation named it
    assert (home / MEMORY / "memory.sqlite").exists()
    (status,) = facts(one, BANK, "registry", "status")["ledgers"]
    assert set(status["cosigned"]) == {REGULATOR}
    assert at


def test_a_member_does_not_sign_with_its_nodes_key_from_a_second_memory(
    one: Federated, at: str, tmp_path: Path
) -> None:
    one.sign()
    bundle = tmp_path / "pool.bundle"
    bundle.write_bytes(bytes_of(home_bundle(one.home)))
    own = str(one.place(BANK).folder / "identity.pem")
    for words in ((), (str(bundle),), ("--identity", own), (str(bundle), "--identity", own)):
        assert "--identity" in refusal(one, BANK, "audit", "witness", *words)
    assert not (one.homes[BANK].root / MEMORY).exists()
    other = tmp_path / "witness.pem"
    identity(30).save(other)
    found = run(one, BANK, "audit", "witness", "--identity", str(other))
    assert found.exit_code == 1
    assert "registered as no witness here" in found.stderr
    key = ("--identity", str(other), "--name", "w", "--state", str(tmp_path / "w"))
    told = facts(one, BANK, "audit", "witness", str(bundle), *key)
    assert told["logs"][0]["state"] == "cosigned"
    assert at


def test_another_ledger_than_the_invitations_is_not_cosigned(one: Federated, at: str) -> None:
    one.sign()
    place = one.place(REGULATOR)
    replace(place, ledger_key=identity(7).public).write()
    found = run(one, REGULATOR, "audit", "witness", "--json")
    assert found.exit_code == 1
    assert [each["state"] for each in json.loads(found.stdout)["logs"]] == ["refused"]
    assert at


def test_the_operators_home_witnesses_its_own_ledger(one: Federated, tmp_path: Path) -> None:
    one.sign()
    out = tmp_path / "lines"
    told = facts(one, OPERATOR, "audit", "witness", "--out", str(out))
    assert [each["state"] for each in told["logs"]] == ["cosigned"]
    assert out.read_text().startswith("— ")
    assert "--every needs a registry" in refusal(one, OPERATOR, "audit", "witness", "--every", "1")


def test_who_takes_part_without_a_node_is_a_witness_and_nobody_else(one: Federated) -> None:
    given = cosigner_key("W", identity(4).public)
    witnesses = ParticipantWitnesses(one.enrolment.membership, {"W": given})
    assert set(witnesses) == {"W", OPERATOR, REGULATOR}
    assert len(witnesses) == 3
    assert witnesses["W"] == given
    assert witnesses[REGULATOR] == cosigner_key(REGULATOR, one.identity(REGULATOR).public)
    assert witnesses.get(BANK) is None
    assert witnesses.get("nobody") is None
    other = cosigner_key(REGULATOR, identity(4).public)
    assert ParticipantWitnesses(one.enrolment.membership, {REGULATOR: other})[REGULATOR] == other
    one.desk().revoke(REGULATOR, "left")
    assert REGULATOR not in witnesses


def test_what_came_since_is_signed_once(one: Federated) -> None:
    recorder = LedgerRecorder(SqliteLedger(one.home.ledger), Identity.load(one.home.coordinator))
    assert sign_newest(recorder)
    assert not sign_newest(recorder)
    first = recorder.store.checkpoints()
    assert [size for size, _ in first] == [recorder.store.size()]
    one.add("Bank B")
    assert sign_newest(recorder)
    assert recorder.store.checkpoints()[: len(first)] == first
    assert fetched(bytes_of(live_bundle(one.home)), one.root / "a", one.place(BANK)).unsigned == 0


# -- budget show --federation --


def test_budgets_of_a_federation_without_runs(one: Federated, at: str) -> None:
    words = ("budget", "show", "--federation")
    assert "no signed checkpoint yet" in refusal(one, REGULATOR, *words)
    one.sign()
    for name in (REGULATOR, BANK, OPERATOR):
        assert f"No budgets in {NAME}" in said(one, name, *words)
        found = facts(one, name, *words)
        assert (found["recorded"], found["own_ledgers"]) == ([], [])
        assert found["entries"] == one.enrolment.store.size()
    assert "tacit budget show --federation" in said(one, REGULATOR, "budget", "show")
    assert at
