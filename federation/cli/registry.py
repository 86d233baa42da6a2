"""`tacit registry`: serve what this home can prove, and see what another one serves."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich
from privacy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from federation.evidence import Evidence
    from federation.home import Home
    from federation.participant import Place
    from federation.registry.credentials import Credentials
    from privacy.ledger.note import VerifierKey
    from privacy.ledger.trust import TrustPolicy

app = typer.Typer(no_args_is_help=True)
_REFRESH_S = 10.0

Certificate = Annotated[Path, typer.Option("--cert", help="This end's certificate (PEM).")]
Key = Annotated[Path, typer.Option("--key", help="The private key of it (PEM).")]
Authority = Annotated[Path, typer.Option("--ca", help="The federation's root certificate (PEM).")]
Address = Annotated[
    str | None,
    typer.Option("--registry", help="host:port; without it, that of this machine's federation."),
]
OwnCertificate = Annotated[
    Path | None, typer.Option("--cert", help="A certificate (PEM); else this participant's own.")
]
OwnKey = Annotated[Path | None, typer.Option("--key", help="The private key of it (PEM).")]
OwnAuthority = Annotated[
    Path | None, typer.Option("--ca", help="The root's certificate (PEM); else the federation's.")
]
ServerName = Annotated[
    str | None,
    typer.Option("--server-name", help="What its certificate names, if not the host."),
]
Policy = Annotated[
    Path | None, typer.Option("--policy", help="A trust policy (C2SP) that names the witnesses.")
]


@app.command()
def serve(
    cert: Certificate,
    key: Key,
    ca: Authority,
    listen: Annotated[str, typer.Option(help="host:port; port 0 takes a free one.")] = (
        "127.0.0.1:9443"
    ),
    witness: Annotated[
        list[str] | None, typer.Option(help="NAME=VKEY: whose cosignatures are kept.")
    ] = None,
    policy: Policy = None,
    as_json: AsJson = False,
) -> None:
    """Serve this home's ledgers, proofs and budgets over mTLS, until it is stopped."""
    quiet_grpc()
    from federation.evidence import POLICY, home_evidence, live_bundle
    from federation.home import open_home
    from federation.registry.registered import registered_witnesses
    from federation.registry.server import listening
    from federation.registry.service import RegistryService

    home = open_home()
    own = home.root / POLICY
    trusted = read_policy(policy or own) if policy or own.exists() else None
    credentials = load(cert, key, ca)
    service = RegistryService(
        _refreshed(lambda: home_evidence(home)),
        bundle=lambda: live_bundle(home),
        witnesses=registered_witnesses(witness or (), trusted),
        now_ms=_now_ms,
    )
    _log_to_stderr()
    with listening(service, listen, credentials) as open_server:
        if as_json:
            print_json({"address": open_server.address})
        typer.echo(
            f"The registry of {home.root} answers at {open_server.address}, over TLS 1.3 to "
            "certificates of the federation only. Ctrl-C ends it.",
            err=True,
        )
        _until_stopped()


@app.command()
def status(
    registry: Address = None,
    cert: OwnCertificate = None,
    key: OwnKey = None,
    ca: OwnAuthority = None,
    server_name: ServerName = None,
    policy: Policy = None,
    as_json: AsJson = False,
) -> None:
    """List the federation's ledgers, their newest signed states, and who cosigned them."""
    quiet_grpc()
    from federation.home import open_home
    from federation.registry.client import RegistryClient
    from federation.registry.status import read_status, status_facts, status_table

    end = own_end(open_home(), registry, cert, key, ca)
    witnesses = _participants(end) if policy is None else dict(read_policy(policy).witnesses)
    pins = () if end.place is None else (end.place.log_key,)
    with RegistryClient(end.address, end.credentials, server_name=server_name) as client:
        told = read_status(client, witnesses, pins=pins)
    if as_json:
        print_json(status_facts(told))
    else:
        print_rich(status_table(told))


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection to a registry.

    Attributes:
        address: `host:port` of the registry.
        credentials: Of whoever asks.
        place: This machine's in its federation, whose registry that is; None where the command
            line said all.
    """

    address: str
    credentials: "Credentials"
    place: "Place | None"


def own_end(
    home: "Home", registry: str | None, cert: Path | None, key: Path | None, ca: Path | None
) -> End:
    """Return whom to ask and as whom: what is not given is this machine's place.

    Raises:
        InputError: this machine is in no federation and too little is given, or a file cannot be
            used.
    """
    from federation.participant import FEDERATION, ROOT, load_participant

    if (cert is None) is not (key is None):
        raise InputError("a certificate needs its key; give both --cert and --key")
    if registry and cert and key and ca:
        return End(registry, load(cert, key, ca), None)
    given = registry or cert or ca
    if given and not (home.participant / FEDERATION).exists():
        raise InputError(
            "this machine is in no federation yet, so give all of --registry, --cert, --key and "
            "--ca, or join one with tacit node join"
        )
    place = load_participant(home)
    if cert is None or key is None:
        if ca is not None:
            raise InputError("another root needs a certificate of it; give --cert and --key too")
        credentials = place.credentials()
    else:
        credentials = load(cert, key, ca or place.folder / ROOT)
    return End(registry or place.registry, credentials, place)


def _participants(end: End) -> "dict[str, VerifierKey]":
    """Whose cosignatures count: everybody who takes part now, by the acts back to the founder."""
    from federation.members.client import MembersClient
    from federation.roster import read_membership
    from privacy.ledger.keys import cosigner_key

    if end.place is None:
        return {}
    with MembersClient(end.address, end.credentials) as client:
        active = read_membership(end.place, client).active()
    return {name: cosigner_key(name, one.key) for name, one in active.items()}


def load(cert: Path, key: Path, ca: Path) -> "Credentials":
    """Read this end's files."""
    from federation.registry.credentials import load_credentials

    return load_credentials(certificate=cert, key=key, authority=ca, now=datetime.now(UTC))


def read_policy(path: Path) -> "TrustPolicy":
    """Read a trust policy.

    Raises:
        InputError: it cannot be read or is none.
    """
    from privacy.ledger.trust import parse_policy

    try:
        return parse_policy(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the trust policy {path}: {error}") from None


def quiet_grpc() -> None:
    """Keep gRPC's own lines, which say nothing to a user, off standard error."""
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _refreshed(look: "Callable[[], Evidence]") -> "Callable[[], Evidence]":
    """What `look` returned, looked up again every few seconds: runs bring ledgers with them."""
    import threading

    mutex = threading.Lock()
    seen, seen_s = look(), time.monotonic()

    def recent() -> "Evidence":
        nonlocal seen, seen_s
        with mutex:
            if time.monotonic() - seen_s > _REFRESH_S:
                seen, seen_s = look(), time.monotonic()
            return seen

    return recent


def _log_to_stderr() -> None:
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("federation.registry")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _until_stopped() -> None:
    import signal
    import threading

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
