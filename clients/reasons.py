"""Why a score is what it is: a factor for each column, reasons in plain words, and what would help.

The factors of a score add up to it: nothing that was decided is left without a reason. A score that
has no factors cannot be made (`Score` refuses it).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clients.additive import AdditiveModel, Curve
from clients.contract import Column, DataContract
from clients.indicators.registry import INDICATORS
from clients.scoring import words
from clients.scoring.words import Reference
from clients.train import Target
from privacy.errors import InputError

Floats = NDArray[np.float64]
Language: TypeAlias = words.Language
Method = Literal["exact", "attribution"]
LANGUAGES: Final = words.LANGUAGES
TOLERANCE: Final = 1e-6
SMALLEST: Final = words.SMALLEST
STEPS: Final = 200  # places at which a counterfactual looks, in an allowed range


class Explained(Protocol):
    """A model of rows whose scores come with what each column adds.

    `clients.additive.AdditiveModel` knows that exactly; `clients.attributed.AttributedModel`
    attributes it.
    """

    @property
    def contract(self) -> DataContract:
        """What rows mean."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the model reads, in the order of the contract."""
        ...

    @property
    def method(self) -> Method:
        """How amounts are found."""
        ...

    @property
    def reference(self) -> Reference:
        """What amounts are measured against."""
        ...

    @property
    def target(self) -> Target:
        """How the label relates to the output."""
        ...

    def parts(self, columns: Mapping[str, NDArray[np.generic]]) -> tuple[Floats, Floats]:
        """The base of each row (n,), and what each column adds to it (n, columns)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """What one column did to one score.

    Attributes:
        column: Of the contract.
        value: As it was read; None where it is missing.
        amount: What it adds to the output, against the model's reference.
    """

    column: str
    value: float | str | None
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One score with all that made it.

    Attributes:
        unit: Whose.
        base: The output where every column is at its reference.
        output: In the model's own scale.
        value: A chance, a rate, or a value in the label's unit.
        factors: One for each column that the model reads; `base` and they add up to `output`.
        worse: Which way a score is worse: a chance of default is when it is `up`, a remaining life
            when it is `down`.

    Raises:
        ValueError: There are no factors, or they do not add up.
    """

    unit: str
    base: float
    output: float
    value: float
    factors: tuple[Factor, ...]
    worse: Literal["up", "down"] = "up"

    def __post_init__(self) -> None:
        total = self.base + math.fsum(one.amount for one in self.factors)
        if not self.factors or abs(total - self.output) > TOLERANCE * (1 + abs(self.output)):
            raise ValueError("a score is the sum of its factors, and has some")

    @property
    def reasons(self) -> tuple[Factor, ...]:
        """What made it worse, the strongest first; factors too small to matter are left out."""
        sign = 1 if self.worse == "up" else -1
        found = [one for one in self.factors if sign * one.amount >= SMALLEST]
        return tuple(sorted(found, key=lambda one: -sign * one.amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One column of a counterfactual.

    Attributes:
        column: Of the contract.
        before: What it was; None where missing.
        after: What it would be.
        amount: What that changes in the output.
    """

    column: str
    before: float | None
    after: float
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterfactual:
    """What would have to be different, within what was allowed to change.

    Attributes:
        reached: Whether the aim is met.
        changes: As few columns as do it, or the best that all of them can do.
        output: Afterwards.
        value: Afterwards.
    """

    reached: bool
    changes: tuple[Change, ...]
    output: float
    value: float


def scores(
    model: Explained, units: Sequence[str], columns: Mapping[str, NDArray[np.generic]]
) -> list[Score]:
    """Score rows, each with its factors.

    Args:
        model: The model.
        units: Whose rows, n of them.
        columns: As `AdditiveModel.amounts` takes them.

    Raises:
        RefusedError: The factors of a score cannot be found, so that there is none.
    """
    base, amounts = model.parts(columns)
    output = base + amounts.sum(axis=1)
    value = model.target.value(output)
    found: list[Score] = []
    for row, unit in enumerate(units):
        factors = tuple(
            Factor(
                column=column.name,
                value=_shown(column, columns[column.name][row]),
                amount=float(amounts[row, place]),
            )
            for place, column in enumerate(model.columns)
        )
        found.append(
            Score(
                unit=unit,
                base=float(base[row]),
                output=float(output[row]),
                value=float(value[row]),
                factors=factors,
            )
        )
    return found


def sentence(model: Explained, factor: Factor, language: Language) -> str:
    """One reason in plain words, with what the column means where it is a registered indicator."""
    return words.reason_text(
        column_words(model.contract.column(factor.column)),
        factor.value,
        factor.amount,
        kind=model.target.kind,
        reference=model.reference,
        language=language,
    )


def column_words(column: Column) -> words.ColumnWords:
    """What a person is told of a column: of an indicator, what it says."""
    about = INDICATORS.get(column.indicator or "")
    says: dict[Language, str] = {}
    if about is not None:
        says = {"en": about.sentence.rstrip("."), "zh": about.sentence_zh.rstrip("。")}
    return words.ColumnWords(name=column.name, unit=column.unit, says=says)


def counterfactual(
    model: AdditiveModel,
    score: Score,
    *,
    aim: float,
    allowed: Mapping[str, tuple[float, float]],
) -> Counterfactual:
    """What would bring a score down to `aim`, by changing allowed columns within their bounds.

    Columns that help most are changed first, and the last one no further than is needed, so as few
    columns as possible change. Amounts of an additive model do not depend on each other: the best
    of each column is the best of all together.

    Args:
        model: The model.
        score: Of the row as it is.
        aim: The value that is wanted, at most.
        allowed: Column -> lowest and highest value that it may get.

    Raises:
        InputError: The aim is no value that a score can have, a column is not read by the model,
            is a category, or a bound is outside of the contract's range.
    """
    _require_reachable(model, aim)
    current = {one.column: one for one in score.factors}
    best: list[tuple[float, Curve, Floats, Floats]] = []
    for name, (low, high) in allowed.items():
        curve = _changeable(model, name, low, high)
        before = current[name]
        if isinstance(before.value, str):
            raise InputError(f"--allow {name}: a category cannot be changed by bounds; leave it.")
        places = np.unique(np.append(np.linspace(low, high, STEPS + 1), _inside(before, low, high)))
        gain = model.amount(curve, places) - before.amount
        best.append((float(gain.min()), curve, places, gain))
    best.sort(key=lambda one: (one[0], one[1].column.name))
    output, changes = score.output, []
    for most, curve, places, gain in best:
        if most >= 0 or float(model.value(np.array([output]))[0]) <= aim:
            break
        before = current[curve.column.name]
        value = float(before.value) if isinstance(before.value, float) else None
        enough = np.flatnonzero(model.value(output + gain) <= aim)
        candidates = enough if enough.size else np.flatnonzero(gain <= most + TOLERANCE)
        start = value if value is not None else float(places[int(gain.argmin())])
        place = int(candidates[np.abs(places[candidates] - start).argmin()])
        output += float(gain[place])
        changes.append(
            Change(
                column=curve.column.name,
                before=value,
                after=float(places[place]),
                amount=float(gain[place]),
            )
        )
    value_after = float(model.value(np.array([output]))[0])
    return Counterfactual(
        reached=value_after <= aim, changes=tuple(changes), output=output, value=value_after
    )


def _require_reachable(model: AdditiveModel, aim: float) -> None:
    if model.target.kind == "binary" and not 0 < aim < 1:
        raise InputError(f"--aim {aim:g}: the score is a chance; give one between 0 and 1.")
    if model.target.kind == "count" and not 0 < aim < math.inf:
        raise InputError(f"--aim {aim:g}: the score is a rate; give one above 0.")
    if not math.isfinite(aim):
        raise InputError(f"--aim {aim:g}: is no number; give one in the score's unit.")


def _inside(factor: Factor, low: float, high: float) -> list[float]:
    value = factor.value
    return [value] if isinstance(value, float) and low <= value <= high else []


def _changeable(model: AdditiveModel, name: str, low: float, high: float) -> Curve:
    try:
        curve = model.curve(name)
    except KeyError:
        known = ", ".join(one.column.name for one in model.curves)
        raise InputError(f"--allow {name}: the model does not read it; it reads {known}.") from None
    if curve.column.type == "category":
        raise InputError(f"--allow {name}: a category cannot be changed by bounds; leave it.")
    least, most = curve.column.bounds
    if not least <= low <= high <= most:
        raise InputError(
            f"--allow {name}={low:g}:{high:g}: give two numbers within {least:g} and {most:g}, the "
            f"lower one first."
        )
    return curve


def _shown(column: Column, value: object) -> float | str | None:
    if column.type == "category":
        return column.categories[int(value)]  # type: ignore[call-overload] # a code
    number = float(value)  # type: ignore[arg-type] # a number
    return None if math.isnan(number) else number
