"""Output: one JSON object for programs on standard output, everything for people elsewhere."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]


def print_json(value: Mapping[str, Any]) -> None:
    """One object on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def print_rich(renderable: "RenderableType") -> None:
    """Something for people on standard output."""
    from rich.console import Console

    Console().print(renderable)


def print_plain(text: str) -> None:
    """Lines on standard output as they are: no fingerprint is broken in two."""
    sys.stdout.write(text + "\n")


def progress_console() -> "Console":
    """Where progress goes: standard error."""
    from rich.console import Console

    return Console(stderr=True)
