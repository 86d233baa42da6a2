"""What is shipped: the wheel, what importing costs, and that every config loads."""

import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from federation.config import load_project

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(ROOT.glob("configs/*.yaml")) + sorted(ROOT.glob("federation/scenarios/*.yaml"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_exactly_the_four_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "federation",
        "clients",
        "aggregator",
        "privacy",
    }
    assert "federation/scenarios/failure.yaml" in names
    assert "federation/scenarios/contracts/machines.yaml" in names
    assert "privacy/py.typed" in names


def test_the_wheels_contents_pass_the_checker(wheel: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "check_wheel_contents",
            "--toplevel",
            "federation,clients,aggregator,privacy",
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize("package", ["federation", "clients", "aggregator", "privacy"])
def test_the_import_names_are_ours_alone(package: str) -> None:
    owners = importlib.metadata.packages_distributions().get(package, ["tacit-fl"])
    assert set(owners) == {"tacit-fl"}


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("federation.cli.main", {"torch", "flwr", "pandas", "numpy", "pydantic", "matplotlib"}),
        # what the regulator's install has must be enough for `tacit audit verify`
        ("federation.audit", {"numpy", "msgspec", "torch", "flwr", "pydantic", "pandas", "yaml"}),
        ("privacy.verify", {"numpy", "msgspec", "torch", "flwr", "pydantic", "pandas", "yaml"}),
        ("aggregator.coordinator", {"torch", "opacus", "pandas", "flwr", "clients"}),
        ("federation.config", {"torch", "flwr"}),
        ("federation.scenarios.pack_list", {"torch", "flwr", "opacus"}),
        ("federation.edge.scoring", {"torch", "pandas", "pydantic", "yaml", "flwr", "typer"}),
        ("federation.edge.sync", {"torch", "pandas", "pydantic", "yaml", "flwr"}),
    ],
)
def test_importing_stays_light(module: str, banned: set[str]) -> None:
    script = f"import sys, {module}; print(*sorted(set(sys.modules) & {banned!r}))"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == ""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_loads(path: Path) -> None:
    project = load_project(path)
    project.config.node_settings(seed=0, fold=None)
    project.config.coordinator_settings()


def test_no_file_names_a_machine_or_an_index() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    # put together here, so that this file does not hold what it looks for
    words = ("index" + "-url", "find" + "-links", "/ro" + "ot/", "/ho" + "me/[a-z]")
    bad = re.compile("|".join((*words, r"https?://[^ ]*/simp" + r"le(/|\"|$)")))
    for name in listed:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ""} and path.is_file():
            assert not bad.search(path.read_text(encoding="utf-8", errors="replace")), name


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Up to Python 3.11.4, which many systems have, such a pattern matches wrongly (gh-106052)."""
    bad = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+(?!=)")
    assert bad.search(r"(?:ab|c)*+")
    assert not bad.search(r"(?>(?:ab|c)*)[^a]*+")
    for part in ("privacy", "clients", "aggregator", "federation"):
        for path in (ROOT / part).rglob("*.py"):
            assert not bad.search(path.read_text(encoding="utf-8")), path


def test_versions_are_pinned_exactly() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)
    assert "torch==2.13.0" in lines


def test_a_core_install_says_what_a_verb_needs() -> None:
    script = (
        "import sys; sys.modules['pydantic'] = None; sys.argv = ['tacit', 'run', 'plan', 'x.yaml'];"
        "from federation.cli.main import main; main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert "pip install 'tacit-fl[node]'" in found.stderr
    assert "Traceback" not in found.stderr
