"""`tacit scenario`: worked examples, from generated readings to terms."""

from pathlib import Path
from typing import Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich

app = typer.Typer(no_args_is_help=True)
_QUICK = 300


@app.command("list")
def list_packs(as_json: AsJson = False) -> None:
    """List the scenarios."""
    from federation.scenarios.pack_list import PACKS

    if as_json:
        print_json({"scenarios": {name: pack.about for name, pack in PACKS.items()}})
    else:
        for name, pack in PACKS.items():
            print_rich(f"{name}: {pack.about}")


@app.command()
def show(name: str, as_json: AsJson = False) -> None:
    """Say what a scenario's mechanism is."""
    from federation.scenarios.pack_list import pack_folder

    folder = pack_folder(name)
    text = (folder / "README.md").read_text(encoding="utf-8")
    if as_json:
        print_json({"scenario": name, "folder": str(folder), "text": text})
    else:
        typer.echo(text)


@app.command()
def run(
    name: str,
    out: Annotated[Path, typer.Option("--out", help="A new folder for all that is made.")],
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the leases.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw effect, grades, limits, premiums (.png, .svg, .pdf)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Generate, compute indicators, train, score, and fold into terms."""
    from rich.table import Table

    from federation.scenarios.pack import LEASES, run_pack

    report = run_pack(name, out, seed=seed, leases=_QUICK if quick else LEASES, plot=plot)
    if as_json:
        print_json(report)
        return
    table = Table(title=f"{name}: {report['leases']} units, label total {report['events']}")
    for column in ("what", "value"):
        table.add_column(column)
    if report["effect"] is not None:
        less = f"chance of default with {100 * report['less_downtime']:g} points less downtime"
        for key, what in (("model", "model"), ("true", "mechanism")):
            low, high = (100 * one for one in report["effect"][f"{key}_interval"])
            said = f"{100 * report['effect'][key]:+.2f} points ({low:+.2f} to {high:+.2f})"
            table.add_row(f"{less}: {what}", said)
    for one in report["acts"]:
        table.add_row(f"acts: {one['what']}", str(one["times"]))
    for key, times in report["grades"].items():
        table.add_row(f"grades: {key.replace('_', ' ')}", str(times))
    print_rich(table)
