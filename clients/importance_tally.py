"""What a member adds to the sum that says what a model leans on: how far inputs move its scores.

A member adds, for its test rows or windows, the sizes of the amounts that their scores are made of
(`clients.attributed`, `clients.window_model`), input by input, how many rows these are, and that it
has some. That tally is part of the vector of the final test and of nothing else: it is sealed,
summed and opened with it, or not at all. A member's own part exists in the moment in which its
vector is made, and is kept nowhere.

Two bounds keep a sum from being one member's: `ROWS_MAX` rows of a member count, so that none of
very many rows is all that is seen, and each amount counts for at most `AMOUNT_MAX`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clients.attributed import AttributedModel
from clients.examples import Examples
from clients.importance import ROWS_MAX
from clients.window_features import Windows
from clients.window_model import WindowModel, reading

Floats = NDArray[np.float64]
AMOUNT_MAX: Final = 1e3
"""Of one amount in the network's own scale: log-odds, a log rate, or spreads of the label."""
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4)


def counted(rows: int) -> NDArray[np.int64]:
    """Places of the rows that count, rising: all, or `ROWS_MAX` spread evenly over them.

    It depends on nothing but how many there are, so a node that starts again takes the same ones.
    They are in step with no order that a table may have: multiples of the golden ratio are as even
    as points on a line can be.
    """
    place = np.arange(rows, dtype=np.uint64)
    if rows <= ROWS_MAX:
        return place.astype(np.int64)
    return np.sort(np.argsort(place * _GOLDEN, kind="stable")[:ROWS_MAX]).astype(np.int64)


def tally_rows(model: AttributedModel, examples: Examples) -> Floats:
    """A member's rows: whether and how many, and the sum of absolute amounts of each column.

    Returns:
        Shape (2 + columns,), in the network's scale.

    Raises:
        RefusedError: The amounts of a row do not add up.
    """
    chosen = examples.take(counted(len(examples)))
    flat = model.network.lay_out(chosen.numeric, chosen.codes)
    amounts = model.attribution(flat).amounts
    by_column = [
        amounts[:, model.places[column.name]].sum(axis=1)[:, None] for column in model.columns
    ]
    return _tally(np.concatenate(by_column, axis=1))


def tally_windows(model: WindowModel, windows: Windows) -> Floats:
    """A member's windows, and the sum of absolute amounts of each sensor, and of the age.

    Returns:
        Shape (2 + sensors,), or one more where the model sees the age; in the network's scale.

    Raises:
        RefusedError: The amounts of a window do not add up.
    """
    those = reading(windows).take(counted(windows.last.size))
    told = model.amounts(those, None)
    amounts = told.series.sum(axis=1)
    if model.sees_age:
        amounts = np.concatenate([amounts, told.age[:, None]], axis=1)
    return _tally(amounts / model.target.own_scale[0])


def _tally(amounts: Floats) -> Floats:
    """Of amounts, shape (n, inputs)."""
    rows = len(amounts)
    return np.concatenate(
        [[float(rows > 0), float(rows)], np.minimum(np.abs(amounts), AMOUNT_MAX).sum(axis=0)]
    )
