"""Memory that every step uses again."""

import math
from typing import Any, final

import numpy as np
from numpy.typing import NDArray


@final
class Scratch:
    """Arrays for one step at a time, kept for the next.

    Large arrays come from the system as fresh pages, and touching those for the first time costs
    more than the arithmetic on them.
    """

    def __init__(self) -> None:
        self._memory: list[NDArray[Any]] = []
        self._given: list[NDArray[Any]] = []
        self._next = 0

    def reset(self) -> None:
        """Start a step: what `take` gave before may be given again."""
        self._next = 0

    def take(self, dtype: np.dtype[Any], *shape: int) -> NDArray[Any]:
        """A contiguous array of any content."""
        place = self._next
        self._next += 1
        if place == len(self._given):
            self._memory.append(np.empty(0, dtype))
            self._given.append(self._memory[place])
        given = self._given[place]
        if given.shape == shape and given.dtype == dtype:
            return given
        memory, count = self._memory[place], math.prod(shape)
        if memory.dtype != dtype or memory.size < count:
            memory = self._memory[place] = np.empty(count, dtype)
        given = self._given[place] = memory[:count].reshape(shape)
        return given
