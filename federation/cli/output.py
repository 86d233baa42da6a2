"""Output: one JSON object for programs on standard output, everything for people elsewhere."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privacy.one_line import in_one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]


def print_json(value: Mapping[str, Any]) -> None:
    """One object on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def print_rich(renderable: "RenderableType") -> None:
    """Something for people on standard output; names of files and of others in it are text.

    No `[name]` in it is markup, and no sign of it is an order to the terminal.
    """
    from rich.console import Console

    Console(markup=False).print(_Shown(renderable))


@dataclass(frozen=True, slots=True)
class _Shown:
    """Another renderable, of which only what can be seen is written."""

    inner: "RenderableType"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment

        for one in console.render(self.inner, options):
            lines = (in_one_line(line) for line in one.text.split("\n"))
            yield one if one.control else Segment("\n".join(lines), one.style)


def print_plain(text: str) -> None:
    """Lines on standard output, not folded: no fingerprint is broken in two."""
    sys.stdout.write("".join(f"{in_one_line(line)}\n" for line in text.split("\n")))


def progress_console() -> "Console":
    """Where progress goes: standard error."""
    from rich.console import Console

    return Console(stderr=True)
