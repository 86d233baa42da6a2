"""`tacit node check`: every failure has its sentence and its remedy."""

import shutil
import socket
import sqlite3
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from support import tables
from support.certificates import Authority as Issuer
from support.federations import Federated

from clients.contract import load_contract
from clients.policy import BudgetPolicy, NodePolicy, budget_terms
from federation.handshake import Files, Handshake, connected
from federation.home import Home
from federation.node_check import check_node
from federation.node_data import DataPlace, NodeData
from federation.node_points.budgets import budget_points
from federation.node_points.coordinator import (
    clock_point,
    coordinator_points,
    flower_point,
    membership_point,
    version_point,
)
from federation.node_points.files import certificate_point, file_points
from federation.node_points.machine import ledger_point, machine_points, policy_points
from federation.node_points.point import Point, Surroundings, failed
from federation.node_points.reach import reach_points, tls_point
from federation.node_points.rows import data_points, remembered_points
from federation.participant import IDENTITY, TLS, TLS_KEY, Place
from privacy.budget import Budget
from privacy.errors import NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.membership import Membership
from privacy.randomness import system_bytes

NAME = "Mill"


# the usual five seconds may pass while this machine does other work
patiently = partial(connected, timeout_s=60.0)


@dataclass(frozen=True)
class Told:
    """A coordinator's answer."""

    role: str = "manufacturer"
    name: str = NAME
    time_ms: int = 0
    version: str = "0.1.0"
    key_exchange: str = ""


@dataclass
class Around:
    """What a check reaches for, as a test wants it."""

    membership: Membership | None = None
    told: Told | None = None
    fault: Exception | None = None
    free: int = 100_000
    memory: int | None = 100_000
    connect: Callable[[str], socket.socket] = patiently
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def me(self) -> Told:
        if self.fault is not None:
            raise self.fault
        now_ms = round(self.now.timestamp() * 1000)
        return self.told or Told(time_ms=now_ms)

    def who(self) -> Membership:
        assert self.membership is not None
        return self.membership

    def made(self) -> Surroundings:
        return Surroundings(
            me=self.me,
            membership=self.who,
            now=lambda: self.now,
            free_mib=lambda _: self.free,
            memory_mib=lambda: self.memory,
            connect=self.connect,
        )


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    made = Federated(tmp_path_factory.mktemp("check"))
    made.add(NAME, "manufacturer")
    made.add("Bank A", "bank")
    return made


@pytest.fixture
def place(federated: Federated, tmp_path: Path) -> Place:
    """A copy, to break."""
    home = tmp_path / "home"
    shutil.copytree(federated.place(NAME).folder, home / "participant")
    return replace(federated.place(NAME), folder=home / "participant")


def only(points: Iterator[Point] | list[Point]) -> Point:
    (point,) = list(points)
    return point


def is_(point: Point, level: str, found: str, remedy: str = "") -> None:
    assert point.level == level, point
    assert found in point.found, point
    assert remedy in point.remedy, point
    assert bool(point.remedy) or level == "ok", point


# -- the participant's files ---------------------------------------------------------------------


def test_files_that_are_there_and_private(place: Place) -> None:
    is_(only(file_points(place.folder)), "ok", "are there, and private")


@pytest.mark.parametrize("name", [IDENTITY, TLS_KEY, TLS, "root.pem"])
def test_a_missing_file(place: Place, name: str) -> None:
    (place.folder / name).unlink()
    is_(only(file_points(place.folder)), "failed", f"lacks {name}.", "Restore the folder")


@pytest.mark.parametrize("name", [IDENTITY, TLS_KEY])
def test_a_key_that_others_may_read(place: Place, name: str) -> None:
    (place.folder / name).chmod(0o640)
    path = place.folder / name
    is_(only(file_points(place.folder)), "failed", f"Others may read {path}.", f"chmod 600 {path}")


@pytest.mark.parametrize(
    ("days_left", "level", "found"),
    [(30, "ok", "valid until"), (3, "warning", "expires soon"), (-1, "failed", "expired on")],
)
def test_a_certificate_and_its_end(place: Place, days_left: int, level: str, found: str) -> None:
    from federation.certificates import read_certificate

    end = read_certificate((place.folder / TLS).read_bytes(), "").not_valid_after_utc
    point = certificate_point(place, end - timedelta(days=days_left))
    is_(point, level, found, "" if level == "ok" else "Start the node, which renews it")


def test_a_clock_before_the_certificate(place: Place) -> None:
    point = certificate_point(place, datetime(2001, 1, 1, tzinfo=UTC))
    is_(point, "failed", "this machine's clock says it is earlier", "Set the clock right.")


def test_a_certificate_of_another_root(place: Place) -> None:
    (place.folder / TLS).write_bytes(Issuer.create().client("manufacturer", NAME).certificate)
    now = datetime.now(UTC)
    is_(certificate_point(place, now), "failed", "is not of the federation's root", "Restore")


def test_what_is_no_certificate(place: Place) -> None:
    (place.folder / TLS).write_text("nothing")
    is_(certificate_point(place, datetime.now(UTC)), "failed", "", "Restore")


# -- the way to the coordinator ------------------------------------------------------------------


@dataclass(frozen=True)
class Ends:
    """Files of a node, and a server of the same root or another."""

    files: Files
    issuer: Issuer
    folder: Path

    def server(self, issuer: Issuer | None = None) -> ssl.SSLContext:
        made = (issuer or self.issuer).server()
        paths = [self.folder / "server.pem", self.folder / "server.key.pem"]
        for path, data in zip(paths, (made.certificate, made.key), strict=True):
            path.write_bytes(data)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(paths[0]), str(paths[1]))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.issuer.pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        return context


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    issuer = Issuer.create()
    own = issuer.client("manufacturer", NAME)
    files = Files(tmp_path / "tls.pem", tmp_path / "tls.key.pem", tmp_path / "root.pem")
    files.certificate.write_bytes(own.certificate)
    files.key.write_bytes(own.key)
    files.authority.write_bytes(own.authority)
    return Ends(files, issuer, tmp_path)


@contextmanager
def answering(context: ssl.SSLContext | None) -> Iterator[str]:
    """A server that answers one request; without a context it speaks no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    if context is None:
                        connection.sendall(b"HTTP/1.1 400 no\r\n\r\n")
                        return
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(1024)
                        secure.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                except (OSError, ssl.SSLError):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(60)


def reached(
    address: str, files: Files, connect: Callable[[str], socket.socket] = patiently
) -> list[Point]:
    asked = b"GET /health HTTP/1.1\r\n\r\n"
    return list(
        reach_points("fleet", address, files, protocol="http/1.1", ask=asked, connect=connect)
    )


def test_a_fleet_that_answers(ends: Ends) -> None:
    with answering(ends.server()) as address:
        port, tls = reached(address, ends.files)
    is_(port, "ok", f"{address} can be reached.")
    assert tls.level == "ok"
    assert tls.found.startswith("TLS 1.3 with ")
    assert "unknown" not in tls.found


def test_a_name_that_is_not_known(ends: Ends) -> None:
    def connect(address: str) -> socket.socket:
        raise socket.gaierror(f"no {address}")

    point = only(reached("nowhere.example:9444", ends.files, connect))
    assert point.name == "fleet name"
    is_(point, "failed", "The name in nowhere.example:9444 is not known here.", "name server")


def test_a_port_that_nobody_listens_at(ends: Ends) -> None:
    with (
        socket.socket() as free
    ):  # taken by us without listening: nobody else comes to listen there
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        point = only(reached(address, ends.files))
    assert point.name == "fleet port"
    is_(point, "failed", f"{address} cannot be reached: connection refused.", "connect out to")


def test_a_port_that_swallows_everything(ends: Ends) -> None:
    def connect(address: str) -> socket.socket:
        raise TimeoutError(address)

    is_(only(reached("fleet:1", ends.files, connect)), "failed", "nothing answers in time")


def test_an_address_that_is_none(ends: Ends) -> None:
    is_(only(reached("nonsense", ends.files)), "failed", "Nonsense is no address", "Be invited")


def test_a_coordinator_of_another_root(ends: Ends) -> None:
    with answering(ends.server(Issuer.create("else"))) as address:
        _, tls = reached(address, ends.files)
    is_(tls, "failed", "is not of this federation or does not name it", "do not go on")


def test_a_coordinator_that_does_not_take_this_certificate(ends: Ends) -> None:
    other = Issuer.create("else")
    context = ends.server()
    own = other.client("manufacturer", NAME)
    ends.files.certificate.write_bytes(own.certificate)
    ends.files.key.write_bytes(own.key)
    with answering(context) as address:
        _, tls = reached(address, ends.files)
    is_(tls, "failed", "does not accept this node's connection", "is valid")


def test_something_that_speaks_no_tls(ends: Ends) -> None:
    with answering(None) as address:
        _, tls = reached(address, ends.files)
    is_(tls, "failed", "does not accept this node's connection", "a proxy on the way")


def test_own_files_that_cannot_be_used(ends: Ends) -> None:
    ends.files.key.write_text("nothing")
    with answering(ends.server()) as address:
        _, tls = reached(address, ends.files)
        connected(address).close()
    is_(tls, "failed", "This node's certificate, key or root cannot be used.", "Restore")


def test_an_old_tls(ends: Ends) -> None:
    context = ends.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with answering(context) as address:
        _, tls = reached(address, ends.files)
    is_(tls, "failed", "is TLSv1.2, and only TLS 1.3 is spoken here", "proxy")


def test_the_key_exchange_is_told() -> None:
    hybrid = tls_point("fleet", Handshake("TLSv1.3", 0x11EC))
    is_(hybrid, "ok", "TLS 1.3 with X25519MLKEM768: hybrid")
    classical = tls_point("fleet", Handshake("TLSv1.3", 0x1D))
    is_(classical, "ok", "TLS 1.3 with x25519: classical", "OpenSSL 3.5")
    assert "group 0x9999" in tls_point("fleet", Handshake("TLSv1.3", 0x9999)).found
    assert (
        "certificate is of this federation"
        in tls_point("registry", Handshake("TLSv1.3", 0x1D)).found
    )
    assert "an unknown group" in tls_point("fleet", Handshake("TLSv1.3", None)).found


# -- what the coordinator says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset_s", "doubt_s", "level", "found"),
    [
        (0.5, 0.1, "ok", "within 2 s"),
        (2.5, 0.1, "warning", "2.5 s ahead of the coordinator's."),
        (2.5, 1.0, "ok", "within 2 s"),
        (-30.0, 0.1, "warning", "30.0 s behind the coordinator's."),
        (299.0, 0.1, "warning", "299.0 s ahead"),
        (301.0, 0.1, "failed", "Beyond 300 s nothing is accepted."),
        (-4000.0, 0.1, "failed", "4000.0 s behind"),
    ],
)
def test_the_clock(offset_s: float, doubt_s: float, level: str, found: str) -> None:
    point = clock_point(offset_s, doubt_s=doubt_s)
    is_(point, level, found, "" if level == "ok" else "NTP")


@pytest.mark.parametrize(
    ("own", "theirs", "level"),
    [("0.1.0", "0.1.0", "ok"), ("0.1.0", "0.1.7", "warning"), ("0.1.0", "0.2.0", "failed")],
)
def test_versions(own: str, theirs: str, level: str) -> None:
    is_(
        version_point(own, theirs),
        level,
        f"tacit {own}",
        "" if level == "ok" else "Update the older",
    )
    if level != "ok":
        assert theirs in version_point(own, theirs).found


@pytest.mark.parametrize(("version", "level"), [("1.41.3", "ok"), ("1.42.0", "failed")])
def test_the_version_of_flower(version: str, level: str) -> None:
    is_(flower_point(version), level, f"flwr {version}", "" if level == "ok" else "flwr==1.41.*")


def test_what_a_coordinator_says_that_knows_this_node(federated: Federated, place: Place) -> None:
    around = Around(membership=federated.membership)
    points = list(coordinator_points(place, place.identity(), around.made()))
    assert [point.name for point in points] == [
        "coordinator",
        "clock",
        "version",
        "Flower",
        "membership",
    ]
    assert all(point.level == "ok" for point in points), points


@pytest.mark.parametrize(
    ("said", "found"),
    [("X25519MLKEM768", "X25519MLKEM768: hybrid"), ("X25519", "X25519: classical")],
)
def test_the_coordinator_says_how_keys_were_agreed_on(
    federated: Federated, place: Place, said: str, found: str
) -> None:
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    around = Around(membership=federated.membership, told=Told(time_ms=now_ms, key_exchange=said))
    points = {one.name: one for one in coordinator_points(place, None, around.made())}
    is_(points["registry keys"], "ok", found)


def test_a_coordinator_that_says_no(place: Place) -> None:
    around = Around(fault=RefusedError("the coordinator x:1 does not answer; check the network"))
    point = only(coordinator_points(place, None, around.made()))
    is_(point, "failed", "The coordinator x:1 does not answer", "the points about the registry")


def test_a_coordinator_that_takes_it_for_another(federated: Federated, place: Place) -> None:
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    around = Around(membership=federated.membership, told=Told(name="Else", time_ms=now_ms))
    point = next(coordinator_points(place, place.identity(), around.made()))
    is_(point, "failed", "takes this node for manufacturer Else", "Restore")


def test_a_clock_that_is_far_off_shows_in_what_the_coordinator_says(
    federated: Federated, place: Place
) -> None:
    now = datetime.now(UTC)
    told = Told(time_ms=round((now - timedelta(hours=1)).timestamp() * 1000))
    around = Around(membership=federated.membership, told=told, now=now)
    points = {one.name: one for one in coordinator_points(place, None, around.made())}
    is_(points["clock"], "failed", "3600.0 s ahead of", "NTP")


def test_a_membership_that_does_not_hold(place: Place) -> None:
    class Broken(Around):
        def who(self) -> Membership:
            raise NotVerifiedError("the coordinator shows another history")

    *_, point = coordinator_points(place, None, Broken().made())
    is_(point, "failed", "The coordinator shows another history.", "tell the other members")


def test_who_the_federation_has_on_record(federated: Federated, place: Place) -> None:
    here, key = federated.membership, place.identity().public
    is_(membership_point(here, place, key), "ok", "Mill is one of 2 members of Machines.")
    own = here.participants[NAME]
    other = Identity.create(system_bytes).public
    is_(membership_point(here, place, other), "failed", "another key on record", "Restore")

    def but(participants: Mapping[str, object]) -> Membership:
        return replace(here, participants=participants)  # type: ignore[arg-type] # of a test

    gone = but({NAME: replace(own, revoked=True)})
    is_(membership_point(gone, place, key), "failed", "no participant of Machines any more", "Ask")
    is_(membership_point(but({}), place, key), "failed", "Mill is not in Machines.", "Be invited")
    unknown = but({NAME: replace(own, certificates=("0" * 64,))})
    is_(membership_point(unknown, place, key), "failed", "no record of the certificate", "tell")


# -- this machine --------------------------------------------------------------------------------


def test_a_policy_and_what_it_leaves_open(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    first, *rest = policy_points(path)
    is_(first, "ok", "the usual terms, without a file")
    assert [one.level for one in rest] == ["warning", "warning"]
    path.write_text("minimum_cohort: 1\n")
    is_(only(policy_points(path)), "failed", "minimum_cohort: should be greater", "Correct it")
    path.write_text(
        "budgets: [{epsilon: 1.0}]\nminimum_protection: {noise_from: L2}\n"
        "recognises: {names: [Mill]}\n"
    )
    is_(only(policy_points(path)), "ok", "(sha256 ")


@pytest.mark.parametrize(
    ("free", "memory", "levels", "found"),
    [
        (10_000, 10_000, ["ok", "ok"], "10,000 MiB"),
        (10_000, None, ["ok", "ok"], "cannot be known"),
        (200, 10_000, ["warning", "ok"], "Runs wait below 256."),
        (20, 10_000, ["failed", "ok"], "20 MiB are free"),
        (10_000, 100, ["ok", "warning"], "Runs wait below 256."),
    ],
)
def test_disk_and_memory(
    free: int, memory: int | None, levels: list[str], found: str, tmp_path: Path
) -> None:
    around = Around(free=free, memory=memory).made()
    points = list(machine_points(tmp_path, NodePolicy(), around))
    assert [one.level for one in points] == levels
    assert any(found in one.found for one in points)
    assert all(one.remedy for one in points if one.level != "ok")


def test_a_disk_that_does_not_say(tmp_path: Path) -> None:
    def broken(path: Path) -> int:
        raise OSError(5, "Input/output error", str(path))

    around = replace(Around().made(), free_mib=broken)
    is_(
        next(machine_points(tmp_path, NodePolicy(), around)), "failed", "input/output error", "disk"
    )


def begun(folder: Path, owner: str = NAME) -> tuple[SqliteLedger, Identity]:
    folder.mkdir(exist_ok=True)
    identity = Identity.create(system_bytes)
    kept = SqliteLedger(folder / "ledger.db")
    begin_ledger(kept, identity, owner=owner, role="node", time_ms=1)
    return kept, identity


def test_a_ledger_that_holds_and_stays_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    kept, identity = begun(folder)
    append(kept, "policy.applied", {"policy": "0" * 64}, time_ms=2)
    is_(ledger_point(folder, identity, owner=NAME), "ok", "holds: 2 entries")
    assert kept.size() == 2


def test_a_ledger_that_is_not_begun(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    point = ledger_point(folder, Identity.create(system_bytes), owner=NAME)
    is_(point, "ok", "the node's ledger begins there")
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("a file")
    point = ledger_point(tmp_path / "node", Identity.create(system_bytes), owner=NAME)
    is_(point, "failed", "cannot be written", "Let the node's user write it")


def test_a_ledger_of_another(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    begun(folder)
    point = ledger_point(folder, Identity.create(system_bytes), owner=NAME)
    is_(point, "failed", "another key than this identity", "")


def test_a_ledger_that_was_changed(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    kept, identity = begun(folder)
    append(kept, "policy.applied", {"policy": "0" * 64}, time_ms=2)
    with sqlite3.connect(folder / "ledger.db") as raw:
        raw.execute("DROP TRIGGER entry_stays")
        raw.execute(
            "UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"0000', '\"1000') AS BLOB)"
        )
    raw.close()
    point = ledger_point(folder, identity, owner=NAME)
    is_(point, "failed", "does not hold", "Restore the ledger from its newest copy")


# -- data ----------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> tables.SmallFederation:
    return tables.write(tmp_path / "rows")


def test_a_node_without_data(tmp_path: Path) -> None:
    is_(only(remembered_points(tmp_path, NAME, rows=True)), "warning", "no data contract yet")


def test_a_budget_that_cannot_go_on_under_the_policy(
    small: tables.SmallFederation, tmp_path: Path
) -> None:
    folder = tmp_path / "node"
    NodeData().add(small.contract, small.root).keep(folder)
    contract = load_contract(small.contract)

    def points(policy: NodePolicy) -> list[Point]:
        return list(budget_points(folder, NAME, policy))

    def capped(**budget: float) -> NodePolicy:
        return NodePolicy(budgets=(BudgetPolicy.model_validate(budget),))

    assert points(capped(epsilon=0.5)) == []  # none was begun
    kept, _ = begun(folder)
    terms = budget_terms(NodePolicy(), member=NAME, dataset=contract.name, unit=contract.unit)
    Budget(kept, terms, now_ms=lambda: 1)
    size = kept.size()
    assert points(NodePolicy()) == points(capped(epsilon=5.0)) == points(capped(epsilon=50)) == []
    (point,) = points(capped(epsilon=0.5))
    is_(point, "failed", "was begun at order 8, which cannot hold epsilon 0.5", "takes part in no")
    is_(only(points(capped(epsilon=5.0, order=5))), "failed", "leave order out", "takes part in no")
    assert kept.size() == size
    (folder / "node.json").write_text("[]")
    assert points(capped(epsilon=0.5)) == []  # the look at the rows says so


def test_what_is_remembered_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("[]")
    is_(only(remembered_points(tmp_path, NAME, rows=True)), "failed", "node.json")


def test_rows_that_keep_their_contract(small: tables.SmallFederation, tmp_path: Path) -> None:
    NodeData().add(small.contract, small.root).keep(tmp_path / "node")
    points = list(remembered_points(tmp_path / "node", "north", rows=True))
    is_(points[0], "ok", "training rows of north keep the contract.")
    is_(only(remembered_points(tmp_path / "node", "north", rows=False)), "ok", "not looked at")


def test_rows_that_name_no_such_member(small: tables.SmallFederation) -> None:
    kept = load_contract(small.contract)
    point = only(data_points(kept, DataPlace(small.contract, small.root), "Mill"))
    is_(point, "failed", "name no member Mill", "tacit data check")


def test_rows_that_break_their_contract(small: tables.SmallFederation) -> None:
    kept = load_contract(small.contract)
    text = small.table.read_text().splitlines()
    text[3] = text[3].replace(text[3].split(",")[0], "no number", 1)
    small.table.write_text("\n".join(text) + "\n")
    point = only(data_points(kept, DataPlace(small.contract, small.root), "north"))
    is_(point, "failed", "", "tacit data check")
    assert "no number" not in point.found  # a value stays where it is


def test_rows_that_are_gone(small: tables.SmallFederation, tmp_path: Path) -> None:
    kept = load_contract(small.contract)
    there = DataPlace(small.contract, tmp_path / "none")
    is_(only(data_points(kept, there, "north")), "failed", "is gone.", f"--forget {kept.name}")
    small.table.unlink()
    point = only(data_points(kept, DataPlace(small.contract, small.root), "north"))
    is_(point, "failed", small.table.name)


def test_of_large_data_the_first_rows_are_looked_at(small: tables.SmallFederation) -> None:
    kept = load_contract(small.contract)
    point = only(data_points(kept, DataPlace(small.contract, small.root), "north", most_bytes=1000))
    is_(point, "ok", "The first 600 rows keep the contract; the rest")


def test_a_contract_that_has_another_name_now(
    small: tables.SmallFederation, tmp_path: Path
) -> None:
    NodeData().add(small.contract, small.root).keep(tmp_path / "node")
    name = load_contract(small.contract).name
    small.contract.write_text(small.contract.read_text().replace(name, "renamed", 1))
    point = only(remembered_points(tmp_path / "node", "north", rows=True))
    is_(point, "failed", f"is about renamed now and was about {name}")


# -- all of it -----------------------------------------------------------------------------------


def test_a_machine_that_is_in_no_federation(tmp_path: Path) -> None:
    point = only(check_node(Home(tmp_path), lambda _: Around().made()))
    is_(point, "failed", "This machine is in no federation yet", "tacit node join")


def test_all_of_it_against_a_registry_that_answers(
    federated: Federated, place: Place, ends: Ends, small: tables.SmallFederation
) -> None:
    home = Home(place.folder.parent)
    with federated.serving() as serving, answering(ends.server()) as fleet:
        replace(place, registry=serving.registry, fleet=fleet).write()
        home.own_node.mkdir()
        NodeData().add(small.contract, small.root).keep(home.own_node)
        around = Around(membership=federated.membership)
        points = list(check_node(home, lambda _: around.made()))
    levels = {one.name: one.level for one in points}
    assert levels["registry port"] == levels["registry TLS"] == levels["fleet port"] == "ok"
    assert levels["fleet TLS"] == "failed"  # another root's
    assert levels["membership"] == levels["ledger"] == levels["disk"] == "ok"
    assert failed(points)


def test_broken_keys_do_not_stop_the_other_looks(place: Place) -> None:
    (place.folder / IDENTITY).chmod(0o644)
    names = [one.name for one in check_node(Home(place.folder.parent), lambda _: Around().made())]
    assert names == ["files", *["policy"] * 3, "suites", "disk", "memory", "data"]
