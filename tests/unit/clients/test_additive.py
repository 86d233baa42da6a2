"""An additive model taken apart gives its network's own scores, and every score its reasons."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import asked, tables

from clients.additive import AdditiveModel, grid_values
from clients.contract import load_contract
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector
from clients.reasons import Factor, Score, counterfactual, scores, sentence
from clients.spec import NodeSpec
from clients.statistics import Floats, to_unit_interval
from clients.train import score
from federation.model_pages import counterfactual_sentence
from federation.scorecard import make_scorecard
from privacy.canonical import canonical_json
from privacy.errors import InputError, RefusedError
from privacy.plan import PrivacyPlan


def _spec(**changes: object) -> NodeSpec:
    told = {
        "task": "credit",
        "seed": 3,
        "model": {"hidden": []},
        "features": {"bins": 5, "rare_below": 10},
        "training": {"rounds": 1},
        **changes,
    }
    return NodeSpec.model_validate_json(canonical_json(told))


def _made(
    folder: Path, kind: str, *, plan: PrivacyPlan | None = None, **changes: object
) -> tuple[Learner, AdditiveModel, pd.DataFrame, list[Floats]]:
    where = tables.write(folder, kind)
    contract = load_contract(where.contract)
    learner = Learner(contract, _spec(**changes), "cpu", plan=plan)
    rows = pd.concat([one.train for one in read_members(contract, where.root).values()])
    rows = learner.scaled(rows)
    released = [learner.tally_statistics(rows, [])]
    learner.start(released)
    rng = np.random.default_rng(1)
    from_vector(learner.network, rng.normal(0, 0.4, learner.length).astype(np.float32))
    return learner, learner.additive(released), rows, released


def _columns(
    model: AdditiveModel, rows: pd.DataFrame
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]]:
    return {
        one.column.name: (
            rows[one.column.name].cat.codes.to_numpy()
            if one.column.type == "category"
            else rows[one.column.name].to_numpy(dtype=np.float64)
        )
        for one in model.curves
    }


@pytest.mark.parametrize("kind", ["binary", "count", "value"])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("one_hot_up_to", [32, 2])
def test_base_and_factors_add_up_to_what_the_network_says(
    tmp_path: Path, kind: str, linear: bool, one_hot_up_to: int
) -> None:
    model = {"hidden": [], "linear": linear, "one_hot_up_to": one_hot_up_to}
    learner, additive, rows, released = _made(tmp_path, kind, model=model)
    output = additive.base + additive.amounts(_columns(additive, rows)).sum(axis=1)
    examples = learner.training_examples(rows, released)
    told = score(learner.network, examples, learner.target)
    if kind == "count":
        output = np.exp(output) * examples.exposure
    np.testing.assert_allclose(output, told, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("bins", [0, 6])
@pytest.mark.parametrize("kind", ["binary", "value"])
def test_a_private_model_is_taken_apart_as_exactly(tmp_path: Path, kind: str, bins: int) -> None:
    plan = asked.PLAN
    learner, additive, rows, released = _made(
        tmp_path, kind, plan=plan, features={"bins": bins, "rare_below": 0}
    )
    output = additive.base + additive.amounts(_columns(additive, rows)).sum(axis=1)
    told = score(learner.network, learner.training_examples(rows, released), learner.target)
    np.testing.assert_allclose(output, told, rtol=2e-4, atol=2e-4)
    assert additive.reference == "range"
    for curve in additive.curves:
        if curve.column.type == "category":
            continue
        mean = float(additive.amount(curve, grid_values(curve.column)).mean())
        assert abs(mean) < 1e-9


def test_the_average_row_is_the_reference(tmp_path: Path) -> None:
    _, additive, rows, _ = _made(tmp_path, "binary")
    mean = additive.amounts(_columns(additive, rows)).mean(axis=0)
    assert additive.reference == "average"
    assert np.abs(mean).max() < 0.02  # within a histogram's bin


def test_a_model_with_hidden_layers_has_no_factors(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no sum of curves"):
        _made(tmp_path, "binary", model={"hidden": [4]})


def test_taking_a_factor_away_changes_a_score_by_just_that_factor(tmp_path: Path) -> None:
    """Faithfulness by removal: the column is put to where it adds nothing."""
    learner, additive, rows, released = _made(tmp_path, "binary")
    amounts = additive.amounts(_columns(additive, rows))
    before = score(learner.network, learner.training_examples(rows, released), learner.target)
    for place, curve in enumerate(additive.curves):
        if curve.column.type == "category":
            continue
        grid = grid_values(curve.column)
        neutral = float(grid[np.abs(additive.amount(curve, grid)).argmin()])
        left = float(additive.amount(curve, np.array([neutral]))[0])
        changed = rows.assign(**{curve.column.name: neutral})
        after = score(learner.network, learner.training_examples(changed, released), learner.target)
        np.testing.assert_allclose(before - after, amounts[:, place] - left, atol=2e-4)


def _scores(model: AdditiveModel, rows: pd.DataFrame) -> Sequence[Score]:
    return scores(model, rows["__unit"].astype(str).tolist(), _columns(model, rows))


def test_a_score_without_factors_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="sum of its factors"):
        Score(unit="a", base=0.3, output=0.3, value=0.5, factors=())
    factor = Factor(column="x", value=1.0, amount=0.2)
    with pytest.raises(ValueError, match="sum of its factors"):
        Score(unit="a", base=0.3, output=0.6, value=0.5, factors=(factor,))
    Score(unit="a", base=0.3, output=0.5, value=0.6, factors=(factor,))


def test_reasons_are_what_raised_the_score_in_order(tmp_path: Path) -> None:
    _, additive, rows, _ = _made(tmp_path, "binary")
    for one in _scores(additive, rows.head(50)):
        amounts = [factor.amount for factor in one.reasons]
        assert amounts == sorted(amounts, reverse=True)
        assert all(amount > 0 for amount in amounts)
        for factor in one.factors:
            english = sentence(additive, factor, "en")
            chinese = sentence(additive, factor, "zh")
            assert ("higher" in english) == (factor.amount >= 0)
            assert ("升高" in chinese) == (factor.amount >= 0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_counterfactual_is_as_good_as_the_best_of_all_allowed_values(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    made = _CACHE.get("made") or _made(tmp_path_factory.mktemp("additive"), "binary")
    _CACHE["made"] = made
    _, additive, rows, _ = made
    one = _scores(additive, rows.iloc[[data.draw(st.integers(0, len(rows) - 1))]])[0]
    low = data.draw(st.floats(0, 0.9))
    allowed = {"load": (low, data.draw(st.floats(low, 1.0)))}
    if data.draw(st.booleans()):
        allowed["amount"] = (100.0, 1e5)
    aim = data.draw(st.floats(0.01, 0.99))
    found = counterfactual(additive, one, aim=aim, allowed=allowed)
    lowest = one.output
    for name, (least, most) in allowed.items():
        places = np.linspace(least, most, 201)
        own = next(f for f in one.factors if f.column == name)
        gain = additive.amount(additive.curve(name), places) - own.amount
        lowest += min(float(gain.min()), 0.0)
    reachable = float(additive.value(np.array([lowest]))[0]) <= aim
    assert found.reached == (reachable or one.value <= aim)
    for change in found.changes:
        least, most = allowed[change.column]
        assert least <= change.after <= most
        assert change.amount < 0
    assert found.value <= one.value + 1e-12
    total = one.output + math.fsum(change.amount for change in found.changes)
    assert math.isclose(found.output, total, abs_tol=1e-9)


_CACHE: dict[str, tuple[Learner, AdditiveModel, pd.DataFrame, list[Floats]]] = {}


def test_what_may_not_change_is_refused(tmp_path: Path) -> None:
    _, additive, rows, _ = _made(tmp_path, "binary")
    one = _scores(additive, rows.head(1))[0]
    for name, bounds, words in (
        ("code", (0.0, 1.0), "a category"),
        ("no_such", (0.0, 1.0), "does not read it"),
        ("load", (0.0, 2.0), "within 0 and 1"),
        ("load", (0.5, 0.2), "lower one first"),
        ("load", (math.nan, 0.2), "within 0 and 1"),
    ):
        with pytest.raises(InputError, match=words):
            counterfactual(additive, one, aim=0.1, allowed={name: bounds})


@pytest.mark.parametrize(
    ("kind", "aim", "words"),
    [
        ("binary", 1.5, "a chance; give one between 0 and 1"),
        ("binary", 0.0, "a chance; give one between 0 and 1"),
        ("binary", math.nan, "a chance; give one between 0 and 1"),
        ("count", 0.0, "a rate; give one above 0"),
        ("count", math.inf, "a rate; give one above 0"),
        ("value", math.nan, "is no number"),
    ],
)
def test_an_aim_is_a_value_that_a_score_can_have(
    tmp_path: Path, kind: str, aim: float, words: str
) -> None:
    _, additive, rows, _ = _made(tmp_path, kind)
    one = _scores(additive, rows.head(1))[0]
    with pytest.raises(InputError, match=words):
        counterfactual(additive, one, aim=aim, allowed={"load": (0.0, 1.0)})


def test_an_aim_that_is_met_and_one_that_cannot_be_are_told_apart(tmp_path: Path) -> None:
    _, additive, rows, _ = _made(tmp_path, "binary")
    one = _scores(additive, rows.head(1))[0]
    low = {"load": (0.0, 0.0)}
    met = counterfactual(additive, one, aim=(1 + one.value) / 2, allowed=low)
    assert counterfactual_sentence(met, "en") == "The aim is met already."
    assert counterfactual_sentence(met, "zh") == "已经达到目标。"
    never = counterfactual(additive, one, aim=one.value / 2, allowed={})
    assert counterfactual_sentence(never, "en") == "Nothing that may change would help."


def test_points_follow_the_model_within_what_the_card_says(tmp_path: Path) -> None:
    _, additive, rows, _ = _made(tmp_path, "binary")
    card = make_scorecard(additive, anchor=600, odds=20, double=40)
    columns = _columns(additive, rows)
    exact = 600 - 40 / math.log(2) * (
        math.log(20) + additive.base + additive.amounts(columns).sum(axis=1)
    )
    points = np.full(len(rows), float(card.start))
    for curve in additive.curves:
        bands = [one for one in card.bands if one.column == curve.column.name]
        for row in range(len(rows)):
            points[row] += _points(bands, curve, columns[curve.column.name][row])
    assert np.abs(points - exact).max() <= card.off_by + 1e-6
    assert np.corrcoef(points, exact)[0, 1] > 0.97


def _points(bands, curve, value) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
    if curve.column.type == "category":
        return next(one.points for one in bands if one.said == curve.column.categories[int(value)])  # type: ignore[no-any-return]
    if math.isnan(value):
        return bands[-1].points  # type: ignore[no-any-return]
    for one in bands[:-1]:
        low, high = (float(part) for part in one.said.split(" to "))
        if low <= value <= high:
            return one.points  # type: ignore[no-any-return]
    return bands[-2].points  # type: ignore[no-any-return]


def test_places_of_the_grid_are_even_where_the_model_sees_them(tmp_path: Path) -> None:
    _, additive, _, _ = _made(tmp_path, "binary")
    for curve in additive.curves:
        if curve.column.type == "category":
            continue
        low, high = curve.column.bounds
        seen = to_unit_interval(grid_values(curve.column), low, high, curve.column.transform)
        np.testing.assert_allclose(np.diff(seen), 1 / 1024, atol=1e-9)
