"""`tacit data gate`, `trust` and `review`, as a member's people type them."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from support.cli import assert_one_sentence, start, tacit
from support.machines import HOT, Machines, add, column, contract, overheat, readings, write

from clients.ledger_files import LEDGER
from clients.targets import tally_kind, target_unit
from federation.config import load_project
from federation.engine.baselines import POOLED, BaselineTask, _train
from federation.home import Home
from privacy.ledger.entry import parse_leaf
from privacy.ledger.sqlite import SqliteLedger
from privacy.tally import metrics


def gate(where: Machines, home: Path, *more: str, code: int = 0) -> dict[str, Any]:
    words = ("data", "gate", str(where.contract), "--data", str(where.root), "--json", *more)
    found = tacit(*words, home=home)
    assert found.returncode == code, found.stderr
    value: dict[str, Any] = json.loads(found.stdout)
    return value


def review(home: Path, *words: str) -> dict[str, Any]:
    found = tacit("data", "review", *words, "--json", home=home)
    assert found.returncode == 0, found.stderr
    value: dict[str, Any] = json.loads(found.stdout)
    return value


def state(home: Path) -> dict[tuple[str, str], str]:
    return {(one["member"], one["device"]): one["state"] for one in review(home, "list")["devices"]}


def acts(home: Path, member: str) -> list[dict[str, object]]:
    leaves = SqliteLedger(Home(home).node("machines", member) / LEDGER).leaves()
    entries = [parse_leaf(leaf) for leaf in leaves]
    return [{"act": one.kind, **one.body} for one in entries if one.kind.startswith("device.")]


def pooled(where: Machines) -> dict[str, Any]:
    """What a model of all these rows says of each member's, to be held against a launch's."""
    project = load_project(where.config)
    settings = project.config.baseline_settings(seed=0, fold=None)
    task = BaselineTask(
        contract=where.contract, data_root=where.root, settings=settings, member=POOLED,
        average_last=project.config.average_last, device="cpu",
    )  # fmt: skip
    known = project.contract
    unit = target_unit(known)
    return {
        member: pytest.approx(metrics(tally_kind(known), tally, known.groups, target_unit=unit))
        for member, tally in _train(task).items()
    }


def test_a_device_waits_is_shown_released_and_held_again_when_more_comes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    frame = readings()
    early = frame[frame["hour"] < 20]
    where = write(tmp_path / "data", overheat(early, "n1", range(18, 20)))
    assert gate(where, home)["waiting"] == 0  # two in a row
    # a file more, and the third is in it
    add(where, "b.csv", overheat(frame[frame["hour"] >= 20], "n1", range(20, 21)))
    found = gate(where, home, code=1)
    (north,) = [one for one in found["members"] if one["member"] == "north"]
    assert (north["new"], north["left_out"], found["waiting"]) == (["n1"], 40, 1)
    (told,) = [one for one in north["devices"] if one["device"] == "n1"]
    assert (told["state"], told["longest_run"], told["out_of_threshold"]) == ("waiting", 3, 3)
    assert gate(where, home, code=1)["members"][0]["new"] == []
    picture = tmp_path / "n1.svg"
    shown = review(home, "show", "n1", "--plot", str(picture))
    assert (shown["state"], shown["first"], shown["last"]) == ("waiting", 18, 20)
    assert b"<svg" in picture.read_bytes()
    decided = review(
        home,
        "release",
        "n1",
        "--reason",
        "a test bench",
        "--by",
        "ann",
        "--seen",
        shown["seen"][:10],
    )
    assert (decided["state"], decided["member"], decided["review"]) == ("released", "north", 1)
    assert gate(where, home)["members"][0]["left_out"] == 0
    # what came late, in a file of its own and out of order, is judged at its own time
    add(where, "c.csv", overheat(frame[frame["hour"] >= 20], "n1", range(21, 24))[::-1])
    assert gate(where, home, code=1)["members"][0]["new"] == ["n1"]
    said = [(one["act"], one["review"]) for one in acts(home, "north")]
    assert said == [("device.held", 1), ("device.released", 1), ("device.held", 2)]
    assert "n1" not in str(acts(home, "north"))
    assert acts(home, "north")[1]["reason"] == "a test bench"
    assert acts(home, "south") == []


def test_a_launch_uses_no_row_of_a_device_that_waits_and_verifies(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = write(tmp_path / "data", overheat(readings(), "n1", range(10, 14)))
    launch = ("run", "launch", str(where.config), "--local", "--data", str(where.root), "--json")
    launched = tacit(*launch, "--baselines", home=home)
    assert launched.returncode == 0, launched.stderr
    told = json.loads(launched.stdout)["baselines"]["pooled"]["by_member"]
    frame = readings()
    without = write(tmp_path / "without", frame[frame["machine"] != "n1"])
    assert told == pooled(without)  # one that never had the device
    # nobody had looked before: the node did, when it read its rows
    assert state(home) == {("north", "n1"): "waiting"}
    log = (Home(home).node("machines", "north") / "node.log").read_text()
    assert "40 of 160 rows of machines are left out" in log
    found = review(home, "reject", "n1", "--reason", "a broken sensor")
    assert found["state"] == "rejected"
    assert tacit(*launch, home=home).returncode == 0
    verified = tacit("audit", "verify", "--json", home=home)
    assert verified.returncode == 0, verified.stderr
    assert [one["act"] for one in acts(home, "north")] == ["device.held", "device.rejected"]
    log = (Home(home).node("machines", "north") / "node.log").read_text()
    assert log.count("40 of 160 rows of machines are left out") == 2


def test_looking_only_puts_nothing_on_record(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = write(tmp_path / "data", overheat(readings(), "n1", range(10, 14)))
    found = gate(where, home, "--look-only", "--member", "north", code=1)
    assert found["waiting"] == 1
    assert [one["state"] for one in found["members"][0]["devices"]].count("to be held") == 1
    words = ("data", "gate", str(where.contract), "--data", str(where.root), "--member", "north")
    said = " ".join(tacit(*words, "--look-only", home=home).stdout.split())
    assert "1 device of machines would be put under review without --look-only" in said
    assert "review list" not in said
    assert not (home / "nodes").exists()
    assert "1 device of machines waits for a person" in tacit(*words, home=home).stdout
    said = tacit(*words, "--look-only", home=home).stdout
    assert "1 device of machines waits for a person: tacit data review list" in said
    assert "would be" not in said


def test_a_device_of_several_members_is_named_with_its_member(tmp_path: Path) -> None:
    home = tmp_path / "home"
    frame = readings()
    frame["machine"] = "pump-" + frame["machine"].str[1:]
    frame.loc[(frame["hour"] < 3) & (frame["machine"] == "pump-0"), "heat"] = HOT
    where = write(tmp_path / "data", frame)
    gate(where, home, code=1)
    assert len(state(home)) == 3
    several = tacit("data", "review", "release", "pump-0", "--reason", "x", home=home)
    assert "name one with --member or --dataset" in assert_one_sentence(several, 2)
    review(home, "release", "pump-0", "--reason", "x", "--member", "west")
    assert [key for key, value in state(home).items() if value == "released"] == [
        ("west", "pump-0")
    ]


def test_what_cannot_be_decided_is_said_in_one_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = write(tmp_path / "data", overheat(readings(), "n1", range(10, 14)))
    gate(where, home, code=1)
    for words, sentence, code in (
        (("show", "n0"), "names no device that ever was under review", 2),
        (("release", "n1", "--reason", " "), "printable text", 2),
        (("release", "n1", "--reason", "x", "--seen", "ffff0000"), "other readings", 1),
        (("show", "n1", "--plot", "n1.txt"), "ends in .png, .svg or .pdf", 2),
    ):
        assert sentence in assert_one_sentence(tacit("data", "review", *words, home=home), code)
    assert state(home) == {("north", "n1"): "waiting"}


def test_rows_that_do_not_keep_their_contract_are_named_and_hold_nobody(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = write(tmp_path / "data", overheat(readings(), "n1", range(10, 14)))
    (where.rows / "b.csv").write_text("member,machine,hour,heat,shake\nnorth,n1,x,50,1\n")
    words = ("data", "gate", str(where.contract), "--data", str(where.root))
    assert "line 2" in assert_one_sentence(tacit(*words, home=home), 1)
    assert not (home / "nodes").exists()


def test_a_folder_that_grows_is_followed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    frame = readings()
    where = write(tmp_path / "data", frame[frame["hour"] < 20])
    words = ("data", "gate", str(where.contract), "--data", str(where.root))
    process = start(*words, "--follow", "0.2", "--json", home=home)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["waiting"] == 0
        add(where, "b.csv", overheat(frame[frame["hour"] >= 20], "n1", range(30, 33)))
        assert json.loads(process.stdout.readline())["waiting"] == 1
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert "Traceback" not in told
    assert state(home) == {("north", "n1"): "waiting"}


def test_a_look_that_failed_is_tried_again_though_no_file_of_rows_changes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = write(tmp_path / "data", overheat(readings(), "n1", range(10, 14)))
    words = ("data", "gate", str(where.contract), "--data", str(where.root))
    home.mkdir()
    (home / "nodes").write_text("in the way")
    process = start(*words, "--follow", "0.1", "--json", home=home)
    try:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "cannot be made" in process.stderr.readline()
        (home / "nodes").unlink()
        assert json.loads(process.stdout.readline())["waiting"] == 1
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert "cannot be made" not in told  # said once, however often it was tried
    assert state(home) == {("north", "n1"): "waiting"}


def test_trust_is_said_with_what_it_is_made_of(tmp_path: Path) -> None:
    frame = readings()
    frame["boots"], frame["age"] = 0.0, 30.0
    frame.loc[frame["machine"] == "n2", ["boots", "age"]] = 1.0, 1500.0
    rules = {"interval": 1, "restarts": "boots", "firmware_days": "age", "least_trust": 60}
    columns = [*contract()["columns"], column("boots"), column("age", unit="d")]
    where = write(tmp_path / "data", frame, contract_changes={"gate": rules, "columns": columns})
    home = tmp_path / "home"
    words = ("data", "trust", str(where.contract), "--data", str(where.root), "--member", "north")
    found = tacit(*words, "--json", home=home)
    assert found.returncode == 0, found.stderr
    ((north),) = json.loads(found.stdout)["members"]
    worst, *others = north["devices"]
    assert worst["device"] == "n2"
    assert worst["trust"] == pytest.approx(sum(one["points"] for one in worst["parts"]), abs=0.05)
    assert [one["part"] for one in worst["parts"]] == [
        "reporting",
        "restarts",
        "firmware",
        "reviews",
    ]
    assert worst["trust"] < 70 < min(one["trust"] for one in others)
    assert "1500 days old" in tacit(*words, home=home).stdout
