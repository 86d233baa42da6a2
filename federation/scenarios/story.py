"""Which data and which config a demo uses: real data where it is at hand, else generated."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from federation.config import DATA_VARIABLE
from federation.home import Home

FOLDER = Path(__file__).parent
REAL_FILE = Path("cmapss") / "train_FD001.txt.gz"
REAL_CONFIG = Path("configs") / "failure_cmapss.yaml"


ScenarioName = Literal["failure", "claims", "credit"]


@dataclass(frozen=True, slots=True)
class Story:
    """One scenario of a demo: a run config, and where its data lie."""

    config: Path
    data_root: Path


def stories(
    home: Home,
    scenarios: Sequence[ScenarioName],
    *,
    seed: int,
    generated: bool,
    told: Callable[[str], object],
) -> Iterator[Story]:
    """Prepare each scenario's data and say what it is; the last one is a run with noise."""
    for scenario in scenarios:
        real = _real_data()
        if scenario == "failure" and real is not None and not generated:
            told("demo: NASA C-MAPSS turbofan engines, found at hand")
            yield Story(REAL_CONFIG, real)
            continue
        yield Story(FOLDER / f"{scenario}.yaml", _generated(home, scenario, seed=seed, told=told))
    # the same machinery with noise: what it costs one borrower is part of the story
    told("demo: a run with noise, charged to each bank's privacy budget")
    yield Story(FOLDER / "credit_private.yaml", _generated(home, "credit", seed=seed, told=told))


def _generated(
    home: Home, scenario: ScenarioName, *, seed: int, told: Callable[[str], object]
) -> Path:
    """The folder of a scenario's data, which are made once."""
    from federation.scenarios.generate import generate

    root = home.root / "demo" / f"{scenario}-{seed}"
    if root.exists():
        told(f"demo: generated data for {scenario} (seed {seed}), made before")
        return root
    told(f"demo: generating data for {scenario} (seed {seed})")
    root.parent.mkdir(parents=True, exist_ok=True)
    generate(root, seed=seed, scenario=scenario)
    return root


def _real_data() -> Path | None:
    root = Path(os.environ.get(DATA_VARIABLE) or Path("..") / "shared" / "data")
    there = (root / REAL_FILE).is_file() and REAL_CONFIG.is_file()
    return root.resolve() if there else None
