"""The files for operators say only what the command line has, and keep what they promise."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from federation.cli.main import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "deployment"
UNITS = sorted(FOLDER.glob("*.service"))
PORTS = {"9440", "9441", "9443", "9444"}
EXPOSURE_MAX = 2.0  # of systemd's 10; a service without any hardening has 9.6


def unit(path: Path) -> dict[str, list[str]]:
    """A unit's settings, those that are there several times too."""
    found: dict[str, list[str]] = {}
    text = path.read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", "[")):
            found.setdefault(name, []).append(value.strip())
    return found


def compose() -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def instructions() -> list[tuple[str, str]]:
    text = (FOLDER / "Dockerfile").read_text("utf-8")
    lines = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ").splitlines()
    pairs = (line.split(None, 1) for line in lines if line.strip())
    return [(word, " ".join(rest.split())) for word, rest in pairs]


def typed() -> Iterator[tuple[str, list[str]]]:
    """Every `tacit ...` in the files: where, and the words after `tacit`."""
    for path in UNITS:
        (line,) = unit(path)["ExecStart"]
        yield path.name, shlex.split(line)[1:]
    for name, service in compose()["services"].items():
        yield f"compose.yaml {name}", service["command"]
    for line in (FOLDER / "README.md").read_text("utf-8").splitlines():
        if not line.startswith("    "):
            continue
        words = shlex.split(line)
        if "docker" in words and "run" in words:
            yield "README.md", words[words.index("--rm") + 2 :]
        elif any(word.endswith("tacit") and "/" not in word[:-5].rstrip("/") for word in words[:1]):
            yield "README.md", words[1:]
        else:
            at = [n for n, word in enumerate(words) if word.endswith("/bin/tacit")]
            at += [n for n, word in enumerate(words) if word == "tacit" and "exec" in words]
            for place in at[:1]:
                yield "README.md", words[place + 1 :]


TYPED = list(typed())


def fault(words: list[str]) -> str:
    """What the command line has not of it; nothing where it has all."""
    command: click.Command = typer.main.get_command(app)
    rest = list(words)
    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            return f"there is no verb {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    options = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}
    arguments = sum(one.param_type_name == "argument" for one in command.params)
    plain = 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            plain += 1
            continue
        if word not in options:
            return f"{' '.join(words)}: there is no option {word}"
        if not getattr(options[word], "is_flag", False):
            if not rest:
                return f"{' '.join(words)}: {word} has no value"
            rest.pop(0)
    return "" if plain <= arguments else f"{' '.join(words)}: there are too many words"


def test_the_files_type_something() -> None:
    verbs = {" ".join(words[:2]) for _, words in TYPED}
    assert {
        "coordinator start",
        "node start",
        "node join",
        "node status",
        "federation init",
        "federation invite",
        "federation approve",
    } <= verbs
    assert len(TYPED) >= 15


@pytest.mark.parametrize(("where", "words"), TYPED, ids=[where for where, _ in TYPED])
def test_every_verb_and_option_is_there(where: str, words: list[str]) -> None:
    assert fault(words) == "", where


def test_what_is_not_there_would_be_seen() -> None:
    assert fault(["run", "fly"])
    assert fault(["run"])
    assert fault(["run", "list", "--nothing"])
    assert fault(["run", "launch", "a.yaml", "b.yaml"])
    assert fault(["run", "launch", "--data"])
    assert fault(["run", "launch", "a.yaml", "--local", "--seed", "3"]) == ""


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_are_hardened(path: Path) -> None:
    found = unit(path)
    for name, value in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "StateDirectoryMode": "0700",
        "UMask": "0077",
        "LimitCORE": "0",
        "User": "tacit",
    }.items():
        assert found[name] == [value], name
    assert "Environment" in found
    assert f"TACIT_HOME=/var/lib/{found['StateDirectory'][0]}" in found["Environment"]
    allowed = {one.removeprefix("tcp:") for one in found["SocketBindAllow"]}
    assert allowed == (PORTS if path.name == "tacit-coordinator.service" else {"9440"})


def test_a_node_listens_on_the_loopback_alone() -> None:
    (line,) = unit(FOLDER / "tacit-node.service")["ExecStart"]
    listens = [word for word in shlex.split(line) if re.fullmatch(r"[\d.]+:\d+", word)]
    assert listens == ["127.0.0.1:9440"]
    for name in ("ash", "birch", "cedar"):
        service = compose()["services"][name]
        assert "ports" not in service
        assert "0.0.0.0" not in json.dumps(service)  # noqa: S104 - that it is not there


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_units(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    copy = tmp_path / path.name
    copy.write_text(path.read_text("utf-8").replace("/opt/tacit/bin/tacit", sys.executable))
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr.strip()) == (0, "")
    scored = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE_MAX * 10:.0f}",
            str(copy),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "offline" in scored.stderr:
        pytest.skip("this systemd-analyze judges running units only")
    assert scored.returncode == 0, scored.stdout.splitlines()[-1:]


def test_the_image_is_slim_unprivileged_and_pinned() -> None:
    found = instructions()
    bases = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert bases == ["python:3.11-slim", "python:3.11-slim"]
    users = [rest for word, rest in found if word == "USER"]
    assert users
    assert not users[-1].startswith(("0", "root"))
    runs = " ".join(rest for word, rest in found if word == "RUN")
    assert "-c constraints.txt" in runs
    assert "--no-cache-dir" in runs
    last = max(n for n, (word, _) in enumerate(found) if word == "FROM")
    copies = [rest for word, rest in found[last:] if word in {"COPY", "ADD"}]
    assert copies == ["--from=build /opt/tacit /opt/tacit"]
    for _, rest in found:
        assert not re.search(r"(?i)password|secret|token|\.pem", rest)


def test_the_build_gets_nothing_but_what_it_copies() -> None:
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    lines = [line for line in ignored if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            copied |= set(rest.split()[:-1])
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    # what the package is built from is there
    assert {"privacy", "aggregator", "clients", "federation", "configs/rules"} <= copied


def test_every_container_is_hardened_and_alone_with_its_home() -> None:
    services = compose()["services"]
    assert set(services) == {"coordinator", "ash", "birch", "cedar"}
    homes: list[str] = []
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        own = [one.split(":") for one in service["volumes"]]
        homes += [one[0] for one in own if one[1] == "/var/lib/tacit"]
        rows = [one for one in own if one[1] == "/data"]
        assert all(one == [f"./data/{name}", "/data", "ro"] for one in rows)
        build = service["build"]
        assert (FOLDER / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).exists()
        extras = build["args"]["EXTRAS"].split(",")
        text = (ROOT / "pyproject.toml").read_text("utf-8")
        assert all(f"\n{extra} = [" in text for extra in extras)
    assert len(set(homes)) == len(services)
    assert set(homes) == set(compose()["volumes"])


def test_the_ports_that_are_told_are_those_that_are_used() -> None:
    text = "".join(path.read_text("utf-8") for path in FOLDER.iterdir() if path.is_file())
    assert set(re.findall(r"\b94\d\d\b", text)) == PORTS


def test_the_figures_that_are_told_exist() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    told = set(re.findall(r"`(tacit_[a-z_]+)", text)) - {"tacit_"}
    code = "".join(
        path.read_text("utf-8") for path in (ROOT / "federation" / "operations").glob("*.py")
    )
    assert told
    assert all(f'"{name}"' in code for name in told), told
