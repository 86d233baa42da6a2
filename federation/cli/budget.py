"""`tacit budget`: what the nodes here have spent. It reads; only a node itself spends."""

import time

import typer

from federation.cli.output import AsJson, print_json, print_rich

app = typer.Typer(no_args_is_help=True)
_BROKEN = 1


@app.callback()
def _verbs() -> None:
    """Keep `show` a verb, although it is the only one."""


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show what each member's data has spent. Exit 1 if a budget's file is broken."""
    from federation.budget import budget_facts, budget_table, read_budgets
    from federation.home import open_home

    home = open_home()
    budgets = read_budgets(home, now_ms=time.time_ns() // 1_000_000)
    if as_json:
        print_json(budget_facts(budgets))
    elif any(one.statements for one in budgets):
        print_rich(budget_table(budgets))
    elif not budgets:
        print_rich(f"No budgets in {home.root}: no node here has released anything yet.")
    faults = [one.fault for one in budgets if one.fault]
    for fault in faults:
        typer.echo(f"tacit: {fault}", err=True)
    if faults:
        raise typer.Exit(_BROKEN)
