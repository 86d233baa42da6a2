"""A set that only grows, in order, and is handed on without being copied.

Whoever follows a history keeps what it was after each step: with sets that are copied, n steps cost
n squared. Here all states of one history share a table, and each sees the first so many of it.
"""

import threading
from collections.abc import Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Final, TypeVar

_T_co = TypeVar("_T_co", bound=Hashable, covariant=True)
_T = TypeVar("_T", bound=Hashable)
_ADDING: Final = threading.Lock()


class Grown(AbstractSet[_T_co]):
    """A set whose items stand in the order in which they came; it never changes."""

    __slots__ = ("_order", "_places", "_size")

    def __init__(self, items: Iterable[_T_co] = ()) -> None:
        """Begin with `items`, each once."""
        self._places: dict[object, int] = {}
        for item in items:
            self._places.setdefault(item, len(self._places))
        self._order: list[_T_co] = list(self._places)  # type: ignore[arg-type] # items alone are put
        self._size = len(self._order)

    def __contains__(self, item: object) -> bool:
        """Whether it has this item."""
        return self._places.get(item, self._size) < self._size

    def __iter__(self) -> Iterator[_T_co]:
        """Its items, in order."""
        return islice(self._order, self._size)

    def __len__(self) -> int:
        """How many they are."""
        return self._size

    def __repr__(self) -> str:
        """How many they are; they may be many."""
        return f"Grown({self._size} items)"

    def __getitem__(self, place: int) -> _T_co:
        """The item at a place, counted from 0.

        Raises:
            IndexError: there is none.
        """
        if not 0 <= place < self._size:
            raise IndexError(place)
        return self._order[place]

    def plus(self: "Grown[_T]", item: _T) -> "Grown[_T]":
        """Return the set with one more item; it shares the table where nothing else came next."""
        if item in self:
            return self
        with _ADDING:
            if len(self._order) == self._size:
                self._places[item] = self._size
                self._order.append(item)
            if self._order[self._size] == item:
                return self._first(self._size + 1)
        # another history than one that went on from here before
        return Grown((*self, item))

    def _first(self: "Grown[_T]", size: int) -> "Grown[_T]":
        made: Grown[_T] = Grown()
        made._places, made._order, made._size = self._places, self._order, size
        return made
