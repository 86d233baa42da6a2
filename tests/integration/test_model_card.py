"""`tacit model card`: cards of real runs of each kind, rows at hand, bad input, a changed bit.

The verb is called in this process, but for one test that starts it as a user does.
"""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from support import tables
from support.cli import assert_one_sentence, tacit

from federation import launch
from federation.cli.model import card
from federation.config import load_project
from federation.home import Home
from federation.model_card import gather
from privacy.empirical import audit
from privacy.errors import InputError, NotVerifiedError, RefusedError, TacitError
from privacy.identity import Identity
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.randomness import system_bytes

# A card has 2,400 digits of numbers that differ from run to run, and 3,800 hexadecimal signs:
# fifteen digits stand among them by chance once in 10^11 times.
CANARIES = ("887654312345678", "CANARY-level", "7654321.25", "0.135791357913579")
PRIVATE = {"epsilon": 8, "delta": 1e-4, "rate": 0.2, "rows_per_unit": 2, "clip": 1}


def rows() -> pd.DataFrame:
    """A table in which one row has values that nobody else has, all of them L3."""
    frame = tables.table("binary")
    frame.loc[0, "id"] = int(CANARIES[0])
    frame.loc[0, "amount"] = float(CANARIES[2])
    frame.loc[0, "load"] = float(CANARIES[3])
    frame.loc[0, "code"] = CANARIES[1]
    return frame


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tables.SmallFederation]:
    """A home with an additive run, one with noise, and one of counts with hidden layers."""
    root = tmp_path_factory.mktemp("cards")
    home = root / "home"
    where = tables.write(root / "data", rows=rows(), config_changes={"model": {"hidden": []}})
    private = {
        "name": "private",
        "model": {"hidden": []},
        "features": {"bins": 4},
        "validation_share": 0,
        "training": {"rounds": 4},
        "server": {"kind": "fedavgm", "learning_rate": 1.0, "momentum": 0.9},
        "privacy": PRIVATE,
    }
    noisy = tables.write(root / "noisy")
    text = json.loads(noisy.config.read_text())
    noisy.config.write_text(json.dumps({**text, **private}))
    deep = tables.write(root / "deep", "count", config_changes={"name": "deep"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "AUDIT_S", 0.2)
        # by the same draws each time: of others a right noise is refused four times in a million
        drawn = Random("audit").randbytes
        patch.setattr(launch, "audit", lambda *of, **how: audit(*of, **{**how, "entropy": drawn}))
        for one in (where, noisy, deep):
            options = launch.LaunchOptions(data_root=one.root, workers=1, device="cpu")
            launch.launch_local(load_project(one.config), Home(home), options)
    return home, where


@pytest.fixture
def home(launched: tuple[Path, tables.SmallFederation], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, which the verb finds by itself."""
    monkeypatch.setenv("TACIT_HOME", str(launched[0]))
    return launched[0]


@pytest.fixture
def data(launched: tuple[Path, tables.SmallFederation]) -> Path:
    """Rows at hand."""
    return launched[1].root


class Verb:
    """Calls the verb with `--json`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, run: str = "last", **options: Any) -> dict[str, Any]:  # noqa: ANN401
        self._capsys.readouterr()
        card(run, as_json=True, **options)
        told: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return told


@pytest.fixture
def verb(home: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    assert home.is_dir()
    return Verb(capsys)


def run_folder(home: Path, name: str) -> Path:
    (found,) = (one for one in (home / "runs").iterdir() if name in one.name)
    return found


def parsed(page: str) -> dict[str | None, ET.Element]:
    root = ET.fromstring(page.removeprefix("<!DOCTYPE html>"))  # noqa: S314 - our own page
    return {one.get("id"): one for one in root.iter("section")}


def test_a_card_says_what_the_run_says(home: Path, data: Path, verb: Verb, tmp_path: Path) -> None:
    told = verb("small_binary", data=data, out=tmp_path / "a.html")
    facts, page = told["facts"], Path(told["page"]).read_text("utf-8")
    folder = run_folder(home, "small_binary")
    result = json.loads((folder / "result.json").read_text())
    metrics = {one["name"]: one for one in facts["evaluation"]["metrics"]}
    for name in set(result["metrics"]) - {"auc_error"}:
        assert metrics[name]["value"] == result["metrics"][name]
    assert metrics["auc"]["low"] < metrics["auc"]["value"] < metrics["auc"]["high"]
    assert facts["members"] == list(tables.MEMBERS)
    assert {one["column"] for one in facts["shapes"]["shapes"]} == {"load", "amount", "code"}
    classes = {one["name"]: one["data_class"] for one in facts["data"]["columns"]}
    assert classes["amount"] == "L3"
    # the ledger's own entry
    entries = list(entries_of(SqliteLedger(Home(home).ledger).leaves()))
    entry = entries[facts["lineage"]["entry"]]
    assert (entry.kind, entry.body["run"]) == ("model.registered", folder.name)
    # rows at hand, a member against all others
    groups = facts["stability"]["groups"]
    assert [one["group"] for one in groups] == [None, *tables.MEMBERS]
    assert {one["column"] for one in groups[0]["shifts"]} == {None, "load", "amount", "code"}
    sections = parsed(page)
    assert "test rows with training rows" in "".join(sections["stability"].itertext())
    assert len(list(sections["shapes"].iter("svg"))) == 3
    # nothing of a row, and nobody's own figures
    raw = Path(told["card"]).read_text("ascii")
    for canary in CANARIES:
        assert canary in (data / "table.csv").read_text()
        assert canary not in page + raw
    own = {value for one in result["by_member"].values() for value in one.values()}
    shown = {one["value"] for one in facts["evaluation"]["metrics"]}
    assert not own & shown


def test_a_run_with_noise_says_what_is_proven_and_what_was_measured(verb: Verb) -> None:
    told = verb("private", lang="zh")
    facts, page = told["facts"], Path(told["page"]).read_text("utf-8")
    privacy = facts["privacy"]
    assert privacy["empirical"]["canaries"] >= 100
    assert privacy["empirical"]["epsilon_lower"] <= privacy["empirical"]["epsilon_claimed"]
    assert privacy["epsilon"] <= 8
    assert facts["evaluation"]["noise"] > 0
    assert facts["evaluation"]["from_sum"]
    assert facts["shapes"]["reference"] == "range"
    assert "limit.noise" not in facts["limits"]
    assert 'lang="zh-Hans"' in page
    assert "实测下界" in page


def test_a_network_of_counts_says_why_it_has_no_shapes(verb: Verb) -> None:
    told = verb("deep")
    facts, page = told["facts"], Path(told["page"]).read_text("utf-8")
    assert facts["shapes"]["none"] == "hidden"
    metrics = {one["name"]: one for one in facts["evaluation"]["metrics"]}
    assert metrics["frequency"]["method"] == "garwood"
    said = {name: " ".join("".join(one.itertext()).split()) for name, one in parsed(page).items()}
    assert "no sum of curves" in said["shapes"]
    assert "no chance, so there is no calibration plot" in said["calibration"]
    assert "No rows were at hand" in said["stability"]
    assert "there is no epsilon" in said["privacy"]


def test_a_card_is_checked_bit_for_bit(
    verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = verb("small_binary", out=tmp_path / "a.html")
    path = Path(made["card"])
    told = verb(verify=path)
    assert told["verified"]
    assert told["signed_by"] == "launcher"
    # somebody else, who knows nothing of this home, and then its key
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "stranger"))
    with pytest.raises(NotVerifiedError, match="does not know"):
        verb(verify=path)
    assert verb(verify=path, key=told["key"])["verified"]
    # as a user meets it
    raw = path.read_bytes()
    changed = bytearray(raw)
    changed[raw.index(b'"title"') + 10] ^= 1
    path.write_bytes(bytes(changed))
    words = ("model", "card", "--verify", str(path), "--key", told["key"])
    found = tacit(*words, home=tmp_path / "stranger")
    assert "not as it was signed" in assert_one_sentence(found, 1)


def test_levels_of_a_column_make_groups(verb: Verb, data: Path, tmp_path: Path) -> None:
    facts = verb("small_binary", data=data, group="code", out=tmp_path / "a.html")["facts"]
    groups = {one["group"]: one for one in facts["stability"]["groups"]}
    assert facts["stability"]["by"] == "code"
    assert groups["other"]["withheld"]  # one row alone
    assert not groups["other"]["shifts"]
    assert not groups["a"]["withheld"]
    assert "code" not in {one["column"] for one in groups["a"]["shifts"]}


def test_a_changed_sum_model_or_signature_makes_no_card(
    home: Path, verb: Verb, tmp_path: Path
) -> None:
    folder = run_folder(home, "small_binary")
    (sums,) = (home / "nodes" / "small_binary" / "north" / "runs" / folder.name).glob("sums.jsonl")
    lines = [json.loads(line) for line in sums.read_text().splitlines()]
    (test,) = (one for one in lines if one["step"] == "evaluate test")
    test["sum"][0] += 25.0
    another = run_folder(home, "private")
    changed = "".join(json.dumps(line) + "\n" for line in lines).encode()
    signature = (another / "manifest.sig").read_bytes()
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    for path, other, said in (
        (sums, changed, "not of one run"),
        (folder / "manifest.sig", signature, "not signed by this home's launcher"),
        (folder / "model.safetensors", bytes(weights), "the weights were changed"),
    ):
        own = path.read_bytes()
        path.write_bytes(other)
        try:
            with pytest.raises(NotVerifiedError, match=said):
                verb("small_binary", out=tmp_path)
        finally:
            path.write_bytes(own)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run": "no-such-run"}, "is no run"),
        ({"out": Path("card.pdf")}, "end it in .html"),
        ({"fold": 2}, "has no folds"),
        ({"group": "code"}, "give --data too"),
        ({"lang": "fr"}, "choose en or zh"),
        ({"key": "ab"}, "belongs to --verify"),
        ({"verify": Path("x.json"), "key": "ab"}, "64 hexadecimal"),
        ({"verify": Path("x.json"), "out": Path("y.html")}, "makes no card"),
        ({"verify": Path("no-such-file.json")}, "cannot be read"),
        ({"data": "ROWS", "group": "load"}, "no category"),
        ({"data": "ROWS", "group": "none"}, "no such column"),
        ({"data": Path("no-such-folder")}, "no such data folder"),
    ],
)
def test_what_cannot_be_made_is_refused(
    verb: Verb, data: Path, options: dict[str, Any], said: str
) -> None:
    asked = {"run": "small_binary", **options}
    if asked.get("data") == "ROWS":
        asked["data"] = data
    with pytest.raises(InputError, match=said):
        verb(**asked)


def test_a_card_of_a_federations_run_is_signed_by_who_launched_it(
    home: Path, verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(home, tmp_path / "home")
    folder = run_folder(other, "small_binary")
    launcher = Identity.load(other / "launcher.pem")
    now = Identity.create(system_bytes)  # the launcher's key was rotated since
    told = {"members": {"bank-a": launcher.public.hex()}}
    (folder / "launch.json").write_text(json.dumps(told))
    place = SimpleNamespace(name="bank-a", identity=lambda: now)
    monkeypatch.setattr(gather, "load_participant", lambda _: place)
    monkeypatch.setenv("TACIT_HOME", str(other))
    # no member's node is here: no sum, so no intervals, and it says so
    shutil.rmtree(other / "nodes")
    made = verb("small_binary")
    facts = made["facts"]
    assert facts["signed"]["name"] == "bank-a"
    assert facts["signed"]["key"] == launcher.public.hex()
    assert made["key"] == now.public.hex()
    assert facts["lineage"]["entry"] is None
    assert "limit.one_machine" not in facts["limits"]
    assert not facts["evaluation"]["from_sum"]
    assert {one["low"] for one in facts["evaluation"]["metrics"]} == {None}
    assert verb(verify=Path(made["card"]), key=made["key"])["run"] == folder.name
    (folder / "launch.json").write_text(json.dumps({"members": {}}))
    with pytest.raises(NotVerifiedError, match="not signed by"):
        verb("small_binary")


def test_noise_that_an_audit_refuted_makes_no_card(home: Path, verb: Verb, tmp_path: Path) -> None:
    path = run_folder(home, "private") / "result.json"
    own = path.read_bytes()
    result = json.loads(own)
    audit = result["privacy"]["audit"]
    audit["multiplier_interval"] = [0.0, audit["multiplier_claimed"] / 2]
    path.write_text(json.dumps(result))
    try:
        with pytest.raises(RefusedError, match="contradicts the privacy plan"):
            verb("private", out=tmp_path)
    finally:
        path.write_bytes(own)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", b'{"title": "x"}'),
        ("result.json", b"not json"),
        ("manifest.json", b"{}"),
        ("contract.yaml", b"contract: 1\n"),
        ("sums.jsonl", b"damaged\n"),
    ],
)
def test_damaged_files_are_told_in_one_sentence(
    home: Path, verb: Verb, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = run_folder(home, "small_binary")
    path = folder / name
    if name == "sums.jsonl":
        path = home / "nodes" / "small_binary" / "north" / "runs" / folder.name / name
    own = path.read_bytes()
    path.write_bytes(content)
    try:
        with pytest.raises(TacitError, match=r"^[^\n]+\.$"):
            verb("small_binary", out=tmp_path)
    finally:
        path.write_bytes(own)
    assert not list(tmp_path.iterdir())
