"""Curves that rise or fall as the contract says, in every common model of a run.

A contract may say of a number that, all else equal, a higher value never lowers (`up`) or never
raises (`down`) the output. An additive model keeps it by projection: after each server step the
curve of each such column is replaced by the nearest one that keeps it. The projection reads
the opened sums and the stepped model, nothing else, so it is post-processing: it costs no privacy.
Every member computes it, so it is plain float64 arithmetic, one operation after the other in a
fixed order, and gives the same bytes on every machine.

What holds is a property of the weights, not of a grid of values: no ramp falls, no tent is lower
than the one before, no slope has the wrong sign. Rounding to float32 and the mean of several such
models keep it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.contract import Column, DataContract
from clients.model import Network
from clients.monotone import monotone_columns, require_held
from clients.spec import NodeSpec
from clients.statistics import BINS
from clients.table_features import CurveForm, TableFeatures

Floats = NDArray[np.float64]
LEAST_SHARE = 1e-6  # of rows about an edge; none may count for nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCurve:
    """One column that the contract calls monotone, and where it is in the network.

    Attributes:
        sign: 1 for `up`, -1 for `down`.
        start: Its first input among the network's.
        form: How its inputs make its curve.
        standard: Shape (places,), the standardised input at each place of ramps; else empty.
        missing: Shape (places - 1,), the ramps of a missing value; else empty.
        shares: Shape (places,), how much each place counts: the share of rows about it where that
            is known from sums, else all alike.
    """

    sign: float
    start: int
    form: CurveForm
    standard: tuple[float, ...]
    missing: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The projection; call it with a model's weights.

    Attributes:
        curves: What is held; none where the contract says nothing.
        head: Where the head's weights begin.
        linear: Where those of the linear path begin; None where there is none.
        bias: Where the head's bias is.
    """

    curves: tuple[HeldCurve, ...]
    head: int = 0
    linear: int | None = None
    bias: int = 0

    def __call__(self, model: Floats) -> Floats:
        """The nearest model that keeps the contract; one that keeps it comes back as it is.

        Ramps: the curve's values at its edges become their isotonic regression, weighted by the
        rows about each edge, and the curve is straight between them and level beyond them, where
        no member had a row. What the standardised input said goes into the ramps. Tents: the
        same at their places. A slope of the wrong sign becomes 0. A missing value is not compared
        with any other: what it adds is left as it was (where no member had one it enters as the
        mean and has no input of its own).

        Args:
            model: Shape (d,), finite.

        Returns:
            Shape (d,), a new array.
        """
        held = model.astype(np.float64)
        for curve in self.curves:
            self._project(held, curve)
        return held

    def _project(self, held: Floats, curve: HeldCurve) -> None:
        places = len(curve.shares)
        width = 1 if curve.form.kind == "slope" else places
        at = self.head + curve.start
        gap = at + width
        if self.linear is not None:
            # both paths have the same inputs, so that one may say it all
            other = self.linear + curve.start
            for step in range(width + curve.form.gap):
                held[at + step] = held[at + step] + held[other + step] + 0.0
                held[other + step] = 0.0
        own = [float(value) for value in held[at:gap]]
        if curve.form.kind == "slope":
            held[at] = curve.sign * max(curve.sign * own[0], 0.0)
        elif curve.form.kind == "tents":
            held[at:gap] = _toward(own, curve)
        elif own[0] != 0.0 or any(curve.sign * ramp < 0.0 for ramp in own[1:]):
            self._project_ramps(held, curve, own)

    def _project_ramps(self, held: Floats, curve: HeldCurve, own: Sequence[float]) -> None:
        slope, ramps = own[0], own[1:]
        values: list[float] = []
        climbed = 0.0
        for place, standard in enumerate(curve.standard):
            climbed += ramps[place - 1] if place else 0.0
            values.append(slope * standard + climbed)
        found = _toward(values, curve)
        risen = [found[place] - found[place - 1] for place in range(1, len(found))]
        at = self.head + curve.start
        held[at] = 0.0
        held[at + 1 : at + 1 + len(risen)] = risen
        held[self.bias] += found[0]
        if curve.form.gap:
            change = found[0]
            for before, after, ramp in zip(ramps, risen, curve.missing, strict=True):
                change += (after - before) * ramp
            held[at + 1 + len(risen)] -= change


def hold_of(
    contract: DataContract,
    spec: NodeSpec,
    features: TableFeatures,
    released: Sequence[Floats],
    network: Network,
) -> Hold:
    """What holds a run's models; it follows from the contract, the run and the opened statistics.

    Raises:
        RefusedError: See `require_held`.
    """
    require_held(contract, spec)
    named = set(monotone_columns(contract, spec))
    curves: list[HeldCurve] = []
    start = 0
    for column in features.numbers:
        if column in named:
            curves.append(_held_curve(features, released, column, start))
        start += len(features.number_inputs(column, np.zeros(1), released))
    offsets: dict[str, int] = {}
    length = 0
    for name, weights in network.named_parameters():
        offsets[name] = length
        length += weights.numel()
    return Hold(
        curves=tuple(curves),
        head=offsets["head.weight"],
        linear=offsets.get("linear.weight"),
        bias=offsets["head.bias"],
    )


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest values that never fall, in squares weighted by `weights`.

    Pool adjacent violators (Ayer et al. 1955; Barlow et al. 1972, section 1.2), in one pass.

    Args:
        values: Finite, one or more.
        weights: As many, above 0.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, other, many = blocks.pop()
            mean = (before * other + mean * total) / (other + total)
            total += other
            count += many
        blocks.append((mean, total, count))
    return [mean for mean, _, count in blocks for _ in range(count)]


def _toward(values: Sequence[float], curve: HeldCurve) -> list[float]:
    if curve.sign > 0:
        return isotonic(values, curve.shares)
    return [-value for value in isotonic([-value for value in values], curve.shares)]


def _held_curve(
    features: TableFeatures, released: Sequence[Floats], column: Column, start: int
) -> HeldCurve:
    form = features.form(column, released)
    standard = missing = np.zeros(0)
    shares = np.ones(form.places.size)
    if form.kind == "ramps":
        asked = np.append(form.places, np.nan)
        inputs = np.stack(features.number_inputs(column, asked, released), axis=1)
        standard, missing = inputs[:-1, 0], inputs[-1, 1 : form.places.size]
        shares = _shares_about(form.places, features.shares(column, released))
    return HeldCurve(
        sign=1.0 if column.monotone == "up" else -1.0,
        start=start,
        form=form,
        standard=_as_seen(standard),
        missing=_as_seen(missing),
        shares=_as_seen(shares),
    )


def _as_seen(values: Floats) -> tuple[float, ...]:
    """As the network sees inputs: float32, which hides a machine's last bit of float64."""
    return tuple(float(value) for value in values.astype(np.float32))


def _shares_about(places: Floats, shares: Floats | None) -> Floats:
    """Rows about each place: those between two places fall to both, by nearness."""
    about = [LEAST_SHARE] * places.size
    if shares is None:
        return np.ones(places.size)
    edges = [float(place) for place in places]
    right = 1
    for index in range(BINS):
        middle = (index + 0.5) / BINS
        while right < len(edges) - 1 and middle > edges[right]:
            right += 1
        part = min(max((middle - edges[right - 1]) / (edges[right] - edges[right - 1]), 0.0), 1.0)
        about[right - 1] += float(shares[index]) * (1.0 - part)
        about[right] += float(shares[index]) * part
    return np.array(about)
