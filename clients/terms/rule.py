"""Rules of terms: data that turn signals into grades, limits and premiums.

The keys of a file: docs/terms.md. A signal is an indicator of the registry or an output of a model;
a raw reading is neither, and is refused as the file is read. A rule that takes away (freeze, cut,
cap, raise the premium) asks for bad values, and one that gives (restore, lower it) for good ones;
so worse values can give no higher limit, which `clients.terms.fold` relies on.
"""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from clients.frozen import Frozen, read_yaml
from clients.indicators.registry import find_indicator
from privacy.canonical import canonical_json

Output = Literal[
    "default_probability", "claims_per_year", "failure_probability", "residual_value_share"
]
Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]
ChineseLine = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f]*[一-鿿][^\x00-\x1f]*$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Percent = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=1, le=366)]
GRADES: Final = "ABCDE"


class Signal(Frozen):
    """What rules may ask of: an indicator, or an output of a model.

    Attributes:
        indicator: Its key in the registry, such as `utilisation@1`.
        output: What a model says.
        riskier: Which way it gets worse.
    """

    name: Name
    indicator: str | None = None
    output: Output | None = None
    riskier: Literal["up", "down"]

    @model_validator(mode="after")
    def _is_no_reading(self) -> Self:
        if (self.indicator is None) == (self.output is None):
            raise ValueError(
                f"{self.name}: give indicator: NAME@VERSION, or output: of a model; terms are made "
                "of no raw reading"
            )
        if self.indicator is not None and find_indicator(self.indicator).key != self.indicator:
            raise ValueError(f"{self.name}: write the indicator with its version, NAME@VERSION")
        return self


class Grade(Frozen):
    """Grades A to E from bands of one signal.

    Attributes:
        of: The signal.
        edges: Four, from good to bad; a value at an edge has the worse grade.
        hysteresis: How far a value must be past an edge for the grade to get better.
    """

    of: Name
    edges: Annotated[tuple[float, ...], Field(min_length=4, max_length=4)]
    hysteresis: Annotated[float, Field(ge=0)]


class When(Frozen):
    """A state over time: on `days` of the last `within` days the signal was past the value.

    Attributes:
        signal: Which.
        below: Holds where the signal is less than this.
        above: Holds where it is more than this.
        days: On so many days.
        within: Of so many; default: `days`, so in a row.
    """

    signal: Name
    below: float | None = None
    above: float | None = None
    days: Days
    within: Days | None = None

    @property
    def window(self) -> int:
        """Days that are looked at."""
        return self.within or self.days

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.below is None) == (self.above is None):
            raise ValueError("when: give below or above, one of the two")
        if self.window < self.days:
            raise ValueError("when: within is less than days; no days could do")
        return self

    def holds(self, value: float | None) -> bool | None:
        """Whether it holds on a day; None where the day's value is not known."""
        if value is None:
            return None
        return value < self.below if self.below is not None else value > (self.above or 0.0)


class Do(Frozen):
    """One act: on the limit (a share of the agreed one) or on the premium (a factor)."""

    act: Literal["freeze", "cut", "cap", "restore", "raise_premium", "lower_premium"]
    percent: Percent | None = None
    to: Share | None = None

    @property
    def takes(self) -> bool:
        """Whether it is to the subject's loss."""
        return self.act not in {"restore", "lower_premium"}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.percent is not None) != (self.act in {"cut", "raise_premium", "lower_premium"}):
            raise ValueError(f"do.percent: is for cut and premiums, and they need it, {self.act}")
        if (self.to is not None) != (self.act == "cap"):
            raise ValueError("do.to: is for cap, which needs it")
        return self


class TermRule(Frozen):
    """One rule.

    Attributes:
        cooling_days: How long it rests after it acted.
        says: Why, for the subject.
    """

    id: Name
    when: When
    do: Do
    cooling_days: Annotated[int, Field(ge=0, le=3660)] = 0
    says: Line
    says_zh: ChineseLine


class Bounds(Frozen):
    """What no rule crosses, and what needs a person.

    Attributes:
        limit_floor: Least share of the agreed limit; a freeze stops drawing whatever the limit.
        premium_floor: Least factor.
        premium_ceiling: Largest factor.
        review_above_percent: A change of the limit or premium by more than this waits for a person.
    """

    limit_floor: Share = 0.0
    premium_floor: Annotated[float, Field(gt=0, le=1)] = 0.5
    premium_ceiling: Annotated[float, Field(ge=1, le=10)] = 2.0
    review_above_percent: Percent = 20.0


class TermRules(Frozen):
    """A file of rules."""

    format: Literal[1]
    name: Name
    title: Line
    title_zh: ChineseLine
    signals: Annotated[tuple[Signal, ...], Field(min_length=1)]
    grade: Grade
    bounds: Bounds = Bounds()
    rules: Annotated[tuple[TermRule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        risk = {one.name: one.riskier for one in self.signals}
        ids = [one.id for one in self.rules]
        if len(risk) < len(self.signals) or len(set(ids)) < len(ids):
            raise ValueError("a signal or rule is there twice; keep one")
        for name in (self.grade.of, *(one.when.signal for one in self.rules)):
            if name not in risk:
                raise ValueError(f"{name} is no signal of this file; raw columns are not read")
        sign = 1 if risk[self.grade.of] == "up" else -1
        if any(sign * low >= sign * high for low, high in pairwise(self.grade.edges)):
            raise ValueError("grade.edges: must go from good to bad")
        for one in self.rules:
            bad = (one.when.above is not None) == (risk[one.when.signal] == "up")
            if bad != one.do.takes:
                raise ValueError(
                    f"{one.id}: what takes away asks for bad values, and what gives for good ones; "
                    f"turn the condition or the act around"
                )
            if one.do.act == "restore" and one.cooling_days:
                raise ValueError(f"{one.id}: a restore does not rest; leave cooling_days out")
        return self

    @property
    def digest(self) -> str:
        """SHA-256, hex, over the rules' canonical JSON."""
        said = self.model_dump(mode="json")
        return hashlib.sha256(b"tacit/terms/v1\0" + canonical_json(said)).hexdigest()


def load_terms(path: Path) -> TermRules:
    """Read a file of rules.

    Raises:
        InputError: It cannot be used; one sentence that names the key.
    """
    return read_yaml(TermRules, path)
