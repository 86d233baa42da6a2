"""`tacit model` and the lineage of a score, as a user runs them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from support import tables
from support.cli import assert_one_sentence, tacit
from typer.testing import CliRunner

from federation.cli.main import app


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tables.SmallFederation]:
    """A home with one additive run and one that is not."""
    root = tmp_path_factory.mktemp("models")
    home = root / "home"
    where = tables.write(root / "data", config_changes={"model": {"hidden": []}, "explain": True})
    deep = tables.write(root / "deep", config_changes={"name": "deep", "explain": True})
    for one in (where, deep):
        found = tacit(
            "run", "launch", str(one.config), "--local", "--data", str(one.root), "--json",
            home=home,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
    return home, where


def test_models_are_listed_with_what_they_are(
    launched: tuple[Path, tables.SmallFederation],
) -> None:
    home, _ = launched
    found = tacit("model", "list", "--json", home=home)
    kinds = {one["run"].split("-")[2]: one["kind"] for one in json.loads(found.stdout)["models"]}
    assert kinds == {"small_binary": "additive", "deep": "mlp"}


def test_a_model_shows_its_curves_and_draws_them(
    launched: tuple[Path, tables.SmallFederation], tmp_path: Path
) -> None:
    home, _ = launched
    plot = tmp_path / "curves.png"
    found = tacit("model", "explain", "small_binary", "--plot", str(plot), "--json", home=home)
    assert found.returncode == 0, found.stderr
    columns = {one["column"] for one in json.loads(found.stdout)["columns"]}
    assert columns == {"load", "amount", "code"}
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert "what each column adds" in tacit("model", "explain", "small_binary", home=home).stdout


def test_a_score_leaves_with_factors_reasons_and_lineage(
    launched: tuple[Path, tables.SmallFederation], tmp_path: Path
) -> None:
    home, where = launched
    out = tmp_path / "scores.csv"
    found = tacit(
        "model", "predict", "small_binary", "--data", str(where.root), "--out", str(out),
        home=home,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 600
    assert all(0 < float(row["value"]) < 1 for row in rows)
    one = next(row for row in rows if row["reason_1"])
    assert "higher" in one["reason_1_en"]
    assert "升高" in one["reason_1_zh"]

    walk = tacit(
        "data", "lineage", str(out), one["unit"], "--contract", str(where.contract),
        "--data", str(where.root), "--json", home=home,
    )  # fmt: skip
    assert walk.returncode == 0, walk.stderr
    told = json.loads(walk.stdout)
    assert told["computed_again"]
    assert told["run_at_hand"]
    assert told["value"] == float(one["value"])
    amounts = sum(factor["amount"] for factor in told["factors"].values())
    assert told["base"] + amounts == pytest.approx(told["output"])

    explained = tacit(
        "model", "explain", "small_binary", "--unit", one["unit"], "--data", str(where.root),
        "--aim", "0.2", "--allow", "load=0:1", "--json", home=home,
    )  # fmt: skip
    facts = json.loads(explained.stdout)
    assert facts["row"] == told["row"]
    assert facts["value"] == told["value"]
    assert set(facts["counterfactual"]) == {"reached", "value", "output", "changes"}
    page = tacit(
        "model", "explain", "small_binary", "--unit", one["unit"], "--data", str(where.root),
        "--lang", "zh", home=home,
    )  # fmt: skip
    assert "与平均水平相比" in page.stdout


def test_a_challenger_says_that_it_attributes(
    launched: tuple[Path, tables.SmallFederation], tmp_path: Path
) -> None:
    home, where = launched
    out = tmp_path / "deep.csv"
    at = ("--data", str(where.root))

    def said(*words: str) -> str:
        """In this process: torch is loaded once."""
        found = CliRunner().invoke(app, words, env={"TACIT_HOME": str(home), "COLUMNS": "160"})
        assert found.exit_code == 0, found.exception
        return " ".join(found.stdout.split())

    assert "attribution, not exact" in said("model", "predict", "deep", *at, "--out", str(out))
    contract = ("--contract", str(where.contract))
    told = json.loads(said("data", "lineage", str(out), "5", *contract, *at, "--json"))
    assert told["method"] == "attribution"
    assert told["computed_again"]
    amounts = sum(factor["amount"] for factor in told["factors"].values())
    assert told["base"] + amounts == pytest.approx(told["output"])
    facts = json.loads(said("model", "explain", "deep", "--unit", "5", *at, "--json"))
    assert (facts["method"], facts["row"]) == ("attribution", told["row"])
    assert "attribution, not exact" in said("model", "explain", "deep", "--unit", "5", *at)
    weights = json.loads(said("model", "explain", "deep", *at, "--json"))
    assert {one["column"] for one in weights["columns"]} == {"load", "amount", "code"}
    exact = json.loads(said("model", "explain", "small_binary", "--unit", "5", *at, "--json"))
    assert exact["method"] == "exact"


def test_what_a_model_leans_on_is_shown_without_a_row_at_hand(
    launched: tuple[Path, tables.SmallFederation], tmp_path: Path
) -> None:
    home, where = launched
    nowhere = {"TACIT_HOME": str(home), "COLUMNS": "160", "TACIT_DATA": str(tmp_path / "none")}

    def said(*words: str) -> str:
        found = CliRunner().invoke(app, words, env=nowhere)
        assert found.exit_code == 0, found.output
        return " ".join(found.stdout.split())

    for run in ("deep", "small_binary"):
        found = json.loads(said("model", "explain", run, "--json"))["importance"]
        assert found["members"] == 3
        assert found["rows"] > 100
        assert sorted(one["input"] for one in found["inputs"]) == ["amount", "code", "load"]
        assert sum(one["share"] for one in found["inputs"]) == pytest.approx(1)
        amounts = [one["amount"] for one in found["inputs"]]
        assert amounts == sorted(amounts, reverse=True)
        page = said("model", "explain", run)
        assert "what the model leans on" in page
        assert "no member's own is known to anybody else" in page
    assert "attribution, not exact" in said("model", "explain", "deep")
    assert "leans on" in said("run", "show", "deep")
    # what is kept of the run names no member's own
    result = json.loads(next(home.glob("runs/*deep*/result.json")).read_text("utf-8"))
    assert (
        result["importance"] == json.loads(said("model", "explain", "deep", "--json"))["importance"]
    )
    for own in [result["by_member"][member] for member in result["members"]]:
        assert not any("importance" in key or key in {"load", "amount", "code"} for key in own)
    # with rows at hand it is of those
    at_hand = json.loads(said("model", "explain", "deep", "--data", str(where.root), "--json"))
    assert at_hand["scores"] == 600
    card = tmp_path / "card.html"
    said("model", "card", "deep", "--out", str(card))
    signed = json.loads(card.with_suffix(".json").read_text("utf-8"))["card"]
    assert signed["importance"] == result["importance"]
    assert "test rows of" in card.read_text("utf-8")
    # a result that speaks of another model's inputs makes no card
    kept = next(home.glob("runs/*deep*/result.json"))
    before = kept.read_bytes()
    kept.write_bytes(before.replace(b'"input": "load"', b'"input": "loud"'))
    try:
        found = CliRunner().invoke(
            app, ["model", "card", "deep", "--out", str(card)], env=nowhere, standalone_mode=False
        )
        assert found.exit_code != 0
        assert "are not of one run" in str(found.exception)
    finally:
        kept.write_bytes(before)


def test_other_rows_or_a_changed_table_are_no_lineage(
    launched: tuple[Path, tables.SmallFederation], tmp_path: Path
) -> None:
    home, where = launched
    out = tmp_path / "scores.csv"
    tacit(
        "model", "predict", "small_binary", "--data", str(where.root), "--out", str(out), home=home
    )
    other = tables.write(tmp_path / "other", rows=tables.table("binary", seed=9))
    found = tacit(
        "data", "lineage", str(out), "5", "--contract", str(where.contract),
        "--data", str(other.root), home=home,
    )  # fmt: skip
    assert_one_sentence(found, 1)
    assert "its row is another" in found.stderr
    out.write_bytes(out.read_bytes().replace(b"0.", b"1.", 1))
    found = tacit("data", "lineage", str(out), "5", home=home)
    assert_one_sentence(found, 1)
    assert "is not the table" in found.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scorecard", "deep"), "no sum of curves"),
        (("explain", "deep", "--unit", "5", "--aim", "0.1", "--allow", "load=0:1"), "--aim"),
        (("explain", "deep", "--plot", "curves.png"), "no curves to draw"),
        (("explain", "small_binary", "--at", "3"), "for models of windows"),
        (("explain", "small_binary", "--unit", "no-one"), "has no rows of no-one"),
        (("explain", "small_binary", "--aim", "0.1"), "belong together"),
        (("predict", "small_binary", "--out", "s.txt"), "end it in .csv"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_sentence(
    launched: tuple[Path, tables.SmallFederation], words: tuple[str, ...], said: str
) -> None:
    home, where = launched
    data = () if words[0] == "scorecard" else ("--data", str(where.root))
    found = tacit("model", *words, *data, home=home)
    assert found.returncode in {1, 2}
    assert said in found.stderr
    assert found.stderr.count("\n") == 1


def test_a_scorecard_says_how_far_it_is_off(
    launched: tuple[Path, tables.SmallFederation],
) -> None:
    home, _ = launched
    card = json.loads(tacit("model", "scorecard", "small_binary", "--json", home=home).stdout)
    assert card["off_by_at_most"] > 0
    assert {one["column"] for one in card["bands"]} == {"load", "amount", "code"}
    assert "everybody starts with" in tacit("model", "scorecard", "small_binary", home=home).stdout


def test_a_run_with_folds_says_what_its_models_lean_on_and_is_not_used(tmp_path: Path) -> None:
    folds = {"split": {"kind": "folds", "seed": 1, "folds": 2}}
    where = tables.write(
        tmp_path / "data", contract_changes=folds, config_changes={"explain": True}
    )
    home = tmp_path / "home"
    launch = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), "--json",
        home=home,
    )  # fmt: skip
    assert launch.returncode == 0, launch.stderr

    def told(*words: str) -> dict[str, Any]:
        found = tacit("model", *words, "--json", home=home)
        assert found.returncode == 0, found.stderr
        value: dict[str, Any] = json.loads(found.stdout)
        return value

    (listed,) = told("list")["models"]
    assert (listed["folds"], listed["kind"]) == (2, "mlp")
    assert "of 2 folds" in tacit("model", "list", home=home).stdout
    together = told("explain")
    assert (together["folds"], "model" in together) == (2, False)
    each = [told("explain", "--fold", number) for number in ("1", "2")]
    assert each[0]["model"] != each[1]["model"]
    rows = [one["importance"]["rows"] for one in each]
    assert sum(rows) == together["importance"]["rows"]
    said = " ".join(tacit("model", "explain", home=home).stdout.split())
    assert "2 folds together" in said
    assert "of each a fold" in said
    one = told("explain", "--fold", "2", "--unit", "5", "--data", str(where.root))
    assert one["model"] == each[1]["model"]
    for words, sentence in (
        (("explain", "--fold", "3"), "has 2 folds"),
        (("explain", "--fold", "0"), "has 2 folds"),
        (("explain", "--unit", "5"), "has 2 models, one of each fold"),
        (("predict", "last", "--out", str(tmp_path / "no.csv")), "has 2 models, one of each fold"),
        (("scorecard",), "has 2 models, one of each fold"),
        (
            ("export", "last", "--out", str(tmp_path / "no.safetensors")),
            "has 2 models, one of each fold",
        ),
    ):
        found = tacit("model", *words, home=home)
        assert sentence in assert_one_sentence(found, 2)
    assert not list(tmp_path.glob("no*"))
