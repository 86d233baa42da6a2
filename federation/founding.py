"""How a federation begins: a root, a ledger, and an operator who signs the first act.

The order lets a beginning that was cut short be begun again: `federation.json` in the operator's
own place is written last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from federation.authority import Addresses, Authority
from federation.certificates import (
    key_pem,
    load_key,
    new_key,
    pem_of,
    private_folder,
    write_private,
)
from federation.enrolment import Enrolment
from federation.home import Home, write_bytes
from federation.kept_identity import kept_identity
from federation.ledger_place import open_store
from federation.ledger_recorder import COORDINATOR
from federation.participant import FEDERATION, IDENTITY, ROOT, TLS, TLS_KEY, Place
from federation.registry.access import Role
from federation.registry.peer import Peer
from privacy.errors import InputError, ProtocolError
from privacy.ledger.beginning import begin_ledger
from privacy.membership import NAME_CHARACTERS_MAX, sign_act
from privacy.randomness import Entropy
from privacy.suites import SuiteId, require_here

_FEDERATION_CHARACTERS_MAX = 64  # of a certificate's common name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a federation will be.

    Attributes:
        federation: Its name.
        hosts: Where the coordinator is reached: names, IP addresses; the first is told to members.
        approvals: How many must approve whoever asks, where so many can.
        operator: The founder's name.
        door_port: Of the door.
        registry_port: Of the registry.
        fleet_port: Of the fleet.
        suite: Id of the algorithms that its runs use, for ever.
    """

    federation: str
    hosts: tuple[str, ...]
    approvals: int
    operator: str
    door_port: int
    registry_port: int
    fleet_port: int
    suite: SuiteId = "intl"

    @property
    def addresses(self) -> Addresses:
        """As participants are told them."""
        first = self.hosts[0]
        host = f"[{first}]" if ":" in first else first
        return Addresses(
            f"{host}:{self.door_port}",
            f"{host}:{self.registry_port}",
            f"{host}:{self.fleet_port}",
        )


def require_name(name: str) -> None:
    """Return if a participant can have this name.

    Raises:
        InputError: it cannot.
    """
    wrong = f"a name has 1 to {NAME_CHARACTERS_MAX} printable characters; choose another"
    if len(name) > NAME_CHARACTERS_MAX:
        raise InputError(wrong)
    try:
        Peer.from_uri(Peer(Role.BANK, name).uri)
    except ProtocolError:
        raise InputError(wrong) from None
    if name != name.strip():
        raise InputError("a name neither begins nor ends with a space; choose another")


def found(
    home: Home, plan: Plan, *, now: datetime, now_ms: Callable[[], int], entropy: Entropy
) -> Place:
    """Begin a federation in `home`, with this machine's operator as its first participant.

    Args:
        home: Of the coordinator; it is the operator's machine.
        plan: What it will be.
        now: With a time zone.
        now_ms: Milliseconds since 1970 UTC.
        entropy: For the keys.

    Raises:
        InputError: the home holds a federation, or is in one, or the plan makes none.
        RefusedError: its ledger is another's, or this machine has not the plan's algorithms.
    """
    require_name(plan.operator)
    name = plan.federation
    if not name.isprintable() or not 0 < len(name) <= _FEDERATION_CHARACTERS_MAX:
        raise InputError(
            f"a federation's name has 1 to {_FEDERATION_CHARACTERS_MAX} printable characters; "
            "choose another"
        )
    require_here(plan.suite)
    if plan.approvals < 1:
        raise InputError("at least one must approve whoever asks; give --approvals 1 or more")
    ports = (plan.door_port, plan.registry_port, plan.fleet_port)
    if len(set(ports)) < len(ports):
        raise InputError(
            f"door, registry and fleet need a port each, and {', '.join(map(str, ports))} were "
            "given; choose three"
        )
    if (home.participant / FEDERATION).exists():
        raise InputError(f"{home.root} takes part in a federation already; use another home")
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home.authority / FEDERATION).exists():
        Authority.create(home.authority, name, plan.hosts, plan.addresses, now)
    authority = Authority.load(home.authority)
    if (authority.federation, authority.addresses) != (name, plan.addresses):
        raise InputError(
            f"{home.root} holds the beginning of another federation, {authority.federation}; give "
            "the same options again, or use another home"
        )
    private_folder(home.participant)
    identity = kept_identity(home.participant / IDENTITY, entropy)
    coordinator = kept_identity(home.coordinator, entropy)
    store = open_store(home.ledger_place)
    origin = begin_ledger(store, coordinator, owner=COORDINATOR, role=COORDINATOR, time_ms=now_ms())
    enrolment = Enrolment(store, authority, now_ms=now_ms)
    body = sign_act(
        identity,
        "federation.begun",
        name,
        authority.fingerprint,
        {
            "federation": name,
            "root": authority.fingerprint,
            "approvals": plan.approvals,
            "founder": plan.operator,
            "key": identity.public.hex(),
            **({} if plan.suite == "intl" else {"suite": plan.suite}),
        },
    )
    enrolment.begin(body)
    if not (home.participant / TLS_KEY).exists():
        write_private(home.participant / TLS_KEY, key_pem(new_key()))
    tls = load_key(home.participant / TLS_KEY)
    write_bytes(home.participant / TLS, enrolment.certify_founder(tls.public_key()))
    write_bytes(home.participant / ROOT, pem_of(authority.root))
    place = Place(
        folder=home.participant,
        federation=name,
        name=plan.operator,
        role=Role.OPERATOR,
        door=plan.addresses.door,
        registry=plan.addresses.registry,
        fleet=plan.addresses.fleet,
        root_fingerprint=authority.fingerprint,
        founder_key=identity.public,
        ledger_origin=origin,
        ledger_key=coordinator.public,
    )
    place.write()
    return place
