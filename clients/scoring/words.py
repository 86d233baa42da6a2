"""Reasons in plain words, English and Chinese; one wording for the node and the edge."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from clients.level import OTHER

Language: TypeAlias = Literal["en", "zh"]
Reference: TypeAlias = Literal["average", "range"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
SMALLEST: Final = 5e-3  # of the output's scale; a factor below it is no reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnWords:
    """What a person is told of a column.

    Attributes:
        name: Of the contract.
        unit: Of its values; None where it has none.
        says: Language -> what it means, without a full stop; empty where the name says it.
    """

    name: str
    unit: str | None
    says: Mapping[Language, str]


def reason_text(
    column: ColumnWords,
    value: float | str | None,
    amount: float,
    *,
    kind: str,
    reference: Reference,
    language: Language,
) -> str:
    """One reason.

    Args:
        column: Whose.
        value: As it was read; None where it is missing.
        amount: What it adds to the output.
        kind: Of the label (`clients.scoring.link.LinkKind`).
        reference: What amounts are measured against.
        language: In which it is said.
    """
    name, shown = column.name, _value_text(column, value, language)
    about = column.says.get(language, "")
    up = amount >= 0
    if language == "zh":
        note = f"({about})" if about else ""
        against = {"average": "与平均水平相比", "range": "与取值范围的中间水平相比"}[reference]
        effect = {
            "binary": f"使事件发生比{times(amount, zh=True)}",
            "count": f"使预期次数{times(amount, zh=True)}",
        }.get(kind, f"使结果{'升高' if up else '降低'} {abs(amount):.3g}")
        return f"{name}{note}为 {shown}: {against}, {effect}。"
    note = f" ({about})" if about else ""
    against = {"average": "the average", "range": "the middle of its range"}[reference]
    effect = {
        "binary": f"the odds are {times(amount)}",
        "count": f"the expected number is {times(amount)}",
    }.get(kind, f"the result is {abs(amount):.3g} {'higher' if up else 'lower'}")
    return f"{name}{note} is {shown}: {effect} than at {against}."


def _value_text(column: ColumnWords, value: float | str | None, language: Language) -> str:
    if value is None:
        return {"en": "missing", "zh": "缺失"}[language]
    if isinstance(value, str):
        return {"en": "not listed", "zh": "其他"}[language] if value == OTHER else value
    unit = "" if column.unit in {None, "1"} else f" {column.unit}"
    return f"{value:.6g}{unit}"


def times(amount: float, *, zh: bool = False) -> str:
    """A change of a logarithm, as people say it: by how many per cent."""
    share = 100 * math.expm1(abs(amount)) if amount >= 0 else -100 * math.expm1(amount)
    if zh:
        return f"{'升高' if amount >= 0 else '降低'} {share:.0f}%"
    return f"{share:.0f}% {'higher' if amount >= 0 else 'lower'}"
