"""Scenarios from readings to terms, and what an intervention does."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clients.check import check_data
from clients.contract import load_contract
from clients.terms.log import read_log
from clients.terms.rule import load_terms
from federation.cli.main import app
from federation.config import load_project
from federation.scenarios.construction import draw_leases
from federation.scenarios.pack import read_standings, run_pack, write_books
from federation.scenarios.pack_list import PACKS, pack_folder
from privacy.errors import InputError
from privacy.identity import Identity

TERMS = Path(__file__).parents[2] / "configs" / "scenarios" / "construction_lease" / "terms.yaml"


def keys(out: Path) -> set[str]:
    """Whose the terms of a scenario are."""
    return {Identity.load(out / "home" / "launcher.pem").public.hex()}


def test_construction_lease_recovers_the_effect_of_downtime(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plot = tmp_path / "plot.png"
    report = run_pack("construction_lease", out, seed=0, leases=300, plot=plot)
    assert plot.read_bytes().startswith(b"\x89PNG")
    effect = report["effect"]
    assert effect["true"] < -0.03
    # 1,200 leases: the standard error of the effect is about a fifth of it
    assert 0.6 < effect["model"] / effect["true"] < 1.4
    assert {one["what"] for one in report["acts"]} >= {"grade", "much-downtime", "quiet-month"}
    low, high = effect["true_interval"]
    assert low < effect["true"] < high < 0
    # grades fall and recover as the last two weeks do
    assert report["grades"]["fell_and_recovered"] >= 1
    standing = read_standings(out)
    assert len(standing) == 6 * (60 - PACKS["construction_lease"].memory + 1)
    assert standing["grade"].nunique() >= 3
    log = read_log(out / "terms.jsonl", keys=keys(out))
    assert len(log.terms) == 6
    assert json.loads((out / "report.json").read_text()) == report
    with pytest.raises(InputError, match="holds something"):
        run_pack("construction_lease", out)


def test_an_intervention_moves_downtime_and_nothing_else() -> None:
    book = draw_leases("b", count=400, rng=np.random.default_rng(1))
    same = book.default_probability(book.downtime)
    assert np.array_equal(same, book.default_probability())
    assert (book.default_probability(book.downtime * 0) <= same).all()
    again = draw_leases("b", count=400, rng=np.random.default_rng(1))
    assert again.readings.equals(book.readings)
    # the confounder: old machines stand more
    age = book.stated["age_years"].to_numpy()
    assert book.downtime[age > 10].mean() > book.downtime[age < 5].mean() + 0.02


def test_terms_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "home"))
    days, log = tmp_path / "days.csv", tmp_path / "log.jsonl"
    rows = [f"m,2021-06-{day:02d},0.0,0.1,0.02" for day in range(1, 8)]
    head = "subject,day,utilisation,downtime_share,default_probability"
    days.write_text("\n".join([head, *rows]) + "\n")
    run = ["terms", "run", str(TERMS), "--values", str(days), "--log", str(log), "--json"]
    dry = CliRunner().invoke(app, [*run, "--dry-run"])
    assert not log.exists()
    assert not (tmp_path / "home" / "launcher.pem").exists()
    wet = CliRunner().invoke(app, run)
    assert json.loads(dry.stdout)["acts"] == json.loads(wet.stdout)["acts"]
    assert json.loads(wet.stdout)["terms"]["m"]["frozen"] is True
    assert CliRunner().invoke(app, ["terms", "log", str(log), "--json"]).exit_code == 0
    log.write_bytes(log.read_bytes().replace(b"0.02", b"0.01", 1))
    assert CliRunner().invoke(app, ["terms", "log", str(log)]).exit_code == 1
    days.write_text("subject,day,vibration\nm,2021-06-01,3\n")
    assert isinstance(CliRunner().invoke(app, run).exception, InputError)


@pytest.mark.parametrize("name", sorted(PACKS))
def test_every_scenario_keeps_its_contracts(name: str, tmp_path: Path) -> None:
    folder = pack_folder(name)
    write_books(name, tmp_path, seed=0, leases=60)
    for contract in (
        load_contract(folder / "readings.yaml"),
        load_project(folder / "run.yaml").contract,
    ):
        report = check_data(contract, tmp_path)
        assert report.passed, report.problems
    assert load_terms(folder / "terms.yaml").name == name


def test_a_claims_scenario_runs_end_to_end(tmp_path: Path) -> None:
    report = run_pack("ev_fleet_insurance", tmp_path / "out", seed=0, leases=60)
    assert report["events"] > 0
    assert report["effect"] is None
    assert report["grades"]["fell_and_recovered"] >= 1
    assert len(read_log(tmp_path / "out" / "terms.jsonl", keys=keys(tmp_path / "out")).terms) == 6
