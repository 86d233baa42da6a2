"""`tacit run`: plan, launch, list, show."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federation.cli.output import AsJson, print_json, print_rich, progress_console
from privacy.errors import InputError

if TYPE_CHECKING:
    from federation.config import Project
    from federation.home import Home

app = typer.Typer(no_args_is_help=True)

Config = Annotated[Path, typer.Argument(help="A run config (YAML); see configs/.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder; else $TACIT_DATA, else ../shared/data."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of the initial model.")]
Rules = Annotated[
    str | None,
    typer.Option("--rules", help="Rules to hold it against: baseline, finance_cn or a file."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]


@app.command()
def plan(
    config: Config,
    data: Data = None,
    seed: Seed = 0,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="Find the noise for it, whatever is asked.")
    ] = None,
    multiplier: Annotated[
        float | None, typer.Option("--multiplier", help="Find the epsilon of such noise.")
    ] = None,
    only_privacy: Annotated[
        bool, typer.Option("--privacy", help="Only noise and epsilon; no row is read.")
    ] = False,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run would cost and who would refuse, before anything runs."""
    from federation.compliance import load_rules
    from federation.config import data_root, load_project, with_wish
    from federation.home import open_home
    from federation.plan import plan_privacy, plan_run, plan_table, privacy_lines

    project = with_wish(load_project(config), epsilon=epsilon, multiplier=multiplier)
    if only_privacy:
        privacy = plan_privacy(project)
        if as_json:
            print_json({"name": project.config.name, "privacy": privacy})
        else:
            print_rich("\n".join(privacy_lines(privacy)))
        return
    home = open_home()
    report = plan_run(
        project,
        data_root(data),
        home,
        seed=seed,
        rules=load_rules(rules, home=home.root),
        at=datetime.now(UTC),
    )
    if as_json:
        print_json(report)
    else:
        print_rich(plan_table(report))


@app.command()
def launch(
    config: Config,
    local: Annotated[
        bool, typer.Option("--local", help="Run all members' nodes on this machine.")
    ] = False,
    data: Data = None,
    seed: Seed = 0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also train each member alone, and all pooled.")
    ] = False,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; default: one a core.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="Nodes of this launch also permit such sums: clear, ckks."),
    ] = None,
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Train a model together."""
    if not local:
        raise InputError("This version launches on one machine only; add --local.")
    if device not in {"auto", "cpu", "cuda"}:
        raise InputError(f"--device {device}: choose auto, cpu or cuda.")
    from federation.compliance import load_rules
    from federation.config import data_root, load_project
    from federation.home import open_home
    from federation.launch import LaunchOptions
    from privacy.secure_sum.schemes import SCHEMES, scheme_of

    for name in allow or ():
        if name not in SCHEMES:
            raise InputError(f"--allow {name}: choose one of {', '.join(SCHEMES)}.")
    project = load_project(config)
    home = open_home()
    options = LaunchOptions(
        data_root=data_root(data),
        seed=seed,
        baselines=baselines,
        workers=workers,
        device=device,
        allowed=tuple(scheme_of(name).name for name in allow or ()),
        rules=load_rules(rules, home=home.root),
    )
    result = launch_shown(project, home, options)
    if as_json:
        print_json(result)
    else:
        from federation.report import summary

        print_rich(summary(result))


def launch_shown(project: "Project", home: "Home", options: Any) -> dict[str, Any]:  # noqa: ANN401 - a LaunchOptions, imported late
    """Launch with progress on standard error, and draw the curve."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from clients.targets import tally_kind
    from federation.cli.progress import LaunchProgress
    from federation.launch import launch_local
    from federation.record import read_rounds
    from federation.report import plot_curve
    from privacy.tally import HEADLINE

    headline = HEADLINE[tally_kind(project.contract)][0]
    with LaunchProgress(progress_console(), headline) as progress:
        result = launch_local(project, home, options, progress)
    folder = home.runs / result["run"]
    plot_curve(read_rounds(folder), headline, folder / "curve.png")
    return result


@app.command("list")
def list_runs(
    as_json: AsJson = False,
) -> None:
    """List the runs of this home."""
    from federation.history import history, history_table
    from federation.home import open_home

    home = open_home()
    runs = history(home)
    if as_json:
        print_json({"home": str(home.root), "runs": runs})
    else:
        print_rich(history_table(home, runs))


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run id, a unique part of one, or: last.")] = "last",
    as_json: AsJson = False,
) -> None:
    """Show one run: result, members, learning curve."""
    from federation.history import run_page, run_record
    from federation.home import open_home

    record = run_record(open_home(), run)
    if as_json:
        print_json(record)
    else:
        print_rich(run_page(record))
