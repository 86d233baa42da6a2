"""`tacit audit`: for whoever checks, with nothing but the standard library and cryptography."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from federation.cli import serve, witness
from federation.cli.output import AsJson, print_json, print_rich
from federation.cli.registry import (
    Address,
    OwnAuthority,
    OwnCertificate,
    OwnKey,
    ServerName,
    own_end,
    quiet_grpc,
)
from privacy.errors import NotVerifiedError

app = typer.Typer(no_args_is_help=True)


@contextmanager
def _told(*, as_json: bool) -> Iterator[None]:
    """Tell a program too what does not hold; the sentence goes where all do."""
    try:
        yield
    except NotVerifiedError as failure:
        if as_json:
            from federation.audit import failure_facts

            print_json(failure_facts(failure))
        raise


app.command("serve")(serve.serve)
app.command("witness")(witness.witness)


@app.command()
def verify(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A bundle, several that belong together, or a proof of one entry; without any, "
            "this home's ledgers."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", help="Whom you trust (C2SP tlog-policy); else the bundle says."),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option("--rules", help="Rules to hold runs against: baseline, finance_cn or a file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check everything on record, step by step, and hold the runs against rules.

    Exit 0 if it holds what it claims, 1 if not, or if a rule that refuses is broken. With --json,
    what does not hold is told as {"verified": false, "step": 1 to 10 or null, "message": ...}.
    """
    from federation.audit import (
        is_proof,
        own_place,
        verify_files,
        verify_home,
        verify_proof_file,
    )
    from federation.home import open_home

    if bundles and is_proof(bundles[0]):
        with _told(as_json=as_json):
            shown = verify_proof_file(bundles[0], policy=policy)
        if as_json:
            print_json(shown.to_json())
        else:
            print_rich(shown.sentence())
        return
    home = open_home()
    place = own_place(home)
    with _told(as_json=as_json):
        if bundles:
            audit = verify_files(bundles, policy=policy, rules=rules, place=place)
        else:
            audit = verify_home(home, policy=policy, rules=rules)
    if place is not None:
        audit = replace(audit, known_founder=place.founder_key.hex())
    if as_json:
        print_json(audit.to_json())
    else:
        print_rich(audit.page())
    audit.require_lawful()


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    as_json: AsJson = False,
) -> None:
    """Write all ledgers, proofs, signed states and keys of this home to one file."""
    from federation.audit import export_home, export_sentence
    from federation.home import open_home

    bundle = export_home(open_home(), out)
    if as_json:
        leaves = {log.origin: len(log.leaves) for log in bundle.logs}
        print_json({"bundle": str(out), "made_ms": bundle.made_ms, "leaves": leaves})
    else:
        print_rich(export_sentence(bundle, out))


@app.command()
def fetch(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="Whom you trust (C2SP tlog-policy); else the ledger that the invitation named.",
        ),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option("--rules", help="Rules to hold runs against: baseline, finance_cn or a file."),
    ] = None,
    registry_at: Address = None,
    cert: OwnCertificate = None,
    key: OwnKey = None,
    ca: OwnAuthority = None,
    server_name: ServerName = None,
    as_json: AsJson = False,
) -> None:
    """Download the coordinator's ledger as a bundle, and verify it before anything is believed.

    For regulators. Exit 0 if it holds, 1 if not, or if a rule that refuses is broken.
    """
    quiet_grpc()
    from federation.audit import export_sentence, read_policy
    from federation.fetching import fetch as download
    from federation.fetching import require_auditor
    from federation.home import open_home
    from federation.registry.client import RegistryClient

    home = open_home()
    end = own_end(home, registry_at, cert, key, ca)
    require_auditor(end.credentials.peer.role)
    with (
        _told(as_json=as_json),
        RegistryClient(end.address, end.credentials, server_name=server_name) as client,
    ):
        found = download(client, out, place=end.place, policy=read_policy(policy), rules=rules)
    known = "" if end.place is None else end.place.founder_key.hex()
    audit = replace(found.audit, known_founder=known)
    if as_json:
        print_json({"bundle": str(out), "unsigned": found.unsigned, **audit.to_json()})
    else:
        print_rich(audit.page())
        if found.unsigned:
            print_rich(
                f"The newest {found.unsigned} entries are in no state that the coordinator signed "
                "yet; fetch again after the next run, for a file that holds by itself."
            )
        print_rich(export_sentence(found.bundle, out))
    audit.require_lawful()


@app.command()
def merge(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    bundles: Annotated[
        list[Path], typer.Argument(help="What the coordinator and members exported.")
    ],
    as_json: AsJson = False,
) -> None:
    """Put what several machines exported into one bundle, for whoever verifies one file."""
    from federation.audit import export_sentence, write_merged

    bundle = write_merged(bundles, out)
    if as_json:
        leaves = {log.origin: len(log.leaves) for log in bundle.logs}
        print_json({"bundle": str(out), "made_ms": bundle.made_ms, "leaves": leaves})
    else:
        print_rich(export_sentence(bundle, out))


@app.command()
def prove(
    entry: Annotated[int, typer.Argument(min=0, help="The entry's number.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    ledger: Annotated[
        str, typer.Option("--ledger", help="Whose: coordinator, or a member's name.")
    ] = "coordinator",
    as_json: AsJson = False,
) -> None:
    """Write one entry with the proof that it is on record (C2SP tlog-proof), and nothing else."""
    from federation.audit import prove_entry
    from federation.home import open_home

    shown = prove_entry(open_home(), entry, out, owner=ledger)
    if as_json:
        print_json({"proof": str(out), **shown.to_json()})
    else:
        print_rich(f"{out}: {shown.sentence()}")
