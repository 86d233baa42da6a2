"""What a member adds to the sum that says what a model leans on, and how the sum is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tables, worn

from clients import importance_tally
from clients.additive import AdditiveModel
from clients.contract import load_contract
from clients.importance import ROWS_MAX, ROWS_MIN, Importance, read_tally, together
from clients.importance_tally import AMOUNT_MAX, counted
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector
from clients.spec import NodeSpec, require_trainable
from clients.statistics import Floats
from clients.window_model import WindowModel, reading
from clients.window_reasons import AGE, window_scores
from privacy.canonical import canonical_json
from privacy.errors import RefusedError

# -- which rows count


@given(st.integers(0, 5 * ROWS_MAX))
def test_rows_count_all_or_as_many_as_may_be_each_once_and_in_order(rows: int) -> None:
    found = counted(rows)
    assert found.size == min(rows, ROWS_MAX)
    assert (np.diff(found) > 0).all()
    assert not found.size or (found[0] >= 0 and found[-1] < rows)
    np.testing.assert_array_equal(found, counted(rows))


@pytest.mark.parametrize("rows", [2_001, 3_000, 4_000, 10_000, 500_000])
@pytest.mark.parametrize("period", [2, 3, 7, 10, 97])
def test_rows_that_count_are_in_step_with_no_order_of_a_table(rows: int, period: int) -> None:
    found = counted(rows)
    assert np.diff(found, prepend=-1, append=rows).max() <= 3 * rows / ROWS_MAX
    share = np.bincount(found % period, minlength=period) / found.size
    assert np.abs(share - 1 / period).max() < 0.02


# -- what is read of a sum


def test_means_are_of_rows_and_shares_of_all_amounts() -> None:
    total = np.array([3.0, 40.0, 20.0, 60.0, -1e-7])
    found = read_tally(("a", "b", "c"), total, scale=-2.0, fewest=3)
    assert found is not None
    assert (found.members, found.rows) == (3, 40)
    assert found.amounts == (1.0, 3.0, 0.0)
    assert found.shares == (0.25, 0.75, 0.0)
    told = found.to_json()
    assert [one["input"] for one in told["inputs"]] == ["b", "a", "c"]
    assert Importance.from_json(told).to_json() == told


@pytest.mark.parametrize(
    ("members", "rows"), [(2, 4_000), (0, 0), (3, ROWS_MIN - 1), (-5, 100), (3, -100)]
)
def test_a_sum_of_too_few_members_or_rows_is_not_read(members: int, rows: int) -> None:
    total = np.array([members, rows, 5.0, 7.0], dtype=np.float64)
    assert read_tally(("a", "b"), total, scale=1.0, fewest=3) is None
    enough = np.array([3.0, ROWS_MIN, 5.0, 7.0])
    assert read_tally(("a", "b"), enough, scale=1.0, fewest=3) is not None


def test_a_model_that_leans_on_nothing_has_shares_of_nothing() -> None:
    found = read_tally(("a", "b"), np.array([3.0, 10.0, 0.0, 0.0]), scale=1.0, fewest=2)
    assert found is not None
    assert found.shares == (0.0, 0.0)


def test_folds_count_by_their_rows() -> None:
    one = Importance(members=3, rows=10, inputs=("a", "b"), amounts=(1.0, 0.0))
    other = Importance(members=4, rows=30, inputs=("b", "a"), amounts=(4.0, 2.0))
    found = together([one, other])
    assert found is not None
    assert (found.members, found.rows, found.inputs) == (3, 40, ("a", "b"))
    assert found.amounts == (1.75, 3.0)
    assert together([]) is None


# -- what a member adds


def learner_of(
    folder: Path, kind: str = "binary", **changes: Any  # noqa: ANN401 - any setting
) -> tuple[Learner, Any, list[Floats]]:  # fmt: skip
    """A model of random weights, all rows, and the statistics."""
    where = tables.write(folder, kind)
    contract = load_contract(where.contract)
    spec = {
        "task": "credit", "seed": 3, "features": {"bins": 4, "rare_below": 5},
        "model": {"hidden": [6], "linear": True}, "training": {"rounds": 1}, "explain": True,
    }  # fmt: skip
    settings = NodeSpec.model_validate_json(canonical_json(spec | changes))
    learner = Learner(contract, settings, "cpu")
    rows = learner.scaled(
        pd.concat([one.train for one in read_members(contract, where.root).values()])
    )
    released = [learner.tally_statistics(rows, [])]
    learner.start(released)
    weights = np.random.default_rng(1).normal(0, 0.4, learner.length)
    from_vector(learner.network, weights.astype(np.float32))
    return learner, rows, released


def test_an_additive_model_is_told_by_its_exact_amounts(tmp_path: Path) -> None:
    learner, rows, released = learner_of(tmp_path, model={"hidden": []})
    model = learner.explained(released)
    assert isinstance(model, AdditiveModel)
    columns = {
        one.name: rows[one.name].cat.codes.to_numpy()
        if one.type == "category"
        else rows[one.name].to_numpy(dtype=np.float64)
        for one in model.columns
    }
    exact = np.abs(model.amounts(columns)).sum(axis=0)
    told = learner.importance(rows, released)
    assert told[0] == 1
    assert told[1] == len(rows)
    assert learner.importance_inputs == tuple(one.name for one in model.columns)
    np.testing.assert_allclose(told[2:], exact, rtol=1e-4)
    # and the mean over the training rows is what its curves say that each column matters
    weights = [model.curve(name).weight for name in learner.importance_inputs]
    np.testing.assert_allclose(told[2:] / len(rows), weights, rtol=0.05)


@pytest.mark.parametrize("kind", ["binary", "count", "value"])
def test_tallies_add_up_to_that_of_all_rows(tmp_path: Path, kind: str) -> None:
    learner, rows, released = learner_of(tmp_path, kind)
    parts = [learner.importance(rows[rows["member"] == name] if "member" in rows else rows[at::3],
                                released)
             for at, name in enumerate(tables.MEMBERS)]  # fmt: skip
    whole = learner.importance(rows, released)
    np.testing.assert_allclose(np.sum(parts, axis=0)[1:], whole[1:], rtol=1e-6)
    assert np.sum(parts, axis=0)[0] == 3
    assert whole.size == learner.importance_length == 2 + 3


def test_sensors_are_told_as_single_windows_are(tmp_path: Path) -> None:
    made = worn.trained(tmp_path, rounds=2, explain=True)
    learner = made.learner
    assert learner.importance_inputs == (*worn.SENSORS, AGE)
    told = learner.importance(made.rows, made.released)
    model = learner.explained(made.released)
    assert isinstance(model, WindowModel)
    windows = model.features.test_windows(made.rows, made.released)
    assert told[1] == windows.last.size
    amounts = model.amounts(reading(windows), None)
    sizes = np.abs(amounts.series.sum(axis=1)).sum(axis=0)
    np.testing.assert_allclose(told[2:-1], sizes)
    np.testing.assert_allclose(told[-1], np.abs(amounts.age).sum())
    # and as the reasons of a window name them
    row = int(windows.last[0])
    score = next(one.score for one in window_scores(model, made.rows, every=1) if one.row == row)
    factors = {one.column: one.amount for one in score.factors}
    own = amounts.series[0].sum(axis=0)
    np.testing.assert_allclose([factors[name] for name in worn.SENSORS], own, rtol=1e-6, atol=1e-9)
    # the wear is in heat and speed; hum was made to say nothing
    assert min(told[2], told[3]) > 1.5 * told[4]


def test_life_is_told_in_its_own_unit(tmp_path: Path) -> None:
    made = worn.trained(tmp_path, "remaining_life", rounds=1, explain=True)
    told = made.learner.importance(made.rows, made.released)
    scale = made.learner.target.own_scale[0]
    assert scale > 1
    found = made.learner.read_importance(np.append(3.0, told[1:] * 2), fewest=3)
    assert found is not None
    np.testing.assert_allclose(found.amounts, told[2:] / told[1] * scale)


@pytest.mark.parametrize("window", [False, True])
def test_a_member_without_rows_adds_nothing(tmp_path: Path, window: bool) -> None:
    learner: Learner
    if window:
        made = worn.trained(tmp_path, rounds=0, explain=True)
        learner, rows, released = made.learner, made.rows, made.released
    else:
        learner, rows, released = learner_of(tmp_path)
    told = learner.importance(rows.iloc[:0], released)
    np.testing.assert_array_equal(told, np.zeros(learner.importance_length))


def test_many_rows_count_as_many_as_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, rows, released = learner_of(tmp_path)
    whole = learner.importance(rows, released)
    monkeypatch.setattr(importance_tally, "ROWS_MAX", 200)
    part = learner.importance(rows, released)
    assert (whole[1], part[1]) == (len(rows), 200)
    # a part that is spread evenly says about the same
    np.testing.assert_allclose(part[2:] / part[1], whole[2:] / whole[1], rtol=0.2)
    np.testing.assert_array_equal(part, learner.importance(rows, released))


def test_a_wild_amount_counts_for_no_more_than_the_bound(tmp_path: Path) -> None:
    learner, rows, released = learner_of(tmp_path, model={"hidden": []})
    from_vector(learner.network, np.full(learner.length, 1e6, np.float32))
    told = learner.importance(rows, released)
    assert told[2:].max() <= AMOUNT_MAX * len(rows)
    assert told[2:].max() > AMOUNT_MAX * len(rows) / 2


def test_a_model_whose_amounts_do_not_add_up_says_nothing_and_its_test_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, rows, released = learner_of(tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise RefusedError("The amounts of a score do not add up to it.")

    monkeypatch.setattr("clients.attributed.integrated_gradients", broken)
    np.testing.assert_array_equal(learner.importance(rows, released), np.zeros(5))


def test_a_run_that_does_not_ask_sums_nothing_more(tmp_path: Path) -> None:
    learner, *_ = learner_of(tmp_path, explain=False)
    assert learner.importance_length == 0
    assert learner.importance_inputs == ()


def test_columns_that_a_run_leaves_aside_are_not_told(tmp_path: Path) -> None:
    learner, rows, released = learner_of(tmp_path, features={"without": ["load"]})
    assert learner.importance_inputs == ("amount", "code")
    assert learner.importance(rows, released).size == 4


def test_with_noise_a_node_refuses_whatever_the_launcher_let_pass() -> None:
    spec = NodeSpec.model_validate_json(
        canonical_json(
            {"task": "credit", "seed": 0, "model": {"hidden": []}, "training": {"rounds": 1},
             "explain": True}
        )
    )  # fmt: skip
    with pytest.raises(RefusedError, match="explain sums what no noise covers"):
        require_trainable(spec)
