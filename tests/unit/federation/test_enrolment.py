"""The coordinator's side of joining: what goes on record, what is refused, who is certified."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from rich.console import Console
from support.federations import NAME, OPERATOR, Federated

from federation.authority import Addresses, Authority
from federation.certificates import (
    CLIENT_DAYS,
    SKEW,
    at,
    certificate_digest,
    load_public,
    make_request,
    make_root,
    new_key,
    public_key_of,
    read_request,
    require_issued,
    spki,
    tls_digest,
)
from federation.desk import open_desk
from federation.enrolment import Enrolment, open_enrolment
from federation.founding import Plan, found
from federation.home import Home
from federation.joining import make_keys
from federation.ledger_recorder import now_ms
from federation.listing import listing, listing_facts, listing_table
from federation.participant import load_participant, settle
from federation.registry.access import Method, Role
from federation.registry.peer import Peer
from federation.registry.rate import COSTS
from federation.renewal import is_due, renew, renew_if_due, time_left
from federation.roster import cached_membership
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.grammar import rotated
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, entries_of
from privacy.membership import PERIOD_MS, RENEWALS_MAX, fold, sign_act
from privacy.randomness import system_bytes

DAY_MS = 86_400_000


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ms = now_ms()

    def __call__(self) -> int:
        return self.ms


def kinds(federated: Federated) -> list[str]:
    return [entry.kind for entry in entries_of(SqliteLedger(federated.home.ledger).leaves())]


def plan(**changes: Any) -> Plan:  # noqa: ANN401
    return replace(
        Plan(
            federation=NAME,
            hosts=("localhost",),
            approvals=2,
            operator=OPERATOR,
            door_port=1,
            registry_port=2,
            fleet_port=3,
        ),
        **changes,
    )


def begun(home: Home, **changes: Any) -> None:  # noqa: ANN401
    found(home, plan(**changes), now=at(now_ms()), now_ms=now_ms, entropy=system_bytes)


# -- beginning --


def test_a_federation_begins_with_its_operator(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    assert kinds(one) == ["ledger.begun", "federation.begun", "member.certified"]
    founder = one.membership.active()[OPERATOR]
    assert (founder.role, one.membership.founder_key) == ("operator", one.identity().public)
    assert one.place().credentials().peer == Peer(Role.OPERATOR, OPERATOR)
    private = [
        *(one.home.root / "participant" / name for name in ("identity.pem", "tls.key.pem")),
        *(one.home.authority / name for name in ("root.key.pem", "server.key.pem")),
        one.home.coordinator,
    ]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in private)
    assert one.home.authority.stat().st_mode & 0o777 == 0o700
    assert one.home.participant.stat().st_mode & 0o777 == 0o700


def test_it_begins_once(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    before = (one.home.authority / "root.pem").read_bytes()
    with pytest.raises(InputError, match="another home"):
        begun(one.home)
    assert (one.home.authority / "root.pem").read_bytes() == before


@pytest.mark.parametrize("cut_at", range(12))
def test_a_beginning_that_is_cut_short_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    home = Home(tmp_path)
    count = itertools.count()
    rename = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if next(count) == cut_at:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", cut)
        try:
            begun(home)
        except KeyboardInterrupt:
            begun(home)
    place = load_participant(home)
    with open_desk(home, now_ms=now_ms) as desk:
        assert desk.membership().active().keys() == {OPERATOR}
    assert place.credentials().peer.name == OPERATOR


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"federation": ""}, "federation's name"),
        ({"federation": "x" * 65}, "federation's name"),
        ({"federation": "a\nb"}, "federation's name"),
        ({"operator": " a"}, "neither begins nor ends"),
        ({"operator": ""}, "printable"),
        ({"approvals": 0}, "--approvals"),
        ({"door_port": 2}, "2, 2, 3 were given; choose three"),
        ({"fleet_port": 1}, "a port each"),
        ({"registry_port": 3}, "a port each"),
        ({"hosts": ("a b",)}, "no host name"),
        ({"hosts": ("https://a",)}, "no host name"),
        ({"hosts": ("a.example:1",)}, "no host name"),
    ],
)
def test_a_plan_that_makes_none_is_refused(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        begun(Home(tmp_path), **changes)
    assert not (tmp_path / "ledger.db").exists()


def test_other_options_do_not_finish_what_was_cut_short(tmp_path: Path) -> None:
    home = Home(tmp_path)
    begun(home)
    (home.participant / "federation.json").unlink()
    with pytest.raises(InputError, match="beginning of another"):
        begun(home, federation="Other")
    begun(home)


# -- certificates --


def test_certificates_say_one_thing_each(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    place = one.add("Bank A")
    root = one.authority.root
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert root.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    own = x509.load_pem_x509_certificate((place.folder / "tls.pem").read_bytes())
    server = x509.load_pem_x509_certificate((one.home.authority / "server.pem").read_bytes())
    for certificate, purpose in (
        (own, ExtendedKeyUsageOID.CLIENT_AUTH),
        (server, ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        certificate.verify_directly_issued_by(root)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [purpose]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://tacit/bank/Bank%20A"]
    lasts = own.not_valid_after_utc - own.not_valid_before_utc
    assert lasts == timedelta(days=CLIENT_DAYS) + SKEW
    assert one.membership.active()["Bank A"].certificates == (certificate_digest(own),)


def test_a_request_is_signed_by_its_key_and_names_its_peer() -> None:
    key, peer = new_key(), Peer(Role.BANK, "a")
    assert spki(read_request(make_request(key, peer), peer)) == spki(key.public_key())
    with pytest.raises(RefusedError, match="another participant"):
        read_request(make_request(key, peer), Peer(Role.OPERATOR, "a"))
    good = make_request(key, peer)
    for bad in (b"", b"x", good[:-1], good[:-1] + bytes([good[-1] ^ 1]), good * 10):
        with pytest.raises(RefusedError, match="join again"):
            read_request(bad, peer)
    large = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(RefusedError, match="P-256"):
        read_request(make_request(large, peer), peer)
    with pytest.raises(RefusedError, match="P-256"):
        load_public(spki(large.public_key()))


def test_a_certificate_of_another_root_key_or_name_is_none_of_ours(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    place = one.add("a")
    certificate = x509.load_pem_x509_certificate((place.folder / "tls.pem").read_bytes())
    key = public_key_of(certificate)
    require_issued(certificate, root=one.authority.root, key=key, peer=place.peer)
    other = make_root(new_key(), NAME, one.now)
    for root, public, peer in (
        (other, key, place.peer),
        (one.authority.root, new_key().public_key(), place.peer),
        (one.authority.root, key, Peer(Role.OPERATOR, "a")),
    ):
        with pytest.raises(NotVerifiedError):
            require_issued(certificate, root=root, key=public, peer=peer)


# -- joining --


def test_who_was_invited_and_approved_is_in(tmp_path: Path) -> None:
    one = Federated(tmp_path, approvals=2)
    one.add("Maker", "manufacturer", attributes={"region": "north"})
    token = one.invite("Bank A")
    assert one.ask(token).needed == 2
    first = one.desk().approve(one.desk().candidate("Bank A"))
    assert not first.admitted
    key = Identity.load(one.homes["Bank A"].participant / "identity.pem").public
    standing = one.enrolment.standing("Bank A", key)
    assert (standing.approved, standing.needed, standing.certificate) == ((OPERATOR,), 2, b"")
    assert one.desk("Maker").approve(one.desk("Maker").candidate("Bank A")).admitted
    assert one.enrolment.standing("Bank A", key).certificate.startswith(b"-----BEGIN CERT")
    assert one.membership.members().keys() == {"Bank A", "Maker"}
    assert one.membership.active()["Maker"].attributes == {"region": "north"}
    assert one.enrolment.certificates().keys() == {"Bank A", "Maker", OPERATOR}


def test_what_is_on_record_folds_without_the_coordinator(tmp_path: Path) -> None:
    one = Federated(tmp_path, approvals=2)
    one.add("a")
    one.add("b", "insurer")
    one.add("r", "regulator")
    entries = list(entries_of(SqliteLedger(one.home.ledger).leaves()))
    told = fold(entries, founder=one.identity().public, root=one.authority.fingerprint)
    assert told == one.membership
    assert told.members().keys() == {"a", "b"}


def test_a_second_process_sees_what_the_first_wrote(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    other = open_enrolment(SqliteLedger(one.home.ledger), one.authority, now_ms=now_ms)
    assert other.membership().active().keys() == {OPERATOR}
    one.add("a")
    assert other.membership() == one.membership
    assert not other.is_out(Peer(Role.BANK, "a"))
    one.desk().revoke("a", "gone")
    assert other.is_out(Peer(Role.BANK, "a"))


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    one = Federated(tmp_path, approvals=2)
    token = one.invite("a")
    one.ask(token)
    one.ask(token)
    desk = one.desk()
    candidate = desk.candidate("a")
    before = kinds(one)
    body = sign_act(
        one.identity(),
        "member.approved",
        NAME,
        one.authority.fingerprint,
        {"name": "a", "key": candidate.key.hex(), "by": OPERATOR},
    )
    first = one.enrolment.act("member.approved", body, by=OPERATOR)
    again = one.enrolment.act("member.approved", body, by=OPERATOR)
    assert first.index == again.index
    assert kinds(one) == [*before, "member.approved", "member.certified"]
    one.ask(token)
    assert kinds(one) == [*before, "member.approved", "member.certified"]


def test_who_was_revoked_is_out_and_its_name_can_be_given_anew(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    place = one.add("a")
    old = certificate_digest(
        x509.load_pem_x509_certificate((place.folder / "tls.pem").read_bytes())
    )
    assert not one.enrolment.is_out(place.peer, old)
    assert one.enrolment.is_out(Peer(Role.INSURER, "a"), old)
    assert one.enrolment.is_out(Peer(Role.BANK, "b"))
    one.desk().revoke("a", "left")
    assert one.enrolment.is_out(place.peer)
    with pytest.raises(RefusedError, match="revoked"):
        one.enrolment.standing("a", place.identity().public)
    one.homes["a"] = Home(tmp_path / "homes" / "a2")
    one.add("a")
    assert not one.enrolment.is_out(place.peer)
    assert one.enrolment.is_out(place.peer, old)  # the earlier holder's


def test_a_candidate_can_be_turned_away(tmp_path: Path) -> None:
    one = Federated(tmp_path, approvals=2)
    token = one.invite("a")
    one.ask(token)
    one.desk().revoke("a", "not whom we know")
    assert not one.membership.candidates
    with pytest.raises(RefusedError, match="turned away"):
        one.ask(token)
    with pytest.raises(RefusedError, match="nobody waits"):
        one.desk().candidate("a")
    one.add("a")  # with another invitation it makes other keys
    assert "a" in one.membership.active()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("ASH", "ash"),
        ("\u0430sh", "ash"),  # its first letter is Cyrillic
        ("\uff41sh", "ash"),  # and here it is as wide as a Chinese character
        ("Bank  1", "Bank 1"),
        ("Bank l", "Bank 1"),
        ("bank I", "Bank 1"),
        ("BANK 1", "Bank 1"),
        ("\u039fak", "Oak"),  # a Greek capital
        ("0ak", "Oak"),
        ("pine\u0301", "pin\u00e9"),
        ("OPERATOR", OPERATOR),
    ],
)
def test_nobody_is_invited_under_a_name_that_is_taken_for_anothers(
    tmp_path: Path, name: str, other: str
) -> None:
    one = Federated(tmp_path)
    one.add("ash")
    one.ask(one.invite("Bank 1"))
    for invited in ("Oak", "pin\u00e9"):
        one.invite(invited)
    with pytest.raises(RefusedError, match=f"easily taken for {other}, who"):
        one.invite(name)


def test_names_that_nobody_takes_for_another_are_invited(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    one.add("ash")
    for name in ("ash 2", "ash-b", "Bank \u00c4/1", "\u9280\u884c", "Bank A/B", "oak.v1"):
        one.invite(name)
    # of who is gone the name is free, in any spelling, and of an invitation that has ended
    one.desk().revoke("ash", "left")
    one.invite("ASH")
    one.now_ms = lambda: now_ms() + 8 * 86_400_000
    one.invite("Ash")


@pytest.mark.parametrize("name", ["../../evil", "..", "/etc/x", "a/", "a/./b", "..\\x"])
def test_nobody_is_invited_under_a_path(tmp_path: Path, name: str) -> None:
    one = Federated(tmp_path)
    with pytest.raises(InputError, match="reads as a path"):
        one.invite(name)
    assert not one.membership.invitations


def test_the_last_operator_is_not_revoked(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    one.add("a")
    before = kinds(one)
    with pytest.raises(RefusedError, match=r"the only operator.*--role operator"):
        one.desk().revoke(OPERATOR, "x")
    with pytest.raises(RefusedError, match="let an operator"):
        one.desk("a").revoke(OPERATOR, "x")
    assert kinds(one) == before
    one.add("second", Role.OPERATOR)
    one.desk("second").revoke(OPERATOR, "x")
    assert list(one.membership.active("operator")) == ["second"]
    with pytest.raises(RefusedError, match="second is the only operator"):
        one.desk("second").revoke("second", "x")
    # the same words again are no second act
    last = one.enrolment.acts()[-1]
    assert one.enrolment.act(last.kind, dict(last.body), by="second").index == last.index


def test_a_turn_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Federated(tmp_path)
    one.ask(one.invite("a"))
    candidate = one.desk().candidate("a")
    before = kinds(one)

    def fail(*_: object) -> None:
        raise InputError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Authority, "issue", fail)
        with pytest.raises(InputError, match="disk is full"):
            one.desk().approve(candidate)
    assert kinds(one) == before
    assert not one.membership.candidates["a"].approvals
    assert one.desk().approve(candidate).admitted


def test_a_certificate_that_was_not_issued_in_time_is_issued_when_it_is_fetched(
    tmp_path: Path,
) -> None:
    one = Federated(tmp_path)
    one.ask(one.invite("a"))
    candidate = one.desk().candidate("a")
    body = sign_act(
        one.identity(),
        "member.approved",
        NAME,
        one.authority.fingerprint,
        {"name": "a", "key": candidate.key.hex(), "by": OPERATOR},
    )
    append(SqliteLedger(one.home.ledger), "member.approved", body, time_ms=now_ms())
    assert one.enrolment.standing("a", candidate.key).certificate


@pytest.mark.parametrize("kind", ["member.certified", "federation.begun", "run.started", "x"])
def test_only_three_acts_are_a_participants(tmp_path: Path, kind: str) -> None:
    one = Federated(tmp_path)
    with pytest.raises(RefusedError, match="no act that a participant does"):
        one.enrolment.act(kind, {"by": OPERATOR}, by=OPERATOR)


def test_a_ledger_of_another_federation_is_refused(tmp_path: Path) -> None:
    one, other = Federated(tmp_path / "1"), Federated(tmp_path / "2")
    with pytest.raises(InputError, match="another federation"):
        open_enrolment(SqliteLedger(one.home.ledger), other.authority, now_ms=now_ms)
    with pytest.raises(NotVerifiedError, match="tacit federation init"):
        Enrolment(SqliteLedger(tmp_path / "empty.db"), one.authority, now_ms=now_ms).membership()


# -- keys on the joining machine --


def test_keys_stay_with_one_invitation(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    home = Home(tmp_path / "h")
    token = one.invite("a")
    first = make_keys(home, token, system_bytes).public
    assert make_keys(home, token, system_bytes).public == first
    for name in ("identity.pem", "tls.key.pem"):
        assert (home.participant / name).stat().st_mode & 0o777 == 0o600
    one.add("b")
    with pytest.raises(InputError, match="already"):
        make_keys(one.homes["b"], token, system_bytes)


def test_another_invitation_does_not_take_the_keys_of_one_that_is_pending(tmp_path: Path) -> None:
    """Whoever approves the first one would approve a key that exists nowhere."""
    one = Federated(tmp_path)
    home = Home(tmp_path / "h")
    token, other = one.invite("a"), one.invite("b")
    first = make_keys(home, token, system_bytes).public
    with pytest.raises(InputError, match=r"joining as a already.* another home .* --anew"):
        make_keys(home, other, system_bytes)
    assert make_keys(home, token, system_bytes, anew=True).public == first
    second = make_keys(home, other, system_bytes, anew=True).public
    assert second != first
    assert make_keys(home, other, system_bytes).public == second
    with pytest.raises(InputError, match="joining as b already"):
        make_keys(home, token, system_bytes)
    # as it was written before names were kept
    (home.participant / "joining.json").write_text(json.dumps({"token": token.digest}))
    with pytest.raises(InputError, match="this home is joining already"):
        make_keys(home, other, system_bytes)


def test_a_machine_without_a_place_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tacit node join"):
        load_participant(Home(tmp_path))
    with pytest.raises(InputError, match="tacit federation init"):
        Authority.load(tmp_path)


def test_a_place_whose_root_was_changed_is_refused(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    place = one.add("a")
    assert load_participant(one.homes["a"]) == place
    other = Authority.create(
        tmp_path / "other", NAME, ("localhost",), Addresses("a:1", "a:2", "a:3"), one.now
    )
    (place.folder / "root.pem").write_bytes((other.folder / "root.pem").read_bytes())
    with pytest.raises(InputError, match="not the root"):
        load_participant(one.homes["a"])
    (place.folder / "federation.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        load_participant(one.homes["a"])


# -- renewal, over the ledger itself --


def test_the_operators_own_keys_are_renewed(tmp_path: Path) -> None:
    clock = Clock()
    one = Federated(tmp_path, now_ms=clock)
    place = one.place()
    before = one.membership.active()[OPERATOR]
    assert not renew_if_due(place, now_ms=clock)
    clock.ms += 61 * DAY_MS
    assert is_due(place, one.now)
    assert renew_if_due(place, now_ms=clock)
    assert time_left(place, one.now) > timedelta(days=89)
    after = one.membership.active()[OPERATOR]
    assert (after.key, after.tls != before.tls) == (before.key, True)
    assert len(after.certificates) == 2
    assert one.enrolment.is_out(place.peer, before.certificates[0])
    assert not one.enrolment.is_out(place.peer, after.certificates[1])
    assert place.credentials(one.now).peer == place.peer


def test_a_new_identity_is_signed_by_the_old_one(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    place = one.place()
    old = place.identity().public
    one.home.own_node.mkdir()
    ledger = SqliteLedger(one.home.own_node / "ledger.db")
    begin_ledger(ledger, place.identity(), owner=OPERATOR, role="node", time_ms=0)
    renew(place, now_ms=now_ms, identity=system_bytes)
    new = place.identity().public
    assert new != old
    assert one.membership.active()[OPERATOR].key == new
    entries = list(entries_of(ledger.leaves()))
    assert [entry.kind for entry in entries] == ["ledger.begun", "key.rotated"]
    assert rotated(entries[1], old) == (2, new)
    begin_ledger(ledger, place.identity(), owner=OPERATOR, role="node", time_ms=0)
    one.invite("a")  # the new one signs from here on
    renew(place, now_ms=now_ms, identity=system_bytes)
    begin_ledger(ledger, place.identity(), owner=OPERATOR, role="node", time_ms=0)
    with pytest.raises(RefusedError, match="another key"):
        begin_ledger(
            ledger,
            Identity.create(lambda size: b"1" * size),
            owner=OPERATOR,
            role="node",
            time_ms=0,
        )
    assert not list(place.folder.glob("next.*"))


@pytest.mark.parametrize("cut_at", range(8))
@pytest.mark.parametrize("identity", [None, system_bytes])
def test_a_renewal_that_is_cut_short_goes_on_with_the_same_keys(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut_at: int,
    identity: Callable[[int], bytes] | None,
) -> None:
    one = Federated(tmp_path)
    place = one.place()
    count = itertools.count()
    rename = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if next(count) == cut_at:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", cut)
        try:
            renew(place, now_ms=now_ms, identity=identity)
        except KeyboardInterrupt:
            assert place.identity() is not None
    settle(place.folder)
    if list(place.folder.glob("next.*")) or "member.renewed" not in kinds(one):
        renew(place, now_ms=now_ms, identity=identity)
    assert kinds(one).count("member.renewed") == 1
    holder = one.membership.active()[OPERATOR]
    assert holder.key == place.identity().public
    shown = x509.load_pem_x509_certificate(place.credentials().certificate)
    assert not one.enrolment.is_out(place.peer, certificate_digest(shown))


def test_a_running_node_keeps_its_identity(tmp_path: Path) -> None:
    from filelock import FileLock

    one = Federated(tmp_path)
    place = one.place()
    one.home.own_node.mkdir()
    with (
        FileLock(one.home.own_node / "lock"),
        pytest.raises(RefusedError, match="stop it"),
    ):
        renew(place, now_ms=now_ms, identity=system_bytes)
    renew(place, now_ms=now_ms)


def test_the_servers_certificate_is_renewed(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    before = one.authority.server(one.now)
    one.authority.renew_server(one.now)
    after = one.authority.server(one.now)
    assert before.certificate != after.certificate
    assert before.authority == after.authority
    assert "PRIVATE" not in repr(one.authority) + repr(after)


class Cut(BaseException):
    """The process ends."""


@pytest.mark.parametrize("after", [False, True])
def test_the_server_has_a_whole_pair_wherever_renewals_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    one = Federated(tmp_path)
    replace, left = Path.replace, 0

    def cut(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise Cut
        moved = replace(self, target)
        if left == 0:
            raise Cut
        return moved

    def renewed(place: int) -> bool:
        """Whether a renewal came to its end, cut at this of the times that a file takes a name."""
        nonlocal left
        left = place
        try:
            one.authority.renew_server(one.now)
        except Cut:
            return False
        finally:
            left = 0
        return True

    def shown() -> tuple[bytes, bytes]:
        """As at the next start; raises where the key is not the certificate's."""
        found = Authority.load(one.home.authority).server(one.now)
        return found.certificate, found.key

    monkeypatch.setattr(Path, "replace", cut)
    pairs = [shown()]
    for step in range(1, 6):
        # a key and a certificate are written, and both are moved
        assert renewed(step) is (step == 5)
        pairs.append(shown())
    changed = [before != now for before, now in itertools.pairwise(pairs)]
    assert changed == [False, after, True, True, True]
    assert all((a == c) == (b == d) for (a, b), (c, d) in itertools.pairwise(pairs))
    assert not list(one.home.authority.glob("next.*"))
    # a second one, before anything looked at what the first one left
    for first, second in itertools.product(range(1, 5), range(1, 7)):
        renewed(first)
        renewed(second)
        shown()


def test_a_certificate_takes_its_place_once_its_key_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    replace = Path.replace

    def moved(self: Path, target: Path) -> Path:
        there = replace(self, target)
        told.append(target.name)
        return there

    for name in ("next.tls.key.pem", "next.tls.pem"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr(Path, "replace", moved)
    monkeypatch.setattr(
        "federation.certificates.sync_folder", lambda folder: told.append(f"sync {folder.name}")
    )
    settle(tmp_path)
    sync = f"sync {tmp_path.name}"
    assert told == ["tls.key.pem", sync, "tls.pem", sync]
    settle(tmp_path)
    assert len(told) == 4
    assert (tmp_path / "tls.pem").read_bytes() == b"next.tls.pem"


# -- the list --


def test_everybody_is_listed(tmp_path: Path) -> None:
    one = Federated(tmp_path, approvals=2)
    one.add("a", attributes={"region": "north"})
    one.ask(one.invite("w", "insurer"))
    one.desk("a").approve(one.desk("a").candidate("w"))
    one.invite("i", "regulator")
    one.add("gone")
    one.desk().revoke("gone", "left")
    lines = listing(one.membership, one.enrolment.acts(), now_ms=now_ms())
    assert [(line.name, line.state) for line in lines] == [
        ("a", "active"),
        (OPERATOR, "active"),
        ("w", "waiting"),
        ("i", "invited"),
        ("gone", "revoked"),
    ]
    facts = listing_facts(one.membership, lines)["members"]
    assert facts[0]["attributes"] == {"region": "north"}
    assert facts[0]["approved"] == [OPERATOR]
    assert facts[0]["expires_ms"] > now_ms() + 80 * DAY_MS
    assert (facts[2]["approved"], facts[2]["needed"]) == (["a"], 2)
    late = listing(one.membership, one.enrolment.acts(), now_ms=now_ms() + 8 * DAY_MS)
    assert ("i", "expired") in [(line.name, line.state) for line in late]
    shown = StringIO()
    Console(width=80, file=shown).print(listing_table(one.membership, lines))
    rows = [row.split()[:2] for row in shown.getvalue().splitlines()]
    assert all([line.name, line.role] in rows for line in lines)


def test_nothing_is_cached_before_it_was_read(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    place = one.add("a")
    assert cached_membership(place) is None
    (place.folder / "membership.json").write_bytes(b"x")
    with pytest.raises(InputError, match="delete it"):
        cached_membership(place)


def test_one_participant_makes_nobodys_fold_long(tmp_path: Path) -> None:
    clock = [now_ms()]
    one = Federated(tmp_path, now_ms=lambda: clock[0])
    place = one.add("reg", "regulator")
    identity = place.identity()

    def replaced() -> bytes:
        key = new_key()
        body: dict[str, Any] = {
            "name": "reg",
            "key": identity.public.hex(),
            "new": identity.public.hex(),
            "tls": tls_digest(key.public_key()),
        }
        for field in ("signature", "proof"):
            body = sign_act(
                identity, "member.renewed", NAME, place.root_fingerprint, body, field=field
            )
        return one.enrolment.renew(body, make_request(key, place.peer), by="reg")

    for _ in range(RENEWALS_MAX):
        replaced()
    kept = len(one.enrolment.acts()), len(list((one.home.authority / "certificates").iterdir()))
    for _ in range(3):
        with pytest.raises(RefusedError, match="8 times within 30 days"):
            replaced()
    after = len(one.enrolment.acts()), len(list((one.home.authority / "certificates").iterdir()))
    assert after == kept
    clock[0] += PERIOD_MS
    assert replaced()
    assert COSTS[Method.RENEW] == 50


def test_a_name_that_no_run_has_room_for_is_not_invited(tmp_path: Path) -> None:
    one = Federated(tmp_path)
    with pytest.raises(InputError, match="a name has 1 to 64 printable characters"):
        one.invite("n" * 65)
    one.add("n" * 64)
    assert "n" * 64 in one.membership.members()
