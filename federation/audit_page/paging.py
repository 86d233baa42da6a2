"""A page of a long list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ROWS = 100
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Paged(Generic[_Row]):
    """One page.

    Attributes:
        rows: At most `ROWS`.
        number: Of the page, from 1.
        pages: How many there are, at least 1.
        total: Rows of all pages.
    """

    rows: Sequence[_Row]
    number: int
    pages: int
    total: int

    @property
    def first(self) -> int:
        """Place of the first row among all, from 1; 0 where there is none."""
        return (self.number - 1) * ROWS + 1 if self.total else 0

    @property
    def last(self) -> int:
        """Place of the last row."""
        return (self.number - 1) * ROWS + len(self.rows)


def page_of(rows: Sequence[_Row], number: int) -> Paged[_Row]:
    """Return one page of `rows`.

    Raises:
        LookupError: there is no such page.
    """
    pages = max(1, -(-len(rows) // ROWS))
    if not 1 <= number <= pages:
        raise LookupError(f"there is no page {number} of {pages}")
    start = (number - 1) * ROWS
    return Paged(rows[start : start + ROWS], number, pages, len(rows))
