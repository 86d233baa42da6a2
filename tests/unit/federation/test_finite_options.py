"""Every number on the command line is one: neither `nan`, which no bound holds back, nor `inf`."""

from collections.abc import Iterator

import click
import pytest
import typer

from federation.cli.finite import Finite
from federation.cli.main import app


def options(command: click.Command, name: str) -> Iterator[tuple[str, click.Parameter]]:
    if isinstance(command, click.Group):
        for verb, inner in command.commands.items():
            yield from options(inner, f"{name} {verb}")
    for one in command.params:
        yield f"{name} {max(one.opts, key=len)}", one


NUMBERS = [
    (name, one)
    for name, one in options(typer.main.get_command(app), "tacit")
    if isinstance(one.type, (click.FloatRange, click.types.FloatParamType))
]


def test_there_are_numbers_to_try() -> None:
    assert {
        "tacit data gate --follow",
        "tacit node join --wait",
        "tacit model scorecard --odds",
    } <= {name for name, _ in NUMBERS}


@pytest.mark.parametrize(("name", "one"), NUMBERS, ids=[name for name, _ in NUMBERS])
def test_a_number_is_finite(name: str, one: click.Parameter) -> None:
    for text in ("nan", "NaN", "-nan", "inf", "-inf", "Infinity", "1e999"):
        with pytest.raises(click.BadParameter):
            one.type.convert(text, one, None)
    lowest = getattr(one.type, "min", None)
    assert one.type.convert("1", one, None) == 1, name
    assert isinstance(one.type, Finite)
    assert lowest is None or one.type.convert(str(lowest), one, None) == lowest
