"""Memory that every step uses again."""

import math
from typing import final

import torch
from torch import Tensor


@final
class Scratch:
    """Tensors for one step at a time, kept for the next.

    Large tensors come from the system as fresh pages, and touching those for the first time costs
    more than the arithmetic on them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: list[Tensor] = []
        self._given: list[Tensor] = []
        self._next = 0

    def reset(self) -> None:
        """Start a step: what `take` gave before may be given again."""
        self._next = 0

    def take(self, dtype: torch.dtype, *shape: int) -> Tensor:
        """A contiguous tensor of any content."""
        place = self._next
        self._next += 1
        if place < len(self._given):
            given = self._given[place]
            if given.shape == shape and given.dtype == dtype:
                return given
            memory = self._memory[place]
        else:
            memory = torch.empty(0, dtype=dtype, device=self._device)
            self._memory.append(memory)
            self._given.append(memory)
        count = math.prod(shape)
        if memory.dtype != dtype or memory.numel() < count:
            memory = self._memory[place] = torch.empty(count, dtype=dtype, device=self._device)
        given = self._given[place] = memory[:count].view(shape)
        return given
