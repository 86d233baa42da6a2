"""Numbers that a person gives on the command line."""

import math
from typing import Any

import click


class Finite(click.FloatRange):
    """A number within bounds that is one: `nan` is beyond no bound, and `inf` is no amount."""

    name = "number"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Raise click's BadParameter for what is no finite number within the bounds."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number
