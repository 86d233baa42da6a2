"""Who may what at the registry: every cell, who is calling, and how often."""

import importlib
import threading
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from support.certificates import CLIENT, Authority, save

from federation.evidence import LedgerView
from federation.registry import access
from federation.registry.access import MEMBERS, TABLE, Method, Role, Scope, may_see, scope_of
from federation.registry.address import split_address
from federation.registry.credentials import Credentials, load_credentials
from federation.registry.guard import Guard, _method
from federation.registry.peer import Peer, peer_of
from federation.registry.rate import Buckets, Rate
from federation.registry.registered import registered_witnesses
from privacy.errors import InputError, ProtocolError
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.trust import two_thirds

ALL, OWN, NONE = Scope.ALL, Scope.OWN, Scope.NONE
# Written by hand, and not made from the table.
CELLS = {
    #                LEDG CHKP ENTR INCL CONS COSI BUDG BUND
    "operator":     (ALL, ALL, OWN, ALL, ALL, NONE, NONE, NONE),
    "manufacturer": (ALL, ALL, OWN, ALL, ALL, ALL, OWN, NONE),
    "insurer":      (ALL, ALL, OWN, ALL, ALL, ALL, OWN, NONE),
    "bank":         (ALL, ALL, OWN, ALL, ALL, ALL, OWN, NONE),
    "regulator":    (ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL),
}  # fmt: skip
MEMBERSHIP_CELLS = {
    #                ME   MEMB ACT  RENEW
    "operator":     (ALL, ALL, ALL, OWN),
    "manufacturer": (ALL, ALL, ALL, OWN),
    "insurer":      (ALL, ALL, ALL, OWN),
    "bank":         (ALL, ALL, ALL, OWN),
    "regulator":    (ALL, ALL, NONE, OWN),
}  # fmt: skip
RUN_CELLS = {
    #                LAUN  RUNS WATC STOP  RESU  REPO
    "operator":     (NONE, ALL, ALL, ALL, ALL, NONE),
    "manufacturer": (NONE, OWN, OWN, NONE, NONE, NONE),
    "insurer":      (OWN, OWN, OWN, OWN, OWN, OWN),
    "bank":         (OWN, OWN, OWN, OWN, OWN, OWN),
    "regulator":    (NONE, ALL, ALL, NONE, NONE, NONE),
}  # fmt: skip
METHODS = (
    *("Ledgers", "Checkpoint", "Entries", "Inclusion"),
    *("Consistency", "Cosign", "Budgets", "Bundle"),
)
MEMBERSHIP_METHODS = ("Me", "Membership", "Act", "Renew")
RUN_METHODS = ("Launch", "Runs", "Watch", "Stop", "Resume", "Report")
ALL_METHODS = (*METHODS, *MEMBERSHIP_METHODS, *RUN_METHODS)
SERVICES = {"registry": METHODS, "members": MEMBERSHIP_METHODS, "runs": RUN_METHODS}


@pytest.mark.parametrize(("role", "place"), list(product(CELLS, range(len(ALL_METHODS)))))
def test_every_cell(role: str, place: int) -> None:
    row = (*CELLS[role], *MEMBERSHIP_CELLS[role], *RUN_CELLS[role])
    assert scope_of(Role(role), Method(ALL_METHODS[place])) is row[place]


def test_the_table_is_whole() -> None:
    assert {role.value for role in Role} == set(CELLS)
    assert set(CELLS) == set(MEMBERSHIP_CELLS) == set(RUN_CELLS)
    assert tuple(method.value for method in Method) == ALL_METHODS
    assert set(Role) - {Role.OPERATOR, Role.REGULATOR} == MEMBERS


@pytest.mark.parametrize("service", SERVICES)
def test_the_wire_has_the_tables_calls_and_no_others(service: str) -> None:
    code = importlib.import_module(f"federation.proto.{service}_pb2")
    (found,) = code.DESCRIPTOR.services_by_name.values()
    assert set(found.methods_by_name) == set(SERVICES[service])
    for name in found.methods_by_name:
        assert _method(f"/{found.full_name}/{name}") is Method(name)
        assert _method(f"/tacit.other.v1.Other/{name}") is None


def test_a_call_belongs_to_its_own_service() -> None:
    for service, names in SERVICES.items():
        path = f"/tacit.{service}.v1.{service.capitalize()}/"
        for name in ALL_METHODS:
            assert (_method(path + name) is not None) is (name in names)


def test_what_the_table_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "TABLE", {})
    assert all(scope_of(role, method) is NONE for role, method in product(Role, Method))


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TABLE[Role.BANK] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        TABLE[Role.BANK][Method.BUNDLE] = ALL  # type: ignore[index]


def view(role: str, owner: str) -> LedgerView:
    return LedgerView(origin=owner, owner=owner, role=role, dataset="", store=MemoryLedger())


@pytest.mark.parametrize("role", Role)
def test_own_means_the_coordinators_and_a_members_own(role: Role) -> None:
    def sees(scope: Scope, one: LedgerView) -> bool:
        return may_see(scope, one, role=role, name="a")

    mine, others, common = view("node", "a"), view("node", "b"), view("coordinator", "c")
    assert sees(OWN, common)
    assert not sees(OWN, others)
    assert sees(OWN, mine) is (role in MEMBERS)
    assert all(sees(ALL, one) for one in (mine, others, common))
    assert not any(sees(NONE, one) for one in (mine, others, common))


# -- who calls --


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", ["a", "Bank A", "Überbank/2", "银行", "a+b%2F", "x" * 512])
def test_a_name_is_read_back(role: Role, name: str) -> None:
    peer = Peer(role, name)
    assert peer.uri.isascii()
    assert " " not in peer.uri
    assert peer_of(auth(peer.uri)) == peer


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://tacit/bank/",
        "spiffe://tacit/bank",
        "spiffe://tacit/Bank/a",
        "spiffe://tacit/chief/a",
        "spiffe://tacit/bank/a/b",
        "spiffe://tacit/bank/a b",
        "spiffe://tacit/bank/%61",
        "spiffe://tacit/bank/%c3%a9",  # the usual spelling has capitals
        "spiffe://tacit/bank/%FF",
        "spiffe://tacit/bank/a%0Ab",
        "spiffe://tacit/bank/a?x",
        "spiffe://tacit//a",
        "spiffe://tacit.example/bank/a",
        "SPIFFE://tacit/bank/a",
        "https://tacit/bank/a",
        "bank/a",
        " spiffe://tacit/bank/a",
        "spiffe://tacit/bank/" + "x" * 513,
    ],
)
def test_any_other_name_is_nobody(uri: str) -> None:
    with pytest.raises(ProtocolError, match="have it issued anew"):
        peer_of(auth(uri))


def auth(*uris: str, tls: bytes = b"TLSv1.3") -> dict[str, list[bytes]]:
    return {
        "transport_security_type": [b"ssl"],
        "ssl_tls_version": [tls],
        "ssl_negotiated_key_exchange_group": [b"X25519MLKEM768"],
        "peer_uri": [uri.encode() for uri in uris],
    }


def test_a_certificate_names_one_caller() -> None:
    one = "spiffe://tacit/bank/a"
    with pytest.raises(ProtocolError, match="has 0 such names"):
        peer_of(auth())
    with pytest.raises(ProtocolError, match="has 2 such names"):
        peer_of(auth(one, "spiffe://tacit/regulator/a"))
    with pytest.raises(ProtocolError, match="has 2 such names"):
        peer_of(auth(one, "https://example.org"))
    with pytest.raises(ProtocolError, match="not encrypted"):
        peer_of({**auth(one), "transport_security_type": [b"insecure"]})
    with pytest.raises(ProtocolError, match="not encrypted"):
        peer_of({"peer_uri": [one.encode()]})


# -- what every call passes --


class Ended(Exception):  # noqa: N818 - as gRPC does it
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class Context:
    """gRPC's, as far as it is asked."""

    def __init__(self, auth_context: dict[str, list[bytes]], left_s: float | None = 5.0) -> None:
        self.auth = auth_context
        self.left_s = left_s
        self.callbacks: list[Any] = []
        self.is_over = False

    def auth_context(self) -> dict[str, list[bytes]]:
        return self.auth

    def time_remaining(self) -> float | None:
        return self.left_s

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def add_callback(self, callback: Any) -> bool:  # noqa: ANN401
        if not self.is_over:
            self.callbacks.append(callback)
        return not self.is_over

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Ended(code, details)


class Details:
    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


BANK = "spiffe://tacit/bank/a"
REGULATOR = "spiffe://tacit/regulator/r"


def called(
    context: Context,
    method: str = "/tacit.registry.v1.Registry/Ledgers",
    *,
    answer: Any = lambda request, context: "secret",  # noqa: ARG005, ANN401
    guard: Guard | None = None,
) -> Any:  # noqa: ANN401
    guard = guard or Guard(Buckets(Rate(), lambda: 0.0))
    streams = method.endswith(("Bundle", "Entries"))
    wrap: Any = (
        grpc.unary_stream_rpc_method_handler if streams else (grpc.unary_unary_rpc_method_handler)
    )
    handler: Any = guard.intercept_service(lambda _: wrap(answer), Details(method))  # type: ignore[arg-type]
    if streams:
        return list(handler.stream_stream(iter([None]), context))
    return handler.stream_unary(iter([None]), context)


def refused(*given: Any, **how: Any) -> tuple[str, str]:  # noqa: ANN401
    with pytest.raises(Ended) as found:
        called(*given, **how)
    return found.value.code.name, str(found.value)


def test_an_honest_call_is_answered() -> None:
    assert called(Context(auth(BANK))) == "secret"


@pytest.mark.parametrize("tls", [b"TLSv1.2", b"TLSv1.1", b"", b"TLSv1.3 "])
def test_older_tls_is_refused_before_anything_else(tls: bytes) -> None:
    code, sentence = refused(Context(auth("nobody", tls=tls)))
    assert (code, "TLS 1.3" in sentence) == ("UNAUTHENTICATED", True)


def test_tls_that_is_not_told_is_refused() -> None:
    told = auth(BANK)
    del told["ssl_tls_version"]
    assert refused(Context(told))[0] == "UNAUTHENTICATED"
    assert refused(Context({**auth(BANK), "ssl_tls_version": [b"TLSv1.3"] * 2}))[0] == (
        "UNAUTHENTICATED"
    )


def test_nobody_is_refused() -> None:
    assert refused(Context(auth()))[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("uri", "method"), [(BANK, "Bundle"), ("spiffe://tacit/operator/o", "Cosign")]
)
def test_what_a_role_may_not_is_refused(
    uri: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    code, _ = refused(Context(auth(uri)), f"/tacit.registry.v1.Registry/{method}")
    assert code == "PERMISSION_DENIED"
    (line,) = [one for one in caplog.messages if one.startswith("refused")]
    assert line == f"refused {method} to {uri} at ipv4:127.0.0.1:1: PERMISSION_DENIED"


@pytest.mark.parametrize(
    "path",
    [
        "/tacit.registry.v1.Registry/Delete",
        "/tacit.registry.v1.Registry/ledgers",
        "/tacit.registry.v2.Registry/Ledgers",
        "Ledgers",
        "/x/y\nrefused",
    ],
)
def test_a_call_that_is_in_no_table_is_refused(path: str, caplog: pytest.LogCaptureFixture) -> None:
    assert refused(Context(auth(REGULATOR)), path)[0] == "PERMISSION_DENIED"
    assert path not in "".join(caplog.messages)


@pytest.mark.parametrize(
    ("method", "left_s", "passes"),
    [
        ("Ledgers", None, False),
        ("Ledgers", 60.0, True),
        ("Ledgers", 62.0, False),
        ("Ledgers", 1e18, False),
        ("Entries", None, False),
        ("Entries", 600.0, True),
        ("Entries", 602.0, False),
    ],
)
def test_a_deadline_is_needed_and_not_too_far(
    method: str, left_s: float | None, passes: bool
) -> None:
    context = Context(auth(REGULATOR), left_s)
    path = f"/tacit.registry.v1.Registry/{method}"
    if passes:
        assert "".join(called(context, path)) == "secret"
    else:
        code, sentence = refused(context, path)
        assert (code, "deadline" in sentence) == ("INVALID_ARGUMENT", True)


def test_what_goes_wrong_inside_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: object, context: object) -> None:
        del request, context
        raise KeyError("/var/secret/path")

    for method in ("Ledgers", "Entries"):
        code, sentence = refused(
            Context(auth(REGULATOR)), f"/tacit.registry.v1.Registry/{method}", answer=broken
        )
        assert code == "INTERNAL"
        assert "secret" not in sentence
        assert "server's log" in sentence
    assert "/var/secret/path" in caplog.text


def test_streams_are_counted_and_given_back() -> None:
    guard = Guard(Buckets(Rate(), lambda: 0.0))
    path = "/tacit.registry.v1.Registry/Entries"
    open_ones = [Context(auth(REGULATOR)) for _ in range(2)]
    for context in open_ones:
        called(context, path, guard=guard)
    code, sentence = refused(Context(auth(REGULATOR)), path, guard=guard)
    assert (code, "2 streams" in sentence) == ("RESOURCE_EXHAUSTED", True)
    assert called(Context(auth(BANK)), path, guard=guard)  # another's are another's
    for callback in open_ones[0].callbacks:
        callback()
    over = Context(auth(REGULATOR))
    over.is_over = True
    assert refused(over, path, guard=guard)[0] == "CANCELLED"
    assert called(Context(auth(REGULATOR)), path, guard=guard)


# -- how often --


def test_a_bucket_empties_and_fills() -> None:
    now = [0.0]
    buckets = Buckets(Rate(per_second=2.0, burst=100.0), lambda: now[0])
    assert [buckets.take("a", 1.0) for _ in range(101)] == [True] * 100 + [False]
    assert buckets.take("b", 100.0)
    now[0] = 1.0
    assert [buckets.take("a", 1.0) for _ in range(3)] == [True, True, False]
    now[0] = 1000.0
    assert not buckets.take("a", 100.5)
    assert buckets.take("a", 100.0)


def test_a_bucket_is_exact_under_threads() -> None:
    buckets = Buckets(Rate(per_second=1.0, burst=100.0), lambda: 0.0)
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(buckets.take("a", 1.0) for _ in range(50)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 100


def test_callers_are_forgotten_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.registry.rate.CALLERS_MAX", 2)
    buckets = Buckets(Rate(per_second=1.0, burst=100.0), lambda: 0.0)
    assert buckets.take("a", 100.0)
    assert buckets.take("b", 100.0)
    assert not buckets.take("a", 1.0)
    assert buckets.take("c", 100.0)  # takes the place of b, which asked longest ago
    assert not buckets.take("a", 1.0)
    with pytest.raises(ValueError, match="now and then"):
        Rate(per_second=1.0, burst=99.0)


# -- which witnesses are known --


def test_witnesses_by_name_and_by_policy() -> None:
    a, b = (cosigner_key(name, name[-1].encode() * 32) for name in ("bank a", "b"))
    policy = two_thirds([], {"x": a, "y": b})
    assert registered_witnesses([], policy) == {"bank a": a, "b": b}
    assert registered_witnesses([f"c/d={a.to_text()}"], None) == {"c/d": a}
    assert registered_witnesses([f"b={b.to_text()}"], policy) == {"bank a": a, "b": b}
    with pytest.raises(InputError, match="has two keys"):
        registered_witnesses([f"b={a.to_text()}"], policy)
    with pytest.raises(InputError, match="key of a log"):
        registered_witnesses([f"b={log_key('b', b'1' * 32).to_text()}"], None)
    for text in ("", "x", "=x", f"={a.to_text()}"):
        with pytest.raises(InputError, match="NAME=VKEY"):
            registered_witnesses([text], None)
    with pytest.raises(InputError, match="verifier key"):
        registered_witnesses(["b=x"], None)


# -- addresses and files --


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:65535", "[::1]:9443", "a.example:1"])
def test_an_address_is_split(text: str) -> None:
    host, port = split_address(text)
    assert f"{host}:{port}" == text


@pytest.mark.parametrize(
    "text",
    ["", ":1", "a", "a:", "a:b", "a:-1", "a:65536", "a:²", "::1:1", "[a]:1", "unix:/x:1", "a/b:1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="host:port"):
        split_address(text)


def loaded(folder: Path, now: datetime | None = None) -> Credentials:
    return load_credentials(
        certificate=folder / "cert.pem",
        key=folder / "key.pem",
        authority=folder / "ca.pem",
        now=now or datetime.now(UTC),
    )


def test_the_files_of_an_end_are_read_and_checked(tmp_path: Path) -> None:
    authority = Authority.create()
    mine, other = authority.client("bank", "Bank A"), authority.client("bank", "b")
    save(mine, tmp_path / "a")
    found = loaded(tmp_path / "a")
    assert found == mine
    assert found.peer == Peer(Role.BANK, "Bank A")
    assert "PRIVATE" not in repr(found)
    with pytest.raises(InputError, match="not now"):
        loaded(tmp_path / "a", datetime.now(UTC) + timedelta(days=2))
    with pytest.raises(InputError, match="not now"):
        loaded(tmp_path / "a", datetime.now(UTC) - timedelta(days=2))
    mixed = Credentials(certificate=mine.certificate, key=other.key, authority=mine.authority)
    save(mixed, tmp_path / "mixed")
    with pytest.raises(InputError, match="belong together"):
        loaded(tmp_path / "mixed")
    key = tmp_path / "a" / "key.pem"
    key.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        loaded(tmp_path / "a")
    key.chmod(0o600)
    for name, match in (("key", "no private key"), ("cert", "no cert"), ("ca", "no cert")):
        path = tmp_path / "a" / f"{name}.pem"
        before = path.read_bytes()
        path.write_bytes(b"x")
        with pytest.raises(InputError, match=match):
            loaded(tmp_path / "a")
        path.unlink()
        with pytest.raises(InputError, match="cannot read"):
            loaded(tmp_path / "a")
        path.write_bytes(before)
        path.chmod(0o600)


def test_a_certificate_that_names_nobody_is_no_peer() -> None:
    authority = Authority.create()
    for credentials in (
        authority.issue((), CLIENT),
        authority.issue((x509.DNSName("a"),), CLIENT),
        authority.named("spiffe://tacit/bank/a", "spiffe://tacit/bank/b"),
        authority.named("https://a"),
    ):
        with pytest.raises(InputError, match="issued anew"):
            _ = credentials.peer
