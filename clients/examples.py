"""What a model is trained and tested on: arrays, no tables."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """n examples; every array has n rows.

    Attributes:
        numeric: float32 (n, p). Standardised inputs; p may be 0.
        codes: int64 (n, k). Level of each category; k may be 0.
        series: float32 (n, t, s). Standardised readings; t and s are 0 unless the model sees them.
        target: float64 (n,). Label as trained on (remaining life capped).
        target_raw: float64 (n,). Label as recorded.
        exposure: float64 (n,). 1 where the task has none.
        group: int64 (n,). Index into the groups that are reported singly, -1 for none.
        unit: int64 (n,). Index of the protected unit, local to this member.
        trust: float64 (n,), in (0, 1]. How much each counts in training; None: all alike.
    """

    numeric: NDArray[np.float32]
    codes: NDArray[np.int64]
    series: NDArray[np.float32]
    target: NDArray[np.float64]
    target_raw: NDArray[np.float64]
    exposure: NDArray[np.float64]
    group: NDArray[np.int64]
    unit: NDArray[np.int64]
    trust: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return int(self.target.size)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Examples":
        """The chosen examples."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self, **{name: array[rows] for name, array in arrays.items() if array is not None}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """What a network has to take in.

    Attributes:
        numeric: p of `Examples.numeric`.
        levels: Levels of each category, in the order of `Examples.codes`.
        steps: t of `Examples.series`.
        sensors: s of `Examples.series`.
    """

    numeric: int
    levels: tuple[int, ...]
    steps: int = 0
    sensors: int = 0
