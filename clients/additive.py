"""An additive model: one curve for each column, and their sum; every score is its own reasons.

A network without hidden layers adds up what its inputs say, and each input follows from one column.
So the whole model is a base and one curve for each column, with nothing left over: what a column
adds to a score is known exactly, not estimated. The curves are read through the very preparation
that the model was trained with (`clients.table_features`), so no second copy can drift from it.

Sums are in the output's own scale: log-odds of `binary` labels, the log of a rate of `count`
labels, the label's unit otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from clients.contract import Column, DataContract
from clients.model import Network
from clients.scoring.words import Reference
from clients.spec import NodeSpec
from clients.statistics import BINS, to_unit_interval
from clients.table_features import TableFeatures
from clients.train import Target
from privacy.errors import RefusedError

Floats = NDArray[np.float64]
GRID: Final = BINS + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What one column adds, against its reference.

    Attributes:
        column: Of the contract.
        weights: Shape (inputs,) of a number, (levels,) of a category.
        centre: What the column adds at the reference; it is in the model's base.
        least: The lowest that the column can add.
        most: The highest.
        weight: Mean of the absolute amounts over the reference; how much the column matters.
    """

    column: Column
    weights: Floats
    centre: float
    least: float
    most: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdditiveModel:
    """See the module; `additive_model` makes one.

    Attributes:
        contract: What rows mean.
        features: How they were prepared.
        released: The opened statistics.
        curves: One for each column that the model reads, in the order of the contract's inputs.
        base: The output where every column is at its reference.
        reference: What amounts are measured against. `average`: the mean over the federation's
            training rows, known from sums. `range`: the middle over a column's range or levels,
            for runs with noise, where no such sum was opened.
        target: How the label relates to the output.
    """

    contract: DataContract
    features: TableFeatures
    released: tuple[Floats, ...]
    curves: tuple[Curve, ...]
    base: float
    reference: Reference
    target: Target

    def curve(self, name: str) -> Curve:
        """One column's curve.

        Raises:
            KeyError: The model does not read it.
        """
        for one in self.curves:
            if one.column.name == name:
                return one
        raise KeyError(name)

    @property
    def method(self) -> Literal["exact"]:
        """Amounts are the model, not an estimate of it."""
        return "exact"

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the model reads, in the order of the contract."""
        return tuple(one.column for one in self.curves)

    def parts(self, columns: Mapping[str, NDArray[np.generic]]) -> tuple[Floats, Floats]:
        """The base of each row (n,), and what each column adds to it (n, columns)."""
        amounts = self.amounts(columns)
        return np.full(len(amounts), self.base), amounts

    def amounts(self, columns: Mapping[str, NDArray[np.generic]]) -> Floats:
        """What each column adds to each row's output, against the reference.

        Args:
            columns: Name -> shape (n,): numbers in the contract's unit, NaN where missing, or
                codes of levels.

        Returns:
            Shape (n, curves). `base` plus a row's sum is its output.
        """
        return np.stack([self.amount(one, columns[one.column.name]) for one in self.curves], axis=1)

    def amount(self, curve: Curve, values: NDArray[np.generic]) -> Floats:
        """What one column adds; shape (n,), as `amounts`."""
        return self._raw(curve.column, curve.weights, values) - curve.centre

    def value(self, output: Floats) -> Floats:
        """Outputs as people read them: a chance, a rate for one unit of exposure, or a value."""
        return self.target.value(output)

    def _raw(self, column: Column, weights: Floats, values: NDArray[np.generic]) -> Floats:
        return raw_amount(self.features, self.released, column, weights, values)


def raw_amount(
    features: TableFeatures,
    released: Sequence[Floats],
    column: Column,
    weights: Floats,
    values: NDArray[np.generic],
) -> Floats:
    """What a column's inputs add up to, before it is held against a reference; shape (n,)."""
    if column.type == "category":
        codes = features.level_codes(column, values.astype(np.int64), released)
        return np.asarray(weights[codes])
    low, high = column.bounds
    unit = to_unit_interval(values.astype(np.float64), low, high, column.transform)
    return np.asarray(np.stack(features.number_inputs(column, unit, released), axis=1) @ weights)


def is_additive(spec: NodeSpec) -> bool:
    """Whether a run's model is a sum of curves."""
    return spec.is_additive


def additive_model(
    contract: DataContract,
    spec: NodeSpec,
    features: TableFeatures,
    released: Sequence[Floats],
    *,
    network: Network,
    target: Target,
) -> AdditiveModel:
    """Take a trained network apart, exactly.

    Raises:
        RefusedError: The model has hidden layers, or reads windows: it is no sum of curves.
    """
    if not is_additive(spec):
        raise RefusedError(
            "This model is no sum of curves, so that its scores have no exact reasons; train one "
            "with model: {hidden: []} and features.bins."
        )
    scale, shift = target.own_scale
    weights = _weights(network) * scale
    base = float(network.head.bias.detach().cpu().numpy()[0]) * scale + shift
    curves: list[Curve] = []
    at = 0
    held = tuple(released)
    for column in features.numbers:
        width = len(features.number_inputs(column, np.zeros(1), held))
        curves.append(_number_curve(features, held, column, weights[at : at + width]))
        at += width
    embedded = iter(network.embeddings)
    later = at + sum(
        len(c.categories) for c in features.categories if len(c.categories) <= network.one_hot_up_to
    )
    for column in features.categories:
        levels = len(column.categories)
        if levels <= network.one_hot_up_to:
            own = weights[at : at + levels]
            at += levels
        else:
            table = next(embedded).weight.detach().cpu().numpy().astype(np.float64)  # type: ignore[operator] # a ModuleList of embeddings
            own = table @ weights[later : later + table.shape[1]]
            later += table.shape[1]
        curves.append(_level_curve(features, held, column, own))
    order = {column.name: place for place, column in enumerate(contract.columns)}
    return AdditiveModel(
        contract=contract,
        features=features,
        released=held,
        curves=tuple(sorted(curves, key=lambda one: order[one.column.name])),
        base=base + sum(one.centre for one in curves),
        reference="average" if features.private == "none" else "range",
        target=target,
    )


def grid_values(column: Column) -> Floats:
    """Values over a number's range, even in the scale in which the model sees it; shape (BINS,).

    Middles of the bins of `TableFeatures.shares`.
    """
    low, high = column.bounds
    place = (np.arange(BINS) + 0.5) / BINS
    if column.transform == "log1p":
        return np.asarray(low + np.expm1(place * np.log1p(high - low)))
    if column.transform in {"signed_log", "quantile"}:
        ends = np.sign([low, high]) * np.log1p(np.abs([low, high]))
        scaled = ends[0] + place * (ends[1] - ends[0])
        return np.asarray(np.sign(scaled) * np.expm1(np.abs(scaled)))
    return np.asarray(low + place * (high - low))


def _weights(network: Network) -> Floats:
    """Of all inputs, numbers first, then one-hot levels, then embedded ones; shape (width,)."""
    total = network.head.weight.detach().cpu().numpy()[0].astype(np.float64)
    if network.linear is not None:
        total = total + network.linear.weight.detach().cpu().numpy()[0].astype(np.float64)
    return np.asarray(total)


def _number_curve(
    features: TableFeatures, released: Sequence[Floats], column: Column, weights: Floats
) -> Curve:
    values = np.append(grid_values(column), np.nan)
    raw = raw_amount(features, released, column, weights, values)
    shares = features.shares(column, released)
    if shares is None:
        shares = np.append(np.full(BINS, 1.0 / BINS), 0.0)
    return _curve(column, weights, raw, shares)


def _level_curve(
    features: TableFeatures, released: Sequence[Floats], column: Column, weights: Floats
) -> Curve:
    levels = np.arange(len(column.categories))
    raw = raw_amount(features, released, column, weights, levels)
    shares = features.shares(column, released)
    if shares is None:  # the last level is `other`, which a contract hopes not to see
        shares = np.append(np.full(levels.size - 1, 1.0 / (levels.size - 1)), 0.0)
    return _curve(column, weights, raw, shares)


def _curve(column: Column, weights: Floats, raw: Floats, shares: Floats) -> Curve:
    centre = float(raw @ shares)
    return Curve(
        column=column,
        weights=weights,
        centre=centre,
        least=float(raw.min()) - centre,
        most=float(raw.max()) - centre,
        weight=float(np.abs(raw - centre) @ shares),
    )
