"""What each input did to an output: integrated gradients, with their sum checked.

Sundararajan, Taly, Yan 2017, "Axiomatic Attribution for Deep Networks", eq. 1: the gradient is
added up along the straight line from a baseline to the input. By the fundamental theorem all
amounts together are the output less the baseline's (completeness, prop. 1). Here that is not hoped
for but checked, on every stretch of the line: a stretch whose part does not add up is halved. What
is left over in the end, a thousandth at most, is told and dealt out by size; were it more, there
would be no attribution.

It is no exact factor as an additive model has them: another line, or another baseline, would
deal out the same difference otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.errors import RefusedError

Floats = NDArray[np.float64]
Moved: TypeAlias = Callable[[Floats], tuple[Floats, Floats]]
"""Points (m, d) -> outputs (m,), and their gradients (m, d)."""

TOLERANCE: Final = 1e-3
"""Of the difference to the baseline's output, or of 1 where that is less: what may be left over."""
STRETCHES: Final = 8  # of the line, to begin with
HALVINGS: Final = 24  # of a stretch, at most: the kinks of a `relu` are closed in upon
MOST_STRETCHES: Final = 2048  # of one line that are open together: more kinks than a model has
_POINTS: Final = 4096  # at a time
# Gauss-Legendre of three points: exact for polynomials up to degree 5
_NODES: Final[Floats] = 0.5 + 0.5 * np.array([-np.sqrt(0.6), 0.0, np.sqrt(0.6)])
_WEIGHTS: Final[Floats] = np.array([5.0, 8.0, 5.0]) / 18.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attribution:
    """What n outputs are made of, in the output's own scale.

    Attributes:
        amounts: Shape (n, d). What each input adds against its baseline; `base` and they add up
            to `output`.
        base: Shape (n,). The baseline's output.
        output: Shape (n,).
        left_over: Shape (n,). What did not add up, and was dealt out by the amounts' sizes; within
            the tolerance.
    """

    amounts: Floats
    base: Floats
    output: Floats
    left_over: Floats


def integrated_gradients(
    moved: Moved, inputs: Floats, baseline: Floats, *, tolerance: float = TOLERANCE
) -> Attribution:
    """Attribute outputs to inputs, along the straight line from the baseline.

    Rows do not depend on each other.

    Args:
        moved: The output and its gradient; continuous along the line, and smooth but for kinks.
        inputs: Shape (n, d).
        baseline: Shape (n, d).
        tolerance: See `TOLERANCE`.

    Raises:
        RefusedError: The amounts of a row do not add up after `HALVINGS`, or on more than
            `MOST_STRETCHES` stretches at once: the gradient is not that of the output.
    """
    rows, width = inputs.shape
    along = inputs - baseline
    ends = np.linspace(0.0, 1.0, STRETCHES + 1)
    told = _outputs(
        moved, baseline, along, np.repeat(np.arange(rows), ends.size), np.tile(ends, rows)
    )
    at_ends = told.reshape(rows, ends.size)
    base, output = at_ends[:, 0].copy(), at_ends[:, -1].copy()
    allowed = tolerance * np.maximum(1.0, np.abs(output - base))
    work = _Work(
        row=np.repeat(np.arange(rows), STRETCHES),
        start=np.tile(ends[:-1], rows),
        size=np.full(rows * STRETCHES, 1.0 / STRETCHES),
        rise=np.diff(at_ends, axis=1).reshape(-1),
    )
    amounts = np.zeros((rows, width))
    spent = np.zeros(rows)  # what closed stretches left over, without sign
    for halving in range(HALVINGS + 1):
        if not work.row.size:
            break
        parts = _parts(moved, baseline, along, work)
        off = np.abs(work.rise - parts.sum(axis=1))
        # a stretch closes where its row as a whole keeps to what is allowed, or where its own share
        # of that is kept
        open_count = np.bincount(work.row, minlength=rows)
        if open_count.max() > MOST_STRETCHES or not np.isfinite(off).all():
            break
        whole = np.bincount(work.row, weights=off, minlength=rows) + spent
        share = (allowed - spent)[work.row] / (2.0 * open_count[work.row])
        closed = (whole <= allowed)[work.row] | (off <= share)
        np.add.at(amounts, work.row[closed], parts[closed])
        np.add.at(spent, work.row[closed], off[closed])
        if closed.all():
            work = work.take(~closed)
            break
        if halving == HALVINGS:
            break
        work = _halved(moved, baseline, along, work.take(~closed))
    left_over = output - base - amounts.sum(axis=1)
    if work.row.size or (np.abs(left_over) > allowed).any() or not np.isfinite(amounts).all():
        raise RefusedError(
            "The amounts of a score do not add up to it, so it has no reasons and is not given; "
            "check the model's weights."
        )
    size = np.abs(amounts)
    total = size.sum(axis=1, keepdims=True)
    share = np.divide(size, total, out=np.full(size.shape, 1.0 / max(width, 1)), where=total > 0)
    return Attribution(
        amounts=amounts + share * left_over[:, None], base=base, output=output, left_over=left_over
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Stretches of lines: whose, where each starts, its length, and by how much outputs rise."""

    row: NDArray[np.int64]
    start: Floats
    size: Floats
    rise: Floats

    def take(self, which: NDArray[np.bool_]) -> "_Work":
        return _Work(self.row[which], self.start[which], self.size[which], self.rise[which])


def _parts(moved: Moved, baseline: Floats, along: Floats, work: _Work) -> Floats:
    """What each stretch adds to each input, shape (stretches, d)."""
    count = max(1, _POINTS // _NODES.size)
    found: list[Floats] = []
    for begin in range(0, work.row.size, count):
        part = slice(begin, begin + count)
        row = work.row[part]
        place = work.start[part, None] + work.size[part, None] * _NODES
        points = baseline[row][:, None] + place[:, :, None] * along[row][:, None]
        slopes = moved(points.reshape(-1, along.shape[1]))[1].reshape(points.shape)
        mean = np.einsum("q,mqd->md", _WEIGHTS, slopes)
        found.append(mean * along[row] * work.size[part, None])
    return np.concatenate(found)


def _halved(moved: Moved, baseline: Floats, along: Floats, work: _Work) -> _Work:
    """Each stretch as two."""
    half = work.size / 2
    ends = np.concatenate([work.start, work.start + half, work.start + work.size])
    told = _outputs(moved, baseline, along, np.tile(work.row, 3), ends).reshape(3, -1)
    return _Work(
        np.tile(work.row, 2),
        np.concatenate([work.start, work.start + half]),
        np.tile(half, 2),
        np.concatenate([told[1] - told[0], told[2] - told[1]]),
    )


def _outputs(
    moved: Moved, baseline: Floats, along: Floats, row: NDArray[np.int64], place: Floats
) -> Floats:
    """Outputs at places of rows' lines, shape (m,)."""
    found = [
        moved(baseline[row[part]] + place[part, None] * along[row[part]])[0]
        for part in (slice(at, at + _POINTS) for at in range(0, row.size, _POINTS))
    ]
    return np.concatenate(found) if found else np.zeros(0)
