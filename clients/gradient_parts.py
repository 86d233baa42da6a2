"""Parts of all units' gradients: their norms, and their scaled sums over units.

A unit's gradient for one layer is a sum of few products, so that its norm and the sum over units
are had without writing it down (ghost norms: Li et al. 2022, arXiv:2110.05679, section 4;
book-keeping: Bu et al. 2023, arXiv:2210.00038, section 2). Where a unit has many positions, writing
it down costs less.

What is summed is computed in float64 from the numbers of the two passes, or written down in their
own precision and then never rounded again: a norm is the norm of the very vector that is added,
and a sum over many units holds its bound.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Protocol

import torch
from torch import Tensor

from clients.gradient_rules import Diagonal, Form, Lookup, Outer
from clients.scratch import Scratch

EPSILON: Final = torch.finfo(torch.float64).eps
# Numbers of all units' gradients of one layer that may be held at once.
LARGEST_WRITTEN: Final = 1 << 23
# Numbers that become float64 at a time: as many as stay in a processor's cache.
BLOCK: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a layer's trained weights are in the flat sum; None for what is absent or frozen."""

    weight: slice | None
    bias: slice | None


class Part(Protocol):
    """What some layers add to every unit's gradient."""

    def squares(self) -> Tensor:
        """float64 (units,): squared L2 norms, rounded up; nan or inf where not all is finite."""
        ...

    def keep(self, kept: Tensor) -> "Part":
        """The part with exact zeros for each unit whose `kept`, bool (units,), is False."""
        ...

    def write(self, scales: Tensor, total: Tensor) -> None:
        """Write the sum over units, each times its `scales` (units,), to its places in `total`."""
        ...


@dataclass(frozen=True, slots=True)
class Products:
    """A layer that sees few positions of each unit: norms from products between positions.

    Attributes:
        a: float64 (units, positions, inputs); (units, inputs) for one position.
        g: float64 (units, positions, outputs); (units, outputs) for one position.
        positions: Of each unit.
        outer: The layer's form.
        place: Its place.
    """

    a: Tensor
    g: Tensor
    positions: int
    outer: Outer
    place: Place

    def squares(self) -> Tensor:
        """See `Part`. |sum_s g_s a_s^T|^2 = sum_{s,t} (a_s . a_t)(g_s . g_t)."""
        a, g, place = self.a, self.g, self.place
        if place.weight is None:
            return _squares(g if self.positions == 1 else g.sum(1))
        # a bias is the weight of one more input that is always 1
        one = 0.0 if place.bias is None else 1.0
        if self.positions == 1:
            of_a: Tensor = torch.linalg.vecdot(a, a)
            return (of_a + one).mul_(torch.linalg.vecdot(g, g))
        products = torch.baddbmm(a.new_full((), one), a, a.mT).mul_(torch.bmm(g, g.mT))
        return products.flatten(1) @ _upwards(self.positions, a.shape[2] + g.shape[2], a.device)

    def keep(self, kept: Tensor) -> "Products":
        """See `Part`."""
        mask = kept.view(-1, *(1,) * (self.g.dim() - 1))
        a, g = (torch.where(mask, x, 0.0) for x in (self.a, self.g))
        return replace(self, a=a, g=g)

    def write(self, scales: Tensor, total: Tensor) -> None:
        """See `Part`."""
        a, g, outer = self.a, self.g, self.outer
        if self.positions == 1:
            g = g * scales.unsqueeze(1)
        else:
            a, g = a.flatten(0, 1), (g * scales.view(-1, 1, 1)).flatten(0, 1)
        if self.place.bias is not None:
            torch.sum(g, 0, out=total[self.place.bias])
        if self.place.weight is None:
            return
        into = total[self.place.weight]
        if outer.order is None:
            torch.mm(g.t(), a, out=into.view(outer.outputs, outer.inputs))
        else:
            _channels_first(torch.mm(g.t(), a), outer.order, into)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring columns of written gradients that are neighbours in the sum as well.

    Attributes:
        columns: Where they are.
        place: Where they belong.
        order: See `Outer`.
    """

    columns: slice
    place: slice
    order: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """Gradients written down for every unit.

    Attributes:
        gradients: (units, n), in the network's precision or float64.
        block: float64 (some units, n); memory where they become float64, a few units at a time.
        runs: All n columns.
    """

    gradients: Tensor
    block: Tensor
    runs: Sequence[Run]

    def squares(self) -> Tensor:
        """See `Part`."""
        pieces = [_squares(exact) for _, exact in self._exact()]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def keep(self, kept: Tensor) -> "Written":
        """See `Part`."""
        return replace(self, gradients=torch.where(kept.unsqueeze(1), self.gradients, 0.0))

    def write(self, scales: Tensor, total: Tensor) -> None:
        """See `Part`."""
        plain = len(self.runs) == 1 and self.runs[0].order is None
        width = self.gradients.shape[1]
        sums = total[self.runs[0].place] if plain else total.new_empty(width)
        for units, exact in self._exact():
            if units.start == 0:
                torch.mv(exact.t(), scales[units], out=sums)
            else:
                sums.addmv_(exact.t(), scales[units])
        if plain:
            return
        for run in self.runs:
            if run.order is None:
                total[run.place] = sums[run.columns]
            else:
                _channels_first(sums[run.columns], run.order, total[run.place])

    def _exact(self) -> Iterator[tuple[slice, Tensor]]:
        """All units' gradients as float64, a block of units after the other."""
        count = len(self.gradients)
        if self.gradients.dtype == torch.float64:
            yield slice(0, count), self.gradients
            return
        for start in range(0, count, len(self.block)):
            piece = self.gradients[start : start + len(self.block)]
            yield slice(start, start + len(piece)), self.block[: len(piece)].copy_(piece)


@dataclass(frozen=True, slots=True)
class Rows:
    """Gradients of a table's rows, for each unit those that it looked up.

    Attributes:
        units: int64 (n,). Whose gradient.
        codes: int64 (n,). Of which row; no pair of unit and code occurs twice.
        g: float64 (n, width).
        count: Number of units.
        place: The table's place; it has no bias.
    """

    units: Tensor
    codes: Tensor
    g: Tensor
    count: int
    place: slice

    def squares(self) -> Tensor:
        """See `Part`."""
        return self.g.new_zeros(self.count).index_add_(0, self.units, _squares(self.g))

    def keep(self, kept: Tensor) -> "Rows":
        """See `Part`."""
        return replace(self, g=torch.where(kept[self.units].unsqueeze(1), self.g, 0.0))

    def write(self, scales: Tensor, total: Tensor) -> None:
        """See `Part`."""
        scaled = self.g * scales[self.units].unsqueeze(1)
        total[self.place].zero_().view(-1, self.g.shape[1]).index_add_(0, self.codes, scaled)


def parts_of(forms: Sequence[tuple[Form, Place]], units: int, scratch: Scratch) -> list[Part]:
    """The cheapest parts for all layers of a network.

    Args:
        forms: Each layer's form and place.
        units: Number of units, at least one; a form's rows are unit by unit.
        scratch: Where parts may keep their numbers.
    """
    parts: list[Part] = []
    written: list[tuple[Outer | Diagonal, Place]] = []
    for form, place in forms:
        if isinstance(form, Lookup):
            parts.append(_rows(form, place, units))
        elif isinstance(form, Outer) and _better_unwritten(form, units):
            parts.append(_products(form, place, units, scratch))
        else:
            written.append((form, place))
    if written:
        parts.append(_written(written, units, scratch))
    return parts


def _better_unwritten(outer: Outer, units: int) -> bool:
    """Whether products between positions cost less than gradients do; found by timing one CPU."""
    inputs, outputs = outer.inputs, outer.outputs
    positions = sum(g.numel() for _, g in outer.calls) // (units * outputs)
    if units * inputs * outputs > LARGEST_WRITTEN and positions**2 < inputs * outputs:
        return True
    return positions == 1 or positions**3 * (inputs + outputs) <= 20 * inputs * outputs


def _products(outer: Outer, place: Place, units: int, scratch: Scratch) -> Products:
    a = _laid_out([a for a, _ in outer.calls], outer.inputs, units, torch.float64, scratch)
    g = _laid_out([g for _, g in outer.calls], outer.outputs, units, torch.float64, scratch)
    positions = a.shape[1]
    if positions == 1:
        a, g = a.view(units, -1), g.view(units, -1)
    return Products(a, g, positions, outer, place)


def _written(
    layers: Sequence[tuple[Outer | Diagonal, Place]], units: int, scratch: Scratch
) -> Written:
    orders = tuple(form.order if isinstance(form, Outer) else None for form, _ in layers)
    columns, runs = _columns(tuple(place for _, place in layers), orders)
    dtype = layers[0][0].calls[0][1].dtype
    own = scratch.take(dtype, units, runs[-1].columns.stop)
    for (form, _), (of_weight, of_bias) in zip(layers, columns, strict=True):
        if isinstance(form, Outer):
            inputs, outputs = form.inputs, form.outputs
        else:
            inputs = outputs = form.width
        g = _laid_out([g for _, g in form.calls], outputs, units, dtype, scratch)
        if of_bias is not None:
            torch.sum(g, 1, out=own[:, of_bias])
        if of_weight is not None:
            a = _laid_out([a for a, _ in form.calls], inputs, units, dtype, scratch)
            into = own[:, of_weight]
            if isinstance(form, Outer):
                torch.bmm(g.mT, a, out=into.view(units, outputs, inputs))
            else:
                torch.sum(g * a, 1, out=into)
    together = min(units, max(1, BLOCK // own.shape[1]))
    block = scratch.take(torch.float64, together, own.shape[1])
    if together == units:
        own = block.copy_(own)
    return Written(own, block, runs)


@lru_cache(maxsize=64)
def _columns(
    places: tuple[Place, ...], orders: tuple[tuple[int, int, int] | None, ...]
) -> tuple[list[tuple[slice | None, slice | None]], list[Run]]:
    """Columns for each layer's weight and bias, one after the other, and where they belong."""
    columns: list[tuple[slice | None, slice | None]] = []
    runs: list[Run] = []
    stop = 0
    for place, order in zip(places, orders, strict=True):
        pair: list[slice | None] = []
        for where, own_order in ((place.weight, order), (place.bias, None)):
            if where is None:
                pair.append(None)
                continue
            own = slice(stop, stop + where.stop - where.start)
            stop = own.stop
            pair.append(own)
            last = runs[-1] if runs else None
            if last and last.order is own_order is None and last.place.stop == where.start:
                joined = slice(last.columns.start, own.stop)
                runs[-1] = Run(joined, slice(last.place.start, where.stop))
            else:
                runs.append(Run(own, where, own_order))
        columns.append((pair[0], pair[1]))
    return columns, runs


def _rows(lookup: Lookup, place: Place, units: int) -> Rows:
    if place.weight is None:
        raise ValueError("a table without a trained weight has no part")
    keys = []
    for codes, _ in lookup.calls:
        owner = torch.arange(units, device=codes.device).unsqueeze(1)
        keys.append((codes.reshape(units, -1) + owner * lookup.levels).flatten())
    g = torch.cat([g.reshape(-1, g.shape[-1]) for _, g in lookup.calls]).to(torch.float64)
    distinct, places = torch.unique(torch.cat(keys), return_inverse=True)
    owners = torch.div(distinct, lookup.levels, rounding_mode="floor")
    codes = distinct - owners * lookup.levels
    sums = g.new_zeros(len(distinct), g.shape[1]).index_add_(0, places, g)
    if lookup.fixed is not None:
        sums[codes == lookup.fixed] = 0.0
    return Rows(owners, codes, sums, units, place.weight)


def _squares(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms.square_()


def _laid_out(
    pieces: Sequence[Tensor], width: int, units: int, dtype: torch.dtype, scratch: Scratch
) -> Tensor:
    """All calls' rows, with `width` numbers for each position, as (units, positions, width)."""
    first = pieces[0]
    if len(pieces) > 1:
        first = torch.cat([p.reshape(units, -1, width) for p in pieces], dim=1)
    if first.dtype == dtype and (first.is_contiguous() or first.shape[::2] == (units, width)):
        return first.reshape(units, -1, width)  # never a copy
    return scratch.take(dtype, *first.shape).copy_(first).view(units, -1, width)


def _channels_first(gradient: Tensor, order: tuple[int, int, int], into: Tensor) -> None:
    """Write (outputs, kernel, channels), as flat numbers, as (outputs, channels, kernel)."""
    by_channel = gradient.view(order).mT
    into.view(by_channel.shape).copy_(by_channel)


@lru_cache(maxsize=64)
def _upwards(positions: int, width: int, device: torch.device) -> Tensor:
    """What sums a unit's positions x positions products so that rounding only makes them larger.

    The products can cancel. Their sum's error is below eps/2 * (width + positions^2 + 4) times
    (sum_s |a_s| |g_s|)^2, which is at most `positions` times the sum of the diagonal: more than
    that of the diagonal is added (inner products: Higham 2002, section 3.1).
    """
    margin = EPSILON * (width + positions**2 + 8) * positions
    ones = torch.ones(positions, positions, dtype=torch.float64, device=device)
    return (ones + margin * torch.eye(positions, dtype=torch.float64, device=device)).flatten()
