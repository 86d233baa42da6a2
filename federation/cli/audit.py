"""`tacit audit`: for whoever checks, with nothing but the standard library and cryptography."""

from pathlib import Path
from typing import Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich

app = typer.Typer(no_args_is_help=True)


@app.command()
def verify(
    ledger: Annotated[
        Path | None, typer.Argument(help="A ledger file; without it, the home's own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole ledger. Exit 0 if it holds what it claims, 1 if it does not."""
    from federation.audit import verify_file, verify_home
    from federation.home import open_home

    verdict = verify_file(ledger) if ledger is not None else verify_home(open_home())
    if as_json:
        print_json(verdict.to_json())
    else:
        print_rich(verdict.sentence())
        costs = verdict.costs()
        if costs is not None:
            print_rich(costs)
