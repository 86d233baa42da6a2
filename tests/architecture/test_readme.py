"""The README's commands are those that the program has."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
import typer.main

from federation.cli.main import app

if TYPE_CHECKING:
    from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    {
        line.split("#")[0].split(" > ")[0].strip()
        for path in (ROOT / "README.md", *ROOT.glob("experiments/*/README.md"))
        for block in re.findall(r"```\n(.*?)```", path.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("tacit ")
    }
)


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command)
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{name} is no verb"
        command = found
    command.make_context(line, words)


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target


def test_every_config_key_is_documented() -> None:
    from clients.spec import (
        FeatureSpec,
        ModelSpec,
        PersonalSpec,
        ServerStep,
        TrainingSpec,
        UpdateSpec,
        WindowSpec,
    )
    from federation.config import ProtectionSpec, RunConfig

    text = (ROOT / "configs" / "README.md").read_text()
    sections: list[type[BaseModel]] = [
        RunConfig, FeatureSpec, WindowSpec, ModelSpec, TrainingSpec, UpdateSpec, PersonalSpec,
        ServerStep, ProtectionSpec,
    ]  # fmt: skip
    for section in sections:
        for key in section.model_fields:
            assert re.search(rf"\b{key}\b", text), f"{section.__name__}.{key}"
