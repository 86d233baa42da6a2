"""A scenario's table model says what the node that trained it says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tables

from clients.contract import load_contract
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector
from clients.spec import NodeSpec
from clients.train import score
from federation.scenarios.scored import TableModel
from privacy.canonical import canonical_json


@pytest.mark.parametrize("kind", ["binary", "count", "value"])
@pytest.mark.parametrize("weight", [1.0, 5.0, "balanced"])
def test_it_says_what_its_network_says_of_these_rows(
    tmp_path: Path, kind: str, weight: float | str
) -> None:
    where = tables.write(tmp_path, kind)
    contract = load_contract(where.contract)
    told = {
        "task": "credit",
        "seed": 3,
        "model": {"hidden": [4]},
        "features": {"bins": 5, "rare_below": 10},
        "training": {"rounds": 1, "positive_weight": weight},
    }
    spec = NodeSpec.model_validate_json(canonical_json(told))
    learner = Learner(contract, spec, "cpu")
    rows = pd.concat([one.train for one in read_members(contract, where.root).values()])
    rows = learner.scaled(rows)
    released = [learner.tally_statistics(rows, [])]
    learner.start(released)
    values = np.random.default_rng(1).normal(0, 0.4, learner.length).astype(np.float32)
    from_vector(learner.network, values)
    said = TableModel(contract, spec, values, tuple(released)).said(rows)
    own = score(learner.network, learner.training_examples(rows, released), learner.target)
    if kind == "binary":
        # where positive rows counted more, both put the odds right
        assert np.allclose(said / (1 - said), np.exp(own), rtol=1e-4)
    elif kind == "count":
        exposure = rows["__exposure"].to_numpy(dtype=np.float64)
        assert np.allclose(said * exposure, own, rtol=1e-4)
    else:
        assert np.allclose(said, own, rtol=1e-4, atol=1e-4)
