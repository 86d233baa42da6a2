"""Held curves are monotone, the nearest ones, and the same at every member; nothing else moves."""

import hashlib
import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from support import asked, direct, tables

from clients.additive import AdditiveModel, raw_amount
from clients.contract import load_contract
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector
from clients.monotone_hold import HeldCurve, Hold, isotonic
from clients.spec import NodeSpec
from clients.statistics import Floats
from clients.table_features import CurveForm
from federation.config import load_project
from federation.scorecard import make_scorecard
from privacy.canonical import canonical_json
from privacy.errors import InputError, RefusedError

GRID = 2001
SIGNS = {"load": 1.0, "amount": -1.0}
FORMS = ("ramps", "ramps and linear", "slope", "tents", "private slope")


def _columns(kind: str = "binary", **held: str) -> list[dict[str, Any]]:
    return [
        column | {"monotone": held[column["name"]]} if column["name"] in held else column
        for column in tables.columns(kind)
    ]


@cache
def _made(form: str) -> tuple[Learner, tuple[Floats, ...], NodeSpec]:
    told = {
        "task": "credit",
        "seed": 3,
        "model": {"hidden": [], "linear": form == "ramps and linear"},
        "features": {"bins": 0 if "slope" in form else 6, "rare_below": 0},
        "training": {"rounds": 1},
    }
    spec = NodeSpec.model_validate_json(canonical_json(told))
    with TemporaryDirectory() as folder:
        changes = {"columns": _columns(load="up", amount="down")}
        where = tables.write(Path(folder), contract_changes=changes)
        contract = load_contract(where.contract)
        rows = pd.concat([one.train for one in read_members(contract, where.root).values()])
    plan = asked.PLAN if form in {"tents", "private slope"} else None
    learner = Learner(contract, spec, "cpu", plan=plan)
    released = (learner.tally_statistics(rows, []),)
    learner.start(released)
    return learner, released, spec


def _taken_apart(form: str, weights: Floats) -> AdditiveModel:
    learner, released, _ = _made(form)
    from_vector(learner.network, weights.astype(np.float32))
    return learner.additive(released)


def _amounts(model: AdditiveModel, name: str) -> tuple[Floats, float]:
    """What one column says over its range, and of a missing value; the bias is in it."""
    column = model.contract.column(name)
    curve = model.curve(name)
    low, high = column.bounds
    even = np.linspace(low, high, GRID)
    skewed = low + np.expm1(np.linspace(0, np.log1p(high - low), GRID))
    values = np.append(np.sort(np.concatenate([even, skewed])), np.nan)
    raw = raw_amount(model.features, model.released, column, curve.weights, values)
    bias = model.base - sum(one.centre for one in model.curves)
    return raw[:-1] + bias, float(raw[-1]) + bias


def _random(form: str, seed: int, scale: float) -> Floats:
    length = _made(form)[0].length
    return np.random.default_rng(seed).normal(0, scale, length)


SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, scale=st.sampled_from([1e-6, 0.3, 50.0]))
def test_a_held_curve_never_turns(form: str, seed: int, scale: float) -> None:
    held = _made(form)[0].hold(_random(form, seed, scale))
    model = _taken_apart(form, held)
    for name, sign in SIGNS.items():
        steps = sign * np.diff(_amounts(model, name)[0])
        assert steps.min() >= -1e-12 * max(scale, 1.0)


@pytest.mark.parametrize("form", FORMS)
def test_the_twin_that_is_not_held_turns(form: str) -> None:
    """So that the test above can fail."""
    turned = 0
    for seed in range(5):
        model = _taken_apart(form, _random(form, seed, 0.3))
        turned += any(
            (sign * np.diff(_amounts(model, name)[0])).min() < -1e-3 for name, sign in SIGNS.items()
        )
    assert turned >= 3


@pytest.mark.parametrize("form", ["ramps", "ramps and linear", "tents"])
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_it_is_the_nearest_such_curve_at_its_places(form: str, seed: int) -> None:
    learner, released, _ = _made(form)
    weights = _random(form, seed, 0.5).astype(np.float32).astype(np.float64)
    held = learner.hold(weights)
    before, after = _taken_apart(form, weights), _taken_apart(form, held)
    shift = _bias(after) - _bias(before)
    assert form != "tents" or abs(shift) < 1e-12
    for name, sign in SIGNS.items():
        column = before.contract.column(name)
        one = before.features.form(column, released)
        shares = np.ones(one.places.size)
        if form != "tents":
            shares = _near(one.places, before.features.shares(column, released))
        told = [model.curve(name).weights for model in (before, after)]
        if form != "tents":  # a tent's weight is the curve at its place
            inputs = np.stack(before.features.number_inputs(column, one.places, released), axis=1)
            told = [inputs @ weight for weight in told]
        wanted = IsotonicRegression(increasing=sign > 0).fit_transform(
            np.arange(shares.size), told[0], sample_weight=shares
        )
        # curves are the same up to what went into the bias
        apart = told[1] - wanted
        np.testing.assert_allclose(apart, apart[0], atol=2e-5)


def _bias(model: AdditiveModel) -> float:
    return model.base - sum(one.centre for one in model.curves)


def _near(places: Floats, shares: Floats | None) -> Floats:
    """Rows about each place, by numpy's own interpolation."""
    assert shares is not None
    middles = (np.arange(1024) + 0.5) / 1024
    return np.array(
        [np.interp(middles, places, unit) @ shares[:-1] for unit in np.eye(places.size)]
    )


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_a_model_that_keeps_the_contract_comes_back_as_it_is(form: str, seed: int) -> None:
    hold = _made(form)[0].hold
    once = hold(_random(form, seed, 0.5))
    assert hold(once).tobytes() == once.tobytes()
    rounded = once.astype(np.float32)
    assert hold(rounded.astype(np.float64)).astype(np.float32).tobytes() == rounded.tobytes()
    # the mean of several is what a run releases
    several = np.stack([hold(_random(form, seed ^ n, 0.5)).astype(np.float32) for n in range(5)])
    mean = np.mean(several.astype(np.float64), axis=0).astype(np.float32)
    assert hold(mean.astype(np.float64)).astype(np.float32).tobytes() == mean.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_missing_values_and_other_columns_say_what_they_said(form: str) -> None:
    whole = _made(form)[0].hold
    hold = replace(whole, curves=tuple(one for one in whole.curves if one.sign > 0))
    weights = -np.abs(_random(form, 7, 0.5))
    before = _taken_apart(form, weights)
    values, missing = _amounts(before, "load")
    others = {name: before.curve(name).weights.copy() for name in ("code", "amount")}
    after = _taken_apart(form, hold(weights))
    found, still = _amounts(after, "load")
    assert np.abs(found - values).max() > 1e-4
    assert abs(still - missing) < 1e-5
    for name, weight in others.items():
        np.testing.assert_array_equal(after.curve(name).weights, weight)


@given(
    pairs=st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-6, 10)), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_isotonic_regression_is_the_known_one(pairs: list[tuple[float, float]]) -> None:
    values, weights = (list(part) for part in zip(*pairs, strict=True))
    found = isotonic(values, weights)
    assert all(one <= other for one, other in pairwise(found))
    wanted = IsotonicRegression().fit_transform(
        np.arange(len(values)), values, sample_weight=weights
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_projection_has_the_same_bytes_on_every_machine() -> None:
    """Members step the model apart; a machine whose arithmetic differs would be told here."""
    spread = [((n * 2654435761) % 2**32) / 2**31 - 1 for n in range(1, 61)]
    form = CurveForm(kind="ramps", places=np.linspace(0, 1, 20), gap=True)
    curve = HeldCurve(
        sign=1.0,
        start=0,
        form=form,
        standard=tuple(n / 7 - 1.3 for n in range(20)),
        missing=tuple(1.0 if n < 8 else 0.3 if n == 8 else 0.0 for n in range(19)),
        shares=tuple((n % 5 + 1) / 55 for n in range(20)),
    )
    hold = Hold(curves=(curve,), head=24, linear=0, bias=59)
    found = hold(np.array(spread)).astype("<f8").tobytes()
    assert hashlib.sha256(found).hexdigest()[:16] == "086bc0904ce2424e"


def _planted(seed: int = 0) -> pd.DataFrame:
    """Risk rises with load, but for a dip in the middle."""
    rows = tables.table("binary", rows=900, seed=seed)
    load = np.nan_to_num(rows["load"].to_numpy(), nan=0.5)
    risk = 4 * (load - 0.5) - 5 * ((load > 0.4) & (load < 0.7))
    rng = np.random.default_rng(seed)
    rows["label"] = (rng.uniform(size=len(rows)) < 1 / (1 + np.exp(-risk))).astype(int)
    return rows


CONFIG = {
    "model": {"hidden": []},
    "features": {"bins": 8, "rare_below": 5},
    "training": {"rounds": 4, "local_epochs": 2, "batch_rows": 16, "learning_rate": 0.1},
    "average_last": 2,
}


@pytest.mark.parametrize("server", ["fedavg", "fedadam"])
def test_a_federation_keeps_what_the_contract_says_and_its_twin_does_not(
    tmp_path: Path, server: str
) -> None:
    turns: dict[str, float] = {}
    twins = {"held": {"load": "up"}} | ({"twin": {}} if server == "fedavg" else {})
    for name, held in twins.items():
        where = tables.write(
            tmp_path / name,
            rows=_planted(),
            contract_changes={"columns": _columns(**held)},
            config_changes=CONFIG | {"server": {"kind": server, "learning_rate": 0.5}},
        )
        federation = direct.assemble(where.config, where.root)
        outcome = federation.run()
        assert len(federation.models()) == len(tables.MEMBERS)
        assert len(set(federation.models().values())) == 1
        project = load_project(where.config)
        spec = NodeSpec.model_validate_json(
            canonical_json(project.config.node_settings(seed=0, fold=None))
        )
        learner = Learner(project.contract, spec, "cpu")
        learner.start(outcome.statistics)
        from_vector(learner.network, outcome.model)
        model = learner.additive(outcome.statistics)
        turns[name] = float(np.diff(_amounts(model, "load")[0]).min())
        if held:
            assert learner.hold(outcome.model.astype(np.float64)).astype(np.float32).tobytes() == (
                outcome.model.tobytes()
            )
    assert turns["held"] >= -1e-12
    assert turns.get("twin", -1.0) < -1e-3


def test_personal_models_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network that is scored at a node is one that the contract allows."""
    seen: list[bool] = []
    tally = Learner.evaluation

    def checked(self: Learner, examples: Any) -> Floats:  # noqa: ANN401 - Examples
        own = self.vector().astype(np.float64)
        seen.append(self.hold(own).tobytes() == own.tobytes())
        return tally(self, examples)

    monkeypatch.setattr(Learner, "evaluation", checked)
    for name in ("whole", "broken"):
        where = tables.write(
            tmp_path / name,
            rows=_planted(),
            contract_changes={"columns": _columns(load="up")},
            config_changes=CONFIG
            | {"personal": {"epochs": 4, "learning_rate": 0.3}, "validation_share": 0.2},
        )
        direct.assemble(where.config, where.root).run()
        assert seen
        assert all(seen) == (name == "whole")  # else the test could not fail
        seen.clear()
        monkeypatch.setattr(Learner, "hold_network", lambda _: None)


def test_a_model_that_cannot_keep_it_is_refused_by_launcher_and_node(tmp_path: Path) -> None:
    where = tables.write(tmp_path, contract_changes={"columns": _columns(load="up")})
    with pytest.raises(RefusedError, match="calls load monotone"):
        load_project(where.config)
    spec = {"task": "credit", "seed": 0, "model": {"hidden": [4]}, "training": {"rounds": 1}}
    node = NodeSpec.model_validate_json(canonical_json(spec))
    with pytest.raises(RefusedError, match="only an additive model keeps"):
        Learner(load_contract(where.contract), node, "cpu")
    told = json.loads(where.config.read_text())
    told["features"]["without"] = ["load"]
    where.config.write_text(json.dumps(told))
    load_project(where.config)


def test_weights_that_break_the_contract_are_seen() -> None:
    """What a holder's fixed point is for: a model file from elsewhere."""
    learner, _, _ = _made("ramps")
    forged = learner.hold(_random("ramps", 1, 0.5))
    forged[learner.hold.head + 2] = -0.1
    assert not np.array_equal(learner.hold(forged), forged)


def test_points_of_a_scorecard_never_turn() -> None:
    learner, _, _ = _made("ramps")
    card = make_scorecard(_taken_apart("ramps", learner.hold(_random("ramps", 2, 1.0))))
    for name, sign in SIGNS.items():
        own = [one.points for one in card.bands if one.column == name and one.said != "missing"]
        assert len(own) > 2
        assert own == sorted(own, reverse=sign > 0)  # more points are less risk


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("code", {"monotone": "up"}, "inputs that are numbers"),
        ("label", {"monotone": "up"}, "inputs that are numbers"),
        ("id", {"monotone": "down"}, "inputs that are numbers"),
        ("load", {"monotone": "sideways"}, "monotone"),
        ("load", {"monotone": "up", "role": "sensor"}, "for features"),
        ("load", {"monotone": "up", "role": "ignore"}, "inputs that are numbers"),
    ],
)
def test_monotone_in_the_wrong_place_is_one_sentence(
    tmp_path: Path, name: str, change: dict[str, str], sentence: str
) -> None:
    columns = [one | change if one["name"] == name else one for one in tables.columns("binary")]
    where = tables.write(tmp_path, contract_changes={"columns": columns})
    with pytest.raises(InputError, match=sentence) as refusal:
        load_contract(where.contract)
    assert str(refusal.value).count("\n") == 0


def test_a_contract_without_it_has_the_digest_that_it_had(tmp_path: Path) -> None:
    plain = load_contract(tables.write(tmp_path / "a").contract)
    up, down = (
        load_contract(
            tables.write(tmp_path / way, contract_changes={"columns": _columns(load=way)}).contract
        )
        for way in ("up", "down")
    )
    assert len({plain.digest, up.digest, down.digest}) == 3
    shipped = load_contract(Path("configs/contracts/uci_credit.yaml"))
    assert shipped.digest == "6991435b969bf3ac4628b53e2a2b4bf2b8a8155f23eaa9fde2d412520babae51"
