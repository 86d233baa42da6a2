"""`tacit data`: describe, check, gate, review. It runs where the rows are, and stays there."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from federation.cli import indicators, review
from federation.cli.output import AsJson, print_json, print_rich
from federation.cli.run import Data
from privacy.errors import DataError, InputError

app = typer.Typer(no_args_is_help=True)
app.command("gate")(review.gate)
app.command("trust")(review.trust)
app.add_typer(review.app, name="review", help="Decide on devices whose rows wait.")

Target = Annotated[
    Path, typer.Argument(help="A data contract (.yaml), or a table (CSV or Parquet) to look at.")
]


@app.command()
def describe(
    target: Target,
    draft: Annotated[
        bool, typer.Option("--draft", help="Write a contract for the table on standard output.")
    ] = False,
    label: Annotated[str | None, typer.Option(help="Draft: the column to learn.")] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Draft: the column that names the unit.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Draft: the time column of telemetry.")] = None,
    task: Annotated[str | None, typer.Option(help="Draft: failure, claims or credit.")] = None,
    exposure: Annotated[
        str | None, typer.Option(help="Draft: the exposure column of counts.")
    ] = None,
    members: Annotated[
        str | None, typer.Option(help="Draft: the column whose values are the members.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a contract promises, or what a table holds; --draft makes a first contract.

    The draft stays here until you hand it on: it holds ranges and levels of your rows, rounded.
    """
    from federation.tables import contract_facts, contract_table, summary_facts, summary_table

    asked = {"--label": label, "--id": id_column, "--time": time, "--task": task}
    asked |= {"--exposure": exposure, "--members": members}
    if not draft and any(given is not None for given in asked.values()):
        names = ", ".join(name for name, given in asked.items() if given is not None)
        raise InputError(f"{names}: is for --draft; give that as well.")
    if draft and target.suffix in {".yaml", ".yml"}:
        raise InputError(f"{target}: is a contract already; --draft makes one of a table.")
    if target.suffix in {".yaml", ".yml"}:
        from clients.contract import load_contract

        contract = load_contract(target)
        if as_json:
            print_json(contract_facts(contract))
        else:
            print_rich(contract_table(contract))
        return
    from clients.describe import describe_table, draft_contract

    if task not in {None, "failure", "claims", "credit"}:
        raise InputError(f"--task {task}: choose failure, claims or credit.")
    summary = describe_table(target)
    if draft:
        name = target.name.split(".")[0]
        text = draft_contract(
            summary,
            name="".join(c if c.isalnum() or c in "_-" else "_" for c in name)[:60] or "table",
            label=label,
            id=id_column,
            time=time,
            task=task,  # type: ignore[arg-type] # held above
            exposure=exposure,
            members=members,
        )
        if as_json:
            print_json({"contract": text})
        else:
            sys.stdout.write(text)
    elif as_json:
        print_json(summary_facts(summary))
    else:
        print_rich(summary_table(summary))


@app.command()
def check(
    contract: Annotated[Path, typer.Argument(help="A data contract (YAML).")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Hold rows against their contract. Exit 1 if they do not keep it."""
    from clients.check import check_data
    from clients.contract import load_contract
    from federation.config import data_root
    from federation.tables import check_facts, check_table

    report = check_data(load_contract(contract), data_root(data))
    if as_json:
        print_json(check_facts(report))
    else:
        print_rich(check_table(report))
    if not report.passed:
        raise DataError(f"{contract}: {report.problems[0]}")


app.add_typer(indicators.app, name="indicators", help="Compute what a person may read of devices.")
app.command("lineage")(indicators.lineage)
