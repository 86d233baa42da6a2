"""Who tries to get in, stay in, or speak for another, over the real servers; nobody succeeds."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.certificates import Authority as OtherRoot
from support.federations import NAME, OPERATOR, Federated, Serving

from federation.certificates import (
    at,
    key_pem,
    load_key,
    make_client,
    make_request,
    make_root,
    new_key,
    pem_of,
    tls_digest,
)
from federation.channel import UnknownCallerError, open_channel
from federation.door.client import DoorClient
from federation.door.guard import DoorGuard
from federation.door.proof import sign_fetch
from federation.door.server import MESSAGE_BYTES_MAX
from federation.door.service import DoorService
from federation.home import Home
from federation.invitation import Token
from federation.joining import join_federation
from federation.ledger_recorder import now_ms
from federation.proto import door_pb2, members_pb2
from federation.proto.door_pb2_grpc import DoorStub
from federation.proto.members_pb2_grpc import MembersStub
from federation.registry.access import TABLE, Method, Role, Scope
from federation.registry.credentials import Credentials
from federation.registry.peer import Peer
from federation.registry.rate import Buckets, Rate
from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.membership import sign_act
from privacy.randomness import system_bytes

DAY_MS = 86_400_000
MEMBER_METHODS = ("Me", "Membership", "Act", "Renew")


class Clock:
    ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


class World:
    """A federation that answers: an operator, one of each role, and an attacker with a token."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.one = serving.federated
        self.count = 0

    def token(self, name: str | None = None, role: str = "bank", days: float = 7.0) -> Token:
        self.count += 1
        return self.one.invite(name or f"n{self.count}", role, days=days, door=self.serving.door)

    @property
    def root(self) -> str:
        return self.one.authority.fingerprint

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.one.enrolment.acts()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    one = Federated(tmp_path_factory.mktemp("f"))
    for role in ("manufacturer", "insurer", "bank", "regulator"):
        one.add(role, role)
    with one.serving() as serving:
        yield World(serving)


class Machine:
    """A machine with keys of its own, and whatever it says."""

    def __init__(self, token: Token) -> None:
        self.token = token
        self.identity = Identity.create(system_bytes)
        self.tls = new_key()

    def said(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
        """The request of an honest machine, with changes."""
        token = self.token
        body = {
            "token": token.digest,
            "name": token.name,
            "role": token.role.value,
            "key": self.identity.public.hex(),
            "tls": tls_digest(self.tls.public_key()),
        }
        signed = sign_act(
            self.identity, "member.requested", token.federation, token.fingerprint, body
        )
        return {
            "secret": token.secret,
            "peer": token.peer,
            "key": self.identity.public,
            "request": make_request(self.tls, token.peer),
            "signature": bytes.fromhex(signed["signature"]),
            **changes,
        }

    def ask(self, **changes: Any) -> door_pb2.Standing:  # noqa: ANN401
        with DoorClient(self.token.door, self.token.root_pem) as door:
            return door.ask(**self.said(**changes))


def refused(world: World, attack: Callable[[], object], match: str) -> None:
    before = world.kinds()
    with pytest.raises((RefusedError, InputError), match=match):
        attack()
    assert world.kinds() == before


# -- getting in --


def test_who_was_not_invited_is_refused(world: World) -> None:
    token = replace(world.token(), secret=system_bytes(32))
    refused(world, Machine(token).ask, "not known here")
    short = replace(token, secret=b"")
    refused(world, Machine(short).ask, "not known here")


def test_the_digest_in_the_ledger_is_not_the_secret(world: World) -> None:
    # whoever reads the ledger sees every invitation's digest
    token = world.token()
    refused(world, Machine(replace(token, secret=bytes.fromhex(token.digest))).ask, "not known")


def test_a_token_that_has_expired_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    one = Federated(tmp_path, now_ms=clock)
    with one.serving() as serving:
        world = World(serving)
        token = world.token(days=1.0)
        clock.ahead_ms = DAY_MS + 60_000
        refused(world, Machine(token).ask, "has expired; ask an operator for a new one")
        clock.ahead_ms = DAY_MS - 60_000
        Machine(token).ask()


def test_a_token_is_used_once(world: World) -> None:
    token = world.token()
    first = Machine(token)
    first.ask()
    refused(world, Machine(token).ask, "used already, with another key")
    world.one.approve(token.name)
    refused(world, Machine(token).ask, "used already, with another key")
    assert world.one.membership.active()[token.name].key == first.identity.public


@pytest.mark.parametrize(
    "peer", [Peer(Role.BANK, "other"), Peer(Role.OPERATOR, "t"), Peer(Role.REGULATOR, "t")]
)
def test_a_token_for_another_name_or_role_is_refused(world: World, peer: Peer) -> None:
    token = world.token(f"{peer.name}{peer.role.value}")
    refused(world, Machine(replace(token, name=peer.name)).ask, "the invitation is for the name")
    machine = Machine(replace(token, role=peer.role))
    if peer.role is not Role.BANK:
        refused(world, machine.ask, "the invitation is for the role")


def test_a_replayed_request_changes_nothing(world: World) -> None:
    machine = Machine(world.token())
    machine.ask()
    before = world.kinds()
    assert machine.ask().needed >= 1
    assert world.kinds() == before
    world.one.approve(machine.token.name)
    before = world.kinds()
    certificate = machine.ask().certificate
    assert certificate.startswith(b"-----BEGIN CERTIFICATE")
    assert world.kinds() == before
    # it is of no use without the key, which never left
    other = Credentials(
        certificate=certificate, key=key_pem(new_key()), authority=machine.token.root_pem
    )
    client = world.serving.client("bank", other)
    with client, pytest.raises(RefusedError):
        client.me()


def test_a_request_whose_parts_do_not_fit_is_refused(world: World) -> None:
    machine, other = Machine(world.token()), Machine(world.token())
    for changes in (
        {"key": other.identity.public},
        {"key": b""},
        {"key": bytes(31)},
        {"signature": bytes(64)},
        {"signature": b""},
        {"signature": other.said()["signature"]},
        {"request": make_request(other.tls, machine.token.peer)},
        {"request": make_request(machine.tls, other.token.peer)},
        {"request": b"x" * 5000},
        {"peer": Peer(Role.BANK, "a\nb")},
        {"peer": Peer(Role.BANK, "")},
    ):
        refused(world, lambda changes=changes: machine.ask(**changes), ".")  # type: ignore[misc]
    machine.ask()


def test_keys_that_are_anothers_are_refused(world: World) -> None:
    place = world.one.place("bank")
    machine = Machine(world.token())
    machine.identity = place.identity()  # a member that wants a second name
    refused(world, machine.ask, "signing key was named before")
    again = Machine(machine.token)
    again.tls = load_key(place.folder / "tls.key.pem")
    refused(world, again.ask, "TLS key was named before")


def test_a_changed_token_is_refused(world: World, tmp_path: Path) -> None:
    token = world.token()
    line = token.reveal()
    with pytest.raises(InputError, match="cut or changed"):
        Token.parse(line[:-8] + ("A" * 8 if line[-8:] != "A" * 8 else "B" * 8))
    # whoever changes it with care changes what the door holds against it, or whom it believes
    for changed, match in (
        (replace(token, name="king"), "the invitation is for the name"),
        (replace(token, role=Role.OPERATOR), "the invitation is for the role"),
        (replace(token, federation="other"), "does not hold"),
        (replace(token, expires_ms=token.expires_ms * 2, secret=b"1" * 32), "not known"),
    ):
        refused(world, Machine(Token.parse(changed.reveal())).ask, match)
    root = make_root(new_key(), NAME, at(now_ms()))
    other = replace(token, root=root.public_bytes(Encoding.DER))
    with pytest.raises(RefusedError, match="not by the federation's root"):
        join_federation(Home(tmp_path), other, wait_s=0, entropy=system_bytes, now_ms=now_ms)
    assert not (tmp_path / "participant" / "tls.pem").exists()


def test_a_door_that_is_not_the_federations_gets_no_secret(world: World, tmp_path: Path) -> None:
    impostor = Federated(tmp_path / "impostor")
    asked: list[bytes] = []
    with impostor.serving() as elsewhere:
        token = replace(world.token(), door=elsewhere.door)
        impostor.enrolment.ask = lambda **said: asked.append(said["secret"])  # type: ignore[method-assign,assignment]
        with pytest.raises(RefusedError, match="not by the federation's root"):
            join_federation(
                Home(tmp_path / "h"), token, wait_s=0, entropy=system_bytes, now_ms=now_ms
            )
    assert asked == []


@pytest.mark.parametrize("fault", ["key", "root", "name"])
def test_a_certificate_that_was_not_asked_for_is_not_taken(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    token = world.token()
    root_key = new_key()
    root = make_root(root_key, NAME, at(now_ms()))
    own = world.one.authority
    signs = (root, root_key) if fault == "root" else (own.root, own._key)
    home = Home(tmp_path)

    def answered(self: DoorClient, **said: Any) -> door_pb2.Standing:  # noqa: ANN401
        del self
        request = x509.load_der_x509_csr(said["request"])
        key: Any = new_key().public_key() if fault == "key" else request.public_key()
        peer = Peer(Role.BANK, "other") if fault == "name" else token.peer
        certificate = make_client(*signs, key, peer, at(now_ms()))
        return door_pb2.Standing(certificate=pem_of(certificate), registry="a:1", fleet="a:2")

    monkeypatch.setattr(DoorClient, "ask", answered)
    with pytest.raises(NotVerifiedError, match="ask the operator"):
        join_federation(home, token, wait_s=0, entropy=system_bytes, now_ms=now_ms)
    assert not (home.participant / "federation.json").exists()


def test_only_the_holder_of_the_key_fetches(world: World) -> None:
    machine = Machine(world.token())
    machine.ask()
    name, key, now = machine.token.name, machine.identity.public, now_ms()
    good = sign_fetch(machine.identity, NAME, name, now)
    stranger = Identity.create(system_bytes)
    root = machine.token.root_pem
    with open_channel(world.serving.door, root) as channel:
        stub = DoorStub(channel)

        def fetch(**said: Any) -> object:  # noqa: ANN401
            whole = {"name": name, "key": key, "time_ms": now, "signature": good, **said}
            return stub.Fetch(door_pb2.FetchRequest(**whole), timeout=55)

        fetch()
        old = now - DAY_MS
        for said in (
            {"signature": sign_fetch(stranger, NAME, name, now)},
            {"signature": sign_fetch(machine.identity, "other", name, now)},
            {"time_ms": now + 1},
            {"time_ms": old, "signature": sign_fetch(machine.identity, NAME, name, old)},
            {"time_ms": 2**63, "signature": good},
            {"name": "bank"},
            {"key": stranger.public, "signature": sign_fetch(stranger, NAME, name, now)},
            {"key": b""},
        ):
            with pytest.raises(grpc.RpcError) as found:
                fetch(**said)
            code = found.value.code()
            assert code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT}


def test_the_door_takes_small_messages_with_a_deadline(world: World) -> None:
    token = world.token()
    with open_channel(world.serving.door, token.root_pem) as channel:
        stub = DoorStub(channel)
        for request, timeout, said in (
            (door_pb2.AskRequest(secret=bytes(MESSAGE_BYTES_MAX)), 5, "larger than max"),
            (door_pb2.AskRequest(), None, "needs a deadline"),
            (door_pb2.AskRequest(), 600, "needs a deadline"),
            (door_pb2.AskRequest(role="bank"), 5, "for a role and a name"),
            (door_pb2.AskRequest(role="chief", name="a"), 5, "for a role and a name"),
        ):
            with pytest.raises(grpc.RpcError) as found:
                stub.Ask(request, timeout=timeout)
            assert said in (found.value.details() or "")


class Ended(Exception):  # noqa: N818 - as gRPC does it
    pass


class Context:
    """gRPC's, of a connection over an older TLS."""

    tls: bytes = b"TLSv1.2"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"transport_security_type": [b"ssl"], "ssl_tls_version": [self.tls]}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float:
        return 5.0

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Ended(f"{code.name} {details}")


class Details:
    method = "/tacit.door.v1.Door/Ask"
    invocation_metadata = ()


def test_older_tls_gets_nothing_at_the_door(world: World) -> None:
    service = DoorService(world.one.enrolment, world.one.authority.addresses, now_ms=now_ms)
    wrap: Any = grpc.unary_unary_rpc_method_handler(service.Ask)
    guard, details = DoorGuard(Buckets(Rate(), lambda: 0.0)), Details()
    handler: Any = guard.intercept_service(lambda _: wrap, details)  # type: ignore[arg-type]
    context: Any = Context()
    with pytest.raises(Ended, match=r"TLS 1\.3 is needed"):
        handler.stream_unary(iter([door_pb2.AskRequest()]), context)
    context.tls = b"TLSv1.3"
    with pytest.raises(Ended, match="INVALID_ARGUMENT"):
        handler.stream_unary(iter([door_pb2.AskRequest()]), context)


def test_what_goes_wrong_inside_stays_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InputError("cannot write /some/where/secret")

    monkeypatch.setattr(world.one.enrolment, "ask", fail)
    with pytest.raises(RefusedError) as found:
        Machine(world.token()).ask()
    assert "secret" not in str(found.value)
    assert "the door failed" in str(found.value)


# -- staying in, and speaking for another --


def test_a_certificate_from_another_root_is_refused(world: World) -> None:
    other = OtherRoot.create(NAME).client("bank", "bank")
    mixed = replace(other, authority=world.one.credentials("bank").authority)
    with world.serving.client("bank", mixed) as client, pytest.raises(RefusedError):
        client.me()


def test_a_certificate_that_nobody_put_on_record_is_refused(world: World) -> None:
    # what a stolen root could issue, and the operator behind everybody's back
    key, own = new_key(), world.one.authority
    for peer in (Peer(Role.BANK, "ghost"), Peer(Role.BANK, "bank"), Peer(Role.OPERATOR, "bank")):
        certificate = make_client(own.root, own._key, key.public_key(), peer, at(now_ms()))
        forged = Credentials(
            certificate=pem_of(certificate), key=key_pem(key), authority=pem_of(own.root)
        )
        client = world.serving.client("bank", forged)
        with client, pytest.raises(UnknownCallerError, match="no member"):
            client.me()


def test_a_revoked_members_certificate_is_refused_at_once(world: World) -> None:
    token = world.token("leaver")
    world.one.add("leaver2", "insurer")
    with world.serving.client("leaver2") as client:
        assert client.me().name == "leaver2"
        world.one.desk().revoke("leaver2", "left")
        with pytest.raises(UnknownCallerError, match="no member of this federation any more"):
            client.me()  # on the connection that was open
    with world.serving.client("leaver2") as again, pytest.raises(UnknownCallerError):
        again.me()
    assert token.name not in world.one.membership.active()


@pytest.mark.parametrize(("role", "method"), list(product(Role, MEMBER_METHODS)))
def test_a_role_is_refused_what_it_may_not(world: World, role: Role, method: str) -> None:
    name = OPERATOR if role is Role.OPERATOR else role.value
    requests = {
        "Me": members_pb2.MeRequest(),
        "Membership": members_pb2.MembershipRequest(),
        "Act": members_pb2.ActRequest(kind="x", body=b"{}"),
        "Renew": members_pb2.RenewRequest(body=b"{}"),
    }
    allowed = TABLE[role].get(Method(method), Scope.NONE) is not Scope.NONE
    with open_channel(world.serving.registry, world.one.credentials(name)) as channel:
        call = getattr(MembersStub(channel), method)
        if method in {"Me", "Membership"}:
            call(requests[method], timeout=55)
            return
        with pytest.raises(grpc.RpcError) as found:
            call(requests[method], timeout=55)
    details = found.value.details() or ""
    assert ("may not call" in details) is not allowed
    assert (role is Role.REGULATOR and method == "Act") is not allowed


def approval(world: World, by: str, signer: str, name: str) -> dict[str, Any]:
    key = world.one.membership.candidates[name].key
    body = {"name": name, "key": key.hex(), "by": by}
    return sign_act(world.one.identity(signer), "member.approved", NAME, world.root, body)


def test_nobody_acts_for_another(world: World) -> None:
    machine = Machine(world.token())
    machine.ask()
    name = machine.token.name
    for handed_in_by, body, match in (
        ("bank", approval(world, "insurer", "bank", name), "whoever signed it"),
        ("bank", approval(world, "bank", "insurer", name), "does not hold"),
        ("bank", approval(world, OPERATOR, OPERATOR, name), "whoever signed it"),
        ("bank", {**approval(world, "bank", "bank", name), "key": "00" * 32}, "another signing"),
        ("regulator", approval(world, "regulator", "regulator", name), "may not call"),
    ):
        with world.serving.client(handed_in_by) as client:
            refused(world, lambda c=client, b=body: c.act("member.approved", b), match)  # type: ignore[misc]


def test_the_candidate_does_not_approve_itself(world: World) -> None:
    machine = Machine(world.token("bank2"))
    machine.ask()
    body = sign_act(
        machine.identity,
        "member.approved",
        NAME,
        world.root,
        {"name": "bank2", "key": machine.identity.public.hex(), "by": "bank2"},
    )
    refused(
        world,
        lambda: world.one.enrolment.act("member.approved", body, by="bank2"),
        "no participant",
    )


def test_a_member_invites_and_revokes_nobody(world: World) -> None:
    identity = world.one.identity("bank")
    revocation = {
        "name": "insurer",
        "key": world.one.membership.active()["insurer"].key.hex(),
        "reason": "a competitor",
        "by": "bank",
    }
    invitation = {
        "token": "00" * 32,
        "role": "bank",
        "name": "friend",
        "attributes": {},
        "expires_ms": now_ms() + DAY_MS,
        "by": "bank",
    }
    with world.serving.client("bank") as client:
        for kind, body in (("member.revoked", revocation), ("member.invited", invitation)):
            signed = sign_act(identity, kind, NAME, world.root, body)
            refused(world, lambda k=kind, b=signed: client.act(k, b), "let an operator")  # type: ignore[misc]


def test_an_act_of_another_federation_is_not_taken(world: World) -> None:
    machine = Machine(world.token())
    machine.ask()
    key = machine.identity.public.hex()
    body = {"name": machine.token.name, "key": key, "by": "bank"}
    # of another name, and of one that was begun anew under the same
    for name, root in (("other", world.root), (NAME, "00" * 32)):
        signed = sign_act(world.one.identity("bank"), "member.approved", name, root, body)
        with world.serving.client("bank") as client:
            refused(world, lambda s=signed: client.act("member.approved", s), "does not hold")  # type: ignore[misc]


def test_only_the_coordinator_certifies(world: World) -> None:
    body = {"name": "bank", "key": "00" * 32, "tls": "00" * 32, "by": "bank"}
    with world.serving.client("bank") as client:
        for kind in ("member.certified", "member.requested", "member.renewed", "federation.begun"):
            refused(world, lambda k=kind: client.act(k, body), "no act that a participant")  # type: ignore[misc]


def test_nobody_renews_anothers_keys(world: World) -> None:
    victim, thief = world.one.membership.active()["insurer"], world.one.identity("bank")
    key, new = new_key(), Identity.create(system_bytes)
    for by, holder, peer in (
        ("insurer", victim.key, Peer(Role.INSURER, "insurer")),
        ("bank", victim.key, Peer(Role.BANK, "bank")),
    ):
        body: dict[str, Any] = {
            "name": by,
            "key": holder.hex(),
            "new": new.public.hex(),
            "tls": tls_digest(key.public_key()),
        }
        body = sign_act(thief, "member.renewed", NAME, world.root, body)
        body = sign_act(new, "member.renewed", NAME, world.root, body, field="proof")
        with world.serving.client("bank") as client:
            request = make_request(key, peer)
            refused(world, lambda b=body, r=request: client.renew(b, r), "belong|another signing")  # type: ignore[misc]


def test_a_renewal_is_for_the_key_that_asks_for_it(world: World) -> None:
    identity, key = world.one.identity("bank"), new_key()
    public = identity.public.hex()
    body: dict[str, Any] = {
        "name": "bank",
        "key": public,
        "new": public,
        "tls": tls_digest(key.public_key()),
    }
    for field in ("signature", "proof"):
        body = sign_act(identity, "member.renewed", NAME, world.root, body, field=field)
    with world.serving.client("bank") as client:
        other = make_request(new_key(), Peer(Role.BANK, "bank"))
        refused(world, lambda: client.renew(body, other), "another TLS key")


def test_a_body_that_is_none_is_refused(world: World) -> None:
    with open_channel(world.serving.registry, world.one.credentials("bank")) as channel:
        stub = MembersStub(channel)
        for body in (b"", b"[]", b"{ }", b"{", canonical_json({"by": "bank"}), b"x" * 70_000):
            with pytest.raises(grpc.RpcError) as found:
                stub.Act(members_pb2.ActRequest(kind="member.approved", body=body), timeout=55)
            code = found.value.code()
            assert code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED}
