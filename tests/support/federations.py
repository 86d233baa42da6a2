"""A federation with any number of participants, each with a home of its own. For tests only.

`Federated(tmp_path)` has an operator alone. `add` invites, joins and approves without a network;
`serving` opens the door and the registry with the Members service on this machine's loopback.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import grpc

from federation.authority import Addresses, Authority
from federation.certificates import load_key, make_request, tls_digest
from federation.desk import Desk, Local, local_enrolment
from federation.door.server import door_open
from federation.enrolment import Enrolment, Standing
from federation.evidence import home_evidence, live_bundle
from federation.founding import Plan, found
from federation.home import Home, write_bytes
from federation.invitation import Token
from federation.joining import make_keys
from federation.ledger_recorder import LedgerRecorder, now_ms
from federation.members.client import MembersClient
from federation.members.service import MembersService
from federation.participant import ROOT, TLS, TLS_KEY, Place, load_participant
from federation.registry.access import Role
from federation.registry.credentials import Credentials
from federation.registry.rate import Rate
from federation.registry.server import listening
from federation.registry.service import RegistryService
from privacy.identity import Identity
from privacy.ledger.sqlite import SqliteLedger
from privacy.membership import Membership, sign_act
from privacy.randomness import system_bytes

NAME = "Machines"
OPERATOR = "operator"
MANY = Rate(per_second=10_000.0, burst=100_000.0)


@dataclass
class Federated:
    """A federation whose coordinator, operator and participants are folders below one.

    Attributes:
        root: Of all homes.
        approvals: How many must approve.
        now_ms: The clock of all.
    """

    root: Path
    approvals: int = 1
    now_ms: Callable[[], int] = now_ms
    homes: dict[str, Home] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home = self.homes[OPERATOR] = Home(self.root / "coordinator")
        plan = Plan(
            federation=NAME,
            hosts=("localhost", "127.0.0.1"),
            approvals=self.approvals,
            operator=OPERATOR,
            door_port=9441,
            registry_port=9443,
            fleet_port=9444,
        )
        found(self.home, plan, now=self.now, now_ms=self.now_ms, entropy=system_bytes)
        self.enrolment: Enrolment = local_enrolment(self.home, now_ms=self.now_ms)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    @property
    def authority(self) -> Authority:
        return self.enrolment.authority

    @property
    def membership(self) -> Membership:
        return self.enrolment.membership()

    def place(self, name: str = OPERATOR) -> Place:
        return load_participant(self.homes[name])

    def identity(self, name: str = OPERATOR) -> Identity:
        return self.place(name).identity()

    def credentials(self, name: str = OPERATOR) -> Credentials:
        return self.place(name).credentials(self.now)

    def desk(self, name: str = OPERATOR) -> Desk:
        """Of a participant, over the coordinator's ledger itself."""
        place = self.place(name)
        return Desk(place, Local(self.enrolment, place), self.now_ms)

    def invite(
        self,
        name: str,
        role: Role | str = Role.BANK,
        *,
        days: float = 7.0,
        attributes: Mapping[str, str] | None = None,
        door: str | None = None,
    ) -> Token:
        token = self.desk().invite(
            role=Role(role),
            name=name,
            days=days,
            attributes=attributes or {},
            entropy=system_bytes,
        )
        return token if door is None else replace(token, door=door)

    def ask(self, token: Token, home: Home | None = None) -> Standing:
        """Ask without a network."""
        home = home or self.homes.setdefault(token.name, Home(self.root / "homes" / token.name))
        # whoever was turned away may be invited again
        identity = make_keys(home, token, system_bytes, anew=True)
        key = load_key(home.participant / TLS_KEY)
        body = sign_act(
            identity,
            "member.requested",
            token.federation,
            token.fingerprint,
            {
                "token": token.digest,
                "name": token.name,
                "role": token.role.value,
                "key": identity.public.hex(),
                "tls": tls_digest(key.public_key()),
            },
        )
        return self.enrolment.ask(
            secret=token.secret,
            peer=token.peer,
            key=identity.public,
            request=make_request(key, token.peer),
            signature=bytes.fromhex(body["signature"]),
        )

    def approve(self, name: str) -> None:
        """As many approve as are needed, the operator first."""
        for by in (OPERATOR, *self.membership.members()):
            candidate = self.membership.candidates.get(name)
            if candidate is None:
                return
            if by not in candidate.approvals:
                self.desk(by).approve(candidate)

    def add(
        self,
        name: str,
        role: Role | str = Role.BANK,
        *,
        attributes: Mapping[str, str] | None = None,
    ) -> Place:
        """Invite, join and approve."""
        token = self.invite(name, role, attributes=attributes)
        self.ask(token)
        self.approve(name)
        home = self.homes[name]
        identity = Identity.load(home.participant / "identity.pem")
        standing = self.enrolment.standing(name, identity.public)
        write_bytes(home.participant / TLS, standing.certificate)
        write_bytes(home.participant / ROOT, token.root_pem)
        place = Place(
            folder=home.participant,
            federation=token.federation,
            name=name,
            role=token.role,
            door=token.door,
            registry=self.authority.addresses.registry,
            fleet=self.authority.addresses.fleet,
            root_fingerprint=token.fingerprint,
            founder_key=token.founder,
            ledger_origin=token.ledger.name,
            ledger_key=token.ledger.public,
        )
        place.write()
        (home.participant / "joining.json").unlink()
        return place

    def sign(self) -> None:
        """The coordinator signs the newest state of its ledger."""
        recorder = LedgerRecorder(
            SqliteLedger(self.home.ledger), Identity.load(self.home.coordinator)
        )
        recorder.cosigned("", recorder.state(), {})

    @contextmanager
    def serving(
        self,
        *,
        beside: tuple[Callable[[grpc.Server], None], ...] = (),
        door_rate: Rate = MANY,
    ) -> Iterator["Serving"]:
        """Open the door and the registry; every place is told where they are."""
        with ExitStack() as stack:
            server = self.authority.server(self.now)
            members = MembersService(
                self.enrolment, fleet=lambda: self.authority.addresses.fleet, now_ms=self.now_ms
            )
            registry = RegistryService(
                lambda: home_evidence(self.home),
                bundle=lambda: live_bundle(self.home),
                witnesses={},
                now_ms=self.now_ms,
            )
            answering = stack.enter_context(
                listening(
                    registry,
                    "127.0.0.1:0",
                    server,
                    rate=MANY,
                    beside=(members.add_to, *beside),
                    revoked=self.enrolment.is_out,
                )
            )
            addresses = Addresses(
                door="", registry=answering.address, fleet=self.authority.addresses.fleet
            )
            door = stack.enter_context(
                door_open(
                    self.enrolment,
                    "127.0.0.1:0",
                    server,
                    addresses=addresses,
                    now_ms=self.now_ms,
                    rate=door_rate,
                )
            )
            yield Serving(self, door.address, answering.address)


@dataclass(frozen=True)
class Serving:
    """A federation that answers.

    Attributes:
        door: host:port.
        registry: host:port.
    """

    federated: Federated
    door: str
    registry: str

    def client(self, name: str, credentials: Credentials | None = None) -> MembersClient:
        return MembersClient(self.registry, credentials or self.federated.credentials(name))

    def place(self, name: str) -> Place:
        """As it would be, had the federation begun at these addresses; it is written so."""
        place = replace(self.federated.place(name), door=self.door, registry=self.registry)
        place.write()
        return place
