"""What the edge scores is what the model scores; its indicators are those of the main program."""

import functools
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import asked, bundles, tables, telemetry

from clients.additive import AdditiveModel
from clients.contract import load_contract
from clients.indicators.registry import INDICATORS
from clients.learner import Learner
from clients.members import read_members
from clients.model import from_vector
from clients.reasons import scores, sentence
from clients.scoring.additive import AdditiveScorer, read_additive
from clients.scoring.compile import compiled
from clients.scoring.form import Form
from clients.scoring.history import Histories
from clients.scoring.words import LANGUAGES
from clients.spec import NodeSpec
from clients.statistics import Floats, to_unit_interval
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import DataError, RefusedError

Case = tuple[str, int, str, bool]
CASES: tuple[Case, ...] = (
    ("binary", 5, "quantile", False),
    ("binary", 0, "standard", False),
    ("count", 6, "log1p", False),
    ("value", 4, "signed_log", False),
    ("binary", 6, "quantile", True),
    ("binary", 0, "quantile", True),
    ("value", 5, "log1p", True),
)


@functools.cache
def _made(case: Case) -> tuple[Learner, AdditiveModel, AdditiveScorer, list[Floats]]:
    """A model of random weights with real statistics, and its plain form as a file gives it."""
    kind, bins, transform, private = case
    columns = tables.columns(kind)
    for column in columns:
        if column["name"] == "amount":
            column["transform"] = transform
    spec = {
        "task": "credit",
        "seed": 3,
        "model": {"hidden": [], "one_hot_up_to": 2 if private else 32},
        "features": {"bins": bins, "rare_below": 0 if private else 10},
        "training": {"rounds": 1},
    }
    with tempfile.TemporaryDirectory() as folder:
        where = tables.write(Path(folder), kind, contract_changes={"columns": columns})
        contract = load_contract(where.contract)
        learner = Learner(
            contract,
            NodeSpec.model_validate_json(canonical_json(spec)),
            "cpu",
            plan=asked.PLAN if private else None,
        )
        rows = pd.concat([one.train for one in read_members(contract, where.root).values()])
    released = [learner.tally_statistics(learner.scaled(rows), [])]
    learner.start(released)
    rng = np.random.default_rng(1)
    from_vector(learner.network, rng.normal(0, 0.4, learner.length).astype(np.float32))
    model = learner.additive(released)
    made = compiled(model)
    form = Form(parse_canonical(canonical_json(made.plain())), "model")
    assert form.choice("kind", "additive")
    return learner, model, read_additive(form, made.inputs), released


NUMBER = st.one_of(
    st.floats(-2, 3),
    st.floats(-1e9, 1e9),
    st.floats(0, 16).map(math.exp),  # where the amounts are
    st.sampled_from([math.nan, 0.0, 1.0, 0.5, 1e7, -1e308, 1e308, 10000.0, -10000.0]),
    st.integers(0, 1024).map(lambda place: place / 1024),
)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, st.integers(0, 4)), min_size=1, max_size=30)


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_the_plain_form_is_the_model_to_rounding(
    case: Case, rows: list[tuple[float, float, int]]
) -> None:
    learner, model, scorer, released = _made(case)
    load, amount, code = (np.array(one) for one in zip(*rows, strict=True))
    columns = {"load": load.astype(float), "amount": amount.astype(float), "code": code}
    wanted = model.amounts(columns)
    found = scorer.amounts({name: own.astype(np.float64) for name, own in columns.items()})
    order = [one.column.name for one in model.curves]
    assert list(scorer.columns) == order
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)

    # and the network itself, in double precision
    network = learner.network.double()
    features = model.features
    dense: list[Floats] = []
    codes = [np.zeros((len(rows), 0), dtype=np.int64)]
    for column in features.numbers:
        unit = to_unit_interval(
            np.asarray(columns[column.name], dtype=np.float64), *column.bounds, column.transform
        )
        dense += features.number_inputs(column, unit, released)
    for column in features.categories:
        own = features.level_codes(column, code.astype(np.int64), released)
        if len(column.categories) <= network.one_hot_up_to:
            dense += list(np.eye(len(column.categories))[own].T)
        else:
            codes.append(own[:, None])
    with torch.no_grad():
        raw = network(
            torch.from_numpy(np.stack(dense, axis=1)),
            torch.from_numpy(np.concatenate(codes, axis=1)),
            torch.zeros(len(rows), 0, 0, dtype=torch.float64),
        ).numpy()
    network.float()
    scale = model.target.scale if model.target.kind == "value" else 1.0
    told = raw.reshape(-1) * scale + (model.target.centre if scale != 1.0 else 0.0)
    np.testing.assert_allclose(scorer.base + found.sum(axis=1), told, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_a_score_and_its_words_are_the_main_programs(case: Case) -> None:
    _, model, scorer, _ = _made(case)
    bundle = bundles.bundle(inputs=scorer.inputs, scorer=scorer)
    for load, amount, code in ((0.7, 1000.0, 1), (math.nan, 9.0, 4), (0.1, 1e9, 0)):
        columns = {
            "load": np.array([load]),
            "amount": np.array([amount]),
            "code": np.array([code]),
        }
        score = scores(model, ["unit"], columns)[0]
        found = scorer.score({name: own.astype(np.float64) for name, own in columns.items()})
        assert found.output == pytest.approx(score.output, abs=1e-9)
        assert found.value == pytest.approx(score.value, abs=1e-9)
        assert scorer.base + math.fsum(found.amounts) == pytest.approx(found.output, abs=1e-9)
        for factor, column in zip(score.factors, scorer.inputs, strict=True):
            raw = float(columns[column.name][0])
            assert column.shown(raw) == factor.value
            for language in LANGUAGES:
                told = bundle.reason(column, column.shown(raw), factor.amount, language)
                assert told == sentence(model, factor, language)


CHOSEN = (
    "load_share@1",
    "running_hours@1",
    "starts_per_day@1",
    "peak_load@1",
    "repair_time@1",
    "alarm_frequency@1",
    "yield@1",
    "coverage@1",
    "temperature_rise@1",
    "metered_hours@1",
)
NEEDED = sorted({name for key in CHOSEN for name in INDICATORS[key].inputs})
READING = st.tuples(
    st.sampled_from(["m-1", "m-2", "m|3"]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.0, 7.0, 30.0]),
    st.lists(
        st.one_of(st.just(math.nan), st.floats(0, 100).map(lambda x: round(x, 2))),
        min_size=len(NEEDED),
        max_size=len(NEEDED),
    ),
)


@settings(max_examples=25, deadline=None)
@given(
    readings=st.lists(READING, min_size=1, max_size=25),
    window=st.sampled_from([None, "3h", "12h", "100h"]),
    every=st.booleans(),
)
def test_indicators_at_the_edge_are_those_of_the_main_program(
    readings: list[tuple[str, float, list[float]]],
    window: str | None,
    every: bool,
) -> None:
    rows, time = [], 0.0
    for device, later, values in readings:
        time += later
        rows.append({"device": device, "time": time, **dict(zip(NEEDED, values, strict=True))})
    with tempfile.TemporaryDirectory() as folder:
        wanted = telemetry.computed(
            pd.DataFrame(rows),
            Path(folder),
            *CHOSEN,
            contract=telemetry.telemetry_contract(NEEDED),
            window=window,
        )
    hours = None if window is None else float(window[:-1])
    plan = bundles.readings_bundle(*CHOSEN, window_h=hours).readings
    assert plan is not None
    histories = Histories(plan)
    for row in rows:
        cells = {name: float(str(row[name])) for name in NEEDED}
        histories.add(str(row["device"]), float(str(row["time"])), cells, at="here")
        if every:  # what is asked in between changes nothing
            histories.now(str(row["device"]))
    for place, device in enumerate(wanted.devices):
        found = histories.now(device)
        told = {key: own[place] for key, own in wanted.columns.items()}
        assert set(found.indicators) == set(told)
        for key, value in told.items():
            # a curve of sums may be cut elsewhere, so that rounding may differ in the last bit
            assert found.indicators[key] == pytest.approx(value, rel=1e-12, abs=1e-12, nan_ok=True)
        assert found.readings == wanted.rows[place].rows
        assert (found.first, found.last) == (wanted.rows[place].first, wanted.rows[place].last)


def test_less_history_than_the_window_is_said() -> None:
    plan = bundles.readings_bundle("load_share@1", "yield@1", window_h=4.0).readings
    assert plan is not None
    histories = Histories(plan)
    nothing = {one.quantity: math.nan for one in plan.quantities}
    for hour in range(6):
        histories.add("m", float(hour), nothing | {"running": 1.0, "load_share": 0.5}, at="here")
        found = histories.now("m")
        assert found.short == (hour < 3)
        assert found.readings == min(hour + 1, 4)
        assert found.absent == ("yield@1",)


def test_readings_that_go_back_or_are_too_many_are_refused() -> None:
    plan = bundles.readings_bundle("load_share@1", window_h=1000.0).readings
    assert plan is not None
    values = {one.quantity: 0.5 for one in plan.quantities}
    histories = Histories(plan, devices=2, readings=5)
    histories.add("m", 2.0, values, at="here")
    with pytest.raises(DataError, match="here: is older than"):
        histories.add("m", 1.0, values, at="here")
    histories.add("n", 0.0, values, at="here")
    with pytest.raises(RefusedError, match="More than 2 devices"):
        histories.add("o", 0.0, values, at="here")
    for hour in range(3, 6):
        histories.add("m", float(hour), values, at="here")
    with pytest.raises(RefusedError, match="have to be held"):
        histories.add("m", 6.0, values, at="here")


def test_without_a_window_a_record_of_any_length_is_held_in_few_figures() -> None:
    plan = bundles.readings_bundle("load_share@1").readings
    assert plan is not None
    histories = Histories(plan, readings=50)
    for hour in range(1000):
        values = {"running": 1.0, "load_share": 0.5}
        histories.add(f"m-{hour % 7}", float(hour), values, at="here")
    assert histories.now("m-0").indicators["load_share@1"] == pytest.approx(0.5)
    assert histories.now("m-0").readings == 143


def test_an_indicator_of_times_alone_needs_no_quantity() -> None:
    plan = bundles.readings_bundle("coverage@1", window_h=4.0).readings
    assert plan is not None
    histories = Histories(plan)
    for hour in (0.0, 3.0):
        histories.add("m", hour, {}, at="here")
    assert histories.now("m").indicators == {"coverage@1": 0.5}
