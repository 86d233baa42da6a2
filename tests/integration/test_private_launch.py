"""Noise, budgets and cards, as a user meets them on the command line."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import tables
from support.cli import assert_one_sentence, tacit

NOISE: dict[str, Any] = {"epsilon": 6.0, "rate": 0.3}
CHANGES: dict[str, Any] = {
    "privacy": NOISE,
    "training": {"rounds": 6},
    "server": {"kind": "fedavgm", "learning_rate": 1.0},
}


def without(changes: dict[str, Any]) -> dict[str, Any]:
    return {"validation_share": 0.0, **changes}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Home, config and result of one launch with noise, under a policy with a cap.

    The audit of a right noise refuses it four times in a million (`privacy.empirical.SURE`), and so
    the second one, too, once in 6e10 times; that of a wrong one refuses each.
    """

    def launch() -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
        root = tmp_path_factory.mktemp("private")
        home = root / "home"
        home.mkdir()
        policy = {"budgets": [{"dataset": "small_binary", "epsilon": 9.0}], "colluders": 1}
        (home / "policy.yaml").write_text(yaml.safe_dump(policy))
        where = tables.write(
            root / "data", rows=tables.table("binary", rows=1500), config_changes=without(CHANGES)
        )
        words = ("run", "launch", str(where.config), "--local", "--data", str(where.root), "--json")
        return home, where.config, tacit(*words, home=home)

    home, config, found = launch()
    if "The audit of the noise contradicts" in found.stderr:
        home, config, found = launch()
    assert found.returncode == 0, found.stderr
    return home, config, json.loads(found.stdout)


def test_the_result_says_both_epsilons_and_what_they_mean(
    launched: tuple[Path, Path, dict[str, Any]],
) -> None:
    privacy = launched[2]["privacy"]
    assert 5.9 < privacy["epsilon"] <= 6.0
    assert privacy["solo_epsilon"] > privacy["epsilon"]
    assert privacy["rdp_epsilon"] > privacy["epsilon"]
    assert (privacy["unit"], privacy["delta"]) == ("customer", 1e-5)
    assert 0.01 < privacy["true_positive_rate"] < 1
    assert set(privacy["per_node"]) == set(tables.MEMBERS)
    assert privacy["per_node"]["north"]["epsilon"] == privacy["epsilon"]
    audit = privacy["audit"]
    assert 0 <= audit["epsilon_lower"] <= audit["epsilon_claimed"]


def test_the_card_has_the_proven_bound_beside_what_an_audit_found(
    launched: tuple[Path, Path, dict[str, Any]],
) -> None:
    card = Path(launched[2]["card"]).read_text()
    assert "epsilon 6.00 against the coordinator together with 1 other member" in card
    assert "audit of this noise" in card
    assert "Not covered" in card
    parsed = json.loads(Path(launched[2]["card"]).with_suffix(".json").read_text())
    assert parsed["privacy"]["epsilon"] == launched[2]["privacy"]["epsilon"]


def test_the_verifier_comes_to_the_same_epsilon_by_its_own_accountant(
    launched: tuple[Path, Path, dict[str, Any]],
) -> None:
    home, _, result = launched
    found = tacit("audit", "verify", "--json", home=home)
    assert found.returncode == 0, found.stderr
    costs = {one["cohort"]: one for one in json.loads(found.stdout)["privacy"]}
    for cohort, said in result["privacy"]["cohorts"].items():
        assert costs[cohort]["epsilon"] == pytest.approx(said["rdp_epsilon"], rel=1e-5)
        assert costs[cohort]["solo_epsilon"] == pytest.approx(said["solo_rdp_epsilon"], rel=1e-5)
    shown = tacit("audit", "verify", home=home)
    assert "privacy, computed again from the receipts" in shown.stdout


def test_the_budget_is_shown_and_then_holds(launched: tuple[Path, Path, dict[str, Any]]) -> None:
    home, config, _ = launched
    found = tacit("budget", "show", "--json", home=home)
    assert found.returncode == 0, found.stderr
    assert "small_binary" in found.stdout
    planned = tacit("run", "plan", str(config), "--data", str(config.parent), home=home)
    assert "It would be refused." in planned.stdout
    again = tacit("run", "launch", str(config), "--local", "--data", str(config.parent), home=home)
    sentence = assert_one_sentence(again, 1)
    assert "cap is epsilon 9" in sentence
    assert "is spent" in sentence
    shown = tacit("run", "list", "--json", home=home)
    assert [one["state"] for one in json.loads(shown.stdout)["runs"]] == ["finished", "stopped"]


def test_the_plan_finds_noise_for_an_epsilon_and_epsilon_for_noise(
    launched: tuple[Path, Path, dict[str, Any]],
) -> None:
    home, config, _ = launched
    wished = tacit("run", "plan", str(config), "--privacy", "--epsilon", "2", "--json", home=home)
    first = json.loads(wished.stdout)["privacy"]
    assert 1.98 < first["epsilon"] <= 2.0
    given = tacit(
        "run", "plan", str(config), "--privacy", "--multiplier", f"{first['multiplier']:.6f}",
        "--json", home=home,
    )  # fmt: skip
    second = json.loads(given.stdout)["privacy"]
    assert second["multiplier"] == pytest.approx(first["multiplier"], rel=1e-4)
    # statistics then follow from the updates' own epsilon, so both come near each other
    assert math.isclose(second["epsilon"], first["epsilon"], rel_tol=0.1)
    people = tacit("run", "plan", str(config), "--privacy", home=home)
    assert "in plain words" in people.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epsilon", "0"), "greater than 0"),
        (("--epsilon", "2", "--multiplier", "1"), "one of epsilon"),
    ],
)
def test_a_wish_that_means_nothing_is_one_sentence(
    launched: tuple[Path, Path, dict[str, Any]], words: tuple[str, ...], said: str
) -> None:
    home, config, _ = launched
    found = tacit("run", "plan", str(config), "--privacy", *words, home=home)
    assert said in assert_one_sentence(found, 2)


def test_a_wish_for_a_run_without_noise_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path)
    found = tacit("run", "plan", str(where.config), "--privacy", "--epsilon", "1", home=tmp_path)
    assert "the run has no noise" in assert_one_sentence(found, 2)


@pytest.mark.parametrize(
    "text", ["budgets: [{epsilon: -1}]", "budgets: {}", "cap: 3", "colluders: many", ": :"]
)
def test_a_policy_that_cannot_be_read_starts_nothing(tmp_path: Path, text: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "policy.yaml").write_text(text)
    where = tables.write(tmp_path / "data")
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), home=home
    )
    assert "policy.yaml" in assert_one_sentence(found, 2)
