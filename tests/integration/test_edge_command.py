"""`tacit model export`, `tacit-edge` and `tacit model sync`, as a user runs them."""

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from support import bundles, tables, telemetry
from support.cli import EDGE, ROOT, assert_one_sentence, begin, environment, run, tacit
from typer.testing import CliRunner

from clients.scoring.readings_plan import UnitColumn
from federation.cli.main import app
from federation.edge.export import write_bundle
from federation.edge.scoring import EdgeJob, score_all
from federation.home import Home
from privacy.errors import DataError, InputError, RefusedError

BLOCKED = (
    "torch", "pandas", "pydantic", "yaml", "typer", "click", "rich", "flwr", "grpc", "pyarrow",
    "safetensors", "sklearn", "filelock", "platformdirs", "socket", "_socket", "ssl", "http",
    "urllib.request",
)  # fmt: skip


@dataclass(frozen=True)
class Launched:
    """A home with one additive run over indicators, and the bundle that it wrote."""

    home: Path
    root: Path
    readings: Path
    bundle: Path
    trust: str
    exported: dict[str, object]


def edge(
    *words: str, home: Path, given: str | None = None, script: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`tacit-edge WORDS`, run by this interpreter."""
    env = {**environment(home), "TACIT_EDGE_HOME": str(home)}
    if script is None:
        return run(words, env=env, timeout_s=240, given=given, module=EDGE)
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        env=env,
        input=given,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def inside(*words: str, home: Path) -> str:
    """What `tacit WORDS` prints, run in this process, as starting torch takes long; it succeeds."""
    found = CliRunner().invoke(app, list(words), env={"TACIT_HOME": str(home)})
    if found.exception is not None:
        raise found.exception
    return found.stdout


def refused(found: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """It failed with one sentence, no traceback; returns the sentence."""
    assert found.returncode == code, found.stderr
    lines = found.stderr.splitlines()
    assert len(lines) == 1, found.stderr
    assert lines[0].startswith("tacit-edge: ")
    return lines[0]


def _write(root: Path) -> Path:
    """Machines with a day of readings, and loans whose rows have their indicators."""
    rng = np.random.default_rng(0)
    units, hours = 60, 24
    load = rng.uniform(0.2, 1.0, (units, hours)).round(3)
    running = (rng.uniform(size=(units, hours)) < 0.8).astype(int)
    readings = pd.DataFrame(
        {
            "device": np.repeat([f"m-{unit}" for unit in range(units)], hours),
            "time": np.tile(np.arange(hours), units),
            "running": running.ravel(),
            "load_share": load.ravel(),
        }
    )
    (root / "one").mkdir(parents=True)
    contract = telemetry.telemetry_contract(["running", "load_share"])
    made = telemetry.computed(readings, root / "one", "load_share@1", "running_hours@1")
    (root / "one" / "readings.csv").rename(root / "readings.csv")
    said = contract.model_dump(mode="json", by_alias=True, exclude_none=True)
    (root / "readings.yaml").write_text(yaml.safe_dump(said))
    frame = pd.DataFrame(
        {
            "id": made.devices,
            "load_share": made.columns["load_share@1"],
            "running_hours": made.columns["running_hours@1"],
            "age": rng.integers(1, 20, units),
        }
    )
    risk = 8 * (frame["load_share"] - 0.6) + 0.1 * (frame["age"] - 10)
    frame["label"] = (rng.uniform(size=units) < 1 / (1 + np.exp(-risk))).astype(int)
    frame["member"] = rng.choice(["north", "south", "west"], units)
    number = {"type": "number", "class": "L2"}
    columns = [
        {"name": "id", "type": "text", "role": "id", "class": "L3"},
        {"name": "member", "type": "text", "role": "member", "class": "L1"},
        {"name": "load_share", **number, "unit": "1", "range": [0, 2], "indicator": "load_share@1"},
        {
            "name": "running_hours", **number, "unit": "h", "range": [0, 1000],
            "indicator": "running_hours@1",
        },
        {"name": "age", **number, "range": [0, 40], "declared": True},
        {"name": "label", "type": "integer", "role": "label", "class": "L3", "range": [0, 1]},
    ]  # fmt: skip
    where = tables.write(
        root / "loans",
        rows=frame,
        contract_changes={"columns": columns, "accepts": "indicators"},
        config_changes={"model": {"hidden": []}},
    )
    return where.config


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    root = tmp_path_factory.mktemp("edge")
    home, config = root / "home", _write(root)
    found = tacit(
        "run", "launch", str(config), "--local", "--data", str(root / "loans"), "--json", home=home
    )
    assert found.returncode == 0, found.stderr
    bundle = root / "model.tacit"
    told = inside(
        "model", "export", "last", "--edge", "--out", str(bundle), "--expires", "90",
        "--readings", str(root / "readings.yaml"), "--threshold", "review=0.5", "--json",
        home=home,
    )  # fmt: skip
    exported = json.loads(told)
    return Launched(
        home, root, root / "readings.csv", bundle, str(exported["fingerprint"]), exported
    )


def test_a_device_scores_as_the_main_program_does_with_numpy_alone(
    launched: Launched, tmp_path: Path
) -> None:
    """Neither torch, pandas, pydantic nor a network is there when readings are scored."""
    table = tmp_path / "scores.csv"
    inside(
        "model", "predict", "last", "--data", str(launched.root / "loans"), "--out", str(table),
        home=launched.home,
    )  # fmt: skip
    with table.open(encoding="utf-8") as file:
        wanted = {row["unit"]: row for row in csv.DictReader(file)}
    script = (
        f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\n"
        "from federation.edge.main import main\nmain()"
    )
    found = edge(
        "score", str(launched.bundle), str(launched.readings), "--trust", launched.trust,
        "--stated", str(launched.root / "loans" / "table.csv"), "--json",
        home=tmp_path / "device", script=script,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    scores = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(scores) == len(wanted) == 60
    for one in scores:
        row = wanted[one["unit"]]
        assert one["value"] == pytest.approx(float(row["value"]), abs=1e-9)
        for place, reason in enumerate(one["reasons"][:3], start=1):
            assert row[f"reason_{place}"] == reason["column"]
            assert row[f"reason_{place}_en"] == reason["en"]
            assert row[f"reason_{place}_zh"] == reason["zh"]
        total = one["base"] + sum(factor["amount"] for factor in one["factors"])
        assert total == pytest.approx(one["output"], abs=1e-9)
        assert one["above"] == (["review"] if one["value"] >= 0.5 else [])
        assert one["history"]["readings"] == 24
    # and back home
    log = tmp_path / "device" / "scores.log"
    device = json.loads(edge("log", "--json", home=tmp_path / "device").stdout)["device"]
    with pytest.raises(InputError, match="give its fingerprint"):
        inside("model", "sync", str(log), home=launched.home)
    told = inside("model", "sync", str(log), "--device", device, "--json", home=launched.home)
    assert json.loads(told)["scores"] == 60
    assert json.loads(inside("model", "sync", str(log), "--json", home=launched.home))["new"] == 0
    log.write_bytes(log.read_bytes()[: log.read_bytes().rindex(b"\n", 0, -1) + 1])
    sentence = assert_one_sentence(tacit("model", "sync", str(log), home=launched.home), 1)
    assert "60 lines, and 61 were seen" in sentence


def test_predict_with_a_bundle_is_the_same(launched: Launched, tmp_path: Path) -> None:
    words = ("--trust", launched.trust, "--stated", str(launched.root / "loans" / "table.csv"))
    told = inside(
        "model", "predict", "--bundle", str(launched.bundle), "--rows", str(launched.readings),
        "--device-home", str(tmp_path / "one"), "--json", *words, home=launched.home,
    )  # fmt: skip
    found = edge(
        "score", str(launched.bundle), str(launched.readings), "--json", *words,
        home=tmp_path / "two",
    )  # fmt: skip
    assert told
    assert told == found.stdout


def test_inspect_says_what_is_in_it_by_whom_and_until_when(
    launched: Launched, tmp_path: Path
) -> None:
    found = edge("inspect", str(launched.bundle), "--json", home=tmp_path)
    told = json.loads(found.stdout)
    assert not told["trusted"]
    assert told["signer"] == launched.trust
    assert told["digest"] == launched.exported["digest"]
    assert told["readings"]["indicators"] == ["running_hours@1", "load_share@1"]
    assert told["stated"] == ["age"]
    assert told["card"]["members"] == 3
    assert "auc" in told["card"]["metrics"]
    kept = edge("trust", launched.trust, "--json", home=tmp_path)
    assert json.loads(kept.stdout) == {"trusted": [launched.trust]}
    page = edge("inspect", str(launched.bundle), home=tmp_path).stdout
    assert "trusted here" in page
    assert "NOT" not in page
    assert "review: 0.5" in page


def test_a_stream_of_readings_is_scored_as_it_comes(launched: Launched, tmp_path: Path) -> None:
    """JSON lines on standard input; each line is answered before the next one is there."""
    with begin(
        [
            "score", str(launched.bundle),
            "--trust", launched.trust, "--stated", str(launched.root / "loans" / "table.csv"),
            "--each-reading", "--json",
        ],
        module=EDGE,
        env={**environment(tmp_path), "TACIT_EDGE_HOME": str(tmp_path / "device")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        for hour in range(3):
            reading = {"device": "m-1", "time": hour, "running": 1, "load_share": None}
            running.stdin.write(json.dumps(reading) + "\n")
            running.stdin.flush()
            told = json.loads(running.stdout.readline())
            assert told["history"]["readings"] == hour + 1
            assert told["history"]["absent"] == ["load_share@1"]
        running.stdin.close()
        assert running.wait(timeout=120) == 0


def test_a_folder_that_grows_is_followed(tmp_path: Path) -> None:
    path = bundles.written(tmp_path, bundles.bundle())
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.csv").write_text("id,load,code\n1,0.5,a\n2,0.")
    steps = iter(["5,b\n", None, "3,0.1,b\n"])

    def wait() -> bool:
        with (folder / "a.csv").open("a") as file:
            try:
                more = next(steps)
            except StopIteration:
                return False
            if more is None:
                (folder / "b.jsonl").write_text('{"id": 9, "load": 0.5, "code": "a"}\n')
                return True
            file.write(more)
        return True

    given: list[dict[str, object]] = []
    job = EdgeJob(
        bundle=path, places=(str(folder),), home=tmp_path / "device", trust=(bundles.TRUSTED,),
        follow=True,
    )  # fmt: skip
    assert score_all(job, given.append, clock=lambda: bundles.NOW_S, wait=wait) == 4
    assert [one["unit"] for one in given] == ["1", "2", "9", "3"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of rows, valid today."""
    now_s = int(time.time())
    folder = tmp_path_factory.mktemp("plain")
    return bundles.written(folder, bundles.bundle(made_s=now_s - 10, expires_s=now_s + 3600))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("id,load\n1,0.5\n", "has no column code"),
        ("id,load,code\n1,half,a\n", "line 2, load: a number belongs there"),
        ("id,load,code\n1,1e999,a\n", "not finite"),
        ("id,load,code\n,0.5,a\n", "every row needs its unit"),
        ("id,load,code\n1.5,0.5,a\n", "a whole number belongs there"),
        ("id,load,code\n1,0.5\n", "has 2 fields where 3 belong"),
        ('id,load,code\n1,0.5,"a\n', "a quote may not be closed"),
        ("id,id,code\n", "has a column twice"),
        ('{"id": 1, "load": [1], "code": "a"}\n', "neither text, number nor null"),
        ('{"id": 1, "load": NaN, "code": "a"}\n', "not finite"),
        ('{"id": 1, "load": 0.5,\n', "is no JSON object"),
        ('{"id": 1, "id": 2, "load": 0.5, "code": "a"}\n', "is no JSON object"),
        ("id,load,code\n" + "x" * 2_000_000, "too long"),
    ],
)
def test_bad_rows_are_one_sentence_without_their_values(
    plain: Path, tmp_path: Path, rows: str, said: str
) -> None:
    path = tmp_path / "rows.txt"
    path.write_text(rows)
    job = EdgeJob(
        bundle=plain, places=(str(path),), home=tmp_path / "home", trust=(bundles.TRUSTED,)
    )
    with pytest.raises(DataError, match=said) as found:
        score_all(job, lambda _: None)
    assert "half" not in str(found.value)
    assert "\n" not in str(found.value)


def test_no_rows_are_told(plain: Path, tmp_path: Path) -> None:
    trust = ("--trust", bundles.TRUSTED)
    found = edge("score", str(plain), os.devnull, *trust, home=tmp_path / "device")
    assert found.returncode == 0
    assert (found.stdout, found.stderr) == (
        "",
        "tacit-edge: there were no rows, so nothing was scored.\n",
    )


def test_what_was_scored_before_a_bad_row_stands(plain: Path, tmp_path: Path) -> None:
    found = edge(
        "score", str(plain), "--trust", bundles.TRUSTED, "--lang", "zh", home=tmp_path,
        given="id,load,code\n1,0.9,a\n2,0.5,b\n3,oops,a\n4,0.5,a\n",
    )  # fmt: skip
    assert "standard input, line 4, load" in refused(found)
    assert [line.split(":")[0] for line in found.stdout.splitlines()] == ["1", "2"]
    assert "升高" in found.stdout
    log = edge("log", home=tmp_path)
    assert "3 lines" in log.stdout


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--trust", "a" * 64), "a key that is not trusted here", 1),
        ((), "no key is trusted here", 1),
        (("--trust", "abc"), "neither a fingerprint", 2),
        (("--trust", bundles.TRUSTED, "--contract", "policies"), "not for policies", 1),
        (("--trust", bundles.TRUSTED, "--stated", "x.csv"), "needs no table", 2),
        (("--trust", bundles.TRUSTED, "--follow"), "give it alone", 2),
    ],
)
def test_a_bundle_that_is_not_the_one_is_refused_in_one_sentence(
    plain: Path, tmp_path: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    found = edge("score", str(plain), *words, home=tmp_path, given=bundles.ROWS)
    assert said in refused(found, code)
    assert not found.stdout


def test_expired_and_damaged_bundles_exit_with_1(plain: Path, tmp_path: Path) -> None:
    path = bundles.written(tmp_path, bundles.bundle(made_s=1, expires_s=86_400))
    found = edge("score", str(path), "--trust", bundles.TRUSTED, home=tmp_path, given="")
    assert "it expired on 1970-01-02 00:00:00 UTC, and this machine's clock says" in refused(found)
    path.write_bytes(plain.read_bytes()[:-2] + b"\n")
    found = edge("inspect", str(path), home=tmp_path)
    assert "it is damaged" in refused(found)
    found = edge("inspect", str(tmp_path / "none.tacit"), home=tmp_path)
    assert "cannot be read" in refused(found, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "m.tacit"), "end it in .safetensors"),
        (("--out", "m.safetensors", "--expires", "3"), "say --edge"),
        (("--edge", "--out", "m.zip"), "end it in .tacit"),
        (("--edge", "--out", "m.tacit", "--expires", "0"), "expected days"),
        (("--edge", "--out", "m.tacit", "--expires", "2020-01-01"), "expected days"),
        (("--edge", "--out", "m.tacit", "--expires", "2027-02-30"), "expected days"),
        (("--edge", "--out", "m.tacit", "--threshold", "review"), "expected NAME=VALUE"),
        (("--edge", "--out", "m.tacit", "--threshold", "a=nan"), "expected NAME=VALUE"),
        (("--edge", "--out", "m.tacit", "--threshold", "a\nb=1"), "expected NAME=VALUE"),
        (("--edge", "--out", "m.tacit", "--window", "3d"), "belong to --readings"),
    ],
)
def test_an_export_that_cannot_be_is_one_sentence(
    launched: Launched, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        inside("model", "export", "last", *words, home=launched.home)
    assert not Path("m.tacit").exists()


def test_a_model_without_curves_is_exported_by_nobody(tmp_path: Path) -> None:
    many = {f"t{place}": 0.5 for place in range(60)}
    with pytest.raises(RefusedError, match="No device could read this model"):
        write_bundle(
            Home(tmp_path), bundles.bundle(thresholds=many), bundles.SIGNER, tmp_path / "m.tacit"
        )
    assert not list(tmp_path.iterdir())


def test_what_others_wrote_moves_no_cursor(tmp_path: Path) -> None:
    """Names of units and titles of bundles may hold escapes; a terminal gets none of them."""
    units = (UnitColumn(header="id", type="text"),)
    card = replace(bundles.bundle().card, run="run\x1b[2J\nrun")
    value = bundles.bundle(units=units, card=card, made_s=1, expires_s=None)
    path = bundles.written(tmp_path, value)
    page = edge("inspect", str(path), home=tmp_path).stdout
    assert "run?[2J run" in page
    found = edge(
        "score", str(path), "--trust", bundles.TRUSTED, home=tmp_path,
        given="id,load,code\n\x1b[31mred,0.5,a\n\x1b[0m,x,a\n",
    )  # fmt: skip
    assert found.stdout.startswith("?[31mred: ")
    assert "\x1b" not in found.stdout + refused(found)
