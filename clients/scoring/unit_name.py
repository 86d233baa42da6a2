"""How a row names its unit; `clients.source.unit_names` is the same for tables."""

from collections.abc import Collection, Sequence

from clients.level import level_text
from clients.scoring.column import read_number
from clients.scoring.readings_plan import UnitColumn, integer_text
from clients.scoring.rows import Row
from privacy.errors import DataError


def unit_name(columns: Sequence[UnitColumn], row: Row, missing: Collection[str], at: str) -> str:
    """The unit's columns as text, joined by "|".

    Raises:
        DataError: A column is not there, or its cell is empty or no whole number.
    """
    parts: list[str] = []
    for column in columns:
        if column.header not in row:
            raise DataError(f"{at}: has no column {column.header}; give the contract's rows.")
        cell = row[column.header]
        if cell is None or (isinstance(cell, str) and cell in missing):
            raise DataError(f"{at}, {column.header}: is empty; every row needs its unit.")
        text = cell if isinstance(cell, str) else level_text(cell)
        if column.type == "integer":
            whole = integer_text(text)
            if whole is None:
                raise DataError(f"{at}, {column.header}: a whole number belongs there; correct it.")
            text = whole
        elif column.type == "number":
            where = f"{at}, {column.header}"
            text = level_text(read_number(cell, missing, where))
        elif column.type == "category":
            text = level_text(text)
        parts.append(text)
    if len(parts) == 1:
        return parts[0]
    # what joins must not stand in a part: two units' names would be one
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)
