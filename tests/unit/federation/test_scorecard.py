"""A card of points over whole numbers: bands that a person with the number finds at once."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tables

from clients.additive import AdditiveModel
from clients.contract import load_contract
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector
from clients.spec import NodeSpec
from federation.scorecard import Band, make_scorecard
from privacy.canonical import canonical_json

SPEC = {
    "task": "credit",
    "seed": 3,
    "model": {"hidden": []},
    "features": {"bins": 8},
    "training": {"rounds": 1},
}


def model(folder: Path, low: float, high: float) -> tuple[AdditiveModel, pd.DataFrame]:
    """An additive model with random weights, which also reads whole numbers of this range."""
    frame = tables.table("binary")
    draw = np.random.default_rng(7)
    whole = draw.integers(math.ceil(low), math.floor(high) + 1, len(frame))
    absent = draw.uniform(size=len(frame)) < 0.1
    frame["late_months"] = pd.Series(whole, frame.index, dtype="Int64").mask(absent)
    column = {"name": "late_months", "type": "integer", "class": "L3", "range": [low, high]}
    columns = [*tables.columns("binary"), column]
    where = tables.write(folder, rows=frame, contract_changes={"columns": columns})
    contract = load_contract(where.contract)
    learner = Learner(contract, NodeSpec.model_validate_json(canonical_json(SPEC)), "cpu")
    rows = pd.concat([one.train for one in read_members(contract, where.root).values()])
    rows = learner.scaled(rows)
    released = [learner.tally_statistics(rows, [])]
    learner.start(released)
    weights = np.random.default_rng(1).normal(0, 0.8, learner.length)
    from_vector(learner.network, weights.astype(np.float32))
    return learner.additive(released), rows


def found(bands: list[Band], value: float) -> Band:
    """The one band that holds a whole number."""
    if math.isnan(value):
        return bands[-1]
    fits = []
    for band in bands[:-1]:
        least, _, most = band.said.partition(" to ")
        if int(least) <= value <= int(most or least):
            fits.append(band)
    (only,) = fits
    return only


@pytest.mark.parametrize("bounds", [(-2, 8), (0, 12), (0, 400), (-0.5, 8.7), (5, 6)])
def test_bands_of_whole_numbers_are_whole_numbers(
    tmp_path: Path, bounds: tuple[float, float]
) -> None:
    additive, rows = model(tmp_path, *bounds)
    card = make_scorecard(additive)
    bands = [band for band in card.bands if band.column == "late_months"]
    assert bands[-1].said == "missing"
    assert len(bands) <= math.floor(bounds[1]) - math.ceil(bounds[0]) + 2
    values = rows["late_months"].to_numpy(dtype=np.float64)
    exact = -40 / math.log(2) * additive.amount(additive.curve("late_months"), values)
    for value, amount in zip(values, exact, strict=True):
        assert abs(found(bands, value).points - amount) <= card.off_by + 1e-9
    # how often each band occurs is counted, not read off a curve
    for band in bands:
        count = sum(found(bands, value) is band for value in values)
        assert band.share == pytest.approx(count / len(values), abs=1e-9)


def test_other_numbers_have_bands_that_meet(tmp_path: Path) -> None:
    additive, _ = model(tmp_path, 0, 1e6)
    card = make_scorecard(additive)
    for name in ("amount", "late_months"):
        ends = [
            tuple(float(part) for part in band.said.split(" to "))
            for band in card.bands
            if band.column == name and band.said != "missing"
        ]
        assert [first[1] for first in ends[:-1]] == [later[0] for later in ends[1:]]
        low, high = additive.curve(name).column.bounds
        assert (ends[0][0], ends[-1][1]) == (low, high)
