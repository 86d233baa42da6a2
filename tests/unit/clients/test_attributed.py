"""Challengers: what each column did to a score, attributed, and tested by removal."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from support import asked, tables

from clients.additive import AdditiveModel, additive_model
from clients.attributed import AttributedModel, attributed_model
from clients.contract import load_contract
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector, to_vector
from clients.reasons import scores, sentence
from clients.scoring.network import Design, read_network
from clients.spec import NodeSpec
from clients.statistics import Floats
from clients.table_features import TableFeatures
from clients.train import score, train
from privacy.canonical import canonical_json
from privacy.plan import PrivacyPlan

Columns = dict[str, NDArray[np.generic]]


def _made(
    folder: Path,
    kind: str = "binary",
    *,
    rounds: int = 0,
    plan: PrivacyPlan | None = None,
    **changes: Any,  # noqa: ANN401 - any key of a manifest's settings
) -> tuple[Learner, AttributedModel, pd.DataFrame, list[Floats]]:
    where = tables.write(folder, kind)
    contract = load_contract(where.contract)
    spec = NodeSpec.model_validate_json(
        canonical_json(
            {
                "task": "credit",
                "seed": 3,
                "model": {"hidden": [9, 5], "activation": "relu", "linear": True},
                "features": {"bins": 5, "rare_below": 10},
                "training": {"rounds": 6, "local_epochs": 5, "batch_rows": 32,
                             "learning_rate": 0.01},
                **changes,
            }
        )
    )  # fmt: skip
    learner = Learner(contract, spec, "cpu", plan=plan)
    rows = pd.concat([one.train for one in read_members(contract, where.root).values()])
    rows = learner.scaled(rows)
    released = [learner.tally_statistics(rows, [])]
    learner.start(released)
    if rounds:
        examples = learner.training_examples(rows, released)
        for index in range(rounds):
            train(
                learner.network, examples, learner.target, spec.training, round_index=index + 1,
                seed=index,
            )  # fmt: skip
    else:
        weights = np.random.default_rng(1).normal(0, 0.4, learner.length)
        from_vector(learner.network, weights.astype(np.float32))
    model = learner.explained(released)
    assert isinstance(model, AttributedModel)
    return learner, model, rows, released


def _columns(model: AttributedModel | AdditiveModel, rows: pd.DataFrame) -> Columns:
    return {
        column.name: (
            rows[column.name].cat.codes.to_numpy()
            if column.type == "category"
            else rows[column.name].to_numpy(dtype=np.float64)
        )
        for column in model.columns
    }


@pytest.mark.parametrize("kind", ["binary", "count", "value"])
@pytest.mark.parametrize("one_hot_up_to", [32, 2])
@pytest.mark.parametrize("private", [False, True])
def test_base_and_amounts_add_up_to_what_the_network_says(
    tmp_path: Path, kind: str, one_hot_up_to: int, private: bool
) -> None:
    learner, model, rows, released = _made(
        tmp_path,
        kind,
        plan=asked.PLAN if private and kind != "count" else None,
        model={"hidden": [6], "activation": "gelu", "one_hot_up_to": one_hot_up_to},
    )
    base, amounts = model.parts(_columns(model, rows))
    output = base + amounts.sum(axis=1)
    examples = learner.training_examples(rows, released)
    told = score(learner.network, examples, learner.target)
    if kind == "count":
        output = np.exp(output) * examples.exposure
    np.testing.assert_allclose(output, told, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(base, base[0])


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("one_hot_up_to", [32, 2])
def test_without_hidden_layers_the_attribution_is_the_exact_one(
    tmp_path: Path, one_hot_up_to: int, private: bool
) -> None:
    where = tables.write(tmp_path)
    contract = load_contract(where.contract)
    model_spec = {"hidden": [], "linear": True, "one_hot_up_to": one_hot_up_to}
    spec = NodeSpec.model_validate_json(
        canonical_json(
            {"task": "credit", "seed": 3, "model": model_spec, "features": {"bins": 5},
             "training": {"rounds": 1}}
        )
    )  # fmt: skip
    plan = asked.PLAN if private else None
    learner = Learner(contract, spec, "cpu", plan=plan)
    rows = pd.concat([one.train for one in read_members(contract, where.root).values()])
    released = [learner.tally_statistics(rows, [])]
    learner.start(released)
    weights = np.random.default_rng(1).normal(0, 0.4, learner.length)
    from_vector(learner.network, weights.astype(np.float32))
    features = TableFeatures(contract, spec, private="unit" if private else "none")
    exact = additive_model(
        contract, spec, features, released, network=learner.network, target=learner.target
    )
    design = Design(
        kind="mlp", hidden=(), activation="relu", embedding=4, one_hot_up_to=one_hot_up_to,
        linear=True,
    )  # fmt: skip
    network = read_network(to_vector(learner.network), design, features.shape(released))
    model = attributed_model(contract, features, released, network=network, target=learner.target)
    base, amounts = model.parts(_columns(model, rows))
    np.testing.assert_allclose(base, exact.base, atol=1e-6)
    np.testing.assert_allclose(amounts, exact.amounts(_columns(exact, rows)), atol=1e-6)
    assert isinstance(learner.explained(released), AdditiveModel)


def _faithful(model: AttributedModel, flat: Floats, amounts: Floats) -> bool:
    """Whether the column with the highest amount matters most when it is put to the baseline."""
    rows = np.arange(len(flat))
    before = model.outputs(flat)
    sign = np.sign(amounts.sum(axis=1))
    rng = np.random.default_rng(4)
    chosen = {
        "most": (amounts * sign[:, None]).argmax(axis=1),
        "random": rng.integers(0, amounts.shape[1], len(flat)),
        "least": np.abs(amounts).argmin(axis=1),
    }
    moved: dict[str, float] = {}
    for name, column in chosen.items():
        without = flat.copy()
        for row in rows:
            place = model.places[model.columns[column[row]].name]
            without[row, place] = model.baseline[place]
        moved[name] = float(((before - model.outputs(without)) * sign).mean())
    return moved["most"] > 1.7 * moved["random"] and moved["most"] > 3 * moved["least"]


def test_the_column_with_the_highest_amount_matters_most(tmp_path: Path) -> None:
    _, model, rows, _ = _made(tmp_path, rounds=3)
    columns = _columns(model, rows.head(150))
    _, amounts = model.parts(columns)
    assert _faithful(model, model.flat(columns), amounts)
    # the twin: the same amounts, told of other columns
    shuffled = np.random.default_rng(6).permuted(amounts, axis=1)
    assert not _faithful(model, model.flat(columns), shuffled)


def test_a_column_that_the_network_does_not_look_at_adds_nothing(tmp_path: Path) -> None:
    learner, model, rows, released = _made(tmp_path)
    weights = to_vector(learner.network)
    place = model.places["amount"]
    width = model.network.width
    first = weights[: 9 * width].reshape(9, width)
    first[:, place] = 0.0
    direct = 9 * width + 9 + 9 * 5 + 5
    weights[direct : direct + width][place] = 0.0
    from_vector(learner.network, weights)
    blind = learner.explained(released)
    assert isinstance(blind, AttributedModel)
    amounts = blind.parts(_columns(blind, rows))[1]
    names = [column.name for column in blind.columns]
    assert np.abs(amounts[:, names.index("amount")]).max() == 0
    assert np.abs(amounts).max(axis=0).min() == 0 < np.abs(amounts).max()


def test_scores_have_reasons_in_words(tmp_path: Path) -> None:
    _, model, rows, _ = _made(tmp_path, rounds=2)
    part = rows.head(40)
    for one in scores(model, part["__unit"].astype(str).tolist(), _columns(model, part)):
        assert {factor.column for factor in one.factors} == {"load", "amount", "code"}
        for factor in one.reasons:
            assert "higher than at the average" in sentence(model, factor, "en")
            assert "升高" in sentence(model, factor, "zh")
