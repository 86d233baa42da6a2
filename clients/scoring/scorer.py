"""What a model is at the edge, whatever its kind: it scores one unit's rows, and says why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clients.scoring.link import LinkKind
from clients.scoring.words import Reference

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One score.

    Attributes:
        output: In the model's own scale.
        value: A chance, a rate, or a value in the label's unit.
        amounts: What each input adds to the scorer's base, in the order of `Scorer.columns`; base
            and amounts add up to `output`.
    """

    output: float
    value: float
    amounts: tuple[float, ...]


class Scorer(Protocol):
    """A model in plain numbers."""

    @property
    def kind(self) -> str:
        """As bundles call it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its inputs."""
        ...

    @property
    def rows(self) -> int:
        """How many of a unit's last rows it looks at, at most."""
        ...

    @property
    def base(self) -> float:
        """The output where every input adds nothing."""
        ...

    @property
    def link(self) -> LinkKind:
        """How outputs are read."""
        ...

    @property
    def scale(self) -> float:
        """Of the link."""
        ...

    @property
    def reference(self) -> Reference:
        """What amounts are measured against."""
        ...

    def score(self, rows: Mapping[str, Floats]) -> Scored:
        """Score one unit's rows as they stand at the last of them.

        Args:
            rows: Input -> shape (rows,), in order of time, NaN where missing, codes of levels for
                categories; one row or more. A model of single rows looks at the last one.
        """
        ...

    def plain(self) -> dict[str, object]:
        """For canonical JSON, with `kind` in it."""
        ...
