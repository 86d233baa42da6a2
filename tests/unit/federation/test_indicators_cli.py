"""`tacit data indicators` and `tacit data lineage`, as they are typed."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import tacit
from typer.testing import CliRunner

from clients.indicators.registry import INDICATORS
from clients.vault import is_sealed
from federation.cli.data import app
from federation.scenarios.generate import contract_path, generate
from privacy.errors import InputError, NotVerifiedError

CONTRACT = str(contract_path("failure"))
RUNNING = ("--step", "8h", "--input", "running=load_share", "--input", "energy=energy_kwh")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("machines"), seed=0, scenario="failure", size=0.12).root


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def computed(machines: Path, out: Path, *words: str) -> dict[str, Any]:
    every = ("compute", CONTRACT, "--data", str(machines), "--out", str(out), *RUNNING, *words)
    told: dict[str, Any] = json.loads(said("indicators", *every, "--json"))
    return told


def test_the_list_has_them_all_in_two_languages() -> None:
    whole = json.loads(said("indicators", "list", "--json"))
    assert len(whole["digest"]) == 64
    told = whole["indicators"]
    assert [one["indicator"] for one in told] == list(INDICATORS)
    assert told[0]["inputs"]["running"]["kind"] == "state"
    assert INDICATORS["yield@1"].sentence in said("indicators", "list")
    assert INDICATORS["yield@1"].sentence_zh in said("indicators", "list", "--lang", "zh")
    with pytest.raises(InputError, match="choose en or zh"):
        said("indicators", "list", "--lang", "fr")


def test_from_readings_to_indicators_and_back(machines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    told = computed(machines, out, "--window", "30d")
    found = {one["indicator"]: one["present"] for one in told["indicators"]}
    assert found["utilisation@1"] == told["devices"]
    assert told["rows"] == 90 * told["devices"]
    assert 0 < found["failure_frequency@1"] <= told["devices"]
    assert Path(told["contract_draft"]).exists()
    device = out.read_text(encoding="utf-8").splitlines()[1].split(",")[0]
    again = ("--contract", CONTRACT, "--data", str(machines))
    walk = json.loads(said("lineage", str(out), device, *again, "--json"))
    assert walk["computed_again"]
    assert walk["contract"]["name"] == "machines"
    assert walk["rows"]["rows"] == 90
    shown = said("lineage", str(out), "1", "--indicator", "utilisation", *again)
    assert device in shown
    assert "running from column load_share" in shown
    assert "computed again from the rows: the same" in shown


def test_a_kept_table_of_confidential_rows_is_sealed_until_a_person_exports_it(
    machines: Path, tmp_path: Path, home: Path
) -> None:
    choice = ("--choose", "utilisation", *RUNNING)
    start = ("indicators", "compute", CONTRACT, "--data", str(machines))
    with pytest.raises(InputError, match="one of the two"):
        said(*start, *choice)
    with pytest.raises(InputError, match="no name of a table"):
        said(*start, *choice, "--keep", "../own")
    contract = yaml.safe_load(Path(CONTRACT).read_text(encoding="utf-8"))
    for column in contract["columns"]:
        column["class"] = "L3" if column["name"] == "load_share" else "L2"
    confidential = tmp_path / "confidential.yaml"
    confidential.write_text(yaml.safe_dump(contract), encoding="utf-8")
    told = json.loads(
        said("indicators", "compute", str(confidential), "--data", str(machines), *choice,
             "--keep", "own", "--json")
    )  # fmt: skip
    device = "aldermoor-excavators|exc-001"
    kept = [one for one in (home / "tables").iterdir() if not one.name.startswith(".")]
    assert len(kept) == 3
    assert all(is_sealed(one.read_bytes()) for one in kept)
    assert not any(device.encode() in one.read_bytes() for one in kept)
    out = tmp_path / "own.csv"
    said("indicators", "export", "own", "--out", str(out))
    assert told["devices"] == len(out.read_text(encoding="utf-8").splitlines()) - 1
    assert device in out.read_text(encoding="utf-8")  # the twin that is found
    walks = [
        json.loads(said("lineage", str(table), "1", "--json"))
        for table in ("kept:own", kept_path(home), out)
    ]
    assert walks[0] == walks[1] == walks[2]
    again = ("--contract", str(confidential), "--data", str(machines))
    assert "the same" in said("lineage", "kept:own", "1", *again)
    with pytest.raises(InputError, match="this home has own"):
        said("lineage", "kept:other", "1")
    beside = home / "tables" / "own.csv.lineage.json"
    beside.write_bytes(kept_path(home).read_bytes())  # moved, so it does not open there
    with pytest.raises(NotVerifiedError, match="damaged, or sealed with another key"):
        said("lineage", "kept:own", "1")
    (home / "node" / "vault.key").unlink()
    with pytest.raises(InputError, match="put it back from your copy"):
        said("lineage", "kept:own", "1")


def kept_path(home: Path) -> Path:
    return home / "tables" / "own.csv"


def test_other_rows_are_found_out(machines: Path, tmp_path: Path, home: Path) -> None:
    out = tmp_path / "out.csv"
    member = "brightmere-pumps"
    words = ("--choose", "utilisation", "--member", member)
    computed(machines, out, *words)
    device = out.read_text(encoding="utf-8").splitlines()[1].split(",")[0]
    again = ("--contract", CONTRACT, "--member", member)
    said("lineage", str(out), device, *again, "--data", str(machines))
    with pytest.raises(NotVerifiedError, match="wants the same --member here"):
        said("lineage", str(out), device, *again[:2], "--data", str(machines))
    other = generate(tmp_path / "other", seed=1, scenario="failure", size=0.12).root
    with pytest.raises(NotVerifiedError, match="its rows are others than those"):
        said("lineage", str(out), device, *again, "--data", str(other))
    # without a contract nothing is read again, and whoever names rows would think that it was
    for one in (("--data", str(other)), again[2:]):
        with pytest.raises(
            InputError, match=f"without --contract FILE; add it, or leave {one[0]} out"
        ):
            said("lineage", str(out), device, *one)
    (home / "rows.key").write_bytes(b"o" * 32)
    with pytest.raises(NotVerifiedError, match=r"or this home .* is not where it was made"):
        said("lineage", str(out), device, *again, "--data", str(machines))


def test_mistakes_end_in_one_sentence_and_nothing_is_written(
    machines: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    start = ("data", "indicators", "compute", CONTRACT, "--data", str(machines), "--out")
    for words, sentence in (
        ((str(out),), "say how long one lasts with --step"),
        ((str(out), "--step", "8h", "--choose", "yield"), "yield needs output"),
        ((str(out), "--step", "8h", "--input", "running"), "expected QUANTITY=COLUMN"),
        ((str(tmp_path / "out.txt"), "--step", "8h"), "end it in .csv or .parquet"),
    ):
        result = tacit(*start, *words, home=tmp_path / "home")
        assert result.returncode == 2, result.stderr
        assert sentence in result.stderr
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_credit_contract_of_computed_indicators_is_described(
    machines: Path, tmp_path: Path
) -> None:
    told = computed(machines, tmp_path / "out.parquet", "--choose", "utilisation,load_share")
    text = Path(told["contract_draft"]).read_text(encoding="utf-8")
    text = text.replace("  # - {name: default", "  - {name: default")
    text = text.replace("# label: {", "label: {")
    (tmp_path / "credit.yaml").write_text(text, encoding="utf-8")
    facts = json.loads(said("describe", str(tmp_path / "credit.yaml"), "--json"))
    assert facts["accepts"] == "indicators"
    assert "feature: utilisation@1" in said("describe", str(tmp_path / "credit.yaml"))
    value = yaml.safe_load(text)
    del value["columns"][1]["indicator"]
    (tmp_path / "raw.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
    with pytest.raises(InputError, match="utilisation is neither an indicator nor declared"):
        said("describe", str(tmp_path / "raw.yaml"))
