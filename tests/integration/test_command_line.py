"""The embedded engine and the verbs, as a user runs them."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support import tables
from support.cli import assert_one_sentence, start, tacit

from clients.model_file import load_model
from privacy.ledger import LedgerHead
from privacy.verify import verify_data

SLOW_TRAINING = {
    "rounds": 400,
    "local_epochs": 20,
    "batch_rows": 8,
    "learning_rate": 0.001,
}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """One launch with baselines and personal models, and its home."""
    root = tmp_path_factory.mktemp("launched")
    changes = {"personal": {"epochs": 1}, "average_last": 2}
    where = tables.write(root / "data", "binary", config_changes=changes)
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), "--baselines",
        "--json", home=root / "home",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return root / "home", json.loads(found.stdout)


def test_launch_prints_one_object_with_what_was_promised(
    launched: tuple[Path, dict[str, object]],
) -> None:
    _, result = launched
    promised = {
        "run", "task", "members", "rounds", "protection", "metrics", "baselines", "privacy",
        "bytes_per_round", "seconds", "model", "ledger",
    }  # fmt: skip
    assert promised <= set(result)
    metrics = result["metrics"]
    baselines = result["baselines"]
    assert isinstance(metrics, dict)
    assert isinstance(baselines, dict)
    assert metrics["auc"] > 0.7
    assert set(baselines["local_only"]["by_member"]) == set(tables.MEMBERS)
    assert baselines["pooled"]["metrics"]["auc"] > 0.7
    personal = result["personal"]
    assert isinstance(personal, dict)
    assert set(personal["by_member"]) == set(tables.MEMBERS)


def test_a_runs_folder_holds_what_it_should(launched: tuple[Path, dict[str, object]]) -> None:
    home, result = launched
    folder = home / "runs" / str(result["run"])
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.yaml", "contract.yaml", "manifest.json", "manifest.sig", "rounds.jsonl",
        "result.json", "state.json", "model.safetensors", "curve.png", "run.log",
        "card.md", "card.json",
    } == names  # fmt: skip
    model = load_model(folder / "model.safetensors")
    assert model.dtype == np.float32
    assert model.size == result["model_values"]
    keys = list((home / "nodes").rglob("identity.pem"))
    assert len(keys) == len(tables.MEMBERS)
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)


def test_list_show_and_verify_agree_on_the_run(launched: tuple[Path, dict[str, object]]) -> None:
    home, result = launched
    listed = json.loads(tacit("run", "list", "--json", home=home).stdout)
    assert [one["run"] for one in listed["runs"]] == [result["run"]]
    assert listed["runs"][0]["state"] == "finished"
    shown = json.loads(tacit("run", "show", "last", "--json", home=home).stdout)
    assert shown["result"] == result
    assert Path(shown["curve"]).exists()
    page = tacit("run", "show", home=home).stdout
    assert "validation rows" in page
    assert any(bar in page for bar in "▂▃▄▅▆▇█")
    verdict = json.loads(tacit("audit", "verify", "--json", home=home).stdout)
    assert verdict["verified"] is True
    assert verdict["runs"] == 1
    assert verdict["rounds"] == 3
    # the result remembers the ledger before the model was registered, and that state was found
    assert verdict["heads_checked"] == 1
    assert verdict["leaves"] == result["ledger"]["leaves"] + 1  # type: ignore[index]
    assert [node["owner"] for node in verdict["nodes"]] == sorted(tables.MEMBERS)
    assert verdict["missing"] == []


def test_what_is_exported_is_verified_anywhere(
    launched: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    home, result = launched
    path = tmp_path / "evidence.bundle"
    told = json.loads(tacit("audit", "export", str(path), "--json", home=home).stdout)
    assert len(told["leaves"]) == 1 + len(tables.MEMBERS)
    elsewhere = tmp_path / "nothing here"
    verdict = json.loads(tacit("audit", "verify", str(path), "--json", home=elsewhere).stdout)
    assert verdict["verified"] is True
    assert len(verdict["root"]) == 64
    assert verdict["missing"] == []
    remembered = LedgerHead(**result["ledger"])  # type: ignore[arg-type]
    origin = next(name for name in told["leaves"] if name.startswith("tacit/coordinator/"))
    verify_data(path.read_bytes(), heads={origin: [remembered]})
    page = tacit("audit", "verify", str(path), home=elsewhere).stdout
    assert "privacy, computed again from the receipts" in page
    assert not elsewhere.exists()


def test_a_changed_bundle_is_not_verified(
    launched: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    home, _ = launched
    path = tmp_path / "evidence.bundle"
    tacit("audit", "export", str(path), home=home)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = [line.replace(b'"round":2', b'"round":3', 1) for line in lines]
    assert changed != lines
    path.write_bytes(b"".join(changed))
    assert "step 1" in assert_one_sentence(tacit("audit", "verify", str(path), home=home), 1)
    # the line at the end is no secret
    body = b"".join(changed[:-1])
    end = json.dumps({"end": hashlib.sha256(body).hexdigest()}, separators=(",", ":"))
    path.write_bytes(body + end.encode() + b"\n")
    assert "entry" in assert_one_sentence(tacit("audit", "verify", str(path), home=home), 1)


def test_a_cut_off_ledger_is_found_by_the_heads_that_runs_remember(
    launched: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    home, _ = launched
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    assert tacit("audit", "verify", home=copy).returncode == 0
    with closing(sqlite3.connect(copy / "ledger.db", isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER entry_is_kept")
        connection.execute("DELETE FROM entry WHERE place = (SELECT max(place) FROM entry)")
    # its own signed state says so first
    assert "step 4" in assert_one_sentence(tacit("audit", "verify", home=copy), 1)
    with closing(sqlite3.connect(copy / "ledger.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM checkpoint")
    assert "step 7" in assert_one_sentence(tacit("audit", "verify", home=copy), 1)


@pytest.mark.parametrize("protection", ["sealed", "ckks", "clear"])
def test_every_protection_runs_and_show_says_what_it_hid(tmp_path: Path, protection: str) -> None:
    where = tables.write(tmp_path, "binary", config_changes={"protection": {"sum": protection}})
    home = tmp_path / "home"
    words = ["run", "launch", str(where.config), "--local", "--data", str(where.root), "--json"]
    allow = [] if protection == "sealed" else ["--allow", protection]
    found = tacit(*words, *allow, home=home)
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["protection"] == protection
    assert result["metrics"]["auc"] > 0.7
    shown = json.loads(tacit("run", "show", "--json", home=home).stdout)
    sums = shown["sums"]
    # statistics, three rounds with their validation, the test
    assert sums["opened"] == 8
    assert sums["signatures"] == 8 * len(tables.MEMBERS)
    assert len(sums["keys"]) == 1
    assert len(sums["keys"][0]["fingerprint"]) == 64
    page = tacit("run", "show", home=home).stdout
    assert protection in page
    if protection == "clear":
        assert "Nothing is hidden" in page
        assert sums["keys"][0]["public_bytes"] == 0
    else:
        assert "no secret, public, Galois" in " ".join(page.split())
        assert 0 < sums["keys"][0]["public_bytes"] < 200
        # ciphertext is bigger than the numbers by far
        assert result["bytes_per_round"]["up_per_member"] > 10_000
    verified = json.loads(tacit("audit", "verify", "--json", home=home).stdout)
    # votes, acceptances and heads; beside them the launcher's and each member's consent
    assert verified["signatures"] == 1 + len(tables.MEMBERS) + 3 * sums["signatures"]


def test_plan_says_size_and_who_would_refuse(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary", config_changes={"minimum_cohort": 2})
    words = ("run", "plan", str(where.config), "--data", str(where.root))
    plan = json.loads(tacit(*words, "--json", home=tmp_path / "home").stdout)
    assert plan["feasible"] is False
    assert all("at least 3" in one["would_refuse"][0] for one in plan["members"].values())
    where = tables.write(tmp_path, "binary")
    plan = json.loads(tacit(*words, "--json", home=tmp_path / "home").stdout)
    assert plan["feasible"] is True
    # three values a word, and a tag of four words
    assert plan["bytes_per_round"]["up_per_member"] == 8 * (-(-(plan["model_values"] + 1) // 3) + 4)
    assert plan["privacy"]["unit"] == "customer"
    launched = tacit("run", "launch", *words[2:], "--local", "--json", home=tmp_path / "home")
    sent = json.loads(launched.stdout)["bytes_sent_per_member"]
    assert plan["bytes_total"]["up_per_member"] == sent
    assert "It can run." in tacit(*words, home=tmp_path / "home").stdout


def test_folds_and_fine_tuning_report_means(tmp_path: Path) -> None:
    where = tables.write(
        tmp_path, "binary", contract_changes={"split": {"kind": "folds", "seed": 1, "folds": 2}}
    )
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), "--json",
        "--baselines", home=tmp_path / "home",
    )  # fmt: skip
    result = json.loads(found.stdout)
    for baseline in ("local_only", "pooled"):
        assert result["baselines"][baseline]["metrics"]["auc"] > 0.6
    folds = [one["auc"] for one in result["folds"]]
    assert len(folds) == 2
    assert result["metrics"]["auc"] == pytest.approx(sum(folds) / 2)
    assert (
        json.loads(tacit("audit", "verify", "--json", home=tmp_path / "home").stdout)["runs"] == 2
    )


def test_members_as_folders_each_read_their_own(tmp_path: Path) -> None:
    rows = tables.table("binary")
    changes = {
        "members": {"folder": "banks"},
        "columns": [c for c in tables.columns("binary") if c["name"] != "member"],
    }
    where = tables.write(tmp_path, "binary", rows=rows, contract_changes=changes)
    for member, own in rows.groupby("member"):
        folder = tmp_path / "banks" / str(member)
        folder.mkdir(parents=True)
        own.drop(columns="member").to_csv(folder / "table.csv", index=False)
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), "--json",
        home=tmp_path / "home",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["members"] == sorted(tables.MEMBERS)


def _wait_for_round(home: Path, timeout_s: float = 240) -> Path:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for path in home.glob("runs/*/rounds.jsonl"):
            if path.stat().st_size:
                return path.parent
        time.sleep(0.05)
    raise AssertionError("no round was committed in time")


def test_ctrl_c_in_mid_round_ends_in_one_sentence_and_nothing_half_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = tables.write(tmp_path, "binary", config_changes={"training": SLOW_TRAINING})
    words = ("run", "launch", str(where.config), "--local", "--data", str(where.root), "--json")
    process = start(*words, home=home)
    folder = _wait_for_round(home)
    second = tacit(*words, home=home)
    assert "Another run is using" in assert_one_sentence(second, 1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert out == ""
    assert "Traceback" not in err
    assert err.endswith("Stopped by hand; what was committed is kept, nothing is half written.\n")
    assert json.loads((folder / "state.json").read_text())["state"] == "stopped"
    assert not (folder / "model.safetensors").exists()
    assert not (folder / "result.json").exists()
    assert not list(home.rglob("*.part"))
    verdict = json.loads(tacit("audit", "verify", "--json", home=home).stdout)
    assert verdict["verified"] is True
    assert verdict["unfinished"] == []
    listed = json.loads(tacit("run", "list", "--json", home=home).stdout)
    assert [one["state"] for one in listed["runs"]] == ["stopped"]


def test_kill_9_leaves_a_home_that_still_works(tmp_path: Path) -> None:
    home = tmp_path / "home"
    where = tables.write(tmp_path, "binary", config_changes={"training": SLOW_TRAINING})
    process = start(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), home=home
    )
    _wait_for_round(home)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    listed = json.loads(tacit("run", "list", "--json", home=home).stdout)
    assert [one["state"] for one in listed["runs"]] == ["interrupted"]
    verdict = json.loads(tacit("audit", "verify", "--json", home=home).stdout)
    assert len(verdict["unfinished"]) == 1
    tables.write(tmp_path, "binary")
    again = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root), "--json",
        home=home,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr


def test_describe_drafts_a_contract_that_runs_without_edits(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tables.table("binary").to_csv(tmp_path / "table.csv", index=False)
    drafted = tacit(
        "data", "describe", str(tmp_path / "table.csv"), "--draft", "--label", "label", "--id",
        "id", "--members", "member", "--task", "credit", home=home,
    )  # fmt: skip
    assert drafted.returncode == 0, drafted.stderr
    (tmp_path / "contract.yaml").write_text(drafted.stdout)
    (tmp_path / "config.yaml").write_text(json.dumps(tables.config("binary")))
    checked = tacit(
        "data", "check", str(tmp_path / "contract.yaml"), "--data", str(tmp_path), "--json",
        home=home,
    )  # fmt: skip
    assert json.loads(checked.stdout)["passed"] is True
    found = tacit(
        "run", "launch", str(tmp_path / "config.yaml"), "--local", "--data", str(tmp_path),
        "--json", home=home,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["metrics"]["auc"] > 0.7


def test_help_fits_one_screen_and_names_every_verb() -> None:
    found = tacit("--help", home=Path("unused"))
    assert found.returncode == 0
    assert len(found.stdout.splitlines()) <= 24
    for verb in ("demo", "run", "data", "audit"):
        assert verb in found.stdout


def test_a_run_that_breaks_a_rule_is_not_launched_and_leaves_nothing(tmp_path: Path) -> None:
    where = tables.write(tmp_path / "data", "binary")  # L3 columns, and no noise
    home = tmp_path / "home"
    home.mkdir()
    words = ("run", "launch", str(where.config), "--local", "--data", str(where.root))
    said = assert_one_sentence(tacit(*words, "--rules", "finance_cn", home=home), 1)
    assert "adds no noise" in said
    (home / "rules.yaml").write_text(
        "format: 1\nname: ours\ntitle: Ours\ntitle_zh: 本行\nbuilds_on: finance_cn\nseverity: {}\n",
        encoding="utf-8",
    )
    assert assert_one_sentence(tacit(*words, home=home), 1) == said
    assert not (home / "ledger.db").exists()
    assert not list(home.glob("runs/*"))
