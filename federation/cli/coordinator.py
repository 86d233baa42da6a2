"""`tacit coordinator`: carry a federation's runs, until it is stopped; change the ledger's key."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from federation.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

app = typer.Typer(no_args_is_help=True)

Log = Annotated[
    Literal["text", "json"], typer.Option("--log", help="Lines for people, or one object a line.")
]


@app.callback()
def coordinator() -> None:
    """Carry a federation's runs."""


@app.command()
def start(
    listen: Annotated[
        str, typer.Option("--listen", help="Address of this machine; 0.0.0.0: all of them.")
    ] = "127.0.0.1",
    door: Annotated[
        str | None, typer.Option("--door", help="host:port for joining; port 0: a free one.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", help="host:port for questions, acts and runs.")
    ] = None,
    fleet: Annotated[
        str | None, typer.Option("--fleet", help="host:port for the members' nodes.")
    ] = None,
    operations: Annotated[
        str, typer.Option("--operations", help="host:port of health and figures; none: nowhere.")
    ] = "127.0.0.1:9440",
    witness: Annotated[
        list[str] | None, typer.Option(help="NAME=VKEY: whose cosignatures are kept.")
    ] = None,
    log: Log = "text",
    as_json: AsJson = False,
) -> None:
    """Answer members and carry their runs; SIGTERM or Ctrl-C ends it, and loses no run."""
    import os
    import sys

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    from dataclasses import replace

    from federation.collector import spare_what_is_loaded
    from federation.coordinator_service import Listen, coordinating, facts_of
    from federation.home import open_home
    from federation.operations.logs import log_to

    home = open_home()
    chosen = {
        name: address
        for name, address in (("door", door), ("registry", registry), ("fleet", fleet))
        if address is not None
    }
    where = replace(
        Listen.of(home, listen), operations="" if operations == "none" else operations, **chosen
    )
    log_to(sys.stderr, form=log)
    stopped = _until_stopped()
    with coordinating(home, where, witnesses=tuple(witness or ())) as found:
        facts = facts_of(found)
        spare_what_is_loaded()
        if as_json:
            print_json(facts)
            sys.stdout.flush()
        if log == "text":
            for line in _lines(facts):
                typer.echo(line, err=True)
        stopped()
    if log == "text":
        typer.echo("Ended; runs that were under way go on with the next start.", err=True)


@app.command("rotate-key")
def rotate_key(*, as_json: AsJson = False) -> None:
    """Give the ledger a new key, which the old one signs for; the old one is destroyed.

    Stop the coordinator first. Members have nothing to do.
    """
    from federation.coordinator_key import rotate_key as rotate
    from federation.home import open_home
    from federation.ledger_recorder import now_ms
    from privacy.randomness import system_bytes

    found = rotate(open_home(), entropy=system_bytes, now_ms=now_ms)
    if as_json:
        print_json(
            {
                "origin": found.origin,
                "old": found.old.hex(),
                "key": found.new.hex(),
                "entries": found.entries,
                "finished": found.finished,
            }
        )
        return
    if found.finished:
        typer.echo("A rotation had been cut short; it is finished now, and no other was begun.")
    typer.echo(f"The ledger {found.origin} has another key.")
    typer.echo(f"  before  {found.old.hex()}, destroyed")
    typer.echo(f"  now     {found.new.hex()}, signs from entry {found.entries - 1} on")
    typer.echo(
        "Members have nothing to do: before the next run, their nodes are shown that the old key "
        "signed for the new one."
    )


def _lines(facts: "Mapping[str, object]") -> list[str]:
    lines = [
        f"The coordinator of {facts['federation']} answers; Ctrl-C ends it.",
        f"  joining    {facts['door']}",
        f"  members    {facts['registry']}",
        f"  nodes      {facts['fleet']}",
    ]
    if facts["operations"]:
        lines.append(f"  operations http://{facts['operations']}/health and /metrics")
    resumed = facts["resumed"]
    if isinstance(resumed, list) and resumed:
        lines.append(f"It goes on with {', '.join(resumed)}.")
    return lines


def _until_stopped() -> "Callable[[], None]":
    """Take the signals now, so that none is missed while it starts; what is returned waits."""
    import signal
    import threading

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    def wait() -> None:
        stopped.wait()

    return wait
