"""A failure model's scores as a user gets them: table, indicator, lineage, heat map, sentences."""

import csv
import json
from pathlib import Path

import pytest
from support import worn
from support.cli import assert_one_sentence, tacit

SHORT = {"rounds": 2, "local_epochs": 2, "batch_rows": 32, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, worn.Fleet]:
    """A home with a run for chances and one for remaining lives."""
    root = tmp_path_factory.mktemp("worn")
    home = root / "home"
    where = worn.write(root / "data", name="chance", training=SHORT)
    lives = worn.write(
        root / "lives", "remaining_life", name="lives", training=SHORT,
        features={"window": {"length": worn.LENGTH}}, model={"kind": "cnn", "hidden": [6]},
    )  # fmt: skip
    for one in (where, lives):
        found = tacit(
            "run", "launch", str(one.config), "--local", "--data", str(one.root), "--json",
            home=home,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
    return home, where


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_chances_become_an_indicator(launched: tuple[Path, worn.Fleet], tmp_path: Path) -> None:
    home, where = launched
    out = tmp_path / "risk.csv"
    at = ("--data", str(where.root))
    found = tacit(
        "model", "predict", "chance", *at, "--out", str(out), "--every", "5", "--json", home=home
    )
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    rows = _rows(out)
    assert (told["scores"], told["method"]) == (len(rows), "attribution")
    assert len(rows) > 2 * len({row["unit"] for row in rows})
    assert all(0 <= float(row["failure_risk"]) <= 1 for row in rows)
    reasons = next(row for row in rows if row["reason_1"])
    assert "the odds of a failure are" in reasons["reason_1_en"]
    assert "使故障发生比" in reasons["reason_1_zh"]

    table = tmp_path / "indicators.csv"
    made = tacit(
        "data", "indicators", "compute", told["contract"], "--data", str(tmp_path),
        "--hold", "5h", "--out", str(table), home=home,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    means = {row["device"]: float(row["failure_risk"]) for row in _rows(table)}
    assert set(means) == {row["unit"] for row in rows}
    own = [float(row["failure_risk"]) for row in rows if row["unit"] == "m00"]
    assert means["m00"] == pytest.approx(sum(own) / len(own))

    key = f"m00@{next(row['step'] for row in rows if row['unit'] == 'm00')}"
    walk = ("data", "lineage", str(out), key, "--contract", str(where.contract), "--json")
    again = tacit(*walk, *at, home=home)
    assert again.returncode == 0, again.stderr
    steps = json.loads(again.stdout)
    assert (steps["method"], steps["every"], steps["computed_again"]) == ("attribution", 5, True)
    amounts = sum(factor["amount"] for factor in steps["factors"].values())
    assert steps["base"] + amounts == pytest.approx(steps["output"])
    # a reading that changed is another row, and so is a device's whole past
    changed = worn.write(tmp_path / "changed", name="chance")
    text = (changed.root / "worn.csv").read_text().splitlines()
    text[1] = text[1].replace("m00,east,1,", "m00,east,1,").rsplit(",", 1)[0] + ",49.5"
    (changed.root / "worn.csv").write_text("\n".join(text) + "\n")
    other = tacit(*walk[:-1], "--data", str(changed.root), home=home)
    assert_one_sentence(other, 1)
    assert "its row is another" in other.stderr


def test_a_column_of_scores_has_the_name_that_was_asked_for(
    launched: tuple[Path, worn.Fleet], tmp_path: Path
) -> None:
    home, where = launched
    out = tmp_path / "risk.csv"
    asked = ("--risk-column", "chance_within_six", "--against", "beginning")
    found = tacit(
        "model", "predict", "chance", "--data", str(where.root), "--out", str(out), *asked,
        home=home,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    rows = _rows(out)
    assert list(rows[0])[:3] == ["unit", "step", "chance_within_six"]
    assert len(rows) == len({row["unit"] for row in rows}) == 24
    assert any("its own first window" in row["reason_1_en"] for row in rows)


def test_remaining_lives_are_explained_in_time(
    launched: tuple[Path, worn.Fleet], tmp_path: Path
) -> None:
    home, where = launched
    at = ("--data", str(where.root))
    out, plot = tmp_path / "lives.csv", tmp_path / "heat.png"
    found = tacit("model", "predict", "lives", *at, "--out", str(out), "--json", home=home)
    assert found.returncode == 0, found.stderr
    assert "contract" not in json.loads(found.stdout)
    assert all(0 <= float(row["remaining_life"]) <= 25 for row in _rows(out))
    explained = tacit(
        "model", "explain", "lives", *at, "--unit", "m03", "--plot", str(plot), "--json", home=home
    )
    facts = json.loads(explained.stdout)
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert len(facts["readings"]["times"]) == worn.LENGTH
    for factor in facts["factors"]:
        own = sum(facts["readings"]["amounts"][factor["column"]])
        assert own == pytest.approx(factor["amount"])
    earlier = facts["time"] - 4
    before = tacit(
        "model", "explain", "lives", *at, "--unit", "m03", "--at", str(earlier), "--json",
        home=home,
    )  # fmt: skip
    assert json.loads(before.stdout)["time"] == earlier
    page = tacit("model", "explain", "lives", *at, "--unit", "m03", "--lang", "zh", home=home)
    assert "归因" in page.stdout
    weights = tacit("model", "explain", "lives", *at, home=home)
    assert "attribution, not exact" in " ".join(weights.stdout.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("explain", "chance", "--unit", "m0"), "did you mean m0"),
        (("explain", "chance", "--unit", "m00", "--at", "2"), "no whole window"),
        (("explain", "chance", "--plot", "heat.png"), "give --unit too"),
        (("explain", "chance", "--against", "nobody"), "choose members or beginning"),
        (("predict", "chance", "--out", "s.csv", "--risk-column", "step"), "choose another name"),
        (("predict", "chance", "--out", "s.csv", "--every", "400"), ""),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_sentence(
    launched: tuple[Path, worn.Fleet], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    home, where = launched
    words = tuple(str(tmp_path / word) if word == "s.csv" else word for word in words)
    found = tacit("model", *words, "--data", str(where.root), home=home)
    if not said:
        assert found.returncode == 0, found.stderr
        return
    assert found.returncode == 2
    assert said in found.stderr
    assert found.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
