"""A log of terms has one writer at a time, is signed, and cannot be changed or cut unseen."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import begin, environment
from typer.testing import CliRunner

from clients.terms.log import holding
from federation.cli.main import app
from federation.terms_memory import remembered
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.randomness import system_bytes

RULES = Path(__file__).parents[2] / "configs" / "scenarios" / "construction_lease" / "terms.yaml"
HEAD = "subject,day,utilisation,downtime_share,default_probability"


def days(path: Path, subject: str, count: int = 7, downtime: float = 0.5) -> Path:
    # long ago: a day that is yet to come by this machine's clock is refused
    rows = [f"{subject},2021-06-{day:02d},0.5,{downtime},0.02" for day in range(1, count + 1)]
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


def strict(path: Path) -> Path:
    """Rules under which a cut waits for a person."""
    said = yaml.safe_load(RULES.read_text())
    said["bounds"]["review_above_percent"] = 5
    path.write_text(yaml.safe_dump(said, allow_unicode=True))
    return path


def ask(*words: str) -> dict[str, Any]:
    """What a verb of terms says; its refusal is raised."""
    done = CliRunner().invoke(app, ["terms", *words, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def folded(tmp_path: Path, rules: Path = RULES) -> Path:
    log = tmp_path / "log.jsonl"
    values = days(tmp_path / "days.csv", "m")
    ask("run", str(rules), "--values", str(values), "--log", str(log))
    return log


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its first line names subject, day and signals"),
        ("subject,day\n", "its first line names subject, day and signals"),
        ("subject,day\nm,2021-06-01\n", "its first line names subject, day and signals"),
        (f"{HEAD},utilisation\nm,2021-06-01,1,1,1,1\n", "column utilisation is there twice"),
        (f"{HEAD}\n", "has no rows"),
        (f"{HEAD}\n\n,2021-06-01,0.5,0.5,0.02\n", "line 3: a subject has 1 to 300"),
        (f"{HEAD}\n ,2021-06-01,0.5,0.5,0.02\n", "line 2: a subject has 1 to 300"),
        (f"{HEAD}\na\x01,2021-06-01,0.5,0.5,0.02\n", "line 2: a subject has 1 to 300"),
        (f"{HEAD}\nm,2021-06-01,0.5,0.5\n", "line 2: has other fields"),
        (f"{HEAD}\nm,2021-06-01,0.5,0.5,0.02,1\n", "line 2: has other fields"),
        (f"{HEAD}\nm,2021-06-01,0.5,0.5,nan\n", "line 2: expected subject, day"),
        (f"{HEAD}\nm,9999-12-31,0.5,0.5,0.02\n", "line 2: 9999-12-31 is yet to come"),
    ],
)
def test_days_that_are_none_begin_no_log(tmp_path: Path, home: Path, text: str, said: str) -> None:
    (tmp_path / "days.csv").write_text(text)
    log = tmp_path / "log.jsonl"
    with pytest.raises(InputError, match=said):
        ask("run", str(RULES), "--values", str(tmp_path / "days.csv"), "--log", str(log))
    assert not log.exists()
    assert not home.exists()


def test_tomorrow_is_the_last_day_that_a_log_takes(tmp_path: Path, home: Path) -> None:
    today = datetime.now(UTC).date()
    for ahead, taken in ((3, False), (0, True)):
        day = today + timedelta(days=ahead)
        (tmp_path / "days.csv").write_text(f"{HEAD}\nm,{day},0.5,0.5,0.02\n")
        log = tmp_path / "log.jsonl"
        words = ["run", str(RULES), "--values", str(tmp_path / "days.csv"), "--log", str(log)]
        if taken:
            assert ask(*words)["terms"]["m"]
        else:
            with pytest.raises(InputError, match="is yet to come"):
                ask(*words)
        assert home.exists() == taken


@pytest.mark.usefixtures("home")
def test_a_log_makes_no_folder(tmp_path: Path) -> None:
    values = days(tmp_path / "days.csv", "m")
    log = tmp_path / "typed" / "wrongly" / "log.jsonl"
    with pytest.raises(InputError, match="there is no such folder"):
        ask("run", str(RULES), "--values", str(values), "--log", str(log))
    assert not log.parent.parent.exists()


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    writers = [
        begin(
            [
                "terms", "run", str(RULES), "--log", str(log), "--json",
                "--values", str(days(tmp_path / f"{name}.csv", name, count=28)),
            ],
            env=environment(tmp_path / "home"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name in ("one", "other")
    ]  # fmt: skip
    for one in writers:
        _, errors = one.communicate(timeout=240)
        assert one.returncode == 0, errors
    said = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert [line["index"] for line in said] == list(range(1 + 2 * 28))
    assert {line["subject"] for line in said[1:]} == {"one", "other"}
    assert len({line["key"] for line in said}) == 1


def test_a_writer_waits_for_another_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with (
        holding(log),
        pytest.raises(RefusedError, match="another process writes it"),
        holding(log, wait_s=0.05),
    ):
        pass


def test_a_changed_cut_or_foreign_log_is_refused(tmp_path: Path, home: Path) -> None:
    log = folded(tmp_path)
    told = ask("log", str(log))
    own = Identity.load(home / "launcher.pem").public.hex()
    assert (told["lines"], told["key"]) == (8, own)
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    signature = json.loads(lines[-1])["signature"].encode()
    flipped = whole.replace(signature, signature[:-1] + (b"0" if signature[-1:] != b"0" else b"1"))
    for bad, why in (
        (whole.replace(b'"utilisation":0.5', b'"utilisation":0.9', 1), "line 2 was changed"),
        (flipped, "line 8 was changed after it was signed"),
        (b"".join(lines[:-1]), "had 8 lines with the head"),
        (b"".join([*lines[:3], *lines[4:]]), "line 4 was changed"),
        (b"", "is no log of terms"),
    ):
        log.write_bytes(bad)
        for words in (("log", str(log)), ("explain", str(log), "m")):
            with pytest.raises(NotVerifiedError, match=why):
                ask(*words)
    log.unlink()
    values = str(tmp_path / "days.csv")
    with pytest.raises(NotVerifiedError, match="and is gone"):
        ask("run", str(RULES), "--values", values, "--log", str(log))
    log.write_bytes(whole)
    assert ask("log", str(log)) == told


def test_another_home_reads_a_log_with_its_key_alone(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = folded(tmp_path)
    own = Identity.load(home / "launcher.pem").public.hex()
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "other"))
    with pytest.raises(NotVerifiedError, match="give it with --key"):
        ask("log", str(log))
    with pytest.raises(NotVerifiedError, match="give it with --key"):
        ask("log", str(log), "--key", Identity.create(system_bytes).public.hex())
    assert ask("log", str(log), "--key", own)["key"] == own
    assert ask("log", str(log))["lines"] == 8  # it is known here now
    # a log that another home wrote anew, in full, is not taken for it
    log.unlink()
    (tmp_path / "other" / "terms.json").unlink()
    folded(tmp_path)
    monkeypatch.setenv("TACIT_HOME", str(home))
    with pytest.raises(NotVerifiedError):
        ask("log", str(log))


def test_a_person_decides_on_the_command_line(tmp_path: Path, home: Path) -> None:
    log = folded(tmp_path, strict(tmp_path / "rules.yaml"))
    assert ask("explain", str(log), "m")["terms"]["m"]["limit"] == 1.0
    words = ("decide", str(log), "m", "much-downtime", "--by", "Ann Lee")
    with pytest.raises(InputError, match="say --approve or --refuse"):
        ask(*words, "--reason", "seen the machine")
    with pytest.raises(InputError, match="--reason: expected"):
        ask(*words, "--reason", " ", "--approve")
    told = ask(*words, "--reason", "seen the machine", "--approve")
    assert told["terms"]["m"]["limit"] == pytest.approx(0.9)
    said = json.loads(log.read_bytes().splitlines()[-1])
    assert (said["kind"], said["by"], said["approved"]) == ("decided", "Ann Lee", True)
    assert said["key"] == Identity.load(home / "launcher.pem").public.hex()
    with pytest.raises(RefusedError, match="waits for nobody"):
        ask(*words, "--reason", "again", "--refuse")
    from federation.home import Home

    mark = remembered(Home(home), log)
    assert mark is not None
    assert (mark.lines, mark.head) == (9, ask("log", str(log))["head"])
    log.write_bytes(log.read_bytes().replace(b"Ann Lee", b"Bob Lee"))
    with pytest.raises(NotVerifiedError, match="line 9 was changed after it was signed"):
        ask("log", str(log))


def test_a_log_of_an_earlier_version_is_refused(tmp_path: Path, home: Path) -> None:
    log = folded(tmp_path)
    log.write_bytes(log.read_bytes().replace(b'"format":2', b'"format":1'))
    assert home.exists()
    with pytest.raises(RefusedError, match="without signatures"):
        ask("log", str(log))
