"""A trained additive model -> its plain form, read off the preparation that it was trained with."""

import numpy as np

from clients.additive import AdditiveModel, Curve, raw_amount
from clients.contract import Column
from clients.reasons import column_words
from clients.scoring.additive import AdditiveScorer, LevelTable, NumberCurve
from clients.scoring.column import InputColumn
from clients.scoring.words import ColumnWords, Language
from clients.statistics import BINS, Floats


def compiled(model: AdditiveModel) -> AdditiveScorer:
    """The same model in plain numbers; outputs are its own to rounding."""
    return AdditiveScorer(
        inputs=tuple(input_column(one.column) for one in model.curves),
        curves=tuple(
            _table(model, one) if one.column.type == "category" else _number_curve(model, one)
            for one in model.curves
        ),
        base=model.base,
        link=model.target.kind,
        scale=float(model.target.scale),
        reference=model.reference,
    )


def input_column(column: Column) -> InputColumn:
    """What the edge has to know of one of a contract's inputs."""
    words = column_words(column)
    says: dict[Language, str] = {"en": words.says.get("en", ""), "zh": words.says.get("zh", "")}
    category = column.type == "category"
    return InputColumn(
        name=column.name,
        header=column.file_name,
        kind="category" if category else "integer" if column.type == "integer" else "number",
        bounds=(0.0, 1.0) if category else column.bounds,
        transform=column.transform,
        levels=column.levels or (),
        hash_levels=column.hash_levels or 0,
        indicator=column.indicator,
        declared=column.declared,
        words=ColumnWords(name=column.name, unit=column.unit, says=says),
    )


def _table(model: AdditiveModel, curve: Curve) -> LevelTable:
    codes = np.arange(len(curve.column.categories))
    raw = raw_amount(model.features, model.released, curve.column, curve.weights, codes)
    return LevelTable(values=raw - curve.centre)


def _number_curve(model: AdditiveModel, curve: Curve) -> NumberCurve:
    features, released, column = model.features, model.released, curve.column

    def inputs(places: Floats) -> Floats:
        return np.stack(features.number_inputs(column, places, released), axis=1)

    ranked = column.transform == "quantile" and features.private == "none"
    straight, steps = curve.weights.copy(), np.zeros(0)
    if ranked:
        straight[0] = 0.0
        middles = (np.arange(BINS) + 0.5) / BINS
        steps = inputs(middles)[:, 0] * curve.weights[0]
    knots = features.bends(column, released)
    missing = float((inputs(np.array([np.nan])) @ curve.weights)[0])
    return NumberCurve(
        knots=knots,
        values=inputs(knots) @ straight - curve.centre,
        steps=steps,
        missing=missing - curve.centre,
    )
