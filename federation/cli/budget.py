"""`tacit budget`: what the nodes here have spent. It reads; only a node itself spends."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich

if TYPE_CHECKING:
    from federation.home import Home

app = typer.Typer(no_args_is_help=True)
_BROKEN = 1

Member = Annotated[str | None, typer.Option("--member", help="Of this member alone.")]
Dataset = Annotated[str | None, typer.Option("--dataset", help="Of this data set alone.")]


@app.command()
def show(
    federation: Annotated[
        bool,
        typer.Option(
            "--federation",
            help="Of all members, from the record of this machine's federation, over the network.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each member's data has spent. Exit 1 if a node's ledger is broken."""
    if federation:
        _show_federation(as_json=as_json)
        return
    from federation.budget import budget_facts, budget_table, read_budgets
    from federation.home import open_home

    home = open_home()
    budgets = read_budgets(home, now_ms=_now_ms())
    faults = [one.fault for one in budgets if one.fault]
    if as_json:
        print_json(budget_facts(budgets))
    elif any(one.statements for one in budgets):
        print_rich(budget_table(budgets))
    elif not faults:
        print_rich(_nothing(home))
    _end_with(faults)


@app.command()
def history(member: Member = None, dataset: Dataset = None, as_json: AsJson = False) -> None:
    """Show which run took what, and when caps will be reached. Exit 1 if a ledger is broken."""
    from federation.budget import chosen, history_facts, history_table, read_histories
    from federation.home import open_home

    home, now_ms = open_home(), _now_ms()
    found = read_histories(home, now_ms=now_ms)
    histories = chosen(found, member=member, dataset=dataset)
    faults = [one.fault for one in found if one.fault]
    if as_json:
        print_json(history_facts(histories, found, now_ms=now_ms))
    elif histories:
        print_rich(history_table(histories, now_ms=now_ms))
    elif not faults:
        print_rich(f"No budgets in {home.root}: no node here has released anything yet.")
    _end_with(faults)


@app.command()
def plot(
    out: Annotated[Path, typer.Option("-o", "--out", help="The file: .png, .svg or .pdf.")] = Path(
        "budget.png"
    ),
    member: Member = None,
    dataset: Dataset = None,
) -> None:
    """Draw what was spent over time, with caps and runs. Exit 1 if a ledger is broken."""
    from federation.budget import chosen, read_histories
    from federation.budget_plot import draw, format_of
    from federation.home import open_home, write_bytes

    home, now_ms = open_home(), _now_ms()
    form = format_of(out)
    found = read_histories(home, now_ms=now_ms)
    histories = chosen(found, member=member, dataset=dataset)
    faults = [one.fault for one in found if one.fault]
    if histories:
        write_bytes(out, draw(histories, form=form))
        members = len({one.terms.member for one in histories})
        typer.echo(f"{out}: what {members} member{'s'[: members != 1]} spent over time.")
    elif not faults:
        print_rich(f"No budgets in {home.root}: no node here has released anything yet.")
    _end_with(faults)


def _show_federation(*, as_json: bool) -> None:
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
    from federation.home import open_home
    from federation.network_budget import (
        federation_facts,
        federation_table,
        read_federation_budgets,
    )
    from federation.runs.reach import reached

    with reached(open_home()) as reach:
        found = read_federation_budgets(reach)
    if as_json:
        print_json(federation_facts(found))
    else:
        print_rich(federation_table(found))


def _nothing(home: "Home") -> str:
    said = f"No budgets in {home.root}: no node here has released anything yet."
    if (home.participant / "federation.json").exists():
        said += " Those of the federation's members: tacit budget show --federation."
    return said


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _end_with(faults: Iterable[str]) -> None:
    """Say what is broken, and exit with 1 if anything is."""
    broken = False
    for fault in faults:
        typer.echo(f"tacit: {fault}", err=True)
        broken = True
    if broken:
        raise typer.Exit(_BROKEN)
