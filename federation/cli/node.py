"""`tacit node`: join a federation, check, start and watch this machine's node, say what it may."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.finite import Finite
from federation.cli.join import join
from federation.cli.output import AsJson, print_json, print_rich, progress_console
from privacy.errors import InputError, TacitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from federation.home import Home
    from federation.node_points.point import Me, Point, Surroundings
    from federation.participant import Place

app = typer.Typer(no_args_is_help=True)
policy_app = typer.Typer(no_args_is_help=True)
app.command("join")(join)
app.add_typer(policy_app, name="policy", help="What this node agrees to.")

_FAILED = 1
_DEADLINE_S = 10.0
_LEFT_S = 15.0
_LOOKED_S = 0.2
Run = Annotated[str, typer.Argument(help="A run that waits: its id, a unique part, or its digest.")]
PolicyPath = Annotated[Path, typer.Argument(metavar="FILE", help="A policy (YAML).")]


class LogForm(StrEnum):
    """How a log's lines are written."""

    TEXT = "text"
    JSON = "json"


@app.command()
def start(
    contract: Annotated[
        list[Path] | None,
        typer.Option("--contract", help="A data contract that the rows here keep; remembered."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Where the rows of each --contract are; remembered."),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option("--forget", help="Name of a contract to take part with no more."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu or cuda; remembered.")
    ] = None,
    log: Annotated[
        LogForm | None,
        typer.Option("--log", help="Write a log on standard error; else a terminal is told."),
    ] = None,
    operations: Annotated[
        str,
        typer.Option("--operations", help="host:port of health and figures; none: nowhere."),
    ] = "none",
) -> None:
    """Take part in runs that this node agrees to, until it is stopped. Connects outwards only."""
    import os
    import signal
    import threading

    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from federation.home import open_home
    from federation.node_service import alone, make_service, real_outside
    from federation.participant import load_participant

    home = open_home()
    place = load_participant(home)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with alone(home.own_node):
        remember(home, contract or [], data or [], forget or [], device)
        say = _voice(home, log)
        service = make_service(home, real_outside(), say=say)
        say(
            f"{place.name} ({place.role.value}) of {place.federation}: "
            f"data {', '.join(service.desk.contracts)}; connecting to {place.fleet}"
        )
        with service.answering_operator(operations) as address:
            if address:
                say(f"health and figures are at http://{address}/health and /metrics")
            service.run(stop)
    sys.stderr.flush()
    # all is on disk; what trains still is asked for again when the node is started again
    os._exit(0)


@app.command()
def check(
    data: Annotated[
        bool, typer.Option("--data/--no-data", help="Also hold rows against their contract.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong before it matters, and what to do. Exit 1 if anything failed."""
    _quiet()
    from federation.home import open_home
    from federation.node_check import check_node
    from federation.node_points.point import failed

    points: list[Point] = []
    found: Iterator[Point] = check_node(open_home(), _surroundings, data=data)
    for point in found:
        points.append(point)
        if not as_json:
            _print_point(point)
    if as_json:
        print_json({"passed": not failed(points), "points": [point.to_json() for point in points]})
    if failed(points):
        raise typer.Exit(_FAILED)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show who this node is, whether it works, its runs, budgets and what waits."""
    _quiet()
    from federation.home import open_home
    from federation.node_status import node_status, status_page

    found = node_status(open_home(), _me, now=datetime.now(UTC))
    if as_json:
        print_json(found.facts)
    else:
        print_rich(status_page(found))


@app.command()
def pending(as_json: AsJson = False) -> None:
    """List runs that wait, for a person or for their time."""
    from federation.decisions import waiting
    from federation.home import open_home
    from federation.node_status import let_in, pending_table, unasked
    from federation.participant import load_participant
    from federation.roster import cached_membership

    home = open_home()
    found = waiting(home.own_node)
    membership = cached_membership(load_participant(home)) if found else None
    now_ms = time.time_ns() // 1_000_000
    if as_json:
        told = [
            {
                **one.to_json(),
                "let_in": let_in(one.members, membership),
                "unasked": unasked(one, now_ms),
            }
            for one in found
        ]
        print_json({"pending": told})
    else:
        print_rich(pending_table(found, membership, now_ms=now_ms))


@app.command()
def approve(run: Run, as_json: AsJson = False) -> None:
    """Let this node take part in a run that waits for a person. It stands on record."""
    _decide(run, approved=True, reason="", as_json=as_json)


@app.command()
def refuse(
    run: Run,
    reason: Annotated[str, typer.Option("--reason", help="Why; its launcher reads it.")],
    as_json: AsJson = False,
) -> None:
    """Let this node not take part in a run that waits for a person. It stands on record."""
    _decide(run, approved=False, reason=reason, as_json=as_json)


@app.command()
def leave(
    run: Annotated[str, typer.Argument(help="A run under way: its id, a unique part, its digest.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; its coordinator reads it.")],
    as_json: AsJson = False,
) -> None:
    """Leave a run for good: its keys are deleted here, and what it did not spend is free again."""
    from clients.session_file import leave_run
    from federation.home import open_home
    from federation.leaving import ask_to_leave, checked_reason, find_under_way, take_leaves
    from federation.node_service import alone, is_running, open_ledger
    from federation.participant import load_participant

    home = open_home()
    place, folder = load_participant(home), home.own_node
    why = checked_reason(reason)
    ledger = open_ledger(folder, place.identity(), owner=place.name)
    found = find_under_way(ledger, run)
    asked = ask_to_leave(folder, found, why)
    if not is_running(folder):
        with alone(folder):
            take_leaves(folder, lambda digest, said: leave_run(folder, ledger, digest, said))
    until_s = time.monotonic() + _LEFT_S
    while asked.exists() and time.monotonic() < until_s:
        time.sleep(_LOOKED_S)
    left = not asked.exists()
    if as_json:
        print_json({"run": found.run, "manifest": found.digest.hex(), "left": left})
    elif left:
        typer.echo(f"{found.run or found.digest.hex()} is left; its keys are deleted here.")
    else:
        typer.echo("The node is busy, and leaves it as soon as it looks; see tacit node status.")


class KeySource(StrEnum):
    """Where the key of a node's vault comes from."""

    FILE = "file"
    PASSPHRASE = "passphrase"  # noqa: S105 - a kind of key
    COMMAND = "command"


@app.command()
def rekey(
    key: Annotated[
        KeySource, typer.Option("--key", help="Where the new key comes from.")
    ] = KeySource.FILE,
    passphrase: Annotated[
        str,
        typer.Option(
            "--passphrase",
            help="Where it is read: terminal, file:PATH, descriptor:NUMBER, credential:NAME.",
        ),
    ] = "terminal",  # noqa: S107 - a place, no passphrase
    command: Annotated[
        list[str] | None,
        typer.Option("--command", help="A key service's program; again for each argument."),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout", click_type=Finite(0.1, 600), help="Seconds for one of its answers."
        ),
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Seal all that this node keeps under a new key. If it is cut short, run it again."""
    from clients.passphrase import parse_place
    from clients.rekey import new_file_source, rekey
    from clients.vault_folder import SALT_BYTES, CommandSource, PassphraseSource, Source
    from federation.home import open_home
    from federation.node_service import alone
    from privacy.randomness import system_bytes

    if (command is not None) != (key is KeySource.COMMAND):
        raise InputError("--command and --key command belong together; give both.")
    if passphrase != "terminal" and key is not KeySource.PASSPHRASE:  # noqa: S105 - a place
        raise InputError("--passphrase and --key passphrase belong together; give both.")
    source: Source = new_file_source(system_bytes)
    if key is KeySource.PASSPHRASE:
        place, salt = parse_place(passphrase), system_bytes(SALT_BYTES)
        source = PassphraseSource(salt=salt.hex(), place=place)
    elif command is not None:
        source = CommandSource(command=tuple(command), timeout_s=timeout_s)
    folder = open_home().own_node
    with alone(folder):
        done = rekey(folder, source, system_bytes)
    if as_json:
        print_json({"files": done.files, "key": done.kind, "went_on": done.went_on})
        return
    if done.went_on:
        typer.echo("A rekey that was cut short is finished, with the key that it was begun with.")
    sealed = "1 file is" if done.files == 1 else f"{done.files} files are"
    typer.echo(f"{sealed} sealed under a new key (from a {done.kind}).")
    if done.kind == "file":
        typer.echo("Keep a copy of the new key file elsewhere; copies of the old one open no more.")


@policy_app.command("show")
def show_policy(as_json: AsJson = False) -> None:
    """Show the terms in this node's file, every key with what holds for it."""
    from federation.home import open_home
    from federation.node_policy import FILE, policy_text, read_terms, remarks

    path = open_home().own_node / FILE
    policy, sha256 = read_terms(path)
    where = str(path) if path.exists() else "the usual terms; there is no file yet"
    if as_json:
        print_json(
            {
                "path": str(path),
                "exists": path.exists(),
                "sha256": sha256,
                "policy": json.loads(policy.model_dump_json(by_alias=True)),
                "remarks": remarks(policy),
            }
        )
        return
    sys.stdout.write(f"# {where} (sha256 {sha256[:16]})\n{policy_text(policy)}")
    _remark(remarks(policy))


@policy_app.command("check")
def check_policy(file: PolicyPath, as_json: AsJson = False) -> None:
    """Say whether a policy can be used, and what it leaves open. Nothing is changed."""
    from federation.node_policy import read_terms, remarks

    if not file.exists():
        raise InputError(f"{file}: no such file; check the path.")
    policy, sha256 = read_terms(file)
    if as_json:
        print_json({"passed": True, "sha256": sha256, "remarks": remarks(policy)})
        return
    typer.echo(f"{file} can be used (sha256 {sha256[:16]}).")
    _remark(remarks(policy))


@policy_app.command("set")
def set_policy(file: PolicyPath, as_json: AsJson = False) -> None:
    """Put a policy in force; a running node takes it over within seconds, without a restart."""
    from federation.home import open_home
    from federation.node_points.budgets import budget_points
    from federation.node_policy import FILE, read_terms, set_terms
    from federation.participant import load_participant

    home = open_home()
    sha256, left_open = set_terms(home.own_node, file)
    policy, _ = read_terms(home.own_node / FILE)
    with suppress(TacitError):  # who is in no federation yet has begun no budget
        name = load_participant(home).name
        left_open += [one.found for one in budget_points(home.own_node, name, policy)]
    if as_json:
        print_json({"sha256": sha256, "remarks": left_open})
        return
    typer.echo(f"{file} is this node's policy now (sha256 {sha256[:16]}).")
    _remark(left_open)


def remember(
    home: "Home", contracts: list[Path], data: list[Path], forget: list[str], device: str | None
) -> None:
    """Keep what the options say for later starts.

    Raises:
        InputError: They do not fit, or nothing is left.
    """
    from dataclasses import replace

    from federation.node_data import NodeData, paired

    kept = NodeData.read(home.own_node)
    new = kept
    for name in forget:
        new = new.forget(name)
    if contracts or data:
        for contract, root in paired(contracts, data):
            new = new.add(contract, root)
    if device is not None:
        if device not in {"auto", "cpu", "cuda"}:
            raise InputError(f"--device {device}: choose auto, cpu or cuda.")
        new = replace(new, device=device)  # type: ignore[arg-type] # held above
    if new != kept:
        new.keep(home.own_node)


def _decide(run: str, *, approved: bool, reason: str, as_json: bool) -> None:
    from federation.decisions import decide, find_waiting
    from federation.home import open_home
    from federation.node_service import open_ledger
    from federation.node_status import unasked
    from federation.participant import load_participant

    home = open_home()
    place = load_participant(home)
    asked = find_waiting(home.own_node, run)
    ledger = open_ledger(home.own_node, place.identity(), owner=place.name)
    now_ms = time.time_ns() // 1_000_000
    decide(home.own_node, ledger, asked, approved=approved, reason=reason, now_ms=now_ms)
    late = unasked(asked, now_ms)
    word = "approved" if approved else "refused"
    if as_json:
        told = {"run": asked.run, "manifest": asked.manifest, "decision": word, "unasked": late}
        print_json(told)
    else:
        also = f" But {late}." if late else ""
        typer.echo(f"{asked.run} is {word}, and stands so in this node's ledger.{also}")


def _voice(home: "Home", log: LogForm | None) -> Callable[[str], None]:
    """How the node tells what happens: a terminal is told, a service's manager gets a log."""
    import logging

    from federation.operations.logs import log_to
    from federation.registry.plain import plain

    said = logging.getLogger("tacit.node")
    if log is not None or not sys.stderr.isatty():
        log_to(sys.stderr, form="json" if log is LogForm.JSON else "text")
        return lambda sentence: said.info("%s", sentence)
    # beside the sentences for a person, the log is kept in the node's folder
    log_to((home.own_node / "node.log").open("a", encoding="utf-8"), form="text")
    console = progress_console()

    def show(sentence: str) -> None:
        # as it is: no name in it is markup
        line = f"{datetime.now().astimezone():%H:%M:%S}  {plain(sentence, most=1000)}"
        console.print(line, highlight=False, markup=False)

    class Refusals(logging.Handler):
        """Shows what the node refused, too."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith("tacit.node."):
                show(record.getMessage())

    said.addHandler(Refusals(logging.INFO))

    def say(sentence: str) -> None:
        said.info("%s", sentence)
        show(sentence)

    return say


def _surroundings(place: "Place") -> "Surroundings":
    from federation.node_points.point import Surroundings
    from federation.node_service import real_outside

    outside = real_outside()
    return Surroundings(me=lambda: _me(place), membership=lambda: outside.read(place))


def _me(place: "Place") -> "Me":
    from federation.members.client import MembersClient

    with MembersClient(place.registry, place.credentials(), deadline_s=_DEADLINE_S) as client:
        return client.me()


def _print_point(point: "Point") -> None:
    from rich.text import Text

    style = {"ok": "green", "warning": "yellow", "failed": "bold red"}[point.level]
    line = Text.assemble((f"{point.level:8}", style), f"{point.name}: {point.found}")
    print_rich(line)
    if point.remedy and point.level != "ok":
        print_rich(Text(f"        {point.remedy}"))


def _remark(sentences: list[str]) -> None:
    for sentence in sentences:
        typer.echo(sentence, err=True)


def _quiet() -> None:
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
