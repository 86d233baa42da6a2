"""Parts of all units' gradients: their norms, and their scaled sums over units.

A unit's gradient for one layer is a sum of few products, so that its norm and the sum over units
are had without writing it down (ghost norms: Li et al. 2022, arXiv:2110.05679, section 4;
book-keeping: Bu et al. 2023, arXiv:2210.00038, section 2). Where a unit has many positions, writing
it down costs less.

What is summed is computed in float64 from the numbers of the two passes, or written down in their
own precision and then never rounded again: a norm is the norm of the very vector that is added,
and a sum over many units holds its bound. NumPy does it, as its many small steps cost less than
torch's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clients.unit_gradient.rules import Array, Diagonal, Form, Lookup, Outer
from clients.unit_gradient.workspace import Scratch

Floats: TypeAlias = NDArray[np.float64]
Order: TypeAlias = tuple[int, int, int] | None

EXACT: Final = np.dtype(np.float64)
EPSILON: Final = float(np.finfo(np.float64).eps)
# Where products between positions cost as much as gradients; found by timing one processor.
EQUAL_COST: Final = 1.15


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer's trained weights are in the flat sum; None for what is absent or frozen."""

    weight: slice | None
    bias: slice | None


class Part(Protocol):
    """What one layer adds to every unit's gradient."""

    def squares(self) -> Floats:
        """(units,): squared L2 norms, not below the true ones but for float64's last digits.

        Where not all of a unit's numbers are finite, neither is its norm.
        """
        ...

    def keep(self, kept: NDArray[np.bool_]) -> "Part":
        """The part with exact zeros for each unit whose `kept` (units,) is False."""
        ...

    def write(self, scales: Floats, total: Floats) -> None:
        """Write the sum over units, each times its `scales` (units,), to its place in `total`."""
        ...


@dataclass(frozen=True, slots=True)
class Products:
    """A layer that sees few positions of each unit: norms from products between positions.

    Attributes:
        a: (units, positions, inputs).
        g: (units, positions, outputs).
        order: See `Outer`.
        place: The layer's.
    """

    a: Floats
    g: Floats
    order: Order
    place: Place

    def squares(self) -> Floats:
        """See `Part`. |sum_s g_s a_s^T|^2 = sum_{s,t} (a_s . a_t)(g_s . g_t)."""
        a, g, place = self.a, self.g, self.place
        units, positions, inputs = a.shape
        if place.weight is None:
            return _squares(g.sum(1))
        # a bias is the weight of one more input that is always 1
        one = 0.0 if place.bias is None else 1.0
        if positions == 1:
            return (_squares(a[:, 0]) + one) * _squares(g[:, 0])
        of_a = np.matmul(a, a.transpose(0, 2, 1)) + one
        of_g = np.matmul(g, g.transpose(0, 2, 1))
        found: Floats = np.vecdot(of_a.reshape(units, -1), of_g.reshape(units, -1))
        # The products can cancel. Their sum's error is below eps/2 * (widths + positions^2 + 4)
        # times (sum_s |a_s| |g_s|)^2 (inner products: Higham 2002, section 3.1), which is at most
        # `positions` times the diagonal's sum. More than that is added, towards more privacy.
        margin = EPSILON * (inputs + g.shape[2] + positions**2 + 8) * positions
        found += margin * np.einsum("uss,uss->u", of_a, of_g)
        return found

    def keep(self, kept: NDArray[np.bool_]) -> "Products":
        """See `Part`."""
        a, g = (np.where(kept[:, None, None], x, 0.0) for x in (self.a, self.g))
        return replace(self, a=a, g=g)

    def write(self, scales: Floats, total: Floats) -> None:
        """See `Part`."""
        units, positions, outputs = self.g.shape
        g = (self.g * scales[:, None, None]).reshape(units * positions, outputs)
        if self.place.bias is not None:
            np.add.reduce(g, axis=0, out=total[self.place.bias])
        if self.place.weight is not None:
            a = self.a.reshape(units * positions, -1)
            if self.order is None:
                np.dot(g.T, a, out=total[self.place.weight].reshape(outputs, -1))
            else:
                _channels_first(np.dot(g.T, a), self.order, total[self.place.weight])


@dataclass(frozen=True, slots=True)
class Written:
    """A layer's gradients, written down for every unit.

    Attributes:
        weight: (units, n); None where not trained.
        bias: (units, outputs); None where not trained.
        order: See `Outer`.
        place: The layer's.
    """

    weight: Floats | None
    bias: Floats | None
    order: Order
    place: Place

    def squares(self) -> Floats:
        """See `Part`."""
        found = [_squares(e) for e in (self.weight, self.bias) if e is not None]
        return found[0] if len(found) == 1 else found[0] + found[1]

    def keep(self, kept: NDArray[np.bool_]) -> "Written":
        """See `Part`."""
        weight, bias = (
            None if e is None else np.where(kept[:, None], e, 0.0) for e in (self.weight, self.bias)
        )
        return replace(self, weight=weight, bias=bias)

    def write(self, scales: Floats, total: Floats) -> None:
        """See `Part`."""
        if self.bias is not None:
            np.dot(scales, self.bias, out=total[self.place.bias])
        if self.weight is None:
            return
        if self.order is None:
            np.dot(scales, self.weight, out=total[self.place.weight])
        else:
            _channels_first(np.dot(scales, self.weight), self.order, total[self.place.weight])


@dataclass(frozen=True, slots=True)
class Rows:
    """Gradients of a table's rows, for each unit those that it looked up.

    Attributes:
        owners: int64 (n,). Whose gradient.
        codes: int64 (n,). Of which row; no pair of unit and code occurs twice.
        g: (n, width).
        units: Number of units.
        place: The table's; it has no bias.
    """

    owners: NDArray[np.int64]
    codes: NDArray[np.int64]
    g: Floats
    units: int
    place: Place

    def squares(self) -> Floats:
        """See `Part`."""
        found: Floats = np.bincount(self.owners, _squares(self.g), self.units).astype(np.float64)
        return found

    def keep(self, kept: NDArray[np.bool_]) -> "Rows":
        """See `Part`."""
        return replace(self, g=np.where(kept[self.owners, None], self.g, 0.0))

    def write(self, scales: Floats, total: Floats) -> None:
        """See `Part`."""
        codes, sums = _by_key(self.codes, self.g * scales[self.owners, None])
        total[self.place.weight].reshape(-1, self.g.shape[1])[codes] = sums


def part_of(form: Form, place: Place, units: int, scratch: Scratch) -> Part:
    """The cheapest part for one layer.

    Args:
        form: What its rule made of it; rows are unit by unit.
        place: Where its weights are; not both None.
        units: Number of units, at least one.
        scratch: Where the part may keep its numbers.
    """
    if isinstance(form, Lookup):
        return _rows(form, place, units)
    if isinstance(form, Outer) and not _worth_writing(form, units):
        a, g = (
            _laid_out([call[i] for call in form.calls], width, units, EXACT, scratch)
            for i, width in ((0, form.inputs), (1, form.outputs))
        )
        return Products(a, g, form.order, place)
    return _written(form, place, units, scratch)


def numbers_held(form: Form, units: int) -> int:
    """About how many numbers one unit's share of a part takes in memory."""
    seen = sum(a.size + g.size for a, g in form.calls) // units
    if isinstance(form, Outer):
        positions = _positions(form, units)
        written = 2 * form.inputs * form.outputs if _worth_writing(form, units) else 0
        return positions * (form.inputs + form.outputs) + written
    return seen


def _positions(outer: Outer, units: int) -> int:
    return sum(g.size for _, g in outer.calls) // (units * outer.outputs)


def _worth_writing(outer: Outer, units: int) -> bool:
    """Whether to write gradients costs less than products between positions."""
    inputs, outputs, positions = outer.inputs, outer.outputs, _positions(outer, units)
    pairs = positions**2 * (inputs + outputs) / (4 * inputs * outputs)
    return positions > 1 and positions / 18 + pairs >= EQUAL_COST


def _written(form: Outer | Diagonal, place: Place, units: int, scratch: Scratch) -> Written:
    """Gradients in the precision of the passes, summed over positions."""
    if isinstance(form, Outer):
        inputs, outputs, order = form.inputs, form.outputs, form.order
    else:
        inputs, outputs, order = form.width, form.width, None
    dtype = form.calls[0][1].dtype
    g = _laid_out([g for _, g in form.calls], outputs, units, dtype, scratch)
    bias = None if place.bias is None else np.add.reduce(g, axis=1, dtype=EXACT)
    weight = None
    if place.weight is not None:
        a = _laid_out([a for a, _ in form.calls], inputs, units, dtype, scratch)
        rounded = scratch.take(dtype, units, place.weight.stop - place.weight.start)
        if isinstance(form, Outer):
            np.matmul(g.transpose(0, 2, 1), a, out=rounded.reshape(units, outputs, inputs))
        else:
            np.einsum("usn,usn->un", a, g, out=rounded)
        weight = scratch.take(EXACT, *rounded.shape)
        np.copyto(weight, rounded)
    return Written(weight, bias, order, place)


def _rows(lookup: Lookup, place: Place, units: int) -> Rows:
    owner = np.arange(units)[:, None] * lookup.levels
    keys = np.concatenate([(c.reshape(units, -1) + owner).reshape(-1) for c, _ in lookup.calls])
    g = np.concatenate([g.reshape(-1, g.shape[-1]) for _, g in lookup.calls])
    distinct, sums = _by_key(keys, g.astype(np.float64))
    owners, codes = np.divmod(distinct, lookup.levels)
    if lookup.fixed is not None:
        sums[codes == lookup.fixed] = 0.0
    return Rows(owners, codes, sums, units, place)


def _by_key(keys: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The distinct keys, ascending, and the sum of each one's rows of `values`."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.concatenate([ordered[:1] >= 0, ordered[1:] != ordered[:-1]]))
    if not first.size:
        return ordered, values
    return ordered[first], np.add.reduceat(values[order], first, axis=0)


def _laid_out(
    pieces: Sequence[Array], width: int, units: int, dtype: np.dtype[np.generic], scratch: Scratch
) -> Array:
    """All calls' rows, with `width` numbers for each position, as (units, positions, width)."""
    first = pieces[0]
    if len(pieces) > 1:
        first = np.concatenate([p.reshape(units, -1, width) for p in pieces], axis=1)
    if first.dtype == dtype and (first.flags.c_contiguous or first.shape[::2] == (units, width)):
        return first.reshape(units, -1, width)
    taken = scratch.take(dtype, *first.shape)
    np.copyto(taken, first)
    return taken.reshape(units, -1, width)


def _squares(vectors: Floats) -> Floats:
    found: Floats = np.vecdot(vectors, vectors)
    return found


def _channels_first(gradient: Floats, order: tuple[int, int, int], into: Floats) -> None:
    """Write (outputs, kernel, channels), as so many numbers, as (outputs, channels, kernel)."""
    outputs, kernel, channels = order
    into.reshape(outputs, channels, kernel)[:] = gradient.reshape(order).transpose(0, 2, 1)
