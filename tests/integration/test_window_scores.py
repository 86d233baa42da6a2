"""A failure model's scores as a user gets them: table, indicator, lineage, heat map, sentences."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support import worn
from support.cli import tacit
from typer.testing import CliRunner

from federation.cli.main import app
from privacy.errors import NotVerifiedError, TacitError

SHORT = {"rounds": 2, "local_epochs": 2, "batch_rows": 32, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, worn.Fleet]:
    """A home with a run for chances."""
    root = tmp_path_factory.mktemp("worn")
    where = worn.write(root / "data", name="chance", training=SHORT)
    config, data = str(where.config), str(where.root)
    found = tacit("run", "launch", config, "--local", "--data", data, home=root / "home")
    assert found.returncode == 0, found.stderr
    return root / "home", where


def _tacit(home: Path, *words: str) -> Result:
    """In this process: torch is loaded once."""
    return CliRunner().invoke(app, words, env={"TACIT_HOME": str(home), "COLUMNS": "160"})


def _told(home: Path, *words: str) -> dict[str, Any]:
    found = _tacit(home, *words, "--json")
    assert found.exit_code == 0, found.exception
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_chances_become_an_indicator(launched: tuple[Path, worn.Fleet], tmp_path: Path) -> None:
    home, where = launched
    out, table = tmp_path / "risk.csv", tmp_path / "indicators.csv"
    at = ("--data", str(where.root))
    told = _told(home, "model", "predict", "chance", *at, "--out", str(out), "--every", "5")
    rows = _rows(out)
    assert (told["scores"], told["method"]) == (len(rows), "attribution")
    assert len(rows) > 2 * len({row["unit"] for row in rows})
    _told(
        home, "data", "indicators", "compute", told["contract"], "--data", str(tmp_path),
        "--hold", "5h", "--out", str(table),
    )  # fmt: skip
    means = {row["device"]: float(row["failure_risk"]) for row in _rows(table)}
    assert set(means) == {row["unit"] for row in rows}
    own = [float(row["failure_risk"]) for row in rows if row["unit"] == "east|m00"]
    assert means["east|m00"] == pytest.approx(sum(own) / len(own))

    key = f"east|m00@{next(row['step'] for row in rows if row['unit'] == 'east|m00')}"
    walk = ("data", "lineage", str(out), key, "--contract", str(where.contract))
    steps = _told(home, *walk, *at)
    assert (steps["method"], steps["every"], steps["computed_again"]) == ("attribution", 5, True)
    amounts = sum(factor["amount"] for factor in steps["factors"].values())
    assert steps["base"] + amounts == pytest.approx(steps["output"])
    # a reading that changed is another past
    changed = worn.write(tmp_path / "changed")
    text = (changed.root / "worn.csv").read_text().splitlines()
    text[1] = text[1].rsplit(",", 1)[0] + ",49.5"
    (changed.root / "worn.csv").write_text("\n".join(text) + "\n")
    other = _tacit(home, *walk, "--data", str(changed.root))
    assert isinstance(other.exception, NotVerifiedError)
    assert "its row is another" in str(other.exception)


def test_a_score_is_explained_in_time(launched: tuple[Path, worn.Fleet], tmp_path: Path) -> None:
    home, where = launched
    plot = tmp_path / "heat.png"
    explain = ("model", "explain", "chance", "--data", str(where.root))
    facts = _told(home, *explain, "--unit", "east|m03", "--plot", str(plot))
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert len(facts["readings"]["times"]) == worn.LENGTH
    for factor in facts["factors"]:
        if factor["column"] in worn.SENSORS:
            own = sum(facts["readings"]["amounts"][factor["column"]])
            assert own == pytest.approx(factor["amount"])
    earlier = facts["time"] - 4
    before = _told(
        home, *explain, "--unit", "east|m03", "--at", str(earlier), "--against", "beginning"
    )
    assert (before["time"], before["against"]) == (earlier, "beginning")
    assert "归因" in _tacit(home, *explain, "--unit", "east|m03", "--lang", "zh").stdout
    weights = " ".join(_tacit(home, *explain).stdout.split())
    assert "Mean absolute amounts over 24 scores" in weights
    assert "attribution, not exact" in weights


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("explain", "chance", "--unit", "east|m0"),
            "has no rows of east|m0; did you mean east|m",
        ),
        (("explain", "chance", "--unit", "east|m00", "--at", "2"), "no whole window"),
        (("explain", "chance", "--plot", "heat.png"), "give --unit too"),
        (("explain", "chance", "--against", "nobody"), "choose members or beginning"),
        (("predict", "chance", "--out", "s.csv", "--risk-column", "step"), "choose another name"),
        (("scorecard", "chance"), "no sum of curves"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_sentence(
    launched: tuple[Path, worn.Fleet], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    home, where = launched
    words = tuple(str(tmp_path / word) if word == "s.csv" else word for word in words)
    data = () if words[0] == "scorecard" else ("--data", str(where.root))
    found = _tacit(home, "model", *words, *data)
    assert isinstance(found.exception, TacitError)
    assert said in str(found.exception)
    assert not list(tmp_path.iterdir())
