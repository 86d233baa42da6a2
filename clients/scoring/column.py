"""An input of a model, and how a cell of it is read at the edge: as `clients.source` reads files.

Nothing is guessed: a cell that is no number is refused by line and column, never by its value.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, get_args

from clients.level import OTHER, hash_code, level_text
from clients.scoring.form import Form
from clients.scoring.words import ColumnWords, Language
from clients.statistics import Transform
from privacy.errors import DataError

Kind: TypeAlias = Literal["number", "integer", "category"]
Cell: TypeAlias = "str | float | None"
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TRANSFORMS: Final[tuple[Transform, ...]] = get_args(Transform)
MOST_LEVELS: Final = 65_537
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputColumn:
    """One input.

    Attributes:
        name: Of the contract.
        header: How rows call it.
        kind: What it holds.
        bounds: Of a number: its range, beyond which a value counts as the range's end.
        transform: Of a number.
        levels: Of a category: as rows spell them, without `other`.
        hash_levels: Of a category with an open vocabulary: how many codes there are; else 0.
        indicator: The registered transform that makes it; None where rows bring it.
        declared: Whether people state it.
        words: What a person is told of it.
    """

    name: str
    header: str
    kind: Kind
    bounds: tuple[float, float]
    transform: Transform
    levels: tuple[str, ...]
    hash_levels: int
    indicator: str | None
    declared: bool
    words: ColumnWords

    @property
    def codes(self) -> int:
        """How many levels a category shows, `other` among them."""
        return (self.hash_levels or len(self.levels)) + 1

    def read(self, cell: Cell, missing: Collection[str], where: str) -> float:
        """A number, NaN where it is missing; of a category the code, `other` where it is missing.

        Raises:
            DataError: The cell is no number.
        """
        if self.kind != "category":
            return read_number(
                cell, missing, f"{where}, {self.header}", whole=self.kind != "number"
            )
        if cell is None or (isinstance(cell, str) and cell in missing):
            return float(self.codes - 1)
        text = level_text(cell)
        if self.hash_levels:
            return float(hash_code(text, self.hash_levels))
        return float(self.levels.index(text) if text in self.levels else len(self.levels))

    def shown(self, value: float) -> float | str | None:
        """What a person reads for a value of `read`; None: missing."""
        if self.kind != "category":
            return None if math.isnan(value) else value
        code = int(value)
        if code == self.codes - 1:
            return OTHER
        return str(code) if self.hash_levels else self.levels[code]

    def plain(self) -> dict[str, object]:
        """For canonical JSON."""
        return {
            "name": self.name,
            "header": self.header,
            "kind": self.kind,
            "bounds": list(self.bounds),
            "transform": self.transform,
            "levels": list(self.levels),
            "hash_levels": self.hash_levels,
            "indicator": self.indicator,
            "declared": self.declared,
            "unit": self.words.unit,
            "says": dict(self.words.says),
        }


def read_column(form: Form) -> InputColumn:
    """Read what `InputColumn.plain` gave.

    Raises:
        NotVerifiedError: It is not as it must be.
    """
    name = form.text("name")
    says = form.form("says")
    told: dict[Language, str] = {"en": says.text("en", least=0), "zh": says.text("zh", least=0)}
    says.done()
    column = InputColumn(
        name=name,
        header=form.text("header"),
        kind=cast("Kind", form.choice("kind", *KINDS)),
        bounds=form.bounds("bounds"),
        transform=cast("Transform", form.choice("transform", *TRANSFORMS)),
        levels=form.texts("levels", most=MOST_LEVELS),
        hash_levels=form.whole("hash_levels", low=0, high=MOST_LEVELS),
        indicator=form.text_or_none("indicator"),
        declared=form.truth("declared"),
        words=ColumnWords(name=name, unit=form.text_or_none("unit"), says=told),
    )
    if column.kind == "category" and bool(column.levels) == bool(column.hash_levels):
        raise form.fault("levels", "and hash_levels do not fit a category")
    if column.indicator is not None and column.kind == "category":
        raise form.fault("indicator", "is for a number")
    form.done()
    return column


def read_number(cell: Cell, missing: Collection[str], where: str, *, whole: bool = False) -> float:
    """A number, NaN where it is missing.

    Raises:
        DataError: It is none, not finite, or not whole where it must be.
    """
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        if cell in missing:
            return math.nan
        if not _NUMBER.fullmatch(cell.strip()):
            raise DataError(f"{where}: a number belongs there; correct the cell.")
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{where}: the number is not finite; correct the cell.")
    if whole and number != round(number):
        raise DataError(f"{where}: a whole number belongs there; correct the cell.")
    return number
