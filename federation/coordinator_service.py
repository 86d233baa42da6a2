"""A federation's coordinator as one process: the door, the registry, the fleet, and the runs.

    door        gRPC, TLS 1.3: joining with an invitation
    registry    gRPC, mTLS: ledgers and proofs, membership, runs
    fleet       HTTPS, mTLS: Flower's SuperLink, for the members' nodes
    operations  HTTP on the loopback: health and figures

What ends it leaves every run as it is, to be gone on with at the next start. Invitations, approvals
and revocations may be put in the same ledger by the operator's command line meanwhile.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from cryptography import x509

from federation.authority import Addresses, Authority
from federation.coordinator_key import Settled, settle_key
from federation.door.server import door_open
from federation.enrolment import Enrolment, open_enrolment
from federation.evidence import POLICY, Evidence, home_bundle, home_evidence
from federation.home import Home
from federation.ledger_place import open_store
from federation.ledger_recorder import LedgerRecorder, now_ms
from federation.members.service import MembersService
from federation.open_files import allow_files
from federation.operations.coordinator_metrics import CoordinatorFigures
from federation.operations.endpoint import operations
from federation.operations.health import certificate_look, examined, ledger_look
from federation.operations.ledger_counts import LedgerCounts
from federation.operations.refusals import Refusals
from federation.operations.traffic import Traffic
from federation.registry.address import split_address
from federation.registry.credentials import Credentials
from federation.registry.newest import sign_newest
from federation.registry.participants import ParticipantWitnesses
from federation.registry.registered import registered_witnesses
from federation.registry.server import listening
from federation.registry.service import RegistryService
from federation.runs.admission import Admission
from federation.runs.desk import RunDesk
from federation.runs.engine import CountedLinks, LinkedEngine
from federation.runs.service import RunsService
from privacy.errors import InputError, RefusedError
from privacy.identity import Identity
from privacy.ledger.trust import TrustPolicy, parse_policy

if TYPE_CHECKING:
    from federation.engine.superlink import SuperLink

LOOPBACK: Final = "127.0.0.1"
OPERATIONS_PORT: Final = 9440
EVIDENCE_S: Final = 10.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where a coordinator listens, each as host:port; port 0 takes a free one.

    Attributes:
        door: For who has an invitation only.
        registry: For questions, acts and runs.
        fleet: For nodes at work.
        operations: For the operator's own eyes, on the loopback; empty: nowhere.
    """

    door: str
    registry: str
    fleet: str
    operations: str = f"{LOOPBACK}:{OPERATIONS_PORT}"

    @classmethod
    def of(cls, home: Home, host: str = LOOPBACK) -> "Listen":
        """At the ports that participants are told, of one of this machine's addresses.

        Raises:
            InputError: No federation was begun here.
        """
        told = _authority(home).addresses
        door, registry, fleet = (
            f"{host}:{split_address(one)[1]}" for one in (told.door, told.registry, told.fleet)
        )
        return cls(door=door, registry=registry, fleet=fleet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """A coordinator that answers.

    Attributes:
        federation: Its name.
        listens: Where, with the ports that were taken.
        ledger: Its own.
        enrolment: Who is in it.
        superlink: Reaches the members' nodes.
        desk: Holds the runs.
        resumed: The runs that it goes on with.
        since_ms: When it started, in milliseconds since 1970 UTC.
    """

    federation: str
    listens: Listen
    ledger: LedgerRecorder
    enrolment: Enrolment
    superlink: "SuperLink"
    desk: RunDesk
    resumed: tuple[str, ...]
    since_ms: int


@contextmanager
def coordinating(
    home: Home, where: Listen, *, witnesses: tuple[str, ...] = ()
) -> Iterator[Coordinator]:
    """Answer until the block is left; then every run under way is left to be resumed.

    Args:
        home: Of the operator; nobody else may hold it.
        where: To listen.
        witnesses: Each `NAME=VKEY`: whose cosignatures are kept, beside the trust policy's.

    Raises:
        InputError: No federation was begun here, a file of it is damaged, or an address is taken.
        RefusedError: Another process holds the home.
        NotVerifiedError: The ledger is not what was written, or holds no such federation.
    """
    authority = _authority(home)
    allow_files()
    with ExitStack() as stack:
        stack.enter_context(_held(home))
        settled = settle_key(home)
        if settled is not Settled.NOTHING:
            _LOG.warning("%s", settled.value)
        credentials = authority.server(datetime.now(UTC))
        ledger = LedgerRecorder(open_store(home.ledger_place), Identity.load(home.coordinator))
        enrolment = open_enrolment(ledger.store, authority, now_ms=now_ms)
        federation = enrolment.membership().federation

        # heavy, and of no use to whoever was refused above
        from federation.engine.superlink import serving

        superlink = stack.enter_context(serving(listen=where.fleet, credentials=credentials))
        admission = Admission(
            superlink, membership=enrolment.membership, certificates=enrolment.certificates
        )
        try:
            admission.look()
        except RefusedError as failure:
            _LOG.error("not everybody is let in: %s", failure)
        ended = threading.Event()
        stack.callback(ended.set)
        threading.Thread(
            target=admission.follow, args=(ended,), name="membership", daemon=True
        ).start()

        traffic = Traffic()
        engine = LinkedEngine(
            CountedLinks(superlink, traffic),
            ledger,
            left=lambda keys: enrolment.membership().left(keys),
        )
        desk = RunDesk(home, ledger, engine, now_ms=now_ms)
        stack.callback(desk.close)
        threading.Thread(target=desk.tell_ends, args=(ended,), name="ends", daemon=True).start()
        runs = RunsService(
            desk,
            membership=enrolment.membership,
            ledger={"origin": ledger.origin, "key": ledger.identity.public.hex()},
            now_ms=now_ms,
        )
        told = _reached_at(authority.addresses, fleet=superlink.address, asked=where.fleet)
        members = MembersService(enrolment, fleet=lambda: told.fleet, now_ms=now_ms)

        def evidence() -> Evidence:
            if not desk.under_way:
                # acts of membership come between runs, and somebody may want to cosign them
                sign_newest(ledger)
            return home_evidence(home)

        registry = RegistryService(
            recently(evidence),
            # signed up to its last entry, so that the file holds by itself
            bundle=lambda: home_bundle(home),
            witnesses=ParticipantWitnesses(
                enrolment.membership, registered_witnesses(witnesses, _trusted(home))
            ),
            now_ms=now_ms,
        )
        registry_at = stack.enter_context(
            listening(
                registry,
                where.registry,
                credentials,
                beside=(members.add_to, runs.add_to),
                revoked=enrolment.is_out,
            )
        ).address
        door_at = stack.enter_context(
            door_open(enrolment, where.door, credentials, addresses=told, now_ms=now_ms)
        ).address
        since_ms = now_ms()
        operations_at = ""
        if where.operations:
            figures = CoordinatorFigures(
                ledger=LedgerCounts(ledger.store),
                members=lambda: enrolment.membership().members(),
                seen=superlink.online,
                certificate_s=_seconds_left(credentials),
                traffic=traffic,
                refusals=stack.enter_context(_counted_refusals()),
                version=version("tacit-fl"),
                since_ms=since_ms,
            )
            looks = {
                "ledger": ledger_look(ledger.store),
                "certificate": certificate_look(figures.certificate_s),
            }
            operations_at = stack.enter_context(
                operations(
                    where.operations,
                    health=lambda: examined(since_ms, looks),
                    metrics=lambda: figures.metrics(now_ms=now_ms()),
                )
            ).address
        yield Coordinator(
            federation=federation,
            listens=Listen(
                door=door_at,
                registry=registry_at,
                fleet=superlink.address,
                operations=operations_at,
            ),
            ledger=ledger,
            enrolment=enrolment,
            superlink=superlink,
            desk=desk,
            # the last to begin: whoever watches can do so from the first word
            resumed=desk.resume_all(),
            since_ms=since_ms,
        )


@contextmanager
def _counted_refusals() -> Iterator[Refusals]:
    refusals, log = Refusals(), logging.getLogger("federation")
    log.addHandler(refusals)
    try:
        yield refusals
    finally:
        log.removeHandler(refusals)


def _seconds_left(credentials: Credentials) -> Callable[[], float]:
    certificate = x509.load_pem_x509_certificates(credentials.certificate)[0]

    def left() -> float:
        return (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds()

    return left


def recently(look: Callable[[], Evidence]) -> Callable[[], Evidence]:
    """What `look` returned, looked up again every few seconds: runs bring ledgers with them."""
    mutex = threading.Lock()
    seen, seen_s = look(), time.monotonic()

    def recent() -> Evidence:
        nonlocal seen, seen_s
        with mutex:
            if time.monotonic() - seen_s > EVIDENCE_S:
                seen, seen_s = look(), time.monotonic()
            return seen

    return recent


def _authority(home: Home) -> Authority:
    if not home.authority.is_dir():
        raise InputError(
            f"{home.root} is no coordinator's home; begin a federation in it with tacit federation "
            "init, or set TACIT_HOME to where that was done."
        )
    return Authority.load(home.authority)


@contextmanager
def _held(home: Home) -> Iterator[None]:
    try:
        with home.exclusive():
            yield
    except RefusedError as failure:
        if "Another run is using" not in str(failure):
            raise
        raise RefusedError(
            f"Another process holds {home.root}: a coordinator is started there already, or a "
            "launch with --local is under way."
        ) from None


def _reached_at(told: Addresses, *, fleet: str, asked: str) -> Addresses:
    """Where participants are told to go; a port that was chosen freely is put in."""
    if not asked.endswith(":0"):
        return told
    return Addresses(door=told.door, registry=told.registry, fleet=fleet)


def _trusted(home: Home) -> TrustPolicy | None:
    path = home.root / POLICY
    if not path.exists():
        return None
    try:
        return parse_policy(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the trust policy {path}: {error}") from None


def facts_of(coordinator: Coordinator) -> Mapping[str, object]:
    """For programs: where it answers."""
    listens = coordinator.listens
    return {
        "federation": coordinator.federation,
        "door": listens.door,
        "registry": listens.registry,
        "fleet": listens.fleet,
        "operations": listens.operations or None,
        "ledger": {
            "origin": coordinator.ledger.origin,
            "key": coordinator.ledger.identity.public.hex(),
        },
        "resumed": list(coordinator.resumed),
    }
