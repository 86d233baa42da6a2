"""`tacit audit witness`: hold ledgers to what they once signed, and cosign what follows on it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.cli.finite import Finite
from federation.cli.output import AsJson, print_json
from federation.cli.registry import own_end, quiet_grpc
from privacy.errors import InputError, RefusedError, TacitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from federation.cli.registry import End
    from federation.home import Home
    from federation.participant import Place
    from federation.registry.client import RegistrySource
    from federation.registry.local import LocalSource
    from federation.registry.witness import LogWitness, Outcome
    from privacy.identity import Identity

_FAILED = 1


def witness(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            help="A bundle; without it, the registry of this machine's federation, or, of a "
            "home that holds the ledgers, those."
        ),
    ] = None,
    *,
    state: Annotated[
        Path | None,
        typer.Option(
            help="This witness's memory, a folder; keep it, and keep it alone. Else the home's "
            "witness/."
        ),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(help="The Ed25519 key (PEM) that cosigns; else this participant's."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Whom it speaks for; the participant's or certificate's name, if any."),
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="host:port of a registry; else the federation's.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(help="Certificate for the registry (PEM); else one's own.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The private key of it (PEM).")] = None,
    ca: Annotated[Path | None, typer.Option(help="The root (PEM); else the federation's.")] = None,
    server_name: Annotated[
        str | None, typer.Option(help="What the registry's certificate names, if not the host.")
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            help="VKEY of a log to witness; else the coordinator's, as the invitation named it. "
            "Without either, all that are shown."
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            click_type=Finite(0, 1e7), help="Look again every so many seconds, until stopped."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the cosignatures to this file (bundle or home).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Cosign the newest state of each ledger that follows on what was cosigned before.

    Exit 1 if a ledger was rolled back or shows two histories; both states, as it signed them, are
    then kept in the memory's folder.
    """
    from federation.audit import own_place
    from federation.home import open_home

    if every is not None and not every > 0:
        raise InputError("--every needs more than 0 seconds")
    if registry is not None and (bundle is not None or out is not None):
        raise InputError("give either --registry, or a bundle with --out")
    home = open_home()
    if registry is not None or (bundle is None and out is None and _is_elsewhere(home)):
        quiet_grpc()
        from federation.registry.client import RegistryClient, RegistrySource

        end = own_end(home, registry, cert, key, ca)
        watcher = _watcher_at(home, end, state=state, identity=identity, name=name, log=log)
        with RegistryClient(end.address, end.credentials, server_name=server_name) as client:
            _watch(watcher, RegistrySource(client), every, as_json=as_json)
        return
    if every is not None:
        raise InputError("--every needs a registry; a bundle stays as it is")
    if state is None or identity is None or name is None:
        place = own_place(home)
        if place is None:
            raise InputError(
                "this machine is in no federation, so give the witness's name as --name, its key "
                "as --identity and its memory as --state"
            )
        state, name = state or _memory(home), name or place.name
        signer = place.identity() if identity is None else _signer(identity)
        _require_one_memory(place, signer)
    else:
        signer = _signer(identity)
    watcher = _watcher(name, signer, state, log)
    source = _local(bundle)
    outcomes = watcher.look(source, time_s=int(time.time()))
    lines = "".join(line for _, line in source.lines)
    if out is not None:
        from federation.home import write_bytes

        write_bytes(out, lines.encode())
    elif not as_json:
        typer.echo(lines, nl=False)
    _tell(watcher, outcomes, as_json=as_json)
    _end(outcomes)


def _is_elsewhere(home: "Home") -> bool:
    """Whether the coordinator's ledger of this machine's federation is on another machine."""
    from federation.audit import own_place

    return own_place(home) is not None and not home.authority.exists()


def _memory(home: "Home") -> Path:
    from federation.cosigned import MEMORY

    return home.root / MEMORY


def _signer(path: Path) -> "Identity":
    from privacy.identity import Identity

    return Identity.load(path)


def _watcher_at(
    home: "Home",
    end: "End",
    *,
    state: Path | None,
    identity: Path | None,
    name: str | None,
    log: list[str] | None,
) -> "LogWitness":
    """A participant's own witness, but for what was given."""
    if end.place is None:
        if state is None or identity is None:
            raise InputError("this machine is in no federation, so give --identity and --state")
        return _watcher(name or end.credentials.peer.name, _signer(identity), state, log)
    signer = end.place.identity() if identity is None else _signer(identity)
    _require_one_memory(end.place, signer)
    pins = [end.place.log_key.to_text()]
    return _watcher(name or end.place.name, signer, state or _memory(home), log or pins)


def _require_one_memory(place: "Place", signer: "Identity") -> None:
    """Require that no node signs with the same key: two memories could sign two histories."""
    from federation.registry.access import MEMBERS

    if place.role in MEMBERS and signer.public == place.identity().public:
        raise RefusedError(
            f"the node of {place.name} cosigns with this machine's key in each run, and remembers "
            "what; to witness beside it, give a key of its own as --identity"
        )


def _watcher(name: str, signer: "Identity", state: Path, log: list[str] | None) -> "LogWitness":
    from federation.registry.witness import LogWitness
    from privacy.ledger.keys import cosigner_key
    from privacy.ledger.note import ED25519, VerifierKey

    keys = [VerifierKey.from_text(text) for text in log or ()]
    wrong = [key.name for key in keys if key.algorithm != ED25519]
    if wrong:
        raise InputError(f"the key of {wrong[0]} is a witness's, not a log's; give another --log")
    return LogWitness(
        state,
        key=cosigner_key(name, signer.public),
        sign=signer.sign_note,
        logs={key.name: key for key in keys},
    )


def _local(bundle: Path | None) -> "LocalSource":
    from federation.evidence import bundled_evidence, home_evidence
    from federation.home import open_home
    from federation.registry.local import LocalSource
    from privacy.ledger.bundle import read_bundle

    if bundle is None:
        home = open_home()
        return LocalSource(home_evidence(home), place=str(home.root))
    try:
        data = bundle.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the bundle {bundle}: {error.strerror}") from None
    return LocalSource(bundled_evidence(read_bundle(data)), place=str(bundle))


def _watch(
    watcher: "LogWitness", source: "RegistrySource", every: float | None, *, as_json: bool
) -> None:
    while True:
        try:
            outcomes = watcher.look(source, time_s=int(time.time()))
        except TacitError as error:
            if every is None:
                raise
            typer.echo(f"tacit: {error}", err=True)
        else:
            _tell(watcher, outcomes, as_json=as_json)
            if every is None or any(one.is_accusation for one in outcomes):
                _end(outcomes)
                return
        time.sleep(every)


def _tell(watcher: "LogWitness", outcomes: "Sequence[Outcome]", *, as_json: bool) -> None:
    """Say what was done: one object each time, or lines on standard error."""
    from federation.registry.plain import plain

    if as_json:
        logs = [_facts(one) for one in outcomes]
        print_json({"witness": watcher.key.to_text(), "logs": logs})
        return
    typer.echo(f"Witness {watcher.key.to_text()}", err=True)
    for one in outcomes:
        if one.pinned is not None:
            typer.echo(
                f"{plain(one.origin)}: met for the first time; its key is trusted from now on. "
                f"Compare it with the operator's: {plain(one.pinned.to_text())}",
                err=True,
            )
        sizes = f"{one.old} -> {one.size} entries"
        typer.echo(f"{plain(one.origin)}: {one.state}, {sizes}", err=True)
        if one.reason and one.is_well:
            typer.echo(f"{plain(one.origin)}: {plain(one.reason, most=1000)}", err=True)
        if one.evidence is not None:
            typer.echo(
                f"{plain(one.origin)}: both states are in {one.evidence}; show them", err=True
            )


def _facts(outcome: "Outcome") -> dict[str, Any]:
    return {
        "origin": outcome.origin,
        "state": outcome.state,
        "old": outcome.old,
        "size": outcome.size,
        "pinned": None if outcome.pinned is None else outcome.pinned.to_text(),
        "cosignature": outcome.line,
        "reason": outcome.reason,
        "evidence": None if outcome.evidence is None else str(outcome.evidence),
    }


def _end(outcomes: "Sequence[Outcome]") -> None:
    from federation.registry.plain import plain

    failed = [one for one in outcomes if not one.is_well]
    for one in failed:
        typer.echo(f"tacit: {plain(one.origin)}: {plain(one.reason, most=1000)}", err=True)
    if failed:
        raise typer.Exit(_FAILED)
