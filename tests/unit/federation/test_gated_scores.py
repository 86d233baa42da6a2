"""A device that waits, was rejected or is not trusted gets no score, and its people are told."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from support.machines import Machines, contract, overheat, readings, write
from typer.testing import CliRunner

from clients.additive import AdditiveModel
from clients.contract import load_contract
from clients.learner import Learner
from clients.members import read_members
from clients.spec import NodeSpec
from federation import kept_model, score_lineage
from federation.cli.data import app as data_app
from federation.cli.model import app as model_app
from federation.home import Home
from federation.scoring import scores_path
from privacy.canonical import canonical_json
from privacy.errors import InputError, RefusedError

COLUMNS = (
    {"name": "load", "type": "number", "class": "L2", "range": [0, 1]},
    {"name": "bad", "type": "integer", "role": "label", "class": "L3", "range": [0, 1]},
)
RUN = "20260101-000000-machines-abcd"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return Home(tmp_path / "home")


def model_of(where: Machines) -> AdditiveModel:
    told = {
        "task": "credit", "seed": 3, "model": {"hidden": []}, "features": {"bins": 4},
        "training": {"rounds": 1},
    }  # fmt: skip
    known = load_contract(where.contract)
    learner = Learner(known, NodeSpec.model_validate_json(canonical_json(told)), "cpu")
    found = read_members(known, where.root)
    rows = learner.scaled(pd.concat([one.train for one in found.values()]))
    released: list[Any] = []
    for _ in range(learner._features.stages):
        released.append(learner.tally_statistics(rows, released))
    learner.start(released)
    return learner.additive(released)


@pytest.fixture
def scored(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Machines:
    """One row a machine to be scored by a run's model; n1 was under review for its earlier rows."""
    frame = overheat(readings(), "n1", range(10, 13))
    frame["load"] = frame["hour"] / 40
    frame["bad"] = (frame["hour"] % 3 == 0).astype(int)
    changes = {
        "columns": [*contract()["columns"], *COLUMNS],
        "label": {"kind": "binary", "column": "bad", "positive": 1},
    }
    whole = write(tmp_path / "whole", frame, contract_changes=changes)
    model = model_of(whole)
    said(data_app, "gate", str(whole.contract), "--data", str(whole.root))
    folder = home.runs / RUN
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_bytes(whole.contract.read_bytes())
    manifest = SimpleNamespace(digest=lambda: bytes(32), task="credit")
    kept = SimpleNamespace(
        run=RUN, manifest=manifest, contract=load_contract(whole.contract), digest="00" * 32,
        additive=lambda: model, explained=lambda _="members": model,
    )  # fmt: skip
    for module in (kept_model, score_lineage):
        monkeypatch.setattr(module, "read_kept_model", lambda _, **__: kept)
    # how they end is not known yet
    now = frame[frame["hour"] == 39].drop(columns="bad")
    return write(tmp_path / "now", now, contract_changes=changes)


def said(app: Any, *words: str) -> str:  # noqa: ANN401 - a typer app
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code in {0, 1}
    return result.output


def predicted(where: Machines, out: Path, *more: str) -> str:
    return said(model_app, "predict", RUN, "--data", str(where.root), "--out", str(out), *more)


def test_a_held_device_has_no_score_and_the_command_says_how_many(
    scored: Machines, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    told = json.loads(predicted(scored, out, "--json"))
    assert told["left_out"] == {
        "devices": 1, "rows": 1, "waiting": 1, "rejected": 0, "distrusted": 0,
    }  # fmt: skip
    assert told["scores"] == 11
    assert "\nn1," not in out.read_text(encoding="utf-8")
    lineage = json.loads(scores_path(out).read_bytes())
    assert [one["why"] for one in lineage["left_out"].values()] == ["waiting"]
    assert "n1" not in lineage["units"]
    assert "1 rows of 1 device (1 waiting for a review)" in predicted(scored, out)
    words = ("explain", RUN, "--data", str(scored.root), "--unit")
    with pytest.raises(RefusedError, match="n1: is waiting for a review, so it gets no score"):
        said(model_app, *words, "n1")
    assert json.loads(said(model_app, *words, "n0", "--json"))["unit"] == "n0"
    with pytest.raises(InputError, match="has no rows of nobody"):
        said(model_app, *words, "nobody")


def test_a_score_walks_back_to_what_was_left_out_then(scored: Machines, tmp_path: Path) -> None:
    held, released = tmp_path / "held.csv", tmp_path / "released.csv"
    predicted(scored, held)
    said(data_app, "review", "release", "n1", "--reason", "a test bench")
    assert json.loads(predicted(scored, released, "--json"))["left_out"]["devices"] == 0
    said(data_app, "review", "reject", "n1", "--reason", "broken")
    again = ("--contract", str(scored.contract), "--data", str(scored.root), "--json")
    # it has no score any more, and the one that it had is what it was
    for table, unit in ((released, "n1"), (held, "n0")):
        walk = json.loads(said(data_app, "lineage", str(table), unit, *again))
        assert walk["computed_again"]
    with pytest.raises(InputError, match="has no score of n1"):
        said(data_app, "lineage", str(held), "n1", *again)
    for option, given in (("--indicator", "utilisation"), ("--member", "north")):
        with pytest.raises(
            InputError, match=f"{option}: .* is a table of scores; take one of indicators, or leave"
        ):
            said(data_app, "lineage", str(held), "n0", option, given)


def test_of_two_devices_with_one_name_the_one_that_is_not_held_is_scored_and_walked_back_to(
    scored: Machines, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    file = scored.rows / "a.csv"
    rows = pd.read_csv(file).replace({"machine": {"s1": "n1"}})
    rows.loc[rows["member"] == "south", "load"] = 0.1
    rows.sort_values("member", ascending=False).to_csv(file, index=False)  # the held one is last
    assert json.loads(predicted(scored, out, "--json"))["scores"] == 11
    again = ("--contract", str(scored.contract), "--data", str(scored.root), "--json")
    assert json.loads(said(data_app, "lineage", str(out), "n1", *again))["computed_again"]


def test_a_look_at_fewer_rows_does_not_change_what_a_release_is_about(
    scored: Machines, tmp_path: Path
) -> None:
    """A person releases what the gate showed, though rows without those readings were scored."""
    predicted(scored, tmp_path / "scores.csv")
    shown = json.loads(said(data_app, "review", "show", "n1", "--json"))
    assert shown["out_of_threshold"] == 3
    said(data_app, "review", "release", "n1", "--reason", "a test bench")
    whole = tmp_path / "whole"
    words = ("gate", str(whole / "contract.yaml"), "--data", str(whole), "--json")
    assert json.loads(said(data_app, *words))["waiting"] == 0
    # and a picture is of the rows that the gate looked at
    picture = tmp_path / "n1.svg"
    said(data_app, "review", "show", "n1", "--plot", str(picture))
    assert picture.exists()
