"""`tacit demo`: the whole story in a minute."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from federation.cli.output import AsJson, print_json, print_rich, progress_console
from federation.cli.run import launch_shown


class Scenario(StrEnum):
    """What the demo trains."""

    FAILURE = "failure"
    CLAIMS = "claims"
    CREDIT = "credit"
    ALL = "all"


def demo(
    scenario: Annotated[
        Scenario, typer.Option(help="Which story; all takes a few minutes.")
    ] = Scenario.FAILURE,
    generated: Annotated[
        bool,
        typer.Option(
            "--generated", help="Use generated telemetry even where real data is at hand."
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1)] = 0,
    as_json: AsJson = False,
) -> None:
    """Federate, compare with each member alone, verify what was recorded: in a minute."""
    from federation.audit import verify_home
    from federation.config import load_project
    from federation.home import open_home
    from federation.launch import LaunchOptions
    from federation.report import manager_page
    from federation.scenarios.story import ScenarioName, stories

    home = open_home()
    console = progress_console()
    results: list[dict[str, Any]] = []
    every: tuple[ScenarioName, ...] = ("failure", "claims", "credit")
    wanted = [name for name in every if scenario in {Scenario.ALL, name}]
    for story in stories(home, wanted, seed=seed, generated=generated, told=console.print):
        options = LaunchOptions(data_root=story.data_root, seed=seed, baselines=True)
        results.append(launch_shown(load_project(story.config), home, options))
    audit = verify_home(home)
    if as_json:
        print_json({"runs": results, "audit": audit.to_json()})
    else:
        print_rich(manager_page(results, audit.sentence()))
