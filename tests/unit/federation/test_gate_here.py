"""Indicators, plans and baselines are about the rows that a run uses, and an old table stays so."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.machines import HOT, MEMBERS, Machines, column, contract, overheat, readings, write
from typer.testing import CliRunner

from clients.contract import load_contract
from clients.gate import Device
from clients.judgement import LEAST_WEIGHT, Judgement, judged
from clients.members import read_members
from clients.review_store import Looked
from clients.source import TRUST, UNIT
from federation.cli.data import app
from federation.compliance import load_rules
from federation.config import load_project
from federation.engine.baselines import POOLED, BaselineTask, _train
from federation.gate_here import judgements_here
from federation.home import Home
from federation.plan import plan_run
from privacy.errors import DataError, InputError, NotVerifiedError, RefusedError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return Home(tmp_path / "home")


@pytest.fixture
def where(tmp_path: Path) -> Machines:
    """Machine n1 of north was too hot."""
    frame = overheat(readings(), "n1", range(10, 13)).sort_values("hour", kind="stable")
    return write(tmp_path / "data", frame)


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code in {0, 1}
    return result.output


def computed(where: Machines, out: Path, *more: str) -> dict[str, Any]:
    words = ("compute", str(where.contract), "--data", str(where.root), "--out", str(out))
    wish = ("--choose", "running_hours", "--input", "running=shake", *more, "--json")
    found: dict[str, Any] = json.loads(said("indicators", *words, *wish))
    return found


def devices_of(out: Path) -> list[str]:
    return [line.split(",")[0] for line in out.read_text(encoding="utf-8").splitlines()[1:]]


def walk(where: Machines, out: Path, device: str) -> dict[str, Any]:
    again = ("--contract", str(where.contract), "--data", str(where.root), "--json")
    found: dict[str, Any] = json.loads(said("lineage", str(out), device, *again))
    return found


def decide(word: str, device: str) -> None:
    said("review", word, device, "--reason", "a test")


def test_a_table_has_no_value_of_a_held_device_and_stays_what_it_is(
    where: Machines, tmp_path: Path
) -> None:
    held, released = tmp_path / "held.csv", tmp_path / "released.csv"
    told = computed(where, held)
    assert told["left_out"] == {
        "devices": 1, "rows": 40, "waiting": 1, "rejected": 0, "distrusted": 0,
    }  # fmt: skip
    names = devices_of(held)
    assert "north|n1" not in names
    assert len(names) == 11
    # nobody had looked before: the look is on record as a run's is
    (one,) = json.loads(said("review", "list", "--json"))["devices"]
    assert (one["device"], one["member"], one["state"]) == ("n1", "north", "waiting")
    decide("release", "n1")
    told = computed(where, released)
    assert told["left_out"]["devices"] == 0
    assert "north|n1" in devices_of(released)
    decide("reject", "n1")
    assert computed(where, tmp_path / "rejected.csv")["left_out"]["rejected"] == 1
    # whatever was decided since, each table comes out again as it was
    again = walk(where, held, "north|n0")
    assert again["computed_again"]
    assert again["left_out"]["waiting"] == 1
    assert walk(where, released, "north|n1")["computed_again"]
    # and the lineage of the first is no lineage of a device that it left out
    with pytest.raises(InputError, match=r"has no device north\|n1"):
        walk(where, held, "north|n1")


def test_what_is_left_out_differs_where_the_device_key_joins_it_with_others(
    where: Machines, tmp_path: Path
) -> None:
    """By member alone, a value is over all its machines: those that are held are in none."""
    out = tmp_path / "out.csv"
    told = computed(where, out, "--device-key", "member")
    assert (told["rows"], told["left_out"]["rows"]) == (440, 40)
    assert devices_of(out) == list(MEMBERS)
    decide("release", "n1")
    assert walk(where, out, "north")["computed_again"]
    assert computed(where, tmp_path / "all.csv", "--device-key", "member")["rows"] == 480


def test_people_are_told_and_a_lineage_is_not_changed_unseen(
    where: Machines, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    words = ("compute", str(where.contract), "--data", str(where.root), "--out", str(out))
    shown = said("indicators", *words, "--choose", "running_hours", "--input", "running=shake")
    assert "Left out by the quality gate: 40 rows of 1 device (1 waiting for a review)" in shown
    path = out.with_name("out.csv.lineage.json")
    value = json.loads(path.read_bytes())
    assert "n1" not in str(value["left_out"])
    # who strikes it out of the lineage gets other values, or no lineage
    by_member = tmp_path / "member.csv"
    computed(where, by_member, "--device-key", "member")
    path = by_member.with_name("member.csv.lineage.json")
    value = json.loads(path.read_bytes())
    value["left_out"] = {}
    path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")
    with pytest.raises(NotVerifiedError, match="its rows are others"):
        walk(where, by_member, "north")


def test_files_that_change_after_the_look_are_no_table(
    where: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients.indicators import compute as computing

    true = computing.compute_indicators

    def grown(*args: Any, **keys: Any) -> Any:  # noqa: ANN401 - as the true one
        found = true(*args, **keys)
        (where.rows / "b.csv").write_bytes((where.rows / "a.csv").read_bytes())
        return found

    monkeypatch.setattr(computing, "compute_indicators", grown)
    out = tmp_path / "out.csv"
    with pytest.raises(DataError, match="changed while they were read"):
        computed(where, out)
    assert not out.exists()


def test_devices_of_too_little_trust_are_in_no_table(tmp_path: Path) -> None:
    frame = readings()
    frame["boots"] = (frame["machine"] == "s2").astype(float)
    rules = {"interval": 1, "restarts": "boots", "least_trust": 80}
    columns = [*contract()["columns"], column("boots")]
    where = write(tmp_path / "data", frame, contract_changes={"gate": rules, "columns": columns})
    told = computed(where, tmp_path / "out.csv")
    assert (told["left_out"]["distrusted"], told["left_out"]["rows"]) == (1, 40)
    assert "south|s2" not in devices_of(tmp_path / "out.csv")
    told = computed(where, tmp_path / "north.csv", "--member", "north")
    assert (told["left_out"]["devices"], told["devices"]) == (0, 4)


def judgements(where: Machines, home: Home) -> dict[str, Judgement]:
    known = load_contract(where.contract)
    return judgements_here(home, known, read_members(known, where.root))


def task(where: Machines, member: str, found: dict[str, Judgement]) -> BaselineTask:
    config = load_project(where.config).config
    return BaselineTask(
        contract=where.contract, data_root=where.root, average_last=1, device="cpu",
        settings=config.baseline_settings(seed=0, fold=None), member=member, judgements=found,
    )  # fmt: skip


def test_baselines_are_of_the_rows_that_a_run_uses(
    where: Machines, tmp_path: Path, home: Home
) -> None:
    frame = overheat(readings(), "n1", range(10, 13)).sort_values("hour", kind="stable")
    without = write(tmp_path / "without", frame[frame["machine"] != "n1"])
    found = judgements(where, home)
    assert dict(found["north"].left_out) == {Device("n1"): "waiting"}
    assert not home.root.exists()  # nothing is put on record
    for member in ("north", POOLED):
        told, expected = _train(task(where, member, found)), _train(task(without, member, {}))
        assert told.keys() == expected.keys()
        for name, tally in expected.items():
            assert told[name].tolist() == tally.tolist()
    used, whole = _train(task(where, "north", found)), _train(task(where, "north", {}))
    assert used["north"].tolist() != whole["north"].tolist()


def test_a_member_without_usable_rows_has_no_baseline_and_no_part_in_the_pooled(
    tmp_path: Path, home: Home
) -> None:
    frame = readings()
    frame.loc[(frame["member"] == "north") & (frame["hour"] < 3), "heat"] = HOT
    where = write(tmp_path / "data", frame)
    found = judgements(where, home)
    with pytest.raises(RefusedError, match="No training rows are left"):
        _train(task(where, "north", found))
    assert set(_train(task(where, POOLED, found))) == {"south", "west"}
    plan = planned(where, home)
    assert plan["members"]["north"]["training_rows"] == 0
    assert any(
        "No training rows are left" in one for one in plan["members"]["north"]["would_refuse"]
    )
    assert not plan["feasible"]


def planned(where: Machines, home: Home) -> dict[str, Any]:
    from datetime import UTC, datetime

    return plan_run(
        load_project(where.config),
        where.root,
        home,
        seed=0,
        rules=load_rules(home=home.root),
        at=datetime.now(UTC),
    )


def test_a_plan_counts_the_rows_that_a_run_would_use(where: Machines, home: Home) -> None:
    plan = planned(where, home)
    rows = {name: one["training_rows"] + one["test_rows"] for name, one in plan["members"].items()}
    assert rows == {"north": 120, "south": 160, "west": 160}
    assert [one["left_out_rows"] for one in plan["members"].values()] == [40, 0, 0]
    assert not home.root.exists()


def test_a_judgement_weighs_as_training_does(tmp_path: Path) -> None:
    frame = readings()
    frame["boots"] = (frame["machine"] == "n3").astype(float) * 1e6
    rules = {"interval": 1, "restarts": "boots", "weigh_by_trust": True}
    columns = [*contract()["columns"], column("boots")]
    where = write(tmp_path / "data", frame, contract_changes={"gate": rules, "columns": columns})
    known = load_contract(where.contract)
    rows = read_members(known, where.root)["north"]
    nobody = Looked(standings={}, new=())
    found, _ = judged(rows, known, lambda _: nobody)
    assert found.shares is not None
    weighed = found.usable(rows, known)
    by_unit = weighed.train.groupby(UNIT)[TRUST].first()
    assert by_unit["n0"] == 1.0
    assert LEAST_WEIGHT <= by_unit["n3"] < 0.8
    all_of_it = task(where, "north", {"north": found})
    assert _train(all_of_it)["north"].tolist() != _train(task(where, "north", {}))["north"].tolist()
