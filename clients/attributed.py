"""A model of rows with hidden layers: what each column did to a score, attributed.

Such a model is no sum of curves; what a column does depends on the others. Integrated gradients
(`clients.scoring.attribution`) deal the difference to the average row out to the columns, all of it
and nothing else. A column's inputs (its number, ramps, what says that it is missing, its levels)
are taken together. It is one fair way to deal out, not the only one: attribution, not exact.

The baseline is the average of the inputs over the federation's training rows, known from the sums
that prepared them (in a run with noise: over a column's range or levels, as `clients.additive`).
Half a level and half another is no real row, but it favours none; and for a model without hidden
layers the amounts against it are the exact ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clients.additive import grid_values
from clients.contract import Column, DataContract
from clients.scoring.attribution import Attribution, integrated_gradients
from clients.scoring.network import ScoringNetwork
from clients.scoring.words import Reference
from clients.statistics import BINS, to_unit_interval
from clients.table_features import TableFeatures
from clients.train import Target

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttributedModel:
    """See the module; `attributed_model` makes one.

    Attributes:
        contract: What rows mean.
        features: How they were prepared.
        released: The opened statistics.
        network: The network.
        columns: What it reads, in the order of the contract.
        places: Column -> where its inputs lie in the network's flat table.
        baseline: Shape (width,). The average row's inputs.
        reference: Over what that is an average; see `AdditiveModel`.
        target: How the label relates to the output.
    """

    contract: DataContract
    features: TableFeatures
    released: tuple[Floats, ...]
    network: ScoringNetwork
    columns: tuple[Column, ...]
    places: Mapping[str, slice]
    baseline: Floats
    reference: Reference
    target: Target

    @property
    def method(self) -> Literal["attribution"]:
        """Amounts are dealt out by a rule."""
        return "attribution"

    def parts(self, columns: Mapping[str, NDArray[np.generic]]) -> tuple[Floats, Floats]:
        """The base of each row (n,), and what each column adds to it (n, columns).

        Args:
            columns: As `AdditiveModel.amounts` takes them.

        Raises:
            RefusedError: The amounts do not add up.
        """
        told = self.attribution(self.flat(columns))
        scale, shift = self.target.own_scale
        by_column = [
            told.amounts[:, self.places[column.name]].sum(axis=1) for column in self.columns
        ]
        return told.base * scale + shift, np.stack(by_column, axis=1) * scale

    def attribution(self, flat: Floats) -> Attribution:
        """Of rows of the flat table, in the network's scale."""
        return integrated_gradients(self._moved, flat, np.broadcast_to(self.baseline, flat.shape))

    def outputs(self, flat: Floats) -> Floats:
        """In the model's own scale, shape (n,)."""
        scale, shift = self.target.own_scale
        return self.network.output(flat, _no_series(len(flat))) * scale + shift

    def flat(self, columns: Mapping[str, NDArray[np.generic]]) -> Floats:
        """The network's flat table of rows, shape (n, width)."""
        numbers = [
            np.stack(_number_inputs(self.features, self.released, column, columns), axis=1)
            for column in self.features.numbers
        ]
        rows = len(next(iter(columns.values())))
        codes = [
            self.features.level_codes(
                column, np.asarray(columns[column.name], dtype=np.int64), self.released
            )
            for column in self.features.categories
        ]
        return self.network.lay_out(
            np.concatenate(numbers, axis=1) if numbers else np.zeros((rows, 0)),
            np.stack(codes, axis=1) if codes else np.zeros((rows, 0), np.int64),
        )

    def _moved(self, points: Floats) -> tuple[Floats, Floats]:
        return self.network.gradient(points, _no_series(len(points)))[:2]


def attributed_model(
    contract: DataContract,
    features: TableFeatures,
    released: Sequence[Floats],
    *,
    network: ScoringNetwork,
    target: Target,
) -> AttributedModel:
    """Make a model's scores ready to be attributed."""
    held = tuple(released)
    baseline = np.zeros(network.width)
    places: dict[str, slice] = {}
    at = 0
    for column in features.numbers:
        values = {column.name: np.append(grid_values(column), np.nan)}
        inputs = np.stack(_number_inputs(features, held, column, values), axis=1)
        shares = features.shares(column, held)
        if shares is None:
            shares = np.append(np.full(BINS, 1.0 / BINS), 0.0)
        places[column.name] = slice(at, at + inputs.shape[1])
        baseline[places[column.name]] = shares @ inputs
        at += inputs.shape[1]
    for index, (column, place) in enumerate(zip(features.categories, network.places, strict=True)):
        levels = np.arange(len(column.categories))
        inputs = network.level_inputs(index)[features.level_codes(column, levels, held)]
        shares = features.shares(column, held)
        if shares is None:  # the last level is `other`, which a contract hopes not to see
            shares = np.append(np.full(levels.size - 1, 1.0 / (levels.size - 1)), 0.0)
        places[column.name] = place
        baseline[place] = shares @ inputs
    return AttributedModel(
        contract=contract,
        features=features,
        released=held,
        network=network,
        columns=tuple(column for column in contract.columns if column.name in places),
        places=places,
        baseline=baseline,
        reference="average" if features.private == "none" else "range",
        target=target,
    )


def _number_inputs(
    features: TableFeatures,
    released: tuple[Floats, ...],
    column: Column,
    columns: Mapping[str, NDArray[np.generic]],
) -> list[Floats]:
    low, high = column.bounds
    values = np.asarray(columns[column.name], dtype=np.float64)
    return features.number_inputs(
        column, to_unit_interval(values, low, high, column.transform), released
    )


def _no_series(rows: int) -> Floats:
    return np.zeros((rows, 0, 0))
