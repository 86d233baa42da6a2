"""Joining over the network: two commands, keys that stay, and what goes on after every stop."""

import json
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.cli import assert_one_sentence, tacit
from support.federations import NAME, OPERATOR, Federated, Serving
from typer.testing import CliRunner

from federation import certificates
from federation.certificates import load_key
from federation.cli import federation as cli
from federation.cli.main import app
from federation.desk import Desk, Remote, local_enrolment, open_desk
from federation.door.server import door_open
from federation.enrolment import Enrolment, Standing
from federation.home import Home
from federation.invitation import Token
from federation.joining import Waiting, join_federation
from federation.ledger_recorder import now_ms
from federation.members.client import MembersClient
from federation.participant import Place, load_participant
from federation.registry.rate import Rate
from federation.renewal import renew, renew_if_due
from federation.roster import cached_membership, read_acts, read_membership
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.membership import MEMBERSHIP_DOMAIN, sign_act, statement
from privacy.randomness import system_bytes

DAY_MS = 86_400_000


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with Federated(tmp_path, approvals=2).serving() as found:
        yield found


def home_of(serving: Serving, name: str) -> Home:
    one = serving.federated
    return one.homes.setdefault(name, Home(one.root / "homes" / name))


def joining(
    serving: Serving,
    token: Token,
    *,
    wait_s: float = 0.0,
    sleep: Callable[[float], None] | None = None,
    clock: Callable[[], int] = now_ms,
    told: Any = None,  # noqa: ANN401
) -> Place | Waiting:
    return join_federation(
        home_of(serving, token.name),
        token,
        wait_s=wait_s,
        entropy=system_bytes,
        now_ms=clock,
        told=told,
        sleep=sleep or (lambda _: None),
    )


def joined(serving: Serving, name: str, role: str = "bank") -> Place:
    token = serving.federated.invite(name, role, door=serving.door)
    assert isinstance(joining(serving, token), Waiting)
    serving.federated.approve(name)
    place = joining(serving, token)
    assert isinstance(place, Place)
    return place


def remote(serving: Serving, name: str) -> Desk:
    place = serving.place(name)
    return Desk(place, Remote(serving.client(name), place), now_ms)


def test_a_machine_joins_while_two_approve(serving: Serving) -> None:
    one = serving.federated
    joined(serving, "Maker", "manufacturer")
    token = one.invite("Bank A", door=serving.door)
    shown: list[tuple[tuple[str, ...], int]] = []

    def approving(_: float) -> None:
        waits = one.membership.candidates.get("Bank A")
        if waits is None:
            return
        if not waits.approvals:
            one.desk().approve(one.desk().candidate("Bank A"))
        else:
            desk = remote(serving, "Maker")
            assert desk.approve(desk.candidate("Bank A")).admitted

    place = joining(
        serving,
        token,
        wait_s=60,
        sleep=approving,
        told=lambda approved, needed: shown.append((approved, needed)),
    )
    assert isinstance(place, Place)
    assert shown == [((), 2), ((OPERATOR,), 2)]
    assert load_participant(one.homes["Bank A"]) == place
    assert (place.registry, place.name) == (serving.registry, "Bank A")
    with MembersClient(place.registry, place.credentials()) as client:
        me = client.me()
        assert (me.role, me.name, me.federation) == ("bank", "Bank A", NAME)
        assert me.tls == "TLSv1.3"
        assert me.key_exchange == "X25519MLKEM768"
        assert abs(me.time_ms - now_ms()) < 60_000
        assert me.expires_ms > now_ms() + 80 * DAY_MS
        assert me.version
        assert read_membership(place, client) == one.membership


def test_no_private_key_leaves(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    ask, standing = Enrolment.ask, Enrolment.standing

    def seen(self: Enrolment, **said: Any) -> Standing:  # noqa: ANN401
        asked.extend(each for each in said.values() if isinstance(each, bytes))
        return ask(self, **said)

    def fetched(self: Enrolment, name: str, key: bytes) -> Standing:
        asked.append(key)
        return standing(self, name, key)

    monkeypatch.setattr(Enrolment, "ask", seen)
    monkeypatch.setattr(Enrolment, "standing", fetched)
    place = joined(serving, "a")
    identity = serialization.load_pem_private_key(
        (place.folder / "identity.pem").read_bytes(), None
    )
    tls = load_key(place.folder / "tls.key.pem")
    assert isinstance(identity, Ed25519PrivateKey)
    private = [
        identity.private_bytes_raw(),
        tls.private_numbers().private_value.to_bytes(32, "big"),
    ]
    private += [(place.folder / name).read_bytes() for name in ("identity.pem", "tls.key.pem")]
    kept = [path.read_bytes() for path in serving.federated.home.root.rglob("*") if path.is_file()]
    assert asked
    for data in (*kept, *asked):
        assert not any(key in data for key in private)
    for name in ("identity.pem", "tls.key.pem"):
        assert stat.S_IMODE((place.folder / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("cut_at", range(6))
def test_killed_in_the_middle_and_run_again_it_goes_on(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    one = serving.federated
    token = one.invite("a", door=serving.door)
    rename, left = Path.replace, [cut_at]

    def cut(self: Path, target: Path) -> Path:
        if self.parent.name == "participant":
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", cut)
        try:
            joining(serving, token)
            one.approve("a")
            joining(serving, token)
        except KeyboardInterrupt:
            pass
    first = joining(serving, token) if not (_folder(one) / "federation.json").exists() else None
    if isinstance(first, Waiting):
        one.approve("a")
        joining(serving, token)
    place = load_participant(one.homes["a"])
    assert one.membership.active()["a"].key == place.identity().public
    with MembersClient(place.registry, place.credentials()) as client:
        assert client.me().name == "a"
    kinds = [entry.kind for entry in one.enrolment.acts()]
    assert kinds.count("member.requested") == 1


def _folder(one: Federated) -> Path:
    return one.homes["a"].participant


def test_a_machine_with_a_wrong_clock_is_told(serving: Serving) -> None:
    token = serving.federated.invite("a", door=serving.door)
    late = lambda: now_ms() + 3_600_000  # noqa: E731
    with pytest.raises(RefusedError, match=r"clocks .* (59|60) minutes apart"):
        joining(serving, token, wait_s=5, clock=late, sleep=lambda _: None)


def test_a_door_that_is_shut_is_a_sentence(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    token = one.invite("a", door="127.0.0.1:9")
    with pytest.raises(RefusedError, match="does not answer"):
        join_federation(Home(tmp_path / "a"), token, wait_s=0, entropy=system_bytes, now_ms=now_ms)


def test_who_waits_is_not_lost_when_the_coordinator_restarts(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    with one.serving() as serving:
        token = one.invite("a", door=serving.door)
        assert isinstance(joining(serving, token), Waiting)
        one.approve("a")
    with one.serving() as serving:
        place = joining(serving, replace(token, door=serving.door))
    assert isinstance(place, Place)


def test_a_door_that_takes_many_calls_from_one_address_slows_it(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    with one.serving(door_rate=Rate(per_second=0.001, burst=100.0)) as serving:
        token = one.invite("a", door=serving.door)
        for _ in range(20):
            joining(serving, token)
        with pytest.raises(RefusedError, match="too many calls"):
            joining(serving, token)


# -- keys --


def test_a_certificate_is_renewed_before_it_ends(tmp_path: Path) -> None:
    ahead = [0]
    clock = lambda: now_ms() + ahead[0]  # noqa: E731
    one = Federated(tmp_path, now_ms=clock)
    one.add("a")
    with one.serving() as serving:
        place = serving.place("a")
        before = place.credentials()
        assert not renew_if_due(place, now_ms=clock)
        assert renew_if_due(place, now_ms=lambda: now_ms() + 61 * DAY_MS)
        after = place.credentials()
        assert before.key != after.key
        with serving.client("a", after) as client:
            assert client.me().name == "a"
        with serving.client("a", before) as client, pytest.raises(RefusedError, match="newest"):
            client.me()


@pytest.mark.parametrize("identity", [None, system_bytes])
def test_an_answer_that_was_lost_is_fetched_at_the_door(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    identity: Callable[[int], bytes] | None,
) -> None:
    one = Federated(tmp_path)
    one.add("a")
    ask = MembersClient.renew

    def lost(self: MembersClient, body: dict[str, object], request: bytes) -> bytes:
        ask(self, body, request)
        raise RefusedError("the network is gone")

    with one.serving() as serving:
        place = serving.place("a")
        with monkeypatch.context() as patched:
            patched.setattr(MembersClient, "renew", lost)
            with pytest.raises(RefusedError, match="network"):
                renew(place, now_ms=now_ms, identity=identity)
        renew(place, now_ms=now_ms, identity=identity)
        with serving.client("a") as client:
            assert client.me().name == "a"
            membership = read_membership(place, client)
        assert membership.active()["a"].key == place.identity().public
        assert sum(act.kind == "member.renewed" for act in one.enrolment.acts()) == 1


def test_a_new_identity_approves_and_the_old_one_does_not(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    one.add("a")
    with one.serving() as serving:
        place = serving.place("a")
        old = place.identity()
        renew(place, now_ms=now_ms, identity=system_bytes)
        one.ask(one.invite("b"))
        desk = remote(serving, "a")
        candidate = desk.candidate("b")
        body: dict[str, object] = {"name": "b", "key": candidate.key.hex(), "by": "a"}
        told = statement("member.approved", NAME, place.root_fingerprint, body)
        forged = old.sign(MEMBERSHIP_DOMAIN, told).hex()
        with serving.client("a") as client, pytest.raises(RefusedError, match="does not hold"):
            client.act("member.approved", {**body, "signature": forged})
        assert desk.approve(candidate).admitted


# -- what others see --


def test_what_was_seen_once_cannot_be_taken_back(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    one.add("a")
    one.add("b")
    with one.serving() as serving:
        place = serving.place("a")
        one.desk().revoke("b", "left")
        with serving.client("a") as client:
            whole = list(client.acts())
            told = read_membership(place, client)
        assert cached_membership(place) == told

        class Shorter:
            def acts(self, skip: int = 0) -> Iterator[bytes]:
                if skip > len(whole) - 1:
                    raise InputError("there are not so many acts")
                yield from whole[skip:-1]

        with pytest.raises(NotVerifiedError, match="another history"):
            read_acts(place, Shorter())  # type: ignore[arg-type]
        other = Federated(tmp_path / "other")
        other.add("a")
        stranger = replace(place, folder=tmp_path)
        with (
            serving.client("a") as client,
            pytest.raises(NotVerifiedError, match="another key began"),
        ):
            read_membership(replace(stranger, founder_key=bytes(32)), client)
        with serving.client("a") as client, pytest.raises(NotVerifiedError, match="another root"):
            read_membership(replace(stranger, root_fingerprint="00" * 32), client)


def test_many_acts_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.members.service.PAGE_BYTES", 1500)
    one = Federated(tmp_path)
    for name in "abcd":
        one.add(name)
    with one.serving() as serving, serving.client("a") as client:
        assert list(client.acts()) == [entry.leaf() for entry in one.enrolment.acts()]
        assert list(client.acts(3)) == [entry.leaf() for entry in one.enrolment.acts()[3:]]


# -- the commands --


def run(home: Path, *words: str) -> Any:  # noqa: ANN401
    """The command, in this process; a failure is in `exception`."""
    return CliRunner().invoke(app, words, env={"TACIT_HOME": str(home), "COLUMNS": "160"})


def facts(home: Path, *words: str) -> dict[str, Any]:
    found = run(home, *words, "--json")
    assert found.exit_code == 0, (found.exception, found.output)
    value: dict[str, Any] = json.loads(found.stdout)
    return value


def refusal(home: Path, *words: str) -> str:
    found = run(home, *words)
    assert isinstance(found.exception, TacitError), (found.exception, found.output)
    return str(found.exception)


def test_two_commands_and_no_file_make_a_member(tmp_path: Path) -> None:
    operator, bank = tmp_path / "operator", tmp_path / "bank"
    hosts = ("--host", "localhost", "--host", "127.0.0.1")
    begun = facts(operator, "federation", "init", "--name", NAME, *hosts, "--door-port", "9")
    assert begun["door"] == "localhost:9"
    assert "already" in refusal(operator, "federation", "init", "--name", "x", *hosts)
    invitation = tmp_path / "invitation"
    asked = (
        "--role",
        "bank",
        "--name",
        "Bank A",
        "--expires",
        "36h",
        "--attribute",
        "region=north",
    )
    made = run(operator, "federation", "invite", *asked, "--output", str(invitation))
    line = invitation.read_text().strip()
    assert stat.S_IMODE(invitation.stat().st_mode) == 0o600
    assert line not in made.output
    assert Token.parse(line).fingerprint == begun["root"]
    refused = refusal(operator, "federation", "invite", *asked, "--output", str(invitation))
    assert "give a new file" in refused
    # the coordinator is not running
    assert "does not answer" in refusal(bank, "node", "join", str(invitation))
    one = Federated.__new__(Federated)
    one.root, one.now_ms, one.homes, one.home = tmp_path, now_ms, {}, Home(operator)
    one.enrolment = local_enrolment(one.home, now_ms=now_ms)
    with one.serving() as serving:
        at_door = replace(Token.parse(line), door=serving.door).reveal()
        waits = facts(bank, "node", "join", at_door, "--wait", "0")
        assert (waits["joined"], waits["needed"]) == (False, 1)
        second = replace(Token.parse(at_door), secret=bytes(32)).reveal()
        assert "joining as Bank A already" in refusal(bank, "node", "join", second, "--wait", "0")
        assert "--fingerprint" in refusal(operator, "federation", "approve", "Bank A")
        approve = ("federation", "approve", "Bank A", "--fingerprint")
        assert "approve nothing" in refusal(operator, *approve, "0" * 32)
        assert facts(operator, *approve, waits["fingerprint"])["admitted"]
        done = facts(bank, "node", "join", at_door)
        assert done["joined"]
        assert "already" in refusal(bank, "node", "join", at_door)
        for home in (operator, bank):
            told = facts(home, "federation", "members")
            assert [each["name"] for each in told["members"]] == ["Bank A", OPERATOR]
        assert "Bank A" in run(bank, "federation", "members").stdout
        facts(bank, "federation", "rotate")
        rotated = facts(bank, "federation", "rotate", "--identity")
        assert rotated["fingerprint"] != done["fingerprint"]
        assert facts(operator, "federation", "rotate", "--server")["server"]
        gone = ("federation", "revoke")
        assert "let an operator" in refusal(bank, *gone, OPERATOR, "--reason", "x")
        facts(operator, *gone, "Bank A", "--reason", "left")
        assert "no member" in refusal(bank, "federation", "members")


def test_no_invitation_is_on_record_whose_secret_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Federated(tmp_path)
    invite = ("federation", "invite", "--role", "bank", "--name")
    nowhere = tmp_path / "nowhere" / "a.token"
    assert "cannot write" in refusal(one.home.root, *invite, "a", "--output", str(nowhere))
    assert one.membership.invitations == {}
    # what is not invited leaves no file
    out = tmp_path / "a.token"
    assert "takes part already" in refusal(one.home.root, *invite, OPERATOR, "--output", str(out))
    assert not out.exists()

    # the disk is full by the time that the act is on record
    write, full = certificates.write_private, "cannot write it: no space"

    def fail(path: Path, data: bytes) -> None:
        if data:
            raise InputError(full)
        write(path, data)

    monkeypatch.setattr(certificates, "write_private", fail)
    for name, options in (("b", ()), ("c", ("--json",))):
        found = run(one.home.root, *invite, name, "--output", str(out), *options)
        assert full in str(found.exception)
        line = json.loads(found.stdout)["token"] if options else found.stdout
        assert Token.parse(line).digest in one.membership.invitations
        assert not out.exists()


def test_a_failed_command_is_one_sentence(tmp_path: Path) -> None:
    sentence = assert_one_sentence(tacit("node", "join", "tacit1.x", home=tmp_path), 2)
    assert "copy the whole line again" in sentence
    assert not (tmp_path / "participant").exists()


@pytest.mark.parametrize("text", ["", "d", "7", "0d", "-1d", "1.5d", "7w", "٣d"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="36h"):
        cli._days(text)


def test_times_and_attributes_are_read() -> None:
    assert (cli._days("36h"), cli._days("7d")) == (1.5, 7.0)
    assert cli._attributes(["a=b", "c=d=e"]) == {"a": "b", "c": "d=e"}
    for pairs in (["a"], ["=b"], ["a="], ["a=b", "a=c"], ["a=\n"]):
        with pytest.raises(InputError, match="KEY=VALUE"):
            cli._attributes(pairs)
    with pytest.raises(InputError, match="choose operator"):
        cli._role("chief")


def test_an_operators_colleague_invites_from_another_machine(serving: Serving) -> None:
    one = serving.federated
    joined(serving, "colleague", "operator")
    serving.place("colleague")
    with open_desk(one.homes["colleague"], now_ms=now_ms) as desk:
        token = desk.invite(
            role=one.place().role, name="third", days=1, attributes={}, entropy=system_bytes
        )
    assert token.digest in one.membership.invitations
    assert token.founder == one.identity().public
    assert isinstance(joining(serving, token), Waiting)


def test_approvals_from_several_threads_are_each_counted(serving: Serving) -> None:
    one = serving.federated
    names = ["a", "b", "c"]
    for name in names:
        joined(serving, name)
    one.ask(one.invite("late"))
    candidate = one.desk().candidate("late")
    faults: list[Exception] = []

    def approve(name: str) -> None:
        try:
            remote(serving, name).office.hand_in(*_approval(serving, name, candidate.key))
        except Exception as error:  # noqa: BLE001 - whoever comes third is told so
            faults.append(error)

    threads = [threading.Thread(target=approve, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("has not asked" in str(error) for error in faults)
    assert len(faults) == 1
    assert "late" in one.membership.active()
    acts = [entry.kind for entry in entries_of(SqliteLedger(one.home.ledger).leaves())]
    assert acts.count("member.certified") == 5


def _approval(serving: Serving, name: str, key: bytes) -> tuple[str, dict[str, Any]]:
    body = {"name": "late", "key": key.hex(), "by": name}
    place = serving.federated.place(name)
    return "member.approved", sign_act(
        place.identity(), "member.approved", NAME, place.root_fingerprint, body
    )


def test_a_port_that_is_taken_is_refused(serving: Serving) -> None:
    one = serving.federated
    with (
        pytest.raises(InputError, match="free port"),
        door_open(
            one.enrolment,
            serving.door,
            one.authority.server(one.now),
            addresses=one.authority.addresses,
            now_ms=now_ms,
        ),
    ):
        pass
