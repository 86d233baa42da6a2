"""`tacit run`: plan, launch, list, show, watch, stop, resume."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from federation.cli.finite import Finite
from federation.cli.output import AsJson, print_json, print_rich, progress_console
from privacy.errors import InputError, TacitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from federation.config import Project
    from federation.home import Home
    from federation.network_launch import NetworkOptions
    from federation.runs.event import Told
    from federation.runs.facts import RunFacts

app = typer.Typer(no_args_is_help=True)
ENGINES: "dict[str, Literal['embedded', 'ray']]" = {"embedded": "embedded", "ray": "ray"}

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
        float | None,
        typer.Option(
            "--epsilon", click_type=Finite(), help="Find the noise for it, whatever is asked."
        ),
    ] = None,
    multiplier: Annotated[
        float | None,
        typer.Option("--multiplier", click_type=Finite(), help="Find the epsilon of such noise."),
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
    from federation.participant import FEDERATION, load_participant
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
    joined = (home.participant / FEDERATION).exists()
    report = plan_run(
        project,
        data_root(data),
        home,
        seed=seed,
        rules=load_rules(rules, home=home.root),
        at=datetime.now(UTC),
        own=load_participant(home).name if joined else None,
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
    name: Annotated[
        str | None, typer.Option("--name", help="Of the run; default: the config's, with the time.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for its end; see tacit run watch.")
    ] = False,
    data: Data = None,
    seed: Seed = 0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also train each member alone (with --local).")
    ] = False,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; default: one a core.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="Nodes of this launch also permit such sums: clear, ckks."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option("--engine", help="With --local: embedded, or ray (Flower's simulation)."),
    ] = "embedded",
    rules: Rules = None,
    as_json: AsJson = False,
) -> None:
    """Train a model together, with the members of this machine's federation or with --local."""
    from federation.compliance import load_rules
    from federation.config import load_project
    from federation.home import open_home

    home = open_home()
    if not local:
        given = device if device != "auto" else None
        chosen = engine if engine != "embedded" else None
        _require_for_network((data, baselines or None, given, chosen, workers, allow))
        if not home.participant.is_dir():
            raise InputError(
                "this machine is in no federation yet; join one with tacit node join and the "
                "invitation, or add --local to run all members' nodes here"
            )
        from federation.network_launch import NetworkOptions

        project = load_project(config)
        found = load_rules(rules, home=home.root)
        _launch_over_network(
            project,
            home,
            NetworkOptions(name=name, seed=seed, detach=detach, rules=found),
            as_json=as_json,
        )
        return
    if name is not None or detach:
        raise InputError(
            "--name and --detach are for launches over the network; leave out --local."
        )
    if device not in {"auto", "cpu", "cuda"}:
        raise InputError(f"--device {device}: choose auto, cpu or cuda.")
    if engine not in ENGINES:
        raise InputError(f"--engine {engine}: choose {' or '.join(ENGINES)}.")
    from federation.config import data_root
    from federation.launch import LaunchOptions
    from privacy.secure_sum.schemes import SCHEMES, scheme_of

    for one in allow or ():
        if one not in SCHEMES:
            raise InputError(f"--allow {one}: choose one of {', '.join(SCHEMES)}.")
    project = load_project(config)
    options = LaunchOptions(
        data_root=data_root(data),
        seed=seed,
        baselines=baselines,
        workers=workers,
        device=device,
        allowed=tuple(scheme_of(one).name for one in allow or ()),
        rules=load_rules(rules, home=home.root),
        engine=ENGINES[engine],
    )
    result = launch_shown(project, home, options)
    if as_json:
        print_json(result)
    else:
        from federation.report import summary

        print_rich(summary(result))


def _require_for_network(asked: "Sequence[object | None]") -> None:
    names = ("--data", "--baselines", "--device", "--engine", "--workers", "--allow")
    for name, value in zip(names, asked, strict=True):
        if value is not None:
            raise InputError(f"{name} is for launches on this machine alone; add --local.")


def _launch_over_network(
    project: "Project",
    home: "Home",
    options: "NetworkOptions",
    *,
    as_json: bool,
) -> None:
    _quiet()
    from clients.targets import tally_kind
    from federation.cli.progress import NetworkProgress
    from federation.network_launch import launch_network
    from federation.runs.reach import reached
    from privacy.tally import HEADLINE

    headline = HEADLINE[tally_kind(project.contract)][0]
    with reached(home) as reach, NetworkProgress(progress_console(), headline) as progress:
        result = launch_network(project, home, options, reach, progress)
    if options.detach:
        _print_detached(result, as_json=as_json)
    else:
        _print_result(home, result, as_json=as_json)


def _print_detached(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    run = result["run"]
    print_rich(f"{run} is launched. Watch it with: tacit run watch {run}")


def _print_result(home: "Home", result: dict[str, Any], *, as_json: bool) -> None:
    from federation.record import read_rounds
    from federation.report import plot_curve

    folder = home.runs / result["run"]
    plot_curve(read_rounds(folder), result["headline"], folder / "curve.png")
    if as_json:
        print_json(result)
        return
    from federation.report import summary
    from federation.runs.pages import answers_table

    answers = {name: (one["answer"], one["reason"]) for name, one in result["answers"].items()}
    if answers:
        print_rich(answers_table(answers))
    shown = dict(result)
    shown["model"] = result["model"] or "the nodes of the members hold it"
    shown["card"] = result["card"] or "is made where a node of the launcher's was in the run"
    print_rich(summary(shown))


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
    """List the runs of this home, and those of its federation."""
    from federation.history import history, history_table
    from federation.home import open_home

    home = open_home()
    federation, unreached = _federation_runs(home)
    # a coordinator keeps its federation's runs in its home, where launches with --local are too
    others = {one.run for one in federation[1]} if federation and home.authority.is_dir() else set()
    kept = [one for one in history(home) if one["run"] not in others]
    if as_json:
        print_json(
            {
                "home": str(home.root),
                "runs": kept,
                **({} if federation is None else {"federation": federation[2]}),
                **({"unreached": unreached} if unreached else {}),
            }
        )
        return
    if kept or federation is None:
        print_rich(history_table(home, kept))
    if federation is not None:
        from federation.runs.pages import runs_table

        print_rich(runs_table(federation[0], federation[1]))
    if unreached:
        typer.echo(f"tacit: {unreached}", err=True)


def _federation_runs(
    home: "Home",
) -> "tuple[tuple[str, Sequence[RunFacts], list[dict[str, Any]]] | None, str]":
    """Title, runs and facts of the federation's runs, if there is one; and why they are unknown."""
    if home.authority.is_dir():
        from federation.runs.facts import home_facts

        found = home_facts(home)
        return (f"runs of the federation, by {home.root}", found, _facts(found)), ""
    if not home.participant.is_dir():
        return None, ""
    _quiet()
    from federation.runs.reach import reached

    try:
        with reached(home) as reach:
            told = reach.runs.runs()
            title = f"runs of {reach.place.federation}, by {reach.place.registry}"
    except TacitError as failure:
        return None, str(failure)
    return (title, told, _facts(told)), ""


def _facts(runs: "Sequence[RunFacts]") -> list[dict[str, Any]]:
    return [one.to_json() for one in runs]


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run id, a unique part of one, or: last.")] = "last",
    as_json: AsJson = False,
) -> None:
    """Show one run: result, members, learning curve; or what its coordinator tells of it."""
    from federation.home import open_home

    home = open_home()
    if home.participant.is_dir() or home.authority.is_dir():
        found = _network_run(home, run)
        if found is not None:
            facts, events = found
            from federation.runs.pages import run_facts
            from federation.runs.pages import run_page as network_page

            if as_json:
                print_json(run_facts(facts, events))
            else:
                print_rich(network_page(facts, events))
            return
    from federation.history import run_page, run_record

    record = run_record(home, run)
    if as_json:
        print_json(record)
    else:
        print_rich(run_page(record))


def _network_run(home: "Home", run: str) -> "tuple[RunFacts, Sequence[Told]] | None":
    """What is known of a federation's run; None for one whose result this home keeps itself."""
    if home.authority.is_dir():
        from federation.runs.event_log import read_events
        from federation.runs.facts import home_facts

        name = home.run(run).name
        found = [one for one in home_facts(home) if one.run == name]
        return (found[0], read_events(home.runs / name)) if found else None
    try:
        kept = home.run(run)
    except InputError:
        kept = None
    if kept is not None and (
        (kept / "result.json").exists() or not (kept / "launch.json").exists()
    ):
        return None
    _quiet()
    from federation.runs.reach import reached

    with reached(home) as reach:
        facts = reach.runs.run(run if kept is None else kept.name)
        return facts, list(reach.runs.watch(facts.run, 0))


Run = Annotated[str, typer.Argument(help="A run id, a unique part of one, or: last.")]


@app.command()
def watch(run: Run = "last", as_json: AsJson = False) -> None:
    """Watch a federation's run to its end; Ctrl-C leaves it going."""
    _quiet()
    from federation.cli.progress import NetworkProgress
    from federation.home import open_home
    from federation.network_launch import complete_later, watch_run
    from federation.record import RunFolder
    from federation.runs.facts import FINISHED
    from federation.runs.reach import reached

    home = open_home()
    with reached(home) as reach:
        facts = reach.runs.run(run)
        kept = home.runs / facts.run
        own = (kept / "launch.json").exists()
        folder = RunFolder(path=kept) if own else None
        headline = _headline(kept / "contract.yaml") if own else ""
        with NetworkProgress(progress_console(), headline) as progress:
            watched = watch_run(reach, home, facts.run, progress, folder=folder)
            result = complete_later(reach, home, watched, progress)
        if result is not None:
            _print_result(home, result, as_json=as_json)
            return
        facts = reach.runs.run(facts.run)
    if as_json:
        answers = {
            name: {"answer": answer, "reason": reason}
            for name, (answer, reason) in sorted(watched.answers.items())
        }
        end = {"model": watched.end.model, "seconds": round(watched.end.seconds, 2)}
        print_json({**facts.to_json(), "state": FINISHED, "answers": answers, **end})
    else:
        from federation.runs.pages import answers_table

        if watched.answers:
            print_rich(answers_table(watched.answers))
        print_rich(f"{facts.run} finished in {watched.end.seconds:.1f} s.")


@app.command()
def stop(
    run: Annotated[str, typer.Argument(help="A run id, or a unique part of one.")],
    as_json: AsJson = False,
) -> None:
    """End a federation's run for good; who launched it may, and an operator."""
    _quiet()
    from federation.home import open_home
    from federation.runs.reach import reached

    with reached(open_home()) as reach:
        facts = reach.runs.stop(reach.runs.run(run).run)
    _print_state(facts, as_json=as_json)


@app.command()
def resume(
    run: Annotated[str, typer.Argument(help="A run id, or a unique part of one.")],
    as_json: AsJson = False,
) -> None:
    """Go on with a federation's run that was interrupted."""
    _quiet()
    from federation.home import open_home
    from federation.runs.reach import reached

    with reached(open_home()) as reach:
        facts = reach.runs.resume(reach.runs.run(run).run)
    _print_state(facts, as_json=as_json)


def _print_state(facts: "RunFacts", *, as_json: bool) -> None:
    if as_json:
        print_json(facts.to_json())
    else:
        why = f": {facts.reason}" if facts.reason else ""
        print_rich(f"{facts.run} is {facts.state}{why}")


def _headline(contract: Path) -> str:
    from clients.contract import load_contract
    from clients.targets import tally_kind
    from privacy.tally import HEADLINE

    return HEADLINE[tally_kind(load_contract(contract))][0]


def _quiet() -> None:
    """Keep gRPC's own lines, which say nothing to a user, off standard error."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
